r"""Gradients through time or depth: what vanishes, what explodes, and how far back.

    lambda[n] = J[n]^T lambda[n+1],      P[n] = J[N-1] ... J[n],      lambda[n] = P[n]^T lambda[N]

The norms of the costate say what becomes of one gradient, the singular values of P[n] of all of them. A block of
costates is carried back and brought to orthonormal at each step,

    J[n]^T Q[n+1] = Q[n] R[n],      P[n]^T Q[N] = Q[n] (R[n] ... R[N-1]),

so that the small triangular product has the singular values of P[n] restricted to the block, kept in logarithms. Where the
block is the whole space they are those of P[n]; where it is smaller it is turned to the leading directions of P[0] by
sweeps forth and back, until residuals bound what is left to find (`_leading.py`). In the long run ln s_i / N are the
Lyapunov exponents.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced, poison
from separatrix._types import Key, State
from separatrix.calculus.adjoints import AdjointFlow, adjoint
from separatrix.diagnostics.along._leading_directions import BLOCKS, leading
from separatrix.diagnostics.along._transport import BackwardSweep, FlowTransport, MapTransport, start_of
from separatrix.diagnostics.applies import FORMED, SMALL
from separatrix.diagnostics.checks import check_count, check_key, checked_state
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import Question, register
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.linear.coordinates import as_vector, dimension_of
from separatrix.linear.log_svd import NEVER, log_singular_values, unit
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.trajectory import Trajectory

# Up to here the block is the whole space.
_WHOLE = 64
# Columns beside those asked for: they speed up the sweeps, and give the mean square its error.
_BESIDE = 8
_BATCHES = 32
# Of the costates of a flow between two rows; in single precision what it can hold.
_RTOL = 1e-9
# How far ln s may be off for the sweeps to end.
_TOL = 1e-3

# By name: 200 steps of a map, all of a finite one.
_MOST_GRADIENTS, _GRADIENT_STEPS = 10_000, 200
# A gradient that is a thousand times smaller is below the noise of a batch; one so much larger undoes what was learned.
_GRADIENT = 1e3


class GradientProfile(Result):
    r"""Gradients along a trajectory of N steps, row n at step (or time) n; all in natural logarithms.

    - `times`, shape (N + 1,). `log_norms`: ln |lambda[n]|; without a cotangent, of the root mean square over unit ones.
    - `log_singular_values`, shape (N + 1, k): the leading ones of P[n]; `log_smallest`: the smallest, NaN where the block
      is not the whole space. `changes`, shape (k,): a bound on how far those of P[0] are off, from their residuals; 0
      where they are exact.
    - `log_mean_square`: ln (|P[n]|_F^2/d), the mean squared singular value; `mean_square_error`: its relative error.
    - `growth_rate`, `growth_error`: of a gradient, in nats a step (or unit of time) back, with the error over batches.
    """

    times: Float[Array, "*batch rows"]
    log_norms: Float[Array, "*batch rows"]
    log_singular_values: Float[Array, "*batch rows k"]
    log_smallest: Float[Array, "*batch rows"]
    changes: Float[Array, "*batch k"]
    log_mean_square: Float[Array, "*batch rows"]
    mean_square_error: Float[Array, "*batch rows"]
    growth_rate: Float[Array, "*batch"]
    growth_error: Float[Array, "*batch"]
    size: int = eqx.field(static=True)
    whole: bool = eqx.field(static=True)

    @property
    def norms(self) -> Float[Array, "*batch rows"]:
        """|lambda[n]|: 0 or infinite where a float holds it no more."""
        return jnp.exp(self.log_norms)

    @property
    def singular_values(self) -> Float[Array, "*batch rows k"]:
        """The leading singular values of P[n]."""
        return jnp.exp(self.log_singular_values)

    @property
    def log_spread(self) -> Float[Array, "*batch rows"]:
        """ln (s_1/s_d), 0 for an isometry; to the last one in the block where that is not the whole space."""
        last = self.log_smallest if self.whole else self.log_singular_values[..., -1]
        return self.log_singular_values[..., 0] - last

    def vanishing_horizon(self, threshold: float = 1e-3) -> Float[Array, "*batch"]:
        """Return how far back a gradient is below `threshold` of its size, for good; infinite if nowhere."""
        _require_positive("vanishing_horizon", threshold)
        return _horizon(self.times, self.log_norms, jnp.asarray(np.log(threshold), self.times.dtype), True)

    def exploding_horizon(self, threshold: float = 1e3) -> Float[Array, "*batch"]:
        """Return how far back a gradient is first above `threshold` times its size; infinite if nowhere."""
        _require_positive("exploding_horizon", threshold)
        return _horizon(self.times, self.log_norms, jnp.asarray(np.log(threshold), self.times.dtype), False)

    @property
    def verdict(self) -> str:
        """Return "vanishes", "explodes" or "persists": the sign of the growth rate, if two standard errors clear of 0."""
        rate, error = float(self.growth_rate), float(np.nan_to_num(self.growth_error))
        if not np.isfinite(rate):
            return "unknown"
        if abs(rate) <= max(2 * error, 1e-12):
            return "persists"
        return "explodes" if rate > 0 else "vanishes"

    def rows(self) -> list[Row]:
        span = float(self.times[-1] - self.times[0])
        return [
            Row("verdict", f"{self.verdict} (over {span:g}, {self.size} coordinates)"),
            Row("growth rate, nats", self.growth_rate, self.growth_error),
            Row("ln of the gradient at the start over that at the end", self.log_norms[0] - self.log_norms[-1]),
            Row("ln of singular values of the whole", self.log_singular_values[0]),
            Row("ln of their mean square", self.log_mean_square[0], self.mean_square_error[0]),
            Row("below 1e-3 of its size from", self.vanishing_horizon()),
            Row("above 1e3 of its size from", self.exploding_horizon()),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if np.isnan(self.log_norms).any() or np.isnan(self.log_singular_values).any():
            return ("not known: the trajectory broke before its end, or a Jacobian is not defined on it",)
        if np.any(~(np.asarray(self.changes) <= 1e-2)):
            worst = float(np.max(self.changes))
            found.append(f"singular values did not settle: ln s of the whole may be off by {worst:.2g}; raise sweeps")
        if not self.whole:
            found.append(
                "singular values of the part from n > 0 on are those on the block that serves the whole: lower bounds"
            )
        if np.isnan(self.growth_error).any():
            found.append("too short for an error of the growth rate: 16 steps or more give one")
        return tuple(found)


@eqx.filter_jit
def _horizon(times: Array, log_norms: Array, bound: Any, vanishing: bool) -> Array:
    """How far back a gradient is first above the bound, or below it for good; not known where the norms are not."""
    # From the end back, relative to what it is there.
    relative = (log_norms - log_norms[..., -1:])[..., ::-1]
    holds = relative > bound
    if vanishing:
        holds = jax.lax.cummax(relative, axis=relative.ndim - 1, reverse=True) < bound
    back = (times[..., -1:] - times)[..., ::-1]
    # A gradient of zero stays zero: its ratio to itself says nothing, and it neither grows nor shrinks.
    unknown = jnp.any(jnp.isnan(relative) & ~jnp.isneginf(log_norms[..., ::-1]), axis=-1)
    return jnp.where(unknown, jnp.nan, jnp.min(jnp.where(holds, back, jnp.inf), axis=-1))


def gradient_profile(
    system: Any,
    trajectory: Any,
    cotangent: Any = None,
    *,
    key: Key | None = None,
    count: int = 4,
    intervals: int = 64,
    sweeps: int = 40,
) -> GradientProfile:
    r"""Measure how gradients grow or vanish back through time, or through the layers of a net.

        lambda[n] = J[n]^T lambda[n+1]

    **Arguments:**

    - `system`, `trajectory`: a `Map` and its trajectory with every state, or a `Flow` and one of `dense=True`.
    - `cotangent`: lambda[N], the gradient of a loss in the last state; by default the mean over all unit ones is told.
    - `key`: that of a random map's trajectory.
    - `count`: how many leading singular values. Up to 64 coordinates all are carried, so that they are exact.
    - `intervals`: into how many a flow's time is parted: rows of the profile, and where its block is brought to
      orthonormal.
    - `sweeps`: forth and back at most, for more than 64 coordinates: they end where ln s is known to 1e-3.

    **Returns:** a `GradientProfile`; all NaN along a trajectory that broke before its end. An event is an end.

    **Raises:** `ValueError` for a trajectory that was saved too thinly, a cotangent of another form, a count below 1;
    `TypeError` for an SDE: its discretisation is a random map.

    **Example:** halving one coordinate and doubling another, ten times.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> system = sx.as_map(lambda x: jnp.array([0.5, 2.0]) * x)
    >>> path = sx.evolve(system, jnp.ones(2), steps=10)
    >>> found = sx.gradient_profile(system, path, jnp.array([1.0, 0.0]))
    >>> [[round(float(s), 6) for s in row[:3]] for row in (found.norms, found.singular_values[0])]
    [[0.000977, 0.001953, 0.003906], [1024.0, 0.000977]]

    **Reference:** Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks* (2013), section 2;
    Pennington, Schoenholz & Ganguli, *Resurrecting the sigmoid in deep learning through dynamical isometry* (2017);
    Demmel & Veselic, *Jacobi's method is more accurate than QR* (1992), for singular values of graded matrices.
    """
    check_count("gradient_profile: count", count, 1)
    check_count("gradient_profile: intervals", intervals, 1)
    check_count("gradient_profile: sweeps", sweeps, 1)
    check_key("gradient_profile", key)
    if not isinstance(trajectory, Trajectory):
        got, do = type(trajectory).__name__, "Pass what evolve(system, state, ...) returned."
        raise TypeError(explain("gradient_profile: trajectory", got, "a Trajectory", do))
    back: Any = adjoint(system, _with_all_rows(system, trajectory), key=key)
    final = trajectory.final
    if cotangent is not None:
        cotangent = _form_checked(checked_state("gradient_profile: cotangent", cotangent), final)
    reached, times = trajectory.outcome.reached, trajectory.times
    if isinstance(back, AdjointFlow):
        first, last = times[0], trajectory.last_time.astype(times.dtype)
        times = first + (last - first) * jnp.linspace(0, 1, intervals + 1, dtype=times.dtype)
        back = eqx.tree_at(lambda flow: flow.end, back, last)
        rtol = max(_RTOL, 20 * float(jnp.finfo(float_dtype(final)).eps))
        transports = tuple(FlowTransport(back, times, backward, rtol) for backward in (False, True))
    else:
        transports = tuple(MapTransport(back, backward) for backward in (False, True))
    block = _block_of(dimension_of(final), count)
    # Drawn here: a program that draws takes as long to compile as all the rest.
    drawn = np.random.default_rng(0).standard_normal((dimension_of(final), block.space + 1))
    drawn = jnp.asarray(drawn, float_dtype(final))
    return _profile(transports, times, final, cotangent, drawn, block, jnp.asarray(sweeps), reached)


def _with_all_rows(system: Any, trajectory: Trajectory) -> Trajectory:
    """A run that broke stands at its last good state from there on; what is made of it is blanked by its outcome."""
    if is_traced(trajectory) or bool(trajectory.outcome.reached):
        return trajectory
    missing = len(trajectory) - 1 - int(trajectory.stats["steps"])
    states = trajectory.states
    if missing > 0 and isinstance(system, Map):
        states = jax.tree.map(lambda rows, last: rows.at[-missing:].set(last), states, trajectory.last)
    stats = {**trajectory.stats, "steps": jnp.asarray(len(trajectory) - 1)}
    completed = jnp.zeros_like(trajectory.outcome.code)
    new = (stats, states, completed)
    return eqx.tree_at(lambda path: (path.stats, path.states, path.outcome.code), trajectory, new)


class _Block(NamedTuple):
    """How many singular values are given, how many rows are carried, whether they span the space, and what does."""

    given: int
    rows: int
    whole: bool
    space: int


def _block_of(d: int, count: int) -> _Block:
    rows = d if d <= _WHOLE else min(d, count + _BESIDE)
    return _Block(min(count, d), rows, rows == d, d if rows == d else min(BLOCKS * rows, d))


@eqx.filter_jit
def _profile(
    transports: Any, times: Array, final: Any, cotangent: Any, drawn: Array, block: _Block, sweeps: Any, reached: Any
) -> GradientProfile:
    """All of it as one program."""
    point, steps, (forth, back) = as_vector(final), times.shape[0] - 1, transports
    size, alone = unit(drawn[:, -1] if cotangent is None else as_vector(cotangent).astype(point.dtype))
    size = jnp.zeros_like(size) if cotangent is None else size
    rows = jnp.linalg.qr(drawn[:, :-1])[0].T
    values, squares, square_error, norms = _back(back, steps, start_of(rows[: block.rows], alone, size), block.whole)
    changes = jnp.zeros(block.given, point.dtype)
    if not block.whole:
        found = leading((forth, back), steps, rows, block.rows, (block.given, _TOL, sweeps))
        values, *_ = _back(back, steps, start_of(found.vectors, alone, size), block.whole)
        changes = found.errors[: block.given]
    rate, error = _growth(norms, times)
    values = jnp.where(values < NEVER / 2, -jnp.inf, values)[::-1]
    norms = jnp.where(norms < NEVER / 2, -jnp.inf, norms)[::-1]
    found = GradientProfile(
        times=times.astype(point.dtype),
        log_norms=squares[::-1] / 2 if cotangent is None else norms,
        log_singular_values=values[:, : block.given],
        log_smallest=values[:, -1] if block.whole else jnp.full(steps + 1, jnp.nan, point.dtype),
        changes=changes,
        log_mean_square=squares[::-1],
        mean_square_error=square_error[::-1],
        growth_rate=rate,
        growth_error=error,
        size=point.shape[0],
        whole=block.whole,
    )
    return poison(reached, found)


def _back(transport: Any, steps: int, start: Any, whole: bool) -> tuple[Array, Array, Array, Array]:
    """ln of singular values and of the mean square with its error, ln |v| after each step."""
    path = evolve(BackwardSweep(transport, steps), start, save=lambda state: (state[1], state[2], state[4]))
    logs, mix, norms = path.states
    # One after the other: together each would turn until the slowest has settled.
    values = jax.lax.map(lambda row: log_singular_values(*row), (logs, mix))
    return values, *_mean_squares(logs, mix, whole), norms


def _mean_squares(logs: Array, mix: Array, whole: bool) -> tuple[Array, Array]:
    """ln of the mean squared length of the columns of diag(exp l) U, and its relative error.

    Columns are what became of the vectors of a random block: its mean is that over all directions.
    """
    top = jnp.max(logs, axis=1)
    entries = jnp.exp(logs - top[:, None])[..., None] * mix
    lengths = jnp.sum(entries**2, axis=1)  # (rows, b)
    mean = jnp.mean(lengths, axis=1)
    error = jnp.zeros_like(mean)
    if not whole:
        error = jnp.std(lengths, axis=1, ddof=1) / lengths.shape[1] ** 0.5 / jnp.where(mean > 0, mean, 1)
    tiny = jnp.finfo(mean.dtype).tiny
    return jnp.where(top > NEVER / 2, 2 * top + jnp.log(jnp.maximum(mean, tiny)), -jnp.inf), error


def _growth(norms: Array, times: Array) -> tuple[Array, Array]:
    """Growth of ln |v| a unit of time, and its standard error over equal batches (NaN for fewer than 16 steps)."""
    steps = norms.shape[0] - 1
    span = (times[-1] - times[0]).astype(norms.dtype)
    rate = (norms[-1] - norms[0]) / span
    if steps < 16:
        return rate, jnp.full_like(rate, jnp.nan)
    batches = min(_BATCHES, steps // 4)
    length = steps // batches
    ends = norms[steps - batches * length :: length]
    means = jnp.diff(ends) / (span * length / steps)
    return rate, jnp.std(means, ddof=1) / batches**0.5


def _form_checked(cotangent: Any, final: Any) -> Any:
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (cotangent, final)]
    if shapes[0] != shapes[1]:
        do = "Pass the gradient of the loss in the last state."
        raise ValueError(explain("gradient_profile: cotangent", shapes[0], f"shapes {shapes[1]}", do))
    return cotangent


def _require_positive(what: str, threshold: float) -> None:
    if not threshold > 0:
        raise ValueError(explain(f"{what}: threshold", threshold, "a positive number", "Pass for example 1e-3."))


def _applies(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether gradients are followed back: through maps, larger ones where they end (layers, recorded inputs)."""
    return isinstance(system, Map) and 0 < dimension_of(state) <= (FORMED if isinstance(system, FiniteMap) else SMALL)


