r"""`watch`: the stability instrument as an optax transformation, its readings in the optimiser's state.

Updates are left as they are. At every k-th step, from the gradient g that the step has anyway and the one before, g':

    along     <s, g - g'>/<s, M^{-1} s>,      s the last update: the curvature along it over the optimiser's edge
    flip      -<M^{-1} u, s>/(|u| |s|):       1 where the run alternates, of two updates that follow each other

`along` costs no gradient. It is a mean over the directions in which the run moves, so it lies below the ratio, and comes to
it where the run oscillates along its top direction, which is what happens past the edge. Where batches differ g - g' holds
the difference of the batches too, and says nothing about curvature. For the ratio itself a reading needs the loss: pass
`value_fn`, the loss of the step as a function of the parameters, as optax's line searches take it; then

    ratio     largest eigenvalue of M^{1/2} H M^{1/2} on the batch of the step,

followed from reading to reading at one more gradient each (`linear.following`), the step's own gradient being at hand.
"""

import dataclasses
import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from separatrix._tree import dot, float_dtype, norm
from separatrix._types import Function, State
from separatrix.linear.following import hessian_product
from separatrix.optimization.stability.binding import widened, with_states_anew
from separatrix.optimization.stability.peeling import WatchState
from separatrix.optimization.stability.reading import against_edge, fate_of, no_direction, shares
from separatrix.optimization.stability.responses import Checks, Response, refused
from separatrix.optimization.stability.watched import OfTransformation
from separatrix.systems import ranges

_ROUGH = 10  # how many times its rounding a difference of gradients is at least
_TOL = 0.03
# At so many first readings, and at every so many, it is asked whether the optimiser has an edge at all.
_FIRST, _AGAIN = 3, 20
NUMBERS = (
    "step", "ratio", "ratio_error", "along", "loss", "update_ratio", "response", "climbing", "idle", "flip", "growth",
    "amplitude", "unknown", "mixing", "bending", "refused", "products",
)  # fmt: skip


def watch(optimizer: Any, *, every: int = 20, keep: int = 64) -> optax.GradientTransformationExtraArgs:
    r"""Watch an optimiser from within: the same updates, and readings of its stability in its state.

        u, s' = watch(optimizer).update(g, s, x):        u = optimizer's own

    **Arguments:**

    - `optimizer`: any optax transformation, whole: wrap the chain and not a part of it.
    - `every`: steps between readings. `keep`: how many readings the state holds, for a loop that is compiled as a whole.
    - of `update`: `value_fn=`, the step's loss as a function of the parameters, for the ratio itself; without it the ratio
      along the updates, a bound from below. `value=`, the loss of the step, for rises of the loss.

    **Returns:** an optax transformation. `StabilityMonitor().read(state)` judges what is in its state. It works under
    `jit` and in a scan; under `vmap` every step takes a reading, whose cost then is that of each step.

    A reading that cannot be taken is NaN: a step is never stopped by it. It warns once, while tracing, if the optimiser
    cannot be asked at all.

    **Example:** descent past its edge, along the direction of its alternation.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> loss = lambda x: jnp.sum(jnp.array([1.0, 50.0]) * x**2) / 2
    >>> optimizer = sx.watch(optax.sgd(0.041), every=10)
    >>> def step(carry, _):
    ...     x, state = carry
    ...     updates, state = optimizer.update(jax.grad(loss)(x), state, x)
    ...     return (optax.apply_updates(x, updates), state), None
    >>> x = jnp.array([1.0, 1e-3])
    >>> (x, state), _ = jax.lax.scan(step, (x, optimizer.init(x)), length=201)
    >>> monitor = sx.StabilityMonitor()
    >>> monitor.read(state)
    >>> round(float(monitor.report().ratios[-1]), 3)
    1.025

    **Reference:** Cohen et al., *Adaptive gradient methods at the edge of stability* (2022); Barzilai & Borwein,
    *Two-point step size gradient methods* (1988), for the quotient of differences.
    """
    ranges.whole("watch: every", every, "Pass every=20.")
    ranges.whole("watch: keep", keep, "Leave it out for 64.")
    watcher = Watcher(optax.with_extra_args_support(optimizer), every, keep)
    return optax.GradientTransformationExtraArgs(watcher.init, watcher.update)


