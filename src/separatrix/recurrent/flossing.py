r"""Gradient flossing: a penalty that holds chosen Lyapunov exponents of a driven net at zero, trained through.

    P = mean over chosen i of lambda_i^2,      lambda_i = (1/T) sum_n ln R_ii[n],      DF(x[n], u[n]) Q[n] = Q[n+1] R[n]

lambda_i are exponents of finite time T, conditional on the inputs. Each that is held at zero is a direction along which
a gradient neither vanishes nor explodes over T steps. The derivative of P goes through the orbit and through the QR
decompositions. It is exact, but in chaos it grows as exp(lambda_1 T) itself: T is to be a few Lyapunov times there. The
first steps, in which the frame turns into place, do not count.

**Reference:** Engelken, *Gradient flossing: improving gradient descent through dynamic control of Jacobians* (2023),
equations 4 to 6.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.evolution import evolve
from separatrix.linear.coordinates import as_vector, dimension_of, from_vector
from separatrix.recurrent.nets import require_kept, rest
from separatrix.recurrent.reservoirs import checked_series
from separatrix.systems import ranges
from separatrix.systems.cells import from_cell
from separatrix.systems.map import FiniteMap


class FrameMap(FiniteMap):
    """(x, Q, s) -> (F(x), Q', s + ln diag R) with DF(x) Q = Q' R and R_ii > 0, row by row of Q."""

    map: FiniteMap

    @property
    def length(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the map."""
        return self.map.length

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        x, frame, sums = state

        def move(vector: Any) -> Any:
            return as_vector(self.map.step(n, from_vector(vector, x), key=key))

        after, push = jax.linearize(move, as_vector(x))
        grown = jax.vmap(push)(frame)
        turned, upper = jnp.linalg.qr(grown.T)
        signs = jnp.where(jnp.diag(upper) < 0, -1.0, 1.0).astype(upper.dtype)
        return from_vector(after, x), turned.T * signs[:, None], sums + jnp.log(jnp.abs(jnp.diag(upper)))


def conditional_exponents(
    cell: Any, inputs: Any, *, count: Any = 1, initial: Any = None, transient: Any = None
) -> Float[Array, " k"]:
    r"""Return the leading exponents of a driven cell over its inputs, in a form that can be trained through.

    **Arguments:**

    - `cell`: any cell. `inputs`: shape (T, input_size), T >= 2. `count`: k >= 1, at most the size of the state.
    - `initial`: where it starts, at rest by default. `transient`: steps that do not count; a quarter by default.

    **Returns:** shape (k,), in nats a step, in the order of the frame: by size where T is long. For a measurement with
    an error ask `lyapunov_spectrum`.

    **Raises:** `ValueError` for a count or a transient outside its range.

    **Example:** of x' = x/2 + u it is -ln 2.

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> cell = sx.recurrent.Elman(1, 1, key=jax.random.key(0), activation="identity")
    >>> cell = eqx.tree_at(lambda c: c.weight_hh, cell, jnp.array([[0.5]]))
    >>> round(sx.recurrent.conditional_exponents(cell, jnp.ones((8, 1)))[0].item(), 6)
    -0.693147

    **Reference:** Engelken (2023), equation 5.
    """
    inputs = checked_series("conditional_exponents: inputs", inputs, 2)
    first = rest(cell) if initial is None else initial
    require_kept("conditional_exponents: cell", cell, inputs[0], first)
    size = dimension_of(first)
    count = ranges.whole("conditional_exponents: count", count, "Take 1.", most=size)
    steps = len(inputs)
    skipped = ranges.whole("conditional_exponents: transient", steps // 4 if transient is None else transient,
                           "Leave it out.", least=0, most=steps - 1)  # fmt: skip
    dtype = as_vector(first).dtype
    frame, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, count), dtype))
    state = (first, frame.T, jnp.zeros(count, dtype))
    driven: Any = from_cell(cell, inputs)
    path = evolve(FrameMap(driven), state, save=lambda state: state[2])
    return (path.states[-1] - path.states[skipped]) / (steps - skipped)


def flossing_penalty(
    cell: Any, inputs: Any, *, exponents: Any = 1, initial: Any = None, transient: Any = None
) -> Scalar:
    r"""Return the mean square of chosen exponents of a driven cell: added to a loss, it holds them at zero.

        P = mean over chosen i of lambda_i^2

    **Arguments:**

    - `cell`, `inputs`, `initial`, `transient`: as of `conditional_exponents`.
    - `exponents`: how many, the largest; or a list of their numbers, 0 for the largest.

    **Returns:** a scalar that can be differentiated in the weights and inputs.

    **Raises:** as `conditional_exponents`.

    **Example:** the gain of an orthogonal linear net is trained from 0.5 to 1.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Orthogonal(1, 3, key=jax.random.key(0), activation="identity")
    >>> inputs = jnp.ones((20, 1))
    >>> loss = lambda g: sx.recurrent.flossing_penalty(lambda u, x: g * cell(u, x), inputs, initial=jnp.zeros(3))
    >>> value, slope = jax.value_and_grad(loss)(0.5)
    >>> round((value - jnp.log(0.5) ** 2).item(), 6) + 0.0, round((slope - 4 * jnp.log(0.5)).item(), 5) + 0.0
    (0.0, 0.0)

    **Reference:** Engelken (2023), equation 6.
    """
    several = isinstance(exponents, Sequence)
    places = tuple(exponents) if several else (exponents,)
    if not places or any(not isinstance(one, int) or isinstance(one, bool) or one < (not several) for one in places):
        do = "Take 1, or a list such as [0, 1]."
        raise ValueError(explain("flossing_penalty: exponents", repr(exponents), "a count or a list of numbers", do))
    count = max(places) + 1 if several else exponents
    found = conditional_exponents(cell, inputs, count=count, initial=initial, transient=transient)
    return jnp.mean(found[jnp.asarray(places)] ** 2) if several else jnp.mean(found**2)
