"""Recurrence against its definition written out, and against the closed forms of cycles and of independent draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


def by_definition(points, radius, least, exclude):
    """(rate, determinism, mean length) from the whole matrix, entry by entry."""
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= radius
    lines, total, pairs = [], 0, 0
    for lag in range(exclude, len(points)):
        row = [bool(near[i, i + lag]) for i in range(len(points) - lag)]
        total, pairs = total + sum(row), pairs + len(row)
        length = 0
        for value in [*row, False]:
            if value:
                length += 1
            elif length:
                lines.append(length)
                length = 0
    long = [length for length in lines if length >= least]
    return total / pairs, sum(long) / total, sum(long) / len(long)


@pytest.mark.parametrize(("least", "exclude"), [(2, 1), (3, 5)])
def test_definition_on_a_chaotic_orbit(least, exclude):
    henon = sx.as_map(lambda s: jnp.stack([1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]]))
    path = sx.evolve(henon, jnp.zeros(2), steps=299)
    found = sx.recurrence(path, radius=0.2, least_length=least, exclude=exclude)
    truth = by_definition(np.asarray(path.states), 0.2, least, exclude)
    np.testing.assert_allclose([found.rate, found.determinism, found.mean_length], truth, rtol=1e-12)


def test_a_cycle_returns_after_its_period_and_is_deterministic():
    # At r = 3.5 the logistic map has a stable cycle of period 4.
    logistic = sx.as_map(lambda x: 3.5 * x * (1 - x))
    settled = sx.evolve(logistic, 0.3, steps=2000, save="last").final
    found = sx.recurrence(sx.evolve(logistic, settled, steps=199), radius=1e-6)
    assert float(found.determinism) == 1.0
    assert set(found.return_times.tolist()) == {4} and float(found.mean_return) == 4.0
    # Near pairs are those at lags 4, 8, ..., 196, of 200 points.
    assert float(found.rate) == pytest.approx(sum(200 - lag for lag in range(4, 200, 4)) / (200 * 199 / 2))


def test_a_flow_returns_in_units_of_its_time():
    circle = sx.as_flow(lambda s: jnp.stack([s[1], -s[0]]))
    # Not a whole number of turns: a near pair in the last corner of the matrix would be a line of its own.
    times = jnp.linspace(0.0, 7.5 * np.pi, 751)
    found = sx.recurrence(sx.evolve(circle, jnp.array([1.0, 0.0]), times=times), radius=0.1, exclude=30)
    # Back within 0.1 of the start: at most 0.1 rad before a whole turn, and one sample late.
    assert 2 * np.pi - 0.11 < float(found.mean_return) < 2 * np.pi
    assert float(found.determinism) == 1.0


@pytest.mark.parametrize(("radius", "least"), [(0.1, 2), (0.3, 4)])
def test_independent_draws_have_the_closed_form(radius, least):
    # |u - v| <= r with probability p = 2r - r^2 for uniform u, v; lines are runs of independent trials.
    p = 2 * radius - radius**2
    answers = []
    for key in jax.random.split(jax.random.key(0), 10):
        found = sx.recurrence(jax.random.uniform(key, (600,)), radius=radius, least_length=least)
        answers.append([found.rate, found.determinism, found.mean_length])
    truth = [p, p ** (least - 1) * (least - (least - 1) * p), least + p / (1 - p)]
    errors = np.std(answers, axis=0, ddof=1) / np.sqrt(10)
    # Four standard errors of ten draws, and lines cut off at the border: 2/600 of them are.
    assert np.all(np.abs(np.mean(answers, axis=0) - truth) < 4 * errors + 0.01 * np.array(truth))


def test_a_golden_rotation_returns_after_a_number_of_fibonacci():
    # |x_{i+n} - x_i| = 2 sin(pi |n golden mod 1|), the same for all i.
    golden = (np.sqrt(5) - 1) / 2
    n = np.arange(1500)
    circle = np.stack([np.cos(2 * np.pi * golden * n), np.sin(2 * np.pi * golden * n)], axis=1)
    found = sx.recurrence(jnp.asarray(circle), radius=2 * np.sin(np.pi * 0.01))
    # 55 is the first n with |n golden mod 1| <= 0.01 (34 gives 0.0132).
    assert set(found.return_times.tolist()) == {55}
    near = np.abs(n * golden - np.rint(n * golden)) <= 0.01
    assert float(found.rate) == pytest.approx(np.sum((1500 - n)[near][1:]) / (1500 * 1499 / 2), rel=1e-12)


def test_misuse_is_told():
    with pytest.raises(TypeError, match="Evolve the system first"):
        sx.recurrence(lambda x: x)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda x: sx.recurrence(x).rate)(jnp.ones(20))
    with pytest.raises(ValueError, match="8 to 20000"):
        sx.recurrence(jnp.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        sx.recurrence(jnp.full(20, jnp.nan))
    with pytest.raises(ValueError, match="a positive number"):
        sx.recurrence(jnp.ones(20))
    found = sx.recurrence(jnp.arange(20.0), radius=0.5)
    assert "no two points are near" in found.cautions[0]


def test_the_figure_shows_returns_and_lines():
    found = sx.recurrence(jnp.tile(jnp.array([0.0, 1.0, 5.0]), 20), radius=0.5)
    returns, lines = sx.plotting.plot(found).axes
    assert sum(patch.get_height() for patch in returns.patches) == len(found.return_times) == 57
    assert lines.lines[0].get_ydata()[0] == found.lengths.sum()
