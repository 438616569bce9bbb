r"""Fifth chapter: noise is a diffusion, and a generator is its reversal.

dx = f dt + g dW carries data to noise; dy = (-f + g^2 grad log p) ds + g dW carries it back, and so does the flow with half
of that score and no noise. First with scores that are known in closed form, then with learned ones, then on digits.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.plotting import figure, plot_curves, plot_images, plot_orders
from separatrix.plotting.diffusion import plot_cloud, plot_paths, plot_score
from separatrix.tour.chapter import Chapter, Check, Section, source
from separatrix.tour.chapters._bits import cost_of_digits, dequantised, quantised
from separatrix.tour.chapters._captions import captions_drawn
from separatrix.tour.chapters.games import train_on_digits
from separatrix.tour.measure.diffusion import DigitJudge, entropy, normal_divergence, shares
from separatrix.tour.verdicts.diffusion import verdict

Say = Callable[[str], None]
SPREAD = 0.5  # of the normal data whose samplers are known exactly


def run(say: Say) -> list[Section]:
    """All sections, each a claim with its numbers."""
    mixture = _mixture()
    there, drawn = _exact(mixture, say)
    learned, network = _learned(mixture, drawn, say)
    exact = [_prior(say), _orders(say), _likelihood(mixture, network, say)]
    digits = sx.load("digits").flat()
    drawn, trained = _digits(digits, say)
    captions = captions_drawn(digits, say)
    return [there, learned, *exact, drawn, cost_of_digits(trained, digits, say), captions, verdict(say)]


def _mixture() -> Any:
    """Five normal laws of unequal weight on a circle of radius two."""
    angles = 2 * jnp.pi * jnp.arange(5) / 5
    centres = 2 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return sx.diffusion.GaussianMixture(jnp.array([0.1, 0.15, 0.2, 0.25, 0.3]), centres, jnp.full(5, 0.25))


def _back_from_noise(mixture, count):
    """The same noise run back by the reverse SDE and by the probability flow."""
    process = sx.diffusion.VP(0.1, 20.0)
    score = mixture.score_under(process)
    noise = process.prior(jax.random.key(0), (count, 2))
    backwards = sx.reverse(process, horizon=1.0, score=score)
    flow = sx.reverse(sx.probability_flow(process, score), horizon=1.0)
    random = sx.evolve(backwards, noise, times=(0.0, 0.999), steps=400, key=jax.random.key(1), save=4)
    smooth = sx.evolve(flow, noise, times=(0.0, 0.999), steps=120, method=sx.Heun())
    return process, random, smooth


def _exact(mixture: Any, say: Say) -> tuple[Section, Any]:
    say("a mixture in the plane: noised, and brought back by its exact score")
    count = 2000
    process, random, smooth = _back_from_noise(mixture, count)
    fig, axes = figure(4, width=3.1, height=3.1)
    grid = jnp.linspace(-3.0, 3.0, 11)
    places = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    data = mixture.sample(jax.random.key(2), 1000)
    for t, ax in zip((0.05, 0.25), axes[:2], strict=True):
        cloud = process.perturb(jax.random.key(3), t, data)[0]
        plot_score(places, cloud, mixture.noised(process, t).score(places), title=f"x({t}) and its score", axes=ax)
    for path, name, ax in ((random, "reverse SDE", axes[2]), (smooth, "probability flow", axes[3])):
        plot_paths(1.0 - np.asarray(path.times), path.states[:, :12, 0], y="first component", title=name, axes=ax)
    # The largest of five shares: the largest of their standard errors, four times.
    error = float(jnp.max(jnp.sqrt(mixture.weights * (1 - mixture.weights) / count)))
    gaps = [np.max(np.abs(shares(p.final, mixture.means) - np.asarray(mixture.weights))) for p in (random, smooth)]
    checks = (
        Check("largest error of a mode's share, reverse SDE", float(gaps[0]), 0.0, 4 * error),
        Check("largest error of a mode's share, probability flow", float(gaps[1]), 0.0, 4 * error),
    )
    text = f"""
        Five normal laws in the plane are noised by the variance-preserving process until nothing of them is left. The
        score of the noised law, here known at every time, is all that is needed to go back: as a reverse SDE, or as a
        flow without noise. Started from the same {count} points of noise the two follow different paths to the same law.
        Each mode must receive its weight, 0.1 to 0.3, within four standard errors.
    """
    equation = (
        r"dx = -\frac{\beta}{2}x\,dt + \sqrt{\beta}\,dW,\quad"
        r"dy = \left[\frac{\beta}{2}y + \beta\,\nabla\log p_{1-s}(y)\right]ds + \sqrt{\beta}\,dW"
    )
    caption = "Left: noised data and score, arrows as long as the root of its norm. Right: twelve paths from one noise."
    title = "Noise, and the way back"
    return Section(title, text, equation, fig, caption, source(_back_from_noise), checks), smooth.final


def _learn_score(mixture):
    """Noise prediction by a perceptron, trained as any model is."""
    process = sx.diffusion.VP()
    data = mixture.sample(jax.random.key(0), 20_000).astype(jnp.float32)
    network = sx.diffusion.ScoreMLP(2, width=96, key=jax.random.key(1))
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, 2000))
    loss = sx.diffusion.DenoisingScoreMatching(process)
    run = sx.fit(loss, adam, data, initial=network, steps=2000, batch_size=256, key=jax.random.key(2), every=2000)
    score = sx.diffusion.score_of(process, run.model)
    drawn = sx.diffusion.sample(
        process, score, jax.random.key(3), (4000, 2), steps=100, method=sx.Heun(), dtype=jnp.float32
    )
    return run.model, drawn.final


def _learned(mixture: Any, exact: Any, say: Say) -> tuple[Section, Any]:
    say("the same with a learned score")
    process = sx.diffusion.VP()
    network, drawn = _learn_score(mixture)
    points = mixture.sample(jax.random.key(4), 20_000)
    losses = _losses(process, mixture, network, points)
    fig, axes = figure(3, width=3.1, height=3.4)
    clouds = {"data": points[:2000], "exact score": exact, "learned score": drawn[:2000]}
    for (name, cloud), ax in zip(clouds.items(), axes, strict=True):
        plot_cloud(cloud, title=name, axes=ax)
    gap = np.max(np.abs(shares(drawn, mixture.means) - np.asarray(mixture.weights)))
    checks = (
        Check("loss of the learned score over that of the exact one", losses[0] / losses[1], 1.0, relation=">="),
        Check("the same, not far above", losses[0] / losses[1], 1.05, relation="<="),
        Check("largest error of a mode's share", float(gap), 0.05, relation="<="),
    )
    text = """
        Guessing the noise that was added, by least squares, has the score as its minimum: no density is ever needed. A
        perceptron in float32 learns it from 20,000 points. On fresh points its loss stands beside that of the exact score,
        the smallest that any function can have: what is above one is its error. Its samples must give each mode its
        share, to half of the smallest one.
    """
    equation = (
        r"\min_\theta\ E\,|z - \epsilon_\theta(t, \alpha x_0 + \sigma z)|^2,\quad \epsilon^* = -\sigma\,\nabla\log p_t"
    )
    caption = "Data; samples by the exact score; samples by the learned one, both through the probability flow."
    return Section("A score learned from samples", text, equation, fig, caption, source(_learn_score), checks), network


def _losses(process: Any, mixture: Any, network: Any, points: Any) -> tuple[float, float]:
    """The loss of the learned and of the exact score on the same points, times and noise."""
    loss, score = sx.diffusion.DenoisingScoreMatching(process), mixture.score_under(process)
    key, points = jax.random.key(5), points.astype(jnp.float32)

    def exact(t, x):
        return -process.marginal(t)[1].astype(x.dtype) * score(t, x)

    learned, best = (float(jax.jit(lambda m=m: loss(m, points, key=key))()) for m in (network, exact))
    return learned, best


def _flow_back(spread, horizon):
    """Points of the prior at the horizon, run back along the probability flow of Brownian motion."""
    process = sx.diffusion.Brownian(horizon)
    normal = sx.diffusion.GaussianMixture([1.0], [[0.0]], [spread])
    flow = sx.probability_flow(process, normal.score_under(process))
    prior = jnp.array([[-3.0], [0.5], [1.0]])
    back = sx.evolve(
        sx.reverse(flow, horizon=horizon), prior, times=(0.0, horizon), rtol=1e-10, atol=1e-12, save="last"
    )
    return back.final / prior


def _divergence_of_prior(spread: float, horizon: float) -> float:
    """int q log(q/p) of the prior q and the law p at the horizon, by the trapezoidal rule."""
    process, normal = sx.diffusion.Brownian(horizon), sx.diffusion.GaussianMixture([1.0], [[0.0]], [spread])
    grid = jnp.linspace(-50.0, 50.0, 4001)[:, None]
    prior, law = jax.vmap(process.prior_log_density)(grid), normal.noised(process, horizon).log_density(grid)
    return float(jnp.sum(jnp.exp(prior) * (prior - law)) * (grid[1, 0] - grid[0, 0]))


def _prior(say: Say) -> Section:
    say("what the choice of a prior costs")
    spread, horizons = 1.0, np.array([1.0, 3.0, 9.0, 27.0, 81.0])
    factors = [_flow_back(spread, float(horizon)) for horizon in horizons]
    found = np.array([float(jnp.mean(factor)) for factor in factors])
    truth = spread / np.sqrt(spread**2 + horizons)
    ends = found**2 * horizons  # the variance that N(0, T) becomes
    distances = [normal_divergence(horizon, spread**2 + horizon) for horizon in horizons]
    measured = _divergence_of_prior(spread, 9.0)
    fig, (left, right) = figure(2)
    curves = {"closed form": (horizons, truth), ".measured": (horizons, found)}
    plot_curves(curves, x="horizon T", y="y(0) / y(T)", log="xy", axes=left)
    curves = {"KL of prior and law, nats": (horizons, distances), "variance missing at the end": (horizons, 1 - ends)}
    plot_curves(curves, x="horizon T", y="mismatch", log="xy", axes=right)
    text = """
        Brownian motion has no equilibrium, so the law to start from is a choice. Data N(0, 1) have become N(0, 1 + T) at
        time T; started from N(0, T) instead, the exact reversal ends at the variance T/(1 + T), not at 1. That is a
        property of the choice, no error of any solver, and it falls only as 1/T; the divergence, as 1/(4 T^2).
    """
    equation = (
        r"y(0) = \frac{s}{\sqrt{s^2+T}}\,y(T),\quad"
        r"KL = \frac{1}{2}\left[\frac{T}{s^2+T} - 1 - \ln\frac{T}{s^2+T}\right],\quad"
        r"\mathrm{var}\,y(0) = \frac{s^2 T}{s^2+T}"
    )
    error = float(np.max(np.abs(np.stack(factors)[:, :, 0] / truth[:, None] - 1)))
    checks = (
        Check("largest relative error of y(0)/y(T)", error, 0.0, 1e-7),
        Check("end variance from the prior N(0, 9)", float(ends[2]), 0.9, 1e-6),
        Check("KL of N(0, 9) from N(0, 10), by quadrature, nats", measured, distances[2], 1e-9),
        Check("fall of the missing variance from T = 27 to 81", float((1 - ends[3]) / (1 - ends[4])), 82 / 28, 1e-5),
    )
    caption = "Left: how the flow scales its points. Right: what the prior N(0, T) costs."
    return Section("The prior is a choice", text, equation, fig, caption, source(_flow_back), checks)


def _samplers(steps):
    """One start run back by three deterministic samplers, in equal steps of t."""
    process = sx.diffusion.VP()
    score = sx.diffusion.GaussianMixture([1.0], [[0.0]], [SPREAD]).score_under(process)
    times = jnp.linspace(1.0, 0.05, steps + 1)
    alphas, sigmas = process.marginal(times)
    flow, denoising = sx.probability_flow(process, score), sx.diffusion.DenoisingFlow(process, score)
    start = jnp.ones((1, 1))
    euler = sx.evolve(sx.on_grid(flow, sx.Euler(), times), start, save="last").final
    ddim, heun = (
        alphas[-1] * sx.evolve(sx.on_grid(denoising, m, sigmas / alphas), start / alphas[0], save="last").final
        for m in (sx.Euler(), sx.Heun())
    )
    return euler, ddim, heun


def _end_variance(steps):
    """The variance that reverse Euler-Maruyama ends with: V <- m^2 V + h g^2, as the score is linear."""
    process, h = sx.diffusion.VP(), (1.0 - 1e-3) / steps
    score = sx.diffusion.GaussianMixture([1.0], [[0.0]], [SPREAD]).score_under(process)
    step = sx.discretize(sx.reverse(process, horizon=1.0, score=score), sx.EulerMaruyama(), h)
    one = jnp.ones(1)

    def advance(n, V):
        m, g = step.step(n, one)[0], step.system.diffusion(step.clock(n, V.dtype)[0], one).mv(one)[0]
        return m**2 * V + h * g**2

    return float(sx.evolve(sx.as_map(advance), jnp.asarray(1.0), steps=steps, save="last").final)


def _orders(say: Say) -> Section:
    say("the order of four samplers")
    process, counts = sx.diffusion.VP(), [100, 200, 400]

    def variance(t: float) -> float:
        alpha, sigma = process.marginal(t)
        return float(alpha**2 * SPREAD**2 + sigma**2)

    truth = np.sqrt(variance(0.05) / variance(1.0))
    ends = np.array([[float(end[0, 0]) for end in _samplers(n)] for n in counts])
    variances = np.array([_end_variance(n) for n in counts])
    errors: dict[str, Any] = dict(zip(("Euler", "DDIM", "Heun"), np.abs(ends - truth).T, strict=True))
    errors["reverse SDE"] = np.abs(variances - variance(1e-3))
    step_sizes = 1 / np.array(counts)
    slopes = {name: float(sx.diagnostics.fit_order(step_sizes, values).order) for name, values in errors.items()}
    fig, (left, right) = figure(2)
    flows = {name: errors[name] for name in ("Euler", "DDIM", "Heun")}
    plot_orders(step_sizes, flows, slopes, axes=left, title="deterministic: error of x(0.05)")
    left.set_ylabel("error")
    plot_orders(
        step_sizes, {"Euler-Maruyama": errors["reverse SDE"]}, {"Euler-Maruyama": slopes["reverse SDE"]}, axes=right
    )
    right.set(title="random: error of the end variance", ylabel="error")
    right.title.set_fontsize(10)
    text = """
        A sampler is a discretisation, and has its order. On normal data of variance 1/4 all is known: the flow scales its
        points, and the variance of Euler-Maruyama obeys a recursion, evolved here with the coefficients of the library's
        own step. Euler's method on the probability flow has order one; so has DDIM, which is Euler's method in the clock
        sigma/alpha, where the field is the predicted noise itself; Heun's method there has order two.
    """
    equation = r"\frac{d(x/\alpha)}{d(\sigma/\alpha)} = \epsilon(t, x),\qquad V \leftarrow m^2 V + h\,g^2"
    expected = {"Euler": 1.0, "DDIM": 1.0, "Heun": 2.0, "reverse SDE": 1.0}
    checks = tuple(Check(f"order of {name}", slopes[name], order, 0.15) for name, order in expected.items())
    # Computed once by the recursion in exact coefficients, to six digits.
    known = dict(zip(counts, (0.253904, 0.251931, 0.250991), strict=True))
    checks += tuple(
        Check(f"end variance, {n} steps", float(v), known[n], 1e-6) for n, v in zip(counts, variances, strict=True)
    )
    caption = "Errors over the step size in t, from t = 1 to 0.05 (left) and to 0.001 (right)."
    return Section("A sampler is a discretisation", text, equation, fig, caption, source(_samplers), checks)


def _log_likelihoods(score, points, prior, steps):
    """log p of many points, along the probability flow."""
    flow = sx.probability_flow(sx.diffusion.VP(), score)

    def one(point):
        return sx.diffusion.log_likelihood(flow, point, (1e-3, 1.0), prior, method=sx.RK4(), steps=steps)

    return jax.jit(jax.vmap(one))(points)


def _likelihood(mixture: Any, network: Any, say: Say) -> Section:
    say("likelihood by change of variables")
    process, count = sx.diffusion.VP(), 500
    points = mixture.sample(jax.random.key(6), count)
    start = mixture.noised(process, 1e-3)  # the law that the flow starts from
    single = sx.diffusion.score_of(process, network)
    exact = _log_likelihoods(mixture.score_under(process), points, mixture.noised(process, 1.0).log_density, 200)
    learned = _log_likelihoods(
        lambda t, x: single(t, x[None])[0], points.astype(jnp.float32), process.prior_log_density, 100
    )
    density, fresh = start.log_density(points), mixture.log_density(points)
    truth, standard_error = entropy(mixture), float(jnp.std(fresh)) / count**0.5
    excess = np.asarray(fresh - learned)
    fig, (left, right) = figure(2)
    line = np.array([float(density.min()), float(density.max())])
    plot_curves({".exact score": (density, exact), "equal": (line, line)}, x="log p(x), nats",
                y="along the flow, nats", axes=left)  # fmt: skip
    plot_curves({".learned score": (density, learned), "equal": (line, line)}, x="log p(x), nats",
                y="along the flow, nats", axes=right)  # fmt: skip
    text = """
        Along a flow the log density changes by minus the divergence of its field, so a generator that is a flow has a
        likelihood. With the exact score it must give the density that is known, point by point, and its mean must be minus
        the entropy, known by quadrature. With the learned score the mean falls short by the divergence of the data from
        what has been learned, which cannot be negative.
    """
    equation = r"\log p_0(x(0)) = \log p_T(x(T)) + \int_0^T \nabla\cdot v(t, x(t))\,dt"
    # Along the flow the density is that of t = 0.001, whose entropy is higher by less than 0.01 nats.
    checks = (
        Check(
            "largest difference from the density, nats", float(jnp.max(jnp.abs(exact - density))), 1e-4, relation="<="
        ),
        Check("minus the mean of log p, nats", -float(jnp.mean(fresh)), truth, 4 * standard_error),
        Check("minus its mean along the flow, nats", -float(jnp.mean(exact)), truth, 4 * standard_error + 1e-2),
        Check(
            "divergence from the learned law, nats", float(excess.mean()), -4 * excess.std() / count**0.5, relation=">="
        ),
        Check("the same, not large", float(excess.mean()), 0.25, relation="<="),
    )
    caption = f"{count} points of the mixture: log density along the flow over log density, exact and learned score."
    return Section("A flow has a likelihood", text, equation, fig, caption, source(_log_likelihoods), checks)


def _generate(images, labels, wanted):
    """Train on digits with their labels, and draw the digits that are wanted."""
    process = sx.diffusion.VP()
    data = (dequantised(images, jax.random.key(3)), jnp.asarray(labels))
    network = sx.diffusion.ScoreMLP(64, width=256, depth=3, classes=10, key=jax.random.key(0))
    adam = optax.adam(optax.cosine_decay_schedule(2e-3, 3000))
    loss = sx.diffusion.DenoisingScoreMatching(process)
    trained = sx.fit(loss, adam, data, initial=network, steps=3000, batch_size=128, key=jax.random.key(1), every=3000)
    score = sx.diffusion.score_of(process, trained.model, wanted)
    shape = (len(wanted), 64)
    drawn = sx.diffusion.sample(
        process, score, jax.random.key(2), shape, steps=100, method=sx.Heun(), dtype=jnp.float32
    )
    return trained, quantised(drawn.final)


def _digits(digits: Any, say: Say) -> tuple[Section, Any]:
    say("digits from noise, by class")
    wanted = np.resize(np.arange(10), 1000)
    trained, drawn = _generate(digits.inputs, digits.targets, jnp.asarray(wanted))
    say("judging the digits")
    judge = DigitJudge(digits.inputs, digits.targets)
    (frechet, told), (real, tossed) = judge.against(drawn), judge.real_against_real()
    (bad_frechet, bad_told) = judge.against(judge.independent_pixels(wanted))
    (gan_frechet, gan_told) = judge.against(train_on_digits(digits, len(wanted)))
    classified = judge.agreement(digits.test_inputs, np.asarray(digits.test_targets))
    order = np.argsort(wanted[:60], kind="stable").reshape(10, 6).T.ravel()
    fig = plot_images(np.asarray(drawn)[order].reshape(-1, 8, 8), [str(wanted[i]) for i in order])
    text = f"""
        The same on handwritten digits, conditional on their class. Judged three ways. A classifier trained on real digits
        ({classified:.1%} right on the test set) says how many are what they should be. The Frechet distance in the first
        20 principal components of the training set is {frechet:.3f}, where two random halves of the real digits are
        {real:.3f} apart, as many digits of the GAN of the second chapter {gan_frechet:.3f}, and images of independent
        pixels, with every class's own means and spreads, {bad_frechet:.3f}. Five nearest neighbours tell our digits from
        real ones at a rate of {told:.1%}, the GAN's at {gan_told:.1%}, where real against real gives {tossed:.1%} and
        independent pixels {bad_told:.1%}: close, and not the same.
    """
    checks = (
        Check("share that a classifier calls by the wanted name", judge.agreement(drawn, wanted), 0.9, relation=">="),
        Check("Frechet distance, below that of independent pixels", frechet, bad_frechet, relation="<="),
        Check("two-sample accuracy, below that of independent pixels", told, bad_told, relation="<="),
        Check("two-sample accuracy, real against real", tossed, 0.5, 0.06),
    )
    equation = r"\epsilon_\theta(t, x, c)\ \approx\ -\sigma(t)\,\nabla\log p_t(x\,|\,c)"
    caption = "Generated digits, six of each class: none was chosen."
    return Section("Digits from noise", text, equation, fig, caption, source(_generate), checks), trained.model


CHAPTER = Chapter(
    "diffusion",
    "Generation: noise is a diffusion, and a generator its reversal",
    "How is noise turned into data, how exactly, and how likely is what comes out?",
    run,
)
