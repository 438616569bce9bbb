r"""Which hyperparameters train: a plane of runs, and how rough the boundary between their fates is.

Each point of the plane is a training run, a map of its own. Its fate is read off its losses:

    trained     the last loss is finite and below that of the start
    broke       a state stopped being finite
    diverging   neither, and the loss rose from each to the next of nine instants over the second half of the run, or
                overflowed before the state did
    stalled     neither, and it did not: a cycle, a plateau, a step size of zero

Past the edge of a quadratic the loss is a growing exponential, which rises from every instant to the next but may need more
steps than the run has to overflow. Losses that wander without a trend rise eight times in a row with probability 1/9!.

On a quadratic the boundary is where a step size meets 2/curvature: lines, of dimension one. On a network every step
iterates a nonlinear map, and boundaries of iterated maps are fractal as a rule.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from separatrix._errors import explain
from separatrix._types import Function, State
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import Save, evolve
from separatrix.systems.map import Map
from separatrix.systems.objective import Objective, as_objective

# Runs in one compiled call: enough to fill the vector units, few enough to stay in cache.
_BATCH = 8192
# Of the second half of a run, at which its loss is looked at.
_INSTANTS = 9


class LayerwiseDescent(Map):
    """x_i -> x_i - h_i grad_i L(x), with a step size for each leaf of the parameters."""

    objective: Objective
    step_sizes: State

    def init(self, parameters: State) -> State:
        """Return the parameters themselves."""
        return parameters

    def step(self, n: Any, state: State, *, key: Any = None) -> State:
        slope = jax.grad(lambda x: self.objective(x, key=key))(state)
        return jax.tree.map(lambda x, h, g: x - jnp.asarray(h, x.dtype) * g, state, self.step_sizes, slope)


class Trainability(Result):
    """The fates of a plane of training runs.

    - `first`, shape (C,), and `second`, shape (R,): the two hyperparameters along columns and rows.
    - `trained`, shape (R, C): whether the loss ended finite and below its start.
    - `losses`, shape (R, C): the last loss (NaN where a run broke); `broke_at`: the step at which it did, or -1.
    - `diverging`, shape (R, C): whether it neither trained nor broke, and rose all through the second half of the run.
    - `fates`, shape (R, C): "trained", "broke", "diverging" or "stalled".
    - `seconds`: wall time, with compilation.
    """

    first: Float[np.ndarray, " columns"]
    second: Float[np.ndarray, " rows"]
    trained: Bool[np.ndarray, "rows columns"]
    losses: Float[np.ndarray, "rows columns"]
    broke_at: Int[np.ndarray, "rows columns"]
    diverging: Bool[np.ndarray, "rows columns"]
    seconds: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def rows(self) -> list[Row]:
        """How many runs, how many met which fate, and how long it took."""
        return [
            Row("runs", f"{self.trained.size} of {self.steps} steps in {self.seconds:.3g} s"),
            self._share("share that trains", "trained"),
            self._share("share that diverges", "diverging"),
            self._share("share that breaks", "broke"),
            self._share("share that stalls", "stalled"),
        ]

    @property
    def fates(self) -> np.ndarray:
        """The fate of each run, in a word."""
        which = [np.asarray(self.trained), np.asarray(self.broke_at) >= 0, np.asarray(self.diverging)]
        return np.select(which, ["trained", "broke", "diverging"], "stalled")

    @property
    def cautions(self) -> tuple[str, ...]:
        """Runs near the boundary may change their fate with more steps."""
        stalled = float(np.mean(self.fates == "stalled"))
        if stalled > 0.02:
            found = f"{100 * stalled:.2g} % of the runs stalled: their loss is not below its start and does not grow"
            return (f"{found}; more steps tell, if anything moves",)
        return ()

    def _share(self, name: str, fate: str) -> Row:
        share = float(np.mean(self.fates == fate))
        return Row(name, share, float(np.sqrt(share * (1 - share) / self.trained.size)))


def trainability(
    map_of: Callable[[Any, Any], Map],
    start: State,
    *,
    first: Any,
    second: Any,
    steps: int,
    objective: Objective | Function | None = None,
) -> Trainability:
    """Train a run for each pair of hyperparameters, in batches of one compiled call.

    **Arguments:**

    - `map_of`: (a, b) -> the map that trains; a and b are traced scalars.
    - `start`: its state at the start, the same for all.
    - `first`, `second`: values of a, shape (C,), and of b, shape (R,).
    - `steps`: of each run.
    - `objective`: what is lowered; the map's own by default.

    **Returns:** a `Trainability`; `boundary_dimension(found.trained)` measures its border.

    **Raises:** `ValueError` for values that are no sequences, or steps below 1; `TypeError` for a function that makes no
    map.

    **Example:** descent on a quadratic trains where both products of step size and curvature are below two.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> bowl = sx.optimization.Quadratic(jnp.array([1.0, 4.0]))
    >>> plane = lambda a, b: sx.optimization.LayerwiseDescent(bowl, jnp.stack([a, b]))
    >>> found = sx.optimization.trainability(plane, jnp.ones(2), first=[1.9, 2.1], second=[0.4, 0.6], steps=400)
    >>> found.fates.tolist()
    [['trained', 'diverging'], ['diverging', 'diverging']]

    **Reference:** Sohl-Dickstein, *The boundary of neural network trainability is fractal* (2024).
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.ndim != 1 or second.ndim != 1 or not first.size or not second.size:
        got = f"shapes {first.shape} and {second.shape}"
        raise ValueError(explain("trainability: first, second", got, "two sequences", "Pass jnp.geomspace(...)."))
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(explain("trainability: steps", repr(steps), "a whole number >= 1", "Pass for example 1000."))
    example = map_of(jnp.asarray(first[0]), jnp.asarray(second[0]))
    if not isinstance(example, Map):
        do = "Return for example GradientDescent(objective, a)."
        raise TypeError(explain("trainability: map_of", type(example).__name__, "a Map", do))
    loss = as_objective(example.objective if objective is None else objective)  # pyright: ignore[reportAttributeAccessIssue]
    began = time.perf_counter()
    pairs = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    size = min(_BATCH, len(pairs))
    padded = np.concatenate([pairs, np.repeat(pairs[-1:], -len(pairs) % size, axis=0)])
    run = jax.jit(jax.vmap(lambda pair: _fate(map_of(pair[0], pair[1]), loss, start, steps)))
    parts = [run(jnp.asarray(padded[i : i + size])) for i in range(0, len(padded), size)]
    losses, broke, rising = (np.concatenate([np.asarray(p[k]) for p in parts])[: len(pairs)] for k in (0, 1, 2))
    shape = (len(second), len(first))
    trained = np.isfinite(losses) & (losses < float(loss(example.parameters(start))))
    return Trainability(
        first,
        second,
        trained.reshape(shape),
        np.asarray(losses, float).reshape(shape),
        broke.reshape(shape),
        (rising & ~trained & (broke < 0)).reshape(shape),
        time.perf_counter() - began,
        steps,
    )


def _fate(map: Map, loss: Objective, start: State, steps: int) -> Any:
    """(last loss, the step that broke or -1, whether the loss rose all through the second half)."""
    instants = np.unique(np.rint(np.linspace(steps / 2, steps, _INSTANTS)).astype(int))
    path = evolve(map, start, steps=steps, save=Save(instants, lambda state: loss(map.parameters(state))))
    done = path.outcome.completed
    number = jnp.where(done, -1, path.stats["steps"] + 1)
    losses = path.states
    return jnp.where(done, losses[-1], jnp.nan), number, jnp.all(jnp.diff(losses) > 0) | ~jnp.isfinite(losses[-1])
