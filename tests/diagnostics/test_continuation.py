"""Special points against normal forms and closed forms, branches against the curves they are."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate

import separatrix as sx
from separatrix.catalogue.flows import Lorenz, VanDerPol
from separatrix.catalogue.maps import Henon, Logistic

# The project asks for 1e-6. Newton's method and Brent's leave about 1e-12; near a branch point somewhat more.
CLOSE = 1e-9
# Cycles by collocation on 60 intervals: periods, parameters and multipliers err by h^8, in between by h^5.
HELD = 1e-9


def flows(velocity):
    """p -> the flow of velocity(x, p)."""
    return lambda p: sx.as_flow(lambda x: velocity(x, p))


def kinds(branch):
    return [point.kind for point in branch.special]


def places(branch):
    return [float(point.parameter) for point in branch.special]


def polar(velocity):
    """(x, y) with r' = r g(r^2, mu), theta' = 1."""

    def field(x, mu):
        growth = velocity(x[0] ** 2 + x[1] ** 2, mu)
        return jnp.stack([growth * x[0] - x[1], x[0] + growth * x[1]])

    return flows(field)


def test_a_fold_is_turned_around_and_its_upper_side_is_stable():
    branch = sx.continuation(flows(lambda x, mu: mu - x**2), "mu", jnp.array([0.5]), value=0.25, bounds=(-1.0, 1.0))
    assert kinds(branch) == ["fold"] and branch.ended == ("bounds", "bounds")
    assert places(branch) == pytest.approx([0.0], abs=CLOSE)
    assert float(branch.special[0].state[0]) == pytest.approx(0.0, abs=CLOSE)
    np.testing.assert_allclose(branch.parameters, branch.states[:, 0] ** 2, atol=1e-12)
    np.testing.assert_array_equal(branch.stable, branch.states[:, 0] > 0)
    assert branch.cautions == ()


def test_a_pitchfork_leads_to_the_parabola_that_crosses():
    pitchfork = flows(lambda x, mu: mu * x - x**3)
    branch = sx.continuation(pitchfork, "mu", jnp.zeros(1), value=0.5, bounds=(-1.0, 1.3))
    assert kinds(branch) == ["branch point"] and places(branch) == pytest.approx([0.0], abs=CLOSE)
    np.testing.assert_array_equal(branch.stable, branch.parameters < 0)
    other = sx.continuation(pitchfork, "mu", sx.switch_branch(branch, 0), bounds=(-1.0, 1.0))
    np.testing.assert_allclose(other.parameters, other.states[:, 0] ** 2, atol=1e-12)
    np.testing.assert_allclose(np.sort(other.states[[0, -1], 0]), [-1.0, 1.0], atol=1e-12)
    # Seen from the parabola its own stability does not change: the eigenvalue -2 mu only touches zero.
    assert kinds(other) == ["branch point"] and bool(jnp.all(other.stable)) and other.cautions == ()


@pytest.mark.parametrize("h", [0.1, pytest.param(1e-3, marks=pytest.mark.slow)])
def test_an_imperfect_pitchfork_folds_on_the_cusp(h):
    # x^3 = h + mu x folds where 3 x^2 = mu: 4 mu^3 = 27 h^2, at x = -(h/2)^(1/3).
    bent = flows(lambda x, mu: h + mu * x - x**3)
    branch = sx.continuation(bent, "mu", jnp.array([-1.0]), value=1.0, bounds=(-1.0, 2.0))
    assert kinds(branch) == ["fold"]
    assert places(branch) == pytest.approx([3 * (h / 2) ** (2 / 3)], abs=CLOSE)
    assert float(branch.special[0].state[0]) == pytest.approx(-((h / 2) ** (1 / 3)), abs=1e-8)


def test_the_logistic_map_exchanges_stability_and_doubles_twice():
    logistic = sx.as_map(Logistic(2.5))
    branch = sx.continuation(logistic, "r", jnp.array(0.6), bounds=(0.5, 4.0))
    assert kinds(branch) == ["branch point", "period doubling"] and branch.parameter == "r"
    assert places(branch) == pytest.approx([1.0, 3.0], abs=CLOSE)
    np.testing.assert_allclose(branch.states, 1 - 1 / branch.parameters, atol=1e-12)
    np.testing.assert_allclose(branch.spectra[:, 0], 2 - branch.parameters, atol=1e-10)
    # With F''' = 0 the coefficient is (F''/2)^2 = r^2.
    assert float(branch.special[1].coefficient) == pytest.approx(9.0, abs=1e-6)
    assert branch.special[1].criticality == "supercritical"
    # Through the transcritical point the other branch is x = 0.
    zero = sx.continuation(logistic, "r", sx.switch_branch(branch, 0), bounds=(0.5, 2.0))
    np.testing.assert_allclose(zero.states, 0.0, atol=1e-10)
    twice = sx.continuation(logistic, "r", sx.switch_branch(branch, branch.special[1]), bounds=(0.5, 3.6))
    assert twice.kind == "2-cycle" and kinds(twice) == ["period doubling"]
    assert places(twice) == pytest.approx([1 + np.sqrt(6)], abs=CLOSE)


def test_the_three_cycle_is_born_at_a_fold_and_lost_where_its_multiplier_is_minus_one():
    branch = sx.continuation(sx.as_map(Logistic(3.83)), "r", jnp.array(0.15615), bounds=(3.5, 3.9), period=3)
    fold, flip = branch.special
    assert (fold.kind, flip.kind) == ("fold", "period doubling")
    assert float(fold.parameter) == pytest.approx(1 + np.sqrt(8), abs=CLOSE)
    r, x = float(flip.parameter), float(flip.state)
    orbit = [x, r * x * (1 - x), r * (r * x * (1 - x)) * (1 - r * x * (1 - x))]
    assert np.prod([r * (1 - 2 * point) for point in orbit]) == pytest.approx(-1.0, abs=1e-8)
    assert r * orbit[2] * (1 - orbit[2]) == pytest.approx(x, abs=1e-12)


def test_henon_folds_and_flips_where_its_closed_forms_say():
    b = 0.3
    branch = sx.continuation(sx.as_map(Henon(0.2, b)), "a", jnp.array([0.7, 0.2]), bounds=(-0.5, 1.0))
    found = dict(zip(kinds(branch), places(branch), strict=True))
    assert found["fold"] == pytest.approx(-((1 - b) ** 2) / 4, abs=CLOSE)
    assert found["period doubling"] == pytest.approx(3 * (1 - b) ** 2 / 4, abs=CLOSE)


def test_the_delayed_logistic_map_throws_off_a_circle_at_two():
    def delayed(a):
        return sx.as_map(lambda x: jnp.stack([a * x[0] * (1 - x[1]), x[0]]))

    start = jnp.array([0.43, 0.43])
    branch = sx.continuation(delayed, "a", start, value=1.75, bounds=(1.2, 3.0))
    (point,) = branch.special
    # Multipliers at x = 1 - 1/a solve mu^2 - mu + a - 1 = 0: at a = 2 exp(+-i pi/3).
    assert point.kind == "neimark-sacker" and float(point.parameter) == pytest.approx(2.0, abs=CLOSE)
    assert float(point.frequency) == pytest.approx(np.pi / 3, abs=1e-8)
    assert point.criticality == "supercritical"
    with pytest.raises(ValueError, match="got neimark-sacker, expected a hopf, period doubling or branch point"):
        sx.switch_branch(branch, point)


def test_the_coefficient_of_a_period_doubling_counts_its_cubic_term_and_what_it_drags_along():
    # u' = -(1 + p) u + a u^2 + b u^3 + e u v, v' = v/2 + f u^2: at p = 0 c = a^2 + b + 2 e f; seen in x = P (u, v) the unit
    # vector of u is P e_1/|P e_1|, and c falls with the square of its length. The doubled cycle has u^2 = p/c.
    a, b, e, f = 0.9, -0.7, 0.5, -0.3
    forward = np.array([[2.0, 1.0], [-1.0, 0.5]])
    back = np.linalg.inv(forward)

    def bent(p):
        def step(x):
            u, v = back @ x
            return forward @ jnp.stack([-(1 + p) * u + a * u**2 + b * u**3 + e * u * v, v / 2 + f * u**2])

        return sx.as_map(step)

    branch = sx.continuation(bent, "p", jnp.zeros(2), value=-0.1, bounds=(-0.2, 0.2), max_step=0.2)
    (point,) = branch.special
    c = a**2 + b + 2 * e * f
    assert point.kind == "period doubling" and float(point.parameter) == pytest.approx(0.0, abs=CLOSE)
    assert float(point.coefficient) == pytest.approx(c / 5, abs=1e-8) and point.criticality == "subcritical"


@pytest.mark.parametrize("a", [-0.7, pytest.param(0.4, marks=pytest.mark.slow)])
def test_the_coefficient_of_a_circle_is_that_of_its_normal_form(a):
    # x -> R(theta) x (1 + mu + a |x|^2): with unit q, |x|^2 = 2 |z|^2, so d = 2a, whatever theta.
    turn = jnp.array([[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]])

    def circle(mu):
        return sx.as_map(lambda x: turn @ x * (1 + mu + a * jnp.sum(x**2)))

    branch = sx.continuation(circle, "mu", jnp.zeros(2), value=-0.1, bounds=(-0.2, 0.3))
    assert float(branch.special[0].coefficient) == pytest.approx(2 * a, abs=1e-8)
    assert float(branch.special[0].frequency) == pytest.approx(0.8, abs=1e-8)
    assert branch.special[0].criticality == ("supercritical" if a < 0 else "subcritical")


def test_a_quadratic_field_is_reduced_before_its_sign_is_read():
    # Guckenheimer & Holmes, equation 3.4.11: for x' = -w y + f, y' = w x + g,
    # 16 a = f_xxx + f_xyy + g_xxy + g_yyy + [f_xy (f_xx + f_yy) - g_xy (g_xx + g_yy) - f_xx g_xx + f_yy g_yy]/w.
    w, fxx, fxy, gxx, gyy = 2.0, 0.6, -1.4, 0.9, 1.1
    field = flows(
        lambda x, mu: jnp.stack([
            mu * x[0] - w * x[1] + fxx * x[0] ** 2 / 2 + fxy * x[0] * x[1],
            w * x[0] + mu * x[1] + gxx * x[0] ** 2 / 2 + gyy * x[1] ** 2 / 2,
        ])
    )  # fmt: skip
    branch = sx.continuation(field, "mu", jnp.zeros(2), value=-0.1, bounds=(-0.2, 0.2), max_step=0.2)
    (point,) = branch.special
    a = (fxy * fxx - fxx * gxx) / (16 * w)
    # r' = a r^3 with r^2 = 2 |z|^2, and l_1 = Re c_1/omega.
    assert float(point.coefficient) == pytest.approx(2 * a / w, abs=1e-9)
    assert float(point.frequency) == pytest.approx(w, abs=1e-9)


@pytest.mark.slow
def test_the_brusselator_oscillates_past_one_plus_a_squared():
    a = 1.5
    reactions = flows(lambda x, b: jnp.stack([a + x[0] ** 2 * x[1] - (b + 1) * x[0], b * x[0] - x[0] ** 2 * x[1]]))
    branch = sx.continuation(reactions, "B", jnp.array([a, 2 / a]), value=2.0, bounds=(1.0, 5.0))
    (point,) = branch.special
    assert point.kind == "hopf" and float(point.parameter) == pytest.approx(1 + a**2, abs=CLOSE)
    assert float(point.frequency) == pytest.approx(a, abs=1e-8) and point.criticality == "supercritical"


@pytest.mark.slow
def test_lorenz_has_a_pitchfork_and_a_subcritical_hopf_point():
    sigma, beta = 10.0, 8 / 3
    lorenz = sx.as_flow(Lorenz(rho=0.5))
    origin = sx.continuation(lorenz, "rho", jnp.zeros(3), bounds=(0.0, 30.0))
    assert kinds(origin) == ["branch point"] and places(origin) == pytest.approx([1.0], abs=CLOSE)
    wings = sx.continuation(lorenz, "rho", sx.switch_branch(origin, 0), bounds=(0.0, 30.0))
    np.testing.assert_allclose(wings.parameters, 1 + wings.states[:, 0] ** 2 / beta, atol=1e-9)
    found = [point for point in wings.special if point.kind == "hopf"]
    exact = sigma * (sigma + beta + 3) / (sigma - beta - 1)
    # One on either wing, at omega^2 = beta (sigma + rho).
    assert [float(point.parameter) for point in found] == pytest.approx([exact, exact], abs=1e-8)
    assert float(found[0].frequency) == pytest.approx(np.sqrt(beta * (sigma + exact)), abs=1e-8)
    assert {point.criticality for point in found} == {"subcritical"}


def test_an_optimiser_meets_its_edge_as_a_period_doubling():
    # Curvature 2 at the minimum of the double well; heavy ball in the convention of PyTorch is stable for eta l < 2 + 2b.
    def ball(eta):
        return sx.optimization.HeavyBall(sx.optimization.DoubleWell(), eta, 0.9)

    start = ball(0.5).init(jnp.array([1.0]))
    branch = sx.continuation(ball, "learning rate", start, value=0.5, bounds=(0.1, 2.5))
    assert kinds(branch) == ["period doubling"] and places(branch) == pytest.approx([(2 + 2 * 0.9) / 2], abs=CLOSE)
    assert branch.states.position.shape == (len(branch.parameters), 1)


def test_the_two_cycle_of_descent_in_a_double_well_is_its_closed_form():
    # Of a cycle x, y of x - h (x^3 - x): xy = 1/h and x^2 + y^2 = 1 + 1/h, so that its multiplier is 9 - 2 (1 + h)^2:
    # born at h = 1, superstable at 3/sqrt 2 - 1, lost at sqrt 5 - 1.
    well = sx.optimization.GradientDescent(sx.optimization.DoubleWell(), 0.9)
    branch = sx.continuation(well, "step_size", jnp.array([1.0]), bounds=(0.5, 1.4))
    cycle = sx.continuation(well, "step_size", sx.switch_branch(branch, 0), bounds=(0.5, 1.4))
    h = np.asarray(cycle.parameters)
    np.testing.assert_allclose(cycle.spectra[:, 0], 9 - 2 * (1 + h) ** 2, atol=1e-9)
    np.testing.assert_allclose(np.prod(cycle.extremes, axis=1), 1 / h, atol=1e-9)
    assert kinds(cycle) == ["period doubling"] and places(cycle) == pytest.approx([np.sqrt(5) - 1], abs=CLOSE)


def test_cycles_of_a_subcritical_hopf_point_fold_back():
    # r' = r (mu + r^2 - r^4): cycles on mu = r^4 - r^2, which folds at mu = -1/4; multiplier exp(2 pi (2 r^2 - 4 r^4)).
    family = polar(lambda r2, mu: mu + r2 - r2**2)
    rest = sx.continuation(family, "mu", jnp.zeros(2), value=-0.3, bounds=(-0.5, 0.5))
    (hopf,) = rest.special
    assert hopf.kind == "hopf" and float(hopf.parameter) == pytest.approx(0.0, abs=CLOSE)
    assert float(hopf.coefficient) == pytest.approx(2.0, abs=1e-8) and hopf.criticality == "subcritical"
    cycles = sx.continuation(family, "mu", sx.switch_branch(rest, hopf), bounds=(-0.5, 0.5))
    assert kinds(cycles) == ["fold"] and places(cycles) == pytest.approx([-0.25], abs=HELD)
    r2 = np.sum(np.asarray(cycles.states) ** 2, axis=1)
    np.testing.assert_allclose(cycles.parameters, r2**2 - r2, atol=HELD)
    np.testing.assert_allclose(cycles.periods, 2 * np.pi, atol=HELD)
    np.testing.assert_allclose(cycles.spectra[:, 0], np.exp(2 * np.pi * (2 * r2 - 4 * r2**2)), 1e-7)
    np.testing.assert_array_equal(cycles.stable, r2 > 0.5)
    assert float(cycles.discretization_error) < 1e-7 and cycles.cautions == ()
    # The whole cycle is there: x at every base point, a circle about 0 run through at the speed of its time.
    turns = np.unwrap(np.arctan2(cycles.orbits[7, :, 1], cycles.orbits[7, :, 0]))
    np.testing.assert_allclose(turns - turns[0], 2 * np.pi * np.asarray(cycles.phases[7]), atol=1e-7)
    np.testing.assert_allclose(cycles.extremes[:, 1], np.sqrt(r2), atol=1e-7)


def skewed(mu, s=3.0):
    """The circles x^2 + y^2 = mu of period 2 pi, in coordinates z with (x, y) = (z0 + s z1, z1): long ellipses."""

    def velocity(z):
        x, y = z[0] + s * z[1], z[1]
        growth = mu - x**2 - y**2
        u, v = growth * x - y, x + growth * y
        return jnp.stack([u - s * v, v])

    return sx.as_flow(velocity)


def test_cycles_are_followed_however_long_and_thin_they_are():
    rest = sx.continuation(skewed, "mu", jnp.zeros(2), value=-0.3, bounds=(-0.5, 2.0))
    cycles = sx.continuation(skewed, "mu", sx.switch_branch(rest, 0), bounds=(-0.5, 2.0))
    assert cycles.ended == ("start", "bounds") and cycles.special == () and cycles.cautions == ()
    assert float(cycles.parameters[-1]) == 2.0
    np.testing.assert_allclose(cycles.periods, 2 * np.pi, atol=HELD)
    mu, orbit = np.asarray(cycles.parameters), np.asarray(cycles.orbits)
    radius = np.hypot(orbit[..., 0] + 3 * orbit[..., 1], orbit[..., 1])
    np.testing.assert_allclose(radius, np.broadcast_to(np.sqrt(mu)[:, None], radius.shape), atol=1e-7)
    # r' = r (mu - r^2): the multiplier is exp(-4 pi mu), to its own digits down to 1e-11.
    np.testing.assert_allclose(np.log(np.real(cycles.spectra[:, 0])), -4 * np.pi * mu, atol=1e-7)


def fitzhugh(current):
    """v' = v - v^3/3 - w + I, w' = 0.08 (v + 0.7 - 0.8 w)."""
    return sx.as_flow(lambda x: jnp.stack([x[0] - x[0] ** 3 / 3 - x[1] + current, 0.08 * (x[0] + 0.7 - 0.8 * x[1])]))


@pytest.mark.slow
def test_relaxation_cycles_are_followed_from_one_hopf_point_through_both_canards_to_the_other():
    rest = sx.continuation(fitzhugh, "I", jnp.array([-1.2, -0.6]), value=0.0, bounds=(0.0, 2.0))
    # Hopf points: the trace 1 - v^2 - 0.064 vanishes at v = -+sqrt(0.936), I from w = (v + 0.7)/0.8. Together 2 I_0, where
    # v -> -v, w -> 2 w_0 - w is the symmetry: I_0 = w_0 = 0.7/0.8.
    v = np.sqrt(0.936)
    hopf = [(sign * v + 0.7) / 0.8 - sign * v + (sign * v) ** 3 / 3 for sign in (-1, 1)]
    assert places(rest) == pytest.approx(hopf, abs=CLOSE)
    cycles = sx.continuation(fitzhugh, "I", sx.switch_branch(rest, 0), bounds=(0.0, 2.0))
    assert cycles.ended == ("start", "equilibrium") and kinds(cycles) == ["fold", "fold"] and cycles.unresolved == 0
    folds = places(cycles)
    assert folds[0] + folds[1] == pytest.approx(2 * 0.7 / 0.8, abs=1e-8)
    # The last cycle is as small as the first, beside the other Hopf point.
    assert float(cycles.parameters[-1]) == pytest.approx(hopf[1], abs=1e-4)
    # In the middle v and w mirror themselves after half of the period; there the relaxation has its known size.
    middle = int(np.argmin(np.abs(np.asarray(cycles.parameters) - 0.875) + 10 * ~np.asarray(cycles.stable)))
    at = float(cycles.parameters[middle])
    path = sx.evolve(
        fitzhugh(at), cycles.states[middle], times=(0.0, float(cycles.periods[middle])), rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(path.final, cycles.states[middle], atol=1e-6)
    # Liouville: ln mu is the integral of the divergence 1 - v^2 - 0.064, over the whole of each cycle.
    for place in (3, len(folds), middle, -10):
        times, orbit = np.asarray(cycles.phases[place]), np.asarray(cycles.orbits[place])
        divergence = scipy.interpolate.CubicSpline(
            np.append(times, 1), np.append(0.936 - orbit[:, 0] ** 2, 0.936 - orbit[0, 0] ** 2)
        )
        exact = float(cycles.periods[place]) * divergence.integrate(0, 1)
        assert np.log(abs(cycles.spectra[place, 0])) == pytest.approx(exact, abs=1e-3 * (1 + abs(exact)))


def reactor(damkohler):
    """x' = -x + Da (1 - x) e^y, y' = -b y + B Da (1 - x) e^y with B = 7.06, b = 1.74."""

    def velocity(s):
        made = damkohler * (1 - s[0]) * jnp.exp(s[1])
        return jnp.stack([made - s[0], 7.06 * made - 1.74 * s[1]])

    return sx.as_flow(velocity)


def test_a_rough_guess_is_corrected_on_a_long_way_and_the_reactor_oscillates_between_its_hopf_points():
    rest = sx.continuation(reactor, "Da", jnp.array([0.4, 0.4]), value=0.15, bounds=(0.11, 0.16))
    # y = B x/b and Da = x e^{-y}/(1 - x): at Da = 0.15 x = 0.78114613...
    x = np.asarray(rest.states)[:, 0]
    np.testing.assert_allclose(rest.parameters, x * np.exp(-7.06 / 1.74 * x) / (1 - x), atol=1e-10)
    assert float(jnp.min(jnp.abs(rest.states[:, 0] - 0.781146))) < 1e-6
    hopf = [point for point in rest.special if point.kind == "hopf"]
    assert len(hopf) == 2 and {point.criticality for point in hopf} == {"supercritical"}
    cycles = sx.continuation(reactor, "Da", sx.switch_branch(rest, hopf[0]), bounds=(0.11, 0.16))
    assert cycles.ended == ("start", "equilibrium") and bool(jnp.all(cycles.stable)) and cycles.cautions == ()
    # It is born with the period of the one Hopf pair and dies with that of the other.
    ends = [(float(point.parameter), 2 * np.pi / float(point.frequency)) for point in hopf]
    for place, (parameter, period) in ((0, ends[0]), (-1, ends[1])):
        assert float(cycles.parameters[place]) == pytest.approx(parameter, abs=2e-5)
        assert float(cycles.periods[place]) == pytest.approx(period, rel=5e-3)


@pytest.mark.slow
def test_the_cycles_of_lorenz_end_in_its_homoclinic_orbit():
    wings = sx.continuation(sx.as_flow(Lorenz(rho=20.0)), "rho", jnp.array([7.1, 7.1, 19.0]), bounds=(10.0, 30.0))
    cycles = sx.continuation(sx.as_flow(Lorenz(rho=20.0)), "rho", sx.switch_branch(wings, 0), bounds=(10.0, 30.0))
    # Sparrow (1982): the homoclinic explosion at 13.926...; 13.92655741 by Doedel, Krauskopf & Osinga.
    assert cycles.ended == ("start", "infinite period") and cycles.special == ()
    assert float(cycles.parameters[-1]) == pytest.approx(13.92655741, abs=1e-6)
    # Saddles all along, with one growing direction; Liouville: ln mu_1 + ln mu_2 = -41/3 T.
    assert np.all(np.asarray(cycles.unstable)[1:] == 1)
    short = np.asarray(cycles.periods) < 3
    sums = np.sum(np.log(np.abs(np.asarray(cycles.spectra))), axis=1)
    np.testing.assert_allclose(sums[short], -41 / 3 * np.asarray(cycles.periods)[short], rtol=1e-5)


def test_a_pitchfork_of_cycles_leads_to_the_cycles_that_cross():
    # z' = mu z - z^3 (1 + x/2) across a circle of period 2 pi that z pushes: born at mu = 0 with the multiplier
    # exp(2 pi mu), z^2 = mu to first order, for x averages to nothing there.
    def field(x, mu):
        growth = 1 - x[0] ** 2 - x[1] ** 2
        circle = [growth * x[0] - x[1] + 0.3 * x[2] ** 2, x[0] + growth * x[1]]
        return jnp.stack([*circle, mu * x[2] - x[2] ** 3 * (1 + x[0] / 2)])

    family = flows(field)
    straight = sx.continuation(family, "mu", jnp.array([1.0, 0.0, 0.0]), value=-0.2, period=6.3, bounds=(-0.25, 0.25),
                               steps_per_period=80)  # fmt: skip
    assert kinds(straight) == ["branch point"] and places(straight) == pytest.approx([0.0], abs=1e-8)
    mu = np.asarray(straight.parameters)
    np.testing.assert_allclose(np.log(np.max(np.abs(straight.spectra), axis=1))[mu > -1], 2 * np.pi * mu, atol=1e-6)
    other = sx.continuation(family, "mu", sx.switch_branch(straight, 0), bounds=(-0.25, 0.25), steps_per_period=80)
    heights = np.mean(np.asarray(other.orbits)[..., 2], axis=1)
    assert np.min(heights) < -0.1 and np.max(heights) > 0.1 and np.min(np.asarray(other.parameters)) > -1e-8
    small = np.abs(heights) < 0.1
    np.testing.assert_allclose(heights[small] ** 2, np.asarray(other.parameters)[small], atol=2e-3)
    assert bool(jnp.all(other.stable[np.abs(heights) > 0.02]))


def test_cycles_of_a_flow_that_is_large_or_breaks_are_told():
    with pytest.raises(ValueError, match="a product of at most 2048"):
        wide = lambda p: sx.as_flow(lambda x: p * x)
        sx.continuation(wide, "p", jnp.ones(100), value=-1.0, period=1.0, bounds=(-2.0, 0.0))
    with pytest.raises(ValueError, match="an orbit that ended"):
        sx.continuation(
            lambda p: sx.as_flow(lambda x: p * x**2), "p", jnp.ones(2), value=1.0, period=3.0, bounds=(0.0, 2.0)
        )
    with pytest.raises(ValueError, match="cannot correct"):
        # All orbits fall to rest: there is no cycle to find, and a point is none.
        sx.continuation(
            lambda p: sx.as_flow(lambda x: -p * x), "p", jnp.ones(2), value=1.0, period=3.0, bounds=(0.5, 2.0)
        )


def coupled(inner):
    """A circle of period 2 pi and, across it, a plane that `inner` moves."""

    def field(x, mu):
        growth = 1 - x[0] ** 2 - x[1] ** 2
        circle = jnp.stack([growth * x[0] - x[1], x[0] + growth * x[1]])
        return jnp.concatenate([circle, inner(x, mu)])

    return flows(field)


def turning(x, mu):
    # Multipliers exp(2 pi (mu +- 0.3 i)).
    return jnp.stack([mu * x[2] - 0.3 * x[3], 0.3 * x[2] + mu * x[3]]) - jnp.sum(x[2:] ** 2) * x[2:]


def twisted(x, mu):
    # In the frame that makes half a turn a period w' = diag(mu, -1) w: multipliers -exp(2 pi mu), -exp(-2 pi).
    a, b, u, v = (mu - 1) / 2, (mu + 1) / 2, x[2], x[3]
    pushed = jnp.stack([a * u + b * (x[0] * u + x[1] * v) - v / 2, a * v + b * (x[1] * u - x[0] * v) + u / 2])
    return pushed - jnp.sum(x[2:] ** 2) * x[2:]


@pytest.mark.slow
def test_a_cycle_throws_off_a_torus():
    start = jnp.array([1.0, 0.0, 0.0, 0.0])
    branch = sx.continuation(coupled(turning), "mu", start, value=-0.3, period=6.3, bounds=(-0.5, 0.5), max_step=0.2)
    (point,) = branch.special
    assert point.kind == "neimark-sacker" and float(point.parameter) == pytest.approx(0.0, abs=HELD)
    assert float(point.frequency) == pytest.approx(0.6 * np.pi, abs=HELD)
    assert float(point.period) == pytest.approx(2 * np.pi, abs=HELD)


@pytest.mark.slow
def test_a_cycle_doubles_its_period_and_the_new_one_is_followed():
    start = jnp.array([1.0, 0.0, 0.0, 0.0])
    family = coupled(twisted)
    branch = sx.continuation(family, "mu", start, value=-0.3, period=6.3, bounds=(-0.5, 0.5))
    (point,) = branch.special
    assert point.kind == "period doubling" and float(point.parameter) == pytest.approx(0.0, abs=HELD)
    twice = sx.continuation(family, "mu", sx.switch_branch(branch, point), bounds=(-0.5, 0.5))
    np.testing.assert_allclose(twice.periods, 4 * np.pi, atol=1e-6)
    # w' = (mu - |w|^2) w along the slow direction: the doubled cycle has |w|^2 = mu.
    np.testing.assert_allclose(np.sum(np.asarray(twice.states)[:, 2:] ** 2, axis=1), twice.parameters, atol=1e-6)
    assert bool(jnp.all(twice.stable))


@pytest.mark.slow
def test_the_cycle_of_van_der_pol_has_its_known_period():
    # Period and amplitude at mu = 1 to more digits than are compared: 6.66328685932313, 2.00861986087484.
    branch = sx.continuation(
        sx.as_flow(VanDerPol(1.0)), "mu", jnp.array([2.0086, 0.0]), period=6.66, bounds=(0.5, 1.0), direction="down"
    )
    assert float(branch.periods[0]) == pytest.approx(6.66328685932313, abs=1e-7)
    assert float(branch.states[0, 0]) == pytest.approx(2.00861986087484, abs=1e-7)
    # Liouville: the other multiplier is exp of the divergence over a period, negative here: stable, and mu of either sign.
    assert bool(jnp.all(branch.stable)) and branch.special == ()


def test_points_that_lie_close_are_parted_and_those_that_coincide_are_told():
    def two(gap):
        return flows(lambda x, mu: jnp.stack([mu * x[0] - x[0] ** 3, (mu - gap) * x[1] - x[1] ** 3]))

    close = sx.continuation(two(0.003), "mu", jnp.zeros(2), value=-0.5, bounds=(-1.0, 1.0))
    assert places(close) == pytest.approx([0.0, 0.003], abs=CLOSE) and close.cautions == ()
    # The determinant mu^2 keeps its sign while two directions become unstable.
    together = sx.continuation(two(0.0), "mu", jnp.zeros(2), value=-0.5, bounds=(-1.0, 1.0))
    assert int(together.unstable[-1]) - int(together.unstable[0]) == 2
    assert together.unresolved == 1 and "eigenvalues that cross together" in together.cautions[0]


def test_an_isola_is_closed_and_every_end_is_told():
    ring = flows(lambda x, mu: x**2 + mu**2 - 1)
    closed = sx.continuation(ring, "mu", jnp.array([1.0]), value=0.0, bounds=(-2.0, 2.0))
    assert closed.ended == ("closed", "closed") and closed.cautions == ()
    assert sorted(places(closed)) == pytest.approx([-1.0, 1.0], abs=CLOSE) and set(kinds(closed)) == {"fold"}
    short = sx.continuation(ring, "mu", jnp.array([1.0]), value=0.0, bounds=(-2.0, 2.0), steps=3)
    assert short.ended == ("steps", "steps") and "the branch goes on" in short.cautions[0]
    # mu = sqrt x has no continuation past 0.
    ends = sx.continuation(flows(lambda x, mu: jnp.sqrt(x) - mu), "mu", jnp.array([1.0]), value=1.0, bounds=(-1.0, 2.0))
    assert ends.ended == ("step collapsed", "bounds") and "no longer smooth" in ends.cautions[0]


def test_single_precision_is_told_and_still_near():
    logistic = sx.as_map(Logistic(2.5))
    with pytest.warns(RuntimeWarning, match="three or four digits"):
        branch = sx.continuation(logistic, "r", jnp.array(0.6, jnp.float32), bounds=(1.5, 3.5))
    assert branch.states.dtype == jnp.float32 and "float32" in branch.cautions[-1]
    assert places(branch) == pytest.approx([3.0], abs=1e-3)


def test_misuse_is_told():
    logistic, x = sx.as_map(Logistic(2.5)), jnp.array(0.6)
    with pytest.raises(ValueError, match=r"no leaf has, expected one of: function\.r"):
        sx.continuation(logistic, "q", x, bounds=(1.0, 3.0))
    with pytest.raises(ValueError, match=r"bounds that hold 2\.5"):
        sx.continuation(logistic, "r", x, bounds=(3.0, 4.0))
    with pytest.raises(ValueError, match="two numbers, low < high"):
        sx.continuation(logistic, "r", x, bounds=(4.0, 3.0))
    with pytest.raises(ValueError, match="a whole number >= 1, for a cycle of a map"):
        sx.continuation(logistic, "r", x, bounds=(1.0, 3.0), period=1.5)
    with pytest.raises(ValueError, match="Say value="):
        sx.continuation(flows(lambda x, mu: mu - x**2), "mu", x, bounds=(0.0, 1.0))
    with pytest.raises(ValueError, match="Newton's method cannot correct"):
        sx.continuation(flows(lambda x, mu: mu + x**2), "mu", x, value=1.0, bounds=(0.0, 2.0))
    with pytest.raises(ValueError, match="a flow that depends on time"):
        sx.continuation(
            lambda p: sx.as_flow(lambda t, x: p * jnp.cos(t) - x),
            "p",
            jnp.zeros(2),
            value=1.0,
            period=6.28,
            bounds=(0.0, 2.0),
        )
    with pytest.raises(TypeError, match="as_map, as_flow or as_sde"):
        sx.continuation(lambda p: p, "p", x, value=1.0, bounds=(0.0, 2.0))
    with pytest.raises(TypeError, match="a Branch"):
        sx.switch_branch(logistic, 0)


def test_the_figure_shows_stability_and_special_points():
    branch = sx.continuation(flows(lambda x, mu: mu - x**2), "mu", jnp.array([0.5]), value=0.25, bounds=(-1.0, 1.0))
    solid, dashed, mark = sorted(
        sx.plotting.plot(branch).axes[0].lines, key=lambda line: "- -- None".find(line.get_linestyle())
    )
    assert np.all(solid.get_ydata()[:-1] > -0.1) and np.all(dashed.get_ydata()[1:-1] < 0.1)
    assert mark.get_label() == "fold" and mark.get_xdata()[0] == pytest.approx(0.0, abs=1e-9)
    assert branch.to_dict()["special"][0]["kind"] == "fold" and "fold" in str(branch)
