"""The verdict: the questions that apply, put together into findings with evidence, cause and remedy."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.diagnostics.checks import check_key, checked_state
from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import QUESTIONS, Question, question
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import kind_of, rate


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
        """The findings that do not hold, and by which the system fails."""
        return tuple(finding for finding in self.findings if finding.status == "BROKEN")

    @property
    def reservations(self) -> tuple[Finding, ...]:
        """The findings that would change a good verdict: cautions, and numbers that are not known."""
        return tuple(finding for finding in self.findings if finding.status in ("caution", "not known"))

    @property
    def examined(self) -> bool:
        """Whether anything was answered: a claim that is known, or a question that makes none."""
        silent = not self.findings and bool(self.answers)
        return silent or any(finding.known for finding in self.findings)

    @property
    def sound(self) -> bool:
        """Whether claims were made, all hold, and nothing that was asked is left open."""
        return bool(self.findings) and all(finding.holds for finding in self.findings) and not self.unanswered

    @property
    def exit_code(self) -> int:
        """Return 0 if the question was answered, whatever the answer; 1 if nothing was examined."""
        return 0 if self.examined else 1

    @property
    def verdict(self) -> str:
        """Return what was found and of what: "not examined", how many claims do not hold, or "sound as far as asked".

        Claims that hold are named, and so is what would change the verdict: cautions, what is not known, and questions that
        were not answered.
        """
        held = "; ".join(finding.name for finding in self.findings if finding.holds)
        broken = "; ".join(finding.name for finding in self.broken)
        if not self.examined:
            start = "not examined"
        elif broken:
            start = f"{len(self.broken)} of {len(self.findings)} claims do not hold ({broken})"
        elif held:
            start = f"sound as far as asked ({held})"
        else:
            start = f"no claim was judged (answered: {', '.join(self.answers)})"
        return "; ".join([start, *self._but()])

    def _but(self) -> list[str]:
        """What would change the verdict, a clause each."""
        clauses = [_clause(finding) for finding in self.reservations]
        if clauses:
            clauses[0] = f"but {clauses[0]}"
        return [*clauses, *(f"{name} was not answered: {reason.rstrip('.')}" for name, reason in self.unanswered)]

    def rows(self) -> list[Row]:
        return [Row("verdict", self.verdict), *[Row(finding.status, str(finding)) for finding in self.findings]]

    @property
    def cautions(self) -> tuple[str, ...]:
        of_answers = (f"{name}: {caution}" for name, answer in self.answers.items() for caution in answer.cautions)
        return (*of_answers, *(f"{name} was not answered: {reason}" for name, reason in self.unanswered))


def _clause(finding: Finding) -> str:
    """A caution with its number, or what is not known."""
    cause = f" ({finding.cause.rstrip('.')})" if finding.cause else ""
    if not finding.known:
        return f"{finding.name}: not known{cause}"
    return f"{finding.name}: {finding.evidence:+.4g}, not {finding.relation} {finding.threshold:.4g}{cause}"


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
    Of those not asked for by name, one that cannot be answered is told in a caution, and the others still come. The verdict
    names the claims that hold and what would change it; if no question was answered it is "not examined".

    **Raises:** `TypeError` for anything but a system; `ValueError` for a question that is none, a state that is empty or
    not finite, a system whose step or velocity cannot be evaluated there; and what a question asked for by name raises.

    **Example:** gradient descent past its stability edge.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(1.0), step_size=2.5)
    >>> found = sx.diagnose(descent, jnp.zeros(1), questions=["linear_stability"])
    >>> found.broken[0].evidence, found.broken[0].threshold < 1.001
    (1.5, True)
    """
    importlib.import_module("separatrix").load_families()
    kind_of(system)
    check_key("diagnose", key)
    state = checked_state("diagnose: state", state)
    asked_for = None if questions is None else [question(name) for name in _names(questions)]
    _check_evaluates(system, state, at, key)
    answers, findings, unanswered = {}, [], []

    def attempt(name: str, call: Callable[[], list[Finding]]) -> None:
        try:
            findings.extend(call())
        except Exception as error:
            # Whatever one question or a family's examination raises, the others still come.
            unanswered.append((name, _reason(error)))

    def put(asked: Question) -> list[Finding]:
        answers[asked.name] = asked.ask(system, state, at=at, key=key)
        return asked.judge(answers[asked.name], system)

    if asked_for is not None:
        findings += [finding for asked in asked_for for finding in put(asked)]
    else:
        for asked in QUESTIONS.values():
            attempt(asked.name, lambda asked=asked: put(asked) if asked.applies(system, state, key) else [])
    attempt("what its family examines", lambda: examine(system, state, at=at, key=key))
    return Diagnosis(tuple(findings), answers, tuple(unanswered))


def _names(questions: Any) -> tuple[str, ...]:
    return (questions,) if isinstance(questions, str) else tuple(questions)


def _check_evaluates(system: Any, state: Any, at: Any, key: Any) -> None:
    """Refuse once, in its own words, what every question would refuse: a step or velocity that raises."""
    try:
        eqx.filter_eval_shape(lambda x: rate(system, x, at=at, key=key), state)
    except Exception as error:
        what = {"map": "step", "flow": "velocity"}.get(kind_of(system), "drift")
        name, reason = type(error).__name__, _reason(error)
        got = reason if reason.startswith(name) else f"{name}: {reason}"
        do = f"Try it: system.{what} at this state{'' if key is not None else '; a random system wants key='}."
        raise ValueError(explain(f"diagnose: the system's {what}", got, "a value at this state", do)) from error


def _reason(error: Exception) -> str:
    """The first line of an error, with what was got and expected if it is one of our own."""
    # Of one raised at run time equinox tells the stack first.
    words = str(error).rpartition("EquinoxRuntimeError: ")[2]
    lines = words.strip().splitlines() or [""]
    text = f"{lines[0]}: {lines[1].strip()}" if len(lines) > 1 and lines[1].startswith("  got ") else lines[0]
    told = isinstance(error, TypeError | ValueError | RuntimeError) and text
    return text if told else f"{type(error).__name__}{': ' if text else ''}{text}"
