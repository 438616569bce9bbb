"""Universal equations and multiple shooting: against slices, closed forms and known parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx


def test_segments_are_the_slices_of_every_orbit():
    times = np.arange(5) * 0.5
    states = np.arange(20.0).reshape(2, 5, 2)
    found = sx.residual.segments(times, states, 3)
    by_hand = [(times[k : k + 4], orbit[k : k + 4]) for orbit in states for k in range(2)]
    np.testing.assert_array_equal(found.times, [t for t, _ in by_hand])
    np.testing.assert_array_equal(found.states, [x for _, x in by_hand])


def test_loss_of_a_wrong_rate_is_what_the_exponentials_say():
    times, rate, wrong = jnp.linspace(0.0, 1.0, 6), 1.0, 1.7
    data = sx.residual.segments(times, jnp.exp(-rate * times)[:, None], 2)
    loss = sx.residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: -rate * x), substeps=20)
    later = np.array([0.0, 0.2, 0.4])
    starts = np.exp(-rate * np.asarray(times[:4]))
    gaps = starts[:, None] * (np.exp(-wrong * later) - np.exp(-rate * later))
    # RK4 with h = 0.01 is right to 1e-10.
    assert loss(jnp.array(wrong), data).item() == pytest.approx(np.mean(gaps**2), rel=1e-8)
    assert loss(jnp.array(rate), data).item() < 1e-20


def test_each_segment_has_the_clock_of_its_orbit():
    times = jnp.linspace(1.0, 3.0, 9)
    data = sx.residual.segments(times, (times**3)[:, None], 4)
    loss = sx.residual.trajectory_loss(lambda _: sx.as_flow(lambda t, x: 3 * t**2 * jnp.ones_like(x)))
    # RK4 integrates cubics exactly.
    assert loss(None, data).item() < 1e-26


def test_universal_adds_velocities_of_flows_and_functions():
    flow = sx.residual.universal(sx.as_flow(lambda t, x: t * x), lambda x: -(x**2))
    assert flow.velocity(3.0, jnp.array(2.0)).item() == 2.0
    # x' = x - x^2 from 1/2 is the logistic function.
    logistic = sx.residual.universal(lambda x: x, lambda x: -(x**2))
    end = sx.evolve(logistic, jnp.array(0.5), times=(0.0, 2.0), rtol=1e-10, atol=1e-12).final
    assert end.item() == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-9)


def test_fit_recovers_the_interaction_of_predator_and_prey():
    def known(x):
        return jnp.stack([1.5 * x[0], -3.0 * x[1]])

    def unknown(rates):
        return lambda x: x[0] * x[1] * rates

    truth = jnp.array([-1.0, 1.0])
    times = jnp.linspace(0.0, 4.0, 41)
    path = sx.evolve(sx.residual.universal(known, unknown(truth)), jnp.ones(2), times=times, rtol=1e-10, atol=1e-12)
    # From 1 on, t = 1 is known to 16 digits.
    np.testing.assert_allclose(path.states[10], [2.7728509018411121, 0.25871087814256395], rtol=1e-8)
    loss = sx.residual.trajectory_loss(lambda rates: sx.residual.universal(known, unknown(rates)), substeps=4)
    data = sx.residual.segments(times, path.states, 5)
    found = sx.fit(loss, optax.lbfgs(1.0, linesearch=None), data, initial=jnp.zeros(2), steps=30)
    # RK4 with h = 0.025 on rates of order 3: (3 h)^4/120 of one in relative terms.
    np.testing.assert_allclose(found.model, truth, atol=1e-5)


def test_refusals_say_what_to_do():
    times, states = np.arange(4.0), np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"segments\n  got times \(4,\) and states \(3, 2\)"):
        sx.residual.segments(times, states[:3], 1)
    with pytest.raises(ValueError, match=r"length\n  got 4, expected 1 to 3.\n  Count intervals"):
        sx.residual.segments(times, states, 4)
    with pytest.raises(ValueError, match=r"times\n  got 1 in row 3 after 2, expected times that increase"):
        sx.residual.segments(np.array([0.0, 1.0, 2.0, 1.0]), states, 1)
    with pytest.raises(ValueError, match=r"substeps\n  got 0"):
        sx.residual.trajectory_loss(lambda m: m, substeps=0)


def test_gradient_of_the_loss_equals_finite_differences():
    times = jnp.linspace(0.0, 1.0, 6)
    data = sx.residual.segments(times, jnp.exp(-times)[:, None], 3)
    loss = sx.residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: -rate * x - 0.1 * rate * x**3))
    h = 1e-5
    measured = (loss(jnp.array(1.3 + h), data) - loss(jnp.array(1.3 - h), data)) / (2 * h)
    # Central differences: h^2 of the third derivative, and eps/h of rounding.
    assert jax.grad(loss)(jnp.array(1.3), data).item() == pytest.approx(measured.item(), rel=1e-7)


@pytest.mark.parametrize("known", [lambda x: x[:1], lambda x: jnp.sum(x), lambda x: jnp.ones(3)])
def test_a_known_part_of_another_shape_is_refused_and_not_broadcast(known):
    flow = sx.residual.universal(known, lambda x: -x)
    with pytest.raises(ValueError, match=r"(?s)universal: known.*shape.*that of the state, \(2,\)"):
        flow.velocity(0.0, jnp.ones(2))
