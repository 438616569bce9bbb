r"""Running averages and their bias corrections, for every leaf of a state.

    average          m <- beta m + (1 - beta) g  =  m + a h (g - m),           beta = 1 - a h
    correction       c(t) = 1 - beta^(t/h),      the weight that an average from 0 has gathered in t/h steps
                     c(t) = 1 - exp(-a t q(a h)),   q(z) = -ln(1 - z)/z = 1 + z/2 + z^2/3 + ...

The rate a is what stays fixed when h goes to zero: 1/a is the memory of the average in the time of the limit. In the
form with q the correction is smooth in h at 0, where it is 1 - exp(-a t).
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy, subtract
from separatrix._types import Scalar, State
from separatrix.systems.base import as_parameter
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import nonnegative, require


class Averages(eqx.Module):
    """The two averages of Adam and its kin: rates a = (1 - b1)/h and b = (1 - b2)/h, and what is added to the root."""

    mean_rate: Scalar
    square_rate: Scalar
    eps: Scalar

    def update(self, t: Scalar, step_size: Scalar, m: State, v: State, g: State) -> tuple[State, State, State, State]:
        """(m, v) after the step at t, and the same without bias."""
        square = squared(g)
        m, v = average(self.mean_rate, step_size, m, g), average(self.square_rate, step_size, v, square)
        mhat = unbiased(self.mean_rate, t, step_size, m, g)
        return m, v, mhat, unbiased(self.square_rate, t, step_size, v, square)


def averages(name: str, learning_rate: Any, b1: Any, b2: Any, eps: Any) -> Averages:
    """The averages with decays b1 and b2 at this learning rate."""
    mean_rate, square_rate = rate_of(b1, learning_rate, f"{name}: b1"), rate_of(b2, learning_rate, f"{name}: b2")
    return Averages(mean_rate, square_rate, nonnegative(f"{name}: eps", eps))


def average(rate: Scalar, step_size: Scalar, old: State, new: State) -> State:
    """m + a h (g - m)."""
    return axpy(cast(rate, step_size) * step_size, subtract(new, old), old)


def correction(rate: Scalar, t: Scalar, step_size: Scalar) -> Scalar:
    """c = 1 - (1 - a h)^(t/h)."""
    rate = cast(rate, step_size)
    return -jnp.expm1(-rate * t * _q(rate * step_size))


def unbiased(rate: Scalar, t: Scalar, step_size: Scalar, mean: State, newest: State) -> State:
    """The average after the step at t, over its correction; the newest value where it holds no other (t = 0)."""
    first = jnp.asarray(t == 0)
    weight = jnp.where(first, jnp.ones_like(step_size), correction(rate, t + step_size, step_size))
    return jax.tree.map(lambda m, g: jnp.where(first, g, m / weight.astype(m.dtype)), mean, newest)


def squared(x: State) -> State:
    """g^2, entry by entry."""
    return jax.tree.map(jnp.square, x)


def zeros(x: State) -> State:
    """A state of zeros."""
    return jax.tree.map(jnp.zeros_like, x)


def root(x: Any) -> Any:
    """sqrt(x), with derivative 0 and not infinity at x = 0: a direction without a gradient does not move."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, jnp.ones_like(x))), jnp.zeros_like(x))


def over_root(above: State, below: State, eps: Scalar) -> State:
    """m/(sqrt(v) + eps)."""
    return jax.tree.map(lambda m, v: m / (root(v) + jnp.asarray(eps, v.dtype)), above, below)


def over_shifted_root(above: State, below: State, eps: Scalar) -> State:
    """m/sqrt(v + eps)."""
    return jax.tree.map(lambda m, v: m / jnp.sqrt(v + jnp.asarray(eps, v.dtype)), above, below)


def mix(weight: Scalar, x: State, y: State) -> State:
    """(1 - weight) x + weight y."""
    return axpy(weight, subtract(y, x), x)


def cast(value: Any, like: Any) -> Any:
    """A parameter in the dtype of the step size."""
    return jnp.asarray(value, jnp.result_type(like))


def rate_of(beta: Any, learning_rate: Any, name: str) -> Any:
    """a = (1 - beta)/h, for a decay beta in [0, 1)."""
    require(name, beta, "a decay in [0, 1)", lambda value: (value >= 0) & (value < 1))
    return (1 - as_parameter(beta)) / as_parameter(learning_rate)


def unpack(state: State, form: MemoryForm) -> Any:
    """The parts of a state; bare parameters have none."""
    if not isinstance(state, tuple) or len(state) != len(form.names):
        raise TypeError(explain("state", type(state).__name__, str(form), "Start from init(parameters)."))
    return state


class FromParameters(eqx.Module):
    """What starts at parameters; `memory` is the form of its state where it remembers something beside them."""

    memory: ClassVar[MemoryForm | None] = None

    def init(self, parameters: State) -> State:
        """Return the state at which it starts: these parameters, with an empty memory where it has one."""
        parameters = require_trainable(parameters)
        return parameters if self.memory is None else empty(self.memory, parameters)


def empty(form: MemoryForm, parameters: State) -> Remembered:
    """The state of a form at these parameters, which remembers nothing yet: zeros."""
    parameters = jax.tree.map(jnp.asarray, parameters)
    return form(parameters, *(zeros(parameters) for _ in form.names[1:]))


def _q(z: Any) -> Any:
    """-ln(1 - z)/z, by its series near 0: at |z| < 1e-3 the seventh term is below rounding."""
    small = jnp.abs(z) < 1e-3
    away = jnp.where(small, jnp.full_like(z, 0.5), z)
    series = 1 + z * (1 / 2 + z * (1 / 3 + z * (1 / 4 + z * (1 / 5 + z * (1 / 6 + z / 7)))))
    return jnp.where(small, series, -jnp.log1p(-away) / away)
