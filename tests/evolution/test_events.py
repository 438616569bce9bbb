"""Events: where they are found, and their derivatives (a root is a function of all that the path depends on)."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

G = 9.81
FALL = sx.as_flow(lambda s: jnp.stack([s[1], jnp.full_like(s[1], -G)]))
DECAY = sx.as_flow(lambda x: -x)
METHODS = [None, diffrax.Kvaerno5(), diffrax.Dopri8()]


def land(height, **options):
    return sx.evolve(FALL, jnp.stack([height, 0.0 * height]), times=(0.0, 5.0), event=lambda s: s[0], **options)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_fall_from_two_metres(method):
    """t* = sqrt(2 h / g), v* = -sqrt(2 g h)."""
    path = sx.evolve(FALL, jnp.array([2.0, 0.0]), times=jnp.linspace(0.0, 5.0, 11), event=lambda s: s[0], method=method)
    assert path.outcome.name == "event"
    np.testing.assert_allclose(path.outcome.at, np.sqrt(4.0 / G), rtol=1e-6)
    np.testing.assert_allclose(path.last_time, path.outcome.at)
    np.testing.assert_allclose(path.final, [0.0, -np.sqrt(4.0 * G)], atol=1e-5)
    np.testing.assert_allclose(path.states[1], [2.0 - G / 8, -G / 2], rtol=1e-5)
    assert np.isnan(path.states[2:]).all()


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_time_and_state_of_an_event_are_differentiable(method):
    """dt*/dh = 1 / sqrt(2 g h), dv*/dh = -sqrt(g / (2 h)), and the height there does not move."""
    slope = jax.grad(lambda h: land(h, method=method).outcome.at)(2.0)
    np.testing.assert_allclose(slope, 1.0 / np.sqrt(4.0 * G), rtol=1e-5)
    final = jax.jacrev(lambda h: land(h, method=method).final)(2.0)
    np.testing.assert_allclose(final, [0.0, -np.sqrt(G / 4.0)], atol=1e-5)
    forward = jax.jacfwd(lambda h: land(h, method=method, gradient="forward").final)(2.0)
    np.testing.assert_allclose(forward, final, atol=1e-8)


def test_an_event_that_depends_on_time_and_on_a_parameter():
    """x = e^-t meets a e^{-2 t} c at t* = ln(a c): dt*/dc = 1/c, and x* = 1/(a c) changes by -1/(a c^2)."""
    end = lambda c: sx.evolve(
        DECAY, jnp.array(1.0), times=(-0.2, 9.0), rtol=1e-10, event=lambda t, x: x - c * jnp.exp(-2.0 * t)
    )
    # From x(-0.2) = 1: x = e^{-(t + 0.2)}, so t* = ln c + 0.2.
    path = end(3.0)
    np.testing.assert_allclose(path.outcome.at, np.log(3.0) + 0.2, rtol=1e-8)
    np.testing.assert_allclose(jax.grad(lambda c: end(c).outcome.at)(3.0), 1.0 / 3.0, rtol=1e-7)
    np.testing.assert_allclose(jax.grad(lambda c: end(c).final)(3.0), -np.exp(-0.4) / 9.0, rtol=1e-7)


def test_an_event_after_more_steps_than_are_kept():
    """The last stretch between kept steps ends at the event: x = cos(w t), the 301st zero."""

    def at(w):
        flow = sx.as_flow(lambda s: jnp.stack([s[1], -w * w * s[0], s[2] * 0 + 1.0]))
        zero = lambda s: s[2] - 200.0 / w
        return sx.evolve(flow, jnp.array([1.0, 0.0, 0.0]), times=(0.0, 400.0), rtol=1e-8, event=zero).final[1]

    value, slope = jax.value_and_grad(at)(2.0)
    np.testing.assert_allclose(value, -2.0 * np.sin(200.0), rtol=1e-4)
    np.testing.assert_allclose(slope, -np.sin(200.0), rtol=1e-3)  # the phase at the event does not depend on w


def test_two_crossings_within_one_step_are_seen():
    """A dip of width 0.2 below zero, in a flow so smooth that its steps are longer."""
    still = sx.as_flow(lambda x: jnp.zeros_like(x) + 1.0)
    control = diffrax.PIDController(rtol=1e-6, atol=1e-6, dtmax=0.8)
    path = sx.evolve(
        still, jnp.array(0.0), times=(0.0, 8.0), controller=control, event=lambda t, x: (t - 2.9) * (t - 3.1)
    )
    assert path.outcome.name == "event" and float(path.outcome.at) == pytest.approx(2.9, abs=1e-9)


def test_a_boolean_event_comes_true():
    path = sx.evolve(FALL, jnp.array([2.0, 0.0]), times=(0.0, 5.0), event=lambda s: s[0] < 0.5)
    np.testing.assert_allclose(path.outcome.at, np.sqrt(3.0 / G), rtol=1e-6)
    at_once = sx.evolve(FALL, jnp.array([2.0, 0.0]), times=(0.1, 5.0), event=lambda s: s[0] < 3.0)
    assert at_once.outcome.name == "event" and float(at_once.outcome.at) == 0.1
    np.testing.assert_allclose(at_once.final, [2.0, 0.0])
    never = sx.evolve(FALL, jnp.array([2.0, 0.0]), times=(0.0, 0.1), event=lambda s: s[0] < 0.0)
    assert never.outcome.name == "completed"
    with pytest.raises(TypeError, match="no derivative"):
        jax.grad(lambda h: sx.evolve(FALL, jnp.stack([h, 0 * h]), times=(0.0, 5.0), event=lambda s: s[0] < 0).final[1])(
            2.0
        )


def test_an_event_that_is_not_a_number_breaks_the_solve():
    path = sx.evolve(FALL, jnp.array([2.0, 0.0]), times=(0.0, 5.0), event=lambda s: jnp.sqrt(s[0]) + 1.0)
    assert path.outcome.name == "non_finite" and np.isnan(path.final).all()


@pytest.mark.parametrize("event", [lambda s: s, lambda s: "down", lambda s: s[0].astype(complex), lambda a, b, c: a])
def test_what_is_no_event_is_refused(event):
    with pytest.raises((TypeError, ValueError), match="event|g.x. or g.t, x."):
        sx.evolve(FALL, jnp.array([2.0, 0.0]), times=(0.0, 5.0), event=event)


@pytest.mark.parametrize("method", [None, diffrax.Kvaerno3()], ids=repr)
def test_dense_output_is_differentiable(method):
    """x = e^{-a t}: dx/da = -t e^{-a t}, at a time inside a step."""

    def value(a):
        flow = sx.as_flow(lambda x: -a * x)
        return sx.evolve(flow, jnp.array([1.0, 2.0]), times=(0.3, 2.0), dense=True, rtol=1e-8, method=method).evaluate(
            1.234
        )[1]

    x, slope = jax.value_and_grad(value)(0.8)
    np.testing.assert_allclose(x, 2.0 * np.exp(-0.8 * 0.934), rtol=1e-5)
    np.testing.assert_allclose(slope, -2.0 * 0.934 * np.exp(-0.8 * 0.934), rtol=1e-5)
    path = sx.evolve(DECAY, jnp.ones(1), times=(0.3, 2.0), dense=True)
    assert np.isnan(path.evaluate(2.5)).all() and np.isnan(path.evaluate(0.2)).all()


def test_dense_output_without_room_says_so():
    path = sx.evolve(DECAY, jnp.ones(1), times=(0.0, 50.0), dense=True, max_steps=5)
    assert path.outcome.name == "step_limit" and np.isnan(path.final).all() and np.isnan(path.evaluate(49.0)).all()
