r"""The verdict on recurrent networks: how far back their gradients reach, by gain, over the rows of a few images.

A linear network with orthogonal weights of gain g multiplies a gradient by g^N over N steps; tanh can only take from that.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import separatrix as sx
from separatrix.plotting import figure, plot
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.verdicts.told import evidence, told


def _diagnose_nets(gains, rows):
    """Elman networks of 32 units that read rows of images, and the last of them without input and nonlinearity."""
    rest, found = jnp.zeros(32), {}
    elman = sx.recurrent.Elman(8, 32, key=jax.random.key(0))
    cells = {gain: sx.recurrent.with_recurrent_gain(elman, gain, key=jax.random.key(1)) for gain in gains}
    for gain, cell in cells.items():
        found[f"Gain {gain:g}"] = sx.diagnose(sx.from_cell(cell, rows), rest, questions=["gradient_profile"])
    weights = cells[gains[-1]].weight_hh
    linear = sx.from_cell(lambda u, x: weights @ x, rows)
    found[f"Linear, gain {gains[-1]:g}"] = sx.diagnose(linear, rest, questions=["gradient_profile"])
    return found


def verdict(digits: Any, say: Callable[[str], None]) -> Section:
    """What `diagnose` says of three gains."""
    say("the verdict on recurrent networks over gains")
    gains, images = (0.7, 1.7, 3.0), 5
    rows = jnp.asarray(digits.inputs, jnp.float64)[:images].reshape(-1, 8)
    found = _diagnose_nets(gains, rows)
    steps = len(rows)
    fig, axes = figure(4, width=2.6)
    for (name, diagnosis), place in zip(found.items(), axes, strict=True):
        plot(diagnosis.answers["gradient_profile"], axes=place)
        place.set_title(name, fontsize=10)
    nets = dict(zip(gains, found.values(), strict=False))
    linear = list(found.values())[-1]
    checks = [
        *(
            Check(f"gain {gain:g}: largest singular value of the weights", evidence(net, "gain of"), gain, 1e-12)
            for gain, net in nets.items()
        ),
        *(
            Check(
                f"gain {gain:g}: ln of the gradient's growth, at most {steps} ln gain",
                float(np.log(evidence(net, "not explode"))),
                steps * float(np.log(gain)) + 1e-9,
                relation="<=",
            )
            for gain, net in nets.items()
        ),
        Check(
            "linear: ln of the gradient's growth",
            float(np.log(evidence(linear, "not explode"))),
            steps * float(np.log(gains[-1])),
            1e-9,
        ),
        Check(
            "linear: steps to a factor of a thousand",
            evidence(linear, "reach of a gradient"),
            float(np.log(1e3) / np.log(gains[-1])),
            1e-9,
        ),
    ]
    text = f"""
        `diagnose` follows a gradient back over the {steps} rows of {images} images and asks whether it comes back at all;
        of a recurrent cell it also asks whether its gain would let it.

        {told(found)}
    """
    equation = (
        r"|\lambda_0| \;\leq\; s_{\max}(W)^N\,|\lambda_N|,\qquad \mathrm{linear:}\;\; |\lambda_0| = g^N\,|\lambda_N|"
    )
    caption = "Norm of the gradient and singular values of the Jacobian's products on the way back, by gain."
    return Section("The verdict", text, equation, fig, caption, source(_diagnose_nets), tuple(checks))
