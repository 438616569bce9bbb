"""An optimiser's own edge and response, unnamed, beside their closed forms; and what alternations are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from separatrix.optimization.stability import edge_ratio
from separatrix.optimization.stability.edges import linear_response
from separatrix.optimization.stability.held import held_transformation
from separatrix.optimization.stability.oscillation import oscillation, steps_until
from separatrix.optimization.stability.responses import response_at

RATE, B = 0.1, 0.9


def update(optimizer, slope, inner, parameters):
    """A step of a user, under the promotion rules that optax was written for; ours stays strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return optimizer.update(slope, inner, parameters)


NESTEROV = (2 + 2 * B) * (1 + B) / (1 + 2 * B)
# optax's name and hyperparameters, and e in closed form.
EDGES = {
    "sgd": ({}, 2.0),
    "sgd, momentum": ({"momentum": B}, 2 + 2 * B),
    "sgd, Nesterov": ({"momentum": B, "nesterov": True}, NESTEROV),
    "adam": ({}, 2 + 2 * B),
    "adam, b1": ({"b1": 0.5}, 3.0),
    "adamw": ({"weight_decay": 0.0}, 2 + 2 * B),
    "amsgrad": ({}, 2 + 2 * B),
    "adamax": ({}, 2 + 2 * B),
    "nadam": ({}, NESTEROV),
    "rmsprop": ({}, 2.0),
    "rmsprop, momentum": ({"momentum": B}, 2 + 2 * B),
    "adagrad": ({}, 2.0),
    "adadelta": ({}, 2.0),
}
# Nadam's two bias corrections differ by 0.9^65; of the others they cancel.
LOOSE = {"nadam": 2e-4}


@pytest.mark.parametrize("name", EDGES)
def test_edge_of_an_unnamed_transformation_is_the_closed_form(name):
    function, (settings, ratio) = name.split(",")[0], EDGES[name]
    found = edge_ratio(getattr(optax, function)(RATE, **settings))
    assert found == pytest.approx(ratio, rel=LOOSE.get(name, 1e-12))


@pytest.mark.parametrize(
    ("build", "momentum"),
    [(optax.sgd, 0.0), (lambda h: optax.sgd(h, B), B), (optax.adam, B), (optax.adagrad, 0.0), (optax.rmsprop, 0.0)],
    ids=["sgd", "momentum", "adam", "adagrad", "rmsprop"],
)
def test_growth_past_the_edge_and_drift_are_those_of_the_momentum(build, momentum):
    # z^2 - (1 + b - l) z + b = 0 has dz/dl = 1/(1 - b) at z = -1, l = 2 + 2b; a constant gradient adds up to 1/(1 - b).
    found = linear_response(build(RATE))
    assert found.growth == pytest.approx(2 * (1 + momentum) / (1 - momentum), rel=1e-9)
    assert found.drift == pytest.approx(1 / (1 - momentum), rel=1e-9)


@pytest.mark.parametrize(
    "build",
    [
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
        lambda: optax.chain(optax.clip(0.1), optax.adam(1e-3)),
        lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
        lambda: optax.adam(optax.cosine_decay_schedule(1e-3, 1000)),
        lambda: optax.with_extra_args_support(optax.adam(1e-3)),
    ],
    ids=["clipped by norm", "clipped", "hyperparameters in the state", "schedule", "extra arguments"],
)
def test_wrappers_do_not_hide_the_edge(build):
    assert edge_ratio(build()) == pytest.approx(3.8, rel=1e-12)


@pytest.mark.parametrize("build", [lambda: optax.lamb(1e-3), lambda: optax.contrib.muon(1e-3)], ids=["LAMB", "Muon"])
def test_an_update_that_mixes_parameters_has_no_edge(build):
    with pytest.raises(ValueError, match="response goes to others, expected one elementwise"):
        edge_ratio(build())


def test_a_step_of_given_length_has_no_edge():
    assert np.isnan(edge_ratio(optax.lars(1e-3)))


def test_optimistic_descent_leaves_at_minus_one():
    # x - 2h g[n] + h g[n-1]: z^2 - z + 2hlz - hl vanishes at z = -1 where h l = 2/3, of a first response of 2h.
    assert edge_ratio(optax.optimistic_gradient_descent(RATE)) == pytest.approx(4 / 3, rel=1e-12)


def test_without_float64_the_edge_is_the_same():
    with jax.enable_x64(False):
        assert edge_ratio(optax.adam(1e-3)) == pytest.approx(3.8, rel=1e-5)


def response(transformation, state, x):
    """|R|."""
    return jnp.abs(response_at(held_transformation(transformation, state, x), jnp.ones_like(x)).first)


def test_response_of_adam_is_its_formula():
    b1, b2, eps, rate = 0.8, 0.99, 1e-3, 0.05
    adam, x = optax.adam(rate, b1, b2, eps), jnp.array([1.0, 2.0])
    state = adam.init(x)
    for n in range(5):
        _, state = update(adam, jnp.array([0.3, -2.0 + n]), state, x)
    # The next step has number 6; its own gradient is small, so v decays once more.
    root = np.sqrt(b2 * np.asarray(state[0].nu) / (1 - b2**6))
    np.testing.assert_allclose(response(adam, state, x), rate * (1 - b1) / (1 - b1**6) / (root + eps), rtol=1e-12)


def test_response_of_rmsprop_is_its_formula():
    rms, x = optax.rmsprop(0.05, decay=0.7, eps=1e-2), jnp.array([1.0, 2.0])
    state = rms.init(x)
    for n in range(3):
        _, state = update(rms, jnp.array([0.3, -2.0 + n]), state, x)
    expected = 0.05 / np.sqrt(0.7 * np.asarray(state[0].nu) + 1e-2)
    np.testing.assert_allclose(response(rms, state, x), expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_growth_and_amplitude_of_an_alternation(factor):
    found = oscillation(2.5 * (-factor) ** np.arange(9.0) + 7)
    assert found.growth == pytest.approx(factor, rel=1e-12)
    # Half of the last swing, from (-f)^7 to (-f)^8.
    assert found.amplitude == pytest.approx(2.5 * factor**7 * (1 + factor) / 2, rel=1e-12)
    assert found.flip == pytest.approx(factor / ((1 + factor**2) / 2), rel=1e-12)


def test_flip_of_a_drift_and_of_a_walk():
    assert oscillation(np.arange(9.0)).flip == -1
    walk = np.cumsum(np.random.default_rng(0).normal(size=10_000))
    # The correlation of independent neighbours: standard error 1/100.
    assert abs(oscillation(walk).flip) < 0.04
    assert np.isnan(oscillation([1.0, -1.0, 1.0]).flip) and np.isnan(oscillation(np.ones(9)).growth)


def test_steps_until_a_level():
    assert steps_until(100.0, 1.0, 10.0) == pytest.approx(1.0)  # squares grow by 100 a step
    assert steps_until(2.0, 1.0, 1.01) == pytest.approx(np.log(2) / (2 * np.log(1.01)))
    assert steps_until(1.0, 2.0, 1.1) == 0 and steps_until(2.0, 1.0, 0.9) == np.inf == steps_until(2.0, 1.0, np.nan)
