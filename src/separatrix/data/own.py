"""Data of the user's own as a data set: a file by its suffix, a folder by what is in it, a data frame, a table.

| what | read as |
|---|---|
| .csv .tsv .parquet, a data frame, a `Table` | columns; those named as targets are predicted from the others |
| .npz | arrays named inputs, targets, test_inputs, test_targets |
| .npy | the inputs |
| .txt, .txt.gz | the characters, as codes into a vocabulary |
| a folder | pictures, each sub-folder a class; or the four IDX files of the MNIST family |

Every option is used or refused: each way to read has its own, and what another would take is named.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix.data.arrays import read_npy, read_npz
from separatrix.data.arrow import from_arrow
from separatrix.data.dataset import FIELDS, Card, DataSet, build, digest, shapes_of
from separatrix.data.delimited import read_csv
from separatrix.data.files import refusal
from separatrix.data.images import is_pictures, read_images
from separatrix.data.parquet import read_parquet
from separatrix.data.sets.fashion_mnist import FASHION_MNIST, read_folder
from separatrix.data.table import Table
from separatrix.data.text import read_text

Options = Mapping[str, Any]


def _read_tsv(path: Path, *, delimiter: str = "\t", **options: Any) -> Table:
    return read_csv(path, delimiter=delimiter, **options)


_PARTS = frozenset({"train", "training", "test", "val", "valid", "validation", "dev"})
_COLUMNS = frozenset({"targets", "columns", "missing", "kinds"})
_TABLES: dict[str, tuple[Callable[..., Table], frozenset[str]]] = {
    ".csv": (read_csv, _COLUMNS | {"delimiter"}),
    ".tsv": (_read_tsv, _COLUMNS | {"delimiter"}),
    ".parquet": (read_parquet, _COLUMNS | {"max_bytes"}),
}


def load_own(source: Any, options: Options) -> DataSet:
    """The data set in a file or folder that exists, or in a data frame; see `load`."""
    return read_own(source, options, None)[0]


def read_own(source: Any, options: Options, like: Any) -> tuple[DataSet, Any]:
    """The data set, and what a part read later must be `like`: its words, classes or characters are those of this one."""
    if isinstance(source, Table):
        _require_used(repr(source), options, frozenset({"targets"}))
        return _from_table(source, options), source
    if hasattr(source, "__arrow_c_stream__"):
        _require_used("a data frame", options, _COLUMNS)
        table = from_arrow(source, like=like, **_less_targets(options))
        return _from_table(table, options), table
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, options, like)
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        read, known = _TABLES[suffix]
        _require_used(str(path), options, known)
        table = read(path, like=like, **_less_targets(options))
        return _from_table(table, options), table
    if path.name.lower().endswith((".txt", ".txt.gz")):
        _require_used(str(path), options, frozenset({"max_bytes"}))
        text = read_text(path, vocabulary=None if like is None else like.vocabulary, **options)
        told = f"a text of your own, {len(text.vocabulary)} characters in its vocabulary"
        return _build(path, {"inputs": text.codes}, told, vocabulary=text.vocabulary), text
    if suffix == ".npz":
        # What stays on disk is not unpacked: of a file that is left there, no length is to be limited.
        known = frozenset({"mmap"} if options.get("mmap") else {"mmap", "max_bytes"})
        _require_used(str(path), options, known)
        return _build(path, _fields(path, read_npz(path, **options))), None
    if suffix == ".npy":
        _require_used(str(path), options, frozenset({"mmap"}))
        return _build(path, {"inputs": read_npy(path, **options)}), None
    known = ", ".join([*_TABLES, ".npz", ".npy", ".txt"])
    raise refusal(f"load {path}", f"suffix {path.suffix!r}", f"one of {known}", "Convert or rename the file.")


def _from_folder(path: Path, options: Options, like: Any) -> tuple[DataSet, Any]:
    inside = {entry.name.lower() for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if inside and inside <= _PARTS:
        do = "Call sx.data.split_files(train=..., validation=..., test=...) with these folders."
        raise refusal(f"load {path}", f"the parts {', '.join(sorted(inside))}", "classes or pictures", do)
    if not is_pictures(path):
        _require_used(str(path), options, frozenset())
        return _build(path, FASHION_MNIST.prepare(read_folder(str(path)))), None
    _require_used(str(path), options, frozenset({"size", "colour"}))
    found = read_images(path, classes=None if like is None else like.classes, **options)
    fields = {"inputs": found.values, "targets": found.labels}
    told = f"{len(found.files)} pictures of your own" + (f" in {len(found.classes)} classes" if found.classes else "")
    return _build(path, fields, told, classes=found.classes), found


def _require_used(what: str, options: Options, known: frozenset[str]) -> None:
    """Refuse an option that this way to read has no use for."""
    for name, value in options.items():
        if name not in known:
            expected = f"no such option here (those are: {', '.join(sorted(known)) or 'none'})"
            raise ValueError(explain(f"load {what}: {name}", repr(value)[:80], expected, "Leave it out."))


def _less_targets(options: Options) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "targets"}


def _from_table(table: Table, options: Options) -> DataSet:
    found = table.features(options.get("targets"))
    gaps = None if found.present.all() else found.present
    fields = {"inputs": found.inputs, "targets": found.targets}
    more = {"present": gaps, "names": found.names, "classes": found.classes}
    return _build(Path(table.source), fields, _told(table, gaps is None), **more)


def _told(table: Table, complete: bool) -> str:
    """What was done to a table on its way: gaps kept or left out, words and dates turned into numbers."""
    gaps = table.missing() if not complete else {}
    words = [name for name in table.names if name in table.vocabularies]
    dates = [name for name, values in table.columns.items() if values.dtype.kind == "M"]
    parts = [
        f"{table.dropped} rows with gaps left out" if table.dropped else "",
        f"missing values kept: {_counts(gaps)}" if gaps else "",
        f"categories: {', '.join(words[:8])}" if words else "",
        f"dates: {', '.join(dates[:8])}" if dates else "",
        "its index is no input" if table.index is not None else "",
    ]
    return "; ".join(["a table of your own", *filter(None, parts)])


def _counts(gaps: Mapping[str, int]) -> str:
    shown = [f"{name} {count}" for name, count in list(gaps.items())[:8]]
    return ", ".join([*shown, *(["..."] if len(gaps) > len(shown) else [])])


def _fields(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if "inputs" not in arrays or not set(arrays) <= set(FIELDS):
        got = f"arrays named {', '.join(list(arrays)[:20])}"
        do = "Save it with numpy.savez(path, inputs=..., targets=...)."
        raise refusal(f"load {path}", got, f"inputs, and no others than {', '.join(FIELDS[1:])}", do)
    return {**arrays}


def _build(path: Path, fields: Mapping[str, Any], summary: str = "a file of your own", **more: Any) -> DataSet:
    sha256 = digest({field: array for field, array in fields.items() if array is not None})
    about = (path.stem, summary, "not recorded", "not recorded", str(path))
    return build(Card(*about, shapes_of(fields), sha256, False), fields, **more)
