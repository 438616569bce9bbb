"""A diagnosis as one page that opens offline: findings, answers and their figures."""

import html
from importlib.resources import files
from typing import Any


def page(name: str, diagnosis: Any) -> str:
    """Return the HTML of a diagnosis."""
    style = files("separatrix.tour").joinpath("report.css").read_text(encoding="utf-8")
    title = f"Diagnosis of {name}"
    answers = "".join(_answer(question, answer) for question, answer in diagnosis.answers.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style></head><body><main><h1>{html.escape(title)}</h1>"
        f'<p class="question">{html.escape(diagnosis.verdict)}</p>'
        f"{_findings(diagnosis.findings)}{_unanswered(diagnosis)}{answers}"
        "</main></body></html>\n"
    )


def _findings(findings: Any) -> str:
    rows = "".join(
        f'<tr><td class="{"pass" if finding.holds else "fail"}">{finding.status}</td>'
        f"<td>{html.escape(str(finding))}</td></tr>"
        for finding in findings
    )
    return f"<table>{rows}</table>"


def _unanswered(diagnosis: Any) -> str:
    """Questions that could not be asked; cautions of the others stand beside their answers."""
    return "".join(
        f"<p>{html.escape(name)} was not answered: {html.escape(why)}</p>" for name, why in diagnosis.unanswered
    )


def _answer(question: str, answer: Any) -> str:
    return (
        f"<section><h3>{html.escape(question.replace('_', ' '))}</h3>{_figure(answer)}{answer._repr_html_()}</section>"
    )


def _figure(answer: Any) -> str:
    from separatrix.plotting import as_svg, plot

    if plot.dispatch(type(answer)) is plot.dispatch(object):
        return ""
    return f"<figure>{as_svg(plot(answer))}</figure>"
