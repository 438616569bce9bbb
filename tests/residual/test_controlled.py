"""Controlled equations: order of increments against products of matrix exponentials, gaps, gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import separatrix as sx

A = jnp.array([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])


def _columns(z):
    return jnp.stack([jnp.zeros(2), A[0] @ z, A[1] @ z], axis=1)  # time, X1, X2


@pytest.fixture(scope="module")
def model():
    start = jnp.array([1.0, 2.0])
    return eqx.filter_jit(sx.residual.NeuralCDE(lambda x: start + 0 * x[0], _columns, lambda z: z, substeps=40))


@pytest.mark.parametrize(
    ("way", "end"),
    [
        ([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [3.0, 5.0]),
        ([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [4.0, 3.0]),
        ([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]], [3.8934830, 4.2613625]),
    ],
)  # fmt: skip
def test_the_order_of_increments_is_seen_and_the_instants_are_not(model, way, end):
    for times in ([0.0, 1.0, 2.0], [5.0, 5.1, 9.0]):
        np.testing.assert_allclose(model(jnp.array(times), jnp.array(way)), end, atol=5e-8)


def test_a_gap_is_a_straight_line(model):
    gap = model(jnp.array([0.0, 0.5, 1.0]), jnp.array([[0.0, 0.0], [np.nan, 0.5], [1.0, 1.0]]))
    straight = scipy.linalg.expm(np.asarray(A[0] + A[1])) @ [1.0, 2.0]
    np.testing.assert_allclose(gap, straight, atol=1e-8)


def test_the_flow_along_a_path_agrees_with_the_pieces_and_with_time_as_a_coordinate(model):
    times, values = jnp.array([0.0, 0.4, 1.0]), jnp.array([[0.0, 0.0], [0.3, 0.9], [1.0, 1.0]])
    flow = sx.residual.ControlledFlow(_columns, sx.residual.linear_path(times, values))
    # Adaptive steps that end on the corner see one slope each.
    middle = sx.evolve(flow, jnp.array([1.0, 2.0]), times=(0.0, 0.4 - 1e-12), rtol=1e-9, atol=1e-11).final
    path = sx.evolve(flow, middle, times=(0.4 + 1e-12, 1.0), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(path.final, model(times, values), atol=1e-7)
    clock = sx.residual.NeuralCDE(lambda x: jnp.zeros(1), lambda z: jnp.array([[2.0, 0.0]]), lambda z: z[0])
    assert clock(jnp.array([1.0, 1.5, 4.0]), jnp.zeros((3, 1))).item() == pytest.approx(6.0, rel=1e-12)


def test_gradients_flow_to_the_field_and_to_the_values():
    times, values = jnp.array([0.0, 0.7, 1.0]), jnp.array([[0.0], [0.5], [2.0]])

    def end(rate, values):
        field = lambda z: jnp.stack([jnp.zeros(1), rate * z], axis=1)
        return sx.residual.NeuralCDE(lambda x: jnp.ones(1), field, lambda z: z[0], substeps=60)(times, values)

    by_rate, by_value = jax.jit(jax.grad(end, argnums=(0, 1)))(jnp.array(0.8), values)
    # z(T) = exp(r (X(T) - X(0))): d/dr = 2 e^1.6, d/dX(T) = r e^1.6, d/dX(0) its negative, and nothing in between.
    assert by_rate.item() == pytest.approx(2 * np.exp(1.6), rel=1e-7)
    np.testing.assert_allclose(by_value[:, 0], [-0.8 * np.exp(1.6), 0.0, 0.8 * np.exp(1.6)], atol=1e-7)


def test_bad_series_are_refused_with_their_row():
    model = sx.residual.NeuralCDE(lambda x: x, lambda z: z, lambda z: z)
    with pytest.raises(ValueError, match=r"NeuralCDE: times\n  got 1 in row 2"):
        model(jnp.array([0.0, 1.0, 1.0]), jnp.zeros((3, 1)))
    with pytest.raises(ValueError, match="column 1 without a value"):
        model(jnp.array([0.0, 1.0]), jnp.array([[0.0, np.nan], [1.0, np.nan]]))
    with pytest.raises(TypeError, match="expected a path with a derivative"):
        sx.residual.ControlledFlow(lambda z: z, 3.0)
    with pytest.raises(ValueError, match=r"field\n  got shape \(2,\), expected \(2, 2\)"):
        flow = sx.residual.ControlledFlow(lambda z: z, sx.residual.linear_path(jnp.arange(2.0), jnp.zeros((2, 1))))
        flow.velocity(0.5, jnp.ones(2))
