r"""Universal differential equations: a law known in part, and a network for the rest.

    dx/dt = known(t, x) + unknown(t, x)

is fitted to observed orbits by multiple shooting: the orbit is cut in short segments, each evolved from its own observed
state, so that the loss is

    L = mean over segments s and instants j of |x(t_j; t_s, x_s) - x_j|^2.

Short segments keep the loss close to convex where a long orbit, chaotic or oscillating, would fill it with local minima.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import add, is_traced
from separatrix._types import Checked, Function, Scalar, State
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.clock import FlowFrom
from separatrix.systems.flow import Flow
from separatrix.systems.functions import as_flow


class Universal(Flow):
    """dx/dt = known(t, x) + unknown(t, x)."""

    known: Flow
    unknown: Flow

    def velocity(self, t: Scalar, state: State) -> State:
        return add(self.known.velocity(t, state), self.unknown.velocity(t, state))


class Segments(NamedTuple):
    """Pieces of orbits: instants (S, n + 1) and states (S, n + 1, ...), the segment first."""

    times: Any
    states: Any


def universal(known: Flow | Function, unknown: Flow | Function) -> Universal:
    """Return the flow of a known velocity and an unknown one, dx/dt = known(t, x) + unknown(t, x).

    **Arguments:**

    - `known`, `unknown`: flows, or velocities f(t, x) or f(x). To train the unknown part alone, build the flow of it
      inside the objective, as `trajectory_loss` does.

    **Returns:** a `Flow`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.universal(lambda x: -x, lambda t, x: t * x**2).velocity(2.0, jnp.array(3.0)).item()
    15.0

    **Reference:** Rackauckas et al., *Universal differential equations for scientific machine learning* (2020).
    """
    return Universal(*(part if isinstance(part, Flow) else as_flow(part) for part in (known, unknown)))


def segments(times: Any, states: Any, length: Checked[int]) -> Segments:
    """Cut orbits into all their segments of a length, overlapping.

    **Arguments:**

    - `times`: shape (T,), evenly spaced. `states`: shape (T, d), or (orbits, T, d) for several at the same instants.
    - `length`: how many intervals a segment has, 1 to T - 1.

    **Returns:** `Segments`, with T - length of them for each orbit: data for `fit` with `trajectory_loss`.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, instants that are not evenly spaced, or
    another length.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.segments(jnp.arange(5.0), jnp.zeros((5, 2)), 2).states.shape
    (3, 3, 2)
    """
    times, states = jnp.asarray(times), jnp.asarray(states)
    if times.ndim != 1 or states.ndim not in (2, 3) or states.shape[-2] != times.shape[0]:
        got, do = f"times {times.shape} and states {states.shape}", "Put time on the axis before the last."
        raise ValueError(explain("segments", got, "times (T,) and states (T, d) or (orbits, T, d)", do))
    ranges.whole("segments: length", length, "Count intervals, not instants.", most=times.shape[0] - 1)
    ranges.finite("segments: times", times, "Drop or fill missing instants first.")
    ranges.finite("segments: states", states, "Drop or fill missing values first.")
    gaps = None if is_traced(times) else np.diff(np.asarray(times, float))
    # Instants may be decimal fractions rounded at float32.
    if gaps is not None and not (gaps[0] > 0 and np.allclose(gaps, gaps[0], rtol=1e-3)):
        got, do = f"gaps from {gaps.min():g} to {gaps.max():g}", "Interpolate the data on an even grid first."
        raise ValueError(explain("segments: times", got, "increasing, evenly spaced instants", do))
    places = np.arange(times.shape[0] - length)[:, None] + np.arange(length + 1)  # (S, n + 1)
    pieces = states[..., places, :].reshape(-1, length + 1, states.shape[-1])
    orbits = states.shape[0] if states.ndim == 3 else 1
    return Segments(jnp.tile(times[places], (orbits, 1)), pieces)


def trajectory_loss(flow_of: Function, *, substeps: Checked[int] = 1, method: Any = None) -> Function:
    """Return the multiple-shooting loss l(model, segments): the mean squared distance of evolved and observed states.

    **Arguments:**

    - `flow_of`: model -> `Flow`.
    - `substeps`: steps of the method between two instants, >= 1. `method`: fixed-step; `RK4()` by default.

    **Returns:** l(model, batch) for `fit`, with a batch of `Segments`. It is NaN if a segment does not get to its end.

    **Raises:** `ValueError` for substeps that are not a whole number of at least 1.

    **Example:** the rate of an exponential decay.

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> times = jnp.linspace(0.0, 1.0, 11)
    >>> data = sx.residual.segments(times, jnp.exp(-2.0 * times)[:, None], length=3)
    >>> loss = sx.residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: -rate * x))
    >>> found = sx.fit(loss, optax.adam(0.1), data, initial=jnp.array(1.0), steps=200)
    >>> round(float(found.model), 3)
    2.0

    **Reference:** Bock, *Recent advances in parameter identification techniques for O.D.E.* (1983), without
    its matching conditions: each segment starts where it was observed.
    """
    substeps = ranges.whole("trajectory_loss: substeps", substeps, "Leave it out for 1.")
    method = RK4() if method is None else method

    def loss(model: Any, batch: Any) -> Any:
        flow = flow_of(model)

        def one(times: Any, states: Any) -> Any:
            step_size = (times[1] - times[0]) / substeps
            steps = substeps * (states.shape[0] - 1)
            system = FlowFrom(flow, times[0])
            path = evolve(system, states[0], steps=steps, step_size=step_size, method=method, save=substeps)
            return jnp.mean((path.states - states) ** 2)

        return jnp.mean(jax.vmap(one)(*batch))

    return loss
