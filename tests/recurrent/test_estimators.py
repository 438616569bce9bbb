"""Estimators: scikit-learn's own checks of the one that reads tables, and what the others promise."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import separatrix as sx

pytest.importorskip("sklearn", minversion="1.6")
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.utils.estimator_checks import parametrize_with_checks

ORDERED = "what is said of a row depends on the rows before it"
CANNOT = {
    "check_methods_subset_invariance": ORDERED,
    "check_methods_sample_order_invariance": ORDERED,
}


with warnings.catch_warnings():
    # It keeps the contract without inheriting from BaseEstimator, of which scikit-learn warns.
    warnings.simplefilter("ignore")
    CHECKS = parametrize_with_checks(
        [sx.recurrent.ReservoirRegressor(units=20)], expected_failed_checks=lambda one: CANNOT, xfail_strict=True
    )


@pytest.mark.filterwarnings("ignore")
@CHECKS
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_regressor_without_memory_is_ridge_regression_on_its_features():
    # One unit-less memory: with a radius near 0 the state is tanh(V u + b), and the readout is sklearn's ridge on it.
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 2)), rng.standard_normal((200, 2))
    net = sx.recurrent.ReservoirRegressor(units=8, spectral_radius=1e-12, ridge=1e-3).fit(x, y)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    features = np.tanh(scaled @ np.asarray(net.cell_.weight_ih).T + np.asarray(net.cell_.bias))
    theirs = Ridge(alpha=1e-3 * 200).fit(features, y)
    np.testing.assert_allclose(net.predict(x), theirs.predict(features), atol=1e-8)
    assert net.score(x, y) == pytest.approx(theirs.score(features, y), abs=1e-8)


def test_searches_and_copies_go_through():
    x = np.random.default_rng(0).standard_normal((240, 1))
    y = np.append([0.0] * 3, x[:-3, 0])  # three steps back: a memory is needed
    search = GridSearchCV(
        sx.recurrent.ReservoirRegressor(units=30, input_gain=0.1),
        {"spectral_radius": [1e-6, 0.9]},
        cv=TimeSeriesSplit(3),
    )
    assert search.fit(x, y).best_params_ == {"spectral_radius": 0.9}
    copy = clone(sx.recurrent.SequenceForecaster(units=7))
    assert repr(copy) == "SequenceForecaster(units=7)" and copy.get_params()["held_out"] == 0.2
    with pytest.raises(ValueError, match="parameter\n  got 'unit'"):
        copy.set_params(unit=3)


def test_a_forecaster_has_bands_that_hold_the_rows_to_come():
    rng = np.random.default_rng(0)
    rows = np.sin(0.3 * np.arange(1100)) + 0.1 * rng.standard_normal(1100)
    net = sx.recurrent.SequenceForecaster(units=50, ridge=1e-3).fit(rows[:1000])
    found = net.forecast(60)
    inside = (rows[1000:1060, None] >= found.quantiles[0]) & (rows[1000:1060, None] <= found.quantiles[-1])
    # Three standard errors of 60 draws at 0.9 are 0.12.
    assert abs(float(np.mean(inside)) - 0.9) < 0.12
    assert -0.3 < net.score(rows[1000:1060]) < 0


def test_a_classifier_tells_words_apart_and_its_chances_add_up():
    rng = np.random.default_rng(0)
    names = np.array(["slow", "fast"])[rng.integers(0, 2, 120)]
    x = np.sin(np.where(names == "fast", 1.2, 0.3)[:, None] * np.arange(20) + 6 * rng.random((120, 1)))
    net = sx.recurrent.SequenceClassifierEstimator(width=12, steps=150, learning_rate=0.02).fit(x[:80], names[:80])
    assert net.score(x[80:], names[80:]) > 0.9 and list(net.classes_) == ["fast", "slow"]
    np.testing.assert_allclose(net.predict_proba(x[:3]).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: sx.recurrent.SequenceForecaster().predict(3), "learned nothing"),
        (lambda: sx.recurrent.SequenceForecaster().fit([1.0, np.nan, 2.0]), r"nan at \(1, 0\)"),
        (lambda: sx.recurrent.SequenceForecaster(held_out=1.0).fit(np.arange(9.0)), "held_out\n  got 1.0"),
        (lambda: sx.recurrent.SequenceClassifierEstimator().fit(np.zeros((4, 3)), np.zeros(4)), "got only"),
        (lambda: sx.recurrent.SequenceClassifierEstimator(cell="gry").fit(np.zeros((2, 3)), [0, 1]), "got 'gry'"),
        (lambda: sx.recurrent.SequenceClassifierEstimator().fit(np.zeros((4, 3)), np.zeros(3)), r"got shape \(3,\)"),
        (lambda: sx.recurrent.ReservoirRegressor(washout=9).fit(np.zeros((4, 3)), np.zeros(4)), "washout\n  got 9"),
    ],
)
def test_refusals(act, words):
    with pytest.raises(ValueError, match=words):
        act()


def test_scikit_learn_is_not_imported_with_the_library():
    code = "import sys, separatrix.recurrent; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