@dataclasses.dataclass(frozen=True)
class Watcher:
    """The two functions of `watch`."""

    transformation: Any
    every: int
    keep: int
    # By which it is known to whoever looks for what it wraps.
    leaves_updates: ClassVar[bool] = True

    def init(self, params: Any) -> Any:
        """The optimiser's state, and no readings."""
        wide = widened(_floating(params))
        dtype = float_dtype(wide)
        blank = jax.tree.map(jnp.zeros_like, wide)
        readings = {name: jnp.full(self.keep, jnp.nan, dtype) for name in NUMBERS} | {
            "step": jnp.full(self.keep, -1, jnp.int32)
        }
        losses = jnp.array([jnp.nan, jnp.inf, 1.0, 0.0], dtype)
        fates = jnp.zeros((2, len(jax.tree.leaves(wide))), jnp.int8)
        count = jnp.zeros((), jnp.int32)
        direction = no_direction(wide).steep
        return WatchState(self.transformation.init(params), count, blank, blank, direction, losses, readings, fates)

    def update(self, updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        """The optimiser's own update; at every k-th step a reading. Names are optax's: wrappers pass them by keyword."""
        changes, inner = self.transformation.update(updates, state.inner, params, **extra_args)
        try:
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                noted = self._noted(updates, changes, state, params, extra_args)
        except Exception as error:  # whatever it is: the run goes on
            reason = str(error).splitlines()
            warnings.warn(
                f"watch: this optimiser is not watched: {' '.join(reason)[:300]}", RuntimeWarning, stacklevel=2
            )
            noted = state
        return changes, noted._replace(inner=inner, count=state.count + 1)

    def _noted(self, gradient: State, updates: State, state: WatchState, parameters: Any, extra: Any) -> WatchState:
        g, u = (widened(_floating(tree)) for tree in (gradient, updates))
        value = extra.get("value")
        losses = state.losses if value is None else _losses(state.losses, state.count, value)

        def read() -> tuple[Any, Any, Any]:
            return self._read(g, u, state, parameters, extra, _floating(gradient))

        def rest() -> tuple[Any, Any, Any]:
            return state.direction, state.readings, state.fates

        direction, readings, fates = jax.lax.cond(state.count % self.every == 0, read, rest)
        return WatchState(state.inner, state.count, g, u, direction, losses, readings, fates)

    def _answer(self, g: State, state: WatchState, x: State, value: Any) -> Response:
        """The response; what kind of optimiser it is, which is most of the cost, at the first readings and now and then."""
        reading = state.count // self.every
        anew = (reading < _FIRST) | (reading % _AGAIN == 0)
        optimizer = OfTransformation(self.transformation)
        return optimizer.response(state.inner, x, g, value, _last(state, reading), anew=anew)

    def _read(
        self, g: State, u: State, state: WatchState, parameters: Any, extra: Any, raw: State
    ) -> tuple[Any, Any, Any]:
        x = jax.tree.map(jnp.zeros_like, g) if parameters is None else widened(_floating(parameters))
        value, slope = extra.get("value"), _slope(extra.get("value_fn"), parameters)
        answer = self._answer(g, state, x, value)
        rough = jax.tree.map(_half_eps, raw, g)
        numbers = shares(answer, g) | _along_the_run(answer, g, u, state, x, rough)
        checks = answer.checks
        numbers |= {"unknown": checks.unknown, "mixing": checks.mixing, "bending": checks.bending}
        numbers |= {"refused": refused(checks)}
        numbers |= {"step": state.count, "loss": jnp.nan if value is None else value}
        direction = state.direction
        if slope is not None:
            first = ~jnp.any(jnp.nan_to_num(state.readings["ratio"]) != 0)
            before = dataclasses.replace(no_direction(x), steep=direction, cold=first)
            # A difference from a gradient of half precision would be that of its rounding.
            exact = any(eps > 0 for eps in jax.tree.leaves(rough))
            reading, found, _ = against_edge(
                hessian_product(slope, x, g, exact), answer, g, before, jnp.asarray(_TOL, float_dtype(x)), wide=False
            )
            numbers |= {name: getattr(reading, name) for name in ("ratio", "ratio_error", "products")}
            direction = found.steep
        place = (state.count // self.every) % self.keep
        readings = {
            name: old.at[place].set(jnp.asarray(numbers.get(name, jnp.nan)).astype(old.dtype))
            for name, old in state.readings.items()
        }
        return direction, readings, jnp.stack([fate_of(checks, u), state.fates[0]])


def _last(state: WatchState, reading: Any) -> Checks:
    """What the checks of the reading before said."""
    before = (reading - 1) % state.readings["step"].shape[0]
    number = lambda name: state.readings[name][before].astype(jnp.float32)  # noqa: E731
    return Checks(number("unknown"), number("mixing"), number("bending"), state.fates[0])


def _half_eps(raw: Any, wide: Any) -> float:
    """The rounding of a gradient of half precision; 0 of any other."""
    return 0.0 if raw.dtype == wide.dtype else float(jnp.finfo(raw.dtype).eps)


def _along_the_run(answer: Response, g: State, u: State, state: WatchState, x: State, rough: State) -> dict[str, Any]:
    """The curvature along the last update over the edge, and whether this one turns back.

    Where the rounding of the gradients, of half precision, may be a tenth of their difference the first is not known.
    """
    s, before = state.update, state.gradient
    known = jax.tree.map(lambda m: m > 0, answer.inverse_edge)
    weights = jax.tree.map(lambda m, k: jnp.where(k, 1 / jnp.where(k, m, 1), 0), answer.inverse_edge, known)
    s, u_known = (jax.tree.map(lambda leaf, k: jnp.where(k, leaf, 0), tree, known) for tree in (s, u))
    weighted = jax.tree.map(lambda w, leaf: w.astype(leaf.dtype) * leaf, weights, s)
    length = dot(s, weighted)
    ahead = dot(u_known, jax.tree.map(lambda w, leaf: w.astype(leaf.dtype) * leaf, weights, u_known))
    bend = dot(s, jax.tree.map(lambda a, b: a - b, g, before))
    noise = norm(jax.tree.map(lambda leaf, slope, eps: eps * leaf * slope, s, g, rough))
    moved = length > 0
    told = moved & (jnp.abs(bend) >= _ROUGH * noise)
    safe = jnp.where(moved, length, 1)
    both = jnp.sqrt(safe * jnp.where(ahead > 0, ahead, 1))
    whole = norm(x)
    nan = jnp.nan
    return {
        "along": jnp.where(told, bend / safe, nan),
        "flip": jnp.where(moved & (ahead > 0), -dot(u_known, weighted) / both, nan),
        "growth": jnp.where(moved, jnp.sqrt(ahead / safe), nan),
        "amplitude": jnp.sqrt(ahead) / 2,
        "update_ratio": norm(u) / jnp.where(whole > 0, whole, 1),
    }


def _slope(function: Function | None, parameters: Any) -> Function | None:
    """The gradient of the step's loss in its own form, of parameters in float32 at least."""
    if function is None or parameters is None:
        return None
    kinds = jax.tree.map(lambda leaf: leaf.dtype, _floating(parameters))

    def loss(x: State, own: bool) -> Any:
        value = with_states_anew(function)(jax.tree.map(lambda leaf, kind: leaf.astype(kind), x, kinds) if own else x)
        return value[0] if isinstance(value, tuple) else value

    wide = widened(_floating(parameters))
    own = False
    try:
        jax.eval_shape(lambda x: loss(x, False), wide)
    except (TypeError, ValueError):
        own = True

    def slope(x: State) -> State:
        gradient = jax.grad(lambda y: jnp.asarray(loss(y, own)).astype(float_dtype(x)))(x)
        return jax.tree.map(jnp.conj, gradient)

    return slope


def _losses(before: Any, count: Any, value: Any) -> Any:
    first, least, rise, peak = before
    value = jnp.asarray(value).astype(before.dtype)
    ratio = jnp.where((least > 0) & jnp.isfinite(least), value / least, 1)
    higher = ratio > rise
    return jnp.stack([
        jnp.where(jnp.isnan(first), value, first), jnp.fmin(least, value), jnp.where(higher, ratio, rise),
        jnp.where(higher, count.astype(before.dtype), peak),
    ])  # fmt: skip


def _floating(tree: State) -> State:
    """The same; what is no floating-point array (None, counters) is not watched."""
    return jax.tree.map(lambda leaf: leaf if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else None, tree)
