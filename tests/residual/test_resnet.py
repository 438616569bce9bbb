"""A residual net is Euler's method, its limit a neural ODE: by laws, by hand and by measured orders."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

ROUNDING = 1e-13  # a few operations on numbers of order one
X = jnp.array([0.6, -0.4, 0.9])


def field(knots=3, span=1.0):
    keys = jax.random.split(jax.random.key(3), knots)
    return sx.residual.AlongDepth([eqx.nn.MLP(3, 3, 5, 1, jnp.tanh, key=key) for key in keys], span)


def test_limit_of_a_residual_net_is_its_neural_ode():
    f = field()
    for t in (0.0, 0.3, 0.8):
        one = sx.limit(sx.residual.ResNet(f, 0.125)).velocity(t, X)
        np.testing.assert_allclose(one, sx.residual.NeuralODE(f).velocity(t, X), rtol=ROUNDING)
        np.testing.assert_allclose(one, f(t, X), rtol=ROUNDING)


def test_euler_on_the_limit_is_the_residual_net():
    net = sx.residual.ResNet(field(), 0.125)
    euler = sx.discretize(sx.limit(net), sx.Euler(), 0.125)
    one, other = (sx.evolve(system, X, steps=8).states for system in (net, euler))
    np.testing.assert_allclose(one, other, rtol=ROUNDING)


def test_blocks_are_what_the_equation_says_by_numpy():
    f = field(2)
    weights = [jax.tree.map(np.asarray, eqx.filter(layer, eqx.is_array)) for layer in f.knots.thaw().layers]
    x = np.asarray(X)
    for number in range(4):
        t = number / 4
        (w, b), (v, c) = ([(1 - t) * p[0] + t * p[1] for p in (layer.weight, layer.bias)] for layer in weights)
        x = x + 0.25 * (v @ np.tanh(w @ x + b) + c)
    np.testing.assert_allclose(sx.evolve(sx.residual.ResNet(f, 0.25), X, steps=4).final, x, rtol=ROUNDING)


@pytest.mark.parametrize(
    ("method", "order"), [(sx.Euler(), 1), (sx.Heun(), 2), (sx.Midpoint(), 2), (sx.RK4(), 4)], ids=str
)
def test_error_falls_with_depth_at_the_order_of_the_method(method, order):
    flow = sx.residual.NeuralODE(field())
    truth = sx.evolve(flow, X, times=(0.0, 1.0), rtol=1e-12, atol=1e-13).final
    depths = [8, 16, 32]
    errors = [
        float(jnp.linalg.norm(sx.evolve(flow, X, times=(0.0, 1.0), steps=depth, method=method).final - truth))
        for depth in depths
    ]
    # The net with two intervals of depth is smooth between knots, and all depths are even.
    assert -np.polyfit(np.log(depths), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15)


def test_weights_are_interpolated_in_depth_and_stay_beyond_its_ends():
    values = np.array([1.0, -2.0, 5.0, 4.0])
    gains = [eqx.nn.Linear(1, 1, use_bias=False, key=jax.random.key(0)) for _ in values]
    gains = [eqx.tree_at(lambda m: m.weight, gain, jnp.full((1, 1), v)) for gain, v in zip(gains, values, strict=True)]
    f = sx.residual.AlongDepth(gains, span=6.0)
    for t in (-1.0, 0.0, 0.5, 2.0, 3.3, 6.0, 9.0):
        expected = np.interp(t, [0.0, 2.0, 4.0, 6.0], values)
        assert f(t, jnp.ones(1)).item() == pytest.approx(expected, rel=ROUNDING)
    assert sx.residual.AlongDepth(gains[:1])(0.7, jnp.ones(1)).item() == 1.0


def test_gradient_reaches_the_two_knots_beside_a_time():
    f = field(3)

    def total(f):
        return jnp.sum(f(0.7, X))

    bias = jax.grad(total)(f).knots.thaw().layers[-1].bias
    # d f_i / d c_k is the hat function of knot k: at t = 0.7 between the knots 0.5 and 1.
    np.testing.assert_allclose(bias, np.outer([0.0, 0.6, 0.4], np.ones(3)), atol=ROUNDING)


def test_refusals_say_what_to_do():
    linear, other = (eqx.nn.Linear(2, width, key=jax.random.key(0)) for width in (2, 3))
    with pytest.raises(ValueError, match=r"AlongDepth\n  got 0 modules over a span of 1, expected at least one module"):
        sx.residual.AlongDepth([])
    with pytest.raises(ValueError, match=r"got modules that differ in form"):
        sx.residual.AlongDepth([linear, other])
    with pytest.raises(ValueError, match=r"span of -1, expected .* span > 0"):
        sx.residual.AlongDepth([linear], span=-1.0)
    with pytest.raises(TypeError, match=r"f\(x\) or f\(t, x\)"):
        sx.residual.NeuralODE(lambda a, b, c: a)
