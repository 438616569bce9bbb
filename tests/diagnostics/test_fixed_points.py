"""Fixed points against closed forms and against roots found by other means; classes against characteristic polynomials."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import separatrix as sx


def box(low, high, size=2):
    return jnp.full(size, low), jnp.full(size, high)


def by_place(found):
    """Coordinates, kinds and spectra, from left to right."""
    order = np.lexsort(np.asarray(found.coordinates).T[::-1].round(6))
    return np.asarray(found.coordinates)[order], [found.kinds[i] for i in order], np.asarray(found.spectra)[order]


def himmelblau_by_elimination():
    """Critical points from a resultant: 2x(2x^2 + 2y - 21) + 2y^2 = 14 is quadratic in y; put into the other equation.

    d/dx: 4x^3 + 4xy - 42x + 2y^2 - 14 = 0,  d/dy: 4y^3 + 4xy - 26y + 2x^2 - 22 = 0. The resultant in y is the determinant
    of Sylvester's matrix, of degree 9 in x: its roots by interpolation at 10 points, then Newton by SciPy.
    """

    def resultant(x):
        first = [2.0, 4 * x, 4 * x**3 - 42 * x - 14]
        second = [4.0, 0.0, 4 * x - 26, 2 * x**2 - 22]
        rows = [np.concatenate([np.zeros(i), first, np.zeros(2 - i)]) for i in range(3)]
        return np.linalg.det(
            np.array(rows + [np.concatenate([np.zeros(i), second, np.zeros(1 - i)]) for i in range(2)])
        )

    nodes = 5 * np.cos(np.pi * (np.arange(10) + 0.5) / 10)
    polynomial = np.polynomial.chebyshev.Chebyshev.fit(nodes, [resultant(x) for x in nodes], 9)
    gradient = lambda z: [4 * z[0]**3 + 4 * z[0] * z[1] - 42 * z[0] + 2 * z[1]**2 - 14,
                          4 * z[1]**3 + 4 * z[0] * z[1] - 26 * z[1] + 2 * z[0]**2 - 22]  # fmt: skip
    points = []
    for x in np.real(polynomial.roots()[np.abs(np.imag(polynomial.roots())) < 1e-6]):
        heights = np.real(np.roots([2.0, 4 * x, 4 * x**3 - 42 * x - 14]))
        y = min(heights, key=lambda y: abs(gradient([x, y])[1]))
        points.append(scipy.optimize.fsolve(gradient, [x, y], xtol=1e-13))
    return np.array(sorted(map(tuple, points)))


def test_all_nine_critical_points_of_himmelblau_as_fixed_points_of_descent():
    found = sx.fixed_points(sx.optimization.GradientDescent(sx.optimization.Himmelblau(), 0.01), region=box(-6.0, 6.0))
    truth = himmelblau_by_elimination()
    assert len(truth) == 9
    points, kinds, spectra = by_place(found)
    np.testing.assert_allclose(points, truth, atol=1e-11)
    for (x, y), kind, multipliers in zip(points, kinds, spectra, strict=True):
        hessian = np.array([[12 * x**2 + 4 * y - 42, 4 * x + 4 * y], [4 * x + 4 * y, 12 * y**2 + 4 * x - 26]])
        curvatures = np.linalg.eigvalsh(hessian)
        np.testing.assert_allclose(np.sort(np.real(multipliers)), np.sort(1 - 0.01 * curvatures), atol=1e-10)
        word = {0: "stable node", 1: "saddle of index 1", 2: "unstable node"}[int(np.sum(curvatures < 0))]
        assert kind == word
    assert found.kinds.count("saddle of index 1") == 4 and found.kinds.count("stable node") == 4
    assert int(found.counts.sum()) + int(found.failed) + int(found.outside) == int(found.starts) == 256
    assert found.cautions == ()
    assert found.indices.tolist() == [0] * 4 + [1] * 4 + [2]


def test_maps_of_one_family_logistic_and_henon():
    # The logistic map beside Henon's with a = 1.4, b = 0.3, as one map of three coordinates: all pairs of their points.
    r, a, b = 3.2, 1.4, 0.3

    def step(s):
        return jnp.stack([r * s[0] * (1 - s[0]), 1 - a * s[1] ** 2 + s[2], b * s[1]])

    found = sx.fixed_points(sx.as_map(step), region=(jnp.array([-0.5, -2.0, -1.0]), jnp.array([1.5, 2.0, 1.0])))
    places = [(b - 1 + sign * np.sqrt((1 - b) ** 2 + 4 * a)) / (2 * a) for sign in (1, -1)]
    truth = sorted((x, y, b * y) for x, y in itertools.product([0.0, 1 - 1 / r], places))
    points, kinds, spectra = by_place(found)
    np.testing.assert_allclose(points, truth, atol=1e-12)
    for (x, y, _), multipliers in zip(truth, spectra, strict=True):
        roots = np.append(np.roots([1, 2 * a * y, -b]), r if x == 0 else 2 - r)
        np.testing.assert_allclose(np.sort(np.real(multipliers)), np.sort(roots), atol=1e-10)
    # Unstable: r or 2 - r, and one of Henon's two.
    assert kinds == ["saddle of index 2"] * 4


def test_equilibria_of_lorenz_have_their_characteristic_polynomials():
    found = sx.fixed_points(
        sx.catalogue.entry("lorenz").build(), region=(jnp.array([-30.0, -30, -10]), jnp.array([30.0, 30, 50]))
    )
    side = np.sqrt(8 / 3 * 27)
    points, kinds, spectra = by_place(found)
    np.testing.assert_allclose(points, [[-side, -side, 27], [0, 0, 0], [side, side, 27]], atol=1e-11)
    # s, r, b = 10, 28, 8/3: mu^3 + (s + b + 1) mu^2 + b (r + s) mu + 2 b s (r - 1) away from the origin.
    away = np.sort_complex(np.roots([1, 10 + 8 / 3 + 1, 8 / 3 * 38, 2 * 8 / 3 * 10 * 27]))
    for row in (0, 2):
        np.testing.assert_allclose(np.sort_complex(spectra[row]), away, atol=1e-9)
    np.testing.assert_allclose(np.sort(np.real(spectra[1])), np.sort([-8 / 3, *np.roots([1, 11, -270])]), atol=1e-10)
    assert kinds == ["saddle of index 2", "saddle of index 1", "saddle of index 2"]


def test_centre_and_saddle_of_the_pendulum_and_what_lies_outside_is_left_out():
    pendulum = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])]))
    found = sx.fixed_points(pendulum, region=(jnp.array([-4.0, -2.0]), jnp.array([4.0, 2.0])))
    points, kinds, spectra = by_place(found)
    np.testing.assert_allclose(points, [[-np.pi, 0], [0, 0], [np.pi, 0]], atol=1e-12)
    assert kinds == ["saddle of index 1", "centre", "saddle of index 1"]
    np.testing.assert_allclose(spectra[1], [1j, -1j], atol=1e-12)
    np.testing.assert_allclose(spectra[0], [1, -1], atol=1e-12)
    assert int(found.outside) > 0 and any("nonlinear terms" in caution for caution in found.cautions)


@pytest.mark.parametrize(
    ("system", "low", "high", "truth", "kind", "spectrum"),
    [
        (
            sx.games.field(sx.games.DiracGAN(0.5)),
            (-1.0, -1.0),
            (1.0, 1.0),
            [0, 0],
            "stable focus",
            -0.25 + 1j * np.sqrt(3) / 4,
        ),
        (sx.games.field(sx.games.Bilinear()), (-1.0, -1.0), (1.0, 1.0), [0, 0], "centre", 1j),
        (sx.catalogue.entry("lotka-volterra").build(), *box(0.5, 6.0), [3.0, 1.5], "centre", 1j * np.sqrt(4.5)),
    ],
    ids=["dirac", "bilinear", "lotka-volterra"],
)
def test_focus_and_centres(system, low, high, truth, kind, spectrum):
    found = sx.fixed_points(system, region=(low, high), starts=16)
    np.testing.assert_allclose(found.coordinates, [truth], atol=1e-10)
    assert found.kinds == [kind]
    np.testing.assert_allclose(found.spectra, [[spectrum, np.conj(spectrum)]], atol=1e-9)
    assert jax.tree.structure(found.points) == jax.tree.structure(low)


def memory_network(size, gain):
    """x -> tanh(g xi xi^T x / N): rests at 0 and at +-m xi with m = tanh(g m)."""
    pattern = jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], size))
    return sx.as_map(lambda x: jnp.tanh(gain * pattern * (pattern @ x) / size)), np.asarray(pattern)


def test_a_thousand_units_without_a_matrix():
    network, pattern = memory_network(1000, 2.0)
    starts = jnp.asarray(np.outer([1.0, -1.0, 0.05, -0.7], pattern))
    noisy = starts + 0.1 * jax.random.normal(jax.random.key(0), starts.shape)
    found = sx.fixed_points(network, noisy, count=3)
    overlap = scipy.optimize.brentq(lambda m: np.tanh(2 * m) - m, 0.5, 1, xtol=1e-15)
    np.testing.assert_allclose(np.sort(found.coordinates @ pattern / 1000), [-overlap, 0, overlap], atol=1e-12)
    assert float(found.residuals.max()) < 1e-13
    # DF = g (1 - m^2) xi xi^T/N: one multiplier that is not 0.
    np.testing.assert_allclose(found.spectra[:, 0], [2 * (1 - overlap**2)] * 2 + [2.0], atol=1e-9)
    assert found.kinds == ["stable node", "stable node", "saddle of index 1"]
    assert "leading 3 of 1000" in found.cautions[-1]


@pytest.mark.slow
def test_rest_of_a_random_network_of_a_thousand_units_past_its_edge():
    # At 0 the Jacobian is g J: full, far from normal, eigenvalues on a disc of radius g > 1 that holds 1, where Newton's
    # linear systems are worst conditioned.
    network = sx.recurrent.random_network(1000, 1.5, key=jax.random.key(0))
    found = sx.fixed_points(network, 1e-3 * jax.random.normal(jax.random.key(1), (1, 1000)), count=2)
    assert float(found.residuals.max()) < 1e-10
    np.testing.assert_allclose(found.coordinates, np.zeros((1, 1000)), atol=1e-8)
    values = np.linalg.eigvals(1.5 * np.asarray(network.weight))
    # Arnoldi may pass over one of the many that lie near the edge of the disc: each is one of them, the first the largest.
    assert np.max(np.min(np.abs(np.asarray(found.spectra)[0][:, None] - values), axis=1)) < 1e-5
    assert abs(complex(found.spectra[0, 0])) == pytest.approx(np.max(np.abs(values)), rel=1e-5)
    assert found.kinds == ["unstable, index 2 or more"]


def test_a_ghost_is_a_slow_point_and_no_root():
    # x' = c + x^2, c > 0: no equilibrium; q = (c + x^2)^2/2 is least at 0. It turns on one that does rest, y' = -y.
    c = 0.01
    flow = sx.as_flow(lambda s: jnp.stack([c + s[0] ** 2, -s[1] * (1 + s[0])]))
    found = sx.fixed_points(flow, region=box(-0.9, 0.9), slow=True, starts=64)
    np.testing.assert_allclose(found.coordinates, [[0.0, 0.0]], atol=1e-8)
    assert float(found.speeds[0]) == pytest.approx(c**2 / 2, rel=1e-10)
    assert found.slow.tolist() == [True] and found.kinds[0].startswith("slow: ")
    # The same with the bound below the ghost's q, and a search for roots alone: nothing.
    assert len(sx.fixed_points(flow, region=box(-0.9, 0.9), slow=c**2 / 4, starts=64).counts) == 0
    none = sx.fixed_points(flow, region=box(-0.9, 0.9), starts=64)
    assert none.kinds == [] and "nothing was found" in none.cautions[0] and int(none.failed) == 64


def test_a_line_of_equilibria_is_told():
    line = sx.as_flow(lambda x: jnp.stack([x[1] - x[0] ** 2, 3 * (x[1] - x[0] ** 2)]))
    found = sx.fixed_points(line, region=box(-2.0, 2.0), starts=64)
    points = np.asarray(found.coordinates)
    np.testing.assert_allclose(points[:, 1], points[:, 0] ** 2, atol=1e-9)
    assert set(found.kinds) == {"degenerate"} and "they lie on a family" in found.cautions[0]


def test_a_double_root_is_one_degenerate_point_and_a_tail_is_none():
    # (x - 1)^2 in its expanded form: rounding alone spreads its root by 1e-8. exp(-y) has no root but becomes small.
    double = sx.as_flow(lambda s: jnp.stack([s[0] ** 2 - 2 * s[0] + 1, -s[1]]))
    found = sx.fixed_points(double, region=box(-2.0, 3.0), starts=32)
    np.testing.assert_allclose(found.coordinates, [[1.0, 0.0]], atol=1e-4)
    assert found.kinds == ["degenerate"] and "singular Jacobian" in found.cautions[0]
    assert len(sx.fixed_points(sx.as_flow(lambda y: jnp.exp(-y)), region=(-1.0, 1.0), starts=16).counts) == 0


def test_state_as_a_tree_with_a_counter_and_a_transposed_jacobian_would_be_seen():
    # A transposed Jacobian has the same spectrum but sends Newton elsewhere: an asymmetric linear map solves in one step.
    matrix, shift = jnp.array([[0.5, 2.0], [0.0, -0.25]]), jnp.array([1.0, 1.0])
    turning = sx.as_map(lambda s: {"x": matrix @ s["x"] + shift, "count": s["count"] + 1})
    guesses = {"x": jnp.array([[10.0, -7.0], [1.0, 1.0]]), "count": jnp.array([3, 4])}
    found = sx.fixed_points(turning, guesses, max_steps=4)
    np.testing.assert_allclose(found.points["x"], [np.linalg.solve(np.eye(2) - matrix, shift)], atol=1e-13)
    np.testing.assert_allclose(found.spectra, [[0.5, -0.25]], atol=1e-14)
    assert found.counts.tolist() == [2] and found.points["count"].dtype == guesses["count"].dtype


def test_single_precision_is_warned_of():
    with pytest.warns(RuntimeWarning, match="float32"):
        found = sx.fixed_points(sx.as_flow(lambda x: x - x**3), jnp.array([[0.1], [2.0], [-2.0]], jnp.float32))
    np.testing.assert_allclose(np.sort(found.coordinates[:, 0]), [-1, 0, 1], atol=1e-5)
    assert found.points.dtype == jnp.float32 and "float32" in found.cautions[-1]


def test_text_data_and_figure():
    found = sx.fixed_points(sx.as_flow(lambda x: x - x**3), jnp.array([[0.1], [2.0], [-2.0]]))
    data = json.loads(json.dumps(found.to_dict()))
    assert sorted(round(row[0], 12) for row in data["coordinates"]) == [-1, 0, 1]
    assert "3 from 3 starts" in str(found) and "stable node" in found._repr_html_()
    places, spectra = sx.plotting.plot(found).axes
    drawn = {line.get_label(): np.sort(line.get_xdata()) for line in places.lines}
    np.testing.assert_allclose(drawn["stable node"], [-1, 1], atol=1e-12)
    np.testing.assert_allclose(drawn["unstable node"], [0], atol=1e-12)
    assert sorted(spectra.lines[0].get_xdata().round(9)) == [-2, -2]


def test_misuse_is_told():
    still = sx.as_map(lambda x: 0.5 * x)
    with pytest.raises(ValueError, match="got neither, expected one of them"):
        sx.fixed_points(still)
    with pytest.raises(ValueError, match="low <= high"):
        sx.fixed_points(still, region=(1.0, 0.0))
    with pytest.raises(ValueError, match="leading axes"):
        sx.fixed_points(still, jnp.asarray(1.0))
    with pytest.raises(ValueError, match="Drop those rows"):
        sx.fixed_points(still, jnp.array([jnp.nan]))
    with pytest.raises(TypeError, match="as_map, as_flow or as_sde"):
        sx.fixed_points(lambda x: x, jnp.ones(1))
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda x: sx.fixed_points(still, x).counts)(jnp.ones(2))
