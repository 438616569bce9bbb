"""Samples and likelihoods of a run that does not get to its end are NaN; numbers out of range are refused in words."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import diffusion
from separatrix._errors import Diverged

KEY = jax.random.key(0)
NORMAL = diffusion.GaussianMixture([1.0], [[0.5]], [0.8])
NAN = float("nan")


def test_a_likelihood_that_is_not_reached_is_nan():
    """Under x' = -2x + 1 to T = 1: log p_0(x) = log N(x_T; 0, 1) - 2, with x_T = 1/2 + (x - 1/2) e^-2."""
    flow, x = sx.as_flow(lambda x: 1.0 - 2.0 * x), jnp.array([0.3])
    normal = diffusion.Brownian(1.0).prior_log_density
    end = 0.5 + (0.3 - 0.5) * np.exp(-2)
    whole = -0.5 * end**2 - 0.5 * np.log(2 * np.pi) - 2
    assert diffusion.log_likelihood(flow, x, (0.0, 1.0), normal).item() == pytest.approx(whole, rel=1e-5)
    value, slope = jax.value_and_grad(lambda x: diffusion.log_likelihood(flow, x, (0.0, 1.0), normal, max_steps=2))(x)
    assert np.isnan(value) and not np.isfinite(slope).any()
    with pytest.raises(Diverged, match="step_limit"):
        diffusion.log_likelihood(flow, x, (0.0, 1.0), normal, max_steps=2, throw=True)


@pytest.mark.parametrize("method", [sx.EulerMaruyama(), sx.Heun(), diffrax.Tsit5()])
def test_samples_of_a_score_that_explodes_are_nan(method):
    """With the score x^3 the way back is infinite before its end."""
    settings = {"method": method} | ({"steps": 50} if not isinstance(method, diffrax.Tsit5) else {})
    run = lambda **more: diffusion.sample(
        diffusion.Brownian(1.0), lambda t, x: 40 * x**3, KEY, (2,), **settings, **more
    )
    path = run()
    assert np.isnan(path.final).all() and not bool(path.outcome.reached) and np.isfinite(path.last).all()
    with pytest.raises(Diverged, match="evolve: "):
        run(throw=True)


def test_labels_that_are_none_are_nan_where_they_are_traced():
    network = diffusion.ScoreMLP(1, 4, 1, classes=2, key=KEY, dtype=jnp.float64)
    guesses = jax.vmap(lambda label: network(jnp.array(0.5), jnp.ones(1), label)[0])(jnp.array([0, 1, 2, 3, -1]))
    assert np.isnan(guesses).tolist() == [False, False, False, True, True]
    # The last, for no label, is its own; plain indexing would give it to -1 and 3.
    assert len(set(np.asarray(guesses[:3]).tolist())) == 3
    loss = diffusion.DenoisingScoreMatching(diffusion.VP())
    value = jax.jit(lambda labels: loss(network, (jnp.ones((3, 1)), labels), key=KEY))
    assert np.isfinite(value(jnp.array([0, 2, 1]))) and np.isnan(value(jnp.array([0, 3, 1])))
    assert np.isnan(value(jnp.array([0, 1, -1])))


PLAIN = diffusion.ScoreMLP(1, 4, 1, key=KEY)
LABELLED = diffusion.ScoreMLP(1, 4, 1, classes=2, key=KEY)


def draw(**changes):
    return diffusion.sample(diffusion.VP(), lambda t, x: -x, KEY, (2,), **changes)


