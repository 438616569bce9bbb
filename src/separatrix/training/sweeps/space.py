r"""Spaces: which trials a sweep makes.

    grid      all combinations of the axes' values, the last axis running fastest
    random    trial i is a uniform draw by (seed, name); what is logarithmic is uniform in ln
    sobol     the i-th scrambled Sobol point of SciPy: it fills the cube more evenly than random draws do

A space is a dictionary from names to axes: a sequence of values, or a `Range`. The trials follow from the space, the way
to draw and the seed alone, so that a sweep that was killed goes on with the very same trials.
"""

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from separatrix._errors import explain, unknown
from separatrix._types import Checked
from separatrix.systems import ranges

DRAWS = ("grid", "random", "sobol")
MOST_TRIALS = 100_000_000
_DO_RANGE = "Write for example Range(1e-3, 1.0, log=True)."


@dataclasses.dataclass(frozen=True)
class Range:
    r"""The numbers from `low` to `high`, both among them.

    - `count`: how many of them make an axis of a grid, evenly spaced; None for an axis that is drawn from.
    - `log`: spaced or drawn evenly in the logarithm. `whole`: whole numbers only.

    **Example:**

    >>> Range(1.0, 100.0, count=3, log=True).values().tolist()
    [1.0, 10.0, 100.0]
    """

    low: Checked[float]
    high: Checked[float]
    count: Checked[int | None] = None
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
                raise TypeError(explain(f"Range: {name}", repr(value), "a number", _DO_RANGE))
            if not math.isfinite(value):
                do = "A space that is infinite cannot be gone through: give a bound."
                raise ValueError(explain(f"Range: {name}", value, "a finite number", do))
        if not self.low < self.high:
            raise ValueError(explain("Range", f"low {self.low} and high {self.high}", "low < high", _DO_RANGE))
        if self.log and not self.low > 0:
            raise ValueError(
                explain("Range: low", self.low, "a number > 0 where log is true", "Raise it, or drop log.")
            )
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(explain("Range", f"{self.low} to {self.high}", "whole numbers", "Drop whole=True."))
        if self.count is not None:
            ranges.whole("Range: count", self.count, "Say how many values: count=64.", least=2)

    def values(self) -> np.ndarray:
        """The values of the axis of a grid."""
        spaced = np.geomspace if self.log else np.linspace
        return self._rounded(spaced(float(self.low), float(self.high), self.count or 2))

    def at(self, shares: np.ndarray) -> np.ndarray:
        """The values at shares in [0, 1) of the way."""
        low, high = float(self.low), float(self.high)
        if self.whole:
            low, high = low - (0.0 if self.log else 0.5), high + (0.0 if self.log else 0.5)
        found = low * (high / low) ** shares if self.log else low + (high - low) * shares
        return self._rounded(np.clip(found, low, high))

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        if not self.whole:
            return values
        return np.clip(np.rint(values), self.low, self.high).astype(np.int64)


Axis = Range | np.ndarray


