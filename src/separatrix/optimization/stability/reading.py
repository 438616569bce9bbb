r"""One reading of the instrument.

    ratio          lambda~, the largest eigenvalue of M^{1/2} H M^{1/2}: past 1 the linearised run grows, with period two
    sharpness      lambda_1 of the plain Hessian
    departure      |R^{1/2} H R g|/(2 |R^{1/2} g|): how far a step leaves gradient flow, in parts of the step
    update ratio   |x' - x| / |x|: how far a step goes, in parts of the parameters
    flattening b   an alternation of amplitude c along v lowers the ratio by b c^2/2 a step: it pushes the parameters down
                   the slope of the ratio, b = sum_i |G_i(1)| (d lambda~/dx_i)^2, without the part along v
    climbing       <g, R g>/<|g|, |R| |g|>: -1 where every entry answers against its gradient, 1 where it climbs
    idle           share of the entries that are updated and whose gradient is exactly 0
    noise scale    tr Sigma / |g|^2 in examples: with batches far smaller the noise, not the slope, moves the parameters

The ratio costs a gradient beside that of the run, the noise that of two parts of a batch; the rest is for wide readings.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from separatrix._tree import dot, float_dtype, is_traced, norm
from separatrix._types import Key, State
from separatrix.linear.following import Top, hessian_product, in_turn, sharpest_in_turn
from separatrix.optimization.stability.responses import ANSWERS, RESTS, Checks, Response, in_the_climate_of_optax
from separatrix.systems.objective import Objective

# Products of a first search, and of later ones.
_MOST_COLD, _MOST = 40, 12


class Reading(eqx.Module):
    """Numbers of one reading; those that were not taken are NaN.

    - `ratio`, `ratio_error`: largest curvature over the optimiser's edge, and a bound on its error.
    - `sharpness`: of the plain Hessian. `loss`. `update_ratio`: of the next step, in parts of the parameters.
    - `response`: mean of ln|R| of the entries that move: how far the optimiser moves for a gradient, in logarithms.
    - `departure`: from gradient flow. `growth`: kappa. `flattening`: b. `climbing`, `idle`: shares, see above.
    - `signal`, `noise`: unbiased estimates of |g|^2 and of tr Sigma. `products`: Hessian-vector products taken.
    - `fate`, shape (P,): of each array of the parameters, whether its optimiser answers, or the step leaves it as it is.
    """

    ratio: Float[Array, ""]
    ratio_error: Float[Array, ""]
    sharpness: Float[Array, ""]
    loss: Float[Array, ""]
    update_ratio: Float[Array, ""]
    response: Float[Array, ""]
    departure: Float[Array, ""]
    growth: Float[Array, ""]
    flattening: Float[Array, ""]
    climbing: Float[Array, ""]
    idle: Float[Array, ""]
    signal: Float[Array, ""]
    noise: Float[Array, ""]
    products: Int[Array, ""]
    fate: Int[Array, " arrays"]


class Halves(eqx.Module):
    """Two parts of a batch, of `size` examples each: the keys that draw them, or the batches themselves.

    `sides`: trees with a leading axis of two. A batch has None where both parts take what the objective holds.
    """

    objective: Any
    sides: Any
    size: int = eqx.field(static=True)
    by_key: bool = eqx.field(static=True)

    def loss(self, side: Any, parameters: State) -> Any:
        """The loss on one part."""
        if self.by_key:
            return self.objective(parameters, key=side)
        return self.objective.on_batch(eqx.combine(side, self.objective.data))(parameters)

    def gradients(self, parameters: State) -> list[State]:
        """Those of both."""
        sides = [jax.tree.map(lambda leaf, i=i: leaf[i], self.sides) for i in (0, 1)]
        return in_turn(lambda side: jax.grad(lambda x: self.loss(side, x))(parameters), sides)


class Direction(eqx.Module):
    """The least stable direction: to start the next search from, and to watch the run along.

    - `steep`, `beside`: unit vectors in the metric; `plain`: of the plain Hessian. `gap`: as the last wide search saw it.
    - `covector`: M^{-1/2} y, so that c = <covector, x> is the coordinate along v and lambda~ c^2/2 the loss in it.
    """

    steep: State
    beside: State
    plain: State
    covector: State
    gap: Float[Array, ""]
    cold: Bool[Array, ""]


def no_direction(parameters: State) -> Direction:
    """A direction to start from where none is known: random, so that the first reading is a wide one like all others."""
    leaves, structure = jax.tree.flatten(parameters)
    traced = is_traced(parameters)

    def random(seed: int) -> State:
        if traced:
            keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
            drawn = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=False)]
        else:
            drawn = [jnp.asarray(part) for part in _drawn_here(leaves, seed)]
        return jax.tree.unflatten(structure, drawn)

    gap = jnp.full((), jnp.nan, float_dtype(parameters))
    return Direction(random(0), random(1), random(2), jax.tree.map(jnp.zeros_like, parameters), gap, jnp.asarray(True))


def _drawn_here(leaves: list[Any], seed: int) -> list[np.ndarray]:
    """Normal numbers by NumPy: where nothing is traced, a program that draws would be compiled for each shape."""
    rng = np.random.default_rng(seed)
    found = []
    for leaf in leaves:
        numbers = rng.standard_normal(leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            numbers = (numbers + 1j * rng.standard_normal(leaf.shape)) / np.sqrt(2)
        found.append(numbers.astype(leaf.dtype))
    return found


def slope_of(objective: Objective, key: Key | None) -> Any:
    """x -> the gradient, as the direction of steepest ascent of complex parameters too."""

    def slope(x: State) -> State:
        gradient = jax.grad(lambda y: objective(y, key=key))(x)
        return jax.tree.map(jnp.conj, gradient)

    return slope


@eqx.filter_jit
@in_the_climate_of_optax
def reading_at(
    objective: Objective, parts: Halves | None, optimizer: Any, parameters: State, inner: Any, key: Key | None,
    before: Direction, n: Any, wide: Any, tol: Any, exact: bool, checks: Checks,
) -> tuple[Reading, Direction, Checks]:  # fmt: skip
    """Return a reading at step n, the direction to go on with, and whether the optimiser has an edge.

    `wide`, as the first has to be: all numbers. It is traced, so that one program takes both kinds of reading. `exact`:
    products by derivatives and not by differences. `checks`: those of an earlier reading, taken anew where it is wide.
    """
    slope = slope_of(objective, key)
    loss, gradient = jax.value_and_grad(lambda x: jnp.asarray(objective(x, key=key)))(parameters)
    gradient = jax.tree.map(jnp.conj, gradient)
    answer = optimizer.response(inner, parameters, gradient, loss, checks, n, wide)
    product = hessian_product(slope, parameters, gradient, exact)
    reading, found, plain = against_edge(product, answer, gradient, before, tol, wide=wide)
    dtype = found.gap.dtype
    change = optimizer.change(n, gradient, inner, parameters, key)
    nan = jnp.full((), jnp.nan, dtype)

    def more() -> tuple[Any, ...]:
        size = jax.tree.map(jnp.abs, answer.first)
        length, v = jax.tree.map(jnp.sqrt, size), _by(_root(answer), found.steep)
        slid, bent = _slid_and_bent(slope, product, parameters, gradient, _by(size, gradient), v, exact)
        step = norm(_by(length, gradient))
        departure = norm(_by(length, slid)) / (2 * jnp.where(step > 0, step, 1))
        growth = 1 / dot(found.steep, _by(answer.turning, found.steep))
        return departure.astype(dtype), growth.astype(dtype), _flattening(bent, v, found.steep, answer).astype(dtype)

    departure, growth, flattening = jax.lax.cond(wide, more, lambda: (nan, nan, nan))
    whole = norm(parameters)
    numbers = {
        "loss": loss.astype(dtype), "fate": fate_of(answer.checks, change), "sharpness": plain.value,
        "update_ratio": jnp.where(wide, norm(change).astype(dtype) / jnp.where(whole > 0, whole, 1), nan),
        "departure": departure, "growth": growth, "flattening": flattening,
        "products": reading.products + plain.products + wide,
    }  # fmt: skip
    if parts is not None:
        signal, noise = _noise(parts, parameters)
        numbers |= {"signal": signal, "noise": noise}
    fields = {name: getattr(reading, name) for name in reading.__dataclass_fields__} | numbers
    return Reading(**fields), found, answer.checks


def against_edge(
    product: Any, answer: Response, gradient: State, before: Direction, tol: Any, *, wide: Any
) -> tuple[Reading, Direction, Top]:
    """The ratio and what comes with it, from products and the optimiser's response; the rest of a reading is NaN.

    Beside them the leading pair of the plain Hessian, which is searched for where the reading is wide.
    """
    wide, (root, dtype) = jnp.asarray(wide), (_root(answer), before.gap.dtype)
    limit = jnp.where(before.cold, _MOST_COLD, _MOST)
    # Where nothing moves a random start may have no part: it starts in the entries that do.
    start, beside = (jax.tree.map(lambda y, m: jnp.where(m != 0, y, 0), tree, root)
                     for tree in (before.steep, before.beside))  # fmt: skip
    one, starts = jax.tree.map(jnp.ones_like, root), [(start, beside), (before.plain, before.beside)]
    limits = [limit, jnp.where(wide, _MOST_COLD, 0)]
    top, plain = sharpest_in_turn(product, [root, one], starts, limits, before.gap, tol, wide=wide, cold=before.cold)
    sound = jnp.isfinite(top.value)
    taken = lambda chosen, new, old: jax.tree.map(lambda a, b: jnp.where(chosen, a, b), new, old)  # noqa: E731
    keep = lambda new, old: taken(sound, new, old)  # noqa: E731
    covector = jax.tree.map(lambda y, m: jnp.where(m > 0, y / jnp.where(m > 0, m, 1), 0), top.vector, root)
    found = Direction(
        keep(top.vector, before.steep), taken(wide & sound, top.beside, before.beside),
        taken(wide, plain.vector, before.plain), keep(covector, before.covector), jnp.where(wide, top.gap, before.gap),
        before.cold & ~sound,
    )  # fmt: skip
    nan, count = jnp.full((), jnp.nan, dtype), len(jax.tree.leaves(gradient))
    # Where nothing moves, as at a learning rate of 0, the ratio is 0 and no search; of what is not known it is none.
    moves = jnp.stack([jnp.any(leaf != 0) for leaf in jax.tree.leaves(root)]).any()
    lacks = jnp.any((answer.checks.fate != ANSWERS) & (answer.checks.fate != RESTS))
    rest = jnp.where((answer.checks.unknown > 0) | lacks, nan, 0)
    ratio, error = (jnp.where(moves, number, rest) for number in (top.value, top.error))
    own = {name: number.astype(dtype) for name, number in shares(answer, gradient).items()}
    reading = Reading(
        ratio, error, nan, nan, nan, own["response"], nan, nan, nan, own["climbing"], own["idle"], nan, nan,
        top.products, jnp.zeros(count, jnp.int8),
    )  # fmt: skip
    return reading, found, plain


def shares(answer: Response, gradient: State) -> dict[str, Any]:
    """What the response and a gradient say by themselves: mean of ln|R|, climbing, idle."""
    dtype = float_dtype(answer.first)
    return {
        "response": _mean_log(answer.first, dtype), "climbing": _climbing(answer, gradient), "idle": _idle(answer, gradient)
    }  # fmt: skip


def fate_of(checks: Checks, change: State) -> Int[Array, " arrays"]:
    """What the optimiser does with each array, where its step says which it leaves as they are."""
    still = jnp.stack([~jnp.any(leaf != 0) for leaf in jax.tree.leaves(change)])
    moving = jnp.where(checks.fate == RESTS, ANSWERS, checks.fate)
    return jnp.where(still, RESTS, moving).astype(jnp.int8)


def _root(answer: Response) -> State:
    """|M|^{1/2}."""
    return jax.tree.map(lambda m: jnp.sqrt(jnp.abs(m)), answer.inverse_edge)


def _by(diagonal: State, x: State) -> State:
    return jax.tree.map(lambda d, leaf: d.astype(leaf.dtype) * leaf, diagonal, x)


def _total(leaves: list[Any], dtype: Any) -> Any:
    return sum((jnp.sum(leaf).astype(dtype) for leaf in leaves), start=jnp.zeros((), dtype))


def _mean_log(first: State, dtype: Any) -> Any:
    leaves = [jnp.abs(leaf) for leaf in jax.tree.leaves(first)]
    logs = [jnp.where(leaf > 0, jnp.log(jnp.where(leaf > 0, leaf, 1)), 0) for leaf in leaves]
    return _total(logs, dtype) / jnp.maximum(_total([leaf > 0 for leaf in leaves], dtype), 1)


def _climbing(answer: Response, gradient: State) -> Any:
    """Of the steps for a gradient like the run's own, the part uphill less that downhill, over both."""
    dtype = float_dtype(answer.first)
    pairs = zip(jax.tree.leaves(answer.first), jax.tree.leaves(gradient), strict=True)
    work = [r * jnp.abs(g).astype(r.dtype) ** 2 for r, g in pairs]
    whole = _total([jnp.abs(leaf) for leaf in work], dtype)
    return _total(work, dtype) / jnp.where(whole > 0, whole, 1)


