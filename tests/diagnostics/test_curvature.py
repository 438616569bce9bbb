"""Leading curvature against spectra that are known, dense Hessians, and closed forms of a linear network."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import separatrix as sx


class Bowl(sx.Objective):
    """x^T A x / 2."""

    matrix: jax.Array

    def __call__(self, x, *, key=None):
        return 0.5 * x @ self.matrix @ x


def turned(spectrum, seed=0):
    """A matrix with this spectrum, in a random orthonormal basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum),) * 2))
    return jnp.asarray(basis * np.asarray(spectrum) @ basis.T), basis


def net(dtype=jnp.float64):
    model = eqx.nn.MLP(3, 4, 6, 1, jax.nn.tanh, key=jax.random.key(0), dtype=dtype)
    inputs = jax.random.normal(jax.random.key(1), (20, 3), dtype)
    labels = jax.random.randint(jax.random.key(2), (20,), 0, 4)
    return sx.supervised(model, (inputs, labels))


def dense(objective, parameters):
    flat, restore = jax.flatten_util.ravel_pytree(parameters)
    return np.asarray(jax.hessian(lambda v: objective(restore(v)))(flat))


SPECTRA = {
    "spread": np.arange(1.0, 101.0),
    "outliers": np.r_[np.linspace(-0.1, 0.2, 97), 3.0, 5.0, 9.0],
    "threefold": np.r_[np.linspace(0, 9, 97), 10.0, 10.0, 10.0],
    "negative": -np.linspace(1.0, 50.0, 100),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_known_spectra_in_a_random_basis(name):
    matrix, _ = turned(SPECTRA[name])
    top, bottom = np.sort(SPECTRA[name])[::-1][:3], np.sort(SPECTRA[name])[:3]
    found = sx.curvature(Bowl(matrix), jnp.ones(100), count=3, tol=1e-4)
    assert bool(found.converged) and found.cautions == ()
    # Ritz values lie below the eigenvalues, by no more than the bound says, which is within tol.
    off = top - np.asarray(found.eigenvalues)
    assert (off > -1e-12).all() and (off <= found.errors).all() and (found.errors <= 1e-4 * np.abs(top)).all()
    lowest = sx.curvature(Bowl(matrix), jnp.ones(100), count=3, tol=1e-4, end="smallest")
    off = np.asarray(lowest.eigenvalues) - bottom
    assert (off > -1e-12).all() and (off <= np.asarray(lowest.errors) + 1e-12).all()


def test_eigenvectors_are_those_of_the_matrix_and_restart_the_search():
    spectrum = SPECTRA["outliers"]
    matrix, basis = turned(spectrum)
    found = sx.curvature(Bowl(matrix), jnp.ones(100), count=3, tol=1e-8)
    order = np.argsort(spectrum)[::-1]
    overlaps = np.abs(np.asarray(found.eigenvectors) @ basis[:, order[:3]])
    np.testing.assert_allclose(overlaps, np.eye(3), atol=1e-6)
    rows = np.asarray(found.eigenvectors)
    residuals = np.linalg.norm(rows @ np.asarray(matrix) - rows * np.asarray(found.eigenvalues)[:, None], axis=1)
    np.testing.assert_allclose(residuals, found.residuals, atol=1e-12)
    # As many products as vectors were kept: three and a guard.
    again = sx.curvature(Bowl(matrix), jnp.ones(100), count=3, start=found)
    assert int(again.products) == 4
    np.testing.assert_allclose(again.eigenvalues, found.eigenvalues, rtol=1e-10)


@pytest.mark.slow
def test_bounds_hold_on_many_random_spectra():
    # 200 matrices of 60 rows with eigenvalues of every scale; a search that stopped at the second would be off by more.
    keys = jax.random.split(jax.random.key(0), 200)

    def matrix_of(key):
        first, second, third = jax.random.split(key, 3)
        basis = jnp.linalg.qr(jax.random.normal(first, (60, 60)))[0]
        values = jax.random.normal(second, (60,)) * jnp.exp(jax.random.normal(third, (60,)))
        return (basis * values[None]) @ basis.T

    matrices = jax.vmap(matrix_of)(keys)
    found = jax.vmap(lambda m: sx.curvature(Bowl(m), jnp.ones(60), tol=1e-2))(matrices)
    truth = jax.vmap(jnp.linalg.eigvalsh)(matrices)[:, -1]
    off = 1 - np.asarray(found.sharpness / truth)
    assert found.converged.all() and (off > -1e-12).all()
    # No bound on residuals sees an eigenvector that the start holds nothing of: one miss in a hundred is granted.
    assert (off > 1e-2).sum() <= 2, np.sort(off)[-5:]
    assert np.mean(np.asarray(found.products)) < 20


def test_one_product_follows_a_pair_whose_gap_is_known():
    matrix, basis = turned(SPECTRA["outliers"])
    found = sx.curvature(Bowl(matrix), jnp.ones(100), tol=1e-8)
    assert float(found.gap) == pytest.approx((9 - 5) / 9, abs=1e-3)
    # The matrix turned by an angle a in the plane of its first two eigenvectors: |r| = 4 sin a cos a, more than tol, but
    # the Rayleigh quotient is off by 4 sin^2 a, as |r|^2/gap says.
    first, second, angle = basis[:, -1], basis[:, -2], 0.05
    plane = np.stack([first, second])
    turn = np.eye(100) + plane.T @ (
        np.array([[np.cos(angle) - 1, -np.sin(angle)], [np.sin(angle), np.cos(angle) - 1]]) @ plane
    )
    moved = Bowl(jnp.asarray(turn @ np.asarray(matrix) @ turn.T))
    followed = sx.curvature(moved, jnp.ones(100), start=found, guard=0, tol=0.01)
    assert int(followed.products) == 1 and bool(followed.converged)
    assert float(followed.residuals[0]) == pytest.approx(4 * np.sin(angle) * np.cos(angle), rel=1e-6)
    assert 9 - float(followed.sharpness) == pytest.approx(4 * np.sin(angle) ** 2, rel=1e-6)
    assert float(followed.errors[0]) == pytest.approx(4 * np.sin(angle) ** 2, rel=0.01)
    # Without a gap the residual alone bounds the error, and the search goes on.
    again = sx.curvature(moved, jnp.ones(100), start=found.vectors[:1], guard=0, tol=0.01)
    assert int(again.products) > 1 and 9 - float(again.sharpness) < 0.01 * 9


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("end", ["largest", "smallest"])
def test_a_pair_is_followed_at_either_end_of_either_matrix(matrix, end):
    # Smaller weights, a metric of its own: the dense pencil (A, d) is the truth.
    objective, settings = net(), {"matrix": matrix, "end": end, "tol": 1e-8}
    metric = jax.tree.map(lambda leaf: 0.5 + jnp.abs(leaf), objective.initial)
    here = jax.tree.map(lambda leaf: 0.98 * leaf, objective.initial)
    before = sx.curvature(objective, objective.initial, preconditioner=metric, **settings)
    found = sx.curvature(objective, here, preconditioner=metric, start=before, guard=0, **settings)
    flat, restore = jax.flatten_util.ravel_pytree(here)
    if matrix == "hessian":
        full = jax.hessian(lambda v: objective(restore(v)))(flat)
    else:
        outputs, loss = objective.split()
        jacobian = jax.jacobian(lambda v: outputs(restore(v)).ravel())(flat)
        shape = outputs(here).shape
        full = jacobian.T @ jax.hessian(lambda o: loss(o.reshape(shape)))(outputs(here).ravel()) @ jacobian
    truth = scipy.linalg.eigh(np.asarray(full), np.diag(jax.flatten_util.ravel_pytree(metric)[0]), eigvals_only=True)
    off = abs(float(found.sharpness) - truth[-1 if end == "largest" else 0])
    assert off <= float(found.errors[0]) + 1e-12 * truth[-1]
    # The Gauss-Newton matrix is singular: no accuracy relative to 0 is reached there, and the answer says so.
    singular = (matrix, end) == ("gauss_newton", "smallest")
    assert bool(found.converged) != singular and (singular or float(found.errors[0]) <= 1e-8 * truth[-1])


def test_a_metric_on_complex_parameters_measures_both_coordinates():
    # L = (3 a^2 + 5 b^2)/2 of z = a + ib, in the metric d = 2: eigenvalues 5/2 and 3/2.
    found = sx.curvature(
        lambda z: 1.5 * jnp.sum(z.real**2) + 2.5 * jnp.sum(z.imag**2), jnp.ones(1, complex), count=2, guard=0,
        preconditioner=jnp.full(1, 2.0), tol=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(found.eigenvalues, [2.5, 1.5], rtol=1e-12)


def test_a_direction_that_overtakes_is_seen_by_the_guard():
    # Directions that do not couple: 5 -> 5 and 1 -> 6. Without a guard the first would be followed for ever.
    before, after = (Bowl(jnp.diag(jnp.r_[5.0, 4.0, 3.0, top, jnp.linspace(0.0, 0.5, 96)])) for top in (1.0, 6.0))
    first = sx.curvature(before, jnp.ones(100), count=3, tol=1e-6)
    found = sx.curvature(after, jnp.ones(100), count=3, start=first, tol=1e-6)
    np.testing.assert_allclose(found.eigenvalues, [6.0, 5.0, 4.0], rtol=1e-6)


@pytest.mark.slow
def test_a_small_network_against_its_dense_hessian():
    objective = net()
    values, vectors = np.linalg.eigh(dense(objective, objective.initial))
    found = sx.curvature(objective, objective.initial, count=3, tol=1e-8)
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:3], rtol=1e-8)
    lowest = sx.curvature(objective, objective.initial, tol=1e-8, end="smallest")
    assert values[0] < -1e-3 and float(lowest.sharpness) == pytest.approx(values[0], rel=1e-8)
    flat = jax.flatten_util.ravel_pytree(jax.tree.map(lambda leaf: leaf[0], found.eigenvectors))[0]
    assert abs(vectors[:, -1] @ flat) == pytest.approx(1, abs=1e-8)
    gradient = jax.flatten_util.ravel_pytree(jax.grad(objective)(objective.initial))[0]
    assert float(found.gradient_norm) == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-12)


