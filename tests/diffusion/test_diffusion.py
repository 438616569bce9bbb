"""Noising, reversal, scores and likelihood against closed forms and the literature's numbers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

MIXTURE = sx.diffusion.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])
KEY = jax.random.key(0)
PROCESSES = {"VP": sx.diffusion.VP(), "VE": sx.diffusion.VE(0.1, 10.0), "Brownian": sx.diffusion.Brownian(4.0)}


def test_linear_schedule_of_ddpm():
    found = sx.diffusion.alpha_bar()[np.array([1, 100, 500, 1000]) - 1]
    np.testing.assert_allclose(found, [0.9999, 0.897018146, 0.078587243, 4.03582977e-5], rtol=1e-8)


def test_marginal_of_vp_at_one_half():
    alpha, sigma = sx.diffusion.VP().marginal(0.5)
    np.testing.assert_allclose([alpha, sigma**2], [0.281182881, 0.920936188], rtol=1e-8)


def test_density_and_score_of_a_mixture():
    x = jnp.array([[-2.0], [0.0], [1.0], [3.0]])
    known = [-1.4168869295, -1.7751395172, -1.2756134641, -3.2756134771]
    np.testing.assert_allclose(MIXTURE.log_density(x), known, atol=1e-10)
    np.testing.assert_allclose(MIXTURE.score(x)[:, 0], [0.0383840121, 0.9957353709, -1.5665e-7, -2.0], atol=1e-7)
    np.testing.assert_allclose(jax.vmap(jax.grad(MIXTURE.log_density))(x), MIXTURE.score(x), atol=1e-12)


def test_mixture_in_several_dimensions_is_normalised_and_sampled():
    mixture = sx.diffusion.GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [0.4, 0.7])
    grid = jnp.linspace(-5.0, 5.0, 401)
    points = jnp.stack(jnp.meshgrid(grid, grid), axis=-1)
    mass = jnp.sum(jnp.exp(mixture.log_density(points))) * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(mass, 1.0, atol=1e-9)
    drawn = mixture.sample(KEY, 200_000)
    mean = np.array([0.2, 0.2])
    # Standard errors below 0.0025; five of them.
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.0125)


@pytest.mark.parametrize("name", PROCESSES)
def test_marginals_solve_the_moment_equations_of_the_sde(name):
    """alpha' = a alpha and (sigma^2)' = 2 a sigma^2 + g^2, from alpha = 1, sigma = 0."""
    process = PROCESSES[name]
    for t in (0.1, 0.5, 0.9):
        (alpha, sigma), (dalpha, dsigma) = jax.jvp(process.marginal, (t,), (1.0,))
        drift = process.drift(t, jnp.array([1.0]))[0]
        noise = process.diffusion(t, jnp.array([1.0])).mv(jnp.array([1.0]))[0]
        np.testing.assert_allclose(dalpha, drift * alpha, atol=1e-12)
        np.testing.assert_allclose(2 * sigma * dsigma, 2 * drift * sigma**2 + noise**2, rtol=1e-10)
        np.testing.assert_allclose(process.time_of(sigma / alpha), t, rtol=1e-10)
    np.testing.assert_allclose(process.marginal(0.0), (1.0, 0.0), atol=1e-12)


def test_noised_points_have_the_law_that_the_sde_gives():
    process, start = sx.diffusion.VP(), jnp.full(20_000, 0.8)
    path = sx.evolve(process, start, times=(0.0, 0.5), steps=500, key=KEY, save="last")
    alpha, sigma = process.marginal(0.5)
    # Weak error O(h) of 0.1 per cent, beside five standard errors.
    np.testing.assert_allclose(path.final.mean(), 0.8 * alpha, atol=5 * sigma / np.sqrt(20_000) + 2e-3)
    np.testing.assert_allclose(path.final.var(), sigma**2, rtol=5 * np.sqrt(2 / 20_000) + 2e-3)
    noised, noise = process.perturb(KEY, 0.5, start)
    np.testing.assert_allclose(noised, alpha * 0.8 + sigma * noise, rtol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_noised_mixture_solves_the_fokker_planck_equation(name):
    """dp/dt = -(a x p)' + (g^2/2) p'', in one dimension, by automatic differentiation of the exact marginal."""
    process, t, x = PROCESSES[name], 0.3, 0.4

    def density(t, x):
        return jnp.exp(MIXTURE.noised(process, t).log_density(jnp.stack([x])))

    a = process.drift(t, jnp.array([1.0]))[0]
    g = process.diffusion(t, jnp.array([1.0])).mv(jnp.array([1.0]))[0]
    flux = jax.grad(lambda x: a * x * density(t, x))(x)
    spread = jax.grad(jax.grad(density, 1), 1)(t, x)
    np.testing.assert_allclose(jax.grad(density)(t, x), -flux + g**2 / 2 * spread, rtol=1e-9)


