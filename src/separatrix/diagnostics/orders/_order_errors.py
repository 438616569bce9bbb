r"""What a discretisation is off by, at several step sizes: along a flow, and along Brownian paths."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from separatrix._tree import float_dtype, subtract
from separatrix.calculus.methods import SRA1
from separatrix.calculus.methods.base import SDEMethod
from separatrix.calculus.modified_equations import Modified
from separatrix.diagnostics.orders._order_runs import AtStepSize, Clock, OnePath, Ticking
from separatrix.evolution import evolve
from separatrix.systems.flow import Flow
from separatrix.systems.sde import SDE

# Tolerance of the reference, and that of a looser solve beside it: where errors follow tolerances, the distance of the two
# is a hundred errors of the reference.
_RTOL, _LOOSER = 1e-12, 100.0
_MAX_STEPS = 200_000
# Without a closed form a path of the same method with steps this much shorter stands for the exact one. Of the finest error
# C h it takes a sixteenth, and so adds 0.05 to the finest local slope.
_FINER = 16


class ErrorMeasure(NamedTuple):
    """How errors of random methods are taken: norm of a difference, exact solution, observable, weak or strong."""

    norm: Any
    exact: Any
    observable: Any
    weak: bool


def errors_along_a_flow(
    map: Any, flow: Flow, state: Any, clock: Clock, norm: Any, exact: Any, rtol: Any
) -> tuple[Any, Any]:
    """Errors (K,), the largest over the times of the coarsest step, and their floors (K,)."""
    dtype = float_dtype(state)
    sizes, count = jnp.asarray(clock.step_sizes, dtype), clock.ticks // int(clock.strides[0])
    end = float(clock.step_sizes[0]) * count
    times = jnp.linspace(0.0, end, count + 1).astype(dtype)
    runs = _runs(map, state, sizes, jnp.asarray(clock.strides), clock.ticks, int(clock.strides[0]))
    if exact is None:
        paths, looser = _references(flow, state, sizes, times, rtol)
    else:
        paths = looser = _repeated(jax.vmap(exact)(times), sizes.size)
    # Rounding of so many steps, each of half an ulp of the state, as a random walk.
    size = jax.vmap(lambda path: jnp.max(jax.vmap(norm)(path)))(paths)
    rounding = jnp.finfo(dtype).eps * size * jnp.sqrt(jnp.asarray(end, dtype) / sizes)
    return _farthest(norm, runs, paths), rounding + _farthest(norm, paths, looser) / _LOOSER


def _farthest(norm: Any, first: Any, second: Any) -> Any:
    """max_j |x(t_j) - y(t_j)| of each member."""
    return jax.vmap(lambda gap: jnp.max(jax.vmap(norm)(gap)))(subtract(first, second))


@eqx.filter_jit
def _runs(map: Any, state: Any, sizes: Any, strides: Any, ticks: int, every: int) -> Any:
    """States of every member at the times of the coarsest, (K, J, ...)."""
    one = lambda h, s: evolve(Ticking(map, h, s), state, steps=ticks, save=every).states  # noqa: E731
    return jax.vmap(one)(sizes, strides)


def _references(flow: Flow, state: Any, sizes: Any, times: Any, rtol: Any) -> list[Any]:
    """Paths (K, J, ...) at a tolerance and at one a hundred times looser; a modified flow has one for each step size."""
    rtol = max(_RTOL, 32 * float(jnp.finfo(times.dtype).eps)) if rtol is None else float(rtol)

    def solve(flow: Flow, rtol: float) -> Any:
        return evolve(flow, state, times=times, rtol=rtol, atol=1e-2 * rtol, max_steps=_MAX_STEPS).states

    if not isinstance(flow, Modified):
        return [_repeated(solve(flow, tolerance), sizes.size) for tolerance in (rtol, _LOOSER * rtol)]
    flows = [Modified(AtStepSize(flow.map, h), flow.corrections) for h in sizes]
    return [
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *[solve(each, tolerance) for each in flows])
        for tolerance in (rtol, _LOOSER * rtol)
    ]


def _repeated(path: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), path)


def errors_along_paths(
    sde: SDE, method: SDEMethod, state: Any, clock: Clock, measure: ErrorMeasure, key: Any, samples: int
) -> tuple[Any, Any]:
    """Contributions (samples, K), |x_h - x|^2 or f(x_h) - f(x) along the direction of its mean; and their floor (K,)."""
    finer = 1 if measure.exact is not None else _FINER
    ticks = clock.ticks * finer
    # The last member stands for the truth: by its own steps, or by gathering the whole path and never moving.
    truth = 1 if measure.exact is None else ticks + 1
    strides = jnp.asarray(np.append(clock.strides * finer, truth))
    end = float(clock.step_sizes[0]) * clock.ticks / int(clock.strides[0])
    dtype = float_dtype(state)
    path = OnePath(sde, method, jnp.asarray(end / ticks, dtype), strides)
    gaps, sizes = _gaps(path, state, jnp.asarray(end, dtype), ticks, measure, jax.random.split(key, samples))
    floor = jnp.finfo(dtype).eps * jnp.sqrt(jnp.mean(sizes**2) * jnp.asarray(end / clock.step_sizes, dtype))
    if not measure.weak:
        return gaps, floor
    bias = jnp.mean(gaps, axis=0)  # (K, m)
    length = jnp.linalg.norm(bias, axis=-1, keepdims=True)
    # A mean that is exact has no direction, and no error.
    return jnp.sum(gaps * (bias / jnp.where(length == 0, 1, length))[None], axis=-1), floor


@eqx.filter_jit
def _gaps(path: OnePath, state: Any, end: Any, ticks: int, measure: ErrorMeasure, keys: Any) -> tuple[Any, Any]:
    """Squared distances (samples, K), or differences of the observable (samples, K, m); and the size of the truth."""

    def one(key: Any) -> tuple[Any, Any]:
        states, gathered = evolve(path, path.init(state), steps=ticks, key=key, save="last").final
        last = jax.tree.map(lambda leaf: leaf[-1], (states, gathered))
        truth = last[0] if measure.exact is None else measure.exact(end, _brownian(path.method, last[1]))
        gaps = jax.vmap(lambda x: _gap(measure, x, truth))(jax.tree.map(lambda leaf: leaf[:-1], states))
        return gaps, jnp.linalg.norm(_observed(measure, truth)) if measure.weak else measure.norm(truth)

    return jax.vmap(one)(keys)


def _gap(measure: ErrorMeasure, state: Any, truth: Any) -> Any:
    if not measure.weak:
        return measure.norm(subtract(state, truth)) ** 2
    return _observed(measure, state) - _observed(measure, truth)


def _observed(measure: ErrorMeasure, state: Any) -> Any:
    return ravel_pytree(state if measure.observable is None else measure.observable(state))[0]


def _brownian(method: SDEMethod, gathered: Any) -> Any:
    return gathered[0] if isinstance(method, SRA1) else gathered
