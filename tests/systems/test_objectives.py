"""The two classes that make objectives of other things, beside the loss written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.systems import FunctionObjective, WrappedObjective
from separatrix.systems.objective import LossOfOutputs

POINTS, KEY = jnp.arange(12.0).reshape(6, 2), jax.random.key(3)


def spread(centre, batch, key=None):
    """With a key, a multiple of what the key draws for itself."""
    size = jnp.mean((batch - centre[None]) ** 2)
    return size if key is None else size * jax.random.uniform(key, dtype=size.dtype)


def test_a_key_draws_the_batch_and_what_the_function_draws_is_independent():
    centre, (which, rest) = jnp.array([1.0, 2.0]), jax.random.split(KEY)
    batch = POINTS[jax.random.randint(which, (4,), 0, 6)]
    plain = FunctionObjective(lambda x, b: spread(x, b), data=POINTS, batch_size=4)
    assert plain(centre, key=KEY) == spread(centre, batch) and plain(centre) == spread(centre, POINTS)
    random = FunctionObjective(spread, True, POINTS, 4)
    assert random(centre, key=KEY) == spread(centre, batch, rest)
    np.testing.assert_array_equal(random.at(jnp.array([0, 5]))(centre), spread(centre, POINTS[jnp.array([0, 5])]))


def test_a_composition_is_split_into_its_parts():
    whole = FunctionObjective(LossOfOutputs(lambda x, b: b @ x, lambda y, b: jnp.sum(y**2) + b[0, 1]), data=POINTS)
    outputs, loss = whole.split()
    x = jnp.array([1.0, -0.5])
    assert loss(outputs(x)) == whole(x) == jnp.sum((POINTS @ x) ** 2) + 1
    with pytest.raises(TypeError, match="expected one that is loss o outputs"):
        FunctionObjective(lambda x: jnp.sum(x)).split()


def test_rules_are_put_around_one_another():
    """Clipped noise and noise on what is clipped differ: the outer rule sees what the inner one made."""
    x, bowl = jnp.array([3.0, 4.0]), sx.optimization.Quadratic(100.0)
    slope = lambda objective: np.asarray(jax.grad(lambda y: objective(y, key=KEY))(x))
    noise = slope(sx.optimization.noisy(bowl, 2.0)) - 100 * x
    inner = slope(sx.optimization.noisy(sx.optimization.clipped(bowl, 5.0), 2.0))
    np.testing.assert_allclose(inner, x + noise, rtol=1e-12)
    outer = slope(sx.optimization.clipped(sx.optimization.noisy(bowl, 2.0), 5.0))
    np.testing.assert_allclose(outer, 5 * (100 * x + noise) / np.linalg.norm(100 * x + noise), rtol=1e-12)


def test_a_rule_may_ask_twice():
    """(L(x + d) + L(x - d))/2 of a quadratic is L(x) + L(d)."""

    def mean_beside(ask, parameters, key):
        ahead, layers = ask(parameters + 0.5, key)
        return (ahead + ask(parameters - 0.5, key)[0]) / 2, layers

    bowl, x = sx.optimization.Quadratic(2.0), jnp.array([1.0, -3.0])
    found = WrappedObjective(bowl, mean_beside)(x)
    np.testing.assert_allclose(found, bowl(x) + bowl(jnp.full(2, 0.5)), rtol=1e-14)
