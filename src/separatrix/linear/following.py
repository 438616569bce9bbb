r"""The largest eigenvalue of M^{1/2} H M^{1/2}, followed along a run, at a gradient or so a reading.

    A y = M^{1/2} H M^{1/2} y,    theta = y^T A y,    r = A y - theta y,    |lambda - theta| <= min(|r|, |r|^2/gap)

From y, its residual r and the direction p of the last change a step takes the best combination (Rayleigh and Ritz; LOBPCG
of Knyazev, 2001, for one pair): each costs one product. From the reading before, the first product mostly says that y still
is good. A wide search begins with a second direction too, so that one that has overtaken y is seen, and with it the gap.

A product is a difference of two gradients,

    H v = (grad L(x + e v) - grad L(x))/e,        e |v| = sqrt(eps) |x|,

wrong by sqrt(eps) times a third derivative and rounding of as much: 1e-3 in float32, where the ratio is wanted to 3e-2. It
costs one gradient where the first is at hand. A derivative of the gradient costs three, and is taken where `tol` asks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._tree import dot, float_dtype, norm
from separatrix._types import State

# Below this accuracy a difference of gradients does not do.
EXACT_BELOW = 0.01
# A first search takes at least so many products: from a random start the bound means little before.
_COLD = 6
# Residuals are orthogonal to the basis; what has less than this part outside of it is rounding.
_LEFT = 1e-3


class Top(NamedTuple):
    """The leading pair: value, its error, y; the second direction; the gap over the value; products taken."""

    value: Array
    error: Array
    vector: State
    beside: State
    gap: Array
    products: Array


class _Followed(NamedTuple):
    value: Array
    vector: State
    image: State
    beside: State
    beside_image: State
    second: Array
    residual: State
    error: Array
    products: Array
    exhausted: Array


def hessian_product(
    slope: Callable[[State], State], x: State, gradient: State, exact: bool
) -> Callable[[State], State]:
    """v -> H v at x, where the gradient is known."""
    if exact:
        return lambda v: jax.jvp(slope, (x,), (v,))[1]
    size = jnp.sqrt(jnp.asarray(jnp.finfo(float_dtype(x)).eps, float_dtype(x))) * jnp.maximum(norm(x), 1e-3)

    def product(v: State) -> State:
        length = norm(v)
        e = size / jnp.where(length > 0, length, 1)
        moved = slope(jax.tree.map(lambda p, d: p + e.astype(p.dtype) * d, x, v))
        return jax.tree.map(lambda a, b: (a - b) / e.astype(a.dtype), moved, gradient)

    return product


def sharpest(
    product: Callable[[State], State],
    vector: State,
    beside: State,
    gap: Array,
    tol: Any,
    limit: Any,
    *,
    wide: Any,
    cold: Any = False,
) -> Top:
    """The leading pair of a symmetric product, from `vector`; with `wide`, which may be traced, from `beside` too.

    With a `limit` of 0 nothing is searched, and nothing known.
    """
    wide, starts = jnp.asarray(wide), jnp.asarray(wide).astype(jnp.int32) + 1
    none = jax.tree.map(jnp.zeros_like, vector)
    nan = jnp.full((), jnp.nan, float_dtype(vector))
    least = jnp.maximum(jnp.where(jnp.asarray(cold), _COLD, 0), starts)
    start = _Followed(nan, none, none, none, none, nan, none, jnp.full_like(nan, jnp.inf), jnp.zeros((), jnp.int32),
                      jnp.asarray(False))  # fmt: skip

    def go_on(space: _Followed) -> Any:
        size = jnp.abs(space.value)
        floor = 10 * jnp.finfo(size.dtype).eps * size
        done = (space.error <= jnp.maximum(tol * size, floor)) | ~(norm(space.residual) > floor)
        begins = (space.products < starts) & (limit > 0)
        searches = (~done | (space.products < least)) & (space.products < limit) & (norm(space.residual) > 0)
        return begins | (searches & jnp.isfinite(space.value) & ~space.exhausted)

    def step(space: _Followed) -> _Followed:
        # One place where a product is taken: a program that holds the gradient once compiles in a third of the time.
        ahead = jax.tree.map(
            lambda y, p, r: jnp.where(space.products == 0, y, jnp.where((space.products == 1) & wide, p, r)),
            vector, beside, space.residual,
        )  # fmt: skip
        units, first = [space.vector, space.beside], space.products == 0
        d = jax.lax.cond(first, lambda: _unit(ahead), lambda: _orthonormal(ahead, units))
        exhausted = (space.products >= starts) & ~(norm(d) > 0)
        space, pushed = space._replace(products=space.products + 1, exhausted=exhausted), product(d)
        # Where the direction of before will do, as it mostly does, one product is all: then sums over the basis would cost
        # as much as it.
        space = jax.lax.cond(first, lambda: _alone(space, d, pushed), lambda: _ritz(space, d, pushed))
        return _judged(space, gap, wide)

    space = jax.lax.while_loop(go_on, step, start)
    seen = (space.value - space.second) / jnp.abs(space.value)
    return Top(
        space.value, space.error, space.vector, space.beside, jnp.where(wide, jnp.fmin(seen, gap), gap), space.products
    )


def sharpest_in_turn(
    product: Callable[[State], State], metrics: list[State], starts: list[tuple[State, State]], limits: list[Any],
    gap: Array, tol: Any, *, wide: Any, cold: Any = False,
) -> list[Top]:  # fmt: skip
    """The leading pairs of D A D for several diagonals D, each from (vector, beside), with the gap that the last one saw.

    One after the other, in one loop: a program that holds the gradient once compiles in half of the time.
    """

    def search(gap: Any, of: Any) -> tuple[Any, Top]:
        metric, (vector, beside), limit = of

        def scaled(y: State) -> State:
            return _times(metric, product(_times(metric, y)))

        top = sharpest(scaled, vector, beside, gap, tol, limit, wide=wide, cold=cold)
        return jnp.where(jnp.isfinite(top.value) & wide, top.gap, gap), top

    found = jax.lax.scan(search, gap, (_stacked(metrics), _stacked(starts), jnp.stack(limits)))[1]
    return [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(len(metrics))]


def in_turn(function: Callable[[Any], Any], places: list[Any]) -> list[Any]:
    """A function at several places, one after the other, in a program that holds it once."""
    found = jax.lax.map(function, _stacked(places))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(len(places))]


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _times(diagonal: State, x: State) -> State:
    return jax.tree.map(lambda d, leaf: d.astype(leaf.dtype) * leaf, diagonal, x)


def _alone(space: _Followed, d: State, pushed: State) -> _Followed:
    """The first vector, by itself."""
    value = dot(d, pushed)
    sound = jnp.isfinite(value) & (norm(d) > 0)
    return space._replace(value=jnp.where(sound, value, jnp.nan), vector=d, image=pushed)


def _ritz(space: _Followed, d: State, pushed: State) -> _Followed:
    """The best of the span of y, p and d, which are orthonormal (or 0), and the second best beside it."""
    basis = [space.vector, space.beside, d]
    images = [space.image, space.beside_image, pushed]
    form = jnp.stack([jnp.stack([dot(a, b) for b in images]) for a in basis])
    there = jnp.stack([dot(a, a) for a in basis]) > 0.5
    form = jnp.where(there[:, None] & there[None], (form + form.T) / 2, 0)
    below = -2 * jnp.linalg.norm(form) - 1
    finite = jnp.all(jnp.isfinite(form))
    values, mix = jnp.linalg.eigh(jnp.where(finite, form + jnp.diag(jnp.where(there, 0, below)), jnp.eye(3)))
    mix = mix.astype(form.dtype)
    best = mix[:, 2]
    # What lies beside is the change of y, as LOBPCG has it: the part of (p, d) in the new y, without that y.
    change = best.at[0].set(0)
    change = change - (change @ best) * best
    length = jnp.linalg.norm(change)
    change = jnp.where(length > 1e-6, change / jnp.where(length > 0, length, 1), mix[:, 1] * (there.sum() > 1))
    one, two = (lambda trees, c=c: jax.tree.map(lambda *leaves: _sum(c, leaves), *trees) for c in (best, change))
    second = jnp.where(there.sum() > 1, values[1].astype(form.dtype), jnp.nan)
    value = jnp.where(finite & jnp.any(there), values[2].astype(form.dtype), jnp.nan)
    return space._replace(
        value=value, vector=one(basis), image=one(images), beside=two(basis), beside_image=two(images), second=second
    )


def _sum(c: Array, leaves: Any) -> Any:
    return sum(c[i].astype(leaf.dtype) * leaf for i, leaf in enumerate(leaves))


def _judged(space: _Followed, gap: Array, wide: Array) -> _Followed:
    """Residual, and the bound on the error."""
    residual = jax.tree.map(lambda w, v: w - space.value.astype(v.dtype) * v, space.image, space.vector)
    size = norm(residual)
    held = gap * jnp.abs(space.value)
    seen = jnp.where(wide, jnp.fmin(space.value - space.second, held), held)
    close = size**2 / jnp.where(seen > 0, seen, jnp.nan)
    return space._replace(residual=residual, error=jnp.where(close < size, close, size))


def _orthonormal(x: State, units: list[State]) -> State:
    """The unit vector of what x has beside `units`; 0 where that is rounding, as where they span the whole space."""
    once = _without(_unit(x), units)
    twice = _without(_unit(once), units)
    there = (norm(once) > _LEFT) & (norm(twice) > 0.5)
    return jax.tree.map(lambda leaf: jnp.where(there, leaf, 0), _unit(twice))


def _unit(x: State) -> State:
    length = norm(x)
    return jax.tree.map(lambda leaf: leaf / jnp.where(length > 0, length, 1).astype(leaf.dtype), x)


def _without(x: State, units: list[State]) -> State:
    for unit in units:
        along = dot(unit, x)
        x = jax.tree.map(lambda leaf, u, c=along: leaf - c.astype(leaf.dtype) * u, x, unit)
    return x
