"""Descent methods against optax, closed forms and stability edges."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import separatrix as sx

CURVATURES = jnp.array([1.0, 7.0, 30.0])
QUADRATIC = sx.optimization.Quadratic(CURVATURES)
X = jnp.array([1.0, -2.0, 0.5])
STEPS = 60


def parameters_of(objective, transformation, start, steps):
    system = sx.from_optax(objective, transformation)
    return sx.evolve(system, system.init(start), steps=steps).final.parameters


def test_gradient_descent_equals_optax_sgd():
    ours = sx.evolve(sx.optimization.GradientDescent(sx.optimization.Himmelblau(), 0.01), X[:2], steps=STEPS).final
    np.testing.assert_allclose(
        ours, parameters_of(sx.optimization.Himmelblau(), optax.sgd(0.01), X[:2], STEPS), rtol=1e-12
    )


def test_heavy_ball_equals_optax_sgd_with_momentum():
    ball = sx.optimization.HeavyBall(QUADRATIC, 0.01, 0.9)
    ours = sx.evolve(ball, ball.init(X), steps=STEPS).final.position
    np.testing.assert_allclose(ours, parameters_of(QUADRATIC, optax.sgd(0.01, 0.9), X, STEPS), rtol=1e-11, atol=1e-14)


def test_lookahead_of_nesterov_equals_optax_sgd_with_nesterov():
    nesterov = sx.optimization.Nesterov(QUADRATIC, 0.01, 0.9)
    final = sx.evolve(nesterov, nesterov.init(X), steps=STEPS).final
    theirs = parameters_of(QUADRATIC, optax.sgd(0.01, 0.9, nesterov=True), X, STEPS)
    np.testing.assert_allclose(nesterov.lookahead(0.0, final), theirs, rtol=1e-11, atol=1e-14)


def test_heavy_ball_is_polyaks_recursion():
    """x[n+1] = x[n] - eta grad + gamma (x[n] - x[n-1]), v <- gamma v + eta grad written by hand."""
    eta, gamma = 0.02, 0.8
    x, v = np.array(X), np.zeros(3)
    for _ in range(10):
        v = gamma * v + eta * np.array(CURVATURES) * x
        x = x - v
    ball = sx.optimization.HeavyBall(QUADRATIC, eta, gamma)
    final = sx.evolve(ball, ball.init(X), steps=10).final
    np.testing.assert_allclose(final.position, x, rtol=1e-12)
    np.testing.assert_allclose(-jnp.sqrt(eta) * final.velocity, v, rtol=1e-12)


@pytest.mark.parametrize("transformation", [
    optax.adam(0.1), optax.adamw(0.1), optax.rmsprop(0.05), optax.lion(0.01), optax.lbfgs(), optax.polyak_sgd(1.0),
    optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
], ids=["adam", "adamw", "rmsprop", "lion", "lbfgs with its line search", "polyak (needs value)", "chain"])  # fmt: skip
def test_any_optax_transformation_runs_unchanged(transformation):
    """Equal to optax's own loop, written out, extra arguments included."""
    objective = sx.optimization.Himmelblau()
    parameters, steps = jnp.array([0.5, 1.0]), 8
    ours = parameters_of(objective, transformation, parameters, steps)
    extended = optax.with_extra_args_support(transformation)
    with jax.numpy_dtype_promotion("standard"):
        state = extended.init(parameters)
        for _ in range(steps):
            value, gradient = jax.value_and_grad(objective)(parameters)
            updates, state = extended.update(
                gradient, state, parameters, value=value, grad=gradient, value_fn=objective
            )
            parameters = optax.apply_updates(parameters, updates)
    np.testing.assert_allclose(ours, parameters, rtol=1e-9)


def spectral_radius(method, start):
    """Contraction of the linear map itself, not of an orbit."""
    step = sx.linearize(method, method.init(start), at=1)
    flat, unravel = jax.flatten_util.ravel_pytree(method.init(start))
    columns = [jax.flatten_util.ravel_pytree(step.mv(unravel(e)))[0] for e in jnp.eye(flat.size)]
    return float(jnp.max(jnp.abs(jnp.linalg.eigvals(jnp.stack(columns, axis=1)))))


def test_best_rate_of_gradient_descent():
    k, mu = 100.0, 1.0
    method = sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.array([mu, k * mu])), 2 / (mu + k * mu))
    assert spectral_radius(method, jnp.ones(2)) == pytest.approx((k - 1) / (k + 1), rel=1e-12)


def test_best_rate_of_heavy_ball():
    root = 10.0
    eta, gamma = (2 / (1 + root)) ** 2, ((root - 1) / (root + 1)) ** 2
    method = sx.optimization.HeavyBall(sx.optimization.Quadratic(jnp.array([1.0, root**2])), eta, gamma)
    # A double eigenvalue of a non-normal matrix is found to the square root of rounding.
    assert spectral_radius(method, jnp.ones(2)) == pytest.approx((root - 1) / (root + 1), rel=1e-6)
    assert (root - 1) / (root + 1) == pytest.approx(0.818182, abs=1e-6)


