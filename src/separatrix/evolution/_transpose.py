r"""One step of a method, transposed: from the cotangents of its end to those of its start and of the parameters.

For an explicit pair X_i = x + h sum_j a_ij k_j and k_i = f(t_i, X_i; theta), so that

    kbar_i = h sum_{j>i} a_ji Xbar_j + (pull on k_i),    (gbar_i, Xbar_i) = (df/d(theta, x))^T kbar_i,

one evaluation and one transposed evaluation a stage. Any other method is transposed by JAX, as a function of the
parameters, the state and what it carries from step to step.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import add, scale
from separatrix._types import State
from separatrix.evolution._stepper import BySolver, ExplicitPair, Step, parameters_and_rest, take_stages


class StagePlace(NamedTuple):
    """A step that was taken: where from, how far, and what the method carried there."""

    t: Any
    x: State
    step_size: Any
    memory: Any


class Pull(NamedTuple):
    """Cotangents that flow back: of the state, of what the method carries, and of what is inside the step."""

    state: State
    memory: Any
    inside: Any


def no_pull_inside(stepper: Any, field: Any, place: StagePlace, *, bare: bool) -> Any:
    """Zero cotangents of what the interpolant of a step needs: of a pair its stages, without the last if `bare`."""
    if isinstance(stepper, ExplicitPair):
        used = stepper.tableau.stages - bare
        return jax.tree.map(lambda leaf: jnp.zeros((used, *leaf.shape), leaf.dtype), place.x)
    inside = eqx.filter_eval_shape(lambda p: stepper.attempt(field, p.t, p.x, p.step_size, p.memory).inside, place)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), inside)


def pull_at(stepper: Any, place: StagePlace, time: Any, bar: State, pull: Pull) -> Pull:
    """Add the pull of a cotangent at a time inside a step. The interpolant is linear in what it is made of."""
    if isinstance(stepper, ExplicitPair):
        weights = jnp.stack(stepper.weights(place.t, place.step_size, time))
        state, inside = _spread((pull.state, pull.inside), weights, bar, place.step_size)
        return pull._replace(state=state, inside=inside)

    def value(inside: Any) -> State:
        return stepper.interpolate(Step(place.t, place.x, place.step_size, place.x, inside, True), time)

    return pull._replace(inside=add(pull.inside, jax.vjp(value, pull.inside)[1](bar)[0]))


def transpose_step(stepper: Any, field: Any, place: StagePlace, costate: State, pull: Pull) -> tuple[Pull, Any]:
    """(the pull on the start of a step, its part of the parameters' gradient)."""
    if isinstance(stepper, ExplicitPair):
        way = _through_rolled_stages if stepper.tableau.rolled else _through_stages
        state, gradient = way(field, stepper, place, costate, pull.inside)
        return pull._replace(state=add(state, pull.state)), gradient
    return _through_solver(field, stepper, place, costate, pull)


def _through_stages(
    field: Any, stepper: ExplicitPair, place: StagePlace, costate: State, on_stages: State
) -> tuple[State, Any]:
    """The chain written out: the compiler sees that the evaluations that find the points are those that are transposed,
    and keeps one of each."""
    tableau, (t, x, h, _) = stepper.tableau, place
    used = jax.tree.leaves(on_stages)[0].shape[0]
    parameters, rest = parameters_and_rest(field)
    points = take_stages(field, tableau, t, x, h, field(t, x))[1][:used]
    loop = _spread((scale(0, costate), on_stages), _row(tableau.b, used, h), costate, h)
    gradient = jax.tree.map(jnp.zeros_like, parameters)
    for i in reversed(range(used)):
        node = t + jnp.asarray(tableau.c[i], h.dtype) * h
        pull = jax.vjp(lambda p, y, t=node: eqx.combine(p, rest)(t, y), parameters, points[i])[1]
        more, on_point = pull(jax.tree.map(lambda leaf, i=i: leaf[i], loop[1]))
        loop, gradient = _spread(loop, _row(tableau.a[i], used, h), on_point, h), add(gradient, more)
    return loop[0], gradient


def _through_rolled_stages(
    field: Any, stepper: ExplicitPair, place: StagePlace, costate: State, on_stages: State
) -> tuple[State, Any]:
    """The same by the transpose of the loop over stages, which holds the velocity once."""
    t, x, h, _ = place
    used = jax.tree.leaves(on_stages)[0].shape[0]
    parameters, rest = parameters_and_rest(field)

    def step(parameters: Any, x: State) -> Any:
        field = eqx.combine(parameters, rest)
        stages, points = take_stages(field, stepper.tableau, t, x, h, field(t, x))
        return points[-1], jax.tree.map(lambda *leaves: jnp.stack(leaves), *stages[:used])

    gradient, state = jax.vjp(step, parameters, x)[1]((costate, on_stages))
    return state, gradient


def _through_solver(field: Any, stepper: BySolver, place: StagePlace, costate: State, pull: Pull) -> tuple[Pull, Any]:
    t, x, h, memory = place
    parameters, rest = parameters_and_rest(field)
    moving, still = eqx.partition(memory, eqx.is_inexact_array)

    def step(parameters: Any, x: State, moving: Any) -> Any:
        made = stepper.attempt(eqx.combine(parameters, rest), t, x, h, eqx.combine(moving, still))
        return made.end, eqx.filter(made.memory, eqx.is_inexact_array), made.inside

    gradient, state, before = jax.vjp(step, parameters, x, moving)[1]((costate, pull.memory, pull.inside))
    return pull._replace(state=add(state, pull.state), memory=before), gradient


def _row(weights: Any, used: int, h: Any) -> Any:
    """Weights of the stages in use, those left out being zero."""
    return jnp.asarray([*weights, *[0.0] * used][:used], h.dtype)


def _spread(loop: tuple[State, State], weights: Any, on_point: State, h: Any) -> tuple[State, State]:
    """Add what a point x + h sum_j w_j k_j pulls on x and on each stage."""
    start, on_stages = loop

    def pull(stage: Any, bar: Any) -> Any:
        return stage + (h * weights).astype(stage.dtype).reshape(-1, *[1] * bar.ndim) * bar[None]

    return add(start, on_point), jax.tree.map(pull, on_stages, on_point)
