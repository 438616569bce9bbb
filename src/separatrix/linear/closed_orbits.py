r"""What closes, as a root: points of rest, cycles of maps and cycles of flows are one equation over m segments.

    phi_i(x_i) - x_{i+1} = 0,   i mod m,        and where T is unknown    <f(x_ref), x_0 - x_ref> = 0

                                       phi_i                                      unknowns
    a flow or a drift at rest          x + f(x)                                   x
    a map at rest, its k-cycles        F^{k/m}                                    x_0, ..., x_{m-1}
    a flow driven with period T        the solution from i T/m to (i + 1) T/m     x_0, ..., x_{m-1}
    a cycle of a flow                  phi_{T/m}                                  x_0, ..., x_{m-1}, ln T

The last row picks one point of a cycle. One segment is single shooting; more of them divide the growth of an error over a
period, exp(lambda T), among them. phi of a flow is an adaptive solution in the time s = t/T, so that T is a parameter, and
its derivative is the tangent flow, whose own error the step size control sees.
"""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._tree import float_dtype, scale
from separatrix._types import Scalar, State
from separatrix.calculus.tangents import TangentState, tangent
from separatrix.evolution.any_system import evolve
from separatrix.linear.coordinates import as_vector, from_vector, kind_of, rate
from separatrix.systems.flow import Flow
from separatrix.systems.iteration import iterate

# Times over a period at which an orbit of a flow is kept: 2, 3, 4, 5, 6 and 8 divide it, and so do numbers of segments.
SAMPLES = 240
_RETURN_SAMPLES = 4000
# A return is near when it is within this part of the orbit's extent, after having been three times as far.
_NEAR = 0.05


class InUnitTime(Flow):
    """dx/ds = T f(T (s + offset), x): a period of a flow as a unit of time."""

    flow: Flow
    period: Any
    offset: Any

    def velocity(self, t: Scalar, state: State) -> State:
        period = jnp.asarray(self.period, jnp.result_type(t))
        time = period * (t + jnp.asarray(self.offset, period.dtype))
        return scale(period, self.flow.velocity(time, state))


class Anchor(NamedTuple):
    """What is known beside the unknowns: the form of the state; of a flow the plane of x_0, and the period if fixed."""

    like: Any
    point: Any = None
    normal: Any = None
    period: Any = None


