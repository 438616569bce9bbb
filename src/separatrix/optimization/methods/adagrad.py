r"""Adagrad: a step divided by the root of the sum of all squared gradients.

    G <- G + g^2,    x <- x - eta g/sqrt(G + eps),    g = grad L(x)

The sum grows by O(1) a step, so the steps shrink of themselves and h = eta gives no limit. Count time in t = n eta^2 and
the sum in S = eta^2 G. With h = eta^2,

    S <- S + h g^2,    x <- x - h g/sqrt(S + e),    e = eta^2 eps,

is the identity at h = 0. Its limit is

    S' = g^2,    x' = -g/sqrt(S + e),

along which L(x) + 2 sum_i sqrt(S_i + e) does not change: what the objective loses, the roots gain.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._tree import axpy
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import over_shifted_root, squared, unpack
from separatrix.optimization.methods.rmsprop import Squares, filled
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.memory import Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import nonnegative, positive


class Adagrad(NearIdentityMap):
    r"""G <- G + g^2, x <- x - eta g/sqrt(G + eps), on the state (x, S = eta^2 G).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = eta^2.
    - `initial_accumulator`: G at the start, in units of the squared gradient. `eps`: added under the root.

    With S frozen it is stable where the largest eigenvalue of diag(sqrt(S + e))^{-1} H is below 2/h.

    **Example:** the sum of a constant gradient grows as n, so x falls as 2 eta sqrt(n).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> adagrad = sx.optimization.Adagrad(lambda x: jnp.sum(x), learning_rate=0.01, initial_accumulator=0.0, eps=0.0)
    >>> x = sx.evolve(adagrad, adagrad.init(jnp.array([0.0])), steps=10_000, save="last").final.position
    >>> round(float(x[0]), 2)
    -1.99

    **Reference:** Duchi, Hazan & Singer, *Adaptive subgradient methods for online learning and stochastic optimization*
    (2011), diagonal form; da Silva & Gazeau (2020) for differential equations of this family.
    """

    objective: Objective
    step_size: Scalar
    eps: Scalar
    initial_sum: Scalar

    def __init__(
        self, objective: Objective | Function, learning_rate: Any, initial_accumulator: Any = 0.1, eps: Any = 1e-7
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("Adagrad: learning_rate", learning_rate) ** 2
        self.eps = self.step_size * nonnegative("Adagrad: eps", eps)
        self.initial_sum = self.step_size * nonnegative("Adagrad: initial_accumulator", initial_accumulator)

    def init(self, parameters: State) -> Remembered:
        """Return the state at these parameters, with S = eta^2 initial_accumulator."""
        parameters = jax.tree.map(jnp.asarray, require_trainable(parameters))
        return Squares(parameters, filled(parameters, self.initial_sum))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, total = unpack(state, Squares)
        g = gradient(self.objective, x, key)
        total = axpy(step_size, squared(g), total)
        return Squares(axpy(-step_size, over_shifted_root(g, total, self.eps), x), total)
