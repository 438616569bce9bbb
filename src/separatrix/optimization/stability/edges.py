r"""Stability edges: the largest curvature on which a method still contracts, measured at its own state.

    l_i = 1/M_i,        M = -G(-1)/(2 + V(-1))        (see `responses`)

On a curvature l a run along x_i alone is stable while l < l_i. With the Hessian H of a loss, the largest eigenvalue of
H v = r l v is the ratio to the edge, 1 at the edge: `curvature(objective, parameters, preconditioner=l).sharpness`. What is
known in closed form:

    gradient descent             l eta = 2
    heavy ball                   l eta = 2 + 2b                        v <- b v + eta g, x <- x - v
    Nesterov                     l eta = (2 + 2b)/(1 + 2b)             with b = n/(n + 3) on the schedule, 1 in the end
    QHM                          l eta = (2 + 2b)/(1 + b - 2 nu b)
    AggMo                        l eta = 2K / sum_k 1/(1 + b_k)

An adaptive method divides by a diagonal d that changes slowly against the oscillation, and is held as it is:

    RMSprop, Adadelta, Adagrad   l eta = 2 d
    Adam, AMSGrad, AdaMax        l eta = d (2 + 2b)/(1 - b)            38 d at b = 0.9
    AdamW                        l eta = d (1 + b)(2 - eta lambda)/(1 - b)
    Nadam                        l eta = d (2 + 2b)/((1 - b)(1 + 2b))
    QHAdam                       l eta = d (2 + 2b)/(1 + b - 2 nu1 b)

Signs (signSGD, Lion) have no edge: their step does not shrink with the gradient.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import State
from separatrix.optimization.stability.held import held_transformation, update_of
from separatrix.optimization.stability.responses import UNKNOWN, WHY, Response, refusal, response_at
from separatrix.optimization.stability.watched import LATE, objective_of, watched
from separatrix.systems import ranges
from separatrix.systems.optax_maps import OptimizerState

# Steps of a unit gradient of alternating sign, which put a scale into second moments.
_WARM = 64
# What hardly moves adds nothing to the curvature; its edge must stay finite.
_LEAST = 1e-12


class LinearProbe(NamedTuple):
    """Of one entry: the edge e in units of its first response, the growth kappa past it, and the drift G(1)/R."""

    edge: float
    growth: float
    drift: float


def stability_edge(map: Any, state: State, *, at: Any = None, key: Any = None) -> State:
    r"""Return the largest curvature at which an optimiser is stable, entry by entry, at its own state.

    **Arguments:**

    - `map`: an optimiser on an objective: what `from_optax` makes, or a method of `separatrix.optimization`.
    - `state`: its state: adaptive methods have no edge apart from their moments.
    - `at`: n >= 0, the number of the step, for schedules and bias corrections; by default late, when they are over. The
      states of optax hold their own count.
    - `key`: the sample on which the gradient is taken that says what is small; by default all data.

    **Returns:** l in the form of the parameters, > 0. An entry that does not move has 1e12 times the least. Differentiable
    in the hyperparameters, and swept by `vmap`; then nothing is refused.

    **Raises:** `ValueError` for an optimiser without an edge (steps along signs, or of a given length) or one that has no
    scale yet (Adam before its first step); `TypeError` for a map that is not known.

    **Example:** the edge of Adam is 38/eta in its own metric, sqrt(v) + eps.

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> bowl = sx.optimization.Quadratic(jnp.array([1.0, 4.0]))
    >>> ball = sx.optimization.HeavyBall(bowl, learning_rate=0.1, momentum=0.9)
    >>> sx.optimization.stability_edge(ball, ball.init(jnp.ones(2))).round(4).tolist()
    [38.0, 38.0]
    >>> adam = sx.from_optax(bowl, optax.adam(0.1))
    >>> state = sx.evolve(adam, adam.init(jnp.ones(2)), steps=50).final
    >>> edge = sx.optimization.stability_edge(adam, state)
    >>> round(float(sx.curvature(bowl, state.parameters, preconditioner=edge).sharpness), 3)
    0.009

    **Reference:** Cohen et al., *Gradient descent on neural networks typically occurs at the edge of stability* (2021),
    appendix on momentum; Cohen et al., *Adaptive gradient methods at the edge of stability* (2022), for 38.
    """
    ranges.require("stability_edge: at", 0 if at is None else at, "a number of steps >= 0, or None", lambda n: n >= 0)
    found = response_of(map, state, LATE if at is None else at, key)
    if not is_traced(found.checks):
        why = WHY[UNKNOWN] if float(found.checks.unknown) == 1 else refusal(found.checks)
        if why is not None:
            do = "Take some steps first; of signs lower the learning rate in time instead."
            raise ValueError(explain(f"stability_edge: {type(map).__name__}", why, "an optimiser with an edge", do))
    return edge_of(found)


def response_of(map: Any, state: State, n: Any, key: Any = None) -> Response:
    """How an optimiser on an objective answers at step n."""
    optimizer, objective = watched(map), objective_of(map)
    inner = state.optimizer_state if isinstance(state, OptimizerState) else state
    parameters = map.parameters(state)
    value, gradient = jax.value_and_grad(lambda x: jnp.asarray(objective(x, key=key)))(parameters)
    return optimizer.response(inner, parameters, jax.tree.map(jnp.conj, gradient), value, n=n)


def edge_of(found: Response) -> State:
    """1/|M|, finite."""
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(found.inverse_edge) if leaf.size]
    largest = jnp.stack([jnp.max(leaf) for leaf in sizes]).max()
    return jax.tree.map(lambda m: 1 / jnp.maximum(jnp.abs(m), (_LEAST * largest).astype(m.dtype)), found.inverse_edge)


def edge_ratio(transformation: Any) -> float:
    r"""Return e = |R|/M: the stability edge of an optimiser, in units of its first response.

    **Arguments:** an optax transformation, elementwise in the gradient. Schedules only scale R.

    **Returns:** e > 0: 2 for SGD, 2 + 2b with momentum b (Adam's b1 too), (2 + 2b)(1 + b)/(1 + 2b) for Nesterov's. NaN
    where a small gradient has no linear response (signs, LARS) or an alternation does not settle.

    **Raises:** `ValueError` for one that cannot be asked on one parameter alone (line searches, partitions by name), and
    for one that is not elementwise (LAMB's trust ratios, Muon's orthogonal factors): without a diagonal metric, no edge.

    **Example:**

    >>> import optax
    >>> round(edge_ratio(optax.adam(1e-3)), 6)
    3.8

    **Reference:** Cohen et al., *Adaptive gradient methods at the edge of stability* (2022), section 3, for the frozen
    preconditioner; the transfer function is that of Lessard, Recht & Packard (2016), section 3.
    """
    return linear_response(transformation).edge


def linear_response(transformation: Any) -> LinearProbe:
    """Edge, growth past it and drift of an optax transformation; errors as of `edge_ratio`."""
    x = jnp.array([[1.0, -0.7], [0.4, 1.3]])
    try:
        found = probed(transformation, x, _WARM)
    except (TypeError, ValueError, AttributeError) as error:
        got = f"an update that fails on one parameter alone ({str(error).splitlines()[0][:80]})"
        do = "Line searches and partitions by name have no edge of their own: pass the transformation of one part."
        raise ValueError(explain("edge_ratio: transformation", got, "one elementwise in the gradient", do)) from error
    if float(found.checks.mixing) > 0:
        got = f"an update in which {100 * float(found.checks.mixing):.3g} % of a parameter's response goes to others"
        do = "It has no diagonal metric, so no edge to compare with: watch plain curvature(...) instead."
        raise ValueError(explain("edge_ratio: transformation", got, "one elementwise in the gradient", do))
    first, inverse, turning, drift = (
        float(leaf[0, 0]) for leaf in (found.first, found.inverse_edge, found.turning, found.drift)
    )
    if float(found.checks.bending) > 0 or not inverse or not first:
        return LinearProbe(np.nan, np.nan, np.nan)
    return LinearProbe(abs(first) / inverse, 1 / turning, drift / first)


def probed(transformation: Any, x: Any, steps: int) -> Response:
    """The response of an optax transformation at a state that unit gradients of alternating sign have led to."""
    inner = transformation.init(x)
    for n in range(steps):
        _, inner = update_of(transformation, jnp.ones_like(x) * (-1.0) ** n, inner, x)
    return _asked(transformation, inner, x)


@eqx.filter_jit
def _asked(transformation: Any, inner: Any, x: Any) -> Response:
    return response_at(held_transformation(transformation, inner, x), x)
