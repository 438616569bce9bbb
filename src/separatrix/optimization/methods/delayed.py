r"""Gradients that come late: descent as a delay system.

    x[n+1] = x[n] - h grad L(x[n-d])

A worker that reads the parameters, takes d steps' time to find their gradient, and writes it back, descends by this map.

- state            the last d + 1 iterates, newest first: a map, and no near-identity one, for at h = 0 the history shifts
- limit            dx/dt = -grad L(x) as h -> 0 at fixed d; followed more closely
  dx/dt = -grad(L + (2d + 1) (h/4) |grad L|^2): delay multiplies the implicit regularisation of descent by 2d + 1
- stability edge   on curvature l, h l < 2 sin(pi/(2 (2d + 1))): 2, 1, 0.618, 0.445, ..., about pi/(2d + 1) for long delays

Why 2d + 1: with x(t - d h) = x - d h x' + ..., x' = -grad L and H the Hessian, a step is -h (grad L + d h H grad L), and
the Euler step itself adds (h/2) H grad L; H grad L = grad |grad L|^2/2.
"""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import add, axpy, float_dtype, scale, subtract
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.optimization.methods.descent import gradient
from separatrix.systems.base import as_parameter, require_key
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import nonnegative, positive, whole

if TYPE_CHECKING:
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

_LATE = "Count the steps that a gradient is late."


def delay_edge(delay: Any) -> Any:
    r"""Return the stability edge of delayed descent: the largest a for which x[n+1] = x[n] - a x[n-d] decays.

        a < 2 sin(pi/(2 (2d + 1))),         a = h l on curvature l

    **Arguments:** `delay`: d >= 0, a whole number or an array of them.

    **Returns:** the edge, of the same shape.

    **Raises:** `ValueError` for a negative delay.

    **Example:**

    >>> import separatrix as sx
    >>> [round(float(sx.optimization.delay_edge(d)), 3) for d in (0, 1, 2, 8)]
    [2.0, 1.0, 0.618, 0.185]

    **Reference:** Levin & May, *A note on difference-delay equations* (1976).
    """
    if np.any(np.asarray(delay) < 0):
        raise ValueError(
            explain("delay_edge: delay", delay, "whole numbers >= 0", "Count the steps that a gradient is late.")
        )
    return 2 * np.sin(np.pi / (2 * (2 * np.asarray(delay) + 1)))


class LateMap(Map):
    """A map whose state is the history of its parameters: `delay` + 1 iterates along a leading axis, newest first."""

    delay: AbstractVar[int]

    def init(self, parameters: State) -> State:
        """Return the history of parameters that have always been there."""
        return remembered(parameters, self.delay)

    def parameters(self, state: State) -> State:
        """Return x[n], the newest."""
        return recall(state, 0)


class DelayedDescent(LateMap):
    r"""x[n+1] = x[n] - h grad L(x[n-d]).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key) for a random sample of it.
    - `step_size`: h > 0; a traced leaf. Stable on curvature l where h l < 2 sin(pi/(2 (2d + 1))), see `delay_edge`.
    - `delay`: d >= 0, how many steps late a gradient is.

    The state is the history, every leaf with a leading axis of d + 1, newest first; `init(parameters)` makes one that has
    always been there, `parameters(state)` gives x[n].

    **Raises:** `ValueError` for a delay that is no whole number >= 0.

    **Example:** the first d steps still see the start.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> late = sx.optimization.DelayedDescent(sx.optimization.Quadratic(1.0), step_size=0.25, delay=2)
    >>> path = sx.evolve(late, late.init(jnp.array([1.0])), steps=4, save=late.parameters)
    >>> path.states[:, 0].tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0625]

    **Reference:** Zinkevich, Smola & Langford, *Slow learners are fast* (2009), algorithm 1.
    """

    objective: Objective
    step_size: Scalar
    delay: int = eqx.field(static=True)

    def __init__(self, objective: Objective | Function, step_size: Any, delay: Any):
        self.objective = as_objective(objective)
        self.step_size = positive("DelayedDescent: step_size", step_size)
        self.delay = whole("DelayedDescent: delay", delay, _LATE, least=0)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        slope = gradient(self.objective, recall(state, self.delay), key)
        return remember(state, axpy(-_own(self.step_size, state), slope, recall(state, 0)))


