r"""One step of a method with an error estimate: what the adaptive loop asks of a method, and of nothing else.

    explicit pair    x' = x + h sum_i b_i k_i, its stages written out (`_tableau`); it carries f(t, x) to the next step
    any other        the `step` of a diffrax solver: implicit, semi-implicit, or for an SDE; it carries what the solver does

Both go through the same loop, the same controller, the same outcomes and the same gradients.
"""

import dataclasses
from abc import abstractmethod
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

from separatrix._tree import combine, float_dtype, subtract
from separatrix._types import State
from separatrix.evolution._tableau import Tableau


class Step(NamedTuple):
    """A step that was tried: from (t, x), of size h, to `end`; what its interpolant needs; whether it was accepted."""

    t: Any
    x: State
    step_size: Any
    end: State
    inside: Any
    accepted: Any


class Attempt(NamedTuple):
    """What a method makes of one step: its end, its error (None: no estimate), what the interpolant needs, what the next
    step needs, |h lambda| of its dominant direction (0: not known), and whether an equation inside was not solved."""

    end: State
    error: State | None
    inside: Any
    memory: Any
    stiffness: Any
    failed: Any


class Stepper(eqx.Module):
    """A method as the loop sees it. `field` is what it steps along: a velocity (t, x) -> dx/dt, or diffrax's terms."""

    @abstractmethod
    def error_order(self, field: Any) -> float:
        """The order p + 1 of the local error, the root that the controller takes."""

    @abstractmethod
    def start(self, field: Any, t: Any, h: Any, x: State, slope: State | None) -> Any:
        """What the first step needs, given the slope at its start."""

    @abstractmethod
    def slope(self, field: Any, t: Any, x: State) -> State | None:
        """dx/dt, for the first step size; None for a random path, which has none."""

    @abstractmethod
    def along(self, velocity: Any) -> Any:
        """A velocity (t, x) -> dx/dt as a field of this method."""

    @abstractmethod
    def attempt(self, field: Any, t: Any, x: State, h: Any, memory: Any) -> Attempt:
        """Try one step of size h."""

    @abstractmethod
    def interpolate(self, step: Step, t: Any) -> State:
        """The solution at a time inside a step."""


class ExplicitPair(Stepper):
    """An embedded explicit Runge-Kutta pair whose last stage is the first of the next step."""

    tableau: Tableau = eqx.field(static=True)

    def error_order(self, field: Any) -> float:
        return float(self.tableau.order)

    def start(self, field: Any, t: Any, h: Any, x: State, slope: State | None) -> Any:
        return slope

    def slope(self, field: Any, t: Any, x: State) -> State:
        return field(t, x)

    def along(self, velocity: Any) -> Any:
        return velocity

    def attempt(self, field: Any, t: Any, x: State, h: Any, memory: Any) -> Attempt:
        stages, points = take_stages(field, self.tableau, t, x, h, memory)
        error = weigh(self.tableau.error, stages, h, jax.tree.map(jnp.zeros_like, x))
        bend = rms(subtract(stages[-1], stages[-2]), lambda leaf: leaf)
        move = rms(subtract(points[-1], points[-2]), lambda leaf: leaf)
        stiffness = h * bend / jnp.where(move > 0, move, 1)
        return Attempt(points[-1], error, stages, stages[-1], stiffness, jnp.asarray(False))

    def interpolate(self, step: Step, t: Any) -> State:
        return weigh(self.weights(step.t, step.step_size, t), step.inside, step.step_size, step.x)

    def rolled(self) -> "ExplicitPair":
        """The same with its stages in a loop, which holds the velocity once."""
        return ExplicitPair(dataclasses.replace(self.tableau, rolled=True))

    def weights(self, start: Any, h: Any, t: Any) -> list[Any]:
        """w_i(theta) at time t of a step, by Horner's rule."""
        theta = (t - start) / h
        out = []
        for row in self.tableau.weights:
            value = jnp.zeros_like(theta)
            for coefficient in reversed(row):
                value = (value + coefficient) * theta
            out.append(value)
        return out


class BySolver(Stepper):
    """The step of a diffrax solver, on terms of diffrax."""

    solver: Any

    def error_order(self, field: Any) -> float:
        return float(self.solver.error_order(field) or 1.0)

    def start(self, field: Any, t: Any, h: Any, x: State, slope: State | None) -> Any:
        return self.solver.init(field, t, t + h, x, None)

    def slope(self, field: Any, t: Any, x: State) -> State | None:
        return None if isinstance(field, diffrax.MultiTerm) else field.vf(t, x, None)

    def along(self, velocity: Any) -> Any:
        return diffrax.ODETerm(StepperVelocity(velocity))

    def attempt(self, field: Any, t: Any, x: State, h: Any, memory: Any) -> Attempt:
        end, error, inside, memory, result = self.solver.step(field, t, t + h, x, None, memory, made_jump=False)
        failed = result != diffrax.RESULTS.successful
        return Attempt(end, error, inside, memory, jnp.zeros((), float_dtype(x)), failed)

    def interpolate(self, step: Step, t: Any) -> State:
        path = self.solver.interpolation_cls(t0=step.t, t1=step.t + step.step_size, **step.inside)
        return path.evaluate(t)


