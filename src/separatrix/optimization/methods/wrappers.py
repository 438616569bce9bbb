r"""What is put around a method: clipped and noisy gradients, restarts.

    clipped    g <- g min(1, c/|g|)                          around an objective
    noisy      g <- g + sigma xi,  xi ~ N(0, I)              around an objective
    restarted  momentum to rest where grad L(y).(x' - x) > 0   around Nesterov's method

Clipping and noise change what a method sees of an objective, so they wrap the objective, and every method takes them: its
limit is that of the changed gradient. Schedules, line searches, Polyak steps and plateaus stand in optax, and come
through `from_optax` as they are.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import dot, float_dtype, norm, scale, subtract, where
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import unpack, zeros
from separatrix.optimization.methods.momentum import Nesterov, PhasePoint
from separatrix.systems.map import Map
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.objective import Objective, WrappedObjective, as_objective
from separatrix.systems.ranges import nonnegative, positive


class Clip(eqx.Module):
    """The rule by which L stays, and its gradient is grad L min(1, c/|grad L|)."""

    bound: Scalar

    def __call__(self, ask: Function, parameters: State, key: Key | None) -> tuple[Any, Any]:
        return ask(_clip_on_return(parameters, self.bound), key)


class Tilt(eqx.Module):
    """The rule by which L becomes L + sigma xi.x with xi standard normal, where a key is given."""

    amplitude: Scalar

    def __call__(self, ask: Function, parameters: State, key: Key | None) -> tuple[Any, Any]:
        if key is None:
            return ask(parameters, None)
        ours, theirs = jax.random.split(key)
        value, layers = ask(parameters, theirs)
        value = jnp.asarray(value)
        tilt = dot(_normal(ours, parameters), parameters)
        return value + jnp.asarray(self.amplitude, value.dtype) * tilt.astype(value.dtype), layers


Restarting = MemoryForm(
    "Restarting", ("position", "velocity", "age"),
    "Position x and velocity w of Nesterov's method, and the steps since its last restart.",
)  # fmt: skip


class RestartedNesterov(Map):
    r"""Nesterov's method with the schedule n/(n + 3), begun anew wherever it climbs.

    With y the point at which the gradient is taken, momentum is dropped and the schedule restarted after a step with
    grad L(y).(x[n+1] - x[n]) > 0. On a strongly convex objective this finds the rate of the best constant momentum,
    about 1 - 1/sqrt(k), without knowing k.

    **Arguments:**

    - `objective`: L(parameters).
    - `learning_rate`: eta > 0, at most 1/(largest curvature).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> bowl = sx.optimization.Quadratic(jnp.array([1.0, 1e-3]))
    >>> plain, restarted = sx.optimization.Nesterov(bowl, 1.0), sx.optimization.RestartedNesterov(bowl, 1.0)
    >>> run = lambda method: sx.evolve(method, method.init(jnp.ones(2)), steps=600, save="last").final.position
    >>> bool(bowl(run(restarted)) < 1e-12), bool(bowl(run(plain)) > 1e-9)
    (True, True)

    **Reference:** O'Donoghue & Candes, *Adaptive restart for accelerated gradient schemes* (2015), section 3.2, gradient
    scheme.
    """

    nesterov: Nesterov

    def __init__(self, objective: Objective | Function, learning_rate: Any):
        self.nesterov = Nesterov(objective, positive("RestartedNesterov: learning_rate", learning_rate))

    def init(self, parameters: State) -> Remembered:
        """Return the state at rest at these parameters."""
        return Restarting(*self.nesterov.init(parameters), jnp.zeros((), int))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        position, velocity, age = unpack(state, Restarting)
        here = PhasePoint(position, velocity)
        there = self.nesterov.step(age, here, key=key)
        slope = gradient(self.nesterov.objective, self.ahead(age, here), key)
        climbs = dot(slope, subtract(there.position, here.position)) > 0
        velocity = where(climbs, zeros(there.velocity), there.velocity)
        return Restarting(there.position, velocity, jnp.where(climbs, 0, age + 1))

    def ahead(self, age: StepIndex, point: Remembered) -> State:
        """y, where the gradient of the step is taken."""
        t, _ = self.nesterov.clock(age, float_dtype(point))
        return self.nesterov.lookahead(t, point)


def clipped(objective: Any, bound: Any) -> Objective:
    r"""Return an objective of the same value whose gradient is never longer than a bound.

        g <- g min(1, c/|g|)

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key): the gradient of the sample is clipped.
    - `bound`: c > 0, for the norm over all parameters together.

    **Returns:** an `Objective` for any method, native or of optax. The second derivative is that of the clipped gradient.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> steep = sx.optimization.clipped(sx.optimization.Quadratic(100.0), 5.0)
    >>> steep(jnp.array([3.0, 4.0])).item(), jax.grad(steep)(jnp.array([3.0, 4.0])).tolist()
    (1250.0, [3.0, 4.0])

    **Reference:** Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks* (2013),
    algorithm 1.
    """
    return WrappedObjective(as_objective(objective), Clip(positive("clipped: bound", bound)))


def noisy(objective: Any, amplitude: Any) -> Objective:
    r"""Return an objective whose gradient carries Gaussian noise, one draw for each key.

        g <- g + sigma xi,   xi ~ N(0, I)

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `amplitude`: sigma >= 0, the standard deviation of each entry.

    **Returns:** an `Objective`; without a key it is L, its expectation.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> loss = sx.optimization.noisy(sx.optimization.Quadratic(1.0), 0.5)
    >>> keys = jax.random.split(jax.random.key(0), 10_000)
    >>> slopes = jax.vmap(lambda key: jax.grad(lambda x: loss(x, key=key))(jnp.array(2.0)))(keys)
    >>> round(float(slopes.mean()), 1), round(float(slopes.std()), 1)
    (2.0, 0.5)

    **Reference:** Neelakantan et al., *Adding gradient noise improves learning for very deep networks* (2015).
    """
    return WrappedObjective(as_objective(objective), Tilt(nonnegative("noisy: amplitude", amplitude)))


@jax.custom_vjp
def _clip_on_return(parameters: State, bound: Any) -> State:
    """The identity, whose pullback clips."""
    return parameters


def _forward(parameters: State, bound: Any) -> tuple[State, Any]:
    return parameters, bound


def _backward(bound: Any, cotangent: State) -> tuple[State, Any]:
    length = norm(cotangent)
    long = length > bound
    factor = jnp.where(long, jnp.asarray(bound, length.dtype) / jnp.where(long, length, jnp.ones_like(length)), 1.0)
    return scale(factor, cotangent), jnp.zeros_like(bound)


_clip_on_return.defvjp(_forward, _backward)


def _normal(key: Key, like: State) -> State:
    """A standard normal tree of this form."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, jnp.shape(x), jnp.result_type(x)) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)
