"""Measured orders against stated ones, closed forms, and errors whose law is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import separatrix as sx
from separatrix.diagnostics.orders._expected import strong_order_on

# Not normal, not symmetric, with a growing, an oscillating and a decaying part.
A = jnp.array([[0.2, 1.3, 0.0], [-1.7, -0.4, 0.6], [0.3, 0.0, -1.1]])
LINEAR = sx.as_flow(lambda x: A @ x)
START = jnp.array([1.0, -0.5, 2.0])
MU, SIGMA = 1.5, 1.0
GROWTH = sx.as_sde(lambda x: MU * x, lambda x: SIGMA * x)
SEED = 3


def exact_growth(t, w):
    return jnp.exp((MU - SIGMA**2 / 2) * t + SIGMA * w)


@jax.jit
def exact_linear(t):
    return jax.scipy.linalg.expm(t * A) @ START


def euler_maruyama_strong_error(counts):
    """e^{(2mu+s^2)T} - 2[e^{mu h}(1+mu h+s^2 h)]^N + ((1+mu h)^2+s^2 h)^N at T = 1, and its root."""
    h = 1 / counts
    mixed = (np.exp(MU * h) * (1 + MU * h + SIGMA**2 * h)) ** counts
    return np.sqrt(np.exp(2 * MU + SIGMA**2) - 2 * mixed + ((1 + MU * h) ** 2 + SIGMA**2 * h) ** counts)


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (sx.Euler(), 1),
        (sx.ImplicitEuler(), 1),
        (sx.Heun(), 2),
        (sx.Midpoint(), 2),
        (sx.ImplicitMidpoint(), 2),
        (sx.RK4(), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_order_on_a_linear_system_against_the_matrix_exponential(method, order):
    known = sx.measured_order(method, LINEAR, START, exact=exact_linear)
    solved = sx.measured_order(method, LINEAR, START)
    for found in (known, solved):
        assert float(found.order) == pytest.approx(order, abs=0.15)
        assert float(found.stated) == order and found.cautions == ()
    # The reference solve is right far below the errors it is to measure, where they are in the window.
    chosen = np.asarray(known.window & solved.window)
    np.testing.assert_allclose(solved.errors[chosen], known.errors[chosen], rtol=0.03)


@pytest.mark.parametrize(("method", "order"), [(sx.SymplecticEuler(), 1), (sx.Leapfrog(), 2)])
def test_order_of_symplectic_methods_on_a_pair_state(method, order):
    b, c = jnp.array([[1.0, 0.4], [-0.2, 0.7]]), jnp.array([[-1.2, 0.5], [0.1, -2.0]])
    flow = sx.as_flow(lambda x: (b @ x[1], c @ x[0]))
    found = sx.measured_order(method, flow, (jnp.array([1.0, -0.5]), jnp.array([0.3, 0.8])))
    assert float(found.order) == pytest.approx(order, abs=0.15)


def test_errors_are_those_of_the_plain_recursion_at_the_worst_of_the_common_times():
    """Euler on x' = l x is (1 + h l)^n against e^{l t}."""
    rate, counts = -0.7, np.array([4, 8, 16, 32])
    found = sx.measured_order(
        sx.Euler(), sx.as_flow(lambda x: rate * x), jnp.array(2.0), end=3.0, step_sizes=3.0 / counts
    )
    times = np.linspace(0, 3, 5)
    for count, error in zip(counts, np.asarray(found.errors), strict=True):
        steps = np.arange(0, count + 1, count // 4)
        assert error == pytest.approx(
            np.max(np.abs(2 * (1 + 3 * rate / count) ** steps - 2 * np.exp(rate * times))), rel=1e-9
        )


def test_a_method_that_depends_on_time_sees_the_right_time():
    """x' = cos t: the left-end rule is off by h/2 (f(T) - f(0)) to first order."""
    found = sx.measured_order(sx.Euler(), sx.as_flow(lambda t, x: jnp.cos(t) + 0 * x), jnp.array(0.0), end=2.0)
    leading = 0.5 * found.step_sizes[-1] * abs(np.cos(2.0) - 1)
    assert float(found.errors[-1]) == pytest.approx(float(leading), rel=0.01)


def test_gradient_descent_approaches_its_limit_at_one_and_its_modified_flow_at_two():
    descent = sx.optimization.GradientDescent(sx.optimization.Rosenbrock(), 1e-3)
    start = jnp.array([-0.5, 0.5])
    for flow, order in ((sx.limit(descent), 1), (sx.modified(descent), 2)):
        found = sx.measured_order(descent, flow, start, end=0.5)
        assert float(found.order) == pytest.approx(order, abs=0.1) and found.cautions == ()
        assert np.isnan(found.stated)


def test_heavy_ball_keeps_its_friction_while_the_step_falls():
    ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), learning_rate=0.01, momentum=0.9)
    found = sx.measured_order(ball, sx.limit(ball), ball.init(jnp.array([1.0])), end=2.0)
    assert float(found.order) == pytest.approx(1.0, abs=0.1)


