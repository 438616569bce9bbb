"""Discovery of laws: known laws recovered, and the algorithm written out by numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


def lorenz(points):
    x, y, z = points.T
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)


def test_monomials_are_all_products_up_to_the_degree():
    library = sx.residual.Monomials(("x", "y", "z"), 4)
    assert len(library.labels) == math.comb(3 + 4, 4)
    x = jnp.array([2.0, 3.0, 5.0])
    values = dict(zip(library.labels, library(x).tolist(), strict=True))
    assert (values["1"], values["x^2 z"], values["x y z^2"], values["y^4"]) == (1, 20, 150, 81)


def test_monomials_have_a_derivative_at_zero():
    jacobian = jax.jacfwd(sx.residual.Monomials(("x", "y"), 2))(jnp.zeros(2))
    np.testing.assert_array_equal(jacobian, [[0, 0], [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]])


def test_the_lorenz_equations_are_recovered():
    points = np.random.default_rng(0).uniform(-20, 20, (200, 3))
    found = sx.residual.discover(points, lorenz(points), sx.residual.Monomials("xyz", 3), threshold=0.5)
    assert set(found.terms["x"]) == {"x", "y"}
    assert set(found.terms["y"]) == {"x", "y", "x z"}
    assert set(found.terms["z"]) == {"z", "x y"}
    # The library of cubics on [-20, 20] has condition number 1e4.
    assert found.terms["y"]["x z"] == pytest.approx(-1.0, rel=1e-10)
    assert found.terms["z"]["z"] == pytest.approx(-8 / 3, rel=1e-10)
    assert found.residual < 1e-12
    assert found.equations[2] == "z' = -2.67 z + 1 x y"
    x = jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(found.flow.velocity(0.0, x), lorenz(np.asarray(x)[None])[0], rtol=1e-10)


def test_the_algorithm_is_the_one_of_the_paper():
    # Brunton, Proctor & Kutz (2016), written out: solve, set small coefficients to zero, solve again on the rest.
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (60, 2))
    velocities = np.stack([points[:, 0] - 0.3 * points[:, 1] ** 2, 0.8 * points[:, 0] * points[:, 1]], axis=1)
    velocities = velocities + 0.2 * rng.normal(size=velocities.shape)
    library = sx.residual.Monomials("xy", 3)
    terms = np.asarray(jax.vmap(library)(points))
    xi = np.linalg.lstsq(terms, velocities, rcond=None)[0]
    for _ in range(10):
        small = np.abs(xi) < 0.15
        xi[small] = 0
        for column in range(2):
            big = ~small[:, column]
            xi[big, column] = np.linalg.lstsq(terms[:, big], velocities[:, column], rcond=None)[0]
    found = sx.residual.discover(points, velocities, library, threshold=0.15)
    assert 0 < np.count_nonzero(xi) < xi.size
    np.testing.assert_allclose(found.coefficients, xi, atol=1e-12)
    residual = np.linalg.norm(velocities - terms @ xi) / np.linalg.norm(velocities)
    assert found.residual == pytest.approx(residual, rel=1e-12)


def test_text_writes_signs_constants_and_nothing():
    points = np.random.default_rng(2).uniform(-1, 1, (30, 2))
    velocities = np.stack([-2.5 - points[:, 1], 0 * points[:, 0]], axis=1)
    velocities[:, 1] = 1e-9
    found = sx.residual.discover(points, velocities, sx.residual.Monomials("xy", 1), threshold=0.1)
    assert found.equations == ("x' = -2.5 - 1 y", "y' = 0")
    assert repr(found).startswith("Discovery(x' = -2.5 - 1 y; y' = 0; residual ")
    assert found.to_dict()["terms"]["y"] == {}


def test_refusals_say_what_to_do():
    library, points = sx.residual.Monomials("xy", 2), np.zeros((5, 2))
    with pytest.raises(ValueError, match=r"N >= 6 terms.\n  Give more points or a smaller library"):
        sx.residual.discover(points, points, library, 0.1)
    points = np.full((9, 2), np.nan)
    with pytest.raises(ValueError, match="not finite"):
        sx.residual.discover(points, points, library, 0.1)
    with pytest.raises(ValueError, match=r"threshold\n  got -1"):
        sx.residual.discover(np.ones((9, 2)), np.ones((9, 2)), library, -1.0)
    with pytest.raises(ValueError, match=r"Monomials\n  got 0 names and degree 2"):
        sx.residual.Monomials((), 2)


def test_a_library_that_cannot_be_told_apart_on_these_data_is_said_to_be():
    """On the line y = 2 x the columns x and y are one: the condition is that of a singular matrix."""
    x = jnp.linspace(0.0, 1.0, 50)
    points = jnp.stack([x, 2 * x], axis=1)
    found = sx.residual.discover(points, points, sx.residual.Monomials(("x", "y"), 1), 0.01)
    assert found.condition > 1e12 and "cannot be told apart" in repr(found)


def test_another_solver_of_the_library_takes_the_place_of_the_threshold():
    from sklearn.linear_model import LinearRegression, Ridge

    points = np.random.default_rng(1).uniform(0.5, 2.0, (40, 2))
    x, y = points.T
    velocities = np.stack([1.5 * x - x * y, x * y - 3.0 * y], axis=1)
    library = sx.residual.Monomials(("x", "y"), 2)
    whole = sx.residual.discover(points, velocities, library, optimizer=LinearRegression(fit_intercept=False))
    np.testing.assert_allclose(
        whole.coefficients, sx.residual.discover(points, velocities, library, 0.0).coefficients, atol=1e-10
    )
    ridge = Ridge(alpha=0.3, fit_intercept=False)
    found = sx.residual.discover(points, velocities, library, optimizer=ridge)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    truth = np.linalg.solve(terms.T @ terms + 0.3 * np.eye(6), terms.T @ velocities)
    np.testing.assert_allclose(found.coefficients, truth, rtol=1e-9)
    left = np.linalg.norm(velocities - terms @ truth) / np.linalg.norm(velocities)
    assert found.residual == pytest.approx(left, rel=1e-9)
    with pytest.raises(TypeError, match=r"optimizer\n  got int, expected an object with fit"):
        sx.residual.discover(points, velocities, library, optimizer=3)
    with pytest.raises(TypeError, match="got both, expected one of both"):
        sx.residual.discover(points, velocities, library, 0.1, optimizer=ridge)
    with pytest.raises(TypeError, match="got neither, expected one of both"):
        sx.residual.discover(points, velocities, library)
