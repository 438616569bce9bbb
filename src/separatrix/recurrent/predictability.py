r"""How many rounds Newton's method over a sequence takes: counted on a short pilot, or from a formula.

Of a net that forgets, rounds = log2(2 + ln(tol/kappa)/ln q), whatever the length N. In chaos a front moves through the
sequence by v rows a round, rounds = N/v. `newton_front` derives both from the largest exponent and the curvature kappa
of the step, and says where they hold. At the edge they do not; then v is counted on a pilot of L rows, by rounds(L) -
rounds(L/2) of L/2 rows, and carried on to N. There counts scatter: two tolerances of one net have differed by 40 %.

**Reference:** Gonzalez et al., *Predictability enables parallelization of nonlinear state space models* (2025), for the
two regimes; Lim et al. (2024), for the rounds.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Int

from separatrix._errors import explain, unknown
from separatrix._tree import float_dtype
from separatrix._types import Checked, State
from separatrix.diagnostics.along.lyapunov_spectrum import lyapunov_spectrum
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.evolution.parallel import Parallel
from separatrix.recurrent.newton_front import Front, front_speed, measured_front, rounds_formula
from separatrix.systems import ranges
from separatrix.systems.map import Map


class NewtonRounds(Result):
    """Rounds that Newton's method over a sequence will take.

    - `rounds`, with its `error`: for `steps` rows. `speed`: rows a round, infinite where rounds do not grow.
    - `counted`: on pilots of `lengths` rows, none if by formula. `exponent`, `exponent_error`: the largest, nats a step.
    - `front`: what the formula was made of; None if by pilot.
    """

    rounds: float
    error: float
    speed: float
    exponent: float
    exponent_error: float
    counted: Int[np.ndarray, " pilots"]
    lengths: Int[np.ndarray, " pilots"]
    steps: int = eqx.field(static=True)
    front: Front | None = None

    @property
    def regime(self) -> str:
        """ "predictable", "chaotic", or "undecided" where the exponent is within three standard errors of 0."""
        value, bar = self.exponent, 3 * self.exponent_error
        return "predictable" if value < -bar else "chaotic" if value > bar else "undecided"

    def rows(self) -> list[Row]:
        return [
            Row(f"rounds for {self.steps} steps", self.rounds, self.error),
            Row("rows a round", self.speed if np.isfinite(self.speed) else "all"),
            Row("regime", self.regime),
            Row("largest exponent, nats a step", self.exponent, self.exponent_error),
            *self._source(),
        ]

    def _source(self) -> list[Row]:
        """What was counted, or what the formula is made of."""
        if self.front is None:
            return [Row("counted", ", ".join(f"{k} of {n}" for k, n in zip(self.counted, self.lengths, strict=True)))]
        return [
            Row("curvature", self.front.curvature),
            Row("exponent at the first guess", self.front.exponent_at_guess),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if self.speed < 4:
            found.append(f"a round settles {self.speed:.1f} rows: going row by row is cheaper")
        if self.front is not None and not self.front.holds:
            found.append('between forgetting and chaos the formula can be wrong by a factor: pass by="pilot"')
        elif self.regime == "undecided":
            found.append("near the edge counts scatter by tens of per cent")
        return tuple(found)


def newton_rounds(
    map: Map,
    state: State,
    steps: Checked[int],
    *,
    by: Checked[str] = "pilot",
    pilot: Checked[int] = 200,
    method: Parallel | None = None,
) -> NewtonRounds:
    r"""Predict how many rounds `Parallel` takes for a long sequence, from pilots or from a formula.

        rounds(N) = rounds(L) + (N - L)/v,      v = (L/2)/(rounds(L) - rounds(L/2))      (pilots of L/4, L/2, L rows)

        rounds(N) = log2(2 + ln(tol/kappa)/ln q)      or      2 lambda N/ln(1 + (rho^2 - 1)/kappa^2)      (formula)

    **Arguments:**

    - `map`, `state`: as of `evolve`; a finite map of at least `pilot` steps. `steps`: N >= pilot.
    - `by`: `"pilot"` counts rounds of the method; `"formula"` evolves row by row, and takes none: `rounds_formula`.
    - `pilot`: L >= 32, a multiple of 4: rows to count or to measure on. `method`: the `Parallel` that will be used, with
      its tolerance; the formula is of `variant="full"`.

    **Returns:** a `NewtonRounds`. Its error is at least one round. By pilot it is half of what the two halves would differ
    by at N; by formula what one standard error of the exponent makes.

    **Raises:** `ValueError` for a pilot that is too short or longer than N, or on which the method does not converge; for
    a formula of another variant.

    **Example:** a contraction takes a handful of rounds, whatever the length.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> cell = sx.as_map(lambda x: jnp.tanh(0.9 * x + 0.1))
    >>> found = sx.recurrent.newton_rounds(cell, jnp.ones(3), 100_000, pilot=64)
    >>> found.rounds < 10, found.regime
    (True, 'predictable')

    **Reference:** Gonzalez et al. (2025); see the head of the module.
    """
    pilot = ranges.whole("newton_rounds: pilot", pilot, "Take 200.", least=32)
    steps = ranges.whole("newton_rounds: steps", steps, "Say how long the sequence is.", least=pilot)
    if pilot % 4:
        raise ValueError(explain("newton_rounds: pilot", pilot, "a multiple of 4", "Take 200."))
    method = Parallel() if method is None else method
    if by not in ("pilot", "formula"):
        raise ValueError(unknown("newton_rounds: by", by, ("pilot", "formula"), "Choose one of them."))
    return (
        _by_formula(map, state, steps, pilot, method)
        if by == "formula"
        else _by_pilot(map, state, steps, pilot, method)
    )


def _by_formula(map: Map, state: State, steps: int, pilot: int, method: Parallel) -> NewtonRounds:
    if method.variant != "full":
        do = 'Pass by="pilot".'
        raise ValueError(explain("newton_rounds: method", f"variant={method.variant!r}", 'variant="full"', do))
    front, none = measured_front(map, state, pilot), np.zeros(0, int)
    tol = 100 * float(np.finfo(float_dtype(state)).eps) if method.tol is None else method.tol
    low, rounds, high = (
        rounds_formula(
            front.exponent + bar * front.exponent_error, front.curvature, steps, tol=tol, thrown=front.thrown
        )
        for bar in (-1, 0, 1)
    )
    speed = front_speed(front.exponent, front.curvature)
    return NewtonRounds(rounds, max(1.0, abs(high - low) / 2), speed, front.exponent, front.exponent_error,
                        none, none, steps, front)  # fmt: skip


def _by_pilot(map: Map, state: State, steps: int, pilot: int, method: Parallel) -> NewtonRounds:
    lengths = np.array([pilot // 4, pilot // 2, pilot])
    counted = np.array([_counted(map, state, int(length), method) for length in lengths])
    slopes = np.diff(counted) / np.diff(lengths)
    further = steps - pilot
    found = lyapunov_spectrum(map, state, count=1, steps=pilot)
    rounds = float(counted[-1] + further * slopes[1])
    speed = 1 / slopes[1] if slopes[1] > 0 else np.inf
    error = max(1.0, float(further * abs(slopes[1] - slopes[0]) / 2))
    return NewtonRounds(rounds, error, float(speed), float(found.exponents[0]), float(found.standard_errors[0]),
                        counted, lengths, steps)  # fmt: skip


def _counted(map: Map, state: State, length: int, method: Parallel) -> int:
    path = evolve(map, state, steps=length, method=method, save="last")
    if not bool(path.outcome.completed):
        do = "Take another tolerance, or more rounds."
        raise ValueError(explain("newton_rounds: pilot", str(path.outcome), f"{length} steps that converge", do))
    return int(path.stats["iterations"])
