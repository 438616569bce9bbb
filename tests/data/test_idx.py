"""IDX files: what is written by the format's definition is read back; a header is believed as far as its file."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from separatrix.data import read_idx

CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(array: np.ndarray) -> bytes:
    """The bytes of an array in IDX, written from the format's definition and not with our reader."""
    code = CODES[array.dtype.str.lstrip("|")]
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
)


@given(array=arrays, packed=st.booleans())
def test_what_is_written_is_read_back(folder: Path, array: np.ndarray, packed: bool) -> None:
    path = folder / "x"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    read = read_idx(path)
    assert read.dtype == array.dtype.newbyteorder("=") and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


WHOLE = idx(np.arange(12, dtype="u1").reshape(3, 4))
HUGE = bytes([0, 0, 8, 2]) + struct.pack(">2I", 2**31, 2**31) + bytes(100)

REFUSED = {
    "another magic number": (b"\x89PNG" + WHOLE[4:], ["first bytes 89 50 4e 47"]),
    "an unknown type": (b"\0\0\x07\x02" + WHOLE[4:], ["type code 07", "one of 08, 09, 0b, 0c, 0d, 0e"]),
    "no dimensions": (b"\0\0\x08\0", ["0 dimensions"]),
    "a header cut short": (WHOLE[:10], ["2 dimensions and 6 bytes of sizes"]),
    "values cut short": (WHOLE[:-1], ["a header for 24 bytes in 23"]),
    "values too many": (WHOLE + b"\0", ["a header for 24 bytes in 25"]),
    "a size beyond the file": (HUGE, ["a header for 4611686018427387916 bytes in 112"]),
    "70 dimensions": (bytes([0, 0, 8, 70]) + struct.pack(">70I", *[1] * 70) + b"\0", ["70 dimensions", "at most 64"]),
    "nothing times too much": (
        bytes([0, 0, 0x0E, 3]) + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1),
        [""],
    ),
    "packed, values cut short": (gzip.compress(WHOLE[:-1]), ["a header for 12 bytes of values and 11"]),
    "packed, values too many": (gzip.compress(WHOLE + b"\0"), ["a header for 12 bytes of values and more"]),
    "packed, a size beyond any packing": (gzip.compress(HUGE), ["in at most"]),
    "packed, cut short": (gzip.compress(WHOLE)[:-9], ["a damaged gzip stream"]),
    "packed, a bit flipped": (gzip.compress(WHOLE)[:-6] + b"\xff" + gzip.compress(WHOLE)[-5:], ["a damaged gzip"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_file_is_refused_before_memory_is_asked_for(tmp_path: Path, fault: str) -> None:
    content, said = REFUSED[fault]
    path = tmp_path / "bad-idx3-ubyte"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as refusal:
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(refusal.value)
    for part in [str(path), "not a sound IDX file", "Fetch the file again", *said]:
        assert part in message
    assert peak < 2**20  # the largest header here announces 4 EiB


@given(noise=st.binary(min_size=1, max_size=64))
def test_noise_is_read_or_refused_but_never_breaks(folder: Path, noise: bytes) -> None:
    path = folder / "noise"
    path.write_bytes(noise)
    try:
        array = read_idx(path)
    except ValueError as refusal:
        assert "expected" in str(refusal)
    else:
        assert idx(array.astype(array.dtype.newbyteorder(">"))) == noise