class ClosedOrbit(eqx.Module):
    """The equations, on z = (x_0, ..., x_{m-1}), with ln T at the end where the period is unknown.

    `closes` says after what: "rest" of a flow or drift, "steps" of a map, "drive" after a known time, "return" after an
    unknown one.
    """

    system: Any
    at: Any = 0
    key: Any = None
    closes: str = eqx.field(static=True, default="steps")
    steps: int = eqx.field(static=True, default=1)
    segments: int = eqx.field(static=True, default=1)

    def __call__(self, z: Float[Array, " n"], anchor: Anchor) -> Float[Array, " n"]:
        if self.segments == 1 and self.closes in ("rest", "steps"):
            image = self.image(z, anchor)
            return image if self.closes == "rest" else image - z
        points, period = self.parts(z, anchor)
        ends = jax.vmap(lambda x, i: self.carried(x, period, i, anchor.like))(points, jnp.arange(self.segments))
        gaps = (ends - jnp.roll(points, -1, axis=0)).ravel()
        if self.closes != "return":
            return gaps
        return jnp.append(gaps, jnp.dot(anchor.normal, points[0] - anchor.point))

    def image(self, point: Float[Array, " d"], anchor: Anchor) -> Float[Array, " d"]:
        """f(x) or F^k(x): its derivative has the spectrum."""
        return as_vector(rate(self.part, from_vector(point, anchor.like), at=self.at, key=self.key))

    @property
    def part(self) -> Any:
        """F^{k/m}, or the flow."""
        count = self.steps // self.segments
        return iterate(self.system, count) if count > 1 else self.system

    def unknowns(self, points: Float[Array, "m d"], period: Any) -> Float[Array, " n"]:
        """z."""
        return jnp.append(points.ravel(), jnp.log(period)) if self.closes == "return" else points.ravel()

    def parts(self, z: Float[Array, " n"], anchor: Anchor) -> tuple[Any, Any]:
        """(x_0, ..., x_{m-1}) and T."""
        points, period = (z[:-1], jnp.exp(z[-1])) if self.closes == "return" else (z, anchor.period)
        return points.reshape(self.segments, -1), period

    def anchor(self, state: State, period: Any) -> Anchor:
        """The plane through a state across the flow."""
        if self.closes != "return":
            return Anchor(state, period=period)
        normal = as_vector(rate(self.system, state))
        return Anchor(state, as_vector(state), normal / jnp.linalg.norm(normal), period)

    def carried(self, point: Any, period: Any, segment: Any, like: State) -> Float[Array, " d"]:
        """phi_i(x), NaN where a solution breaks off."""
        if self.closes == "steps":
            return as_vector(rate(self.part, from_vector(point, like), at=self.at + segment, key=self.key))
        offset = segment.astype(point.dtype) / self.segments
        return _carried(point, period, self.system, offset, like, 1 / self.segments)

    def factors(self, points: Float[Array, "m d"], period: Any, like: State) -> Float[Array, "m d d"]:
        """D phi_i of a flow at each x_i: the monodromy matrix is the last times ... times the first."""
        offsets = jnp.arange(self.segments).astype(points.dtype) / self.segments
        carry = lambda x, offset: _with_matrix(x, period, self.system, offset, like, 1 / self.segments)[1]  # noqa: E731
        return jax.vmap(carry)(points, offsets)

    def spread(self, state: State, period: Any) -> Float[Array, "m d"]:
        """Points of the orbit of a state at the starts of the segments."""
        if self.segments == 1:
            return as_vector(state)[None]
        if self.closes == "steps":
            return self.samples(as_vector(state)[None], period, state)[:: self.steps // self.segments]
        return _saved(InUnitTime(self.system, period, 0.0), state, 1.0, self.segments)

    def samples(self, points: Float[Array, "m d"], period: Any, like: State) -> Float[Array, "k d"]:
        """The k points of an orbit of a map; states at 240 equal times over the period of a flow."""
        if self.closes == "steps":
            orbit = evolve(self.system, from_vector(points[0], like), steps=self.steps, key=self.key)
            return jax.vmap(as_vector)(jax.tree.map(lambda leaf: leaf[:-1], orbit.states))
        each = SAMPLES // self.segments

        def one(point: Any, offset: Any) -> Any:
            return _saved(InUnitTime(self.system, period, offset), from_vector(point, like), 1 / self.segments, each)

        rows = jax.vmap(one)(points, jnp.arange(self.segments).astype(points.dtype) / self.segments)
        return rows.reshape(SAMPLES, -1)


def at_rest(system: Any, at: Any = 0, key: Any = None) -> ClosedOrbit:
    """f(x) = 0 of a flow or a drift, F(x) = x of a map."""
    return ClosedOrbit(system, jnp.asarray(at), key, "steps" if kind_of(system) == "map" else "rest")


@eqx.filter_custom_jvp
def _carried(point: Any, period: Any, flow: Flow, offset: Any, like: State, span: float) -> Any:
    """phi over a part of the period."""
    path = evolve(InUnitTime(flow, period, offset), from_vector(point, like), times=(0.0, span), save="last",
                  **solver_options(point.dtype))  # fmt: skip
    return jnp.where(path.outcome.completed, as_vector(path.final), jnp.nan)


@_carried.def_jvp
def _carried_jvp(primals: Any, tangents: Any) -> Any:
    """D phi dx by the tangent flow, and f dT, so that a Jacobian takes one evolution and not one for each column."""
    point, period, flow, offset, like, span = primals
    end, matrix = _with_matrix(*primals)
    moved = jnp.zeros_like(point) if tangents[0] is None else matrix @ tangents[0]
    if tangents[1] is None:
        return end, moved
    velocity = as_vector(flow.velocity(period * (offset + jnp.asarray(span, offset.dtype)), from_vector(end, like)))
    return end, moved + velocity * (jnp.asarray(span, point.dtype) * tangents[1])


def _with_matrix(point: Any, period: Any, flow: Flow, offset: Any, like: State, span: float) -> Any:
    """phi and D phi, whose own error the step size control sees."""
    basis = jax.vmap(lambda unit: from_vector(unit, like))(jnp.eye(point.size, dtype=point.dtype))
    start = TangentState(from_vector(point, like), basis)
    path = evolve(tangent(InUnitTime(flow, period, offset)), start, times=(0.0, span), save="last",
                  **solver_options(point.dtype))  # fmt: skip
    end, columns = as_vector(path.final[0]), jax.vmap(as_vector)(path.final[1])
    return jnp.where(path.outcome.completed, end, jnp.nan), jnp.where(path.outcome.completed, columns.T, jnp.nan)


def _saved(flow: InUnitTime, state: State, span: float, count: int) -> Any:
    times = np.linspace(0.0, span, count + 1)
    path = evolve(flow, state, times=times, save="all", **solver_options(float_dtype(state)))
    return jax.vmap(as_vector)(jax.tree.map(lambda leaf: leaf[:-1], path.states))


def solver_options(dtype: Any) -> dict[str, Any]:
    """How finely orbits are followed."""
    fine = float(jnp.finfo(dtype).eps) < 1e-10
    return {"method": diffrax.Dopri8() if fine else diffrax.Tsit5(), "rtol": 1e-11 if fine else 1e-5,
            "atol": 1e-12 if fine else 1e-6}  # fmt: skip


@eqx.filter_jit
def begun(orbit: ClosedOrbit, guesses: State, periods: Any) -> tuple[Any, Anchor]:
    """The unknowns at each guess, and what is held fixed there."""

    def one(state: State, period: Any) -> Any:
        return orbit.unknowns(orbit.spread(state, period), period), orbit.anchor(state, period)

    return jax.vmap(one)(guesses, periods)


@eqx.filter_jit
def sampled(orbit: ClosedOrbit, values: Any, anchors: Anchor) -> tuple[Any, Any]:
    """Periods and samples of the orbits at these unknowns."""

    def one(z: Any, anchor: Anchor) -> Any:
        points, period = orbit.parts(z, anchor)
        return jnp.asarray(period), orbit.samples(points, period, anchor.like)

    return jax.vmap(one)(values, anchors)


@eqx.filter_jit
def linearised(orbit: ClosedOrbit, points: Float[Array, "S m d"], periods: Any, likes: State) -> tuple[Any, Any]:
    """D phi_i of the segments of each orbit of a flow, and the velocity at their starts."""

    def one(points: Any, period: Any, like: State) -> Any:
        velocities = jax.vmap(lambda x: as_vector(rate(orbit.system, from_vector(x, like))))(points)
        return orbit.factors(points, period, like), velocities

    return jax.vmap(one)(points, periods, likes)


def across(factors: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Q_{i+1}^T D phi_i Q_i, with Q_i across the flow at x_i: the multiplier 1 along it is left out."""
    count, d = velocities.shape
    columns = np.concatenate([velocities[:, :, None], np.broadcast_to(np.eye(d), (count, d, d))], axis=2)
    # The first column of a basis is f/|f| up to its sign.
    bases = np.linalg.qr(columns)[0][:, :, 1:]
    return np.swapaxes(np.roll(bases, -1, axis=0), 1, 2) @ factors @ bases


@eqx.filter_jit
def _long_orbits(flow: Flow, guesses: State, search_time: Any) -> tuple[Any, Any]:
    times = np.linspace(0.0, search_time, _RETURN_SAMPLES + 1)

    def one(state: State) -> Any:
        path = evolve(flow, state, times=times)
        return path.states, jax.vmap(as_vector)(path.states)

    return jax.vmap(one)(guesses)


def close_returns(flow: Flow, guesses: State, search_time: float) -> tuple[State, np.ndarray]:
    """Where each orbit is at half the time, and when it first comes back near there; NaN where it does not."""
    states, vectors = _long_orbits(flow, guesses, search_time)
    half, step = _RETURN_SAMPLES // 2, search_time / _RETURN_SAMPLES
    periods = np.array([_first_return(orbit[half:]) * step for orbit in np.asarray(vectors)])
    return jax.tree.map(lambda leaf: leaf[:, half], states), periods


def _first_return(orbit: np.ndarray) -> float:
    distance = np.linalg.norm(orbit - orbit[0], axis=1)
    extent = np.max(distance)
    away = np.argmax(distance > 3 * _NEAR * extent)
    later = distance[away:]
    lowest = (later[1:-1] <= later[:-2]) & (later[1:-1] <= later[2:]) & (later[1:-1] < _NEAR * extent)
    return float(away + 1 + np.argmax(lowest)) if np.isfinite(extent) and lowest.any() else np.nan
