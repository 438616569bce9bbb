"""Flows against closed forms, and against values known to many digits by two methods in high precision."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import separatrix as sx
from separatrix.catalogue.flows import Arenstorf, Lorenz, LotkaVolterra, Robertson

TIGHT = {"method": diffrax.Dopri8(), "rtol": 1e-12, "atol": 1e-14}


@pytest.mark.parametrize(
    ("velocity", "start", "solution"),
    [
        (lambda t, y: y * jnp.cos(t), 1.0, lambda t: np.exp(np.sin(t))),
        (lambda t, y: -(y**3) / 2, 1.0, lambda t: 1 / np.sqrt(1 + t)),
        (lambda t, y: y / 4 * (1 - y / 20), 1.0, lambda t: 20 / (1 + 19 * np.exp(-t / 4))),
    ],
    ids=["y cos t", "-y^3/2", "logistic growth"],
)
@pytest.mark.parametrize(
    "method", [diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Dopri5()], ids=lambda m: type(m).__name__
)
def test_scalar_equations_with_closed_forms(velocity, start, solution, method):
    times = np.linspace(0.0, 10.0, 21)
    # One part in 1e12 a step, over at most a few thousand steps of contracting or neutral problems, leaves 1e-9; and so
    # must the interpolant between the steps.
    settings = {"rtol": 1e-12, "atol": 1e-13, "max_steps": 100_000}
    path = sx.evolve(sx.as_flow(velocity), start, times=times, method=method, **settings)
    assert str(path.outcome) == "completed"
    np.testing.assert_allclose(path.states, solution(times), rtol=1e-9)


def test_lotka_volterra_to_nine_digits_on_its_level_curve():
    system = LotkaVolterra()
    path = sx.evolve(sx.as_flow(system), jnp.ones(2), times=jnp.array([0.0, 1.0, 10.0]), **TIGHT)
    known = [(2.7728509018411121, 0.25871087814256395), (1.0263447675750893, 0.90969107813604162)]
    np.testing.assert_allclose(path.states[1:], known, atol=1e-8)
    np.testing.assert_allclose(jax.vmap(system.invariant)(path.states), 2.0, atol=1e-9)


def test_lorenz_before_chaos_has_eaten_the_digits():
    path = sx.evolve(sx.as_flow(Lorenz()), jnp.ones(3), times=jnp.array([0.0, 1.0, 5.0]), **TIGHT)
    at_one = (-9.3785700109250624, -8.3570337884266447, 29.362325337363418)
    at_five = (-6.5121136994195990, -6.9740427884170762, 23.924129572103370)
    np.testing.assert_allclose(path.states[1], at_one, atol=1e-9)
    np.testing.assert_allclose(path.states[2], at_five, atol=1e-8)


@pytest.mark.parametrize(("rtol", "components"), [(1e-9, 2), (1e-11, 4)])
def test_arenstorf_orbit_closes(rtol, components):
    """Positions return within 1e-6 at rtol 1e-9. The acceleration there is mu/d^2 = 311: what the orbit is late by shows
    as 311 times as much in x', so that the velocities follow two digits later."""
    start = jnp.array([0.994, 0.0, 0.0, -2.00158510637908252240537862224])
    period = 17.0652165601579625588917206249
    settings = {"method": diffrax.Dopri8(), "rtol": rtol, "atol": 1e-14}
    path = sx.evolve(sx.as_flow(Arenstorf()), start, times=(0.0, period), **settings)
    np.testing.assert_allclose(path.final[:components], start[:components], atol=1e-6)


def test_robertson_by_an_implicit_method():
    path = sx.evolve(
        sx.as_flow(Robertson()), jnp.array([1.0, 0.0, 0.0]), times=(0.0, 40.0), method=diffrax.Kvaerno5(),
        rtol=1e-9, atol=1e-13, save="last",
    )  # fmt: skip
    np.testing.assert_allclose(path.final, (0.71582706871939, 9.185534764557e-6, 0.28416374574585), rtol=1e-6)
    np.testing.assert_allclose(path.final.sum(), 1.0, atol=1e-12)


def test_stiffness_is_told_where_an_explicit_method_runs_out_of_steps():
    path = sx.evolve(sx.as_flow(Robertson()), jnp.array([1.0, 0.0, 0.0]), times=(0.0, 4e5), max_steps=2000)
    assert str(path.outcome).startswith("stiff")
    assert "Kvaerno5" in path.outcome.advice


ROTATION = jnp.array([[-0.1, 2.0], [-2.0, -0.1]])
KNOWN_LOSS = -1.46126264371
KNOWN_GRADIENT = [[-1.0352154245, -1.5210678908], [1.3996047742, -1.1566785411]]


def rotated(matrix, gradient, **settings):
    final = sx.evolve(
        Linear(matrix), jnp.array([2.0, 0.0]), times=(0.0, 1.5), gradient=gradient, save="last",
        **({"rtol": 1e-12, "atol": 1e-13} | settings),
    ).final  # fmt: skip
    return final[0] - final[1]


class Linear(sx.Flow):
    matrix: jax.Array

    def velocity(self, t, state):
        return self.matrix @ state


