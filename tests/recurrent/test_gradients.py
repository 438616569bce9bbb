"""Backpropagation through time is the adjoint of the driven map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import separatrix as sx

KEY = jax.random.key(0)
INPUTS = jax.random.normal(jax.random.key(1), (12, 3))
TARGET = jax.random.normal(jax.random.key(2), (4,))
CELLS = {
    "Elman": sx.recurrent.Elman(3, 4, key=KEY),
    "GRU": eqx.nn.GRUCell(3, 4, key=KEY, dtype=jnp.float64),
    "LSTM": eqx.nn.LSTMCell(3, 4, key=KEY, dtype=jnp.float64),
}
CASES = pytest.mark.parametrize("name", CELLS)


def start(name):
    x = jnp.array([0.3, -0.2, 0.5, 0.1])
    return (x, 0.5 * x) if name == "LSTM" else x


def loss(state):
    first = state[0] if isinstance(state, tuple) else state
    return jnp.sum((first - TARGET) ** 2)


def by_hand(cell, state):
    """The recursion written out, without `evolve`."""
    for row in INPUTS:
        state = cell(row, state)
    return loss(state)


@CASES
def test_costate_at_the_start_is_the_gradient_in_the_initial_state(name):
    driven = sx.from_cell(CELLS[name], INPUTS)
    path = sx.evolve(driven, start(name))
    costate = sx.evolve(sx.adjoint(driven, path), jax.grad(loss)(path.final)).final
    gradient = jax.grad(lambda x: by_hand(CELLS[name], x))(start(name))
    for a, b in zip(jax.tree.leaves(costate), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@CASES
def test_costates_give_the_gradient_in_the_parameters(name):
    # dl/dtheta = sum_n (dF(x[n], u[n])/dtheta)^T lambda[n+1]
    cell = CELLS[name]
    driven = sx.from_cell(cell, INPUTS)
    path = sx.evolve(driven, start(name))
    backward = sx.evolve(sx.adjoint(driven, path), jax.grad(loss)(path.final)).states
    costates = jax.tree.map(lambda leaf: leaf[::-1], backward)
    total = 0.0
    for n, row in enumerate(INPUTS):
        point, costate = (
            jax.tree.map(lambda leaf, i=i: leaf[i], tree) for tree, i in ((path.states, n), (costates, n + 1))
        )
        _, pull = eqx.filter_vjp(lambda c, point=point, row=row: c(row, point), cell)
        total = total + ravel_pytree(pull(costate)[0])[0]
    gradient = ravel_pytree(eqx.filter_grad(by_hand)(cell, start(name)))[0]
    np.testing.assert_allclose(total, gradient, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_norms_in_a_linear_orthogonal_network_are_powers_of_the_gain(gain):
    cell = sx.recurrent.with_recurrent_gain(sx.recurrent.Elman(3, 6, key=KEY), gain, key=KEY)
    linear = sx.from_cell(lambda u, x: cell.weight_hh @ x + cell.weight_ih @ u, INPUTS)
    cotangent = jnp.arange(1.0, 7.0)
    norms = sx.gradient_profile(linear, sx.evolve(linear, jnp.zeros(6)), cotangent).norms
    np.testing.assert_allclose(norms, jnp.linalg.norm(cotangent) * gain ** jnp.arange(12.0, -1.0, -1.0), rtol=1e-13)


def test_a_gradient_may_grow_first_though_the_spectral_radius_is_below_one():
    # A = [[a, b], [0, a]]: (A^T)^n e1 = a^n (1, n b/a), of norm a^n sqrt(1 + (n b/a)^2). With r = b/a its square is
    # stationary where (1 + r^2 n^2) ln a + r^2 n = 0: n = (-1 + sqrt(1 - (2 ln a/r)^2))/(2 ln a) is the maximum.
    a, b, count = 0.9, 2.0, 40
    matrix = jnp.array([[a, b], [0.0, a]])
    linear = sx.as_map(lambda x: matrix @ x)
    path = sx.evolve(linear, jnp.array([1.0, 1.0]), steps=count)
    norms = sx.gradient_profile(linear, path, jnp.array([1.0, 0.0])).norms[::-1]
    n = np.arange(count + 1.0)
    np.testing.assert_allclose(norms, a**n * np.sqrt(1 + (n * b / a) ** 2), rtol=1e-12)
    top = (-1 - np.sqrt(1 - (2 * np.log(a) * a / b) ** 2)) / (2 * np.log(a))
    assert int(jnp.argmax(norms)) in (int(np.floor(top)), int(np.ceil(top)))
    assert float(sx.recurrent.spectral_radius(matrix)) == pytest.approx(a, rel=1e-6)  # a double eigenvalue: sqrt(eps)
    # The transpose would leave e1 alone: norms a^n.
    assert float(norms[9]) > 7


def test_norms_decay_at_the_exponent_of_the_driven_map():
    cell = sx.recurrent.with_recurrent_gain(sx.recurrent.Elman(3, 16, key=KEY), 1.0, key=KEY)
    inputs = jax.random.normal(jax.random.key(5), (4000, 3))
    driven, state = sx.from_cell(cell, inputs), jnp.zeros(16)
    exponent = sx.lyapunov_spectrum(driven, state, count=1)
    short = sx.from_cell(cell, inputs[:1000])
    logs = sx.gradient_profile(short, sx.evolve(short, state), jnp.ones(16)).log_norms
    slope = (logs[0] - logs[-100]) / 901
    # The slope is a mean over a quarter of the steps: twice the standard error; and ln(16)/900 for the turning.
    value, error = float(exponent.exponents[0]), float(exponent.standard_errors[0])
    assert float(slope) == pytest.approx(value, abs=3 * 2.2 * error + 0.003)
