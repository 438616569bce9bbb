r"""Parallel in time: the sequence x[n+1] = F(n, x[n]) as one equation, solved by Newton's method.

Each round evaluates F and its Jacobian at all steps at once and solves the linearised recurrence by one associative
scan (`_newton`). A contracting map takes a handful of rounds whatever the length; for a chaotic one the horizon of
prediction moves forward from round to round, and N rounds always suffice.

The gradient is that of the solution, not of the rounds. Along x[n+1] = F_theta(n, x[n]),

    dx[n+1] = DF(n, x[n]) dx[n] + (dF/dtheta) dtheta,

one linear recurrence, whose transpose is the adjoint recurrence, run backwards; for the full Jacobian both are scans in
log N rounds as well.
"""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype, is_inexact, poison
from separatrix._types import Key, State
from separatrix.evolution._closed_step import closed_step, key_of_step
from separatrix.evolution._sequence import Settings, sequence
from separatrix.evolution.maps import times_of_steps
from separatrix.evolution.save import Save, saved_steps, take_rows
from separatrix.systems.map import Map
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome

VARIANTS = ("full", "diagonal", "damped")


class Parallel(eqx.Module):
    r"""Evolve a map by Newton's method over its whole sequence: `evolve(map, state, steps=N, method=Parallel())`.

    **Arguments:**

    - `variant`: `"full"` solves with the Jacobian J (N d^2 numbers, d^3 operations a step and round); `"diagonal"` with
      its diagonal (N d); `"damped"` with (1 - k) J, k = `damping` x min(1, residual), for maps on which `"full"`
      overshoots. All end at the same sequence.
    - `max_iterations`: rounds; by default as many as steps, which suffice for any map.
    - `tol`: on |x[n+1] - F(n, x[n])| / (1 + |F(n, x[n])|), largest component, every step. By default 100 eps of
      the state's dtype: a few roundings of a step whose Jacobian is of order ten.
    - `damping`: in [0, 1). Proportional to the residual, so that the last rounds are Newton's.
    - `probes`: of `"diagonal"`: 0 takes the exact diagonal by d products; p > 0 estimates it from p random signs,
      exactly where J is diagonal.

    **Raises:** `ValueError` for values outside these.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> cell = sx.as_map(lambda x: jnp.tanh(0.9 * x + 0.1))
    >>> path = sx.evolve(cell, jnp.ones(3), steps=100, method=sx.Parallel())
    >>> str(path.outcome), int(path.stats["iterations"]) < 10
    ('completed', True)

    **Reference:** Lim et al., *Parallelizing non-linear sequential models over the sequence length* (2024), section 3
    (DEER); Gonzalez et al., *Towards scalable and stable parallelization of nonlinear RNNs* (2024): quasi-DEER in
    section 3, the damping in the form of its appendix A.4 (Scale-ELK).
    """

    variant: Literal["full", "diagonal", "damped"] = eqx.field(default="full", static=True)
    max_iterations: int | None = eqx.field(default=None, static=True)
    tol: float | None = eqx.field(default=None, static=True)
    damping: float = eqx.field(default=0.5, static=True)
    probes: int = eqx.field(default=0, static=True)

    def __check_init__(self) -> None:
        _require(self.variant in VARIANTS, "variant", self.variant, 'one of "full", "diagonal", "damped"')
        _require(self.max_iterations is None or self.max_iterations >= 1, "max_iterations", self.max_iterations, ">= 1")
        _require(self.tol is None or self.tol > 0, "tol", self.tol, "> 0")
        _require(0 <= self.damping < 1, "damping", self.damping, "in [0, 1)")
        _require(self.probes >= 0, "probes", self.probes, ">= 0")


class Sequence(NamedTuple):
    """The states x[0], ..., x[N] with a leading axis, and how they were found.

    `settled` counts the leading steps that meet the tolerance; `broken` says that the next one is not finite.
    """

    states: State
    iterations: Int[Array, ""]
    residual: Float[Array, ""]
    settled: Int[Array, ""]
    broken: Bool[Array, ""]

    @property
    def converged(self) -> Bool[Array, ""]:
        """Whether every step meets the tolerance."""
        return self.settled == jax.tree.leaves(self.states)[0].shape[0] - 1


