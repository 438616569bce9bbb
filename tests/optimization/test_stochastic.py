"""Descent with noise: its SDEs, its stationary covariance and its escapes, against closed forms and quadrature."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import separatrix as sx
from separatrix.calculus.methods.base import normal
from separatrix.catalogue.learning import NoisyQuadratic
from separatrix.optimization.stochastic.escape import Absorbing, Watched

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
    sde = sx.diffusion_limit(sx.GradientDescent(objective, h), order, key=KEY, samples=4096)
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
        slope = lambda y: jax.jvp(observable, (y,), (direction,))[1]  # noqa: E731
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
        make = lambda h, order=order: sx.diffusion_limit(  # noqa: E731
            sx.GradientDescent(loss, h), order, key=KEY, samples=32
        )

        @jax.jit
        def local_error(h, make=make):
            sde = make(h)
            mean = sx.GradientDescent(loss, h).step(0, weights)
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
        descent, origin = sx.GradientDescent(loss, h), jnp.zeros(4)
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
    sde = sx.diffusion_limit(sx.GradientDescent(Correlated(mixing), 0.1), key=KEY, samples=64, covariance=form)
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
        sx.GradientDescent(TwoPoint(multiplicative=True), 0.1), key=KEY, samples=8, covariance="diagonal"
    )
    slope = jax.grad(lambda x: sde.diffusion(0.0, x).diagonal[0])(jnp.zeros(1))
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("form", ["low-rank", 0, 65, True])
def test_another_form_of_covariance_is_refused(form):
    with pytest.raises(ValueError, match=r'covariance\n  got .*, expected "full", "diagonal" or a rank from 1 to'):
        covariance(form)


# The stationary covariance


def test_sgd_on_the_noisy_quadratic():
    """Variance h/(2 - h), to four of the standard errors that the answer gives."""
    h = 0.3
    found = sx.stationary_covariance(sx.GradientDescent(NoisyQuadratic(), h), jnp.zeros(2), key=KEY)
    assert np.all(np.abs(found.covariance - h / (2 - h) * np.eye(2)) < 4 * found.error)
    # sqrt(2/4096) is the relative error of a variance; the estimate from 8 batches is good to a factor of 2.
    assert found.error[0, 0] / found.covariance[0, 0] == pytest.approx((2 / 4096) ** 0.5, rel=1.0)
    assert found.cautions == ()


def test_sgd_with_momentum_in_closed_form():
    """eta s^2 (1 + g)/(l (1 - g) (2 (1 + g) - eta l)) for x; from one draw of z the noise of the step is h s z in w."""
    eta, momentum, curvature = 0.1, 0.8, 1.0
    ball = sx.HeavyBall(NoisyQuadratic(), eta, momentum)
    found = sx.stationary_covariance(ball, ball.init(jnp.zeros(1)), key=KEY)
    expected = eta * (1 + momentum) / (curvature * (1 - momentum) * (2 * (1 + momentum) - eta * curvature))
    assert abs(found.covariance[0, 0] - expected) < 4 * found.error[0, 0]
    scale = found.noise[1, 1] / eta
    assert found.covariance[0, 0] / scale == pytest.approx(expected, rel=1e-10)


def test_long_simulation_has_the_covariance_of_lyapunovs_equation():
    """4000 runs of 200 steps, memory 0.9^200 = 1e-9: each entry within four standard errors of both."""
    members = 4000
    ball = sx.HeavyBall(NoisyQuadratic(), 0.2, 0.8)
    start = ball.init(jnp.zeros(1))
    predicted = sx.stationary_covariance(ball, start, key=KEY)
    starts = jax.tree.map(lambda leaf: jnp.zeros((members, 1)), start)
    final = sx.ensemble(ball, starts, steps=200, key=jax.random.key(1), save="last").final
    sample = np.cov(np.stack([final.position[:, 0], final.velocity[:, 0]]))
    x = np.asarray(predicted.covariance)
    scatter = np.sqrt((np.outer(np.diag(x), np.diag(x)) + x**2) / members)
    assert np.all(np.abs(sample - x) < 4 * np.hypot(scatter, predicted.error))


def test_ornstein_uhlenbeck():
    entry = sx.catalogue.entry("ornstein-uhlenbeck")
    found = sx.stationary_covariance(entry.build(), jnp.array([1.0]))
    np.testing.assert_allclose(found.covariance, [[1 / 16]], rtol=1e-14)
    assert float(found.displacement) == 0.0 and float(found.error[0, 0]) == 0.0


def test_asymmetric_drift_against_the_integral():
    """X = int_0^inf e^{J t} Q e^{J^T t} dt by quadrature: another answer for a transposed Jacobian."""
    drift = np.array([[-1.0, 3.0], [0.0, -2.0]])
    noise = np.diag([1.0, 0.25])
    sde = sx.as_sde(lambda x: jnp.asarray(drift) @ x, lambda x: jnp.array([1.0, 0.5]))
    found = sx.stationary_covariance(sde, jnp.zeros(2)).covariance
    at = lambda t: scipy.linalg.expm(drift * t) @ noise @ scipy.linalg.expm(drift.T * t)  # noqa: E731
    np.testing.assert_allclose(found, scipy.integrate.quad_vec(at, 0, 20, epsrel=1e-7)[0], rtol=1e-6)


def test_asymmetric_map_against_the_series():
    matrix = np.array([[0.5, 0.7], [0.0, -0.6]])

    def step(x, *, key=None):
        noise = jnp.zeros(2) if key is None else jax.random.normal(key, (2,)) * jnp.array([1.0, 0.0])
        return jnp.asarray(matrix) @ x + noise

    found = sx.stationary_covariance(sx.as_map(step), jnp.zeros(2), key=KEY)
    series, power = np.zeros((2, 2)), np.eye(2)
    for _ in range(200):
        series, power = series + power @ np.asarray(found.noise) @ power.T, matrix @ power
    np.testing.assert_allclose(found.covariance, series, rtol=1e-12, atol=1e-14)


def test_no_covariance_about_an_unstable_point():
    found = sx.stationary_covariance(sx.Langevin(sx.DoubleWell(), 0.1), jnp.array([0.0]))
    assert np.isnan(found.covariance).all()
    assert "not stable (margin 1)" in found.cautions[0]


def test_a_state_that_is_no_fixed_point_is_told():
    found = sx.stationary_covariance(sx.Langevin(sx.Quadratic(1.0), 0.5), jnp.array([1.0]))
    # One standard deviation is sqrt(T/l), and the minimum is 1 away.
    assert float(found.displacement) == pytest.approx(2**0.5, rel=1e-12)
    assert "no fixed point: one is 1.4 standard deviations away" in found.cautions[0]


def test_stationary_covariance_refuses():
    with pytest.raises(TypeError, match=r"got a FunctionFlow, expected a random Map or an SDE"):
        sx.stationary_covariance(sx.as_flow(lambda x: -x), jnp.zeros(1))
    with pytest.raises(ValueError, match=r"key\n  got None, expected a PRNG key"):
        sx.stationary_covariance(sx.GradientDescent(NoisyQuadratic(), 0.1), jnp.zeros(1))
    with pytest.raises(ValueError, match="got 513 coordinates, expected at most 512"):
        sx.stationary_covariance(sx.Langevin(sx.Quadratic(1.0), 0.1), jnp.zeros(513))


# Langevin dynamics and its steps


def step_matrices(sde, method, h, start, noises):
    """A step of a linear system is x' = A x + B z: A and B by differentiation in x and z."""
    flat, restore = jax.flatten_util.ravel_pytree(start)

    def step(x, z):
        moved = method.advance_with(sde, jnp.asarray(0.0), restore(x), jnp.asarray(h), noises(z))
        return jax.flatten_util.ravel_pytree(moved)[0]

    zero = jnp.zeros_like(flat)
    a, b = jax.jacobian(step, (0, 1))(zero, zero)
    return np.asarray(a), np.asarray(b @ b.T)


