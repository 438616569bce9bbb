r"""Stability edges: the largest curvature on which a method still contracts.

On L = l x^2/2 a method is linear and its multipliers z are known. For all of these the first to leave the circle is real,
at z = -1, so that the run breaks into an oscillation of period two:

    gradient descent    l h   = 2
    heavy ball          l eta = 2 + 2b                         v <- b v + eta g, x <- x - v
    Nesterov            l eta = (2 + 2b)/(1 + 2b)              with b = n/(n + 3) on the schedule, 1 in the end
    QHM                 l eta = (2 + 2b)/(1 + b - 2 nu b)
    AggMo               l eta = 2K / sum_k 1/(1 + b_k)

An adaptive method divides by a diagonal d. Where d changes slowly against the oscillation it is frozen, and the curvature
is that of d^{-1} H: the l of H v = l d v, the preconditioned sharpness.

    RMSprop, Adadelta, Adagrad    l eta = 2
    Adam, AMSGrad, AdaMax         l eta = (2 + 2b)/(1 - b)              38 at b = 0.9
    AdamW                         l eta = (1 + b)(2 - eta lambda)/(1 - b)
    Nadam                         l eta = (2 + 2b)/((1 - b)(1 + 2b))
    QHAdam                        l eta = (2 + 2b)/(1 + b - 2 nu1 b)

Signs (signSGD, Lion) have no edge: their step does not shrink with the gradient.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Scalar, State
from separatrix.optimization.methods.adagrad import Adagrad
from separatrix.optimization.methods.adam import Adam, AdamW, Moments, Nadam
from separatrix.optimization.methods.aggregated import QHM, AggMo, QHAdam
from separatrix.optimization.methods.descent import GradientDescent
from separatrix.optimization.methods.moments import correction, root, unpack
from separatrix.optimization.methods.momentum import HeavyBall, Nesterov
from separatrix.optimization.methods.rmsprop import Adadelta, RMSprop, Squares, SquaresAndSteps
from separatrix.optimization.methods.sign import Lion, SignDescent
from separatrix.optimization.methods.wrappers import RestartedNesterov
from separatrix.optimization.stability._optax_states import diagonal_of
from separatrix.systems.ranges import require

_NATIVE = (
    "GradientDescent, HeavyBall, Nesterov, RestartedNesterov, QHM, AggMo, RMSprop, Adadelta, Adagrad, Adam, AdamW, "
    "Nadam or QHAdam"
)


def stability_edge(method: Any, *, at: Any = None, **hyperparameters: Any) -> Scalar:
    r"""Return the largest curvature at which a method is stable.

    **Arguments:**

    - `method`: a map of this family; or the name of an optax function, as "adam", followed by the hyperparameters it was
      made with.
    - `at`: the number of the step, for Nesterov's schedule; by default in the end (momentum 1).
    - `hyperparameters`: with a name, as optax calls them: learning_rate, momentum, nesterov, b1, weight_decay. Those left
      out have optax's values.

    **Returns:** a scalar: an eigenvalue of the Hessian H, of d^{-1} H for adaptive methods with the `preconditioner` d.
    Differentiable in the hyperparameters, and swept by `vmap`.

    **Raises:** `ValueError` for methods without an edge; `TypeError` for one that is not known, or an unknown
    hyperparameter.

    **Example:**

    >>> import separatrix as sx
    >>> adam = sx.optimization.Adam(sx.optimization.Quadratic(1.0), learning_rate=0.1)
    >>> round(float(sx.optimization.stability_edge(adam)), 6)
    380.0
    >>> round(float(sx.optimization.stability_edge("sgd", learning_rate=0.1, momentum=0.9)), 6)
    38.0

    **Reference:** Cohen et al., *Gradient descent on neural networks typically occurs at the edge of stability* (2021),
    appendix on momentum; Cohen et al., *Adaptive gradient methods at the edge of stability* (2022), for 38.
    """
    if isinstance(method, str):
        return _by_name(method, hyperparameters)
    if hyperparameters:
        do = "Leave them out: the map holds its own; or pass a name."
        raise TypeError(explain("stability_edge", f"a map and {sorted(hyperparameters)}", "a map alone", do))
    h: Any = getattr(method, "step_size", None)
    match method:
        case GradientDescent() | RMSprop() | Adadelta() | Adagrad():
            return 2 / jnp.asarray(h)
        case HeavyBall():
            return heavy_ball_edge(h**2, 1 - method.friction * h)
        case Nesterov():
            return nesterov_edge(h**2, _nesterov_momentum(method, at))
        case RestartedNesterov():
            return nesterov_edge(method.nesterov.step_size**2, _nesterov_momentum(method.nesterov, at))
        case QHM():
            return quasi_hyperbolic_edge(h, 1 - method.rate * h, method.nu)
        case AggMo():
            return aggregated_edge(h**2, 1 - method.frictions * h)
        case Adam():
            return averaged_edge(h, 1 - method.averages.mean_rate * h)
        case AdamW():
            return averaged_edge(h, 1 - method.averages.mean_rate * h, method.weight_decay)
        case Nadam():
            b1 = 1 - method.averages.mean_rate * h
            return quasi_hyperbolic_edge(h, b1, b1)
        case QHAdam():
            return quasi_hyperbolic_edge(h, 1 - method.averages.mean_rate * h, method.nu1)
    raise _no_edge(method)


def preconditioner(map: Any, state: Any, *, at: Any = None, **hyperparameters: Any) -> Any:
    r"""Return the diagonal d by which a method divides its step, as a tree of the parameters' form; None if it is 1.

        x[n+1] = x[n] - eta d^{-1} (an average of gradients),     preconditioned curvature:  H v = l d v

    Adam: d = (1 - b1^n)(sqrt(v/(1 - b2^n)) + eps); RMSprop: sqrt(v + eps). It belongs to the step that led to the state.

    **Arguments:**

    - `map`: a map of this family; of optax, what `from_optax` made, or None with the bare optimiser state.
    - `state`: its state.
    - `at`: n >= 1, how many steps led to the state, for the bias corrections of native maps; by default they are over.
      The states of optax hold their own count.
    - `hyperparameters`: of optax's transformation, where they differ from its defaults: b1, b2, eps, eps_in_sqrt. The
      state does not hold them. `name="adamax"` tells it from Adam, whose state has the same type.

    **Raises:** `ValueError` for methods that step along signs; `TypeError` for a state that is not known.

    **Example:**

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> adam = sx.from_optax(sx.optimization.Quadratic(jnp.array([1.0, 4.0])), optax.adam(0.1, b1=0.0))
    >>> state = sx.evolve(adam, adam.init(jnp.array([1.0, 1.0])), steps=1).final
    >>> sx.optimization.preconditioner(adam, state, b1=0.0).round(6).tolist()
    [1.0, 4.0]

    **Reference:** Cohen et al., *Adaptive gradient methods at the edge of stability* (2022), equations for the
    preconditioner of Adam.
    """
    require("preconditioner: at", 1 if at is None else at, "a number of steps >= 1, or None", lambda n: n >= 1)
    match map:
        case GradientDescent() | HeavyBall() | Nesterov() | RestartedNesterov() | QHM() | AggMo():
            return None
        case RMSprop() | Adagrad():
            return _each(lambda v: jnp.sqrt(_plus(v, map.eps)), unpack(state, Squares)[1])
        case Adadelta():
            _, v, z = unpack(state, SquaresAndSteps)
            return _each(lambda v, z: jnp.sqrt(_plus(v, map.eps) / _plus(z, map.eps)), v, z)
        case Adam() | AdamW() | Nadam():
            return _of_moments(map, unpack(state, Moments), at, 1.0)
        case QHAdam():
            return _of_moments(map, unpack(state, Moments), at, map.nu2)
        case SignDescent() | Lion():
            raise _no_edge(map)
    return diagonal_of(state, **hyperparameters)


def heavy_ball_edge(learning_rate: Scalar, momentum: Scalar) -> Scalar:
    """(2 + 2b)/eta."""
    return (2 + 2 * momentum) / jnp.asarray(learning_rate)


def nesterov_edge(learning_rate: Scalar, momentum: Scalar) -> Scalar:
    """(2 + 2b)/((1 + 2b) eta)."""
    return (2 + 2 * momentum) / ((1 + 2 * momentum) * jnp.asarray(learning_rate))


def averaged_edge(learning_rate: Scalar, momentum: Scalar, weight_decay: Scalar = 0.0) -> Scalar:
    """(1 + b)(2 - eta lambda)/((1 - b) eta): where 1 + trace + determinant of the step is 0."""
    return (1 + momentum) * (2 / jnp.asarray(learning_rate) - weight_decay) / (1 - momentum)


def quasi_hyperbolic_edge(learning_rate: Scalar, momentum: Scalar, nu: Scalar) -> Scalar:
    """(2 + 2b)/((1 + b - 2 nu b) eta)."""
    return (2 + 2 * momentum) / ((1 + momentum - 2 * nu * momentum) * jnp.asarray(learning_rate))


def aggregated_edge(learning_rate: Scalar, momenta: Any) -> Scalar:
    """2K / (eta sum_k 1/(1 + b_k))."""
    return 2 / (jnp.asarray(learning_rate) * jnp.mean(1 / (1 + momenta)))


def _sgd(learning_rate: Scalar, momentum: Any = None, nesterov: bool = False) -> Scalar:
    edge = nesterov_edge if nesterov else heavy_ball_edge
    return edge(learning_rate, 0.0 if momentum is None else momentum)


def _adam(learning_rate: Scalar, b1: Scalar = 0.9, nesterov: bool = False) -> Scalar:
    return quasi_hyperbolic_edge(learning_rate, b1, b1 if nesterov else 1.0)


def _nadam(learning_rate: Scalar, b1: Scalar = 0.9) -> Scalar:
    return quasi_hyperbolic_edge(learning_rate, b1, b1)


def _adamw(learning_rate: Scalar, b1: Scalar = 0.9, weight_decay: Scalar = 1e-4) -> Scalar:
    return averaged_edge(learning_rate, b1, weight_decay)


def _averaged(learning_rate: Scalar, b1: Scalar = 0.9) -> Scalar:
    return averaged_edge(learning_rate, b1)


def _divided(learning_rate: Scalar) -> Scalar:
    return 2 / jnp.asarray(learning_rate)


_FORMULAS = {
    "sgd": _sgd, "rmsprop": _sgd, "adagrad": _divided, "adadelta": _divided, "adam": _adam, "adamw": _adamw,
    "nadam": _nadam, "amsgrad": _averaged, "adamax": _averaged,
}  # fmt: skip
# What optax's functions take besides, and an edge does not depend on.
_WITHOUT_EFFECT = {"b2", "eps", "eps_root", "decay", "rho", "initial_scale", "initial_accumulator_value"}


def _by_name(name: str, hyperparameters: dict[str, Any]) -> Scalar:
    if name in ("lion", "sign_sgd"):
        raise _no_edge(name)
    if name not in _FORMULAS:
        raise TypeError(
            explain("stability_edge", repr(name), f"one of {', '.join(_FORMULAS)}", f"Or pass a map: {_NATIVE}.")
        )
    given = {key: value for key, value in hyperparameters.items() if key not in _WITHOUT_EFFECT}
    formula = _FORMULAS[name]
    known = tuple(inspect.signature(formula).parameters)
    if "learning_rate" not in given or set(given) - set(known):
        do = "Pass the hyperparameters by optax's names."
        raise TypeError(explain(f'stability_edge("{name}")', sorted(hyperparameters), ", ".join(known), do))
    return formula(**given)


def _no_edge(method: Any) -> Exception:
    name = method if isinstance(method, str) else type(method).__name__
    if name in ("lion", "sign_sgd", "Lion", "SignDescent"):
        do = "Lower the learning rate in time: it rests only to within its step."
        return ValueError(explain(f"{name} has no stability edge", "a step along signs", "one that shrinks with g", do))
    do = "For a map of optax give its name: stability_edge('adam', learning_rate=1e-3)."
    return TypeError(explain("stability_edge", name, _NATIVE, do))


def _nesterov_momentum(nesterov: Nesterov, at: Any) -> Scalar:
    h = jnp.asarray(nesterov.step_size)
    if nesterov.friction is None and at is None:
        return jnp.ones_like(h)
    return nesterov.momentum(jnp.asarray(0 if at is None else at).astype(h.dtype) * h, h)


def _of_moments(map: Any, state: Any, at: Any, share: Scalar) -> State:
    """(1 - b1^n)(sqrt(share v/(1 - b2^n)) + eps)."""
    h, rates = jnp.asarray(map.step_size), map.averages
    t = None if at is None else jnp.asarray(at).astype(h.dtype) * h
    of_mean, of_square = (
        jnp.ones_like(h) if t is None else correction(a, t, h) for a in (rates.mean_rate, rates.square_rate)
    )
    scale = jnp.asarray(share, h.dtype) / of_square

    def diagonal(v: Any) -> Any:
        return jnp.asarray(of_mean, v.dtype) * _plus(root(jnp.asarray(scale, v.dtype) * v), rates.eps)

    return _each(diagonal, state.square)


def _plus(x: Any, eps: Scalar) -> Any:
    return x + jnp.asarray(eps, x.dtype)


def _each(function: Any, *trees: State) -> State:
    return jax.tree.map(function, *trees)
