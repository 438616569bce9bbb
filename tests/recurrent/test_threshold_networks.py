"""Threshold networks: the annealed theory in closed form, and damage that spreads in networks of finite size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import separatrix as sx
from separatrix import recurrent
from separatrix.recurrent._wiring import distinct

KEY = jax.random.key(0)


@pytest.mark.parametrize("inputs", [2, 3, 4, 7])
def test_without_input_the_chance_is_an_angle(inputs):
    found = recurrent.flip_probability(1, inputs, 0.7)
    assert float(found) == pytest.approx(2 / np.pi * np.arctan(1 / np.sqrt(inputs - 1)), rel=1e-13)


def test_with_input_the_chance_is_that_of_a_bivariate_normal():
    inputs, variance, field = 5, 0.6, 0.8
    for differing in (1, 3, 4):
        rho, size = 1 - 2 * differing / inputs, inputs * variance
        pair = scipy.stats.multivariate_normal(cov=[[size, rho * size], [rho * size, size]])
        low = pair.cdf([-field, -field])
        truth = 2 * (scipy.stats.norm.cdf(-field / size**0.5) - low)
        assert float(recurrent.flip_probability(differing, inputs, variance, field)) == pytest.approx(truth, abs=1e-6)
    # All differ: h and -h lie on two sides of the border unless |h| < |u|.
    alone = 1 - 2 * (scipy.stats.norm.cdf(field / 3**0.5) - 0.5)
    assert float(recurrent.flip_probability(5, 5, 0.6, field)) == pytest.approx(alone, rel=1e-12)


def test_critical_variances():
    assert recurrent.critical_variance(4) == pytest.approx(0.478588, abs=5e-7)
    assert recurrent.critical_variance(3) == pytest.approx(1.182856, abs=5e-7)
    assert recurrent.critical_variance(2) == np.inf and recurrent.critical_variance(1) == np.inf
    # A mean input moves it up; the border is where the gain is 1, and the gain is the slope of the map at 0.
    moved = recurrent.critical_variance(4, mean=0.5, share=0.3)
    assert moved != pytest.approx(0.478588, rel=0.01)
    assert recurrent.damage_gain(4, moved, mean=0.5, share=0.3) == pytest.approx(1.0, abs=1e-12)
    slope = float(recurrent.damage_map(1e-7, 4, 0.9, mean=0.5, share=0.3)) / 1e-7
    assert recurrent.damage_gain(4, 0.9, mean=0.5, share=0.3) == pytest.approx(slope, rel=1e-5)


def test_damage_after_a_step_is_that_of_the_map():
    """One step from random states: weights are new, so that the annealed chance is exact, up to the draw."""
    size, inputs, variance, start, field = 20_000, 4, 0.8, 0.3, 1.2
    network = recurrent.threshold_network(size, inputs, variance, key=KEY)
    keys = jax.random.split(jax.random.key(1))
    first = jax.random.rademacher(keys[0], (size,), jnp.float64)
    flips = jax.random.bernoulli(keys[1], start, (size,))
    second = jnp.where(flips, -first, first)
    step = jax.jit(jax.vmap(lambda state: network.step(0, state, field)))
    after = step(jnp.stack([first, second]))
    measured = float(jnp.mean(after[0] != after[1]))
    chance = scipy.stats.binom.pmf(np.arange(inputs + 1), inputs, float(jnp.mean(flips)))
    truth = float(chance @ recurrent.flip_probability(np.arange(inputs + 1), inputs, variance, field))
    # Units share inputs: four standard errors of independent ones.
    assert measured == pytest.approx(truth, abs=4 * (truth * (1 - truth) / size) ** 0.5)
    halves = [float(recurrent.damage_map(0.3, inputs, variance, mean=field - 1, share=share)) for share in (1.0, 0.0)]
    exact = scipy.stats.binom.pmf(np.arange(inputs + 1), inputs, 0.3)
    for half, u in zip(halves, (field, field - 2), strict=True):
        law = recurrent.flip_probability(np.arange(inputs + 1), inputs, variance, u)
        assert half == pytest.approx(float(exact @ law), rel=1e-12)


def test_damage_dies_below_the_critical_variance_and_stays_above_it():
    size, inputs = 500, 4
    critical = recurrent.critical_variance(inputs)

    def damage(variance, key):
        keys = jax.random.split(key, 3)
        network = recurrent.threshold_network(size, inputs, variance, key=keys[0])
        driven = sx.drive(network, jax.random.rademacher(keys[1], (150,), jnp.float64))
        first = jax.random.rademacher(keys[2], (size,), jnp.float64)
        second = first.at[: size // 10].multiply(-1)
        ends = [sx.evolve(driven, state, save="last").final for state in (first, second)]
        return jnp.mean(ends[0] != ends[1])

    keys = jax.random.split(KEY, 8)
    found = np.asarray(
        jax.jit(jax.vmap(jax.vmap(damage, (None, 0)), (0, None)))(jnp.asarray([0.3, 3.0]) * critical, keys)
    )
    assert np.max(found[0]) <= 0.01
    # The fixed point of the annealed map, iterated from the same damage; fixed weights remember, hence the slack.
    d = 0.1
    for _ in range(300):
        d = float(recurrent.damage_map(d, inputs, 3 * critical))
    assert d > 0.1
    assert np.mean(found[1]) == pytest.approx(d, rel=0.35)


def test_no_unit_hears_itself_or_another_twice():
    network = recurrent.threshold_network(30, 6, 1.0, key=KEY)
    columns = np.asarray(network.columns)
    assert all(len(set(row)) == 6 and number not in row for number, row in enumerate(columns))
    assert columns.min() == 0 and columns.max() == 29


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recurrent.threshold_network(4, 4, 1.0, key=KEY), "size\n  got 4, expected a whole number >= 5"),
        (lambda: recurrent.threshold_network(9, 4, 0.0, key=KEY), "variance\n  got 0.0"),
        (lambda: recurrent.flip_probability(5, 4, 1.0), "differing\n  got 5, expected 0 to 4"),
        (lambda: recurrent.damage_map(1.5, 4, 1.0), "distance\n  got 1.5"),
        (lambda: recurrent.critical_variance(0), "inputs\n  got 0"),
    ],
)
def test_numbers_without_a_meaning_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("total", "count"), [(5, 3), (40, 33)])
def test_numbers_that_are_drawn_are_different_and_even(total, count):
    drawn = np.asarray(distinct(KEY, 4000, total, count))
    assert all(len(set(row)) == count for row in drawn.tolist())
    shares = np.bincount(drawn.ravel(), minlength=total) / 4000
    # Each number is in a row with probability count/total; the largest of `total` deviations within five errors.
    p = count / total
    np.testing.assert_allclose(shares, p, atol=5 * (p * (1 - p) / 4000) ** 0.5)
    if count == 3:
        first = np.bincount(drawn[:, 0], minlength=total) / 4000
        np.testing.assert_allclose(first, 1 / total, atol=5 * (0.16 / 4000) ** 0.5)
