r"""Methods from one start on one landscape: who leaves the saddle, who finds the minimum.

Near a saddle of curvature -m gradient descent grows by 1 + h m a step along the unstable direction, so that from a distance
d it leaves a neighbourhood of size r after ln(r/d)/ln(1 + h m) steps. Methods that rescale each coordinate by its own
gradients do not wait for that.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from separatrix._errors import explain
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import Save, evolve
from separatrix.optimization.studies.landscapes import Landscape
from separatrix.systems.objective import Objective
from separatrix.training.fitting import map_of

_GRID = 161


def classical_methods(learning_rate: float = 0.01) -> dict[str, Any]:
    """Return the methods of the two classical pictures, as optax transformations.

    **Arguments:** the learning rate of gradient descent; the others run at rates in proportion (Adadelta has a unit of its
    own).

    **Example:**

    >>> import separatrix as sx
    >>> sorted(sx.optimization.classical_methods())[:3]
    ['Adadelta', 'Adagrad', 'Adam']
    """
    return {
        "SGD": optax.sgd(learning_rate),
        "momentum": optax.sgd(learning_rate, momentum=0.9),
        "Nesterov": optax.sgd(learning_rate, momentum=0.9, nesterov=True),
        "Adagrad": optax.adagrad(20 * learning_rate, initial_accumulator_value=0.0),
        "Adadelta": optax.adadelta(50 * learning_rate),
        "RMSprop": optax.rmsprop(2 * learning_rate),
        "Adam": optax.adam(5 * learning_rate),
    }


class Race(Result):
    """Paths of several methods from one start.

    - `paths`, shape (M, T, 2), and `losses`, shape (M, T): position and loss after each step; NaN where a run broke.
    - `finished`, shape (M,): the first step at which the run has won (see `race`); -1 for never.
    - `broke`, shape (M,): whether it stopped being finite.
    - `grid`, shape (G, G, 2), and `heights`, shape (G, G): the landscape for contours. `points`, shape (C, 2), and
      `indices`, shape (C,): its critical points.
    """

    paths: Float[Array, "methods steps 2"]
    losses: Float[Array, "methods steps"]
    finished: Int[Array, " methods"]
    broke: Bool[Array, " methods"]
    grid: Float[Array, "rows columns 2"]
    heights: Float[Array, "rows columns"]
    points: Float[Array, "points 2"]
    indices: Int[Array, " points"]
    names: tuple[str, ...] = eqx.field(static=True)

    def rows(self) -> list[Row]:
        """Each method with the step at which it won and its last loss."""
        return [Row(name, self._fate(number)) for number, name in enumerate(self.names)]

    def _fate(self, number: int) -> str:
        if self.broke[number]:
            return "stopped being finite"
        step, loss = int(self.finished[number]), float(self.losses[number, -1])
        return f"{'never there' if step < 0 else f'there after {step} steps'}; last loss {loss:.4g}"

    @property
    def cautions(self) -> tuple[str, ...]:
        """Methods at other learning rates finish in another order."""
        return ("one start and one learning rate a method: the order says nothing about other problems",)


def race(
    landscape: Landscape,
    start: Any,
    methods: Mapping[str, Any] | None = None,
    *,
    steps: int = 200,
    near: float = 0.05,
    escape: float = 1.0,
) -> Race:
    """Run several methods from one start on a landscape.

    **Arguments:**

    - `landscape`: of the zoo, see `landscape`.
    - `start`: shape (2,).
    - `methods`: name to an optax transformation, or to a function that makes a map of an objective; the classical seven by
      default.
    - `steps`: how many each takes.
    - `near`: a run has won when it is that close to a minimum; `escape`: on a landscape without minima, when it is that far
      from the saddle.

    **Returns:** a `Race`; `separatrix.plotting.plot_race` draws it, `animate_race` moves it.

    **Raises:** `ValueError` for a start that is no point of the plane, or no methods.

    **Example:** gradient descent leaves the saddle by its closed form: 1e-3 (1 + h)^n reaches 1 at n = 695 for h = 0.01.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descents = {"descent": lambda loss: sx.optimization.GradientDescent(loss, 0.01)}
    >>> found = sx.optimization.race(sx.optimization.landscape("saddle"), jnp.array([0.0, 1e-3]), descents, steps=800)
    >>> int(found.finished[0])
    695

    **Reference:** Lee, Simchowitz, Jordan & Recht, *Gradient descent only converges to minimizers* (2016), for the escape.
    """
    methods = classical_methods() if methods is None else methods
    start = jnp.asarray(start)
    if start.shape != (2,) or not methods:
        got = f"shape {start.shape}, {len(methods)} methods"
        raise ValueError(explain("race", got, "a start of shape (2,) and methods", "Pass jnp.array([x, y])."))
    objective = landscape.objective
    orbits = [_run(objective, method, start, steps) for method in methods.values()]
    paths = jnp.stack([orbit.states for orbit in orbits])
    minima = [point.position for point in landscape.critical_points if point.index == 0]
    targets = jnp.asarray(minima or [landscape.critical_points[0].position], start.dtype)
    distances = jnp.min(jnp.linalg.norm(paths[:, :, None] - targets[None, None], axis=-1), axis=-1)
    there = distances < near if minima else distances > escape
    grid = _window(landscape, start.dtype)
    return Race(
        paths,
        jnp.asarray(jax.vmap(jax.vmap(objective))(paths)),
        jnp.where(there.any(axis=1), jnp.argmax(there, axis=1), -1),
        ~jnp.stack([orbit.outcome.completed for orbit in orbits]),
        grid,
        jnp.asarray(jax.vmap(jax.vmap(objective))(grid)),
        jnp.asarray([point.position for point in landscape.critical_points], start.dtype),
        jnp.asarray([point.index for point in landscape.critical_points]),
        tuple(methods),
    )


def _run(objective: Objective, method: Any, start: Any, steps: int) -> Any:
    map = map_of(objective, method)
    return evolve(map, map.init(start), steps=steps, save=Save(1, map.parameters))


def _window(landscape: Landscape, dtype: Any) -> Any:
    axes = [np.linspace(low, high, _GRID) for low, high in zip(landscape.low, landscape.high, strict=True)]
    return jnp.asarray(np.stack(np.meshgrid(*axes), axis=-1), dtype)
