r"""The solution of x[n+1] = F_theta(n, x[n]), n = 0, ..., N - 1, as one differentiable function of theta and x[0].

The derivative is that of the solution and not of Newton's rounds (implicit function theorem):

    dx[n+1] = DF(n, x[n]) dx[n] + (dF/dtheta)(n, x[n]) dtheta,    dx[0] given.

It is linear in (dx[0], dtheta), so that reverse mode is its transpose, the adjoint recurrence.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._tree import float_dtype, is_inexact
from separatrix._types import Function, State
from separatrix.evolution._newton import Problem, affine_scan, broken, points, solve
from separatrix.evolution._packing import pack, unpack


class Settings(NamedTuple):
    """How to solve: with the diagonal of J or all of it, from how many probes, how exactly, damped, how long."""

    diagonal: bool
    probes: int
    tolerance: float
    damping: float
    max_rounds: int


@eqx.filter_custom_jvp
def sequence(step: Function, state: State, numbers: Any, keys: Any, *, settings: Settings) -> tuple[Any, ...]:
    """x[1], ..., x[N] with a leading axis; rounds; residual; rows settled; whether the orbit breaks there."""
    rows = _Rows(step, state, numbers, keys)
    problem = Problem(rows.images, rows.slopes(settings), pack(state), numbers.shape[0])
    guess = solve(problem, settings.tolerance, settings.damping, settings.max_rounds)
    states = jax.vmap(lambda vector, rest: unpack(vector, rest, state))(guess.vectors, guess.rest)
    return states, guess.rounds, guess.residual, guess.settled, broken(guess, problem.length)


@sequence.def_jvp
def _sequence_jvp(primals: Any, tangents: Any, *, settings: Settings) -> tuple[Any, Any]:
    step, state, numbers, keys = primals
    out = sequence(*primals, settings=settings)
    vectors, rest = points(pack(state), *jax.vmap(pack)(out[0]))
    rows = _Rows(step, state, numbers, keys)
    forcing = rows.forcing(tangents[0], vectors, rest)
    first = _packed_tangent(state, tangents[1])
    if settings.diagonal:
        moved = rows.pushed(first, forcing, vectors, rest)
    else:
        matrices = rows.slopes(settings)(vectors, rest, jnp.asarray(0))
        moved = affine_scan(matrices, forcing.at[0].add(matrices[0] @ first))
    still = jax.tree.map(lambda leaf: None, eqx.filter(state, is_inexact, inverse=True))
    return out, (jax.vmap(lambda row: unpack(row, still, state))(moved), None, None, None, None)


class _Rows(NamedTuple):
    """F and its derivatives at all steps at once, on packed states."""

    step: Any
    like: State
    numbers: Any
    keys: Any

    def one(self, step: Any, n: Any, key: Any, vector: Any, rest: Any) -> tuple[Any, Any]:
        return pack(step(n, unpack(vector, rest, self.like), key))

    def images(self, vectors: Any, rest: Any) -> tuple[Any, Any]:
        return jax.vmap(lambda *row: self.one(self.step, *row))(self.numbers, self.keys, vectors, rest)

    def push(self, vectors: Any, rest: Any, along: Any) -> Any:
        """J[n] d[n], all n: (N, d) -> (N, d)."""
        return jax.jvp(lambda v: self.images(v, rest)[0], (vectors,), (along,))[1]

    def slopes(self, settings: Settings) -> Function:
        """What takes (rows, rest, round) to J: (N, d, d), or its diagonal: (N, d)."""
        if not settings.diagonal:
            return lambda vectors, rest, _: self.matrices(vectors, rest)
        if settings.probes:
            return lambda vectors, rest, number: self.estimate(vectors, rest, number, settings.probes)
        return lambda vectors, rest, _: self.diagonals(vectors, rest)

    def matrices(self, vectors: Any, rest: Any) -> Float[Array, "count dim dim"]:
        def column(unit: Any) -> Any:
            return self.push(vectors, rest, jnp.broadcast_to(unit, vectors.shape))

        return jax.vmap(column, out_axes=-1)(jnp.eye(vectors.shape[1], dtype=vectors.dtype))

    def diagonals(self, vectors: Any, rest: Any) -> Float[Array, "count dim"]:
        """One product a component, in turn, so that no more than (N, d) is held."""

        def entry(i: Any) -> Any:
            unit = jnp.zeros_like(vectors).at[:, i].set(1)
            return self.push(vectors, rest, unit)[:, i]

        return jax.lax.map(entry, jnp.arange(vectors.shape[1])).T

    def estimate(self, vectors: Any, rest: Any, number: Any, probes: int) -> Float[Array, "count dim"]:
        """The mean of s * (J s) over random signs s: diag J, plus off-diagonal entries with random signs."""

        def one(i: Any) -> Any:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), i)
            signs = jax.random.rademacher(key, vectors.shape, vectors.dtype)
            return signs * self.push(vectors, rest, signs)

        return jax.lax.map(one, jnp.arange(probes)).mean(axis=0)

    def forcing(self, tangent: Any, vectors: Any, rest: Any) -> Float[Array, "count dim"]:
        """(dF/dtheta) dtheta at every step."""
        if not jax.tree.leaves(tangent):
            return jnp.zeros_like(vectors)

        def images(step: Any) -> Any:
            return jax.vmap(lambda *row: self.one(step, *row)[0])(self.numbers, self.keys, vectors, rest)

        return eqx.filter_jvp(images, (self.step,), (tangent,))[1]

    def pushed(self, first: Any, forcing: Any, vectors: Any, rest: Any) -> Float[Array, "count dim"]:
        """d[n+1] = J[n] d[n] + b[n], step by step: all of J, one product at a time."""

        def move(along: Any, row: Any) -> tuple[Any, Any]:
            n, key, vector, still, shift = row
            after = jax.jvp(lambda v: self.one(self.step, n, key, v, still)[0], (vector,), (along,))[1] + shift
            return after, after

        return jax.lax.scan(move, first, (self.numbers, self.keys, vectors, rest, forcing))[1]


def _packed_tangent(state: State, tangent: Any) -> Float[Array, " dim"]:
    """A tangent with None where nothing moves, as a vector."""
    moving = eqx.filter(state, is_inexact)
    filled = jax.tree.map(lambda x, dx: jnp.zeros_like(x) if dx is None else dx, moving, tangent)
    return pack(filled)[0] if jax.tree.leaves(filled) else jnp.zeros(0, float_dtype(state))
