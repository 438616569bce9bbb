r"""What a trained model does on data it has not seen, with standard errors.

    accuracy    p +- sqrt(p (1 - p)/n)
    mean        m +- s/sqrt(n),             s the standard deviation of the n independent terms
    rms error   sqrt(m) +- (s/sqrt(n))/(2 sqrt(m)),    m the mean of the squared errors (the delta method)

Results are plain values, so that a run keeps them as JSON: `test` has the numbers, `pictures` what can be drawn, each made
by one of the functions below.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from separatrix.data import picture_grid, png_bytes


def number(value: float, error: float | None, of: int, about: str = "") -> dict[str, Any]:
    """A number with its standard error, and of how many terms it is; None for what is not known or not finite."""
    return {"value": _finite(value), "error": _finite(error), "of": int(of), "about": about}


def _finite(value: float | None) -> float | None:
    """A number as JSON has it: one that is not finite is none."""
    return float(value) if value is not None and math.isfinite(value) else None


def accuracy(hits: Any, about: str = "share of classes that are right") -> dict[str, Any]:
    """The share of hits.

    >>> found = accuracy([True, True, True, False])
    >>> found["value"], round(found["error"], 4)
    (0.75, 0.2165)
    """
    hits = np.asarray(hits, bool)
    share = float(hits.mean())
    return number(share, math.sqrt(share * (1 - share) / len(hits)), len(hits), about)


def mean(terms: Any, about: str = "") -> dict[str, Any]:
    """The mean of independent terms."""
    terms = np.asarray(terms, float)
    error = float(terms.std(ddof=1)) / math.sqrt(len(terms)) if len(terms) > 1 else None
    return number(float(terms.mean()), error, len(terms), about)


def rms(squares: Any, about: str = "") -> dict[str, Any]:
    """The root of the mean of squared errors.

    >>> found = rms([4.0, 4.0, 4.0])
    >>> found["value"], found["error"]
    (2.0, 0.0)
    """
    found = mean(squares)
    if found["value"] is None:
        return found
    root = math.sqrt(found["value"])
    error = None if found["error"] is None else found["error"] / (2 * root) if root > 0 else 0.0
    return number(root, error, found["of"], about)


def confusion(true: Any, predicted: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    """How often each class was taken for each other: rows are true, columns predicted."""
    table = np.zeros((len(classes), len(classes)), int)
    np.add.at(table, (np.asarray(true, int), np.asarray(predicted, int)), 1)
    return {"kind": "confusion", "classes": list(classes), "counts": table.tolist()}


def scatter(true: Any, predicted: Any, name: str, most: int = 1_000) -> dict[str, Any]:
    """Predicted against true values, the first `most` of them."""
    pairs = [np.asarray(values, float)[:most].round(6).tolist() for values in (true, predicted)]
    return {"kind": "scatter", "name": name, "true": pairs[0], "predicted": pairs[1]}


def grid(pictures: Any, title: str) -> dict[str, Any]:
    """Pictures side by side: (n, height, width) or (n, height, width, 3) in [0, 1]."""
    content = png_bytes(picture_grid(np.asarray(pictures)))
    return {"kind": "grid", "title": title, "count": len(pictures), "png": base64.b64encode(content).decode("ascii")}


def cloud(
    sets: Mapping[str, Any], title: str, names: tuple[str, str] = ("x", "y"), most: int = 1_000
) -> dict[str, Any]:
    """Points of the plane, the first `most` of each set: name to (n, 2)."""
    points = {name: np.asarray(values, float)[:most].round(6) for name, values in sets.items()}
    shown = [{"name": name, "x": _plain(one[:, 0]), "y": _plain(one[:, 1])} for name, one in points.items()]
    return {"kind": "cloud", "title": title, "names": list(names), "sets": shown}


def curve(name: str, x: Any, y: Any, low: Any = None, high: Any = None, dots: bool = False) -> dict[str, Any]:
    """A line, or dots, with a band from `low` to `high` around it: one of those that `curves` draws."""
    band = {key: _plain(value) for key, value in (("low", low), ("high", high)) if value is not None}
    return {"name": name, "x": _plain(x), "y": _plain(y), "dots": dots} | band


def curves(drawn: list[dict[str, Any]], title: str, names: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """Lines over one axis, each made by `curve`."""
    return {"kind": "curves", "title": title, "names": list(names), "curves": drawn}


def table(head: list[str], rows: list[list[Any]], title: str) -> dict[str, Any]:
    """Rows of texts and numbers."""
    return {"kind": "table", "title": title, "head": list(head), "rows": [list(map(_cell, row)) for row in rows]}


def _plain(values: Any) -> list[float | None]:
    return [_finite(value) for value in np.asarray(values, float).ravel().tolist()]


def _cell(value: Any) -> Any:
    return _finite(float(value)) if isinstance(value, float) else value if isinstance(value, int) else str(value)
