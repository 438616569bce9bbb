r"""Adam and its kin: averages of the gradient and of its square, with their biases corrected.

    m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2,    g = grad L(x)
    x <- x - eta mhat/(sqrt(vhat) + eps),    mhat = m/(1 - b1^n),   vhat = v/(1 - b2^n)   at the n-th step

The step size of the family is h = eta; held fixed are the rates a = (1 - b1)/h and b = (1 - b2)/h, so that the averages
remember for times 1/a and 1/b however small the steps. The limit is

    m' = a (g - m),    v' = b (g^2 - v),    x' = -(m/(1 - e^{-a t})) / (sqrt(v/(1 - e^{-b t})) + eps).

- AdamW     adds -lambda x to x'
- Nadam     steps along b1 mhat + (1 - b1) g: the same limit, another correction of order h
- a -> oo, b -> oo (b1 = b2 = 0, eps = 0) is descent along the signs of the gradient

AMSGrad (vhat <- max) and AdaMax (v <- max(b2 v, |g|)) have no limit of this kind. At h = 0 their step does not leave the
state where it is: it lifts the maximum to the present value. Their limits are running maxima, not flows; run them by
`from_optax`.
"""

from typing import Any, ClassVar

import jax.numpy as jnp

from separatrix._tree import axpy, scale
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import (
    Averages,
    FromParameters,
    averages,
    correction,
    over_root,
    unpack,
)
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.memory import MemoryForm
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import nonnegative, positive

Moments = MemoryForm(
    "Moments", ("position", "mean", "square"),
    "Position x, average gradient m and average square v, both before their biases are corrected.",
)  # fmt: skip