REFUSED = {
    "the prior as a sample": (lambda: draw(steps=0), ValueError, "steps\n  got 0.*the prior itself"),
    "half a step": (lambda: draw(steps=1.5), ValueError, "steps\n  got 1.5"),
    "steps of a solver": (
        lambda: draw(steps=10, method=diffrax.Tsit5()), ValueError, "10 with Tsit5, expected none.*chooses its own"
    ),
    "a negative time": (lambda: draw(earliest=-0.1), ValueError, "earliest\n  got -0.1"),
    "a time past the horizon": (lambda: draw(earliest=1.0), ValueError, "earliest and the horizon\n  got 1.0 and 1.0"),
    "a time of NaN": (lambda: draw(earliest=NAN), ValueError, "earliest\n  got nan"),
    "no samples": (lambda: diffusion.sample(diffusion.VP(), lambda t, x: x, KEY, (0, 2)), ValueError, "shape\n  got 0"),
    "mass 1.4": (
        lambda: diffusion.GaussianMixture([0.7, 0.7], [[0.0], [1.0]], [1.0, 1.0]), ValueError, "sum of 1.4, expected 1"
    ),
    "a negative weight": (
        lambda: diffusion.GaussianMixture([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]), ValueError, r"got -0.5 at index \[1\]"
    ),
    "a weight of NaN": (lambda: diffusion.GaussianMixture([NAN], [[0.0]], [1.0]), ValueError, "weights\n  got nan"),
    "a negative scale": (lambda: diffusion.GaussianMixture([1.0], [[0.0]], [-1.0]), ValueError, "scales\n  got -1.0"),
    "an infinite mean": (lambda: diffusion.GaussianMixture([1.0], [[np.inf]], [1.0]), ValueError, "means\n  got inf"),
    "crossed betas": (lambda: diffusion.VP(20.0, 0.1), ValueError, "beta_min and beta_max\n  got 20.0 and 0.1"),
    "a negative beta": (lambda: diffusion.VP(-0.1, 20.0), ValueError, "beta_min\n  got -0.1"),
    "no beta": (lambda: diffusion.VP(0.0, 0.0), ValueError, "beta_max\n  got 0.0"),
    "crossed sigmas": (lambda: diffusion.VE(10.0, 0.1), ValueError, "sigma_min and sigma_max\n  got 10.0 and 0.1"),
    "equal sigmas": (lambda: diffusion.VE(1.0, 1.0), ValueError, "got 1.0 and 1.0"),
    "a sigma of 0": (lambda: diffusion.VE(0.0, 1.0), ValueError, "sigma_min\n  got 0.0"),
    "a sigma of NaN": (lambda: diffusion.VE(0.1, NAN), ValueError, "sigma_max\n  got nan"),
    "no horizon": (lambda: diffusion.Brownian(0.0), ValueError, "horizon\n  got 0.0"),
    "an infinite horizon": (lambda: diffusion.Brownian(np.inf), ValueError, "horizon\n  got inf"),
    "a schedule of one": (lambda: diffusion.alpha_bar(1), ValueError, "steps\n  got 1"),
    "a falling schedule": (lambda: diffusion.alpha_bar(10, 0.5, 0.1), ValueError, "0.5 to 0.1"),
    "a drop of 2": (lambda: diffusion.DenoisingScoreMatching(diffusion.VP(), drop=2.0), ValueError, "drop\n  got 2.0"),
    "learning past the horizon": (
        lambda: diffusion.DenoisingScoreMatching(diffusion.VP(), earliest=2.0), ValueError, "got 2.0 and 1.0"
    ),
    "no process": (lambda: diffusion.DenoisingScoreMatching(3.0), TypeError, "got float, expected a NoisingProcess"),
    "guidance without labels": (
        lambda: diffusion.score_of(diffusion.VP(), PLAIN, guidance=1.0), ValueError, "1.0, expected 0"
    ),
    "negative guidance": (
        lambda: diffusion.score_of(diffusion.VP(), LABELLED, jnp.array([0]), -1.0), ValueError, "guidance\n  got -1.0"
    ),
    "labels of a network without": (
        lambda: diffusion.score_of(diffusion.VP(), PLAIN, jnp.array([0])), TypeError, "classes=None"
    ),
    "a label too many": (
        lambda: diffusion.score_of(diffusion.VP(), LABELLED, jnp.array([0, 3])), ValueError, r"got 3 at index \[1\]"
    ),
    "a label for a network without": (
        lambda: PLAIN(jnp.float32(0.5), jnp.ones(1, jnp.float32), 1), ValueError, "a label, expected none"
    ),
    "no width": (lambda: diffusion.ScoreMLP(1, 0, key=KEY), ValueError, "width\n  got 0"),
    "no classes": (lambda: diffusion.ScoreMLP(1, 4, classes=0, key=KEY), ValueError, "classes\n  got 0"),
    "no depth": (lambda: diffusion.ScoreMLP(1, 4, depth=0, key=KEY), ValueError, "depth\n  got 0"),
    "a likelihood of integers": (
        lambda: diffusion.log_likelihood(sx.as_flow(lambda x: -x), jnp.array([1]), (0.0, 1.0), jnp.sum),
        TypeError, "got int64"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_out_of_range_are_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3


def test_parameters_that_are_traced_pass():
    """d/db of alpha^2(1) = exp(-(b0 + b1)/2) is -alpha^2/2."""
    slope = jax.grad(lambda b: diffusion.VP(b, 2.0).marginal(1.0)[0] ** 2)(0.5)
    assert slope.item() == pytest.approx(-np.exp(-1.25) / 2, rel=1e-12)
    # Weights stored in single precision sum to one within it.
    shares = np.full(7, 1 / 7, np.float32)
    assert diffusion.GaussianMixture(shares, np.zeros((7, 1)), np.ones(7)).weights.dtype == jnp.float32