@pytest.mark.parametrize(("spread", "end"), [(0.5, 9.0), (2.0, 1.0)])
def test_brownian_flow_back_is_a_scaling(spread, end):
    process = sx.diffusion.Brownian(end)
    score = sx.diffusion.GaussianMixture([1.0], [[0.0]], [spread]).score_under(process)
    flow = sx.reverse(sx.probability_flow(process, score), horizon=end)
    start = jnp.array([[1.3], [-0.4]])
    back = sx.evolve(flow, start, times=(0.0, end), rtol=1e-11, atol=1e-13).final
    np.testing.assert_allclose(back, start * spread / np.sqrt(spread**2 + end), rtol=1e-9)


def variance(steps):
    """The recursion V <- m^2 V + h g^2 of a linear step, read off our own discretisation, from N(0, 1) at t = 1."""
    process = sx.diffusion.VP()
    score = sx.diffusion.GaussianMixture([1.0], [[0.0]], [0.5]).score_under(process)
    h = (1.0 - 1e-3) / steps
    map = sx.discretize(sx.reverse(process, horizon=1.0, score=score), sx.EulerMaruyama(), h)
    one = jnp.ones(1)

    def advance(n, V):
        m, g = map.step(n, one)[0], map.system.diffusion(map.clock(n, V.dtype)[0], one).mv(one)[0]
        return m**2 * V + h * g**2

    return float(sx.evolve(sx.as_map(advance), jnp.asarray(1.0), steps=steps, save="last").final)


def test_variance_of_the_reversed_vp_by_euler_maruyama():
    counts = [100, 200, 400]
    found = [variance(steps) for steps in counts]
    np.testing.assert_allclose(found, [0.253904, 0.251931, 0.250991], atol=6e-7)  # as printed
    alpha, sigma = sx.diffusion.VP().marginal(1e-3)
    exact = alpha**2 / 4 + sigma**2
    np.testing.assert_allclose(exact, 0.2500824580, atol=6e-11)
    np.testing.assert_allclose(
        -np.polyfit(np.log(counts), np.log(np.subtract(found, float(exact))), 1)[0], 1.0, atol=0.15
    )


def test_sampled_paths_have_that_variance():
    process = sx.diffusion.VP()
    score = sx.diffusion.GaussianMixture([1.0], [[0.0]], [0.5]).score_under(process)
    end = sx.diffusion.sample(process, score, KEY, (50_000, 1), steps=100).final
    np.testing.assert_allclose(end.var(), 0.253904, rtol=5 * np.sqrt(2 / 50_000))


def ddim(process, score, x, times):
    """x <- alpha' (x - sigma e)/alpha + sigma' e, with e = -sigma score, written out."""
    for before, after in itertools.pairwise(times):
        alpha, sigma = process.marginal(before)
        alpha_after, sigma_after = process.marginal(after)
        noise = -sigma * score(before, x)
        x = alpha_after * (x - sigma * noise) / alpha + sigma_after * noise
    return x


