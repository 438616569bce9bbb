r"""Partial differential equations along lines: space on a grid, time left to `evolve`.

    du/dt = D d2u/dx2 + R(u)     becomes     du_i/dt = D (u_i-1 - 2 u_i + u_i+1)/h^2 + R(u_i)

Diffusion is known, the reaction may be a network, the same at every point: `universal(LineDiffusion(D, h), Reaction(net))`.
With R(u) = r u (1 - u) this is the equation of Fisher, Kolmogorov, Petrovsky and Piskunov, whose fronts from a sharp edge
run at 2 sqrt(r D) in the end, and at 2 sqrt(r D) - 3/(2 t) sqrt(D/r) on the way. The front 1/(1 + e^(z/sqrt 6))^2 with
z = x - 5 t/sqrt 6 (r = D = 1) is exact. The second difference errs by h^2.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Checked, Function, Scalar, State
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.signature import as_pytree

Ends = Literal["closed", "ring"]


class LineDiffusion(Flow):
    r"""du_i/dt = D (u_i-1 - 2 u_i + u_i+1)/h^2 on a line of points h apart.

    **Arguments:**

    - `coefficient`: D >= 0, in the square of a length over a time. `spacing`: h > 0.
    - `ends`: "closed", nothing flows out (points are the middles of cells), or "ring", the last is beside the first.

    The state has shape (n,), or (n, k) for k quantities that diffuse alike.

    **Raises:** `ValueError` for a negative coefficient, a spacing that is not positive, or other ends.

    **Example:** nothing is lost.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> spread = sx.residual.LineDiffusion(1.0, 0.5)
    >>> spread.velocity(0.0, jnp.array([0.0, 0.0, 1.0, 0.0])).tolist()
    [0.0, 4.0, -8.0, 4.0]

    **Reference:** Schiesser, *The Numerical Method of Lines* (1991), chapter 1.
    """

    coefficient: Any = eqx.field(converter=as_parameter)
    spacing: Any = eqx.field(converter=as_parameter)
    ends: Checked[Ends] = eqx.field(static=True, default="closed")

    def __check_init__(self) -> None:
        ranges.nonnegative("LineDiffusion: coefficient", self.coefficient, "Diffusion spreads, it does not gather.")
        ranges.positive("LineDiffusion: spacing", self.spacing, "Pass the distance between two points.")
        if self.ends not in ("closed", "ring"):
            do = "Pass one of the two."
            raise ValueError(explain("LineDiffusion: ends", repr(self.ends), '"closed" or "ring"', do))

    def velocity(self, t: Scalar, state: State) -> State:
        rate = jnp.asarray(self.coefficient, state.dtype) / jnp.asarray(self.spacing, state.dtype) ** 2
        if self.ends == "ring":
            return rate * (jnp.roll(state, 1, axis=0) - 2 * state + jnp.roll(state, -1, axis=0))
        flux = jnp.diff(state, axis=0)
        closed = jnp.zeros_like(state[:1])
        return rate * jnp.diff(jnp.concatenate([closed, flux, closed]), axis=0)


class Reaction(Flow):
    """du_i/dt = R(u_i), the same law at every point.

    **Arguments:**

    - `law`: R, from what is at one point, shape () or (k,), to its rate, of the same shape.

    **Raises:** `ValueError`, where it is evaluated, for a law that returns another shape.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.Reaction(lambda u: u * (1 - u)).velocity(0.0, jnp.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 0.25, 0.0]
    """

    law: Function = eqx.field(converter=as_pytree)

    def velocity(self, t: Scalar, state: State) -> State:
        rates = jax.vmap(self.law)(state)
        if jnp.shape(rates) != state.shape:
            do = "Return one rate for each quantity: for one quantity a number."
            got, expected = f"{jnp.shape(rates)[1:]} at a point", f"{state.shape[1:]}"
            raise ValueError(explain("Reaction: law", got, expected, do))
        return rates
