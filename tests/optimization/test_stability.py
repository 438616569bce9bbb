"""The stability instrument: its numbers beside closed forms, and what it says of runs that are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import separatrix as sx
from separatrix import optimization
from separatrix.optimization.stability import edge_ratio
from separatrix.optimization.stability.binding import split_model
from separatrix.optimization.stability.history import History
from separatrix.optimization.stability.judge import judge
from separatrix.optimization.stability.oscillation import Oscillation
from separatrix.optimization.stability.reading import Reading
from separatrix.optimization.stability.watched import halves_of, in_a_loop, size_of

RATE, B = 0.1, 0.9


def update(optimizer, slope, inner, parameters):
    """A step of a user, under the promotion rules that optax was written for; ours stays strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return optimizer.update(slope, inner, parameters)


CURVATURES = np.array([1.0, 7.0, 50.0])


def bowl(x):
    return jnp.sum(jnp.asarray(CURVATURES, x.dtype) * x**2) / 2


def orbit(optimizer, start=(1.0, 1.0, 1e-3), steps=61, loss=bowl, dtype=jnp.float64, **settings):
    """A plain loop with the one line; (monitor, losses before each step)."""
    x = jnp.asarray(start, dtype)
    monitor = sx.StabilityMonitor(loss, optimizer, **{"tol": 1e-8, **settings})
    inner, losses = optimizer.init(x), []

    @jax.jit
    def step(x, inner):
        value, slope = jax.value_and_grad(loss)(x)
        updates, inner = update(optimizer, slope, inner, x)
        return optax.apply_updates(x, updates), inner, value

    for n in range(steps):
        after, inner_after, value = step(x, inner)
        monitor(n, x, inner, loss=value)
        x, inner = after, inner_after
        losses.append(float(value))
    return monitor, np.array(losses)


@pytest.mark.parametrize(
    ("optimizer", "ratio"),
    [
        (optax.sgd(0.03), 0.03 * 50 / 2),
        (optax.sgd(0.03, momentum=0.9), 0.03 * 50 / 3.8),
        pytest.param(optax.sgd(0.02, momentum=0.9, nesterov=True), 0.02 * 50 * 2.8 / 3.8, marks=pytest.mark.slow),
    ],
    ids=["descent", "momentum", "Nesterov"],
)
def test_below_the_edge_the_ratio_is_exact_and_nothing_is_told(optimizer, ratio):
    told = []
    monitor, _ = orbit(optimizer, notify=told.append)
    report = monitor.report()
    np.testing.assert_allclose(report.ratios, ratio, rtol=1e-10)
    assert report.state == "stable" and not report.events and not told and not report.findings
    assert report.sharpness[0] == pytest.approx(50.0, rel=1e-10) and np.isnan(report.sharpness[1])
    # |H g| / |g| at the start, over two, in the metric of the first response.
    first = 0.03 if ratio > 0.74 or ratio < 0.5 else 0.02 * 1.9
    slope = CURVATURES * np.array([1.0, 1.0, 1e-3])
    expected = first * np.linalg.norm(CURVATURES * slope) / np.linalg.norm(slope) / 2
    assert report.departures[0] == pytest.approx(expected, rel=1e-10)


def test_frozen_adam_is_measured_in_its_own_metric():
    # eps = 1 hides what the second moments hold, also after the first long steps; step n + 1 divides by 1 - 0.9^(n+1).
    monitor, _ = orbit(optax.adam(0.5, eps=1.0), start=(1e-30, 1e-30, 1e-30), steps=41)
    report = monitor.report()
    # Before the first step there is no scale yet, so no reading.
    assert report.steps.tolist() == [20, 40]
    expected = 0.5 * 0.1 / (1 - 0.9 ** (report.steps + 1.0)) * 50 / 3.8
    np.testing.assert_allclose(report.ratios, expected, rtol=1e-7)


