"""Arrays of an NPZ file that stay on disk: the same numbers, read when they are touched."""

import numpy as np
import pytest

import separatrix as sx
from separatrix.data import DataError

X = np.random.default_rng(0).normal(size=(100, 3))


def test_members_are_mapped_where_they_lie(tmp_path):
    arrays = {"x": X, "turned": np.asfortranarray(X[:, :2]), "whole": np.arange(7), "empty": np.zeros((0, 2))}
    np.savez(tmp_path / "all.npz", **arrays)
    found = sx.read_npz(tmp_path / "all.npz", mmap=True)
    assert list(found) == list(arrays) and all(isinstance(found[name], np.memmap) for name in ("x", "turned", "whole"))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(ValueError, match="read-only"):
        found["x"][0, 0] = 1.0


def test_what_cannot_be_mapped_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "packed.npz", x=X)
    with pytest.raises(DataError, match="got a packed member"):
        sx.read_npz(tmp_path / "packed.npz", mmap=True)
    np.savez(tmp_path / "cut.npz", x=X)
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:500] + data[900:])
    with pytest.raises(DataError):
        sx.read_npz(tmp_path / "cut.npz", mmap=True)


def test_a_set_stays_on_disk_where_that_is_asked(tmp_path):
    np.savez(tmp_path / "set.npz", inputs=X, targets=np.arange(100))
    found, memory = sx.load(tmp_path / "set.npz", mmap=True), sx.load(tmp_path / "set.npz")
    assert isinstance(found.inputs, np.memmap) and not isinstance(memory.inputs, np.memmap)
    np.testing.assert_array_equal(found.inputs, X)
    assert found.card.sha256 == memory.card.sha256
    with pytest.raises(ValueError, match="max_bytes\n  got 9"):
        sx.load(tmp_path / "set.npz", mmap=True, max_bytes=9)
    np.savez_compressed(tmp_path / "packed.npz", inputs=X)
    with pytest.raises(DataError, match="save it with numpy.savez"):
        sx.load(tmp_path / "packed.npz", mmap=True)