def step_variance(*arguments):
    """Stationary covariance of a step."""
    return scipy.linalg.solve_discrete_lyapunov(*step_matrices(*arguments))


def test_weak_order_of_baoab():
    """Mean and covariance at time 1 of a linear oscillator in its bath, exactly, over halvings of the step."""
    friction, curvature, temperature = 0.7, 2.0, 0.3
    bath = sx.UnderdampedLangevin(sx.Quadratic(curvature), friction, temperature)
    motion = scipy.linalg.expm(np.array([[0.0, 1.0], [-curvature, -friction]]))
    stationary = np.diag([temperature / curvature, temperature])
    exact = stationary - motion @ stationary @ motion.T
    counts, errors = 2 ** np.arange(3, 7), []
    for count in counts:
        a, q = step_matrices(bath, sx.BAOAB(), 1 / count, bath.init(jnp.zeros(1)), lambda z: z[1:])
        covariance = np.zeros((2, 2))
        for _ in range(count):
            covariance = a @ covariance @ a.T + q
        errors.append([np.abs(np.linalg.matrix_power(a, count) - motion).max(), np.abs(covariance - exact).max()])
    np.testing.assert_allclose(-np.polyfit(np.log2(counts), np.log2(errors), 1)[0], 2.0, atol=0.15)