@pytest.mark.slow
def test_two_layer_linear_network_in_closed_form():
    # y = b a^T x with x of unit covariance and target t^T x: L = |a b - t|^2/2, for a vector a and a number b. At the
    # minimum a = c e1, b = c, t = c^2 e1 it is H = J^T J, J = [b I, a], with top eigenvalue b^2 + |a|^2 = 2 c^2,
    # then c^2 for each direction beside e1, and 0 along the balance of the layers.
    c, size = 1.3, 6
    target = c**2 * jnp.eye(size)[0]
    loss = lambda p: 0.5 * jnp.sum((p["a"] * p["b"] - target) ** 2)
    point = {"a": c * jnp.eye(size)[0], "b": jnp.asarray(c)}
    found = sx.curvature(loss, point, count=2, tol=1e-10)
    np.testing.assert_allclose(found.eigenvalues, [2 * c**2, c**2], rtol=1e-9)
    top = jax.tree.map(lambda leaf: leaf[0], found.eigenvectors)
    np.testing.assert_allclose(jnp.abs(top["a"][0] * top["b"]), 0.5, rtol=1e-6)
    lowest = sx.curvature(loss, point, end="smallest", tol=1e-10)
    assert float(lowest.sharpness) == pytest.approx(0, abs=1e-9)


