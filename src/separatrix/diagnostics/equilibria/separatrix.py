r"""The separatrix itself: the stable manifold of a saddle x*, where orbits end that go neither way.

    W = {x : orbit of x -> x*},     tangent at x* to the eigenvectors with |mu| < 1 (a map), Re mu < 0 (a flow).

Where it has one dimension it is a curve. From its second-order expansion

    W(s) = x* + s v + s^2 c + O(s^3),     (J - 2 mu) c = -D^2 f(v, v)/2  (a flow),   (J - mu^2) c = -D^2 F(v, v)/2  (a map)

it is followed backwards in time, where all that is off it comes nearer: a flow along its arc, a map by inverse images of
the stretch from W(s) to W(s/mu), to which starts are added until neighbours are close. Where its codimension is one it
parts basins, and the left eigenvector of the unstable direction is normal to it. The unstable manifold is the same
question asked of `reverse(system)`.

In more dimensions the boundary is met by edge tracking: a pair of starts with different fates is bisected until they
almost touch, run on until they part, and bisected again. Between them they shadow an orbit inside the boundary.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from separatrix._errors import explain
from separatrix.diagnostics.equilibria._manifold import along_flow, along_map, expansion
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.closed_orbits import Anchor, at_rest
from separatrix.linear.coordinates import Jacobian, from_vector, kind_of
from separatrix.linear.derivatives import require_derivatives
from separatrix.linear.root_search import find_roots

# Of the search for the saddle from where the user says it is.
_STEPS = 64


class Separatrix(Result):
    r"""The stable manifold of a saddle with d coordinates, k of them stable.

    - `saddle`, shape (d,), after Newton's method; `residual`: |F(x*) - x*| or |f(x*)| there.
    - `spectrum`, shape (d,): eigenvalues of the Jacobian. `tangent`, shape (d, k): an orthonormal basis of the tangent
      space; `normal`, shape (d,): the unit normal where k = d - 1, else NaN.
    - `points`, shape (2, K, d): the two branches from the saddle on, NaN past their ends; empty for k > 1.
    - `lengths`, shape (2,): of the branches. `connects`, shape (2,): whether a branch ends at another fixed point (or
      comes back to this one).
    - `error`: how far points may be off the manifold; `gap`: the largest distance between neighbours.
    """

    saddle: Float[Array, " d"]
    residual: Float[Array, ""]
    spectrum: Complex[Array, " d"]
    tangent: Float[Array, "d k"]
    normal: Float[Array, " d"]
    points: Float[Array, "2 K d"]
    lengths: Float[Array, "2"]
    connects: Array
    error: Float[Array, ""]
    gap: Float[Array, ""]
    kind: str = eqx.field(static=True)
    length: float = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        d, k = self.tangent.shape
        rows = [
            Row("saddle", self.saddle),
            Row("spectrum", self.spectrum),
            Row("stable manifold", f"{k} of {d} dimensions ({self.kind})"),
        ]
        if k == 1:
            rows += [Row("lengths of the branches", self.lengths), Row("error", self.error)]
        return rows if np.isnan(self.normal).any() else [*rows, Row("normal", self.normal)]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        d, k = self.tangent.shape
        if not self.residual <= (1e-4 if self.single_precision else 1e-8):
            found.append(f"the saddle is no fixed point: it moves by {float(self.residual):.2g}")
        if k < d - 1:
            found.append(f"{d - k} directions are unstable: the manifold is too thin to part two basins")
        if k == 1:
            for i, (length, connects) in enumerate(zip(self.lengths, self.connects, strict=True)):
                if bool(connects):
                    found.append(
                        f"branch {i} runs into a fixed point after {float(length):.4g}: a connection, or a source"
                    )
                elif length < 0.99 * self.length:
                    found.append(f"branch {i} was followed for {float(length):.4g} of {self.length:.4g} only")
        else:
            found.append(
                f"a manifold of {k} dimensions is no curve: here are its tangent space and normal; see edge_state"
            )
        if self.single_precision:
            found.append("float32: points are good to four digits at best")
        return tuple(found)


def separatrix(
    system: Any,
    saddle: Any,
    *,
    length: float = 10.0,
    rows: int = 400,
    at: Any = 0,
    rtol: float | None = None,
    atol: float | None = None,
) -> Separatrix:
    r"""Return the stable manifold of a saddle: the boundary between fates.

        W = {x : orbit of x -> x*}

    **Arguments:**

    - `system`: a `Flow` that does not depend on time, or a map with an inverse (`InvertibleMap`, or a `NearIdentityMap`).
    - `saddle`: a state near it; Newton's method goes the rest of the way.
    - `length`: how far each branch is followed, in units of the state; `rows`: points on it (a map takes as many more as
      keep neighbours within length/rows).
    - `at`: the time or step at which the system is looked at.
    - `rtol`, `atol`: of a flow's adaptive steps; 1e-10 by default (1e-5 in float32).

    **Returns:** a `Separatrix`: curves where one direction is stable; else the tangent space and normal.

    **Raises:** `ValueError` where there is no saddle; `TypeError` for an SDE, or a map without inverse.

    **Example:** the pendulum's separatrix is p = +-2 cos(q/2).

    >>> import jax.numpy as jnp, numpy as np, separatrix as sx
    >>> pendulum = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])]))
    >>> found = sx.separatrix(pendulum, jnp.array([3.1, 0.0]), length=4.0)
    >>> q, p = np.moveaxis(np.asarray(found.points), -1, 0)
    >>> bool(np.max(np.abs(np.abs(p) - 2 * np.abs(np.cos(q / 2)))) < 1e-8)
    True

    **Reference:** Krauskopf et al., *A survey of methods for computing (un)stable manifolds of vector fields* (2005); You,
    Kostelich & Yorke, *Calculating stable and unstable manifolds* (1991), for maps.
    """
    kind = kind_of(system)
    if kind == "sde":
        raise TypeError(explain("separatrix: system", "an SDE", "a Flow or an invertible Map", "Ask its drift."))
    if not length > 0 or rows < 8:
        raise ValueError(explain("separatrix: length and rows", (length, rows), "length > 0, rows >= 8", "Raise them."))
    jacobian, residual = _polished(Jacobian(system, saddle, at=at))
    values, stable, normal = _directions(
        require_derivatives("separatrix", jacobian, jacobian.matrix()).astype(float), kind
    )
    d, k = stable.shape
    single = jacobian.point.dtype == jnp.float32
    points, error, connects = np.zeros((2, 0, d)), np.nan, np.zeros(2, bool)
    if k == 1:
        curve = along_flow if kind == "flow" else along_map
        local = expansion(jacobian, kind, values, stable[:, 0])
        fine = 1e-5 if single else 1e-10
        tolerances = fine if rtol is None else rtol, fine if atol is None else atol
        points, error, connects = curve(local, length, rows, tolerances)
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2) if k == 1 else np.zeros((2, 1))
    return Separatrix(
        jacobian.point, jnp.asarray(residual), jnp.asarray(values), jnp.asarray(stable), jnp.asarray(normal),
        jnp.asarray(points), jnp.asarray(np.nansum(steps, axis=1)), jnp.asarray(connects), jnp.asarray(error),
        jnp.asarray(np.nanmax(steps)), kind, float(length), single,
    )  # fmt: skip


def _polished(jacobian: Jacobian) -> tuple[Jacobian, float]:
    """The Jacobian at the fixed point nearby, and what is left of its equation."""
    likes = jax.tree.map(lambda leaf: leaf[None], jacobian.state)
    found = find_roots(at_rest(jacobian.system, jacobian.at), jacobian.point[None], Anchor(likes), _STEPS)
    eps = float(jnp.finfo(jacobian.point.dtype).eps)
    residual = float(found.residuals[0]) * max(1.0, float(np.linalg.norm(found.values[0])))
    if not np.isfinite(residual) or residual > eps**0.25:
        do = "Start nearer to it: fixed_points or edge_state finds it."
        raise ValueError(explain("separatrix: saddle", f"no fixed point near {jacobian.point}", "a saddle", do))
    return Jacobian(
        jacobian.system, from_vector(jnp.asarray(found.values[0]), jacobian.state), at=jacobian.at
    ), residual


def _directions(matrix: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(eigenvalues, orthonormal stable basis, normal)."""
    values, vectors = np.linalg.eig(matrix)
    size = np.abs(values) - 1 if kind == "map" else np.real(values)
    stable = size < 0
    if stable.all() or not stable.any() or np.min(np.abs(size)) < 1e-8:
        border = "|mu| = 1" if kind == "map" else "Re mu = 0"
        do = "Take a fixed point with eigenvalues on both sides and none on the border."
        raise ValueError(explain("separatrix: saddle", f"eigenvalues {values}", f"some on either side of {border}", do))
    chosen = vectors[:, stable]
    spanned = np.concatenate([np.real(chosen), np.imag(chosen)], axis=1)
    tangent = np.linalg.svd(spanned, full_matrices=True)[0]
    k = int(stable.sum())
    normal = tangent[:, k] if k == len(values) - 1 else np.full(len(values), np.nan)
    return values.astype(complex), tangent[:, :k], normal
