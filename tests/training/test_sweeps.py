"""Sweeps: where the edge is known in closed form, killed, refused, and by each executor that is installed."""

import functools
import importlib.util
import os
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweep_trials
from scipy.stats import qmc

import separatrix as sx
from separatrix.training.run import CannotWrite, OtherRun, RunLocked, StorageError
from separatrix.training.sweeps import Here, Pool, Ray, Search, Slurm

needs = lambda name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


def test_the_fates_of_a_grid_are_those_of_the_closed_form_and_the_boundary_lies_between_them(tmp_path):
    space = {"learning_rate": sx.Range(0.9, 5.0, count=12, log=True), "momentum": [0.0, 0.3, 0.6]}
    found = sx.sweep(sweep_trials.descend, space, out=tmp_path / "s", shard=16, together=True)
    h, b = found["learning_rate"], found["momentum"]
    assert found.shape == (12, 3) and found.is_whole and found["trial"].tolist() == list(range(36))
    stable = h < 2 * (1 + b)
    # 300 steps overflow float32 where the radius is above 1.35; nearer to the edge the state is large, not infinite.
    grown = found["loss"].astype(float) > 1
    np.testing.assert_array_equal((found["outcome"] == "non_finite") | grown, ~stable)
    assert {"completed", "non_finite"} == set(found["outcome"])
    # It breaks at the step at which the larger root of r^2 - (1 + b - h) r + b carries 1 past 3.4e38.
    for row in np.flatnonzero(found["outcome"] == "non_finite"):
        radius = np.abs(np.roots([1, -(1 + b[row] - h[row]), b[row]])).max()
        assert abs(found["at"][row] - np.log(3.4e38) / np.log(radius)) < 6
    for (h0, b0), (h1, b1) in found.boundary("learning_rate", "momentum"):
        radii = [np.abs(np.roots([1, -(1 + b - h), b])).max() for h, b in ((h0, b0), (h1, b1))]
        assert min(radii) < 1.35 < max(radii) + 0.1  # between what does not overflow in 300 steps and what does
    best = found.best("loss")
    assert best["loss"] == found["loss"][found["outcome"] == "completed"].min()
    # Read back, gone on with, and in memory: the same table.
    for again in (sx.read_sweep(tmp_path / "s"), sx.sweep(sweep_trials.descend, space)):
        for name in found.table:
            np.testing.assert_array_equal(again[name], found[name])


def test_one_program_with_vmap_gives_what_single_calls_give_and_each_trial_has_its_own_key():
    xs, key = [0.5, 1.5, 2.0], jax.random.key(3)
    together = sx.sweep(sweep_trials.square, {"x": xs}, key=key, together=True, shard=2)
    apart = sx.sweep(sweep_trials.square, {"x": xs}, key=key, together=False)
    noise = [float(jax.random.normal(jax.random.fold_in(key, i), dtype=np.float64)) for i in range(3)]
    for found in (together, apart):
        np.testing.assert_array_equal(found["square"], np.square(xs))
        np.testing.assert_allclose(found["noise"], noise, rtol=1e-15)


def test_draws_are_those_of_their_laws():
    space = {"a": sx.Range(1e-3, 10.0, log=True), "b": sx.Range(-1.0, 1.0)}
    space |= {"c": sx.Range(1, 4, whole=True), "d": ["x", "y"]}
    function = lambda a, b, c, d: {"same": a + b + c}
    found = sx.sweep(function, space, trials=64, draw="sobol", seed=5, together=False)
    every = qmc.Sobol(4, scramble=True, rng=np.random.default_rng(5)).random_base2(6)
    np.testing.assert_allclose(np.log(found["a"] / 1e-3) / np.log(1e4), every[:, 0], atol=1e-12)
    np.testing.assert_allclose((found["b"] + 1) / 2, every[:, 1], atol=1e-12)
    # A scrambled net of base 2: each half of each axis, and each value of c and d, holds just its share of the points.
    assert Counter(found["c"].tolist()) == {1: 16, 2: 16, 3: 16, 4: 16}
    assert Counter(found["d"].tolist()) == {"x": 32, "y": 32}
    drawn = sx.sweep(function, space, trials=4000, draw="random", together=False)
    shares = np.log(drawn["a"] / 1e-3) / np.log(1e4)
    assert abs(shares.mean() - 0.5) < 4 / np.sqrt(12 * 4000)  # 4 standard errors of a uniform mean
    assert abs(np.corrcoef(shares, drawn["b"])[0, 1]) < 4 / np.sqrt(4000)


