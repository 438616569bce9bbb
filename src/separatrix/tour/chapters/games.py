r"""Second chapter: two networks against each other follow a field that is no gradient.

Players x_i that descend on losses L_i of their own follow v = -(dL_1/dx_1, ..., dL_n/dx_n). The antisymmetric part of its
Jacobian turns instead of falling: simultaneous steps spiral out where the flow cycles. What cures it is measured here on
games that can be solved by hand, and on generative adversarial networks.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.plotting import figure, plot_curves, plot_images
from separatrix.plotting.style import COLOURS, label
from separatrix.tour.chapter import Chapter, Check, Section, source
from separatrix.tour.chapters._cure import cure
from separatrix.tour.measure.games import MODES, SPREAD, ring
from separatrix.tour.verdicts.games import verdict

Say = Callable[[str], None]


def run(say: Say) -> list[Section]:
    """All sections, each a claim with its numbers."""
    rings, networks = _ring(say)
    return [_bilinear(say), _dirac(say), cure(say), rings, _no_gradient(networks, say), _digits(say), verdict(say)]


def _five_dynamics(step_size):
    """min over x, max over y of x y, from (1, 0)."""
    game, start = sx.games.Bilinear(1.0), (jnp.array(1.0), jnp.array(0.0))
    dynamics = {
        "simultaneous": sx.games.SimultaneousDescent(game, step_size),
        "alternating": sx.games.AlternatingDescent(game, step_size),
        "extragradient": sx.games.Extragradient(game, step_size),
        "consensus": sx.games.ConsensusDescent(game, step_size, strength=0.2),
        "optimistic": sx.games.OptimisticDescent(game, step_size),
    }
    return {name: sx.evolve(descent, descent.init(start), steps=120) for name, descent in dynamics.items()}


def _bilinear(say: Say) -> Section:
    say("the bilinear game under five dynamics")
    h = 0.1
    points = {name: _plane(path) for name, path in _five_dynamics(h).items()}
    fig, (left, right) = figure(2, height=3.2)
    plot_curves(
        {name: (p[:, 0], p[:, 1]) for name, p in points.items()}, x="x (minimises)", y="y (maximises)", axes=left
    )
    left.set_aspect("equal", adjustable="datalim")
    lengths = {name: np.linalg.norm(p, axis=1) for name, p in points.items()}
    curves = {name: (np.arange(len(values)), values) for name, values in lengths.items()}
    plot_curves(curves, x="step", y="distance from the equilibrium", axes=right, log="y")
    left.get_legend().remove()
    optimistic = float(max(abs(np.roots([1.0, -(1 + 2j * h), 1j * h]))))
    exact = {
        "simultaneous": np.sqrt(1 + h**2),
        "extragradient": np.sqrt((1 - h**2) ** 2 + h**2),
        "consensus": np.sqrt((1 - 0.2 * h) ** 2 + h**2),
        "optimistic": optimistic,
    }
    checks = [Check(f"factor a step, {n}", _factor(lengths[n]), float(f), 1e-6) for n, f in exact.items()]
    x, y = points["alternating"].T
    ellipse = x**2 + y**2 - h * x * y
    checks.append(Check("alternating: drift of x^2 + y^2 - h x y", float(np.ptp(ellipse)), 1e-12, relation="<="))
    text = """
        One player minimises x y over x, the other maximises it over y. Their common field is a quarter turn: no function
        falls along it. The flow goes round in circles; what its discretisations do depends on their error alone.
        Simultaneous steps spiral out for every step size, alternating ones stay on an ellipse, and three cures spiral in,
        each by a factor that is known.
    """
    caption = (
        "Left: 120 steps of size 0.1 from (1, 0). Right: the distance from the equilibrium; a constant factor is a "
        "straight line. Extragradient and optimistic steps all but coincide."
    )
    equation = r"v(x, y) = (-y,\; x),\qquad |z_{n+1}| = \sqrt{1+h^2}\,|z_n| \quad \mathrm{(simultaneous)}"
    code = source(_five_dynamics)
    return Section("What a field that only turns does to its steps", text, equation, fig, caption, code, tuple(checks))


def _plane(path: Any) -> np.ndarray:
    states = getattr(path.states, "players", path.states)
    return np.stack([np.asarray(leaf) for leaf in states], axis=1)


def _factor(lengths: np.ndarray) -> float:
    """Mean factor a step over the last half, where the transient of a second root is over."""
    half = len(lengths) // 2
    return float((lengths[-1] / lengths[half]) ** (1 / (len(lengths) - 1 - half)))


def _smallest_gan(penalty):
    """The Dirac-GAN: its path, and the eigenvalues of its field at the equilibrium."""
    flow = sx.games.field(sx.games.DiracGAN(penalty))
    path = sx.evolve(flow, (jnp.array(1.0), jnp.array(1.0)), times=jnp.linspace(0.0, 30.0, 301), rtol=1e-9, atol=1e-11)
    jacobian = sx.linearize(flow, (jnp.array(0.0), jnp.array(0.0)))
    return path, jnp.linalg.eigvals(jacobian.as_matrix())


def _dirac(say: Say) -> Section:
    say("the smallest GAN, with and without gradient penalty")
    fig, (left, right) = figure(2, height=3.2)
    checks, portraits, radii = [], {}, {}
    for penalty in (0.0, 0.3, 1.5):
        path, values = _smallest_gan(penalty)
        points = _plane(path)
        portraits[f"penalty {penalty:g}"] = (points[:, 0], points[:, 1])
        radii[f"penalty {penalty:g}"] = (path.times, np.linalg.norm(points, axis=1))
        exact = complex(-penalty / 2 + np.sqrt(complex(penalty**2 / 4 - 1 / 4)))
        slowest = max(np.asarray(values).tolist(), key=lambda value: (value.real, value.imag))
        checks.append(Check(f"penalty {penalty:g}: slowest eigenvalue, real part", slowest.real, exact.real, 1e-12))
        checks.append(Check(f"penalty {penalty:g}: imaginary part", slowest.imag, exact.imag, 1e-12))
    drift = float(np.ptp(radii["penalty 0"][1] ** 2))
    checks.append(Check("penalty 0: drift of the squared radius", drift, 1e-7, relation="<="))
    # Near the equilibrium the path is linear up to terms of the radius squared, here a hundredth.
    rate = _rate(*radii["penalty 0.3"], turn=2 * np.pi / np.sqrt(1 / 4 - 0.3**2 / 4))
    checks.append(Check("penalty 0.3: rate at which the path nears the equilibrium", rate, -0.15, 0.0015))
    plot_curves(portraits, x="generator", y="discriminator", axes=left)
    left.set_aspect("equal", adjustable="datalim")
    left.get_legend().remove()
    plot_curves(radii, x="time", y="distance from the equilibrium", axes=right, log="y")
    text = """
        A generator that puts all its mass at one point, a discriminator with one slope. At the equilibrium the field's
        eigenvalues are imaginary: the flow cycles for ever, however long it is trained. A penalty on the discriminator's
        gradient at the data (R1) gives them a real part, and past a penalty of 1 they no longer turn at all.
    """
    equation = r"\lambda = -\frac{\gamma}{2} \pm \sqrt{\frac{\gamma^2}{4} - \frac{1}{4}}"
    caption = "Paths of the flow from (1, 1), and their distance from the equilibrium over time."
    code = source(_smallest_gan)
    return Section("Why GANs cycle, and what a penalty changes", text, equation, fig, caption, code, tuple(checks))


def _rate(times: Any, radii: Any, turn: float) -> float:
    """Growth rate of the distance over the last turn: a whole turn, so that its shape does not count."""
    before, now = np.interp([times[-1] - turn, times[-1]], np.asarray(times), np.log(radii))
    return float((now - before) / turn)


def _train_on_ring(data, networks, scheme, penalty):
    """Two small networks and a ring of eight Gaussians; modes are counted along the way."""
    gan = sx.games.GAN(latent_size=8, penalty=penalty)

    def modes(model):
        found = sx.games.mode_coverage(gan.sample(model[0], jax.random.key(9), 1000), MODES, SPREAD)
        return found.count, found.quality

    players = sx.games.Players(optax.adam(1e-3, b1=0.5), scheme=scheme, strength=1.0)
    return sx.fit(gan, players, data, initial=networks, steps=3000, batch_size=256, key=jax.random.key(3),
                  metrics={"modes": modes}, every=100)  # fmt: skip


def _ring(say: Say) -> tuple[Section, Any]:
    keys = jax.random.split(jax.random.key(0), 3)
    data = ring(keys[0], 20_000)
    networks = (
        eqx.nn.MLP(8, 2, 64, 2, jax.nn.relu, key=keys[1], dtype=jnp.float32),
        eqx.nn.MLP(2, "scalar", 64, 2, jax.nn.relu, key=keys[2], dtype=jnp.float32),
    )
    runs = {}
    ways = {"simultaneous": ("simultaneous", 0.0), "with R1": ("simultaneous", 1.0), "consensus": ("consensus", 0.0)}
    for name, (scheme, penalty) in ways.items():
        say(f"a GAN on a ring of eight Gaussians, {name}")
        runs[name] = _train_on_ring(data, networks, scheme, penalty)
    fig, axes = figure(4, width=2.5, height=2.7)
    counts = {name: (run.steps, run.metrics["modes"][0]) for name, run in runs.items()}
    plot_curves(counts, x="step", y="modes of 8", axes=axes[0], title="modes over training")
    for axis, (name, result) in zip(axes[1:], runs.items(), strict=True):
        _scatter(axis, data[:500], sx.games.GAN(8).sample(result.model[0], jax.random.key(5), 500), name)
    held = {name: float(np.mean(np.asarray(run.metrics["modes"][0]) == 8)) for name, run in runs.items()}
    most = np.max(runs["simultaneous"].metrics["modes"][0])
    last = {
        name: (float(run.metrics["modes"][0][-1]), float(run.metrics["modes"][1][-1])) for name, run in runs.items()
    }
    checks = (
        Check("modes at the end, with R1", last["with R1"][0], 8.0),
        Check("modes at the end, consensus", last["consensus"][0], 8.0),
        Check("share of samples at a mode, consensus", last["consensus"][1], 0.8, relation=">="),
        Check("share of the run with all modes, consensus", held["consensus"], 0.75, relation=">="),
        Check("the same, simultaneous", held["simultaneous"], 0.5, relation="<="),
    )
    text = f"""
        The same two networks, the same optimiser, the same batches. Simultaneous play chases from mode to mode and never
        holds more than {most:.0f} at a count (other keys find them all, but late). Both cures hold all eight: a penalty on
        the discriminator's gradient at the data (R1), in {100 * held["with R1"]:.0f} per cent of the counts, and the
        consensus term, a pull towards where the field is slow, in {100 * held["consensus"]:.0f}. At the end
        {100 * last["with R1"][1]:.0f} and {100 * last["consensus"][1]:.0f} per cent of the samples lie within three
        standard deviations of a mode, as 99 per cent of the data do. Either cure differentiates once more.
    """
    caption = (
        "Left: modes that hold a quarter of their due. Then data (grey) and 500 generated points after 3,000 steps."
    )
    code = source(_train_on_ring)
    return Section("Eight modes, chased or held", text, "", fig, caption, code, checks), runs["simultaneous"].model


def _scatter(axes: Any, real: Any, fake: Any, name: str) -> None:
    axes.plot(*np.asarray(real).T, "o", color="0.7", markersize=2, label="data", rasterized=True)
    axes.plot(*np.asarray(fake).T, "o", color="#D55E00", markersize=2, label="generated", rasterized=True)
    axes.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3))
    label(axes, "x", "y", name)
    axes.legend(fontsize=7, loc="center")


def _shares(networks, data):
    """How much of a field turns: a GAN's, and that of supervised learning, whose Jacobian is a Hessian."""
    parameters, rest = eqx.partition(networks, eqx.is_inexact_array)
    gan, key = sx.games.GAN(latent_size=8), jax.random.key(11)
    game = sx.games.as_game(lambda players: gan(eqx.combine(players, rest), data, key=key))
    objective = sx.supervised(
        networks[1], (data, jnp.ones(len(data), data.dtype)), lambda out, target: (out - target) ** 2
    )
    descent = sx.optimization.GradientDescent(objective, 0.1)
    flows = {
        "GAN on the ring": (sx.games.field(game), parameters, 64),
        "supervised learning": (sx.limit(descent), objective.initial, 64),
        "Dirac-GAN, penalty 1": (sx.games.field(sx.games.DiracGAN(1.0)), (jnp.array(0.0), jnp.array(0.0)), 4096),
    }
    return {name: sx.field_split(flow, at, key=key, probes=probes) for name, (flow, at, probes) in flows.items()}


