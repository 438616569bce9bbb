"""Random equations fitted: against regression in closed form, SciPy's normal law, and moments of linear equations."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
import scipy.stats

import separatrix as sx

H, THETA, SIGMA = 0.1, 1.5, 0.6


def ornstein_uhlenbeck(model):
    return sx.as_sde(lambda x: -model[0] * x, lambda x: jnp.exp(model[1]))


OU = ornstein_uhlenbeck


def path(count=2000):
    """Exact transitions: x' = e^(-theta h) x + noise of variance sigma^2 (1 - e^(-2 theta h))/(2 theta)."""
    rng, decay = np.random.default_rng(0), np.exp(-THETA * H)
    noise = SIGMA * np.sqrt((1 - decay**2) / (2 * THETA)) * rng.normal(size=count)
    x = np.zeros(count + 1)
    for n in range(count):
        x[n + 1] = decay * x[n] + noise[n]
    return H * np.arange(count + 1), x[:, None]


def test_the_likeliest_rate_is_that_of_the_regression_and_the_exact_one_its_logarithm():
    times, states = path()
    data = sx.residual.segments(times, states, 1)
    loss = sx.residual.transition_loss(ornstein_uhlenbeck)
    found = sx.fit(loss, optax.lbfgs(1.0, linesearch=None), data, initial=jnp.array([1.0, 0.0]), steps=25)
    now, then = states[:-1, 0], states[1:, 0]
    slope = (now @ then) / (now @ now)
    rest = np.mean((then - slope * now) ** 2)
    assert found.model[0].item() == pytest.approx((1 - slope) / H, rel=1e-6)
    assert jnp.exp(found.model[1]).item() == pytest.approx(np.sqrt(rest / H), rel=1e-6)
    # The exact maximum is -ln(slope)/h; it is off the truth by its standard error, sqrt((1 - slope^2)/n)/(slope h).
    exact = -np.log(1 - found.model[0].item() * H) / H
    assert exact == pytest.approx(-np.log(slope) / H, rel=1e-6)
    assert abs(exact - THETA) < 3 * np.sqrt((1 - slope**2) / len(now)) / (slope * H)


def test_loss_is_the_log_density_of_scipy_with_noise_that_is_shared_and_depends_on_the_state():
    mixing = np.array([[1.0, 0.0, 0.3], [0.5, 0.8, 0.0]])

    def sde_of(gain):
        return sx.as_sde(
            lambda t, x: gain * jnp.stack([x[1], -x[0]]) + t,
            lambda x: lx.MatrixLinearOperator(jnp.asarray(mixing) * (1.0 + x[0] ** 2)),
        )

    rng = np.random.default_rng(1)
    times, states = np.array([0.0, 0.3, 0.4, 1.0]), rng.normal(size=(4, 2))
    data = sx.residual.segments(times, states, 3)
    expected = [
        -scipy.stats.multivariate_normal.logpdf(
            states[n + 1],
            states[n] + h * (0.7 * np.array([states[n, 1], -states[n, 0]]) + times[n]),
            h * mixing @ mixing.T * (1 + states[n, 0] ** 2) ** 2,
        )
        for n, h in enumerate(np.diff(times))
    ]
    loss = sx.residual.transition_loss(sde_of)
    assert loss(jnp.array(0.7), data).item() == pytest.approx(np.mean(expected), rel=1e-12)
    # What was not seen whole counts for nothing: with row 1 gone, the last transition is left.
    states[1, 0] = np.nan
    gone = sx.residual.segments(times, states, 3)
    assert loss(jnp.array(0.7), gone).item() == pytest.approx(expected[2], rel=1e-12)
    gradient = jax.grad(loss)(jnp.array(0.7), gone)
    step = 1e-5
    measured = (loss(jnp.array(0.7 + step), gone) - loss(jnp.array(0.7 - step), gone)) / (2 * step)
    assert gradient.item() == pytest.approx(measured.item(), rel=1e-6)


def test_noise_that_does_not_reach_a_coordinate_has_no_likelihood():
    data = sx.residual.segments(np.arange(3.0), np.ones((3, 2)), 1)
    flat = sx.residual.transition_loss(lambda m: sx.as_sde(lambda x: -m * x, lambda x: jnp.array([1.0, 0.0])))
    assert np.isnan(flat(jnp.array(1.0), data))


def test_moments_of_simulated_paths_are_those_of_the_linear_recursion():
    # Without noise all is known: x_n = (1 - theta h/k)^(k n) x_0, and starts of variance v have that squared times v.
    times, substeps = jnp.array([0.0, 0.2, 0.5]), 4
    starts = np.random.default_rng(0).normal(size=(50, 1))
    silent = lambda theta: sx.as_sde(lambda x: -theta * x, lambda x: 0.0 * x)
    factors = lambda theta: np.cumprod([1.0, (1 - theta * 0.2 / 4) ** 4, (1 - theta * 0.3 / 4) ** 4])
    paths = factors(1.0)[None, :, None] * starts[:, None]
    loss = sx.residual.moment_loss(silent, times, substeps=substeps)
    mean, width = starts.mean(), starts.var(ddof=1)
    right, wrong = factors(1.0)[1:], factors(2.0)[1:]
    scale = np.mean(width * right**2)
    expected = np.mean((wrong - right) ** 2 * mean**2 / scale + (wrong**2 - right**2) ** 2 * width**2 / scale**2)
    assert loss(jnp.array(2.0), paths, key=jax.random.key(0)).item() == pytest.approx(expected, rel=1e-10)
    assert loss(jnp.array(1.0), paths, key=jax.random.key(0)).item() < 1e-25


@pytest.mark.slow
def test_rate_and_noise_are_found_by_moments_where_steps_are_far_apart():
    # Paths from 1 at instants 0.7 apart, where the step of Euler and Maruyama would be off by half.
    times, rng = np.array([0.0, 0.7, 1.4]), np.random.default_rng(2)
    decay = np.exp(-THETA * 0.7)
    noise = SIGMA * np.sqrt((1 - decay**2) / (2 * THETA)) * rng.normal(size=(1500, 2))
    first = decay + noise[:, 0]
    paths = np.stack([np.ones(1500), first, decay * first + noise[:, 1]], axis=1)[..., None]
    loss = sx.residual.moment_loss(ornstein_uhlenbeck, times, substeps=10)
    found = sx.fit(
        loss, optax.adam(optax.cosine_decay_schedule(0.05, 120)), jnp.asarray(paths),
        initial=jnp.array([1.0, -1.0]), steps=120, key=jax.random.key(3),
    )  # fmt: skip
    # Means are known to 0.3/sqrt(1500) = 0.008 of 0.35, which is 2 % of the rate.
    # Noise adds as much, and Euler's step of 0.07 errs by 5 %.
    assert found.model[0].item() == pytest.approx(THETA, rel=0.12)
    assert jnp.exp(found.model[1]).item() == pytest.approx(SIGMA, rel=0.12)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: sx.residual.moment_loss(OU, np.array([0.0, 0.0])), ValueError, "two or more that increase"),
        (lambda: sx.residual.moment_loss(OU, np.arange(2.0), substeps=0), ValueError, "substeps\n  got 0"),
        (lambda: sx.residual.moment_loss(OU, np.arange(2.0))(jnp.ones(2), jnp.ones((5, 3, 1)),
        key=jax.random.key(0)), ValueError, r"got shape \(5, 3, 1\), expected \(P, 2, d\)"),
        (lambda: sx.residual.transition_loss(lambda m: sx.as_flow(lambda x: -x))(0, None), TypeError, "got FunctionFlow"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
