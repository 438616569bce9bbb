"""Encode, evolve, read out: against matrix exponentials, and what a flow on the line cannot do."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import separatrix as sx

A = np.array([[-0.3, 1.1], [-0.7, 0.2]])
E = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
R = np.array([[2.0, -1.0]])


def linear_model(depth, method=None, horizon=1.0):
    a, e, r = map(jnp.asarray, (A, E, R))
    flow = sx.residual.NeuralODE(lambda z: a @ z)
    return sx.residual.FlowModel(lambda x: e @ x, flow, lambda z: r @ z, depth, method or sx.Euler(), horizon)


def test_a_linear_model_is_a_matrix_product():
    x = jnp.array([1.0, -1.0, 0.5])
    euler = R @ np.linalg.matrix_power(np.eye(2) + 1.5 / 6 * A, 6) @ E @ x
    np.testing.assert_allclose(linear_model(6, horizon=1.5)(x), euler, rtol=1e-13)
    exact = R @ scipy.linalg.expm(1.5 * A) @ E @ x
    adaptive = sx.residual.with_depth(linear_model(6, horizon=1.5), None)
    # The tolerance of adaptive steps is 1e-6 a step.
    np.testing.assert_allclose(adaptive(x), exact, rtol=1e-5)
    # RK4 with h = 1.5/32: h^5/120 |A|^5 a step.
    np.testing.assert_allclose(sx.residual.with_depth(adaptive, 32, sx.RK4())(x), exact, rtol=1e-6)


def test_depth_changes_and_weights_stay():
    model = linear_model(4)
    other = sx.residual.with_depth(model, 9)
    assert (other.depth, other.method) == (9, model.method)
    path = other.hidden(jnp.ones(3))
    assert path.states.shape == (10, 2)
    np.testing.assert_allclose(path.states[0], E @ np.ones(3), rtol=1e-14)


def swap(extra):
    """A neural ODE trained to send -1 to 1 and 1 to -1, with extra dimensions."""
    width = 1 + extra
    field = sx.residual.NeuralODE(eqx.nn.MLP(width, width, 16, 1, jnp.tanh, key=jax.random.key(1)))
    model = sx.residual.FlowModel(
        lambda x: sx.residual.augment(x, extra), field, lambda z: z[:1], depth=8, method=sx.RK4()
    )
    data = jnp.array([[-1.0], [1.0]]), jnp.array([[1.0], [-1.0]])
    objective = sx.supervised(model, data, lambda output, target: jnp.sum((output - target) ** 2))
    return sx.fit(objective, optax.adam(0.03), steps=400)


def test_a_flow_on_the_line_cannot_swap_two_points():
    trained = swap(0)
    objective = trained.map.objective
    low, high = (objective.model(trained.model)(jnp.array([x])).item() for x in (-1.0, 1.0))
    # Orbits do not cross: g(-1) < g(1), and the best of all monotone maps has mean squared error 1, at g = 0.
    assert low < high
    assert float(jnp.min(trained.losses)) >= 1.0
    assert float(trained.losses[-1]) == pytest.approx(1.0, abs=0.02)


def test_one_more_dimension_lets_the_orbits_pass():
    # The best error is 0; training in 400 steps comes within one per mille of the 1 that the line allows.
    assert float(swap(1).losses[-1]) < 1e-3


def test_augment_appends_zeros_to_the_last_axis():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]], jnp.float32)
    wide = sx.residual.augment(x, 2)
    np.testing.assert_array_equal(wide, [[1, 2, 0, 0], [3, 4, 0, 0]])
    assert wide.dtype == jnp.float32


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match=r"FlowModel\n  got depth 0 and horizon 1, expected a depth >= 1"):
        linear_model(0)
    with pytest.raises(ValueError, match=r"horizon > 0"):
        linear_model(3, horizon=0.0)
