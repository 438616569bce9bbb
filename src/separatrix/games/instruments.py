r"""What a generator does: which modes of a mixture it reaches, how its samples lie among data, whether it collapsed.

    modes       of mixture components m_k with deviation s: reached where the share of samples within 3 s is at least a
                quarter of what the data have there;  quality: the share of samples within 3 s of any
    precision   share of samples within the k-nearest-neighbour ball of a data point;  recall: the same, changed over
    density     mean number of such balls a sample is in, over k;  coverage: share of data balls with a sample in them
    spread      tr cov(samples)/tr cov(data), and exp of the entropy of the covariance spectrum over that of the data

A generator has collapsed where its samples are far less spread than the data, in size or in the number of directions,
and had been more so before.

**Reference:** Metz et al., *Unrolled generative adversarial networks* (2017), section 3.1, for the ring of Gaussians;
Kynkaanniemi et al., *Improved precision and recall metric* (2019), equations 1 and 2; Naeem et al., *Reliable fidelity
and diversity metrics* (2020), equations 3 to 6; Roy & Vetterli, *The effective rank* (2007).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from separatrix._errors import explain
from separatrix._types import Checked, Function
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.result import Result, Row
from separatrix.systems import ranges

_WITHIN = 3.0
_QUARTER = 0.25
# Below these a generator counts as collapsed: a tenth of the data's variance, or a third of its directions.
SPREAD, DIRECTIONS = 0.1, 1 / 3
# A run that has collapsed had been so many times as spread before; one that is slow had not.
_FALLEN = 3.0
_MOST = 20_000


class ModeCoverage(Result):
    """Which modes of a known mixture samples reach.

    - `shares`, shape (k,): of the samples within three deviations of each mode. `due`: the share that the data have
      there.
    - `quality`: the share of samples within three deviations of any.
    """

    shares: Float[Array, " k"]
    due: Float[Array, " k"]
    quality: Float[Array, ""]
    samples: int = eqx.field(static=True)

    @property
    def reached(self) -> Any:
        """Which modes hold at least a quarter of their due, shape (k,)."""
        return self.shares >= _QUARTER * self.due

    @property
    def count(self) -> Any:
        """How many modes are reached."""
        return jnp.sum(self.reached)

    def rows(self) -> list[Row]:
        error = np.sqrt(float(self.quality) * (1 - float(self.quality)) / self.samples)
        return [
            Row("modes reached", f"{int(self.count)} of {self.shares.shape[0]}"),
            Row("share of samples at a mode", self.quality, error),
            Row("share at each mode", self.shares),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        few = self.samples * float(np.min(np.asarray(self.due))) * _QUARTER
        return (f"only {few:.1f} samples count as reaching a mode: draw more",) if few < 5 else ()


def mode_coverage(samples: Any, modes: Any, deviation: Any, *, weights: Any = None) -> ModeCoverage:
    r"""Return which modes of a mixture of round Gaussians samples reach.

        reached:  share of samples with |x - m_k| < 3 s  >=  (1/4) w_k P(chi_d < 3)

    **Arguments:**

    - `samples`: shape (n, d). `modes`: m_k, shape (k, d). `deviation`: s > 0, of each component in each coordinate.
    - `weights`: w_k, shape (k,); equal by default.

    **Returns:** a `ModeCoverage`; the function runs under `jit` and `vmap`, as a metric of `fit`.

    **Raises:** `ValueError` for shapes that do not fit, or a deviation that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> modes = jnp.array([[0.0, 0.0], [5.0, 0.0]])
    >>> found = sx.games.mode_coverage(jnp.zeros((100, 2)), modes, 0.1)
    >>> int(found.count), float(found.quality)
    (1, 1.0)

    **Reference:** Metz et al. (2017), section 3.1; the law of the distance is chi of d degrees of freedom.
    """
    samples, modes = jnp.asarray(samples), jnp.asarray(modes)
    if samples.ndim != 2 or modes.ndim != 2 or samples.shape[1] != modes.shape[1]:
        got = f"samples {samples.shape} and modes {modes.shape}"
        raise ValueError(explain("mode_coverage", got, "(n, d) and (k, d)", "Flatten the examples."))
    ranges.positive("mode_coverage: deviation", deviation, "Pass that of a component.")
    k, dtype = modes.shape[0], samples.dtype
    shares = jnp.full(k, 1 / k, dtype) if weights is None else jnp.asarray(weights, dtype)
    if shares.shape != (k,):
        do = "Give one weight for each mode."
        raise ValueError(explain("mode_coverage: weights", f"shape {shares.shape}", f"({k},)", do))
    distances = jnp.linalg.norm(samples[:, None, :] - modes.astype(dtype)[None, :, :], axis=-1)
    near = distances < _WITHIN * jnp.asarray(deviation, dtype)
    inside = jax.scipy.special.gammainc(jnp.asarray(modes.shape[1] / 2, dtype), jnp.asarray(_WITHIN**2 / 2, dtype))
    return ModeCoverage(
        jnp.mean(near, axis=0, dtype=dtype), shares * inside, jnp.mean(near.any(axis=1), dtype=dtype), samples.shape[0]
    )


class SampleQuality(Result):
    """How samples lie among data: fidelity (`precision`, `density`) and diversity (`recall`, `coverage`).

    `expected_coverage`: that of data by other data of the same law.
    """

    precision: Float[Array, ""]
    recall: Float[Array, ""]
    density: Float[Array, ""]
    coverage: Float[Array, ""]
    expected_coverage: Float[Array, ""]
    sizes: tuple[int, int] = eqx.field(static=True)
    neighbours: int = eqx.field(static=True)
    features: str = eqx.field(static=True)

    def rows(self) -> list[Row]:
        n, m = self.sizes

        def row(name: str, value: Any, of: int) -> Row:
            share = float(value)
            return Row(name, value, np.sqrt(max(share * (1 - share), 1 / of) / of))

        return [
            row("precision", self.precision, m),
            row("recall", self.recall, n),
            Row("density", self.density),
            row("coverage", self.coverage, n),
            Row("coverage of data by data", self.expected_coverage),
            Row("in", f"{self.features}, {self.neighbours} neighbours"),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        return ("precision and recall depend on the sizes of the samples: compare equal ones",)


def sample_quality(
    real: Any, fake: Any, *, neighbours: Checked[int] = 5, features: Checked[Function | None] = None
) -> SampleQuality:
    r"""Return precision, recall, density and coverage of samples among data.

        precision = P(y in some B_k(x_i)),   recall = P(x in some B_k(y_j)),
        density = (1/k) E #{i: y in B_k(x_i)},   coverage = P(B_k(x_i) holds some y)

    with B_k(x_i) the ball up to the k-th nearest neighbour of x_i in its own sample.

    **Arguments:**

    - `real`, `fake`: shape (n, ...) and (m, ...), at most 20,000 each. `neighbours`: k, from 1 to below n and m.
    - `features`: as of `frechet_distance`; the flattened points by default.

    **Returns:** a `SampleQuality`. Of one law density is 1 and coverage 1 - prod_{j=1}^{k} (n - j)/(n + m - j), on
    average.

    **Raises:** `ValueError` for samples that do not fit, or too few of them.

    **Example:**

    >>> import jax, separatrix as sx
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 500, 2))
    >>> found = sx.games.sample_quality(x, y)
    >>> bool(found.precision > 0.9), abs(float(found.coverage - found.expected_coverage)) < 0.06
    (True, True)

    **Reference:** Naeem et al. (2020), equations 3 to 6 and, for the expectation of coverage, equation 9.
    """
    name = "coordinates" if features is None else getattr(features, "name", getattr(features, "__name__", "features"))
    if features is not None:
        real, fake = features(real), features(fake)
    real, fake = (jnp.asarray(sample).reshape(len(sample), -1) for sample in (real, fake))
    n, m = real.shape[0], fake.shape[0]
    if real.shape[1] != fake.shape[1] or max(n, m) > _MOST:
        got = f"{real.shape} and {fake.shape}"
        do = f"Compare like with like, at most {_MOST} of each."
        raise ValueError(explain("sample_quality: samples", got, "points of one shape", do))
    do = "Draw more samples, or ask for fewer neighbours."
    k = ranges.whole("sample_quality: neighbours", neighbours, do, most=min(n, m) - 1)
    precision, recall, density, coverage = _quality(real, fake.astype(real.dtype), k)
    j = np.arange(1, k + 1)
    # All k nearest of a data point, among the n - 1 other data and the m samples, are data.
    expected = 1 - np.prod((n - j) / (n + m - j))
    return SampleQuality(precision, recall, density, coverage, jnp.asarray(expected), (n, m), k, name)


@eqx.filter_jit
def _quality(real: Any, fake: Any, k: int) -> tuple[Any, Any, Any, Any]:
    def squared(x: Any, y: Any) -> Any:
        square = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None, :] - 2 * x @ y.T
        return jnp.maximum(square, 0)

    def radii(x: Any) -> Any:
        own = squared(x, x) + jnp.diag(jnp.full(x.shape[0], jnp.inf, x.dtype))
        return -jax.lax.top_k(-own, k)[0][:, -1]

    of_real, of_fake, across = radii(real), radii(fake), squared(real, fake)
    inside = across <= of_real[:, None]
    dtype = real.dtype
    return (
        jnp.mean(inside.any(axis=0), dtype=dtype),
        jnp.mean((across <= of_fake[None, :]).any(axis=1), dtype=dtype),
        jnp.mean(jnp.sum(inside, axis=0, dtype=dtype)) / k,
        jnp.mean(inside.any(axis=1), dtype=dtype),
    )


class Collapse(Result):
    """Whether samples are far less spread than data.

    - `spread`: tr cov(samples)/tr cov(data). `directions`: the effective number of directions over that of the data.

    As a metric of `fit` it is recorded with a leading axis: a row for each measurement.
    """

    spread: Float[Array, "*records"]
    directions: Float[Array, "*records"]

    @property
    def collapsed(self) -> Any:
        """Whether the spread is below a tenth, or the directions below a third (an array under `vmap`)."""
        return ~((self.spread >= SPREAD) & (self.directions >= DIRECTIONS))

    def rows(self) -> list[Row]:
        verdict = "collapsed" if bool(self.collapsed) else "spread out"
        return [
            Row("verdict", verdict),
            Row("variance over that of the data", self.spread),
            Row("directions over those of the data", self.directions),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        return ()

    def findings(self) -> list[Finding]:
        """What `diagnose` says of it."""
        do = "Go back to an earlier checkpoint; add a penalty (see advise), or let the discriminator see whole batches."
        cause = "the generator puts its samples where few of the data are: it has collapsed, or has not spread yet"
        return [
            Finding("variance of the samples over that of the data", float(self.spread), ">=", SPREAD, cause, do),
            Finding("directions of the samples over those of the data", float(self.directions), ">=", DIRECTIONS,
                    cause, do),
        ]  # fmt: skip


def collapse(samples: Any, data: Any) -> Collapse:
    r"""Return how spread samples are beside the data: a headless alarm, cheap enough for every measurement of a run.

        spread = tr C_s/tr C_d,   directions = exp(H(p_s) - H(p_d)),   p the eigenvalues of a covariance over their sum

    **Arguments:** `samples`, `data`: shape (n, ...) and (m, ...), two points each at least.

    **Returns:** a `Collapse`; the function runs under `jit` and `vmap`.

    **Raises:** `ValueError` for points of different shapes.

    **Example:** all on one point; all on one line.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> data = jax.random.normal(jax.random.key(0), (500, 4))
    >>> point, line = 0.01 * data, data * jnp.array([[1.0, 0.0, 0.0, 0.0]])
    >>> [bool(sx.games.collapse(samples, data).collapsed) for samples in (data, point, line)]
    [False, True, True]

    **Reference:** Roy & Vetterli, *The effective rank: a measure of effective dimensionality* (2007), section 2.
    """
    samples, data = jnp.asarray(samples), jnp.asarray(data)
    if samples.shape[1:] != data.shape[1:] or samples.ndim < 2 or min(samples.shape[0], data.shape[0]) < 2:
        got = f"shapes {samples.shape} and {data.shape}"
        raise ValueError(explain("collapse", got, "(n, ...) and (m, ...) alike", "Pass samples first, then data."))
    own, of_data = (_covariance_spectrum(x.reshape(x.shape[0], -1)) for x in (samples, data))
    return Collapse(jnp.sum(own) / jnp.sum(of_data), jnp.exp(_entropy(own) - _entropy(of_data)))


class CollapseInRun(Result):
    """Whether a run collapsed, which one record cannot tell from a run that has not spread yet.

    - `alarms`, shape (n,): at which records the samples are far less spread than the data, and than they had been.
    - `peak`: the largest spread seen.
    """

    alarms: Bool[Array, " n"]
    peak: Float[Array, ""]

    @property
    def collapsed(self) -> Any:
        """Whether the alarm rings at the last record (an array under `vmap`)."""
        return self.alarms[-1]

    @property
    def first(self) -> int | None:
        """The first record of the collapse in which the run ended; None for none."""
        quiet = np.flatnonzero(~np.asarray(self.alarms))
        since = int(quiet[-1]) + 1 if len(quiet) else 0
        return None if since == len(self.alarms) else since

    def rows(self) -> list[Row]:
        since = "no" if self.first is None else f"since record {self.first}"
        return [Row("collapsed", since), Row("largest spread over that of the data", self.peak)]

    @property
    def cautions(self) -> tuple[str, ...]:
        if self.first is None and float(self.peak) < SPREAD:
            return ("the samples were never spread: the generator is slow, or collapsed before the first record",)
        return ()


def collapse_in(records: Checked[Collapse]) -> CollapseInRun:
    r"""Return whether a run collapsed: its samples are far less spread than the data now, and were not before.

        spread_n < 1/10 or directions_n < 1/3,   and one of them below a third of the largest that it had been

    **Arguments:** `records`: a `Collapse` for each measurement, as a metric of `fit` returns them: fields of shape (n,).

    **Returns:** a `CollapseInRun`; the function runs under `jit` and `vmap`.

    **Raises:** `TypeError` for anything else, `ValueError` for a single record.

    **Example:** one that learns and collapses, and one that is slow.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> whole = jnp.ones(3)
    >>> falls = sx.games.collapse_in(sx.games.Collapse(jnp.array([0.05, 0.9, 0.01]), whole))
    >>> rises = sx.games.collapse_in(sx.games.Collapse(jnp.array([0.01, 0.02, 0.05]), whole))
    >>> bool(falls.collapsed), falls.first, bool(rises.collapsed)
    (True, 2, False)

    **Reference:** as `collapse`; the comparison with the past is that of a cumulative maximum.
    """
    if not isinstance(records, Collapse):
        do = "Pass what a metric of fit recorded: metrics={'spread': lambda model: sx.games.collapse(...)}."
        raise TypeError(explain("collapse_in: records", type(records).__name__, "a Collapse", do))
    if jnp.ndim(records.spread) != 1 or records.spread.shape[0] < 2:
        got = f"spread of shape {jnp.shape(records.spread)}"
        raise ValueError(explain("collapse_in: records", got, "two records or more, (n,)", "Measure more often."))
    peaks = [jax.lax.cummax(jnp.nan_to_num(values)) for values in (records.spread, records.directions)]
    fallen = [
        ~(values >= peak / _FALLEN) for values, peak in zip((records.spread, records.directions), peaks, strict=True)
    ]
    return CollapseInRun(records.collapsed & (fallen[0] | fallen[1]), peaks[0][-1])


def _covariance_spectrum(points: Any) -> Any:
    off = points - jnp.mean(points, axis=0, keepdims=True)
    return jnp.linalg.svd(off, compute_uv=False) ** 2 / (points.shape[0] - 1)


def _entropy(values: Any) -> Any:
    share = values / jnp.maximum(jnp.sum(values), jnp.finfo(values.dtype).tiny)
    return -jnp.sum(jax.scipy.special.xlogy(share, share))
