"""Arithmetic on states: pytrees of arrays as vectors.

Every operation keeps the dtype of its first tree, so that a float32 network stays float32 when the step size is a
float64 scalar, under strict promotion too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool

from separatrix._types import State


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is floating point or complex: the part of a state that has a tangent."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def float_dtype(tree: State) -> Any:
    """The real dtype in which a state's time and step size are said: the widest of its inexact leaves."""
    dtypes = [jnp.finfo(jnp.result_type(leaf)).dtype for leaf in jax.tree.leaves(tree) if is_inexact(leaf)]
    return max(dtypes, key=lambda dtype: dtype.itemsize) if dtypes else jnp.zeros(()).dtype


def scale(factor: Any, x: State) -> State:
    """a x."""
    return jax.tree.map(lambda leaf: jnp.asarray(factor, leaf.dtype) * leaf, x)


def axpy(factor: Any, x: State, y: State) -> State:
    """y + a x, in the dtype of y."""
    return jax.tree.map(lambda p, q: q + jnp.asarray(factor, q.dtype) * p.astype(q.dtype), x, y)


def add(x: State, y: State) -> State:
    """x + y, in the dtype of x."""
    return jax.tree.map(lambda p, q: p + q.astype(p.dtype), x, y)


def subtract(x: State, y: State) -> State:
    """x - y, in the dtype of x."""
    return jax.tree.map(lambda p, q: p - q.astype(p.dtype), x, y)


def combine(coefficients: Any, trees: list[State], base: State) -> State:
    """base + sum_i c_i x_i."""
    for coefficient, tree in zip(coefficients, trees, strict=True):
        base = axpy(coefficient, tree, base)
    return base


def dot(x: State, y: State) -> Array:
    """Real inner product sum_i <x_i, y_i> over all leaves."""
    parts = jax.tree.map(lambda p, q: jnp.vdot(p, q.astype(p.dtype)).real, x, y)
    return sum(jax.tree.leaves(parts), start=jnp.zeros((), float_dtype(x)))


def norm(x: State) -> Array:
    """Euclidean norm over all leaves."""
    return jnp.sqrt(dot(x, x))


def poison(good: Any, tree: State) -> State:
    """The tree where `good` holds, else NaN in its inexact leaves.

    A mask outside may drop what is broken: then its derivative is zero. Where it is not dropped the derivative is infinite,
    so that nothing can be trained on a broken value unseen. (NaN alone would have the derivative of a constant, zero.)
    """

    if not is_traced(good) and bool(np.all(np.asarray(good))):
        return jax.tree.map(lambda x: x if isinstance(x, jax.Array) else jnp.asarray(x), tree)

    def leaf(x: Any) -> Any:
        if not is_inexact(x):
            return x
        most = 0.5 * jnp.finfo(x.dtype).max
        # Two finite factors: the product of a cotangent with both is infinite, unless the cotangent is zero.
        large = jnp.where(good, 0.0, most).astype(x.dtype)
        broken = (x - jax.lax.stop_gradient(x)) * large * large + jnp.asarray(jnp.nan, x.dtype)
        return jnp.where(good, x, broken)

    return jax.tree.map(leaf, jax.tree.map(jnp.asarray, tree))


def where(condition: Any, x: State, y: State) -> State:
    """x where the scalar condition holds, y elsewhere."""
    return jax.tree.map(lambda p, q: jnp.where(condition, p, q), x, y)


def all_finite(tree: State) -> Bool[Array, ""]:
    """Whether every inexact leaf holds finite numbers only."""
    checks = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if is_inexact(leaf)]
    return jnp.stack(checks).all() if checks else jnp.asarray(True)


def asarrays(tree: Any) -> State:
    """Every leaf as an array with a strong dtype (Python floats take JAX's default float)."""

    def strong(leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        # A typed key is an array too, without a weak type.
        return jax.lax.convert_element_type(array, array.dtype) if getattr(array, "weak_type", False) else array

    return jax.tree.map(strong, tree)


def structure(tree: State) -> Any:
    """The tree of `jax.ShapeDtypeStruct`s that describes a state."""
    return jax.eval_shape(lambda: tree)


def is_traced(*trees: Any) -> bool:
    """Whether any leaf is a tracer, so that values cannot be looked at."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))