def _no_gradient(networks: Any, say: Say) -> Section:
    say("how much of a GAN's field turns")
    shares = _shares(networks, ring(jax.random.key(4), 512))
    values = [float(share.index) for share in shares.values()]
    errors = [float(share.index_error) for share in shares.values()]
    (turning, falling, dirac), (error, _, spread) = values, errors
    fig, (axes,) = figure(1, width=5.0)
    axes.bar(list(shares), values, yerr=[2 * error for error in errors], color=COLOURS[:3], width=0.5, capsize=4)
    axes.set_ylim(0, 0.5)
    axes.tick_params(labelsize=8)
    label(axes, "field", "antisymmetric share of the Jacobian")
    checks = (
        Check("share in supervised learning", falling, 1e-6, relation="<="),
        Check("share in the Dirac-GAN, |A|^2 = 1/2 and |S|^2 = 1", dirac, 1 / 3, 4 * spread),
        Check("share in the GAN on the ring, in standard errors", turning / error, 5.0, relation=">="),
    )
    text = f"""
        A gradient field has a symmetric Jacobian, a Hessian. The share of the antisymmetric part, measured by random probes
        with products of the Jacobian and its transpose, is zero to rounding for supervised learning and
        {turning:.2f} +- {error:.2f} for the GAN that was trained above: its field is the gradient of nothing. For the
        Dirac-GAN it is known exactly, and measured beside.
    """
    equation = r"\frac{|A|^2}{|A|^2+|S|^2},\qquad J = S + A,\quad S = \frac{J+J^T}{2},\quad A = \frac{J-J^T}{2}"
    caption = "Share of the Jacobian that turns; whiskers are two standard errors, over 64 probes for the networks."
    return Section("The field is no gradient", text, equation, fig, caption, source(_shares), checks)