def _ask(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> GradientProfile:
    """Gradients back through a short run of a map."""
    if not isinstance(system, Map):
        got, do = type(system).__name__, "Discretise it, or call gradient_profile with a dense trajectory."
        raise TypeError(explain("gradient_profile by name", got, "a Map", do))
    start = int(at)
    steps = system.length - start if isinstance(system, FiniteMap) else _GRADIENT_STEPS
    path = evolve(system, state, steps=min(steps, _MOST_GRADIENTS), start=start, key=key)
    return gradient_profile(system, path, key=key)


def _judge(answer: GradientProfile, system: Any) -> list[Finding]:
    """A gradient does not explode on the way back, nor vanish in a net of layers or over a record of inputs.

    Of a map without end it is asked only not to explode: where an optimiser converges, its gradients vanish. That one
    vanishes says how far back training would feel, and not that what was trained fails: memory that is held by an attractor
    has no gradient left.
    """
    steps = answer.times.shape[0] - 1
    best, norms = np.asarray(answer.log_singular_values)[:, 0], np.asarray(answer.log_norms)
    with np.errstate(over="ignore"):
        ratio, kept = float(np.exp(norms[0] - norms[-1])), float(np.exp(best[0]))
    cause, do = "the run broke before its end, or the gradient was zero from the start", "Ask over fewer steps."
    if not np.isnan(ratio):
        far = float(answer.exploding_horizon(_GRADIENT))
        cause = f"the gradient explodes: at {far:.0f} steps it is a thousand times as large"
        do = "Clip gradients, lower the gain of the steps' Jacobians, or go back fewer steps."
    found = [Finding(f"gradient does not explode over {steps} steps", ratio, "<=", _GRADIENT, cause, do)]
    if isinstance(system, FiniteMap):
        if not np.isnan(kept):
            gone = _gone_for_good(best)
            cause = f"the gradient vanishes: past {gone} steps nothing of it is left, and training does not feel them"
            do = "To train it raise the gain of the steps' Jacobians towards 1: orthogonal weights, residual blocks, gates."
        name = f"gradient does not vanish over {steps} steps"
        found.append(Finding(name, kept, ">=", 1 / _GRADIENT, cause, do, "caution"))
    return found


def _gone_for_good(best: np.ndarray) -> int:
    """From how many steps back on the largest singular value stays below a thousandth; row n is steps n to N."""
    below = np.flatnonzero(np.maximum.accumulate(best) < -np.log(_GRADIENT))
    return len(best) - 1 - int(below[-1]) if below.size else len(best) - 1


register(
    Question(
        "gradient_profile",
        "do gradients come back through a short run of a map?",
        _ask,
        _applies,
        _judge,
        rank=4,
    )
)
