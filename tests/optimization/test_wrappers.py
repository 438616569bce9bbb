"""Clipping, noise, restarts; schedules, line searches, Polyak steps and plateaus of optax, run unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

X = jnp.array([0.7, -0.4])


def steep(x):
    return 20.0 * jnp.sum(x**4) + x[0] * x[1] + 0.5 * jnp.sum(x**2)


def test_clipped_descent_equals_optax_with_clipping():
    start = {"w": jnp.array([0.9, -1.3]), "b": jnp.array([0.4])}

    def loss(p):
        return steep(p["w"]) + jnp.sum(p["b"] ** 2 * p["w"][0] ** 2)

    ours = sx.optimization.GradientDescent(sx.optimization.clipped(loss, 2.0), 0.02)
    theirs = sx.from_optax(loss, optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(0.02)))
    end = sx.evolve(ours, start, steps=50).states
    other = sx.evolve(theirs, theirs.init(start), steps=50).states.parameters
    for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    norms = jnp.linalg.norm(jax.vmap(jax.grad(lambda w: steep(w)))(end["w"]), axis=1)
    assert float(norms[0]) > 2.0 > float(norms[-1])  # both sides of the bound were met


def test_limit_of_clipped_descent_has_speed_at_most_the_bound():
    g = jax.grad(steep)(X)
    assert float(jnp.linalg.norm(g)) > 2.0
    velocity = sx.limit(sx.optimization.GradientDescent(sx.optimization.clipped(steep, 2.0), 0.1)).velocity(0.0, X)
    np.testing.assert_allclose(velocity, -2.0 * g / jnp.linalg.norm(g), rtol=1e-13)


def test_curvature_of_a_clipped_objective_is_that_of_its_gradient():
    """D(c g/|g|) = (c/|g|)(I - g g^T/|g|^2) H, by forward over reverse."""
    g, hessian = jax.grad(steep)(X), jnp.diag(240.0 * X**2 + 1.0) + jnp.array([[0.0, 1.0], [1.0, 0.0]])
    expected = 2.0 / jnp.linalg.norm(g) * (jnp.eye(2) - jnp.outer(g, g) / (g @ g)) @ hessian
    descent = sx.optimization.GradientDescent(sx.optimization.clipped(steep, 2.0), 0.1)
    jacobian = jax.jit(jax.jacfwd(lambda x: sx.limit(descent).velocity(0.0, x)))(X)
    np.testing.assert_allclose(jacobian, -expected, rtol=1e-12)


def test_gradient_noise_has_its_covariance_and_no_mean():
    loss, count = sx.optimization.noisy(steep, 0.5), 20_000
    keys = jax.random.split(jax.random.key(4), count)
    drawn = jax.vmap(lambda key: jax.grad(lambda x: loss(x, key=key))(X))(keys)
    excess = np.asarray(drawn - jax.grad(steep)(X)[None])
    np.testing.assert_allclose(excess.mean(axis=0), 0.0, atol=4 * 0.5 / count**0.5)
    # The standard error of a variance s^2 is s^2 sqrt(2/n), of a covariance s^2/sqrt(n).
    np.testing.assert_allclose(np.cov(excess.T), 0.25 * np.eye(2), atol=4 * 0.25 * (2 / count) ** 0.5)
    np.testing.assert_array_equal(jax.grad(loss)(X), jax.grad(steep)(X))


@pytest.mark.slow
def test_noisy_descent_settles_at_its_stationary_variance():
    """x <- (1 - h l) x - h sigma xi: h sigma^2/(l (2 - h l))."""
    h, curvature, sigma = 0.1, 2.0, 0.7
    descent = sx.optimization.GradientDescent(sx.optimization.noisy(sx.optimization.Quadratic(curvature), sigma), h)
    runs = sx.ensemble(descent, jnp.zeros((4000, 1)), steps=100, key=jax.random.key(5), save="last")
    expected = h * sigma**2 / (curvature * (2 - h * curvature))
    assert float(jnp.mean(runs.final**2)) == pytest.approx(expected, rel=4 * (2 / 4000) ** 0.5)


def steps_to(objective, method, target, most):
    """Steps until the objective is below a target for good."""
    path = sx.evolve(method, method.init(jnp.ones(2)), steps=most, save=lambda s: objective(s.position))
    return int(np.flatnonzero(np.asarray(path.states) > target)[-1]) + 1


def test_restarts_find_the_rate_of_the_best_constant_momentum():
    """k = 1e4 (O'Donoghue & Candes, section 3.2): near-optimal without knowing k; the schedule alone is not."""
    condition, target = 1e4, 1e-12
    bowl, root = sx.optimization.Quadratic(jnp.array([1.0, 1 / condition])), condition**0.5
    optimal = steps_to(bowl, sx.optimization.Nesterov(bowl, 1.0, (root - 1) / (root + 1)), target, 30_000)
    restarted = steps_to(bowl, sx.optimization.RestartedNesterov(bowl, 1.0), target, 30_000)
    plain = steps_to(bowl, sx.optimization.Nesterov(bowl, 1.0), target, 30_000)
    assert restarted < 1.5 * optimal
    assert plain > 5 * restarted


def test_restarted_nesterov_is_the_papers_loop():
    """Gradient scheme, in NumPy: theta restarted where grad f(y).(x - previous x) > 0."""
    curvature = np.array([1.0, 0.01])
    x = previous = np.ones(2)
    age, visited = 0, []
    for _ in range(120):
        y = x + age / (age + 3) * (x - previous)
        following = y - curvature * y
        if curvature * y @ (following - x) > 0:
            previous, x, age = following, following, 0
        else:
            previous, x, age = x, following, age + 1
        visited.append(x)
    method = sx.optimization.RestartedNesterov(sx.optimization.Quadratic(jnp.asarray(curvature)), 1.0)
    path = sx.evolve(method, method.init(jnp.ones(2)), steps=120).states
    np.testing.assert_allclose(path.position[1:], visited, rtol=1e-9, atol=1e-13)
    assert int(np.sum(np.diff(path.age) < 0)) >= 2  # it did restart


def test_heavy_ball_best_tuned_against_its_closed_form_rate_from_an_orbit():
    """(sqrt k - 1)/(sqrt k + 1) = 0.818182 at k = 100, as the slope of log|x| over a long orbit: the double multiplier
    adds a factor n, whose slope over 150 steps is below 1/75."""
    root = 10.0
    ball = sx.optimization.HeavyBall(
        sx.optimization.Quadratic(jnp.array([1.0, 100.0])), (2 / (1 + root)) ** 2, ((root - 1) / (root + 1)) ** 2
    )
    sizes = sx.evolve(ball, ball.init(jnp.ones(2)), steps=150, save=lambda s: jnp.linalg.norm(s.position)).states
    rate = np.polyfit(np.arange(100, 151), np.log(np.asarray(sizes[100:]) / np.arange(100, 151)), 1)[0]
    assert np.exp(rate) == pytest.approx(0.818182, abs=0.01)


SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 60)
WRAPPED = {
    "schedule": optax.sgd(SCHEDULE),
    "backtracking line search": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20)),
    "zoom line search": optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(20)),
    "Polyak step": optax.polyak_sgd(),
    "plateau": optax.chain(optax.sgd(0.05), optax.contrib.reduce_on_plateau(patience=5, factor=0.5)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "zoom line search" else name for name in WRAPPED]
)
def test_wrappers_of_optax_come_through_and_reach_the_minimum(name):
    method = sx.from_optax(sx.optimization.Quadratic(jnp.array([1.0, 12.0])), WRAPPED[name])
    path = sx.evolve(method, method.init(jnp.array([1.0, 1.0])), steps=200, save="last")
    assert path.outcome == "completed"
    # The schedule has run out after 60 steps: what is left is prod(1 - eta_n), from the sum of its rates.
    left = float(np.prod(1 - np.array([np.asarray(SCHEDULE(n)) for n in range(200)]))) if name == "schedule" else 0.0
    np.testing.assert_allclose(path.final.parameters[0], left, rtol=1e-9, atol=1e-3)


