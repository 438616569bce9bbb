r"""One step of an adaptive explicit Runge-Kutta solve, apart from any loop.

A step of size h is tried; its error, scaled by atol + rtol max(|x|, |x'|) and averaged over components (root mean
square), gives r. It is accepted where r <= 1. The next step is h times

    clip(safety r^{-b1} r_1^{-b2} r_2^{-b3}, factormin, factormax),

r_1, r_2 the errors of the two accepted steps before: a PID controller, by default its integral part alone. A step that
shrinks below rounding has met a singularity: where 1/|x| runs to zero linearly, that zero is the time of escape.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp

from separatrix._tree import combine, float_dtype, subtract, where
from separatrix._types import State
from separatrix.evolution._tableau import Tableau
from separatrix.systems.trajectory import OutcomeKind

Field = Callable[[Any, Any], Any]

RUNNING = -1
# Hairer & Wanner (1996), section IV.2: near |h lambda| = 3.3 an explicit pair of order five works at its stability edge;
# the average over the steps of a controller that bounces off that edge stays above two thirds of it.
_STIFF = 2.2
_MEMORY = 0.9


class Control(NamedTuple):
    """Tolerances, and the numbers of the controller."""

    rtol: Any
    atol: Any
    safety: Any = 0.9
    factormin: Any = 0.2
    factormax: Any = 10.0
    pcoeff: Any = 0.0
    icoeff: Any = 1.0
    dcoeff: Any = 0.0
    dtmin: Any = 0.0
    dtmax: Any = jnp.inf


class Carry(NamedTuple):
    """What the next step needs, and what the outcome is read off."""

    t: Any
    x: State
    f: State
    step_size: Any
    before: tuple[Any, Any]
    accepted: Any
    rejected: Any
    stiffness: Any
    trend: tuple[Any, Any]
    code: Any


class Step(NamedTuple):
    """A step that was tried: from (t, x), of size h, with its stages, the points at which they were taken (the last is its
    end), and whether it was accepted."""

    t: Any
    x: State
    step_size: Any
    stages: tuple[State, ...]
    points: tuple[State, ...]
    accepted: Any

    @property
    def end(self) -> State:
        """The state at the end of the step."""
        return self.points[-1]


def control_of(controller: diffrax.PIDController | None, rtol: Any, atol: Any) -> Control:
    """Read the numbers of a diffrax controller; its tolerances win over the others."""
    if controller is None:
        return Control(rtol, atol)
    dtmin = 0.0 if controller.dtmin is None else controller.dtmin
    dtmax = jnp.inf if controller.dtmax is None else controller.dtmax
    return Control(
        controller.rtol, controller.atol, controller.safety, controller.factormin, controller.factormax,
        controller.pcoeff, controller.icoeff, controller.dcoeff, dtmin, dtmax,
    )  # fmt: skip


def init_carry(field: Field, tableau: Tableau, control: Control, x: State, t0: Any, t1: Any) -> Carry:
    """The start of a solve, with the first step size of Hairer, Norsett & Wanner (1993), section II.4."""
    dtype = float_dtype(x)
    one, zero = jnp.ones((), dtype), jnp.zeros((), dtype)
    f, first = _first_step(field, tableau, control, x, t0)
    step_size = jnp.minimum(first, t1 - t0)
    bad = ~jnp.isfinite(rms(f, lambda leaf: leaf))
    code = jnp.where(bad, int(OutcomeKind.NON_FINITE), RUNNING)
    none = jnp.zeros((), jnp.int32)
    return Carry(t0, x, f, step_size, (one, one), none, none, zero, (zero, zero), code.astype(jnp.int32))


def advance(
    field: Field, tableau: Tableau, control: Control, max_steps: int, t0: Any, t1: Any, carry: Carry
) -> tuple[Carry, Step]:
    """Try one step; keep it or not; choose the next step size; see whether the solve has ended."""
    left = t1 - carry.t
    last = carry.step_size >= left
    h = jnp.where(last, left, carry.step_size)
    stages, points = take_stages(field, tableau, carry.t, carry.x, h, carry.f)
    end, inner = points[-1], points[-2]
    ratio = error_ratio(tableau, control, carry.x, end, stages, h)
    accepted = ratio <= 1
    step = Step(carry.t, carry.x, h, stages, points, accepted)
    t = jnp.where(accepted, jnp.where(last, t1, carry.t + h), carry.t)
    proposed = h * _factor(tableau, control, ratio, carry.before, accepted)
    following = Carry(
        t,
        where(accepted, end, carry.x),
        where(accepted, stages[-1], carry.f),
        jnp.clip(proposed, control.dtmin, control.dtmax).astype(h.dtype),
        _shift(ratio, carry.before, accepted),
        carry.accepted + accepted.astype(jnp.int32),
        carry.rejected + (~accepted).astype(jnp.int32),
        jnp.where(accepted, _stiffness(carry.stiffness, stages, inner, end, h), carry.stiffness),
        _trend(carry, end, t, accepted),
        carry.code,
    )
    return following._replace(code=_code(following, carry, control, max_steps, t0, t1, accepted & last)), step


def take_stages(
    field: Field, tableau: Tableau, t: Any, x: State, h: Any, f: State
) -> tuple[tuple[State, ...], tuple[State, ...]]:
    """All stages of a step, and the points at which they were taken."""
    if tableau.rolled:
        return _roll_stages(field, tableau, t, x, h, f)
    stages, points = [f], [x]
    for row, node in zip(tableau.a[1:], tableau.c[1:], strict=True):
        points.append(weigh(row, stages, h, x))
        stages.append(field(t + jnp.asarray(node, h.dtype) * h, points[-1]))
    return tuple(stages), tuple(points)


def _roll_stages(field: Field, tableau: Tableau, t: Any, x: State, h: Any, f: State) -> Any:
    """The same in a loop that holds the velocity once: slower to run by some microseconds a stage, faster to compile."""
    count = tableau.stages
    rows = [[*row, *[0.0] * (count - len(row))] for row in tableau.a[1:]]

    def body(taken: State, row: tuple[Any, Any, Any]) -> tuple[State, State]:
        i, weights, node = row
        point = jax.tree.map(lambda k, leaf: leaf + h * jnp.tensordot(weights, k, axes=1), taken, x)
        stage = field(t + node * h, point)
        return jax.tree.map(lambda k, leaf: k.at[i].set(leaf), taken, stage), point

    room = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype).at[0].set(leaf), f)
    numbers = (jnp.arange(1, count), jnp.asarray(rows, h.dtype), jnp.asarray(tableau.c[1:], h.dtype))
    taken, after = jax.lax.scan(body, room, numbers)
    stages = tuple(jax.tree.map(lambda k, i=i: k[i], taken) for i in range(count))
    points = tuple(jax.tree.map(lambda point, i=i: point[i], after) for i in range(count - 1))
    return stages, (x, *points)


def weigh(weights: Any, stages: Any, h: Any, x: State) -> State:
    """x + h sum_i w_i k_i; weights that are exactly zero cost nothing."""
    pairs = [(w, k) for w, k in zip(weights, stages, strict=True) if not (isinstance(w, float) and w == 0.0)]
    return combine([jnp.asarray(w, h.dtype) * h for w, _ in pairs], [k for _, k in pairs], x)


def rms(tree: State, transform: Callable[..., Any], *others: State) -> Any:
    """Root mean square of a transformed tree."""
    squares = jax.tree.map(lambda *leaves: jnp.sum(jnp.abs(transform(*leaves)) ** 2), tree, *others)
    count = sum(leaf.size for leaf in jax.tree.leaves(tree))
    dtype = float_dtype(tree)
    return jnp.sqrt(sum(part.astype(dtype) for part in jax.tree.leaves(squares)) / count)


def error_ratio(tableau: Tableau, control: Control, x: State, end: State, stages: Any, h: Any) -> Any:
    """Error over tolerance; infinite for a step that is not finite."""
    zero = jax.tree.map(jnp.zeros_like, x)
    error = weigh(tableau.error, stages, h, zero)

    def scaled(e: Any, before: Any, after: Any) -> Any:
        real = jnp.finfo(e.dtype).dtype
        size = jnp.maximum(jnp.abs(before), jnp.abs(after))
        # The term 0 * after is NaN where the end of the step is not finite, whatever its error estimate says.
        return e / (jnp.asarray(control.atol, real) + jnp.asarray(control.rtol, real) * size) + 0 * after

    ratio = jax.lax.stop_gradient(rms(error, scaled, x, end))
    return jnp.where(jnp.isfinite(ratio), ratio, jnp.inf)


def _factor(tableau: Tableau, control: Control, ratio: Any, before: tuple[Any, Any], accepted: Any) -> Any:
    p, i, d = (jnp.asarray(c, ratio.dtype) / tableau.order for c in (control.pcoeff, control.icoeff, control.dcoeff))
    inverse = 1 / jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny ** 0.5)
    factor = control.safety * inverse ** (p + i + d) * before[0] ** (-p - 2 * d) * before[1] ** d
    most = jnp.where(accepted, control.factormax, 1.0).astype(ratio.dtype)
    return jnp.clip(factor, jnp.asarray(control.factormin, ratio.dtype), most)


def _shift(ratio: Any, before: tuple[Any, Any], accepted: Any) -> tuple[Any, Any]:
    """Inverse errors of the last two accepted steps."""
    inverse = 1 / jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny ** 0.5)
    return jnp.where(accepted, inverse, before[0]), jnp.where(accepted, before[0], before[1])


def _first_step(field: Field, tableau: Tableau, control: Control, x: State, t0: Any) -> tuple[State, Any]:
    """(f(t0, x), a first step size from it and from f after a small Euler step)."""

    def scaled(leaf: Any, size: Any) -> Any:
        return leaf / (jnp.asarray(control.atol, size.dtype) + jnp.asarray(control.rtol, size.dtype) * jnp.abs(size))

    def evaluate(point: tuple[Any, State], _: None) -> tuple[tuple[Any, State], tuple[State, Any, Any]]:
        f = field(*point)
        d0, d1 = rms(x, scaled, x), rms(f, scaled, x)
        tiny = (d0 < 1e-5) | (d1 < 1e-5)
        h = jnp.where(tiny, 1e-6, 0.01 * d0 / jnp.where(tiny, 1.0, d1)).astype(d0.dtype)
        return (t0 + h, combine([h], [f], x)), (f, h, d1)

    # A loop of two, so that the program holds the velocity once.
    _, (fields, sizes, slopes) = jax.lax.scan(evaluate, (t0, x), length=2)
    f, bent = (jax.tree.map(lambda leaf, i=i: leaf[i], fields) for i in (0, 1))
    h0, most = sizes[0], jnp.maximum(slopes[0], rms(subtract(bent, f), scaled, x) / sizes[0])
    h1 = jnp.where(most <= 1e-15, jnp.maximum(1e-6, 1e-3 * h0), (0.01 / most) ** (1 / tableau.order))
    step_size = jnp.minimum(100 * h0, h1.astype(h0.dtype))
    return f, jax.lax.stop_gradient(jnp.where(jnp.isfinite(step_size), step_size, h0))


def _stiffness(average: Any, stages: Any, inner: State, end: State, h: Any) -> Any:
    """Running average of h |k_s - k_{s-1}| / |x_s - x_{s-1}|, which is |h lambda| of the dominant direction."""
    bend = rms(subtract(stages[-1], stages[-2]), lambda leaf: leaf)
    move = rms(subtract(end, inner), lambda leaf: leaf)
    now = jax.lax.stop_gradient(jnp.where(move > 0, h * bend / jnp.where(move > 0, move, 1), 0))
    return _MEMORY * average + (1 - _MEMORY) * now


def _trend(carry: Carry, end: State, t: Any, accepted: Any) -> tuple[Any, Any]:
    """(1/|x|, its rate of fall over the last accepted step)."""
    size = jax.lax.stop_gradient(rms(end, lambda leaf: leaf))
    inverse = 1 / jnp.maximum(size, jnp.finfo(size.dtype).tiny)
    spent = t - carry.t
    rate = (carry.trend[0] - inverse) / jnp.where(spent > 0, spent, 1)
    return jnp.where(accepted, inverse, carry.trend[0]), jnp.where(accepted, rate, carry.trend[1])


def escape_time(carry: Carry) -> Any:
    """Where 1/|x| is zero, extrapolated along its last slope."""
    inverse, rate = carry.trend
    return jnp.where(rate > 0, carry.t + inverse / jnp.where(rate > 0, rate, 1), jnp.inf)


def _code(carry: Carry, previous: Carry, control: Control, max_steps: int, t0: Any, t1: Any, arrived: Any) -> Any:
    """Whether, and how, the solve has ended."""
    eps = jnp.finfo(carry.t.dtype).eps
    least = eps * jnp.maximum(16 * jnp.abs(carry.t), 1e-3 * (t1 - t0))
    collapsed = ~arrived & (carry.step_size <= jnp.maximum(least, jnp.asarray(control.dtmin, least.dtype)))
    near = escape_time(carry) - carry.t <= 1e-6 * jnp.maximum(jnp.abs(carry.t), t1 - t0)
    spent = carry.accepted + carry.rejected >= max_steps
    stuck = jnp.where(carry.stiffness > _STIFF, int(OutcomeKind.STIFF), int(OutcomeKind.STEP_LIMIT))
    ended = jnp.where(near, int(OutcomeKind.ESCAPED), int(OutcomeKind.NON_FINITE))
    code = jnp.where(spent, stuck, RUNNING)
    code = jnp.where(collapsed, ended, code)
    return jnp.where(arrived, int(OutcomeKind.COMPLETED), code).astype(jnp.int32)
