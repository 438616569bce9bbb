"""A run on disk: what is asked of it, alive, finished and killed."""

import errno
import os
import re
import subprocess
import sys
import threading
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix._errors import Diverged
from separatrix.training.run import CannotWrite, Files, OtherModel, OtherRun, Run, StorageError, fingerprint, load_model


def test_a_run_is_asked_for_everything(tmp_path):
    spec = {"steps": 3, "rate": 0.1, "name": "é", "layers": [1, 2], "none": None}
    model = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    with Run.create(tmp_path / "a" / "b", spec=spec, recipe="classifier") as run:
        assert Run.open(run.path).status == "running" and run.status == "running"
        run.event("alarm", step=1, lead=np.float32(0.5), why="sharp")
        for n in (1, 2, 3):
            run.log(n, {"loss": 1.0 / n})
            run.save(n, {"model": model, "state": (model, jnp.asarray(n))}, key=jax.random.key(5), cursor={"epoch": n})
        run.save(2, {"model": model}, name="best")
    read = Run.open(tmp_path / "a" / "b")
    assert (read.status, read.spec, read.recipe) == ("finished", spec, "classifier")
    assert read.fingerprint == fingerprint({"recipe": "classifier", "spec": spec})
    assert read.checkpoints == [2, 3]
    assert [event["event"] for event in read.events] == ["start", "alarm", "end"]
    assert {"step": 1, "lead": 0.5, "why": "sharp"}.items() <= read.events[1].items()
    assert read.latest().cursor == {"epoch": 3} and read.load(step=2).cursor == {"epoch": 2}
    template = eqx.nn.Linear(2, 3, key=jax.random.key(1))
    assert jnp.array_equal(read.model_like(template).weight, model.weight)
    assert jnp.array_equal(read.model_like(template, named="best").weight, model.weight)
    assert read.load(jnp.asarray(0), at=("state", 1)).tree == 3
    assert jnp.array_equal(load_model(read.path, template).bias, model.bias)
    assert np.array_equal(load_model(read.path)["weight"], model.weight)
    assert repr(read) == f"Run({str(read.path)!r}, finished at step 3)"
    with pytest.raises(OtherModel, match=r"nothing at \.ema, expected one of \.model, \.state"):
        read.load(at="ema")
    assert sorted(path.name for path in read.path.iterdir()) == [
        "best.safetensors", "checkpoints", "events.jsonl", "lock", "metrics.jsonl", "run.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "interrupted"), (Diverged, "diverged"), (ZeroDivisionError, "failed"), (None, "finished")],
)
def test_how_it_ended_is_kept(error, status, tmp_path):
    try:
        with Run.create(tmp_path / "run") as run:
            run.save(1, {"x": 1})
            if error is not None:
                raise error("why")
    except (KeyboardInterrupt, Diverged, ZeroDivisionError):
        pass
    run = Run.open(run.path)
    assert run.status == status and run.latest().tree == {"x": 1}
    assert run.events[-1].get("error") == (None if error is None else error.__name__)


def test_a_run_that_says_no_word_was_killed(tmp_path):
    code = f"import os; from separatrix.training.run import Run; Run.create({str(tmp_path / 'run')!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert Run.open(tmp_path / "run").status == "killed"
    with Run.reopen(tmp_path / "run") as run:
        assert run.restore() is None and run.status == "running"
    assert Run.open(tmp_path / "run").status == "finished"


def test_resuming_leaves_what_would_have_been_there(tmp_path):
    def go(run, x, first, last):
        for n in range(first, last + 1):
            x = 3 * x % 1009
            run.log(n, {"x": x})
            if n == 5:
                run.event("five", step=n, x=x)
            if n % 2 == 0:
                run.save(n, {"x": x})
        return x

    with Run.create(tmp_path / "whole") as run:
        run.log(0, {"x": 1})
        whole = go(run, 1, 1, 9)
    with Run.create(tmp_path / "split") as run:
        run.log(0, {"x": 1})
        go(run, 1, 1, 7)
    with Run.reopen(tmp_path / "split") as run:
        run.restore(step=4)
        assert run.checkpoints == [4]
        run.finish("interrupted")
    with Run.reopen(tmp_path / "split") as run:
        saved = run.restore({"x": 0})
        run.log(saved.step, {"x": saved.tree["x"]})  # measured again where it goes on
        assert go(run, saved.tree["x"], saved.step + 1, 9) == whole
    a, b = Run.open(tmp_path / "whole"), Run.open(tmp_path / "split")
    assert a.steps.tolist() == b.steps.tolist() == list(range(10))
    assert a.metrics["x"].tolist() == b.metrics["x"].tolist()
    assert [e["x"] for e in a.events if e["event"] == "five"] == [e["x"] for e in b.events if e["event"] == "five"]
    assert a.latest().tree == b.latest().tree and a.checkpoints == b.checkpoints == [6, 8]


