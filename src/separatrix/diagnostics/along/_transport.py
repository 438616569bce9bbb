r"""Blocks of vectors carried along a trajectory, forth by its Jacobians and back by their transposes.

    map    W = J_n V,  W = J_n^T V          flow    dV/dt = J(t) V,  dV/ds = J(t1 - s)^T V over an interval

in real coordinates, brought back to orthonormal after each step, V = Q R, with the product of all R kept as
diag(exp l) U, so that nothing under- or overflows.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.calculus.adjoints import AdjointFlow, AdjointMap
from separatrix.evolution import evolve
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.linear.log_svd import unit
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap


class MapTransport(eqx.Module):
    """Steps of the map that an adjoint belongs to."""

    adjoint: AdjointMap
    backward: bool = eqx.field(static=True)

    def carry(self, n: Any, rows: Array) -> Array:
        """J V or J^T V, a vector in each row; step n is counted from the start of the sweep."""
        system = self.adjoint
        row = system.length - 1 - n if self.backward else n
        number = system.first + row
        point = jax.tree.map(lambda leaf: leaf[row], system.states)
        key = None if system.key is None else jax.random.fold_in(system.key, number)
        image = lambda v: as_vector(system.map.step(number, from_vector(v, point), key=key))  # noqa: E731
        return _linear(image, as_vector(point), rows, self.backward)


class FlowTransport(eqx.Module):
    """Intervals of the flow that an adjoint belongs to."""

    adjoint: AdjointFlow
    grid: Array
    backward: bool = eqx.field(static=True)
    rtol: float = eqx.field(static=True)

    def carry(self, n: Any, rows: Array) -> Array:
        """The block at the end of interval n, counted from the start of the sweep."""
        last = self.grid.shape[0] - 1
        ends = (self.grid[-1] - self.grid[last - n], self.grid[-1] - self.grid[last - n - 1])
        times = jnp.stack(ends if self.backward else (self.grid[n], self.grid[n + 1]))
        flow = LinearisedFlow(self.adjoint, self.backward)
        return evolve(flow, rows, times=times, save="last", rtol=self.rtol, atol=self.rtol / 100).final


class LinearisedFlow(Flow):
    """dV/dt = J(t) V, or dV/ds = J(t1 - s)^T V, along a trajectory."""

    adjoint: AdjointFlow
    backward: bool = eqx.field(static=True)

    def velocity(self, t: Scalar, state: State) -> State:
        system = self.adjoint
        time = jnp.asarray(system.end).astype(state.dtype) - t if self.backward else jnp.asarray(t)
        point = system.interpolation(time)
        image = lambda v: as_vector(system.flow.velocity(time, from_vector(v, point)))  # noqa: E731
        return _linear(image, as_vector(point), state, self.backward)


class BackwardSweep(FiniteMap):
    """(Q, l, U, v, ln |v|) carried on a step: a block kept orthonormal, and one vector kept at length 1."""

    transport: Any
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        rows, logs, mix, alone, size = state
        carried = self.transport.carry(n, jnp.concatenate([rows, alone[None]]))
        basis, triangle = jnp.linalg.qr(carried[:-1].T)
        growth, alone = unit(carried[-1])
        return basis.T, *_times(triangle, logs, mix), alone, size + growth


def start_of(rows: Array, alone: Array, logarithm: Any) -> Any:
    """The state of a sweep before its first step."""
    count, dtype = rows.shape[0], rows.dtype
    return rows, jnp.zeros(count, dtype), jnp.eye(count, dtype=dtype), alone, jnp.asarray(logarithm, dtype)


def _linear(image: Any, point: Array, rows: Array, backward: bool) -> Array:
    if backward:
        return jax.vmap(lambda row: jax.vjp(image, point)[1](row)[0])(rows)
    return jax.vmap(lambda row: jax.jvp(image, (point,), (row,))[1])(rows)


def _times(triangle: Array, logs: Array, mix: Array) -> tuple[Array, Array]:
    """R diag(exp l) U as diag(exp l') U' with rows of length 1."""
    shift = jnp.exp(jnp.clip(logs[None] - logs[:, None], None, 300.0 if logs.dtype == jnp.float64 else 40.0))
    growth, rows = unit((triangle * shift) @ mix)
    return logs + growth, rows
