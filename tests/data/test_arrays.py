"""NPY and NPZ: what NumPy writes is read back, and a pickle is never opened."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from separatrix.data import read_npy, read_npz


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
