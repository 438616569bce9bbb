r"""One reading of the instrument.

    ratio          lambda~/edge: past 1 the linearised run grows, by an oscillation of period two
    sharpness      lambda_1 of the plain Hessian
    departure      |d^{-1/2} H d^{-1} g| / (2 |d^{-1/2} g|): how far a step leaves gradient flow, in parts of the step
    noise scale    tr Sigma / |g|^2 in examples: with batches far smaller the noise, not the slope, moves the parameters

Each is a few products with the Hessian on one batch, or the gradients of its two halves.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from separatrix._tree import dot, norm
from separatrix._types import Key, State
from separatrix.diagnostics.curvature.curvature import curvature
from separatrix.systems.objective import Objective

# A warm search takes two or three products: room for more would cost more to clear than they do.
_ROOM = 6


class Reading(eqx.Module):
    """Numbers of one reading; those that were not taken are NaN.

    - `ratio`, `ratio_error`: preconditioned sharpness over the edge, and a bound on its error.
    - `sharpness`: of the plain Hessian. `loss`, `gradient_norm`, `parameter_norm`.
    - `response`: mean of ln(1/d): how far the optimiser moves for a gradient, in logarithms.
    - `departure`: from gradient flow. `signal`, `noise`: unbiased estimates of |g|^2 and of tr Sigma.
    - `products`: Hessian-vector products taken.
    """

    ratio: Float[Array, ""]
    ratio_error: Float[Array, ""]
    sharpness: Float[Array, ""]
    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    parameter_norm: Float[Array, ""]
    response: Float[Array, ""]
    departure: Float[Array, ""]
    signal: Float[Array, ""]
    noise: Float[Array, ""]
    products: Int[Array, ""]


class Direction(eqx.Module):
    """The least stable direction: to start the next search from, and to watch the run along.

    - `vectors`: in the form of the parameters with a leading axis, unit in the metric. `covector`: d v, so that
      c = <d v, x> is the coordinate along v and lambda~ c^2/2 the loss in it. `plain`: the same of the plain Hessian.
    """

    vectors: State
    covector: State
    plain: State


@eqx.filter_jit
def take(
    objective: Objective,
    parts: Any,
    optimizer: Any,
    parameters: State,
    inner: Any,
    key: Key | None,
    before: Direction | None,
    wide: bool,
    tol: float,
) -> tuple[Reading, Direction]:
    """Return a reading, and the direction to go on with. `wide`: also what costs more products."""
    metric = optimizer.metric(inner, parameters)
    start = None if before is None else before.vectors
    steep = curvature(
        objective,
        parameters,
        key=key,
        preconditioner=metric,
        start=start,
        guard=0,
        tol=tol,
        max_products=40,
        basis=_ROOM,
    )
    vector = jax.tree.map(lambda leaf: leaf[0], steep.eigenvectors)
    covector = jax.tree.map(lambda d, v: d * v, metric, vector)
    products, dtype = steep.products, steep.eigenvalues.dtype
    missing = jnp.full((), jnp.nan, dtype)
    plain = jax.tree.map(lambda leaf: leaf[:1], steep.vectors) if before is None else before.plain
    sharpness = departure = missing
    if wide:
        flat = curvature(objective, parameters, key=key, start=plain, guard=0, tol=tol, max_products=40, basis=_ROOM)
        plain, sharpness, products = flat.vectors, flat.sharpness, products + flat.products + 1
        departure = _departure(objective, parameters, key, metric)
    signal, noise = _noise(parts, parameters) if parts is not None else (missing, missing)
    logs = jax.tree.map(lambda d: -jnp.sum(jnp.log(d)), metric)
    size = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    reading = Reading(
        steep.sharpness / optimizer.edge,
        steep.errors[0] / optimizer.edge,
        sharpness,
        jnp.asarray(objective(parameters, key=key)).astype(dtype),
        steep.gradient_norm,
        norm(parameters),
        sum(jax.tree.leaves(logs), start=jnp.zeros((), dtype)) / size,
        departure,
        signal,
        noise,
        products,
    )
    return reading, Direction(steep.vectors, covector, plain)


def _departure(objective: Objective, parameters: State, key: Key | None, metric: State) -> Any:
    """|d^{-1/2} H d^{-1} g| / (2 |d^{-1/2} g|)."""
    slope = jax.grad(lambda x: objective(x, key=key))
    gradient, push = jax.linearize(slope, parameters)
    bent = push(jax.tree.map(lambda g, d: g / d, gradient, metric))
    scaled, plain = (jax.tree.map(lambda v, d: v / jnp.sqrt(d), tree, metric) for tree in (bent, gradient))
    size = norm(plain)
    return norm(scaled) / (2 * jnp.where(size > 0, size, 1))


def _noise(parts: Any, parameters: State) -> tuple[Any, Any]:
    """Unbiased |g|^2 and tr Sigma from the gradients of two parts of b examples: g1.g2, and b |g1 - g2|^2/2."""
    first, second = (jax.grad(part)(parameters) for part in parts)
    gap = jax.tree.map(lambda a, b: a - b, first, second)
    size = jnp.asarray(parts[0].size, dot(gap, gap).dtype)
    return dot(first, second), size * dot(gap, gap) / 2


@eqx.filter_jit
def along(covector: State, parameters: State) -> Array:
    """c = <d v, x>."""
    return dot(covector, parameters)
