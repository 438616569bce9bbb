r"""Times of exit from a region, measured: an ensemble with an absorbing border.

The region is where a margin g(x) is positive. A system that has left stays where it is: with the step F,

    (x, inside, n)  ->  (F(x), g(F(x)) > 0, n + 1)  while inside,        (x, inside, n)  otherwise,

which is a map, and `evolve` runs it. An SDE seen at the ends of its steps alone is late, by O(sqrt(h)), for a path may
leave and come back within a step. Between two ends with margins g0 and g1 a Brownian path has crossed with probability

    exp(-2 g0 g1/(v h)),        v = |diffusion^T grad g|^2,

and is taken to have crossed so often; what is left is O(h).

Where an ensemble is stopped before all have left, tau = (sum of all times)/(number that left): the likeliest mean of
exponential times, as those out of a deep well are.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from separatrix._errors import explain
from separatrix._tree import dot, float_dtype, is_traced, where
from separatrix._types import Function, Key, State, StepIndex
from separatrix.calculus.discretization import discretize
from separatrix.calculus.methods import EulerMaruyama
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution.ensembles import ensemble
from separatrix.systems.base import require_key
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.sde import SDE
from separatrix.systems.signature import as_pytree


class EscapeTimes(Result):
    """When the members of an ensemble left a region.

    - `times`, shape (members,): the time of exit, or the time watched where there was none. `escaped`: which did leave.
    - `mean`, `error`: the mean time of exit and its standard error; under exponential times where some did not leave.
    - `failed`: how many members broke (a value that was not finite) while inside.
    """

    times: Float[Array, " members"]
    escaped: Bool[Array, " members"]
    mean: Float[Array, ""]
    error: Float[Array, ""]
    failed: Float[Array, ""]

    def rows(self) -> list[Row]:
        count = int(np.sum(self.escaped))
        return [
            Row("mean time of exit", self.mean, self.error),
            Row("left", f"{count} of {self.times.shape[0]}"),
            Row("longest time watched", np.max(self.times)),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        count, members = int(np.sum(self.escaped)), self.times.shape[0]
        if count < members:
            found.append(
                f"{members - count} of {members} had not left when the run ended: the mean is that of exponential times"
            )
        if count < 30:
            found.append(
                f"{count} exits: the mean is uncertain by {100 / max(count, 1) ** 0.5:.0f} % and its error too"
            )
        if self.failed > 0:
            found.append(f"{int(self.failed)} members broke before they left: take a smaller step")
        return tuple(found)


class WatchedMap(NamedTuple):
    """A state, whether it is still inside, and for how many steps it has been."""

    state: Any
    inside: Any
    steps: Any


class Absorbing(Map):
    """A random map that stops where the margin is no longer positive; `bridge` is the SDE whose steps it takes, if any."""

    map: Map
    margin: Function
    bridge: SDE | None

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        move, crossing = jax.random.split(require_key(key, "escape_times"))
        after = self.map.step(n, state.state, key=move)
        inside = state.inside & (self.margin(after) > 0)
        if self.bridge is not None:
            inside = inside & ~self.crossed(n, state.state, after, crossing)
        steps = state.steps + state.inside.astype(state.steps.dtype)
        return WatchedMap(where(state.inside, after, state.state), inside, steps)

    def crossed(self, n: StepIndex, before: State, after: State, key: Key) -> Any:
        """Draw whether a Brownian bridge between two states inside has been outside."""
        dtype = float_dtype(before)
        t, step_size = self.map.clock(n, dtype)  # pyright: ignore[reportAttributeAccessIssue]
        first, slope = jax.value_and_grad(self.margin)(before)
        spread = self.bridge.diffusion(t, before).T.mv(slope)  # pyright: ignore[reportOptionalMemberAccess]
        variance = (dot(spread, spread).astype(dtype) * step_size).astype(first.dtype)
        exponent = -2 * first * self.margin(after) / jnp.where(variance > 0, variance, 1)
        drawn = jax.random.uniform(key, (), first.dtype)
        return (variance > 0) & (drawn < jnp.exp(exponent))


def escape_times(
    system: Any,
    state: State,
    margin: Function,
    *,
    steps: int,
    key: Key,
    step_size: Any = None,
    method: Any = None,
    members: int = 1000,
) -> EscapeTimes:
    r"""Measure how long a random system stays where margin(x) > 0.

        tau = E min{t: margin(x(t)) <= 0}

    **Arguments:**

    - `system`: an `SDE`, run with fixed steps, or a random `Map`, as stochastic gradient descent.
    - `state`: where all members start: inside.
    - `margin`: a real function of the state, positive inside and smooth near the border (it is differentiated, so that
      crossings within a step can be counted).
    - `steps`: how many steps to watch: several times the mean, for a mean that supposes nothing.
    - `key`, `members`: the randomness, and how many paths: the relative error is about 1/sqrt(members).
    - `step_size`, `method`: of an SDE; EulerMaruyama by default.

    **Returns:** an `EscapeTimes`: times in the unit of t for SDEs and near-identity maps, in steps for other maps. Times of
    an SDE are right to O(h) where its noise crosses the border, and to O(h) too where it does not (positions under
    `UnderdampedLangevin`).

    **Raises:** `TypeError` for a `Flow`, or a margin that is not a real scalar; `ValueError` for a start outside, or a
    step size that is missing (SDE) or not wanted (map).

    **Example:** Brownian motion leaves (-1, 1) at time 1 on average.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> motion = sx.as_sde(lambda x: 0.0 * x, lambda x: 1.0)
    >>> found = sx.optimization.escape_times(motion, jnp.array(0.0), lambda x: 1.0 - x**2, steps=1000, step_size=0.01,
    ...                         key=jax.random.key(0))
    >>> bool(abs(found.mean - 1.0) < 4 * found.error + 0.01), bool(found.escaped.all())
    (True, True)

    **Reference:** Gobet, *Weak approximation of killed diffusion using Euler schemes* (2000), for the bridge.
    """
    map = _as_map(system, step_size, method)
    inside = _checked_margin(margin, state)
    if members < 2:
        raise ValueError(explain("escape_times: members", members, "at least 2", "A mean with an error needs several."))
    absorbing = Absorbing(map, as_pytree(margin), system if isinstance(system, SDE) else None)
    start = WatchedMap(jax.tree.map(jnp.asarray, state), inside, jnp.zeros((), jnp.int32))
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (members, *leaf.shape)), start)
    trajectory = ensemble(absorbing, starts, steps=steps, key=key, save="last")
    final = trajectory.last
    dtype = float_dtype(state)
    unit = jnp.asarray(map.step_size, dtype) if isinstance(map, NearIdentityMap) else jnp.ones((), dtype)
    broken = jnp.sum(~trajectory.outcome.completed & final.inside)
    return _summary(final.steps.astype(dtype) * unit, ~final.inside, broken)


def _summary(times: Array, escaped: Array, broken: Array) -> EscapeTimes:
    count = jnp.sum(escaped).astype(times.dtype)
    mean = jnp.sum(times) / count
    spread = jnp.where(jnp.all(escaped), jnp.std(times, ddof=1), mean)
    return EscapeTimes(times, escaped, mean, spread / jnp.sqrt(count), broken.astype(times.dtype))


def _as_map(system: Any, step_size: Any, method: Any) -> Map:
    """The map to watch: a map as it is, an SDE with fixed steps."""
    match system:
        case SDE() if step_size is not None:
            return discretize(system, method or EulerMaruyama(), step_size)
        case SDE():
            raise ValueError(explain("escape_times: step_size", "None", "a number, for an SDE", "Pass step_size=0.01."))
        case Map() if step_size is None and method is None:
            return system
        case Map():
            do = "Set the map's own step size when you build it."
            raise ValueError(explain("escape_times: step_size or method", "one of them", "neither, for a map", do))
    raise undefined(
        "escape_times", system, "an SDE or a random Map", "A Flow leaves at one time: evolve(..., event=g)."
    )


def _checked_margin(margin: Function, state: State) -> Any:
    """Whether the start is inside, an array; refused where it is known not to be."""
    value = eqx.filter_jit(margin)(state)
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = f"{jnp.result_type(value)} of shape {jnp.shape(value)}"
        do = "Return how far inside a state is, for example 1.0 - jnp.max(jnp.abs(x))."
        raise TypeError(explain("escape_times: margin", got, "a real scalar, positive inside", do))
    if not is_traced(value) and not bool(value > 0):
        do = "Start inside, or change the sign of the margin."
        raise ValueError(explain("escape_times: state", f"margin {float(value):.4g}", "a start with margin > 0", do))
    return jnp.asarray(value) > 0
