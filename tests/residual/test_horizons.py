"""Which horizon a policy can be trained over: against matrix exponentials, and what `fit` is told."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
import scipy.optimize

import separatrix as sx

EPS = np.finfo(np.float64).eps
PLANT = sx.as_open_flow(lambda x, u: jnp.stack([x[1], 2.0 * x[0] + u]))


class Feedback(eqx.Module):
    """u = -K x."""

    gain: jax.Array

    def __call__(self, x):
        return -self.gain @ x


def closed(gain):
    return np.array([[0.0, 1.0], [2.0 - gain[0], -gain[1]]])


def test_horizon_of_a_linear_loop_is_where_the_matrix_exponential_has_grown_that_far():
    # Not normal: its largest singular value is above exp(rate s) throughout, and the closed form counts that.
    gain = np.array([0.0, -0.5])
    wanted = np.log(1e-3 / EPS)
    size = lambda s: np.log(np.linalg.svd(scipy.linalg.expm(closed(gain) * s))[1][0])
    exact = scipy.optimize.brentq(lambda s: size(s) - wanted, 1.0, 30.0)
    found = sx.residual.trainable_horizon(PLANT, Feedback(jnp.asarray(gain)), jnp.array([1.0, 0.0]), search_time=20.0)
    rate = max(np.linalg.eigvals(closed(gain)).real)
    # Straight lines between rows 20/64 apart, on a curve that is all but straight there.
    assert found.horizon.item() == pytest.approx(exact, rel=1e-4)
    assert found.allowed.item() == pytest.approx(wanted, rel=1e-12)
    assert exact < wanted / rate  # what the exponent alone would say
    assert found.cautions == ()
    # Followed over less it is extrapolated by the rate, and says so.
    short = sx.residual.trainable_horizon(PLANT, Feedback(jnp.asarray(gain)), jnp.array([1.0, 0.0]), search_time=10.0)
    assert short.horizon.item() == pytest.approx(exact, rel=0.02)
    assert "extrapolated: the loop was followed over 10" in short.cautions[0]


def test_single_precision_allows_less_and_a_stable_loop_has_no_end():
    policy = lambda x: 0.0 * x
    plant = sx.as_open_flow(lambda x, u: 2.0 * x + u)
    found = sx.residual.trainable_horizon(plant, policy, jnp.ones(1, jnp.float32), search_time=6.0, accuracy=1e-2)
    assert found.horizon.item() == pytest.approx(np.log(1e-2 / np.finfo(np.float32).eps) / 2, rel=1e-3)
    stable = sx.residual.trainable_horizon(PLANT, Feedback(jnp.array([4.0, 2.0])), jnp.ones(2), search_time=6.0)
    assert stable.horizon.item() == np.inf
    broken = sx.residual.trainable_horizon(sx.as_open_flow(lambda x, u: x**2 + u), policy, jnp.ones(1), search_time=2.0)
    assert np.isnan(broken.horizon)
    assert "breaks on the way" in broken.cautions[0]


def test_an_error_of_the_state_does_pass_the_accuracy_at_that_horizon():
    # The definition by other means: the same loop from a start that is off by eps, along the direction that grows most.
    gain = np.array([0.0, -0.5])
    found = sx.residual.trainable_horizon(PLANT, Feedback(jnp.asarray(gain)), jnp.array([1.0, 0.0]), search_time=20.0)
    worst = np.linalg.svd(scipy.linalg.expm(closed(gain) * found.horizon.item()))[2][0]
    moved = scipy.linalg.expm(closed(gain) * found.horizon.item()) @ (EPS * worst)
    assert np.linalg.norm(moved) == pytest.approx(1e-3, rel=1e-3)


def test_training_is_told_and_cuts_a_horizon_that_cannot_be_known():
    plant = sx.as_open_flow(lambda x, u: 2.0 * x + u)
    quiet = lambda x, u: 0.01 * x[0] ** 2 / (1.0 + x[0] ** 2) + u[0] ** 2
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = sx.residual.train_policy(
            plant, quiet, optax.sgd(0.0), jnp.ones((1, 1)), initial=Feedback(jnp.zeros((1, 1))),
            horizon=20.0, step_size=0.5, steps=1, stages=2,
        )  # fmt: skip
    exact = np.log(1e-3 / EPS) / 2
    assert found.horizons == pytest.approx((10.0, exact), rel=1e-4)
    assert found.trainable == pytest.approx((exact, exact), rel=1e-4)
    words = [str(one.message) for one in told if issubclass(one.category, RuntimeWarning)]
    assert len(words) == 1 and "got a horizon of 20" in words[0] and "at most 14.6, which is taken" in words[0]


@pytest.mark.slow
def test_growing_horizons_find_the_gain_of_riccati_from_a_loop_that_falls():
    # x' = x + u, cost x^2 + u^2: K = 1 + sqrt 2. From K = 0.5 the loop falls at the rate 1/2.
    plant = sx.as_open_flow(lambda x, u: x + u)
    found = sx.residual.train_policy(
        plant, lambda x, u: x[0] ** 2 + u[0] ** 2, optax.adam(optax.cosine_decay_schedule(0.05, 200)), jnp.ones((1, 1)),
        initial=Feedback(jnp.full((1, 1), 0.5)), horizon=8.0, step_size=0.05, steps=200,
    )  # fmt: skip
    assert found.horizons == (2.0, 4.0, 8.0)
    # What is left after T = 8 is exp(-2 sqrt 2 T) of the cost.
    assert found.policy.gain.item() == pytest.approx(1 + np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.residual.trainable_horizon(PLANT, Feedback(jnp.zeros(2)), jnp.ones(2), search_time=0.0), "search_time"),
        (lambda: sx.residual.trainable_horizon(PLANT, Feedback(jnp.zeros(2)), jnp.ones(2), search_time=1.0, accuracy=0.0),
        "accuracy\n  got 0.0, expected a number above 2e-16"),
        (lambda: sx.residual.train_policy(PLANT, lambda x, u: u**2, optax.sgd(0.1), jnp.ones((1, 2)), initial=Feedback(
            jnp.zeros(2)), horizon=1.0, step_size=0.5, steps=1), "at most the first horizon, 0.25"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()
