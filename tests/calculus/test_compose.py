"""Composition: the last map first, undone in the other order, as long as its shortest part, a key for each part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

X, N = jnp.array([0.7, -0.4]), 3


class Bend(sx.InvertibleMap):
    """(x, y) -> (x + a y^2 + n, y): it does not commute with its mirror image."""

    amount: float

    def step(self, n, state, *, key=None):
        return jnp.stack([state[0] + self.amount * state[1] ** 2 + jnp.asarray(n, state.dtype), state[1]])

    def inverse_step(self, n, state):
        return jnp.stack([state[0] - self.amount * state[1] ** 2 - jnp.asarray(n, state.dtype), state[1]])


class Turn(sx.InvertibleMap):
    """(x, y) -> (y, n x)."""

    def step(self, n, state, *, key=None):
        return jnp.stack([state[1], jnp.asarray(n, state.dtype) * state[0]])

    def inverse_step(self, n, state):
        return jnp.stack([state[1] / jnp.asarray(n, state.dtype), state[0]])


class Inputs(sx.FiniteMap):
    """x -> u[n] x + n."""

    inputs: jax.Array
    length: int = eqx.field(static=True)

    def step(self, n, state, *, key=None):
        return self.inputs[n] * state + jnp.asarray(n, state.dtype)


LONG, SHORT = Inputs(jnp.array([2.0, 3.0, 5.0]), 3), Inputs(jnp.array([0.5, -1.0]), 2)


def test_invertible_maps_are_undone_in_the_other_order():
    both = sx.compose(Bend(0.3), Turn(), Bend(2.0))
    moved = Bend(0.3).step(N, Turn().step(N, Bend(2.0).step(N, X)))
    np.testing.assert_allclose(both.step(N, X), moved, rtol=1e-14)
    np.testing.assert_allclose(both.inverse_step(N, moved), X, rtol=1e-13)
    np.testing.assert_allclose(sx.reverse(both, horizon=N + 1).step(0, moved), X, rtol=1e-13)


@pytest.mark.parametrize("maps", [(LONG, SHORT), (SHORT, LONG), (LONG, sx.as_map(lambda x: x**2))])
def test_finite_maps_compose_for_as_long_as_the_shortest(maps):
    both = sx.compose(*maps)
    path = sx.evolve(both, X)
    assert len(path) == 1 + min(map.length for map in maps if isinstance(map, sx.FiniteMap))
    np.testing.assert_allclose(path.states[1], maps[0].step(0, maps[1].step(0, X)), rtol=1e-14)
    np.testing.assert_allclose(path.states[2], maps[0].step(1, maps[1].step(1, path.states[1])), rtol=1e-14)


def drawn(x, key=None):
    return x * jax.random.normal(key, x.shape) + jax.random.uniform(key)


@pytest.mark.parametrize("other", [sx.as_map(lambda n, x, key=None: drawn(x, key)), LONG], ids=["plain", "finite"])
def test_each_part_draws_from_a_key_of_its_own(other):
    key, map = jax.random.key(3), sx.as_map(drawn)
    inner = other.step(1, X, key=jax.random.fold_in(key, 1))
    outer = map.step(1, inner, key=jax.random.fold_in(key, 0))
    np.testing.assert_allclose(sx.compose(map, other).step(1, X, key=key), outer, rtol=1e-14)


def test_iterates_of_finite_maps_take_their_own_inputs():
    twice = sx.iterate(LONG, 2)
    assert twice.length == 1
    np.testing.assert_allclose(twice.step(0, X), LONG.step(1, LONG.step(0, X)), rtol=1e-14)


def test_tangent_of_a_finite_map_meets_its_own_layers():
    net = sx.from_layers([jnp.tanh, lambda x: x[::-1] * jnp.array([2.0, 3.0]), jnp.sin])
    v = jnp.array([0.3, -1.0])
    moved = sx.evolve(sx.tangent(net), sx.TangentState(X, v)).final
    whole = lambda x: jnp.sin(jnp.tanh(x)[::-1] * jnp.array([2.0, 3.0]))
    np.testing.assert_allclose(moved.point, whole(X), rtol=1e-14)
    np.testing.assert_allclose(moved.perturbation, jax.jvp(whole, (X,), (v,))[1], rtol=1e-13)