@dataclasses.dataclass(frozen=True)
class Design:
    """The trials of a sweep: `axes` by name, how they are drawn, how many there are, and the seed."""

    axes: Mapping[str, Axis]
    draw: str
    trials: int
    seed: int

    def columns(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The values of these trials, an array a name."""
        if self.draw == "grid":
            places = np.unravel_index(numbers, [len(_values(axis)) for axis in self.axes.values()])
            return {name: _values(axis)[i] for (name, axis), i in zip(self.axes.items(), places, strict=True)}
        found = {}
        for (name, axis), shares in zip(self.axes.items(), self._shares(numbers), strict=True):
            found[name] = axis.at(shares) if isinstance(axis, Range) else axis[(shares * len(axis)).astype(int)]
        return found

    def _shares(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Shares in [0, 1) of each axis."""
        if self.draw == "sobol":
            from scipy.stats import qmc

            # Always from the first point on, in a power of two: so a point does not depend on who asks for it.
            power = max(1, math.ceil(math.log2(self.trials)))
            every = qmc.Sobol(len(self.axes), scramble=True, rng=np.random.default_rng(self.seed)).random_base2(power)
            return list(np.minimum(every[numbers], np.nextafter(1.0, 0.0)).T)
        streams = [np.random.default_rng([self.seed, zlib.crc32(name.encode())]) for name in self.axes]
        return [stream.random(self.trials)[numbers] for stream in streams]

    def plain(self) -> dict[str, Any]:
        """The design as plain values, by which it is known again."""
        axes = {
            name: dataclasses.asdict(axis) if isinstance(axis, Range) else axis.tolist()
            for name, axis in self.axes.items()
        }
        return {"space": axes, "draw": self.draw, "trials": self.trials, "seed": self.seed}


def design_of(space: Any, trials: Any, draw: Any, seed: Any) -> Design:
    """Check a space and what is asked of it.

    **Raises:** `ValueError` or `TypeError` that names the axis.
    """
    if not isinstance(space, Mapping):
        do = 'Pass for example {"learning_rate": [0.1, 0.2]}.'
        raise TypeError(explain("sweep: space", type(space).__name__, "a dictionary from names to values", do))
    if not space:
        do = 'Name at least one: {"learning_rate": [0.1, 0.2]}.'
        raise ValueError(explain("sweep: space", "no axis", "one axis or more", do))
    axes = {_name(name): _axis(name, axis) for name, axis in space.items()}
    seed = ranges.whole("sweep: seed", seed, "Take 0.", least=0)
    loose = [name for name, axis in axes.items() if isinstance(axis, Range) and axis.count is None]
    draw = ("random" if loose or trials is not None else "grid") if draw is None else draw
    if draw not in DRAWS:
        raise ValueError(unknown("sweep: draw", draw, DRAWS, 'Say draw="sobol".'))
    if draw == "grid":
        return Design(axes, draw, _grid_size(axes, loose, trials), seed)
    if trials is None:
        got = f"none, though {loose[0]!r} is a range to draw from" if loose else "none"
        do = "Say trials=256, or give the range a count= for a grid."
        raise ValueError(explain("sweep: trials", got, "how many trials", do))
    return Design(axes, draw, ranges.whole("sweep: trials", trials, "Say trials=256.", most=MOST_TRIALS), seed)


def _grid_size(axes: Mapping[str, Axis], loose: list[str], trials: Any) -> int:
    if loose:
        do = 'Give it count=, or say draw="sobol" and trials=.'
        raise ValueError(explain(f"sweep: space: {loose[0]}", "a range without count", "the values of a grid", do))
    size = math.prod(len(_values(axis)) for axis in axes.values())
    if trials is not None and trials != size:
        do = 'Leave trials out, or say draw="random".'
        raise ValueError(explain("sweep: trials", trials, f"{size}, as many as the grid has", do))
    if size > MOST_TRIALS:
        do = 'Draw from it: draw="sobol", trials=10_000.'
        raise ValueError(explain("sweep: space", f"a grid of {size} trials", f"at most {MOST_TRIALS}", do))
    return size


def _values(axis: Axis) -> np.ndarray:
    return axis.values() if isinstance(axis, Range) else axis


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(explain("sweep: space", repr(name), "names of arguments or fields", "Rename it."))
    if name in RESERVED:
        raise ValueError(
            explain(f"sweep: space: {name}", "a name that the table of results has", "another", "Rename it.")
        )
    return name


RESERVED = ("trial", "outcome", "at", "error", "key")


def _axis(name: str, axis: Any) -> Axis:
    where = f"sweep: space: {name}"
    if isinstance(axis, Range):
        return axis
    if isinstance(axis, str) or (not isinstance(axis, Sequence | np.ndarray) and not hasattr(axis, "__array__")):
        raise TypeError(explain(where, repr(axis)[:80], "a sequence of values, or a Range", _DO_RANGE))
    values = list(axis) if isinstance(axis, Sequence) else np.asarray(axis).tolist()
    if not isinstance(values, list) or not values:
        raise ValueError(explain(where, "no value", "at least one", "Leave the axis out, or give it values."))
    kinds = {type(value) for value in values}
    for i, value in enumerate(values):
        if not isinstance(value, bool | int | float | str | np.generic):
            raise TypeError(explain(f"{where}[{i}]", repr(value)[:80], "a number, a text, true or false", "Repair it."))
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            raise ValueError(explain(f"{where}[{i}]", value, "a finite number", "Drop it."))
    if len(kinds) > 1 and not kinds <= {int, float}:
        raise TypeError(explain(where, "values of several kinds", "numbers alone, or texts alone", "Split the axis."))
    found = np.array(values)
    if len(np.unique(found)) < len(found):
        raise ValueError(explain(where, "the same value twice", "each value once", "Drop one of them."))
    return found
