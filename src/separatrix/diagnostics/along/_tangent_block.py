r"""A block of perturbations carried along an orbit, as a map of its own: what Lyapunov exponents are read from.

    (x, V, s) -> (F(n, x), V DF(n, x)^T, s + ds),      then V = L Q, V <- Q, sum of ln L_ii <- sum + ln L_ii

V holds k perturbations as rows, in the coordinates of the state: counters and keys in it have no tangent. s adds up how a
volume grows along the same orbit, by other means than V:

    map, SDE   ds = ln |det DF(n, x)|
    flow       ds = h div f(t, x), so that s + (h/2) div f - (h^2/12) d/dt div f at both ends is the integral

The last is the Euler-Maclaurin sum, without the error of the method that takes the steps: the exponents must add up to it.

Of a flow the state and its perturbations are the rows of one array, which a method of calculus steps as one flow,

    d/dt (x, v_1, ..., v_k) = (f, Df v_1, ..., Df v_k),

for a Runge-Kutta step of the tangent flow is the tangent of the step. So a stage is a few operations on one array.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._tree import float_dtype
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.linear.coordinates import as_vector, dimension_of, from_vector
from separatrix.linear.orthonormal import orthonormalise
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map


class TangentBlock(NamedTuple):
    """The number of the next step, the state, perturbations as rows, and the sum for the volume.

    `resting`: whether the last steps left the state of a flow as it was, to the last bit.
    """

    number: Any
    state: State
    directions: Any
    volume: Any
    resting: Any


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


class TangentRows(Flow):
    """d/dt (x, V) = (f(t, x), V Df(t, x)^T), x and the rows of V in one array of shape (1 + k, d)."""

    flow: Flow
    like: State

    def velocity(self, t: Scalar, state: State) -> State:
        rows = jnp.asarray(state)
        here = lambda x: as_vector(self.flow.velocity(t, from_vector(x, self.like)))  # noqa: E731
        value, push = jax.linearize(here, rows[0])
        return jnp.concatenate([value[None], jax.vmap(push)(rows[1:])])


class BlockOfFlow(eqx.Module):
    """Steps of a block along a flow; `map` steps `TangentRows`."""

    map: Map
    volume: NoVolume | Divergence

    def many(self, block: TangentBlock, count: Any) -> TangentBlock:
        """Return the block after some steps."""
        like = block.state

        def step(_: Any, carry: Any) -> Any:
            number, rows, volume = carry
            change = self.volume.change(number, from_vector(rows[0], like), None, rows.shape[1])
            return number + 1, self.map.step(number, rows), volume + change.astype(rows.dtype)

        rows = jnp.concatenate([as_vector(like)[None], block.directions])
        number, rows, volume = jax.lax.fori_loop(0, count, step, (block.number, rows, block.volume))
        resting = jnp.all(rows[0] == as_vector(like))
        return TangentBlock(number, from_vector(rows[0], like), rows[1:], volume, resting)


class BlockOfMap(eqx.Module):
    """Steps of a block along a map, with the randomness that `evolve` would give each."""

    map: Map
    volume: NoVolume | LogDeterminant
    key: Key | None

    def many(self, block: TangentBlock, count: Any) -> TangentBlock:
        """Return the block after some steps."""
        return jax.lax.fori_loop(0, count, lambda _, block: self._step(block), block)

    def _step(self, block: TangentBlock) -> TangentBlock:
        number = block.number
        here = None if self.key is None else jax.random.fold_in(self.key, number)

        def image(vector: Any) -> tuple[Any, State]:
            after = self.map.step(number, from_vector(vector, block.state), key=here)
            return as_vector(after), after

        point = as_vector(block.state)
        _, push, after = jax.linearize(image, point, has_aux=True)
        change = self.volume.change(number, block.state, push, point.size)
        directions, volume = jax.vmap(push)(block.directions), block.volume + change.astype(point.dtype)
        return block._replace(number=number + 1, state=after, directions=directions, volume=volume)


class Stretching(Map):
    """Some steps of a block, then Q for V; the logarithms of what each row grew by, and of the volume, are added up.

    `interval`, the number of steps, is an array wherever nothing is differentiated: then no length is compiled in.
    """

    block: BlockOfMap | BlockOfFlow
    interval: Any

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        block, sums = state
        block = self.block.many(TangentBlock(*block), self.interval)
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
    """What is kept of a stretching at the borders of batches: sums of logarithms, and the volume.

    At the two steps `ends` the volume is made whole; between them that costs more than the steps themselves.
    """

    volume: NoVolume | LogDeterminant | Divergence
    ends: Any

    def __call__(self, state: State) -> Any:
        block, sums = state
        dtype = sums.total.dtype

        def whole() -> Any:
            return self.volume.ends(block.number, block.state).astype(dtype)

        at_end = jnp.any(block.number == jnp.asarray(self.ends))
        return sums.total.at[-1].add(jax.lax.cond(at_end, whole, lambda: jnp.zeros((), dtype)))


class SameState(eqx.Module):
    """1 where a state is that one, to the last bit."""

    state: State

    def __call__(self, state: State) -> Any:
        same = [jnp.all(a == b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(self.state), strict=True)]
        return jnp.stack(same).all().astype(jnp.int32)


def first_block(state: State, count: int, start: Any) -> tuple[TangentBlock, Sums]:
    """A state with fixed perturbations that no symmetry or subspace is likely to hold, and sums of zero."""
    dtype = float_dtype(state)
    columns = np.linalg.qr(np.random.default_rng(0).standard_normal((dimension_of(state), count)))[0]
    zeros, zero = np.zeros(count + 1, dtype), np.zeros((), dtype)
    made = jax.device_put((np.asarray(start), columns.T.astype(dtype), zero, np.asarray(False), zeros, zeros))
    number, directions, volume, resting, total, lost = made
    return TangentBlock(number, state, directions, volume, resting), Sums(total, lost)
