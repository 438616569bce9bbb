"""Pictures as examples: in folders, one a class; in folders of parts, train and test; or listed in a table.

| pictures | targets | split |
|---|---|---|
| `cats/1.png`, `dogs/1.png` | the folder | by the seed |
| `train/cats/1.png`, `test/cats/1.png`, perhaps `valid/` too | the folder | by file: as they lie |
| a table with a column of paths, from the folder of the table | a column of it | by the seed, or by a column |
"""

from pathlib import Path
from typing import Any

import numpy as np

from separatrix._errors import DataError, DataMissing, explain, unknown
from separatrix.data import DataSet, Split, Table, load, read_image_files, read_images, split, split_files
from separatrix.data.images import SUFFIXES as SUFFIXES, is_pictures as holds_pictures
from separatrix.data.loading import named_set

PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
         "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip


def split_of_folder(recipe: Any) -> Split[DataSet]:
    """The parts of a folder of pictures, or of a named set of them."""
    if named_set(recipe.data) is not None:
        found = load(str(recipe.data))
        first, second, third = recipe.fractions
        own = found.test_inputs is not None  # it comes with a part for testing
        return split(found, (first + third, second, 0) if own else recipe.fractions, key=recipe.seed)
    options: dict[str, Any] = {"size": recipe.size, "colour": recipe.colour}
    inside = {entry.name: entry for entry in recipe.data.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    parts = {PARTS[name.lower()]: entry for name, entry in inside.items() if name.lower() in PARTS}
    if len(parts) == len(inside) and len(parts) > 1:
        if "train" not in parts:
            got, do = f"the parts {', '.join(sorted(inside))}", "Call the folder to learn from: train"
            raise DataError(explain(str(recipe.data), got, "a part to train on", do))
        return split_files(**parts, **options)
    if "train" in parts and not holds_pictures(recipe.data):
        got = f"the folders {', '.join(sorted(set(inside) - set(_named(parts))))} beside {', '.join(_named(parts))}"
        raise DataError(explain(str(recipe.data), got, "train, and valid or test", "Move the others away."))
    _require_pictures(recipe.data)
    found = load(recipe.data, **options)
    least = 1 + sum(fraction > 0 for fraction in recipe.fractions)
    if len(found) < least:
        expected = f"at least {least}: two to learn from, and one for each other part"
        got = f"{len(found)} picture{'s' * (len(found) > 1)}"
        raise DataError(explain(str(recipe.data), got, expected, "Put more pictures there."))
    return split(found, recipe.fractions, key=recipe.seed)


def _named(parts: dict[str, Path]) -> list[str]:
    return sorted(entry.name for entry in parts.values())


def column_of_pictures(table: Table, said: str | None) -> str | None:
    """The column whose words are paths of pictures: that which is said, else the only one; None where there is none.

    **Raises:** `DataError` for a column that does not name pictures.
    """
    if said is not None:
        if said not in table.columns:
            raise DataError(unknown(f"{table.source}: column", said, table.columns, "Name a column of the file."))
        if not _are_pictures(table, said):
            got, do = f"no files ending in {', '.join(SUFFIXES)} in column {said!r}", "Name another column."
            raise DataError(explain(f"{table.source}: pictures", got, "paths of pictures", do))
        return said
    found = [name for name in table.names if _are_pictures(table, name)]
    if len(found) > 1:
        do = f"Name one, as --pictures {found[0]}"
        raise DataError(explain(table.source, f"pictures in columns {', '.join(found)}", "one such column", do))
    return found[0] if found else None


def files_of(table: Table, column: str) -> list[Path]:
    """The pictures that a column names, each of them there.

    **Raises:** `DataError` for a row without one; `DataMissing` for a file that is not there; both name the row.
    """
    home, files = Path(table.source).parent, []
    for row, word in enumerate(table.words(column), 1):
        where = f"{table.source}: column {column!r}, row {row}"
        if word is None:
            raise DataError(explain(where, "no picture", "the path of one", "Leave such rows out."))
        files.append(home / word)
        if not files[-1].is_file():
            do = "Check the path: it is taken from the folder of the table."
            raise DataMissing(explain(where, f"no file at {files[-1]}", "an existing picture", do))
    return files


def pictures_at(recipe: Any, path: Path) -> tuple[Any, list[str], Any]:
    """Pictures of another folder or file, read as those that a settled recipe learned from.

    **Returns:** levels in [0, 1], the names of the files, and the name of the folder of each where there are such.
    """
    colour: Any = "rgb" if len(recipe.shape) == 3 else "grey"
    options: dict[str, Any] = {"size": tuple(recipe.shape[:2]), "colour": colour}
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            expected = f"a folder of pictures, or a file ending in {', '.join(SUFFIXES)}"
            raise ValueError(explain(f"--data {path}", f"suffix {path.suffix!r}", expected, "Name another."))
        return read_image_files([path], **options), [str(path)], None
    found = read_images(path, **options)
    folders = None if found.labels is None else [found.classes[code] for code in found.labels]
    return found.values, [str(file) for file in found.files], folders


def scales_of(pictures: Any) -> dict[str, Any]:
    """What a recipe settles of the training pictures: their shape, mean level and spread."""
    spread = float(pictures.std())
    shape = tuple(pictures.shape[1:])
    return {"shape": shape, "center": float(pictures.mean()), "spread": spread if spread > 0 else 1.0}


def levels(pictures: Any, scales: Any) -> Any:
    """Pictures less the mean level, over the spread."""
    return ((pictures - np.float32(scales["center"])) / np.float32(scales["spread"])).astype(np.float32)


def read_listed(recipe: Any, table: Table, column: str) -> Any:
    """The pictures of a table, all of one size and colour."""
    return read_image_files(files_of(table, column), size=recipe.size, colour=recipe.colour)


def _are_pictures(table: Table, name: str) -> bool:
    return table.kind(name) == "category" and all(word.lower().endswith(SUFFIXES) for word in table.vocabularies[name])


def _require_pictures(folder: Path) -> None:
    """Refuse a folder that holds neither pictures nor the files of the MNIST family."""
    if not holds_pictures(folder) and not any("idx" in entry.name for entry in folder.iterdir()):
        do = "Put the pictures of each class into a folder of its own, as pictures/cat/1.png"
        raise DataError(explain(str(folder), "a folder without pictures", f"files ending in {', '.join(SUFFIXES)}", do))
