"""The largest Lyapunov exponent against closed forms, and its error bar against its own promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma

import separatrix as sx

KEY = jax.random.key(0)


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.3])
def test_a_linear_orthogonal_network_has_the_logarithm_of_its_gain(gain):
    matrix = gain * jax.random.orthogonal(KEY, 8)
    found = sx.largest_exponent(sx.as_map(lambda x: matrix @ x), jnp.zeros(8), steps=320)
    assert float(found.value) == pytest.approx(np.log(gain), abs=1e-12)
    assert float(found.standard_error) < 1e-12


@pytest.mark.parametrize(
    ("step", "start", "truth"),
    [
        (lambda x: 4.0 * x * (1.0 - x), jnp.array(0.3), np.log(2.0)),
        # The fixed point 0.6 of r = 2.5 has derivative 2 - r.
        (lambda x: 2.5 * x * (1.0 - x), jnp.array(0.3), np.log(0.5)),
        (lambda x: jnp.stack([1.0 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]]), jnp.array([0.1, 0.1]), 0.419307),
    ],
    ids=["logistic, chaotic", "logistic, at rest", "Henon"],
)
def test_known_exponents(step, start, truth):
    found = sx.largest_exponent(sx.as_map(step), start, steps=400_000, transient=1000)
    assert float(found.value) == pytest.approx(truth, abs=4 * float(found.standard_error) + 1e-6)
    assert float(found.standard_error) < 2e-3


def test_the_largest_is_found_and_not_another():
    # Eigenvalues 1.1 and -0.5 of a matrix that is not symmetric.
    matrix = jnp.array([[1.1, 3.0], [0.0, -0.5]])
    found = sx.largest_exponent(sx.as_map(lambda x: matrix @ x), jnp.zeros(2), steps=640, transient=100)
    assert float(found.value) == pytest.approx(np.log(1.1), abs=1e-12)


def products(size, gain):
    def step(x, *, key):
        return jax.random.normal(key, (size, size), x.dtype) @ x * (gain / size**0.5)

    return sx.as_map(step), np.log(gain) + 0.5 * (np.log(2 / size) + digamma(size / 2))


@pytest.mark.parametrize("size", [2, 20])
def test_error_bar_of_products_of_gaussian_matrices_covers_newmans_truth(size):
    gaussian, truth = products(size, 1.5)

    def run(key):
        found = sx.largest_exponent(gaussian, jnp.zeros(size), steps=640, transient=0, key=key)
        return found.value, found.standard_error

    values, errors = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(11), 1000))
    # Student's t of 31 degrees stays within 2 in 94.6 % of cases; of 1000 seeds, within four deviations of 0.7 %.
    assert float(jnp.mean(jnp.abs(values - truth) < 2 * errors)) == pytest.approx(0.946, abs=0.029)
    # ln chi^2 has variance psi'(N/2), so the means have psi'(N/2)/(4 steps); 1000 of them tell their deviation to 2.2 %.
    expected = np.sqrt(polygamma(1, size / 2) / 4 / 640)
    assert float(jnp.std(values)) == pytest.approx(expected, rel=0.09)
    assert float(jnp.mean(errors)) == pytest.approx(expected, rel=0.02)


def test_the_exponent_of_a_driven_map_uses_its_inputs():
    # x' = u x: the mean of ln |u| over the steps that count.
    inputs = jnp.exp(jnp.sin(jnp.arange(720.0)))
    driven = sx.drive(sx.as_open_map(lambda x, u: u * x), inputs)
    found = sx.largest_exponent(driven, jnp.array(0.0))
    assert float(found.value) == pytest.approx(float(jnp.mean(jnp.sin(jnp.arange(80.0, 720.0)))), abs=1e-13)


def test_an_orbit_that_breaks_says_so():
    found = sx.largest_exponent(sx.as_map(lambda x: x**2), jnp.array(3.0), steps=64)
    assert found.outcome == "non_finite" and bool(jnp.isnan(found.value))
    assert "non_finite" in repr(found)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"steps": 10}, "got 10 steps in 32 batches"),
        ({"steps": 64, "batches": 1}, "at least 2 batches"),
        ({"steps": 64}, r"got 8 \+ 64 steps, expected at most the 50 this map has"),
    ],
)
def test_steps_that_cannot_be_are_refused(keywords, said):
    driven = sx.drive(sx.as_open_map(lambda x, u: u * x), jnp.ones(50))
    with pytest.raises(ValueError, match=said):
        sx.largest_exponent(driven, jnp.array(0.0), **keywords)


def test_other_misuse_is_told():
    with pytest.raises(TypeError, match="Discretise a flow first"):
        sx.largest_exponent(sx.as_flow(lambda x: -x), jnp.array(1.0), steps=64)
    with pytest.raises(ValueError, match="Say how many"):
        sx.largest_exponent(sx.as_map(lambda x: -x), jnp.array(1.0))
    with pytest.warns(RuntimeWarning, match="got float32, expected float64"):
        sx.largest_exponent(sx.as_map(lambda x: 0.5 * x), jnp.array(1.0, jnp.float32), steps=64)
