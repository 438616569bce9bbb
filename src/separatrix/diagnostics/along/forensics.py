r"""Forensics of evolutions that broke: which member, when, which component, how stiff it was there, and what to do.

At the last good state x of a broken member, with J = Df(x) and v = f(t, x) (a map: v = F(x) - x):

    component    argmax_i |v_i|/(1 + |x_i|),  the one that changes fastest for its size
    fastest      max |lambda(J)|, and of a flow the stiffness: of the |Re lambda| that are not 0 the fastest that decays
                 over the slowest

A stiff solve breaks by its limit of steps with fast rates that decay; a blow-up with a rate that grows. A trajectory holds
all of this after `jit` and `vmap` too, for it is made of arrays.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked
from separatrix.diagnostics.result import Result, Row, number
from separatrix.linear.coordinates import Jacobian, as_vector, kind_of
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome

_LISTED = 8
_STIFF = 1e3  # ratio of decaying rates from which a limit of steps is laid to stiffness


class Forensics(Result):
    r"""What is known of B members that did not reach their ends, of N.

    - `members`, shape (B,): their numbers; 0 for a single evolution. `codes`: their `OutcomeKind`.
    - `at`, shape (B,): when, as the outcome has it; where it does not, the time of the last good state.
    - `states`, shape (B, d): the last good ones. `components`, shape (B,): the coordinate that changes fastest for its
      size; `rates`, shape (B,): |v_i|/(1 + |x_i|) of it.
    - `fastest`, shape (B,): the largest |lambda|; `growth`: the largest Re lambda (|lambda| of a map); `stiffness`: of
      the rates |Re lambda| that are not 0, the fastest that decays over the slowest (1 where none decays; NaN of a map).
    - `taken`, `rejected`, shape (B,): steps, -1 where they were not counted.
    """

    members: Int[Array, " B"]
    codes: Int[Array, " B"]
    at: Float[Array, " B"]
    states: Float[Array, "B d"]
    components: Int[Array, " B"]
    rates: Float[Array, " B"]
    fastest: Float[Array, " B"]
    growth: Float[Array, " B"]
    stiffness: Float[Array, " B"]
    taken: Int[Array, " B"]
    rejected: Int[Array, " B"]
    count: int = eqx.field(static=True)

    @property
    def remedies(self) -> list[str]:
        """For each member, what to try."""
        return [self._remedy(i) for i in range(len(self.members))]

    def _remedy(self, i: int) -> str:
        kind = OutcomeKind(int(self.codes[i]))
        if kind in (OutcomeKind.STEP_LIMIT, OutcomeKind.STIFF) and float(self.stiffness[i]) > _STIFF:
            return "stiff: try method=diffrax.Kvaerno5()"
        if kind == OutcomeKind.STEP_LIMIT and float(self.growth[i]) > 0.5 * float(self.fastest[i]):
            return "it grows: end times before it escapes, or bound the system"
        return outcome(kind).advice

    def rows(self) -> list[Row]:
        found = [Row("broken", f"{len(self.members)} of {self.count}")]
        for i, member in enumerate(np.asarray(self.members)[:_LISTED]):
            name = OutcomeKind(int(self.codes[i])).name.lower()
            stiffness = float(self.stiffness[i])
            parts = [
                f"{name} at {number(float(self.at[i]))}",
                f"component {int(self.components[i])} = {number(float(self.states[i, int(self.components[i])]))}",
                f"fastest rate {float(self.fastest[i]):.3g}, growth {float(self.growth[i]):.3g}",
                *([f"stiffness {stiffness:.3g}"] if np.isfinite(stiffness) else []),
                *([f"{int(self.taken[i])} steps, {int(self.rejected[i])} rejected"] if int(self.taken[i]) >= 0 else []),
                self._remedy(i),
            ]
            found.append(Row(f"member {member}", "; ".join(parts)))
        return found

    @property
    def cautions(self) -> tuple[str, ...]:
        more = len(self.members) - _LISTED
        return (f"{more} more members broke",) if more > 0 else ()


def forensics(system: Any, trajectory: Any, *, batched_system: Checked[bool] = False) -> Forensics:
    r"""Return where, when and why evolutions broke, member by member.

    **Arguments:**

    - `system`: the `Flow`, `SDE` (its drift is asked) or `Map` that was evolved. `batched_system`: as in `ensemble`.
    - `trajectory`: what `evolve` or `ensemble` returned, also from inside `jit` and `vmap`, with at most one batch axis.

    **Returns:** a `Forensics`, empty where all reached their ends.

    **Raises:** `TypeError` for anything but a system and a trajectory, and while tracing; `ValueError` for more batch axes.

    **Example:** of three members x' = k x^2 from 1 the second escapes at t = 1/k = 0.5.

    >>> import equinox as eqx, jax.numpy as jnp, separatrix as sx
    >>> class Escaping(sx.Flow):
    ...     k: jnp.ndarray
    ...     def velocity(self, t, x):
    ...         return jnp.stack([-x[0], self.k * x[1] ** 2])
    >>> family = eqx.filter_vmap(Escaping)(jnp.array([0.1, 2.0, 0.3]))
    >>> paths = sx.ensemble(family, jnp.ones((3, 2)), times=(0.0, 1.0), batched_system=True)
    >>> found = sx.diagnostics.forensics(family, paths, batched_system=True)
    >>> found.members.tolist(), found.components.tolist(), round(float(found.at[0]), 3)
    ([1], [1], 0.5)

    **Reference:** Hairer & Wanner, *Solving Ordinary Differential Equations II* (1996), section IV.1, for stiffness.
    """
    kind = kind_of(system)
    if not isinstance(trajectory, Trajectory) or is_traced(trajectory):
        got = "a traced trajectory" if isinstance(trajectory, Trajectory) else type(trajectory).__name__
        do = "Return it from the jitted function, and ask then."
        raise TypeError(explain("forensics: trajectory", got, "what evolve or ensemble returned", do))
    codes = np.asarray(trajectory.outcome.code)
    if codes.ndim > 1:
        do = "Ask one row of it: jax.tree.map(lambda leaf: leaf[0], trajectory)."
        raise ValueError(explain("forensics: trajectory", f"batch axes {codes.shape}", "none or one", do))
    batched = codes.ndim == 1
    reached = np.atleast_1d(np.asarray(trajectory.outcome.reached))
    broken = np.flatnonzero(~reached)

    def lifted(value: Any) -> np.ndarray:
        return np.atleast_1d(np.asarray(value))[broken]

    states, rates, spectra = [], [], []
    for member in map(int, broken):
        own = _row(trajectory.last, member) if batched else trajectory.last
        one = _row(system, member) if batched_system else system
        time = lifted(trajectory.last_time)[len(states)]
        jacobian = Jacobian(one, own, at=jnp.asarray(time))
        point, moved = np.asarray(as_vector(own)), np.asarray(_velocity(one, own, jnp.asarray(time)))
        states.append(point)
        rates.append(np.abs(moved) / (1 + np.abs(point)))
        matrix = np.asarray(jacobian.matrix())
        spectra.append(np.linalg.eigvals(matrix) if np.isfinite(matrix).all() else np.full(len(point), np.nan))
    at, last = lifted(trajectory.outcome.at), lifted(trajectory.last_time)
    first = _row(trajectory.last, 0) if batched else trajectory.last
    width = as_vector(first).size
    sizes = np.array(rates).reshape(-1, width)
    worst = np.argmax(np.where(np.isfinite(sizes), sizes, np.inf), axis=1) if len(broken) else np.zeros(0, int)
    taken, rejected = (_counted(trajectory.stats, name, broken) for name in ("accepted", "rejected"))
    numbers = [_fast(values, kind) for values in spectra]
    fastest, growth, stiffness = (np.array([row[j] for row in numbers], float) for j in range(3))
    return Forensics(
        jnp.asarray(broken), jnp.asarray(np.atleast_1d(codes)[broken]), jnp.asarray(np.where(np.isfinite(at), at, last)),
        jnp.asarray(np.array(states).reshape(-1, width)), jnp.asarray(worst),
        jnp.asarray(sizes[np.arange(len(broken)), worst] if len(broken) else np.zeros(0)), jnp.asarray(fastest),
        jnp.asarray(growth), jnp.asarray(stiffness), jnp.asarray(taken), jnp.asarray(rejected), len(reached),
    )  # fmt: skip


def _row(tree: Any, member: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[member] if eqx.is_array(leaf) else leaf, tree)


@eqx.filter_jit
def _velocity(system: Any, state: Any, at: Any) -> Any:
    kind = kind_of(system)
    if kind == "map":
        return as_vector(system.step(at, state)) - as_vector(state)
    return as_vector(system.velocity(at, state) if kind == "flow" else system.drift(at, state))


def _fast(values: np.ndarray, kind: str) -> tuple[float, float, float]:
    """The largest size, the largest growth, and how many times faster than the slowest the fastest decays."""
    fastest = float(np.max(np.abs(values)))
    if kind == "map":
        return fastest, fastest, float("nan")
    speeds = np.abs(np.real(values))
    decaying = speeds[np.real(values) < 0]
    ratio = float(decaying.max() / speeds[speeds > 0].min()) if len(decaying) else 1.0
    return fastest, float(np.max(np.real(values))), ratio


def _counted(stats: dict[str, Any], name: str, broken: np.ndarray) -> np.ndarray:
    found = stats.get(name)
    if found is None:
        return np.full(len(broken), -1)
    return np.atleast_1d(np.asarray(found))[broken].astype(int)
