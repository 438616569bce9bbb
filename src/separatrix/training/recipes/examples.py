"""Examples of a table or of pictures, split by a key into parts, settled on the part for training.

Tables and pictures meet here: what comes out is inputs and targets, and how another file becomes inputs of the same kind.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np

from separatrix._errors import DataError, DataMissing, explain, unknown
from separatrix.data import Table, split
from separatrix.data.dataset import digest
from separatrix.data.loading import named_set
from separatrix.training.recipes.columns import SUFFIXES, Column, matrix_of, names_of, read_table, settle
from separatrix.training.recipes.pictures import (
    PARTS,
    column_of_pictures,
    files_of,
    levels,
    pictures_at,
    read_listed,
    scales_of,
    split_of_folder,
)
from separatrix.training.recipes.training import Training, require_same_data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervising(Training):
    """The fields of recipes that predict a target from inputs."""

    target: str | None = None
    """Of a table: the column to predict. Of pictures in folders the target is their folder."""
    pictures: str | None = None
    """Of a table: the column that names pictures, which are then the inputs; found by their suffixes if it is left out."""
    split: str | None = None
    """Of a table: the column that says of each row train, validation or test; by default `seed` and `fractions` do."""
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
    return named_set(recipe.data) is not None or recipe.data.is_dir()


def parts_of(recipe: Supervising) -> Parts:
    """Read, split and settle.

    **Raises:** `ValueError` where options and data do not fit, `DataError` for data that are not sound, or changed.
    """
    if named_set(recipe.data) is None and not recipe.data.exists():
        do = "Put it back: the run learns from it."
        raise DataMissing(explain(f"data {recipe.data}", "nothing there", "the file or folder to learn from", do))
    found = _of_pictures(recipe) if is_pictures(recipe) else _of_table(recipe)
    require_same_data(recipe, found.settled["digest"])
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Others:
    """Inputs of another file, what each is called, what must be reported, and their targets where the file has them.

    - `targets`: words or numbers, None where one is missing.
    """

    inputs: Any
    names: list[str]
    notes: list[str]
    targets: list[Any] | None


def inputs_of(recipe: Supervising, path: Path, kind: Literal["category", "number"]) -> Others:
    """Inputs of another file, in the way of a settled recipe; `kind`: of its targets."""
    if len(recipe.shape) > 1 and not (path.is_file() and path.suffix.lower() in SUFFIXES):
        values, called, folders = pictures_at(recipe, path)
        return Others(levels(values, vars(recipe)), called, [], folders)
    if recipe.pictures is None and not recipe.columns:
        do = "Name a folder of pictures."
        raise ValueError(explain(f"--data {path}", "a table", "pictures, as in training", do))
    columns = recipe.columns or (Column(str(recipe.pictures), "category"),)
    there = recipe.target in names_of(path, recipe.delimiter)
    wanted = (*columns, Column(str(recipe.target), kind)) if there else columns
    table = read_table(path, recipe.delimiter, wanted)
    targets: list[Any] | None = None
    if there and kind == "category":
        targets = table.words(str(recipe.target))
    elif there:
        present = table.present(str(recipe.target))
        known = table.matrix(str(recipe.target))[:, 0].tolist()
        targets = [value if is_there else None for value, is_there in zip(known, present, strict=True)]
    if recipe.columns:
        values, notes = matrix_of(recipe.columns, table)
        return Others(values, [str(number) for number in range(1, len(values) + 1)], notes, targets)
    files = files_of(table, str(recipe.pictures))
    values = np.concatenate([pictures_at(recipe, file)[0] for file in files])
    return Others(levels(values, vars(recipe)), [str(file) for file in files], [], targets)


def _of_table(recipe: Supervising) -> Parts:
    table = read_table(recipe.data, recipe.delimiter)
    whole, notes = _with_target(table, recipe.target, recipe.drop)
    column = column_of_pictures(whole, recipe.pictures)
    for option in ("size", "colour"):
        if getattr(recipe, option) is not None and column is None:
            do = "Leave it out, or name a folder of pictures."
            raise ValueError(explain(option, getattr(recipe, option), "no such option for a table", do))
    parts = _split_table(recipe, whole)
    classes = whole.vocabularies.get(str(recipe.target), ())
    aside = {recipe.target, *recipe.drop, recipe.split}
    others = tuple(name for name in whole.names if name not in aside)
    if column is not None:
        return _of_listed(recipe, whole, parts, column, classes, notes, [name for name in others if name != column])
    if not others:
        raise DataError(explain(table.source, "no column but the target", "inputs", "Drop fewer columns."))
    columns = recipe.columns or settle(whole, whole.rows(parts[0]), others)
    many = [one for one in columns if len(one.words) > max(20, len(whole) // 2)]
    notes += [f"column {one.name!r}: {len(one.words)} words in {len(whole)} rows say little: --drop it" for one in many]
    inputs, said = matrix_of(columns, whole)
    targets = whole[str(recipe.target)]
    settled = {"columns": columns, "shape": inputs.shape[1:], "digest": digest({"inputs": inputs, "targets": targets})}
    made = [None if rows is None else (inputs[rows], targets[rows]) for rows in parts]
    return Parts(made[0], made[1], made[2], classes, settled, (*notes, *said))  # type: ignore[arg-type]


def _of_listed(
    recipe: Supervising,
    whole: Table,
    parts: Any,
    column: str,
    classes: tuple[str, ...],
    notes: list[str],
    idle: list[str],
) -> Parts:
    """Pictures that a table names."""
    pictures, targets = read_listed(recipe, whole, column), whole[str(recipe.target)]
    settled: dict[str, Any] = {"pictures": column, "digest": digest({"inputs": pictures, "targets": targets})}
    settled |= scales_of(pictures[parts[0]])
    made = [None if rows is None else (levels(pictures[rows], settled), targets[rows]) for rows in parts]
    if idle:
        notes = [*notes, f"the inputs are the pictures of column {column!r}: not used are {', '.join(idle[:8])}"]
    return Parts(made[0], made[1], made[2], classes, settled, tuple(notes))  # type: ignore[arg-type]


def _split_table(recipe: Supervising, whole: Table) -> tuple[Any, Any, Any]:
    """The rows of each part: by the seed, or as a column says."""
    if recipe.split is None:
        rows = split(Table({"row": np.arange(len(whole))}, whole.source), recipe.fractions, key=recipe.seed)
        return tuple(None if p is None else p["row"] for p in (rows.train, rows.validation, rows.test))  # type: ignore
    where = f"{whole.source}: column {recipe.split!r}"
    if recipe.split not in whole.columns:
        raise DataError(unknown(f"{whole.source}: column", recipe.split, whole.columns, "Name a column of the file."))
    if whole.kind(recipe.split) != "category":
        raise DataError(explain(where, "no words", "train, validation or test in each row", "Name another column."))
    said = [None if word is None else PARTS.get(word.strip().lower(), word) for word in whole.words(recipe.split)]
    strange = next((row for row, word in enumerate(said) if word not in ("train", "validation", "test")), None)
    if strange is not None:
        got, do = "nothing" if said[strange] is None else repr(said[strange]), "Repair that row."
        raise DataError(explain(f"{where}, row {strange + 1}", got, "train, validation or test", do))
    found = {part: np.array([i for i, word in enumerate(said) if word == part], int) for part in set(said)}
    if "train" not in found:
        raise DataError(explain(where, "no row that says train", "some", "Say which rows to learn from."))
    return found["train"], found.get("validation"), found.get("test")


def _with_target(table: Table, target: str | None, drop: tuple[str, ...]) -> tuple[Table, list[str]]:
    """The rows that have a target."""
    if target is None:
        known = ", ".join(table.names[:20])
        do = f"Name it, as --target {table.names[-1]}"
        raise ValueError(explain(f"{table.source}: target", "no column to predict", f"one of {known}", do))
    for name in (target, *drop):
        if name not in table.columns:
            raise DataError(unknown(f"{table.source}: column", name, table.columns, "Name a column of the file."))
    there = table.present(target)
    if there.all():
        return table, []
    if not there.any():
        raise DataError(explain(f"{table.source}: column {target!r}", "no value at all", "some", "Name another."))
    return table.rows(there), [f"{int(np.sum(~there))} rows without {target!r} left out"]


def _of_pictures(recipe: Supervising) -> Parts:
    for option, none in (("target", None), ("drop", ()), ("delimiter", None), ("pictures", None), ("split", None)):
        if getattr(recipe, option) != none:
            do = "Leave it out: the class of a picture is its folder."
            raise ValueError(explain(option, getattr(recipe, option), "no such option for pictures", do))
    parts = split_of_folder(recipe)
    train = parts.train
    if train.targets is None or train.inputs.ndim < 3:
        got = "no classes" if train.targets is None else f"inputs of shape {train.inputs.shape[1:]}"
        do = "Put the pictures of each class into a folder of its own, or list them in a table."
        raise DataError(explain(str(recipe.data), got, "pictures in folders, one a class", do))
    settled = scales_of(train.inputs)
    there = [(name, p) for name, p in vars(parts).items() if p is not None]
    settled["digest"] = digest(
        {f"{name} {kind}": getattr(part, kind) for name, part in there for kind in ("inputs", "targets")}
    )
    made = {name: (levels(part.inputs, settled), part.targets) for name, part in there}
    classes = train.classes or tuple(str(code) for code in range(int(train.targets.max()) + 1))
    return Parts(made["train"], made.get("validation"), made.get("test"), classes, settled, ())


def require_file(path: Path) -> None:
    """Refuse a path with nothing there, or of another kind, before anything is computed."""
    if named_set(path) is not None or path.is_dir() or path.suffix.lower() in SUFFIXES:
        return
    expected = f"a folder of pictures, a file ending in {', '.join(SUFFIXES)}, or a name of `separatrix data list`"
    raise ValueError(explain(f"--data {path}", f"suffix {path.suffix!r}", expected, "Convert or rename the file."))