def test_going_back_drops_what_lies_beyond(tmp_path):
    with Run.create(tmp_path / "run", keep=5) as run:
        for n in range(1, 5):
            run.save(n, {"x": n}, wait=True)
        assert run.restore(step=2).tree == {"x": 2}
        assert run.checkpoints == [1, 2]
        run.save(3, {"x": 30}, wait=True)
        assert run.load().tree == {"x": 30} and run.checkpoints == [1, 2, 3]


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    Run.create(tmp_path / "run").close()
    with pytest.raises(StorageError, match="got a folder that holds a run"):
        Run.create(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(StorageError, match=r"holds 'thesis.tex', expected a new or empty one"):
        Run.create(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotWrite):
        Run.create(tmp_path / "file")
    with pytest.raises(StorageError, match="expected the folder of a run"):
        Run.open(tmp_path / "absent")
    with pytest.raises(StorageError, match="expected a checkpoint"):
        Run.open(tmp_path / "run").latest()


def test_another_configuration_is_refused_unless_forced(tmp_path):
    Run.create(tmp_path / "run", spec={"rate": 0.1}).close()
    other = fingerprint({"recipe": None, "spec": {"rate": 0.2}})
    with pytest.raises(OtherRun, match=f"expected {other[:16]}, of these settings"):
        Run.reopen(tmp_path / "run", fingerprint=other)
    Run.reopen(tmp_path / "run", fingerprint=other, force=True).close()
    Run.reopen(tmp_path / "run", fingerprint=fingerprint({"recipe": None, "spec": {"rate": 0.1}})).close()


def test_a_reader_does_not_write(tmp_path):
    Run.create(tmp_path / "run").close()
    read = Run.open(tmp_path / "run")
    for call in (lambda: read.log(1, {}), lambda: read.save(1, {}), lambda: read.event("x"), read.restore, read.finish):
        with pytest.raises(StorageError, match="open for reading"):
            call()
    read.close()


def test_what_cannot_be_asked_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 1, expected at least 2"):
        Run.create(tmp_path / "run", keep=1)
    with pytest.raises(ValueError, match=re.escape("spec['a'][1]\n  got nan")):
        Run.create(tmp_path / "run", spec={"a": [1.0, float("nan")]})
    with pytest.raises(TypeError, match=r"spec\['a'\]\n  got ndarray"):
        Run.create(tmp_path / "run", spec={"a": np.ones(2)})
    assert not (tmp_path / "run").exists()
    with Run.create(tmp_path / "run") as run:
        with pytest.raises(ValueError, match="got 'done', expected one of finished"):
            run.finish("done")
        with pytest.raises(ValueError, match="letters, digits"):
            run.save(1, {}, name="../x")
        with pytest.raises(StorageError, match="a run made in Python"):
            run.model


def test_a_save_is_written_beside_and_waits_for_the_one_before(tmp_path):
    gate, order = threading.Event(), []

    def write(handle, data):
        if len(data) > 10_000:
            gate.wait(10)
            order.append("written")
        return os.write(handle, data)

    with Run.create(tmp_path / "run", files=Files(write=write)) as run:
        run.save(1, {"x": np.zeros(2000)})
        order.append("asked")
        assert run.checkpoints == []
        threading.Timer(0.05, gate.set).start()
        run.save(2, {"x": np.ones(2000)})
        # The first is written whole before the second begins, which may be done by now too.
        assert run.checkpoints[:1] == [1]
    assert order == ["asked", "written", "written"]
    assert Run.open(run.path).checkpoints == [1, 2]


@pytest.mark.parametrize("call", ["log", "save", "finish"])
def test_what_went_wrong_beside_is_raised_at_the_next_call(call, tmp_path):
    full = threading.Event()

    def write(handle, data):
        if full.is_set() and len(data) > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, data)

    run = Run.create(tmp_path / "run", files=Files(write=write))
    run.save(1, {"x": np.zeros(2000)}, wait=True)
    full.set()
    run.save(2, {"x": np.ones(2000)})
    run._hand.writer._thread.join()
    with pytest.raises(CannotWrite, match=r"step-000000000002.*\n.*no space left on device"):
        {"log": lambda: run.log(2, {"a": 1}), "save": lambda: run.save(3, {"x": 0}), "finish": run.finish}[call]()
    if call != "finish":
        full.clear()
        run.save(3, {"x": np.ones(2000)})
        run.finish()
    read = Run.open(run.path)
    assert read.checkpoints == ([1] if call == "finish" else [1, 3])
    assert read.status == ("failed" if call == "finish" else "finished")
    assert not list(run.path.rglob("*.tmp"))


def test_an_error_of_the_caller_is_not_hidden_by_one_of_the_disk(tmp_path):
    def write(handle, data):
        if len(data) > 10_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.write(handle, data)

    with pytest.raises(ZeroDivisionError) as caught, Run.create(tmp_path / "run", files=Files(write=write)) as run:
        run.save(1, {"x": np.zeros(2000)})
        raise ZeroDivisionError
    assert "input/output error" in caught.value.__notes__[0]


def test_a_reader_beside_a_writer_always_sees_a_whole_checkpoint(tmp_path):
    done = threading.Event()
    seen = []

    def read():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            while not done.is_set():
                run = Run.open(tmp_path / "run")
                if run.checkpoints:
                    saved = run.latest()
                    seen.append(bool((saved.tree["x"] == saved.step).all()))

    with Run.create(tmp_path / "run") as run:
        reader = threading.Thread(target=read)
        reader.start()
        for n in range(1, 60):
            run.save(n, {"x": np.full(500, n)})
        done.set()
        reader.join()
    assert len(seen) > 3 and all(seen)


def test_the_storage_does_not_import_jax():
    code = """
import sys, types
parent = types.ModuleType("separatrix.training")
import separatrix, pathlib
parent.__path__ = [str(pathlib.Path(separatrix.__file__).parent / "training")]
sys.modules["separatrix.training"] = parent
import tempfile
from separatrix.training.run import Run
with Run.create(tempfile.mkdtemp() + "/run", spec={"a": 1}) as run:
    run.log(1, {"loss": 0.5})
run = Run.open(run.path)
print(run.status, run.metrics["loss"][0], "jax" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["finished", "0.5", "False"]