class StaleDescent(LateMap):
    r"""x[n+1] = x[n] - h grad L(x[n-D]), D uniform on 0, ..., d at every step: many workers without a lock.

    **Arguments:**

    - `objective`, `step_size`: as for `DelayedDescent`.
    - `delay`: d >= 0, the longest.
    - `consistent`: whether all coordinates are read at one time. Hogwild's workers write while others read, so that each
      coordinate has a delay of its own: that is False.

    The state is that of `DelayedDescent(objective, step_size, delay)`. A step takes a key, for the delays and the sample.

    The mean of the iterates obeys E x[n+1] = E x[n] - (a/(d+1)) sum_j E x[n-j] on curvature l, a = h l, whether reads are
    consistent or not; their spread tells the two apart.

    **Raises:** `ValueError` for a delay that is no whole number >= 0, or a step without a key.

    **Example:** without delay it is descent itself.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> stale = sx.optimization.StaleDescent(sx.optimization.Quadratic(1.0), step_size=0.5, delay=0)
    >>> path = sx.evolve(stale, stale.init(jnp.array([1.0])), steps=3, key=jax.random.key(0))
    >>> path.final[0].tolist()
    [0.125]

    **Reference:** Recht, Re, Wright & Niu, *Hogwild!* (2011), algorithm 1; Lian, Huang, Li & Liu, *Asynchronous parallel
    stochastic gradient for nonconvex optimization* (2015), for consistent and inconsistent reads.
    """

    objective: Objective
    step_size: Scalar
    delay: int = eqx.field(static=True)
    consistent: bool = eqx.field(static=True)

    def __init__(self, objective: Objective | Function, step_size: Any, delay: Any, *, consistent: bool = True):
        self.objective = as_objective(objective)
        self.step_size = positive("StaleDescent: step_size", step_size)
        self.delay = whole("StaleDescent: delay", delay, _LATE, least=0)
        self.consistent = consistent

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        when, sample = jax.random.split(require_key(key, "StaleDescent"))
        slope = gradient(self.objective, self.read(state, when), sample)
        return remember(state, axpy(-_own(self.step_size, state), slope, recall(state, 0)))

    def read(self, state: State, key: Key) -> State:
        """The parameters as a worker saw them."""
        if self.consistent:
            return recall(state, jax.random.randint(key, (), 0, self.delay + 1))
        leaves, structure = jax.tree.flatten(state)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(structure, [self._mixed(leaf, k) for leaf, k in zip(leaves, keys, strict=True)])

    def _mixed(self, history: Any, key: Key) -> Any:
        drawn = jax.random.randint(key, history.shape[1:], 0, self.delay + 1)
        return jnp.take_along_axis(history, drawn[None], axis=0)[0]


