"""From starts to orbits: roots, shifts along an orbit counted once, least periods, multipliers."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import State
from separatrix.diagnostics.equilibria.rest import leading_spectra
from separatrix.diagnostics.starts import is_single, rows_of, within
from separatrix.linear.closed_orbits import (
    SAMPLES,
    Anchor,
    ClosedOrbit,
    across,
    at_rest,
    begun,
    linearised,
    sampled,
)
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.linear.root_search import DENSE, converged, find_roots, jacobians, merged
from separatrix.linear.spectrum import product_spectrum

# Two points of one cycle of a map are found to rounding times what k steps make of it.
_REACH = 20.0
# A cycle of a flow that is smaller than this part of max(1, |x|) is a point of rest.
_POINT = 1e-5
# Samples lie 2 pi/240 of an orbit apart: a chord between two leaves a circle by 1e-4 of its radius.
_SAME = 1e-3
# Of states too large for a matrix, multipliers of each orbit.
_LEADING = 6


class CycleMultipliers(NamedTuple):
    """Of each orbit: multipliers, the largest first; |M f - f|/|f| of a flow, else NaN; what counts as neutral."""

    values: np.ndarray
    trivial: np.ndarray
    tolerances: np.ndarray


def found_orbits(
    orbit: ClosedOrbit, likes: State, periods: Any, total: int, region: Any, tol: float, max_steps: int
) -> dict[str, Any]:
    """The fields of `PeriodicOrbits`, from starts and guesses of their periods."""
    discrete, dtype = orbit.closes == "steps", jax.vmap(as_vector)(likes).dtype
    values, anchors = begun(orbit, likes, periods)
    # What a solver's error makes of a singular value is noise.
    cutoff = None if discrete else 1e-4 if is_single(dtype) else 1e-8
    found = find_roots(orbit, values, anchors, max_steps, cutoff)
    inside = within(found.values[:, : values.shape[1] // orbit.segments], region) if discrete else True
    closed = np.flatnonzero(converged(found, tol) & inside)
    times, rows = sampled(orbit, found.values[closed], jax.tree.map(lambda leaf: leaf[closed], anchors))
    rows, residuals = np.asarray(rows), np.asarray(found.residuals)[closed]
    if discrete:
        reach = _REACH * float(jnp.finfo(dtype).eps) ** 0.5
        first, owner = merged(rows[:, 0], residuals, np.full(len(rows), reach), rows)
        rows = rows[first]
        least = np.array([_least_period(row, reach) for row in rows], int)
        multipliers = _of_maps(orbit.system, rows, least, rows_of(likes, closed[first]))
    else:
        turns = np.array([_turns(row, orbit.segments) for row in rows], int)
        times = np.asarray(times) / np.maximum(turns, 1)
        first, owner = _distinct(times, rows, residuals, turns > 0)
        rows, least = _once(rows[first], turns[first]), times[first]
        multipliers = _of_flows(orbit, rows, least, rows_of(likes, closed[first]))
    counts = np.bincount(owner[owner >= 0], minlength=len(first))
    largest = np.max(np.abs(multipliers.values), axis=1, initial=0)
    order = np.lexsort((-counts, largest, least.round(9)))
    states = jax.vmap(lambda rows, like: jax.vmap(lambda row: from_vector(row, like))(rows))(
        jnp.asarray(rows[order]), rows_of(likes, closed[first][order])
    )
    numbers = (least.astype(dtype), *multipliers, residuals[first], counts)
    least, values, trivial, tolerances, residuals, counts = (jnp.asarray(part[order]) for part in numbers)
    return {
        "states": states,
        "coordinates": jnp.asarray(rows[order]),
        "periods": least,
        "multipliers": values,
        "residuals": residuals,
        "trivial": trivial,
        "tolerances": tolerances,
        "counts": counts,
        "starts": jnp.asarray(total),
        "failed": jnp.asarray(total - int(np.sum(owner >= 0))),
        "kind": {"steps": "map", "drive": "driven flow", "return": "flow"}[orbit.closes],
        "single_precision": is_single(dtype),
    }


def _least_period(orbit: np.ndarray, reach: float) -> int:
    """The least m that divides k with x_m = x_0."""
    k, size = len(orbit), max(1.0, float(np.linalg.norm(orbit[0])))
    for m in range(1, k):
        if k % m == 0 and np.linalg.norm(orbit[m] - orbit[0]) <= reach * size:
            return m
    return k


def _turns(orbit: np.ndarray, segments: int) -> int:
    """How many times over the orbit of a flow is run through; 0 for one that does not leave a point."""
    extent = float(np.max(np.linalg.norm(orbit - orbit[0], axis=1)))
    if not extent > _POINT * max(1.0, float(np.linalg.norm(orbit[0]))):
        return 0
    for turns in (8, 6, 5, 4, 3, 2):
        shift = SAMPLES // turns
        if SAMPLES % (turns * segments) == 0 and np.allclose(
            np.roll(orbit, -shift, axis=0), orbit, atol=1e-5 * extent, rtol=0
        ):
            return turns
    return 1


def _once(orbits: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """One turn of each, at the same number of times by trigonometric interpolation."""
    kept = [_refined(orbit[: SAMPLES // count], count) for orbit, count in zip(orbits, turns.tolist(), strict=True)]
    return np.stack(kept) if kept else orbits


def _refined(turn: np.ndarray, count: int) -> np.ndarray:
    if count == 1:
        return turn
    return np.fft.irfft(np.fft.rfft(turn, axis=0), SAMPLES, axis=0) * count


def _distinct(
    periods: np.ndarray, orbits: np.ndarray, residuals: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The orbits that stand for all, and for each which one it is: equal period, and a first point on the other."""
    owner, chosen = np.full(len(orbits), -1), []
    for row in np.argsort(residuals, kind="stable"):
        if owner[row] >= 0 or not moving[row]:
            continue
        extent = float(np.max(np.linalg.norm(orbits[row] - orbits[row][0], axis=1)))
        rest = np.flatnonzero((owner < 0) & moving & (np.abs(periods - periods[row]) <= 1e-5 * periods[row]))
        near = [_distance(orbits[other][0], orbits[row]) <= _SAME * extent for other in rest]
        owner[rest[np.array(near, bool)]] = len(chosen)
        owner[row] = len(chosen)
        chosen.append(row)
    return np.asarray(chosen, int), owner


