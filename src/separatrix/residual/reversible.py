r"""Residual nets that can be run backwards: gradients at constant memory, since no layer has to be kept.

    momentum        v' = g v + (1 - g) f(x),   x' = x + v'             x = x' - v',  v = (v' - (1 - g) f(x))/g
    Hamiltonian     q' = dT/dp,  p' = -dV/dq                           leapfrog is its own inverse at -h
    antisymmetric   x' = tanh((W - W^T - g I) x + b)                   eigenvalues near -g +- i m

The first is an `InvertibleMap`, the second becomes one by `discretize(flow, Leapfrog(), h)`; `evolve(...,
memory="reversible")` then recomputes the layers backwards. The third neither grows nor forgets, and Euler's method keeps
it so while h < 2 g/(g^2 + m^2).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from separatrix._errors import explain
from separatrix._tree import add, scale, subtract
from separatrix._types import Checked, Function, Key, Scalar, State, StepIndex
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.map import InvertibleMap
from separatrix.systems.signature import as_pytree, positional_count


class MomentumNet(InvertibleMap):
    r"""v' = g v + (1 - g) f(x),  x' = x + v': residual blocks with momentum, on the state (x, v).

    At g = 0 it is the residual net x + f(x), and loses its inverse. In depth it follows e x'' + x' = f(x), e = 1/(1 - g).

    **Arguments:**

    - `field`: f(x), or f(n, x) with the number n of the block.
    - `momentum`: 0 < g < 1. The inverse divides by g: a net of L blocks undoes itself to g^-L times rounding.

    **Raises:** `TypeError` for any other signature; `ValueError` for a momentum out of its range.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> net = sx.residual.MomentumNet(lambda x: -x, momentum=0.5)
    >>> state = net.step(0, (jnp.array([2.0]), jnp.array([0.0])))
    >>> [part.tolist() for part in state], [part.tolist() for part in net.inverse_step(0, state)]
    ([[1.0], [-1.0]], [[2.0], [0.0]])

    **Reference:** Sander, Ablin, Blondel & Peyre, *Momentum residual neural networks* (2021), equations 2 and 3.
    """

    field: Function
    momentum: Scalar
    takes_number: bool = eqx.field(static=True)

    def __init__(self, field: Function, momentum: Any = 0.9):
        ranges.positive("MomentumNet: momentum", momentum, "Take for example 0.9; at 0 take ResNet.")
        ranges.ordered("MomentumNet: momentum and 1", momentum, 1.0, "Take for example 0.9.", strictly=True)
        self.takes_number = positional_count(field, (1, 2), "f(x) or f(n, x)") == 2
        self.field = as_pytree(field)
        self.momentum = as_parameter(momentum)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        x, v = state
        v = add(scale(self.momentum, v), self._push(n, x))
        return add(x, v), v

    def inverse_step(self, n: StepIndex, state: State) -> State:
        x, v = state
        x = subtract(x, v)
        return x, scale(1 / self.momentum, subtract(v, self._push(n, x)))

    def _push(self, n: StepIndex, x: State) -> State:
        return scale(1 - self.momentum, self.field(n, x) if self.takes_number else self.field(x))


class HamiltonianNet(Flow):
    r"""dq/dt = grad T(p),  dp/dt = -grad V(q), on the state (q, p): a field that keeps H = T(p) + V(q) and volume.

    **Arguments:**

    - `kinetic`, `potential`: T(p) and V(q), scalars; networks, whose arrays are trained.

    **Raises:** `TypeError`, when it runs, for energies that are not scalars.

    **Example:** leapfrog makes it an invertible net.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> net = sx.discretize(sx.residual.HamiltonianNet(lambda p: p @ p / 2, lambda q: q @ q / 2), sx.Leapfrog(), 0.1)
    >>> isinstance(net, sx.InvertibleMap)
    True

    **Reference:** Haber & Ruthotto, *Stable architectures for deep neural networks* (2018), section 3.3; Greydanus, Dzamba
    & Yosinski, *Hamiltonian neural networks* (2019), for energies that are learned.
    """

    kinetic: Function = eqx.field(converter=as_pytree)
    potential: Function = eqx.field(converter=as_pytree)

    def velocity(self, t: Scalar, state: State) -> State:
        q, p = state
        return jax.grad(self.kinetic)(p), scale(-1, jax.grad(self.potential)(q))

    def energy(self, state: State) -> Any:
        """H(q, p) = T(p) + V(q)."""
        q, p = state
        return self.kinetic(p) + self.potential(q)


class AntisymmetricField(eqx.Module):
    r"""f(x) = tanh((W - W^T - g I) x + b): a field whose linear part turns and damps, and never grows.

    The eigenvalues of W - W^T - g I are -g + i m. Where tanh is steepest Euler's step of size h multiplies by
    |1 + h (-g + i m)|, which is at most 1 iff h <= 2 g/(g^2 + m^2): without friction no step is stable.

    **Arguments:**

    - `size`: d >= 1. `friction`: g >= 0. `key`: of the first weights, normal with variance 1/d.

    **Raises:** `ValueError` for a size below 1 or a negative friction.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> field = sx.residual.AntisymmetricField(3, friction=0.5, key=jax.random.key(0))
    >>> matrix = jax.jacfwd(field)(jnp.zeros(3))
    >>> bool(jnp.allclose(matrix + matrix.T, -1.0 * jnp.eye(3)))
    True

    **Reference:** Haber & Ruthotto, *Stable architectures for deep neural networks* (2018), section 3.2; Chang, Chen, Haber
    & Chi, *AntisymmetricRNN* (2019), proposition 3.
    """

    weight: Inexact[Array, "d d"]
    bias: Inexact[Array, " d"]
    friction: float = eqx.field(static=True)

    def __init__(self, size: int, *, friction: float = 0.0, key: Key, dtype: Any = None):
        size = ranges.whole("AntisymmetricField: size", size, "Pass the dimension of the state.")
        ranges.nonnegative("AntisymmetricField: friction", friction, "Take 0 for none.")
        self.weight = jax.random.normal(key, (size, size), dtype) / jnp.sqrt(jnp.asarray(size, dtype or float))
        self.bias = jnp.zeros(size, self.weight.dtype)
        self.friction = float(friction)

    def __call__(self, x: Any) -> Any:
        return jnp.tanh((self.weight - self.weight.T) @ x - jnp.asarray(self.friction, x.dtype) * x + self.bias)


def euler_bound(field: Checked[AntisymmetricField]) -> Any:
    r"""Return the largest stable step of Euler's method, min over eigenvalues -g + i m of 2 g/(g^2 + m^2).

    **Arguments:**

    - `field`: an `AntisymmetricField`.

    **Returns:** a scalar; 0 without friction.

    **Raises:** `TypeError` for another field.

    **Example:**

    >>> import equinox as eqx, jax, jax.numpy as jnp, separatrix as sx
    >>> field = sx.residual.AntisymmetricField(2, friction=1.0, key=jax.random.key(0))
    >>> field = eqx.tree_at(lambda f: f.weight, field, jnp.array([[0.0, 1.0], [0.0, 0.0]]))
    >>> sx.residual.euler_bound(field).item()
    1.0
    """
    if not isinstance(field, AntisymmetricField):
        do = "Use linear_stability of the discretised net for others."
        raise TypeError(explain("euler_bound", type(field).__name__, "an AntisymmetricField", do))
    turning = field.weight - field.weight.T
    # The singular values of an antisymmetric matrix are the |m|.
    rates = jnp.linalg.svd(turning, compute_uv=False)
    friction = jnp.asarray(field.friction, rates.dtype)
    worst = friction**2 + jnp.max(rates) ** 2
    return jnp.where(worst > 0, 2 * friction / worst, jnp.inf)