def test_the_wrong_flow_has_no_order_and_is_told():
    descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(1.0), 0.1)
    other = sx.as_flow(lambda x: -1.01 * x)
    found = sx.measured_order(sx.Euler(), other, jnp.array([1.0]), exact=lambda t: jnp.exp(-t)[None])
    assert abs(float(found.slopes[-1])) < 0.5 and any("states order 1" in text for text in found.cautions)
    assert abs(float(sx.measured_order(descent, other, jnp.array([1.0])).slopes[-1])) < 0.7


def test_window_leaves_out_what_is_not_asymptotic_and_what_is_rounding():
    h = 0.5 ** np.arange(12.0)
    rng = np.random.default_rng(0)
    # Order 3 with a second term that rules above h = 1/4, over a floor of 1e-9 with unit scatter.
    errors = h**3 + 40 * h**6 + 1e-9 * np.abs(rng.standard_normal(12))
    found = sx.diagnostics.fit_order(h, errors, floor=1e-9)
    window = np.asarray(found.window)
    assert not window[:3].any() and window[5:8].all() and not window[10:].any()
    assert float(found.order) == pytest.approx(3.0, abs=0.05)
    # All points together give another answer.
    assert abs(np.polyfit(np.log(h), np.log(errors), 1)[0] - 3) > 0.2


def test_order_of_errors_given_in_any_sequence_is_the_least_squares_slope():
    h = np.array([0.1, 0.4, 0.2, 0.05])
    errors = 2 * h**1.5 * np.exp(0.01 * np.array([1, -1, 1, -1]))
    found = sx.diagnostics.fit_order(h, errors)
    line, covariance = np.polyfit(np.log(h), np.log(errors), 1, cov="unscaled")
    residual = np.log(errors) - np.polyval([*line], np.log(h))
    assert bool(jnp.all(found.window)) and float(found.order) == pytest.approx(line[0], rel=1e-12)
    assert float(found.order_error) == pytest.approx(np.sqrt(covariance[0, 0] * np.sum(residual**2) / 2), rel=1e-10)


def test_error_of_the_order_from_errors_of_the_errors():
    """Independent 2 % errors on five halvings: var p = sum w^2 0.02^2 = 0.02^2/Sxx."""
    h = 0.5 ** np.arange(5.0)
    found = sx.diagnostics.fit_order(h, h**2, errors_error=0.02 * h**2)
    x = np.log(h)
    assert float(found.order_error) == pytest.approx(0.02 / np.sqrt(np.sum((x - x.mean()) ** 2)), rel=1e-12)


def test_strong_errors_of_euler_maruyama_are_the_closed_form_and_the_order_a_half():
    counts = 2 ** np.arange(4, 9)
    found = sx.measured_order(
        sx.EulerMaruyama(), GROWTH, jnp.array(1.0), kind="strong", exact=exact_growth, step_sizes=1 / counts,
        key=jax.random.key(SEED), samples=4000,
    )  # fmt: skip
    known = euler_maruyama_strong_error(counts)
    off = np.abs(found.errors - known) / found.errors_error
    assert np.all(off < 4), f"seed {SEED}: {off}"
    assert float(found.order) == pytest.approx(0.5, abs=0.15) and float(found.order_error) < 0.05
    # The closed form itself, over the same step sizes: within four standard errors of the measured slope.
    line = np.polyfit(np.log(1 / counts), np.log(known), 1)[0]
    assert abs(float(found.order) - line) < 4 * float(found.order_error) + 0.02


def test_weak_errors_of_euler_maruyama_are_the_closed_form_and_the_order_one():
    counts = 2 ** np.arange(3, 7)
    found = sx.measured_order(
        sx.EulerMaruyama(), GROWTH, jnp.array(1.0), kind="weak", exact=exact_growth, step_sizes=1 / counts,
        key=jax.random.key(SEED), samples=20_000,
    )  # fmt: skip
    known = np.exp(MU) - (1 + MU / counts) ** counts
    off = np.abs(found.errors - known) / found.errors_error
    assert np.all(off < 4), f"seed {SEED}: {off}"
    assert abs(float(found.order) - 1) < 0.15 + 2 * float(found.order_error)
    assert float(found.stated) == 1.0 and found.samples == 20_000


