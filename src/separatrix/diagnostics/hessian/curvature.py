r"""Curvature: the sharpest directions of an objective.

    H v_i = lambda_i v_i        (H v_i = lambda_i d v_i in the metric of an optimiser),        lambda_1 >= lambda_2 >= ...

Gradient descent of step size h is stable where h lambda_1 < 2, and training goes to that edge. Along a run the pairs
change little: from those before, a product or two suffice.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from separatrix._errors import explain
from separatrix._types import State
from separatrix.diagnostics.checks import check_count
from separatrix.diagnostics.hessian._follow import follow
from separatrix.diagnostics.hessian._products import CurvatureTask, task_of
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.lanczos import Pairs, PairSearch, leading

_ENDS = ("largest", "smallest")


class Curvature(Result):
    r"""Eigenpairs at one end of a spectrum, the outermost first.

    - `eigenvalues`, shape (k,); `errors`: bounds on how far they are off, without a guard estimates.
    - `residuals`: |H v - lambda v| of unit v.
    - `vectors`: the eigenvectors and those kept to go on from, in the form of the parameters with a leading axis.
    - `gap`: from the last pair to the next eigenvalue as far as the search saw it, over the last eigenvalue's size.
    - `gradient_norm`: |grad L| there. `products`: how many products with the matrix it took. `converged`: to `tol`.
    """

    eigenvalues: Float[Array, "*batch k"]
    errors: Float[Array, "*batch k"]
    residuals: Float[Array, "*batch k"]
    vectors: State
    gap: Float[Array, "*batch"]
    gradient_norm: Float[Array, "*batch"]
    products: Int[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    tol: float = eqx.field(static=True)
    matrix: str = eqx.field(static=True)
    end: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    preconditioned: bool = eqx.field(static=True)

    @property
    def eigenvectors(self) -> State:
        """A tree like the parameters, with a leading axis for the pairs, of unit length in the metric.

        Of a batch, take one member out first.
        """
        return jax.tree.map(lambda leaf: leaf[: self.eigenvalues.shape[-1]], self.vectors)

    @property
    def sharpness(self) -> Float[Array, "*batch"]:
        """The outermost eigenvalue."""
        return self.eigenvalues[..., 0]

    def rows(self) -> list[Row]:
        where = f"{self.size} parameters" + (", preconditioned" if self.preconditioned else "")
        return [
            Row(f"{self.end} eigenvalues ({self.matrix.replace('_', '-')}, {where})", self.eigenvalues),
            Row("bound on their errors", self.errors),
            Row("stable step sizes of gradient descent below", self._edge()),
            Row("norm of the gradient", self.gradient_norm),
            Row("products", self.products),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not np.all(self.converged):
            worst = float(np.max(np.nan_to_num(np.asarray(self.errors), nan=np.inf)))
            found.append(f"not converged to {self.tol:g}: errors of up to {worst:.2g}; raise max_products")
        dtype = self.eigenvalues.dtype
        if dtype == jnp.float32 and self.tol < 1e-5:
            found.append("float32: a product is right to about six digits of the largest eigenvalue")
        return tuple(found)

    def _edge(self) -> Any:
        top = np.asarray(self.sharpness)
        if np.isnan(top).any():
            return "not known"
        return 2 / np.where(top > 0, top, 0.0) if np.all(top > 0) else "any"


def curvature(
    objective: Any,
    parameters: Any,
    *,
    count: int = 1,
    tol: float = 1e-3,
    start: Any = None,
    key: Any = None,
    preconditioner: Any = None,
    matrix: str = "hessian",
    end: str = "largest",
    guard: int = 1,
    basis: int = 12,
    max_products: int = 300,
) -> Curvature:
    r"""Return the eigenpairs at the end of an objective's Hessian or Gauss-Newton matrix, by products alone.

        H v = lambda v,        or H v = lambda d v:  the spectrum of D^(-1/2) H D^(-1/2)

    **Arguments:**

    - `objective`: an `Objective`, a function L(parameters), or L(parameters, *, key); or, for Gauss-Newton, a pair
      (outputs(parameters), loss(outputs)).
    - `parameters`: a tree of arrays, of n real coordinates; float32 stays float32.
    - `count`: how many pairs, 1 to n. `end`: "largest" (algebraically) or "smallest".
    - `tol`: relative accuracy of the eigenvalues, by the bound min(|r|, |r|^2/gap).
    - `start`: an earlier `Curvature`, or a tree of vectors with a leading axis: where to start from.
    - `key`: of a random objective, held fixed.
    - `preconditioner`: d > 0 in the form of the parameters: for Adam sqrt(second moment) + eps.
    - `matrix`: "hessian" or "gauss_newton", which is positive semidefinite for a convex loss.
    - `guard`: how many more vectors are kept and confirmed each time. With 0 a call takes a product less, but a
      direction that overtakes the one followed goes unseen, and the gap is that which the earlier search saw.
    - `basis`: how many vectors there is room for, each twice; past them it restarts. `max_products`: when to give up;
      vectors to start from are multiplied in any case.

    **Returns:** a `Curvature`. The whole is traceable: it may be compiled into a training loop, or mapped by `vmap`.

    **Raises:** `ValueError` for a count out of range, an objective that is no scalar, a preconditioner that does not fit
    or is not positive; `TypeError` for a Gauss-Newton matrix of an objective that does not say its outputs.

    **Example:** the second call starts from the first.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> bowl = lambda x: 0.5 * jnp.sum(jnp.arange(1.0, 101.0) * x**2)
    >>> first = sx.curvature(bowl, jnp.ones(100), tol=1e-6)
    >>> again = sx.curvature(bowl, 0.9 * jnp.ones(100), start=first, tol=1e-6)
    >>> round(float(again.sharpness), 4), int(again.products)
    (100.0, 2)

    **Reference:** Davidson, *The iterative calculation of a few of the lowest eigenvalues* (1975); Wu & Simon,
    *Thick-restart Lanczos method* (2000), whose restart this is; Saad, *Numerical Methods for Large Eigenvalue Problems*
    (2011), chapter 3, for the bounds; Cohen et al., *Adaptive gradient methods at the edge of stability* (2022), for the
    preconditioned matrix.
    """
    task = task_of("curvature", objective, parameters, key, matrix, preconditioner)
    check_count("curvature: count", count, 1, task.size)
    check_count("curvature: guard", guard, 0)
    check_count("curvature: max_products", max_products, 1)
    if end not in _ENDS:
        raise ValueError(explain("curvature: end", repr(end), '"largest" or "smallest"', "Name one of these."))
    kept = min(count + guard, task.size)
    room = min(max(basis, kept + 3), task.size)
    vectors = None if start is None else _vectors(start, task, kept)
    dtype = task.dtype
    seen = start.gap if isinstance(start, Curvature) and start.eigenvalues.shape[-1] == count == kept else jnp.nan
    sign = jnp.asarray(1 if end == "largest" else -1, dtype)
    numbers = jnp.asarray(tol, dtype), jnp.asarray(max_products), jnp.asarray(seen, dtype)
    pairs, tree, gradient_norm = _search(task, vectors, sign, numbers, count, kept, room)
    return Curvature(
        eigenvalues=sign * pairs.values[:count],
        errors=pairs.errors,
        residuals=pairs.residuals[:count],
        vectors=tree,
        gap=pairs.gap,
        gradient_norm=gradient_norm,
        products=pairs.products,
        converged=pairs.converged,
        tol=float(tol),
        matrix=matrix,
        end=end,
        size=task.size,
        preconditioned=preconditioner is not None,
    )


@eqx.filter_jit
def _search(
    task: CurvatureTask, start: Any, sign: Any, numbers: Any, count: int, kept: int, room: int
) -> tuple[Pairs, State, Array]:
    """Pairs of sign times the matrix, their vectors as trees, and |grad L|; compiled once whatever tol and the end."""
    tol, limit, gap = numbers

    # A fixed key: the start only has to have a part in every direction, and the same call should give the same answer.
    def random_vector(i: Any) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (task.size,), task.dtype)

    search = PairSearch(count, kept, room, tol, limit, gap, random_vector)
    if kept == 1 and start is not None and task.real:
        first = task.unscaled(jax.tree.map(lambda leaf: leaf[0], start))
        pairs, length = follow(task, first, sign, search)
        return pairs, jax.vmap(task.scaled)(pairs.vectors), length
    if start is None:
        # As many vectors as pairs are wanted: a single one sees each multiple eigenvalue but once.
        vectors = jax.vmap(random_vector)(task.size + jnp.arange(count))
    else:
        vectors = jax.vmap(task.coordinates)(start)
    multiply, gradient = task.products()
    pairs = leading(lambda v: sign * multiply(v), vectors, search)
    return pairs, jax.vmap(task.from_coordinates)(pairs.vectors), jnp.linalg.norm(gradient)


def _vectors(start: Any, task: CurvatureTask, kept: int) -> State:
    """Vectors to start from: a tree of the parameters' form with a leading axis."""
    tree = start.vectors if isinstance(start, Curvature) else start
    shapes = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(tree)]
    expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(task.parameters)]
    if shapes != expected:
        do = "Pass an earlier result for these parameters, or vectors with a leading axis."
        raise ValueError(explain("curvature: start", f"vectors of shapes {shapes}", f"{expected}", do))
    return jax.tree.map(lambda v, x: jnp.asarray(v)[:kept].astype(x.dtype), tree, task.parameters)
