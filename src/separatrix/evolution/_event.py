r"""Terminating events: the first time t* at which g(t, x(t)) changes sign.

The sign is sampled at nine points of each accepted step, its ends included; between two samples of different sign the root
is found by bisection on the interpolant, to the resolution of the time itself. Two crossings between neighbouring samples
(an eighth of a step) go unseen: bound the step with a controller's dtmax if that matters. A start on the event itself does
not count. A g that returns booleans comes true where it turns from False to True, or at once if it starts True.

The root depends on all that the path depends on. By the implicit function theorem, with dg/dt = g_t + g_x x' at t*,

    dt* = -(g_theta dtheta + g_x dx) / (dg/dt),        d x(t*) = dx + x' dt*.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Function, State
from separatrix.evolution._stepper import Step, Stepper
from separatrix.systems.signature import as_pytree, positional_count
from separatrix.systems.trajectory import OutcomeKind

# Halvings after which the bracket is one unit in the last place of a float64 time.
_HALVINGS = 54
_SAMPLES = 9

Condition = Callable[[Any, Any], Any]


class EventRule(eqx.Module):
    """g as a real function of (t, x): a boolean one is -1 where it is False and 1 where it is True."""

    function: Function
    takes_time: bool = eqx.field(static=True)
    boolean: bool = eqx.field(static=True)

    def __call__(self, t: Any, x: State) -> Any:
        value = self.function(t, x) if self.takes_time else self.function(x)
        if self.boolean:
            return jnp.where(value, 1.0, -1.0).astype(jnp.result_type(t))
        return jnp.asarray(value, jnp.result_type(t))


def as_event(function: Any, t: Any, x: State) -> EventRule:
    """Read g(x) or g(t, x), which returns one real number or one boolean.

    **Raises:** `TypeError` or `ValueError` for anything else.
    """
    if not callable(function):
        raise TypeError(explain("evolve: event", repr(function), "a function g(x) or g(t, x)", "Pass a function."))
    takes_time = positional_count(function, (1, 2), "g(x) or g(t, x)") == 2
    held = as_pytree(function)
    try:
        value = eqx.filter_eval_shape(held, t, x) if takes_time else eqx.filter_eval_shape(held, x)
        value = eqx.filter_eval_shape(jnp.asarray, value)
    except (TypeError, ValueError) as error:
        expected, do = "one real number that changes sign, or one boolean", "Return for example x[0]."
        raise TypeError(explain("evolve: event", f"a function that fails: {error}", expected, do)) from error
    shape, dtype = getattr(value, "shape", ()), jnp.result_type(getattr(value, "dtype", type(value)))
    if not (jnp.issubdtype(dtype, jnp.floating) or dtype == jnp.bool_) or shape != ():
        raise ValueError(
            explain("evolve: event", f"a function that returns {dtype}{list(shape)}",
                    "one real number that changes sign, or one boolean", "Return for example x[0].")
        )  # fmt: skip
    return EventRule(held, takes_time, bool(dtype == jnp.bool_))


class WatchedEvent(NamedTuple):
    """The step in which an event comes true, and the two times between which it does."""

    step: Step
    low: Any
    high: Any


def not_yet(step: Any, t: Any) -> WatchedEvent:
    """Room for the step of an event, given the shapes of a step."""
    return WatchedEvent(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), step), t, t)


def watch(event: Any, stepper: Stepper, step: Step, code: Any, is_first: Any) -> tuple[WatchedEvent, Any]:
    """See whether an event comes true in an accepted step; a value that is not a number ends the solve as broken."""
    times = step.t + step.step_size * jnp.linspace(0.0, 1.0, _SAMPLES).astype(step.t.dtype)
    values = jax.vmap(lambda t: event(t, stepper.interpolate(step, t)))(times)
    before, after = values[:-1], values[1:]
    if event.boolean:
        crossed = ((before < 0) & (after > 0)).at[0].set((before[0] < 0) & (after[0] > 0) | (before[0] > 0) & is_first)
    else:
        crossed = (before * after < 0) | ((after == 0) & (before != 0))
    unknown = jnp.isnan(before) | jnp.isnan(after)
    place = jnp.argmax(crossed)
    happened = step.accepted & crossed.any() & ~(unknown & (jnp.arange(_SAMPLES - 1) < place)).any()
    broke = step.accepted & unknown.any() & ~happened
    code = jnp.where(broke, int(OutcomeKind.NON_FINITE), code)
    code = jnp.where(happened, int(OutcomeKind.EVENT), code).astype(jnp.int32)
    return WatchedEvent(step, times[place], times[place + 1]), code


def locate(event: Any, stepper: Stepper, seen: WatchedEvent) -> Any:
    """The time of the event, by bisection."""
    step = seen.step
    left = event(seen.low, stepper.interpolate(step, seen.low))

    def halve(_: Any, bracket: Any) -> Any:
        low, high = bracket
        middle = 0.5 * (low + high)
        past = event(middle, stepper.interpolate(step, middle)) * left <= 0
        return jnp.where(past, low, middle), jnp.where(past, middle, high)

    _, at = jax.lax.fori_loop(0, _HALVINGS, halve, (seen.low, seen.high))
    # A boolean that is true from the start comes true there.
    return jnp.where(left > 0, seen.low, at) if event.boolean else at


def follow_root(event: Any, velocity: Any, at: Any, x: State) -> tuple[Any, State]:
    """(t*, x(t*)) with the derivatives of the root, from the time found and the path at that time held fixed.

    One step of Newton from the root itself: its value is zero and its derivative that of the implicit function.
    """
    if event.boolean or velocity is None:
        return _constant((at, x))
    at = jax.lax.stop_gradient(at)
    value = event(at, x)
    slope = jax.lax.stop_gradient(velocity(at, x))
    rate = jax.jvp(event, (at, jax.lax.stop_gradient(x)), (jnp.ones_like(at), slope))[1]
    rate = jax.lax.stop_gradient(jnp.where(rate == 0, jnp.nan, rate))
    late = -(value - jax.lax.stop_gradient(value)) / rate
    return at + late, jax.tree.map(lambda leaf, f: leaf + f * late.astype(f.dtype), x, slope)


@jax.custom_jvp
def _constant(tree: Any) -> Any:
    return tree


@_constant.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        explain(
            "evolve: event",
            "a gradient through an event that has no derivative",
            "a real g(t, x) of a flow, whose root is a differentiable function",
            "Return a number that changes sign instead of a boolean; SDEs have no derivative at an event.",
        )
    )
