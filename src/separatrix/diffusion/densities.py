r"""How likely: densities of many points with the error of their probes, bits a dimension, and the dimension there.

    log p(x) = log p_T(x(T)) + int div v dt,   div v exact, or the mean over m probes z of z^T (dv/dx) z, E z z^T = I

m probes go along one path of x, so that their spread gives the standard error of what is reported. Numbers in B levels, k,
become a density by uniform dequantisation, k + u: then

    bits a dimension = -E log2 p(k + u)/d >= -E log2 P(k)/d,   P(k) = int p over the cell of k      (Jensen)

At a clean point x of data that lie near a surface, d + sigma^2 (div s + |s|^2) is the dimension of that surface as sigma
goes to 0. (Averaged over noised points it is d, whatever the data: E[div s + |s|^2] = 0.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain, unknown
from separatrix._tree import is_traced
from separatrix._types import Checked, Key, Scalar, State
from separatrix.calculus import on_grid
from separatrix.calculus.methods import Heun
from separatrix.diffusion.predictions import PredictedFlow, Prediction
from separatrix.diffusion.schedules import UniformLogSNR, times_of
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.flow import Flow

PROBES = ("rademacher", "gaussian")


class LogDensities(NamedTuple):
    """log p of points in nats, and the standard error that the probes leave; 0 for the exact trace."""

    values: Array
    standard_errors: Array


class Bits(NamedTuple):
    """Bits a dimension of each example and their errors by probes; the mean, and its standard error over examples."""

    each: Array
    probe_errors: Array
    mean: float
    standard_error: float


class LevelBits(NamedTuple):
    """Bits of a whole number: its entropy, the least; and what the best normal density of k + u costs."""

    entropy: Float[Array, ""]
    normal: Float[Array, ""]


class ProbedFlow(Flow):
    """d/dt (x, l) = (v, z^T (dv/dx) z for each probe), or l the exact divergence."""

    flow: Flow
    probes: Any  # (m, *x.shape), or None

    def velocity(self, t: Scalar, state: State) -> State:
        x = state[0]
        exact = self.probes is None
        basis = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape) if exact else self.probes
        velocity, push = jax.linearize(lambda y: self.flow.velocity(t, y), x)
        traces = jax.vmap(lambda z: jnp.vdot(z, push(z)))(basis)
        return velocity, jnp.sum(traces)[None] if exact else traces


def log_density(
    prediction: Prediction, points: Array, *, probes: Checked[int | None] = None, probe: Checked[str] = "rademacher",
    key: Key | None = None, steps: Checked[int] = 100, schedule: Any = None, batch_size: Checked[int] = 256,
) -> LogDensities:  # fmt: skip
    r"""Return log p of points under the law that the probability flow gives.

        log p(x) = log p_T(x(T)) + int div v dt

    **Arguments:**

    - `prediction`: of batches of one, as all of this package. `points`: clean, shape (B, ...).
    - `probes`: None for the exact trace, one derivative for each dimension; or m, as many derivatives a step.
    - `probe`: "rademacher", signs, of the smaller variance; or "gaussian". `key`: of the probes.
    - `steps`, `schedule`: of Heun's method upwards; `UniformLogSNR()` by default, without its last time 0: the density is
      that of data with so little noise.
    - `batch_size`: points at once, which bounds the memory.

    **Returns:** `LogDensities`, in nats.

    **Raises:** `ValueError` for points that are whole numbers or none, probes without a key, a kind of probes without
    probes, or sizes below 1; `TypeError` for a schedule that is none.

    **Example:** a standard normal law at 0.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> normal = sx.diffusion.Prediction(sx.diffusion.VP(), lambda t, x: -x, "score")
    >>> round(float(sx.diffusion.log_density(normal, jnp.zeros((1, 1))).values[0]), 3)
    -0.919

    **Reference:** Song et al. (2021), appendix D.2; Hutchinson (1989), Grathwohl et al. (2019), for the probes.
    """
    _check_points("log_density", points)
    ranges.whole("log_density: batch_size", batch_size, "Leave it out for 256.")
    count = _checked_probes("log_density", probes, key)
    if probe not in PROBES:
        raise ValueError(unknown("log_density: probe", probe, PROBES, "Take rademacher."))
    if count is None and probe != PROBES[0]:
        raise ValueError(explain("log_density: probe", f"{probe!r} without probes", "none", "Say how many: probes=8."))
    process = prediction.process
    ranges.whole("log_density: steps", steps, "Leave it out for 100.", least=2)
    times = times_of("log_density", UniformLogSNR() if schedule is None else schedule, process, steps + 1)
    rising = times[:-1][::-1] if float(times[-1]) == 0 else times[::-1]
    drawn, whole_way = jax.random.key(0) if key is None else key, bool(rising[-1] == process.horizon)

    def one(x: Array, key: Key) -> tuple[Array, Array]:
        draw = jax.random.rademacher if probe == "rademacher" else jax.random.normal
        given = None if count is None else draw(key, (count, *x.shape), x.dtype)
        alpha = jnp.asarray(process.marginal(jnp.asarray(rising[0], x.dtype))[0], x.dtype)
        flow = ProbedFlow(_OneFlow(PredictedFlow(prediction)), given)
        start = (alpha * x, jnp.zeros(1 if count is None else count, x.dtype))
        end, gained = evolve(on_grid(flow, Heun(), rising), start, save="last").final
        error = jnp.zeros((), x.dtype) if count is None or count == 1 else jnp.std(gained, ddof=1) / count**0.5
        spread = jnp.asarray(process.prior_scale if whole_way else process.marginal(rising[-1])[1], x.dtype)
        prior = jnp.sum(-0.5 * (end / spread) ** 2 - jnp.log(spread) - 0.5 * jnp.log(2 * jnp.pi).astype(x.dtype))
        return prior + jnp.mean(gained) + x.size * jnp.log(alpha), error

    whole = jax.jit(jax.vmap(one))
    keys = jax.random.split(drawn, points.shape[0])
    cuts = range(0, points.shape[0], batch_size)
    parts = [whole(points[at : at + batch_size], keys[at : at + batch_size]) for at in cuts]
    values, errors = (jnp.concatenate([part[i] for part in parts]) for i in (0, 1))
    return LogDensities(values, errors)


def bits_per_dimension(
    prediction: Prediction, levels: Any, *, key: Key, count: Checked[int] = 256, center: Any = 0.0, spread: Any = 1.0,
    **settings: Any,
) -> Bits:  # fmt: skip
    r"""Return the bits a dimension that whole numbers cost under a model, by uniform dequantisation: an upper bound.

        -log2 p(k + u)/d,   u uniform in [0, 1)^d

    **Arguments:**

    - `prediction`: of data x = ((k + u)/count - center)/spread. `levels`: k, whole numbers from 0 to count - 1, (B, ...).
    - `key`: of u, and of probes. `count`: how many levels. `center`, `spread`: the scale of the data, spread above 0.
    - `settings`: for `log_density`: `probes`, `steps`, ...

    **Returns:** `Bits`.

    **Raises:** `TypeError` for levels that are no integers, `ValueError` for those outside, and as `log_density`.

    **Example:** two levels that are tossed: one bit, at least.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> normal = sx.diffusion.Prediction(sx.diffusion.VP(), lambda t, x: -x, "score")
    >>> levels = jnp.arange(64)[:, None] % 2
    >>> found = sx.diffusion.bits_per_dimension(normal, levels, key=jax.random.key(0), count=2, center=0.5, spread=0.3)
    >>> 1.0 < found.mean < 1.5
    True

    **Reference:** Theis, van den Oord & Bethge, *A note on the evaluation of generative models* (2016), section 3.1.
    """
    ranges.indices("bits_per_dimension: levels", jnp.asarray(levels), count, "Pass the levels of pixels.")
    ranges.positive("bits_per_dimension: spread", spread, "Pass the standard deviation by which data were divided.")
    noise_key, probe_key = jax.random.split(key)
    dtype = (1.0 * jnp.asarray(spread)).dtype
    continuous = (jnp.asarray(levels, dtype) + jax.random.uniform(noise_key, jnp.shape(levels), dtype)) / count
    found = log_density(prediction, (continuous - center) / spread, key=probe_key, **settings)
    size = int(np.prod(jnp.shape(levels)[1:]))
    each = (jnp.log(count * jnp.asarray(spread, dtype)) - found.values / size) / jnp.log(2.0)
    error = float(jnp.std(each, ddof=1) / len(each) ** 0.5) if len(each) > 1 else float("nan")
    return Bits(each, found.standard_errors / size / jnp.log(2.0), float(jnp.mean(each)), error)


def level_bits(shares: Any) -> LevelBits:
    r"""Return what whole numbers of a known law cost: the least, and by the best normal density of k + u.

        entropy = -sum_k P(k) log2 P(k),   normal = 1/2 log2(2 pi e (Var k + 1/12)),   u uniform in [0, 1)

    No model of one number costs fewer bits than its entropy. The second is what `bits_per_dimension` gives, on average, of
    the normal law with the mean and the variance of k + u: what is above it has learned less than two moments.

    **Arguments:**

    - `shares`: P(k), shape (K,), at least 0, of sum 1; or counts of a histogram over their sum.

    **Returns:** `LevelBits`.

    **Raises:** `ValueError` for another shape, values that are negative or not finite, or another sum.

    **Example:** N(127.5, 10^2), rounded to one of 256 levels.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> edges = (jnp.arange(257.0) - 128) / 10
    >>> found = sx.diffusion.level_bits(jnp.diff(jax.scipy.stats.norm.cdf(edges)))
    >>> round(float(found.entropy), 3), round(float(found.normal), 3)
    (5.37, 5.37)

    **Reference:** Theis, van den Oord & Bethge (2016), section 3.1; Cover & Thomas, *Elements of information theory*
    (2006), theorem 8.6.5, for the normal law.
    """
    do = "Pass counts of each level over their sum."
    mass = jnp.asarray(shares, float)
    if mass.ndim != 1 or mass.size < 1:
        raise ValueError(explain("level_bits: shares", f"shape {mass.shape}", "(K,)", do))
    ranges.nonnegative("level_bits: shares", mass, do)
    if not is_traced(mass) and not abs(float(jnp.sum(mass)) - 1) <= float(jnp.finfo(mass.dtype).eps) ** 0.5:
        raise ValueError(explain("level_bits: shares", f"a sum of {float(jnp.sum(mass)):g}", "1", do))
    levels = jnp.arange(mass.size, dtype=mass.dtype)
    variance = jnp.sum(mass * (levels - jnp.sum(mass * levels)) ** 2)
    entropy = -jnp.sum(jax.scipy.special.xlogy(mass, mass)) / jnp.log(2.0)
    return LevelBits(entropy, 0.5 * jnp.log2(2 * jnp.pi * jnp.e * (variance + 1 / 12)))


def local_dimension(
    prediction: Prediction, points: Array, sigma: Any, *, probes: Checked[int | None] = None, key: Key | None = None
) -> Float[Array, "points"]:
    r"""Return how many dimensions the data have near clean points, at a level of noise.

        d + sigma^2 (div s + |s|^2),   s the score at alpha x and noise sigma

    **Arguments:**

    - `prediction`: a `Prediction`. `points`: clean data, shape (B, ...). Noised points would give d for any data.
    - `sigma`: sigma/alpha at which to look: below what the data vary by along their surface, above its thickness.
    - `probes`, `key`: as in `log_density`.

    **Returns:** shape (B,).

    **Raises:** `ValueError` for points that are whole numbers or none, a level that is not positive, or probes without a
    key.

    **Example:** data at one point have no dimension.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> point = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: 0 * x, "clean")
    >>> abs(sx.diffusion.local_dimension(point, jnp.zeros((1, 5)), 0.1)).round(9).tolist()
    [0.0]

    **Reference:** Tempczyk et al., *LIDL* (2022), theorem 1; Kamkari et al., *A geometric view of data complexity* (2024),
    equation 8 (FLIPD).
    """
    _check_points("local_dimension", points)
    count = _checked_probes("local_dimension", probes, key)
    ranges.positive("local_dimension: sigma", sigma, "Pass a level between the thickness and the spread of the data.")
    process = prediction.process
    t = process.time_of(jnp.asarray(sigma, points.dtype))
    alpha, noise = (jnp.asarray(v, points.dtype) for v in process.marginal(t))
    drawn = jax.random.key(0) if key is None else key

    def one(x: Array, key: Key) -> Array:
        score, push = jax.linearize(lambda y: prediction.score(t, y[None])[0], alpha * x)
        basis = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
        basis = basis if count is None else jax.random.rademacher(key, (count, *x.shape), x.dtype)
        traces = jax.vmap(lambda z: jnp.vdot(z, push(z)))(basis)
        divergence = jnp.sum(traces) if count is None else jnp.mean(traces)
        return x.size + noise**2 * (divergence + jnp.sum(score**2))

    return jax.vmap(one)(points, jax.random.split(drawn, points.shape[0]))


def _check_points(what: str, points: Any) -> None:
    """Refuse what is no array of at least one point, in floating-point numbers."""
    shape, dtype = jnp.shape(points), jnp.result_type(points)
    if len(shape) < 2 or shape[0] < 1 or not jnp.issubdtype(dtype, jnp.floating):
        do = "Pass points of shape (B, ...) as floating-point numbers; for whole numbers there is bits_per_dimension."
        raise ValueError(explain(f"{what}: points", f"shape {shape} of {dtype}", "(B, ...) of floats", do))


def _checked_probes(what: str, probes: Any, key: Any) -> int | None:
    """How many probes; None for the exact trace."""
    if probes is None:
        return None
    if key is None:
        raise ValueError(explain(f"{what}: key", "None with probes", "a key", "Pass jax.random.key(0)."))
    return ranges.whole(f"{what}: probes", probes, "Leave it out for the exact trace.")


class _OneFlow(Flow):
    """A flow of batches on one point."""

    flow: Flow

    def velocity(self, t: Scalar, state: State) -> State:
        return self.flow.velocity(t, jnp.asarray(state)[None])[0]
