r"""Cycles of a flow as roots: shooting over m segments.

    phi_{T/m}(x_i) - x_{i+1} = 0,  i mod m,      <f(x_ref), x_0 - x_ref> = 0

in the unknowns (x_0, ..., x_{m-1}, ln T); the last equation picks one point of the cycle. Where the flow depends on time
with a known period, T is fixed and the last equation is not there. One segment is single shooting; more of them divide
the growth of an error over a period, exp(lambda T), among them.

phi is an adaptive solution in the time s = t/T, so that T is a parameter. The monodromy matrix D phi_T is the product of
those of the segments, each by the tangent flow, whose own error the step size control sees.
"""

import functools
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
from separatrix.linear.coordinates import as_vector, from_vector, rate
from separatrix.systems.flow import Flow

# Times over a period at which an orbit is kept: every 2, 3, 4, 5, 6 and 8 of them begin it anew for a shorter period.
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


class Pinned(NamedTuple):
    """What a shooting knows beside its unknowns: the form of the state, the plane of x_0, and the period if fixed."""

    like: Any
    point: Any
    normal: Any
    period: Any


class Shooting(eqx.Module):
    """The equations, on z = (x_0, ..., x_{m-1}, ln T), or without ln T where the flow is driven."""

    flow: Flow
    segments: int = eqx.field(static=True)
    driven: bool = eqx.field(static=True)

    def unknowns(self, points: Float[Array, "m d"], period: Scalar) -> Float[Array, " n"]:
        """z."""
        return points.ravel() if self.driven else jnp.append(points.ravel(), jnp.log(period))

    def parts(self, z: Float[Array, " n"], pinned: Pinned) -> tuple[Any, Any]:
        """(x_0, ..., x_{m-1}) and T."""
        points, period = (z, pinned.period) if self.driven else (z[:-1], jnp.exp(z[-1]))
        return points.reshape(self.segments, -1), period

    def pin(self, state: State, period: Scalar) -> Pinned:
        """The plane through a state across the flow."""
        normal = as_vector(rate(self.flow, state))
        return Pinned(state, as_vector(state), normal / jnp.linalg.norm(normal), period)

    def __call__(self, z: Float[Array, " n"], pinned: Pinned) -> Float[Array, " n"]:
        points, period = self.parts(z, pinned)
        ends = jax.vmap(lambda x, i: self.carried(x, period, i, pinned.like))(points, jnp.arange(self.segments))
        gaps = (ends - jnp.roll(points, -1, axis=0)).ravel()
        return gaps if self.driven else jnp.append(gaps, jnp.dot(pinned.normal, points[0] - pinned.point))

    def carried(self, point: Any, period: Any, segment: Any, like: State) -> Float[Array, " d"]:
        """phi_{T/m}(x) from the time of a segment, NaN where the solution breaks off."""
        offset = segment.astype(point.dtype) / self.segments
        return _carried(point, period, self.flow, offset, like, 1 / self.segments)

    def monodromy(self, points: Float[Array, "m d"], period: Scalar, like: State) -> Float[Array, "d d"]:
        """D phi_T at x_0."""
        offsets = jnp.arange(self.segments).astype(points.dtype) / self.segments
        carry = lambda x, offset: _carried_with_matrix(x, period, self.flow, offset, like, 1 / self.segments)[1]  # noqa: E731
        return functools.reduce(lambda product, factor: factor @ product, jax.vmap(carry)(points, offsets))

    def spread(self, state: State, period: Scalar) -> Float[Array, "m d"]:
        """Points of the orbit of a state at the starts of the segments."""
        if self.segments == 1:
            return as_vector(state)[None]
        return _saved(InUnitTime(self.flow, period, 0.0), state, 1.0, self.segments)

    def samples(self, points: Float[Array, "m d"], period: Scalar, like: State) -> Float[Array, "k d"]:
        """States at 240 equal times over a period."""
        each = SAMPLES // self.segments

        def one(point: Any, offset: Any) -> Any:
            return _saved(InUnitTime(self.flow, period, offset), from_vector(point, like), 1 / self.segments, each)

        rows = jax.vmap(one)(points, jnp.arange(self.segments).astype(points.dtype) / self.segments)
        return rows.reshape(SAMPLES, -1)


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
    end, matrix = _carried_with_matrix(*primals)
    moved = jnp.zeros_like(point) if tangents[0] is None else matrix @ tangents[0]
    if tangents[1] is None:
        return end, moved
    velocity = as_vector(flow.velocity(period * (offset + jnp.asarray(span, offset.dtype)), from_vector(end, like)))
    return end, moved + velocity * (jnp.asarray(span, point.dtype) * tangents[1])


def _carried_with_matrix(point: Any, period: Any, flow: Flow, offset: Any, like: State, span: float) -> Any:
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
def begin(shooting: Shooting, guesses: State, periods: Float[Array, " S"]) -> tuple[Any, Pinned]:
    """The unknowns at each guess, and what is pinned there."""

    def one(state: State, period: Any) -> Any:
        return shooting.unknowns(shooting.spread(state, period), period), shooting.pin(state, period)

    return jax.vmap(one)(guesses, periods)


@eqx.filter_jit
def sampled(shooting: Shooting, values: Any, pinned: Pinned) -> tuple[Any, Any]:
    """Periods and samples of the orbits at these unknowns."""

    def one(z: Any, pinned: Pinned) -> Any:
        points, period = shooting.parts(z, pinned)
        return jnp.asarray(period), shooting.samples(points, period, pinned.like)

    return jax.vmap(one)(values, pinned)


@eqx.filter_jit
def monodromies(shooting: Shooting, points: Float[Array, "S m d"], periods: Float[Array, " S"], likes: State) -> Any:
    """D phi_T and the velocity at the first point of each orbit."""

    def one(points: Any, period: Any, like: State) -> Any:
        velocity = as_vector(rate(shooting.flow, from_vector(points[0], like)))
        return shooting.monodromy(points, period, like), velocity

    return jax.vmap(one)(points, periods, likes)


@eqx.filter_jit
def _long_orbits(flow: Flow, guesses: State, horizon: Any) -> tuple[Any, Any]:
    times = np.linspace(0.0, horizon, _RETURN_SAMPLES + 1)

    def one(state: State) -> Any:
        path = evolve(flow, state, times=times)
        return path.states, jax.vmap(as_vector)(path.states)

    return jax.vmap(one)(guesses)


def close_returns(flow: Flow, guesses: State, horizon: float) -> tuple[State, np.ndarray]:
    """Where each orbit is at half the horizon, and when it first comes back near there; NaN where it does not."""
    states, vectors = _long_orbits(flow, guesses, horizon)
    half, step = _RETURN_SAMPLES // 2, horizon / _RETURN_SAMPLES
    periods = np.array([_first_return(orbit[half:]) * step for orbit in np.asarray(vectors)])
    return jax.tree.map(lambda leaf: leaf[:, half], states), periods


def _first_return(orbit: np.ndarray) -> float:
    distance = np.linalg.norm(orbit - orbit[0], axis=1)
    extent = np.max(distance)
    away = np.argmax(distance > 3 * _NEAR * extent)
    later = distance[away:]
    lowest = (later[1:-1] <= later[:-2]) & (later[1:-1] <= later[2:]) & (later[1:-1] < _NEAR * extent)
    return float(away + 1 + np.argmax(lowest)) if np.isfinite(extent) and lowest.any() else np.nan
