"""A run that is killed and goes on ends with the same bytes as one that was not; one folder is one run."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.training.run import OtherRun, Run, RunLocked, StorageError

PROGRAM = Path(__file__).with_name("_resumed.py")
CASES = ("full", "epochs", "adam", "mapped", "rolling")
FAMILIES = ("sde", "recurrent", "gan", "diffusion")
KEY = jax.random.key(0)
NUMBERS = jnp.array([1.0, 3.0, 8.0, 4.0, 2.0])


def started(folder, pause, names):
    command = [sys.executable, str(PROGRAM), str(folder), str(pause), *names]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def digests(folder, names):
    with started(folder, 0, names) as program:
        told, errors = program.communicate(timeout=240)
    found = dict(line.split()[1:] for line in told.splitlines() if line.startswith("done"))
    assert sorted(found) == sorted(names), errors[-2000:]
    return found


def killed(folder, looks, names):
    """Kill the program after so many looks; return how many of its runs were under way."""
    with started(folder, 0.1, names) as program:
        lines = [program.stdout.readline() for _ in range(looks)]
        program.send_signal(signal.SIGKILL)
        errors = program.communicate(timeout=60)[1]
    assert all(lines), errors[-2000:]
    return sum(Run.open(folder / name).status == "killed" for name in names if (folder / name / "run.json").exists())


def check_kills(tmp_path, names, looks):
    """Train in one folder to the end, and in another under three kills: the same bytes, and nothing left over."""
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    whole = digests(folders[0], names)
    kills = [killed(folders[1], look, names) for look in looks]
    assert sum(kills) >= 2 * len(names), kills
    assert digests(folders[1], names) == whole
    for name in names:
        run, other = (Run.open(folder / name) for folder in folders[::-1])
        np.testing.assert_array_equal(run.steps, other.steps)
        np.testing.assert_array_equal(run.metrics["loss"], other.metrics["loss"])
        assert run.status == "finished" and not list(run.path.rglob("*.tmp"))


def test_ten_kills_change_no_bit(tmp_path):
    """Full batch, shuffled epochs, Adam with average and validation, data on disk, ways back: five runs in a process."""
    instants = random.Random(5)
    check_kills(tmp_path, CASES, [instants.randint(8, 14) for _ in range(3)])


@pytest.mark.slow
def test_kills_of_every_family_change_no_bit(tmp_path):
    """Langevin dynamics, a language model, a GAN, and a score with an average: four runs in a process."""
    check_kills(tmp_path, FAMILIES, (7, 9, 11))


def spread(centre, numbers):
    return jnp.mean((numbers - centre) ** 2)


def kept(folder, optimizer=None, **changes):
    settings = {"initial": jnp.array(0.0), "steps": 20, "every": 5, "key": KEY, "run": folder / "run"}
    return sx.fit(spread, optimizer or optax.sgd(0.1), NUMBERS, **(settings | changes))


def test_a_folder_holds_the_run_and_the_same_call_gives_it_back(tmp_path):
    found = kept(tmp_path, validation=NUMBERS[:2], metrics={"twice": lambda x: 2 * x})
    run = sx.Run.open(tmp_path / "run")
    assert run.status == "finished" and run.checkpoints[-1] == 20 and run.steps.tolist() == [0, 5, 10, 15, 20]
    for name in ("loss", "validation", "twice"):
        np.testing.assert_array_equal(run.metrics[name], found.metrics[name])
    np.testing.assert_array_equal(run.model_like(jnp.array(0.0)), found.model)
    np.testing.assert_array_equal(run.model_like(jnp.array(0.0), named="best"), found.best)
    np.testing.assert_array_equal(sx.load_model(tmp_path / "run", jnp.array(0.0)), found.model)
    np.testing.assert_array_equal(run.state["parameters"], found.state.parameters)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    again = kept(tmp_path, validation=NUMBERS[:2], metrics={"twice": lambda x: 2 * x})
    np.testing.assert_array_equal(again.model, found.model)
    np.testing.assert_array_equal(again.metrics["validation"], found.metrics["validation"])
    assert again.outcome.name == "completed" and again.best_step == found.best_step
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()} == before


def test_a_longer_call_goes_on_from_a_shorter(tmp_path):
    kept(tmp_path, optimizer=optax.adam(0.1), steps=7)
    longer = kept(tmp_path, optimizer=optax.adam(0.1), steps=20)
    np.testing.assert_array_equal(longer.model, kept(tmp_path / "new", optimizer=optax.adam(0.1)).model)
    assert longer.steps.tolist() == [0, 5, 7, 10, 15, 20]
    with pytest.raises(ValueError, match="a run of 20 steps, expected one of at most 19"):
        kept(tmp_path, optimizer=optax.adam(0.1), steps=19)


def test_an_interrupt_saves_and_the_same_call_goes_on(tmp_path):
    asked = []

    def look(step, model, metrics):
        if step == 10 and not asked:
            asked.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    first = kept(tmp_path, callback=look)
    assert first.outcome.name == "interrupted" and Run.open(tmp_path / "run").status == "interrupted"
    assert Run.open(tmp_path / "run").checkpoints == [10]
    np.testing.assert_array_equal(kept(tmp_path, callback=look).model, kept(tmp_path / "new").model)


def test_an_early_stop_is_final(tmp_path):
    settings = {"validation": jnp.array([1.0, 3.0]), "patience": 1, "steps": 60, "every": 2}
    first = kept(tmp_path, **settings)
    again = kept(tmp_path, **settings)
    assert first.outcome.name == again.outcome.name == "stopped_early"
    np.testing.assert_array_equal(first.model, again.model)


def test_a_diverged_run_says_so(tmp_path):
    with pytest.warns(RuntimeWarning, match="diverged"):
        kept(tmp_path, optimizer=optax.sgd(1e200))
    run = Run.open(tmp_path / "run")
    assert run.status == "diverged"
    assert next(event for event in run.events if event["event"] == "non_finite")["step"] == 2


def test_an_error_of_the_user_gives_the_folder_back(tmp_path):
    def fails(step, model, metrics):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        kept(tmp_path, callback=fails)
    assert Run.open(tmp_path / "run").status == "failed"
    assert kept(tmp_path).outcome.name == "completed"


def test_a_run_that_is_open_is_written_to(tmp_path):
    """As a recipe does, which brings its own spec."""
    with Run.create(tmp_path / "own", spec={"mine": 1}) as run:
        found = sx.fit(spread, optax.sgd(0.1), NUMBERS, initial=jnp.array(0.0), steps=5, run=run)
    run = Run.open(tmp_path / "own")
    assert run.spec == {"mine": 1} and run.status == "finished"
    np.testing.assert_array_equal(run.model_like(jnp.array(0.0)), found.model)


OTHERS = {
    "optimizer": {"optimizer": optax.sgd(0.2)},
    "key": {"key": jax.random.key(1)},
    "initial": {"initial": jnp.array(0.5)},
    "batch_size": {"batch_size": 2},
    "average": {"average": 0.5},
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_call_is_refused(name, tmp_path):
    kept(tmp_path, steps=1)
    with pytest.raises(OtherRun, match=f"(?s)a run with another .*{name}") as told:
        kept(tmp_path, **OTHERS[name])
    assert len(str(told.value).splitlines()) <= 3


def test_other_data_or_loss_are_refused(tmp_path):
    kept(tmp_path, steps=1)
    settings = {"initial": jnp.array(0.0), "steps": 20, "every": 5, "key": KEY, "run": tmp_path / "run"}
    with pytest.raises(OtherRun, match="another data"):
        sx.fit(spread, optax.sgd(0.1), NUMBERS + 1, **settings)
    with pytest.raises(OtherRun, match="another objective"):
        sx.fit(lambda x, b: spread(x, b), optax.sgd(0.1), NUMBERS, **settings)


def test_a_folder_in_use_is_refused_and_what_cannot_be_resumed_says_which_call_can(tmp_path):
    kept(tmp_path, steps=1)
    with Run.reopen(tmp_path / "run"), pytest.raises(RunLocked):
        kept(tmp_path)
    with pytest.raises(StorageError, match=r"sx\.fit\(\.\.\., run="):
        Run.open(tmp_path / "run").resume()
    with pytest.raises(ValueError, match="the folder knows where it stands"):
        kept(tmp_path, start=3)
