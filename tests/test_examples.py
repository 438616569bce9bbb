"""Each file of `examples/` runs as it is, and its run stands where it says it does."""

import runpy
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import separatrix as sx

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run():
    """Run an example in the climate of its users: JAX as it comes, but warnings are errors."""

    def run(name):
        with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            warnings.simplefilter("error")
            return runpy.run_path(str(EXAMPLES / name))

    return run


def test_every_example_is_tested_here():
    monitors = {"monitor_equinox.py", "monitor_flax.py", "monitor_fit.py", "watch_scan.py"}
    tested = monitors | {"fair_digits.py", "heavy_ball.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_adam_on_digits_comes_to_its_own_edge(run, capsys):
    report = run("monitor_equinox.py")["report"]
    # 38 over the learning rate in the metric of its second moments; where it hovers readings scatter by a few percent.
    assert 0.85 < report.ratios.max() < 1.3
    # It came there from far below, while the loss fell.
    assert report.ratios[0] < 0.3 and report.losses[-1] < 0.2 * report.losses[0]
    assert "sharpness over the edge" in capsys.readouterr().out


def test_momentum_on_digits_stays_below_its_edge(run):
    names = run("monitor_flax.py")
    report = names["report"]
    assert report.state == "stable" and report.ratios.max() < 1 and report.losses[-1] < 0.2 * report.losses[0]
    # The ratio of momentum 0.9 is learning rate times plain sharpness over 3.8.
    seen = np.isfinite(report.sharpness)
    np.testing.assert_allclose(report.ratios[seen], 0.1 * report.sharpness[seen] / 3.8, rtol=0.06)
    # Along the updates alone it is a bound from below, to the accuracy of both.
    within = names["within"].report()
    assert within.steps.tolist() == report.steps[1:].tolist() and np.all(within.ratios < 1.06 * report.ratios[1:])


def test_momentum_by_fit_is_read_at_each_border(run):
    names = run("monitor_fit.py")
    report = names["report"]
    assert report.steps.tolist() == list(range(0, 401, 20)) and report.losses[-1] < 0.3 * report.losses[0]
    seen = np.isfinite(report.sharpness)
    np.testing.assert_allclose(report.ratios[seen], 0.05 * report.sharpness[seen] / 3.8, rtol=0.06)


def test_adam_in_a_scan_comes_to_its_own_edge_too(run):
    report = run("watch_scan.py")["report"]
    assert report.steps.tolist() == list(range(20, 401, 20))
    assert 0.85 < report.ratios.max() < 1.3 and report.ratios[0] < 0.3


def test_heavy_ball_diverges_past_its_edge(run):
    """The edge is at 2 (1 + momentum): 2 and 3."""
    names = run("heavy_ball.py")
    found = sx.sweep(names["trial"], {"learning_rate": [1.9, 2.1, 2.9, 3.1], "momentum": [0.0, 0.5]})
    past = found["learning_rate"] > 2 * (1 + found["momentum"])
    assert (found["outcome"] == "non_finite").tolist() == past.tolist()


def test_the_multiplier_of_a_fair_classifier_swings_as_its_spectrum_says(run):
    names = run("fair_digits.py")
    # At the optimum of the constrained problem, to float32.
    assert float(names["optimum"].violation) < 1e-5 and float(names["optimum"].stationarity) < 1e-3
    predicted = names["told"].turning[0]
    # The response holds slower directions beside the pair, and terms of the square of the kick.
    assert abs(names["seen"].turn) == pytest.approx(abs(np.angle(predicted)), rel=0.1)
    assert abs(complex(names["seen"].multiplier)) == pytest.approx(abs(predicted), rel=0.05)
