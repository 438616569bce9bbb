r"""Time reversal.

    flow   dy/ds = -f(T - s, y)
    map    y[m+1] = F(N - 1 - m, .)^{-1} y[m]      near the identity:  G_h(s, .) = F_h(T - s - h, .)^{-1}
    SDE    dy = (-f + div(g g^T) + g g^T grad log p)(T - s, y) ds + g(T - s, y) dW

The reverse of a diffusion needs its score grad log p(t, x); it then has the same marginals, run backwards. The
probability flow, whose drift carries half of that score, is another system: see `probability_flow`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

from separatrix._errors import explain
from separatrix._tree import add, all_finite, float_dtype, is_traced, scale, subtract, where
from separatrix._types import Function, Key, Operator, Scalar, Score, State, StepIndex
from separatrix.calculus._divergence import covariance_divergence, covariance_times
from separatrix.calculus.dependence import depends_on
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System, as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, InvertibleMap, InvertibleNearIdentityMap, NearIdentityMap
from separatrix.systems.sde import SDE
from separatrix.systems.signature import as_pytree


class ReversedFlow(Flow):
    """dy/ds = -f(T - s, y)."""

    flow: Flow
    horizon: Scalar | None

    def velocity(self, t: Scalar, state: State) -> State:
        _require_horizon(self.horizon, lambda time: self.flow.velocity(time, state), t, state)
        return scale(-1, self.flow.velocity(_mirror(self.horizon, t, state), state))


class ReversedMap(InvertibleMap):
    """y[m+1] = F(N - 1 - m, .)^{-1} y[m], by the inverse that the map knows, for a horizon of N steps."""

    map: InvertibleMap
    horizon: Any

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        _require_horizon(self.horizon, lambda number: self.map.inverse_step(number, state), n, None)
        return self.map.inverse_step(_last(self.horizon) - n, state)

    def inverse_step(self, n: StepIndex, state: State) -> State:
        _require_horizon(self.horizon, lambda number: self.map.step(number, state), n, None)
        return self.map.step(_last(self.horizon) - n, state)


class ReversedFiniteMap(FiniteMap, InvertibleMap):
    """y[m+1] = F(N - 1 - m, .)^{-1} y[m] for m = 0, ..., N - 1."""

    map: InvertibleMap
    length: int = eqx.field(static=True)

    @property
    def horizon(self) -> int:
        """N, its length."""
        return self.length

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.map.inverse_step(self.length - 1 - n, state)

    def inverse_step(self, n: StepIndex, state: State) -> State:
        return self.map.step(self.length - 1 - n, state)


class ReversedNearIdentityMap(InvertibleNearIdentityMap):
    """G_h(s, y) = the x with F_h(T - s - h, x) = y: in closed form if the map has one, else by Newton's method.

    NaN where that does not converge.
    """

    map: NearIdentityMap
    horizon: Scalar | None

    @property
    def step_size(self) -> Any:
        """Step size of the map below."""
        return self.map.step_size

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        _require_horizon(self.horizon, lambda time: self.map.advance(time, state, step_size), t, state)
        _require_no_draw(self.map, t, state, step_size, key)
        time = _mirror(self.horizon, t + step_size, state)
        if isinstance(self.map, InvertibleNearIdentityMap):
            return self.map.retreat(time, state, step_size)
        return invert(self.map, time, state, step_size)

    def retreat(self, t: Scalar, state: State, step_size: Scalar) -> State:
        _require_horizon(self.horizon, lambda time: self.map.advance(time, state, step_size), t, state)
        return self.map.advance(_mirror(self.horizon, t + step_size, state), state, step_size)


class ReversedSDE(SDE):
    """dy = (-f + div(g g^T) + g g^T score)(T - s, y) ds + g(T - s, y) dW."""

    sde: SDE
    score: Score
    horizon: Scalar

    def drift(self, t: Scalar, state: State) -> State:
        t = _mirror(self.horizon, t, state)
        corrected = covariance_times(self.sde.diffusion(t, state), self.score(t, state))
        divergence = covariance_divergence(self.sde, t, state)
        return add(subtract(corrected, self.sde.drift(t, state)), divergence)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        return self.sde.diffusion(_mirror(self.horizon, t, state), state)


def reverse(system: System, *, horizon: Any = None, score: Score | None = None) -> System:
    r"""Return the system that runs backwards in time, from the horizon T down.

    **Arguments:**

    - `system`: a `Flow`, an `InvertibleMap`, a `NearIdentityMap` (inverted by Newton's method) or an `SDE`.
    - `horizon`: T, where the reversed clock starts. It is a time for what has one: flows, SDEs and near-identity maps
      (t = n h), whether or not these know their inverse. It is a number of steps for other maps. Without it the system
      must not depend on time; a finite map starts at its end. Required for an SDE.
    - `score`: for an SDE, grad log p(t, x) of its marginals.

    **Returns:** a system of the same kind. `reverse` of a reversed system at the same horizon is the system itself.

    **Raises:** `TypeError` for a map that knows no inverse; `ValueError` for an SDE without score or horizon, and for a
    number of steps that is not whole. When it runs: `ValueError` for a system that depends on time, without a horizon,
    and for a map that draws from its key.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> growth = sx.reverse(sx.as_flow(lambda x: -x))
    >>> growth.velocity(0.0, jnp.array(2.0)).item()
    2.0

    **Reference:** Anderson, *Reverse-time diffusion equation models* (1982), theorem, for the SDE.
    """
    original = _already_reversed(system, horizon)
    if original is not None:
        return original
    parameter = None if horizon is None else as_parameter(horizon)
    match system:
        case Flow():
            return ReversedFlow(system, parameter)
        case NearIdentityMap():
            return ReversedNearIdentityMap(system, parameter)
        case InvertibleMap() if isinstance(system, FiniteMap):
            return ReversedFiniteMap(system, _whole_horizon(horizon, system.length))
        case InvertibleMap():
            return ReversedMap(system, None if horizon is None else as_parameter(_whole_horizon(horizon, None)))
        case SDE():
            if score is None or horizon is None:
                missing = "score" if score is None else "horizon"
                raise ValueError(
                    explain(
                        "reverse of an SDE",
                        f"{missing}=None",
                        "score(t, x) and horizon=T",
                        "Pass grad log p of its marginals and the time to start from.",
                    )
                )
            return ReversedSDE(system, as_pytree(score), as_parameter(horizon))
    raise undefined(
        "reverse",
        system,
        "Flow, InvertibleMap, NearIdentityMap, or SDE with its score",
        "Give the map an inverse_step (InvertibleMap); a map that is not one-to-one has no reverse.",
    )


def invert(map: NearIdentityMap, t: Scalar, state: State, step_size: Scalar) -> State:
    """Return the x with F_h(t, x) = state, NaN where Newton's method finds none."""
    eps = float(jnp.finfo(float_dtype(state)).eps)
    solver = optx.Newton(rtol=16 * eps, atol=16 * eps)

    def residual(x: State, arguments: Any) -> State:
        time, target, h = arguments
        return subtract(map.advance(time, x, h), target)

    solution = optx.root_find(residual, solver, state, args=(t, state, step_size), max_steps=50, throw=False)
    # At rounding level the last Newton updates may still exceed the tolerance: what counts is the residual.
    error = residual(solution.value, (t, state, step_size))
    size = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(error)]))
    reach = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(state)]))
    good = all_finite(solution.value) & (size <= jnp.sqrt(jnp.asarray(eps, size.dtype)) * (1 + reach))
    return where(good, solution.value, scale(jnp.nan, state))