def test_single_precision_stays():
    monitor, _ = orbit(optax.sgd(0.03), dtype=jnp.float32, steps=21, tol=1e-4)
    assert monitor.direction.covector.dtype == jnp.float32
    np.testing.assert_allclose(monitor.report().ratios, 0.75, rtol=1e-4)


def test_past_the_edge_the_oscillation_and_its_spike_are_told_ahead():
    rate = 0.0405
    monitor, losses = orbit(optax.sgd(rate), start=(1.0, 1.0, 1e-2), steps=81)
    kinds = [event.kind for event in monitor.events]
    assert kinds[:2] == ["oscillation", "spike ahead"]
    first, ahead = monitor.events[0].finding, monitor.events[1]
    assert first.evidence == pytest.approx(rate * 50 / 2, rel=1e-10) and not first.holds
    assert "since step 0" in first.cause and "below 0.99 of itself" in first.remedy
    # The oscillation's own loss, 50 x_3^2/2 with x_3 = 1e-2 (1 - 50 h)^n, against a fifth of the run's at the alarm.
    own = 25 * 1e-4 * (1 - 50 * rate) ** (2.0 * np.arange(400))
    reached = int(np.argmax(own > 0.2 * losses[ahead.step]))
    assert abs(ahead.finding.evidence - (reached - ahead.step)) <= 1.5


def test_lost_from_the_start_is_told_at_the_start():
    monitor, _ = orbit(optax.sgd(0.1), steps=1)
    (event,) = monitor.events
    assert (event.step, event.kind, monitor.report().state) == (0, "diverging", "diverging")
    assert event.finding.evidence == pytest.approx(2.5, rel=1e-10) and event.finding.threshold == 2


def test_what_is_not_finite_is_told():
    monitor = sx.StabilityMonitor(bowl, optax.sgd(0.03))
    monitor(0, jnp.ones(3), optax.sgd(0.03).init(jnp.ones(3)))
    monitor(20, jnp.array([1.0, jnp.nan, 1.0]))
    assert [(event.step, event.kind) for event in monitor.events] == [(20, "non-finite")]
    assert "checkpoint" in str(monitor.events[0]) and np.isnan(monitor.report().losses[-1])


@pytest.mark.parametrize("looks", ["a loop", "fit"])
def test_length_of_an_update_over_that_of_the_parameters(looks):
    start, rate = np.array([1.0, 1.0, 1e-3]), 0.01
    if looks == "fit":
        monitor = sx.StabilityMonitor(every=20)
        sx.fit(
            bowl,
            lambda loss: optimization.GradientDescent(loss, rate),
            initial=jnp.asarray(start),
            steps=20,
            monitor=monitor,
        )
    else:
        monitor, _ = orbit(optax.sgd(rate), start=tuple(start), steps=21)
    # Of the first reading, which is wide; the next nine are not.
    expected = rate * np.linalg.norm(CURVATURES * start) / np.linalg.norm(start)
    assert monitor.report().updates[0] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(monitor.report().updates[1])


def valley(x, slope=0.3):
    """(10 + s y) x^2/2 + 1/10: sharpness 10 + s y along x, which nothing but an alternation along x changes."""
    return (10 + slope * x[1]) * x[0] ** 2 / 2 + 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_height_of_a_burst_is_told_before_it(momentum):
    # Past the edge x alternates and grows, until the gradient in y, s x^2/2, has brought the sharpness below the edge.
    slope, rate, growth = 0.3, 0.2, 2 * (1 + momentum) / (1 - momentum)
    # Theory is of slow bursts, to first order in their rate: this one grows by 2 % a step.
    ratio = 1 + 0.02 / growth
    start = (1e-2, (ratio * (2 + 2 * momentum) / rate - 10) / slope)
    optimizer = optax.sgd(rate, momentum)
    early, _ = orbit(optimizer, start=start, loss=valley, steps=41, wide_every=1)
    # M = rate/(2 + 2b), lambda~ = M (10 + s y), and what stays in the gradient moves y by rate/(1 - b) times it.
    flattening = (rate * slope / (2 + 2 * momentum)) ** 2 * rate / (1 - momentum)
    assert early.history.flattening == pytest.approx(flattening, rel=0.01)
    monitor, losses = orbit(optimizer, start=start, loss=valley, steps=401)
    rise = max(losses) - 0.1
    assert rise == pytest.approx(growth * (ratio - 1) ** 2 / flattening, rel=0.1)
    assert early.history.height() == pytest.approx(rise, rel=0.1)
    told = [event for event in monitor.events if event.kind == "spike ahead"]
    assert told and told[0].step < int(np.argmax(losses)) and "to turn at" in told[0].finding.cause


