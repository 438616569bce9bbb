r"""What an optimiser does with a small gradient: its own stability edge, without being told its name.

Held at its own state s and parameters x, an optimiser that works entry by entry answers small changes linearly:

    dx' = dx + R dg + C ds + W dx,        ds' = A ds + B dg + E dx,

R the first response (-eta for gradient descent), W the weight decay (-eta lambda). Against a curvature l, dg = l dx. It
loses stability by an oscillation of period two, dx[n] ~ (-1)^n, where

    -2 = V(-1) + l G(-1),        G(z) = R + C (z - A)^{-1} B,        V(z) = W + C (z - A)^{-1} E.

So with H the Hessian and M the diagonal of reciprocal edges, entry by entry,

    M = -G(-1)/(2 + V(-1)),      ratio = largest eigenvalue of M^{1/2} H M^{1/2},      stable iff ratio < 1.

M holds momentum, weight decay, schedules (it is taken at the run's own step) and parts with optimisers of their own. It is
eta/2 for gradient descent and eta (1 - b)/((2 + 2b)(sqrt(v) + eps)) for Adam, whose v is frozen: a gradient that is small
changes it to second order. Past the edge the alternation grows by kappa ln(ratio) nats a step, and a gradient that stays
moves the parameters by G(1) times it:

    1/kappa = sum_i y_i^2 [(1 - V')/(2 + V) + G'/G]_i at z = -1,     y the unit eigenvector; 2 for gradient descent.

Where the gradient is taken ahead of x, at y = x + c s, as Nesterov's method does, M is the response of y instead of that of
x. All of it is a few derivatives of the update, at the cost of no gradient.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from separatrix._errors import explain
from separatrix._types import Function, State
from separatrix.optimization.stability.held import Held

# Of the entries that move, the share past which an update is not elementwise, or not linear; and what deviates.
_MOST, _DEVIATES = 0.5, 0.1
# What an array may be: its optimiser answers to a gradient; or not, and why; it rests; or its response is not known.
ANSWERS, SIGNS, MIXES, BENDS, RESTS, UNKNOWN = range(6)
WHY = {
    SIGNS: "no linear response to a small gradient: it steps along signs, or by a given length",
    MIXES: "an update in which a parameter's response goes to others (trust ratios, orthogonal factors)",
    BENDS: "no linear response to a small gradient: its step does not shrink with the gradient",
    UNKNOWN: "no derivative at a gradient of 0: it divides by its length, or has seen none yet",
}
# A gradient that is small against those before it.
_SMALL = 1.7e-4
# Adam's step for a gradient 1,000 times those before it is 0.03 of what its slope says, one of optax's fixed lengths 1e-6.
_SHORT = 1e-3
# Of a difference of two updates, so many roundings of one are not seen.
_ROUNDINGS = 8


class Checks(eqx.Module):
    """Whether a response is known, and is that of a diagonal.

    - `unknown`: share of entries whose response is not finite: second moments that have no scale yet.
    - `mixing`, `bending`: largest share, of an array, of the moving entries that answer to the gradient of others, or not
      in proportion.
    - `fate`, shape (P,): of each array, one of `ANSWERS` to `UNKNOWN`.
    """

    unknown: Float[Array, ""]
    mixing: Float[Array, ""]
    bending: Float[Array, ""]
    fate: Int[Array, " arrays"]


class Response(eqx.Module):
    """An optimiser's linear response, entry by entry: trees of the parameters' form.

    - `first`: R. `inverse_edge`: M. Both are 0 of entries without a response, and of arrays without an edge; M of one that
      climbs is negative.
    - `turning`: (1 - V')/(2 + V) + G'/G. `drift`: G(1). `checks`: whether that is all there is to it.
    """

    first: State
    inverse_edge: State
    turning: State
    drift: State
    checks: Checks


def in_the_climate_of_optax(function: Function) -> Function:
    """The same under the promotion rules that optax and users' losses are written for."""

    @functools.wraps(function)
    def inside(*arguments: Any, **keywords: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*arguments, **keywords)

    return inside


@in_the_climate_of_optax
def response_at(held: Held, gradient: State, checks: Checks | None = None, anew: Any = False) -> Response:
    """The linear response of an optimiser that is held at a state; `gradient` is the run's own, which says what is small.

    Traceable. `checks`: those of an earlier reading, to go by unless `anew` is true; they are half of the cost.
    """
    x, frozen = held.position, held.moments
    still, quiet = [_filled(0, leaf) for leaf in x], [_filled(0, leaf) for leaf in frozen]
    try:
        (rest, _), push = jax.linearize(held.step, still, frozen, x)
    except (TypeError, ValueError, AttributeError) as error:
        got = f"an update that fails on a gradient alone ({' '.join(str(error).split())[:120]})"
        do = "A line search, or two sets of weights (lookahead), cannot be asked so: follow sx.curvature(...) instead."
        raise ValueError(explain("optimizer", got, "an optimiser with an edge", do)) from error
    columns = _columns(push, held, still, quiet)
    ahead: list[Any] = []
    if held.bent is not None:
        _, bent = jax.linearize(held.bent, still, frozen, x)
        ahead = _columns(bent, held, still, quiet)
    solved = [_solved(i, columns, ahead, held.slots) for i in range(len(x))]
    first, inverse, turning, drift = (held.form.unflatten(list(part)) for part in zip(*solved, strict=True))
    raw = columns[0][0]

    def look() -> Checks:
        return _checks(
            lambda g: held.step(g, frozen, x)[0], push, quiet, still, raw, rest, jax.tree.leaves(gradient), x
        )

    before = checks
    found: Checks = look() if before is None else jax.lax.cond(jnp.asarray(anew), look, lambda: before)
    bound = ~_lacking(found)
    kept = lambda tree: held.form.unflatten([  # noqa: E731
        jnp.where(bound[i], leaf, 0) for i, leaf in enumerate(jax.tree.leaves(tree))
    ])  # fmt: skip
    return Response(kept(first), kept(inverse), kept(turning), kept(drift), found)


def _columns(push: Function, held: Held, still: list[Any], quiet: list[Any]) -> list[Any]:
    """What a unit of the gradient, of the position and of each kind of moment does to (the step, the moments)."""
    ones = [_filled(1, leaf) for leaf in still]
    columns = [_once(push(ones, quiet, still)), _once(push(still, quiet, ones))]
    for slot in held.slots:
        stirred = [_filled(place in slot.values(), leaf) for place, leaf in enumerate(held.moments)]
        columns.append(_once(push(still, stirred, still)))
    return columns


# Taken once: XLA would write the whole update into each place where it is read, and compile it there.
_once = jax.lax.optimization_barrier


def _filled(value: Any, like: Any) -> Array:
    """An array of one value that XLA does not know: it would spend seconds on what follows from large constants."""
    return jnp.broadcast_to(jax.lax.optimization_barrier(jnp.asarray(value, like.dtype)), jnp.shape(like))


def _signs(count: int, like: Any) -> Array:
    """Signs that look random: the top bit of a hash of the position (Knuth's multiplicative one, and a square)."""
    start = jax.lax.optimization_barrier(jnp.asarray(1 + 7919 * count, jnp.uint32))
    place = (start + jax.lax.iota(jnp.uint32, like.size)) * jnp.uint32(2654435761)
    place = (place ^ (place >> 15)) * (place | jnp.uint32(1))
    return jnp.where(place >> 31 == 1, 1, -1).astype(like.dtype).reshape(jnp.shape(like))


def _solved(i: int, columns: list[Any], ahead: list[Any], slots: list[dict[int, int]]) -> tuple[Any, ...]:
    """(R, M, turning, G(1)) of parameter i: the transfer functions of its few moments, all entries at once.

    `ahead`: the columns under a curvature of 1 where the gradient is taken, if that is not at the position.
    """
    own = [(j, slot[i]) for j, slot in enumerate(slots) if i in slot]
    dtype = jnp.result_type(jnp.real(columns[0][0][i]).dtype, jnp.float32)
    read = lambda leaf: jnp.real(leaf).astype(dtype)  # noqa: E731
    first, decay = read(columns[0][0][i]), read(columns[1][0][i])
    forced, tied = ([read(columns[c][1][place]) for _, place in own] for c in (0, 1))
    reading = [read(columns[2 + j][0][i]) for j, _ in own]
    matrix = [[read(columns[2 + k][1][place]) for k, _ in own] for _, place in own]

    def resolvent(z: float, sides: list[list[Any]]) -> list[list[Any]]:
        return _eliminated([[z * (j == k) - matrix[j][k] for k in range(len(own))] for j in range(len(own))], sides)

    def through(vector: list[Any]) -> Any:
        return sum((c * v for c, v in zip(reading, vector, strict=True)), start=jnp.zeros_like(first))

    once = resolvent(-1.0, [forced, tied])
    twice = resolvent(-1.0, once)
    gain, hold = first + through(once[0]), decay + through(once[1])
    gain_slope, hold_slope = -through(twice[0]), -through(twice[1])
    # A decay that by itself leaves at -1 is past any edge.
    holds = jnp.maximum(2 + hold, jnp.finfo(dtype).eps)
    inverse = -gain / holds
    turning = (1 - hold_slope) / holds + gain_slope / jnp.where(gain == 0, 1, gain)
    if ahead:
        whole, safe = [read(ahead[2 + j][0][i]) for j, _ in own], jnp.where(first == 0, 1, first)
        seen = [(both - c) / safe for both, c in zip(whole, reading, strict=True)]
        inverse, turning = _ahead(inverse, turning, seen, once, twice)
    drift = first + through(resolvent(1.0, [forced])[0])
    known = jnp.isfinite(inverse)
    numbers = (jnp.where(known & jnp.isfinite(number), number, 0) for number in (first, inverse, turning, drift))
    return tuple(numbers)


def _ahead(inverse: Any, turning: Any, seen: list[Any], once: list[Any], twice: list[Any]) -> tuple[Any, Any]:
    """M and the turning of y = x + c s: with x = X g the moments are s = (z - A)^{-1} (B + E X) g at z = -1."""
    slope = inverse * turning
    moments = [b + e * inverse for b, e in zip(*once, strict=True)]
    slopes = [e * slope - b2 - e2 * inverse for e, b2, e2 in zip(once[1], *twice, strict=True)]
    whole = inverse + sum(c * m for c, m in zip(seen, moments, strict=True))
    slope = slope + sum(c * m for c, m in zip(seen, slopes, strict=True))
    return whole, slope / jnp.where(whole == 0, 1, whole)


def _eliminated(matrix: list[list[Any]], sides: list[list[Any]]) -> list[list[Any]]:
    """Solve by Gauss and Jordan, elementwise over arrays; what is not driven (a pivot of 0: a sum) stays at rest."""
    rows = [[*line, *(side[j] for side in sides)] for j, line in enumerate(matrix)]
    for j in range(len(rows)):
        pivot = rows[j][j]
        rows[j] = [jnp.where(pivot == 0, 0, entry / jnp.where(pivot == 0, 1, pivot)) for entry in rows[j]]
        for k in range(len(rows)):
            if k != j:
                rows[k] = [entry - rows[k][j] * other for entry, other in zip(rows[k], rows[j], strict=True)]
    count = len(rows)
    return [[rows[j][count + s] for j in range(count)] for s in range(len(sides))]


def _checks(
    update: Any, push: Any, quiet: Any, still: Any, raw: list[Any], rest: list[Any], gradient: list[Any], x: list[Any]
) -> Checks:
    """Whether the response is known, and is that of a diagonal: array by array, so that none answers for another."""
    # Two directions: a random one, and that of the update, along which a step of given length does not change.
    chance = [_signs(count, leaf) for count, leaf in enumerate(raw)]
    own = [jnp.where(u == 0, z, jnp.sign(u).astype(z.dtype)) for u, z in zip(rest, chance, strict=True)]
    mixing = jnp.maximum(*(
        _shares_off(_once(push(z, quiet, still)[0]), [r * s for r, s in zip(raw, z, strict=True)]) for z in (chance, own)
    ))  # fmt: skip
    count = max(sum(leaf.size for leaf in raw), 1)
    # In units of the largest entry, whose square may be no number of this precision.
    peak = jnp.max(jnp.stack([jnp.max(jnp.abs(g), initial=0.0) for g in gradient]))
    parts = [jnp.abs(g) / jnp.where(peak > 0, peak, 1).astype(jnp.real(g).dtype) for g in gradient]
    size = _SMALL * peak * jnp.sqrt(sum(jnp.sum(part**2) for part in parts) / count)
    small = [size.astype(z.dtype) * z for z in chance]
    gap = [after - before for after, before in zip(_once(update(small)), rest, strict=True)]
    # An update may be a difference of two positions, with their rounding.
    floor = [_ROUNDINGS * jnp.finfo(u.dtype).eps * (jnp.abs(u) + jnp.abs(p)) for u, p in zip(rest, x, strict=True)]
    bending = _shares_off(gap, [r * s for r, s in zip(raw, small, strict=True)], floor)
    strange = jnp.stack([jnp.sum(~jnp.isfinite(leaf)) for leaf in raw])
    # For the run's own gradient a step of given length is far below what its slope at 0 says: optax's safe norms have one.
    whole = [after - before for after, before in zip(_once(update(gradient)), rest, strict=True)]
    short = [jnp.abs(w) < _SHORT * jnp.abs(r * g) for w, r, g in zip(whole, raw, gradient, strict=True)]
    bending = jnp.maximum(bending, jnp.stack([jnp.mean(s.astype(jnp.float32)) for s in short]))
    moves = jnp.stack([
        jnp.any((g != 0) | (u != 0) | (w != 0)) for g, u, w in zip(gap, rest, whole, strict=True)
    ])  # fmt: skip
    answers = jnp.stack([jnp.any(leaf != 0) for leaf in raw])
    cases = [
        strange == jnp.asarray([max(leaf.size, 1) for leaf in raw]), ~answers & moves, ~answers, mixing > _MOST,
        bending > _MOST,
    ]  # fmt: skip
    fate = jnp.select(cases, [UNKNOWN, SIGNS, RESTS, MIXES, BENDS], ANSWERS).astype(jnp.int8)
    number = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
    return Checks(number(jnp.sum(strange) / count), number(jnp.max(mixing)), number(jnp.max(bending)), fate)


def _shares_off(found: list[Any], expected: list[Any], floor: list[Any] | None = None) -> Any:
    """Of each array the share of entries that differ from what is expected, of those of which either is not 0."""
    floor = [jnp.zeros_like(jnp.abs(e)) for e in expected] if floor is None else floor
    triples = list(zip(found, expected, floor, strict=True))
    off = jnp.stack([jnp.sum(jnp.abs(f - e) > _DEVIATES * jnp.abs(e) + least) for f, e, least in triples])
    there = jnp.stack([jnp.sum((f != 0) | (e != 0)) for f, e, _ in triples])
    return off / jnp.maximum(there, 1)


def no_checks(parameters: State) -> Checks:
    """Those of an optimiser that was not asked yet."""
    none = jnp.zeros((), jnp.float32)
    return Checks(none, none, none, jnp.zeros(len(jax.tree.leaves(parameters)), jnp.int8))


def refusal(found: Checks) -> str | None:
    """Why an optimiser has no edge, in words; None where an array has one, or nothing moves. The numbers are known."""
    fates = np.asarray(found.fate).tolist()
    lacking = [fate for fate in fates if fate in (SIGNS, MIXES, BENDS)]
    return WHY[lacking[0]] if lacking and not {ANSWERS, UNKNOWN} & set(fates) else None


def refused(found: Checks) -> Array:
    """The same as a number, while tracing: one of `SIGNS`, `MIXES`, `BENDS`, or 0 where the optimiser has an edge."""
    bound = jnp.any((found.fate == ANSWERS) | (found.fate == UNKNOWN))
    return jnp.where(bound, 0, jnp.max(jnp.where(_lacking(found), found.fate, 0)))


def _lacking(found: Checks) -> Array:
    return (found.fate == SIGNS) | (found.fate == MIXES) | (found.fate == BENDS)
