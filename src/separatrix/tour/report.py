"""The report: one HTML file that opens offline, with inline vector pictures and set equations."""

import html
import io
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from separatrix import __version__
from separatrix.plotting.style import as_svg
from separatrix.tour.chapter import Check, Section


def render(results: Sequence[Any], pending: Sequence[str] = ()) -> str:
    """Return the whole page for the chapters' results; `pending` are those that have not run yet."""
    style = _style("report.css")
    contents = "".join(
        f'<li><a href="#{r.chapter.name}">{html.escape(r.chapter.title)}</a> '
        f'<span class="{"pass" if r.ok else "fail"}">{_tally(r)}</span> <small>{r.seconds:.0f} s</small></li>'
        for r in results
    )
    contents += "".join(f"<li>{html.escape(name)} <small>has not run yet</small></li>" for name in pending)
    chapters = "".join(result.html for result in results)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Separatrix: the tour</title><style>{style}</style></head><body><main>"
        "<header><h1>Learning systems are dynamical systems</h1>"
        f"<p>The tour of Separatrix {__version__}: every number below was computed for this page and stands beside what "
        f"it must be.</p></header><nav><ol>{contents}</ol></nav>{chapters}</main></body></html>\n"
    )


def render_chapter(result: Any) -> str:
    """Return one chapter as a part of another page, for notebooks and the documentation."""
    return f'<style>{_style("chapter.css")}</style><div class="separatrix-chapter">{result.html}</div>'


def _style(name: str) -> str:
    return files("separatrix.tour").joinpath(name).read_text(encoding="utf-8")


def _tally(result: Any) -> str:
    if result.error:
        return "failed"
    good = sum(check.ok for check in result.checks)
    return f"{good} of {len(result.checks)} checks hold"


def chapter_html(result: Any) -> str:
    """Return one chapter as a part of the report."""
    chapter = result.chapter
    body = "".join(_section(section, chapter.name) for section in result.sections)
    failure = f'<p class="failure">This chapter failed: {html.escape(result.error)}</p>' if result.error else ""
    return (
        f'<article id="{chapter.name}"><h2>{html.escape(chapter.title)}</h2>'
        f'<p class="question">{html.escape(chapter.question)} <small>({result.seconds:.0f} s)</small></p>'
        f"{failure}{body}</article>"
    )


def _section(section: Section, chapter: str) -> str:
    parts = [f"<section><h3>{html.escape(section.title)}</h3>", _paragraphs(section.text)]
    if section.equation:
        parts.append(f'<div class="equation">{_equation(section.equation)}</div>')
    if section.figure is not None:
        caption = f"<figcaption>{html.escape(section.caption)}</figcaption>" if section.caption else ""
        parts.append(f"<figure>{_unique(as_svg(section.figure), f'{chapter} {section.title}')}{caption}</figure>")
    if section.code:
        parts.append(f"<pre><code>{html.escape(section.code)}</code></pre>")
    if section.checks:
        parts.append(_table(section.checks))
    return "".join(parts) + "</section>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(' '.join(part.split()))}</p>" for part in text.strip().split("\n\n"))


def _table(checks: Sequence[Check]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(c.name)}</td><td>{c.measured:.6g}</td><td>{_truth(c)}</td>"
        f'<td class="{"pass" if c.ok else "fail"}">{"✓" if c.ok else "✗"}</td></tr>'
        for c in checks
    )
    head = "<tr><th>number</th><th>measured</th><th>must be</th><th></th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _truth(check: Check) -> str:
    if check.relation != "=":
        return f"{'≥' if check.relation == '>=' else '≤'} {check.expected:.6g}"
    return f"{check.expected:.6g} ± {check.tolerance:.2g}"


def _equation(formula: str) -> str:
    """A formula in TeX, set by matplotlib, with its source as the text alternative."""
    from matplotlib import mathtext
    from matplotlib.font_manager import FontProperties

    buffer = io.BytesIO()
    mathtext.math_to_image(f"${formula}$", buffer, prop=FontProperties(size=13, math_fontfamily="cm"), format="svg")
    text = buffer.getvalue().decode()
    svg = _unique(text[text.index("<svg") :], formula)
    return f'<div role="img" aria-label="{html.escape(formula)}">{svg}</div>'


def _unique(svg: str, name: str) -> str:
    """Prefix the identifiers of an SVG, so that several can share a page."""
    prefix = re.sub(r"\W+", "-", name)[:60]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    return re.sub(r"url\(#", f"url(#{prefix}-", svg)