def reading(loss, ratio=0.5):
    missing = jnp.asarray(jnp.nan)
    numbers = {"ratio": ratio, "ratio_error": 0.0, "loss": loss, "response": 0.0, "climbing": -1.0, "idle": 0.0}
    names = [name for name in Reading.__dataclass_fields__ if name not in ("products", "fate")]
    known = {name: jnp.asarray(numbers[name]) if name in numbers else missing for name in names}
    return Reading(**known, products=jnp.asarray(1), fate=jnp.zeros(1, jnp.int8))


@pytest.mark.parametrize(
    ("losses", "kinds"),
    [
        # From -0.1 to -10: a hundred times the start, and all is well. To 0: nothing is divided by.
        ([-0.1, -1.0, -10.0], []),
        ([1.0, 0.0, 0.0, 0.5], []),
        ([1.0, 5.0, 10.1], ["diverging"]),
        ([1.0, jnp.inf], ["non-finite"]),
    ],
)
def test_what_losses_alone_say(losses, kinds):
    history = History(20)
    for n, loss in enumerate(losses):
        history.add(20 * n, reading(loss), Oscillation(np.nan, np.nan, np.nan), 0)
        history.new(judge(history))
    assert [event.kind for event in history.events] == kinds


def test_vanishing_second_moments_are_told_and_not_the_curvature():
    # The gradient falls with x, and Adam's step over it rises as 1/sqrt(v), on a curvature that stays.
    start = (40.0, 40.0, 40.0)
    monitor, _ = orbit(optax.adam(1.0, b1=0.0, b2=0.8, eps=1e-16), start=start, steps=101)
    found = next(event.finding for event in monitor.events if event.kind == "vanishing denominators")
    # All of the rise is the response: the mean of its logarithms over three directions that vanish alike.
    assert found.evidence == pytest.approx(1.0, abs=0.3)
    np.testing.assert_allclose(monitor.history.sharpness[0], 50.0, rtol=1e-8)
    assert "eps" in found.remedy


DIMENSION, BATCH, DESCENT = 400, 64, optax.sgd(0.1)


def points(n, spread=1.0):
    return spread * jax.random.normal(jax.random.key(n), (BATCH, DIMENSION))


def centred(x, batch):
    return jnp.mean(jnp.sum((x[None] - batch) ** 2, axis=1)) / 2


def test_a_bad_batch_is_told_with_its_step():
    x = jnp.zeros(DIMENSION)
    inner, monitor = DESCENT.init(x), sx.StabilityMonitor(centred, DESCENT)
    step = jax.jit(lambda x, inner, batch: (*DESCENT.update(jax.grad(centred)(x, batch), inner), centred(x, batch)))
    for n in range(61):
        batch = points(n) * (30.0 if n == 37 else 1.0)
        updates, after, value = step(x, inner, batch)
        monitor(n, x, inner, batch, loss=value)
        x, inner = optax.apply_updates(x, updates), after
    assert [(event.step, event.kind) for event in monitor.events] == [(40, "bad batch")]
    assert "batch of step 37" in monitor.events[0].finding.cause


