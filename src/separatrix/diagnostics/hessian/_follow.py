r"""One pair followed along a run: a product says whether the vector from before still is the eigenvector.

    theta = q^T A q,    r = A q - theta q,    |lambda - theta| <= min(|r|, |r|^2/gap),

the gap being what the last search saw. This is done leaf by leaf. Where the bound is too wide the search takes over from q
and A q, in coordinates; what it needs (room, a linearisation) is made only then: it would cost as much as the product.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._tree import dot, norm
from separatrix._types import State
from separatrix.diagnostics.hessian._products import CurvatureTask
from separatrix.linear.lanczos import Pairs, PairSearch, errors_of, resumed, rounding, unit


def follow(task: CurvatureTask, start: State, sign: Any, search: PairSearch) -> tuple[Pairs, Array]:
    """The largest pair of sign times the matrix from a vector near it, and |grad L|."""
    length = norm(start)
    sound = (length > 0) & jnp.isfinite(length)

    def random() -> State:
        return task.tree(unit(search.random_vector(0)))

    q = jax.lax.cond(sound, lambda: jax.tree.map(lambda v: v / length, start), random)
    gradient, image = task.product(q)
    image = jax.tree.map(lambda w: sign * w, image)
    value = dot(q, image)
    residual = norm(jax.tree.map(lambda w, v: w - value * v, image, q))[None]
    errors = errors_of(value[None], residual, jnp.ones((), int), 1, search.gap)
    size = jnp.abs(value)
    near = errors[0] <= jnp.maximum(search.tol * size, rounding(size))

    def confirmed() -> Pairs:
        vectors = jax.tree.map(lambda leaf: leaf[None], q)
        return Pairs(value[None], vectors, residual, errors, jnp.ones((), int), near, search.gap)

    def searched() -> Pairs:
        multiply, _ = task.products()
        pairs = resumed(lambda v: sign * multiply(v), task.vector(q), task.vector(image), search)
        return pairs._replace(vectors=jax.vmap(task.tree)(pairs.vectors))

    # A product that is not finite is the answer: there is nothing to search.
    return jax.lax.cond(near | ~jnp.isfinite(value), confirmed, searched), norm(gradient)
