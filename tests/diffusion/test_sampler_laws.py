"""Samplers by the law they end with: known finals, an order for each in each clock, few steps, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix._errors import Diverged

D = sx.diffusion
NORMAL = D.GaussianMixture([1.0], [[0.0]], [0.5])
PAIR = D.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])
VP = D.VP()
KEY = jax.random.key(3)
LEVELS = D.KarrasLevels()


def exact(process, data=NORMAL):
    return D.Prediction(process, data.score_under(process).clean, "clean")


@pytest.mark.parametrize(
    ("steps", "ancestral", "ddim"), [(10, 0.322835, 0.361612), (50, 0.443193, 0.471915), (1000, 0.496110, 0.498495)]
)
def test_final_spreads_of_ddpm(steps, ancestral, ddim):
    process = D.DDPM()
    times = D.WholeTimes().times(process, steps)
    final = jax.jit(lambda s: jnp.sqrt(D.final_variance(D.sampling_map(s, exact(process), times), 1.0)))
    # One program for both: the ancestral sampler is DDIM with eta = 1.
    assert [float(final(D.DDIM(eta))) for eta in (1.0, 0.0)] == pytest.approx([ancestral, ddim], abs=6e-7)


def test_final_spreads_on_straight_paths():
    flow = D.PredictedFlow(exact(D.StraightPath()))

    def final(method, steps):
        return float(jnp.sqrt(D.final_variance(sx.on_grid(flow, method, jnp.linspace(1.0, 0.0, steps + 1)), 1.0)))

    assert [final(sx.Euler(), n) for n in (1, 2, 4)] == pytest.approx([0.0, 0.2, 0.3405405], abs=6e-8)
    assert [final(sx.Heun(), n) for n in (2, 4)] == pytest.approx([0.48, 0.5048347], abs=6e-8)


def grid(clock, steps, end=0.1):
    """From the horizon to sigma/alpha = end, uniformly in t, in ln(sigma/alpha), or in its seventh root."""
    alpha, sigma = VP.marginal(1.0)
    first = sigma / alpha
    match clock:
        case "t":
            return jnp.linspace(1.0, VP.time_of(end), steps + 1)
        case "log-SNR":
            return VP.time_of(jnp.geomspace(first, end, steps + 1))
    return VP.time_of(jnp.linspace(first ** (1 / 7), end ** (1 / 7), steps + 1) ** 7)


def variance(t):
    alpha, sigma = VP.marginal(t)
    return alpha**2 / 4 + sigma**2


# On normal data the two-step SDE solver has order 2 in law: its noise is exact, and the rest is that of the flow's.
ORDERS = [
    (D.DDIM(), 1), (D.Ancestral(), 1), (D.ChurnedHeun(), 2), (D.DPMSolver(), 2), (D.DPMSolverSDE(), 2),
    (sx.EulerMaruyama(), 1), (sx.Heun(), 2),
]  # fmt: skip
COUNTS = (256, 512)


@pytest.mark.parametrize(("method", "order"), ORDERS, ids=[type(method).__name__ for method, _ in ORDERS])
def test_order_of_each_sampler_in_each_clock(method, order):
    """From the exact law at the horizon to that at sigma/alpha = 0.1, without drawing."""
    prediction = exact(VP)

    def map(times):
        if isinstance(method, D.Sampler):
            return D.sampling_map(method, prediction, times)
        if isinstance(method, sx.EulerMaruyama):
            return sx.on_grid(sx.reverse(VP, horizon=1.0, score=prediction), method, 1.0 - times)
        return sx.on_grid(D.PredictedFlow(prediction), method, times)

    final = jax.jit(lambda times: D.final_variance(map(times), variance(times[0])) - variance(times[-1]))
    for clock in ("t", "log-SNR", "Karras"):
        errors = [abs(float(final(grid(clock, n)))) for n in COUNTS]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15), clock


@pytest.mark.parametrize(
    ("sampler", "order"), [(D.DDIM(), 1), (D.ChurnedHeun(), 2), (D.DPMSolver(), 2)], ids=["DDIM", "Heun", "2M"]
)
def test_order_of_paths_on_a_mixture(sampler, order):
    prediction, start = exact(VP, PAIR), jnp.array([[0.7], [-1.9], [0.1]])

    @jax.jit
    def end(times):
        map = D.sampling_map(sampler, prediction, times)
        return sampler.seen(sx.evolve(map, sampler.begin(start), save="last").final)

    flow = sx.on_grid(D.PredictedFlow(prediction), sx.RK4(), grid("log-SNR", 2000))
    truth = jax.jit(lambda x: sx.evolve(flow, x, save="last").final)(start)
    for clock in ("t", "log-SNR", "Karras"):
        errors = [float(jnp.abs(end(grid(clock, n)) - truth).max()) for n in (512, 1024)]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15), clock


def test_a_corrector_of_fixed_size_keeps_a_bias():
    """On data at a point the score is -x/sigma^2: a step is V <- (1 - 2 r^2)^2 V + 4 r^2 sigma^2."""
    point, r = D.Prediction(D.EDM(), lambda t, x: jnp.zeros_like(x), "clean"), 0.3
    map = D.sampling_map(D.PredictorCorrector(r), point, jnp.array([3.0, 2.0]))
    assert float(D.final_variance(map, 9.0)) == pytest.approx(4 * ((1 - 2 * r**2) ** 2 + 4 * r**2), rel=1e-12)


def test_churn_keeps_the_law_of_data_that_are_a_point():
    """x is N(0, sigma^2) at each level: raising it and the exact step back change nothing."""
    point = D.Prediction(D.EDM(), lambda t, x: jnp.zeros_like(x), "clean")
    map = D.sampling_map(D.ChurnedHeun(churn=0.3), point, jnp.array([3.0, 2.0, 0.5]))
    assert float(D.final_variance(map, 9.0)) == pytest.approx(0.25, rel=1e-12)


def test_schedules_in_closed_form():
    edm = D.EDM(80.0)
    levels = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    np.testing.assert_allclose(D.KarrasLevels().times(edm, 5), [*levels, 0.0], rtol=1e-12)
    np.testing.assert_allclose(D.UniformLogSNR(0.02, 8.0).times(edm, 3), [8.0, 0.4, 0.02, 0.0], rtol=1e-12)
    np.testing.assert_allclose(D.UniformTimes(2.0).times(edm, 3), [80.0, 54.0, 28.0, 2.0], rtol=1e-12)
    assert D.KarrasLevels().times(VP, 4)[0] == 1.0 and D.KarrasLevels().times(edm, 1).tolist() == [80.0, 0.0]
    np.testing.assert_allclose(D.KarrasLevels().times(D.StraightPath(), 2)[0], 80 / 81, rtol=1e-12)
    assert D.WholeTimes().times(D.DDPM(), 3).tolist() == [1000.0, 501.0, 1.0, 0.0]


SAMPLERS = [
    D.DPMSolver(),
    *(pytest.param(s, marks=pytest.mark.slow)
      for s in (D.DDIM(), D.Ancestral(), D.DPMSolverSDE(), D.ChurnedHeun(churn=0.2), D.PredictorCorrector())),
]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["2M", "DDIM", "ancestral", "SDE-2M", "Heun", "corrected"])
def test_few_steps_end_at_the_mean_of_the_data_behind_the_last_state(sampler):
    """Of two points, -2 and 1, that mean is -2 + 3/(1 + exp(...)): between them, and after one step near their mean."""
    process, shares = D.StraightPath(), (0.3, 0.7)

    def clean(t, x):
        alpha, sigma = process.marginal(t)
        return -2 + 3 * jax.nn.sigmoid(jnp.log(7 / 3) + (alpha * x * 6 + 3 * alpha**2) / (2 * sigma**2))

    pair = D.Prediction(process, clean, "clean")
    draw = jax.jit(
        lambda steps: (
            D.sample(process, pair, KEY, (64, 1), steps=steps, method=sampler, schedule=LEVELS, save=1).states
        ),
        static_argnums=0,
    )
    for steps in (1, 2, 3):
        states, times = draw(steps), LEVELS.times(process, steps)
        final = states[-1]
        # Strictly between the points, whatever is drawn on the way; a step past the data would leave that interval.
        assert float(final.min()) >= -2 - 1e-9 and float(final.max()) <= 1 + 1e-9
        if not isinstance(
            sampler, D.ChurnedHeun
        ):  # which raises the noise first, so that its guess is of another state
            np.testing.assert_allclose(final, clean(times[-2], states[-2]), rtol=1e-9)
        if steps == 1:  # 80 times the noise: the points are told apart by 3 x/80^2 at most
            np.testing.assert_allclose(final, -2 * shares[0] + shares[1], atol=0.15)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_laws_after_few_steps_on_normal_data(steps):
    """With r = s'/s, c = v/(v + s^2) and y = x/alpha: DDIM scales y by r + (1 - r) c, and DDPM draws
    y' = c y (1 - r^2) + r^2 y + s' sqrt(1 - r^2) z."""
    process, v = D.StraightPath(), 0.25
    times = LEVELS.times(process, steps)
    alpha, sigma = (np.asarray(a) for a in process.marginal(times))
    s = sigma / alpha
    first = float(sigma[0] ** 2)
    still = drawn = first / alpha[0] ** 2
    for now, then in itertools.pairwise(s):
        r, c = then / now, v / (v + now**2)
        still *= (r + (1 - r) * c) ** 2
        drawn = (c * (1 - r**2) + r**2) ** 2 * drawn + then**2 * (1 - r**2)
    found = [
        float(D.final_variance(D.sampling_map(m, exact(process), times), first)) for m in (D.DDIM(), D.Ancestral())
    ]
    np.testing.assert_allclose(found, [still, drawn], rtol=1e-9)


def test_parallel_in_time_gives_the_same_path():
    settings = {"steps": 20, "method": D.DDIM(), "schedule": D.UniformTimes(1e-3)}
    serial, parallel = (
        D.sample(VP, exact(VP, PAIR), KEY, (3, 1), parallel=p, **settings).final for p in (None, sx.Parallel())
    )
    np.testing.assert_allclose(parallel, serial, rtol=1e-9)


def test_the_last_step_of_denoising_is_tweedie():
    path = D.sample(VP, exact(VP, PAIR), KEY, (3, 1), steps=5, method=sx.Heun(), denoise=True)
    plain = D.sample(VP, exact(VP, PAIR), KEY, (3, 1), steps=5, method=sx.Heun())
    np.testing.assert_allclose(path.final, PAIR.posterior_mean(VP, 1e-3, plain.final), rtol=1e-12)


def test_a_sampler_that_leaves_the_finite_says_at_which_noise_level():
    broken = D.Prediction(D.EDM(), lambda t, x: jnp.where(t < 5.0, jnp.nan, 0.0) + 0 * x, "clean")
    settings = {"method": D.DDIM(), "schedule": D.GivenTimes([80.0, 20.0, 4.0, 1.0, 0.0])}
    path = D.sample(D.EDM(), broken, KEY, (2,), **settings)
    assert np.isnan(path.final).all() and path.stats["levels"].tolist() == [80.0, 20.0, 4.0, 1.0, 0.0]
    with pytest.raises(Diverged, match="sigma = 4, t = 4, step 3 of 4"):
        D.sample(D.EDM(), broken, KEY, (2,), throw=True, **settings)


REFUSED = {
    "a schedule that rises": (lambda: D.GivenTimes([1.0, 0.5, 0.7]), r"t\[1\] = 0.5, t\[2\] = 0.7"),
    "a schedule below no noise": (lambda: D.GivenTimes([1.0, -0.1]), "GivenTimes\n  got -0.1"),
    "a schedule past the horizon": (
        lambda: D.sample(VP, exact(VP), KEY, (2, 1), method=D.DDIM(), schedule=D.GivenTimes([2.0, 0.0])), "at most 1.0"
    ),
    "no steps": (lambda: D.sample(VP, exact(VP), KEY, (2, 1), method=D.DDIM(), steps=0), "steps\n  got 0"),
    "levels that cross": (lambda: D.KarrasLevels(2.0, 1.0), "low and high\n  got 2.0 and 1.0"),
    "a level of NaN": (lambda: D.UniformLogSNR(float("nan")), "low\n  got nan"),
    "an eta of 2": (lambda: D.DDIM(2.0), "eta\n  got 2.0"),
    "a negative churn": (lambda: D.ChurnedHeun(churn=-1.0), "churn\n  got -1.0"),
    "whole times of another": (lambda: D.WholeTimes().times(VP, 3), "3 steps of VP"),
    "noise in parallel": (
        lambda: D.sample(VP, exact(VP), KEY, (2, 1), method=D.Ancestral(), parallel=sx.Parallel()), "Ancestral"
    ),
    "parallel without a schedule": (lambda: D.sample(VP, exact(VP), KEY, (2, 1), parallel=sx.Parallel()), "no schedule"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_schedules_out_of_range_are_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
