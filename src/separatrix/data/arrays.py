"""NumPy's own files, without pickle.

An object array in an NPY file is a pickle, and loading a pickle runs whatever it says: such files are refused. The
header's shape is compared with the bytes that are there before any memory is asked for, and an NPZ file may not unpack
to more than its length allows.

**Reference:** NumPy Enhancement Proposal 1, "A Simple File Format for NumPy Arrays".
"""

import math
import warnings
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataError
from separatrix.data.files import first_line, refusal, require_file, require_unpacked, sound

_Header: TypeAlias = tuple[tuple[int, ...], bool, np.dtype, int]  # shape, Fortran order, dtype, bytes of the values

_DO = "Save it with numpy.save or numpy.savez as plain numbers."
_NUMBERS = "biufcmMSU"
_MOST_AXES = 64  # of NumPy
# The last record of a zip stands within so many bytes of its end, and says so where there are too many members to count.
_END_WITHIN = 22 + 2**16
_MANY = 2**16 - 1
_LOCAL = 30  # bytes of the record before each member
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(path: str | PathLike[str], *, mmap: bool = False) -> Shaped[np.ndarray, "..."]:
    """Read one array from an NPY file.

    **Arguments:**

    - `path`: the file.
    - `mmap`: leave the values on disk and read what is touched: for arrays larger than memory. The array cannot be
      written to.

    **Returns:** the array, its dtype and shape as written.

    **Raises:** `DataMissing` if there is no such file; `DataError` (a `ValueError`) for a file that is no NPY file, is
    cut short, or holds Python objects.

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
    with sound(f"{file}: refused", _DO), file.open("rb") as stream:
        shape, fortran, dtype, size = _header(stream, file.stat().st_size, str(file))
        if not mmap or size == 0:
            return _values(stream, shape, fortran, dtype, size, str(file))
        order = "F" if fortran else "C"
        return np.memmap(file, dtype, mode="r", offset=stream.tell(), shape=shape, order=order)


def read_npz(
    path: str | PathLike[str], *, max_bytes: int | None = None, mmap: bool = False
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read all arrays of an NPZ file.

    **Arguments:**

    - `path`: the file: a zip of NPY files, compressed or not.
    - `max_bytes`: the most bytes that all arrays may take; by default 256 MiB, or 128 times the file where that is more.
    - `mmap`: leave the values on disk and read what is touched, as `read_npy` does; their sums are then not checked. Only
      for files of `numpy.savez`, which packs nothing.

    **Returns:** the arrays by name, in the file's order.

    **Raises:** as `read_npy`, naming the member; and for two members of one name, and for a file that unpacks to more
    than `max_bytes`.

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
    with sound(f"{file}: refused", _DO):
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                packed = file.stat().st_size
                _require_all(members, file)
                if not mmap:
                    require_unpacked(f"{file}: refused", sum(info.file_size for info in members), packed, max_bytes)
                read = _mapped if mmap else _member
                return {name: read(archive, info, file) for name, info in _named(members, file).items()}
        except (zipfile.BadZipFile, EOFError) as error:
            got = f"a damaged zip archive ({first_line(error)})"
            raise _bad(str(file), got, "an NPZ file, whole") from error


def _require_all(members: list[zipfile.ZipInfo], file: Path) -> None:
    """Compare the number of members with what the archive's last record says: `zipfile` does not."""
    with file.open("rb") as stream:
        stream.seek(-min(file.stat().st_size, _END_WITHIN), 2)
        tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    there = int.from_bytes(tail[at + 10 : at + 12], "little")
    if there != _MANY and there != len(members):
        raise _bad(str(file), f"a damaged zip archive ({len(members)} members of {there})", "an NPZ file, whole")


def _named(members: list[zipfile.ZipInfo], file: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by the names of their arrays, each once."""
    named: dict[str, zipfile.ZipInfo] = {}
    for info in members:
        name = info.filename.removesuffix(".npy")
        if name in named:
            raise _bad(f"{file}: member {info.filename!r}", f"the name {name!r} again", "a name for each array")
        named[name] = info
    return named


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> Shaped[np.ndarray, "..."]:
    where = f"{file}: member {info.filename!r}"
    if info.flag_bits & 1 or info.compress_type not in _PACKINGS:
        raise _bad(where, "an encrypted member, or a packing that NumPy does not write", "stored or deflated bytes")
    with sound(f"{where}: refused", _DO), archive.open(info) as stream:
        return _values(stream, *_header(stream, info.file_size, where), where)


def _mapped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> Shaped[np.ndarray, "..."]:
    """A member that is not packed, left where it lies."""
    where = f"{file}: member {info.filename!r}"
    if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
        raise _bad(where, "a packed member", "one that can be mapped into memory: save it with numpy.savez")
    with sound(f"{where}: refused", _DO), archive.open(info) as stream:
        shape, fortran, dtype, size = _header(stream, info.file_size, where)
        within = stream.tell()
        if size == 0:
            return np.empty(shape, dtype)
    with file.open("rb") as raw:
        raw.seek(info.header_offset)
        local = raw.read(_LOCAL)
        # The name and what is extra are as long as the local record says, which may differ from the central one.
        begin = info.header_offset + _LOCAL + sum(int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
    if local[:4] != b"PK\3\4" or begin + within + size > file.stat().st_size:
        raise _bad(where, "a damaged zip archive", "an NPZ file, whole")
    return np.memmap(file, dtype, mode="r", offset=begin + within, shape=shape, order="F" if fortran else "C")


def _header(stream: Any, length: int, where: str) -> _Header:
    """What the header of an NPY stream of `length` bytes says, where it can be true."""
    try:
        shape, fortran, dtype = _parsed(stream)
    except Exception as error:  # NumPy reads it with Python's own parser, which fails in many ways
        raise _bad(where, f"a header that cannot be read ({first_line(error)})", "an NPY file") from error
    if dtype.hasobject:
        raise _bad(where, "an array of Python objects (a pickle)", "plain numbers; pickles are never loaded")
    if dtype.kind not in _NUMBERS and dtype.names is None:
        raise _bad(where, f"dtype {dtype}", "plain numbers")
    if len(shape) > _MOST_AXES or any(isinstance(n, bool) or n < 0 for n in shape):
        raise _bad(where, f"{len(shape)} dimensions, {str(shape)[:80]}", f"at most {_MOST_AXES}, none negative")
    size = dtype.itemsize * math.prod(shape)
    if size != length - stream.tell():
        got = f"a header for {size} bytes and {length - stream.tell()}"
        raise _bad(where, got, "a file as long as its header says")
    if dtype.itemsize == 0 and 0 not in shape:
        raise _bad(where, f"dtype {dtype}, of no bytes", "plain numbers")
    return shape, fortran, dtype, size


def _parsed(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    form = np.lib.format
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    version = form.read_magic(stream)
    if version not in readers:
        raise ValueError(f"version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        return readers[version](stream)


def _values(
    stream: Any, shape: tuple[int, ...], fortran: bool, dtype: np.dtype, size: int, where: str
) -> Shaped[np.ndarray, "..."]:
    """The values behind the header. One read more finds what is too many, and has a zip check its sum."""
    content = bytearray(size)
    there, view = 0, memoryview(content)
    while there < size and (read := stream.readinto(view[there:])):
        there += read
    if there < size or stream.read(1):
        raise _bad(where, f"{there} bytes of values, or more", f"{size}, as its header says")
    if size == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _bad(where: str, got: str, expected: str) -> DataError:
    return refusal(f"{where}: refused", got, expected, _DO)