def test_a_trial_that_raises_is_recorded_with_it_and_the_others_are_done():
    found = sx.sweep(sweep_trials.raises_past_one, {"x": [0.5, 2.0, 1.0]})
    assert found["outcome"].tolist() == ["completed", "failed", "completed"]
    assert found["value"][[0, 2]].tolist() == [0.5, 1.0] and np.isnan(found["value"][1])
    assert found["error"].tolist() == ["", "RuntimeError: 2.0 is past one", ""]
    assert "ran one by one: TracerBoolConversionError" in found.notes[0]
    assert "trial 1 raised: RuntimeError: 2.0 is past one" in str(found)
    assert sx.sweep(lambda x: 1 / x, {"x": [0.0, 2.0]})["outcome"].tolist() == ["non_finite", "completed"]


def test_a_fit_says_its_loss_and_where_it_broke():
    def trial(learning_rate):
        loss = lambda x: x**2 / 2
        return sx.fit(loss, optax.sgd(jnp.asarray(learning_rate, jnp.float32)), initial=np.float32(1), steps=200)

    found = sx.sweep(trial, {"learning_rate": [0.01, 4.0]}, together=True)
    assert found["outcome"].tolist() == ["completed", "non_finite"]
    np.testing.assert_allclose(found["loss"][0], 0.99**400 / 2, rtol=1e-4)  # 200 roundings of 6e-8, squared
    # |x| = 3^n; the gradient is finite as long as x is, the loss x^2 / 2 overflows at about half of ln(3.4e38) / ln 3.
    assert 0.5 * np.log(3.4e38) / np.log(3) - 2 < found["at"][1] < np.log(3.4e38) / np.log(3) + 2


