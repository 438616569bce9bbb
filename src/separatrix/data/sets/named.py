"""A named set: a recipe from places to arrays.

    places -> the first that is there -> raw arrays, whose digest is known -> inputs and targets

The digest is taken of the raw arrays as they were published, before any scaling, so that it does not move with ours.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from separatrix.data.dataset import Fields

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a copy may be: what the place is called, whether it is there (its location, or None), how it is read."""

    label: str
    find: Callable[[], str | None]
    read: Callable[[str], Arrays]


@dataclasses.dataclass(frozen=True)
class NamedSet:
    """What is known of a named set.

    - `summary`, `source`, `licence`, `sha256`: for its card.
    - `file`: what a copy of the user's own is called in a data folder; `read` reads such a copy.
    - `places`: where else to look, in order. `install`: the line that would put it there.
    - `prepare`: raw arrays to the fields of a `DataSet`.
    """

    name: str
    summary: str
    source: str
    licence: str
    sha256: str
    file: str
    install: str
    places: tuple[Place, ...]
    read: Callable[[str], Arrays]
    prepare: Callable[[Arrays], Fields]


def folder_of(path: str) -> Callable[[], str | None]:
    """A finder of one folder or file: its path where it is there."""
    return lambda: path if Path(path).exists() else None


def images(raw: Shaped[np.ndarray, "n height width"], white: int) -> Shaped[np.ndarray, "n height width"]:
    """Grey levels 0..white to float32 in [0, 1]."""
    return raw.astype(np.float32) / np.float32(white)
