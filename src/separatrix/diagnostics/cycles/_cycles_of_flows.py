"""Cycles of a flow: shooting from each start, shifts along an orbit counted once, the least period, multipliers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import asarrays
from separatrix._types import State
from separatrix.diagnostics.cycles._shooting import SAMPLES, Shooting, begin, close_returns, monodromies, sampled
from separatrix.diagnostics.starts import is_single, rows_of, starting_states, warn_if_single
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.linear.root_search import converged, find_roots
from separatrix.systems.flow import Flow

# A cycle smaller than this part of max(1, |x|) is a point of rest.
_POINT = 1e-5
# Samples lie 2 pi/240 of an orbit apart: a chord between two leaves a circle by 1e-4 of its radius.
_SAME = 1e-3


def cycles_of_flow(
    flow: Flow, guesses: Any, region: Any, starts: int, *, period: Any, horizon: Any, driven: bool, segments: int,
    tol: float | None, max_steps: int,
) -> dict[str, Any]:  # fmt: skip
    """The fields of `PeriodicOrbits`."""
    likes = asarrays(starting_states("periodic_orbits", guesses, region, starts))
    dtype, total = jax.vmap(as_vector)(likes).dtype, len(jax.tree.leaves(likes)[0])
    warn_if_single("periodic_orbits", dtype)
    if horizon is not None:
        likes, period = close_returns(flow, likes, float(horizon))
        returned = np.flatnonzero(np.isfinite(period))
        likes, period = rows_of(likes, returned), period[returned]
    periods = jnp.broadcast_to(jnp.asarray(period, dtype), (len(jax.tree.leaves(likes)[0]),))
    shooting, noise = Shooting(flow, segments, driven), 1e-4 if is_single(dtype) else 1e-8
    values, pinned = begin(shooting, likes, periods)
    found = find_roots(shooting, values, pinned, max_steps, noise)
    closed = np.flatnonzero(converged(found, (1e-3 if is_single(dtype) else 1e-8) if tol is None else tol))
    periods, orbits = sampled(shooting, found.values[closed], jax.tree.map(lambda leaf: leaf[closed], pinned))
    periods, orbits, residuals = np.asarray(periods), np.asarray(orbits), np.asarray(found.residuals)[closed]
    parts = np.array([_parts(orbit, segments) for orbit in orbits], int)
    first, owner = _distinct(periods / np.maximum(parts, 1), orbits, residuals, parts > 0)
    likes, parts = rows_of(likes, closed[first]), parts[first]
    periods, orbits = periods[first] / parts, _once(orbits[first], parts)
    multipliers, trivial, tolerances = _multipliers(shooting, orbits, periods, likes)
    order = np.lexsort((np.max(np.abs(multipliers), axis=1, initial=0), periods.round(9)))
    counts = np.bincount(owner[owner >= 0], minlength=len(first))
    states = jax.vmap(lambda rows, like: jax.vmap(lambda row: from_vector(row, like))(rows))(
        jnp.asarray(orbits[order]), rows_of(likes, order)
    )
    return {
        "states": states,
        "coordinates": jnp.asarray(orbits[order]),
        "periods": jnp.asarray(periods[order]),
        "multipliers": jnp.asarray(multipliers[order]),
        "residuals": jnp.asarray(residuals[first][order]),
        "trivial": jnp.asarray(trivial[order]),
        "tolerances": jnp.asarray(tolerances[order]),
        "counts": jnp.asarray(counts[order]),
        "starts": jnp.asarray(total),
        "failed": jnp.asarray(total - int(np.sum(owner >= 0))),
        "kind": "driven flow" if driven else "flow",
        "single_precision": is_single(dtype),
    }


def _parts(orbit: np.ndarray, segments: int) -> int:
    """How many times over the orbit is run through; 0 for one that does not leave a point."""
    extent = float(np.max(np.linalg.norm(orbit - orbit[0], axis=1)))
    if not extent > _POINT * max(1.0, float(np.linalg.norm(orbit[0]))):
        return 0
    for parts in (8, 6, 5, 4, 3, 2):
        shift = SAMPLES // parts
        if SAMPLES % (parts * segments) == 0 and np.allclose(
            np.roll(orbit, -shift, axis=0), orbit, atol=1e-5 * extent, rtol=0
        ):
            return parts
    return 1


def _once(orbits: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """One turn of each, at the same number of times by trigonometric interpolation."""
    turns = [_refined(orbit[: SAMPLES // part], part) for orbit, part in zip(orbits, parts.tolist(), strict=True)]
    return np.stack(turns) if turns else orbits


def _refined(turn: np.ndarray, part: int) -> np.ndarray:
    if part == 1:
        return turn
    return np.fft.irfft(np.fft.rfft(turn, axis=0), SAMPLES, axis=0) * part


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


def _multipliers(
    shooting: Shooting, orbits: np.ndarray, periods: np.ndarray, likes: State
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Multipliers, |M f - f|/|f| and what counts as neutral; eigenvalues of Q^T M Q where there is an M f = f."""
    size = orbits.shape[2] - (not shooting.driven)
    if not len(orbits):
        return np.zeros((0, size), complex), np.zeros(0), np.zeros(0)
    points = jnp.asarray(orbits[:, :: SAMPLES // shooting.segments])
    matrices, velocities = map(np.asarray, monodromies(shooting, points, jnp.asarray(periods), likes))
    noise = 1e-2 if is_single(points.dtype) else 1e-6
    tolerances = noise * np.maximum(1, np.linalg.norm(matrices, 2, axis=(1, 2)))
    trivial = np.full(len(orbits), np.nan)
    if not shooting.driven:
        defects = np.einsum("pij,pj->pi", matrices, velocities) - velocities
        trivial = np.linalg.norm(defects, axis=1) / np.linalg.norm(velocities, axis=1)
        matrices = np.stack([_across(matrix, along) for matrix, along in zip(matrices, velocities, strict=True)])
    values = np.linalg.eigvals(matrices).astype(complex)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), trivial, tolerances


def _across(matrix: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Q^T M Q; the first column of the whole basis is f/|f| up to its sign."""
    basis = np.linalg.qr(np.column_stack([along, np.eye(len(along))]))[0][:, 1:]
    return basis.T @ matrix @ basis
