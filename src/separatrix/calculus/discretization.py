r"""Discretisation: a fixed-step method makes a near-identity map of a flow or of an SDE.

    dx/dt = f(t, x)          ->   x[n+1] = F_h(n h, x[n]),   F_0 = identity,   d/dh F_h = f at h = 0
    dx = f dt + g dW         ->   the same, with increments drawn by the key of the step

Gradient flow becomes gradient descent, a neural ODE a ResNet, a reverse SDE a sampler.
"""

from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import FlowMethod, Method, SDEMethod
from separatrix.calculus.methods.symplectic import ReversibleMethod
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import as_step_size
from separatrix.systems.flow import Flow
from separatrix.systems.map import InvertibleNearIdentityMap, NearIdentityMap
from separatrix.systems.sde import SDE


class Discretization(NearIdentityMap):
    """x[n+1] = method.advance(system, n h, x[n], h)."""

    system: Flow | SDE
    method: Method
    step_size: Scalar

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return self.method.advance(self.system, t, state, step_size, key=key)


class ReversibleDiscretization(InvertibleNearIdentityMap):
    """A discretisation that is undone in closed form."""

    system: Flow
    method: ReversibleMethod
    step_size: Scalar

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return self.method.advance(self.system, t, state, step_size, key=key)

    def retreat(self, t: Scalar, state: State, step_size: Scalar) -> State:
        return self.method.retreat(self.system, t, state, step_size)


def discretize(system: Any, method: Any, step_size: Any) -> NearIdentityMap:
    r"""Return the map that one step of a method makes of a flow or of an SDE.

        x[n+1] = method.advance(system, n h, x[n], h)

    **Arguments:**

    - `system`: a `Flow` (with Euler, Midpoint, Heun, RK4, RungeKutta, SymplecticEuler, Leapfrog, ImplicitEuler,
      ImplicitMidpoint or ExponentialEuler) or an `SDE` (with EulerMaruyama, Milstein, StochasticHeun or SRA1).
    - `method`: an instance of one of those.
    - `step_size`: h, in the unit of time; a traced leaf of the map. A negative one runs a flow backwards in time.

    **Returns:** a `NearIdentityMap`, an `InvertibleMap` too for SymplecticEuler and Leapfrog. That of an SDE is random;
    without a key it takes the step of its drift, which is what `limit` sees.

    **Raises:** `TypeError` for a pair that does not fit, or a step size that is no number; `ValueError` for a step size of
    0, NaN or infinity, and for a negative one of an SDE.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.discretize(sx.as_flow(lambda x: -x), sx.Euler(), 0.5)
    >>> descent.step(0, jnp.array(1.0)).item()
    0.5

    **Reference:** Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I* (1993), section II.1.
    """
    require_pair("discretize", system, method)
    size = as_step_size("discretize: step_size", step_size)
    if isinstance(system, SDE) and not is_traced(step_size) and np.any(np.asarray(step_size) < 0):
        do = "Give a positive one; to run backwards take reverse(sde, score=..., horizon=...)."
        raise ValueError(explain("discretize: step_size", step_size, "a number above 0, for an SDE", do))
    if isinstance(method, ReversibleMethod) and isinstance(system, Flow):
        return ReversibleDiscretization(system, method, size)
    return Discretization(system, method, size)


def require_pair(verb: str, system: Any, method: Any) -> None:
    """Refuse a method that is none, or of the other kind of system."""
    if isinstance(method, type) and issubclass(method, Method):
        raise TypeError(explain(f"{verb}: method", f"the class {method.__name__}", "an instance", _write(method)))
    match system, method:
        case (Flow(), FlowMethod()) | (SDE(), SDEMethod()):
            return
        case Flow(), _:
            raise undefined(f"{verb} of a Flow", method, _names(FlowMethod), "Pass for example RK4().")
        case SDE(), _:
            raise undefined(f"{verb} of an SDE", method, _names(SDEMethod), "Pass for example EulerMaruyama().")
    raise undefined(verb, system, "Flow or SDE", "A Map is discrete already: take its limit first.")


def _write(method: type) -> str:
    return "Write RungeKutta(a, b, c)." if method.__name__ == "RungeKutta" else f"Write {method.__name__}()."


def _names(kind: type) -> str:
    """The final classes of a kind of method."""
    return ", ".join(sorted(set(_leaves(kind))))


def _leaves(kind: type) -> list[str]:
    children = kind.__subclasses__()
    return [name for child in children for name in _leaves(child)] if children else [kind.__name__]
