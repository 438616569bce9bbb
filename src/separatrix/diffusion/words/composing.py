r"""Pictures composed to their captions: small pictures set on dark ground, so that what a caption says can be measured.

    picture = max over items of   level * R item R^T / peak   at (row, column)

R resizes to a side of about S/2 (large) or 5 S/16 (small), S the side of the picture; the level is 0.25 to 0.4 (dark) or
0.8 to 1 (bright) of white; two items are of one class, one above the other; the column has its middle at S/4, S/2 or
3 S/4. A share of all combinations is withheld from training.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.diffusion.words.captions import NOUNS, caption_of, combinations
from separatrix.systems import ranges

_LEVELS = ((0.25, 0.4), (0.8, 1.0))
_PEAK = 95  # the percentile of the pixels that are not ground which counts as an item's own level


@dataclasses.dataclass(frozen=True, eq=False)
class Composed:
    """Pictures (n, S, S) in [0, 1], their captions, and the codes (n, 5) of what they show."""

    pictures: np.ndarray
    captions: tuple[str, ...]
    codes: np.ndarray


def withheld(nouns: Checked[int], share: float = 1 / 6, seed: Checked[int] = 0) -> np.ndarray:
    r"""Return the combinations that are kept out of training, so that each pair of values is still seen together.

    **Arguments:**

    - `nouns`: how many. `share`: of all 24 combinations a noun, from 0 to 1/4. `seed`: decides which.

    **Returns:** codes, shape (n, 5).

    **Raises:** `ValueError` for a share outside its range.

    **Example:**

    >>> import separatrix as sx
    >>> sx.diffusion.withheld(10).shape
    (40, 5)
    """
    if not 0 <= share <= 0.25:
        raise ValueError(explain("withheld: share", share, "0 to 0.25", "Leave it out for 1/6."))
    every = combinations(ranges.whole("withheld: nouns", nouns))
    rng, count = np.random.default_rng(seed), round(share * len(every))
    # As many of each noun, so that no noun is taught less than another.
    order = np.concatenate([rng.permutation(24)[None] + 24 * n for n in range(nouns)]).T.ravel()
    return every[np.sort(order[:count])]


def compose_pictures(
    items: Any, labels: Any, count: Checked[int], *, nouns: Sequence[str] | None = None, side: Checked[int] = 32,
    without: Any = None, only: Any = None, unsaid: float = 0.0, seed: Checked[int] = 0,
) -> Composed:  # fmt: skip
    r"""Compose pictures with captions out of small pictures with classes.

    **Arguments:**

    - `items`: shape (N, h, w), in [0, 1], light on dark ground. `labels`: shape (N,), their classes from 0.
    - `count`: how many to compose. `nouns`: what the classes are called; those of Fashion-MNIST by default.
    - `side`: S, a multiple of 8.
    - `without`: combinations that are not shown, as `withheld` gives them; or `only`: the ones to show.
    - `unsaid`: the probability of each attribute but the object to be left out of the caption.
    - `seed`: of the choice of items, combinations and places.

    **Returns:** a `Composed`.

    **Raises:** `ValueError` for pictures without classes, classes without a noun or without a picture, or numbers out of
    range.

    **Example:**

    >>> import separatrix as sx
    >>> digits = sx.load("digits")
    >>> nouns = sx.diffusion.NOUNS["digits"]
    >>> made = sx.diffusion.compose_pictures(digits.inputs, digits.targets, 3, nouns=nouns, side=16, only=[[7, 1, 0, 0, 0]])
    >>> made.captions[0], made.pictures.shape
    ('two small 7s, dark, on the left', (3, 16, 16))
    """
    nouns = tuple(NOUNS["fashion-mnist"] if nouns is None else nouns)
    count, side = (
        ranges.whole("compose: count", count, "Say how many."),
        ranges.whole("compose: side", side, least=8),
    )
    items, labels = _checked(items, labels, nouns)
    ranges.share("compose: unsaid", unsaid, "Leave it out for 0.")
    if side % 8:
        raise ValueError(explain("compose: side", side, "a multiple of 8", "Take 32."))
    allowed = _allowed(len(nouns), without, only)
    rng = np.random.default_rng(seed)
    codes = allowed[rng.integers(len(allowed), size=count)]
    of_class = [np.flatnonzero(labels == n) for n in range(len(nouns))]
    resize = {size: _resizer(items.shape[1:], size) for size in {_side(side, s, d) for s in (0, 1) for d in (0, 1)}}
    pictures = np.zeros((count, side, side), np.float32)
    for picture, (noun, number, size, light, place) in zip(pictures, codes, strict=True):
        centre = side * (1 + place) / 4
        rows = (0.25, 0.75) if number else (0.5,)
        for row in rows:
            length = _side(side, int(size), int(rng.integers(2)))
            left, right = resize[length]
            item = left @ items[rng.choice(of_class[noun])] @ right.T
            lit = item[item > 0.1]
            item = np.minimum(item / (np.percentile(lit, _PEAK) if lit.size else 1.0), 1.0)
            y, x = (_at(c, length, side, rng) for c in (row * side, centre))
            place_of = picture[y : y + length, x : x + length]
            np.maximum(place_of, item * rng.uniform(*_LEVELS[light]), out=place_of)
    said = np.column_stack([np.ones(count, bool), rng.random((count, 4)) >= unsaid])
    captions = tuple(caption_of(nouns, *pair) for pair in zip(codes, said, strict=True))
    return Composed(np.clip(pictures, 0, 1), captions, codes)


def _side(side: int, size: int, more: int) -> int:
    """The side of an item: 10 or 11, 15 or 16 of 32."""
    return (side // 2 - 1 if size else side * 10 // 32) + more


def _at(centre: float, length: int, side: int, rng: Any) -> int:
    """Where an item begins: its middle up to S/32 from where it should be, all of it inside."""
    wanted = centre - length / 2 + rng.uniform(-1, 1) * side / 32
    return int(np.clip(round(wanted), 0, side - length))


def _resizer(shape: tuple[int, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that resize rows and columns: a triangle as wide as the coarser of the two grids."""
    found = []
    for length in shape:
        ratio = length / size
        gaps = (np.arange(size)[:, None] + 0.5) * ratio - 0.5 - np.arange(length)[None]
        weights = np.maximum(1 - np.abs(gaps) / max(ratio, 1.0), 0)
        found.append((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
    return found[0], found[1]


def _allowed(nouns: int, without: Any, only: Any) -> np.ndarray:
    every = combinations(nouns)
    if only is not None and without is not None:
        raise ValueError(explain("compose", "only and without", "one of them", "Leave one out."))
    given = (
        np.zeros((0, 5), int) if only is None and without is None else np.asarray(only if without is None else without)
    )
    if given.ndim != 2 or given.shape[1] != 5:
        do = "Give rows of codes: object, count, size, brightness, place."
        raise ValueError(explain("compose: combinations", f"shape {given.shape}", "(n, 5)", do))
    inside = (every[:, None] == given[None]).all(axis=2)
    unknown = np.flatnonzero(~inside.any(axis=0))
    if unknown.size:
        row = given[unknown[0]].tolist()
        raise ValueError(explain("compose: combinations", row, f"codes of {nouns} nouns", "See combinations."))
    chosen = every[inside.any(axis=1) == (only is not None)]
    if not len(chosen):
        raise ValueError(explain("compose: combinations", "none left", "at least one to show", "Withhold fewer."))
    return chosen


def _checked(items: Any, labels: Any, nouns: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    items = np.asarray(items, np.float32)
    if items.ndim != 3:
        raise ValueError(explain("compose: items", f"shape {items.shape}", "grey pictures (N, h, w)", "Make them so."))
    ranges.finite("compose: items", items, "Leave out the pictures that are not finite.")
    if labels is None:
        do = "Give each picture a class: captions are made of them."
        raise ValueError(explain("compose: labels", "pictures without classes", "a class for each", do))
    labels = np.asarray(labels)
    if labels.shape != items.shape[:1]:
        do = "Give one to each picture."
        raise ValueError(explain("compose: labels", f"shape {labels.shape}", f"({len(items)},)", do))
    ranges.indices("compose: labels", labels, len(nouns), f"The nouns are {', '.join(nouns)}.")
    for number, noun in enumerate(nouns):
        if not np.any(labels == number):
            do = "Give some of each class, or fewer nouns."
            raise ValueError(explain("compose: labels", f"no picture of {noun!r}", "some of each noun", do))
    return items, labels
