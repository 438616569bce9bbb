"""What the chapter measures, against closed forms."""

import numpy as np
import pytest

from separatrix.tour.measure.recurrent import eigenvector_condition, entropies, growth_of_errors


def test_entropies_of_a_markov_chain():
    # Two symbols, each kept with probability 0.9: H = 1 bit, H(next | last) = H(0.1) = 0.468996 bits.
    flips = np.random.default_rng(0).random(200_000) < 0.1
    single, pair = entropies(np.cumsum(flips) % 2)
    # The deviation of -log2 p is 0.95 bits; of the mean 0.002. The long runs make that of the first larger, squared.
    assert pair == pytest.approx(-0.1 * np.log2(0.1) - 0.9 * np.log2(0.9), abs=0.009)
    assert single == pytest.approx(1.0, abs=1e-3)


def test_entropies_of_a_cycle():
    single, pair = entropies(np.arange(401) % 4)
    assert single == pytest.approx(2.0, abs=1e-4)
    assert pair == pytest.approx(0.0, abs=2e-2)


def test_condition_of_a_normal_and_of_an_oblique_matrix():
    assert eigenvector_condition([[0.0, -2.0], [2.0, 0.0]]) == pytest.approx(1.0, rel=1e-12)
    # Eigenvectors (1, 0) and (cos a, sin a): singular values sqrt(1 +- cos a).
    angle = 0.3
    vectors = np.array([[1.0, np.cos(angle)], [0.0, np.sin(angle)]])
    matrix = vectors @ np.diag([1.0, 2.0]) @ np.linalg.inv(vectors)
    expected = np.sqrt((1 + np.cos(angle)) / (1 - np.cos(angle)))
    assert eigenvector_condition(matrix) == pytest.approx(expected, rel=1e-10)


def test_growth_is_the_mean_over_starts_with_its_error():
    rows = np.arange(50)
    errors = np.stack([1e-6 * np.exp(rate * 0.1 * rows) for rate in (0.8, 1.0, 1.5)])
    rate, error = growth_of_errors(errors, 5, 45, 0.1)
    assert rate == pytest.approx(1.1, rel=1e-12)
    assert error == pytest.approx(np.std([0.8, 1.0, 1.5], ddof=1) / 3**0.5, rel=1e-12)
