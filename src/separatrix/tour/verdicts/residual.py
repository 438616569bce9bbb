r"""The verdict on depth: the same random weights as plain layers and as residual blocks, and blocks that are too long.

A plain tanh layer of weights with variance q over the width multiplies squared gradients by q; a block x + h f(x) of
x' = -k x has Lipschitz constant h k, and L of them give (1 - k/L)^L.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import separatrix as sx
from separatrix.plotting import figure, plot
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.verdicts.told import evidence, told


def _diagnose_depth(layers, start):
    """Plain and residual, and three blocks of a decay that is too fast for them."""
    plain = sx.from_layers(layers)
    residual = sx.ResNet(sx.AlongDepth(layers), step_size=1 / (len(layers) - 1))
    coarse = sx.ResNet(lambda x: -4.0 * x, step_size=1 / 3)
    return {
        "Plain": sx.diagnose(plain, start, questions=["gradient_profile"]),
        "Residual": sx.diagnose(residual, start, questions=["gradient_profile", "survival"]),
        "Three blocks of x' = -4 x": sx.diagnose(coarse, start, questions=["linear_stability"]),
    }


def verdict(say: Callable[[str], None]) -> Section:
    """What `diagnose` says of the three."""
    say("the verdict on plain and residual nets")
    width, depth, gain = 32, 64, 0.5
    keys = jax.random.split(jax.random.key(3), depth + 2)
    blank = eqx.nn.Linear(width, width, use_bias=False, key=keys[0])
    weights = [jnp.sqrt(gain / width) * jax.random.normal(key, (width, width)) for key in keys[:depth]]
    layers = [eqx.nn.Sequential([eqx.tree_at(lambda m: m.weight, blank, w), eqx.nn.Lambda(jnp.tanh)]) for w in weights]
    found = _diagnose_depth(layers, 0.1 * jax.random.normal(keys[-1], (width,)))
    plain, residual, coarse = found.values()
    fig, axes = figure(2)
    for (name, diagnosis), place in zip(list(found.items())[:2], axes, strict=True):
        plot(diagnosis.answers["gradient_profile"], axes=place)
        place.set_title(name, fontsize=10)
    rate = float(np.log(evidence(plain, "not explode"))) / depth
    coarse_end, finer_end = (1 - 4 / 3) ** 3, (1 - 4 / 6) ** 6
    error = 2 * abs(finer_end - coarse_end) / abs(coarse_end - 1)
    lipschitz = evidence(coarse, "Lipschitz")
    checks = (
        # The mean over all gradients of a layer is right to 1/width of itself: 4 standard errors of 64 layers.
        Check("plain: ln of a gradient's growth a layer", rate, 0.5 * np.log(gain), 4 / (2 * width * depth) ** 0.5),
        Check("plain: claims that do not hold", float(len(plain.broken)), 1.0),
        Check("residual: claims that do not hold", float(len(residual.broken)), 0.0),
        Check("three blocks: step size times Lipschitz constant", lipschitz, 4 / 3, 1e-12),
        Check("three blocks: estimated distance from the flow", evidence(coarse, "distance"), error, 1e-12),
    )
    text = f"""
        `diagnose` asks nets of layers whether a gradient comes back through them, and residual nets whether each block can
        be undone and whether all of them are near the flow that they step along, by a second run at twice the depth.

        {told(found)}
    """
    equation = r"h\,\mathrm{Lip}(f) < 1,\qquad |x_h - x(T)| = 2\,|x_h - x_{h/2}| + O(h^2)"
    caption = f"Gradients back through {depth} plain layers, and through 200 residual blocks, of one width and one law."
    return Section("The verdict", text, equation, fig, caption, source(_diagnose_depth), checks)
