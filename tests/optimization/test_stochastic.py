"""Descent with noise: SGD against its two SDEs, and the forms of their covariance."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import separatrix as sx

KEY = jax.random.key(0)


class TwoPoint(sx.Objective):
    """(x - s z)^2 (additive noise) or (1 + s z) x^2 (multiplicative), z = +-1: gradient 2 x in the mean."""

    spread: float = eqx.field(default=0.5, static=True)
    multiplicative: bool = eqx.field(default=False, static=True)

    def __call__(self, parameters, *, key=None):
        sign = 0.0 if key is None else self.spread * jax.random.rademacher(key, (), parameters.dtype)
        if self.multiplicative:
            return jnp.sum((1 + sign) * parameters**2)
        return jnp.sum((parameters - sign) ** 2)


# SGD against its two SDEs


def moments_of_descent(objective, h, steps):
    """E x and E x^2 (and E x^4 of multiplicative noise) after so many steps from 1, by the law of z = +-1."""
    s = objective.spread
    factors = np.array([1 - 2 * h * (1 + s), 1 - 2 * h * (1 - s)])
    if objective.multiplicative:
        return [np.mean(factors**power) ** steps for power in (1, 2, 4)]
    square = (1 - 2 * h) ** 2
    return [(1 - 2 * h) ** steps, square**steps + (2 * h * s) ** 2 * (1 - square**steps) / (1 - square)]


@partial(jax.jit, static_argnums=1)
def coefficients(objective, order, h):
    """b = -drift(1) and |g|^2 at 1 and at 2, of the SDE that is tested."""
    sde = sx.diffusion_limit(sx.optimization.GradientDescent(objective, h), order, key=KEY, samples=4096)
    one = jnp.ones(1)
    squares = [jnp.sum(sde.diffusion(0.0, x * one).T.mv(one) ** 2) for x in (1.0, 2.0)]
    return -sde.drift(0.0, one)[0], *squares


def moments_of_sde(objective, order, h, time):
    """The same of dx = -b x dt + g dW, with b and g read off the SDE."""
    rate, at_one, at_two = map(float, coefficients(objective, order, h))
    if objective.multiplicative:
        assert at_two == pytest.approx(4 * at_one, rel=1e-12)
        return [np.exp(time * (-rate * power + power * (power - 1) / 2 * at_one)) for power in (1, 2, 4)]
    assert at_two == pytest.approx(at_one, rel=1e-12)
    decay = np.exp(-2 * rate * time)
    return [np.exp(-rate * time), decay + at_one * (1 - decay) / (2 * rate)]


@pytest.mark.parametrize("objective", [TwoPoint(), TwoPoint(multiplicative=True)], ids=["additive", "multiplicative"])
def test_sgd_is_followed_by_its_sdes_at_weak_orders_one_and_two(objective):
    """Moments at time 1/2, all known: of SGD from the law of its samples, of the SDEs from their drift and diffusion.

    The example of Li, Tai & E, and a second one in which the noise grows with x. The covariance is measured over 4096
    signs; that of a sign is right to 1/4096, which moves the moments by less than a tenth of the smallest error.
    """
    counts = 2 ** np.arange(4, 7)
    for order in (1, 2):
        errors = []
        for steps in counts:
            h = 0.5 / steps
            pairs = zip(moments_of_descent(objective, h, steps), moments_of_sde(objective, order, h, 0.5), strict=True)
            errors.append([abs(a - b) for a, b in pairs])
        slopes = -np.polyfit(np.log2(counts), np.log2(np.array(errors)), 1)[0]
        np.testing.assert_allclose(slopes, order, atol=0.15)


def generator(sde, observable):
    """G phi = b . grad phi + (1/2) sum_k d_k^T Hess phi d_k, with b and g = (d_1, ..., d_K) of the SDE."""

    def curvature(x, direction):
        slope = lambda y: jax.jvp(observable, (y,), (direction,))[1]
        return jax.jvp(slope, (x,), (direction,))[1]

    def image(x):
        spread = sde.deviations(0.0, x)
        bent = jax.vmap(lambda direction: curvature(x, direction))(spread)
        return jax.jvp(observable, (x,), (sde.drift(0.0, x),))[1] + 0.5 * jnp.sum(bent)

    return image


@pytest.mark.slow
def test_local_weak_error_of_sgd_on_real_digits():
    """One step of SGD on threes and eights, without Monte Carlo: E phi after it less (1 + h G + h^2/2 G^2) phi.

    The mean is over the 32 mini-batches over which the SDE measures its covariance (deviations scaled so that it is
    theirs exactly), phi the loss on all data. A global weak order p is a local one of p + 1.
    """
    data = sx.load("digits")
    chosen = (data.targets == 3) | (data.targets == 8)
    pixels = np.asarray(data.inputs)[chosen][:64].reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    labels = jnp.asarray(data.targets[chosen][:64] == 8, float)
    weights = jax.random.normal(jax.random.key(3), (16,))

    def loss(parameters, *, key=None):
        batch = jnp.arange(64) if key is None else jax.random.randint(key, (4,), 0, 64)
        outputs = jnp.asarray(pixels, float)[batch] @ parameters
        return jnp.mean(jnp.logaddexp(0.0, outputs) - labels[batch] * outputs)

    steps = np.array([0.02, 0.01, 0.005])
    errors = {1: [], 2: []}
    for order, found in errors.items():
        make = lambda h, order=order: sx.diffusion_limit(
            sx.optimization.GradientDescent(loss, h), order, key=KEY, samples=32
        )

        @jax.jit
        def local_error(h, make=make):
            sde = make(h)
            mean = sx.optimization.GradientDescent(loss, h).step(0, weights)
            # deviations d_k = (step_k - mean)/sqrt(h (K - 1)), so that with sqrt(K h) they have covariance h sum d_k d_k^T.
            after = jnp.mean(jax.vmap(loss)(mean[None] + jnp.sqrt(32 * h) * sde.deviations(0.0, weights)))
            first = generator(sde, loss)
            return after - loss(weights) - h * first(weights) - h**2 / 2 * generator(sde, first)(weights)

        found += [abs(float(local_error(h))) for h in steps]
    for order, found in errors.items():
        slope = np.polyfit(np.log2(steps), np.log2(found), 1)[0]
        assert slope == pytest.approx(order + 1, abs=0.15)


def test_whole_runs_of_sgd_on_digits_have_weak_orders_one_and_two():
    """Least squares on threes and eights, to time 1: E x and E x x^T of all runs, without Monte Carlo.

    A step is one of K affine maps, so that S = E z z^T of z = (x, 1) goes by S <- mean of A_k S A_k^T exactly; the SDE that
    measured its covariance over the same K has affine drift and deviations, and S' = B S + S B^T + sum of D_k S D_k^T.
    """
    data, count = sx.load("digits"), 64
    chosen = (data.targets == 3) | (data.targets == 8)
    pixels = np.asarray(data.inputs)[chosen][:64].reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(-1, 4)
    pixels, labels = jnp.asarray(pixels, float), jnp.where(jnp.asarray(data.targets[chosen][:64]) == 8, 1.0, -1.0)

    def loss(parameters, *, key=None):
        batch = jnp.arange(64) if key is None else jax.random.randint(key, (2,), 0, 64)
        return 0.5 * jnp.mean((pixels[batch] @ parameters - labels[batch]) ** 2)

    def affine(function, x):
        """The matrix of an affine function, acting on (x, 1)."""
        slope = jax.jacfwd(function)(x)
        return jnp.concatenate([slope, (function(x) - slope @ x)[..., None]], axis=-1)

    @jax.jit
    def parts(h):
        descent, origin = sx.optimization.GradientDescent(loss, h), jnp.zeros(4)
        found = [affine(lambda x: descent.step(0, x), origin)]
        for order in (1, 2):
            sde = sx.diffusion_limit(descent, order, key=KEY, samples=count)
            found += [affine(lambda x, sde=sde: sde.drift(0.0, x), origin)]
            found += [affine(lambda x, sde=sde: sde.deviations(0.0, x), origin)]
        return found

    def square(matrix):
        return np.concatenate([matrix, np.zeros((*matrix.shape[:-2], 1, 5))], axis=-2)

    start = np.outer(np.r_[np.ones(4), 1.0], np.r_[np.ones(4), 1.0]).ravel()
    steps, errors = np.array([32, 64, 128]), {1: [], 2: []}
    for n in steps:
        h = 1.0 / n
        mean, *sdes = map(np.asarray, parts(h))
        for order, (drift, spread) in {1: sdes[:2], 2: sdes[2:]}.items():
            drift, spread = square(drift), square(spread)
            maps = square(mean) + np.eye(5)[4][:, None] * np.eye(5)[4] + np.sqrt(count * h) * spread
            one_step = np.mean([np.kron(a, a) for a in maps], axis=0)
            flow = np.kron(drift, np.eye(5)) + np.kron(np.eye(5), drift) + sum(np.kron(d, d) for d in spread)
            gap = np.linalg.matrix_power(one_step, n) @ start - scipy.linalg.expm(flow) @ start
            errors[order].append(np.linalg.norm(gap))
    for order, found in errors.items():
        slope = -np.polyfit(np.log2(steps), np.log2(found), 1)[0]
        assert slope == pytest.approx(order, abs=0.1)


# The form of the covariance


class Correlated(sx.Objective):
    """A linear loss whose random gradient is A z, z standard normal."""

    mixing: jax.Array

    def __call__(self, parameters, *, key=None):
        if key is None:
            return 0.0 * jnp.sum(parameters)
        return parameters @ (self.mixing @ jax.random.normal(key, (3,), parameters.dtype))


def covariance(form):
    mixing = jnp.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, -0.3, 0.2]])
    sde = sx.diffusion_limit(
        sx.optimization.GradientDescent(Correlated(mixing), 0.1), key=KEY, samples=64, covariance=form
    )
    g = jax.jit(lambda x: sde.diffusion(0.0, x).as_matrix())(jnp.zeros(3))
    return np.asarray(g @ g.T)


def test_low_rank_covariance_is_the_nearest_of_its_rank():
    full = covariance("full")
    values, vectors = np.linalg.eigh(full)
    for rank in (1, 2, 3):
        best = (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T
        np.testing.assert_allclose(covariance(rank), best, atol=1e-13 * values[-1])


def test_diagonal_covariance_keeps_the_variances():
    np.testing.assert_allclose(covariance("diagonal"), np.diag(np.diag(covariance("full"))), rtol=1e-13)


def test_diagonal_diffusion_has_a_slope_where_the_noise_vanishes():
    sde = sx.diffusion_limit(
        sx.optimization.GradientDescent(TwoPoint(multiplicative=True), 0.1), key=KEY, samples=8, covariance="diagonal"
    )
    slope = jax.grad(lambda x: sde.diffusion(0.0, x).diagonal[0])(jnp.zeros(1))
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("form", ["low-rank", 0, 65, True])
def test_another_form_of_covariance_is_refused(form):
    with pytest.raises(ValueError, match=r'covariance\n  got .*, expected "full", "diagonal" or a rank from 1 to'):
        covariance(form)
