r"""One reading of the instrument.

    ratio          lambda~/edge: past 1 the linearised run grows, by an oscillation of period two
    sharpness      lambda_1 of the plain Hessian
    departure      |d^{-1/2} H d^{-1} g| / (2 |d^{-1/2} g|): how far a step leaves gradient flow, in parts of the step
    update ratio   |x' - x| / |x|: how far a step goes, in parts of the parameters
    flattening b   an alternation of amplitude c along v lowers the ratio by b c^2/2 a step: it pushes the parameters down
                   the slope of the sharpness, b = (G(1)/R) |grad lambda~|^2 / e, the length in the metric and across v
    noise scale    tr Sigma / |g|^2 in examples: with batches far smaller the noise, not the slope, moves the parameters

Each is a few products with the Hessian on one batch, or the gradients of its two halves. A direction from the reading
before is confirmed by one product where |r|^2/gap says that this is enough, the gap being that of the last wide reading.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from separatrix._tree import dot, float_dtype, norm
from separatrix._types import Key, State
from separatrix.diagnostics.hessian.curvature import Curvature, curvature
from separatrix.systems.objective import Objective

# A warm search takes one to three products: room for many would cost more to clear than they do.
_ROOM = 6


class Reading(eqx.Module):
    """Numbers of one reading; those that were not taken are NaN.

    - `ratio`, `ratio_error`: preconditioned sharpness over the edge, and a bound on its error.
    - `sharpness`: of the plain Hessian. `loss`. `update_ratio`: of the next step, in parts of the parameters.
    - `response`: mean of ln(1/d): how far the optimiser moves for a gradient, in logarithms.
    - `departure`: from gradient flow. `flattening`: b. `signal`, `noise`: unbiased estimates of |g|^2 and of tr Sigma.
    - `products`: Hessian-vector products taken.
    """

    ratio: Float[Array, ""]
    ratio_error: Float[Array, ""]
    sharpness: Float[Array, ""]
    loss: Float[Array, ""]
    update_ratio: Float[Array, ""]
    response: Float[Array, ""]
    departure: Float[Array, ""]
    flattening: Float[Array, ""]
    signal: Float[Array, ""]
    noise: Float[Array, ""]
    products: Int[Array, ""]


class Direction(eqx.Module):
    """The least stable direction: to start the next search from, and to watch the run along.

    - `steep`: the last search in the optimiser's metric. `plain`: the last of the plain Hessian. `beside`: the second
      direction of the last wide search, whose gap `steep` knows.
    - `covector`: d v, so that c = <d v, x> is the coordinate along v and lambda~ c^2/2 the loss in it.
    """

    steep: Curvature
    plain: Curvature
    beside: State
    covector: State


def nowhere(parameters: State, tol: float) -> Direction:
    """A direction to start from where none is known: random, so that the first reading is a wide one like all others."""
    leaves, structure = jax.tree.flatten(parameters)
    size, dtype = sum(leaf.size for leaf in leaves), float_dtype(parameters)

    def random(seed: int) -> State:
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        drawn = [jax.random.normal(k, (1, *leaf.shape), leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, drawn)

    def unknown(vectors: State, preconditioned: bool) -> Curvature:
        one, none = jnp.full(1, jnp.nan, dtype), jnp.full((), jnp.nan, dtype)
        count, ended = jnp.zeros((), int), jnp.zeros((), bool)
        return Curvature(
            one, one, one, vectors, none, none, count, ended, float(tol), "hessian", "largest", size, preconditioned
        )

    vectors = random(0)
    covector = jax.tree.map(lambda leaf: leaf[0], vectors)
    return Direction(unknown(vectors, True), unknown(vectors, False), random(1), covector)


def take(
    objective: Objective,
    parts: Any,
    optimizer: Any,
    parameters: State,
    inner: Any,
    key: Key | None,
    before: Direction,
    n: Any,
    wide: bool,
    tol: float,
) -> tuple[Reading, Direction]:
    """Return a reading at step n, and the direction to go on with. `wide`, as the first has to be: all numbers."""
    # What a narrow reading does not search stays outside of the compiled program, which would copy it.
    used = before if wide else before.steep
    reading, found = _take(objective, parts, optimizer, parameters, inner, key, used, n, wide, tol)
    if wide:
        return reading, found
    steep, covector = found
    return reading, Direction(steep, before.plain, before.beside, covector)


@eqx.filter_jit
def _take(
    objective: Objective, parts: Any, optimizer: Any, parameters: State, inner: Any, key: Key | None, before: Any, n: Any,
    wide: bool, tol: float,
) -> tuple[Reading, Any]:  # fmt: skip
    """The reading, and the direction found or, of a narrow one, its first and last part."""
    metric = optimizer.metric(inner, parameters)
    # With a guard a search sees whether another direction has overtaken; without, it may end after a product.
    settings = {"key": key, "tol": tol, "max_products": 40, "basis": _ROOM, "guard": int(wide)}
    start = _both(before.steep.vectors, before.beside) if wide else before
    steep = curvature(objective, parameters, preconditioner=metric, start=start, **settings)
    beside, steep = jax.tree.map(lambda leaf: leaf[1:], steep.vectors), _alone(steep)
    covector = jax.tree.map(lambda d, v: d * v[0], metric, steep.vectors)
    products, dtype = steep.products, steep.eigenvalues.dtype
    missing = jnp.full((), jnp.nan, dtype)
    found, sharpness, departure, ratio, flattening = (steep, covector), missing, missing, missing, missing
    if wide:
        plain = curvature(objective, parameters, start=_both(before.plain.vectors, steep.vectors), **settings)
        sharpness, products = plain.sharpness, products + plain.products + 1
        gradient, departure = _departure(objective, parameters, key, metric)
        whole = norm(parameters)
        ratio = norm(optimizer.change(n, gradient, inner, parameters, key)) / jnp.where(whole > 0, whole, 1)
        slope = _slope_of_sharpness(objective, parameters, key, metric, jax.tree.map(lambda v: v[0], steep.vectors))
        flattening = optimizer.linear.drift * slope / optimizer.edge
        found = Direction(steep, _alone(plain), beside, covector)
    signal, noise = _noise(parts, parameters) if parts is not None else (missing, missing)
    logs = jax.tree.map(lambda d: -jnp.sum(jnp.log(d)), metric)
    size = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    reading = Reading(
        steep.sharpness / optimizer.edge,
        steep.errors[0] / optimizer.edge,
        sharpness,
        jnp.asarray(objective(parameters, key=key)).astype(dtype),
        ratio,
        sum(jax.tree.leaves(logs), start=jnp.zeros((), dtype)) / size,
        departure,
        flattening,
        signal,
        noise,
        products,
    )
    return reading, found


def _both(vectors: State, beside: State) -> State:
    return jax.tree.map(lambda v, b: jnp.concatenate([v, b]), vectors, beside)


def _alone(found: Curvature) -> Curvature:
    """The same without its guard."""
    return eqx.tree_at(lambda c: c.vectors, found, jax.tree.map(lambda leaf: leaf[:1], found.vectors))


def _departure(objective: Objective, parameters: State, key: Key | None, metric: State) -> tuple[State, Any]:
    """The gradient, and |d^{-1/2} H d^{-1} g| / (2 |d^{-1/2} g|)."""
    gradient, push = jax.linearize(jax.grad(lambda x: objective(x, key=key)), parameters)
    bent = push(jax.tree.map(lambda g, d: g / d, gradient, metric))
    scaled, plain = (jax.tree.map(lambda v, d: v / jnp.sqrt(d), tree, metric) for tree in (bent, gradient))
    size = norm(plain)
    return gradient, norm(scaled) / (2 * jnp.where(size > 0, size, 1))


def _slope_of_sharpness(objective: Objective, parameters: State, key: Key | None, metric: State, v: State) -> Any:
    """|grad v^T H v|^2 in the metric, without the part along v, which an alternation averages away."""

    def bend(x: State) -> Any:
        slope = lambda y: jax.jvp(lambda z: objective(z, key=key), (y,), (v,))[1]  # noqa: E731
        return jax.jvp(slope, (x,), (v,))[1]

    gradient = jax.grad(bend)(parameters)
    return dot(gradient, jax.tree.map(lambda g, d: g / d, gradient, metric)) - dot(gradient, v) ** 2


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
