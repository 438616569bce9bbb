r"""Rounds of Newton's method over a sequence as a formula of the exponent, the length and the tolerance.

Let e[k, n] be the error of row n after k rounds of `Parallel`, lambda the largest exponent and rho = exp(lambda), s the
distance of two states of the orbit that know nothing of each other. A round solves the linearised recurrence exactly.
What is left is the remainder of the step, of second order in the error that was there before:

    e[k+1, n+1] = DF e[k+1, n] + r[k, n],      |r[k, n]| = kappa e[k, n]^2/s,

    kappa^2 = E |F(x) - F(y) - DF(y)(x - y)|^2 / E |x - y|^2      over pairs x, y of states of the orbit.

Remainders of many units and rows have no common sign, so that squares add up:

    E e[k+1, n+1]^2 = rho^2 E e[k+1, n]^2 + kappa^2 E e[k, n]^4/s^2,      e[k, 0] = 0,      e[0, n] = s.

- **Predictable**, lambda < 0 and q = kappa/sqrt(1 - rho^2) < 1. The sum over rows converges, so that e[k+1] = q e[k]^2/s
  and e[k] = s q^(2^k - 1), whatever the length N. The residual that is judged after round k is the remainder of that round,
  kappa s q^(2^k - 2). It is below tol s after

      rounds = log2(2 + ln(tol/kappa)/ln q).

  Two more are needed if lambda_0 > 0, the exponent of products of DF at the first guess, which is the same in all rows: the
  first round throws rows far out, where units saturate, and the second brings them back.
- **Chaotic**, or q >= 1. Behind a front all rows are right; past it guesses are wrong by s. After i rows past it the square
  of the error is kappa^2 s^2 (rho^(2i) - 1)/(rho^2 - 1), and it is s^2, so that the guess is of no use, at i = v:

      v = ln(1 + (rho^2 - 1)/kappa^2)/(2 lambda),      rounds = N/max(v, 1),

  with v = 1/kappa^2 at lambda = 0. In strong chaos the front moves by one row, and nothing is won over going row by row.

**Where it holds** (`Front.holds`): q <= 1/4 and lambda_0 < 0, or lambda > 0 by three standard errors. Between the two it
was wrong by up to a factor of three: the front of a net at the edge is carried by rare stretches that part orbits, and
the first guess counts. It does not hold for a GRU whose first guess is thrown, since a unit with a closed gate stays far
out; nor for a net with several stable cycles, whose exponent does not know of the others. There a pilot must be counted.

**Reference:** Gonzalez et al., *Predictability enables parallelization of nonlinear state space models* (2025), for the
two regimes. The recurrence of squares, its front and both formulas are derived here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import norm, subtract
from separatrix._types import Checked, Key, State, StepIndex
from separatrix.diagnostics.along.lyapunov_spectrum import lyapunov_spectrum
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.map import Map

_PAIRS = 1000


class Front(NamedTuple):
    """What the formula is made of: lambda with its error, kappa, and lambda_0 of the head of the module."""

    exponent: float
    exponent_error: float
    curvature: float
    exponent_at_guess: float

    @property
    def thrown(self) -> bool:
        """Whether the first round throws rows far out."""
        return self.exponent_at_guess > 0

    @property
    def contraction(self) -> float:
        """q = kappa/sqrt(1 - rho^2); infinite where lambda is not negative."""
        return self.curvature / float(np.sqrt(-np.expm1(2 * self.exponent))) if self.exponent < 0 else np.inf

    @property
    def holds(self) -> bool:
        """Whether this is one of the cases in which the formula was found to hold."""
        bar = 3 * self.exponent_error
        calm = self.exponent < -bar and self.contraction <= 0.25 and not self.thrown
        return calm or self.exponent > bar


def front_speed(exponent: Checked[float], curvature: Checked[float]) -> float:
    r"""Return the rows that a round of Newton's method settles: v = max(1, ln(1 + (rho^2 - 1)/kappa^2)/(2 lambda)).

    **Arguments:** `exponent`: lambda, nats a step. `curvature`: kappa >= 0, see the head of the module.

    **Returns:** rows a round; infinite where rounds do not grow with the length: lambda < 0 and q < 1.

    **Raises:** `ValueError` for numbers that are not finite, or a negative curvature.

    **Example:** where remainders are as large as errors, one row a round.

    >>> import separatrix as sx
    >>> sx.recurrent.front_speed(0.3, 1.0), sx.recurrent.front_speed(-0.5, 0.1)
    (1.0, inf)

    **Reference:** derived at the head of the module.
    """
    ranges.finite("front_speed: exponent", exponent, "Pass nats a step.")
    ranges.nonnegative("front_speed: curvature", curvature, "Pass the ratio of a remainder to an error.")
    if curvature == 0:
        return np.inf
    if abs(exponent) < 1e-9:
        return max(1.0, 1 / curvature**2)
    inside = np.expm1(2 * exponent) / curvature**2
    return max(1.0, float(np.log1p(inside) / (2 * exponent))) if inside > -1 else np.inf


def rounds_formula(
    exponent: Checked[float],
    curvature: Checked[float],
    steps: Checked[int],
    *,
    tol: Checked[float] = 1e-12,
    thrown: Checked[bool] = False,
) -> float:
    r"""Return how many rounds Newton's method takes for a sequence: the two formulas at the head of the module.

    **Arguments:**

    - `exponent`: lambda, the largest, nats a step. `curvature`: kappa >= 0. `steps`: N >= 1.
    - `tol`: of the residual, relative, in (0, 1). `thrown`: whether lambda_0 > 0 at the first guess.

    **Returns:** rounds, from 1 to N; a whole number where they do not grow with N.

    **Raises:** `ValueError` for numbers outside these.

    **Example:** a net that forgets, and one in chaos.

    >>> import separatrix as sx
    >>> sx.recurrent.rounds_formula(-0.3, 0.1, 10_000), round(sx.recurrent.rounds_formula(0.3, 0.5, 10_000))
    (4.0, 4121)

    **Reference:** derived at the head of the module.
    """
    steps = ranges.whole("rounds_formula: steps", steps, "Say how long the sequence is.")
    if not 0 < tol < 1:
        raise ValueError(explain("rounds_formula: tol", tol, "above 0 and below 1", "Take 1e-12."))
    speed = front_speed(exponent, curvature)
    if np.isfinite(speed):
        return max(1.0, steps / speed)
    if curvature == 0:
        return 1.0
    q = curvature / np.sqrt(-np.expm1(2 * exponent))
    doublings = np.log2(2 + max(0.0, np.log(tol / curvature) / np.log(q)))
    return float(min(steps, np.ceil(doublings) + 2 * thrown))


def measured_front(map: Map, state: State, rows: int) -> Front:
    """Measure what the formula needs along an orbit, row by row, without a round of Newton's method."""
    path = evolve(map, state, steps=rows)
    if not bool(path.outcome.completed):
        do = "Start elsewhere: no row past that has a value to be found."
        raise ValueError(explain("newton_rounds: the orbit", str(path.outcome), f"{rows} finite steps", do))
    found = lyapunov_spectrum(map, state, count=1, steps=rows)
    still = lyapunov_spectrum(
        _AtGuess(map, state), jax.tree.map(jnp.zeros_like, state), count=1, steps=rows, transient=0
    )
    curvature = _curvature(map, path.states, rows)
    return Front(float(found.exponents[0]), float(found.standard_errors[0]), curvature, float(still.exponents[0]))


class _AtGuess(Map):
    """u' = DF(n, x0) u: the tangents of the first round."""

    map: Map
    guess: State

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return jax.jvp(lambda x: self.map.step(n, x), (self.guess,), (state,))[1]


def _curvature(map: Map, states: State, rows: int) -> float:
    """kappa over pairs of rows of the second three quarters, drawn by a fixed generator."""
    draw = np.random.default_rng(0)
    n, m = draw.integers(rows // 4, rows, (2, _PAIRS))

    def squares(n: Any, x: State, y: State) -> tuple[Any, Any]:
        image, moved = jax.jvp(lambda state: map.step(n, state), (y,), (subtract(x, y),))
        remainder = subtract(subtract(map.step(n, x), image), moved)
        return norm(remainder) ** 2, norm(subtract(x, y)) ** 2

    of = [jax.tree.map(lambda leaf, at=at: leaf[at], states) for at in (n, m)]
    left, whole = (np.asarray(found) for found in jax.jit(jax.vmap(squares))(jnp.asarray(n), *of))
    return float(np.sqrt(left.mean() / whole.mean())) if whole.mean() > 0 else 0.0
