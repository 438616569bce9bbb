"""Reversal: one meaning of the horizon for every kind of system, and nothing that depends on time without one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

X, PAIR = jnp.array([0.7, -0.4]), (jnp.array(0.7), jnp.array(-0.4))


def forced(t, x):
    return jnp.stack([x[1] - 0.3 * x[0] ** 2, -jnp.sin(x[0]) + 0.2 * x[0] * x[1] + jnp.cos(t)])


FLOW = sx.as_flow(forced)
# q' = p + t, p' = -sin q + cos t: separable, and both parts depend on time.
SEPARABLE = sx.as_flow(lambda t, z: (z[1] + t, -jnp.sin(z[0]) + jnp.cos(t)))


class Shear(sx.InvertibleMap):
    """(x, y) -> (x + y^2 + n, y + n x) in suitable proportions, undone in the other order."""

    def step(self, n, state, *, key=None):
        n = jnp.asarray(n, state.dtype)
        x = state[0] + 0.1 * state[1] ** 2 + 0.1 * n
        return jnp.stack([x, state[1] + 0.05 * n * x])

    def inverse_step(self, n, state):
        n = jnp.asarray(n, state.dtype)
        y = state[1] - 0.05 * n * state[0]
        return jnp.stack([state[0] - 0.1 * y**2 - 0.1 * n, y])


class Recorded(sx.FiniteMap, sx.InvertibleMap):
    """x -> x + u[n]."""

    inputs: jax.Array
    length: int = eqx.field(static=True)

    def step(self, n, state, *, key=None):
        return state + self.inputs[n]

    def inverse_step(self, n, state):
        return state - self.inputs[n]


RECORDED = Recorded(jnp.array([0.1, 0.7, -0.3, 2.0]), 4)
H, FIRST, STEPS = 0.125, 3, 5
NEAR = {
    "Euler": (sx.discretize(FLOW, sx.Euler(), H), X),
    "ImplicitMidpoint": (sx.discretize(FLOW, sx.ImplicitMidpoint(), H), X),
    "SymplecticEuler": (sx.discretize(SEPARABLE, sx.SymplecticEuler(), H), PAIR),
    "Leapfrog": (sx.discretize(SEPARABLE, sx.Leapfrog(), H), PAIR),
    "iterate": (sx.iterate(sx.discretize(SEPARABLE, sx.Leapfrog(), H / 2), 2), PAIR),
    "compose": (sx.compose(sx.discretize(FLOW, sx.Euler(), H), sx.discretize(FLOW, sx.Euler(), 2 * H)), X),
}


def assert_close(got, expected, rtol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), got, expected)


@pytest.mark.parametrize("name", NEAR)
def test_horizon_of_a_near_identity_map_is_a_time(name):
    map, start = NEAR[name]
    last = FIRST + STEPS
    there = sx.evolve(map, start, steps=STEPS, start=FIRST).final
    back = sx.evolve(sx.reverse(map, horizon=last * H), there, steps=STEPS)
    # Newton solves each step to 16 eps; five of them.
    assert_close(back.final, start, 1e-12)
    assert float(back.times[-1]) == pytest.approx(STEPS * H)
    # The last of them alone: the reversed clock counts from the horizon down.
    late = sx.evolve(sx.reverse(map, horizon=(last + 2) * H), there, steps=STEPS, start=2).final
    assert_close(late, start, 1e-12)


@pytest.mark.parametrize("name", NEAR)
def test_its_limit_is_the_reversed_limit(name):
    map, state = NEAR[name]
    one = sx.limit(sx.reverse(map, horizon=1.0)).velocity(0.3, state)
    other = sx.reverse(sx.limit(map), horizon=1.0).velocity(0.3, state)
    assert_close(one, other, 1e-10)


def test_a_reversed_map_is_undone_by_the_map():
    map, state = NEAR["Euler"]
    back = sx.reverse(map, horizon=1.0)
    assert_close(back.inverse_step(2, back.step(2, state)), state, 1e-13)
    assert_close(back.inverse_step(2, state), map.step(5, state), 1e-13)


def test_horizon_of_a_flow_is_a_time():
    there = sx.evolve(FLOW, X, times=(0.5, 2.0), rtol=1e-11, atol=1e-12).final
    back = sx.evolve(sx.reverse(FLOW, horizon=2.0), there, times=(0.0, 1.5), rtol=1e-11, atol=1e-12).final
    np.testing.assert_allclose(back, X, rtol=1e-8)


def test_horizon_of_other_maps_is_a_number_of_steps():
    there = sx.evolve(Shear(), X, steps=STEPS, start=FIRST).final
    for horizon in (FIRST + STEPS, float(FIRST + STEPS)):
        back = sx.reverse(Shear(), horizon=horizon)
        np.testing.assert_allclose(sx.evolve(back, there, steps=STEPS).final, X, rtol=1e-12)
        np.testing.assert_allclose(back.inverse_step(2, back.step(2, X)), X, rtol=1e-13)
    with pytest.raises(ValueError, match="whole number of steps"):
        sx.reverse(Shear(), horizon=2.5)


def test_a_finite_map_goes_back_from_its_end_and_no_further():
    back = sx.reverse(RECORDED)
    assert isinstance(back, sx.FiniteMap) and isinstance(back, sx.InvertibleMap)
    np.testing.assert_allclose(sx.evolve(back, sx.evolve(RECORDED, X).final).final, X, rtol=1e-14)
    part = sx.evolve(sx.reverse(RECORDED, horizon=2), X)
    assert len(part) == 3
    np.testing.assert_allclose(part.final, X - 0.8, rtol=1e-14)
    assert sx.reverse(back) is RECORDED
    for horizon in (0, 5, 1.5):
        with pytest.raises(ValueError, match="from 1 to 4"):
            sx.reverse(RECORDED, horizon=horizon)


TIMED = {
    "flow": (FLOW, X),
    "near-identity map": NEAR["Euler"],
    "map with its inverse": NEAR["Leapfrog"],
    "plain map": (Shear(), X),
}


@pytest.mark.parametrize("kind", TIMED)
def test_what_depends_on_time_needs_a_horizon(kind):
    system, state = TIMED[kind]
    asked = {"times": (0.0, 1.0)} if kind == "flow" else {"steps": 2}
    with pytest.raises(ValueError, match=r"(?s)depends on time.*reverse\(system, horizon=T\)"):
        sx.evolve(sx.reverse(system), state, **asked)
    # Reversed twice it is what it was, with no horizon to know.
    assert sx.reverse(sx.reverse(system)) is system


def test_what_does_not_depend_on_time_needs_none():
    still = sx.as_flow(lambda t, x: jnp.stack([x[1], -jnp.sin(x[0])]))
    np.testing.assert_allclose(sx.reverse(still).velocity(0.3, X), -still.velocity(0.0, X), rtol=1e-15)
    map = sx.discretize(still, sx.RK4(), 0.1)
    np.testing.assert_allclose(sx.reverse(map).step(4, map.step(0, X)), X, rtol=1e-12)
    # At another horizon it is another system object, and the same system.
    np.testing.assert_allclose(sx.reverse(sx.reverse(still), horizon=3.0).velocity(0.3, X), still.velocity(0.0, X))


def test_a_step_that_draws_is_not_inverted():
    noisy = sx.discretize(sx.as_sde(lambda x: -x, lambda x: 0.5), sx.EulerMaruyama(), 0.1)
    with pytest.raises(ValueError, match="draws from"):
        sx.evolve(sx.reverse(noisy), X, steps=2, key=jax.random.key(0))
    calm = NEAR["Euler"][0]
    back = sx.reverse(calm, horizon=1.0)
    np.testing.assert_array_equal(back.step(2, X, key=jax.random.key(0)), back.step(2, X))
