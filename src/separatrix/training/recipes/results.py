r"""What a trained model does on data it has not seen, with standard errors.

    accuracy    p +- sqrt(p (1 - p)/n)
    mean        m +- s/sqrt(n),             s the standard deviation of the n independent terms
    rms error   sqrt(m) +- (s/sqrt(n))/(2 sqrt(m)),    m the mean of the squared errors (the delta method)

Results are plain values, so that a run keeps them as JSON: `test` has the numbers, `pictures` what can be drawn.
"""

import math
from typing import Any

import numpy as np


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
