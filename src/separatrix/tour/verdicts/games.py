r"""The verdict on the smallest GAN: whether simultaneous steps can reach its equilibrium, and how long they may be.

The field's eigenvalues -g/2 +- i sqrt(1/4 - g^2/4) have |lambda|^2 = 1/4: simultaneous descent is stable for h < 4 g, and
the share of its Jacobian that turns is (1/2)/(1/2 + g^2).
"""

from collections.abc import Callable

import jax.numpy as jnp

import separatrix as sx
from separatrix.plotting import figure, plot
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.verdicts.told import evidence, told


def _diagnose_gans(penalties, step_size):
    """The field of the Dirac-GAN at its equilibrium, and simultaneous descent along it."""
    rest = (jnp.array(0.0), jnp.array(0.0))
    found = {}
    for penalty in penalties:
        game = sx.games.DiracGAN(penalty)
        found[f"Field, penalty {penalty:g}"] = sx.diagnose(
            sx.games.field(game), rest, questions=["linear_stability", "field_split"]
        )
        descent = sx.games.SimultaneousDescent(game, step_size)
        found[f"Simultaneous steps of {step_size:g}, penalty {penalty:g}"] = sx.diagnose(
            descent, rest, questions=["linear_stability"]
        )
    return found


def verdict(say: Callable[[str], None]) -> Section:
    """What `diagnose` says of it without a penalty, and with two."""
    say("the verdict on the smallest GAN")
    penalties, h = (0.0, 0.3, 1.0), 1.0
    found = _diagnose_gans(penalties, h)
    fields, steps = list(found.values())[::2], list(found.values())[1::2]
    fig, axes = figure(3, width=2.9)
    for penalty, diagnosis, place in zip(penalties, steps, axes, strict=True):
        plot(diagnosis.answers["linear_stability"], axes=place)
        place.set_title(f"penalty {penalty:g}: {diagnosis.answers['linear_stability'].verdict}", fontsize=10)
    checks = []
    for penalty, field, step in zip(penalties, fields, steps, strict=True):
        edge = evidence(field, "largest stable step size")
        # The double eigenvalue at penalty 1 is known to the root of rounding.
        checks.append(Check(f"penalty {penalty:g}: largest stable step size, 4 g", edge, 4 * penalty, 1e-6))
        turning = evidence(field, "rotation index")
        checks.append(Check(f"penalty {penalty:g}: rotation index", turning, 0.5 / (0.5 + penalty**2), 1e-12))
        radius = abs(complex(1 - h * penalty / 2, h * (1 / 4 - penalty**2 / 4) ** 0.5))
        measured = evidence(step, "spectral radius")
        checks.append(Check(f"penalty {penalty:g}: spectral radius of steps of {h:g}", measured, radius, 1e-7))
    text = f"""
        All of this chapter in one call: `diagnose` asks a system the questions that apply to it and judges the answers; to
        a game it adds the step size up to which its equilibrium is stable.

        {told(found)}
    """
    equation = r"h\; <\; \min_\lambda\, \frac{-2\,\mathrm{Re}\,\lambda}{|\lambda|^2} \;=\; 4\,\gamma"
    caption = f"Multipliers of simultaneous steps of size {h:g}, by R1 penalty; the dashed circle is the border."
    return Section("The verdict", text, equation, fig, caption, source(_diagnose_gans), tuple(checks))
