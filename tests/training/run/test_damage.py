"""Every byte of a file counts: whichever is changed, the file is refused."""

import numpy as np
import pytest

from separatrix.training.run import DamagedFile, Run, StorageError, load_tree, save_tree

TREE = {"w": np.arange(3, dtype=np.float32), "n": 4, "b": np.array(True), "s": "name"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tree.safetensors"
    save_tree(path, TREE, step=2, key=np.arange(2, dtype=np.uint32))
    return path, path.read_bytes()


def refused(path, data):
    path.write_bytes(data)
    try:
        load_tree(path)
    except DamagedFile as error:
        return "got a damaged file: " in str(error) and len(str(error).splitlines()) == 3
    return False


@pytest.mark.parametrize("bit", [0, 5])
def test_each_byte_counts(file, bit):
    path, data = file
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        assert refused(path, bytes(changed)), place


def test_each_length_counts(file):
    path, data = file
    assert all(refused(path, data[:length]) for length in range(len(data)))
    assert refused(path, data + b"\0") and refused(path, data + data)


def test_the_tail_of_another_file_is_seen(file):
    path, data = file
    save_tree(path, TREE | {"w": np.arange(3, dtype=np.float32) + 1}, step=2, key=np.arange(2, dtype=np.uint32))
    other = path.read_bytes()
    assert len(other) == len(data)
    spliced = {data[:at] + other[at:] for at in range(1, len(data))} - {data, other}
    assert len(spliced) > 50 and all(refused(path, mixed) for mixed in spliced)


def test_what_is_wrong_is_named(file):
    path, data = file
    changed = bytearray(data)
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DamagedFile, match=r"the digest of the tensor 'tree/.' differs from the one in the manifest"):
        load_tree(path)
    path.write_bytes(data[:-3])
    with pytest.raises(DamagedFile, match="bytes, where the manifest asks for"):
        load_tree(path)


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", spec={"a": 1}) as run:
        for step in (1, 2, 3):
            run.log(step, {"loss": 1.0 / step})
            run.save(step, {"x": np.full(4, step)}, wait=True)
    return run


def path_of(run, step):
    return run.path / "checkpoints" / f"step-{step:012d}.safetensors"


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(run):
    path_of(run, 3).write_bytes(path_of(run, 3).read_bytes()[:-8])
    with pytest.warns(RuntimeWarning, match=r"went back to step 2: .*step-000000000003.*\n.*asks for"):
        saved = Run.open(run.path).latest()
    assert saved.step == 2 and saved.tree["x"].tolist() == [2] * 4
    assert list(saved.passed_over) == ["step-000000000003.safetensors"]


def test_swapped_checkpoints_are_seen(run, tmp_path):
    two, three = path_of(run, 2).read_bytes(), path_of(run, 3).read_bytes()
    path_of(run, 3).write_bytes(two)
    with pytest.warns(RuntimeWarning, match="the checkpoint of step 2, expected that of step 3"):
        assert Run.open(run.path).latest().step == 2
    path_of(run, 2).write_bytes(three)
    with pytest.raises(DamagedFile, match=r"(?s)step 2.*step 3"):
        Run.open(run.path).latest()
    with Run.create(tmp_path / "other", spec={"a": 1}) as other:
        other.save(3, {"x": np.zeros(4)})
    path_of(run, 2).write_bytes(two)
    path_of(run, 3).write_bytes(path_of(other, 3).read_bytes())
    with pytest.warns(RuntimeWarning, match=r"(?s)the run .*another run"):
        assert Run.open(run.path).latest().tree["x"].tolist() == [2] * 4


def test_going_on_after_damage_keeps_two_good_ones(run):
    path_of(run, 3).write_bytes(b"nothing")
    with Run.reopen(run.path) as again, pytest.warns(RuntimeWarning, match="went back"):
        assert again.restore().step == 2
        again.save(3, {"x": np.full(4, 3)}, wait=True)
        assert again.checkpoints == [2, 3]
    assert Run.open(run.path).latest().step == 3
    assert path_of(run, 3).with_name("step-000000000003.safetensors.damaged").read_bytes() == b"nothing"
    assert Run.open(run.path).events[-2]["passed_over"] == ["step-000000000003.safetensors"]


def test_what_was_asked_is_guarded_too(run):
    about = run.path / "run.json"
    data = about.read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 2
        about.write_bytes(bytes(changed))
        with pytest.raises(DamagedFile):
            Run.open(run.path)
    about.unlink()
    with pytest.raises(StorageError, match="expected the folder of a run"):
        Run.open(run.path)
