"""Periods against closed forms, attractors against other means, and what an orbit that goes away leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import separatrix as sx
from separatrix.catalogue.flows import Rossler, VanDerPol
from separatrix.catalogue.maps import Henon, Logistic
from separatrix.diagnostics.many._parameter_sweep import crossings, repetitions

LOGISTIC = sx.as_map(Logistic())


def test_periods_of_the_logistic_map_change_where_they_must():
    # 1 up to 3, 2 up to 1 + sqrt 6, 4 up to 3.5440903..., 3 from 1 + sqrt 8; past 4 all orbits leave.
    edges = np.array([3.0, 1 + np.sqrt(6), 3.544090359])
    values = jnp.asarray(np.sort([*(edges - 2e-3), *(edges + 2e-3), 1 + np.sqrt(8) + 2e-3, 3.7, 4.01]))
    found = sx.bifurcation_diagram(LOGISTIC, "r", values, jnp.array(0.3), transient=20_000)
    assert found.periods.tolist() == [1, 2, 2, 4, 4, 8, 0, 3, -1]
    assert bool(jnp.isnan(found.points[-1]).all()) and not bool(jnp.isnan(found.points[:-1]).any())
    # Below 3 it rests at 1 - 1/r; the 2-cycle solves r^2 x^2 - r (r + 1) x + r + 1 = 0.
    np.testing.assert_allclose(found.points[0], 1 - 1 / values[0], atol=1e-4)
    r = float(values[2])
    roots = np.sort(np.roots([r**2, -r * (r + 1), r + 1]))
    np.testing.assert_allclose(np.sort(found.points[2, -2:]), roots, atol=1e-4)
    assert [change[2:] for change in found.changes()] == [(1, 2), (2, 4), (4, 8), (8, 0), (0, 3), (3, -1)]


def test_at_a_bifurcation_itself_the_transient_is_not_over_and_is_told():
    found = sx.bifurcation_diagram(LOGISTIC, "r", jnp.array([2.5, 2.998, 3.0, 3.2, 3.9]), jnp.array(0.3))
    # At 2.998 the orbit alternates around its fixed point by (0.998)^n, and would pass for a 2-cycle.
    assert found.settling.tolist() == [False, True, True, False, False] and found.periods.tolist() == [1, 0, 0, 2, 0]
    assert "not over at 2 values (from 2.998, 3)" in found.cautions[0]


def test_a_torus_and_chaos_do_not_settle_and_a_long_cycle_is_found():
    n = np.arange(128)
    torus = np.cos(2 * np.pi * n * (np.sqrt(5) - 1) / 2)
    cycle = np.cos(2 * np.pi * n * 5 / 17)
    slow = (-1.0) ** n * (1000.0 + n) ** -0.5
    rows = jnp.stack([jnp.asarray(np.array([torus, cycle, slow])), jnp.zeros((3, 128))], axis=2)
    periods, settling = repetitions(rows, jnp.zeros(3, bool), 32, 1e-6)
    assert periods.tolist() == [0, 17, 0] and settling.tolist() == [False, False, True]


def test_a_symmetric_observable_does_not_hide_a_two_cycle():
    # |x| is constant along x -> -x; the states are not.
    flip = sx.bifurcation_diagram(
        lambda p: sx.as_map(lambda x: -p * x / jnp.abs(x)), None, jnp.array([1.0]), jnp.array(0.3), observe=jnp.abs
    )
    assert flip.periods.tolist() == [2] and "observed by a function" in str(flip)
    np.testing.assert_allclose(flip.points, 1.0)


def test_descent_past_its_edge_diverges_on_a_bowl_and_alternates_in_a_well():
    bowl = sx.optimization.GradientDescent(sx.optimization.Quadratic(4.0), 0.1)
    found = sx.bifurcation_diagram(bowl, "step_size", jnp.array([0.3, 0.49, 0.51, 0.8]), jnp.array([1.0]))
    assert found.periods.tolist() == [1, 1, -1, -1]
    well = sx.optimization.GradientDescent(sx.optimization.DoubleWell(), 0.1)
    branch = sx.continuation(well, "step_size", jnp.array([1.0]), bounds=(0.05, 2.0))
    (flip,) = branch.special
    edge = float(flip.parameter)
    assert (
        flip.kind == "period doubling" and edge == pytest.approx(1.0, abs=1e-9) and flip.criticality == "supercritical"
    )
    values = jnp.array([edge - 0.02, edge + 0.02])
    around = sx.bifurcation_diagram(well, "step_size", values, jnp.array([1.1]), transient=3000)
    assert around.periods.tolist() == [1, 2]
    # Of the 2-cycle each point maps onto the other.
    h, (x, y) = float(values[1]), np.asarray(around.points[1, -2:])
    np.testing.assert_allclose([x - h * (x**3 - x), y - h * (y**3 - y)], [y, x], atol=1e-12)
    assert abs(x - y) > 0.1


@pytest.mark.slow
def test_henon_flips_at_its_closed_form():
    edge = 3 * 0.7**2 / 4
    values = jnp.array([edge - 5e-3, edge + 5e-3])
    found = sx.bifurcation_diagram(sx.as_map(Henon()), "a", values, jnp.array([0.1, 0.1]), transient=5000)
    assert found.periods.tolist() == [1, 2]


@pytest.mark.slow
def test_a_sweep_that_follows_its_attractor_shows_hysteresis():
    # x' = mu + x - x^3 has two attractors for |mu| < 2/(3 sqrt 3) = 0.3849.
    def cubic(mu):
        return sx.as_map(lambda x: x + 0.1 * (mu + x - x**3))

    values = jnp.linspace(-0.5, 0.5, 21)
    up = sx.bifurcation_diagram(cubic, "mu", values, jnp.array(-1.0), follow_attractor=True)
    down = sx.bifurcation_diagram(cubic, "mu", values[::-1], jnp.array(1.0), follow_attractor=True)
    edge = 2 / (3 * np.sqrt(3))
    np.testing.assert_array_equal(up.points[:, -1] > 0, values > edge)
    np.testing.assert_array_equal(down.points[::-1, -1] > 0, values > -edge)
    roots = [np.roots([-1, 0, 1, mu]) for mu in np.asarray(values)]
    lowest = [min(r.real for r in root if abs(r.imag) < 1e-9) for root in roots]
    np.testing.assert_allclose(up.points[values < edge, -1], np.asarray(lowest)[values < edge], atol=1e-6)
    # After a divergence it starts again.
    lost = sx.bifurcation_diagram(LOGISTIC, "r", jnp.array([2.5, 4.5, 3.2]), jnp.array(0.3), follow_attractor=True)
    assert lost.periods.tolist() == [1, -1, 2]


def test_a_sweep_that_follows_goes_on_with_its_steps_and_its_noise():
    # Three values of a map that does not depend on them are one run of it: x[n+1] = 0.9 x[n] + N(0, 1) + n/100.
    system = lambda p: sx.as_map(lambda n, x, key: 0.9 * x + jax.random.normal(key) + 0.01 * n.astype(float) + 0.0 * p)
    key, settings = jax.random.key(2), {"transient": 5, "keep": 4, "max_period": 2}
    found = sx.bifurcation_diagram(
        system, None, jnp.ones(3), jnp.array(0.3), key=key, follow_attractor=True, **settings
    )
    whole = sx.evolve(system(1.0), jnp.array(0.3), steps=24, key=key).states
    np.testing.assert_allclose(found.points, np.stack([whole[5:9], whole[13:17], whole[21:25]]), atol=1e-12)
    # Otherwise every value starts at 0, on the same noise.
    each = sx.bifurcation_diagram(system, None, jnp.ones(3), jnp.array(0.3), key=key, **settings)
    np.testing.assert_allclose(each.points, np.stack([whole[5:9]] * 3), atol=1e-12)


def test_maxima_and_crossings_are_interpolated_to_fourth_order():
    at_crossings = jax.jit(crossings, static_argnums=2)

    def worst(step_size):
        t = step_size * np.arange(round(60 / step_size))
        # The maxima of exp(sin t) are e; where sin t rises through 0, cos(t + 0.3) is cos 0.3.
        y, s, c = np.exp(np.sin(t)), np.sin(t), np.cos(t)
        maxima = at_crossings(jnp.asarray(np.stack([y, y * c, -y * c, y * (s - c**2)], axis=1)), step_size, 8)
        values = at_crossings(jnp.asarray(np.stack([np.cos(t + 0.3), -np.sin(t + 0.3), s, c], axis=1)), step_size, 8)
        return [np.max(np.abs(maxima - np.e)), np.max(np.abs(values - np.cos(0.3)))]

    orders = np.log2(np.array(worst(0.1)) / np.array(worst(0.05)))
    np.testing.assert_allclose(orders, 4, atol=0.3)
    assert np.isnan(np.asarray(at_crossings(jnp.zeros((5, 4)), 0.1, 3))).all()


def test_the_maxima_of_van_der_pol_are_its_amplitude():
    # The amplitude of the cycle at mu = 1 is 2.00861986087484; the section x' = 0 from above is where it is taken.
    settings = {"transient": 2000, "keep": 8, "max_period": 2, "step_size": 0.04}
    flow, start, one = sx.as_flow(VanDerPol()), jnp.array([1.0, 0.0]), jnp.array([1.0])
    found = sx.bifurcation_diagram(flow, "mu", one, start, **settings)
    assert found.periods.tolist() == [1]
    # RK4 at h = 0.04: an error of some h^4 = 2.6e-6.
    np.testing.assert_allclose(found.points, 2.00861986087484, atol=1e-6)
    section = sx.bifurcation_diagram(flow, "mu", one, start, section=lambda x: -x[1], **settings)
    np.testing.assert_allclose(section.points, found.points, atol=1e-7)
    assert "on a section" in str(section)


@pytest.mark.slow
def test_rossler_doubles_as_a_solver_with_events_says():
    values = jnp.array([2.5, 3.5, 4.0, 5.7])
    rossler = sx.as_flow(Rossler())
    found = sx.bifurcation_diagram(rossler, "c", values, jnp.array([1.0, 1.0, 0.0]), keep=64, transient=40_000)
    assert found.periods.tolist() == [1, 2, 4, 0]

    def velocity(_, x):
        return [-x[1] - x[2], x[0] + 0.2 * x[1], 0.2 + x[2] * (x[0] - 3.5)]

    def slope(_, x):
        return -x[1] - x[2]

    slope.direction = -1
    run = scipy.integrate.solve_ivp(velocity, (0, 400), [1.0, 1.0, 0.0], "DOP853", events=slope, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.sort(found.points[1, -2:]), np.sort(run.y_events[0][-2:, 0]), atol=1e-5)
    # The first doubling lies between 2.5 and 3.5 by the diagram, and is a multiplier -1 of the cycle by continuation.
    guess = run.y_events[0][-1]
    settled = sx.evolve(
        sx.diagnostics.at_parameter(rossler, "c", 2.5), jnp.asarray(guess), times=(0.0, 400.0), rtol=1e-9, atol=1e-9
    )
    branch = sx.continuation(
        rossler, "c", settled.final, value=2.5, period=5.75, bounds=(2.3, 3.5), steps_per_period=800
    )
    (flip,) = [point for point in branch.special if point.kind == "period doubling"]
    assert 2.5 < float(flip.parameter) < 3.5
    around = jnp.array([float(flip.parameter) - 0.1, float(flip.parameter) + 0.1])
    sides = sx.bifurcation_diagram(rossler, "c", around, settled.final, keep=64, transient=60_000)
    assert sides.periods.tolist() == [1, 2]


def test_other_values_compile_nothing_and_it_runs_under_jit():
    traced = []

    def family(r):
        traced.append(r)
        return sx.as_map(lambda x: r * x * (1 - x))

    sx.bifurcation_diagram(family, "r", jnp.array([2.5, 3.2]), jnp.array(0.3))
    first = len(traced)
    again = sx.bifurcation_diagram(family, "r", jnp.array([3.5, 3.83]), jnp.array(0.3))
    # Once more outside of the compiled call, to see that it is a map.
    assert len(traced) == first + 1 and again.periods.tolist() == [4, 3]
    periods = jax.jit(lambda v: sx.bifurcation_diagram(LOGISTIC, "r", v, jnp.array(0.3)).periods)
    assert periods(jnp.array([2.5, 3.2])).tolist() == [1, 2]


def test_float32_keeps_its_dtype_and_is_told():
    found = sx.bifurcation_diagram(LOGISTIC, "r", jnp.array([2.5, 3.2]), jnp.array(0.3, jnp.float32))
    assert found.points.dtype == jnp.float32 and found.periods.tolist() == [1, 2] and "float32" in found.cautions[-1]


def test_a_parameter_is_a_leaf_by_name_by_path_or_by_function():
    ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(jnp.array([1.0, 2.0])), 0.25, 0.9)
    for name in ("friction", lambda system: system.friction):
        assert float(sx.diagnostics.at_parameter(ball, name, 0.5).friction) == 0.5
    changed = sx.diagnostics.at_parameter(ball, "objective.curvature", jnp.array([3.0, 4.0]))
    assert changed.objective.curvature.tolist() == [3.0, 4.0] and float(changed.step_size) == 0.5
    assert float(sx.diagnostics.at_parameter(LOGISTIC, "function.r", 2.0).step(0, 0.5)) == 0.5
    assert (
        float(
            sx.diagnostics.at_parameter(
                lambda h: sx.optimization.GradientDescent(sx.optimization.Quadratic(1.0), h), "h", 0.25
            ).step_size
        )
        == 0.25
    )
    # A weakly typed leaf takes the dtype of the state; a strong one keeps its own.
    assert sx.diagnostics.at_parameter(LOGISTIC, "r", 2.0).step(0, jnp.array(0.5, jnp.float32)).dtype == jnp.float32
    half = sx.diagnostics.at_parameter(LOGISTIC, "r", jnp.array(2.0, jnp.float32))
    assert sx.diagnostics.at_parameter(half, "r", 3.0).function.r.dtype == jnp.float32
    # It is a pytree like any other: the derivative in the parameter.
    slope = jax.grad(lambda r: sx.diagnostics.at_parameter(LOGISTIC, "r", r).step(0, 0.25))(2.0)
    assert float(slope) == 0.25 * 0.75


def test_misuse_is_told():
    two = sx.compose(sx.as_map(Logistic(2.0)), sx.as_map(Logistic(3.0)))
    with pytest.raises(ValueError, match="several leaves have"):
        sx.diagnostics.at_parameter(two, "r", 1.0)
    with pytest.raises(ValueError, match="this one has none: its numbers are in closures"):
        sx.diagnostics.at_parameter(sx.as_map(lambda x: 2.0 * x), "r", 1.0)
    with pytest.raises(ValueError, match=r"got shape \(\), expected \(2,\)"):
        sx.diagnostics.at_parameter(
            sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.ones(2)), 0.1), "curvature", 1.0
        )
    with pytest.raises(ValueError, match=r"an array of shape \(2,\), expected one number"):
        descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.ones(2)), 0.1)
        sx.bifurcation_diagram(descent, "curvature", jnp.ones(3), jnp.ones(2))
    with pytest.raises(TypeError, match="a system or a function of one number"):
        sx.diagnostics.at_parameter(3.0, "r", 1.0)
    with pytest.raises(ValueError, match="expected a vector"):
        sx.bifurcation_diagram(LOGISTIC, "r", 3.0, jnp.array(0.3))
    with pytest.raises(ValueError, match="keep >= 2 max_period"):
        sx.bifurcation_diagram(LOGISTIC, "r", jnp.ones(2), jnp.array(0.3), keep=10)
    with pytest.raises(ValueError, match="a flow that depends on time"):
        driven = lambda p: sx.as_flow(lambda t, x: -p * x + jnp.cos(t))
        sx.bifurcation_diagram(driven, "p", jnp.ones(2), jnp.array(0.3))
    with pytest.raises(TypeError, match="Discretise it"):
        noisy = sx.as_sde(lambda x: -x, lambda x: 0.1)
        sx.bifurcation_diagram(lambda p: noisy, "p", jnp.ones(2), jnp.array(0.3))


def test_the_figure_shows_every_point_and_where_orbits_went_away():
    found = sx.bifurcation_diagram(LOGISTIC, "r", jnp.array([2.5, 3.2, 4.5]), jnp.array(0.3))
    points, gone = sx.plotting.plot(found).axes[0].lines
    assert len(points.get_xdata()) == 3 * 128 and gone.get_xdata().tolist() == [4.5]
    np.testing.assert_allclose(points.get_ydata()[:128], 0.6, atol=1e-9)