@pytest.mark.parametrize("name", PROCESSES)
def test_euler_on_the_denoising_flow_is_ddim(name):
    process = PROCESSES[name]
    score = MIXTURE.score_under(process)
    alpha, sigma = process.marginal(process.horizon)
    ratios = np.linspace(float(sigma / alpha), 0.05, 21)
    times = [process.time_of(ratio) for ratio in ratios]
    x = jnp.array([[0.7], [-1.9]])
    flow = sx.reverse(sx.diffusion.DenoisingFlow(process, score), horizon=ratios[0])
    map = sx.discretize(flow, sx.Euler(), ratios[0] - ratios[1])
    ours = sx.evolve(map, x / alpha, steps=20, save="last").final
    expected = ddim(process, score, x, times) / process.marginal(times[-1])[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "order"), [(sx.Euler(), 1), (sx.Heun(), 2), (sx.Midpoint(), 2), (sx.RK4(), 4)], ids=["1", "2", "2", "4"]
)
@pytest.mark.parametrize("clock", ["probability flow", "ddim"])
def test_order_of_deterministic_samplers_on_a_mixture(method, order, clock):
    process = sx.diffusion.VP(0.1, 10.0)
    score = MIXTURE.score_under(process)
    start = jnp.array([[0.7], [-1.2]])
    if clock == "ddim":
        (alpha, sigma), early = process.marginal(0.6), process.marginal(0.05)
        top, low = float(sigma / alpha), float(early[1] / early[0])
        flow, span = sx.reverse(sx.diffusion.DenoisingFlow(process, score), horizon=top), top - low
    else:
        flow, span = sx.reverse(sx.probability_flow(process, score), horizon=0.6), 0.55
    exact = sx.evolve(flow, start, times=(0.0, span), rtol=1e-13, atol=1e-14, save="last").final
    counts = np.array([80, 160, 320]) if order < 4 else np.array([40, 80, 160])
    errors = [
        float(
            jnp.abs(
                sx.evolve(flow, start, times=(0.0, span), steps=int(n), method=method, save="last").final - exact
            ).max()
        )
        for n in counts
    ]
    np.testing.assert_allclose(-np.polyfit(np.log(counts), np.log(errors), 1)[0], order, atol=0.15)


def test_marginals_of_sde_and_flow_agree_with_the_mixture():
    """Both samplers, from the same prior: mean and second moment of the mixture within five standard errors."""
    process, count = sx.diffusion.VP(), 20_000
    score = MIXTURE.score_under(process)
    mean, square = 0.3 * -2 + 0.7 * 1, 0.3 * (4 + 0.25) + 0.7 * (1 + 1)
    for method, steps in ((sx.EulerMaruyama(), 500), (sx.Heun(), 100)):
        end = sx.diffusion.sample(process, score, KEY, (count, 1), steps=steps, method=method).final
        # E x^4 < 30, so the second moment's error is below 5.2/sqrt(count); bias of the first sampler O(1/500).
        np.testing.assert_allclose(end.mean(), mean, atol=5 * 1.5 / np.sqrt(count) + 4e-3)
        np.testing.assert_allclose((end**2).mean(), square, atol=5 * 5.2 / np.sqrt(count) + 8e-3)