def test_large_friction_is_the_overdamped_equation_in_slow_time():
    """The slow rate times a goes to l, off by l^2/a^2; with Var x = T/l that is the same Gaussian process."""
    curvature = 2.0
    for friction in (50.0, 100.0):
        bath = sx.UnderdampedLangevin(sx.Quadratic(curvature), friction, 0.3)
        start = bath.init(jnp.zeros(1))
        slow = np.max(np.real(sx.linear_stability(bath, start).spectrum)) * friction
        assert friction**2 * (-slow / curvature - 1) == pytest.approx(curvature, rel=0.01)
        assert float(sx.stationary_covariance(bath, start).covariance[0, 0]) == pytest.approx(0.15, rel=1e-10)


@pytest.mark.parametrize("h", [0.1, 0.9])
@pytest.mark.parametrize("friction", [0.2, 3.0])
def test_baoab_has_exact_positions_on_a_quadratic(h, friction):
    bath = sx.UnderdampedLangevin(sx.Quadratic(2.0), friction, temperature=0.3)
    variance = step_variance(bath, sx.BAOAB(), h, bath.init(jnp.zeros(1)), lambda z: z[1:])
    assert variance[0, 0] == pytest.approx(0.3 / 2.0, rel=1e-12)
    # Velocities are not exact: T (1 - h^2 l/4), as for every kick-drift-kick.
    assert variance[1, 1] == pytest.approx(0.3 * (1 - h**2 * 2.0 / 4), rel=1e-12)


def test_euler_maruyama_heats_by_a_known_amount():
    h, curvature, temperature = 0.3, 2.0, 0.5
    bath = sx.Langevin(sx.Quadratic(curvature), temperature)
    variance = step_variance(bath, sx.EulerMaruyama(), h, jnp.zeros(1), lambda z: h**0.5 * z)
    assert variance[0, 0] == pytest.approx(temperature / (curvature * (1 - h * curvature / 2)), rel=1e-12)


def test_sgld_samples_at_the_temperature_raised_by_gradient_noise():
    h, temperature = 0.2, 0.4
    sampler = sx.SGLD(NoisyQuadratic(), h, temperature)
    found = sx.stationary_covariance(sampler, jnp.zeros(1), key=KEY, samples=16384)
    expected = (temperature + h / 2) / (1 - h / 2)
    assert abs(found.covariance[0, 0] - expected) < 4 * found.error[0, 0]
    assert found.error[0, 0] < 0.03 * expected


def test_limits_of_langevin_steps_are_what_is_left_without_noise():
    x = jnp.array([0.3, -2.0])
    np.testing.assert_allclose(
        sx.limit(sx.SGLD(sx.Himmelblau(), 0.1, 1.0)).velocity(0.0, x), -jax.grad(sx.Himmelblau())(x), rtol=1e-14
    )
    bath = sx.UnderdampedLangevin(sx.Himmelblau(), 0.7, 1.0)
    state = sx.PhasePoint(x, jnp.array([1.0, 0.5]))
    moved = sx.limit(sx.discretize(bath, sx.BAOAB(), 0.1)).velocity(0.0, state)
    ball = sx.limit(sx.HeavyBall(sx.Himmelblau(), 0.01, 1 - 0.7 * 0.1)).velocity(0.0, state)
    for ours, drift, limit in zip(*map(jax.tree.leaves, (moved, bath.drift(0.0, state), ball)), strict=True):
        np.testing.assert_allclose(ours, drift, rtol=1e-14)
        np.testing.assert_allclose(limit, drift, rtol=1e-12)