def test_rate_of_nesterov_with_constant_momentum():
    root = 10.0
    method = sx.optimization.Nesterov(
        sx.optimization.Quadratic(jnp.array([1.0, root**2])), 1 / root**2, (root - 1) / (root + 1)
    )
    assert spectral_radius(method, jnp.ones(2)) == pytest.approx(1 - 1 / root, rel=1e-6)


@pytest.mark.parametrize(("build", "edge"), [
    (lambda f: sx.optimization.GradientDescent(sx.optimization.Quadratic(5.0), f / 5.0), lambda b: 2.0),
    (lambda f: sx.optimization.HeavyBall(sx.optimization.Quadratic(5.0), f / 5.0, 0.9), lambda b: 2 + 2 * b),
    (lambda f: sx.optimization.Nesterov(sx.optimization.Quadratic(5.0), f / 5.0, 0.9), lambda b: (2 + 2 * b) / (1 + 2 * b)),
], ids=["gradient descent", "heavy ball", "nesterov"])  # fmt: skip
def test_stability_edges(build, edge):
    factor = edge(0.9)
    assert spectral_radius(build(factor * 0.999), jnp.ones(1)) < 1 < spectral_radius(build(factor * 1.001), jnp.ones(1))


def test_momentum_without_friction_conserves_its_invariant():
    """x^2 + w^2 - h x w of symplectic Euler on L = x^2/2, to rounding over many periods."""
    ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), 0.09, 1.0)
    states = sx.evolve(ball, ball.init(jnp.array([1.0])), steps=10_000, save=100).states
    x, w = states.position[:, 0], states.velocity[:, 0]
    np.testing.assert_allclose(x**2 + w**2 - 0.3 * x * w, 1.0, rtol=1e-11)
    assert float(jnp.min(x)) < -0.9 < 0.9 < float(jnp.max(x[1:]))


def test_limit_without_friction_conserves_the_energy():
    ball = sx.optimization.HeavyBall(sx.optimization.DoubleWell(), 0.01, 1.0)
    start = sx.optimization.PhasePoint(jnp.array([0.3]), jnp.array([0.2]))
    path = sx.evolve(sx.limit(ball), start, times=jnp.linspace(0.0, 50.0, 11), rtol=1e-10, atol=1e-12)
    energies = jax.vmap(lambda s: sx.optimization.energy(sx.optimization.DoubleWell(), s))(path.states)
    np.testing.assert_allclose(energies, energies[0], rtol=1e-7)


def test_limit_of_nesterov_is_the_bessel_function():
    flow = sx.limit(sx.optimization.Nesterov(sx.optimization.Quadratic(1.0), 0.01))
    times = jnp.linspace(0.0, 6.0, 7)
    path = sx.evolve(flow, sx.optimization.PhasePoint(jnp.ones(1), jnp.zeros(1)), times=times, rtol=1e-10, atol=1e-12)
    expected = 2 * scipy.special.j1(times[1:]) / times[1:]
    np.testing.assert_allclose(path.states.position[1:, 0], expected, atol=1e-7)
    zero = sx.evolve(
        flow,
        sx.optimization.PhasePoint(jnp.ones(1), jnp.zeros(1)),
        times=(0.0, 3.831705970207512),
        rtol=1e-10,
        atol=1e-12,
    )
    assert abs(float(zero.final.position[0])) < 1e-7


def test_nesterov_schedule_is_n_over_n_plus_three():
    eta = 0.05
    nesterov = sx.optimization.Nesterov(QUADRATIC, eta)
    x, previous = np.array(X), np.array(X)
    for n in range(7):
        y = x + n / (n + 3) * (x - previous)
        x, previous = y - eta * np.array(CURVATURES) * y, x
    np.testing.assert_allclose(sx.evolve(nesterov, nesterov.init(X), steps=7).final.position, x, rtol=1e-12)


@pytest.mark.parametrize(
    "objective",
    [sx.optimization.Rosenbrock(), sx.optimization.Beale(), sx.optimization.Himmelblau(), sx.optimization.DoubleWell()],
)
def test_minimizers_are_minima_of_value_zero(objective):
    for point in jnp.asarray(objective.minimizers):
        assert float(objective(point)) == pytest.approx(0.0, abs=1e-20)
        np.testing.assert_allclose(jax.grad(objective)(point), 0.0, atol=1e-9)
        assert float(jnp.linalg.eigvalsh(jax.hessian(objective)(point))[0]) > 0


def test_values_of_the_landscapes():
    """Hand values: Rosenbrock (-1, 1) is 4; Beale and Himmelblau at the origin are 14.203125 and 170."""
    origin = jnp.zeros(2)
    assert float(sx.optimization.Rosenbrock()(jnp.array([-1.0, 1.0]))) == 4.0
    assert float(sx.optimization.Beale()(origin)) == 14.203125
    assert float(sx.optimization.Himmelblau()(origin)) == 170.0
    assert float(sx.optimization.Quadratic(jnp.array([[2.0, 1.0], [1.0, 2.0]]))(jnp.ones(2))) == 3.0
    assert float(sx.optimization.DoubleWell()(origin)) == 0.5


