"""`watch`: updates unchanged, and readings in the state beside closed forms, in loops, scans and `fit`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.optimization.stability.peeling import WatchState

CURVATURES = jnp.array([1.0, 7.0, 50.0])


@pytest.fixture(autouse=True)
def climate_of_users():
    """JAX as it comes: optax is written for it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def bowl(x):
    return jnp.sum(CURVATURES.astype(x.dtype) * x**2) / 2


def scanned(optimizer, length, with_loss, start=(1.0, 1.0, 1e-3)):
    """A loop that is compiled as a whole, as a user writes it."""

    @jax.jit
    def run(x, state):
        def step(carry, _):
            x, state = carry
            value, slope = jax.value_and_grad(bowl)(x)
            extra = {"value": value, "value_fn": bowl} if with_loss else {}
            updates, state = optimizer.update(slope, state, x, **extra)
            return (optax.apply_updates(x, updates), state), value

        return jax.lax.scan(step, (x, state), length=length)

    x = jnp.asarray(start)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return run(x, optimizer.init(x))


@pytest.fixture(scope="module")
def runs():
    """(last state, losses) of momentum past its edge: watched by gradients alone, and by its loss; and not watched."""
    optimizer = optax.sgd(0.0775, 0.9)
    loss, plain = (scanned(sx.watch(optimizer, every=10), 201, given) for given in (True, False))
    return {"loss": loss, "gradients": plain, "alone": scanned(optax.with_extra_args_support(optimizer), 201, True)}


def judged(state):
    monitor = sx.StabilityMonitor()
    monitor.read(state)
    return monitor


@pytest.mark.parametrize("mode", ["loss", "gradients"])
def test_updates_are_those_of_the_optimiser(runs, mode):
    np.testing.assert_array_equal(runs[mode][0][0], runs["alone"][0][0])


def test_with_the_loss_the_ratio_is_the_closed_form_at_each_reading(runs):
    report = judged(runs["loss"][0][1]).report()
    assert report.steps.tolist() == list(range(0, 201, 10))
    # To the tolerance of the search, 3 %, and from below as Rayleigh quotients are.
    np.testing.assert_allclose(report.ratios, 0.0775 * 50 / 3.8, rtol=0.03)
    np.testing.assert_allclose(report.losses, runs["loss"][1][::10], rtol=1e-12)
    assert report.products <= 40 + 3 * 20


def test_along_the_updates_it_is_a_bound_from_below_that_is_reached_past_the_edge(runs):
    monitor = judged(runs["gradients"][0][1])
    ratios = monitor.report().ratios
    assert monitor.report().steps[0] == 10 and np.all(ratios <= 0.0775 * 50 / 3.8 * (1 + 1e-9))
    assert ratios[-1] == pytest.approx(0.0775 * 50 / 3.8, rel=1e-3)
    assert "oscillation" in {event.kind for event in monitor.events}
    # No value was passed, and none is missed.
    assert not any(event.kind == "non-finite" for event in monitor.events)


def test_the_quotient_of_differences_is_the_definition():
    optimizer = sx.watch(optax.sgd(0.02), every=1)
    x, state = jnp.array([1.0, -2.0, 0.3]), None
    state = optimizer.init(x)
    path = []
    for _ in range(3):
        updates, state = optimizer.update(jax.grad(bowl)(x), state, x)
        path.append(x)
        x = optax.apply_updates(x, updates)
    s = np.asarray(path[2] - path[1])
    expected = s @ (np.asarray(CURVATURES) * s) / (s @ s) * 0.02 / 2
    assert judged(state).report().ratios[-1] == pytest.approx(expected, rel=1e-10)


def test_readings_are_judged_once_each_and_the_newest_are_kept():
    optimizer = sx.watch(optax.sgd(0.03), every=2, keep=3)
    (_, early), _ = scanned(optimizer, 7, True)
    (_, late), _ = scanned(optimizer, 13, True)
    monitor = sx.StabilityMonitor()
    for state in (early, early, late):
        monitor.read(state)
    assert monitor.report().steps.tolist() == [2, 4, 6, 8, 10, 12]


def test_a_jump_seen_by_the_loop_is_told():
    # The first step multiplies the third coordinate by 1 - 0.2 * 50, the others shrink it.
    optimizer = sx.watch(optax.sgd(lambda n: jnp.where(n < 1, 0.2, 0.01)), every=20)
    (_, state), losses = scanned(optimizer, 41, True, start=(1.0, 1.0, 0.1))
    (jump,) = [event for event in judged(state).events if event.kind == "jump"]
    assert losses[1] > 3 * losses[0] and "by step 1:" in jump.finding.cause
    assert jump.finding.evidence == pytest.approx(float(losses[1] / losses[0]), rel=1e-12)


def test_what_cannot_be_asked_is_said_while_tracing_and_trains_all_the_same():
    inner = optax.chain(optax.clip(1.0), optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation())
    optimizer, x = sx.watch(inner), jnp.ones(3)
    with pytest.warns(RuntimeWarning, match="not watched: .*outermost"):
        updates, state = optimizer.update(jnp.ones(3), optimizer.init(x), x)
    again, _ = inner.update(jnp.ones(3), inner.init(x), x)
    np.testing.assert_array_equal(updates, again)
    assert isinstance(state, WatchState) and int(state.count) == 1


def test_a_state_without_readings_is_refused_in_words():
    monitor = sx.StabilityMonitor()
    with pytest.warns(RuntimeWarning, match="0 states of watch"):
        monitor.read(optax.adam(1e-3).init(jnp.ones(2)))


def test_it_takes_the_arguments_of_optax_by_name_as_wrappers_pass_them():
    gathered = optax.MultiSteps(sx.watch(optax.sgd(0.02), every=1), 2)
    x = jnp.array([1.0, -2.0, 0.3])
    state, before = gathered.init(x), []
    for _ in range(6):
        updates, state = gathered.update(jax.grad(bowl)(x), state, params=x)
        before.append(x)
        x = optax.apply_updates(x, updates)
    # Each step is taken twice: the last update is that between the points before steps 2 and 4.
    # optax takes the mean of the two in single precision.
    s = np.asarray(before[4] - before[2])
    expected = s @ (np.asarray(CURVATURES) * s) / (s @ s) * 0.02 / 2
    assert judged(state).report().ratios[-1] == pytest.approx(expected, rel=4 * 1.2e-7)


def test_misuse_is_told():
    with pytest.raises(ValueError, match="watch: every"):
        sx.watch(optax.sgd(0.1), every=0)


def test_fit_hands_its_loss_to_a_watched_optimiser():
    optimizer = sx.watch(optax.sgd(0.03), every=10)
    made = sx.fit(bowl, optimizer, initial=jnp.ones(3), steps=30)
    report = judged(made.state).report()
    np.testing.assert_allclose(report.ratios, 0.03 * 50 / 2, rtol=0.03)