def _mirror(horizon: Any, t: Any, state: State) -> Any:
    dtype = float_dtype(state)
    return jnp.asarray(0 if horizon is None else horizon, dtype) - jnp.asarray(t, dtype)


def _last(horizon: Any) -> Any:
    """The number of the step that is undone first."""
    return -1 if horizon is None else horizon - 1


def _require_horizon(horizon: Any, at: Function, clock: Any, state: State | None) -> None:
    """Refuse a system that looks at its clock if nobody said what the clock shows at the start."""
    if horizon is None:
        now = jnp.asarray(clock) if state is None else jnp.asarray(clock, float_dtype(state))
        if depends_on(at, now):
            expected = "horizon=T, the time (or number of steps, for a plain map) from which to go back"
            raise ValueError(
                explain(
                    "reverse of a system that depends on time",
                    "horizon=None",
                    expected,
                    "Pass reverse(system, horizon=T) for a run over (0, T).",
                )
            )


def _require_no_draw(map: NearIdentityMap, t: Scalar, state: State, step_size: Scalar, key: Key | None) -> None:
    """Refuse to invert a step that draws: which x it came from depends on the draw of a step long past."""
    if key is not None and depends_on(lambda drawn: map.advance(t, state, step_size, key=drawn), key):
        do = "Leave key out for the inverse of its mean; reverse an SDE with its score, then discretise."
        raise ValueError(explain("reverse of a random map", "a key that it draws from", "key=None", do))


def _whole_horizon(horizon: Any, length: int | None) -> Any:
    """A number of steps: at least 1 and at most the length, which is its default, for a finite map."""
    if horizon is None:
        return length
    if length is None and is_traced(horizon):
        return horizon
    known = None if is_traced(horizon) else float(horizon)
    if known is None or known != round(known) or (length is not None and not 1 <= known <= length):
        expected = "a whole number of steps" if length is None else f"a whole number of steps from 1 to {length}"
        raise ValueError(explain("reverse of a map: horizon", horizon, expected, "Pass the number of its steps."))
    return int(known)


def _already_reversed(system: Any, horizon: Any) -> System | None:
    """What a reversed system was made of, where the same horizon is meant."""
    inner = {
        ReversedFlow: "flow",
        ReversedMap: "map",
        ReversedFiniteMap: "map",
        ReversedNearIdentityMap: "map",
        ReversedSDE: "sde",
    }
    name = inner.get(type(system))
    if name is None:
        return None
    own = system.horizon
    same = horizon is None or horizon is own or _equal(horizon, 0 if own is None else own)
    return getattr(system, name) if same else None


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except jax.errors.TracerBoolConversionError:
        return False
