r"""An optimiser held at a state: its step as a function of a gradient, of its moments and of the parameters.

    dx', ds' = U(g, s, x),        g = grad L(y)

An optax transformation is such a function as it is, and takes the gradient at y = x. A method of this library takes it for
itself, where it likes: at x, or ahead of it as Nesterov's does, y = x + c s. So it is given an objective of which nothing
but the gradient is known,

    L(y) = <g, y> + k |y - y0|^2/2,     y0 the value of y,

whose gradient is g, and changes by k dy: the columns of U at k = 1 less those at k = 0 say what y is made of.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from separatrix._tree import is_inexact
from separatrix._types import Function, Key, State
from separatrix.systems.objective import Objective


class Held(NamedTuple):
    """U, and what it is held at.

    - `step`: (gradient, moments, position) -> (change of the position, moments after it), all of them lists of arrays.
    - `bent`: the same with k = 1; None where the gradient is taken at the position.
    - `position`, `moments`: what it is held at. `form`: how the parameters are put together of the arrays of a position.
    - `slots`: kinds of moments; for each, which of the moments belongs to which array of the position.
    """

    step: Function
    bent: Function | None
    position: list[Array]
    moments: list[Array]
    form: Any
    slots: list[dict[int, int]]


class Slope(Objective):
    """An objective of which the gradient is given, and its derivative: k times the identity."""

    gradient: State
    curvature: float = eqx.field(static=True)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        pairs = list(zip(jax.tree.leaves(self.gradient), jax.tree.leaves(parameters), strict=True))
        value = sum(jnp.sum(jnp.real(g * x)) for g, x in pairs)
        if self.curvature:
            value = value + sum(jnp.sum(self.curvature * (x - jax.lax.stop_gradient(x)) ** 2) / 2 for _, x in pairs)
        return value


def update_of(transformation: Any, gradient: State, inner: Any, parameters: State, value: Any = None) -> Any:
    """(u, s') of an optax transformation, with the arguments that line searches and Polyak steps take."""
    extra = {"value": value, "grad": gradient, "value_fn": None} if value is not None else {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return optax.with_extra_args_support(transformation).update(gradient, inner, parameters, **extra)


def held_transformation(transformation: Any, inner: Any, parameters: State, value: Any = None) -> Held:
    """An optax transformation at its own state and parameters."""
    places, structure = jax.tree_util.tree_flatten_with_path(parameters)
    paths, x = [path for path, _ in places], [jnp.asarray(leaf) for _, leaf in places]
    state, form = jax.tree.flatten(inner)
    moving, slots = _moments(inner, paths, x, ())

    def step(gradient: list[Any], moments: list[Any], position: list[Any]) -> tuple[list[Any], list[Any]]:
        slope, here = structure.unflatten(gradient), structure.unflatten(position)
        change, after = update_of(
            transformation, slope, form.unflatten(_filled_in(state, moving, moments)), here, value
        )
        return jax.tree.leaves(change), _taken_out(jax.tree.leaves(after), moving)

    return Held(step, None, x, _taken_out(state, moving), structure, slots)


def held_map(map: Any, n: Any, state: Any) -> Held:
    """A method of this library at step n and its own state.

    All of them are x' = x + u(g, s) - eta lambda x, so they are held at x = 0: a step is then free of the rounding of x.
    """
    leaves, form = jax.tree.flatten(state)
    places, structure = jax.tree_util.tree_flatten_with_path(map.parameters(state))
    paths, x = [path for path, _ in places], [jnp.zeros_like(leaf) for _, leaf in places]
    marks = [np.full((), place) for place in range(len(leaves))]
    own = [int(mark) for mark in jax.tree.leaves(map.parameters(form.unflatten(marks)))]
    moving, slots = _moments(state, paths, x, own)

    def under(curvature: float) -> Function:
        def step(gradient: list[Any], moments: list[Any], position: list[Any]) -> tuple[list[Any], list[Any]]:
            filled = _filled_in(leaves, moving, moments)
            for place, leaf in zip(own, position, strict=True):
                filled[place] = leaf
            method = with_objective(map, Slope(structure.unflatten(gradient), curvature))
            after = method.step(n, form.unflatten(filled))
            change = [new - old for new, old in zip(jax.tree.leaves(map.parameters(after)), position, strict=True)]
            return change, _taken_out(jax.tree.leaves(after), moving)

        return step

    return Held(under(0.0), under(1.0), x, _taken_out(leaves, moving), structure, slots)


def with_objective(map: Any, objective: Objective) -> Any:
    """A map with another objective in the place of its own."""
    is_objective = lambda node: isinstance(node, Objective)  # noqa: E731
    return jax.tree.map(lambda node: objective if is_objective(node) else node, map, is_leaf=is_objective)


def _moments(
    state: Any, paths: list[Any], x: list[Any], own: Any
) -> tuple[list[tuple[int, int | None]], list[dict[int, int]]]:
    """Which leaves of a state, or rows of leaves, are moments; and their kinds.

    A moment is kept as a tree like the parameters: so its path ends with that of its parameter. Several of a kind may be
    the rows of one array, as the velocities of aggregated momentum are.
    """
    kinds: dict[Any, dict[int, int]] = {}
    moving: list[tuple[int, int | None]] = []
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(state)):
        if not is_inexact(leaf) or index in own:
            continue
        shape = jnp.shape(leaf)
        fits = [i for i, tail in enumerate(paths) if path[len(path) - len(tail) :] == tail and x[i].shape == shape]
        rows: list[int | None] = [None]
        if not fits and own:
            fits = [
                i for i, tail in enumerate(paths) if path[len(path) - len(tail) :] == tail and x[i].shape == shape[1:]
            ]
            rows = list(range(shape[0])) if fits else rows
        if fits:
            owner = max(fits, key=lambda i: len(paths[i]))
            for row in rows:
                kinds.setdefault((path[: len(path) - len(paths[owner])], row), {})[owner] = len(moving)
                moving.append((index, row))
    return moving, list(kinds.values())


def _taken_out(leaves: list[Any], moving: list[tuple[int, int | None]]) -> list[Any]:
    return [leaves[place] if row is None else leaves[place][row] for place, row in moving]


def _filled_in(leaves: list[Any], moving: list[tuple[int, int | None]], moments: list[Any]) -> list[Any]:
    filled = list(leaves)
    for (place, row), moment in zip(moving, moments, strict=True):
        filled[place] = moment if row is None else jnp.asarray(filled[place]).at[row].set(moment)
    return filled
