"""What a map trains is what the map says, never what a model's fields are called."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

X = jnp.linspace(-1.0, 1.0, 8)


class Line(eqx.Module):
    """y = position x + parameters, and a third number that no loss sees: fields named as states of optimisers are."""

    position: jax.Array
    parameters: jax.Array
    players: jax.Array

    def __call__(self, x):
        return self.position * x + self.parameters


def loss(model, x):
    """Least at position = 2, parameters = -1; the Hessian is diag(mean x^2, 1), doubled."""
    return jnp.mean((jax.vmap(model)(x) - (2 * x - 1)) ** 2)


def start():
    return Line(jnp.array(0.0), jnp.array(0.0), jnp.array(7.0))


OPTIMISERS = {
    "optax": optax.sgd(0.2),
    "descent": lambda loss: sx.optimization.GradientDescent(loss, 0.2),
    "momentum": lambda loss: sx.optimization.HeavyBall(loss, 0.2, 0.0),
    "one worker": lambda loss: sx.optimization.ElasticAveraging(loss, 0.2, 0.5, 1),
    "no delay": lambda loss: sx.optimization.DelayedDescent(loss, 0.2, 0),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_model_with_fields_of_any_name_trains(name):
    """On this quadratic the path is known: descent contracts by 1 - h l a step, l = 2 mean x^2 and 2."""
    found = sx.fit(
        loss, OPTIMISERS[name], X, initial=start(), steps=5, every=1, metrics={"slope": lambda model: model.position}
    )
    for path, minimum, curvature in (
        (found.metrics["slope"], 2.0, 2 * np.mean(np.asarray(X) ** 2)),
        (found.model.parameters, -1.0, 2.0),
    ):
        worker, center, expected = 0.0, 0.0, [0.0]
        pull = 0.2 * 0.5 if name == "one worker" else 0.0
        for _ in range(5):
            apart = worker - center
            worker, center = worker - 0.2 * curvature * (worker - minimum) - pull * apart, center + pull * apart
            expected.append(center if name == "one worker" else worker)
        np.testing.assert_allclose(path, expected if np.ndim(path) else expected[-1], rtol=1e-12)
    assert float(found.model.players) == 7.0


class Halved(NamedTuple):
    """A user's state: the parameters stand last, and a count before them."""

    position: jax.Array
    weights: Line


class CountingDescent(sx.Map):
    """Descent that counts its steps, in a state of its own form."""

    objective: sx.Objective

    def init(self, parameters):
        return Halved(jnp.array(0.0), parameters)

    def step(self, n, state, *, key=None):
        slope = jax.grad(self.objective)(state.weights)
        return Halved(state.position + 1, jax.tree.map(lambda x, g: x - 0.2 * g, state.weights, slope))


class SayingDescent(sx.Map):
    """The same, which says where its parameters are."""

    inner: CountingDescent

    def init(self, parameters):
        return self.inner.init(parameters)

    def step(self, n, state, *, key=None):
        return self.inner.step(n, state, key=key)

    def parameters(self, state):
        return state.weights


def test_a_map_with_a_state_of_its_own_says_where_its_parameters_are_or_is_told_to():
    found = sx.fit(loss, lambda own: SayingDescent(CountingDescent(sx.as_objective(own))), X, initial=start(), steps=5)
    np.testing.assert_allclose(found.model.parameters, -1 + 0.6**5, rtol=1e-12)
    assert float(found.state.position) == 5
    with pytest.raises(ValueError, match=r"CountingDescent\.parameters\(state\)[\s\S]*Give the map a method"):
        sx.fit(loss, lambda own: CountingDescent(sx.as_objective(own)), X, initial=start(), steps=5)


