"""Hand-over to the regulator: its level against a case in closed form, and what takes over where."""

import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

# x' = x + u, |u| <= 1: whatever the feedback, what starts beyond |x| = 1 is lost.
FALLING = sx.as_open_flow(lambda x, u: x + u)
ONE = {"q": [[1.0]], "r": 1.0, "limit": 1.0}


def still(x):
    return 0.0 * x[0]


def test_the_level_is_the_last_of_its_row_below_what_can_be_held_at_all():
    # K = P = 1 + sqrt 2. The limit is reached on V = P/K^2, the edge of what can be held is V = P.
    found = sx.residual.hand_over(FALLING, still, jnp.zeros(1), **ONE)
    p = 1 + np.sqrt(2)
    np.testing.assert_allclose(found.regulator.gain, [p], rtol=1e-12)
    np.testing.assert_allclose(found.regulator.weights, [[p]], rtol=1e-12)
    row = 2.0 ** (np.arange(24) / 2 - 6) / p
    assert found.level.item() == pytest.approx(row[row < p].max(), rel=1e-12)
    # V falls along each orbit, so that a fence |x| <= 1/2 leaves the levels below P/4.
    fenced = sx.residual.hand_over(FALLING, still, jnp.zeros(1), constraint=lambda x, u: jnp.abs(x[0]) - 0.5, **ONE)
    assert fenced.level.item() == pytest.approx(row[row < p / 4].max(), rel=1e-12)


def test_the_regulator_has_what_is_below_the_level_and_the_policy_the_rest():
    policy = lambda t, x: t + x[0]
    found = sx.residual.hand_over(FALLING, policy, jnp.array([0.0]), level=1.0, **ONE)
    border = 1 / np.sqrt(1 + np.sqrt(2))
    inside, outside = jnp.array([0.99 * border]), jnp.array([1.01 * border])
    assert (bool(found.holds(inside)), bool(found.holds(outside))) == (True, False)
    assert found(3.0, inside).item() == -1.0  # K x is above the limit
    assert found(3.0, 0.1 * inside).item() == pytest.approx(-0.1 * (1 + np.sqrt(2)) * inside.item(), rel=1e-12)
    assert found(3.0, outside).item() == pytest.approx(3.0 + outside.item(), rel=1e-12)
    other = found.after(lambda x: 7.0 + 0.0 * x[0])
    assert other(3.0, outside).item() == 7.0


def test_a_cart_pole_that_is_let_go_inside_the_region_comes_back_with_a_force_that_keeps_its_limit():
    plant = sx.residual.CartPole()
    rail = lambda x, u: jnp.abs(x[0]) - 1.5
    held = sx.residual.hand_over(
        plant, still, jnp.array([0.0, np.pi, 0.0, 0.0]), q=np.diag([1.0, 10.0, 0.1, 0.1]), r=0.1, limit=5.0,
        coordinates=plant.from_upright, constraint=rail,
    )  # fmt: skip
    # Once round more is the same place.
    start = jnp.array([0.2, 3 * np.pi + 0.15, 0.0, 0.3])
    assert bool(held.holds(start))
    seen = lambda x: (plant.from_upright(x), held(0.0, x))
    path = sx.evolve(sx.close_loop(plant, held), start, times=(0.0, 20.0), steps=4000, method=sx.RK4(), save=seen)
    places, forces = path.states
    assert float(jnp.max(jnp.abs(forces))) == 5.0
    assert float(jnp.max(jnp.abs(places[:, 0]))) < 1.5
    np.testing.assert_allclose(places[-1], 0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"limit": 0.0}, "limit\n  got 0.0"),
        ({"r": -1.0}, "r\n  got -1.0"),
        ({"target": jnp.array([1.0])}, "a velocity of 1 there, expected rest"),
        ({"plant": sx.as_open_flow(lambda x, u: x + 0.0 * u)}, r"Check that \(A, B\) can be stabilised"),
        ({"constraint": lambda x, u: jnp.ones(())}, "a regulator that holds no region"),
        ({"level": -2.0}, "level\n  got -2.0"),
    ],
)
def test_refusals_say_what_to_do(change, words):
    asked = {"plant": FALLING, "policy": still, "target": jnp.zeros(1), **ONE} | change
    with pytest.raises(ValueError, match=words):
        sx.residual.hand_over(asked.pop("plant"), asked.pop("policy"), asked.pop("target"), **asked)
