r"""One family of maps at several step sizes on one clock, and random ones along one Brownian path.

With N ticks in all, the member of step size h = s T/N moves at every s-th tick, so that all members stand at the same
times whenever the coarsest has moved. Along a Brownian path each member gathers the increments of its own s ticks,

    dW = sum_i dW_i,        dZ = sum_i (dZ_i + (T/N) (W_i - W_0)),      dZ = int (W(s) - W(t)) ds over the step.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import add, axpy, scale, where
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.calculus.methods import SRA1
from separatrix.calculus.methods.base import SDEMethod
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.sde import SDE

# Ticks beyond the finest member's own steps are idle: more than this factor of them means that the grids do not fit.
_IDLE = 4


class AtStepSize(NearIdentityMap):
    """The same family of maps, read at another step size."""

    map: NearIdentityMap
    step_size: Scalar

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return self.map.advance(t, state, step_size, key=key)


class Ticking(Map):
    """F_h((n // s) h, x) at the last of every s ticks; nothing in between."""

    map: NearIdentityMap
    step_size: Scalar
    stride: Any

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        moved = AtStepSize(self.map, self.step_size).step(n // self.stride, state)
        return where(n % self.stride == self.stride - 1, moved, state)


class OnePath(Map):
    """Members of several step sizes, each on (x, gathered increments), moved by the increments of one Brownian path."""

    system: SDE
    method: SDEMethod
    tick: Scalar
    strides: Any

    def init(self, state: State) -> State:
        """Every member at the state, nothing gathered."""
        silent = scale(0, self.draw(state, jax.random.key(0)))
        start = (state, silent)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*self.strides.shape, *jnp.shape(leaf))), start)

    def draw(self, state: State, key: Key) -> Any:
        """The increments of one tick, dZ in units of the tick."""
        zero, tick = jnp.zeros_like(jnp.asarray(self.tick)), jnp.asarray(self.tick)
        return self.method.increments(self.system, zero, state, tick, key)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        states, gathered = state  # pyright: ignore[reportGeneralTypeIssues]
        noise = self.draw(jax.tree.map(lambda leaf: leaf[0], states), key)  # pyright: ignore[reportArgumentType]
        return jax.vmap(lambda x, g, s: self.member(n, x, g, noise, s))(states, gathered, self.strides)

    def member(self, n: StepIndex, state: State, gathered: Any, noise: Any, stride: Any) -> State:
        """Gather one tick, and move at the last of a stride."""
        tick = jnp.asarray(self.tick)
        step_size = tick * stride.astype(tick.dtype)
        gathered = _gather(self.method, gathered, noise)
        t = (n // stride).astype(tick.dtype) * step_size
        moved = self.method.advance_with(self.system, t, state, step_size, _in_steps(self.method, gathered, stride))
        last = n % stride == stride - 1
        return where(last, moved, state), where(last, scale(0, gathered), gathered)


def _gather(method: SDEMethod, gathered: Any, noise: Any) -> Any:
    """Add the increments of a tick: (dW, dZ) of SRA1, dW of the others."""
    if not isinstance(method, SRA1):
        return add(gathered, noise)
    (path, area), (dw, dz) = gathered, noise
    return add(path, dw), add(add(area, dz), path)


def _in_steps(method: SDEMethod, gathered: Any, stride: Any) -> Any:
    """SRA1 takes dZ in units of its own step."""
    if not isinstance(method, SRA1):
        return gathered
    path, area = gathered
    return path, axpy(1 / stride.astype(float), area, scale(0, area))


class Clock(NamedTuple):
    """Step sizes (K,), the largest first, the ticks that each waits between steps (K,), and the number of ticks."""

    step_sizes: np.ndarray
    strides: np.ndarray
    ticks: int


def common_clock(step_sizes: Any, end: float) -> Clock:
    """Return the clock on which all step sizes run over [0, end]."""
    sizes = np.sort(np.asarray(step_sizes, float).ravel())[::-1]
    counts = np.rint(end / sizes) if sizes.size and np.all(sizes > 0) and end > 0 else np.zeros(1)
    bad = sizes.size < 3 or np.any(counts < 1) or np.any(np.abs(end / sizes - counts) > 1e-6 * counts)
    if bad or np.any(np.diff(counts) <= 0):
        do = "Halve a step: step_sizes=[end / 8, end / 16, end / 32, end / 64]."
        expected = f"three or more different ones that each divide end = {end:g}"
        raise ValueError(explain("measured_order: step_sizes", sizes.tolist(), expected, do))
    whole = [int(count) for count in counts]
    ticks = math.lcm(*whole)
    if ticks > _IDLE * whole[-1]:
        do = "Halve a step, so that each divides the next."
        raise ValueError(explain("measured_order: step_sizes", sizes.tolist(), "step sizes with a common grid", do))
    return Clock(sizes, ticks // np.asarray(whole), ticks)