def _idle(answer: Response, gradient: State) -> Any:
    dtype = float_dtype(answer.first)
    moved = [leaf != 0 for leaf in jax.tree.leaves(answer.first)]
    without = [m & (g == 0) for m, g in zip(moved, jax.tree.leaves(gradient), strict=True)]
    # Second moments of 0 have no response: these entries never had a gradient.
    never = [~m & (g == 0) for m, g in zip(moved, jax.tree.leaves(gradient), strict=True)]
    whole = _total(moved, dtype) + _total(never, dtype)
    return (_total(without, dtype) + _total(never, dtype)) / jnp.maximum(whole, 1)


def _slid_and_bent(
    slope: Any, product: Any, x: State, gradient: State, step: State, v: State, exact: bool
) -> tuple[State, State]:
    """H step, and the second derivative of the gradient along v."""
    if exact:
        return product(step), jax.jvp(lambda z: jax.jvp(slope, (z,), (v,))[1], (x,), (v,))[1]
    dtype, whole = float_dtype(x), jnp.maximum(norm(x), 1e-3)
    eps = jnp.asarray(jnp.finfo(dtype).eps, dtype)
    sizes = [root * whole / jnp.where(norm(d) > 0, norm(d), 1) for root, d in ((eps**0.5, step), (eps**0.25, v))]
    places = [(sizes[0], step), (sizes[1], v), (-sizes[1], v)]
    moved = [jax.tree.map(lambda p, d, e=e: p + e.astype(p.dtype) * d, x, d) for e, d in places]
    slid, ahead, behind = in_turn(slope, moved)
    slid = jax.tree.map(lambda a, g: (a - g) / sizes[0].astype(a.dtype), slid, gradient)
    return slid, jax.tree.map(
        lambda a, b, g: (a + b - 2 * g) / (sizes[1] ** 2).astype(a.dtype), ahead, behind, gradient
    )