class DelayCompensatedDescent(LateMap):
    r"""x[n+1] = x[n] - h (g + C (x[n] - x[n-d])),   g = grad L(x[n-d]): a late gradient, carried forward to where x is.

    **Arguments:**

    - `objective`, `step_size`, `delay`: as for `DelayedDescent`.
    - `strength`: lambda >= 0 of C = lambda diag(g g^T), the cheap stand-in for the Hessian. None takes C = the Hessian at
      x[n-d] itself, by one more derivative: on a quadratic that undoes the delay exactly.

    The state is that of `DelayedDescent`. At a minimum g = 0, so that lambda diag(g g^T) vanishes twice: the stability
    edge there is that of delayed descent, whatever lambda. With the Hessian it is that of descent without delay.

    **Raises:** `ValueError` for a delay that is no whole number >= 0.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> loss = sx.optimization.Quadratic(1.0)
    >>> late = sx.optimization.DelayCompensatedDescent(loss, step_size=0.5, delay=3, strength=None)
    >>> sx.evolve(late, late.init(jnp.array([1.0])), steps=3).final[0].tolist()
    [0.125]

    **Reference:** Zheng et al., *Asynchronous stochastic gradient descent with delay compensation* (2017), algorithms 1
    and 2 (DC-ASGD-c, with a constant lambda).
    """

    objective: Objective
    step_size: Scalar
    strength: Scalar | None
    delay: int = eqx.field(static=True)

    def __init__(self, objective: Objective | Function, step_size: Any, delay: Any, strength: Any):
        self.objective = as_objective(objective)
        self.step_size = positive("DelayCompensatedDescent: step_size", step_size)
        name = "DelayCompensatedDescent: strength"
        self.strength = None if strength is None else nonnegative(name, strength)
        self.delay = whole("DelayCompensatedDescent: delay", delay, _LATE, least=0)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        here, there = recall(state, 0), recall(state, self.delay)
        slope = self.compensated(there, subtract(here, there), key)
        return remember(state, axpy(-_own(self.step_size, state), slope, here))

    def compensated(self, there: State, moved: State, key: Key | None) -> State:
        """g + C (x[n] - x[n-d])."""
        slope = lambda x: gradient(self.objective, x, key)  # noqa: E731
        if self.strength is None:
            return add(*jax.jvp(slope, (there,), (moved,)))
        g = slope(there)
        return axpy(self.strength, jax.tree.map(lambda a, b: a * a * b, g, moved), g)


class DelayedFlow(Flow):
    r"""dx/dt = -grad(L + (2d + 1) (h/4) |grad L|^2), what delayed descent follows to second order in h.

        f(x) = -(grad L + (2d + 1) (h/2) H grad L),       H the Hessian

    **Arguments:**

    - `objective`: L(parameters). `step_size`: h; 0 is gradient flow, the limit. `delay`: d >= 0.

    **Example:** on x^2/2 the rate is 1 + (2d + 1) h/2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.optimization.DelayedFlow(sx.optimization.Quadratic(1.0), step_size=0.1, delay=2)
    >>> flow.velocity(0.0, jnp.array([1.0])).tolist()
    [-1.25]

    **Reference:** Barrett & Dherin, *Implicit gradient regularization* (2021), theorem 3.1, at d = 0; for d > 0 the
    derivation is at the top of this module.
    """

    objective: Objective
    step_size: Scalar
    delay: Scalar

    def __init__(self, objective: Objective | Function, step_size: Any, delay: Any):
        self.objective = as_objective(objective)
        self.step_size = nonnegative("DelayedFlow: step_size", step_size)
        self.delay = as_parameter(float(whole("DelayedFlow: delay", delay, _LATE, least=0)))

    def velocity(self, t: Scalar, state: State) -> State:
        slope = lambda x: gradient(self.objective, x, None)  # noqa: E731
        g = slope(state)
        curved = jax.jvp(slope, (state,), (g,))[1]
        factor = (2 * _own(self.delay, state) + 1) * _own(self.step_size, state) / 2
        return scale(-1, axpy(factor, curved, g))


def remembered(parameters: State, delay: int) -> State:
    """d + 1 copies along a leading axis."""
    parameters = require_trainable(parameters)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (delay + 1, *jnp.shape(leaf))), parameters)


def recall(history: State, late: Any) -> State:
    """x[n - late]."""
    return jax.tree.map(lambda leaf: leaf[late], history)


def remember(history: State, newest: State) -> State:
    """Put x[n+1] in front, and forget the oldest."""
    return jax.tree.map(lambda old, new: jnp.concatenate([new[None], old[:-1]]), history, newest)


def _own(value: Any, state: State) -> Any:
    return jnp.asarray(value, float_dtype(state))
