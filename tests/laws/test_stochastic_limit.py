"""The stochastic modified equation of SGD on a quadratic, where everything is known in closed form."""

import equinox as eqx
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
    descent = sx.optimization.GradientDescent(NoisyQuadratic(), H)
    g = sx.diffusion_limit(descent, key=jax.random.key(0), samples=samples).diffusion(0.0, jnp.array([1.0, 2.0]))
    covariance = g.as_matrix() @ g.as_matrix().T
    # Entries of a sample covariance scatter by sqrt(2/K) on the diagonal and 1/sqrt(K) off it; four of those.
    np.testing.assert_allclose(covariance, H * NOISE**2 * jnp.eye(2), atol=4 * H * NOISE**2 * (2 / samples) ** 0.5)


@pytest.mark.parametrize("order", [1, 2])
def test_drift_is_the_limit_and_then_the_modified_field(order):
    descent = sx.optimization.GradientDescent(NoisyQuadratic(), H)
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
            descent = sx.optimization.GradientDescent(NoisyQuadratic(), h)
            sde = sx.diffusion_limit(descent, order, key=jax.random.key(0), samples=2)
            rate = -float(sde.drift(0.0, jnp.array([1.0]))[0])
            decay = np.exp(-2 * rate)
            continuous = decay + h * NOISE**2 * (1 - decay) / (2 * rate)
            errors[order].append(abs(discrete - continuous))
    for order, values in errors.items():
        slope = -np.polyfit(np.log2(steps), np.log2(values), 1)[0]
        assert slope == pytest.approx(order, abs=0.15)


def lopsided(t, x, h, *, key=None):
    """A step with correlated noise that depends on state and time."""
    z = jnp.zeros(2) if key is None else jax.random.normal(key, (2,))
    return x - h * jnp.stack([x[0] + t * z[0], 2 * x[1] + x[0] * z[0] + 0.5 * z[1]])


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_covariance_is_the_unbiased_one_of_few_steps(samples):
    t, x, h, key = 0.7, jnp.array([1.3, -0.4]), 0.3, jax.random.key(4)
    map = sx.as_near_identity(lopsided, h)
    steps = np.stack([map.advance(t, x, jnp.asarray(h), key=k) for k in jax.random.split(key, samples)])
    expected = np.cov(steps.T) / h
    diffusions = {
        form: sx.diffusion_limit(map, key=key, samples=samples, covariance=form).diffusion(t, x).as_matrix()
        for form in ("full", "diagonal", 1)
    }
    products = {form: g @ g.T for form, g in diffusions.items()}
    np.testing.assert_allclose(products["full"], expected, rtol=1e-12)
    np.testing.assert_allclose(products["diagonal"], np.diag(np.diag(expected)), rtol=1e-12)
    values, vectors = np.linalg.eigh(expected)
    np.testing.assert_allclose(products[1], values[1] * np.outer(vectors[:, 1], vectors[:, 1]), rtol=1e-9)


def euler_maruyama():
    return sx.discretize(sx.as_sde(lambda x: -x, lambda x: 1.0), sx.EulerMaruyama(), 0.2)


def test_noise_of_size_root_h_is_followed_at_order_one():
    # Of x' = x - h x + sqrt(h) z the stationary variance is 1/(2 (1 - h/2)) = 0.5556, that of the limit 1/2.
    map, x, samples = euler_maruyama(), jnp.array([0.8]), 4096
    sde = sx.diffusion_limit(map, key=jax.random.key(0), samples=samples)
    g = sde.diffusion(0.0, x).as_matrix()
    rate = -float(sde.drift(0.0, x)[0]) / 0.8
    # Four standard errors of a sample variance.
    assert float((g @ g.T)[0, 0]) / (2 * rate) == pytest.approx(0.5, rel=4 * (2 / samples) ** 0.5)


ROUGH = {
    "Euler-Maruyama": euler_maruyama,
    "Milstein": lambda: sx.discretize(sx.as_sde(lambda x: -x, lambda x: 0.1 * x), sx.Milstein(), 0.2),
    "Langevin": lambda: sx.optimization.SGLD(NoisyQuadratic(), 0.2, 0.01),
}


@pytest.mark.parametrize("name", ROUGH)
def test_order_two_of_such_noise_is_refused(name):
    map, x = ROUGH[name](), jnp.array([0.8])
    sde = sx.diffusion_limit(map, 2, key=jax.random.key(0), samples=4)
    with pytest.raises(ValueError, match=r"(?s)order=2.*smooth in h.*Pass order=1"):
        sde.drift(0.0, x)
    with pytest.raises(Exception, match="Pass order=1"):
        eqx.filter_jit(sde.drift)(0.0, x)
    assert jnp.isfinite(sx.diffusion_limit(map, 1, key=jax.random.key(0), samples=4).drift(0.0, x)).all()


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_order_two_of_a_random_gradient_is_not(momentum):
    map = sx.optimization.HeavyBall(NoisyQuadratic(), H**2, momentum)
    state = sx.optimization.PhasePoint(jnp.array([0.8]), jnp.array([-0.3]))
    cold = sx.diffusion_limit(sx.optimization.SGLD(NoisyQuadratic(), H, 0.0), 2, key=jax.random.key(0), samples=4)
    np.testing.assert_allclose(cold.drift(0.0, jnp.array([0.8])), -0.8 * (CURVATURE + H * CURVATURE**2 / 2), rtol=1e-12)
    drift = eqx.filter_jit(sx.diffusion_limit(map, 2, key=jax.random.key(0), samples=4).drift)(0.0, state)
    expected = sx.modified(sx.optimization.HeavyBall(sx.optimization.Quadratic(CURVATURE), H**2, momentum), 1).velocity(
        0.0, state
    )
    for got, wanted in zip(drift, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_refusals_say_what_to_do():
    descent = sx.optimization.GradientDescent(NoisyQuadratic(), H)
    with pytest.raises(ValueError, match=r"order\n  got 3, expected 1 or 2"):
        sx.diffusion_limit(descent, 3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="at least 2"):
        sx.diffusion_limit(descent, key=jax.random.key(0), samples=1)
    with pytest.raises(TypeError, match="as_near_identity"):
        sx.diffusion_limit(sx.as_map(lambda x: x), key=jax.random.key(0))
