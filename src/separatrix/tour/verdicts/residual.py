r"""The verdict on depth: the same random weights as plain layers and as residual blocks, and blocks that are too long.

A plain tanh layer of weights with variance q over the width multiplies squared gradients by q; a block x + h f(x) of
x' = -k x has Lipschitz constant h k, and L of them give (1 - k/L)^L.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import separatrix as sx
from separatrix.plotting import figure, plot
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.verdicts.told import evidence, told


class VerdictBlock(eqx.Module):
    """x -> x + h layer(x)."""

    layer: Any
    step_size: float = eqx.field(static=True)

    def __call__(self, x: Any) -> Any:
        return x + self.step_size * self.layer(x)


def _diagnose_depth(layers, start):
    """Plain layers and the same in residual blocks; a residual net of them; three blocks of a decay too fast for them."""
    h = 1 / (len(layers) - 1)
    plain = sx.from_layers(layers)
    blocks = sx.from_layers([VerdictBlock(layer, h) for layer in layers])
    net = sx.residual.ResNet(sx.residual.AlongDepth(layers), step_size=h)
    coarse = sx.residual.ResNet(lambda x: -4.0 * x, step_size=1 / 3)
    return {
        "Plain layers": sx.diagnose(plain, start, questions=["gradient_profile"]),
        "Residual blocks": sx.diagnose(blocks, start, questions=["gradient_profile"]),
        "Their residual net": sx.diagnose(net, start, questions=["survival"]),
        "Three blocks of x' = -4 x": sx.diagnose(coarse, start, questions=["linear_stability"]),
    }


def verdict(say: Callable[[str], None]) -> Section:
    """What `diagnose` says of the four."""
    say("the verdict on plain and residual nets")
    width, depth, gain = 32, 64, 0.5
    keys = jax.random.split(jax.random.key(3), depth + 2)
    blank = eqx.nn.Linear(width, width, use_bias=False, key=keys[0])
    weights = [jnp.sqrt(gain / width) * jax.random.normal(key, (width, width)) for key in keys[:depth]]
    layers = [eqx.nn.Sequential([eqx.tree_at(lambda m: m.weight, blank, w), eqx.nn.Lambda(jnp.tanh)]) for w in weights]
    found = _diagnose_depth(layers, 0.1 * jax.random.normal(keys[-1], (width,)))
    plain, residual, net, coarse = found.values()
    fig, axes = figure(2)
    for (name, diagnosis), place in zip(list(found.items())[:2], axes, strict=True):
        plot(diagnosis.answers["gradient_profile"], axes=place)
        place.set_title(name, fontsize=10)
    rate = float(np.log(evidence(plain, "not explode"))) / depth
    coarse_end, finer_end = (1 - 4 / 3) ** 3, (1 - 4 / 6) ** 6
    # Relative to the farthest that an orbit of 1, -1/3, 1/9, -1/27 gets from its start.
    error = 2 * abs(finer_end - coarse_end) / (4 / 3)
    lipschitz = evidence(coarse, "Lipschitz")
    # Half of a gradient's variance is lost at every layer: it vanishes, which is a caution, and it does not explode.
    vanishes = [f for f in plain.findings if f.status in ("BROKEN", "caution") and "not vanish" in f.name]
    checks = (
        # A layer adds a standard deviation of 1/sqrt(2 width) at most: 4 standard errors of all layers.
        Check("plain: ln of a gradient's growth a layer", rate, 0.5 * np.log(gain), 4 / (2 * width * depth) ** 0.5),
        Check("plain: claims on gradients that do not hold", float(len(vanishes)), 1.0),
        # As in the section on gradients: a standard deviation of sqrt(gain/width)/sqrt(depth), 4 of them and 0.4 %.
        Check("residual: growth of a gradient over all blocks", evidence(residual, "not explode"), 1.0, 0.07),
        Check("residual: claims that do not hold", float(len(residual.broken)), 0.0),
        Check("residual: step size times Lipschitz constant", evidence(net, "Lipschitz"), 1.0, relation="<="),
        Check("three blocks: step size times Lipschitz constant", lipschitz, 4 / 3, 1e-12),
        Check("three blocks: estimated distance from the flow", evidence(coarse, "distance"), error, 1e-12),
    )
    text = f"""
        `diagnose` asks nets of layers whether a gradient comes back through them, and residual nets whether each block can
        be undone and whether all of them are near the flow that they step along, by a second run at twice the depth.
        Weights drawn anew for each block make no smooth curve along the depth: gradients survive, but a flow is not near.

        {told(found)}
    """
    equation = r"h\,\mathrm{Lip}(f) < 1,\qquad |x_h - x(T)| = 2\,|x_h - x_{h/2}| + O(h^2)"
    caption = f"Gradients back through {depth} plain layers, and through {depth} residual blocks of the same weights."
    return Section("The verdict", text, equation, fig, caption, source(_diagnose_depth), checks)
