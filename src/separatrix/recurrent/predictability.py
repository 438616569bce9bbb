r"""How many rounds Newton's method over a sequence takes: from the exponent, and from a short pilot.

Let e[k, n] be the error of row n after k rounds of `Parallel`, rho = exp(lambda) the growth of errors a step, s the size
of the attractor. The rounds solve the linearised recurrence exactly, so that what is left is of second order:

    e[k+1, n+1] = rho e[k+1, n] + kappa e[k, n]^2/s,      e[k, 0] = 0.

- **Predictable**, lambda < 0, and q = kappa/(1 - rho) < 1: max e[k+1] <= q (max e[k])^2/s, so that e[k]/s <= q^(2^k - 1),
  and rounds = log2(1 + ln tol/ln q), whatever the length N.
- **Chaotic**, or q > 1: behind a front all rows are right; past it a guess is wrong by s. There the remainders add up to s
  after v = ln(1 + (rho - 1)/kappa)/lambda rows (1/kappa at lambda = 0). The front moves by v rows a round, and rounds =
  N/v: v falls to 1 as lambda grows, and nothing is won over going row by row.

kappa is no function of lambda, and remainders of many units add up with signs. So the speed v is counted on a pilot of L
rows, by rounds(L) - rounds(L/2) of L/2 rows, and carried on to N. Where the exponent is near 0 counts scatter: two
tolerances of one net have differed by 40 %.

**Reference:** Gonzalez et al., *Predictability enables parallelization of nonlinear state space models* (2025), for the
two regimes; Lim et al. (2024), for the rounds. The recurrence and its front are derived here.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Int

from separatrix._errors import explain
from separatrix._types import Checked, State
from separatrix.diagnostics.along.lyapunov_spectrum import lyapunov_spectrum
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.evolution.parallel import Parallel
from separatrix.systems import ranges
from separatrix.systems.map import Map


class NewtonRounds(Result):
    """Rounds that Newton's method over a sequence will take.

    - `rounds`, with its `error`: for `steps` rows. `speed`: rows a round, infinite where rounds do not grow.
    - `counted`: on pilots of `lengths` rows. `exponent`, `exponent_error`: the largest, nats a step, along the longest.
    """

    rounds: float
    error: float
    speed: float
    exponent: float
    exponent_error: float
    counted: Int[np.ndarray, " pilots"]
    lengths: Int[np.ndarray, " pilots"]
    steps: int = eqx.field(static=True)

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
            Row("counted", ", ".join(f"{k} of {n}" for k, n in zip(self.counted, self.lengths, strict=True))),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if self.speed < 4:
            found.append(f"a round settles {self.speed:.1f} rows: going row by row is cheaper")
        if self.regime == "undecided":
            found.append("near the edge counts scatter by tens of per cent")
        return tuple(found)


def newton_rounds(
    map: Map, state: State, steps: Checked[int], *, pilot: Checked[int] = 200, method: Parallel | None = None
) -> NewtonRounds:
    r"""Predict how many rounds `Parallel` takes for a long sequence, from pilots of a quarter, a half and all of `pilot`.

        rounds(N) = rounds(L) + (N - L)/v,      v = (L/2)/(rounds(L) - rounds(L/2))

    **Arguments:**

    - `map`, `state`: as of `evolve`; a finite map of at least `pilot` steps. `steps`: N >= pilot.
    - `pilot`: L >= 32, a multiple of 4. `method`: the `Parallel` that will be used, with its tolerance.

    **Returns:** a `NewtonRounds`. Its error is half of what the two halves of the pilot would differ by at N, and at least
    one round.

    **Raises:** `ValueError` for a pilot that is too short or longer than N, or on which the method does not converge.

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