def _flattening(bent: State, v: State, y: State, answer: Response) -> Any:
    """sum_i |G_i(1)| (d_i v^T H v)^2, without the part along v, which an alternation averages away."""
    drift = jax.tree.map(jnp.abs, answer.drift)
    along = dot(bent, v) ** 2 * dot(y, _by(jax.tree.map(_share, answer.drift, answer.inverse_edge), y))
    return dot(bent, _by(drift, bent)) - along


def _share(drift: Any, inverse: Any) -> Any:
    return jnp.where(inverse != 0, jnp.abs(drift) / jnp.where(inverse != 0, jnp.abs(inverse), 1), 0)


def _noise(parts: Halves, parameters: State) -> tuple[Any, Any]:
    """Unbiased |g|^2 and tr Sigma from the gradients of two parts of b examples: g1.g2, and b |g1 - g2|^2/2."""
    first, second = parts.gradients(parameters)
    gap = jax.tree.map(lambda a, b: a - b, first, second)
    size = jnp.asarray(parts.size, dot(gap, gap).dtype)
    return dot(first, second), size * dot(gap, gap) / 2


@eqx.filter_jit
def along(covector: State, parameters: State) -> Array:
    """c = <M^{-1/2} y, x>."""
    return dot(covector, jax.tree.map(lambda c, x: x.astype(c.dtype), covector, parameters))