class Adam(FromParameters, NearIdentityMap):
    r"""x <- x - eta mhat/(sqrt(vhat) + eps), with averages of grad L and of its square.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = eta.
    - `b1`, `b2`: decays in [0, 1) of the two averages; the rates (1 - b)/eta are what the limit keeps.
    - `eps`: added to the root, outside it, as in the paper.

    With the preconditioner frozen it is stable where the largest eigenvalue of diag(sqrt(vhat) + eps)^{-1} H is below
    (2 + 2 b1)/((1 - b1) eta), see `stability_edge`.

    **Example:** the first step has size eta whatever the gradient, and points along its signs.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> adam = sx.optimization.Adam(sx.optimization.Quadratic(jnp.array([1.0, 1e4])), learning_rate=0.01)
    >>> adam.step(0, adam.init(jnp.array([1.0, -1.0]))).position.round(6).tolist()
    [0.99, -0.99]

    **Reference:** Kingma & Ba, *Adam: A method for stochastic optimization* (2015), algorithm 1; Barakat & Bianchi,
    *Convergence and dynamical behavior of the ADAM algorithm for nonconvex stochastic optimization* (2021), for the
    limit; da Silva & Gazeau, *A general system of differential equations to model first-order adaptive algorithms* (2020).
    """

    memory: ClassVar[Any] = Moments
    objective: Objective
    step_size: Scalar
    averages: Averages

    def __init__(
        self, objective: Objective | Function, learning_rate: Any, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("Adam: learning_rate", learning_rate)
        self.averages = averages("Adam", learning_rate, b1, b2, eps)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, m, v = unpack(state, Moments)
        g = gradient(self.objective, x, key)
        m, v, mhat, vhat = self.averages.update(t, step_size, m, v, g)
        return Moments(axpy(-step_size, over_root(mhat, vhat, self.averages.eps), x), m, v)


class AdamW(FromParameters, NearIdentityMap):
    r"""x <- x - eta (mhat/(sqrt(vhat) + eps) + lambda x): Adam with its weight decay outside the averages.

    The limit adds -lambda x to the velocity of `Adam`'s. With the preconditioner frozen the edge is lowered to
    (1 + b1)(2 - eta lambda)/((1 - b1) eta).

    **Arguments:** those of `Adam`, and

    - `weight_decay`: lambda >= 0, in 1/time.

    **Example:** where the gradient vanishes the parameters shrink by 1 - eta lambda a step.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> adamw = sx.optimization.AdamW(lambda x: 0.0 * jnp.sum(x), learning_rate=0.1, weight_decay=0.5)
    >>> adamw.step(0, adamw.init(jnp.array([1.0]))).position.tolist()
    [0.95]

    **Reference:** Loshchilov & Hutter, *Decoupled weight decay regularization* (2019), algorithm 2 with the schedule
    multiplier 1 and the decay times the learning rate, as optax.adamw.
    """

    memory: ClassVar[Any] = Moments
    objective: Objective
    step_size: Scalar
    averages: Averages
    weight_decay: Scalar

    def __init__(
        self,
        objective: Objective | Function,
        learning_rate: Any,
        b1: Any = 0.9,
        b2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 1e-4,
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("AdamW: learning_rate", learning_rate)
        self.averages = averages("AdamW", learning_rate, b1, b2, eps)
        self.weight_decay = nonnegative("AdamW: weight_decay", weight_decay)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, m, v = unpack(state, Moments)
        g = gradient(self.objective, x, key)
        m, v, mhat, vhat = self.averages.update(t, step_size, m, v, g)
        direction = axpy(self.weight_decay, x, over_root(mhat, vhat, self.averages.eps))
        return Moments(axpy(-step_size, direction, x), m, v)


class Nadam(FromParameters, NearIdentityMap):
    r"""x <- x - eta (b1 m/(1 - b1^(n+1)) + (1 - b1) g/(1 - b1^n))/(sqrt(vhat) + eps) at the n-th step.

    Nesterov's momentum in Adam: the average is taken one step ahead. Its limit is that of `Adam`; they part at order h.
    Quasi-hyperbolic with nu = b1 once the biases are corrected, hence the edge (2 + 2 b1)/((1 - b1)(1 + 2 b1) eta).

    **Arguments:** those of `Adam`.

    **Example:** the first step is longer than Adam's by b1/(1 + b1).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> nadam = sx.optimization.Nadam(sx.optimization.Quadratic(1.0), learning_rate=0.01, b1=0.9)
    >>> round(float(1.0 - nadam.step(0, nadam.init(jnp.array([1.0]))).position[0]), 6) == round(0.01 * (1 + 0.9 / 1.9), 6)
    True

    **Reference:** Dozat, *Incorporating Nesterov momentum into Adam* (2016), algorithm 2, with a constant momentum and
    without the factor b2 on vhat, as optax.nadam.
    """

    memory: ClassVar[Any] = Moments
    objective: Objective
    step_size: Scalar
    averages: Averages

    def __init__(
        self, objective: Objective | Function, learning_rate: Any, b1: Any = 0.9, b2: Any = 0.999, eps: Any = 1e-8
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("Nadam: learning_rate", learning_rate)
        self.averages = averages("Nadam", learning_rate, b1, b2, eps)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, m, v = unpack(state, Moments)
        g = gradient(self.objective, x, key)
        m, v, _, vhat = self.averages.update(t, step_size, m, v, g)
        direction = over_root(self.ahead(t, step_size, m, g), vhat, self.averages.eps)
        return Moments(axpy(-step_size, direction, x), m, v)

    def ahead(self, t: Scalar, step_size: Scalar, mean: State, newest: State) -> State:
        """b1 m/(1 - b1^(n+1)) + (1 - b1) g/(1 - b1^n), which is (1 + b1/(1 + b1)) g at the first step."""
        rate, first = self.averages.mean_rate, jnp.asarray(t == 0)
        fresh = jnp.asarray(rate, jnp.result_type(step_size)) * step_size
        one, b1 = jnp.ones_like(fresh), 1 - fresh
        present = jnp.where(first, one, correction(rate, t + step_size, step_size))
        following = jnp.where(first, one, correction(rate, t + 2 * step_size, step_size))
        of_mean = jnp.where(first, 0 * one, b1 / following)
        of_newest = jnp.where(first, 1 + b1 / (1 + b1), fresh / present)
        return axpy(of_newest, newest, scale(of_mean, mean))
