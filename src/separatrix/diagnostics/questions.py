"""The questions that need no more than a system and a state: what `diagnose` and the command line ask by name.

Each says to which systems it applies by itself, how it is asked, and what its answer means for a healthy system.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from separatrix._errors import explain
from separatrix.diagnostics._coordinates import as_vector
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.linear_stability import LinearStability, linear_stability
from separatrix.diagnostics.result import Result
from separatrix.diagnostics.survival import Survival, survival

# A perturbation that grows tenfold before it decays is seen in practice; a network's nonlinearity acts on it first.
_GROWTH = 10.0


@dataclasses.dataclass(frozen=True)
class Question:
    """A question by name.

    - `about`: a line of help. `ask(system, state, at=, key=)`: the answer, a `Result`.
    - `applies(system, state)`: whether `diagnose` asks it unasked. `judge(answer)`: findings of a healthy system.
    """

    name: str
    about: str
    ask: Callable[..., Result]
    applies: Callable[[Any, Any], bool]
    judge: Callable[[Any], list[Finding]]


def size_of(state: Any) -> int:
    """Number of real coordinates of a state."""
    return jax.eval_shape(lambda: as_vector(state)).shape[0]


def _always(system: Any, state: Any) -> bool:
    return True


def _judge_survival(answer: Survival) -> list[Finding]:
    return [
        Finding(
            "stays finite over a short run",
            float(answer.reached),
            ">=",
            float(answer.span),
            answer.outcome.advice or "the run ended early",
            "Lower the step size, or start nearer to where it is stable.",
        )
    ]


def _judge_linear(answer: LinearStability) -> list[Finding]:
    if not float(answer.displacement) <= 1e-4:
        return []
    names = {
        "map": ("spectral radius", answer.spectral_radius, 1.0),
        "flow": ("abscissa", answer.spectral_abscissa, 0.0),
    }
    name, evidence, border = names.get(answer.kind, ("mean-square rate", answer.margin, 0.0))
    slack = float(answer.tolerance)
    found = [
        Finding(
            f"{name} of the fixed point is not past its border",
            evidence,
            "<=",
            border + slack,
            f"{answer.unstable} direction(s) grow under the linearisation",
            "Lower the step size or add damping; `linear_stability` has the directions' spectrum.",
        )
    ]
    growth = float(answer.transient_growth)
    if np.isfinite(growth):
        cause = "eigenvectors are far from orthogonal: a perturbation grows long before it decays"
        do = "Judge stability by singular values, not by the spectral radius."
        found.append(Finding("transient growth of perturbations", growth, "<=", _GROWTH, cause, do))
    return found


QUESTIONS: dict[str, Question] = {
    question.name: question
    for question in (
        Question("survival", "does a short run stay finite?", survival, _always, _judge_survival),
        Question("linear_stability", "spectrum of the Jacobian here", linear_stability, _always, _judge_linear),
    )
}


def question(name: str) -> Question:
    """Return a question by name.

    **Raises:** `ValueError` for a name that is none, with those that are.
    """
    if name not in QUESTIONS:
        raise ValueError(explain("question", repr(name), f"one of: {', '.join(QUESTIONS)}", "Ask one of these."))
    return QUESTIONS[name]