def evolve_parallel(
    map: Map, state: State, steps: int, method: Parallel, *, key: Key | None = None, start: int = 0
) -> Sequence:
    r"""Solve x[n+1] = F(n, x[n]), n = start, ..., start + steps - 1, for the whole sequence at once.

    **Arguments:**

    - `map`, `state`, `steps`, `key`, `start`: as for `evolve`. Integer leaves are carried along (counters exactly);
      at least one leaf must be floating point. Step n draws from `fold_in(key, n)`.
    - `method`: which `Parallel`.

    **Returns:** a `Sequence`. Differentiable in forward and reverse mode with respect to the state and to all that the
    map depends on, at the cost of one linear recurrence.

    **Raises:** `ValueError` for a state without floating-point leaves.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> from separatrix.evolution.parallel import evolve_parallel
    >>> found = evolve_parallel(sx.as_map(lambda x: 0.5 * x), jnp.array(8.0), 3, sx.Parallel())
    >>> found.states.tolist(), int(found.iterations)
    ([8.0, 4.0, 2.0, 1.0], 1)

    **Reference:** as for `Parallel`.
    """
    state = asarrays(state)
    if not any(is_inexact(leaf) for leaf in jax.tree.leaves(state)):
        raise ValueError(
            explain(
                "Parallel: state",
                "integers only",
                "at least one floating-point leaf",
                "Newton's method needs derivatives: evolve this map without method=.",
            )
        )
    return _evolve(map, state, key, jnp.asarray(start), steps, method)


def evolve_parallel_map(
    map: Map, state: State, *, steps: int, method: Parallel, key: Key | None, save: Save, start: int
) -> Trajectory:
    """`evolve` for a map with `method=Parallel(...)`; rows past a step that did not settle are NaN."""
    targets = saved_steps(save.at, start, steps)
    found = evolve_parallel(map, state, steps, method, key=key, start=start)
    kept = take_rows(found.states, targets - start)
    rows = jax.vmap(poison)(jnp.asarray(targets - start) <= found.settled, jax.vmap(save.fn)(kept))
    last = jax.tree.map(lambda leaf: leaf[found.settled], found.states)
    failed = jnp.where(found.broken, int(OutcomeKind.NON_FINITE), int(OutcomeKind.STEP_LIMIT))
    kind = jnp.where(found.converged, int(OutcomeKind.COMPLETED), failed)
    at = times_of_steps(map, start + found.settled + found.broken.astype(int), state).astype(jnp.zeros(()).dtype)
    ended = outcome(kind, jnp.where(found.converged, jnp.nan, at))
    stats = {
        "steps": found.settled,
        "start": jnp.asarray(start),
        "iterations": found.iterations,
        "residual": found.residual,
    }
    last_time = times_of_steps(map, start + found.settled, state)
    return Trajectory(times_of_steps(map, targets, state), rows, last, last_time, ended, stats)


@eqx.filter_jit
def _evolve(map: Map, state: State, key: Key | None, start: Any, steps: int, method: Parallel) -> Sequence:
    if steps == 0:
        zero = jnp.asarray(0)
        return Sequence(_stack(state, None), zero, jnp.zeros((), float_dtype(state)), zero, jnp.asarray(False))
    step = closed_step(map, state, key_of_step(key, start))
    numbers = start + jnp.arange(steps)
    keys = None if key is None else jax.vmap(lambda n: key_of_step(key, n))(numbers)
    settings = Settings(
        method.variant == "diagonal",
        method.probes,
        _tolerance(method, state),
        method.damping if method.variant == "damped" else 0.0,
        method.max_iterations or steps,
    )
    rows, *rest = sequence(step, state, numbers, keys, settings=settings)
    return Sequence(_stack(state, rows), *rest)


def _tolerance(method: Parallel, state: State) -> float:
    return 100 * float(jnp.finfo(float_dtype(state)).eps) if method.tol is None else method.tol


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise ValueError(explain(f"Parallel: {name}", repr(got), expected, f"Choose another {name}, or leave it out."))


def _stack(state: State, rows: Any) -> State:
    first = jax.tree.map(lambda leaf: leaf[None], state)
    return first if rows is None else jax.tree.map(lambda x, y: jnp.concatenate([x, y]), first, rows)
