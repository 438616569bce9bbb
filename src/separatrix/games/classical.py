r"""Two games that can be solved by hand.

    bilinear    min_x max_y x^T A y                     v = (-A y, A^T x): a turn, eigenvalues +- i (singular values of A)
    Dirac-GAN   min_theta max_psi f(theta psi) - (gamma/2) psi^2,  f(s) = -log(1 + e^{-s})

The Dirac-GAN is the smallest GAN: a generator that puts all mass at theta, a linear discriminator D(x) = psi x, true data
at 0, and gradient penalty (R1) of weight gamma. At its equilibrium 0 the field has eigenvalues
-gamma/2 +- sqrt(gamma^2/4 - 1/4); without penalty theta^2 + psi^2 is constant, and training cycles.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import Key, Scalar, State
from separatrix.games.game import Game
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


def _as_matrix(matrix: Any) -> Any:
    return jnp.asarray(matrix) if isinstance(matrix, list | tuple) else as_parameter(matrix)


class Bilinear(Game):
    """L_1 = x^T A y = -L_2.

    **Arguments:**

    - `matrix`: A, shape (n, m) for players of shapes (n,) and (m,); a number for players of equal shape.

    **Raises:** `ValueError` for values that are not finite.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> [float(loss) for loss in sx.games.Bilinear(2.0)((jnp.array(1.0), jnp.array(3.0)))]
    [6.0, -6.0]
    """

    matrix: Any = eqx.field(default=1.0, converter=_as_matrix)

    def __check_init__(self) -> None:
        ranges.finite("Bilinear: matrix", self.matrix, "Leave it out for 1.")

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        x, y = players
        matrix = jnp.asarray(self.matrix).astype(y.dtype)
        value = jnp.sum(x * (matrix @ y if matrix.ndim == 2 else matrix * y))
        return value, -value


class DiracGAN(Game):
    """L_1 = f(theta psi), L_2 = -f(theta psi) + (gamma/2) psi^2, with f(s) = -log(1 + e^{-s}).

    **Arguments:**

    - `penalty`: gamma >= 0, the weight of R1. Critically damped at 1.

    **Raises:** `ValueError` for a negative penalty.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.linearize(sx.games.field(sx.games.DiracGAN(1.0)), (jnp.array(0.0), jnp.array(0.0))).as_matrix().tolist()
    [[-0.0, -0.5], [0.5, -1.0]]

    **Reference:** Mescheder, Geiger & Nowozin, *Which training methods for GANs do actually converge?* (2018), sections 2
    and 4.1, lemma 4.1.
    """

    penalty: Any = eqx.field(default=0.0, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.nonnegative("DiracGAN: penalty", self.penalty, "Leave it out for none.")

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        theta, psi = players
        value = -jax.nn.softplus(-jnp.sum(theta * psi))
        return value, -value + jnp.asarray(self.penalty, psi.dtype) / 2 * jnp.sum(psi**2)
