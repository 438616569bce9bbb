"""Systems that hold several others: each part keeps its own step size, its own clock, its own key and its own length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

ROUNDING = 1e-13
KEY = jax.random.key(11)
X, Y = jnp.array([0.7, -0.4]), jnp.array([1.3, 0.2])
START, STEPS = 3, 4


def drawn(rate):
    """A step that tells time, step size and key apart: x + h (rate x + t + xi)."""

    def advance(t, x, h, *, key=None):
        noise = 0.0 if key is None else jax.random.normal(key, x.shape)
        return x + h * (rate * x + t + noise)

    return advance


SLOW, FAST = sx.as_near_identity(drawn(-1.0), 0.02), sx.as_near_identity(drawn(-0.5), 0.15)
NET = sx.from_layers([jnp.tanh, lambda x: 2.0 * x, jnp.sin])


def silent(t, states):
    return jax.tree.map(jnp.zeros_like, states)


def test_descents_that_do_not_interact_move_each_by_its_own_step():
    bowl = sx.optimization.Quadratic(1.0)
    pair = sx.couple(
        sx.optimization.GradientDescent(bowl, 0.1), sx.optimization.GradientDescent(bowl, 0.01), coupling=silent
    )
    fast, slow = sx.evolve(pair, (jnp.ones(1), jnp.ones(1)), steps=3).final
    np.testing.assert_allclose([fast[0], slow[0]], [0.9**3, 0.99**3], rtol=ROUNDING)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["slow first", "fast first"])
def test_coupled_maps_that_do_not_interact_are_those_maps(order):
    maps, states = [(SLOW, FAST)[i] for i in order], tuple((X, Y)[i] for i in order)
    both = sx.evolve(sx.couple(*maps, coupling=silent), states, steps=STEPS, start=START, key=KEY)
    for i, (map, x) in enumerate(zip(maps, states, strict=True)):
        for n in range(START, START + STEPS):
            x = map.step(n, x, key=jax.random.fold_in(jax.random.fold_in(KEY, n), i))
        np.testing.assert_allclose(both.final[i], x, rtol=ROUNDING)
    assert float(both.times[-1]) == pytest.approx(float(maps[0].step_size) * (START + STEPS))


def test_limit_of_coupled_maps_weighs_each_by_its_step():
    def pull(t, states):
        return states[1] - states[0], t * (states[0] - states[1])

    t, ratio = 0.3, 0.15 / 0.02
    own = -X + t, ratio * (-0.5 * Y + ratio * t)
    rate = sx.limit(sx.couple(SLOW, FAST, coupling=pull)).velocity(t, (X, Y))
    for moved, alone, pulled in zip(rate, own, pull(t, (X, Y)), strict=True):
        np.testing.assert_allclose(moved, alone + pulled, rtol=ROUNDING)


def test_composed_maps_move_each_by_its_own_step():
    both = sx.compose(SLOW, FAST)
    n, key = 7, jax.random.key(2)
    inner = FAST.step(n, X, key=jax.random.fold_in(key, 1))
    outer = SLOW.step(n, inner, key=jax.random.fold_in(key, 0))
    np.testing.assert_allclose(both.step(n, X, key=key), outer, rtol=ROUNDING)


def test_iterated_map_meets_the_times_and_keys_of_its_steps():
    both, n, key = sx.iterate(sx.compose(SLOW, FAST), 3), 2, jax.random.key(2)
    x = X
    for i in range(3):
        x = sx.compose(SLOW, FAST).step(3 * n + i, x, key=jax.random.fold_in(key, i))
    np.testing.assert_allclose(both.step(n, X, key=key), x, rtol=ROUNDING)
    plain = sx.iterate(sx.as_map(lambda n, x, key=None: SLOW.step(n, x, key=key)), 3)
    x = X
    for i in range(3):
        x = SLOW.step(3 * n + i, x, key=jax.random.fold_in(key, i))
    np.testing.assert_allclose(plain.step(n, X, key=key), x, rtol=ROUNDING)


def test_projected_map_keeps_step_time_and_key():
    seen = sx.project(FAST, lambda x: x[0], complete=lambda u: jnp.stack([u, 2 * u]))
    key = jax.random.key(5)
    whole = FAST.step(7, jnp.array([0.4, 0.8]), key=key)
    np.testing.assert_allclose(seen.step(7, jnp.array(0.4), key=key), whole[0], rtol=ROUNDING)


def test_open_maps_pass_number_and_key_on():
    plant = sx.as_open_map(lambda n, x, u, key=None: SLOW.step(n, x, key=key) + u)
    key = jax.random.key(5)
    free = SLOW.step(7, X, key=key)
    driven = sx.drive(plant, lambda n: jnp.asarray(0.1 * n))
    np.testing.assert_allclose(driven.step(7, X, key=key), free + 0.7, rtol=ROUNDING)
    recorded = sx.drive(plant, jnp.arange(9.0))
    np.testing.assert_allclose(recorded.step(7, X, key=key), free + 7, rtol=ROUNDING)
    closed = sx.close_loop(plant, lambda n, x: 0.1 * n * x)
    np.testing.assert_allclose(closed.step(7, X, key=key), free + 0.7 * X, rtol=ROUNDING)


def test_layers_meet_their_number_and_the_key_of_their_step():
    def dropped(x, key=None):
        return x if key is None else jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0.0)

    net, x = sx.from_layers([jnp.tanh, dropped, dropped]), jnp.arange(1.0, 21.0)
    by_hand = jnp.tanh(x)
    for n in (1, 2):
        by_hand = dropped(by_hand, key=jax.random.fold_in(KEY, n))
    np.testing.assert_array_equal(sx.evolve(net, x, key=KEY).final, by_hand)


@pytest.mark.parametrize(
    "wrapped, state",
    [
        (sx.couple(NET, sx.as_map(lambda x: 0.5 * x), coupling=silent), (X, Y)),
        (sx.tangent(NET), sx.TangentState(X, Y)),
        (sx.project(NET, lambda x: 2 * x, complete=lambda u: u / 2), X),
        (sx.compose(sx.as_map(lambda x: 0.5 * x), NET), X),
    ],
    ids=["couple", "tangent", "project", "compose"],
)
def test_what_holds_a_finite_map_ends_with_it(wrapped, state):
    assert isinstance(wrapped, sx.FiniteMap)
    assert len(sx.evolve(wrapped, state)) == 4
    with pytest.raises(ValueError, match="at most 3"):
        sx.evolve(wrapped, state, steps=4)
