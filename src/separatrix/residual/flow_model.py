r"""A network whose middle is a flow: encode, evolve over the time T, read out.

    z(0) = E(x),      dz/dt = f(t, z) on [0, T],      y = R(z(T)).

How the middle is solved is no part of what is learned: Euler with L steps is a residual net of depth L, another method
or depth a better or a cheaper approximation to the same function.

A flow on the line keeps the order of its points, for orbits cannot cross. So a scalar neural ODE cannot send -1 to 1 and
1 to -1: with g(-1) < g(1) the mean squared error stays above 1, its value at g = 0. One more dimension, zero at the
start, lets the orbits pass each other.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from separatrix._errors import explain
from separatrix._types import Checked, Function
from separatrix.calculus.methods import Euler, Method
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.signature import as_pytree
from separatrix.systems.trajectory import Trajectory


class FlowModel(eqx.Module):
    """y = R(z(T)), with z(0) = E(x) and dz/dt = f(t, z).

    **Arguments:**

    - `encoder`, `readout`: functions or modules, of one input and of the last hidden state.
    - `flow`: a `Flow` on the hidden state, as `NeuralODE(field)`.
    - `depth`: how many steps of a fixed-step method, L >= 1; None for adaptive steps.
    - `method`: `Euler()` makes it a residual net; for adaptive steps a diffrax solver, or None for Tsit5.
    - `horizon`: T > 0.

    Where the flow does not get to T, what is read out is NaN.

    Depth, method and horizon are not trained; `with_depth` changes them afterwards.

    **Raises:** `ValueError` for a depth below 1, a horizon that is not positive and finite, a fixed-step method without a
    depth, or a diffrax solver with one; `TypeError` for a flow that is none.

    **Example:** a residual classifier of two inputs, trained as any model.

    >>> import equinox as eqx, jax, jax.numpy as jnp, optax, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> flow = sx.residual.NeuralODE(eqx.nn.MLP(4, 4, 8, 1, jax.nn.tanh, key=keys[0]))
    >>> model = sx.residual.FlowModel(eqx.nn.Linear(2, 4, key=keys[1]), flow, eqx.nn.Linear(4, 2, key=keys[2]), depth=4)
    >>> inputs = jax.random.normal(keys[0], (64, 2))
    >>> objective = sx.supervised(model, (inputs, (inputs[:, 0] > 0).astype(int)))
    >>> trained = sx.fit(objective, optax.adam(0.05), steps=50)
    >>> bool(trained.losses[-1] < 0.2)
    True

    **Reference:** Chen et al., *Neural ordinary differential equations* (2018), section 3.
    """

    encoder: Function = eqx.field(converter=as_pytree)
    flow: Flow
    readout: Function = eqx.field(converter=as_pytree)
    depth: Checked[int | None] = eqx.field(static=True, default=8)
    method: Any = eqx.field(default_factory=Euler)
    horizon: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not isinstance(self.flow, Flow):
            do = "Pass NeuralODE(field), or sx.as_flow(f)."
            raise TypeError(explain("FlowModel: flow", type(self.flow).__name__, "a Flow", do))
        counted = isinstance(self.depth, int) and not isinstance(self.depth, bool) and self.depth >= 1
        if not (counted or self.depth is None) or not 0 < self.horizon < math.inf:
            got = f"depth {self.depth} and horizon {self.horizon:g}"
            do = "Take depth=None for adaptive steps."
            raise ValueError(explain("FlowModel", got, "a depth >= 1 (or None) and a horizon > 0", do))
        fixed = isinstance(self.method, Method)
        if self.method is not None and fixed != (self.depth is not None):
            got = f"{type(self.method).__name__}() and depth {self.depth}"
            expected = "a depth for a fixed-step method, none for adaptive steps"
            do = "Say depth=8, or depth=None with method=None."
            raise ValueError(explain("FlowModel: method", got, expected, do))

    def hidden(self, x: Any, save: Any = "all") -> Trajectory:
        """Return the trajectory z(0), ..., z(T) of the hidden state of one input."""
        times = (0.0, self.horizon)
        return evolve(self.flow, self.encoder(x), times=times, steps=self.depth, method=self.method, save=save)

    def __call__(self, x: Any) -> Any:
        return self.readout(self.hidden(x, save="last").final)


def with_depth(model: FlowModel, depth: Checked[int | None], method: Any = None) -> FlowModel:
    """Return the same weights evolved with another depth, and method.

    **Arguments:**

    - `depth`: L >= 1, or None for adaptive steps.
    - `method`: by default that of the model, Euler's if it has none; Tsit5 for adaptive steps.

    **Raises:** as `FlowModel`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> model = sx.residual.FlowModel(lambda x: x, sx.residual.NeuralODE(lambda x: -x), lambda x: x, depth=1)
    >>> model(jnp.array(1.0)).item(), round(sx.residual.with_depth(model, 8, sx.RK4())(jnp.array(1.0)).item(), 4)
    (0.0, 0.3679)
    """
    kept = None if depth is None else model.method if isinstance(model.method, Method) else Euler()
    return dataclasses.replace(model, depth=depth, method=kept if method is None else method)


def augment(x: Inexact[Array, "*batch width"], extra: int) -> Inexact[Array, "*batch wider"]:
    """Return x with dimensions appended that are zero: (x, 0).

    **Arguments:**

    - `x`: shape (..., d).
    - `extra`: how many dimensions, >= 0.

    **Returns:** shape (..., d + extra).

    **Raises:** `ValueError` for another number of dimensions.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.augment(jnp.array([3.0]), 1).tolist()
    [3.0, 0.0]

    **Reference:** Dupont, Doucet & Teh, *Augmented neural ODEs* (2019), section 4; proposition 1 for what a flow on the
    line cannot do.
    """
    extra = ranges.whole("augment: extra", extra, "Say how many dimensions to append.", least=0)
    return jnp.concatenate([x, jnp.zeros((*x.shape[:-1], extra), x.dtype)], axis=-1)
