r"""Coupled systems: several of one kind side by side, with an added interaction.

    maps   x_i[n+1] = F_i(n, x_i[n]) + c_i(n, x[n])
    flows  dx_i/dt = f_i(t, x_i) + c_i(t, x)
    SDEs   dx_i = (f_i(t, x_i) + c_i(t, x)) dt + g_i(t, x_i) dW_i

For near-identity maps the interaction is a rate too. Each keeps its own step size h_i and its own clock n h_i. The clock
of the whole is that of the first: when it advances by h, the i-th advances by r_i h with r_i = h_i/h_1, and the
interaction by h,

    x_i -> F_i,(r_i h)(r_i t, x_i) + h c_i(t, x),

so that the limit is r_i limit(F_i) + c_i. With one step size for all, the limit of the coupled maps is the coupling of
their limits.
"""

from typing import Any

import equinox as eqx
import jax
import lineax as lx

from separatrix._errors import explain
from separatrix._tree import add, axpy
from separatrix._types import Function, Key, Operator, Scalar, State, StepIndex
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map, NearIdentityMap, step_ratio
from separatrix.systems.sde import SDE
from separatrix.systems.signature import as_pytree


class CoupledMap(Map):
    """x_i -> F_i(n, x_i) + c_i(n, x)."""

    systems: tuple[Map, ...]
    coupling: Function

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        keys = _split(key, len(self.systems))
        moved = tuple(m.step(n, x, key=k) for m, x, k in zip(self.systems, state, keys, strict=True))
        return add(moved, self.coupling(n, state))


class CoupledFiniteMap(FiniteMap):
    """x_i -> F_i(n, x_i) + c_i(n, x), for as many steps as the shortest of its finite parts."""

    coupled: CoupledMap
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.coupled.step(n, state, key=key)


class CoupledNearIdentityMap(NearIdentityMap):
    """x_i -> F_i,(r_i h)(r_i t, x_i) + h c_i(t, x), with r_i = h_i/h_1."""

    systems: tuple[NearIdentityMap, ...]
    coupling: Function

    @property
    def step_size(self) -> Any:
        """Step size of the first system; the others advance in proportion to theirs."""
        return self.systems[0].step_size

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        keys = _split(key, len(self.systems))
        ratios = [step_ratio(m, self.systems[0], step_size) for m in self.systems]
        parts = zip(self.systems, ratios, state, keys, strict=True)
        moved = tuple(m.advance(r * t, x, r * step_size, key=k) for m, r, x, k in parts)
        return axpy(step_size, self.coupling(t, state), moved)


class CoupledFlow(Flow):
    """dx_i/dt = f_i(t, x_i) + c_i(t, x)."""

    systems: tuple[Flow, ...]
    coupling: Function

    def velocity(self, t: Scalar, state: State) -> State:
        own = tuple(f.velocity(t, x) for f, x in zip(self.systems, state, strict=True))
        return add(own, self.coupling(t, state))


class CoupledSDE(SDE):
    """dx_i = (f_i(t, x_i) + c_i(t, x)) dt + g_i(t, x_i) dW_i, with independent noise."""

    systems: tuple[SDE, ...]
    coupling: Function

    def drift(self, t: Scalar, state: State) -> State:
        own = tuple(s.drift(t, x) for s, x in zip(self.systems, state, strict=True))
        return add(own, self.coupling(t, state))

    def diffusion(self, t: Scalar, state: State) -> Operator:
        parts: list[Any] = [s.diffusion(t, x) for s, x in zip(self.systems, state, strict=True)]
        if all(isinstance(part, lx.DiagonalLinearOperator) for part in parts):
            return lx.DiagonalLinearOperator(tuple(part.diagonal for part in parts))
        noise = tuple(part.in_structure() for part in parts)
        return lx.FunctionLinearOperator(lambda dw: tuple(part.mv(w) for part, w in zip(parts, dw, strict=True)), noise)


def couple(*systems: Any, coupling: Function) -> System:
    r"""Put systems of one kind side by side and let them interact.

    **Arguments:**

    - `systems`: at least two `Map`s, `Flow`s or `SDE`s.
    - `coupling`: c(t, states) (c(n, states) for maps), returning a tuple of increments, one for each system; of rates, for
      flows, SDEs and near-identity maps, in the time t = n h of the first.

    **Returns:** a system of the same kind on the tuple of states. Near-identity maps keep their own step sizes and clocks;
    the step size of the whole is that of the first. A random one gives each part its own key, `fold_in(key, position)`.

    **Raises:** `TypeError` for systems of different kinds; `ValueError` for fewer than two.

    **Example:** two springs joined by a third.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> spring = sx.as_flow(lambda x: jnp.stack([x[1], -x[0]]))
    >>> def pull(t, states):
    ...     force = states[1][0] - states[0][0]
    ...     return jnp.stack([0.0 * force, force]), jnp.stack([0.0 * force, -force])
    >>> pair = sx.couple(spring, spring, coupling=pull)
    >>> pair.velocity(0.0, (jnp.array([1.0, 0.0]), jnp.array([-1.0, 0.0])))[0].tolist()
    [0.0, -3.0]
    """
    if len(systems) < 2:
        raise ValueError(explain("couple", f"{len(systems)} system(s)", "at least two", "Pass the systems to couple."))
    coupling = as_pytree(coupling)
    kinds: Any = (
        (NearIdentityMap, CoupledNearIdentityMap),
        (Map, CoupledMap),
        (Flow, CoupledFlow),
        (SDE, CoupledSDE),
    )
    for kind, coupled in kinds:
        if all(isinstance(system, kind) for system in systems):
            whole = coupled(systems, coupling)
            lengths = [system.length for system in systems if isinstance(system, FiniteMap)]
            return CoupledFiniteMap(whole, min(lengths)) if lengths else whole
    names = ", ".join(type(system).__name__ for system in systems)
    raise TypeError(
        explain(
            "couple",
            names,
            "systems of one kind: all Map, all Flow or all SDE",
            "Bring them to one kind with limit or discretize.",
        )
    )


def _split(key: Key | None, count: int) -> list[Any]:
    return [None if key is None else jax.random.fold_in(key, i) for i in range(count)]
