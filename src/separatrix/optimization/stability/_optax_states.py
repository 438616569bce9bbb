"""The diagonal preconditioner that lies in a state of optax, found by type wherever it is nested.

| state | d |
|---|---|
| ScaleByAdamState | (1 - b1^n)(sqrt(v/(1 - b2^n)) + eps), n its count |
| ScaleByAdamState of adamax | (1 - b1^n) v |
| ScaleByAmsgradState | (1 - b1^n)(sqrt(largest vhat) + eps) |
| ScaleByRmsState | sqrt(v + eps), or sqrt(v) + eps; v/(1 - b2^n) for v with bias_correction=True, b2 its decay |
| ScaleByRStdDevState | sqrt(v - m^2 + eps): rmsprop with centered=True |
| ScaleByRssState | sqrt(G + eps) |
| ScaleByAdaDeltaState | sqrt((v + eps)/(z + eps)) |
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain
from separatrix._types import State
from separatrix.optimization.methods.moments import root
from separatrix.systems.optax_maps import OptimizerState

_ADAPTIVE = (
    optax.ScaleByAdamState,
    optax.ScaleByAmsgradState,
    optax.ScaleByRmsState,
    optax.ScaleByRStdDevState,
    optax.ScaleByRssState,
    optax.ScaleByAdaDeltaState,
)
# States without a diagonal of their own; what holds other arrays is not known.
_NEUTRAL = (optax.EmptyState, optax.TraceState, optax.EmaState, optax.ScaleByScheduleState)
_EPS = {optax.ScaleByRssState: 1e-7, optax.ScaleByAdaDeltaState: 1e-6}


def diagonal_of(
    state: Any,
    *,
    name: str | None = None,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = None,
    eps_root: Any = 0.0,
    eps_in_sqrt: bool = True,
) -> State | None:
    """d of the one adaptive state in there; None where there is none."""
    inner = state.optimizer_state if isinstance(state, OptimizerState) else state
    nodes = jax.tree.leaves(inner, is_leaf=lambda node: _is_adaptive(node) or isinstance(node, _NEUTRAL))
    found = [node for node in nodes if _is_adaptive(node)]
    if len(found) > 1:
        do = "Ask for each part: preconditioner(None, part)."
        raise TypeError(explain("preconditioner", f"{len(found)} adaptive states", "one", do))
    if not found:
        _require_neutral(inner, nodes)
        return None
    node = found[0]
    eps = _EPS.get(type(node), 1e-8) if eps is None else eps
    return _diagonal(node, name, b1, b2, eps, eps_root, eps_in_sqrt)


def _diagonal(node: Any, name: Any, b1: Any, b2: Any, eps: Any, eps_root: Any, eps_in_sqrt: bool) -> State:
    match node:
        case optax.ScaleByAdamState() if name == "adamax":
            return _map(lambda v: _gathered(b1, node.count, v) * v, node.nu)
        case optax.ScaleByAdamState():
            return _map(
                lambda v: (
                    _gathered(b1, node.count, v)
                    * (root(v / _gathered(b2, node.count, v) + _like(eps_root, v)) + _like(eps, v))
                ),
                node.nu,
            )
        case optax.ScaleByAmsgradState():
            return _map(
                lambda v: _gathered(b1, node.count, v) * (root(v + _like(eps_root, v)) + _like(eps, v)), node.nu_max
            )
        case optax.ScaleByRStdDevState():
            return _map(lambda v, m: _shifted(v - m**2, eps, eps_in_sqrt), node.nu, node.mu)
        case optax.ScaleByRssState():
            return _map(lambda v: _shifted(v, eps, True), node.sum_of_squares)
        case optax.ScaleByAdaDeltaState():
            return _map(lambda v, z: jnp.sqrt((v + _like(eps, v)) / (z + _like(eps, v))), node.e_g, node.e_x)
    if not isinstance(node, optax.ScaleByRmsState):  # with a count, for its bias
        return _map(lambda v: _shifted(v / _gathered(b2, node.count, v), eps, eps_in_sqrt), node.nu)
    return _map(lambda v: _shifted(v, eps, eps_in_sqrt), node.nu)


def _is_adaptive(node: Any) -> bool:
    # optax keeps the class of scale_by_rms(bias_correction=True) to itself.
    return isinstance(node, _ADAPTIVE) or type(node).__name__ == "ScaleByRmsWithCountState"


def _gathered(beta: Any, count: Any, like: Any) -> Any:
    """1 - beta^n; 1 before the first step, where there is nothing to correct."""
    n = jnp.asarray(count).astype(like.dtype)
    return jnp.where(n == 0, jnp.ones_like(n), 1 - _like(beta, like) ** n)


def _shifted(v: Any, eps: Any, inside: bool) -> Any:
    return jnp.sqrt(v + _like(eps, v)) if inside else root(v) + _like(eps, v)


def _like(value: Any, leaf: Any) -> Any:
    return jnp.asarray(value, leaf.dtype)


def _map(function: Any, *trees: State) -> State:
    return jax.tree.map(function, *trees)


def _require_neutral(state: Any, nodes: list[Any]) -> None:
    """Refuse a state that may hold a preconditioner of a kind that is not known here."""
    strange = [node for node in nodes if not isinstance(node, _NEUTRAL) and jnp.ndim(node) > 0]
    if strange:
        names = ", ".join(kind.__name__ for kind in _ADAPTIVE)
        do = "Divide by its diagonal yourself, or pass the state of a map of this library."
        raise TypeError(explain("preconditioner", jax.tree.structure(state), f"one of {names}", do))
