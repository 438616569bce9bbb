r"""Symplectic methods for separable fields q' = u(t, p), p' = v(t, q) on a state (q, p).

    symplectic Euler   p' = p + h v(t, q),            q' = q + h u(t, p')                               order 1
    leapfrog           p~ = p + h/2 v(t, q),  q' = q + h u(t + h/2, p~),  p' = p~ + h/2 v(t + h, q')    order 2

With q' = p and p' = -grad L(q) the first is heavy ball without friction. Each is a composition of shears, so it keeps
volume and is undone exactly by the same shears in the other order.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import jax

from separatrix._errors import explain
from separatrix._tree import axpy
from separatrix._types import Key, Scalar, State
from separatrix.calculus.dependence import depends_on
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow


class ReversibleMethod(FlowMethod):
    """A method whose step is undone in closed form."""

    @abstractmethod
    def retreat(self, system: Flow, t: Scalar, state: State, step_size: Scalar) -> State:
        """Return the state at t from that at t + h: the inverse of `advance` at time t."""


class SymplecticEuler(ReversibleMethod):
    """p' = p + h v(t, q), q' = q + h u(t, p'), of order 1.

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), equation VI.3.1.
    """

    order: ClassVar[int] = 1

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        require_separable(system, t, state)
        q, p = state
        p = axpy(step_size, _force(system, t, state, q, p), p)
        return _like(state, axpy(step_size, _drift(system, t, state, q, p), q), p)

    def retreat(self, system: Flow, t: Scalar, state: State, step_size: Scalar) -> State:
        require_separable(system, t, state)
        q, p = state
        q = axpy(-step_size, _drift(system, t, state, q, p), q)
        return _like(state, q, axpy(-step_size, _force(system, t, state, q, p), p))


class Leapfrog(ReversibleMethod):
    """Kick, drift, kick (Stormer-Verlet), of order 2.

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), equation I.1.17.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        require_separable(system, t, state)
        q, p = state
        p = axpy(step_size / 2, _force(system, t, state, q, p), p)
        q = axpy(step_size, _drift(system, t + step_size / 2, state, q, p), q)
        return _like(state, q, axpy(step_size / 2, _force(system, t + step_size, state, q, p), p))

    def retreat(self, system: Flow, t: Scalar, state: State, step_size: Scalar) -> State:
        require_separable(system, t, state)
        q, p = state
        p = axpy(-step_size / 2, _force(system, t + step_size, state, q, p), p)
        q = axpy(-step_size, _drift(system, t + step_size / 2, state, q, p), q)
        return _like(state, q, axpy(-step_size / 2, _force(system, t, state, q, p), p))


def require_separable(system: Flow, t: Scalar, state: State) -> None:
    """Refuse a state that is no pair, and a field in which q' depends on q or p' on p."""
    if not (isinstance(state, tuple | list) and len(state) == 2):
        raise ValueError(
            explain(
                "symplectic method: state",
                jax.tree.structure(state),
                "a pair (position, momentum)",
                "Write the state as (q, p), each of any form.",
            )
        )
    q, p = state
    for name, own, field in (
        ("q'", q, lambda q: _drift(system, t, state, q, p)),
        ("p'", p, lambda p: _force(system, t, state, q, p)),
    ):
        if depends_on(field, own):
            raise ValueError(
                explain(
                    "symplectic method: field",
                    f"{name} that depends on {name[0]}",
                    "q' = u(t, p) and p' = v(t, q)",
                    "Use ImplicitMidpoint, which is symplectic for every Hamiltonian.",
                )
            )


def _drift(system: Flow, t: Scalar, state: State, q: Any, p: Any) -> Any:
    return system.velocity(t, _like(state, q, p))[0]


def _force(system: Flow, t: Scalar, state: State, q: Any, p: Any) -> Any:
    return system.velocity(t, _like(state, q, p))[1]


def _like(state: State, q: Any, p: Any) -> State:
    """The pair (q, p) in the type that the state has."""
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves((q, p)))