def test_milstein_has_strong_order_one_against_the_exact_and_against_a_finer_path():
    settings = {
        "kind": "strong",
        "key": jax.random.key(SEED),
        "samples": 1000,
        "step_sizes": [1 / 8, 1 / 16, 1 / 32, 1 / 64],
    }
    gentle = sx.as_sde(lambda x: 0.5 * x, lambda x: 0.5 * x)
    known = sx.measured_order(
        sx.Milstein(), gentle, jnp.array(1.0), exact=lambda t, w: jnp.exp(0.375 * t + 0.5 * w), **settings
    )
    finer = sx.measured_order(sx.Milstein(), gentle, jnp.array(1.0), **settings)
    assert float(known.order) == pytest.approx(1.0, abs=0.1)
    # A sixteenth of the finest step, hence 1/16 of the finest error, is missing.
    assert float(finer.order) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
def test_sra1_has_strong_order_three_halves_by_gathered_areas():
    sde = sx.as_sde(lambda t, x: jnp.sin(t) - x**3, lambda t, x: 1.0 + 0.5 * jnp.cos(3.0 * t))
    found = sx.measured_order(sx.SRA1(), sde, jnp.array(0.0), kind="strong", key=jax.random.key(SEED), samples=400)
    assert float(found.order) == pytest.approx(1.5, abs=0.15)


def test_gathered_areas_are_those_of_the_whole_step():
    """dx = t dW is solved exactly by SRA1 whatever its step: an area that is gathered wrongly leaves an error."""
    sde = sx.as_sde(lambda t, x: 0.0 * x, lambda t, x: t)
    found = sx.measured_order(sx.SRA1(), sde, jnp.array(0.0), kind="strong", key=jax.random.key(SEED), samples=20)
    np.testing.assert_allclose(found.errors, 0.0, atol=1e-13)
    assert "fewer than three" in found.cautions[0]


@pytest.mark.slow
def test_error_of_a_strong_order_covers_the_slope_of_the_closed_form():
    """90 of 100 seeds, at two standard errors; the moments of e^W are heavy, so with gentle noise."""
    mu, sigma, counts = 0.5, 0.4, np.array([8, 16, 32])
    gentle = sx.as_sde(lambda x: mu * x, lambda x: sigma * x)
    h = 1 / counts
    mixed = (np.exp(mu * h) * (1 + mu * h + sigma**2 * h)) ** counts
    known = np.sqrt(np.exp(2 * mu + sigma**2) - 2 * mixed + ((1 + mu * h) ** 2 + sigma**2 * h) ** counts)
    truth = np.polyfit(np.log(h), np.log(known), 1)[0]
    hits = 0
    for seed in range(100):
        found = sx.measured_order(
            sx.EulerMaruyama(), gentle, jnp.array(1.0), kind="strong", key=jax.random.key(seed), samples=300, step_sizes=h,
            exact=lambda t, w: jnp.exp((mu - sigma**2 / 2) * t + sigma * w),
        )  # fmt: skip
        hits += abs(float(found.order) - truth) < 2 * float(found.order_error)
    assert hits >= 90


def test_single_precision_is_told_and_the_window_ends_where_rounding_begins():
    single = sx.measured_order(sx.RK4(), sx.as_flow(lambda x: -x), jnp.ones(2, jnp.float32))
    assert any("float32" in text for text in single.cautions)
    assert not bool(single.window[-1])


def test_a_run_that_blows_up_is_left_out_and_told():
    stiff = sx.as_flow(lambda x: -200.0 * x + 0 * x**2)
    found = sx.measured_order(sx.Euler(), stiff, jnp.array(1.0), end=8.0, step_sizes=8.0 / (64 * 2.0 ** np.arange(10)),
                              exact=lambda t: jnp.exp(-200 * t))  # fmt: skip
    assert not bool(found.window[0])


def test_steps_are_found_between_rounding_and_what_is_not_resolved():
    """At T/8 a slow field is exact to rounding under RK4, and a fast one is not resolved: others are taken unasked."""
    slow = sx.residual.NeuralODE(eqx.nn.MLP(2, 2, 8, 1, jax.nn.tanh, key=jax.random.key(0)))
    fast = sx.as_flow(lambda x: 300 * jnp.stack([x[1], -x[0]]))
    for flow, start in ((slow, jnp.ones(2)), (fast, jnp.array([1.0, 0.0]))):
        found = sx.measured_order(sx.RK4(), flow, start)
        assert float(found.order) == pytest.approx(4.0, abs=0.15) and found.cautions == ()


@pytest.mark.slow
def test_a_still_slower_field_is_run_for_longer_unless_an_end_was_asked_for():
    slow = sx.as_flow(lambda x: 0.01 * jnp.stack([x[1], -jnp.sin(x[0])]))
    free, held = (sx.measured_order(sx.RK4(), slow, jnp.array([1.0, 0.5]), end=end) for end in (None, 1.0))
    assert float(free.order) == pytest.approx(4.0, abs=0.15) and float(free.step_sizes[0]) > 1.0
    assert float(held.step_sizes[0]) <= 1.0


