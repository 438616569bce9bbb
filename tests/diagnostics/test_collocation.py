"""Collocation against its own order, its error term, and monodromy matrices that are known."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import separatrix as sx
from separatrix.diagnostics.cycles import _collocation as collocation
from separatrix.diagnostics.cycles._branch_problem import newton
from separatrix.diagnostics.cycles._cycle import Cycle
from separatrix.diagnostics.parameter import family
from separatrix.linear.spectrum import product_spectrum

UNEVEN = np.array([0.05, 0.2, 0.1, 0.15, 0.3, 0.08, 0.12])


def test_polynomials_of_degree_four_are_held_exactly_on_an_uneven_mesh():
    times = collocation.base_times(UNEVEN)
    assert times[0] == 0.0 and times[4] == pytest.approx(0.05) and times[5] == pytest.approx(0.05 + 0.2 / 4)
    # A polynomial on one interval, and its slope at the Gauss points.
    s = collocation.BASE
    values = np.stack([s**4 - 2 * s, 3 * s**3 + 1], axis=1)
    c = collocation.GAUSS
    np.testing.assert_allclose(collocation.VALUES @ values, np.stack([c**4 - 2 * c, 3 * c**3 + 1], axis=1), atol=1e-13)
    np.testing.assert_allclose(collocation.SLOPES @ values, np.stack([4 * c**3 - 2, 9 * c**2], axis=1), atol=1e-12)
    rows = np.random.default_rng(0).standard_normal((28, 2))
    blocks = collocation.blocks(rows)
    np.testing.assert_array_equal(blocks[3], rows[12:17])
    np.testing.assert_array_equal(blocks[6, 4], rows[0])
    # `scattered` is the adjoint of `blocks`.
    other = np.random.default_rng(1).standard_normal(blocks.shape)
    assert np.sum(blocks * other) == pytest.approx(np.sum(rows * collocation.scattered(other)))


def test_a_smooth_function_is_evaluated_between_and_its_error_is_the_leading_term():
    fun = lambda t: np.stack([np.exp(np.sin(2 * np.pi * t)), np.cos(4 * np.pi * t)], axis=1)
    mesh = np.full(24, 1 / 24)
    values = fun(collocation.base_times(mesh))
    times = np.array([0.013, 0.27, 0.5, 0.9999, 1.25])
    np.testing.assert_allclose(collocation.evaluated(values, mesh, times), fun(times), atol=1e-5)
    # int <v, u'> dt of v = (cos, 0), u = (e^{sin}, .): int cos(2 pi t) (2 pi cos e^{sin}) dt, up to the norm.
    normal = collocation.functional(values)
    v = np.stack([np.cos(2 * np.pi * collocation.base_times(mesh)), np.zeros(96)], axis=1)
    w = np.stack([np.zeros(96), np.sin(4 * np.pi * collocation.base_times(mesh))], axis=1)
    t = np.arange(1000) / 1000
    exact = [np.mean(2 * np.pi * np.cos(2 * np.pi * t) ** 2 * np.exp(np.sin(2 * np.pi * t))), -2 * np.pi]
    assert np.sum(normal * v) / np.sum(normal * w) == pytest.approx(exact[0] / exact[1], rel=1e-6)
    low, high = collocation.extremes(values)
    assert (low, high) == (pytest.approx(np.exp(-1), abs=1e-5), pytest.approx(np.e, abs=1e-5))


def test_a_mesh_goes_where_the_function_is_steep_and_spreads_the_error():
    steep = lambda t: np.tanh(20 * np.sin(2 * np.pi * (t - 0.1)))[:, None]
    mesh = np.full(60, 1 / 60)
    for _ in range(4):
        mesh = collocation.equidistributed(steep(collocation.base_times(mesh)), mesh, 60)
    assert np.sum(mesh) == pytest.approx(1.0) and np.all(mesh > 0)
    nodes = np.cumsum(mesh)
    near = np.minimum(np.abs(nodes - 0.1), np.abs(nodes - 0.6)) < 0.05
    assert np.sum(near) > 25
    even = np.full(60, 1 / 60)
    errors = [collocation.error(steep(collocation.base_times(each)), each) for each in (even, mesh)]
    assert errors[1] < errors[0] / 30
    # Where the function begins does not matter.
    shifted = lambda t: steep(t + 0.31)
    again = np.full(60, 1 / 60)
    for _ in range(4):
        again = collocation.equidistributed(shifted(collocation.base_times(again)), again, 60)
    near = np.minimum(np.abs(np.cumsum(again) - 0.79), np.abs(np.cumsum(again) - 0.29)) < 0.05
    assert np.sum(near) > 25


class Round:
    """A circle run through unevenly: x = (cos phi, sin phi), phi' = (1 + e cos phi)/sqrt(1 - e^2): period 2 pi."""

    def __init__(self, e, across):
        self.e, self.across = e, across

    def __call__(self, x):
        pace = (1 + self.e * x[0] / jnp.sqrt(x[0] ** 2 + x[1] ** 2)) / np.sqrt(1 - self.e**2)
        growth = 1 - x[0] ** 2 - x[1] ** 2
        circle = jnp.stack([growth * x[0] - pace * x[1], pace * x[0] + growth * x[1]])
        return jnp.concatenate([circle, jnp.asarray(self.across) @ x[2:]])


