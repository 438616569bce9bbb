r"""One file: a manifest and raw tensors, each with its digest.

    8 bytes: length of the header | header, JSON | tensors one after another

which is the safetensors format, so that other programs read the tensors. The header's `__metadata__` holds the manifest
as canonical JSON and the SHA-256 of that text. The manifest lists the tensors with dtype, shape and SHA-256, and *the
header is a function of the manifest*. So nothing in the file is free: a changed byte of the header differs from the header
that the manifest asks for, one of the manifest from its digest, one of a tensor from the tensor's, and the length of the
file follows from the shapes, before any memory is asked for.
"""

import dataclasses
import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separatrix._errors import explain
from separatrix.training.run._canonical import decode, digest, encode
from separatrix.training.run._disk import DISK, Files, write_whole
from separatrix.training.run.errors import DamagedFile, StorageError

FORMAT = 1
_MOST_HEADER = 100_000_000  # bytes; what safetensors allows

# dtype: its name in safetensors, and how many numbers of that name make one element.
_STORED = {
    "bool": ("BOOL", 1), "int8": ("I8", 1), "int16": ("I16", 1), "int32": ("I32", 1), "int64": ("I64", 1),
    "uint8": ("U8", 1), "uint16": ("U16", 1), "uint32": ("U32", 1), "uint64": ("U64", 1), "float16": ("F16", 1),
    "bfloat16": ("BF16", 1), "float32": ("F32", 1), "float64": ("F64", 1), "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1), "complex64": ("F32", 2), "complex128": ("F64", 2),
}  # fmt: skip
_EXTENDED = {"bfloat16", "float8_e4m3fn", "float8_e5m2"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What the manifest says of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * dtype_named(self.dtype).itemsize


def storable(dtype: Any) -> bool:
    """Whether arrays of this dtype can be kept."""
    return np.dtype(dtype).name in _STORED


def dtype_named(name: str) -> np.dtype:
    """The dtype of a name in the manifest."""
    if name not in _STORED:
        raise ValueError(f"no dtype is called {name!r}")
    if name in _EXTENDED:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name).newbyteorder("<")


def write_container(
    path: Path, manifest: dict[str, Any], tensors: Sequence[tuple[str, np.ndarray]], files: Files = DISK
) -> None:
    """Write a file that holds the manifest and these contiguous arrays, in this order.

    The manifest must not have the keys `format` and `tensors`, which are added here.
    """
    listed = [
        {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "sha256": digest(_raw(array))}
        for name, array in tensors
    ]
    text = encode({"format": FORMAT, "tensors": listed} | manifest)
    header = _header(text, [_tensor(entry) for entry in listed])
    write_whole(path, [header, *(_raw(array) for _, array in tensors)], files)