def test_noise_scale_is_the_closed_form_and_is_told_where_the_loss_is_flat():
    # Gradients of single examples scatter by s^2 in each of d dimensions about x - mu of length 1.
    spread, x = 0.1**0.5, jnp.zeros(DIMENSION).at[0].set(1.0)
    inner, monitor = DESCENT.init(x), sx.StabilityMonitor(centred, DESCENT, wide_every=100)
    for n in range(15):
        monitor(20 * n, x, inner, points(n, spread))
    # Of halves of b = 32: tr Sigma to sqrt(2/d) = 7 %; |g|^2 = 1 to sqrt(2 s^2/b + d s^4/b^2) = 10 % a reading; averages
    # over 15 readings with weights 0.9^k are right to a third of their root of squares.
    assert monitor.report().noise_scales[-1] == pytest.approx(DIMENSION * spread**2, rel=4 * 0.122 * 0.33)
    assert monitor.history.batch_size == BATCH and not monitor.events
    # The same batch again is no sample: a run on all its data has no noise to be told of.
    monitor(300, x, inner, points(14, spread))
    assert monitor.history.batch_size == 0
    # d s^2/|g|^2 = 40,000 there, 625 batches.
    monitor = sx.StabilityMonitor(centred, DESCENT, wide_every=100)
    for n in range(12):
        monitor(20 * n, 0.1 * x, inner, points(n))
    (event,) = [event for event in monitor.events if event.kind == "noise"]
    # Not before ten readings say that the loss is flat.
    assert event.step >= 180 and event.finding.evidence > 10 and "average more" in event.finding.remedy


def test_a_key_or_a_weight_in_the_batch_goes_whole_to_both_halves():
    def loss(x, batch, weight, key):
        return weight * centred(x, batch) + 0.0 * jax.random.normal(key, (), batch.dtype)

    x, parts = jnp.ones(DIMENSION), split_model(jnp.ones(DIMENSION))[1]
    batch = in_a_loop(loss, (points(0), jnp.asarray(3.0), jax.random.key(1)), parts, x, 16)
    halves = halves_of(batch, 512)
    assert size_of(batch) == 16 and halves.size == 8
    for i in range(2):
        side, expected = jax.tree.map(lambda leaf, i=i: leaf[i], halves.sides), centred(x, points(0)[8 * i : 8 * i + 8])
        assert float(halves.loss(side, x)) == pytest.approx(3 * float(expected), rel=1e-12)


class Net(eqx.Module):
    """With leaves that are no arrays, an integer, and a weight that never has a gradient."""

    layers: eqx.nn.MLP
    unused: jax.Array
    count: jax.Array

    def __call__(self, x):
        return self.layers(x) + 0.0 * jnp.sum(self.unused)


def net():
    layers = eqx.nn.MLP(3, 2, 4, 1, jnp.tanh, key=jax.random.key(0), dtype=jnp.float64)
    return Net(layers, jnp.ones(3), jnp.asarray(3))


def squared(model, inputs, targets):
    return jnp.mean(jnp.sum((jax.vmap(model)(inputs) - targets) ** 2, axis=1))


INPUTS = jax.random.normal(jax.random.key(1), (16, 3))
TARGETS = jax.random.normal(jax.random.key(2), (16, 2))


def on_batch(model, batch):
    return squared(model, *batch)


ADAM = optax.adam(0.01)


def by_hand(optimizer, steps, **settings):
    """A user's loop over a model of equinox."""
    model, monitor = net(), sx.StabilityMonitor(squared, optimizer, **settings)
    inner = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, inner):
        slope = eqx.filter_grad(squared)(model, INPUTS, TARGETS)
        updates, inner = update(optimizer, slope, inner, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), inner

    for n in range(steps + 1):
        monitor(n, model, inner, INPUTS, TARGETS)
        last = model, inner
        model, inner = step(model, inner)
    return monitor, *last


