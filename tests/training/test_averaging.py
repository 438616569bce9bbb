"""The average with a power-function profile: its profile as weights of steps, its width, and `fit` with it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.training import PowerAverage

NUMBERS = jnp.array([1.0, 3.0, 8.0, 4.0])


def weights_of(average, count):
    """What each of so many steps counts for: (1 - d_k) times the later d."""
    factors = np.asarray(average.factor(np.arange(count)))
    later = np.append(np.cumprod(factors[::-1])[::-1][1:], 1.0)
    return (1 - factors) * later


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_profile_has_the_width_that_was_asked_for(width):
    """Whatever the length of the run: the standard deviation of (k/n) is the width, up to an error of 1/n."""
    for count in (1000, 4000):
        weights, places = weights_of(PowerAverage(width), count), (np.arange(count) + 1) / count
        assert weights.sum() == pytest.approx(1, rel=1e-12)  # nothing of the start is left
        spread = np.sqrt(weights @ places**2 - (weights @ places) ** 2)
        assert spread == pytest.approx(width, abs=2 / count)
    c = PowerAverage(width).exponent
    assert (c + 1) ** 0.5 / (c + 2) / (c + 3) ** 0.5 == pytest.approx(width, rel=1e-9)


def test_fit_keeps_it_along_a_run_that_is_cut():
    """x = 4 (1 - 0.8^n) by descent on a square; the average is the sum of x with the weights above."""
    settings = {"initial": jnp.array(0.0), "every": 1, "average": PowerAverage(0.15)}

    def spread(centre, numbers):
        return jnp.mean((numbers - centre) ** 2)

    found = sx.fit(spread, optax.sgd(0.1), NUMBERS, steps=20, **settings)
    x = 4 * (1 - 0.8 ** np.arange(1, 21))
    np.testing.assert_allclose(found.averaged, weights_of(PowerAverage(0.15), 20) @ x, rtol=1e-12)
    first = sx.fit(spread, optax.sgd(0.1), NUMBERS, steps=7, **settings)
    rest = sx.fit(spread, optax.sgd(0.1), NUMBERS, steps=13, start=7, state=first.state, **settings)
    np.testing.assert_array_equal(rest.averaged, found.averaged)


def test_widths_out_of_range_are_refused_in_words():
    for width, words in ((0.0, "got 0.0"), (0.3, "got 0.3, expected at most 0.2886"), (float("nan"), "got nan")):
        with pytest.raises(ValueError, match=f"PowerAverage: width\n  {words}"):
            PowerAverage(width)