def test_a_step_that_is_skipped_or_taken_back_leaves_such_a_model_as_it_was():
    """Past position = 3/2 the loss is NaN: the first beyond is kept; and a steep quartic is met more slowly each time."""
    bad = lambda model, x: loss(model, x) + 0 * jnp.sqrt(1.5 - model.position)
    path = 2 * (1 - (1 - 0.4 * np.mean(np.asarray(X) ** 2)) ** np.arange(40))
    steep = lambda model: (model.position - 3) ** 4
    ends = []
    for name in ("descent", "momentum", "optax"):
        with pytest.warns(RuntimeWarning, match="diverged"):
            skipped = sx.fit(bad, OPTIMISERS[name], X, initial=start(), steps=40, every=5, divergence="skip")
        np.testing.assert_allclose(skipped.model.position, path[path > 1.5][0], rtol=1e-12)
        assert float(skipped.model.players) == 7.0
        back = sx.fit(steep, OPTIMISERS[name], initial=start(), steps=30, every=10, divergence="roll_back")
        assert any(event["event"] == "roll_back" for event in back.events) and back.outcome.name == "completed"
        assert float(back.model.players) == 7.0 and float(back.model.parameters) == 0.0
        ends.append(back.model.position)
    assert abs(float(ends[0]) - 3) < 1
    np.testing.assert_allclose(ends, ends[0], rtol=1e-12)


def test_parameters_that_are_computed_cannot_be_taken_back_and_it_is_said():
    late = lambda loss: sx.optimization.DelayedDescent(loss, 0.2, 2)
    with pytest.raises(TypeError, match="DelayedDescent, which computes them"):
        sx.fit(loss, late, X, initial=start(), steps=5, divergence="skip")


def test_such_a_model_is_monitored_and_diagnosed():
    """Sharpness 2 against the edge 2/h: ratio h l/2 with l = 2 along `parameters`."""
    for name, ratio in (("descent", 0.2), ("optax", 0.2)):
        monitor = sx.StabilityMonitor(every=20, tol=1e-8)
        found = sx.fit(loss, OPTIMISERS[name], X, initial=start(), steps=40, monitor=monitor)
        np.testing.assert_allclose(monitor.history.ratios, ratio, rtol=1e-6)
        findings = sx.diagnose(found.map, found.state, questions=["linear_stability"]).findings
        told = next(finding for finding in findings if "edge" in finding.name)
        assert told.evidence == pytest.approx(ratio, rel=1e-5)


def test_one_loss_is_one_loss_whatever_the_map_calls_it():
    """A loss that returns (loss, more) under maps that hold it one level down, in a tuple, or by another name."""
    with_more = lambda model: ((model - 2.0) ** 2, {"seen": model})
    for optimizer in (
        lambda own: sx.optimization.RestartedNesterov(own, 0.05),
        lambda own: sx.optimization.ElasticAveraging(own, 0.1, 1.0, 2),
        lambda own: SayingDescent(CountingDescent(own)),
    ):
        plain = sx.fit(lambda model: with_more(model)[0], optimizer, initial=jnp.array(0.0), steps=20)
        found = sx.fit(with_more, optimizer, initial=jnp.array(0.0), steps=20)
        assert float(found.model) == float(plain.model) and float(found.losses[-1]) < 1.0


class Batch(NamedTuple):
    """Data of a user's own: what it holds beside inputs and targets is part of it."""

    inputs: jax.Array
    targets: jax.Array
    weight: jax.Array


def test_a_tree_of_data_keeps_all_that_it_holds():
    """The weighted mean of 1 and 3 with weights 3 and 1 is 1.5; a pair alone stays a pair."""
    data = Batch(jnp.zeros(2), jnp.array([1.0, 3.0]), jnp.array([3.0, 1.0]))
    weighted = lambda m, b: jnp.mean(b.weight * (m + b.inputs - b.targets) ** 2)
    found = sx.fit(weighted, optax.sgd(0.2), data, initial=jnp.array(0.0), steps=100)
    assert float(found.model) == pytest.approx(1.5, rel=1e-12)
    paired = lambda m, b: jnp.mean((m + b[0] - b[1]) ** 2)
    found = sx.fit(paired, optax.sgd(0.2), tuple(data[:2]), initial=jnp.array(0.0), steps=100)
    assert float(found.model) == pytest.approx(2.0, rel=1e-12)
