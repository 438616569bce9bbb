r"""Antisymmetric networks: an Euler step of a flow whose linear part only turns.

    flow   dx/dt = phi(M x + V u + b),      cell   x[n+1] = x[n] + h phi(M x[n] + V u[n] + b),      M = W - W^T - gamma
    1

W - W^T has eigenvalues +- i m, so M has -gamma +- i m: without friction gamma the flow keeps what it holds for ever,
and its gradients keep their size. Euler's step does not: where phi' = 1 its multipliers have the size

    |1 + h (-gamma + i m)|^2 = (1 - h gamma)^2 + (h m)^2 < 1   iff   h < 2 gamma/(gamma^2 + m^2),

so that without friction every step is too long, and the fastest turning decides.

**Reference:** Chang, Chen, Haber & Chi, *AntisymmetricRNN: a dynamical system view on recurrent neural networks*
(2019), sections 3.2 and 3.3.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from separatrix._types import Checked, Key, Scalar, State
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.open import OpenFlow


class Antisymmetric(eqx.Module):
    r"""x' = x + h tanh((W - W^T - gamma 1) x + V u + b).

    **Arguments:**

    - `input_size`, `hidden_size`: lengths of u and x, at least 1.
    - `step_size`: h > 0. `friction`: gamma >= 0. Both are leaves.
    - `key`: entries of W and V are drawn from N(0, 1/hidden_size); b starts at zero.
    - `dtype`: of the weights; JAX's default float if None.

    **Raises:** `ValueError` for sizes that are not whole numbers of at least 1, a step that is not positive, or
    negative friction.

    **Example:** the matrix of its fields turns and damps.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Antisymmetric(2, 4, step_size=0.1, friction=0.05, key=jax.random.key(0))
    >>> bool(jnp.allclose(cell.matrix + cell.matrix.T, -0.1 * jnp.eye(4)))
    True
    >>> float(cell.step_size) < cell.longest_step
    False

    **Reference:** Chang et al. (2019), equation 11.
    """

    weight: Array
    weight_ih: Array
    bias: Array
    step_size: Scalar
    friction: Scalar
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)

    def __init__(
        self,
        input_size: Checked[int],
        hidden_size: Checked[int],
        *,
        step_size: Any,
        friction: Any,
        key: Key,
        dtype: Any = None,
    ):
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            ranges.whole(f"Antisymmetric: {name}", size, "Pass how many.")
        ranges.positive("Antisymmetric: step_size", step_size, "Take 0.1.")
        ranges.nonnegative("Antisymmetric: friction", friction, "Take 0.01.")
        of_state, of_input = jax.random.split(key)
        dtype = jnp.zeros(()).dtype if dtype is None else dtype
        spread = hidden_size**-0.5
        self.weight = spread * jax.random.normal(of_state, (hidden_size, hidden_size), dtype)
        self.weight_ih = spread * jax.random.normal(of_input, (hidden_size, input_size), dtype)
        self.bias = jnp.zeros(hidden_size, dtype)
        self.step_size, self.friction = as_parameter(step_size), as_parameter(friction)
        self.input_size, self.hidden_size = input_size, hidden_size

    @property
    def matrix(self) -> Float[Array, "hidden hidden"]:
        """M = W - W^T - gamma 1."""
        gamma = jnp.asarray(self.friction, self.weight.dtype)
        return self.weight - self.weight.T - gamma * jnp.eye(self.hidden_size, dtype=self.weight.dtype)

    @property
    def longest_step(self) -> float:
        """The step below which the cell is stable where phi' = 1: that of the fastest turning."""
        fastest = float(np.max(np.abs(np.linalg.eigvals(np.asarray(self.weight - self.weight.T)).imag)))
        return longest_step(self.friction, fastest)

    def flow(self) -> OpenFlow:
        """The flow of which the cell is Euler's step."""
        return AntisymmetricFlow(self)

    def __call__(self, inputs: Float[ArrayLike, " inputs"], state: Float[ArrayLike, " hidden"]) -> Array:
        """Return x' from u and x: equinox's order of arguments."""
        state = jnp.asarray(state)
        return state + jnp.asarray(self.step_size, state.dtype) * _velocity(self, state, inputs)


class AntisymmetricFlow(OpenFlow):
    """dx/dt = tanh((W - W^T - gamma 1) x + V u + b)."""

    cell: Antisymmetric

    def velocity(self, t: Scalar, state: State, inputs: Any) -> State:
        return _velocity(self.cell, state, inputs)


def longest_step(friction: Any, frequency: Any) -> float:
    r"""Return the Euler step below which a turning with friction is stable: 2 gamma/(gamma^2 + m^2).

    **Arguments:** gamma >= 0 and the frequency m, not both 0.

    **Returns:** the step; 0 without friction: then none is stable.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:**

    >>> import separatrix as sx
    >>> sx.recurrent.longest_step(0.5, 1.5)
    0.4

    **Reference:** Chang et al. (2019), proposition 3 with M of eigenvalues -gamma +- i m.
    """
    ranges.nonnegative("longest_step: friction", friction, "Take 0.01.")
    ranges.finite("longest_step: frequency", frequency, "Pass the imaginary part of an eigenvalue.")
    size = float(friction) ** 2 + float(frequency) ** 2
    ranges.positive("longest_step: friction^2 + frequency^2", size, "Give at least one of them.")
    return 2 * float(friction) / size


def _velocity(cell: Antisymmetric, state: Any, inputs: Any) -> Array:
    return jnp.tanh(cell.matrix @ state + cell.weight_ih @ inputs + cell.bias)
