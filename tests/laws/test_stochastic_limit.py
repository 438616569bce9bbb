"""The stochastic modified equation of SGD on a quadratic, where everything is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

H, CURVATURE, NOISE = 0.2, 1.5, 0.7


class NoisyQuadratic(sx.Objective):
    """L = l x^2/2 + s z x with z standard normal: the gradient is l x + s z."""

    def __call__(self, parameters, *, key=None):
        shift = 0.0 if key is None else jax.random.normal(key, parameters.shape, parameters.dtype)
        return jnp.sum(0.5 * CURVATURE * parameters**2 + NOISE * shift * parameters)


def test_covariance_of_the_diffusion_is_the_step_size_times_that_of_the_gradient():
    samples = 4096
    descent = sx.GradientDescent(NoisyQuadratic(), H)
    g = sx.diffusion_limit(descent, key=jax.random.key(0), samples=samples).diffusion(0.0, jnp.array([1.0, 2.0]))
    covariance = g.as_matrix() @ g.as_matrix().T
    # Entries of a sample covariance scatter by sqrt(2/K) on the diagonal and 1/sqrt(K) off it; four of those.
    np.testing.assert_allclose(covariance, H * NOISE**2 * jnp.eye(2), atol=4 * H * NOISE**2 * (2 / samples) ** 0.5)


@pytest.mark.parametrize("order", [1, 2])
def test_drift_is_the_limit_and_then_the_modified_field(order):
    descent = sx.GradientDescent(NoisyQuadratic(), H)
    x = jnp.array([1.0, -2.0])
    drift = sx.diffusion_limit(descent, order, key=jax.random.key(0), samples=2).drift(0.0, x)
    rate = CURVATURE if order == 1 else CURVATURE + H * CURVATURE**2 / 2
    np.testing.assert_allclose(drift, -rate * x, rtol=1e-12)


def test_weak_order_in_closed_form():
    """Second moments at time 1: SGD against its SDE of order 1 and 2, exactly, over halvings of the step size."""
    errors = {1: [], 2: []}
    steps = 2 ** np.arange(4, 9)
    for count in steps:
        h = 1.0 / count
        factor = (1 - h * CURVATURE) ** 2
        discrete = factor**count + h**2 * NOISE**2 * (1 - factor**count) / (1 - factor)
        for order in errors:
            descent = sx.GradientDescent(NoisyQuadratic(), h)
            sde = sx.diffusion_limit(descent, order, key=jax.random.key(0), samples=2)
            rate = -float(sde.drift(0.0, jnp.array([1.0]))[0])
            decay = np.exp(-2 * rate)
            continuous = decay + h * NOISE**2 * (1 - decay) / (2 * rate)
            errors[order].append(abs(discrete - continuous))
    for order, values in errors.items():
        slope = -np.polyfit(np.log2(steps), np.log2(values), 1)[0]
        assert slope == pytest.approx(order, abs=0.15)


def test_refusals_say_what_to_do():
    descent = sx.GradientDescent(NoisyQuadratic(), H)
    with pytest.raises(ValueError, match=r"order\n  got 3, expected 1 or 2"):
        sx.diffusion_limit(descent, 3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="at least 2"):
        sx.diffusion_limit(descent, key=jax.random.key(0), samples=1)
    with pytest.raises(TypeError, match="as_near_identity"):
        sx.diffusion_limit(sx.as_map(lambda x: x), key=jax.random.key(0))
