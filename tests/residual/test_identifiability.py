"""Profiles against linear regression, whose profile is a parabola; networks of one direction and between bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

RNG = np.random.default_rng(3)
X = RNG.standard_normal((40, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
Y = X @ np.array([0.7, -1.2]) + 0.3 * RNG.standard_normal(40)
DATA = jnp.asarray(X), jnp.asarray(Y)
VALUES = np.linspace(0.2, 1.2, 6)


def squares(model, data):
    return jnp.mean((data[0] @ jnp.stack([model["a"], model["b"]]) - data[1]) ** 2)


def traded(model, data):
    # (a + b) x: only the sum is held.
    return jnp.mean(((model["a"] + model["b"]) * data[0][:, 0] - data[1]) ** 2)


def profile(loss, **changed):
    start = {"a": jnp.array(0.0), "b": jnp.array(0.0)}
    said = {"initial": start, "where": lambda m: m["a"], "values": VALUES, "count": 40, "steps": 15} | changed
    return sx.residual.coefficient_profile(loss, optax.lbfgs(), DATA, **said)


def test_the_profile_of_a_regression_is_its_parabola_and_the_interval_follows():
    found = profile(squares)
    best = np.linalg.lstsq(X, Y, rcond=None)[0]
    least = np.mean((X @ best - Y) ** 2)
    # With a held, b takes what it can: what is left of x_1 beside x_2 is what holds a.
    left = X[:, 0] - X[:, 1] * (X[:, 0] @ X[:, 1]) / (X[:, 1] @ X[:, 1])
    parabola = least + (VALUES - best[0]) ** 2 * (left @ left) / 40
    np.testing.assert_allclose(found.losses, parabola, rtol=1e-7)
    assert float(found.best) == pytest.approx(best[0], abs=1e-6)
    half = np.sqrt(40 * least * np.expm1(3.841458820694124 / 40) / (left @ left))
    np.testing.assert_allclose(found.interval, [best[0] - half, best[0] + half], atol=1e-5 * half)
    assert not found.cautions


def test_a_coefficient_that_can_be_traded_is_not_identified_and_that_is_said():
    found = profile(traded)
    assert np.isinf(np.asarray(found.interval)).all() and "not identified" in found.cautions[0]
    np.testing.assert_allclose(found.deviances, 0, atol=1e-6)


def test_a_fit_that_breaks_gives_no_interval():
    start = {"a": jnp.array(0.0), "b": jnp.array(0.0)}
    said = {"initial": start, "where": lambda m: m["a"], "values": VALUES[:3], "count": 40, "steps": 200}
    with pytest.warns(RuntimeWarning, match="training diverged"):
        found = sx.residual.coefficient_profile(squares, optax.sgd(1e6), DATA, **said)
    assert np.isnan(np.asarray(found.interval)).all() and "a fit broke" in found.cautions[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"values": [1.0, 0.5, 0.2]}, "three or more, finite, increasing"),
        ({"where": lambda m: m}, "a scalar array"),
        ({"level": 1.0}, "a number between 0 and 1"),
        ({"count": 0}, "count"),
    ],
)
def test_what_cannot_be_profiled_is_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        profile(squares, **changed)


def test_a_monotone_network_never_turns_and_can_be_steep():
    net = sx.residual.MonotoneNetwork(2, 1, 16, signs=(1, -1), key=jax.random.key(0))
    points = jnp.asarray(RNG.standard_normal((200, 2)) * 3)
    slopes = jax.vmap(jax.jacfwd(net))(points)[:, 0]
    # Both directions everywhere, and by how much the exponentials say at one point.
    assert bool((slopes[:, 0] > 0).all()) and bool((slopes[:, 1] < 0).all())
    x = points[0]
    inner = np.exp(net.first) @ (np.asarray(x) * [1, -1]) + np.asarray(net.bias)
    expected = np.exp(net.second) @ (np.cosh(inner)[:, None] ** -2 * np.exp(net.first)) * [1, -1]
    np.testing.assert_allclose(slopes[0], expected[0], rtol=1e-12)
    with pytest.raises(ValueError, match="2 of 1 or -1"):
        sx.residual.MonotoneNetwork(2, 1, 4, signs=(1, 0), key=jax.random.key(0))


def test_bounds_hold_and_are_not_trained():
    net = sx.residual.BoundedNetwork(lambda x: x, jnp.array([0.0, -1.0]), jnp.array([1.0, 3.0]))
    y = net(jnp.array([np.log(3.0), -np.log(3.0)]))
    np.testing.assert_allclose(y, [0.75, 0.0], atol=1e-15)
    traced = jax.grad(lambda low: jnp.sum(sx.residual.BoundedNetwork(lambda x: x, low, 5.0)(jnp.zeros(2))))(
        jnp.zeros(2)
    )
    assert traced.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="low < high"):
        sx.residual.BoundedNetwork(lambda x: x, 1.0, 1.0)
