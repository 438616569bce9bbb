"""The costate system off the symmetric point: after an event, from a start that is not 0, along a path that broke."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

KEY = jax.random.key(3)


def noisy(n, x, key=None):
    """A map that depends on its number and on its draw, with an asymmetric Jacobian."""
    draw = 0.0 if key is None else jax.random.normal(key)
    return jnp.stack([x[0] * x[1] + 0.01 * jnp.asarray(n, x.dtype) * x[1], jnp.sin(x[0]) + draw * x[1] ** 2])


# x' = -x^2 from 1 is 1/(1 + t), with dx(t)/dx(0) = 1/(1 + t)^2: options of a run to 3, and where it ends.
ENDS = {
    "an event in t": ({"event": lambda t, x: t - 1.0}, 1.0),
    "an event in x, the end alone kept": ({"event": lambda x: x - 0.4, "save": "last"}, 1.5),
    "rows that stop before the end": ({"save": [0.5, 1.0]}, 3.0),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_is_where_the_trajectory_ended(name):
    options, end = ENDS[name]
    flow = sx.as_flow(lambda x: -(x**2))
    path = sx.evolve(flow, jnp.array(1.0), times=(0.0, 3.0), dense=True, rtol=1e-10, atol=1e-12, **options)
    costate = sx.evolve(sx.adjoint(flow, path), jnp.array(1.0), times=(0.0, end), rtol=1e-9, atol=1e-11)
    # Interpolation of order four at these steps: 1e-8.
    assert float(costate.final) == pytest.approx((1 + end) ** -2, abs=1e-8)


def test_costate_of_a_flow_from_a_late_start_with_a_running_cost():
    def field(t, x):
        return jnp.stack([x[1] - 0.3 * x[0] ** 2, -jnp.sin(t * x[0]) + 0.2 * x[0] * x[1] + jnp.cos(t)])

    def cost(t, x):
        return t * jnp.sum(x**3)

    flow, x0, weights = sx.as_flow(field), jnp.array([0.7, -0.4]), jnp.array([1.0, 2.0])
    # The last coordinate gathers the running cost.
    whole = sx.discretize(sx.as_flow(lambda t, z: jnp.append(field(t, z[:2]), cost(t, z[:2]))), sx.RK4(), 1 / 256)

    def total(x):
        z = sx.evolve(whole, jnp.append(x, 0.0), steps=256, start=128, save="last").final
        return weights @ z[:2] + z[2]

    path = sx.evolve(flow, x0, times=(0.5, 1.5), dense=True, rtol=1e-10, atol=1e-12)
    system = sx.adjoint(flow, path, cost=cost)
    costate = sx.evolve(system, weights, times=(0.0, 1.0), rtol=1e-9, atol=1e-11).final
    # RK4 at h = 1/256 and the interpolation each err by about 1e-9 here.
    np.testing.assert_allclose(costate, jax.grad(total)(x0), rtol=1e-7)


def test_a_random_map_that_began_later_is_pulled_back_along_its_own_noise():
    system, x0 = sx.as_map(noisy), jnp.array([0.7, -0.4])
    path = sx.evolve(system, x0, steps=5, start=4, key=KEY)
    pulled = sx.evolve(sx.adjoint(system, path, key=KEY), jnp.array([1.0, 2.0])).final

    def loss(x):
        for n in range(4, 9):
            x = noisy(n, x, key=jax.random.fold_in(KEY, n))
        return x @ jnp.array([1.0, 2.0])

    np.testing.assert_allclose(pulled, jax.grad(loss)(x0), rtol=1e-12)


# The Jacobian of a linear system does not look at the states, so NaN in them does not reach the costate by itself.
BROKEN = {
    "map": (sx.as_map(lambda x: 1e200 * x), {"steps": 4}, {}),
    "flow": (sx.as_flow(lambda t, x: x / (1.0 - t)), {"times": (0.0, 2.0), "dense": True}, {"times": (0.0, 2.0)}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_trajectory_is_refused(kind):
    system, asked, _ = BROKEN[kind]
    path = sx.evolve(system, jnp.array(1.0), **asked)
    assert path.outcome != "completed"
    with pytest.raises(ValueError, match=f"ended as {path.outcome.name}"):
        sx.adjoint(system, path)


@pytest.mark.parametrize("kind", BROKEN)
def test_while_tracing_its_costate_is_nan(kind):
    system, asked, back = BROKEN[kind]

    @jax.jit
    def slope(x):
        path = sx.evolve(system, x, **asked)
        return sx.evolve(sx.adjoint(system, path), jnp.array(1.0), **back)

    costate = slope(jnp.array(1.0))
    assert costate.outcome == "non_finite"
    assert jnp.isnan(costate.states[1:]).all()


def test_rows_that_are_not_the_states_are_refused():
    system = sx.as_map(lambda x: 0.5 * x)
    for save in (lambda x: 2.0 * x, 2, lambda x: jnp.sum(x)):
        path = sx.evolve(system, jnp.ones(2), steps=4, save=save)
        with pytest.raises(ValueError, match="every state of the orbit"):
            sx.adjoint(system, path)


def test_a_batch_is_refused_as_such():
    system = sx.as_map(lambda x: 0.5 * x)
    path = jax.vmap(lambda x: sx.evolve(system, x, steps=2))(jnp.ones(3))
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        sx.adjoint(system, path)