def train_on_digits(digits, count):
    """A GAN of two perceptrons on 8 x 8 digits."""
    keys = jax.random.split(jax.random.key(1), 3)
    generator = eqx.nn.MLP(32, 64, 192, 2, jax.nn.relu, jax.nn.sigmoid, key=keys[0], dtype=jnp.float32)
    discriminator = eqx.nn.MLP(64, "scalar", 192, 2, jax.nn.leaky_relu, key=keys[1], dtype=jnp.float32)
    gan = sx.games.GAN(latent_size=32, penalty=1.0)
    players = sx.games.Players(optax.adam(5e-4, b1=0.5), scheme="alternating")
    run = sx.fit(
        gan, players, digits.inputs, initial=(generator, discriminator), steps=4000, batch_size=64, key=keys[2]
    )
    return gan.sample(run.model[0], jax.random.key(7), count)


def _digits(say: Say) -> Section:
    say("digits generated by a GAN")
    digits = sx.load("digits").flat()
    fake = np.asarray(train_on_digits(digits, 360))
    order = np.random.default_rng(0).permutation(len(digits))
    real, other = digits.inputs[order[:360]], digits.inputs[order[360:720]]
    features, key = sx.diagnostics.principal_features(digits.inputs), jax.random.key(0)
    sets = {"GAN": fake, "real": other, "shuffled": np.random.default_rng(0).permuted(real, axis=0)}
    scores = {
        name: float(sx.frechet_distance(examples, real, key=key, features=features).value)
        for name, examples in sets.items()
    }
    tests = [sx.classifier_two_sample(features(examples), features(real), key=key) for examples in (fake, other)]
    (told, error), (same, spread) = [(float(found.value), float(found.error)) for found in tests]
    fig = plot_images(np.concatenate([real[:20], fake[:40]]).reshape(-1, 8, 8), columns=20)
    ratio = scores["GAN"] / scores["shuffled"]
    checks = (
        Check("Frechet distance of the GAN over that of shuffled pixels", ratio, 0.5, relation="<="),
        Check("two-sample accuracy, real against real", same, 0.5, 4 * spread),
        Check("two-sample accuracy, GAN against real", told, 0.8, relation="<="),
    )
    text = f"""
        The same few lines on handwritten digits. Judged in the first twenty principal components: the Frechet distance
        of 360 generated digits to 360 real ones is {scores["GAN"]:.2f}, of other real ones {scores["real"]:.2f}, of digits
        with their pixels shuffled between images {scores["shuffled"]:.2f}. Five nearest neighbours tell generated from real
        in {100 * told:.0f} +- {100 * error:.0f} per cent of cases, real from real in {100 * same:.0f}.
    """
    caption = "First row: real digits. Below: generated ones."
    code = source(train_on_digits)
    return Section("Digits from noise, by a game", text, "", fig, caption, code, checks)


CHAPTER = Chapter(
    "games",
    "Games: a field that is no gradient",
    "Why do two networks that train against each other cycle, and what cures it?",
    run,
)