class Container:
    """A file as it lies on the disk, its header verified. Each tensor is verified when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with read_words(path):
            self._file = _opened(path)
            try:
                self.manifest, self._places = _verified_header(self._file)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the file holds, by name."""
        return {name: tensor for name, (tensor, _) in self._places.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor of this name.

        **Raises:** `DamagedFile` where its bytes are not those that were written.
        """
        with read_words(self.path):
            tensor, place = self._places[name]
            raw = np.empty(tensor.size, np.uint8)
            self._file.seek(place)
            _fill(self._file, raw)
            if digest(raw.data) != tensor.sha256:
                raise ValueError(f"the digest of the tensor {name!r} differs from the one in the manifest")
            return raw.view(dtype_named(tensor.dtype)).reshape(tensor.shape)

    def verify(self) -> None:
        """Read all tensors, and forget them."""
        for name in self._places:
            self.read(name)


class read_words:
    """Whatever a reader meets in a bad file becomes `DamagedFile` with the file's name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: Any, __: Any) -> None:
        if isinstance(error, FileNotFoundError | PermissionError | MemoryError):
            do = "Check the path, the permissions, and the memory that is free."
            got = getattr(error, "strerror", None) or "more than the memory holds"
            raise StorageError(explain(f"{self.path}: cannot be read", got.lower(), "a file", do)) from error
        if isinstance(error, Exception) and not isinstance(error, StorageError):
            got = f"a damaged file: {_first_line(error)}"
            do = "Take another copy; a run goes back to the checkpoint before by itself."
            raise DamagedFile(explain(str(self.path), got, "a file as it was written", do)) from error


def read_file(path: Path) -> bytes:
    """All of a small file."""
    with _opened(path) as file:
        return file.read()


def _opened(path: Path) -> BinaryIO:
    # A pipe or a device would keep us waiting: look before opening.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("this is no file")
    return open(path, "rb", buffering=0)


def _fill(file: BinaryIO, raw: np.ndarray) -> None:
    """Read until the array is full: one call may give fewer bytes than it was asked for."""
    done = 0
    while done < raw.size:
        got = file.readinto(raw.data[done:])  # pyright: ignore[reportAttributeAccessIssue]
        if not got:
            raise ValueError("the file ends too early")
        done += got


def _verified_header(file: BinaryIO) -> tuple[dict[str, Any], dict[str, tuple[Tensor, int]]]:
    """The manifest, and each tensor with the place of its first byte."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 0 < length <= min(size - 8, _MOST_HEADER):
        raise ValueError("the length of the header does not fit the file")
    header = file.read(length)
    metadata = json.loads(header)["__metadata__"]
    text = metadata["manifest"]
    if digest(text) != metadata["sha256"]:
        raise ValueError("the digest of the manifest differs")
    manifest = decode(text)
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']!r}, where this release reads {FORMAT}")
    tensors = [_tensor(entry) for entry in manifest["tensors"]]
    if _header(text, tensors)[8:] != header:
        raise ValueError("the header differs from the one that the manifest asks for")
    places = dict(zip([tensor.name for tensor in tensors], _places(tensors, 8 + length), strict=True))
    end = 8 + length + sum(tensor.size for tensor in tensors)
    if end != size:
        raise ValueError(f"{size:,} bytes, where the manifest asks for {end:,}")
    return manifest, {tensor.name: (tensor, places[tensor.name]) for tensor in tensors}


def _header(text: str, tensors: list[Tensor]) -> bytes:
    """Length and header of the file of this manifest."""
    if len({tensor.name for tensor in tensors} | {"__metadata__"}) != len(tensors) + 1:
        raise ValueError("two tensors of one name")
    header: dict[str, Any] = {"__metadata__": {"manifest": text, "sha256": digest(text)}}
    for tensor, place in zip(tensors, _places(tensors, 0), strict=True):
        stored, numbers = _STORED[tensor.dtype]
        shape = list(tensor.shape) if numbers == 1 else [*tensor.shape, numbers]
        header[tensor.name] = {"dtype": stored, "shape": shape, "data_offsets": [place, place + tensor.size]}
    words = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words


def _places(tensors: list[Tensor], first: int) -> Iterator[int]:
    for tensor in tensors:
        yield first
        first += tensor.size


def _tensor(entry: Any) -> Tensor:
    """One entry of the manifest, its types checked."""
    name, dtype, shape, sha256 = (entry[key] for key in ("name", "dtype", "shape", "sha256"))
    if not all(isinstance(word, str) for word in (name, dtype, sha256)) or dtype not in _STORED:
        raise ValueError(f"a tensor of dtype {str(dtype)[:40]!r}")
    if len(shape) > 64 or not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        raise ValueError(f"a tensor of shape {str(shape)[:80]}")
    return Tensor(name, dtype, tuple(shape), sha256)


def _raw(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, uncopied."""
    return array.reshape(-1).view(np.uint8).data


def _first_line(error: Exception) -> str:
    said = (str(error).splitlines() or [""])[0][:200]
    return said if type(error) is ValueError and said else f"{type(error).__name__}: {said}"
