"""NumPy's own files, without pickle.

An object array in an NPY file is a pickle, and loading a pickle runs whatever it says: such files are refused. The
header's shape is compared with the bytes that are there before any memory is asked for.

**Reference:** NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
"""

import math
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import explain
from separatrix.data.files import require_file

# A deflate stream expands at most 1032-fold (RFC 1951: 258 bytes from two bits).
_DEFLATE_RATIO = 1032
_MAGIC = b"\x93NUMPY"


def read_npy(path: str | PathLike[str]) -> Shaped[np.ndarray, "..."]:
    """Read one array from an NPY file.

    **Arguments:**

    - `path`: the file.

    **Returns:** the array, its dtype and shape as written.

    **Raises:** `DataMissing` where there is no such file; `ValueError` for a file that is no NPY file, is cut short, or
    holds Python objects.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.npy")
    ...     np.save(path, np.array([1.0, 2.0]))
    ...     read_npy(path)
    array([1., 2.])

    **Reference:** see the module.
    """
    file = require_file("read_npy", path)
    with file.open("rb") as stream:
        return _read(stream, file.stat().st_size, str(file))


def read_npz(path: str | PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read all arrays of an NPZ file.

    **Arguments:**

    - `path`: the file: a zip of NPY files, compressed or not.

    **Returns:** the arrays by name, in the file's order.

    **Raises:** as `read_npy`, naming the member.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "xy.npz")
    ...     np.savez(path, x=np.array([1.0, 2.0]), y=np.array([3]))
    ...     read_npz(path)["y"]
    array([3])

    **Reference:** see the module.
    """
    file = require_file("read_npz", path)
    try:
        with zipfile.ZipFile(file) as archive:
            return {Path(info.filename).stem: _member(archive, info, file) for info in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad(str(file), f"a damaged zip archive ({error})", "an NPZ file, whole") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> Shaped[np.ndarray, "..."]:
    where = f"{file}: member {info.filename!r}"
    if info.file_size > _DEFLATE_RATIO * info.compress_size + len(_MAGIC):
        raise _bad(where, f"{info.file_size} bytes from {info.compress_size}", "a size that its bytes can hold")
    with archive.open(info) as stream:
        return _read(stream, info.file_size, where)


def _read(stream: Any, length: int, where: str) -> Shaped[np.ndarray, "..."]:
    """The array of one opened NPY stream of `length` bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = reader(stream)
    except (ValueError, KeyError, SyntaxError, TypeError) as error:
        raise _bad(where, f"a header that cannot be read ({str(error).splitlines()[0]})", "an NPY file") from error
    if dtype.hasobject:
        raise _bad(where, "an array of Python objects (a pickle)", "plain numbers; pickles are never loaded")
    size = dtype.itemsize * math.prod(shape)
    if size != length - stream.tell():
        raise _bad(
            where, f"a header for {size} bytes and {length - stream.tell()}", "a file as long as its header says"
        )
    array = np.frombuffer(stream.read(size), dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def _bad(where: str, got: str, expected: str) -> ValueError:
    return ValueError(
        explain(f"{where}: refused", got, expected, "Save it with numpy.save or numpy.savez as plain numbers.")
    )
