r"""A block of perturbations carried along an orbit, as a map of its own: what Lyapunov exponents are read from.

    (x, V, s) -> (F(n, x), V DF(n, x)^T, s + ds),      then V = L Q, V <- Q, sum of ln L_ii <- sum + ln L_ii

V holds k perturbations as rows, in the coordinates of the state: counters and keys in it have no tangent. s adds up how a
volume grows along the same orbit, by other means than V:

    map, SDE   ds = ln |det DF(n, x)|
    flow       ds = h div f(t, x), so that s + (h/2) div f - (h^2/12) d/dt div f at both ends is the integral

The last is the Euler-Maclaurin sum, without the error of the method that takes the steps: the exponents must add up to it.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._types import Key, State, StepIndex
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.linear.orthonormal import orthonormalise
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map


class Block(NamedTuple):
    """The number of the next step, the state, perturbations as rows, and the sum for the volume."""

    number: Any
    state: State
    directions: Any
    volume: Any


class NoVolume(eqx.Module):
    """Nothing is added up."""

    def change(self, number: Any, state: State, push: Any, size: int) -> Any:
        return jnp.asarray(0.0)

    def ends(self, number: Any, state: State) -> Any:
        return jnp.asarray(0.0)


class LogDeterminant(eqx.Module):
    """ln |det DF|, of the step itself."""

    def change(self, number: Any, state: State, push: Any, size: int) -> Any:
        dtype = as_vector(state).dtype
        _, log = jnp.linalg.slogdet(jax.vmap(push)(jnp.eye(size, dtype=dtype)))
        return jnp.maximum(log, size * jnp.log(jnp.finfo(dtype).tiny))

    def ends(self, number: Any, state: State) -> Any:
        return jnp.asarray(0.0)


class Divergence(eqx.Module):
    """h div f at the start of each step, with what Euler-Maclaurin adds at the ends."""

    flow: Flow
    origin: Any
    step_size: Any

    def change(self, number: Any, state: State, push: Any, size: int) -> Any:
        point = as_vector(state)
        time, step = self._clock(number, point.dtype)
        return step * self._divergence(time, point, state)

    def ends(self, number: Any, state: State) -> Any:
        point = as_vector(state)
        time, step = self._clock(number, point.dtype)
        velocity = as_vector(self.flow.velocity(time, state))
        value, slope = jax.jvp(
            lambda t, x: self._divergence(t, x, state), (time, point), (jnp.ones((), point.dtype), velocity)
        )
        return step / 2 * value - step**2 / 12 * slope

    def _clock(self, number: Any, dtype: Any) -> tuple[Any, Any]:
        step = jnp.asarray(self.step_size, dtype)
        return jnp.asarray(self.origin, dtype) + jnp.asarray(number).astype(dtype) * step, step

    def _divergence(self, time: Any, point: Array, like: State) -> Any:
        def velocity(x: Any) -> Any:
            return as_vector(self.flow.velocity(time, from_vector(x, like)))

        _, push = jax.linearize(velocity, point)
        return jnp.trace(jax.vmap(push)(jnp.eye(point.size, dtype=point.dtype)))


class TangentBlock(Map):
    """(x, V, s) -> (F(x), V DF(x)^T, s + ds), with the randomness that `evolve` would give each step."""

    map: Map
    volume: NoVolume | LogDeterminant | Divergence
    key: Key | None

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        block = Block(*state)
        number = block.number
        here = None if self.key is None else jax.random.fold_in(self.key, number)

        def image(vector: Any) -> tuple[Any, State]:
            after = self.map.step(number, from_vector(vector, block.state), key=here)
            return as_vector(after), after

        point = as_vector(block.state)
        _, push, after = jax.linearize(image, point, has_aux=True)
        change = self.volume.change(number, block.state, push, point.size)
        return Block(number + 1, after, jax.vmap(push)(block.directions), block.volume + change.astype(point.dtype))


class Stretching(Map):
    """Some steps of a block, then Q for V; the logarithms of what each row grew by, and of the volume, are added up."""

    steps: Map

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        block, sums = state
        block = Block(*self.steps.step(n, block))
        directions, growth = orthonormalise(block.directions)
        sums = Sums(*sums).plus(jnp.append(growth, block.volume))
        return block._replace(directions=directions, volume=jnp.zeros_like(block.volume)), sums


class Sums(NamedTuple):
    """Totals, and what rounding has taken from them (Kahan): equal terms round off the same way each time."""

    total: Any
    lost: Any

    def plus(self, terms: Array) -> "Sums":
        """Return the sums with one more term each."""
        terms = terms - self.lost
        total = self.total + terms
        return Sums(total, (total - self.total) - terms)


class Record(eqx.Module):
    """What is kept of a stretching at the borders of batches: sums of logarithms, and the volume made whole."""

    volume: NoVolume | LogDeterminant | Divergence

    def __call__(self, state: State) -> Any:
        block, sums = state
        ends = self.volume.ends(block.number, block.state)
        return sums.total.at[-1].add(ends.astype(sums.total.dtype))


class Recurrence(eqx.Module):
    """1 where a state is that one, to the last bit."""

    state: State

    def __call__(self, state: State) -> Any:
        same = [jnp.all(a == b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(self.state), strict=True)]
        return jnp.stack(same).all().astype(jnp.int32)


def first_block(state: State, count: int, start: Any) -> tuple[Block, Sums]:
    """A state with fixed perturbations that no symmetry or subspace is likely to hold, and sums of zero."""
    point = as_vector(state)
    rows: Float[Array, "k d"] = jax.random.normal(jax.random.key(0), (count, point.size), point.dtype)
    zeros = jnp.zeros(count + 1, point.dtype)
    return Block(jnp.asarray(start), state, orthonormalise(rows)[0], jnp.zeros((), point.dtype)), Sums(zeros, zeros)
