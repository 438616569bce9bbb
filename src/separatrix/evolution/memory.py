r"""Gradient memory of a scan over n steps.

Backpropagation through x[n+1] = F(n, x[n]) needs every x[n] again, in the other order. Three ways to have them:

    linear       keep them all                                        memory O(n)        n steps, n transposed steps
    sqrt         keep every c-th, c = ceil(sqrt n), run again between  memory O(sqrt n)   2n steps, n transposed steps
    reversible   x[n] = F(n, .)^{-1} x[n+1], back from the end        memory O(1)        2n steps, n transposed steps

The last is for an `InvertibleMap`. In exact arithmetic all three give the same gradient. In floating point the way back
multiplies rounding by |DF^{-1}| at every step: nothing for a map that keeps volume (leapfrog), but momentum gamma < 1
loses log10(1/gamma) digits a step and is past all of them after log(eps)/log(gamma) steps. The start is known, so the
loss is measured, and a gradient along an orbit that missed its start is refused.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import add, all_finite, asarrays, is_inexact, poison, where
from separatrix._types import Key, State
from separatrix.evolution._closed_step import closed_inverse, closed_step, key_of_step
from separatrix.systems.map import InvertibleMap, Map

Body = Callable[[Any, Any], tuple[Any, Any]]
MEMORIES = ("linear", "sqrt", "reversible")


def checkpointed_scan(
    body: Body, carry: Any, xs: Any = None, *, length: int | None = None, memory: str = "linear"
) -> tuple[Any, Any]:
    r"""`jax.lax.scan` with a choice of what its gradient keeps.

    **Arguments:**

    - `body`: `(carry, x) -> (carry, y)`, as for `jax.lax.scan`.
    - `carry`: what is carried, a pytree of arrays.
    - `xs`: what is scanned over, a pytree of arrays with one leading axis; or None with `length`.
    - `length`: number of steps n.
    - `memory`: `"linear"` keeps the residuals of all n steps; `"sqrt"` keeps about sqrt(n) carries and the residuals of
      about sqrt(n) steps, at one more evaluation of the steps.

    **Returns:** `(carry, ys)`, equal to those of `jax.lax.scan`.

    **Raises:** `ValueError` for another `memory`: a scan of any body knows no inverse.

    **Example:**

    >>> import jax, jax.numpy as jnp
    >>> from separatrix.evolution.memory import checkpointed_scan
    >>> power = lambda a: checkpointed_scan(lambda x, _: (a * x, None), 1.0, length=10, memory="sqrt")[0]
    >>> jax.grad(power)(1.0).item()
    10.0

    **Reference:** Chen, Xu, Zhang & Guestrin, *Training deep nets with sublinear memory cost* (2016), section 4.1.
    """
    if memory == "linear":
        return jax.lax.scan(body, carry, xs, length)
    if memory != "sqrt":
        raise ValueError(
            explain(
                "checkpointed_scan: memory",
                repr(memory),
                '"linear" or "sqrt"',
                'Use iterate_map(..., memory="reversible") on an InvertibleMap.',
            )
        )
    n = length if length is not None else jax.tree.leaves(xs)[0].shape[0]
    chunk = max(1, math.ceil(math.sqrt(n)))
    whole = n // chunk * chunk
    head = jax.tree.map(lambda leaf: leaf[:whole].reshape(whole // chunk, chunk, *leaf.shape[1:]), xs)
    tail = jax.tree.map(lambda leaf: leaf[whole:], xs)
    carry, ys = jax.lax.scan(_forgetful(body, chunk), carry, head, whole // chunk)
    ys = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), ys)
    if whole == n:
        return carry, ys
    carry, rest = _forgetful(body, n - whole)(carry, tail)
    return carry, jax.tree.map(lambda first, last: jnp.concatenate([first, last]), ys, rest)


def by_batches(function: Callable[[Any], Any], xs: Any, at_once: int) -> Any:
    """`jax.vmap(function)(xs)` with so many of its rows at work at a time, in its gradient too, where each runs again.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from separatrix.evolution.memory import by_batches
    >>> by_batches(lambda x: x**2, jnp.arange(5.0), 2).tolist()
    [0.0, 1.0, 4.0, 9.0, 16.0]
    """
    return jax.lax.map(jax.checkpoint(function, prevent_cse=False), xs, batch_size=at_once)


def _forgetful(body: Body, length: int) -> Body:
    """A scan of some steps as one step that keeps nothing but its input and runs again when asked."""
    # Inside a scan the compiler cannot merge the second run with the first, so the guard against that is not needed.
    return jax.checkpoint(lambda carry, xs: jax.lax.scan(body, carry, xs, length), prevent_cse=False)


def iterate_map(
    map: Map, state: State, steps: int, *, key: Key | None = None, start: int = 0, memory: str = "linear"
) -> State:
    r"""Return x[start + steps] from x[start], and nothing in between.

    The bare loop: no outcome, no saving. Non-finite values pass through.

    **Arguments:**

    - `map`: a `Map`; an `InvertibleMap` for `memory="reversible"`.
    - `state`: x[start], a pytree of arrays.
    - `steps`: how many steps, known while tracing.
    - `key`: randomness; step n draws from `fold_in(key, n)`.
    - `start`: number of the first step.
    - `memory`: `"linear"`, `"sqrt"` or `"reversible"`; see the head of this module. The last has reverse-mode
      gradients only.

    **Returns:** the final state, with the form of `state`.

    **Raises:** `ValueError` for another `memory`, `TypeError` for a map without inverse; at run time, where the
    gradient of `"reversible"` walked back to a start that is off by more than sqrt(eps).

    **Example:** the derivative of three halvings.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> from separatrix.evolution.memory import iterate_map
    >>> halving = sx.as_map(lambda x: 0.5 * x)
    >>> jax.grad(lambda x: iterate_map(halving, x, 3, memory="sqrt"))(1.0).item()
    0.125

    **Reference:** Maclaurin, Duvenaud & Adams, *Gradient-based hyperparameter optimization through reversible learning*
    (2015), section 3, whose stored bits are left out here; Gomez et al., *The reversible residual network* (2017).
    """
    if memory not in MEMORIES:
        raise ValueError(
            explain(
                "memory",
                repr(memory),
                "one of " + ", ".join(f'"{name}"' for name in MEMORIES),
                'Take "linear" unless the gradient does not fit in memory.',
            )
        )
    if memory == "reversible":
        final, n = iterate_reversibly(map, state, steps, key=key, start=start)
        return poison(n == start + steps, final)
    return _iterate(map, asarrays(state), key, jnp.asarray(start), steps, memory)


def iterate_reversibly(
    map: Map, state: State, steps: int, *, key: Key | None = None, start: int = 0
) -> tuple[State, Any]:
    """(the last finite state of `iterate_map(..., memory="reversible")`, the number of the step that would come next)."""
    _check_reversible(map, key)
    return _iterate_reversibly(map, asarrays(state), jnp.asarray(start), steps)


@eqx.filter_jit
def _iterate_reversibly(map: Any, state: State, start: Any, steps: int) -> tuple[State, Any]:
    return _reversible((closed_step(map, state, None), closed_inverse(map, state), state), start, steps)


@eqx.filter_jit
def _iterate(map: Map, state: State, key: Key | None, start: Any, steps: int, memory: str) -> State:
    def step(state: State, n: Any) -> tuple[State, None]:
        return map.step(n, state, key=key_of_step(key, n)), None

    return checkpointed_scan(step, state, start + jnp.arange(steps), memory=memory)[0]


def _check_reversible(map: Map, key: Key | None) -> None:
    if not isinstance(map, InvertibleMap):
        raise TypeError(
            explain(
                'memory="reversible"',
                type(map).__name__,
                "an InvertibleMap, which knows its inverse",
                'Give the map an inverse_step, or take memory="sqrt".',
            )
        )
    if key is not None:
        raise ValueError(
            explain(
                'memory="reversible"',
                "a key",
                "a map without randomness",
                'An inverse step knows no key: take memory="sqrt".',
            )
        )


@eqx.filter_custom_vjp
def _reversible(traced: tuple[Any, Any, State], start: Any, steps: int) -> tuple[State, Any]:
    """(x[start + n], start + n), n = steps unless the orbit breaks before."""
    step, _, state = traced

    # The step number is carried, not scanned over: an array of all numbers would be memory O(n).
    def forward(at: tuple[Any, State, Any], _: Any) -> tuple[Any, None]:
        n, state, alive = at
        following = step(n, state, None)
        alive = alive & all_finite(following)
        return (n + alive.astype(n.dtype), where(alive, following, state), alive), None

    (n, final, _), _ = jax.lax.scan(forward, (start, state, jnp.asarray(True)), length=steps)
    return final, n


@_reversible.def_fwd
def _reversible_forward(perturbed: Any, traced: Any, start: Any, steps: int) -> Any:
    final, n = _reversible(traced, start, steps)
    return (final, n), final


@_reversible.def_bwd
def _reversible_backward(final: State, cotangent: Any, perturbed: Any, traced: Any, start: Any, steps: int) -> Any:
    """lambda[n] = (dF/dx)^T lambda[n+1] and g = sum_n (dF/dtheta)^T lambda[n+1], along x[n] = F^{-1}(n, x[n+1])."""
    step, inverse, state = traced
    parameters, rest = eqx.partition(step, eqx.is_inexact_array)

    def moved(parameters: Any, moving: Any, fixed: Any, n: Any) -> Any:
        return eqx.filter(eqx.combine(parameters, rest)(n, eqx.combine(moving, fixed), None), is_inexact)

    def back(carry: Any, _: Any) -> tuple[Any, None]:
        n, following, costate, gradient = carry
        n = n - 1
        here = inverse(n, following)
        moving, fixed = eqx.partition(here, is_inexact)
        more, costate = jax.vjp(lambda p, x: moved(p, x, fixed, n), parameters, moving)[1](costate)
        return (n, here, costate, add(gradient, more)), None

    moving = eqx.filter(final, is_inexact)
    costate = jax.tree.map(lambda x, c: jnp.zeros_like(x) if c is None else c, moving, cotangent[0])
    begin = (start + steps, final, costate, jax.tree.map(jnp.zeros_like, parameters))
    (_, reached, costate, gradient), _ = jax.lax.scan(back, begin, length=steps)
    gradient, costate = _refuse_drift((gradient, costate), reached, state)
    return gradient, jax.tree.map(lambda leaf: None, inverse), costate


def _refuse_drift(gradient: Any, reached: State, state: State) -> Any:
    """Stop where the way back missed the start by more than sqrt(eps) of its size: half of all digits lost."""
    moving = jax.tree.leaves(eqx.filter((reached, state), is_inexact))
    half = len(moving) // 2
    misses = [_missed(x, y) for x, y in zip(moving[:half], moving[half:], strict=True)]
    text = explain(
        'memory="reversible"',
        "a way back that lost half of all digits to rounding",
        "a map whose inverse does not amplify",
        'Take fewer steps, float64, or memory="sqrt".',
    )
    return eqx.error_if(gradient, jnp.stack(misses).any(), text) if misses else gradient


def _missed(reached: Any, state: Any) -> Any:
    eps = float(jnp.finfo(state.dtype).eps)
    size = jnp.max(jnp.abs(state))
    return ~(jnp.max(jnp.abs(reached - state)) <= jnp.asarray(math.sqrt(eps), size.dtype) * (1 + size))
