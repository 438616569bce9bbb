"""What an evolution returns: times, states, and how it ended.

An outcome is enumerated and made of arrays, so that it passes through `jit` and `vmap`. `final` is the state at the end
that was asked for, and NaN if the evolution did not get there: so no loss, likelihood or policy can be built on a broken
run unseen. `last` is the last good state.
"""

import enum
import functools
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Shaped

from separatrix._errors import Diverged, explain
from separatrix._tree import is_traced, poison
from separatrix._types import State


class OutcomeKind(enum.IntEnum):
    """How an evolution ended."""

    COMPLETED = 0
    NON_FINITE = 1
    STEP_LIMIT = 2
    ESCAPED = 3
    STIFF = 4
    EVENT = 5
    STOPPED_EARLY = 6
    INTERRUPTED = 7


# Cause and remedy. An end that was asked for needs neither.
_ADVICE = {
    OutcomeKind.COMPLETED: "",
    OutcomeKind.NON_FINITE: (
        "the state stopped being finite: (a) the step size is past the stability edge, (b) the solution grows without "
        "bound, or (c) the system divides by zero or leaves its domain"
    ),
    OutcomeKind.STEP_LIMIT: (
        "the limit of steps or rounds was reached: raise max_steps (max_iterations of Parallel), loosen rtol and atol, or "
        "shorten times"
    ),
    OutcomeKind.ESCAPED: "the solution blows up in finite time, at about the estimate: end times before it",
    OutcomeKind.STIFF: "the system looks stiff: try method=diffrax.Kvaerno5()",
    OutcomeKind.EVENT: "a terminating event came true",
    OutcomeKind.STOPPED_EARLY: "",
    OutcomeKind.INTERRUPTED: "somebody asked to stop: go on from `state`, or by the same call on the same run folder",
}
_REACHED = (OutcomeKind.COMPLETED, OutcomeKind.EVENT, OutcomeKind.STOPPED_EARLY)
_NAMES = tuple(kind.name.lower() for kind in OutcomeKind)


class Outcome(eqx.Module):
    """How an evolution ended: a code, when, and an estimate where one applies.

    `code` is an `OutcomeKind` as an integer array; `at` says when: for a map the number (n h if near the identity) of the
    first step whose result is not finite, for a flow the time past which it could not go or the time of the event;
    `estimate` is the extrapolated blow-up time of an escape. Both are NaN where they do not apply.
    Under `vmap` each has the batch's shape. `outcome == "completed"` compares by name, elementwise in a batch.
    """

    code: Int[Array, "..."]
    at: Float[Array, "..."]
    estimate: Float[Array, "..."]

    @property
    def completed(self) -> Bool[Array, "..."]:
        """Whether the evolution reached its end with finite states throughout."""
        return _among(self.code, OutcomeKind.COMPLETED)

    @property
    def reached(self) -> Bool[Array, "..."]:
        """Whether the evolution reached an end that was asked for: completed, stopped by its event, or early by a rule."""
        return _among(self.code, OutcomeKind.COMPLETED, OutcomeKind.EVENT, OutcomeKind.STOPPED_EARLY)

    @property
    def name(self) -> Any:
        """Lower-case name of the outcome ("completed", "non_finite", ...); a list of names for a batch."""
        codes = np.asarray(self.code)
        return np.vectorize(lambda code: OutcomeKind(code).name.lower(), otypes=[object])(codes).tolist()

    @property
    def advice(self) -> str:
        """Likely causes and what to try; for a batch, those of its first member that did not reach its end."""
        codes = np.ravel(np.asarray(self.code))
        broken = [code for code in codes if OutcomeKind(int(code)) not in _REACHED]
        return _ADVICE[OutcomeKind(int(broken[0] if broken else codes[0]))]

    def __eq__(self, other: object) -> Any:
        if isinstance(other, str):
            if other.lower() not in _NAMES:
                words = ", ".join(f'"{name}"' for name in _NAMES)
                raise ValueError(
                    explain("outcome ==", repr(other), f"one of {words}", "Compare with one of these words.")
                )
            return self.code == int(OutcomeKind[other.upper()])
        if isinstance(other, OutcomeKind):
            return self.code == int(other)
        return bool(eqx.tree_equal(self, other)) if isinstance(other, Outcome) else NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        """The one text of an outcome: what happened and when, the cause and the remedy."""
        if isinstance(self.code, Tracer):
            return "outcome (traced)"
        codes = np.asarray(self.code)
        if codes.ndim:
            kinds, counts = np.unique(codes, return_counts=True)
            text = ", ".join(f"{OutcomeKind(k).name.lower()}: {c}" for k, c in zip(kinds, counts, strict=True))
            return text if bool(np.all(self.reached)) else f"{text}; {self.advice}"
        text = OutcomeKind(int(codes)).name.lower()
        details = [
            f"{key} {float(value):.6g}"
            for key, value in (("at", self.at), ("estimate", self.estimate))
            if np.isfinite(value)
        ]
        text = f"{text} ({', '.join(details)})" if details else text
        return f"{text}; {self.advice}" if self.advice else text

    def __repr__(self) -> str:
        return f"Outcome({self})"