def _distance(point: np.ndarray, orbit: np.ndarray) -> float:
    """From a point to the closed polygon through the samples of an orbit."""
    along = np.roll(orbit, -1, axis=0) - orbit
    where = np.clip(np.sum((point - orbit) * along, axis=1) / np.maximum(np.sum(along**2, axis=1), 1e-300), 0, 1)
    return float(np.min(np.linalg.norm(orbit + where[:, None] * along - point, axis=1)))


def _of_maps(map: Any, orbits: np.ndarray, periods: np.ndarray, likes: State) -> CycleMultipliers:
    """Spectrum of DF(x_{m-1}) ... DF(x_0) over the least period m."""
    count, k, size = orbits.shape
    if size > DENSE:
        closed = [ClosedOrbit(map, steps=int(m)) for m in periods]
        parts = [
            leading_spectra(orbit, orbits[row : row + 1, 0], Anchor(rows_of(likes, np.array([row]))), _LEADING)
            for row, orbit in enumerate(closed)
        ]
        values, tolerances = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else _NOTHING
        return CycleMultipliers(values, np.full(count, np.nan), tolerances)
    owners = Anchor(rows_of(likes, np.repeat(np.arange(count), k)))
    factors = jacobians(at_rest(map).image, orbits.reshape(-1, size), owners).astype(float)
    factors = factors.reshape(count, k, size, size)
    turns = [row[:m] for row, m in zip(factors, periods, strict=True)]
    return _multipliers(turns, turns, 100 * float(jnp.finfo(orbits.dtype).eps) ** 0.5, size)


_NOTHING = (np.zeros((0, _LEADING), complex), np.zeros(0))


def _of_flows(orbit: ClosedOrbit, orbits: np.ndarray, periods: np.ndarray, likes: State) -> CycleMultipliers:
    """Spectrum of the monodromy matrix; where M f = f, of what it does across the flow."""
    noise = 1e-2 if is_single(orbits.dtype) else 1e-6
    if not len(orbits):
        return _multipliers([], [], noise, orbits.shape[2] - (orbit.closes == "return"))
    points = jnp.asarray(orbits[:, :: SAMPLES // orbit.segments])
    factors, velocities = (np.asarray(part, float) for part in linearised(orbit, points, jnp.asarray(periods), likes))
    if orbit.closes == "drive":
        return _multipliers(list(factors), list(factors), noise, orbits.shape[2])
    reduced = [across(row, velocity) for row, velocity in zip(factors, velocities, strict=True)]
    found = _multipliers(list(factors), reduced, noise, orbits.shape[2] - 1)
    carried = [_product(row) @ velocity[0] - velocity[0] for row, velocity in zip(factors, velocities, strict=True)]
    sizes = np.linalg.norm(velocities[:, 0], axis=1)
    return found._replace(trivial=np.linalg.norm(np.stack(carried), axis=1) / sizes)


def _product(factors: np.ndarray) -> np.ndarray:
    """The last times ... times the first."""
    return functools.reduce(lambda product, factor: factor @ product, factors)


def _multipliers(whole: list[np.ndarray], reduced: list[np.ndarray], noise: float, size: int) -> CycleMultipliers:
    """Spectra of products of the reduced factors, and how near |mu| = 1 is neutral by the norms of the whole ones."""
    values = [product_spectrum(row)[0] for row in reduced]
    norms = [np.linalg.norm(_product(row), 2) for row in whole]
    empty = np.zeros((0, size), complex)
    return CycleMultipliers(
        np.stack(values) if values else empty,
        np.full(len(values), np.nan),
        noise * np.maximum(1.0, np.asarray(norms, float)),
    )
