r"""How well a net that runs on its own has learned a system: its attractor, its rhythms, its exponents.

    state-space divergence      D_stsp = int p(x) ln(p(x)/q(x)) dx
    power-spectrum distance     D_H = mean over columns of sqrt(1 - int sqrt(F(w) G(w)) dw)

p and q are the densities of the true and of the learned orbit: shares of the cubes of a grid, or sums of Gaussians of
one width around the points of each orbit. F and G are power spectra of unit mass, each the mean over half-overlapping
segments under Hann's window. D_stsp is 0 for equal densities and has no bound; D_H goes from 0 to 1.

An orbit of a chaotic system is compared with no orbit point by point: after some Lyapunov times even the true system
would fail. Errors are by the jackknife over B blocks of both orbits,

    error^2 = (B - 1)/B sum_b (D without block b - their mean)^2.

Two finite orbits of one system have a distance too: `floor` is that of the two halves of the true one.

**Reference:** Koppe et al., *Identifying nonlinear dynamical systems via generative recurrent neural networks with
applications to fMRI* (2019), equations 9 and 10, for D_stsp; Mikhaeil, Monfared & Durstewitz, *On the difficulty of
learning chaotic dynamics with RNNs* (2022), appendix, for D_H; Welch (1967), for the spectrum.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.diagnostics.along.lyapunov_spectrum import LyapunovSpectrum, lyapunov_spectrum
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.recurrent.forecasting import Forecaster
from separatrix.recurrent.reservoirs import checked_series
from separatrix.systems import ranges

_BLOCKS, _CENTRES, _CUBES = 8, 1500, 10_000_000
_NEARLY_NONE = 1e-6  # the share that a cube has in which the learned orbit never was


class OrbitDistance(Result):
    """How far a learned orbit is from a true one: `value`, with its `error`; `floor`: that of two halves of the true
    orbit."""

    value: Float[Array, ""]
    error: Float[Array, ""]
    floor: Float[Array, ""]
    what: str = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [Row(self.what, self.value, self.error), Row("of two halves of the true orbit", self.floor)]

    @property
    def cautions(self) -> tuple[str, ...]:
        value, floor, error = float(self.value), float(self.floor), float(self.error)
        if not np.isfinite(value):
            return ("the learned orbit is not finite",)
        within = value - floor < 2 * error
        return ("no larger than that of two halves of the true orbit: longer orbits would tell more",) if within else ()


def state_space_divergence(
    true: Any, learned: Any, *, bins: Checked[int | None] = None, width: Any = None
) -> OrbitDistance:
    r"""Return the Kullback-Leibler divergence of the density of a learned orbit from that of the true one, in nats.

        histogram:  sum_k p_k ln(p_k/q_k),      q_k = (n_k + a)/sum (n + a),  a = 1e-6 of the rows
        Gaussians:  mean over x of ln(p(x)/q(x)),   p = mean of N(x; x_l, w^2), x itself left out

    **Arguments:**

    - `true`, `learned`: shape (T, columns), T >= 64. Both are scaled by the standard deviations of the true one.
    - `bins`: cubes along each column, from the least to the largest true value; what lies beyond counts in the last.
    - `width`: w, standard deviation of the Gaussians, in spreads of a column. Give one of both. By default 30 bins up to
      three columns, else a width of 0.3.

    **Returns:** an `OrbitDistance`; infinite where the learned orbit is not finite.

    **Raises:** `ValueError` for orbits of other columns, too few rows, bins and a width, or more than 10^7 cubes.

    **Example:** two points, visited by halves and by quarters: (ln 2/3 + ln 2)/2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> true, learned = (jnp.tile(jnp.array(row), 16)[:, None] for row in ([0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]))
    >>> round(sx.recurrent.state_space_divergence(true, learned, bins=2).value.item(), 4)
    0.1438

    **Reference:** Koppe et al. (2019), equations 9 and 10; Hess et al. (2023), appendix, for the grid of 30.
    """
    if bins is not None and width is not None:
        raise ValueError(explain("state_space_divergence", "bins and a width", "one of both", "Leave one out."))
    true, learned = _pair("state_space_divergence", true, learned)
    if not np.isfinite(learned).all():
        return _of(np.inf, np.nan, np.nan, "state-space divergence, nats")
    scale = true.std(axis=0)
    columns = true.shape[1]
    if width is None and (bins is not None or columns <= 3):
        bins = ranges.whole("state_space_divergence: bins", 30 if bins is None else bins, "Take 30.", least=2)
        if bins**columns > _CUBES:
            got, do = f"{bins}^{columns}", "Take fewer bins, or a width."
            raise ValueError(explain("state_space_divergence: cubes", got, "at most 10^7", do))
        low, high = true.min(axis=0), true.max(axis=0)
        first, second = (_cubes(orbit, low, high, bins) for orbit in (true, learned))
        return _jackknifed(_of_cubes, first, second, "state-space divergence, nats")
    width = 0.3 if width is None else float(width)
    ranges.positive("state_space_divergence: width", width, "Take 0.3.")
    first, second = (_thinned(orbit / scale) for orbit in (true, learned))
    return _jackknifed(lambda p, q: _of_gaussians(p, q, width), first, second, "state-space divergence, nats")


def spectrum_distance(true: Any, learned: Any, *, segment: Checked[int | None] = None) -> OrbitDistance:
    r"""Return the Hellinger distance of the power spectra of two orbits, the mean over columns.

        D_H = sqrt(1 - sum_w sqrt(F_w G_w)),     sum F = sum G = 1

    **Arguments:** `true`, `learned`: shape (T, columns), T >= 64; `segment`: rows of a segment, by default a 32nd of the
    shorter orbit and 16 at least. Longer segments resolve finer rhythms, and fewer of them are averaged.

    **Returns:** an `OrbitDistance`, from 0 to 1; 1 for a learned orbit that is not finite, or does not move.

    **Raises:** `ValueError` for orbits of other columns or too few rows, or a segment longer than a quarter of one.

    **Example:** white noise beside x' = 0.9 x + noise: BC = sqrt(1 - 0.81) 2/pi K(0.9), K an elliptic integral.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> white = jax.random.normal(jax.random.key(0), (40_000, 1))
    >>> coloured = sx.evolve(sx.from_cell(lambda u, x: 0.9 * x + u, white), jnp.zeros(1)).states
    >>> round(sx.recurrent.spectrum_distance(white, coloured, segment=64).value.item(), 1)
    0.6

    **Reference:** Mikhaeil, Monfared & Durstewitz (2022), appendix; Welch (1967).
    """
    true, learned = _pair("spectrum_distance", true, learned)
    shorter = min(len(true), len(learned))
    size = max(16, shorter // 32) if segment is None else segment
    size = ranges.whole("spectrum_distance: segment", size, "Take 64.", least=4, most=shorter // 4)
    still = not np.isfinite(learned).all() or not (learned.std(axis=0) > 0).any()
    if still:
        return _of(1.0, np.nan, np.nan, "power-spectrum distance, Hellinger")
    first, second = (_powers(orbit, size) for orbit in (true, learned))
    return _jackknifed(_of_powers, first, second, "power-spectrum distance, Hellinger")


class Reconstruction(Result):
    """What a net that runs on its own has learned of a system.

    - `divergence`, `spectrum`: distances of its orbit from the true one.
    - `learned`: its exponents, in nats a row of the series. `true`: those of the system, in the same unit, or None.
    """

    divergence: OrbitDistance
    spectrum: OrbitDistance
    learned: LyapunovSpectrum
    true: Any

    @property
    def deviations(self) -> Float[np.ndarray, " k"]:
        """Learned less true exponents in joint standard errors; empty without true ones."""
        if self.true is None:
            return np.zeros(0)
        mine, theirs = self.learned, self.true
        count = min(len(mine.exponents), len(theirs.exponents))
        errors = np.hypot(mine.standard_errors[:count], theirs.standard_errors[:count])
        return np.asarray(mine.exponents[:count] - theirs.exponents[:count], float) / errors

    def rows(self) -> list[Row]:
        rows = [self.divergence.rows()[0], self.spectrum.rows()[0]]
        for name, found in (("learned", self.learned), ("true", self.true)):
            if found is not None:
                rows.append(Row(f"exponents, {name}", found.exponents, found.standard_errors))
                rows.append(Row(f"Kaplan-Yorke dimension, {name}", found.kaplan_yorke, found.kaplan_yorke_error))
        if self.true is not None:
            rows.append(Row("learned less true, in standard errors", self.deviations))
        return rows

    @property
    def cautions(self) -> tuple[str, ...]:
        found = [f"{where}: {word}" for where, one in (("divergence", self.divergence), ("spectrum", self.spectrum),
                                                       ("exponents", self.learned)) for word in one.cautions]  # fmt: skip
        return tuple(found)


def reconstruction(
    model: Forecaster,
    series: Any,
    *,
    listen: Checked[int],
    steps: Checked[int],
    count: Checked[int] = 3,
    true: Any = None,
) -> Reconstruction:
    r"""Compare what a forecaster does on its own with the system that it was taught.

    **Arguments:**

    - `model`: a `Forecaster` in float64. `series`: shape (T, columns), the truth, on rows that were not trained on.
    - `listen`: rows at first that it hears. `steps`: of its orbit; as many as the series has are compared well.
    - `count`: exponents, the largest. `true`: a `LyapunovSpectrum` of the system in nats a row (`lyapunov_spectrum` of
      the map that leads from row to row), or None.

    **Returns:** a `Reconstruction`.

    **Raises:** `ValueError` for a series that does not fit, or no longer than `listen` + 64.

    **Example:** a net that says minus what it hears has learned a period of two, and forgets all but that.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> series = jnp.tile(jnp.array([1.0, -1.0]), 150)[:, None]
    >>> cell = sx.recurrent.reservoir(1, 20, key=jax.random.key(0), spectral_radius=0.5)
    >>> model = sx.recurrent.train_reservoir(cell, series, washout=20)
    >>> found = sx.recurrent.reconstruction(model, series, listen=20, steps=279, count=1)
    >>> bool(found.divergence.value < 1e-3), bool(found.spectrum.value < 1e-3), bool(found.learned.exponents[0] < 0)
    (True, True, True)

    **Reference:** Hess et al. (2023), section 5.1; Pathak et al. (2017), for exponents of the learned net.
    """
    series = checked_series("reconstruction: series", series, 1)
    listen = ranges.whole("reconstruction: listen", listen, "Take 200.", most=len(series) - 64)
    steps = ranges.whole("reconstruction: steps", steps, "Take as many as the series has rows.", least=256)
    count = ranges.whole("reconstruction: count", count, "Take 3.")
    hidden = model.listen(series[:listen])
    path = evolve(model.loop(), hidden, steps=steps, save=model.said)
    orbit = model.unscaled(path.states)
    seen = lyapunov_spectrum(model.loop(), hidden, count=count, steps=steps)
    return Reconstruction(state_space_divergence(series, orbit), spectrum_distance(series, orbit), seen, true)


def _pair(what: str, true: Any, learned: Any) -> tuple[Any, Any]:
    true = np.asarray(checked_series(f"{what}: true", true, 64), float)
    learned = np.asarray(learned, float)
    if learned.ndim != 2 or learned.shape[1] != true.shape[1] or len(learned) < 64:
        expected = f"(T, {true.shape[1]}), T >= 64"
        raise ValueError(explain(f"{what}: learned", f"shape {learned.shape}", expected, "Let the net run longer."))
    if not (true.std(axis=0) > 0).all():
        do = "Leave that column out of both."
        raise ValueError(explain(f"{what}: true", "a constant column", "columns that change", do))
    return true, learned


def _jackknifed(measure: Callable[[Any, Any], float], true: Any, learned: Any, what: str) -> OrbitDistance:
    """A measure of two lists of rows, its error over blocks, and what it is of the halves of the first."""
    blocks = [np.array_split(np.arange(len(rows)), _BLOCKS) for rows in (true, learned)]
    without = [measure(np.delete(true, a, axis=0), np.delete(learned, b, axis=0)) for a, b in zip(*blocks, strict=True)]
    spread = np.sqrt((_BLOCKS - 1) * np.var(without))
    half = len(true) // 2
    return _of(measure(true, learned), spread, measure(true[:half], true[half:]), what)


def _of(value: float, error: float, floor: float, what: str) -> OrbitDistance:
    return OrbitDistance(jnp.asarray(value), jnp.asarray(error), jnp.asarray(floor), what)


def _cubes(orbit: Any, low: Any, high: Any, bins: int) -> Any:
    """The number of the cube of each row."""
    place = np.clip(((orbit - low) / (high - low) * bins).astype(int), 0, bins - 1)
    return np.ravel_multi_index(tuple(place.T), (bins,) * orbit.shape[1])


def _of_cubes(true: Any, learned: Any) -> float:
    cubes, counts = np.unique(true, return_counts=True)
    seen, often = np.unique(learned, return_counts=True)
    there = np.zeros(len(cubes))
    _, mine, theirs = np.intersect1d(cubes, seen, return_indices=True)
    there[mine] = often[theirs]
    p, q = counts / len(true), there / len(learned) + _NEARLY_NONE
    return float(np.sum(p * np.log(p / (q / (1 + _NEARLY_NONE * len(cubes))))))


def _thinned(orbit: Any) -> Any:
    return orbit[:: -(-len(orbit) // _CENTRES)]


def _of_gaussians(true: Any, learned: Any, width: float) -> float:
    """Mean of ln p - ln q over the true rows."""
    p = _log_density(true, true, width, own=True)
    q = _log_density(true, learned, width, own=False)
    return float(np.mean(p - q))


def _log_density(at: Any, centres: Any, width: float, *, own: bool) -> Any:
    """ln of the mean of exp(-|x - c|^2/(2 w^2)), up to what p and q share."""
    found = []
    for first in range(0, len(at), 500):
        rows = at[first : first + 500]
        squares = np.sum(rows**2, axis=1)[:, None] + np.sum(centres**2, axis=1) - 2 * rows @ centres.T
        logs = -squares / (2 * width**2)
        if own:
            logs[np.arange(len(rows)), first + np.arange(len(rows))] = -np.inf
        most = logs.max(axis=1, keepdims=True)
        found.append(most[:, 0] + np.log(np.sum(np.exp(logs - most), axis=1)))
    return np.concatenate(found) - np.log(len(centres) - own)


def _powers(orbit: Any, size: int) -> Any:
    """Power of each half-overlapping segment and column under Hann's window: (segments, frequencies, columns)."""
    centred = orbit - orbit.mean(axis=0)
    starts = np.arange(0, len(orbit) - size + 1, size // 2)
    pieces = centred[starts[:, None] + np.arange(size)] * np.hanning(size + 2)[1:-1, None]
    return np.abs(np.fft.rfft(pieces, axis=1)) ** 2


def _of_powers(true: Any, learned: Any) -> float:
    first, second = (powers.mean(axis=0) for powers in (true, learned))
    shares = [power / np.maximum(power.sum(axis=0), np.finfo(float).tiny) for power in (first, second)]
    return float(np.mean(np.sqrt(np.maximum(1 - np.sum(np.sqrt(shares[0] * shares[1]), axis=0), 0))))
