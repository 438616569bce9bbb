"""One `load` for every set: by name, or by the path of a file.

A named set is looked for in this order; the first place that has it is read:

    path=  ->  $SEPARATRIX_DATA/<its file>  ->  bundled  ->  Debian's folder  ->  an optional package

Nothing is ever downloaded. What is nowhere to be found is reported with the line that would install it, and a copy from
one of the last three places whose digest is not the recorded one is refused.
"""

import os
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from separatrix._errors import DataMissing, explain, unknown
from separatrix.data.dataset import Card, DataSet, build, digest, shapes_of
from separatrix.data.files import refusal, sound
from separatrix.data.images import Colour, Size
from separatrix.data.own import load_own
from separatrix.data.sets import NAMED, NamedSet, Place
from separatrix.data.sets.named import folder_of
from separatrix.data.table import Kinds, Missing, Table

VARIABLE = "SEPARATRIX_DATA"
_OWN = "your copy"


def load(
    name: str | PathLike[str] | Table | Any,
    *,
    path: str | PathLike[str] | None = None,
    targets: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    missing: Missing | None = None,
    kinds: Kinds | None = None,
    mmap: bool | None = None,
    max_bytes: int | None = None,
    size: Size | None = None,
    colour: Colour | None = None,
) -> DataSet:
    """Load a named data set, or a file of your own.

    **Arguments:**

    - `name`: a name of `names()`, which is the set whatever lies beside it (a folder `digits` of your own is
      `"./digits"`); the path of a .csv, .tsv, .parquet, .npz, .npy or .txt file, or of a folder of pictures or with the
      four IDX files of the MNIST family; a data frame of pandas, polars or pyarrow; or a `Table`.
    - `path`: where a named set's copy is, looked at before all other places.
    - `targets`: for a table, the column or columns to predict; the others are the inputs. None by default: no targets.
    - `columns`, `delimiter`, `missing`, `kinds`: for a table, as `read_csv` has them: which columns, the sign between
      them, what becomes of gaps ("refuse", "drop", "keep"), and whether words and dates are taken ("infer").
    - `mmap`: leave the arrays of an .npy file, or of an .npz that is not packed, on disk. `max_bytes`: for a packed file,
      the most that it may unpack to.
    - `size`, `colour`: for a folder of pictures, as `read_images` has them: resize all, and make all grey or colour.

    **Returns:** a `DataSet`. Images are float32 in [0, 1], shape (n, height, width) or (n, height, width, 3), their
    labels int32. A named text is uint8 codes of ASCII, one of your own int32 codes into `vocabulary`. Columns of a table
    are float64, a category one column of 0 and 1 for each word. A single target keeps its numbers as they are; one of
    words is int32 codes into `classes`. Gaps that are kept are NaN, and `present` says where. An .npz file holds arrays
    named inputs, targets, test_inputs, test_targets (all but the first optional); an .npy file the inputs.

    **Raises:** `DataMissing` if the set is nowhere to be found, with the line that installs it; `DataError` (a
    `ValueError`) for a file that is not sound, naming the first bad place in it; `ValueError` for an unknown name, and
    for an option that this set or file has no use for.

    **Example:**

    >>> pelts = load("lynx-hare")
    >>> pelts.targets[0].tolist()  # hare and lynx in 1900, in thousands
    [30.0, 4.0]
    """
    asked = {
        "targets": targets, "columns": columns, "delimiter": delimiter, "missing": missing, "kinds": kinds,
        "mmap": mmap, "max_bytes": max_bytes, "size": size, "colour": colour,
    }  # fmt: skip
    options = {option: value for option, value in asked.items() if value is not None}
    own = isinstance(name, Table) or hasattr(name, "__arrow_c_stream__")
    if not own and named_set(name) is not None:
        if path is None and (both := both_there(name)) is not None:
            warnings.warn(both, UserWarning, stacklevel=2)
        for option, value in options.items():
            do = "Leave it out, or call load(path) for a file of your own."
            raise ValueError(explain(f"load {name!r}: {option}", repr(value)[:80], "no option of a named set", do))
        return _load_named(NAMED[str(name)], path)
    if path is not None:
        got, expected = f"{str(name)!r} and a path", f"a path only with a name of {', '.join(NAMED)}"
        raise ValueError(explain("load", got, expected, "Call load(path) for a file of your own."))
    return load_own(name if own else _require_path(name), options)


def named_set(source: Any) -> str | None:
    """The name of the set that a source says, None where it is a path: a bare name is the set, `./digits` is not.

    **Example:**

    >>> named_set("digits"), named_set("./digits"), named_set("digits/")
    ('digits', None, None)
    """
    return str(source) if isinstance(source, str | PathLike) and str(source) in NAMED else None


def source_path(said: str | PathLike[str]) -> Path:
    """The path that a text says. One that would lose its separator and read as the name of a set is made absolute.

    **Example:**

    >>> str(source_path("digits")), source_path("./digits") == Path.cwd() / "digits", str(source_path("./mine.csv"))
    ('digits', True, 'mine.csv')
    """
    path = Path(said)
    return path.absolute() if str(path) in NAMED and str(said) != str(path) else path


