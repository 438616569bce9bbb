r"""A section of the games chapter: a cycle on real images, explained by its eigenvalues, and cured by the number computed.

Generator y = b + z/10, discriminator D(x) = w . x, Wasserstein's loss, data of mean m: the field is (w, m - b - gamma w),
each pixel a quarter turn around (m, 0) with damping gamma. Simultaneous steps of h multiply by 1 + h lambda,
|mu|^2 = 1 - h gamma + h^2: they spiral out below gamma = h, and in above it. What turns is the pair (b - m, w): from rest
the shift alone moves on a line. The turn that is predicted is that of the mean field; batches add white noise to w, which
leaves the least-squares map of the pair, and so the measured turn, unbiased.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.plotting import figure, plot_curves
from separatrix.tour.chapter import Check, Section, source

_STEP, _STEPS, _EVERY = 0.1, 200, 2


class Shifted(eqx.Module):
    """z -> b + z/10."""

    shift: Any

    def __call__(self, z: Any) -> Any:
        return self.shift + 0.1 * z


class Weighing(eqx.Module):
    """x -> w . x."""

    weights: Any

    def __call__(self, x: Any) -> Any:
        return self.weights @ x


def _train_the_mean(images, penalty):
    """A generator that can only shift, a discriminator that can only weigh: the images' mean is to be found."""
    gan = sx.games.GAN(latent_size=images.shape[1], loss="wasserstein", penalty=penalty)
    networks = (Shifted(jnp.zeros(images.shape[1], jnp.float32)), Weighing(jnp.zeros(images.shape[1], jnp.float32)))
    run = sx.fit(
        gan, sx.games.Players(optax.sgd(_STEP)), images, initial=networks, steps=_STEPS, batch_size=512,
        key=jax.random.key(2), metrics={"pair": lambda model: (model[0].shift, model[1].weights)}, every=_EVERY,
    )  # fmt: skip
    return run, sx.games.advise(run.map, run.state, key=jax.random.key(3), slack=1e-6)


def cure(say: Callable[[str], None]) -> Section:
    """The cycle, its eigenvalue, and the run with the number that it gives."""
    say("a cycle on digits, and the number that cures it")
    images = jnp.asarray(sx.load("digits").flat().inputs, jnp.float32)
    first, told = _train_the_mean(images, 0.0)
    number = float(told.penalty)
    runs = {0.0: (first, told)} | {factor: _train_the_mean(images, factor * number) for factor in (0.5, 3.0)}
    mean = np.asarray(images.mean(axis=0))
    checks, curves = [Check("R1 penalty that advise names, h", number, _STEP, 1e-3 * _STEP)], {}
    for factor, (run, advice) in runs.items():
        shift, weights = run.metrics["pair"]
        off = np.asarray(shift) - mean
        seen = sx.games.cycle_in(np.stack([off, np.asarray(weights)], axis=1))
        name = f"penalty {factor * number:.2g}"
        curves[name] = (run.steps, np.linalg.norm(off, axis=1))
        exact = np.sqrt(1 - _STEP * factor * number + _STEP**2)
        checks.append(Check(f"{name}: |mu| by advise", advice.decay, float(exact), 1e-4))
        # A standard error is below a thousandth.
        turn = abs(seen.turn) / _EVERY / advice.rotation
        checks.append(Check(f"{name}: turn a step, seen over predicted", turn, 1.0, 0.01))
        if factor < 1:
            # Where it decays, the noise of the batches is soon as large as the circle.
            checks.append(Check(f"{name}: factor a step, seen", _factor(off), advice.decay, 0.002))
    near = curves[f"penalty {3 * number:.2g}"][1]
    checks.append(
        Check("cured: last distance from the mean over the first", float(near[-1] / near[0]), 0.1, relation="<=")
    )
    text = f"""
        The smallest GAN on real images: a generator that shifts its noise by an image, a discriminator that weighs pixels.
        All it can learn is the mean of the digits, and it goes round it: once in
        {2 * np.pi / told.rotation:.0f} steps, each {100 * (told.decay - 1):.2f} per cent further out. `advise` takes the
        spectrum of the running update at the present networks, of {told.size} parameters, and names the least R1
        penalty that makes it contract: {number:.4g}. Nothing else is changed in the runs beside: at half of it the
        circle still grows, at three times it closes.
    """
    caption = (
        "Left: the shift after 0, 16, 32, 48 steps without a penalty: the mean digit, and its negative on the way round. "
        "Right: the distance of the shift from the mean."
    )
    equation = r"|\mu|^2 = 1 - h\gamma + h^2 \;<\; 1 \quad\mathrm{for}\quad \gamma > h"
    return Section(
        "A cycle on images, its eigenvalue, and its cure", text, equation, _drawn(first, curves), caption,
        source(_train_the_mean), tuple(checks),
    )  # fmt: skip


def _factor(off: Any) -> float:
    """The factor a step of the distance, over the last whole turn and the one before."""
    turn = round(2 * np.pi / np.arctan(_STEP) / _EVERY)
    sizes = np.linalg.norm(off, axis=1)
    last, before = sizes[-turn:].mean(), sizes[-2 * turn : -turn].mean()
    return float((last / before) ** (1 / (turn * _EVERY)))


def _drawn(run: Any, curves: Any) -> Any:
    fig, axes = figure(5, width=1.6, height=2.4)
    for axis, step in zip(axes[:4], (0, 16, 32, 48), strict=True):
        axis.imshow(np.asarray(run.metrics["pair"][0])[step // _EVERY].reshape(8, 8), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_title(f"step {step}", fontsize=8)
        axis.axis("off")
    plot_curves(curves, x="step", y="distance from the mean", axes=axes[4])
    axes[4].legend(fontsize=6)
    return fig
