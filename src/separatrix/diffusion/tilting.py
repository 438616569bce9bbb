r"""How far the guided law is from the tilted one, on the line.

    guided    the flow of D = D_plain + scale (D_wanted - D_plain), from the prior down to sigma = 0
    tilted    q ~ p (p_wanted/p)^scale, which guidance is often said to sample

On the line a flow keeps the order of points. So it carries the quantiles of the prior to those of the guided law, and both
laws are known by their quantiles, up to the error of the flow and of a grid:

    distance^2 = int_0^1 (G(u) - T(u))^2 du        (Wasserstein's, G and T the quantile functions)

No sample is drawn. Of x | c ~ N(c, 1), c ~ N(0, tau^2), the variances are (1 + tau^2)^(1 - scale) and
(1 + tau^2)/(1 + scale tau^2): the laws agree at scale 0 and 1 alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked
from separatrix.calculus import on_grid
from separatrix.calculus.methods import Heun
from separatrix.diffusion.guidance import guided
from separatrix.diffusion.mixture import GaussianMixture
from separatrix.diffusion.predictions import PredictedFlow, Prediction
from separatrix.diffusion.processes import NoisingProcess
from separatrix.diffusion.schedules import UniformLogSNR
from separatrix.evolution import evolve
from separatrix.systems import ranges

_GRID, _REACH = 20_001, 12.0


class GuidanceGap(NamedTuple):
    """Quantiles of the guided and of the tilted law at (i + 1/2)/count, and Wasserstein's distance between them."""

    guided: Float[Array, "count"]
    tilted: Float[Array, "count"]
    distance: Float[Array, ""]


def guidance_gap(
    process: NoisingProcess, plain: GaussianMixture, wanted: GaussianMixture, scale: Any, *, count: Checked[int] = 400,
    steps: Checked[int] = 300, low: Any = 1e-3,
) -> GuidanceGap:  # fmt: skip
    r"""Return how far the law that guidance samples is from the tilted law, for mixtures on the line.

        W_2(guided, tilted),   tilted ~ plain (wanted/plain)^scale

    **Arguments:**

    - `process`: whose prior is close to the noised laws. `plain`, `wanted`: mixtures in one dimension, without and with
      the condition.
    - `scale`: of the guidance; 1 for none.
    - `count`: of quantiles. `steps`: of Heun's method, even in log-SNR down to sigma/alpha = `low`.

    **Returns:** a `GuidanceGap`.

    **Raises:** `ValueError` for mixtures of more dimensions, or a scale that is not finite or gives no tilted law.

    **Example:** at scale 1 the two laws are the same.

    >>> import separatrix as sx
    >>> D = sx.diffusion
    >>> both, one = D.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.5, 0.5]), D.GaussianMixture([1.0], [[1.0]], [0.5])
    >>> bool(D.guidance_gap(D.EDM(), both, one, 1.0, count=50).distance < 0.05)
    True

    **Reference:** Bradley & Nakkiran, *Classifier-free guidance is a predictor-corrector* (2024), section 3, for the laws
    and the closed form.
    """
    for name, mixture in (("plain", plain), ("wanted", wanted)):
        if mixture.means.shape[1] != 1:
            got = f"{mixture.means.shape[1]} dimensions"
            raise ValueError(explain(f"guidance_gap: {name}", got, "1", "Project both laws on a line."))
    ranges.finite("guidance_gap: scale", scale, "Take 1 to 5.")
    ranges.positive("guidance_gap: low", low, "Leave it out for 0.001.")
    shares = (
        jnp.arange(ranges.whole("guidance_gap: count", count, "Leave it out for 400."), dtype=float) + 0.5
    ) / count
    tilted = _tilted_quantiles(plain, wanted, scale, shares)
    before, after = (Prediction(process, m.score_under(process).clean, "clean") for m in (plain, wanted))
    times = UniformLogSNR(low).times(process, ranges.whole("guidance_gap: steps", steps, "Leave it out for 300."))
    start = jnp.asarray(process.prior_scale, shares.dtype) * jax.scipy.special.ndtri(shares)
    flow = PredictedFlow(guided(before, after, scale=scale))
    end = evolve(on_grid(flow, Heun(), times[:-1]), start[:, None], save="last").final
    # The last level has so little noise that the guess of the data is the end.
    found = guided(before, after, scale=scale).clean(times[-2], end)[:, 0]
    return GuidanceGap(found, tilted, jnp.sqrt(jnp.mean((found - tilted) ** 2)))


def _tilted_quantiles(plain: GaussianMixture, wanted: GaussianMixture, scale: Any, shares: Array) -> Array:
    """By the cumulated density on a grid over twelve spreads around all components."""
    means, spreads = (jnp.concatenate([getattr(m, n).ravel() for m in (plain, wanted)]) for n in ("means", "scales"))
    reach = _REACH * jnp.max(spreads)
    grid = jnp.linspace(jnp.min(means) - reach, jnp.max(means) + reach, _GRID)
    logs = [m.log_density(grid[:, None]) for m in (plain, wanted)]
    tilted = logs[0] + jnp.asarray(scale, grid.dtype) * (logs[1] - logs[0])
    if not is_traced(tilted) and int(jnp.argmax(tilted)) in (0, _GRID - 1):
        got, do = f"scale {float(scale):g}", "Take a scale at which the tilted density falls on both sides."
        raise ValueError(explain("guidance_gap: scale", got, "one whose tilted law has a mass", do))
    mass = jnp.cumsum(jax.nn.softmax(tilted))
    return jnp.interp(shares, mass - jax.nn.softmax(tilted) / 2, grid)