@pytest.mark.parametrize(("gradient", "tolerance"), [("replay", 1e-9), ("checkpoint", 1e-9), ("continuous", 1e-6)])
def test_gradient_in_the_matrix_of_a_linear_flow(gradient, tolerance):
    value, slope = jax.value_and_grad(rotated)(ROTATION, gradient)
    np.testing.assert_allclose(value, KNOWN_LOSS, atol=1e-9)
    np.testing.assert_allclose(slope, KNOWN_GRADIENT, atol=tolerance)


def test_forward_mode_gives_the_same_gradient():
    np.testing.assert_allclose(jax.jacfwd(rotated)(ROTATION, "forward"), KNOWN_GRADIENT, atol=1e-9)


@pytest.mark.parametrize("method", [diffrax.Dopri8(), diffrax.Kvaerno5()], ids=lambda m: type(m).__name__)
def test_gradient_through_other_solvers(method):
    slope = jax.grad(rotated)(ROTATION, "replay", method=method, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(slope, KNOWN_GRADIENT, atol=1e-7)


def test_log_density_along_a_linear_flow_falls_by_the_trace():
    matrix = jnp.array([[0.3, 1.0, 0.0], [-0.5, -0.2, 0.4], [0.1, 0.0, -0.7]])
    span = 1.5
    flow = sx.tangent(Linear(matrix))
    start = sx.TangentState(jnp.ones(3), jnp.eye(3))
    final = sx.evolve(flow, start, times=(0.0, span), **TIGHT).final
    change = -jnp.linalg.slogdet(final.perturbation)[1]
    np.testing.assert_allclose(change, -span * jnp.trace(matrix), atol=1e-12)
    np.testing.assert_allclose(final.perturbation.T, scipy.linalg.expm(span * np.asarray(matrix)), atol=1e-11)


def test_least_energy_control_of_the_double_integrator():
    """u = 6 - 12 t takes rest at 0 to rest at 1 in unit time; the least control of 200 pieces is that, at energy 12."""
    plant = sx.as_open_flow(lambda x, u: jnp.stack([x[1], u]))
    path = sx.evolve(sx.drive(plant, lambda t: 6.0 - 12.0 * t), jnp.zeros(2), times=(0.0, 1.0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(path.final, [1.0, 0.0], atol=1e-9)

    def endpoint(control):
        # Piecewise-constant over 200 intervals; exact for each by the closed form of the double integrator.
        h = 1.0 / control.size

        def step(x, u):
            return jnp.stack([x[0] + h * x[1] + h**2 / 2 * u, x[1] + h * u]), None

        return jax.lax.scan(step, jnp.zeros(2), control)[0]

    reach = jax.jacfwd(endpoint)(jnp.zeros(200))
    least = jnp.linalg.pinv(reach) @ jnp.array([1.0, 0.0])
    centres = (np.arange(200) + 0.5) / 200
    # Pieces that are constant cost the variance of the line over a piece, (12 h)^2/12, more or less: O(h^2) of 12.
    np.testing.assert_allclose(least, 6.0 - 12.0 * centres, atol=1e-3)
    np.testing.assert_allclose(jnp.mean(least**2), 12.0, atol=12 * 200.0**-2 * 12)


@pytest.mark.parametrize("save", ["all", "dense"])
def test_what_lies_between_the_steps(save):
    """Dense output has order four: its error falls with the tolerance, here far below a step's own change."""
    times = np.linspace(0.0, 6.0, 301)
    flow, start = sx.as_flow(lambda t, y: y * jnp.cos(t)), jnp.asarray(1.0)
    if save == "all":
        values = sx.evolve(flow, start, times=times, rtol=1e-9, atol=1e-12).states
    else:
        path = sx.evolve(flow, start, times=(0.0, 6.0), rtol=1e-9, atol=1e-12, dense=True)
        values = jax.vmap(path.evaluate)(jnp.asarray(times))
    np.testing.assert_allclose(values, np.exp(np.sin(times)), rtol=1e-6)


def test_event_stops_at_the_root():
    """A stone falls from height 1 under unit gravity for sqrt 2."""
    stone = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.ones_like(x[1])]))
    path = sx.evolve(
        stone, jnp.array([1.0, 0.0]), times=(0.0, 5.0), event=lambda x: x[0], save="last", rtol=1e-9, atol=1e-12
    )
    assert str(path.outcome).startswith("event")
    np.testing.assert_allclose(path.outcome.at, np.sqrt(2.0), atol=1e-8)
    np.testing.assert_allclose(path.final, [0.0, -np.sqrt(2.0)], atol=1e-8)


def test_escape_in_finite_time_is_estimated():
    """x' = x^2 from 2 is 1/(1/2 - t): it is gone at t = 1/2."""
    path = sx.evolve(sx.as_flow(lambda x: x**2), 2.0, times=(0.0, 1.0))
    assert str(path.outcome).startswith("escaped")
    np.testing.assert_allclose(path.outcome.estimate, 0.5, atol=1e-6)
    assert bool(jnp.isfinite(path.last)) and bool(jnp.isnan(path.final))


def test_gradient_of_a_time_dependent_flow_in_its_end_time():
    """d/dt e^{sin t} at the end is e^{sin t} cos t."""

    def final(t1):
        times = jnp.stack([jnp.zeros_like(t1), t1])
        return sx.evolve(sx.as_flow(lambda t, y: y * jnp.cos(t)), 1.0, times=times, save="last", rtol=1e-10).final

    np.testing.assert_allclose(jax.grad(final)(2.0), np.exp(np.sin(2.0)) * np.cos(2.0), rtol=1e-8)
