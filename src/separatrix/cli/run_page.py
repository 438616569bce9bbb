"""A run as one page that opens offline, on light paper and on dark: why did it spike, and what to do?"""

import html
import json
from importlib.resources import files
from typing import Any

import numpy as np

from separatrix.cli.carrying import chosen, test_rows
from separatrix.cli.showing import deed_said, finding_text, marks

_CLASSES = 25  # of a confusion table; more are listed

_COLOURS = """
:root { --grid: #c8ced6; --colour-0: #0072b2; --colour-1: #d55e00; --colour-2: #009e73; --colour-3: #b0568c;
  --colour-4: #b57f00; --colour-5: #2f8fc7; --soon: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --grid: #39414d; --colour-0: #5ab4e6; --colour-1: #ff9a57;
  --colour-2: #4fcfa5; --colour-3: #e69ac8; --colour-4: #f0bd4f; --colour-5: #8fd0f5; --soon: #f0c060; } }
svg.themed { fill: var(--ink); } .history svg { width: 100%; }
.caution { color: var(--soon); font-weight: 600; }
.unknown { color: var(--soft); }
.verdict { border-left: 4px solid var(--colour-1); padding: .2rem 1rem; margin: 1.2rem 0; font-size: 1.02rem; }
.verdict.good { border-color: var(--colour-2); }
.go-on code { user-select: all; }
table.confusion td, table.confusion th { text-align: center; padding: .3rem .55rem; border: 1px solid var(--line); }
blockquote { white-space: pre-wrap; border-left: 3px solid var(--line); margin: 1rem 0; padding: .2rem 1rem;
  color: var(--soft); }
table.strip th { white-space: nowrap; text-align: left; } table.strip img { vertical-align: middle; }
img.grid { image-rendering: pixelated; max-width: 100%; border: 1px solid var(--line); }
.wide { overflow-x: auto; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""
_STATUS = {"BROKEN": "fail", "caution": "caution", "holds": "pass", "not known": "unknown"}


def page(found: dict[str, Any], refresh: bool = False) -> str:
    """The HTML of what `facts` says of a run; a page that a browser loads again if the run goes on."""
    style = files("separatrix.tour").joinpath("report.css").read_text(encoding="utf-8") + _COLOURS
    title = f"{found['recipe'] or 'Run'}: {found['run']}"
    again = '<meta http-equiv="refresh" content="3">' if refresh else ""
    parts = [
        _head(found), _verdict(found), _history(found), _samples(found), _findings(found), _go_on(found), _results(found),
        *[_picture(picture) for picture in (found["results"] or {}).get("pictures", ())], _next(found), _spec(found),
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(found: dict[str, Any]) -> str:
    name = html.escape(str(found["recipe"] or "run"))
    where = f"{found['status']} at step {found['step']}; begun {found['created']}; {found['run']}"
    return f'<header><h1>{name}</h1><p class="question">{html.escape(where)}</p></header>'


def _verdict(found: dict[str, Any]) -> str:
    """The gravest finding in a sentence, on top: what went wrong, why, and what to do."""
    order = ["BROKEN", "caution"]
    grave = sorted((one for one in found["findings"] if one["status"] in order), key=lambda o: order.index(o["status"]))
    if not grave:
        text = "All that was measured is as it should be." if found["findings"] else "Nothing was measured yet."
        return f'<p class="verdict good">{text}</p>'
    return f'<p class="verdict">{html.escape(finding_text(grave[0]))}</p>'


def _history(found: dict[str, Any]) -> str:
    from separatrix.plotting import as_themed_svg, plot_run_history

    if not found["steps"]:
        return ""
    metrics = {name: _numbers(values) for name, values in found["metrics"].items()}
    fig = plot_run_history(found["steps"], metrics, marks(found))
    caption = (
        "Losses, and below them the sharpness over the optimiser's edge: past 1, steps are too long for the slope."
    )
    if "sharpness_over_edge" not in metrics:
        caption = (
            "Losses and metrics. The sharpness of this run was not watched: train with --watch 20 to see its edge."
        )
    said = f"<figcaption>{html.escape(caption)}</figcaption>"
    return f'<h2>What happened</h2><figure class="history">{as_themed_svg(fig)}{said}</figure>'


def _samples(found: dict[str, Any]) -> str:
    """What the model drew on the way: a row of pictures for each step."""
    rows = "".join(
        f'<tr><th>step {one["step"]}</th><td><img class="grid" alt="pictures drawn at step {one["step"]}" '
        f'src="data:image/png;base64,{html.escape(one["png"])}"></td></tr>'
        for one in found["samples"]
    )
    caption = "Always from the same noise, by the averaged weights where there are such; none of them chosen."
    said = f'<div class="wide"><table class="strip">{rows}</table></div><p>{caption}</p>'
    return f"<h2>Drawn on the way</h2>{said}" if rows else ""


def _findings(found: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="{_STATUS.get(one["status"], "")}">{one["status"]}</td>'
        f"<td>{html.escape(finding_text(one))}</td></tr>"
        for one in found["findings"]
    )
    return f"<h2>Findings</h2><table>{rows}</table>" if rows else ""


def _go_on(found: dict[str, Any]) -> str:
    if found["resume"] is None:
        return ""
    return f'<h2>Go on</h2><pre class="go-on"><code>{html.escape(found["resume"])}</code></pre>'


def _results(found: dict[str, Any]) -> str:
    results = found["results"]
    if results is None:
        return ""
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in test_rows(results))
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in [*chosen(results), *results["notes"]])
    return f"<h2>On the part for testing</h2><table>{rows}</table>{notes}" if rows or notes else ""


def _picture(picture: dict[str, Any]) -> str:
    match picture["kind"]:
        case "confusion":
            return f"<h3>Which class was taken for which</h3>{_confusion(picture)}"
        case "text":
            return f"<h3>What it writes</h3><blockquote>{html.escape(picture['text'])}</blockquote>"
        case "equations":
            lines = html.escape("\n".join(picture["lines"]))
            return f"<h3>The law</h3><pre><code>{lines}</code></pre>"
        case "grid":
            alt = f"{picture['count']} pictures side by side"
            image = f'<img class="grid" alt="{alt}" src="data:image/png;base64,{html.escape(picture["png"])}">'
            return f"<h3>{html.escape(picture['title'])}</h3><figure>{image}</figure>"
        case "table":
            head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in picture["head"])
            rows = "".join(f"<tr>{''.join(f'<td>{_cell(c)}</td>' for c in row)}</tr>" for row in picture["rows"])
            title = html.escape(picture["title"])
            return f'<h3>{title}</h3><div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
    return _drawn(picture)


def _drawn(picture: dict[str, Any]) -> str:
    """A picture that a figure shows."""
    from separatrix import plotting

    known = {
        "scatter": (plotting.plot_scatter, "Predicted against true"),
        "orbit": (plotting.plot_orbit, "The law over the data, from the first row"),
        "cloud": (plotting.plot_cloud, ""),
        "curves": (plotting.plot_bands, ""),
    }
    if picture["kind"] not in known:
        return ""
    plot, title = known[picture["kind"]]
    said = html.escape(picture.get("title", title))
    return f"<h3>{said}</h3><figure>{plotting.as_themed_svg(plot(picture))}</figure>"


def _cell(value: Any) -> str:
    return html.escape(f"{value:.5g}" if isinstance(value, float) else "" if value is None else str(value))


def _confusion(picture: dict[str, Any]) -> str:
    """Rows are true, columns predicted; of many classes only the commonest mistakes."""
    counts, classes = np.asarray(picture["counts"], int), picture["classes"]
    if len(classes) > _CLASSES:
        wrong = counts - np.diag(np.diag(counts))
        worst = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:10]]
        rows = [f"<tr><td>{html.escape(classes[a])}</td><td>{html.escape(classes[b])}</td><td>{wrong[a, b]}</td></tr>"
                for a, b in worst if wrong[a, b]]  # fmt: skip
        return f"<table><tr><th>true</th><th>predicted</th><th>times</th></tr>{''.join(rows)}</table>"
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in classes)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(
            f'<td style="background: color-mix(in srgb, var(--colour-{0 if i == j else 1}) {55 * share[i, j]:.0f}%, '
            f'transparent)">{counts[i, j] or ""}</td>'
            for j in range(len(classes))
        )
        + "</tr>"
        for i, name in enumerate(classes)
    )
    return f'<div class="wide"><table class="confusion"><tr><th>true \\ predicted</th>{head}</tr>{body}</table></div>'


def _next(found: dict[str, Any]) -> str:
    """What can be done with the model, as commands to type."""
    lines = "\n".join(deed_said(what, found["run"], options) for what, options in found["can"].items())
    return f'<h2>What it can do</h2><pre class="go-on"><code>{html.escape(lines)}</code></pre>' if lines else ""


def _spec(found: dict[str, Any]) -> str:
    if not isinstance(found["spec"], dict):
        return ""
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(_short(value))}</dd>" for name, value in found["spec"].items()
    )
    return f"<h2>What was asked</h2><dl>{rows}</dl>"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _numbers(values: list[Any]) -> Any:
    return np.array([np.nan if value is None else value for value in values], float)
