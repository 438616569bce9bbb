"""Cycles against closed forms: counts, exact points, periods, multipliers; and Liouville's formula."""

from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import separatrix as sx


class Logistic(eqx.Module):
    r: jax.Array

    def __call__(self, x):
        return self.r * x * (1 - x)


def logistic(r):
    return sx.as_map(Logistic(jnp.asarray(r)))


@pytest.mark.parametrize(("k", "segments", "prime"), [(4, 4, {1: 2, 2: 1, 4: 3}), (6, 1, {1: 2, 2: 1, 3: 2, 6: 9})])
def test_every_cycle_of_the_logistic_map_at_four(k, segments, prime):
    found = sx.periodic_orbits(logistic(4.0), region=(0.0, 1.0), starts=2048, period=k, segments=segments)
    periods = found.periods.astype(int).tolist()
    assert {m: periods.count(m) for m in set(periods)} == prime
    # x = sin^2(pi t) doubles t mod 1, up to its sign: F^m has slope +-2^m along a cycle; at 0 it is 4^m, at an end.
    for m, values, orbit in zip(periods, found.multipliers, found.coordinates[:, :, 0], strict=True):
        size = 4.0 if float(jnp.max(orbit)) < 1e-9 else 2.0**m
        assert abs(values[0]) == pytest.approx(size, rel=1e-6)
        t = np.arcsin(np.sqrt(np.clip(orbit, 0, 1))) / np.pi
        n = np.rint(t * (2**m - 1)), np.rint(t * (2**m + 1))
        # All points are at t = j/(2^m - 1) or j/(2^m + 1).
        exact = np.minimum(abs(t - n[0] / (2**m - 1)), abs(t - n[1] / (2**m + 1)))
        assert np.max(exact) < 1e-7


@pytest.mark.parametrize("r", [3.2, 3.6])
def test_the_two_cycle_of_the_logistic_map(r):
    found = sx.periodic_orbits(logistic(r), region=(0.0, 1.0), starts=64, period=2)
    points = np.sort(found.coordinates[2, :, 0])
    np.testing.assert_allclose(points, np.sort(np.roots([r * r, -r * (1 + r), 1 + r])), atol=1e-12)
    assert found.periods.tolist() == [1, 1, 2]
    assert complex(found.multipliers[2, 0]) == pytest.approx(4 + 2 * r - r**2, abs=1e-10)
    assert found.kinds[2] == ("stable cycle" if r < 1 + np.sqrt(6) else "unstable cycle")
    np.testing.assert_allclose(np.sort(np.real(found.multipliers[:2, 0])), [2 - r, r], atol=1e-10)


def test_the_two_cycle_of_henon_and_its_asymmetric_product():
    a, b = 1.4, 0.3
    henon = sx.as_map(lambda s: jnp.stack([1 - a * s[0] ** 2 + s[1], b * s[0]]))
    found = sx.periodic_orbits(henon, region=(jnp.full(2, -2.0), jnp.full(2, 2.0)), period=2)
    x = np.roots([a**2, -a * (1 - b), (1 - b) ** 2 - a])
    np.testing.assert_allclose(np.sort(found.coordinates[2, :, 0]), np.sort(x), atol=1e-12)
    # y_n = b x_{n-1}: of the two points each carries the other.
    np.testing.assert_allclose(found.coordinates[2, :, 1], b * np.asarray(found.coordinates[2, ::-1, 0]), atol=1e-12)
    product = np.array([[-2 * a * x[0], 1], [b, 0]]) @ np.array([[-2 * a * x[1], 1], [b, 0]])
    np.testing.assert_allclose(
        np.sort_complex(found.multipliers[2]), np.sort_complex(np.linalg.eigvals(product).astype(complex)), atol=1e-9
    )
    assert found.periods.tolist() == [1, 1, 2] and np.prod(found.multipliers[2]) == pytest.approx(b**2, abs=1e-10)


def lessard(x):
    """An objective of curvature 25, 1, 25 on three pieces: f' = 25x, x + 24, 25x - 24."""
    pieces = [12.5 * x**2, 0.5 * x**2 + 24 * x - 12, 12.5 * x**2 - 24 * x + 36]
    return jnp.sum(jnp.where(x < 1, pieces[0], jnp.where(x < 2, pieces[1], pieces[2])))