class StepperVelocity(eqx.Module):
    """A velocity (t, x) as diffrax calls it."""

    field: Any

    def __call__(self, t: Any, x: State, args: Any) -> State:
        return self.field(jnp.asarray(t), x)


def with_tolerances(solver: Any, rtol: Any, atol: Any) -> Any:
    """An implicit solver whose inner equations are solved to the tolerances of the steps, where it says so itself."""
    if not isinstance(solver, diffrax.AbstractImplicitSolver):
        return solver
    root, values = solver.root_finder, {"rtol": rtol, "atol": atol, "norm": optx.rms_norm}
    names = [name for name in ("rtol", "atol") if not eqx.is_array_like(getattr(root, name, 0.0))]
    names += [] if callable(getattr(root, "norm", max)) else ["norm"]
    if not names:
        return solver
    return eqx.tree_at(
        lambda s: [getattr(s.root_finder, name) for name in names], solver, [values[name] for name in names]
    )


def parameters_and_rest(field: Any) -> tuple[Any, Any]:
    """What a gradient may be asked for in a field, and the rest; a Brownian path has numbers but no parameters."""

    def is_path(part: Any) -> bool:
        return isinstance(part, diffrax.AbstractPath)

    moves = jax.tree.map(lambda part: not is_path(part) and eqx.is_inexact_array(part), field, is_leaf=is_path)
    return eqx.partition(field, moves)


def take_stages(
    field: Any, tableau: Tableau, t: Any, x: State, h: Any, f: State
) -> tuple[tuple[State, ...], tuple[State, ...]]:
    """All stages of a step of a pair, and the points at which they were taken."""
    if tableau.rolled:
        return _roll_stages(field, tableau, t, x, h, f)
    stages, points = [f], [x]
    for row, node in zip(tableau.a[1:], tableau.c[1:], strict=True):
        points.append(weigh(row, stages, h, x))
        stages.append(field(t + jnp.asarray(node, h.dtype) * h, points[-1]))
    return tuple(stages), tuple(points)


def _roll_stages(field: Any, tableau: Tableau, t: Any, x: State, h: Any, f: State) -> Any:
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


def rms(tree: State, transform: Any, *others: State) -> Any:
    """Root mean square of a transformed tree."""
    squares = jax.tree.map(lambda *leaves: jnp.sum(jnp.abs(transform(*leaves)) ** 2), tree, *others)
    count = sum(leaf.size for leaf in jax.tree.leaves(tree))
    dtype = float_dtype(tree)
    return jnp.sqrt(sum(part.astype(dtype) for part in jax.tree.leaves(squares)) / count)


def first_step(stepper: Stepper, field: Any, control: Any, x: State, t0: Any, t1: Any) -> tuple[State | None, Any]:
    """(f(t0, x), a first step size from it and from f after a small Euler step); a random path starts with a hundredth.

    Reference: Hairer, Norsett & Wanner (1993), section II.4.
    """
    if eqx.filter_eval_shape(stepper.slope, field, t0, x) is None:
        return None, 0.01 * (t1 - t0)

    def scaled(leaf: Any, size: Any) -> Any:
        return leaf / (jnp.asarray(control.atol, size.dtype) + jnp.asarray(control.rtol, size.dtype) * jnp.abs(size))

    def evaluate(point: tuple[Any, State], _: None) -> tuple[tuple[Any, State], tuple[State, Any, Any]]:
        f = stepper.slope(field, *point)
        d0, d1 = rms(x, scaled, x), rms(f, scaled, x)
        tiny = (d0 < 1e-5) | (d1 < 1e-5)
        h = jnp.where(tiny, 1e-6, 0.01 * d0 / jnp.where(tiny, 1.0, d1)).astype(d0.dtype)
        return (t0 + h, combine([h], [f], x)), (f, h, d1)

    # A loop of two, so that the program holds the velocity once.
    _, (fields, sizes, slopes) = jax.lax.scan(evaluate, (t0, x), length=2)
    f, bent = (jax.tree.map(lambda leaf, i=i: leaf[i], fields) for i in (0, 1))
    h0, most = sizes[0], jnp.maximum(slopes[0], rms(subtract(bent, f), scaled, x) / sizes[0])
    order = stepper.error_order(field)
    h1 = jnp.where(most <= 1e-15, jnp.maximum(1e-6, 1e-3 * h0), (0.01 / most) ** (1 / order))
    step_size = jnp.minimum(100 * h0, h1.astype(h0.dtype))
    return f, jax.lax.stop_gradient(jnp.where(jnp.isfinite(step_size), step_size, h0))
