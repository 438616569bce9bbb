"""Pictures from words: a part of the chapter on diffusion."""

from typing import Any

import jax
import numpy as np

import separatrix as sx
from separatrix.plotting import plot_images
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.measure.diffusion import AttributeJudge

CLASSES, EACH, SIDE = 4, 4, 16
ASKED = ("two small sneakers, dark, on the left", "one large bag, bright, in the middle", "two large trousers, bright",
         "one small dress, on the right", "two boots, bright", "one large t-shirt, dark, on the left")  # fmt: skip


def _learn_words(items, labels, nouns, without):
    """An autoencoder of composed pictures, and a denoiser of its latents that reads their captions."""
    made = sx.diffusion.compose_pictures(items, labels, 4000, nouns=nouns, side=SIDE, without=without)
    words = sx.diffusion.composed_vocabulary(nouns)
    return sx.diffusion.LatentDiffusion.fit(
        made.pictures,
        made.captions,
        key=jax.random.key(1),
        vocabulary=words,
        width=32,
        depth=2,
        steps=1200,
        batch_size=32,
    )


def captions_drawn(digits: Any, say: Any) -> Section:
    """The section: digits drawn as captions say, in combinations never shown, and clothes."""
    say("pictures from words")
    few, kept = np.asarray(digits.targets) < CLASSES, np.asarray(digits.test_targets) < CLASSES
    nouns, without = sx.diffusion.NOUNS["digits"][:CLASSES], sx.diffusion.withheld(CLASSES)
    items, labels = np.asarray(digits.inputs)[few].reshape(-1, 8, 8), np.asarray(digits.targets)[few]
    model = _learn_words(items, labels, nouns, without)
    say("judging what was drawn")
    shown = sx.diffusion.compose_pictures(items, labels, 4000, nouns=nouns, side=SIDE, seed=1)
    judge = AttributeJudge(shown.pictures, shown.codes)
    codes = np.repeat(without, EACH, axis=0)
    asked = [sx.diffusion.caption_of(nouns, row) for row in codes]
    settings: dict[str, Any] = {"steps": 10, "batch_size": len(asked)}
    drawn = {scale: np.asarray(model.sample(asked, jax.random.key(3), len(asked), scale=scale, **settings))
             for scale in (1.0, 3.0)}  # fmt: skip
    right = {scale: float(judge.right(pictures, codes).all(axis=1).mean()) for scale, pictures in drawn.items()}
    tests = (np.asarray(digits.test_inputs)[kept].reshape(-1, 8, 8), np.asarray(digits.test_targets)[kept])
    real = sx.diffusion.compose_pictures(*tests, 400, nouns=nouns, side=SIDE, only=without, seed=2)
    own = float(judge.right(real.pictures, real.codes).all(axis=1).mean())
    clothes = np.asarray(sx.diffusion.pretrained().sample(ASKED, jax.random.key(4), len(ASKED), scale=3.0, steps=10))
    parts = [picture.repeat(2, axis=0).repeat(2, axis=1) for picture in drawn[3.0][::EACH][: len(ASKED)]]
    labels_of = [text.replace(", ", ",\n") for text in (*asked[::EACH][: len(ASKED)], *ASKED)]
    fig = plot_images(np.stack([*parts, *clothes]), labels_of, columns=len(ASKED))
    fig.set_size_inches(9.0, 4.6)
    for axes in fig.axes:
        axes.title.set_fontsize(8)
    chance = 1 / (24 * CLASSES)
    text = f"""
        "{asked[0]}": an autoencoder turns a composed picture into a latent of {SIDE // 4} by {SIDE // 4} places, and a
        denoiser of latents attends to the words. {len(without)} of {24 * CLASSES} combinations of digit, count, size,
        brightness and place were never shown. A classifier of real compositions says whether all five are as the caption
        says: in {own:.0%} of real ones of these combinations, in {right[1.0]:.0%} of what is drawn without guidance, in
        {right[3.0]:.0%} with a scale of 3; chance is {chance:.1%}. The second row is drawn from weights that come with the
        package, trained for longer on Fashion-MNIST.
    """
    checks = (
        Check("captions drawn right, combinations never shown, at scale 3", right[3.0], 0.5, relation=">="),
        Check("the same without guidance, not above", right[1.0], right[3.0], relation="<="),
        Check("real compositions that the judge calls right", own, 0.85, relation=">="),
    )
    equation = r"D_s(z, \sigma, c) = D(z, \sigma) + s\,[D(z, \sigma, c) - D(z, \sigma)],\quad z(0) \mapsto x"
    caption = "Above: digits of a model trained here. Below: clothes from the weights of the package. None was chosen."
    return Section("Pictures from words", text, equation, fig, caption, source(_learn_words), checks)
