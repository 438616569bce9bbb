"""Digits drawn from captions, in combinations that were not shown: a part of the chapter on diffusion."""

from typing import Any

import jax
import numpy as np

import separatrix as sx
from separatrix.plotting import plot_images
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.measure.words import read_pixels

NOUNS = sx.diffusion.NOUNS["digits"]
EACH = 4  # pictures of each withheld combination


def _draw_captions(digits, captions):
    """Latent diffusion of composed digits, a sixth of the combinations withheld; then captions of those."""
    D = sx.diffusion
    made = D.compose_pictures(
        digits.inputs, digits.targets, 6000, nouns=NOUNS, side=16, without=D.withheld(len(NOUNS)), unsaid=0.1
    )
    words, size = D.composed_vocabulary(NOUNS), {"width": 32, "depth": 2, "steps": 900, "batch_size": 32}
    model = D.LatentDiffusion.fit(made.pictures, made.captions, key=jax.random.key(0), vocabulary=words, **size)
    return model.sample(captions, jax.random.key(1), len(captions), scale=2.0, steps=10, batch_size=80)


def drawn_captions(digits: Any, say: Any) -> Section:
    """The section: captions that were never shown, drawn, and read from the pixels."""
    say("captions drawn in combinations that were not shown")
    codes = np.repeat(sx.diffusion.withheld(len(NOUNS)), EACH, axis=0)
    captions = [sx.diffusion.caption_of(NOUNS, row) for row in codes]
    pictures = np.asarray(_draw_captions(digits, captions))
    real = sx.diffusion.compose_pictures(
        digits.test_inputs, digits.test_targets, 500, nouns=NOUNS, side=16, only=sx.diffusion.withheld(len(NOUNS))
    )
    right = np.all(read_pixels(pictures) == codes[:, [1, 3, 4]], axis=1)
    own = np.all(read_pixels(real.pictures) == real.codes[:, [1, 3, 4]], axis=1)
    shown = np.linspace(0, len(captions) - 1, 12).round().astype(int)
    fig = plot_images(pictures[shown], [captions[i].replace(", ", ",\n") for i in shown])
    text = f"""
        An autoencoder turns pictures of two sizes, levels and three places into latents of a quarter of their sides; a
        denoiser of latents attends to the words. {len(codes) // EACH} of 240 combinations were withheld from training. Of
        {len(codes)} pictures drawn of those, count, brightness and place, read from the pixels, are all as asked in
        {right.mean():.1%}; of real composites of the same kind that reading finds {own.mean():.1%}.
    """
    checks = (
        Check("real composites that are read as they were made", float(own.mean()), 0.95, relation=">="),
        Check("captions drawn with count, brightness and place as asked", float(right.mean()), 0.8, relation=">="),
    )
    equation = r"D = D(z) + s\,[D(z \,|\, \mathrm{words}) - D(z)],\qquad x = \mathrm{decoder}(z(0))"
    caption = "Twelve of the captions, drawn at scale 2 in 10 steps: none was chosen."
    return Section("Words to pictures", text, equation, fig, caption, source(_draw_captions), checks)
