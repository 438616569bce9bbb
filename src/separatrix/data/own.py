"""A file of the user's own as a data set, read by its suffix.

.csv .tsv .parquet   columns; those named as targets are predicted from the others
.npz                 arrays named inputs, targets, test_inputs, test_targets
.npy                 the inputs
a folder             the four IDX files of the MNIST family
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from separatrix._errors import explain
from separatrix.data.arrays import read_npy, read_npz
from separatrix.data.dataset import FIELDS, Card, DataSet, Fields, Table, build, digest, shapes_of
from separatrix.data.delimited import read_csv
from separatrix.data.parquet import read_parquet
from separatrix.data.sets.fashion_mnist import FASHION_MNIST, read_folder

_TABLES: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".tsv": lambda path: read_csv(path, delimiter="\t"),
    ".parquet": read_parquet,
}


def load_own(path: Path, targets: str | Sequence[str] | None) -> DataSet:
    """The data set in a file or folder that exists; see `load`."""
    fields = _fields(path, targets)
    sha256 = digest({field: array for field, array in fields.items() if array is not None})
    about = (path.stem, "a file of your own", "not recorded", "not recorded", str(path))
    return build(Card(*about, shapes_of(fields), sha256, False), fields)


def _fields(path: Path, targets: str | Sequence[str] | None) -> Fields:
    if path.is_dir():
        return FASHION_MNIST.prepare(read_folder(str(path)))
    if path.suffix in _TABLES:
        return _from_table(_TABLES[path.suffix](path), targets)
    if path.suffix == ".npz":
        return _from_arrays(path, read_npz(path))
    if path.suffix == ".npy":
        return {"inputs": read_npy(path)}
    known = ", ".join([*_TABLES, ".npz", ".npy"])
    what = f"load {path}"
    raise ValueError(explain(what, f"suffix {path.suffix!r}", f"one of {known}", "Convert or rename the file."))


def _from_table(table: Table, targets: str | Sequence[str] | None) -> Fields:
    wanted = [targets] if isinstance(targets, str) else list(targets or ())
    inputs = table.without(*wanted)
    if not inputs.names:
        got = f"all columns ({', '.join(wanted)})"
        raise ValueError(explain(f"load {table.source}: targets", got, "some of them", "Leave one for the inputs."))
    chosen = table[targets] if isinstance(targets, str) else table.matrix(*wanted) if wanted else None
    return {"inputs": inputs.matrix(), "targets": chosen}


def _from_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Fields:
    if "inputs" not in arrays or not set(arrays) <= set(FIELDS):
        got, expected = f"arrays named {', '.join(arrays)}", f"inputs, and no others than {', '.join(FIELDS[1:])}"
        do = "Save it with numpy.savez(path, inputs=..., targets=...)."
        raise ValueError(explain(f"load {path}", got, expected, do))
    return {**arrays}
