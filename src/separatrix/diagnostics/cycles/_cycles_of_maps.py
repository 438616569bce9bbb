"""Cycles of a map: fixed points of its k-th iterate, up to a shift, each with its least period and multipliers."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import State
from separatrix.diagnostics.equilibria.rest import Equations, leading_spectra
from separatrix.diagnostics.starts import is_single, rows_of, starting_states, warn_if_single, within
from separatrix.evolution.any_system import evolve
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.linear.root_search import (
    DENSE,
    converged,
    default_tolerance,
    find_roots,
    jacobians,
    merged,
)
from separatrix.systems.iteration import iterate
from separatrix.systems.map import Map

# Two points of one cycle are found to rounding times what k steps make of it.
_REACH = 20.0


def cycles_of_map(
    map: Map, guesses: Any, region: Any, starts: int, k: int, tol: float | None, max_steps: int
) -> dict[str, Any]:
    """The fields of `PeriodicOrbits`."""
    likes = starting_states("periodic_orbits", guesses, region, starts)
    vectors = jax.vmap(as_vector)(likes)
    warn_if_single("periodic_orbits", vectors.dtype)
    tol = default_tolerance(vectors.dtype) if tol is None else tol
    found = find_roots(Equations(iterate(map, k), jnp.asarray(0), None), vectors, likes, max_steps)
    rows = np.flatnonzero(converged(found, tol) & within(found.values, region))
    residuals = np.asarray(found.residuals)[rows]
    orbits = np.asarray(_orbits(map, found.values[rows], rows_of(likes, rows), k))
    reach = _REACH * float(jnp.finfo(vectors.dtype).eps) ** 0.5
    first, owner = merged(orbits[:, 0], residuals, np.full(len(rows), reach), orbits)
    chosen, orbits = rows[first], orbits[first]
    periods = np.array([_least_period(orbit, reach) for orbit in orbits], int)
    multipliers, tolerances = _multipliers(map, orbits, periods, rows_of(likes, chosen))
    order = np.lexsort(
        (-np.bincount(owner, minlength=len(first)), np.max(np.abs(multipliers), axis=1, initial=0), periods)
    )
    states = jax.vmap(lambda rows, like: jax.vmap(lambda row: from_vector(row, like))(rows))(
        jnp.asarray(orbits[order]), rows_of(likes, chosen[order])
    )
    return {
        "states": states,
        "coordinates": jnp.asarray(orbits[order]),
        "periods": jnp.asarray(periods[order], vectors.dtype),
        "multipliers": jnp.asarray(multipliers[order]),
        "residuals": jnp.asarray(residuals[first][order]),
        "trivial": jnp.full(len(order), jnp.nan),
        "tolerances": jnp.asarray(tolerances[order]),
        "counts": jnp.asarray(np.bincount(owner, minlength=len(first))[order]),
        "starts": jnp.asarray(len(vectors)),
        "failed": jnp.asarray(len(vectors) - len(rows)),
        "kind": "map",
        "single_precision": is_single(vectors.dtype),
    }


@eqx.filter_jit
def _orbits(map: Map, values: Any, likes: State, k: int) -> Any:
    """x_0, ..., x_{k-1} in coordinates, shape (S, k, d)."""

    def one(vector: Any, like: State) -> Any:
        path = evolve(map, from_vector(vector, like), steps=k)
        return jax.vmap(as_vector)(jax.tree.map(lambda leaf: leaf[:-1], path.states))

    return jax.vmap(one)(values, likes)


def _least_period(orbit: np.ndarray, reach: float) -> int:
    """The least m that divides k with x_m = x_0."""
    k, size = len(orbit), max(1.0, float(np.linalg.norm(orbit[0])))
    for m in range(1, k):
        if k % m == 0 and np.linalg.norm(orbit[m] - orbit[0]) <= reach * size:
            return m
    return k


def _multipliers(map: Map, orbits: np.ndarray, periods: np.ndarray, likes: State) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of the product of Jacobians over one period, the largest first, and what counts as neutral."""
    count, k, size = orbits.shape
    if not count:
        return np.zeros((0, size), complex), np.zeros(0)
    if size > DENSE:
        return _leading(map, orbits, periods, likes)
    step = Equations(map, jnp.asarray(0), None)
    owners = np.repeat(np.arange(count), k)
    factors = jacobians(step.image, orbits.reshape(-1, size), rows_of(likes, owners)).astype(float)
    factors = factors.reshape(count, k, size, size)
    products = np.stack(
        [
            functools.reduce(lambda product, factor: factor @ product, row[:m])
            for row, m in zip(factors, periods, strict=True)
        ]
    )
    values = np.linalg.eigvals(products).astype(complex)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    eps = float(jnp.finfo(orbits.dtype).eps)
    return np.take_along_axis(values, order, axis=1), 100 * eps**0.5 * np.maximum(
        1, np.linalg.norm(products, 2, (1, 2))
    )


def _leading(map: Map, orbits: np.ndarray, periods: np.ndarray, likes: State) -> tuple[np.ndarray, np.ndarray]:
    """The leading multipliers of large states, from products alone."""
    found = []
    for row, m in enumerate(periods):
        iterated = Equations(iterate(map, int(m)), jnp.asarray(0), None)
        found.append(leading_spectra(iterated, orbits[row : row + 1, 0], rows_of(likes, np.array([row])), 6))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))  # pyright: ignore[reportReturnType]
