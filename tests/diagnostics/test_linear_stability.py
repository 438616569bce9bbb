"""Spectra against closed forms, by the matrix and by products alone; non-normal growth against its own definition."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.special
import scipy.stats

import separatrix as sx
from separatrix._tree import asarrays


def linear_flow(matrix):
    return sx.as_flow(lambda x: jnp.asarray(matrix) @ x)


def test_spectrum_of_the_dirac_gan_at_rest_is_the_closed_form():
    gamma = 0.5
    found = sx.linear_stability(sx.games.field(sx.games.DiracGAN(gamma)), asarrays((0.0, 0.0)))
    root = np.emath.sqrt(gamma**2 / 4 - 1 / 4)
    np.testing.assert_allclose(found.spectrum, [-gamma / 2 + root, -gamma / 2 - root], atol=1e-12)
    assert found.verdict == "stable"


@pytest.mark.parametrize(
    ("system", "verdict", "radius"),
    [
        # Momentum 0.9 on curvature l: multipliers are the roots of z^2 - (1.9 - h l) z + 0.9, stable for h l < 3.8.
        (sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), 3.7, 0.9), "stable", np.sqrt(0.9)),
        (sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), 3.9, 0.9), "unstable", None),
        (sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), 0.5, 1.0), "neutral", 1.0),
    ],
)
def test_heavy_ball_is_stable_below_its_edge(system, verdict, radius):
    found = sx.linear_stability(system, system.init(jnp.zeros(1)))
    eta, momentum = float(system.step_size) ** 2, 1 - float(system.friction * system.step_size)
    roots = np.roots([1, -(1 + momentum - eta), momentum])
    np.testing.assert_allclose(np.sort_complex(found.spectrum), np.sort_complex(roots), atol=1e-7)
    assert found.verdict == verdict
    assert radius is None or found.spectral_radius == pytest.approx(radius, abs=1e-7)


def test_products_alone_find_what_the_matrix_holds():
    # 600 coordinates: beyond what is formed. Eigenvalues of a Jordan-like matrix with a known leading block, the others
    # spread out: where they crowd Arnoldi's method takes minutes to part them to ten digits.
    size = 600
    matrix = np.diag(np.linspace(-2.0, -80.0, size)) + np.diag(0.3 * np.ones(size - 1), 1)
    matrix[0, 0], matrix[1, 1], matrix[0, 1], matrix[1, 0] = -0.2, -0.2, 1.0, -1.0
    found = sx.linear_stability(linear_flow(matrix), jnp.zeros(size), count=2, tol=1e-10)
    np.testing.assert_allclose(found.spectrum[:2], [-0.2 + 1j, -0.2 - 1j], atol=1e-9)
    assert float(found.numerical_abscissa) == pytest.approx(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1], abs=1e-8)
    np.testing.assert_allclose(found.singular_values, np.linalg.svd(matrix, compute_uv=False)[:2], rtol=1e-8)
    assert found.cautions == ()


def test_the_cycle_of_a_large_game_leads_where_it_is_asked_for():
    # x^T A y with damping c: each pair of singular vectors of A turns at its singular value and decays at c. Beside them
    # one coordinate grows: it leads by its real part, and decides.
    size, c = 258, 0.5
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.standard_normal((size, size)))[0] for _ in range(2))
    payoff = jnp.asarray(left * np.concatenate([[5.0, 4.0], np.linspace(1.0, 0.1, size - 2)]) @ right.T)

    def field(state):
        x, y, alone = state
        return -payoff @ y - c * x, payoff.T @ x - c * y, 1.5 * alone

    rest = (jnp.zeros(size), jnp.zeros(size), jnp.zeros(1))
    found = sx.linear_stability(sx.as_flow(field), rest, which="imaginary", count=4, tol=1e-8)
    np.testing.assert_allclose(found.spectrum, [-c + 5j, -c - 5j, -c + 4j, -c - 4j], atol=1e-7)
    assert complex(found.least_stable) == pytest.approx(1.5, abs=1e-7)
    assert found.criterion[1] == pytest.approx(1.5, abs=1e-7) and found.verdict == "unstable"


@pytest.mark.parametrize(
    ("which", "order"),
    [(None, [0.2, -0.1, -1.0, -1.0, -4.0]), ("imaginary", [-1.0, -1.0, 0.2, -0.1, -4.0]),
     ("magnitude", [-4.0, -1.0, -1.0, 0.2, -0.1]), ("largest_real", [0.2, -0.1, -1.0, -1.0, -4.0])],
    ids=["default", "imaginary", "magnitude", "largest_real"],
)  # fmt: skip
def test_small_systems_are_given_whole_in_the_order_asked_for(which, order):
    matrix = scipy.linalg.block_diag([[0.2, 7.0], [0.0, -0.1]], [[-1.0, 3.0], [-3.0, -1.0]], [[-4.0]])
    found = sx.linear_stability(linear_flow(matrix), jnp.zeros(5), which=which)
    np.testing.assert_allclose(np.real(found.spectrum), order, atol=1e-12)
    assert found.verdict == "unstable" and found.criterion[1] == pytest.approx(0.2, abs=1e-12)


def test_transient_growth_of_a_flow_is_the_largest_norm_of_the_exponential():
    matrix = np.array([[-1.0, 10.0], [0.0, -2.0]])
    found = sx.linear_stability(linear_flow(matrix), jnp.zeros(2))
    # exp(tA) has the off-diagonal entry 10 (e^{-t} - e^{-2t}); its norm on a fine grid.
    sizes = [np.linalg.norm(scipy.linalg.expm(t * matrix), 2) for t in np.linspace(0, 2, 4001)]
    assert float(found.transient_growth) == pytest.approx(max(sizes), rel=1e-6)
    assert float(found.numerical_abscissa) == pytest.approx((-3 + np.sqrt(1 + 100)) / 2, abs=1e-12)


def test_transient_growth_of_a_map_and_departure_from_normality():
    found = sx.linear_stability(sx.as_map(lambda x: jnp.array([[0.9, 5.0], [0.0, 0.9]]) @ x), jnp.zeros(2))
    powers = [np.linalg.norm(np.array([[0.9**n, 5 * n * 0.9 ** (n - 1)], [0, 0.9**n]]), 2) for n in range(60)]
    assert float(found.transient_growth) == pytest.approx(max(powers), rel=1e-12)
    assert int(found.transient_time) == int(np.argmax(powers))
    # |J|^2 - sum |mu|^2 = 25 of a total of 25 + 2 0.81.
    assert float(found.departure) == pytest.approx(np.sqrt(25 / 26.62), abs=1e-12)
    normal = sx.linear_stability(sx.as_map(lambda x: jnp.array([[0.6, 0.6], [-0.6, 0.6]]) @ x), jnp.zeros(2))
    assert float(normal.departure) == pytest.approx(0.0, abs=1e-7) and float(normal.transient_growth) == 1.0


@pytest.mark.parametrize("gap", [1e-3, 1e-6])
def test_slow_transients_are_searched_to_their_end(gap):
    # J = [[r, 1], [0, r]]: J^n = r^n [[1, n/r], [0, 1]], whose norm is r^n (s + sqrt(s^2 + 4))/2 with s = n/r; its largest
    # is near n = 1/gap, far past any count of steps.
    r = 1 - gap
    found = sx.linear_stability(sx.as_map(lambda x: jnp.array([[r, 1.0], [0.0, r]]) @ x), jnp.zeros(2))
    n = np.arange(max(1, round(1 / gap) - 2), round(1 / gap) + 4)
    sizes = np.exp(n * np.log1p(-gap)) * (n / r + np.sqrt((n / r) ** 2 + 4)) / 2
    assert float(found.transient_growth) == pytest.approx(np.max(sizes), rel=1e-9)
    assert float(found.transient_time) == n[np.argmax(sizes)]
    # The second is too far for all powers to be looked at, and says so.
    assert bool(found.transient_complete) == (gap == 1e-3) == (found.cautions == ())


def test_a_slow_transient_of_a_flow_and_what_has_none_and_no_end():
    # exp(tA) for A = [[-a, 1], [0, -2a]]: off the diagonal (e^{-at} - e^{-2at})/a, at most 1/(4a), at ln 2/a.
    a = 1e-6
    slow = sx.linear_stability(linear_flow([[-a, 1.0], [0.0, -2 * a]]), jnp.zeros(2))
    assert float(slow.transient_growth) == pytest.approx(1 / (4 * a), rel=1e-6)
    assert float(slow.transient_time) == pytest.approx(np.log(2) / a, rel=1e-3)
    # A turn that keeps a norm grows up to the ratio of the axes of its ellipse: |exp(tA)| = 2 at a quarter of a turn. On
    # the border of stability it never falls below one for good, and how far was searched is told.
    for field, growth in (([[0.0, 4.0], [-1.0, 0.0]], 2.0), ([[0.0, 1.0], [-1.0, 0.0]], 1.0)):
        turning = sx.linear_stability(linear_flow(field), jnp.zeros(2))
        assert float(turning.transient_growth) == pytest.approx(growth, rel=1e-6)
        assert any("searched up to" in caution for caution in turning.cautions) == (growth > 1)
    for system in (linear_flow([[0.0, 1.0], [0.0, 0.0]]), sx.as_map(lambda x: jnp.array([[1.0, 1.0], [0.0, 1.0]]) @ x)):
        assert float(sx.linear_stability(system, jnp.zeros(2)).transient_growth) == np.inf


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_power_of_random_matrices_is_that_of_all_powers(seed):
    from separatrix.diagnostics.equilibria._transient_growth import of_map

    matrix = np.random.default_rng(seed).standard_normal((5, 5))
    matrix *= 0.995 / np.max(np.abs(np.linalg.eigvals(matrix)))
    sizes = [1.0]
    power = np.eye(5)
    for _ in range(4000):
        power = matrix @ power
        sizes.append(np.linalg.norm(power, 2))
    found = of_map(matrix, np.linalg.eigvals(matrix), 1e-8)
    assert (found.growth, found.time) == (pytest.approx(max(sizes), rel=1e-12), int(np.argmax(sizes)))


def test_eulers_steps_lead_away_past_the_step_size_told_and_not_before():
    # |1 + h (-1 +- 2i)|^2 = 1 - 2h + 5 h^2 is 1 at h = 2/5.
    matrix = jnp.array([[-1.0, 2.0], [-2.0, -1.0]])
    found = sx.linear_stability(linear_flow(matrix), jnp.zeros(2))
    edge = found.euler_step_size
    assert edge == pytest.approx(0.4, abs=1e-12) and "up to a step size of  0.4" in str(found)
    for factor, falls in ((0.25, True), (0.99, True), (1.01, False)):
        step = np.eye(2) + factor * edge * np.asarray(matrix)
        assert bool(np.max(np.abs(np.linalg.eigvals(step))) < 1) == falls
    # The slow and turning pair decides, not the fastest rate alone; what does not fall has no step size at all.
    mixed = sx.linear_stability(linear_flow([[-0.1, 3.0, 0.0], [-3.0, -0.1, 0.0], [0.0, 0.0, -5.0]]), jnp.zeros(3))
    assert mixed.euler_step_size == pytest.approx(0.2 / (0.01 + 9), abs=1e-12)
    assert sx.linear_stability(linear_flow([[0.0, 1.0], [-1.0, 0.0]]), jnp.zeros(2)).euler_step_size == 0.0


def test_a_transposed_jacobian_would_be_seen():
    # The left eigenvector of A is not its right one: the residual of the transposed matrix is large.
    matrix = jnp.array([[1.0, 2.0], [0.0, 3.0]])
    jacobian = sx.linear.coordinates.Jacobian(sx.as_flow(lambda x: matrix @ x), jnp.zeros(2))
    np.testing.assert_array_equal(jacobian.matrix(), matrix)
    np.testing.assert_array_equal(jacobian.mv(jnp.array([0.0, 1.0])), [2.0, 3.0])
    np.testing.assert_array_equal(jacobian.rmv(jnp.array([0.0, 1.0])), [0.0, 3.0])


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_mean_square_rate_of_geometric_brownian_motion(sigma):
    # d E x^2/dt = (2 mu + sigma^2) E x^2: noise alone can break the mean square of a stable drift.
    sde = sx.as_sde(lambda x: -x, lambda x: sigma * x)
    found = sx.linear_stability(sde, jnp.zeros(1))
    assert float(found.mean_square) == pytest.approx(-2 + sigma**2, abs=1e-12)
    assert found.verdict == ("stable" if sigma**2 < 2 else "unstable")


@pytest.mark.parametrize(
    ("mean", "verdict"),
    # a = mean + N(0, 1): E a^2 = 1 + mean^2, E ln|a| = (digamma-like series) below zero up to a mean of about 1.2.
    [(0.5, "stable almost surely, unstable in mean square"), (3.0, "unstable")],
)
def test_a_random_factor_is_measured_almost_surely_and_in_mean_square(mean, verdict):
    noisy = sx.as_map(lambda x, key: (mean + jax.random.normal(key, dtype=x.dtype)) * x)
    found = sx.linear_stability(noisy, jnp.zeros(1), key=jax.random.key(1))
    assert abs(found.mean_square - (1 + mean**2)) < 4 * found.mean_square_error < 0.5
    exact = scipy.integrate.quad(lambda u: np.log(abs(mean + u)) * scipy.stats.norm.pdf(u), -9, 9, points=[-mean])[0]
    assert abs(found.almost_sure - exact) < 4 * found.almost_sure_error < 0.2
    assert found.verdict == verdict and found.random and found.criterion == (
        "mean-square factor", float(found.mean_square), 1.0)  # fmt: skip
    assert "mean-square factor" in str(found) and "one draw" in found.cautions[0]


def test_the_second_moment_of_random_matrices_is_that_of_their_closed_form():
    # J = A + s N B with N(0, 1): C -> A C A^T + s^2 B C B^T, of an asymmetric pair; its matrix written out beside ours.
    a, b, s = np.array([[0.5, 0.6], [-0.2, 0.3]]), np.array([[0.1, 0.9], [0.0, -0.4]]), 0.7
    noisy = sx.as_map(lambda x, key: (a + s * jax.random.normal(key, dtype=x.dtype) * b) @ x)
    found = sx.linear_stability(noisy, jnp.zeros(2), key=jax.random.key(0))
    exact = np.max(np.abs(np.linalg.eigvals(np.kron(a, a) + s**2 * np.kron(b, b))))
    assert abs(found.mean_square - exact) < 4 * found.mean_square_error < 0.2 * exact
    assert found.verdict == "stable in mean square" and float(found.almost_sure) < np.log(exact) / 2
    # The estimate itself, on three matrices of unequal weight where transposing one would be seen.
    from separatrix.diagnostics.equilibria._random_products import second_moment

    draws = np.stack([a, b, a @ b - b])
    moment = np.mean([np.kron(draw, draw) for draw in draws], axis=0)
    radius, error = second_moment(draws)
    assert radius == pytest.approx(np.max(np.abs(np.linalg.eigvals(moment))), rel=1e-10)
    # Its error by the definition: derivatives of the radius in the weight of each draw.
    slopes = []
    for draw in draws:
        values = [np.max(np.abs(np.linalg.eigvals(moment + e * np.kron(draw, draw)))) for e in (-1e-6, 1e-6)]
        slopes.append((values[1] - values[0]) / 2e-6)
    assert error == pytest.approx(np.std(slopes, ddof=1) / np.sqrt(3), rel=1e-6)


def test_products_of_many_coordinates_are_taken_almost_surely_only_and_no_noise_is_no_random_map():
    size, g = 40, 0.9
    wide = sx.as_map(lambda x, key: g / np.sqrt(size) * jax.random.normal(key, (size, size)) @ x)
    found = sx.linear_stability(wide, jnp.zeros(size), key=jax.random.key(0))
    # Newman (1986): ln g + (ln(2/N) + psi(N/2))/2 of Gaussian matrices with variance g^2/N.
    exact = np.log(g) + (np.log(2 / size) + scipy.special.digamma(size / 2)) / 2
    assert abs(found.almost_sure - exact) < 4 * found.almost_sure_error < 0.02
    assert found.verdict == "stable almost surely" and any("was not formed" in caution for caution in found.cautions)
    added = sx.as_map(lambda x, key: 0.5 * x + jax.random.normal(key, x.shape))
    assert sx.linear_stability(added, jnp.zeros(2), key=jax.random.key(0)).verdict == "stable"


def test_a_game_on_a_sample_takes_the_key_it_asks_for():
    # Two players on data: L_1 = E (b x y), L_2 = -L_1, b drawn with the key; on a batch of one the field is b (-y, x).
    data, players = jnp.array([1.0, 2.0, 3.0]), (jnp.array(0.0), jnp.array(0.0))
    game = sx.sampled(lambda p, b, *, key: (jnp.mean(b) * p[0] * p[1] + 0 * jax.random.normal(key),
                                            -jnp.mean(b) * p[0] * p[1]), data, batch_size=1, model=players)  # fmt: skip
    with pytest.raises(TypeError):
        sx.linear_stability(sx.games.field(game), players)
    turned = set()
    for seed in range(8):
        for system in (sx.games.field(game), sx.limit(sx.games.SimultaneousDescent(game, 0.1))):
            found = sx.linear_stability(system, players, key=jax.random.key(seed))
            turned.add(round(float(found.spectrum[0].imag), 12))
    assert turned <= {1.0, 2.0, 3.0} and len(turned) > 1


def test_a_counter_and_a_complex_leaf_have_the_coordinates_they_should():
    turning = sx.as_map(lambda s: {"z": 0.5j * s["z"], "count": s["count"] + 1})
    found = sx.linear_stability(turning, {"z": jnp.array([0.0 + 0.0j]), "count": jnp.asarray(3)})
    np.testing.assert_allclose(found.spectrum, [0.5j, -0.5j], atol=1e-15)


def test_a_state_away_from_rest_and_single_precision_are_told():
    lorenz = sx.catalogue.entry("lorenz").build()
    assert "no fixed point" in sx.linear_stability(lorenz, jnp.ones(3)).cautions[0]
    found = sx.linear_stability(sx.as_map(lambda x: 0.5 * x), jnp.zeros(2, jnp.float32))
    assert "float32" in found.cautions[0]


def test_plain_data_survives_json_and_the_text_says_the_verdict():
    found = sx.linear_stability(sx.catalogue.entry("lorenz").build(), jnp.zeros(3))
    # At the origin of Lorenz (10, 28, 8/3): -8/3 and the roots of z^2 + 11 z - 270.
    roots = np.roots([1, 11, -270])
    data = json.loads(json.dumps(found.to_dict()))
    np.testing.assert_allclose([value[0] for value in data["spectrum"]], [roots[1], -8 / 3, roots[0]], atol=1e-10)
    assert data["transient_growth"] is None
    assert "unstable (flow, 3 coordinates)" in str(found) and "<td>verdict</td>" in found._repr_html_()


def test_misuse_is_told():
    with pytest.raises(ValueError, match='one of "largest_real", "imaginary", "magnitude"'):
        sx.linear_stability(linear_flow(np.eye(2)), jnp.zeros(2), which="real")
    with pytest.raises(ValueError, match="a value that is not finite"):
        sx.linear_stability(sx.as_map(lambda x: x), jnp.array([jnp.nan]))
    with pytest.raises(ValueError, match="no floating-point leaf"):
        sx.linear_stability(sx.as_map(lambda x: x), jnp.array([1]))
    with pytest.raises(TypeError, match="as_map, as_flow or as_sde"):
        sx.linear_stability(lambda x: x, jnp.array([1.0]))


def test_the_figure_shows_every_eigenvalue_and_which_are_past_the_border():
    found = sx.linear_stability(sx.catalogue.entry("lorenz").build(), jnp.zeros(3))
    lines = sx.plotting.plot(found).axes[0].lines
    stable, unstable = (np.sort(line.get_xdata()) for line in lines[-2:])
    assert len(stable) == 2 and len(unstable) == 1 and unstable[0] > 0 > stable[1]
    with pytest.raises(TypeError, match="the answer to a question"):
        sx.plotting.plot(jax.numpy.ones(3))
