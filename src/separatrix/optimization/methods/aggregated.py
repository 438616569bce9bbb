r"""Momentum that is mixed or averaged: quasi-hyperbolic (QHM, QHAdam) and aggregated (AggMo).

    QHM       m <- b m + (1 - b) g,           x <- x - eta ((1 - nu) g + nu m)
    QHAdam    averages as in Adam,            x <- x - eta ((1 - nu1) g + nu1 mhat) / (sqrt((1 - nu2) g^2 + nu2 vhat) + eps)
    AggMo     v_k <- b_k v_k - g,             x <- x + (eta/K) sum_k v_k

QHM and QHAdam have h = eta with rates a = (1 - b)/h held fixed, as Adam. AggMo has h = sqrt(eta) with frictions
a_k = (1 - b_k)/h and w_k = h v_k, as heavy ball. Limits:

    QHM       m' = a (g - m),    x' = -((1 - nu) g + nu m)
    QHAdam    m' = a (g - m),    v' = b (g^2 - v),    x' = -(the mixture above, without bias)
    AggMo     w_k' = -a_k w_k - g,    x' = (1/K) sum_k w_k

Stability on curvature l. QHM: the multipliers z solve z^2 - (1 + b - eta l (1 - nu b)) z + b (1 - eta l (1 - nu)) = 0 and
leave the circle at z = -1, where eta l = (2 + 2b)/(1 + b - 2 nu b). AggMo: z - 1 = -(eta l/K) z sum_k 1/(z - b_k). On the
upper half circle z = e^{i theta} the imaginary part of z/(z - 1) sum_k 1/(z - b_k) is
-1/2 cot(theta/2) sum_k (1 - b_k)/|z - b_k|^2 < 0, so that no complex pair can cross; the edge is z = -1 too, at
eta l = 2K / sum_k 1/(1 + b_k).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.adam import Moments
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import (
    Averages,
    FromParameters,
    average,
    averages,
    mix,
    over_root,
    rate_of,
    squared,
    unpack,
)
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import positive, require, share

Averaged = MemoryForm("Averaged", ("position", "mean"), "Position x and average gradient m.")

Velocities = MemoryForm(
    "Velocities", ("position", "velocities"),
    "Position x and the K velocities w_k, a leading axis of each leaf.",
)  # fmt: skip


class QHM(FromParameters, NearIdentityMap):
    r"""m <- b m + (1 - b) g, x <- x - eta ((1 - nu) g + nu m): between gradient descent (nu = 0) and momentum (nu = 1).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = eta.
    - `momentum`: b in [0, 1). `nu`: in [0, 1]; the authors' rule of thumb is b = 0.999, nu = 0.7.

    Nesterov's momentum is nu = b, at the learning rate eta (1 - b). Stable on curvature l where
    eta l < (2 + 2b)/(1 + b - 2 nu b).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> qhm = sx.optimization.QHM(sx.optimization.Quadratic(1.0), learning_rate=0.5, momentum=0.5, nu=0.5)
    >>> qhm.step(0, qhm.init(jnp.array([1.0]))).position.tolist()  # 1 - 0.5 (0.5 + 0.5 * 0.5)
    [0.625]

    **Reference:** Ma & Yarats, *Quasi-hyperbolic momentum and Adam for deep learning* (2019), section 3.
    """

    memory: ClassVar[Any] = Averaged
    objective: Objective
    step_size: Scalar
    rate: Scalar
    nu: Scalar

    def __init__(self, objective: Objective | Function, learning_rate: Any, momentum: Any = 0.999, nu: Any = 0.7):
        self.objective = as_objective(objective)
        self.step_size = positive("QHM: learning_rate", learning_rate)
        self.rate = rate_of(momentum, learning_rate, "QHM: momentum")
        self.nu = share("QHM: nu", nu)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, m = unpack(state, Averaged)
        g = gradient(self.objective, x, key)
        m = average(self.rate, step_size, m, g)
        return Averaged(axpy(-step_size, mix(self.nu, g, m), x), m)


class QHAdam(FromParameters, NearIdentityMap):
    r"""x <- x - eta ((1 - nu1) g + nu1 mhat)/(sqrt((1 - nu2) g^2 + nu2 vhat) + eps).

    **Arguments:** those of `Adam`, and

    - `nu1`, `nu2`: in [0, 1]; both 1 is Adam.

    **Example:** with nu1 = nu2 = 0 it walks along the signs of the gradient.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> walk = sx.optimization.QHAdam(sx.optimization.Quadratic(jnp.array([1.0, 100.0])), 0.25, nu1=0.0, nu2=0.0, eps=0.0)
    >>> walk.step(5, walk.init(jnp.array([1.0, -1.0]))).position.tolist()
    [0.75, -0.75]

    **Reference:** Ma & Yarats, *Quasi-hyperbolic momentum and Adam for deep learning* (2019), section 4.
    """

    memory: ClassVar[Any] = Moments
    objective: Objective
    step_size: Scalar
    averages: Averages
    nu1: Scalar
    nu2: Scalar

    def __init__(
        self,
        objective: Objective | Function,
        learning_rate: Any,
        b1: Any = 0.995,
        b2: Any = 0.999,
        eps: Any = 1e-8,
        nu1: Any = 0.7,
        nu2: Any = 1.0,
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("QHAdam: learning_rate", learning_rate)
        self.averages = averages("QHAdam", learning_rate, b1, b2, eps)
        self.nu1, self.nu2 = share("QHAdam: nu1", nu1), share("QHAdam: nu2", nu2)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, m, v = unpack(state, Moments)
        g = gradient(self.objective, x, key)
        m, v, mhat, vhat = self.averages.update(t, step_size, m, v, g)
        direction = over_root(mix(self.nu1, g, mhat), mix(self.nu2, squared(g), vhat), self.averages.eps)
        return Moments(axpy(-step_size, direction, x), m, v)


class AggMo(NearIdentityMap):
    r"""v_k <- b_k v_k - g, x <- x + (eta/K) sum_k v_k, on the state (x, w_k = sqrt(eta) v_k).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = sqrt(eta).
    - `momenta`: b_1, ..., b_K in [0, 1]; one of them alone is `HeavyBall`.

    Stable on curvature l where eta l < 2K / sum_k 1/(1 + b_k).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> aggmo = sx.optimization.AggMo(sx.optimization.Quadratic(1.0), learning_rate=0.25, momenta=(0.0, 0.9))
    >>> aggmo.step(0, aggmo.init(jnp.array([1.0]))).position.tolist()
    [0.75]

    **Reference:** Lucas, Sun, Zemel & Grosse, *Aggregated momentum: stability through passive damping* (2019), section 3.
    """

    objective: Objective
    step_size: Scalar
    frictions: Any

    def __init__(self, objective: Objective | Function, learning_rate: Any, momenta: Any = (0.0, 0.9, 0.99)):
        momenta = jnp.stack([jnp.asarray(b) for b in momenta]) if isinstance(momenta, tuple | list) else momenta
        if jnp.ndim(momenta) != 1:
            do = "Pass for example (0.0, 0.9, 0.99)."
            raise ValueError(
                explain("AggMo: momenta", f"shape {jnp.shape(momenta)}", "one decay for each velocity", do)
            )
        require("AggMo: momenta", momenta, "decays in [0, 1]", lambda b: (b >= 0) & (b <= 1))
        self.objective = as_objective(objective)
        self.step_size = jnp.sqrt(positive("AggMo: learning_rate", learning_rate))
        self.frictions = (1 - momenta) / self.step_size.astype(momenta.dtype)

    def init(self, parameters: State) -> Remembered:
        """Return the state at rest at these parameters."""
        parameters = jax.tree.map(jnp.asarray, require_trainable(parameters))
        count = self.frictions.shape[0]
        return Velocities(
            parameters, jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), parameters)
        )

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, w = unpack(state, Velocities)
        g = gradient(self.objective, x, key)
        w = jax.tree.map(lambda each, slope: self._kick(step_size, each, slope), w, g)
        return Velocities(axpy(step_size, jax.tree.map(lambda each: jnp.mean(each, axis=0), w), x), w)

    def _kick(self, step_size: Scalar, w: Any, g: Any) -> Any:
        """(1 - a_k h) w_k - h g, for all k."""
        h = jnp.asarray(step_size, w.dtype)
        kept = (1 - jnp.asarray(self.frictions, w.dtype) * h).reshape(-1, *([1] * g.ndim))
        return kept * w - (h * g.astype(w.dtype))[None]
