r"""How far the law that guidance samples is from the tilted one.

    guided    the flow of D = D_plain + scale (D_wanted - D_plain), from the prior down to sigma = 0
    tilted    q ~ p (p_wanted/p)^scale, which guidance is often said to sample

On the line a flow keeps the order of points. So it carries the quantiles of the prior to those of the guided law, and both
laws are known by their quantiles, up to the error of the flow and of a grid; no sample is drawn:

    distance^2 = int_0^1 (G(u) - T(u))^2 du        (Wasserstein's, G and T the quantile functions)

In d dimensions both laws are known by samples. Those of the tilted law are drawn by importance: many points of a mixture r,
each with the weight q(x)/r(x), of which as many are kept as are wanted, in proportion to their weights,

    r = (p + p_wanted + broad)/3,   broad: the components of p_wanted, as wide as the tail of q

and the distance is the sliced one: the root of the mean of distance^2 over directions.

Of x | c ~ N(c, 1), c ~ N(0, tau^2) the variances of each coordinate are (1 + tau^2)^(1 - scale) and
(1 + tau^2)/(1 + scale tau^2): the laws agree at scale 0 and 1 alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Key
from separatrix.calculus import on_grid
from separatrix.calculus.methods import Heun
from separatrix.diagnostics.samples.sliced import sliced_wasserstein
from separatrix.diffusion.guidance import guided
from separatrix.diffusion.mixture import GaussianMixture
from separatrix.diffusion.predictions import PredictedFlow, Prediction
from separatrix.diffusion.processes import NoisingProcess
from separatrix.diffusion.schedules import UniformLogSNR
from separatrix.evolution import evolve
from separatrix.systems import ranges

_GRID, _REACH = 20_001, 12.0
# Points drawn for each that is kept, and how many of equal weight they must be worth for each.
_DRAWN, _LEAST, _PERMUTATIONS = 20, 2, 10


class GuidanceGap(NamedTuple):
    """Guided and tilted law, and Wasserstein's distance between them.

    - `guided`, `tilted`: on the line their quantiles at (i + 1/2)/count, shape (count,); else samples, shape (count, d).
    - `distance`: Wasserstein's on the line, else the sliced one. `error`: its standard error, and `floor`: what two samples
      of one law show; both 0 on the line.
    """

    guided: Float[Array, "count *d"]
    tilted: Float[Array, "count *d"]
    distance: Float[Array, ""]
    error: Float[Array, ""]
    floor: Float[Array, ""]


def guidance_gap(
    process: NoisingProcess, plain: Checked[GaussianMixture], wanted: Checked[GaussianMixture], scale: Any, *,
    count: Checked[int | None] = None, steps: Checked[int] = 300, low: Any = 1e-3, key: Key | None = None,
) -> GuidanceGap:  # fmt: skip
    r"""Return how far the law that guidance samples is from the tilted law, for mixtures.

        W_2(guided, tilted),   tilted ~ plain (wanted/plain)^scale

    **Arguments:**

    - `process`: whose prior is close to the noised laws. `plain`, `wanted`: mixtures of one dimension d, without and with
      the condition: all classes, and one of them.
    - `scale`: of the guidance; 1 for none.
    - `count`: of quantiles, 400 by default; in d dimensions of samples, 2,000 by default. `steps`: of Heun's method, even
      in log-SNR down to sigma/alpha = `low`.
    - `key`: of the samples; none is needed on the line.

    **Returns:** a `GuidanceGap`.

    **Raises:** `TypeError` for anything but mixtures; `ValueError` for mixtures of two dimensions, several dimensions
    without a key, a scale that is not finite or gives no tilted law, or one whose law the samples do not reach.

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
        if not isinstance(mixture, GaussianMixture):
            do = "Pass sx.diffusion.GaussianMixture(weights, means, scales)."
            raise TypeError(explain(f"guidance_gap: {name}", type(mixture).__name__, "a GaussianMixture", do))
    dimensions = [mixture.means.shape[1] for mixture in (plain, wanted)]
    if dimensions[0] != dimensions[1]:
        got = f"{dimensions[0]} and {dimensions[1]} dimensions"
        raise ValueError(
            explain("guidance_gap: plain and wanted", got, "the same", "Give both their means in one space.")
        )
    if np.ndim(scale):
        do = "Take one after the other, or jax.vmap on the line."
        raise ValueError(explain("guidance_gap: scale", f"shape {np.shape(scale)}", "one number", do))
    ranges.finite("guidance_gap: scale", scale, "Take 1 to 5.")
    ranges.positive("guidance_gap: low", low, "Leave it out for 0.001.")
    line = dimensions[0] == 1
    if count is None:
        count = 400 if line else 2_000
    count = ranges.whole("guidance_gap: count", count, "Leave it out.", least=1 if line else 100)
    if not line and key is None:
        got, do = f"None in {dimensions[0]} dimensions", "Pass jax.random.key(0)."
        raise ValueError(explain("guidance_gap: key", got, "a key, for samples", do))
    # Refused before the flow is compiled, if there is none.
    tilted = _tilted_quantiles if line else _tilted_samples
    aim = tilted(plain, wanted, scale, count, key)
    before, after = (Prediction(process, m.score_under(process).clean, "clean") for m in (plain, wanted))
    times = UniformLogSNR(low).times(process, ranges.whole("guidance_gap: steps", steps, "Leave it out for 300."))
    standard = _standard(count, dimensions[0], key)
    start = jnp.asarray(process.prior_scale, standard.dtype) * standard
    flow = PredictedFlow(guided(before, after, scale=scale))
    end = evolve(on_grid(flow, Heun(), times[:-1]), start, save="last").final
    # The last level has so little noise that the guess of the data is the end.
    found, none = guided(before, after, scale=scale).clean(times[-2], end), jnp.zeros((), standard.dtype)
    if line:
        return GuidanceGap(found[:, 0], aim, jnp.sqrt(jnp.mean((found[:, 0] - aim) ** 2)), none, none)
    assert key is not None
    gap = sliced_wasserstein(found, aim, key=jax.random.fold_in(key, 2), permutations=_PERMUTATIONS)
    return GuidanceGap(found, aim, gap.value, gap.error, gap.floor)