def test_ratio_of_a_network_is_the_dense_eigenvalue_and_idle_parameters_do_no_harm():
    monitor, model, inner = by_hand(ADAM, 40, tol=1e-8)
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)
    flat, unflatten = ravel_pytree(parameters)
    hessian = jax.hessian(lambda p: squared(eqx.combine(unflatten(p), rest), INPUTS, TARGETS))(flat)
    # |R| in closed form; the unused weight has v = 0, no curvature, and no part in it.
    v = ravel_pytree(inner[0].nu)[0]
    first = 0.01 * 0.1 / (1 - 0.9**41) / (jnp.sqrt(0.999 * v / (1 - 0.999**41)) + 1e-8)
    scaled = jnp.sqrt(first)[:, None] * hessian * jnp.sqrt(first)[None]
    truth = float(jnp.linalg.eigvalsh(scaled)[-1]) / 3.8
    assert jnp.any(v == 0) and monitor.report().ratios[-1] == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "key"), [pytest.param(None, None, marks=pytest.mark.slow), (8, 3)], ids=["all", "batches"]
)
def test_looking_on_changes_nothing(batch_size, key):
    key = None if key is None else jax.random.key(key)
    settings = {"initial": net(), "steps": 50, "batch_size": batch_size, "key": key, "every": 50}
    monitor, data = sx.StabilityMonitor(tol=1e-8), (INPUTS, TARGETS)
    seen = sx.fit(on_batch, ADAM, data, monitor=monitor, **settings)
    alone = sx.fit(on_batch, ADAM, data, **settings)
    for a, b in zip(jax.tree.leaves(seen.state), jax.tree.leaves(alone.state), strict=True):
        np.testing.assert_array_equal(a, b)
    report = monitor.report()
    assert report.steps.tolist() == [20, 40, 50] and monitor.history.batch_size == (batch_size or 0)
    if batch_size is None:
        loop, *_ = by_hand(ADAM, 50, tol=1e-8)
        # Two compilations of the same steps differ by rounding.
        np.testing.assert_allclose(report.ratios[:2], loop.report().ratios, rtol=1e-6)
        np.testing.assert_allclose(report.losses[:2], loop.report().losses, rtol=1e-10)


def test_fit_with_a_map_of_this_family_and_a_run_that_breaks():
    monitor = sx.StabilityMonitor()
    sx.fit(bowl, lambda loss: optimization.HeavyBall(loss, 0.03, 0.9), initial=jnp.ones(3), steps=20, monitor=monitor)
    # Within the bound of the search, a tenth of its tolerance of 3 %.
    np.testing.assert_allclose(monitor.report().ratios, 0.03 * 50 / 3.8, rtol=3e-3)
    monitor = sx.StabilityMonitor()
    with pytest.warns(RuntimeWarning, match="training diverged"):
        sx.fit(
            lambda x: jnp.sum(x**4), lambda loss: optimization.GradientDescent(loss, 1.0), initial=2 * jnp.ones(2),
            steps=40,
            monitor=monitor,
        )  # fmt: skip
    assert monitor.events[0].step == 0 and monitor.report().state in ("diverging", "non-finite")


def test_misuse_is_told():
    with pytest.raises(ValueError, match="more than 8 steps"):
        sx.StabilityMonitor(every=8)
    with pytest.raises(ValueError, match="no linear response"):
        sx.StabilityMonitor(bowl, optax.lion(1e-3))
    with pytest.raises(ValueError, match="no linear response"):
        sx.StabilityMonitor(bowl, optimization.Lion(bowl, 1e-3))
    with pytest.raises(ValueError, match="elementwise in the gradient"):
        edge_ratio(optax.polyak_sgd())
    with pytest.raises(ValueError, match="both, in a loop of one's own"):
        sx.StabilityMonitor()(0, jnp.ones(3))
    assert np.isnan(edge_ratio(optax.sign_sgd(0.1)))


def test_a_report_of_nothing_says_so():
    report = sx.StabilityMonitor(bowl, optax.sgd(0.03)).report()
    assert report.state == "not watched" and "fewer than 3" in report.cautions[0] and "not taken" in str(report)
