"""Standard errors of exponents against their own promise: two of them hold the truth in at least 90 of 100 runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma

import separatrix as sx
from separatrix.diagnostics.along._batch_means import errors_of, standard_error
from separatrix.linear.orthonormal import orthonormalise, triangular

KEYS = jax.random.split(jax.random.key(11), 100)


def run_all(one, keys=KEYS):
    found = jax.jit(jax.vmap(one))(keys)
    return np.asarray(found.exponents), np.asarray(found.standard_errors)


def covered(values, errors, truth, of_truth=0.0):
    return np.sum(np.abs(values - truth) <= 2 * np.hypot(errors, of_truth), axis=0)


def test_of_products_of_gaussian_matrices():
    size, steps = 3, 640

    def run(key):
        step = lambda x, *, key: jax.random.normal(key, (size, size), x.dtype) @ x * (1.5 / size**0.5)
        return sx.lyapunov_spectrum(sx.as_map(step), jnp.zeros(size), steps=steps, transient=0, key=key)

    values, errors = run_all(run, jax.random.split(jax.random.key(11), 400))
    degrees = (size - np.arange(size)) / 2
    truth = np.log(1.5) + 0.5 * (np.log(2 / size) + digamma(degrees))
    assert np.all(covered(values, errors, truth) >= 0.9 * 400)
    # ln chi^2_n has variance psi'(n/2): of 400 runs the deviation is known to 3.5 %, and the first row has no memory.
    exact = np.sqrt(polygamma(1, degrees) / 4 / steps)
    assert np.std(values[:, 0]) == pytest.approx(exact[0], rel=0.14)
    # Widening by positive correlations alone adds some 5 %.
    assert np.mean(errors[:, 0]) == pytest.approx(exact[0], rel=0.1)


def test_of_henon():
    henon = sx.catalogue.entry("henon").build()
    values, errors = run_all(lambda key: sx.lyapunov_spectrum(henon, 0.1 * jax.random.uniform(key, (2,)), steps=4000))
    assert np.all(covered(values, errors, np.array([0.419307, -1.623280])) >= 90)
    # They are no wider than they must be: of 100 runs the deviation is known to 7 %.
    assert np.mean(errors[:, 0]) == pytest.approx(np.std(values[:, 0]), rel=0.25)


def lorenz_runs(steps):
    lorenz = sx.catalogue.entry("lorenz").build()

    def run(key):
        start = jnp.array([0.0, 0.0, 25.0]) + 5 * jax.random.normal(key, (3,))
        return sx.lyapunov_spectrum(lorenz, start, steps=steps, step_size=0.03)

    return run_all(run)


@pytest.mark.slow
def test_of_lorenz():
    values, errors = lorenz_runs(2000)
    # The truth is Viswanath's 0.90566 for the first, and the divergence for the rest.
    assert np.all(covered(values, errors, np.array([0.90566, 0.0, -41 / 3 - 0.90566])) >= 90)


@pytest.mark.slow
def test_of_lorenz_on_long_runs_are_no_wider_than_they_must_be():
    values, errors = lorenz_runs(64_000)
    assert np.all(covered(values, errors, np.array([0.90566, 0.0, -41 / 3 - 0.90566])) >= 90)
    # A part of them is the bounded fluctuation that neighbours share, which fades with longer batches.
    assert np.mean(errors[:, 0]) < 2 * np.std(values[:, 0])


def test_the_error_of_a_correlated_record_is_widened():
    # AR(1) of coefficient 1/2 at the level of batches: the mean has (1 + r)/(1 - r) = 3 times the variance of s^2/B.
    noise = np.random.default_rng(3).standard_normal((400, 96))
    for n in range(1, 96):
        noise[:, n] += 0.5 * noise[:, n - 1]
    records = jnp.asarray(noise[:, 32:])
    plain = jnp.std(records, axis=1, ddof=1) / 8
    assert float(jnp.mean(standard_error(records) / plain)) == pytest.approx(3**0.5, rel=0.1)


def test_the_error_of_a_function_is_its_linear_part():
    batches = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64))) * 1e-3 + jnp.array([[2.0], [3.0]])
    mean = jnp.mean(batches, axis=1)
    # d(xy) = y dx + x dy.
    got = errors_of(jnp.stack([mean[::-1]]), batches)[0]
    np.testing.assert_allclose(got, standard_error(batches[0] * mean[1] + batches[1] * mean[0]), rtol=1e-6)


@functools.partial(jax.jit, static_argnames="scheme")
def both_factors(rows, scheme):
    return orthonormalise(rows, scheme), triangular(rows)


@pytest.mark.parametrize("scheme", ["gram-schmidt", "householder", "cholesky"])
@pytest.mark.parametrize(
    ("k", "d", "condition"), [(1, 4, 1.0), (3, 3, 1e6), (4, 50, 1e5), (150, 150, 1e4), (70, 90, 1e10)]
)
def test_rows_come_out_orthonormal_with_their_growth(scheme, k, d, condition):
    if scheme == "gram-schmidt" and k > 4:
        k, d = 4, 20
    one, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((k, k)))
    other, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((d, k)))
    rows = one * np.geomspace(1, 1 / condition, k) @ other.T
    (q, logs), (same, exact) = jax.tree.map(np.asarray, both_factors(rows, scheme))
    # Twice is enough: orthonormal to rounding whatever the condition; Cholesky at 1e10 gives way to Householder.
    np.testing.assert_allclose(q @ q.T, np.eye(k), atol=1e-13 * k)
    lower = rows @ q.T
    np.testing.assert_allclose(np.log(np.abs(np.diagonal(lower))), logs, atol=1e-15 * condition * k + 1e-12)
    assert np.all(np.diagonal(lower) > 0)
    np.testing.assert_allclose(np.triu(lower, 1), 0, atol=1e-13 * k)
    np.testing.assert_allclose(exact @ same, rows, atol=1e-13 * k)
