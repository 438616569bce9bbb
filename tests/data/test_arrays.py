"""NPY and NPZ: what NumPy writes is read back, and a pickle is never opened."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from separatrix.data import DataError, load, read_npy, read_npz


class Trap:
    """An object whose pickle runs code when it is opened."""

    def __reduce__(self) -> tuple:
        return (open, ("trap-was-opened", "w"))


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("npy")


dtypes = st.sampled_from([np.float64, np.float32, np.int32, np.uint8, np.bool_, np.complex128, ">f4"])
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))


@given(array=arrays, fortran=st.booleans(), packed=st.booleans())
def test_what_numpy_writes_is_read_back(folder: Path, array: np.ndarray, fortran: bool, packed: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    np.save(folder / "x.npy", array)
    (np.savez_compressed if packed else np.savez)(folder / "x.npz", first=array, second=array.ravel())
    for read, written in [
        (read_npy(folder / "x.npy"), array),
        (read_npz(folder / "x.npz")["first"], array),
        (read_npz(folder / "x.npz")["second"], array.ravel()),
    ]:
        assert read.dtype == written.dtype and read.flags.writeable
        np.testing.assert_array_equal(read, written)


def test_a_pickle_is_refused_and_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = npy(np.array([Trap(), Trap()], object))
    (tmp_path / "trap.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "trap.npz", "w") as archive:
        archive.writestr("x.npy", content)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Trap()))
    for reader, name, said in [
        (read_npy, "trap.npy", "pickles are never loaded"),
        (read_npz, "trap.npz", "pickles are never loaded"),
        (read_npy, "bare.npy", "a header that cannot be read"),
    ]:
        with pytest.raises(ValueError, match=said):
            reader(tmp_path / name)
    assert not (tmp_path / "trap-was-opened").exists()


WHOLE = npy(np.arange(10.0))

REFUSED = {
    "cut short": (WHOLE[:-1], "a header for 80 bytes and 79"),
    "too long": (WHOLE + b"\0", "a header for 80 bytes and 81"),
    "a huge shape": (WHOLE.replace(b"(10,), }  ", b"(9**9,), }"), "a header that cannot be read"),
    "a large shape": (WHOLE.replace(b"(10,), }  ", b"(9999,), }"), "a header for 79992 bytes and 80"),
    "another format": (b"PK\x03\x04" + WHOLE, "a header that cannot be read"),
    "another version": (WHOLE[:6] + b"\x09\0" + WHOLE[8:], "a header that cannot be read"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_file_is_refused(tmp_path: Path, fault: str) -> None:
    content, said = REFUSED[fault]
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read_npy(path)
    for part in [str(path), said, "numpy.save"]:
        assert part in str(refusal.value)


def test_a_damaged_archive_is_refused_and_the_member_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, x=np.arange(3.0))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="a damaged zip archive"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("y.npy", WHOLE[:-8])
    with pytest.raises(ValueError, match=r"member 'y\.npy'.*\n.*80 bytes and 72"):
        read_npz(path)


def header(text: str, values: bytes = b"", version: bytes = b"\x01\0") -> bytes:
    """An NPY file whose header says `text`."""
    body = text.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY" + version + len(body).to_bytes(2, "little") + body + values


def described(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


FAULTY = {
    "brackets that stay open": ("{'descr': '<f8', 'fortran_order': False, 'shape': ((((", "a header that cannot be read"),
    "a string that stays open": ("{'descr': \"\"\"<f8", "a header that cannot be read"),
    "brackets a hundred deep": ("(" * 100 + ")" * 100, "a header that cannot be read"),
    "no dtype": (described("'<q9'", "(1,)"), "a header that cannot be read"),
    "70 dimensions": (described("'<f8'", "(" + "1," * 70 + ")").replace(" ", ""), "header"),
    "two negative sizes": (described("'<f8'", "(-1, -1)"), "2 dimensions"),
    "a size that is no number": (described("'<f8'", "(True,)"), "1 dimensions"),
    "a size of no end": (described("'<f8'", f"({10**40},)"), "bytes and 8"),
    "zero times too much": (described("'<f8'", f"(0, {2**62}, {2**62})"), "bytes and 8"),
    "elements of no bytes": (described("'|S0'", "(8,)"), "bytes and 8"),
    "void": (described("'|V8'", "(1,)"), "dtype |V8"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_header_is_refused(tmp_path: Path, fault: str) -> None:
    text, said = FAULTY[fault]
    path = tmp_path / "bad.npy"
    path.write_bytes(header(text, bytes(8)))
    for options in ({}, {"mmap": True}):
        with pytest.raises(DataError) as refusal:
            read_npy(path, **options)
        assert said in str(refusal.value) and "bad.npy" in str(refusal.value)


def test_sizes_of_nothing_that_no_array_can_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(header(described("'<f8'", f"(0, {2**62}, {2**62})")))
    with pytest.raises(DataError, match=r"bad.npy: refused"):
        read_npy(path)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_larger_than_memory_stays_on_disk(tmp_path: Path, order: str) -> None:
    path, written = tmp_path / "x.npy", np.asarray(np.arange(60.0).reshape(3, 4, 5), order=order)
    np.save(path, written)
    found = read_npy(path, mmap=True)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    np.testing.assert_array_equal(found, written)
    np.testing.assert_array_equal(load(path, mmap=True).inputs, written)
    np.save(path, np.zeros((0, 3)))
    assert read_npy(path, mmap=True).shape == (0, 3)


class TestMembers:
    def archive(self, path: Path, *names: str, content: bytes = WHOLE, **options: object) -> Path:
        with zipfile.ZipFile(path, "w", **options) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                archive.writestr(name, content)
        return path

    @pytest.mark.parametrize("names", [("x.npy", "x.npy"), ("x.npy", "x")])
    def test_two_of_one_name_are_refused(self, tmp_path: Path, names: tuple[str, str]) -> None:
        with pytest.raises(DataError, match="the name 'x' again"):
            read_npz(self.archive(tmp_path / "x.npz", *names))

    def test_names_in_folders_and_with_points_stay_apart(self, tmp_path: Path) -> None:
        arrays = {"a/x": np.arange(2), "b/x": np.arange(3), "x": np.arange(4), "x.y": np.arange(5)}
        np.savez(tmp_path / "x.npz", **arrays)
        found = read_npz(tmp_path / "x.npz")
        with np.load(tmp_path / "x.npz") as theirs:
            assert set(found) == set(theirs.files) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)

    @pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_packing_that_numpy_does_not_write_is_refused(self, tmp_path: Path, packing: int) -> None:
        path = self.archive(tmp_path / "x.npz", "x.npy", compression=packing)
        with pytest.raises(DataError, match=r"member 'x\.npy'"):
            read_npz(path)

    def test_members_are_counted(self, tmp_path: Path) -> None:
        """With a directory that is said to be shorter, `zipfile` reads one member of two and says nothing."""
        path = self.archive(tmp_path / "x.npz", "x.npy", "y.npy")
        content = path.read_bytes()
        at = content.rindex(b"PK\5\6") + 12
        size = int.from_bytes(content[at : at + 4], "little") // 2
        path.write_bytes(content[:at] + size.to_bytes(4, "little") + content[at + 4 :])
        with pytest.raises(DataError, match="damaged zip archive"):
            read_npz(path)