def test_polyak_step_is_its_formula():
    """x - (f - f*)/|g|^2 g, at most the largest rate: halves the distance on a one-dimensional quadratic."""
    method = sx.from_optax(sx.optimization.Quadratic(8.0), optax.polyak_sgd())
    final = sx.evolve(method, method.init(jnp.array([1.0])), steps=3).final.parameters
    np.testing.assert_allclose(final, [0.125], rtol=1e-14)


def test_a_schedule_of_the_system_itself_bends_its_time():
    """One line of the docs: x' = -s(t) grad L, and each step is that of optax with the schedule."""
    descent, h = sx.optimization.GradientDescent(steep, 0.01), 0.01
    warm = sx.as_near_identity(lambda t, x, h: descent.advance(t, x, h * jnp.minimum(1.0, t / 0.2)), h)
    velocity = sx.limit(warm).velocity(0.05, X)
    np.testing.assert_allclose(velocity, -0.25 * jax.grad(steep)(X), rtol=1e-12)
    theirs = sx.from_optax(steep, optax.sgd(lambda n: h * jnp.minimum(1.0, n * h / 0.2)))
    np.testing.assert_allclose(
        sx.evolve(warm, X, steps=40).final, sx.evolve(theirs, theirs.init(X), steps=40).final.parameters, rtol=1e-12
    )


@pytest.mark.parametrize(("build", "kind", "words"), [
    (lambda: sx.optimization.clipped(steep, 0.0), ValueError, r"clipped: bound\n  got 0\.0, .*number above 0"),
    (lambda: sx.optimization.noisy(steep, -1.0), ValueError, r"noisy: amplitude"),
    (lambda: sx.optimization.RestartedNesterov(steep, 0.1).step(0, X), TypeError, r"Restarting\(position, velocity, age\)"),
])  # fmt: skip
def test_misuse_is_told(build, kind, words):
    with pytest.raises(kind, match=words):
        build()