def _standard(count: int, dimensions: int, key: Key | None) -> Array:
    """Quantiles of the standard normal law on the line, samples of it elsewhere, shape (count, d)."""
    if dimensions == 1:
        return jax.scipy.special.ndtri(_shares(count))[:, None]
    assert key is not None
    return jax.random.normal(jax.random.fold_in(key, 0), (count, dimensions), float)


def _shares(count: int) -> Array:
    return (jnp.arange(count, dtype=float) + 0.5) / count


def _tilted_samples(plain: GaussianMixture, wanted: GaussianMixture, scale: Any, count: int, key: Any) -> Array:
    """Points drawn broadly, kept in proportion to their weights."""
    if is_traced(scale, plain, wanted):
        do = "Call it outside of jit, once for each scale."
        raise ValueError(explain("guidance_gap", "a traced scale or law", "known ones, in several dimensions", do))
    # Far out q falls as exp(-fall |x|^2/2), by the widest components.
    widths = [float(jnp.max(mixture.scales)) for mixture in (plain, wanted)]
    fall = float(scale) / widths[1] ** 2 + (1 - float(scale)) / widths[0] ** 2
    if not fall > 0:
        got, do = f"scale {float(scale):g}", "Take a scale at which the tilted density falls on all sides."
        raise ValueError(explain("guidance_gap: scale", got, "one whose tilted law has a mass", do))
    broad = GaussianMixture(wanted.weights, wanted.means, jnp.maximum(wanted.scales, fall**-0.5))
    laws = plain, wanted, broad
    keys = jax.random.split(jax.random.fold_in(key, 1), 4)
    each = -(-_DRAWN * count // 3)
    points = jnp.concatenate([law.sample(k, each) for law, k in zip(laws, keys[:3], strict=True)])
    points = jax.random.permutation(keys[3], points)
    logs = jnp.stack([law.log_density(points) for law in laws])
    weights = jax.nn.softmax(logs[0] + float(scale) * (logs[1] - logs[0]) - jax.nn.logsumexp(logs, axis=0))
    worth = float(1 / jnp.sum(weights**2))
    if not worth >= _LEAST * count:
        got = f"{3 * each} points that are worth {worth:.0f} of the tilted law"
        do = "Take a scale nearer to 1, or laws in fewer dimensions."
        raise ValueError(explain("guidance_gap: scale", got, f"{_LEAST * count} at least", do))
    return points[jnp.minimum(jnp.searchsorted(jnp.cumsum(weights), _shares(count)), 3 * each - 1)]


def _tilted_quantiles(plain: GaussianMixture, wanted: GaussianMixture, scale: Any, count: int, key: Any) -> Array:
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
    return jnp.interp(_shares(count), mass - jax.nn.softmax(tilted) / 2, grid)
