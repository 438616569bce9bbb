r"""Covariant Lyapunov vectors: the directions that the dynamics itself carries into one another.

    DF(n, x[n]) w_i[n]  is parallel to  w_i[n+1],      |w_i[n]| grows at lambda_i, forwards as well as backwards

The rows Q of the QR method are orthogonal and depend on the past alone; w_i is where the span of the first i of them meets
what shrinks no faster backwards. With Q[n] DF^T = L[n+1] Q[n+1] and w = A Q, A lower triangular, covariance reads

    A[n] L[n+1]^-1  <-  D A[n+1],      D diagonal, so that rows of A have length one

and from any A at the end of a run the recursion, taken backwards, falls on the w_i as it should (Ginelli). So a run has a
transient at its beginning, in which Q turns, one at its end, in which A does, and its vectors in between.

Where two of them come near to each other the orbit is near a tangency: angles that keep away from zero between the
growing and the shrinking ones are what hyperbolic means.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Key, State, StepIndex
from separatrix.diagnostics.along._lyapunov_plan import accurate_method, plan_of
from separatrix.diagnostics.along._tangent_block import BlockOfFlow, BlockOfMap, TangentBlock, first_block
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.evolution.checks import check_steps
from separatrix.linear.orthonormal import triangular
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.trajectory import Outcome

# What the vectors from two different ends may still differ by.
_SETTLED = 1e-6


class CovariantVectors(Result):
    r"""Covariant Lyapunov vectors along a piece of orbit.

    - `vectors`, shape (N, k, d): w_i[n] of length one in the coordinates of the state, the fastest first.
    - `states`: where they stand, a leading axis of length N; `times`, shape (N,).
    - `exponents`, shape (k,): their mean rates over this piece alone, per step of a map or unit of time.
    - `settled`: what vectors from two different ends of the run differ by at most, in sine of angle.
    """

    vectors: Float[Array, "n k d"]
    states: State
    times: Shaped[Array, " n"]
    exponents: Float[Array, " k"]
    settled: Float[Array, ""]
    outcome: Outcome
    unit: str = eqx.field(static=True)

    def angles(self, split: int | None = None) -> Float[Array, " n"]:
        """Return the smallest angle between the first `split` vectors' span and that of the rest, at each time.

        By default the split lies after the growing ones. In radians, from 0 (tangent) to pi/2.
        """
        split = int(jnp.sum(self.exponents > 0)) if split is None else split
        if not 0 < split < self.vectors.shape[1]:
            do = "Say split=, with directions on both sides of it."
            raise ValueError(explain("angles: split", split, f"from 1 to {self.vectors.shape[1] - 1}", do))
        return jax.vmap(lambda rows: _smallest_angle(rows[:split], rows[split:]))(self.vectors)

    def rows(self) -> list[Row]:
        rows = [
            Row("exponents of this piece", self.exponents),
            Row("vectors", f"{self.vectors.shape[1]} at each of {self.vectors.shape[0]} {self.unit}s"),
            Row("sine from another end", self.settled),
            Row("outcome", str(self.outcome)),
        ]
        if 0 < int(jnp.sum(self.exponents > 0)) < self.vectors.shape[1]:
            angles = np.asarray(self.angles())
            rows.insert(1, Row("smallest, median angle", np.array([np.min(angles), np.median(angles)])))
        return rows

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not np.all(self.outcome.completed):
            found.append(f"the orbit ended early ({self.outcome}): there are no vectors")
        elif not self.settled <= _SETTLED:
            found.append(
                f"vectors depend on the end of the run by {float(self.settled):.2g}: lengthen it, or exponents are equal"
            )
        if jnp.finfo(self.vectors.dtype).bits < 64:
            found.append("float32: directions hold to about 1e-3")
        return tuple(found)


class TriangularStep(Map):
    """(block, L) -> (block with V = Q, L) of V DF^T = L Q."""

    block: BlockOfMap | BlockOfFlow
    interval: Any

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        block = self.block.many(TangentBlock(*state[0]), self.interval)
        directions, lower = triangular(block.directions)
        return block._replace(directions=directions), lower


class Backwards(FiniteMap):
    """A[n] <- A[n+1] L[n+1] scaled to rows of length one, over recorded L, the last first; for several A at once."""

    lowers: Float[Array, "n k k"]
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        lower = self.lowers[self.length - 1 - n]

        def back(rows: Any) -> Any:
            rows = jax.scipy.linalg.solve_triangular(lower, rows.T, trans="T", lower=True).T
            return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

        return jax.vmap(back)(state)


def covariant_vectors(
    system: Any,
    state: Any,
    *,
    count: Any = None,
    steps: Any = None,
    times: Any = None,
    step_size: Any = None,
    transient: Any = None,
    settling: Any = None,
    key: Any = None,
    start: Any = 0,
    method: Any = None,
    interval: Any = None,
) -> CovariantVectors:
    r"""Return the covariant Lyapunov vectors of an orbit, by Ginelli's forward and backward sweep.

        DF w_i[n] parallel to w_i[n+1]

    **Arguments:**

    - `system`, `state`, `count`, `key`, `start`, `method`, `step_size`: as for `lyapunov_spectrum`.
    - `steps` or `times`: the whole run, said explicitly: k d + k^2 numbers are kept for each interval of it.
    - `transient`: steps or time at first that give no vectors; a third of the run by default.
    - `settling`: intervals at its end that give none; a third by default.
    - `interval`: steps between vectors: 1 of a map, 4 of a flow by default.

    **Returns:** a `CovariantVectors`.

    **Raises:** `ValueError` for a run without a length, or too short for its two transients.

    **Example:** of a linear map they are its eigenvectors, here (1, 0) and (1, -1) up to length.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> matrix = jnp.array([[2.0, 1.5], [0.0, 0.5]])
    >>> found = sx.covariant_vectors(sx.as_map(lambda x: matrix @ x), jnp.zeros(2), steps=120)
    >>> slopes = found.vectors[0, :, 1] / found.vectors[0, :, 0]
    >>> [round(abs(slope), 9) for slope in slopes.tolist()], round(float(jnp.degrees(found.angles()[0])), 6)
    ([0.0, 1.0], 45.0)

    **Reference:** Ginelli, Poggi, Turchi, Chate, Livi & Politi, *Characterizing dynamics with covariant Lyapunov vectors*,
    PRL 99 (2007); Kuptsov & Parlitz, *Theory and computation of covariant Lyapunov vectors* (2012).
    """
    if steps is None and times is None and not isinstance(system, FiniteMap):
        do = "Say steps= of a map or times= of a flow: vectors of the whole run are kept."
        raise ValueError(explain("covariant_vectors: steps", "None", "how long the run is", do))
    given = {"steps": steps, "times": times, "step_size": step_size, "transient": transient, "start": start}
    if isinstance(system, Flow) and method is None:
        method = accurate_method()  # directions are wanted, not means: no statistical error hides that of the method
    state, plan, count = plan_of(system, state, count, key=key, method=method, **given)
    interval = (4 if plan.continuous else 1) if interval is None else check_steps(interval, "interval", 1)
    total = plan.steps // interval
    before = total // 3 if plan.transient is None else -(-plan.transient // interval)
    after = total // 3 if settling is None else check_steps(settling, "settling")
    if total - before - after < 1:
        got = f"{total} intervals, {before} of them transient and {after} settling"
        raise ValueError(explain("covariant_vectors", got, "some left between", "Take a longer run."))
    return _sweep(plan, state, count, key, interval, total, before, after)


def _sweep(
    plan: Any, state: State, count: int, key: Any, interval: int, total: int, before: int, after: int
) -> CovariantVectors:
    forward = TriangularStep(plan.block, interval if is_traced(plan.block, state) else np.asarray(interval))
    first = first_block(state, count, plan.start)[0]
    unit = jnp.eye(count, dtype=first.directions.dtype)
    path = evolve(forward, (first, unit), steps=total, save=np.arange(before, total + 1))
    blocks, lowers = path.states
    # L[n] leads from row n - 1 to row n; of two ends, one is Q itself and one is not.
    ends = jnp.stack([unit, jnp.tril(jnp.ones_like(unit))])
    back = evolve(Backwards(lowers[1:], total - before), ends)
    factors = back.states[::-1][: total - before - after]
    kept = jax.tree.map(lambda leaf: leaf[: total - before - after], (blocks, lowers[1:]))
    (here, lower) = kept
    vectors = jnp.einsum("nij,njd->nid", factors[:, 0], here.directions)
    other = jnp.einsum("nij,njd->nid", factors[:, 1], here.directions)
    along = jnp.abs(jnp.sum(vectors * other, axis=-1))
    step = jnp.asarray(plan.step, vectors.dtype)
    grown = jnp.linalg.norm(jnp.einsum("nij,njk->nik", factors[:, 0], lower), axis=-1)
    numbers = here.number.astype(vectors.dtype)
    return CovariantVectors(
        vectors=vectors,
        states=here.state,
        times=jnp.asarray(plan.origin, vectors.dtype) + numbers * step,
        exponents=jnp.mean(jnp.log(grown), axis=0) / (interval * step),
        settled=jnp.sqrt(jnp.maximum(1 - jnp.min(along) ** 2, 0)),
        outcome=path.outcome,
        unit="instant" if plan.continuous else "step",
    )


def _smallest_angle(first: Array, second: Array) -> Array:
    """The smallest principal angle of two spans of rows, from the cosine or, where it is small, from the sine."""
    one, _ = triangular(first)
    other, _ = triangular(second)
    small, large = (one, other) if one.shape[0] <= other.shape[0] else (other, one)
    products = small @ large.T
    rest = small - products @ large
    cosine = jnp.max(jnp.linalg.svd(products, compute_uv=False))
    sine = jnp.min(jnp.linalg.svd(rest, compute_uv=False))
    return jnp.arctan2(sine, cosine)
