"""Trackers: what a run measured is read back by each tracker's own reader, and one that fails ends nothing."""

import importlib.util
import json
import struct
import threading
import time
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.training.trackers import JsonLines, MLflow, TensorBoard, Told, WandB, tracker_named

needs = lambda name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
foreign = pytest.mark.filterwarnings("ignore")  # of packages that are not ours


def descend(tracker, **more):
    """x[n] = 2^-n, so that the loss after n steps is 2^(-2 n - 1)."""
    loss = lambda x: x**2 / 2
    return sx.fit(loss, optax.sgd(0.5), initial=jnp.array(1.0), steps=4, every=2, tracker=tracker, **more)


EXACT = {0: 2.0**-1, 2: 2.0**-5, 4: 2.0**-9}


def test_json_lines_hold_the_start_each_measurement_and_the_end(tmp_path):
    plain = descend(None)
    found = descend(JsonLines(tmp_path / "a" / "m.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "a" / "m.jsonl").read_text().splitlines()]
    assert lines[0]["start"]["steps"] == 4 and lines[-1] == {"finish": "finished"}
    assert {line["step"]: line["loss"] for line in lines[1:-1]} == EXACT
    assert float(found.model) == float(plain.model)  # who is told changes nothing
    with pytest.warns(RuntimeWarning, match="diverged"):
        sx.fit(
            lambda x: x**2,
            optax.sgd(1e30),
            initial=jnp.array(1.0),
            steps=40,
            every=1,
            tracker=JsonLines(tmp_path / "d"),
        )
    assert json.loads((tmp_path / "d").read_text().splitlines()[-1]) == {"finish": "diverged"}


class Broken:
    def __init__(self, where):
        self.where, self.calls = where, []

    def start(self, about):
        self._call("start")

    def record(self, step, values):
        self._call("record")

    def finish(self, outcome):
        self._call("finish")

    def _call(self, name):
        self.calls.append(name)
        if name == self.where:
            raise ConnectionError("no route to host\nand much more")


@pytest.mark.parametrize("where", ["start", "record", "finish"])
def test_a_tracker_that_cannot_be_reached_is_reported_once_and_the_run_goes_on(where, tmp_path):
    broken = Broken(where)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = descend([broken, JsonLines(tmp_path / "m")], run=tmp_path / "run")
    assert [str(one.message).splitlines()[1] for one in told] == [
        "  got ConnectionError: no route to host, expected a tracker that takes the numbers."
    ]
    assert broken.calls.count(where) == 1 and float(found.model) == 2.0**-4
    assert sx.Run.open(tmp_path / "run").metrics["loss"].tolist() == list(EXACT.values())
    assert len((tmp_path / "m").read_text().splitlines()) == 5  # the other one was told everything


def test_a_tracker_that_hangs_holds_nothing_up():
    release = threading.Event()

    class Hanging(Broken):
        def _call(self, name):
            release.wait(20)

    begun = time.monotonic()
    told = Told([Hanging("")], wait=0.2)
    told.start({})
    told.record(0, {"loss": np.array([1.0, 2.0])})
    with pytest.warns(RuntimeWarning, match="did not answer"):
        told.finish("finished")
    assert time.monotonic() - begun < 5
    release.set()


def test_what_is_no_tracker_is_refused():
    with pytest.raises(TypeError, match="got int without start, expected start, record and finish"):
        descend(3)
    with pytest.raises(TypeError, match="got TensorBoard, a class"):
        descend(TensorBoard)
    with pytest.raises(ValueError, match="(?s)got 'tensorbord'.*Did you mean 'tensorboard'"):
        tracker_named("tensorbord:x")
    assert tracker_named("jsonl:x") == JsonLines("x")


@foreign
@needs("tensorboardX")
@needs("tensorboard")
def test_tensorboard_reads_back_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    descend(TensorBoard(tmp_path))
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert {one.step: one.value for one in read.Scalars("loss")} == EXACT


@foreign
@needs("mlflow")
def test_mlflow_holds_the_numbers_in_sqlite(tmp_path):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/m.db"
    Told([], 0)
    tracker = MLflow(uri)
    tracker.start({"steps": 4, "spec": {"width": 8}})
    for step, loss in EXACT.items():
        tracker.record(step, {"loss": loss})
    tracker.finish("finished")
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("separatrix").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"steps": "4", "spec.width": "8"}
    assert {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")} == EXACT


@foreign
@needs("wandb")
def test_wandb_offline_writes_a_run_that_it_can_read(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = WandB("separatrix", "offline", tmp_path)
    tracker.start({"steps": 4})
    for step, loss in EXACT.items():
        tracker.record(step, {"loss": loss})
    tracker.finish("finished")
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert read_wandb(file) == EXACT


def read_wandb(path):
    """The losses of a file of W&B by step: records in the log format of LevelDB, each a message of W&B's own."""
    from wandb.proto import wandb_internal_pb2

    data, place, found, message = path.read_bytes(), 7, {}, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no room for a head at the end of a block
            place += 32768 - place % 32768
        length, kind = struct.unpack_from("<HB", data, place + 4)
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            message = b""
            if record.WhichOneof("record_type") == "history":
                row = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
                found[row["_step"]] = row["loss"]
    return found