def test_two_killed_workers_cost_nothing_and_each_trial_is_recorded_once(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    for x in (0.0, 1.0, 3.0, 4.0, 5.0, 7.0):
        (marks / f"{x:g}").touch()
    function = functools.partial(sweep_trials.killed_once, home=str(marks))
    xs = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    found = sx.sweep(function, {"x": xs}, out=tmp_path / "s", shard=2, together=False, executor=Pool(1))
    assert found["trial"].tolist() == list(range(8)) and found["value"].tolist() == xs
    assert found.counts() == {"completed": 8}
    assert found.notes == ("workers died 2 times; their shards were computed again",)
    assert sorted(path.name for path in (tmp_path / "s" / "shards").iterdir()) == [f"{i:05d}.parquet" for i in range(4)]


def test_a_shard_whose_worker_always_dies_is_recorded_as_failed(tmp_path):
    lost = functools.partial(sweep_trials.killed_once, home="/nowhere/at/all")
    with pytest.raises(TypeError, match="at the top of a module"):
        sx.sweep(lambda x: x, {"x": [1.0]}, out=tmp_path / "l", executor=Pool(1))

    class Deadly:
        def carry_out(self, work, shards):
            yield from ((shard, "its worker process died") for shard in shards)

    found = sx.sweep(lost, {"x": [1.0, 2.0]}, out=tmp_path / "s", executor=Deadly(), retries=2)
    assert found["error"].tolist() == ["its worker process died, 3 times"] * 2


@pytest.mark.slow
def test_a_script_whose_workers_cannot_start_is_refused_and_nothing_counts_as_failed(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {os.path.dirname(sweep_trials.__file__)!r})\n"
        "import separatrix as sx, sweep_trials\nfrom separatrix.training.sweeps import Pool\n"
        f"sx.sweep(sweep_trials.raises_past_one, {{'x': [0.5]}}, out={str(tmp_path / 's')!r}, executor=Pool(1))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=100)
    assert 'Put the call under `if __name__ == "__main__":`' in done.stderr
    assert len(sx.read_sweep(tmp_path / "s")) == 0


def test_a_killed_sweep_goes_on_with_what_is_missing_and_a_damaged_file_is_missing(tmp_path):
    space, done = {"x": np.arange(6.0)}, []
    sx.sweep(sweep_trials.raises_past_one, space, out=tmp_path / "s", shard=2, together=False)
    shards = tmp_path / "s" / "shards"
    (shards / "00001.parquet").unlink()
    whole = (shards / "00002.parquet").read_bytes()
    (shards / "00002.parquet").write_bytes(whole[: len(whole) // 2])
    (shards / ".00001.parquet.abc.tmp").write_bytes(b"half")
    assert len(sx.read_sweep(tmp_path / "s")) == 2

    class Counting(Here):
        def carry_out(self, work, shards):
            done.extend(shard.number for shard in shards)
            yield from super().carry_out(work, shards)

    found = sx.sweep(
        sweep_trials.raises_past_one, space, out=tmp_path / "s", shard=2, together=False, executor=Counting()
    )
    assert done == [1, 2] and found["trial"].tolist() == list(range(6))
    assert [path.name for path in shards.glob(".*")] == []


def test_what_the_disk_refuses_is_said_and_what_is_finished_is_kept(tmp_path, monkeypatch):
    from separatrix.training.sweeps import work

    full, write = [], work.write_whole

    def refuse(path, content):
        if full:
            raise OSError(28, "No space left on device", str(path))
        full.append(path)
        write(path, content)

    monkeypatch.setattr(work, "write_whole", refuse)
    with pytest.raises(CannotWrite, match="got no space left on device") as told:
        sx.sweep(sweep_trials.raises_past_one, {"x": [0.1, 0.2]}, out=tmp_path / "s", shard=1, together=False)
    assert "What is finished is kept" in str(told.value)
    assert sx.read_sweep(tmp_path / "s")["value"].tolist() == [0.1]


REFUSED = {
    "no such name": ({"learning_rte": [1.0]}, {}, "got 'learning_rte'.*Did you mean 'learning_rate'"),
    "no axis": ({}, {}, "got no axis, expected one axis or more"),
    "an empty axis": ({"learning_rate": []}, {}, "learning_rate.*got no value"),
    "an infinite value": ({"learning_rate": [1.0, np.inf]}, {}, r"learning_rate\[1\].*got inf"),
    "a text": ({"learning_rate": "0.1"}, {}, "got '0.1', expected a sequence"),
    "twice": ({"learning_rate": [1.0, 1.0]}, {}, "the same value twice"),
    "kinds": ({"learning_rate": [1.0, "a"]}, {}, "values of several kinds"),
    "a reserved name": ({"trial": [1.0]}, {}, "a name that the table of results has"),
    "no trials": ({"learning_rate": sx.Range(0.0, 1.0)}, {}, "how many trials"),
    "a loose grid": ({"learning_rate": sx.Range(0.0, 1.0)}, {"draw": "grid"}, "a range without count"),
    "other trials": ({"learning_rate": [1.0, 2.0]}, {"draw": "grid", "trials": 3}, "got 3, expected 2"),
    "another draw": ({"learning_rate": [1.0]}, {"draw": "sobel", "trials": 2}, "Did you mean 'sobol'"),
    "no trial": ({"learning_rate": [1.0]}, {"trials": 0}, "got 0"),
    "a shard of none": ({"learning_rate": [1.0]}, {"shard": 0}, "got 0"),
    "a key": ({"learning_rate": [1.0]}, {"key": jax.random.key(0)}, "the function takes none"),
    "no executor": ({"learning_rate": [1.0]}, {"executor": 3}, "got int, expected an executor"),
    "no folder": ({"learning_rate": [1.0]}, {"executor": Pool(1)}, "a folder for the results"),
    "no function of it": ({"momentum": [0.5]}, {}, "learning_rate.*got nothing, expected an axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_anything_runs(name):
    space, options, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=f"(?s){words}"):
        sx.sweep(sweep_trials.descend, space, **options)


def test_a_range_that_is_none_is_refused():
    for arguments, words in (
        ((1.0, np.inf), "got inf, expected a finite number"), ((2.0, 1.0), "low 2.0 and high 1.0"),
        ((0.0, 1.0, 3, True), "got 0.0, expected a number > 0"), ((0.5, 2.0, None, False, True), "whole numbers"),
        ((0.0, 1.0, 1), "count"), (("a", 1.0), "got 'a', expected a number"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=words):
            sx.Range(*arguments)


def test_a_folder_of_something_else_is_refused(tmp_path):
    ask = functools.partial(sx.sweep, sweep_trials.raises_past_one, together=False)
    ask({"x": [0.1]}, out=tmp_path / "s")
    with pytest.raises(OtherRun, match="a sweep with another design"):
        ask({"x": [0.2]}, out=tmp_path / "s")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(StorageError, match="a folder that holds something else"):
        ask({"x": [0.1]}, out=tmp_path / "other")
    with pytest.raises(StorageError, match="expected the folder of a sweep"):
        sx.read_sweep(tmp_path / "other")

    class Nosy:
        def carry_out(self, work, shards):
            with pytest.raises(RunLocked):
                ask({"x": [0.1, 0.3]}, out=tmp_path / "two")
            yield from Here().carry_out(work, shards)

    assert len(ask({"x": [0.1, 0.3]}, out=tmp_path / "two", executor=Nosy())) == 2


@pytest.mark.slow
def test_a_recipe_is_trained_at_each_point_in_a_run_of_its_own(tmp_path):
    from separatrix.training.recipes import recipe_from

    x = np.linspace(-1, 1, 60)
    rows = "\n".join(f"{a:.6f},{2 * a + 1:.6f}" for a in x)
    (tmp_path / "line.csv").write_text(f"x,y\n{rows}\n")
    fields = {
        "data": str(tmp_path / "line.csv"),
        "target": "y",
        "width": 4,
        "depth": 1,
        "steps": 60,
        "learning_rate": 0.01,
    }
    base = recipe_from("regressor", fields)
    with pytest.raises(ValueError, match="(?s)got 'widht'.*Did you mean 'width'"):
        sx.sweep(base, {"widht": [1, 2]}, out=tmp_path / "s")
    found = sx.sweep(base, {"learning_rate": [1e-4, 3e-2], "width": [4, 8]}, out=tmp_path / "s")
    assert found.counts() == {"completed": 4}
    losses = dict(zip(zip(found["learning_rate"], found["width"], strict=True), found["loss"], strict=True))
    assert all(losses[3e-2, width] < 0.2 * losses[1e-4, width] for width in (4, 8))
    run = sx.Run.open(tmp_path / "s" / "runs" / "000003")
    assert run.spec["width"] == 8 and run.spec["learning_rate"] == 3e-2
    assert run.metrics["loss"][-1] == found["loss"][3]


@needs("optuna")
def test_a_search_finds_the_minimum_and_goes_on_from_its_files(tmp_path):
    function = lambda x, y: {"loss": (x - 0.3) ** 2 + (y + 0.2) ** 2}
    space = {"x": sx.Range(-1.0, 1.0), "y": sx.Range(-1.0, 1.0)}
    ask = functools.partial(sx.sweep, function, space, trials=60, shard=10, search=Search("loss"), out=tmp_path / "s")
    found = ask()
    assert found.best("loss")["loss"] < 0.02  # a disc of 1.6 % of the square; 60 random draws miss it 1 time in 3
    late, first = found["loss"][-20:].mean(), found["loss"][:10].mean()
    assert late < 0.5 * first
    os.unlink(tmp_path / "s" / "shards" / "00005.parquet")
    np.testing.assert_array_equal(ask()["x"], found["x"])


@needs("submitit")
@pytest.mark.filterwarnings("ignore")  # of files that submitit leaves open
def test_shards_go_out_as_jobs_of_submitit(tmp_path):
    executor = Slurm(str(tmp_path / "jobs"), cluster="debug")
    xs = [0.1, 0.2, 0.3]
    found = sx.sweep(
        sweep_trials.raises_past_one, {"x": xs}, out=tmp_path / "s", shard=2, together=False, executor=executor
    )
    assert found["value"].tolist() == xs
    with pytest.raises(StorageError, match="(?s)sweep: SLURM.*a cluster that takes the jobs"):
        sx.sweep(sweep_trials.raises_past_one, {"x": xs}, out=tmp_path / "t", executor=Slurm(str(tmp_path / "j")))


@needs("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_shards_go_out_as_tasks_of_ray(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([os.path.dirname(sweep_trials.__file__), os.environ.get("PYTHONPATH", "")])
    )
    xs = [0.1, 0.2, 0.3]
    found = sx.sweep(
        sweep_trials.raises_past_one, {"x": xs}, out=tmp_path / "s", shard=2, together=False, executor=Ray(1)
    )
    assert found["value"].tolist() == xs


def test_ctrl_c_in_a_fit_ends_the_sweep_and_its_trial_is_not_recorded(tmp_path):
    import signal

    def trial(x):
        asked = lambda step, model, row: signal.raise_signal(signal.SIGINT) if x == 2.0 else None
        return sx.fit(lambda z: (z - x) ** 2, optax.sgd(0.5), initial=np.float64(0.0), steps=5, every=1, callback=asked)

    ask = functools.partial(sx.sweep, trial, out=tmp_path / "s", shard=1, together=False)
    with pytest.raises(KeyboardInterrupt):
        ask({"x": [0.0, 2.0, 3.0]})
    found = sx.read_sweep(tmp_path / "s")
    assert found["trial"].tolist() == [0] and not found.is_whole


def test_whole_numbers_that_are_shapes_have_programs_of_their_own():
    """The mean of squares of n numbers a, 2 a, ..., n a is a^2 (n + 1) (2 n + 1) / 6."""
    function = lambda n, a: jnp.mean((a * jnp.arange(1.0, n + 1)) ** 2)
    found = sx.sweep(function, {"n": [2, 3, 5], "a": [0.5, 2.0]}, together=True)
    n, a = found["n"], found["a"]
    np.testing.assert_allclose(found["value"], a**2 * (n + 1) * (2 * n + 1) / 6, rtol=1e-14)
    assert found.notes == ()
