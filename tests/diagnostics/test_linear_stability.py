"""Spectra against closed forms, by the matrix and by products alone; non-normal growth against its own definition."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import separatrix as sx
from separatrix._tree import asarrays


def linear_flow(matrix):
    return sx.as_flow(lambda x: jnp.asarray(matrix) @ x)


def test_spectrum_of_the_dirac_gan_at_rest_is_the_closed_form():
    gamma = 0.5
    found = sx.linear_stability(sx.field(sx.DiracGAN(gamma)), asarrays((0.0, 0.0)))
    root = np.emath.sqrt(gamma**2 / 4 - 1 / 4)
    np.testing.assert_allclose(found.spectrum, [-gamma / 2 + root, -gamma / 2 - root], atol=1e-12)
    assert found.verdict == "stable"


@pytest.mark.parametrize(
    ("system", "verdict", "radius"),
    [
        # Momentum 0.9 on curvature l: multipliers are the roots of z^2 - (1.9 - h l) z + 0.9, stable for h l < 3.8.
        (sx.HeavyBall(sx.Quadratic(1.0), 3.7, 0.9), "stable", np.sqrt(0.9)),
        (sx.HeavyBall(sx.Quadratic(1.0), 3.9, 0.9), "unstable", None),
        (sx.HeavyBall(sx.Quadratic(1.0), 0.5, 1.0), "neutral", 1.0),
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


def test_a_transposed_jacobian_would_be_seen():
    # The left eigenvector of A is not its right one: the residual of the transposed matrix is large.
    matrix = jnp.array([[1.0, 2.0], [0.0, 3.0]])
    jacobian = sx.diagnostics._coordinates.Jacobian(sx.as_flow(lambda x: matrix @ x), jnp.zeros(2))
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
