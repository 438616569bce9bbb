r"""What an optimiser does with a small gradient: its own stability edge, without being told its name.

Held at a state s (moments, counters), an elementwise optimiser answers a small gradient linearly:

    u = R g,      s' - s* = A (s - s*) + B g,      u = C (s - s*) + R g,

R the diagonal of first responses (-eta for gradient descent, -eta (1 - b1)/(sqrt(v) + eps) for Adam whose v is frozen).
Against a curvature l it loses stability by an oscillation of period two, x[n] ~ (-1)^n, where the response to an
alternating gradient brings it exactly back: -2 = l G(-1), G(z) = R + C (z - A)^{-1} B. So with H the Hessian,

    edge:   largest eigenvalue of |R|^{1/2} H |R|^{1/2}  =  2 R / G(-1) =: e.

The ratio e belongs to the momentum alone: 2 for gradient descent, 2 + 2b for heavy ball and Adam, and so on. It is measured
once, on one coordinate, and with it two more numbers of G: past the edge the alternation grows by kappa ln(l/l*) nats a
step, and a gradient that stays moves the parameters by G(1)/R first responses a step. R is measured in each check, by one
derivative of the update, at the cost of no gradient.

    kappa = 2/(1 + 2 G'(-1)/G(-1)),        2 for gradient descent, 2 (1 + b)/(1 - b) for heavy ball.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix._types import State

# Steps of a unit gradient of alternating sign, which put a scale into second moments.
_WARM = 64
# Of the response of a parameter, the part of others past which an update is not elementwise.
_MIXES = 1e-3
# A gradient small against those before it, and the relative deviation from linearity past which there is no response.
_SMALL, _BENDS = 1.7e-4, 0.1


class LinearProbe(NamedTuple):
    """Of the linear response: the edge e, the growth kappa past it, and the drift G(1)/R."""

    edge: float
    growth: float
    drift: float


def update_of(transformation: Any, gradient: State, inner: Any, parameters: State, value: Any = None) -> Any:
    """(u, s') of an optax transformation, with the arguments that line searches and Polyak steps take."""
    extra = {"value": value, "grad": gradient, "value_fn": None} if value is not None else {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return transformation.update(gradient, inner, parameters, **extra)


def response(transformation: Any, inner: Any, parameters: State) -> State:
    """Return |R|: how far each parameter moves for a unit of its own gradient, all moments frozen.

    **Arguments:** an optax transformation, elementwise in the gradient; its state; the parameters.

    **Returns:** a tree of the parameters' form, >= 0.

    **Example:**

    >>> import jax.numpy as jnp, optax
    >>> x = jnp.ones(2)
    >>> response(optax.sgd(0.5), optax.sgd(0.5).init(x), x).tolist()
    [0.5, 0.5]
    """
    zero, one = jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.ones_like, parameters)

    def update(gradient: State) -> State:
        return update_of(transformation, gradient, inner, parameters)[0]

    return jax.tree.map(jnp.abs, jax.jvp(update, (zero,), (one,))[1])


def edge_ratio(transformation: Any) -> float:
    r"""Return e = 2 R/G(-1): the stability edge of an optimiser, in units of its first response.

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
    x = jnp.ones(1)
    try:
        inner = transformation.init(x)
        for n in range(_WARM):
            _, inner = update_of(transformation, x * (-1.0) ** n, inner, x)
        found = _alternating(transformation, inner, x)
        mixing, bend = _beyond_elementwise(transformation)
    except (TypeError, ValueError, AttributeError) as error:
        got = f"an update that fails on one parameter alone ({str(error).splitlines()[0][:80]})"
        do = "Line searches and partitions by name have no edge of their own: pass the transformation of one part."
        raise ValueError(explain("edge_ratio: transformation", got, "one elementwise in the gradient", do)) from error
    if mixing > _MIXES:
        got = f"an update in which {100 * mixing:.2g} % of a parameter's response goes to others"
        do = "It has no diagonal metric, so no edge to compare with: watch plain curvature(...) instead."
        raise ValueError(explain("edge_ratio: transformation", got, "one elementwise in the gradient", do))
    return found if bend < _BENDS else LinearProbe(np.nan, np.nan, np.nan)


def _beyond_elementwise(transformation: Any) -> tuple[float, float]:
    """What keeps the response from being a diagonal: how far it mixes entries of a matrix, and how far it is not linear.

    The largest response of an entry to the gradient of another, over the largest to its own; and for a small gradient
    |u(g) - u(0) - J g|/|J g|, which a step of given length (LARS) fails.
    """
    x = jnp.array([[1.0, -0.7], [0.4, 1.3]])
    inner = transformation.init(x)
    for n in range(_WARM):
        _, inner = update_of(transformation, jnp.roll(x, n), inner, x)

    def update(gradient: Array) -> Array:
        return update_of(transformation, gradient, inner, x)[0]

    jacobian = np.asarray(jax.jacobian(update)(jnp.zeros_like(x))).reshape(4, 4)
    own = np.abs(np.diag(jacobian)).max()
    small = _SMALL * np.asarray(x)
    linear = (jacobian @ small.ravel()).reshape(2, 2)
    if not own > 0:
        return 0.0, 0.0
    gap = np.asarray(update(jnp.asarray(small)) - update(jnp.zeros_like(x))) - linear
    mixed = np.abs(jacobian - np.diag(np.diag(jacobian))).max()
    return float(mixed / own), float(np.linalg.norm(gap) / np.linalg.norm(linear))


def _alternating(transformation: Any, inner: Any, x: Array) -> LinearProbe:
    """2 R/G(-1), kappa and G(1)/R from the linearisation (A, B, C, R) of the update at a frozen state."""
    arrays, structure = jax.tree.flatten(inner)
    moving = [i for i, leaf in enumerate(arrays) if is_inexact(leaf)]

    def update(gradient: Any, moments: list[Any]) -> tuple[Any, list[Any]]:
        leaves = list(arrays)
        for place, leaf in zip(moving, moments, strict=True):
            leaves[place] = leaf
        change, after = update_of(transformation, gradient, jax.tree.unflatten(structure, leaves), x)
        return change, [jax.tree.leaves(after)[place] for place in moving]

    frozen = [arrays[place] for place in moving]
    zero = jnp.zeros_like(x)
    _, push = jax.linearize(update, zero, frozen)
    first, _ = push(jnp.ones_like(x), [jnp.zeros_like(leaf) for leaf in frozen])
    impulse = [jnp.zeros_like(leaf) for leaf in frozen]
    matrix, forcing, reading = _state_space(push, impulse, zero)
    # The alternating steady state d solves -d = A d + B: the response is G(-1) = R + C d. G'(z) = -C (z - A)^{-2} B.
    one, direct = np.eye(len(matrix)), float(first[0])
    steady = np.linalg.solve(-one - matrix, forcing) if len(matrix) else forcing
    slope = -float(reading @ np.linalg.solve(-one - matrix, steady)) if len(matrix) else 0.0
    total = direct + float(reading @ steady)
    # What only adds up (Adagrad's squares) is not driven, so that least squares leave it out.
    resting = np.linalg.lstsq(one - matrix, forcing, rcond=None)[0] if len(matrix) else forcing
    if not total or not direct:
        return LinearProbe(np.nan, np.nan, np.nan)
    return LinearProbe(2 * direct / total, 2 / (1 + 2 * slope / total), (direct + float(reading @ resting)) / direct)


def _state_space(push: Any, moments: list[Any], zero: Array) -> tuple[Any, Any, Any]:
    """(A, B, C) of the linearised update, over all entries of the moments."""
    sizes = [int(np.prod(leaf.shape)) for leaf in moments]
    total = sum(sizes)

    def split(vector: np.ndarray) -> list[Any]:
        parts = np.split(vector, np.cumsum(sizes)[:-1]) if sizes else []
        return [jnp.asarray(p, leaf.dtype).reshape(leaf.shape) for p, leaf in zip(parts, moments, strict=True)]

    def join(leaves: list[Any]) -> np.ndarray:
        return np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in leaves]) if leaves else np.zeros(0)

    matrix, reading = np.zeros((total, total)), np.zeros(total)
    for column in range(total):
        change, after = push(zero, split(np.eye(total)[column]))
        matrix[:, column], reading[column] = join(after), float(change[0])
    _, after = push(jnp.ones_like(zero), moments)
    return matrix, join(after), reading