def solved(e, count, across):
    """The cycle on an even mesh, from its exact values at even phases, as Newton's method finds it."""
    d = 2 + len(across)
    made = family(lambda p: sx.as_flow(lambda x: p * Round(e, across)(x)), "p")
    problem, mesh = Cycle(made, jnp.zeros(d), d, count, 1), np.full(count, 1 / count)
    # tan(phi/2) = sqrt((1 + e)/(1 - e)) tan(pi t): the eccentric clock.
    t = collocation.base_times(mesh)
    phi = 2 * np.arctan2(np.sqrt(1 + e) * np.sin(np.pi * t), np.sqrt(1 - e) * np.cos(np.pi * t))
    z = np.concatenate([np.stack([np.cos(phi), np.sin(phi), *np.zeros((d - 2, len(t)))], axis=1).ravel(), [6.0, 1.0]])
    normal = np.append(np.zeros(len(z) - 1), 1.0)
    phase = problem.phase(z, mesh)
    found = newton(problem.prepared(), z, normal, phase, np.ones(len(z)), 1e-16, 20, False)
    return problem, found, mesh


@pytest.mark.parametrize("e", [0.6])
def test_the_period_errs_by_the_eighth_power_and_values_by_the_fifth(e):
    periods, values, told = [], [], []
    for count in (8, 16):
        problem, found, mesh = solved(e, count, np.zeros((0, 0)))
        orbit, period, _ = problem.parts(found.z)
        periods.append(abs(period - 2 * np.pi))
        # The radius does not know where the cycle begins.
        between = np.delete(orbit, np.arange(0, len(orbit), 4), axis=0)
        values.append(np.max(np.abs(np.hypot(*between.T) - 1)))
        told.append(problem.error(found.z, mesh))
    assert np.log2(periods[0] / periods[1]) > 7
    assert 4 < np.log2(values[0] / values[1]) < 7 and 0.1 < told[1] / values[1] < 30


def test_multipliers_are_those_of_the_matrix_exponential_and_the_trivial_one_is_left_out():
    # Across the circle x' = A x on its own: multipliers exp(2 pi A), and exp(-4 pi) of the radius, whatever the pace.
    across = np.array([[0.1, 0.9], [-0.4, -0.3]])
    problem, found, mesh = solved(0.3, 24, across)
    values, growth, _ = found.linear.spectrum()
    exact = np.append(np.linalg.eigvals(scipy.linalg.expm(2 * np.pi * across)), np.exp(-4 * np.pi))
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(exact), rtol=1e-6)
    np.testing.assert_allclose(growth, np.log(np.abs(values)), atol=1e-12)
    # DG as a whole, column by column, against differences of G.
    z = found.z + 1e-3 * np.cos(np.arange(len(found.z)))
    phase = problem.phase(found.z, mesh)
    jacobian = problem.jacobian(z, phase)
    for column in (0, 5, 17, 250, len(z) - 2, len(z) - 1):
        step = np.zeros(len(z))
        step[column] = 1e-6
        ends = [problem.linearized(z + side * step, phase).residual for side in (1, -1)]
        np.testing.assert_allclose(jacobian[:, column], (ends[0] - ends[1]) / 2e-6, atol=1e-8)
    # The bordered system is solved as the whole matrix would be, its determinant has the sign of the whole one's, up to one
    # that is the same for all, and its smallest singular value vanishes with it.
    signs = []
    for seed in range(4):
        normal = np.random.default_rng(seed).standard_normal(len(z))
        whole = np.vstack([jacobian, normal])
        bordered = problem.linearized(z, phase).bordered(normal)
        right = np.sin(np.arange(len(z)))
        np.testing.assert_allclose(bordered.solve(right), np.linalg.solve(whole, right), rtol=1e-6, atol=1e-8)
        signs.append(bordered.sign * np.linalg.slogdet(whole)[0])
    assert len(set(signs)) == 1