def lessard_cycle():
    """The cycle of period 3 in exact fractions: two points on the first piece, one on the third.

    x[n+1] = (1 + beta) x[n] - beta x[n-1] - alpha f'(x[n]) with x[0] > 2, x[1] and x[2] < 1: three linear equations.
    """
    alpha, beta = Fraction(1, 9), Fraction(4, 9)
    slopes, shifts = [25, 25, 25], [-24, 0, 0]
    rows = [[Fraction(0)] * 4 for _ in range(3)]
    for n in range(3):
        rows[n][(n + 1) % 3] += 1
        rows[n][n] += -(1 + beta) + alpha * slopes[n]
        rows[n][(n - 1) % 3] += beta
        rows[n][3] = -alpha * shifts[n]
    for i in range(3):
        pivot = next(r for r in range(i, 3) if rows[r][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in set(range(3)) - {i}:
            rows[j] = [value - rows[j][i] * own for value, own in zip(rows[j], rows[i], strict=True)]
    return [row[3] for row in rows]


def test_heavy_ball_with_the_best_tuning_for_quadratics_has_a_stable_cycle_of_three():
    exact = lessard_cycle()
    assert exact[0] > 2 and exact[1] < 1 and exact[2] < 1
    ball = sx.optimization.HeavyBall(lessard, learning_rate=1 / 9, momentum=4 / 9)
    path = sx.evolve(ball, ball.init(jnp.array([3.3])), steps=60).states
    found = sx.periodic_orbits(ball, jax.tree.map(lambda leaf: leaf[-8:], path), period=3)
    assert found.periods.tolist() == [3] and found.kinds == ["stable cycle"] and int(found.failed) == 0
    positions = np.asarray(found.states.position)[0, :, 0]
    start = int(np.argmax(positions))
    np.testing.assert_allclose(np.roll(positions, -start), [float(value) for value in exact], atol=1e-13)
    # All three points lie where the curvature is 25: there the step has a double multiplier -2/3, and so its cube.
    np.testing.assert_allclose(np.abs(found.multipliers[0]), (4 / 9) ** 1.5, atol=1e-6)
    # And the minimum is stable too: a run can converge or cycle for ever.
    rest = sx.fixed_points(ball, jax.tree.map(lambda leaf: leaf[:1] * 0.01, path))
    np.testing.assert_allclose(rest.coordinates, [[0.0, 0.0]], atol=1e-12)
    assert rest.kinds[0].startswith("stable")


class Planar(eqx.Module):
    """x' = y + ..., with the coefficients of Van der Pol's equation and of the normal form of Hopf as leaves."""

    mu: jax.Array
    share: jax.Array

    def __call__(self, s):
        x, y = s
        relaxed = jnp.stack([y, self.mu * (1 - x**2) * y - x])
        round = jnp.stack([x - y - x * (x**2 + y**2), x + y - y * (x**2 + y**2)])
        return (1 - self.share) * relaxed + self.share * round


def planar(mu, share):
    return sx.as_flow(Planar(jnp.asarray(mu), jnp.asarray(share)))


def test_van_der_pol_and_liouville():
    guesses = jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = sx.periodic_orbits(planar(1.0, 0.0), guesses, period=6.5)
    # Urabe (1960), and many digits since: T = 6.6632868593...
    assert len(found.periods) == 1 and float(found.periods[0]) == pytest.approx(6.66328685930, abs=2e-9)
    assert found.kinds == ["stable cycle"] and int(found.failed) == 1
    assert float(found.trivial[0]) < 1e-8 and float(found.residuals[0]) < 1e-10
    # The product of the multipliers is exp(int div f): the trapezoidal rule is spectrally exact on a period.
    divergence = np.mean(1 - np.asarray(found.coordinates)[0, :, 0] ** 2) * float(found.periods[0])
    assert float(found.multipliers[0, 0].real) == pytest.approx(np.exp(divergence), rel=1e-6)


def test_the_circle_of_hopf_from_every_phase_and_at_twice_its_period():
    angles = jnp.array([0.3, 2.0, 4.0])
    guesses = 1.1 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    found = sx.periodic_orbits(planar(1.0, 1.0), guesses, period=jnp.array([6.0, 6.5, 12.5]))
    np.testing.assert_allclose(found.periods, [2 * np.pi], rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found.coordinates[0], axis=1), 1.0, atol=1e-9)
    # d(r - r^3)/dr = -2 at r = 1.
    np.testing.assert_allclose(found.multipliers, [[np.exp(-4 * np.pi)]], rtol=1e-4)
    assert found.counts.tolist() == [3]
    # Equally spaced in time: neighbours of the samples are 2 pi/240 apart, whatever the start's own period.
    steps = np.linalg.norm(np.diff(np.asarray(found.coordinates[0]), axis=0), axis=1)
    np.testing.assert_allclose(steps, 2 * np.sin(np.pi / 240), rtol=1e-6)
    assert "found" in str(found)


def test_segments_multiply_in_the_order_of_time_and_the_period_moves_each_end():
    from separatrix.linear.closed_orbits import ClosedOrbit

    def matrix(t):
        return np.array([[0.3 * np.cos(t), 1.0], [-0.4, -0.5 * np.sin(2 * t)]])

    def velocity(t, x):
        return jnp.stack([0.3 * jnp.cos(t) * x[0] + x[1], -0.4 * x[0] - 0.5 * jnp.sin(2 * t) * x[1]])

    # D phi_T of a linear flow that does not commute with itself, from SciPy.
    period, start = 4.7, jnp.array([0.8, -0.3])
    whole = scipy.integrate.solve_ivp(
        lambda t, v: (matrix(t) @ v.reshape(2, 2)).ravel(), (0, period), np.eye(2).ravel(), rtol=1e-11, atol=1e-12
    )
    shooting = ClosedOrbit(sx.as_flow(velocity), closes="drive", segments=3)
    points = shooting.spread(start, jnp.array(period))
    first, second, third = shooting.factors(points, jnp.array(period), start)
    np.testing.assert_allclose(third @ second @ first, whole.y[:, -1].reshape(2, 2), atol=1e-8)
    # Of an autonomous flow the residual of three segments in ln T, by differences.
    free = ClosedOrbit(planar(1.3, 0.2), closes="return", segments=3)
    pinned = free.anchor(start, jnp.array(period))
    z = free.unknowns(free.spread(start, jnp.array(period)), jnp.array(period))
    slope = jax.jvp(lambda z: free(z, pinned), (z,), (jnp.zeros_like(z).at[-1].set(1.0),))[1]
    step = jnp.zeros_like(z).at[-1].set(1e-5)
    differences = (free(z + step, pinned) - free(z - step, pinned)) / 2e-5
    np.testing.assert_allclose(slope, differences, atol=1e-6)


@pytest.mark.slow
def test_a_driven_oscillator_answers_with_the_period_of_its_drive():
    # x'' + c x' + k x = cos(w t): x = Re(e^{iwt}/(k - w^2 + icw)), multipliers exp(lambda T) with the free rates lambda.
    c, k, w = 0.2, 1.7, 1.3
    flow = sx.as_flow(lambda t, s: jnp.stack([s[1], jnp.cos(w * t) - c * s[1] - k * s[0]]))
    period = 2 * np.pi / w
    found = sx.periodic_orbits(flow, jnp.array([[0.0, 0.0], [1.0, -3.0]]), period=period, driven=True, segments=3)
    answer = 1 / (k - w**2 + 1j * c * w)
    np.testing.assert_allclose(found.coordinates[0, 0], [answer.real, (1j * w * answer).real], atol=1e-9)
    np.testing.assert_allclose(found.coordinates[0, 60], [(1j * answer).real, (-w * answer).real], atol=1e-9)
    rates = np.roots([1, c, k])
    np.testing.assert_allclose(
        np.sort_complex(found.multipliers[0]), np.sort_complex(np.exp(rates * period)), atol=1e-9
    )
    assert found.counts.tolist() == [2] and found.kinds == ["stable cycle"] and np.isnan(found.trivial).all()


@pytest.mark.slow
def test_multiple_shooting_closes_the_arenstorf_orbit():
    mu = 0.012277471

    def velocity(s):
        x, y, u, v = s
        a, b = (x + mu) ** 2 + y**2, (x - 1 + mu) ** 2 + y**2
        pull = jnp.stack([(1 - mu) / a**1.5, mu / b**1.5])
        return jnp.stack([u, v, x + 2 * v - pull[0] * (x + mu) - pull[1] * (x - 1 + mu),
                          y - 2 * u - (pull[0] + pull[1]) * y])  # fmt: skip

    start = jnp.array([[0.994, 0.0, 0.0, -2.00158510637908252]])
    found = sx.periodic_orbits(sx.as_flow(velocity), start, period=17.06521656015796, segments=8)
    # One of a family (Jacobi's integral): the start must stay where it is, and so its period.
    np.testing.assert_allclose(found.periods, [17.06521656015796], atol=1e-6)
    np.testing.assert_allclose(found.coordinates[0, 0], start[0], atol=1e-6)
    assert float(np.prod(np.asarray(found.multipliers[0])).real) == pytest.approx(1.0, rel=1e-2)


@pytest.mark.slow
def test_an_unstable_cycle_inside_the_lorenz_attractor_is_found_from_a_close_return():
    lorenz = sx.catalogue.entry("lorenz").build()
    starts = jnp.array([[1.0, 1.0, 20.0], [3.0, 1.0, 20.0], [-2.0, 4.0, 25.0], [5.0, 5.0, 30.0]])
    found = sx.periodic_orbits(lorenz, starts, search_time=40.0, segments=8)
    assert len(found.periods) >= 1
    for values, period in zip(found.multipliers, found.periods, strict=True):
        # Liouville: the divergence is -41/3 everywhere. A product of matrices knows no multiplier below its rounding.
        if period < 2:
            assert np.log(abs(np.prod(values))) == pytest.approx(-41 / 3 * float(period), rel=1e-3)
        assert abs(values[0]) > 1 > 1e-8 > abs(values[1])
    # The shortest has period 1.558652... and winds once about each wing (Viswanath 2003: AB).
    if float(found.periods[0]) < 1.6:
        assert float(found.periods[0]) == pytest.approx(1.558652, abs=1e-5)


def test_misuse_is_told_and_the_figure_shows_each_orbit():
    doubling = logistic(3.2)
    with pytest.raises(ValueError, match="a whole number >= 1"):
        sx.periodic_orbits(doubling, jnp.ones(1))
    for given, expected in (
        ({"search_time": 3.0}, "search_time of a map"),
        ({"driven": True}, "driven of a map"),
        ({"segments": 3}, "expected a divisor of 2"),
    ):
        with pytest.raises(ValueError, match=expected):
            sx.periodic_orbits(doubling, jnp.ones(1), period=2, **given)
    flow = planar(1.0, 0.0)
    with pytest.raises(ValueError, match="got neither, expected one of them"):
        sx.periodic_orbits(flow, jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="a positive time"):
        sx.periodic_orbits(flow, jnp.ones((1, 2)), period=-1.0)
    with pytest.raises(ValueError, match="a divisor of 240"):
        sx.periodic_orbits(flow, jnp.ones((1, 2)), period=6.0, segments=7)
    with pytest.raises(TypeError, match="Map or Flow"):
        sx.periodic_orbits(sx.as_sde(lambda x: -x, lambda x: 1.0), jnp.ones(1), period=1.0)
    found = sx.periodic_orbits(doubling, region=(0.0, 1.0), starts=64, period=2)
    places, circle = sx.plotting.plot(found).axes
    np.testing.assert_allclose(places.lines[2].get_xdata(), found.coordinates[2, :, 0])
    np.testing.assert_allclose(places.lines[2].get_ydata(), found.coordinates[2, ::-1, 0])
    assert circle.lines[2].get_xdata()[0] == pytest.approx(0.16, abs=1e-9)
