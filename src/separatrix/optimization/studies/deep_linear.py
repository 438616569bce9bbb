r"""Deep linear networks: a loss that is no quadratic, with a dynamics that is known.

    L(W_1, ..., W_D) = 1/2 |W_D ... W_1 - M|^2        (inputs whitened: M = Y X^T/N)

Gradient flow conserves the imbalance of each pair of neighbours (a symmetry of the loss),

    d/dt (W_{l+1}^T W_{l+1} - W_l W_l^T) = 0,

and visits saddles on its way: from balanced weights aligned with M each singular value s of M is learned by itself. For two
layers its strength a(t), with a(0) = a_0, obeys da/dt = 2 a (s - a):

    a(t) = s / (1 + (s/a_0 - 1) e^{-2 s t}),

a sigmoid whose time is ln(s/a_0 - 1)/(2s): one mode after another, the largest first.
"""

import itertools
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Key, Scalar
from separatrix.systems.objective import Objective


class DeepLinear(Objective):
    r"""L = 1/2 |W_D ... W_1 - M|^2 on a list of matrices [W_1, ..., W_D].

    **Arguments:**

    - `target`: M, shape (o, i).

    **Example:** the minimum is any factorisation of the target.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> loss = sx.optimization.DeepLinear(jnp.diag(jnp.array([4.0, 1.0])))
    >>> float(loss([jnp.diag(jnp.array([2.0, 1.0])), jnp.diag(jnp.array([2.0, 1.0]))]))
    0.0

    **Reference:** Saxe, McClelland & Ganguli, *Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks* (2014); Arora, Cohen & Hazan, *On the optimization of deep networks* (2018), for the conserved imbalance.
    """

    target: Float[Array, "o i"]

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        return jnp.sum((product(parameters) - self.target) ** 2) / 2

    def aligned(self, strength: Any, depth: int = 2) -> list[Array]:
        """Return balanced weights along the singular vectors of M, each mode of their product of this strength a_0 > 0."""
        left, values, right = jnp.linalg.svd(self.target, full_matrices=False)
        root = jnp.diag(jnp.broadcast_to(jnp.asarray(strength, values.dtype), values.shape) ** (1 / depth))
        return [root @ right, *[root] * (depth - 2), left @ root]


def product(parameters: Any) -> Float[Array, "o i"]:
    """W_D ... W_1."""
    whole = parameters[0]
    for weight in parameters[1:]:
        whole = weight @ whole
    return whole


def imbalance(parameters: Any) -> list[Float[Array, "h h"]]:
    """Return W_{l+1}^T W_{l+1} - W_l W_l^T of each pair of neighbours, which gradient flow conserves.

    **Arguments:** a list of matrices [W_1, ..., W_D], D >= 2.

    **Returns:** D - 1 symmetric matrices.

    **Raises:** `ValueError` for fewer than two layers.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.optimization.imbalance([jnp.array([[2.0]]), jnp.array([[3.0]])])[0].tolist()
    [[5.0]]
    """
    if len(parameters) < 2:
        do = "Pass [W_1, W_2, ...]."
        raise ValueError(explain("imbalance", f"{len(parameters)} layers", "at least two", do))
    pairs = itertools.pairwise(parameters)
    return [after.T @ after - before @ before.T for before, after in pairs]


def mode_strength(time: Any, value: Any, initial: Any) -> Any:
    """Return a(t) = s/(1 + (s/a_0 - 1) e^{-2st}): how much of a singular value two balanced layers have learned.

    **Arguments:** time t >= 0; the singular value s > 0; the strength a_0 > 0 at the start.

    **Example:** half is learned after ln(s/a_0 - 1)/(2s).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> float(sx.optimization.mode_strength(jnp.log(99.0) / 4.0, 2.0, 0.02).round(12))
    1.0

    **Reference:** Saxe, McClelland & Ganguli (2014), section 1.2.
    """
    return value / (1 + (value / initial - 1) * jnp.exp(-2 * value * time))