@pytest.mark.parametrize("name", ["VP", "Brownian"])
def test_likelihood_along_the_flow_is_the_density(name):
    process = PROCESSES[name]
    flow = sx.probability_flow(process, MIXTURE.score_under(process))
    last = MIXTURE.noised(process, process.horizon)
    for x in (-2.0, 0.5, 3.0):
        value = sx.diffusion.log_likelihood(
            flow, jnp.array([x]), (0.0, process.horizon), last.log_density, rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(value, MIXTURE.log_density(jnp.array([x])), atol=1e-7)


def test_probe_is_unbiased_and_exact_in_one_dimension():
    matrix = jnp.array([[0.5, 1.0, 0.0], [-0.3, -0.4, 0.2], [0.1, 0.0, 0.6]])
    flow = sx.as_flow(lambda x: matrix @ x)
    zero = lambda x: jnp.zeros(())
    exact = sx.diffusion.log_likelihood(flow, jnp.ones(3), (0.0, 2.0), zero)
    np.testing.assert_allclose(exact, 2.0 * jnp.trace(matrix), atol=1e-12)
    keys = jax.random.split(KEY, 4000)
    probed = jax.vmap(lambda key: sx.diffusion.log_likelihood(flow, jnp.ones(3), (0.0, 2.0), zero, key=key))(keys)
    np.testing.assert_allclose(probed.mean(), exact, atol=5 * probed.std() / np.sqrt(4000))


def test_score_matching_finds_the_linear_score():
    """On N(0, s^2) the best guess of the noise is sigma x/(alpha^2 s^2 + sigma^2): a network of that form finds s."""
    spread, process = 0.5, sx.diffusion.VP()
    data = spread * jax.random.normal(KEY, (4000, 1))

    class Linear(sx.diffusion.ScoreMLP.__mro__[1]):
        log_spread: jax.Array

        def __call__(self, t, x):
            alpha, sigma = process.marginal(t)
            return sigma * x / (alpha**2 * jnp.exp(2 * self.log_spread) + sigma**2)

    loss = sx.diffusion.DenoisingScoreMatching(process)
    run = sx.fit(loss, optax.adam(0.02), data, initial=Linear(jnp.zeros(())), steps=600, batch_size=512, key=KEY)
    # The sample's own spread is the target, not the law's; noise in Adam's last steps is of the size of its rate.
    np.testing.assert_allclose(jnp.exp(run.model.log_spread), data.std(), rtol=0.05)
    score = sx.diffusion.score_of(process, run.model)
    x = jnp.array([[0.3], [-1.0]])
    exact = sx.diffusion.GaussianMixture([1.0], [[0.0]], [spread]).noised(process, 0.4).score(x)
    np.testing.assert_allclose(score(0.4, x), exact, rtol=0.05)


def test_loss_of_the_exact_score_is_the_conditional_variance():
    """E |e* - eps|^2 = E alpha^2 s^2/(alpha^2 s^2 + sigma^2) over t, for Gaussian data of variance s^2."""
    process, spread = sx.diffusion.VP(), 0.5
    data = spread * jax.random.normal(KEY, (200_000, 1))

    def best(t, x):
        alpha, sigma = process.marginal(t)
        return sigma * x / (alpha**2 * spread**2 + sigma**2)

    found = sx.diffusion.DenoisingScoreMatching(process)(best, data, key=KEY)
    t = jnp.linspace(1e-3, 1.0, 20_001)
    alpha, sigma = process.marginal(t)
    share = (alpha * spread) ** 2 / ((alpha * spread) ** 2 + sigma**2)
    np.testing.assert_allclose(found, jnp.mean(share), rtol=0.02)


def test_guidance_moves_along_the_difference():
    process = sx.diffusion.VP()
    network = sx.diffusion.ScoreMLP(2, 16, 1, classes=3, key=KEY, dtype=jnp.float64)
    x, labels = jax.random.normal(KEY, (4, 2)), jnp.array([0, 1, 2, 1])
    wanted = sx.diffusion.score_of(process, network, labels)(0.5, x)
    none = sx.diffusion.score_of(process, network, jnp.full(4, 3))(0.5, x)
    guided = sx.diffusion.score_of(process, network, labels, guidance=1.5)(0.5, x)
    np.testing.assert_allclose(guided, wanted + 1.5 * (wanted - none), rtol=1e-10)
    assert float(jnp.abs(wanted - none).max()) > 1e-4
    by_hand = jnp.stack([network(0.5, p, label) for p, label in zip(x, labels, strict=True)])
    np.testing.assert_allclose(wanted, -by_hand / process.marginal(0.5)[1], rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: sx.diffusion.GaussianMixture([0.5, 0.5], [[0.0]], [1.0]), ValueError, r"\(K,\), \(K, d\) and \(K,\)"),
        (lambda: sx.diffusion.alpha_bar(1000, 0.02, 1e-4), ValueError, "0 < first"),
        (lambda: sx.diffusion.sample(sx.diffusion.VP(), 1.0, KEY, (2, 1)), TypeError, "score_of"),
        (
            lambda: sx.diffusion.DenoisingScoreMatching(sx.diffusion.VP())(lambda t, x: x, jnp.ones((2, 1))),
            ValueError,
            "key=None",
        ),
    ],
)
def test_misuse_is_told(call, kind, words):
    with pytest.raises(kind, match=f"(?s){words}"):
        call()
