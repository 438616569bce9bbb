r"""Questions by name: what `diagnose` and the command line ask of a system and a state alone.

A question is three functions: does it apply to this system, how is it asked, and what does the answer mean for a healthy
system. All three stand at the end of the file of their diagnostic, which registers them. A family registers its own
questions in the same way; `examine` is for findings that have no result class.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from separatrix._errors import explain, unknown
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.result import Result

# After all general questions.
_LAST = 100


def always(system: Any, state: Any, key: Any = None) -> bool:
    """Applies to every system."""
    return True


def by_name(system: Any, state: Any, key: Any = None) -> bool:
    """Applies to none: the question is asked only if it is named."""
    return False


def no_claim(answer: Any, system: Any) -> list[Finding]:
    """No finding: the answer is reported as it is."""
    return []


@dataclasses.dataclass(frozen=True)
class Question:
    """A question by name.

    **Arguments:**

    - `name`: by which it is asked. `about`: one line of help.
    - `ask(system, state, *, at=0, key=None)`: the answer, a `Result`.
    - `applies(system, state, key=None)`: whether `diagnose` asks it unasked; `by_name` for never.
    - `judge(answer, system)`: the findings of a healthy system; `no_claim` for none.
    - `rank`: questions are asked, and their findings listed, in the order of their ranks.
    """

    name: str
    about: str
    ask: Callable[..., Result]
    applies: Callable[..., bool] = always
    judge: Callable[[Any, Any], list[Finding]] = no_claim
    rank: int = _LAST


QUESTIONS: dict[str, Question] = {}


def register(question: Question) -> Question:
    """Register a question under its name, and return it.

    **Raises:** `ValueError` for a name that another question has.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> from separatrix.diagnostics import QUESTIONS, Question, Result, Row, register
    >>> class Size(Result):
    ...     norm: jnp.ndarray
    ...     cautions = ()
    ...     def rows(self):
    ...         return [Row("norm", self.norm)]
    >>> asked = register(Question("size", "how large is the state?", lambda system, x, *, at=0, key=None: Size(abs(x))))
    >>> float(sx.diagnose(sx.as_map(lambda x: x / 2), jnp.array(-3.0), questions=["size"]).answers["size"].norm)
    3.0
    >>> del QUESTIONS["size"]
    """
    taken = QUESTIONS.get(question.name)
    if taken is not None and taken.ask.__module__ != question.ask.__module__:
        got = f"{question.name!r}, which {taken.ask.__module__} has"
        raise ValueError(explain("Question: name", got, "a name of its own", "Choose another."))
    QUESTIONS[question.name] = question
    ranked = sorted(QUESTIONS.items(), key=lambda item: item[1].rank)
    QUESTIONS.clear()
    QUESTIONS.update(ranked)
    return question


def question(name: str) -> Question:
    """Return a question by name.

    **Raises:** `ValueError` for a name that is none, with those that are.
    """
    if name not in QUESTIONS:
        raise ValueError(unknown("question", name, QUESTIONS, "Ask one of these.", of="one of:"))
    return QUESTIONS[name]
