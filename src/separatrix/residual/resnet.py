r"""Residual networks and neural ODEs: one is the discretisation of the other.

    x[l+1] = x[l] + h f(l h, x[l])     <->     dx/dt = f(t, x),        depth is time, t = l h.

`limit(ResNet(f, h))` is `NeuralODE(f)`, `discretize(NeuralODE(f), Euler(), h)` is `ResNet(f, h)`, and with depth L = T/h
the last states differ by O(1/L). A field whose weights change with depth is a curve of weights theta(t); drawn piecewise
linear through a few knots it can be met at any depth, so that a net may be made deeper after it was trained.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy, is_inexact
from separatrix._types import Function, Key, Scalar, State
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.signature import Frozen, as_pytree, freeze, positional_count


class NeuralODE(Flow):
    """dx/dt = f(t, x) for a trainable field.

    **Arguments:**

    - `field`: f(t, x) or f(x), which returns the form of x; an `equinox.Module`'s arrays are the trained leaves.

    **Raises:** `TypeError` for any other signature.

    **Example:**

    >>> import equinox as eqx, jax, jax.numpy as jnp, separatrix as sx
    >>> flow = sx.residual.NeuralODE(eqx.nn.MLP(2, 2, 8, 1, jax.nn.tanh, key=jax.random.key(0)))
    >>> str(sx.evolve(flow, jnp.ones(2), times=(0.0, 1.0)).outcome)
    'completed'

    **Reference:** Chen, Rubanova, Bettencourt & Duvenaud, *Neural ordinary differential equations* (2018), equation 2.
    """

    field: Function
    takes_time: bool = eqx.field(static=True)

    def __init__(self, field: Function):
        self.takes_time = positional_count(field, (1, 2), "f(x) or f(t, x)") == 2
        self.field = as_pytree(field)

    def velocity(self, t: Scalar, state: State) -> State:
        return self.field(t, state) if self.takes_time else self.field(state)


class ResNet(NearIdentityMap):
    """x[l+1] = x[l] + h f(l h, x[l]): residual blocks of step size h.

    **Arguments:**

    - `field`: f(t, x) or f(x), what a block adds; weights that depend on depth are a function of t, see `AlongDepth`.
    - `step_size`: h = T/L > 0 for L blocks over the time T.

    **Raises:** `TypeError` for any other signature; `ValueError` for a step size that is not positive and finite.

    **Example:** for f(x) = x, L blocks multiply by (1 + 1/L)^L.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> net = sx.residual.ResNet(lambda x: x, step_size=0.25)
    >>> sx.evolve(net, jnp.array(1.0), steps=4).final.item()
    2.44140625

    **Reference:** He, Zhang, Ren & Sun, *Deep residual learning for image recognition* (2016), equation 1; Haber &
    Ruthotto, *Stable architectures for deep neural networks* (2018), for the step size.
    """

    block: NeuralODE
    step_size: Scalar

    def __init__(self, field: Function, step_size: Any):
        ranges.positive("ResNet: step_size", step_size, "Pass T/L for L blocks over the time T.")
        self.block = NeuralODE(field)
        self.step_size = as_parameter(step_size)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(step_size, self.block.velocity(t, state), state)


class AlongDepth(eqx.Module):
    r"""f(t, x) = phi(theta(t), x), with theta piecewise linear through K knots at t = 0, T/(K-1), ..., T.

    **Arguments:**

    - `modules`: K >= 1 modules of one form, the weights at the knots; one alone is constant in depth.
    - `span`: T > 0. Before 0 and after T the weights stay.

    The field is smooth between knots only: a method keeps its order where its steps end on them, that is where its
    depth is a multiple of K - 1.

    **Raises:** `ValueError` for no modules, modules that differ in more than values, or a span that is not positive
    and finite.

    **Example:**

    >>> import jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> class Gain(eqx.Module):
    ...     value: object
    ...     def __call__(self, x):
    ...         return self.value * x
    >>> field = sx.residual.AlongDepth([Gain(jnp.array(0.0)), Gain(jnp.array(2.0))])
    >>> field(0.25, jnp.array(10.0)).item()
    5.0

    **Reference:** Queiruga, Erichson, Taylor & Mahoney, *Continuous-in-depth neural networks* (2020), with piecewise
    linear basis functions.
    """

    knots: Frozen
    count: int = eqx.field(static=True)
    span: float = eqx.field(static=True)

    def __init__(self, modules: Sequence[Any], span: float = 1.0):
        if not (len(modules) and 0 < span < math.inf):
            got, do = f"{len(modules)} modules over a span of {span:g}", "Pass the weights at t = 0, ..., T, and T."
            raise ValueError(explain("AlongDepth", got, "at least one module and a span > 0", do))
        parts = [eqx.partition(module, eqx.is_array) for module in modules]
        forms = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), arrays) for arrays, _ in parts]
        if any(form != forms[0] for form in forms) or not all(bool(eqx.tree_equal(s, parts[0][1])) for _, s in parts):
            got, do = "modules that differ in form", "Build them by one call with different keys."
            raise ValueError(explain("AlongDepth", got, "modules that differ in values of arrays only", do))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[arrays for arrays, _ in parts])
        self.knots = freeze(eqx.combine(stacked, parts[0][1]))
        self.count, self.span = len(modules), float(span)

    def at(self, t: Scalar) -> Frozen:
        """Return phi(theta(t), .), a function of x."""

        def interpolate(leaf: Any) -> Any:
            if not is_inexact(leaf) or self.count == 1:
                return leaf[0]
            place = jnp.clip(jnp.asarray(t, leaf.dtype) / self.span, 0, 1) * (self.count - 1)
            left = jnp.minimum(jnp.floor(place).astype(int), self.count - 2)
            weight = place - left.astype(leaf.dtype)
            return (1 - weight) * leaf[left] + weight * leaf[left + 1]

        return jax.tree.map(interpolate, self.knots)

    def __call__(self, t: Scalar, x: State) -> State:
        return self.at(t)(x)
