"""Damaged files: each is read, or refused as a `DataError` that names the file. No other exception, no empty words.

Bytes are changed, cut, doubled, moved and added, from a seed. What carries checksums (NPZ, gzip, Parquet with them) is
either read right or refused; of the others no reader can tell a changed digit.
"""

import gzip
import io
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from separatrix.data import DataError, read_csv, read_idx, read_npy, read_npz, read_parquet

COUNT = 300
SPLICES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"((((", b'"\n",')
VALUES = np.random.default_rng(1).normal(size=(20, 3))


def csv() -> bytes:
    rows = "\n".join(",".join(f"{value:.6f}" for value in row) for row in VALUES)
    return f'# a note\nt,"x, y",z\n{rows}\n'.encode()


def words() -> bytes:
    return b"day,colour,x\n" + b"".join(
        b"2024-03-%02d,%s,%d\n" % (i, [b"red", b"blue"][i % 2], i) for i in range(1, 20)
    )


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, VALUES)
    return stream.getvalue()


def npz(save: Callable = np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, inputs=VALUES, targets=np.arange(20))
    return stream.getvalue()


def idx() -> bytes:
    return bytes([0, 0, 0x0E, 2]) + struct.pack(">2I", 20, 3) + VALUES.astype(">f8").tobytes()


def parquet(**options: object) -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    columns = {"t": np.arange(20), "x": VALUES[:, 0], "c": ["red", "blue"] * 10}
    pq.write_table(pa.table(columns), stream, write_page_checksum=True, **options)
    return stream.getvalue()


def flat(found: object) -> list[bytes]:
    """All values that a reader gave, to be compared."""
    if isinstance(found, np.ndarray):
        return [found.tobytes()]
    columns = found if isinstance(found, dict) else found.columns
    return [name.encode() + np.asarray(values).tobytes() for name, values in columns.items()]


def infer(read: Callable) -> Callable:
    return lambda path: read(path, kinds="infer", missing="keep")


# the file, its reader, whether a checksum covers its values
KINDS: dict[str, tuple[Callable[[], bytes], Callable, bool]] = {
    "csv": (csv, read_csv, False),
    "csv with words and dates": (words, infer(read_csv), False),
    "npy": (npy, read_npy, False),
    "npy on disk": (npy, lambda path: read_npy(path, mmap=True), False),
    "npz": (npz, read_npz, True),
    "npz packed": (lambda: npz(np.savez_compressed), read_npz, True),
    "idx": (idx, read_idx, False),
    "idx packed": (lambda: gzip.compress(idx(), mtime=0), read_idx, True),
    "parquet": (parquet, infer(read_parquet), True),
    "parquet of fast pages": (lambda: parquet(compression="none", use_dictionary=False), infer(read_parquet), True),
}


def mutants(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    draw = np.random.default_rng(seed)
    for _ in range(count):
        content = bytearray(whole)
        for _ in range(int(draw.integers(1, 4))):
            at, length = (int(n) for n in draw.integers(0, len(content) + 1, 2) // np.array([1, 8]))
            match int(draw.integers(7)):
                case 0:
                    content[at : at + 1] = bytes([int(draw.integers(256))])
                case 1:
                    content[at : at + 1] = bytes(
                        [content[at] ^ (1 << int(draw.integers(8)))] if at < len(content) else b""
                    )
                case 2:
                    del content[at : at + length]
                case 3:
                    content[at:at] = content[at : at + length]
                case 4:
                    content[at : at + 4] = draw.choice(
                        [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"((((", b'"\n",']
                    )
                case 5:
                    content = content[:at] or content
                case 6:
                    content += draw.bytes(length)
        yield bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_words(kind: str, tmp_path: Path) -> None:
    write, read, covered = KINDS[kind]
    whole, path = write(), tmp_path / "damaged"
    path.write_bytes(whole)
    right = flat(read(path))
    refused = 0
    for content in mutants(whole, COUNT, seed=len(kind)):
        path.write_bytes(content)
        try:
            found = read(path)
        except DataError as error:
            refused += 1
            message = str(error)
            assert str(path) in message and len(message.splitlines()) == 3 and len(message) < 2000
        else:
            assert not covered or flat(found) == right, "a changed file was read as if it were whole"
    assert refused > COUNT / 4


def test_every_byte_of_a_header_may_be_any_other(tmp_path: Path) -> None:
    """NumPy reads the header with Python's own parser: every printable sign at every place of it."""
    whole, path = npy(), tmp_path / "x.npy"
    end = whole.index(b"}") + 1
    signs = bytes(range(0, 256, 5)) + b"\"'#()[]{}\\\n0L"
    for at in range(end):
        for sign in signs[at % 4 :: 4]:
            path.write_bytes(whole[:at] + bytes([sign]) + whole[at + 1 :])
            try:
                read_npy(path)
            except DataError as error:
                assert str(path) in str(error)


def test_a_checksum_of_a_page_that_is_wrong_is_seen(tmp_path: Path) -> None:
    whole, path = parquet(compression="none", use_dictionary=False), tmp_path / "x.parquet"
    value = VALUES[7, 0].tobytes()
    at = whole.index(value)
    path.write_bytes(whole[: at + 3] + bytes([whole[at + 3] ^ 1]) + whole[at + 4 :])
    with pytest.raises(DataError, match=r"(?s)not a sound Parquet file.*(CRC|checksum)"):
        read_parquet(path, columns=["x"])


def bomb_npz(path: Path) -> None:
    np.savez_compressed(path, inputs=np.zeros(10**8, np.int8), more=np.zeros(10**8 * 2, np.int8))


def bomb_idx(path: Path) -> None:
    size = 3 * 10**8
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", size) + bytes(size), compresslevel=9))


def bomb_parquet(path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"x": np.zeros(5 * 10**7, np.int8)}), path)


@pytest.mark.parametrize(
    ("read", "write"),
    [(read_npz, bomb_npz), (read_idx, bomb_idx), (read_parquet, bomb_parquet)],
    ids=["npz", "idx", "parquet"],
)
def test_a_small_file_does_not_unpack_to_a_large_one_unasked(read: Callable, write: Callable, tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bytes packed into \d+, expected at most 268435456.\n.*max_bytes="):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_what_is_trusted_may_unpack_to_what_is_said(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(10_000))
    assert read_npz(tmp_path / "x.npz", max_bytes=10**6)["x"].shape == (10_000,)
    with pytest.raises(DataError, match=r"80128 bytes packed into \d+, expected at most 1000"):
        read_npz(tmp_path / "x.npz", max_bytes=1000)