def _among(code: Any, *kinds: OutcomeKind) -> Any:
    """Whether a code is one of these."""
    found = _found_among(code, *kinds)
    return found if isinstance(code, Tracer) else jnp.asarray(found)


def _found_among(code: Any, *kinds: OutcomeKind) -> Any:
    """The same; where the code is known on the host, where nothing is compiled."""
    here = code if isinstance(code, Tracer) else np.asarray(code)
    return functools.reduce(operator.or_, (here == int(kind) for kind in kinds))


def outcome(kind: Any, at: Any = np.nan, estimate: Any = np.nan) -> Outcome:
    """Build an `Outcome` from a kind or a traced code, at a time, with an estimate."""
    if any(isinstance(value, jax.Array) for value in (kind, at, estimate)):
        dtype = jax.dtypes.canonicalize_dtype(float)
        parts = ((kind, np.dtype(np.int32)), (at, dtype), (estimate, dtype))
        return Outcome(*(jnp.asarray(value).astype(dtype) for value, dtype in parts))
    # Numbers of the host are cast there, where nothing is compiled.
    return Outcome(*jax.device_put(outcome_parts(kind, at, estimate)))


def outcome_parts(kind: Any, at: Any = np.nan, estimate: Any = np.nan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an `Outcome` is made of, as arrays of the host."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return np.asarray(kind, np.int32), np.asarray(at, dtype), np.asarray(estimate, dtype)


def finite_until(good: Any, at: Any) -> Outcome:
    """Completed where all was finite, else non-finite at the given time."""
    completed, broken = int(OutcomeKind.COMPLETED), int(OutcomeKind.NON_FINITE)
    if not is_traced(good, at) and np.ndim(good) == 0:
        return outcome(completed) if bool(good) else outcome(broken, np.asarray(at))
    at = jnp.asarray(at).astype(jax.dtypes.canonicalize_dtype(float))
    return outcome(jnp.where(good, completed, broken), jnp.where(good, jnp.nan, at))


class Trajectory(eqx.Module):
    """Times and states of one evolution.

    - `times`: shape (T,): step numbers for a `Map`; n h for a `NearIdentityMap`; times for a `Flow` or `SDE`.
    - `states`: the state (or what `save` computed from it) with a leading axis of length T. Rows past the end of an
      evolution that did not complete are NaN.
    - `final`: the state at the end that was asked for, whatever was saved. An event is such an end. If the evolution did
      not get there, the inexact leaves are NaN, and their derivative is infinite wherever it is asked for.
    - `last`, `last_time`: the last good state, and its time (step number for a `Map`).
    - `outcome`: how it ended.
    - `stats`: counts (steps taken, steps rejected, evaluations, iterations, ...).
    - `interpolation`: a function of time, where dense output was asked for.
    """

    times: Shaped[Array, "*batch times"]
    states: State
    final: State
    last: State
    last_time: Shaped[Array, "..."]
    outcome: Outcome
    stats: dict[str, Any]
    interpolation: Callable[[Any], Any] | None

    def __init__(
        self, times: Any, states: State, last: State, last_time: Any, outcome: Outcome, stats: dict[str, Any],
        interpolation: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        """Make a trajectory of its last good state: `final` follows from the outcome and from nothing else."""
        self.times, self.states, self.last, self.last_time = times, states, last, jnp.asarray(last_time)
        self.final = poison(_found_among(outcome.code, *_REACHED), last)
        self.outcome, self.stats, self.interpolation = outcome, stats, interpolation

    def evaluate(self, t: Any) -> State:
        """Return the state at any time t inside the interval, from dense output.

        **Raises:** `ValueError` if the evolution was not asked for dense output.
        """
        if self.interpolation is None:
            raise ValueError(
                explain(
                    "no dense output",
                    "a trajectory of saved states only",
                    "one with an interpolation",
                    "evolve(..., dense=True) on a Flow",
                )
            )
        return self.interpolation(t)

    def __len__(self) -> int:
        return self.times.shape[-1]

    def __repr__(self) -> str:
        shapes = eqx.tree_pformat(self.states)
        return f"Trajectory({self.outcome}; times {tuple(self.times.shape)}; states {shapes})"


def raise_unless_reached(trajectory: Trajectory, what: str) -> Trajectory:
    """Return the trajectory; raise if it did not reach the end that was asked for, at run time if it is traced.

    **Raises:** `Diverged` with the text of the outcome; under `jit` the run-time error of `equinox.error_if` with its cause
    and remedy.
    """
    outcome = trajectory.outcome
    if not is_traced(outcome):
        if not bool(np.all(outcome.reached)):
            raise Diverged(f"{what}: {outcome}")
        return trajectory
    for kind in OutcomeKind:
        if kind not in _REACHED:
            text = f"{what}: {kind.name.lower()}; {_ADVICE[kind]}"
            states = eqx.error_if((trajectory.final, trajectory.states), outcome.code == int(kind), text)
            trajectory = eqx.tree_at(lambda t: (t.final, t.states), trajectory, states)
    return trajectory
