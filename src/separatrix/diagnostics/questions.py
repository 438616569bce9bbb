"""The questions that need no more than a system and a state: what `diagnose` and the command line ask by name.

Each says to which systems it applies by itself, how it is asked, and what its answer means for a healthy system.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from separatrix._errors import unknown
from separatrix.diagnostics import _asking as asking, _judging as judging
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.linear_stability import linear_stability
from separatrix.diagnostics.result import Result
from separatrix.diagnostics.survival import survival


@dataclasses.dataclass(frozen=True)
class Question:
    """A question by name.

    - `about`: a line of help. `ask(system, state, at=, key=)`: the answer, a `Result`.
    - `applies(system, state, key=None)`: whether `diagnose` asks it unasked.
    - `judge(answer, system)`: findings of a healthy system.
    """

    name: str
    about: str
    ask: Callable[..., Result]
    applies: Callable[..., bool]
    judge: Callable[[Any, Any], list[Finding]]


def _always(system: Any, state: Any, key: Any = None) -> bool:
    return True


def _by_name(system: Any, state: Any, key: Any = None) -> bool:
    return False


_ALL = (
    Question("survival", "does a short run stay finite?", survival, _always, judging.of_survival),
    Question(
        "linear_stability",
        "spectrum of the Jacobian here",
        linear_stability,
        asking.has_tangent,
        judging.of_linear_stability,
    ),
    Question(
        "lyapunov_spectrum",
        "do nearby runs part? exponents over a short run, in float64",
        asking.exponents,
        asking.has_exponents,
        judging.of_exponents,
    ),
    Question("field_split", "does the field fall or turn?", asking.rotation, asking.has_rotation, judging.of_rotation),
    Question(
        "gradient_profile",
        "do gradients come back through a short run of a map?",
        asking.gradients,
        asking.has_gradients,
        judging.of_gradients,
    ),
    Question(
        "fixed_points", "points of rest around the state (by name only)", asking.points, _by_name, judging.of_points
    ),
    Question("periodic_orbits", "cycles near the state (by name only)", asking.cycles, _by_name, judging.of_nothing),
)

QUESTIONS: dict[str, Question] = {question.name: question for question in _ALL}


def question(name: str) -> Question:
    """Return a question by name.

    **Raises:** `ValueError` for a name that is none, with those that are.
    """
    if name not in QUESTIONS:
        raise ValueError(unknown("question", name, QUESTIONS, "Ask one of these.", of="one of:"))
    return QUESTIONS[name]