def test_diffusion_limit_of_sgld_is_langevin():
    """h^-1 Cov of a step is 2 T: over the keys of the measure, within four standard errors."""
    sampler = sx.SGLD(sx.Quadratic(1.0), 0.01, 0.7)
    g = sx.diffusion_limit(sampler, key=KEY, samples=4096).diffusion(0.0, jnp.zeros(1)).T.mv(jnp.ones(1))
    bath = sx.Langevin(sx.Quadratic(1.0), 0.7).diffusion(0.0, jnp.zeros(1)).as_matrix()
    assert float(g @ g) == pytest.approx(float(bath[0, 0] ** 2), rel=4 * (2 / 4096) ** 0.5)


def test_density_of_the_double_well():
    """E x^2 and E x^4 under exp(-L/T) by quadrature, against BAOAB at two frictions (density without friction in it)."""
    temperature, members = 0.3, 4000
    density = lambda x: np.exp(-((x**2 - 1) ** 2) / 4 / temperature)  # noqa: E731
    total = scipy.integrate.quad(density, -6, 6)[0]
    expected = [scipy.integrate.quad(lambda x, k=k: x**k * density(x), -6, 6)[0] / total for k in (2, 4)]
    for friction in (0.5, 3.0):
        bath = sx.UnderdampedLangevin(sx.DoubleWell(), friction, temperature)
        starts = sx.PhasePoint(jnp.ones((members, 1)), jnp.zeros((members, 1)))
        final = sx.ensemble(
            bath, starts, steps=300, step_size=0.1, method=sx.BAOAB(), key=jax.random.key(2), save="last"
        ).final
        for power, truth in zip((2, 4), expected, strict=True):
            values = np.asarray(final.position) ** power
            # BAOAB is off by O(h^2) of the fourth derivative: here under 0.002.
            assert abs(values.mean() - truth) < 4 * values.std() / members**0.5 + 0.002
        assert abs(np.mean(final.velocity**2) - temperature) < 4 * temperature * (2 / members) ** 0.5 + 0.002


def test_einsteins_relation():
    """A free particle spreads as 2 (T/a^2)(a t - 1 + e^{-a t}) from rest in equilibrium of velocities: D = T/a."""
    friction, temperature, time, members = 2.0, 0.5, 5.0, 4000
    bath = sx.UnderdampedLangevin(lambda x: 0.0 * jnp.sum(x), friction, temperature)
    velocities = temperature**0.5 * normal(jax.random.key(5), jax.ShapeDtypeStruct((members, 1), jnp.float64))
    starts = sx.PhasePoint(jnp.zeros((members, 1)), velocities)
    final = sx.ensemble(
        bath, starts, times=(0.0, time), step_size=0.05, method=sx.BAOAB(), key=jax.random.key(6), save="last"
    ).final
    spread = float(jnp.mean(final.position**2))
    expected = 2 * temperature / friction**2 * (friction * time - 1 + np.exp(-friction * time))
    assert abs(spread - expected) < 4 * expected * (2 / members) ** 0.5


def test_langevin_refuses():
    with pytest.raises(ValueError, match=r"Langevin: temperature\n  got -1.0, expected a number of at least 0"):
        sx.Langevin(sx.Quadratic(1.0), -1.0)
    with pytest.raises(TypeError, match=r"SGLD: step_size\n  got 'fast', expected a number above 0"):
        sx.SGLD(sx.Quadratic(1.0), "fast", 1.0)
    with pytest.raises(TypeError, match=r"PhasePoint.*\n.*Start from init"):
        sx.UnderdampedLangevin(sx.Quadratic(1.0), 1.0, 1.0).drift(0.0, jnp.zeros(1))
    with pytest.raises(TypeError, match="BAOAB is not defined here"):
        bath = sx.Langevin(sx.Quadratic(1.0), 1.0)
        sx.discretize(bath, sx.BAOAB(), 0.1).step(0, sx.PhasePoint(jnp.zeros(1), jnp.zeros(1)), key=KEY)


# Escape


