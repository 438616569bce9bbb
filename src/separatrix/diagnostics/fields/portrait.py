r"""The portrait of a flow: what a region of its state space holds, in one answer.

    f(x*) = 0  with the eigenvalues of Df(x*);      nullclines {f_i = 0};      orbits;      who ends where;      time scales

Beside an equilibrium a perturbation along an eigenvector of lambda grows or shrinks by e in the time 1/|Re lambda| and
turns once in 2 pi/|Im lambda|. The stable manifold of a saddle is the curve that parts basins. A flow that was learned
from data is a flow as any other: what it says where there were no data is no more than the network's guess.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key, State
from separatrix.diagnostics.equilibria.fixed_points import FixedPoints, fixed_points
from separatrix.diagnostics.equilibria.separatrix import separatrix
from separatrix.diagnostics.many.basins import Basins, basins
from separatrix.diagnostics.questions import Question, by_name, register
from separatrix.diagnostics.region import corners
from separatrix.diagnostics.result import Result, Row, number
from separatrix.diagnostics.starts import around
from separatrix.evolution import ensemble
from separatrix.linear.coordinates import as_vector
from separatrix.systems import ranges
from separatrix.systems.flow import Flow

_STARTS = 128  # of the search for equilibria
_ORBITS = 6  # a side
_ROWS = 200  # of an orbit
_NODES = 61  # a side, of the grid that nullclines are drawn from
_CURVE = 200  # points on a branch of a separatrix
_LISTED = 6


class Portrait(Result):
    r"""What a flow does in a region of d coordinates, drawn in the plane of the first two.

    - `equilibria`: a `FixedPoints`, those inside the region. `time_scales`, shape (P, k): 1/|Re lambda| of each of its
      eigenvalues; `turns`, shape (P, k): 2 pi/|Im lambda|, infinite where it does not turn.
    - `basins`: a `Basins` on a grid in that plane, the other coordinates being in the middle of the region.
    - `nodes`, shape (2, n): the grid along both axes. `velocities`, shape (n, n, 2): on it, first axis first; where a
      component is 0 runs its nullcline.
    - `orbits`, shape (N, T, d): some from a grid of starts, NaN past a break.
    - `manifolds`, shape (S, 2, K, 2): both branches of the stable manifold of each saddle of a plane, NaN past the ends.
    """

    equilibria: FixedPoints
    basins: Basins
    nodes: Float[Array, "2 n"]
    velocities: Float[Array, "n n 2"]
    orbits: Float[Array, "N T d"]
    manifolds: Float[Array, "S 2 K 2"]
    time_scales: Float[Array, "P k"]
    turns: Float[Array, "P k"]

    def rows(self) -> list[Row]:
        found = [Row("equilibria", str(len(self.equilibria.counts)))]
        points, spectra, kinds = self.equilibria.coordinates, self.equilibria.spectra, self.equilibria.kinds
        for place, values, kind, scales in list(zip(points, spectra, kinds, self.time_scales, strict=True))[:_LISTED]:
            where = ", ".join(number(float(x)) for x in np.where(np.abs(place) < 1e-12, 0.0, place))
            eigenvalues = ", ".join(number(complex(value)) for value in values)
            slowest = number(float(np.max(scales)))
            found.append(Row(f"{kind} at ({where})", f"eigenvalues {eigenvalues}; slowest scale {slowest}"))
        for i, kind in enumerate(self.basins.kinds):
            found.append(Row(f"basin {i}: {kind}", f"{self.basins.stability[i]:.4g} of the region"))
        return found

    @property
    def cautions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.equilibria.cautions, *self.basins.cautions]))


def portrait(
    flow: Any,
    region: Any,
    *,
    times: Any = (0.0, 100.0),
    span: Any = None,
    resolution: Checked[int] = 24,
    at: Any = 0,
) -> Portrait:
    r"""Return the portrait of a flow in a region: equilibria, nullclines, orbits, basins, time scales.

    **Arguments:**

    - `flow`: a `Flow` on states of d >= 2 numbers, as one that was learned: a `NeuralODE`, `universal`, a law.
    - `region`: `(low, high)`, corners of a box, each of d numbers. Of more than two coordinates the first two are drawn,
      with the others in the middle.
    - `times`: `(t0, t1)`, how long a start may take to come to where it ends. `span`: how long the orbits are that are
      drawn; a tenth of that by default.
    - `resolution`: starts a side for the basins. `at`: the time at which equilibria and nullclines are looked at.

    **Returns:** a `Portrait`; `separatrix.plotting.plot` draws it.

    **Raises:** `TypeError` for anything but a flow; `ValueError` for states or a region of less than two coordinates.

    **Example:** two wells and a saddle between: x'' = x - x^3 - x'/2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> duffing = sx.as_flow(lambda x: jnp.stack([x[1], x[0] - x[0] ** 3 - 0.5 * x[1]]))
    >>> found = sx.portrait(duffing, ((-2.0, -2.0), (2.0, 2.0)), resolution=12)
    >>> found.equilibria.kinds, found.basins.stability.tolist()
    (['stable focus', 'stable focus', 'saddle of index 1'], [0.5, 0.5])

    **Reference:** Strogatz, *Nonlinear Dynamics and Chaos* (2015), chapter 6.
    """
    if not isinstance(flow, Flow):
        do = "Pass sx.as_flow(f), or of a map ask fixed_points and basins."
        raise TypeError(explain("portrait: flow", type(flow).__name__, "a Flow", do))
    low, high = corners(region)
    if len(low) < 2:
        do = "Of one coordinate ask fixed_points and basins."
        raise ValueError(explain("portrait: region", f"{len(low)} coordinate", "at least two", do))
    resolution = ranges.whole("portrait: resolution", resolution, "Take 24.", least=4)
    span = (times[1] - times[0]) / 10 if span is None else span
    ranges.positive("portrait: span", span, "Leave it out for a tenth of `times`.")
    middle = jnp.asarray((low + high) / 2)
    points = fixed_points(flow, region=(jnp.asarray(low), jnp.asarray(high)), starts=_STARTS, at=at)

    def embed(point: Any) -> Any:
        return middle.at[:2].set(point)

    fates = basins(flow, region=(low[:2], high[:2]), resolution=resolution, embed=embed, times=times)
    nodes = np.linspace(low[:2], high[:2], _NODES)
    plane = jnp.asarray(np.stack(np.meshgrid(*nodes.T, indexing="ij"), axis=-1).reshape(-1, 2))
    velocities = _velocities(flow, jax.vmap(embed)(plane), jnp.asarray(at, middle.dtype))
    begins = np.stack(np.meshgrid(*np.linspace(low[:2], high[:2], _ORBITS).T, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = np.linspace(times[0], times[0] + span, _ROWS)
    paths = ensemble(flow, jax.vmap(embed)(jnp.asarray(begins)), times=grid)
    spectra = np.asarray(points.spectra)
    with np.errstate(divide="ignore"):
        scales, turns = 1 / np.abs(np.real(spectra)), 2 * np.pi / np.abs(np.imag(spectra))
    return Portrait(
        points, fates, jnp.asarray(nodes.T), velocities[:, :2].reshape(_NODES, _NODES, 2), paths.states,
        jnp.asarray(_manifolds(flow, points, high - low, at)), jnp.asarray(scales), jnp.asarray(turns),
    )  # fmt: skip


@eqx.filter_jit
def _velocities(flow: Flow, states: Any, at: Any) -> Any:
    return jax.vmap(lambda x: flow.velocity(at, x))(states)


def _manifolds(flow: Any, points: FixedPoints, size: np.ndarray, at: Any) -> np.ndarray:
    """The stable manifolds of the saddles of a plane, (S, 2, K, 2)."""
    curves = []
    if len(size) == 2:
        for place, kind in zip(points.coordinates, points.kinds, strict=True):
            if kind == "saddle of index 1":
                length = float(np.linalg.norm(size))
                found = separatrix(flow, jnp.asarray(place), length=length, rows=_CURVE, at=at)
                branches = np.asarray(found.points)[:, :_CURVE]
                room = _CURVE - branches.shape[1]
                curves.append(np.pad(branches, ((0, 0), (0, room), (0, 0)), constant_values=np.nan))
    return np.array(curves).reshape(-1, 2, _CURVE, 2)


def _ask(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> Portrait:
    """The box around the state."""
    low, high = around(as_vector(state))
    return portrait(system, (low, high), at=at)


register(Question("portrait", "equilibria, nullclines, orbits, basins around the state (by name only)", _ask, by_name,
                  rank=5))  # fmt: skip
