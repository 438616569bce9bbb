r"""Volume and area along a trajectory: what a step, or a flow, does to dx_1 ... dx_d and to dq ^ dp.

    volume          log |det D Phi| = int div f dt                      (Liouville, for a flow)
    area            J^T Omega J = c Omega,   Omega = ((0, 1), (-1, 0))   c = 1: symplectic; c a constant: conformal
                    J^T Omega + Omega J = c Omega                        (a flow; c = 0: Hamiltonian)

A conformal c < 1 is friction: heavy ball multiplies areas by 1 - a h a step, and volume by its d-th power.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Key, Scalar, State
from separatrix.calculus import TangentState, limit, tangent
from separatrix.diagnostics.along.invariants import line
from separatrix.diagnostics.checks import checked_state
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.linear.coordinates import Jacobian, as_vector, from_vector, kind_of
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.trajectory import OutcomeKind, Trajectory

_DENSE = 512


class VolumeDrift(Result):
    r"""Logarithm of a small volume carried along a trajectory of T rows.

    - `times`, shape (T,). `log_volume`, shape (T,): log |det D Phi| from the first row to each.
    - `divergence`, shape (T,): what Liouville's theorem says, int div f dt: of the flow itself, or of the limit of a
      near-identity map (sum of h div f); NaN for other maps.
    - `rate`, `rate_error`: slope of `log_volume` and its standard error, per unit of `times`: the sum of the exponents.
    - `residual`: largest |log_volume - divergence|: the error of the solves for a flow, of order h for a map.
    """

    times: Float[Array, " T"]
    log_volume: Float[Array, " T"]
    divergence: Float[Array, " T"]
    rate: Float[Array, ""]
    rate_error: Float[Array, ""]
    residual: Float[Array, ""]
    kind: str = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        rows = [
            Row("log volume at the end", self.log_volume[-1]),
            Row("rate", self.rate, self.rate_error),
        ]
        if np.isfinite(self.residual):
            name = "against the divergence" if self.kind == "flow" else "against the divergence of the limit"
            rows.append(Row(name, self.residual))
        return rows

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if np.isnan(self.rate):
            found.append("not known: a step is singular, or the trajectory broke before its end")
        if self.kind == "flow" and self.residual > 1e-3 * (1 + float(np.max(np.abs(self.log_volume)))):
            found.append(f"Liouville's theorem is missed by {float(self.residual):.2g}: save more rows")
        if self.single_precision:
            found.append("float32: each step's determinant is good to six digits")
        return tuple(found)


class Symplecticity(Result):
    r"""What a step or a velocity does to area dq ^ dp, at one state of d = 2n coordinates.

    - `defect`: |J^T Omega J - Omega| (a map), |J^T Omega + Omega J| (a flow), Frobenius: 0 if symplectic, Hamiltonian.
    - `factor`: the c nearest to J^T Omega J = c Omega. `conformal_defect`: the norm of what is left: 0 if conformal.
      With d = 2 it is always 0 and c = det J, or the divergence.
    - `determinant`: det J, or tr J of a flow: c^n, or n c, if conformal.
    """

    defect: Float[Array, ""]
    factor: Float[Array, ""]
    conformal_defect: Float[Array, ""]
    determinant: Float[Array, ""]
    kind: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row("symplecticity defect", self.defect),
            Row("conformal factor" if self.kind == "map" else "conformal rate", self.factor),
            Row("conformal defect", self.conformal_defect),
            Row("determinant" if self.kind == "map" else "divergence", self.determinant),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if self.size == 2:
            found.append("two coordinates: any map is conformal in the plane at a point; ask whether the factor varies")
        if self.single_precision:
            found.append("float32: a defect below 1e-6 of the Jacobian's square is rounding")
        return tuple(found)


def volume_drift(system: Any, trajectory: Any, *, key: Key | None = None) -> VolumeDrift:
    r"""Return what becomes of a small volume along a trajectory.

        log |det D Phi|,    against int div f dt

    **Arguments:**

    - `system`: the `Map` or `Flow` that the trajectory is of. A flow solved at fixed steps is a map: pass
      `discretize(flow, method, step_size)` to see the volume that the method keeps, the flow for that of the flow.
    - `trajectory`: a `Trajectory` with whole states: every step of a map; of a flow as many times as resolve it.
    - `key`: the key of a random map's evolution.

    **Returns:** a `VolumeDrift`.

    **Raises:** `TypeError` for an SDE, `ValueError` for rows that are not one step apart or more than 512 coordinates.

    **Example:** the Henon map contracts areas by 0.3 a step, everywhere.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> henon = sx.catalogue.entry("henon").build()
    >>> path = sx.evolve(henon, jnp.array([0.1, 0.1]), steps=100)
    >>> round(float(jnp.exp(sx.volume_drift(henon, path).rate)), 12)
    0.3

    **Reference:** Arnold, *Ordinary Differential Equations* (1973), section 27, for Liouville's theorem.
    """
    kind, size = _check(system, trajectory)
    parts = _map_volumes if kind == "map" else _flow_volumes
    steps, rates = parts(system, trajectory, key, size)
    log_volume, divergence = (jnp.concatenate([jnp.zeros(1, p.dtype), jnp.cumsum(p)]) for p in (steps, rates))
    times = trajectory.times.astype(log_volume.dtype)
    ended = trajectory.outcome
    asked = jnp.where(ended == OutcomeKind.EVENT, times <= ended.at.astype(times.dtype), True)
    log_volume, divergence = (jnp.where(asked & ended.reached, part, jnp.nan) for part in (log_volume, divergence))
    # A singular step leaves no volume, and a run that broke none that is known; rows past an event do not count.
    whole = ended.reached & jnp.all(jnp.isfinite(log_volume) | ~asked)
    rate, error, _ = jax.jit(line)(times, jnp.nan_to_num(log_volume), jnp.isfinite(log_volume))
    rate, error = (jnp.where(whole, part, jnp.nan) for part in (rate, error))
    residual = jnp.max(jnp.where(asked, jnp.abs(log_volume - divergence), 0))
    single = log_volume.dtype == jnp.float32
    return VolumeDrift(times, log_volume, divergence, rate, error, residual, kind, single)


def _check(system: Any, trajectory: Any) -> tuple[str, int]:
    kind = kind_of(system)
    if kind == "sde":
        raise TypeError(explain("volume_drift: system", "an SDE", "a Map or Flow", "Ask its drift, or discretise it."))
    if not isinstance(trajectory, Trajectory) or trajectory.times.ndim != 1 or len(trajectory) < 4:
        do = "Pass what evolve returned for a single start."
        raise ValueError(explain("volume_drift: trajectory", trajectory, "one Trajectory of 4 rows or more", do))
    first = jax.tree.map(lambda leaf: leaf[0], trajectory.states)
    size = jax.eval_shape(as_vector, first).shape[0]
    if size > _DENSE:
        do = "Ask lyapunov_spectrum for the leading exponents."
        raise ValueError(explain("volume_drift: state", f"{size} coordinates", f"at most {_DENSE}", do))
    if kind == "map" and not is_traced(trajectory.times):
        step = float(system.step_size) if isinstance(system, NearIdentityMap) else 1.0
        gaps = np.diff(np.asarray(trajectory.times, float))
        if np.any(np.abs(gaps - step) > 1e-3 * step):
            got, do = f"rows {gaps.min():.4g} to {gaps.max():.4g} apart", 'Keep every step: evolve(..., save="all").'
            raise ValueError(explain("volume_drift: trajectory", got, f"one step of {step:.4g} between rows", do))
    return kind, size


@eqx.filter_jit
def _map_volumes(map: Any, trajectory: Trajectory, key: Any, size: int) -> tuple[Any, Any]:
    """log |det J| of each step, and h div f of the limit."""
    near = isinstance(map, NearIdentityMap)
    dtype = float_dtype(trajectory.states)
    step_size = jnp.asarray(map.step_size if near else 1, dtype)
    numbers = jnp.rint(trajectory.times / step_size).astype(int) if near else trajectory.times.astype(int)

    def one(n: Any, t: Any, x: State) -> tuple[Any, Any]:
        noise = None if key is None else jax.random.fold_in(key, n)
        volume = jnp.linalg.slogdet(Jacobian(map, x, at=n, key=noise).matrix())[1]
        if not near:
            return volume, jnp.full_like(volume, jnp.nan)
        return volume, step_size * jnp.trace(Jacobian(limit(map), x, at=t).matrix())

    before = jax.tree.map(lambda leaf: leaf[:-1], (numbers, trajectory.times, trajectory.states))
    return jax.vmap(one)(*before)


class _WithDivergence(Flow):
    """(x, V, l)' = (f, Df V, div f)."""

    flow: Flow

    def velocity(self, t: Scalar, state: State) -> State:
        carried, _ = state
        moving: Any = tangent(self.flow)
        moved = moving.velocity(t, carried)
        return moved, jnp.trace(Jacobian(self.flow, carried.point, at=t).matrix())