def exact_passage(temperature, target=1.0):
    """(1/T) int_{-1}^{b} e^{L(y)/T} int_{-inf}^{y} e^{-L(z)/T} dz dy for the double well, from -1 to b."""
    loss = lambda x: (x**2 - 1) ** 2 / 4  # noqa: E731
    inner = lambda y: scipy.integrate.quad(lambda z: np.exp((loss(y) - loss(z)) / temperature), -3, y)[0]  # noqa: E731
    return scipy.integrate.quad(inner, -1.0, target, epsrel=1e-6)[0] / temperature


def kramers(temperature, **keywords):
    return sx.kramers_time(sx.DoubleWell(), jnp.array([-1.0]), jnp.array([0.0]), temperature, **keywords)


def test_kramers_time_is_asymptotic_to_the_exact_passage():
    """The relative error is O(T): it halves with T, in the end."""
    temperatures = np.array([0.02, 0.01, 0.005])
    errors = np.array([float(kramers(t).time) / exact_passage(t) - 1 for t in temperatures])
    slopes = np.diff(np.log2(np.abs(errors))) / np.diff(np.log2(temperatures))
    np.testing.assert_allclose(slopes, 1.0, atol=0.15)
    assert abs(errors[-1]) < 0.03
    # The saddle itself is reached in half the time, up to the same order.
    assert exact_passage(0.01, 0.0) / exact_passage(0.01) == pytest.approx(0.5, abs=1e-3)


def test_kramers_time_in_two_dimensions_has_the_entropy_of_the_pass():
    """A narrow pass (curvature 9 across it, 1 across the well) is crossed three times more slowly than a straight one."""

    def loss(x):
        across = 1.0 + 8.0 * jnp.exp(-10 * x[0] ** 2)
        return (x[0] ** 2 - 1) ** 2 / 4 + 0.5 * across * x[1] ** 2

    found = sx.kramers_time(loss, jnp.array([-1.0, 0.0]), jnp.array([0.0, 0.0]), 0.05)
    across = 1.0 + 8.0 * np.exp(-10.0)
    assert float(found.time / kramers(0.05).time) == pytest.approx(3.0 / across**0.5, rel=1e-12)


def test_underdamped_kramers_time():
    """mu is the unstable eigenvalue of the motion at the saddle; for large friction a, a times the overdamped time."""
    friction = 0.8
    found = kramers(0.03, friction=friction)
    motion = sx.limit(sx.HeavyBall(sx.DoubleWell(), 0.01, 1 - friction * 0.1))
    spectrum = sx.linear_stability(motion, sx.PhasePoint(jnp.zeros(1), jnp.zeros(1))).spectrum
    assert float(found.exit_rate) == pytest.approx(float(np.max(np.real(spectrum))), rel=1e-10)
    for large in (1e3, 1e4):
        ratio = float(kramers(0.03, friction=large).time / kramers(0.03).time) / large
        # mu a/|l_1| = 1 - |l_1|/a^2 + ...
        assert ratio == pytest.approx(1 + 1 / large**2, rel=1e-10)


def test_kramers_time_under_jit_and_vmap():
    temperatures = jnp.array([0.02, 0.05])
    together = jax.jit(jax.vmap(lambda t: kramers(t, friction=0.5).time))(temperatures)
    alone = [kramers(float(t), friction=0.5).time for t in temperatures]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_kramers_cautions():
    assert "below three temperatures" in kramers(0.1).cautions[0]
    backwards = sx.kramers_time(sx.DoubleWell(), jnp.array([0.0]), jnp.array([1.0]), 0.05)
    assert np.isnan(backwards.time) and "index 0" in backwards.cautions[0]
    assert "less than T from one swing" in kramers(0.05, friction=1e-3).cautions[0]
    assert (
        "not critical: |grad L| = "
        in sx.kramers_time(sx.DoubleWell(), jnp.array([-0.9]), jnp.array([0.0]), 0.05).cautions[0]
    )
    with pytest.raises(ValueError, match=r"temperature\n  got 0.0, expected a number above 0"):
        kramers(0.0)
    with pytest.raises(ValueError, match="the form of the minimum"):
        sx.kramers_time(sx.DoubleWell(), jnp.zeros(1), jnp.zeros(2), 0.1)


