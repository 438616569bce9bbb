r"""The diagonal linear recurrence: many damped oscillators, driven.

    z[n+1] = a * z[n] + gamma * (B u[n]),     a = exp(-exp(nu) + i theta),     gamma = sqrt(1 - |a|^2)

|a| < 1 whatever nu and theta are, so that training cannot leave the stable region; gamma keeps the variance of z at
that of B u for white inputs. The exponents are ln|a|, each twice. Nothing couples the oscillators, so that a whole
sequence takes one associative scan; what is nonlinear stands between the layers.

**Reference:** Orvieto et al., *Resurrecting recurrent neural networks for long sequences* (2023), sections 3.3 and
3.4, and lemma 3.2 for the ring; Martin & Cundy, *Parallelizing linear recurrent neural nets over sequence length*
(2018).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key
from separatrix.evolution.recurrences import linear_recurrence
from separatrix.systems import ranges


class DiagonalRecurrence(eqx.Module):
    r"""z' = a z + gamma B u with complex diagonal a; its state is x = (Re z, Im z), of length 2 N.

    **Arguments:**

    - `input_size`: of u. `oscillators`: N; `hidden_size` is 2 N.
    - `radius`: smallest and largest |a| at first, in [0, 1): |a|^2 is drawn evenly between their squares, and the angle
      evenly from [0, `largest_angle`].
    - `key`: a and B. `dtype`: of the (real) weights.

    **Raises:** `ValueError` for sizes that are not whole numbers of at least 1, or radii that are not in order in [0,
    1).

    **Example:** over a whole sequence at once, the same as step by step.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.DiagonalRecurrence(2, 8, key=jax.random.key(0))
    >>> inputs = jax.random.normal(jax.random.key(1), (50, 2))
    >>> path = sx.evolve(sx.from_cell(cell, inputs), jnp.zeros(16))
    >>> bool(jnp.allclose(cell.sequence(inputs, jnp.zeros(16)), path.states[1:], atol=1e-5))
    True

    **Reference:** Orvieto et al. (2023), equations 5 to 7.
    """

    log_decay: Array
    angle: Array
    weight_ih: Array
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)

    def __init__(
        self,
        input_size: Checked[int],
        oscillators: Checked[int],
        *,
        key: Key,
        radius: tuple[Any, Any] = (0.5, 0.99),
        largest_angle: Any = jnp.pi,
        dtype: Any = None,
    ):
        for name, size in (("input_size", input_size), ("oscillators", oscillators)):
            ranges.whole(f"DiagonalRecurrence: {name}", size, "Pass how many.")
        low, high = radius
        if not 0 <= low <= high < 1 or high == 0:
            do = "Take (0.5, 0.99)."
            raise ValueError(explain("DiagonalRecurrence: radius", radius, "0 <= smallest <= largest < 1", do))
        parts = jax.random.split(key, 3)
        dtype = jnp.zeros(()).dtype if dtype is None else dtype
        share = jax.random.uniform(parts[0], (oscillators,), dtype)
        square = jnp.maximum(low**2 + (high**2 - low**2) * share, 1e-12)
        self.log_decay = jnp.log(-0.5 * jnp.log(square))
        self.angle = jnp.asarray(largest_angle, dtype) * jax.random.uniform(parts[1], (oscillators,), dtype)
        spread = (2 * input_size) ** -0.5
        self.weight_ih = spread * jax.random.normal(parts[2], (2, oscillators, input_size), dtype)
        self.input_size, self.hidden_size = input_size, 2 * oscillators

    @property
    def multipliers(self) -> Array:
        """a, complex, shape (N,)."""
        size = jnp.exp(-jnp.exp(self.log_decay))
        return jax.lax.complex(size * jnp.cos(self.angle), size * jnp.sin(self.angle))

    @property
    def exponents(self) -> Float[Array, " hidden"]:
        """The Lyapunov exponents, largest first: ln|a|, each twice."""
        return jnp.sort(jnp.repeat(-jnp.exp(self.log_decay), 2))[::-1]

    def __call__(self, inputs: Float[ArrayLike, " inputs"], state: Float[ArrayLike, " hidden"]) -> Array:
        """Return x' from u and x: equinox's order of arguments."""
        real, imaginary = jnp.split(jnp.asarray(state), 2)
        after = self.multipliers * jax.lax.complex(real, imaginary) + self._driven(jnp.asarray(inputs))
        return jnp.concatenate([after.real, after.imag])

    def sequence(
        self, inputs: Float[Array, "time inputs"], state: Float[Array, " hidden"]
    ) -> Float[Array, "time hidden"]:
        """Return x[1], ..., x[T] by one associative scan."""
        found = linear_recurrence(
            self.multipliers, jax.vmap(self._driven)(inputs), jax.lax.complex(*jnp.split(state, 2))
        )
        return jnp.concatenate([found.real, found.imag], axis=1)

    def _driven(self, inputs: Array) -> Array:
        """gamma B u."""
        gamma = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(self.log_decay)))
        real, imaginary = gamma[None] * (self.weight_ih @ inputs)
        return jax.lax.complex(real, imaginary)