def test_gauss_newton_is_the_hessian_of_linear_least_squares():
    inputs, targets = jax.random.normal(jax.random.key(0), (30, 5)), jax.random.normal(jax.random.key(1), (30,))
    outputs = lambda w: inputs @ w
    loss = lambda y: 0.5 * jnp.mean((y - targets) ** 2)
    truth = np.linalg.eigvalsh(inputs.T @ inputs / 30)[::-1][:2]
    for matrix in ("gauss_newton", "hessian"):
        found = sx.curvature((outputs, loss), jnp.ones(5), count=2, tol=1e-10, matrix=matrix)
        np.testing.assert_allclose(found.eigenvalues, truth, rtol=1e-9)


def test_gauss_newton_of_cross_entropy_is_the_fisher_matrix():
    # Fisher: the expectation, over labels drawn from the model, of the square of the gradient of one example's loss.
    objective = net()
    flat, restore = jax.flatten_util.ravel_pytree(objective.initial)

    def logits(v, x):
        return jax.nn.log_softmax(objective.model(restore(v))(x))

    def fisher(x):
        jacobian = jax.jacobian(logits)(flat, x)  # (classes, n)
        return jnp.einsum("c,ci,cj->ij", jnp.exp(logits(flat, x)), jacobian, jacobian)

    truth = np.linalg.eigvalsh(jnp.mean(jax.vmap(fisher)(objective.data[0]), axis=0))[::-1][:3]
    found = sx.curvature(objective, objective.initial, count=3, tol=1e-9, matrix="gauss_newton")
    np.testing.assert_allclose(found.eigenvalues, truth, rtol=1e-8)
    hessian = sx.curvature(objective, objective.initial, count=3, tol=1e-9)
    assert float(jnp.max(jnp.abs(hessian.eigenvalues - found.eigenvalues))) > 1e-2


