"""Newton and its kin by their laws: exact steps, doubled digits, invariance, decay along the flow, saddles left."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
import scipy.optimize

import separatrix as sx
from separatrix import optimization

X = jnp.array([0.7, -0.4])


def loss(x):
    return jnp.cosh(x[0] - 0.2) + 0.25 * x[1] ** 4 + 0.7 * x[1] ** 2 + 0.5 * jnp.sin(x[0] * x[1])


def matrix(seed=0, d=3):
    values = jax.random.normal(jax.random.key(seed), (d, d))
    return values @ values.T + jnp.eye(d)


def test_newton_solves_a_quadratic_in_one_step_whatever_its_signs():
    curvature = jnp.diag(jnp.array([2.0, -3.0, 1e4])) + 0.1
    assert (
        float(
            jnp.linalg.norm(optimization.Newton(optimization.Quadratic(curvature)).step(0, jnp.array([1.0, 2.0, -3.0])))
        )
        < 1e-12
    )


def test_newton_doubles_the_digits():
    """e[n+1]/e[n]^2 -> f'''/(2 f'') at the root of f' for f = e^x - x + x^3/6: (1 + 1)/(2 * 1) = 1."""
    newton = optimization.Newton(lambda x: jnp.exp(x) - x + x**3 / 6)
    errors = np.abs(sx.evolve(newton, jnp.asarray(0.4), steps=5).states)
    np.testing.assert_allclose(errors[3] / errors[2] ** 2, 1.0, atol=0.05)
    np.testing.assert_allclose(errors[4] / errors[3] ** 2, 1.0, atol=0.01)


def test_newton_commutes_with_linear_changes_of_variables():
    change = jnp.array([[1.0, 2.0], [-0.5, 0.3]])
    there = sx.evolve(optimization.Newton(loss, 0.7), change @ X, steps=4).final
    here = sx.evolve(optimization.Newton(lambda z: loss(change @ z), 0.7), X, steps=4).final
    np.testing.assert_allclose(change @ here, there, rtol=1e-11)


def test_gradient_descent_does_not():
    """The law above tells: without the metric it fails."""
    change = jnp.array([[1.0, 2.0], [-0.5, 0.3]])
    there = optimization.GradientDescent(loss, 0.1).step(0, change @ X)
    assert (
        float(
            jnp.linalg.norm(change @ optimization.GradientDescent(lambda z: loss(change @ z), 0.1).step(0, X) - there)
        )
        > 0.1
    )


def test_along_newtons_flow_the_gradient_decays_as_exp():
    flow = sx.limit(optimization.Newton(loss, 0.1))
    times = jnp.array([0.0, 0.5, 1.0, 3.0])
    path = sx.evolve(flow, X, times=times, rtol=1e-10, atol=1e-12)
    slopes = jax.vmap(jax.grad(loss))(path.states)
    np.testing.assert_allclose(slopes, jnp.exp(-times)[:, None] * jax.grad(loss)(X)[None], rtol=1e-7)


@pytest.mark.slow
def test_damping_interpolates_to_gradient_descent():
    """(H + c)^{-1} g -> g/c."""
    step = optimization.Newton(loss, 1.0, damping=1e6).step(0, X) - X
    np.testing.assert_allclose(1e6 * step, -jax.grad(loss)(X), rtol=1e-5)


def test_by_products_with_conjugate_gradients_it_is_the_same_step():
    curvature = matrix(d=600)
    start = {"a": jnp.ones(400), "b": jnp.ones((20, 10))}

    def quadratic(p):
        z = jnp.concatenate([p["a"], p["b"].ravel()])
        return 0.5 * z @ curvature @ z - z[0] + 0.01 * jnp.sum(z**4)

    step = optimization.Newton(quadratic, solver=lx.CG(rtol=1e-12, atol=1e-12)).step(0, start)
    # z = 1: gradient A z - e_1 + 0.04 z^3, Hessian A + 0.12 z^2.
    z, a = np.ones(600), np.asarray(curvature)
    expected = z - np.linalg.solve(a + 0.12 * np.eye(600), a @ z - np.eye(600)[0] + 0.04)
    np.testing.assert_allclose(jnp.concatenate([step["a"], step["b"].ravel()]), expected, atol=1e-8)
    # Above 512 parameters that is the default, to its looser tolerance.
    loose = optimization.Newton(quadratic).step(0, start)
    np.testing.assert_allclose(jnp.concatenate([loose["a"], loose["b"].ravel()]), expected, atol=1e-5)


def test_a_solve_that_fails_ends_the_run():
    flat_direction = optimization.Newton(lambda x: jnp.sum(x[0] ** 4))
    assert sx.evolve(flat_direction, X, steps=3).outcome == "non_finite"


def residual(p):
    times = jnp.linspace(0.0, 2.0, 8)
    return p[0] * jnp.exp(-p[1] * times) - (1.5 * jnp.exp(-0.8 * times) + 0.01 * jnp.cos(9 * times))


def test_gauss_newton_finds_the_least_squares_of_scipy():
    found = sx.evolve(optimization.GaussNewton(residual), jnp.array([1.0, 1.0]), steps=12).final
    theirs = scipy.optimize.least_squares(lambda p: np.asarray(residual(jnp.asarray(p))), [1.0, 1.0], xtol=1e-15)
    np.testing.assert_allclose(found, theirs.x, rtol=1e-7)


def test_along_the_flow_of_gauss_newton_the_residual_decays_as_exp():
    # The determinant of J is (3 x^2 + 1)(cos y + 2) + 1 > 0 everywhere.
    square = lambda x: jnp.stack([x[0] ** 3 + x[0] + x[1] - 1.0, jnp.sin(x[1]) + 2 * x[1] - x[0]])
    path = sx.evolve(sx.limit(optimization.GaussNewton(square)), X, times=(0.0, 2.0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(square(path.final), np.exp(-2.0) * square(X), rtol=1e-7)


@pytest.mark.slow
def test_damped_gauss_newton_is_levenberg_and_marquardts_step():
    p, damping = jnp.array([1.0, 1.0]), 0.3
    jacobian = jax.jacobian(residual)(p)
    expected = p - jnp.linalg.solve(jacobian.T @ jacobian + damping * jnp.eye(2), jacobian.T @ residual(p))
    np.testing.assert_allclose(optimization.GaussNewton(residual, damping=damping).step(0, p), expected, rtol=1e-11)


INPUTS = jax.random.normal(jax.random.key(3), (6, 2))


def logs(theta):
    """Softmax over three outcomes with one logit held at 0, from two inputs."""
    logits = jnp.concatenate([INPUTS @ theta.reshape(2, 2), jnp.zeros((6, 1))], axis=1)
    return jax.nn.log_softmax(logits)


def test_fisher_is_the_expected_outer_product_of_scores():
    theta = jnp.array([0.3, -0.8, 1.1, 0.2])
    values, scores = (np.asarray(found) for found in jax.jit(lambda x: (logs(x), jax.jacobian(logs)(x)))(theta))
    expected = np.einsum("nk,nki,nkj->ij", np.exp(values), scores, scores) / 6  # of (N, K) and (N, K, d)
    product = jax.jit(jax.vmap(lambda v: optimization.fisher(logs)(theta, v)))(np.eye(4))
    np.testing.assert_allclose(product, expected, atol=1e-14)


def cross_entropy(theta):
    return -jnp.mean(logs(theta)[jnp.arange(6), jnp.arange(6) % 3])


def coordinates(u):
    """Other parameters of the same model: theta = phi(u), not linear."""
    return jnp.stack([u[0] + 0.2 * u[1] ** 3, u[1], jnp.sinh(u[2]), u[3] + u[0] * u[2]])


def test_the_natural_gradient_flow_is_the_same_curve_in_other_coordinates():
    u = jnp.array([0.3, -0.8, 0.9, 0.2])
    first = sx.limit(optimization.NaturalGradient(cross_entropy, optimization.fisher(logs), 0.1))
    other = optimization.NaturalGradient(
        lambda u: cross_entropy(coordinates(u)), optimization.fisher(lambda u: logs(coordinates(u))), 0.1
    )
    there = sx.limit(other)
    pushed, here = jax.jit(
        lambda u: (jax.jvp(coordinates, (u,), (there.velocity(0.0, u),))[1], first.velocity(0.0, coordinates(u)))
    )(u)
    np.testing.assert_allclose(pushed, here, rtol=1e-9)
    # A step of finite size is not: it differs by the curvature of the coordinates, of order h^2.
    after = jax.jit(lambda h: (coordinates(other.advance(jnp.zeros(()), u, h)), coordinates(u) + h * here))
    gaps = [np.linalg.norm(np.subtract(*after(h))) for h in (0.1, 0.05)]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2.0, abs=0.15)


def test_probabilities_relax_as_exp_along_the_natural_gradient():
    """Three outcomes in two free logits, cross entropy with q: p(t) = q + (p(0) - q) e^{-t}."""
    q = jnp.array([[0.5, 0.3, 0.2]])
    of = lambda u: jax.nn.log_softmax(jnp.concatenate([u, jnp.zeros(1)]))[None]
    descent = optimization.NaturalGradient(lambda u: -jnp.sum(q * of(u)), optimization.fisher(of), 0.1)
    u = jnp.array([-1.0, 0.7])
    end = sx.evolve(sx.limit(descent), u, times=(0.0, 1.5), rtol=1e-10, atol=1e-12).final
    np.testing.assert_allclose(jnp.exp(of(end)), q + (jnp.exp(of(u)) - q) * np.exp(-1.5), rtol=1e-8)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_the_cubic_step_is_the_global_minimum(seed):
    """Against the least of the model over many starts of another minimiser, for an indefinite curvature."""
    generator = np.random.default_rng(seed)
    g, half = generator.standard_normal(4), generator.standard_normal((4, 4))
    curvature, lipschitz = half + half.T, 2.0

    def model(s):
        return g @ s + 0.5 * s @ curvature @ s + lipschitz / 6 * np.linalg.norm(s) ** 3

    cubic = optimization.CubicNewton(lambda x: g @ x + 0.5 * x @ curvature @ x, lipschitz)
    step = np.asarray(jax.jit(lambda x: cubic.step(0, x))(np.zeros(4)))
    starts = generator.normal(size=(20, 4)) * 3
    best = min(scipy.optimize.minimize(model, start, tol=1e-12).fun for start in starts)
    assert model(step) <= best + 1e-9
    rho = np.linalg.norm(step)
    np.testing.assert_allclose((curvature + lipschitz * rho / 2 * np.eye(4)) @ step, -g, atol=1e-11)
    assert np.linalg.eigvalsh(curvature)[0] + lipschitz * rho / 2 > -1e-12


def test_from_a_strict_saddle_the_cubic_step_has_its_known_length():
    """rho = -2 l/M along the lowest eigenvector, where the gradient vanishes (the hard case), to either side."""
    saddle = optimization.Quadratic(jnp.array([3.0, -1.0, -2.0]))
    step = optimization.CubicNewton(saddle, 4.0).step(0, jnp.zeros(3))
    np.testing.assert_allclose(jnp.abs(step), [0.0, 0.0, 1.0], atol=1e-9)
    nearly = optimization.CubicNewton(saddle, 4.0).step(0, jnp.array([1e-3, 0.0, 0.0]))
    # The rest of the gradient moves along its own directions: (3 + 2) s = -3e-3.
    assert float(nearly[0]) == pytest.approx(1e-3 - 3e-3 / 5, rel=1e-9)
    assert float(jnp.linalg.norm(nearly - jnp.array([1e-3, 0.0, 0.0]))) == pytest.approx(1.0, rel=1e-9)


def test_cubic_newton_leaves_a_saddle_where_newton_and_descent_stay():
    start = jnp.array([0.0, 0.9])
    ends = {
        "cubic": sx.evolve(optimization.CubicNewton(optimization.DoubleWell(), 12.0), start, steps=30).final,
        "newton": sx.evolve(optimization.Newton(optimization.DoubleWell()), start, steps=30).final,
        "descent": sx.evolve(optimization.GradientDescent(optimization.DoubleWell(), 0.1), start, steps=300).final,
    }
    assert float(jnp.abs(ends["cubic"][0])) == pytest.approx(1.0, abs=1e-9)
    assert float(ends["newton"][0]) == float(ends["descent"][0]) == 0.0


@pytest.mark.slow
def test_cubic_newton_never_climbs_with_a_lipschitz_constant():
    """Of the double well's Hessian on |x| <= 2: 6 * 2; each step loses at least M rho^3/12 (Nesterov & Polyak)."""
    path = sx.evolve(
        optimization.CubicNewton(optimization.DoubleWell(), 12.0), jnp.array([0.05, -1.9]), steps=12
    ).states
    values = jax.vmap(optimization.DoubleWell())(path)
    lengths = jnp.linalg.norm(path[1:] - path[:-1], axis=1)
    assert bool(jnp.all(values[:-1] - values[1:] >= 12.0 * lengths**3 / 12 - 1e-12))


@pytest.mark.slow
def test_lbfgs_of_optax_finds_rosenbrocks_minimum():
    method = sx.from_optax(optimization.Rosenbrock(), optax.lbfgs())
    path = sx.evolve(method, method.init(jnp.array([-1.2, 1.0])), steps=60, save="last")
    np.testing.assert_allclose(path.final.parameters, [1.0, 1.0], atol=1e-8)


@pytest.mark.parametrize(("build", "kind", "words"), [
    (
        lambda: optimization.Newton(loss, damping=-1.0),
        ValueError, r"Newton: damping\n  got -1\.0, expected a finite number of at least 0"
    ),
    (lambda: optimization.Newton(loss, solver="cg"), TypeError, "got str, expected a lineax solver, or None"),
    (lambda: optimization.GaussNewton(lambda a, b: a), TypeError, r"r\(parameters\)"),
    (lambda: optimization.NaturalGradient(loss, lambda v: v, 0.1), TypeError, r"F\(parameters, v\)"),
    (lambda: optimization.fisher(lambda u: u)(X, X), ValueError, r"got shape \(2,\), expected \(N, K\)"),
    (lambda: optimization.CubicNewton(loss, 0.0), ValueError, "CubicNewton: lipschitz"),
    (
        lambda: optimization.CubicNewton(optimization.Quadratic(1.0), 1.0).step(0, jnp.ones(600)),
        ValueError, "600 parameters, expected"
    ),
])  # fmt: skip
def test_misuse_is_told(build, kind, words):
    with pytest.raises(kind, match=words):
        build()