def test_an_antiperiodic_perturbation_is_what_the_multiplier_minus_one_belongs_to():
    # Half a turn a period across the circle: in the frame that turns by phi/2, w' = 0 one way and w' = -w the other.
    def field(x, mu):
        growth = 1 - x[0] ** 2 - x[1] ** 2
        a, b = (mu - 1) / 2, (mu + 1) / 2
        u, v = x[2], x[3]
        pushed = [a * u + b * (x[0] * u + x[1] * v) - v / 2, a * v + b * (x[1] * u - x[0] * v) + u / 2]
        return jnp.stack([growth * x[0] - x[1], x[0] + growth * x[1], *pushed])

    problem = Cycle(family(lambda p: sx.as_flow(lambda x: field(x, p)), "p"), jnp.zeros(4), 4, 20, 1)
    mesh = np.full(20, 1 / 20)
    t = 2 * np.pi * collocation.base_times(mesh)
    z = np.concatenate([np.stack([np.cos(t), np.sin(t), 0 * t, 0 * t], axis=1).ravel(), [2 * np.pi, 0.0]])
    turned = problem.linearized(z, problem.phase(z, mesh)).turned()
    exact = np.stack([0 * t, 0 * t, np.cos(t / 2), np.sin(t / 2)], axis=1)
    ratio = np.sum(turned * exact) / np.sum(exact**2)
    np.testing.assert_allclose(turned, ratio * exact, atol=1e-6 * abs(ratio))


@pytest.mark.parametrize("spread", [1.0, 40.0])
def test_eigenvalues_of_a_product_keep_their_own_digits(spread):
    # W_n = Q_{n+1} T_n Q_n^T with triangular T_n: the product is similar to that of the T_n. Asymmetric, graded, in order.
    rng = np.random.default_rng(3)
    count, d = 12, 3
    bases = np.linalg.qr(rng.standard_normal((count, d, d)))[0]
    diagonals = np.exp(spread / count * np.array([[1.0], [0.1], [-1.5]]) + 0.2 * rng.standard_normal((d, count)))
    triangles = np.array([np.diag(column) for column in diagonals.T]) + np.triu(rng.standard_normal((count, d, d)), 1)
    factors = np.roll(bases, -1, axis=0) @ triangles @ np.swapaxes(bases, 1, 2)
    values, logarithms = product_spectrum(factors)
    exact = np.sort(np.sum(np.log(diagonals), axis=1))[::-1]
    np.testing.assert_allclose(logarithms, exact, atol=1e-6)
    np.testing.assert_allclose(np.real(values), np.exp(exact), rtol=1e-5)
    # A pair that turns, and the order of factors that do not commute.
    turning = np.stack(
        [np.array([[0.4, -1.1], [0.9, 0.2]]), np.array([[1.0, 0.5], [0.0, 0.7]]), np.array([[0.3, 0.0], [2.0, 1.0]])]
    )
    product = turning[2] @ turning[1] @ turning[0]
    exact = np.sort_complex(np.linalg.eigvals(product).astype(complex))
    np.testing.assert_allclose(np.sort_complex(product_spectrum(turning)[0]), exact, rtol=1e-10)
