"""Nets on the critical line: the size of fields and the gain of gradients, against mean field."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import recurrent

KEY = jax.random.key(0)
LINEAR = eqx.nn.Linear(2, 2, key=KEY)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_over_depth_fields_and_gradients_keep_their_size(name):
    """20 layers of 300 units: a sum over layers of relative errors of order 1/sqrt(N) each."""
    bias, depth, width = (0.05 if name == "tanh" else 0.0), 20, 300
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[name]
    net = eqx.nn.MLP(10, 3, width, depth, activation=activation, key=KEY)
    inputs = jax.random.normal(jax.random.key(1), (64, 10))
    found = recurrent.critical_initialization(net, inputs, key=jax.random.key(2), bias_variance=bias)

    def fields(x):
        rows = []
        for layer in found.layers[:-1]:
            rows.append(layer(x))
            x = activation(rows[-1])
        return jnp.stack(rows)

    rows = jax.vmap(fields)(inputs)  # (64, depth, width)
    size = np.asarray(jnp.mean(rows**2, axis=(0, 2)))
    slopes = (1 / jnp.cosh(rows) ** 2) if name == "tanh" else (rows > 0).astype(float)
    weights = [layer.weight for layer in found.layers[:-1]]
    # Mean squared gain of a gradient, layer by layer: E phi'^2 times the sum over squared weights of a column.
    gains = [float(jnp.mean(slopes[:, n] ** 2) * jnp.sum(weights[n + 1] ** 2) / width) for n in range(depth - 1)]
    if name == "tanh":
        np.testing.assert_allclose(size, 0.57004788, rtol=0.25)
    np.testing.assert_allclose(np.mean(size[-5:]) / np.mean(size[:5]), 1.0, atol=4 * depth**0.5 / width**0.5)
    assert np.mean(gains) == pytest.approx(1.0, abs=3 / width**0.5)


def test_over_time_the_exponent_of_a_driven_cell_is_zero():
    """And is far from it with the gain that is critical without inputs."""
    inputs = 1.2 * jax.random.normal(jax.random.key(3), (900, 250))
    cell = recurrent.Elman(250, 250, key=KEY)
    found = recurrent.critical_initialization(cell, inputs, key=jax.random.key(4))
    power = float(jnp.mean((inputs @ cell.weight_ih.T) ** 2))
    assert 250 * float(jnp.var(found.weight_hh)) == pytest.approx(
        recurrent.critical_weight_variance("tanh", power), rel=4 * 2**0.5 / 250
    )
    exponent = sx.lyapunov_spectrum(sx.from_cell(found, inputs), jnp.zeros(250), count=1).exponents[0]
    # The correction of finite size is of order 1/N; one network varies by about 1/sqrt(N)/4.
    assert float(exponent) == pytest.approx(0.0, abs=0.05)
    alone = float(recurrent.mean_field("tanh", 1.0, power).exponent)
    assert alone < -0.2


REFUSED = {
    "net": (lambda: recurrent.critical_initialization(LINEAR, jnp.ones((3, 2)), key=KEY), "got Linear"),
    "columns": (
        lambda: recurrent.critical_initialization(recurrent.Elman(2, 3, key=KEY), jnp.ones((3, 1)), key=KEY), "1 columns"
    ),
    "rectifier": (
        lambda: recurrent.critical_initialization(
            recurrent.Elman(2, 3, key=KEY, activation="relu"), jnp.ones((3, 2)), key=KEY
        ),
        "expected parameters with a point where chi = 1",
    ),
    "activation": (
        lambda: recurrent.critical_initialization(
            eqx.nn.MLP(2, 2, 3, 2, activation=jax.nn.gelu, key=KEY), jnp.ones((3, 2)), key=KEY
        ),
        "activation",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_critical_line_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
