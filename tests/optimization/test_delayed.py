"""Delay systems and parallel schemes: stability edges in closed form, limits, and what each is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.catalogue.learning import NoisyQuadratic

DEVIATIONS = 4.0
SEED = 5
# Asymmetric and not quadratic: the Hessian depends on where it is taken.
CURVED = sx.as_objective(lambda x: 0.5 * x[0] ** 2 + x[0] * x[1] + x[1] ** 2 + jnp.cosh(x[0] - 0.3 * x[1]))
START = jnp.array([1.0, -0.7])


def radius(system, state):
    return sx.linear_stability(system, state).spectral_radius


@pytest.mark.parametrize("delay", range(9))
def test_delayed_descent_is_stable_below_the_edge_of_levin_and_may(delay):
    """By the spectrum on both sides; at the edge the pair e^{+-i pi/(2d+1)} lies on the circle."""
    curvature, edge = 4.0, sx.optimization.delay_edge(delay) / 4.0
    for factor, verdict in ((0.99, "stable"), (1.01, "unstable")):
        late = sx.optimization.DelayedDescent(sx.optimization.Quadratic(curvature), factor * edge, delay)
        assert sx.linear_stability(late, late.init(jnp.zeros(1))).verdict == verdict
    late = sx.optimization.DelayedDescent(sx.optimization.Quadratic(curvature), edge, delay)
    found = sx.linear_stability(late, late.init(jnp.zeros(1)))
    assert found.spectral_radius == pytest.approx(1.0, abs=1e-12)
    angle = np.max(np.abs(np.angle(np.asarray(found.spectrum)[:2])))
    assert angle == pytest.approx(np.pi / (2 * delay + 1), abs=1e-7)


def test_edge_by_evolving_from_both_sides():
    delay = 3
    for factor, smaller in ((0.95, True), (1.05, False)):
        late = sx.optimization.DelayedDescent(
            sx.optimization.Quadratic(1.0), factor * sx.optimization.delay_edge(delay), delay
        )
        end = sx.evolve(late, late.init(jnp.array([1.0])), steps=600, save="last").final
        assert (float(jnp.max(jnp.abs(end))) < 1.0) == smaller
    np.testing.assert_allclose(sx.optimization.delay_edge(np.arange(3)), [2, 1, (np.sqrt(5) - 1) / 2], rtol=1e-15)


def test_delayed_descent_is_its_recursion_and_without_delay_plain_descent():
    h, delay = 0.03, 2
    late = sx.optimization.DelayedDescent(CURVED, h, delay)
    path = np.asarray(sx.evolve(late, late.init(START), steps=10, save=late.parameters).states)
    history, gradient = [np.asarray(START)] * (delay + 1), jax.jit(jax.grad(CURVED))
    for n in range(10):
        np.testing.assert_allclose(path[n], history[-1], rtol=1e-13)
        history.append(history[-1] - h * np.asarray(gradient(history[-1 - delay])))
    none, descent = sx.optimization.DelayedDescent(CURVED, h, 0), sx.optimization.GradientDescent(CURVED, h)
    ends = [sx.evolve(m, m.init(START), steps=20, save="last").final for m in (none, descent)]
    np.testing.assert_allclose(ends[0][0], ends[1], rtol=1e-14)


def ends_of(delay, counts, end):
    for count in counts:
        late = sx.optimization.DelayedDescent(CURVED, end / count, delay)
        yield sx.evolve(late, late.init(START), steps=int(count), save="last").final[0]


@pytest.mark.parametrize("delay", [1, 3])
def test_limit_is_gradient_flow_at_order_one_and_the_delayed_flow_at_order_two(delay):
    """The second sees the factor 2d + 1: with any other it falls to order one."""
    counts, end = 64 * 2 ** np.arange(3), 1.0
    ends = list(ends_of(delay, counts, end))
    errors = {"limit": [], "delayed": []}
    for x, count in zip(ends, counts, strict=True):
        for name, step_size in (("limit", 0.0), ("delayed", end / count)):
            flow = sx.optimization.DelayedFlow(CURVED, step_size, delay)
            exact = sx.evolve(flow, START, times=(0.0, end), rtol=1e-11, atol=1e-12, save="last").final
            errors[name].append(float(jnp.linalg.norm(x - exact)))
    assert float(sx.diagnostics.fit_order(end / counts, errors["limit"]).order) == pytest.approx(1.0, abs=0.15)
    assert float(sx.diagnostics.fit_order(end / counts, errors["delayed"]).order) == pytest.approx(2.0, abs=0.15)


def test_delayed_flow_without_delay_is_the_modified_flow_of_descent():
    descent = sx.optimization.GradientDescent(CURVED, 0.1)
    expected = sx.modified(descent).velocity(0.0, START)
    np.testing.assert_allclose(sx.optimization.DelayedFlow(CURVED, 0.1, 0).velocity(0.0, START), expected, rtol=1e-13)


@pytest.mark.parametrize("consistent", [True, False])
def test_mean_of_stale_descent_is_the_recursion_of_the_mean_delay(consistent):
    a, delay, steps, runs = 0.3, 3, 12, 4000
    stale = sx.optimization.StaleDescent(
        sx.optimization.Quadratic(jnp.array([1.0, 2.0])), a, delay, consistent=consistent
    )
    start = stale.init(jnp.array([1.0, -1.0]))
    keys = jax.random.split(jax.random.key(SEED), runs)
    ends = jax.vmap(lambda key: sx.evolve(stale, start, steps=steps, key=key, save="last").final[0])(keys)
    for i, (curvature, x0) in enumerate(((1.0, 1.0), (2.0, -1.0))):
        past = [x0] * (delay + 1)
        for _ in range(steps):
            past.append(past[-1] - a * curvature * np.mean(past[-delay - 1 :]))
        off = abs(float(ends[:, i].mean()) - past[-1]) / (float(ends[:, i].std()) / np.sqrt(runs))
        assert off < DEVIATIONS, f"seed {SEED}: {off}"


def test_inconsistent_reads_give_each_coordinate_its_own_delay():
    """On equal curvatures coordinates stay equal for ever if read together, and do not if read apart."""
    for consistent in (True, False):
        stale = sx.optimization.StaleDescent(sx.optimization.Quadratic(1.0), 0.2, 3, consistent=consistent)
        end = sx.evolve(stale, stale.init(jnp.ones(6)), steps=10, key=jax.random.key(SEED), save="last").final[0]
        assert (float(jnp.std(end)) < 1e-12) == consistent


def test_hessian_compensation_undoes_the_delay_on_a_quadratic_and_only_there():
    bowl = sx.optimization.Quadratic(jnp.array([1.0, 3.0]))
    for objective, exact in ((bowl, True), (CURVED, False)):
        late = sx.optimization.DelayCompensatedDescent(objective, 0.05, 4, None)
        plain = sx.optimization.GradientDescent(objective, 0.05)
        one = sx.evolve(late, late.init(START), steps=30, save="last").final[0]
        other = sx.evolve(plain, START, steps=30, save="last").final
        assert np.allclose(one, other, rtol=1e-12, atol=1e-14) == exact


def test_compensation_by_squared_gradients_is_the_formula_and_keeps_the_edge_of_the_delay():
    h, strength = 0.05, 0.7
    late = sx.optimization.DelayCompensatedDescent(CURVED, h, 1, strength)
    old, new = jnp.array([0.4, 0.9]), jnp.array([0.1, -0.2])
    g = jax.grad(CURVED)(old)
    after = late.step(0, jnp.stack([new, old]))
    np.testing.assert_allclose(after[0], new - h * (g + strength * g * g * (new - old)), rtol=1e-14)
    np.testing.assert_array_equal(after[1], new)
    at_rest = sx.optimization.DelayCompensatedDescent(
        sx.optimization.Quadratic(1.0), sx.optimization.delay_edge(2), 2, 50.0
    )
    assert radius(at_rest, at_rest.init(jnp.zeros(1))) == pytest.approx(1.0, abs=1e-12)
    exact = sx.optimization.DelayCompensatedDescent(sx.optimization.Quadratic(1.0), 2.0, 2, None)
    assert radius(exact, exact.init(jnp.zeros(1))) == pytest.approx(1.0, abs=1e-7)


def test_compensation_by_the_hessian_is_one_order_nearer_to_descent():
    """Late gradients are off by O(h) of the gradient, compensated ones by O(h^2): 1 and 2 at a fixed time."""
    counts, errors = 64 * 2 ** np.arange(3), {"late": [], "compensated": []}
    for count in counts:
        h = 1 / count
        plain = sx.evolve(sx.optimization.GradientDescent(CURVED, h), START, steps=int(count), save="last").final
        for name, m in (
            ("late", sx.optimization.DelayedDescent(CURVED, h, 3)),
            ("compensated", sx.optimization.DelayCompensatedDescent(CURVED, h, 3, None)),
        ):
            end = sx.evolve(m, m.init(START), steps=int(count), save="last").final[0]
            errors[name].append(float(jnp.linalg.norm(end - plain)))
    assert float(sx.diagnostics.fit_order(1 / counts, errors["late"]).order) == pytest.approx(1.0, abs=0.15)
    assert float(sx.diagnostics.fit_order(1 / counts, errors["compensated"]).order) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(("curvature", "attraction", "workers"), [(1.0, 0.5, 4), (5.0, 0.1, 2), (0.2, 2.0, 3)])
def test_elastic_averaging_is_stable_below_its_edge(curvature, attraction, workers):
    edge = sx.optimization.elastic_edge(curvature, attraction, workers)
    for factor, expected in ((0.98, "stable"), (1.02, "unstable")):
        elastic = sx.optimization.ElasticAveraging(
            sx.optimization.Quadratic(curvature), factor * edge, attraction, workers
        )
        assert sx.linear_stability(elastic, elastic.init(jnp.zeros(1))).verdict == expected
    elastic = sx.optimization.ElasticAveraging(sx.optimization.Quadratic(curvature), edge, attraction, workers)
    assert radius(elastic, elastic.init(jnp.zeros(1))) == pytest.approx(1.0, abs=1e-10)


def test_limit_of_elastic_averaging_is_the_springs():
    """Workers with their own objectives, pulled to the centre, and the centre to them."""
    objectives = [sx.optimization.Quadratic(1.0), CURVED, lambda x: jnp.sum(x**4)]
    rho = 0.7
    elastic = sx.optimization.ElasticAveraging(objectives, 0.1, rho, 3)
    center, workers = jnp.array([0.2, -0.1]), jnp.array([[1.0, 0.3], [-0.4, 0.8], [0.5, -0.9]])
    velocity = sx.limit(elastic).velocity(0.0, sx.optimization.ElasticState(center, workers))
    for i, objective in enumerate(objectives):
        expected = -jax.grad(objective)(workers[i]) - rho * (workers[i] - center)
        np.testing.assert_allclose(velocity.workers[i], expected, rtol=1e-13)
    np.testing.assert_allclose(
        velocity.center, rho * np.sum(np.asarray(workers) - np.asarray(center), axis=0), rtol=1e-13
    )
    order = sx.measured_order(elastic, sx.limit(elastic), elastic.init(START), end=0.8).order
    assert float(order) == pytest.approx(1.0, abs=0.15)


def test_every_worker_draws_a_sample_of_its_own():
    elastic = sx.optimization.ElasticAveraging(NoisyQuadratic(), 0.1, 0.0, 3)
    workers = elastic.step(0, elastic.init(jnp.zeros(2)), key=jax.random.key(0)).workers
    assert len({float(x) for x in workers[:, 0]}) == 3


def test_local_descent_of_unlike_workers_rests_where_the_drift_says():
    """L_i = l_i (x - c_i)^2/2: (1 - (1 - h l_i)^k) weighs c_i, not l_i, unless k = 1."""
    curvatures, centers, h = np.array([1.0, 4.0, 0.5]), np.array([1.0, -2.0, 3.0]), 0.1
    objectives = [lambda x, a=a, c=c: 0.5 * a * jnp.sum((x - c) ** 2) for a, c in zip(curvatures, centers, strict=True)]
    for k in (1, 5):
        local = sx.optimization.LocalDescent(objectives, h, k, 3)
        end = sx.evolve(local, jnp.array([0.0]), steps=400, save="last").final
        weights = 1 - (1 - h * curvatures) ** k
        assert float(end[0]) == pytest.approx(weights @ centers / weights.sum(), rel=1e-12)
        minimum = curvatures @ centers / curvatures.sum()
        assert (abs(float(end[0]) - minimum) < 1e-9) == (k == 1)


def test_limit_of_local_descent_is_the_flow_of_the_mean_in_the_time_of_single_steps():
    objectives = [sx.optimization.Quadratic(1.0), CURVED]
    local = sx.optimization.LocalDescent(objectives, 0.02, 4, 2)
    expected = -(jax.grad(objectives[0])(START) + jax.grad(CURVED)(START)) / 2
    np.testing.assert_allclose(sx.limit(local).velocity(0.0, START), expected, rtol=1e-13)
    for flow, order in ((sx.limit(local), 1.0), (sx.modified(local), 2.0)):
        found = sx.measured_order(local, flow, START, end=0.64, step_sizes=[0.08, 0.04, 0.02, 0.01])
        assert float(found.order) == pytest.approx(order, abs=0.15)


def test_averaging_divides_the_stationary_variance_by_the_number_of_workers():
    """c' = (1 - h)^k c + noise of the mean: variance h/(2 - h)/W, as descent has h/(2 - h), for every k."""
    h, workers, dimensions = 0.3, 4, 20_000
    for k in (1, 4):
        local = sx.optimization.LocalDescent(NoisyQuadratic(), h, k, workers)
        end = sx.evolve(local, jnp.zeros(dimensions), steps=40 // k, key=jax.random.key(SEED), save="last").final
        off = abs(float(jnp.var(end)) / (h / (2 - h) / workers) - 1) / np.sqrt(2 / dimensions)
        assert off < DEVIATIONS, f"seed {SEED}: {off}"


def downpour_by_hand(slope, x0, h, workers, fetch, push, staggered, steps):
    """The loop of the paper's client, worker by worker; at one step all fetch before any pushes."""
    center, copies, accrued = x0.copy(), [x0.copy() for _ in range(workers)], [0 * x0 for _ in range(workers)]
    for n in range(steps):
        pushed = []
        for i in range(workers):
            count = n + (i if staggered else 0)
            if count % fetch == 0:
                copies[i] = center.copy()
            g = slope(copies[i])
            accrued[i] = accrued[i] + g
            copies[i] = copies[i] - h * g
            if count % push == 0:
                pushed.append(accrued[i])
                accrued[i] = 0 * x0
        center = center - h * sum(pushed, 0 * x0)
    return center


@pytest.mark.parametrize(("fetch", "push", "staggered"), [(1, 1, True), (3, 2, True), (2, 4, False)])
def test_downpour_is_the_clients_loop(fetch, push, staggered):
    gradient = jax.jit(jax.grad(CURVED))
    slope = lambda x: np.asarray(gradient(x))
    downpour = sx.optimization.Downpour(CURVED, 0.02, 3, fetch=fetch, push=push, staggered=staggered)
    found = sx.evolve(downpour, downpour.init(START), steps=11, save="last").final.center
    expected = downpour_by_hand(slope, np.asarray(START), 0.02, 3, fetch, push, staggered, 11)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_downpour_that_fetches_and_pushes_at_every_step_is_descent_with_all_steps_added():
    edge = 2 / 3
    for factor, verdict in ((0.99, "stable"), (1.01, "unstable")):
        downpour = sx.optimization.Downpour(sx.optimization.Quadratic(1.0), factor * edge, 3)
        assert sx.linear_stability(downpour, downpour.init(jnp.zeros(1))).verdict == verdict


def test_limit_of_the_centre_of_downpour_is_the_sum_of_the_workers():
    counts, end, errors = 64 * 2 ** np.arange(3), 0.3, []
    flow = sx.as_flow(lambda x: -3 * jax.grad(CURVED)(x))
    exact = sx.evolve(flow, START, times=(0.0, end), rtol=1e-11, atol=1e-12, save="last").final
    for count in counts:
        downpour = sx.optimization.Downpour(CURVED, end / count, 3, fetch=2, push=2)
        center = sx.evolve(downpour, downpour.init(START), steps=int(count), save="last").final.center
        errors.append(float(jnp.linalg.norm(center - exact)))
    assert float(sx.diagnostics.fit_order(end / counts, errors).order) == pytest.approx(1.0, abs=0.15)


def test_misuse_is_told():
    with pytest.raises(ValueError, match="a whole number >= 0"):
        sx.optimization.DelayedDescent(CURVED, 0.1, -1)
    with pytest.raises(ValueError, match="a whole number >= 0"):
        sx.optimization.StaleDescent(CURVED, 0.1, 1.5)
    with pytest.raises(ValueError, match="whole numbers >= 0"):
        sx.optimization.delay_edge(-1)
    with pytest.raises(ValueError, match="StaleDescent is random"):
        sx.optimization.StaleDescent(CURVED, 0.1, 1).step(0, sx.optimization.StaleDescent(CURVED, 0.1, 1).init(START))
    with pytest.raises(ValueError, match="2 for 3 workers"):
        sx.optimization.ElasticAveraging([CURVED, CURVED], 0.1, 1.0, 3)
    with pytest.raises(ValueError, match="LocalDescent: local_steps"):
        sx.optimization.LocalDescent(CURVED, 0.1, 0, 2)
    with pytest.raises(TypeError, match="floating-point arrays"):
        sx.optimization.Downpour(CURVED, 0.1, 2).init(jnp.array([1, 2]))
    with pytest.raises(TypeError, match="limit is not defined here"):
        sx.limit(sx.optimization.DelayedDescent(CURVED, 0.1, 1))