def test_measured_escape_from_the_double_well():
    """From -1 to +1 at T = 0.4: within three standard errors of the exact passage, and an error of O(h)."""
    found = sx.escape_times(
        sx.Langevin(sx.DoubleWell(), 0.4), jnp.array([-1.0]), lambda x: 1.0 - x[0],
        steps=2000, step_size=0.04, key=KEY, members=1000,
    )  # fmt: skip
    exact = exact_passage(0.4)
    assert bool(found.escaped.all()) and found.cautions == ()
    assert abs(found.mean - exact) < 3 * found.error + 0.04 * exact
    assert found.error / found.mean == pytest.approx(1000**-0.5, rel=0.3)


def test_the_bridge_counts_crossings_within_a_step():
    """Brownian motion leaves (-1, 1) at time 1; seen at the ends of steps alone it is late by 2 * 0.5826 sqrt(h)."""
    members, h = 3000, 0.02
    motion = sx.as_sde(lambda x: 0.0 * x, lambda x: 1.0)
    margin = lambda x: 1.0 - x**2  # noqa: E731
    bridged = sx.escape_times(motion, jnp.array(0.0), margin, steps=400, step_size=h, key=KEY, members=members)
    naive = Absorbing(sx.discretize(motion, sx.EulerMaruyama(), h), margin, None)
    starts = Watched(jnp.zeros(members), jnp.ones(members, bool), jnp.zeros(members, int))
    late = h * float(jnp.mean(sx.ensemble(naive, starts, steps=400, key=KEY, save="last").final.steps))
    assert abs(bridged.mean - 1.0) < 3 * bridged.error + h
    # Overshoot of a Gaussian walk, -zeta(1/2)/sqrt(2 pi) = 0.5826 steps, on both sides.
    assert abs(late - (1 + 0.5826 * h**0.5) ** 2) < 3 * float(bridged.error) + h


def test_escape_of_a_map_is_counted_in_steps():
    """The symmetric walk on the integers leaves (-5, 5) after 25 steps on average."""
    walk = sx.as_map(lambda x, *, key=None: x + jax.random.rademacher(key, (), x.dtype))
    found = sx.escape_times(walk, jnp.array(0.0), lambda x: 5.0 - jnp.abs(x), steps=600, key=KEY, members=2000)
    assert abs(found.mean - 25.0) < 3.5 * found.error


def test_a_run_that_ends_too_early_gives_the_mean_of_exponential_times():
    """Leaving with probability 1/50 a step, watched for 20 steps only."""
    gate = sx.as_map(lambda x, *, key=None: jnp.where(jax.random.uniform(key, ()) < 0.02, -1.0, x))
    found = sx.escape_times(gate, jnp.array(1.0), lambda x: x, steps=20, key=KEY, members=4000)
    assert abs(found.mean - 50.0) < 3.5 * found.error
    assert "had not left when the run ended" in found.cautions[0]


def test_escape_times_refuses():
    bath = sx.Langevin(sx.DoubleWell(), 0.25)
    settings = {"steps": 10, "key": KEY, "members": 10}
    with pytest.raises(ValueError, match=r"got margin -1, expected a start with margin > 0"):
        sx.escape_times(bath, jnp.array([-1.0]), lambda x: x[0], step_size=0.1, **settings)
    with pytest.raises(TypeError, match=r"got bool of shape \(\), expected a real scalar"):
        sx.escape_times(bath, jnp.array([-1.0]), lambda x: x[0] < 0, step_size=0.1, **settings)
    with pytest.raises(ValueError, match="step_size"):
        sx.escape_times(bath, jnp.array([-1.0]), lambda x: 1 - x[0], **settings)
    with pytest.raises(TypeError, match="A Flow leaves at one time"):
        sx.escape_times(sx.as_flow(lambda x: -x), jnp.array([-1.0]), lambda x: 1 - x[0], **settings)


@pytest.mark.slow
def test_measured_underdamped_escape():
    """Friction 1, T = 0.06 (barrier 4.2 T): the formula is within its O(T) of the ensemble, about 10 %."""
    bath = sx.UnderdampedLangevin(sx.DoubleWell(), 1.0, 0.06)
    found = sx.escape_times(
        bath, bath.init(jnp.array([-1.0])), lambda s: 1.0 - s.position[0],
        steps=30_000, step_size=0.1, method=sx.BAOAB(), key=KEY, members=500,
    )  # fmt: skip
    assert abs(found.mean / kramers(0.06, friction=1.0).time - 1) < 0.1 + 3 * found.error / found.mean
