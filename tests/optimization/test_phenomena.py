"""Phenomena of training with the truth beside each: conservation, modes in turn, the edge, the boundary of trainability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.optimization import LayerwiseDescent, mode_strength


@pytest.fixture
def deep():
    key = jax.random.key(0)
    shapes = [(3, 4), (5, 3), (2, 5)]
    weights = [0.3 * jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), shapes, strict=True)]
    return sx.optimization.DeepLinear(jax.random.normal(key, (2, 4))), weights


def test_gradient_flow_conserves_the_imbalance_of_layers_and_descent_breaks_it_at_second_order(deep):
    loss, weights = deep
    flow = sx.limit(sx.optimization.GradientDescent(loss, 0.1))
    end = sx.evolve(flow, weights, times=(0.0, 2.0), rtol=1e-11, atol=1e-12, save="last").final
    for before, after in zip(sx.optimization.imbalance(weights), sx.optimization.imbalance(end), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-9)
    assert float(loss(end)) < 0.9 * float(loss(weights))
    # A step of descent changes it by h^2 (G_2^T G_2 - G_1 G_1^T), exactly: the terms of first order cancel.
    h = 1e-3
    moved = sx.optimization.GradientDescent(loss, h).step(0, weights)
    slopes = jax.grad(loss)(weights)
    change = sx.optimization.imbalance(moved)[0] - sx.optimization.imbalance(weights)[0]
    np.testing.assert_allclose(change, h**2 * (slopes[1].T @ slopes[1] - slopes[0] @ slopes[0].T), atol=1e-15)


@pytest.mark.parametrize("step_size", [1e-2, 5e-3])
def test_modes_are_learned_in_turn_by_the_closed_form(step_size):
    values, start = jnp.array([4.0, 2.0, 1.0]), 1e-2
    turn = jax.random.orthogonal(jax.random.key(1), 3)
    loss = sx.optimization.DeepLinear(turn @ jnp.diag(values) @ jax.random.orthogonal(jax.random.key(2), 3))
    flow = sx.limit(sx.optimization.GradientDescent(loss, step_size))
    times = jnp.linspace(0.0, 5.0, 26)
    path = sx.evolve(flow, loss.aligned(start), times=times, rtol=1e-10, atol=1e-12)
    learned = jax.vmap(lambda a, b: jnp.linalg.svd(b @ a, compute_uv=False))(*path.states)
    np.testing.assert_allclose(learned, mode_strength(times[:, None], values[None], start), atol=1e-8)


def sharpening(x):
    """Sharpness 1 + x along y, and a slope that raises it at rate one."""
    return (1 + x[0]) * x[1] ** 2 / 2 - x[0]


@pytest.mark.parametrize("step_size", [0.5, 0.2])
def test_central_flow_is_the_average_of_descent_at_the_edge(step_size):
    # Period two at the edge: y -> -y with 1 + x = 2/h, and dx/dt = 1 - y^2/2 = 0 gives y^2 = 2, the variance.
    flow = sx.optimization.CentralFlow(sharpening, step_size)
    path = sx.evolve(flow, flow.init(jnp.array([0.0, 0.0])), steps=int(60 / step_size), save="last")
    assert float(path.final.position[0]) == pytest.approx(2 / step_size - 1, rel=2e-3)
    assert float(path.final.variance) == pytest.approx(2.0, rel=5e-3)
    # Descent itself alternates about that point: an orbit of period two, exactly.
    descent = sx.optimization.GradientDescent(sharpening, step_size)
    cycle = jnp.array([2 / step_size - 1, 2**0.5])
    np.testing.assert_allclose(descent.step(0, cycle), cycle * jnp.array([1.0, -1.0]), rtol=1e-14)


def test_below_the_edge_central_flow_is_gradient_flow():
    flow = sx.optimization.CentralFlow(sx.optimization.Quadratic(jnp.array([1.0, 3.0])), 0.1)
    path = sx.evolve(flow, flow.init(jnp.array([1.0, 1.0])), steps=40, save="last")
    assert float(path.final.variance) == 0.0
    # Steps of h/4 along gradient flow: (1 - h l/4)^40.
    np.testing.assert_allclose(path.final.position, (1 - 0.025 * np.array([1.0, 3.0])) ** 40, rtol=1e-12)


def test_boundary_of_a_quadratic_is_where_step_sizes_meet_two_over_the_curvatures():
    bowl = sx.optimization.Quadratic(jnp.array([1.0, 4.0]))
    grid = np.linspace(0.02, 3.0, 65)
    found = sx.optimization.trainability(
        lambda a, b: LayerwiseDescent(bowl, jnp.stack([a, b / 4])), jnp.ones(2), first=grid, second=grid, steps=3000
    )
    truth = (grid[None] < 2) & (grid[:, None] < 2)
    assert np.array_equal(found.trained, truth)
    dimension = sx.boundary_dimension(found.trained)
    # A right angle: boxes of side s see 2 (43/s) - 1 pieces of it, whose slope lies below one by less than a tenth.
    assert float(dimension.dimension) == pytest.approx(1.0, abs=0.1)


def test_fates_have_their_names():
    bowl = sx.optimization.Quadratic(jnp.array([1.0, 4.0]))
    plane = lambda a, b: LayerwiseDescent(bowl, jnp.stack([a, b / 4]))
    # Step size times curvature: 0 and 2 keep |x| for ever, 1 +- 1/2 trains, above 2 grows by (1 - a)^2 a step.
    found = sx.optimization.trainability(
        plane, jnp.ones(2), first=[0.0, 0.5, 1.5, 2.0, 2.1, 3.0], second=[0.0, 2.0, 2.1], steps=60
    )
    trained, stalled, diverging = "trained", "stalled", "diverging"
    assert found.fates.tolist() == [
        [stalled, trained, trained, stalled, diverging, diverging],
        [stalled, trained, trained, stalled, diverging, diverging],
        [diverging] * 6,
    ]
    assert dict((row.name, row.value) for row in found.rows()[1:]) == {
        "share that trains": pytest.approx(4 / 18),
        "share that diverges": pytest.approx(10 / 18),
        "share that breaks": 0.0,
        "share that stalls": pytest.approx(4 / 18),
    }
    assert "22 % of the runs stalled" in found.cautions[0]
    # x = (1 - 3)^n overflows float64 at step 1024, and x^2 at 512.
    longer = sx.optimization.trainability(plane, jnp.ones(2), first=[3.0, 2.1], second=[0.5], steps=600)
    assert longer.fates.tolist() == [["diverging", "diverging"]]
    longest = sx.optimization.trainability(plane, jnp.ones(2), first=[3.0, 2.1], second=[0.5], steps=1100)
    assert longest.fates.tolist() == [["broke", "diverging"]]
    assert longest.broke_at.tolist() == [[1024, -1]]
    assert longer.cautions == ()


def test_each_run_of_the_plane_is_the_run_by_itself():
    key = jax.random.key(3)
    inputs, targets = jax.random.normal(key, (8, 3)), jnp.arange(8.0) / 8
    start = [jax.random.normal(key, (4, 3)), jnp.ones(4)]

    def loss(p):
        return jnp.mean((jnp.tanh(inputs @ p[0].T) @ p[1] - targets) ** 2)

    rates = np.geomspace(0.1, 40.0, 5)
    objective = sx.as_objective(loss)
    found = sx.optimization.trainability(
        lambda a, b: LayerwiseDescent(objective, [a, b]), start, first=rates, second=rates, steps=60
    )
    for (row, column), end in np.ndenumerate(found.losses):
        path = sx.evolve(
            LayerwiseDescent(objective, [jnp.asarray(rates[column]), jnp.asarray(rates[row])]),
            start,
            steps=60,
            save="last",
        )
        if bool(path.outcome.completed) and float(loss(path.final)) < 1.0:
            assert end == pytest.approx(float(loss(path.final)), rel=1e-6)
    assert found.trained.any() and not found.trained.all()


def test_misuse_is_told():
    with pytest.raises(ValueError, match="two sequences"):
        sx.optimization.trainability(lambda a, b: None, jnp.ones(1), first=1.0, second=[1.0], steps=1)
    with pytest.raises(TypeError, match="a Map"):
        sx.optimization.trainability(lambda a, b: a, jnp.ones(1), first=[1.0], second=[1.0], steps=1)
    with pytest.raises(ValueError, match="at least two"):
        sx.optimization.imbalance([jnp.eye(2)])