def test_the_order_that_is_expected_hangs_on_the_noise():
    """By what is computed from the state, by its slopes, and by the brackets of its columns."""
    state = jnp.array([1.0, 2.0])
    crossed = lambda x: lx.MatrixLinearOperator(
        jnp.stack([jnp.stack([1.0 + 0 * x[0], 0 * x[0]]), jnp.stack([0 * x[0], x[0]])])
    )
    noises = {
        "constant": (lambda x: 0.5, 1.0, 1.0),
        "written with the state": (lambda x: 0.5 + 0 * x, 1.0, 1.0),
        "in time": (lambda t, x: 1.0 + t, 1.0, 1.0),
        "diagonal": (lambda x: 0.5 * x, 0.5, 1.0),
        # g_1 = (1, 0), g_2 = (0, x_1): their bracket is (0, 1).
        "Levy area": (crossed, 0.5, 0.5),
        # A sign has no slope, and is not additive.
        "steps": (lambda x: jnp.sign(x), 0.5, 1.0),
    }
    for name, (noise, euler, heun) in noises.items():
        drift = (lambda t, x: -x) if name == "in time" else (lambda x: -x)
        sde = sx.as_sde(drift, noise)
        assert strong_order_on(sx.EulerMaruyama(), sde, state, 1.0) == euler, name
        assert strong_order_on(sx.StochasticHeun(), sde, state, 1.0) == heun, name
    assert strong_order_on(sx.SRA1(), sx.as_sde(lambda x: -x, lambda x: 0.5), state, 1.0) == 1.5


def test_euler_maruyama_of_additive_noise_has_order_one_and_says_so():
    sde = sx.as_sde(lambda x: -x, lambda x: 0.5)
    found = sx.measured_order(
        sx.EulerMaruyama(), sde, jnp.array([1.0]), kind="strong", key=jax.random.key(SEED), samples=200
    )
    assert float(found.stated) == 1.0 and float(found.order) == pytest.approx(1.0, abs=0.15) and found.cautions == ()


def test_settings_out_of_range_are_told():
    flow = sx.as_flow(lambda x: -x)
    for keywords, words in (
        ({"end": -1.0}, "end\n  got -1"),
        ({"end": np.nan}, "end\n  got nan"),
        ({"rtol": 0.0}, "rtol\n  got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            sx.measured_order(sx.RK4(), flow, jnp.ones(1), **keywords)
    with pytest.raises(ValueError, match=r"state\[0\]\n  got nan"):
        sx.measured_order(sx.RK4(), flow, jnp.array([np.nan]))
    for sizes, words in (([0.1, 0.2, -0.4], "positive numbers"), ([0.1, 0.1, 0.2], "different ones")):
        with pytest.raises(ValueError, match=words):
            sx.diagnostics.fit_order(sizes, [1.0, 2.0, 3.0])


def test_misuse_is_told():
    start = jnp.array([1.0])
    flow = sx.as_flow(lambda x: -x)
    with pytest.raises(TypeError, match="a NearIdentityMap, or a method such as RK4"):
        sx.measured_order(sx.as_map(lambda x: x), flow, start)
    with pytest.raises(TypeError, match="against a Flow or an SDE"):
        sx.measured_order(sx.RK4(), lambda x: -x, start)
    with pytest.raises(ValueError, match="three or more different ones that each divide end"):
        sx.measured_order(sx.RK4(), flow, start, step_sizes=[0.3, 0.15, 0.075])
    with pytest.raises(ValueError, match="a common grid"):
        sx.measured_order(sx.RK4(), flow, start, step_sizes=[1 / 7, 1 / 11, 1 / 13])
    with pytest.raises(ValueError, match='"strong" or "weak"'):
        sx.measured_order(sx.EulerMaruyama(), GROWTH, start, key=jax.random.key(0))
    with pytest.raises(ValueError, match="a PRNG key"):
        sx.measured_order(sx.EulerMaruyama(), GROWTH, start, kind="weak")
    with pytest.raises(TypeError, match="a method for an SDE"):
        sx.measured_order(sx.RK4(), GROWTH, start, kind="weak", key=jax.random.key(0))
    with pytest.raises(ValueError, match="three or more"):
        sx.diagnostics.fit_order([0.1, 0.2], [1.0, 2.0])


def test_the_figure_shows_every_error_and_the_fitted_line():
    h = 0.5 ** np.arange(6.0)
    found = sx.diagnostics.fit_order(h, h**2 + 3 * h**5, stated=2.0)
    axes = sx.plotting.plot(found).axes[0]
    points = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() == "o"])
    assert set(np.round(points, 12)) == set(np.round(h, 12))
    fitted = axes.lines[-1]
    slope = np.diff(np.log(fitted.get_ydata()))[0] / np.diff(np.log(fitted.get_xdata()))[0]
    assert slope == pytest.approx(float(found.order), rel=1e-9)