@pytest.mark.slow
def test_the_same_method_runs_on_a_vector_a_large_network_and_a_batch():
    network = eqx.nn.MLP(784, 10, 512, 2, key=jax.random.key(0), dtype=jnp.float32)
    inputs = jax.random.normal(jax.random.key(1), (16, 784), jnp.float32)
    objective = sx.supervised(network, (inputs, jnp.arange(16) % 10))
    count = sum(leaf.size for leaf in jax.tree.leaves(objective.initial))
    assert count > 660_000
    slope = jax.grad(objective)(objective.initial)
    for build in (
        sx.optimization.GradientDescent,
        lambda o, h: sx.optimization.HeavyBall(o, h, 0.5),
        lambda o, h: sx.optimization.Nesterov(o, h, 0.5),
    ):
        method = build(objective, 0.05)
        run = sx.evolve(
            method, method.init(objective.initial), steps=10, save=lambda s: objective(getattr(s, "position", s))
        )
        assert run.states[-1] < run.states[1] < run.states[0]
        # From rest the first step of all three is x - h grad L, here in float32.
        first = sx.evolve(method, method.init(objective.initial), steps=1, save="last").final
        for x, g, y in zip(
            *map(jax.tree.leaves, (objective.initial, slope, getattr(first, "position", first))), strict=True
        ):
            np.testing.assert_allclose(y, x - jnp.float32(0.05) * g, atol=1e-7)
        flow = sx.limit(method).velocity(0.0, method.init(objective.initial))
        assert {leaf.dtype for leaf in jax.tree.leaves(flow)} == {jnp.dtype("float32")}
    batch = jnp.stack([X, 2 * X])
    ends = jax.vmap(lambda x: sx.evolve(sx.optimization.GradientDescent(QUADRATIC, 0.01), x, steps=5).final)(batch)
    np.testing.assert_allclose(ends, batch * (1 - 0.01 * CURVATURES[None]) ** 5, rtol=1e-13)


def test_mini_batches_average_to_the_full_gradient():
    inputs, targets = jax.random.normal(jax.random.key(0), (50, 3)), jnp.arange(50) % 2
    objective = sx.supervised(eqx.nn.Linear(3, 2, key=jax.random.key(1)), (inputs, targets), batch_size=5)
    keys = jax.random.split(jax.random.key(2), 20_000)
    values = jax.vmap(lambda key: objective(objective.initial, key=key))(keys)
    error = float(jnp.std(values)) / len(keys) ** 0.5
    assert float(jnp.mean(values)) == pytest.approx(float(objective(objective.initial)), abs=4 * error)


def test_a_diverging_run_says_so_and_keeps_the_last_good_state():
    descent = sx.optimization.GradientDescent(sx.optimization.Rosenbrock(), 0.1)
    run = sx.evolve(descent, jnp.array([-1.0, 1.5]), steps=100)
    assert run.outcome == "non_finite"
    first_bad = round(float(run.outcome.at) / 0.1)
    assert np.isfinite(run.states[first_bad - 1]).all() and np.isnan(run.states[first_bad:]).all()
    np.testing.assert_array_equal(run.last, run.states[first_bad - 1])


@pytest.mark.parametrize(("arguments", "words"), [
    ({"batch_size": 51}, r"batch_size\n  got 51, expected 1 to 50"),
    ({"loss": "hinge"}, r"'hinge', expected one of \['cross_entropy', 'squared_error'\]"),
    ({"data": (jnp.zeros((50, 3)), jnp.zeros(49, int))}, "arrays of one length"),
    ({"data": (jnp.zeros((50, 3)).at[7, 1].set(jnp.nan), jnp.zeros(50, int))}, r"\['inputs'\]\[7, 1\]\n  got nan"),
    ({"data": (jnp.zeros((0, 3)), jnp.zeros(0, int))}, "of one length >= 1"),
])  # fmt: skip
def test_bad_data_is_refused_by_name(arguments, words):
    good = {"data": (jnp.zeros((50, 3)), jnp.zeros(50, int)), "loss": "cross_entropy"}
    with pytest.raises(ValueError, match=words):
        sx.supervised(eqx.nn.Linear(3, 2, key=jax.random.key(1)), **(good | arguments))


def test_parameters_without_a_gradient_are_refused():
    with pytest.raises(TypeError, match="floating-point arrays"):
        sx.optimization.GradientDescent(QUADRATIC, 0.1).init(jnp.array([1, 2]))
    with pytest.raises(TypeError, match=r"optax\.adam"):
        sx.from_optax(QUADRATIC, 0.1)


def test_limit_of_an_optax_map_tells_which_scaling_has_one():
    with pytest.raises(TypeError, match=r"HeavyBall or Nesterov .*\n?.*sqrt\(learning rate\)"):
        sx.limit(sx.from_optax(QUADRATIC, optax.adam(0.1)))
