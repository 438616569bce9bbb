"""The verdict: the questions that apply, put together into findings with evidence, cause and remedy."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx

from separatrix._tree import asarrays
from separatrix._types import Key
from separatrix.diagnostics._coordinates import kind_of
from separatrix.diagnostics.examine import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import QUESTIONS, Question, question
from separatrix.diagnostics.result import Result, Row

# What a question raises of a system that it was not made for; an interrupt or a full memory is none of these.
_REFUSALS = (TypeError, ValueError, RuntimeError)


class Diagnosis(Result):
    """Findings of all questions that were asked, and their answers.

    - `findings`: each a number beside its threshold; those of the system's family come last.
    - `answers`: name of the question to its result.
    - `unanswered`: name and reason of each question that could not be asked of this system.
    """

    findings: tuple[Finding, ...] = eqx.field(static=True)
    answers: dict[str, Result]
    unanswered: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that do not hold."""
        return tuple(finding for finding in self.findings if not finding.holds)

    @property
    def verdict(self) -> str:
        """Return "sound", or how many of how many claims do not hold."""
        broken = len(self.broken)
        return "sound" if not broken else f"{broken} of {len(self.findings)} claims do not hold"

    def rows(self) -> list[Row]:
        marks = [Row("holds" if finding.holds else "BROKEN", str(finding)) for finding in self.findings]
        return [Row("verdict", self.verdict), *marks]

    @property
    def cautions(self) -> tuple[str, ...]:
        of_answers = (f"{name}: {caution}" for name, answer in self.answers.items() for caution in answer.cautions)
        return (*of_answers, *(f"{name} was not answered: {reason}" for name, reason in self.unanswered))


def diagnose(
    system: Any, state: Any, *, questions: Sequence[str] | None = None, at: Any = 0, key: Key | None = None
) -> Diagnosis:
    r"""Ask a system the questions that apply to it, and say what was found.

    **Arguments:**

    - `system`: a `Map`, `Flow` or `SDE`: an optimiser on an objective, a game, a network, a sampler, or anything else.
    - `state`: where to ask.
    - `questions`: names from `separatrix.diagnostics.QUESTIONS`; those that apply by default.
    - `at`: step number or time. `key`: randomness of a random system.

    **Returns:** a `Diagnosis`: `findings` with evidence beside threshold, cause and remedy; `answers` of each question.
    Of those not asked for by name, one that cannot be answered is told in a caution, and the others still come.

    **Raises:** `TypeError` for anything but a system; `ValueError` for a question that is none; and what a question that
    was asked for by name raises.

    **Example:** gradient descent past its stability edge.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> found = sx.diagnose(sx.GradientDescent(sx.Quadratic(1.0), 2.5), jnp.zeros(1), questions=["linear_stability"])
    >>> found.broken[0].evidence, found.broken[0].threshold < 1.001
    (1.5, True)
    """
    kind_of(system)
    state = asarrays(state)
    answers, findings, unanswered = {}, [], []

    def attempt(name: str, call: Callable[[], list[Finding]]) -> None:
        try:
            findings.extend(call())
        except _REFUSALS as error:
            unanswered.append((name, _first_line(error)))

    def put(asked: Question) -> list[Finding]:
        answers[asked.name] = asked.ask(system, state, at=at, key=key)
        return asked.judge(answers[asked.name], system)

    if questions is not None:
        findings += [finding for asked in map(question, questions) for finding in put(asked)]
    else:
        for asked in QUESTIONS.values():
            attempt(asked.name, lambda asked=asked: put(asked) if asked.applies(system, state) else [])
    attempt("what its family examines", lambda: examine(system, state, at=at, key=key))
    return Diagnosis(tuple(findings), answers, tuple(unanswered))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
