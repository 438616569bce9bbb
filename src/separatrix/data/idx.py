"""IDX files, the format of the MNIST family.

    [0, 0, type code, number of dimensions] [size of each dimension: big-endian uint32] [values, big-endian, C order]

The header is believed only as far as the file is long: the size it announces is compared with the bytes that are
there before any memory is asked for.

**Reference:** LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import math
import zlib
from io import BufferedIOBase
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataError
from separatrix.data.files import first_line, refusal, require_file, require_unpacked, sound

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DO = "Fetch the file again, or check the path."
_MOST_AXES = 64  # of NumPy

# A deflate stream expands at most 1032-fold (RFC 1951: 258 bytes from two bits); the 4,096 cover the gzip header.
_DEFLATE_RATIO = 1032
_HEADER_SLACK = 4096


def read_idx(path: str | PathLike[str], *, max_bytes: int | None = None) -> Shaped[np.ndarray, "..."]:
    """Read one IDX file, plain or gzipped.

    **Arguments:**

    - `path`: the file; gzip is known by its first two bytes, not by its name.
    - `max_bytes`: the most bytes that a gzipped file may unpack to; by default 256 MiB, or 128 times the file where
      that is more.

    **Returns:** the array, in the machine's byte order, in the shape and type that the header says.

    **Raises:** `DataMissing` if there is no such file; `DataError` (a `ValueError`) for a wrong magic number, an
    unknown type, or a length that disagrees with the header, before allocating.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "two.idx")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    ...     read_idx(path).tolist()
    [7, 9]

    **Reference:** see the module.
    """
    file = require_file("read_idx", path)
    length = file.stat().st_size
    with sound(_where(file), _DO), file.open("rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            raw.seek(0)
            return _read(raw, file, length, None)
        raw.seek(0)
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(unpacked, file, _DEFLATE_RATIO * length + _HEADER_SLACK, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _bad(file, f"a damaged gzip stream ({first_line(error)})", "a whole gzip file") from error


def _read(stream: BufferedIOBase, file: Path, most: int, max_bytes: int | None) -> Shaped[np.ndarray, "..."]:
    """The array of one opened stream that holds at most `most` bytes."""
    dtype, shape, header = _header(stream, file)
    size = dtype.itemsize * math.prod(shape)
    exact = not isinstance(stream, gzip.GzipFile)
    if header + size > most or (exact and header + size != most):
        at_most = "" if exact else "at most "
        raise _bad(file, f"a header for {header + size} bytes in {at_most}{most}", "a file as long as its header says")
    if not exact:
        require_unpacked(_where(file), size, file.stat().st_size, max_bytes)
    body = stream.read(size + 1)
    if len(body) != size:
        extra = "more" if len(body) > size else f"{len(body)}"
        raise _bad(file, f"a header for {size} bytes of values and {extra}", "a file as long as its header says")
    if size == 0:
        return np.empty(shape, dtype.newbyteorder("="))
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _header(stream: BufferedIOBase, file: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and length in bytes of the header."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise _bad(file, f"first bytes {magic.hex(' ') or 'none'}", "00 00, a type code, a number of dimensions")
    if magic[2] not in _TYPES:
        known = ", ".join(f"{code:02x}" for code in _TYPES)
        raise _bad(file, f"type code {magic[2]:02x}", f"one of {known}")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3] or magic[3] == 0:
        got = f"{magic[3]} dimensions and {len(sizes)} bytes of sizes"
        raise _bad(file, got, "four bytes a dimension, at least one")
    if magic[3] > _MOST_AXES:
        raise _bad(file, f"{magic[3]} dimensions", f"at most {_MOST_AXES}, as many as an array can have")
    return np.dtype(_TYPES[magic[2]]), tuple(int(n) for n in np.frombuffer(sizes, ">u4")), 4 + 4 * magic[3]


def _where(file: Path) -> str:
    return f"{file}: not a sound IDX file"


def _bad(file: Path, got: str, expected: str) -> DataError:
    return refusal(_where(file), got, expected, _DO)
