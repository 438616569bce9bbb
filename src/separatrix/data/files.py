"""What every reader asks first: is there a file, may it be read, and is it as long as it says?

A reader works inside `sound`: whatever it meets there (a library's own exception, a full memory, a failing disk) leaves
as one `DataError` that names the place. What a packed file unpacks to is compared with its length before memory is
asked for.
"""

import contextlib
import gzip
import io
import os
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from separatrix._errors import DataError, DataMissing, SeparatrixError, explain

# An archive may unpack to this many bytes, or to this many times its own length where that is more. Pictures pack two-
# to tenfold and one-hot rows fiftyfold; deflate allows 1032-fold, which only an array of one value reaches.
UNPACKED_BYTES = 2**28
UNPACKED_RATIO = 128


def require_file(what: str, path: str | PathLike[str]) -> Path:
    """The path of a file that is there and can be read.

    **Raises:** `DataMissing` where there is none; `DataError` for a folder, an empty file, or one not to be read.
    """
    file = Path(path)
    with sound(what, "Check the path."):
        try:
            status = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            do = "Check the path, or put the file there."
            raise DataMissing(explain(what, f"no file at {file}", "an existing file", do)) from None
    if stat.S_ISDIR(status.st_mode):
        raise refusal(what, f"{file}, which is a folder", "a file", "Name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise refusal(what, f"{file}, which is a device or a pipe", "a file", "Copy it to a file first.")
    if not os.access(file, os.R_OK):
        raise refusal(what, f"{file}, which may not be read", "a readable file", f"Try: chmod u+r {file}")
    if status.st_size == 0:
        raise refusal(what, f"{file} of 0 bytes", "a file with data", "Fetch or write the file again.")
    return file


@contextlib.contextmanager
def sound(where: str, do: str) -> Iterator[None]:
    """Turn whatever a reader meets in the block into a `DataError` at `where`. Words of our own pass as they are."""
    try:
        yield
    except SeparatrixError:
        raise
    except MemoryError as error:
        do = "Read less of it, or on a machine with more memory."
        raise refusal(where, "more than the memory holds", "a file that fits", do) from error
    except OSError as error:
        got = f"{error.strerror or first_line(error)}"
        raise refusal(where, got, "a file that can be read whole", do) from error
    except Exception as error:
        got = f"what cannot be read ({type(error).__name__}: {first_line(error)})"
        raise refusal(where, got, "a sound file", do) from error


def require_unpacked(where: str, unpacked: int, packed: int, most: int | None) -> None:
    """Refuse a packed file that says it unpacks to more than `most`, before anything is unpacked."""
    allowed = max(UNPACKED_BYTES, UNPACKED_RATIO * packed) if most is None else most
    if unpacked > allowed:
        do = f"If you trust it, unpack it first, or pass max_bytes={unpacked}."
        raise refusal(where, f"{unpacked} bytes packed into {packed}", f"at most {allowed}", do)


def read_bytes(file: Path, max_bytes: int | None = None) -> bytes:
    """The content of a file, unpacked where it is gzipped. At most `max_bytes` are unpacked, as `require_unpacked` says."""
    packed = file.read_bytes()
    if packed[:2] != b"\x1f\x8b":
        return packed
    allowed = max(UNPACKED_BYTES, UNPACKED_RATIO * len(packed)) if max_bytes is None else max_bytes
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
        content = stream.read(allowed + 1)
    if len(content) > allowed:
        require_unpacked(str(file), len(content), len(packed), max_bytes)
    return content


def refusal(where: str, got: object, expected: object, do: str) -> DataError:
    """The error of a file that is not sound."""
    return DataError(explain(where, got, expected, do))


def first_line(error: object) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or ["no words"])[0][:200]