def test_the_preconditioned_spectrum_is_that_of_the_generalised_problem():
    objective = net()
    d = jax.tree.map(lambda leaf: 0.1 + leaf**2, objective.initial)
    flat = np.asarray(jax.flatten_util.ravel_pytree(d)[0])
    truth = np.linalg.eigvalsh(dense(objective, objective.initial) / np.sqrt(np.outer(flat, flat)))
    found = sx.curvature(objective, objective.initial, count=3, preconditioner=d, tol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, truth[::-1][:3], rtol=1e-8)
    v = np.asarray(jax.vmap(lambda t: jax.flatten_util.ravel_pytree(t)[0])(found.eigenvectors))
    np.testing.assert_allclose(v @ np.diag(flat) @ v.T, np.eye(3), atol=1e-8)
    again = sx.curvature(objective, objective.initial, count=3, preconditioner=d, tol=1e-6, start=found)
    assert int(again.products) == 4


@pytest.mark.slow
def test_single_precision_one_parameter_and_a_flat_objective():
    single = net(jnp.float32)
    values = np.linalg.eigvalsh(dense(single, single.initial).astype(float))
    found = sx.curvature(single, single.initial, tol=1e-4)
    assert found.eigenvalues.dtype == jnp.float32 and float(found.sharpness) == pytest.approx(values[-1], rel=1e-4)
    assert "six digits" in sx.curvature(single, single.initial, tol=1e-7).cautions[-1]
    one = sx.curvature(lambda x: -3 * x**2, jnp.asarray(2.0))
    assert one.sharpness.item() == pytest.approx(-6.0) and int(one.products) == 1 and "any" in str(one)
    flat = sx.curvature(lambda x: jnp.sum(x), jnp.ones(5), count=2)
    np.testing.assert_array_equal(flat.eigenvalues, [0.0, 0.0])


@pytest.mark.slow
def test_a_batch_is_held_fixed_and_a_loop_may_be_compiled():
    points = jax.random.normal(jax.random.key(0), (50, 4))
    loss = sx.sampled(lambda x, batch: jnp.mean((batch @ x) ** 2) / 2, points, batch_size=8)
    key = jax.random.key(3)
    truth = np.linalg.eigvalsh(jax.hessian(lambda x: loss(x, key=key))(jnp.ones(4)))[-1]
    assert float(sx.curvature(loss, jnp.ones(4), key=key, tol=1e-8).sharpness) == pytest.approx(truth, rel=1e-8)
    quartic = lambda x: jnp.sum(jnp.arange(1.0, 21.0) * x**4)
    first = sx.curvature(quartic, jnp.ones(20), tol=1e-6)

    @jax.jit
    def go_on(start, factor):
        return sx.curvature(quartic, factor * jnp.ones(20), start=start, tol=1e-6)

    # The Hessian of a x^4 is 12 a x^2.
    assert float(go_on(first, 0.5).sharpness) == pytest.approx(12 * 20 * 0.25, rel=1e-6)


def test_what_did_not_converge_says_so():
    found = sx.curvature(Bowl(turned(SPECTRA["spread"])[0]), jnp.ones(100), count=3, tol=1e-8, max_products=5)
    assert int(found.products) == 5 and "max_products" in found.cautions[0]
    broken = sx.curvature(lambda x: jnp.sum(jnp.log(x - 1)), jnp.ones(3))
    assert not bool(broken.converged) and broken.cautions and int(broken.products) <= 2


def test_misuse_is_told():
    bowl = lambda x: jnp.sum(x**2)
    with pytest.raises(ValueError, match=r"count\n  got 4, expected 1 to 3"):
        sx.curvature(bowl, jnp.ones(3), count=4)
    with pytest.raises(ValueError, match="a real scalar"):
        sx.curvature(lambda x: x**2, jnp.ones(3))
    with pytest.raises(TypeError, match=r"outputs\(parameters\), loss\(outputs\)"):
        sx.curvature(bowl, jnp.ones(3), matrix="gauss_newton")
    with pytest.raises(ValueError, match="hessian, gauss_newton"):
        sx.curvature(bowl, jnp.ones(3), matrix="fisher")
    with pytest.raises(ValueError, match="not positive"):
        sx.curvature(bowl, jnp.ones(3), preconditioner=jnp.zeros(3))
    with pytest.raises(ValueError, match="a positive array for each array"):
        sx.curvature(bowl, jnp.ones(3), preconditioner=jnp.ones(2))
    with pytest.raises(ValueError, match="vectors with a leading axis"):
        sx.curvature(bowl, jnp.ones(3), start=jnp.ones(3))
    with pytest.raises(ValueError, match="largest"):
        sx.curvature(bowl, jnp.ones(3), end="top")


def test_the_figure_shows_every_eigenvalue_with_its_bound():
    found = sx.curvature(Bowl(turned(SPECTRA["spread"])[0]), jnp.ones(100), count=3, tol=1e-3)
    axes = sx.plotting.plot(found).axes[0]
    np.testing.assert_allclose(axes.containers[0].lines[0].get_ydata(), found.eigenvalues)
