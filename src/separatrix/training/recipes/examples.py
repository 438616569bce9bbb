"""Examples of a table or of pictures, split by a key into parts, settled on the part for training.

Tables and pictures meet here: what comes out is inputs and targets, and how another file becomes inputs of the same kind.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np

from separatrix._errors import DataError, explain, unknown
from separatrix.data import DataSet, Split, Table, load, names, read_images, split, split_files
from separatrix.data.dataset import digest
from separatrix.data.images import SUFFIXES as PICTURES, is_pictures as holds_pictures
from separatrix.training.recipes.columns import SUFFIXES, Column, matrix_of, read_table, settle
from separatrix.training.recipes.training import Training, require_same_data

_PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
          "dev": "validation", "test": "test"}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervising(Training):
    """The fields of recipes that predict a target from inputs."""

    target: str | None = None
    """Of a table: the column to predict. Of pictures the class is their folder."""
    drop: tuple[str, ...] = ()
    """Columns that are no inputs, such as the number of a row."""
    delimiter: str | None = None
    """The sign between the columns of a text file."""
    size: int | None = None
    """Resize pictures to a square of so many pixels."""
    colour: Literal["grey", "rgb"] | None = None
    """Make pictures all "grey" or all "rgb"."""
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Parts for training, validation and test."""
    width: int = 64
    """Units of a hidden layer; channels, for pictures."""
    depth: int = 2
    """Hidden layers; residual blocks, for pictures."""
    columns: tuple[Column, ...] = ()
    """Settled from a table: how its columns become features."""
    shape: tuple[int, ...] = ()
    """Settled from the data: the shape of one input."""
    center: float = 0.0
    """Settled from pictures: the mean level of training."""
    spread: float = 1.0
    """Settled from pictures: the standard deviation of levels."""


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Inputs and targets (numbers, or codes of classes) by part; a part that was not asked for is None."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    classes: tuple[str, ...]
    settled: dict[str, Any]
    notes: tuple[str, ...]


def is_pictures(recipe: Supervising) -> bool:
    """Whether a recipe learns from pictures: a folder, or a data set of that kind."""
    return str(recipe.data) in names() or recipe.data.is_dir()


def parts_of(recipe: Supervising) -> Parts:
    """Read, split and settle.

    **Raises:** `ValueError` where options and data do not fit, `DataError` for data that are not sound, or changed.
    """
    found = _of_pictures(recipe) if is_pictures(recipe) else _of_table(recipe)
    require_same_data(recipe, found.settled["digest"])
    return found


def inputs_of(recipe: Supervising, path: Path) -> tuple[Any, list[str], list[str]]:
    """Inputs of another file, in the way of a settled recipe; what each is called, and what must be reported."""
    if recipe.columns:
        table = read_table(path, recipe.delimiter, recipe.columns)
        values, notes = matrix_of(recipe.columns, table)
        return values, [str(number) for number in range(1, len(values) + 1)], notes
    colour: Any = "rgb" if len(recipe.shape) == 3 else "grey"
    height, width = recipe.shape[:2]
    found = read_images(path, size=(height, width), colour=colour)
    return _levels(found.values, recipe.center, recipe.spread), [str(file) for file in found.files], []


def _of_table(recipe: Supervising) -> Parts:
    path = recipe.data
    for option in ("size", "colour"):
        if getattr(recipe, option) is not None:
            do = "Leave it out, or name a folder of pictures."
            raise ValueError(explain(option, getattr(recipe, option), "no such option for a table", do))
    table = read_table(path, recipe.delimiter)
    whole, notes = _with_target(table, recipe.target, recipe.drop)
    target: Any = recipe.target
    parts = split(whole, recipe.fractions, key=recipe.seed)
    names = tuple(name for name in whole.names if name != target and name not in recipe.drop)
    columns = recipe.columns or settle(whole, parts.train, names)
    classes = whole.vocabularies.get(target, ())
    inputs, said = matrix_of(columns, whole)
    raw = {"inputs": inputs, "targets": whole[target]}
    made = [
        None if p is None else (matrix_of(columns, p)[0], p[target])
        for p in (parts.train, parts.validation, parts.test)
    ]
    settled = {"columns": columns, "shape": inputs.shape[1:], "digest": digest(raw)}
    return Parts(made[0], made[1], made[2], classes, settled, (*notes, *said))  # type: ignore[arg-type]