def both_there(source: Any) -> str | None:
    """What must be reported of a bare name that is a set and something of the user's own too; else None."""
    name = named_set(source)
    if name is None or not Path(name).exists():
        return None
    kind = "folder" if Path(name).is_dir() else "file"
    got = f"the name of a data set, and a {kind} of that name is here"
    do = f"Write ./{name} for the {kind}; {name} is the set, which is read. Rename the {kind} to have no such doubt."
    return explain(f"data {name!r}", got, "one of the two", do)


def names() -> tuple[str, ...]:
    """The names that `load` knows.

    **Example:**

    >>> names()
    ('digits', 'fashion-mnist', 'genesis', 'king-james', 'lynx-hare', 'santa-fe', 'solar-system')
    """
    return tuple(NAMED)


def locate(name: str) -> str | None:
    """Where `load(name)` would read the set from, or None where it is nowhere to be found. Nothing is read.

    **Example:**

    >>> locate("lynx-hare").startswith("bundled: ")
    True
    """
    found = _find(_require_name(name), None)
    return None if found is None else _describe(*found)


def card(name: str, *, path: str | PathLike[str] | None = None) -> Card:
    """The card of a named set: `load(name).card`.

    **Example:**

    >>> card("lynx-hare").verified
    True
    """
    return _load_named(_require_name(name), path).card


def summary(name: str) -> str:
    """What a named set is, in one line; it need not be on this machine.

    **Example:**

    >>> summary("lynx-hare")
    'pelts of hare and lynx in thousands, Hudson Bay, each year from 1900 to 1920'
    """
    return _require_name(name).summary


def _load_named(named: NamedSet, path: str | PathLike[str] | None) -> DataSet:
    found = _find(named, path)
    if found is None:
        expected = f"it in ${VARIABLE}, or from: {', '.join(place.label for place in named.places)}"
        what = f"data set {named.name!r}"
        raise DataMissing(explain(what, "no copy on this machine", expected, f"Try: {named.install}"))
    place, location = found
    where = _describe(place, location)
    with sound(f"data set {named.name!r} from {where}", f"Install it afresh: {named.install}"):
        raw = place.read(location)
        fields, sha256 = named.prepare(raw), digest(raw)
    if place.label != _OWN and sha256 != named.sha256:
        got, expected = f"SHA-256 {sha256[:12]}...", f"the recorded {named.sha256[:12]}..."
        do = f"Install it afresh ({named.install}), or give a copy of your own by path=."
        raise refusal(f"data set {named.name!r} from {where}", got, expected, do)
    about = (named.name, named.summary, named.source, named.licence, where)
    return build(Card(*about, shapes_of(fields), sha256, sha256 == named.sha256), fields)


def _find(named: NamedSet, path: str | PathLike[str] | None) -> tuple[Place, str] | None:
    """The first place that has the set, and the location there."""
    own = _own(named, path)
    if own is not None:
        return Place(_OWN, folder_of(own), named.read), own
    located = ((place, place.find()) for place in named.places)
    return next(((place, location) for place, location in located if location is not None), None)


def _describe(place: Place, location: str) -> str:
    return location if place.label in (_OWN, location) else f"{place.label}: {location}"


def _own(named: NamedSet, path: str | PathLike[str] | None) -> str | None:
    """The user's own copy: by explicit path, else in the folder that the environment variable names."""
    if path is not None:
        if not Path(path).exists():
            do = f"Check the path, or leave it out. Try: {named.install}"
            raise DataMissing(explain(f"data set {named.name!r}: path", f"nothing at {path}", "an existing path", do))
        return str(path)
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    if not Path(folder).is_dir():
        do = f"Point {VARIABLE} at a folder, or unset it."
        raise DataMissing(explain(f"the environment variable {VARIABLE}", f"no folder at {folder}", "a folder", do))
    inside = Path(folder, named.file)
    return str(inside) if inside.exists() else None


def _require_name(name: str) -> NamedSet:
    if name not in NAMED:
        do = "Give one of these names, or the path of a file."
        raise ValueError(unknown("data set", name, NAMED, do))
    return NAMED[name]


def _require_path(name: Any) -> Path:
    """The path of a file or folder that is there; a single word that is none was meant as a name."""
    if not isinstance(name, str | PathLike):
        do = "Give a name, a path, a data frame or a table."
        raise TypeError(explain("load", type(name).__name__, "a name or the path of a file", do))
    path = Path(name)
    with sound(f"load {str(path)[:80]!r}", "Check the path."):
        there = path.exists()
    if not there and not path.suffix and len(path.parts) == 1:
        _require_name(str(name))
    if not there:
        do = f"Check the path, or give one of {', '.join(NAMED)}."
        raise DataMissing(explain("load", f"no file at {path}", "an existing file", do))
    return path
