"""The gradient by replay, through stages written out and through a loop of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.evolution import flows

TIMES = np.linspace(0.0, 3.0, 7)
WEIGHTS = np.array([0.3, -1.0, 2.0, 0.5, -0.7, 1.1, 0.9])


class Driven(sx.Flow):
    """x' = -r x + a cos t, whose solution from x0 is known."""

    rate: jax.Array
    force: jax.Array

    def velocity(self, t, state):
        return -self.rate * state + self.force * jnp.cos(t)


def solution(rate, force, start, t):
    """(a (r cos t + sin t) + (x0 (1 + r^2) - a r) e^{-rt})/(1 + r^2)."""
    particular = force * (rate * jnp.cos(t) + jnp.sin(t))
    return (particular + (start * (1 + rate**2) - force * rate) * jnp.exp(-rate * t)) / (1 + rate**2)


def loss(arguments, times):
    rate, force, start = arguments
    path = sx.evolve(Driven(rate, force), start, times=times, rtol=1e-11, atol=1e-13)
    return WEIGHTS @ path.states + path.final**2


def exact(arguments, times):
    rate, force, start = arguments
    values = jax.vmap(lambda t: solution(rate, force, start, t))(jnp.asarray(times))
    return WEIGHTS @ values + values[-1] ** 2


@pytest.mark.parametrize("long", [1000, 0], ids=["written out", "rolled"])
def test_gradient_of_rows_and_end_has_its_closed_form(monkeypatch, long):
    monkeypatch.setattr(flows, "_LONG", long)
    jax.clear_caches()
    arguments = (jnp.asarray(0.7), jnp.asarray(1.3), jnp.asarray(-0.4))
    slopes = jax.grad(loss)(arguments, TIMES)
    np.testing.assert_allclose(slopes, jax.grad(exact)(arguments, TIMES), rtol=1e-8)
    jax.clear_caches()


def test_gradient_of_the_end_alone_and_in_its_times():
    def end(rate, t1):
        times = jnp.stack([jnp.zeros_like(t1), t1])
        flow = Driven(rate, jnp.asarray(1.3))
        return sx.evolve(flow, -0.4, times=times, save="last", rtol=1e-11, atol=1e-13).final

    point = (jnp.asarray(0.7), jnp.asarray(3.0))
    known = jax.grad(lambda r, t: solution(r, 1.3, -0.4, t), argnums=(0, 1))(*point)
    np.testing.assert_allclose(jax.grad(end, argnums=(0, 1))(*point), known, rtol=1e-8)


def test_a_tree_with_leaves_of_several_shapes():
    """Rotation of a matrix and of a vector by one angle rate: x(t) = R(w t) x0."""

    def turn(rate, state):
        generator = jnp.array([[0.0, -1.0], [1.0, 0.0]])
        return jax.tree.map(lambda leaf: rate * (generator @ leaf), state)

    start = {"m": jnp.array([[1.0, 2.0], [0.5, -1.0]]), "v": jnp.array([1.0, 0.0])}

    class Turning(sx.Flow):
        rate: jax.Array

        def velocity(self, t, state):
            return turn(self.rate, state)

    def end(rate):
        final = sx.evolve(Turning(rate), start, times=(0.0, 2.0), save="last", rtol=1e-11, atol=1e-13).final
        return final["v"][0] + final["m"][1, 0]

    # cos(2w) + sin(2w) * 1 + cos(2w) * 0.5
    rate = 0.8
    known = -2 * np.sin(2 * rate) + 2 * np.cos(2 * rate) - np.sin(2 * rate)
    np.testing.assert_allclose(jax.grad(end)(jnp.asarray(rate)), known, rtol=1e-8)
