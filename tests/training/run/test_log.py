"""What was appended stays, whatever becomes of the last line."""

import errno
import os

import numpy as np
import pytest

from separatrix.training.run import CannotWrite, Files, Run
from separatrix.training.run._log import Log, continued, read_log


@pytest.fixture
def path(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for n in range(3):
        log.append({"n": n, "text": "a\nb\0\u2028 é"})
    log.close()
    return tmp_path / "log.jsonl"


def numbers(path):
    return [record["n"] for record in read_log(path)[0]]


def test_a_last_line_torn_anywhere_is_left_out_and_repaired(path):
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert numbers(path) == [0, 1] and read_log(path)[1] == []
        log = Log(path)
        log.append({"n": 7})
        log.close()
        assert numbers(path) == [0, 1, 7] and read_log(path)[1] == []
    assert path.read_bytes() == whole[:last] + b'{"n": 7}\n'


def test_a_torn_line_longer_than_one_look_back_is_cut_off(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 200_000)
    Log(path).close()
    assert path.read_bytes() == whole
    path.write_bytes(b"y" * 200_000)
    Log(path).close()
    assert path.read_bytes() == b""


def test_zeros_of_a_power_cut_are_left_out(path):
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert numbers(path) == [0, 1, 2]
    path.write_bytes(path.read_bytes() + b"\n")
    assert numbers(path) == [0, 1, 2] and read_log(path)[1] == []


def test_damaged_lines_are_left_out_and_counted(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff{\n[1]\n" + b"[" * 100_000 + b"\n" + lines[2])
    assert numbers(path) == [0, 2]
    assert read_log(path)[1] == [2, 3, 4]


def test_a_line_that_the_disk_takes_in_part_is_taken_back(path):
    whole, full = path.read_bytes(), [False]

    def write(handle, data):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        full[0] = len(data) > 20
        return os.write(handle, data[:10])

    log = Log(path, Files(write=write))
    with pytest.raises(CannotWrite, match="no space left on device"):
        log.append({"n": 3, "long": "x" * 100})
    assert path.read_bytes() == whole
    full[0] = False
    log.append({"n": 4})
    log.close()
    assert numbers(path) == [0, 1, 2, 4]


def test_an_abandoned_future_is_left_out():
    records = [{"step": 1}, {"step": 2}, {"a": 0}, {"step": 3}, {"resumed": 1}, {"step": 2, "b": 1}, {"resumed": 5}]
    assert continued(records) == [{"step": 1}, {"a": 0}, {"step": 2, "b": 1}]
    assert continued([{"step": 0}, {"resumed": -1}, {"step": 0, "b": 1}]) == [{"step": 0, "b": 1}]


def test_measurements_come_back_as_arrays(tmp_path):
    with Run.create(tmp_path / "run") as run:
        run.log(0, {"loss": 0.1, "players": (1.0, 2), "norms": {"a": np.float32(0.5), "b": np.arange(2)}})
        run.log(10, {"loss": float("nan"), "players": (float("inf"), -1)})
        run.log(10, {"validation": 3})
        run.log(20, {"loss": np.float32(0.1), "validation": float("-inf")})
    run = Run.open(run.path)
    assert run.steps.tolist() == [0, 10, 20] and np.all(np.diff(run.times) >= 0)
    found = run.metrics
    np.testing.assert_array_equal(found["loss"], [0.1, np.nan, np.float32(0.1)])
    np.testing.assert_array_equal(found["players"], [[1, 2], [np.inf, -1], [np.nan, np.nan]])
    np.testing.assert_array_equal(found["norms.a"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(found["norms.b"], [[0, 1], [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_array_equal(found["validation"], [np.nan, 3, -np.inf])


def test_damage_in_measurements_is_told(tmp_path):
    with Run.create(tmp_path / "run") as run:
        for n in range(4):
            run.log(n, {"loss": n})
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step"; 2'))
    with pytest.warns(RuntimeWarning, match=r"metrics.jsonl: damaged lines 3 are left out"):
        assert Run.open(run.path).steps.tolist() == [0, 1, 3]


def test_names_that_are_taken_are_refused(tmp_path):
    with Run.create(tmp_path / "run") as run:
        for name in ("step", "time", "resumed"):
            with pytest.raises(ValueError, match=f"got '{name}', expected another name"):
                run.log(1, {name: 1.0})
        with pytest.raises(TypeError, match="numbers and texts"):
            run.log(1, {"x": object()})
    assert Run.open(run.path).steps.tolist() == []