@eqx.filter_jit
def _flow_volumes(flow: Any, trajectory: Trajectory, key: Any, size: int) -> tuple[Any, Any]:
    """log |det V| of V' = Df V, and int div f, from each row to the next."""

    def one(t: Any, after: Any, x: State) -> tuple[Any, Any]:
        vector = as_vector(x)
        basis = jax.vmap(lambda unit: from_vector(unit, x))(jnp.eye(size, dtype=vector.dtype))
        start = (TangentState(x, basis), jnp.zeros((), vector.dtype))
        tight = 100 * float(jnp.finfo(vector.dtype).eps) ** 0.75
        (carried, volume) = evolve(_WithDivergence(flow), start, times=jnp.stack([t, after]), save="last",
                                   rtol=tight, atol=tight).final  # fmt: skip
        columns = jax.vmap(as_vector)(carried.perturbation)
        return jnp.linalg.slogdet(columns)[1], volume

    times, dtype = trajectory.times, float_dtype(trajectory.states)
    states = jax.tree.map(lambda leaf: leaf[:-1], trajectory.states)
    return jax.vmap(one)(times[:-1].astype(dtype), times[1:].astype(dtype), states)


def symplecticity(system: Any, state: Any, *, at: Any = 0, key: Key | None = None) -> Symplecticity:
    r"""Return how far a step is from keeping area dq ^ dp, or from scaling it.

        J^T Omega J = c Omega  (a map),      J^T Omega + Omega J = c Omega  (a flow)

    **Arguments:**

    - `system`: a `Map` or `Flow`.
    - `state`: a pair (position, velocity) of equal forms, as a `PhasePoint`; or an array of 2n numbers, positions first.
      512 coordinates at most.
    - `at`, `key`: step number or time, and randomness.

    **Returns:** a `Symplecticity`.

    **Raises:** `TypeError` for an SDE; `ValueError` for a state that is no pair.

    **Example:** heavy ball multiplies areas by its momentum.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> ball = sx.optimization.HeavyBall(sx.optimization.Himmelblau(), learning_rate=1e-3, momentum=0.9)
    >>> found = sx.symplecticity(ball, ball.init(jnp.array([1.0, 2.0])))
    >>> round(float(found.factor), 12), float(found.conformal_defect) < 1e-14
    (0.9, True)

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), chapter VI; Franca, Sulam, Robinson &
    Vidal, *Conformal symplectic and relativistic optimization* (2020).
    """
    kind = kind_of(system)
    if kind == "sde":
        raise TypeError(explain("symplecticity: system", "an SDE", "a Map or Flow", "Ask its drift, as a flow."))
    checked_state("symplecticity: state", state)
    half = _half(state)
    jacobian = Jacobian(system, state, at=at, key=key)
    matrix = jacobian.matrix()
    one, zero = jnp.eye(half, dtype=matrix.dtype), jnp.zeros((half, half), matrix.dtype)
    form = jnp.block([[zero, one], [-one, zero]])
    pulled = matrix.T @ form @ matrix if kind == "map" else matrix.T @ form + form @ matrix
    factor = jnp.sum(pulled * form) / (2 * half)
    whole = pulled - form if kind == "map" else pulled
    return Symplecticity(
        jnp.linalg.norm(whole), factor, jnp.linalg.norm(pulled - factor * form),
        jnp.linalg.det(matrix) if kind == "map" else jnp.trace(matrix),
        kind, 2 * half, matrix.dtype == jnp.float32,
    )  # fmt: skip


def _half(state: Any) -> int:
    """The number of positions."""
    pair = isinstance(state, tuple) and len(state) == 2
    if pair and jax.tree.structure(state[0]) == jax.tree.structure(state[1]):
        sizes = [jax.eval_shape(as_vector, part).shape[0] for part in state]
    elif pair:
        sizes = [0, 1]
    else:
        size = jax.eval_shape(as_vector, state).shape[0]
        sizes = [size // 2, size - size // 2]
    if sizes[0] != sizes[1]:
        do = "Pass (position, velocity), of equal forms."
        raise ValueError(explain("symplecticity: state", f"parts of {sizes} coordinates", "two equal halves", do))
    if 2 * sizes[0] > _DENSE:
        do = "Ask it of a smaller instance."
        raise ValueError(explain("symplecticity: state", f"{2 * sizes[0]} coordinates", f"at most {_DENSE}", do))
    return sizes[0]
