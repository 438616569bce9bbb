"""What is measured of a generator and of a run, against laws that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import games

ANGLES = 2 * np.pi * np.arange(8) / 8
RING = jnp.asarray(2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1))


def drawn(key, modes, count, deviation=0.1):
    which, noise = jax.random.split(key)
    return modes[jax.random.randint(which, (count,), 0, len(modes))] + deviation * jax.random.normal(noise, (count, 2))


def test_modes_of_a_ring_are_counted():
    points = drawn(jax.random.key(0), RING, 20_000)
    found = games.mode_coverage(points, RING, 0.1)
    inside = 1 - np.exp(-4.5)
    assert int(found.count) == 8
    # Five standard errors of a share of 20,000.
    np.testing.assert_allclose(found.quality, inside, atol=5 * np.sqrt(inside * (1 - inside) / 20_000))
    np.testing.assert_allclose(found.due, inside / 8, rtol=1e-9)
    half = games.mode_coverage(points[points[:, 1] > 1.0], RING, 0.1)
    assert int(half.count) == 3 and half.reached.tolist() == [False, True, True, True, *[False] * 4]
    none = games.mode_coverage(jnp.zeros((10, 2)), RING, 0.1)
    assert (int(none.count), float(none.quality)) == (0, 0.0) and "draw more" in none.cautions[0]


def test_modes_of_unequal_weight_are_due_unequally():
    modes, weights = jnp.array([[0.0, 0.0], [5.0, 0.0]]), jnp.array([0.98, 0.02])
    points = jnp.concatenate([jnp.zeros((990, 2)), jnp.tile(modes[1:], (10, 1))])
    assert int(games.mode_coverage(points, modes, 0.1, weights=weights).count) == 2
    assert int(games.mode_coverage(points, modes, 0.1).count) == 1


def test_quality_of_data_among_data_and_of_samples_that_lack_a_half():
    keys = jax.random.split(jax.random.key(1), 3)
    real, same = (jax.random.normal(key, (800, 2)) for key in keys[:2])
    found = games.sample_quality(real, same, neighbours=5)
    error = 5 * np.sqrt(0.05 * 0.95 / 800)
    np.testing.assert_allclose(found.expected_coverage, 1 - np.prod((800 - np.arange(1, 6)) / (1600 - np.arange(1, 6))))
    np.testing.assert_allclose(found.coverage, found.expected_coverage, atol=error)
    assert float(found.density) == pytest.approx(1.0, abs=0.1)
    # Half of the data: what is drawn is among them, what they are is not among what is drawn.
    half = games.sample_quality(real, same[same[:, 0] > 0], neighbours=5)
    assert float(half.precision) > 0.95 and float(half.recall) == pytest.approx(0.5, abs=0.1)
    # Turned round: samples twice as wide cover the data, and many lie beyond.
    wide = games.sample_quality(real, 3 * same, neighbours=5)
    assert float(wide.recall) > 0.9 and float(wide.precision) < 0.7


def test_precision_and_recall_by_hand():
    # Balls of the nearest neighbour: data at 0, 1, 10 with radii 1, 1, 9; samples at 0.5, 30 with radius 29.5.
    real, fake = jnp.array([[0.0], [1.0], [10.0]]), jnp.array([[0.5], [30.0]])
    found = games.sample_quality(real, fake, neighbours=1)
    assert (float(found.precision), float(found.recall)) == (0.5, 1.0)
    # 0.5 lies in the balls of 0 and 1 (and 9.5 from 10, beyond 9); 30 in none; 2 of 3 balls hold a sample.
    assert float(found.density) == 1.0 and float(found.coverage) == pytest.approx(2 / 3)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_collapse_is_of_size_or_of_directions(scale):
    data = scale * jax.random.normal(jax.random.key(0), (4000, 5))
    same = games.collapse(data[:2000], data[2000:])
    assert float(same.spread) == pytest.approx(1.0, abs=0.05) and not bool(same.collapsed)
    # Covariance exactly 0.04 of the data's, and on one line of five.
    small = games.collapse(0.2 * data, data)
    assert float(small.spread) == pytest.approx(0.04, rel=1e-12) and bool(small.collapsed)
    line = games.collapse(data * jnp.array([[2.0, 0.0, 0.0, 0.0, 0.0]]), data)
    assert float(line.directions) == pytest.approx(1 / 5, rel=0.01) and bool(line.collapsed)
    assert bool(games.collapse(jnp.ones((50, 5)), data).collapsed)
    assert not small.findings()[0].holds and "collapsed" in small.findings()[0].cause


def test_the_alarm_runs_over_a_population_at_once():
    data = jax.random.normal(jax.random.key(0), (200, 3))
    scales = jnp.array([1.0, 0.2, 0.5, 0.05])
    found = jax.vmap(lambda s: games.collapse(s * data, data).collapsed)(scales)
    assert found.tolist() == [False, True, False, True]


def test_a_run_that_collapses_is_told_from_one_that_is_slow():
    ones = jnp.ones(4)
    table = {
        "falls": (jnp.array([0.02, 0.8, 0.9, 0.05]), ones, [False, False, False, True], 3),
        "loses directions": (ones, jnp.array([0.5, 1.0, 0.3, 0.2]), [False, False, True, True], 2),
        "comes back": (jnp.array([0.9, 0.05, 0.5, 1.0]), ones, [False, True, False, False], None),
        "is slow": (jnp.array([0.01, 0.02, 0.03, 0.05]), ones, [False] * 4, None),
        "breaks": (jnp.array([0.5, 0.9, jnp.nan, jnp.nan]), ones, [False, False, True, True], 2),
    }
    for name, (spread, directions, alarms, first) in table.items():
        found = games.collapse_in(games.Collapse(spread, directions))
        assert (found.alarms.tolist(), found.first) == (alarms, first), name
        assert ("never spread" in " ".join(found.cautions)) is (name == "is slow"), name
    with pytest.raises(ValueError, match=r"spread of shape \(\)"):
        games.collapse_in(games.Collapse(jnp.array(1.0), jnp.array(1.0)))
    with pytest.raises(TypeError, match="expected a Collapse"):
        games.collapse_in(jnp.ones(3))


def test_the_turn_of_a_run_is_measured_in_sense_number_and_growth():
    h = 0.2
    descent = sx.games.SimultaneousDescent(sx.games.Bilinear(1.0), h)
    path = sx.evolve(descent, (jnp.array(1.0), jnp.array(0.0)), steps=157, save=lambda s: jnp.stack(s)).states
    found = games.cycle_in(path)
    # x + iy turns by arctan h a step and grows by sqrt(1 + h^2); the ends of five turns are what is not exact.
    assert abs(float(found.rotation)) == pytest.approx(np.arctan(h), rel=0.02)
    assert float(found.growth) == pytest.approx(np.sqrt(1 + h**2), rel=0.01)
    assert found.cycles and abs(float(found.turns)) == pytest.approx(157 * np.arctan(h) / (2 * np.pi), rel=0.02)
    falls = games.cycle_in(jnp.exp(-jnp.linspace(0, 5, 60))[:, None] * jnp.array([[1.0, 2.0, 3.0]]))
    assert not falls.cycles
    noise = games.cycle_in(jax.random.normal(jax.random.key(0), (200, 6)))
    assert not noise.cycles


@pytest.mark.parametrize(("size", "turn"), [(0.8, 0.5), (0.95, -0.3)])
def test_noise_biases_the_mean_angle_and_not_the_fitted_multiplier(size, turn):
    # z' = mu z + noise at rest, circular: the law of the module; four standard errors of what is measured.
    rng, n, mu = np.random.default_rng(0), 20_000, size * np.exp(1j * turn)
    noise = (rng.standard_normal(n) + 1j * rng.standard_normal(n)) * np.sqrt(1 - size**2)
    z = np.zeros(n, complex)
    for i in range(1, n):
        z[i] = mu * z[i - 1] + noise[i]
    found = games.cycle_in(np.stack([z.real, z.imag], axis=1))
    assert abs(abs(found.turn) - abs(turn)) < 4 * float(found.multiplier_error) / size
    assert abs(complex(found.multiplier)) == pytest.approx(size, abs=4 * float(found.multiplier_error))
    assert float(found.multiplier_error) == pytest.approx(np.sqrt((1 - size**2) / n), rel=0.05)
    c, s = np.cos(turn), np.sin(abs(turn))
    biased = size * s * np.arccos(size * c) / np.sqrt(1 - (size * c) ** 2)
    # Angles of neighbours spread by about 1: 4/sqrt(n), with what is correlated.
    assert abs(float(found.rotation)) == pytest.approx(biased, abs=0.03) and biased < abs(turn) - 0.01


def test_on_common_noise_the_difference_of_two_runs_turns_as_predicted():
    # Wasserstein's Dirac-GAN with noise on the slope of the second player: linear, mu = 1 - g h/2 +- i h sqrt(1 - g^2/4).
    h, g = 0.2, 0.4

    def game(players, *, key=None):
        theta, psi = players
        shake = 0.0 if key is None else 3.0 * jax.random.normal(key)
        return theta * psi, g / 2 * psi**2 - theta * psi + shake * psi

    descent, ends = games.SimultaneousDescent(game, h), []
    for start in (1.0, 1.5):
        path = sx.evolve(
            descent, (jnp.array(start), jnp.array(0.0)), steps=60, key=jax.random.key(4), save=lambda s: jnp.stack(s)
        )
        ends.append(np.asarray(path.states))
    found = games.cycle_in(ends[1] - ends[0])
    told = games.advise(descent, (jnp.array(0.0), jnp.array(0.0)), slack=0.0)
    assert told.rotation == pytest.approx(np.arctan2(h * np.sqrt(1 - g**2 / 4), 1 - g * h / 2), rel=1e-12)
    assert abs(found.turn) == pytest.approx(told.rotation, rel=1e-6)
    assert abs(complex(found.multiplier)) == pytest.approx(told.decay, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: games.mode_coverage(jnp.zeros((5, 3)), RING, 0.1), r"samples \(5, 3\)"),
        (lambda: games.mode_coverage(jnp.zeros((5, 2)), RING, 0.0), "deviation\n  got 0.0"),
        (lambda: games.mode_coverage(jnp.zeros((5, 2)), RING, 0.1, weights=jnp.ones(3)), r"\(3,\), expected \(8,\)"),
        (lambda: games.sample_quality(jnp.zeros((9, 2)), jnp.zeros((9, 3))), "points of one shape"),
        (lambda: games.sample_quality(jnp.zeros((9, 2)), jnp.zeros((4, 2))), "neighbours\n  got 5, expected 1 to 3"),
        (lambda: games.collapse(jnp.zeros((9, 2)), jnp.zeros((9, 3))), r"\(9, 2\) and \(9, 3\)"),
        (lambda: games.cycle_in(jnp.zeros((7, 2))), r"n >= 8"),
    ],
)
def test_misuse_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
