"""Of the parts of a data set, as much as a question needs: a pair of examples and their classes, or None."""

from typing import Any

import numpy as np

_LEAST = 32  # examples for validation, where there are so many


def validated_part(part: tuple[Any, Any], used: int) -> tuple[Any, Any]:
    """Of the part for validation as much as costs a tenth of a training that uses so many examples, at most 500."""
    # A run is validated a hundred times, without the two thirds of a step that its derivative takes.
    return spread_over(part, min(max(_LEAST, used // 320), 500))


def spread_over(part: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    """About so many examples, spread over a part: one of each so many."""
    return cut_of(part, slice(None, None, max(1, len(part[0]) // count)))


def cut_of(part: tuple[Any, Any], cut: slice) -> tuple[Any, Any]:
    """The examples of a cut, with their classes."""
    return part[0][cut], None if part[1] is None else part[1][cut]


def nearest_distances(drawn: Any, examples: Any) -> Any:
    """Root mean square distance of each sample from the nearest example."""
    first, second = (np.asarray(a, float).reshape(len(a), -1) for a in (drawn, examples))
    squares = np.sum(first**2, 1)[:, None] + np.sum(second**2, 1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0).min(axis=1) / first.shape[1])
