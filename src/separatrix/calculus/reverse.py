r"""Time reversal.

    flow   dy/ds = -f(T - s, y)
    map    y[m+1] = F(T - 1 - m, .)^{-1} y[m]
    SDE    dy = (-f + div(g g^T) + g g^T grad log p)(T - s, y) ds + g(T - s, y) dW

The reverse of a diffusion needs its score grad log p(t, x); it then has the same marginals, run backwards. The
probability flow, whose drift carries half of that score, is another system: see `probability_flow`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx

from separatrix._errors import explain
from separatrix._tree import add, all_finite, float_dtype, scale, subtract, where
from separatrix._types import Key, Operator, Scalar, Score, State, StepIndex
from separatrix.calculus._divergence import covariance_divergence, covariance_times
from separatrix.calculus._undefined import undefined
from separatrix.systems._signature import as_pytree
from separatrix.systems.base import System, as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, InvertibleMap, NearIdentityMap
from separatrix.systems.sde import SDE


class ReversedFlow(Flow):
    """dy/ds = -f(T - s, y)."""

    flow: Flow
    horizon: Scalar

    def velocity(self, t: Scalar, state: State) -> State:
        return scale(-1, self.flow.velocity(_mirror(self.horizon, t, state), state))


class ReversedMap(InvertibleMap):
    """y[m+1] = F(T - 1 - m, .)^{-1} y[m], by the inverse that the map knows."""

    map: InvertibleMap
    horizon: Any

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.map.inverse_step(self.horizon - 1 - n, state)

    def inverse_step(self, n: StepIndex, state: State) -> State:
        return self.map.step(self.horizon - 1 - n, state)


class ReversedNearIdentityMap(NearIdentityMap):
    """G_h(s, y) = the x with F_h(T - s - h, x) = y, by Newton's method; NaN where that does not converge."""

    map: NearIdentityMap
    horizon: Scalar

    @property
    def step_size(self) -> Any:
        """Step size of the map below."""
        return self.map.step_size

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return invert(self.map, _mirror(self.horizon, t + step_size, state), state, step_size)


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
    - `horizon`: T, where the reversed clock starts: time for flows and SDEs, a step number for maps. 0 by default, which
      serves systems that do not depend on time; the length, for a finite map. Required for an SDE.
    - `score`: for an SDE, grad log p(t, x) of its marginals.

    **Returns:** a system of the same kind. `reverse` of a reversed system at the same horizon is the system itself.

    **Raises:** `TypeError` for a map that knows no inverse; `ValueError` for an SDE without score or horizon.

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
    match system:
        case Flow():
            return ReversedFlow(system, as_parameter(0.0 if horizon is None else horizon))
        case InvertibleMap():
            default = system.length if isinstance(system, FiniteMap) else 0
            return ReversedMap(system, as_parameter(default if horizon is None else horizon))
        case NearIdentityMap():
            return ReversedNearIdentityMap(system, as_parameter(0.0 if horizon is None else horizon))
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
    return jnp.asarray(horizon, dtype) - jnp.asarray(t, dtype)


def _already_reversed(system: Any, horizon: Any) -> System | None:
    """What a reversed system was made of, where the same horizon is meant."""
    inner = {ReversedFlow: "flow", ReversedMap: "map", ReversedNearIdentityMap: "map", ReversedSDE: "sde"}
    name = inner.get(type(system))
    if name is None:
        return None
    own = system.horizon
    same = horizon is None or horizon is own or _equal(horizon, own)
    return getattr(system, name) if same else None


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except jax.errors.TracerBoolConversionError:
        return False