def _with_target(table: Table, target: str | None, drop: tuple[str, ...]) -> tuple[Table, list[str]]:
    """The rows that have a target."""
    if target is None:
        known = ", ".join(table.names[:20])
        do = f"Name it, as --target {table.names[-1]}"
        raise ValueError(explain(f"{table.source}: target", "no column to predict", f"one of {known}", do))
    for name in (target, *drop):
        if name not in table.columns:
            raise DataError(unknown(f"{table.source}: column", name, table.columns, "Name a column of the file."))
    if not set(table.names) - {target, *drop}:
        raise DataError(explain(table.source, "no column but the target", "inputs", "Drop fewer columns."))
    there = table.present(target)
    if there.all():
        return table, []
    if not there.any():
        raise DataError(explain(f"{table.source}: column {target!r}", "no value at all", "some", "Name another."))
    return table.rows(there), [f"{int(np.sum(~there))} rows without {target!r} left out"]


def _of_pictures(recipe: Supervising) -> Parts:
    for option, none in (("target", None), ("drop", ()), ("delimiter", None)):
        if getattr(recipe, option) != none:
            do = "Leave it out: the class of a picture is its folder."
            raise ValueError(explain(option, getattr(recipe, option), "no such option for pictures", do))
    parts = _split_pictures(recipe)
    train = parts.train
    if train.targets is None or train.inputs.ndim < 3:
        got = "no classes" if train.targets is None else f"inputs of shape {train.inputs.shape[1:]}"
        do = "Put the pictures of each class into a folder of its own."
        raise DataError(explain(str(recipe.data), got, "pictures in folders, one a class", do))
    codes = {"inputs": train.inputs, "targets": train.targets}
    settled: dict[str, Any] = {"shape": train.inputs.shape[1:], "digest": digest(codes)}
    spread = float(train.inputs.std())
    settled |= {"center": float(train.inputs.mean()), "spread": spread if spread > 0 else 1.0}
    made = [
        None if p is None else (_levels(p.inputs, settled["center"], settled["spread"]), p.targets)
        for p in (train, parts.validation, parts.test)
    ]
    classes = train.classes or tuple(str(code) for code in range(int(train.targets.max()) + 1))
    return Parts(made[0], made[1], made[2], classes, settled, ())  # type: ignore[arg-type]


def _split_pictures(recipe: Supervising) -> Split[DataSet]:
    colour: Any = recipe.colour
    if str(recipe.data) in names():
        found = load(str(recipe.data))
        first, second, third = recipe.fractions
        own = found.test_inputs is not None  # it comes with a part for testing
        return split(found, (first + third, second, 0) if own else recipe.fractions, key=recipe.seed)
    options: dict[str, Any] = {"size": recipe.size, "colour": colour}
    inside = {entry.name.lower(): entry for entry in recipe.data.iterdir() if entry.is_dir()}
    if inside and set(inside) <= set(_PARTS) and "train" in {_PARTS[name] for name in inside}:
        return split_files(**{_PARTS[name]: entry for name, entry in inside.items()}, **options)
    _require_pictures(recipe.data)
    return split(load(recipe.data, **options), recipe.fractions, key=recipe.seed)


def _require_pictures(folder: Path) -> None:
    """Refuse a folder that holds neither pictures nor the files of the MNIST family."""
    if not holds_pictures(folder) and not any("idx" in entry.name for entry in folder.iterdir()):
        do = "Put the pictures of each class into a folder of its own, as pictures/cat/1.png"
        raise DataError(explain(str(folder), "a folder without pictures", f"files ending in {', '.join(PICTURES)}", do))


def _levels(pictures: Any, center: float, spread: float) -> Any:
    return ((pictures - np.float32(center)) / np.float32(spread)).astype(np.float32)


def require_file(path: Path) -> None:
    """Refuse a path with nothing there, or of another kind, before anything is computed."""
    if str(path) in names() or path.is_dir() or path.suffix.lower() in SUFFIXES:
        return
    expected = f"a folder of pictures, a file ending in {', '.join(SUFFIXES)}, or a name of `separatrix data list`"
    raise ValueError(explain(f"--data {path}", f"suffix {path.suffix!r}", expected, "Convert or rename the file."))
