"""Wrappers around an optimiser: which transformation works at each of its own steps, and in which state.

`MultiSteps` gathers k gradients and moves at the last, so that between two moves it has no response; its inner
transformation has one. `watch` leaves updates as they are.
"""

from typing import Any, NamedTuple

import jax
import optax

from separatrix._errors import explain
from separatrix._types import Function


class WatchState(NamedTuple):
    """State of `watch`: that of the optimiser, the steps so far, and what the readings are made of.

    - `gradient`, `update`: of the step before. `direction`: the least stable one, in the metric.
    - `losses`: first, least, largest rise over the least, and its step, of the values that were passed.
    - `readings`: the last ones, arrays with an axis of readings; `fates`, shape (2, P): of each array, now and before.
    """

    inner: Any
    count: Any
    gradient: Any
    update: Any
    direction: Any
    losses: Any
    readings: Any
    fates: Any


def peeled(transformation: Any, state: Any) -> tuple[Any, Any, Any]:
    """(transformation, state, gain) of what works at each of its steps.

    `MultiSteps` gathers k gradients, and moves at the last: by their mean (gain 1) or their sum (gain k).
    """
    gain: Any = 1
    while True:
        if isinstance(state, optax.MultiStepsState):
            wrapper = _inside(transformation.update, _gathers)
            if not getattr(wrapper, "_use_grad_mean", True):
                gain = gain * wrapper._every_k_schedule(state.gradient_step)
            transformation, state = wrapper.inner_opt, state.inner_opt_state
        elif isinstance(state, WatchState):
            transformation, state = _inside(transformation.update, _leaves_updates).transformation, state.inner
        else:
            break
    gathering = (optax.MultiStepsState, optax.ApplyEvery)
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, gathering))
    if any(isinstance(node, gathering) for node in nodes):
        do = "Put it outermost: optax.MultiSteps(optax.chain(...), k)."
        raise ValueError(explain("StabilityMonitor: optimizer", "gradients gathered inside of a chain", "none", do))
    return transformation, state, gain


def _gathers(one: Any) -> bool:
    return isinstance(one, optax.MultiSteps)


def _leaves_updates(one: Any) -> bool:
    """Whether it is what `watch` makes."""
    return bool(getattr(one, "leaves_updates", False))


def _inside(function: Any, is_wanted: Function) -> Any:
    """The wrapper whose method a function is, or wraps."""
    found, seen = [function], set()
    while found:
        one = found.pop(0)
        if is_wanted(one):
            return one
        if id(one) in seen:
            continue
        seen.add(id(one))
        cells = getattr(one, "__closure__", None) or ()
        found += [cell.cell_contents for cell in cells]
        found += [getattr(one, name) for name in ("__self__", "__wrapped__") if hasattr(one, name)]
        found += list(one) if isinstance(one, tuple) else []
    do = "Pass the optax.MultiSteps itself, or what it wraps."
    raise ValueError(explain("StabilityMonitor: optimizer", "a wrapper of gathered gradients", "one that is found", do))
