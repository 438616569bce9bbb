r"""Several workers that descend together: by pushing gradients, by elastic averaging, by averaging now and then.

With W workers of positions x_i, gradients g_i = grad L_i(x_i) and a centre c:

- Downpour          workers fetch c every n_fetch steps, and push the sum of their gradients every n_push
                    limit of the centre  dc/dt = -sum_i grad L_i(c)
- elastic averaging x_i <- x_i - h (g_i + rho (x_i - c)),   c <- c + h rho sum_i (x_i - c)
                    limit  dx_i/dt = -grad L_i(x_i) - rho (x_i - c),   dc/dt = rho sum_i (x_i - c)
- local descent     c <- mean_i of k steps of descent on L_i from c
                    limit  dc/dt = -mean_i grad L_i(c), in the time of single steps

Elastic averaging and a round of local descent are near-identity maps, so that `limit` and `modified` apply to them.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import add, axpy, float_dtype, scale, subtract, where
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.optimization.methods.descent import GradientDescent, gradient
from separatrix.optimization.methods.moments import FromParameters, unpack
from separatrix.systems.iteration import IteratedNearIdentityMap
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import nonnegative, positive, whole

ElasticState = MemoryForm("ElasticState", ("center", "workers"), "The centre, and the workers along a leading axis.")

DownpourState = MemoryForm(
    "DownpourState", ("center", "workers", "accrued"),
    "The centre, the workers, and the gradients each has not pushed yet, both along a leading axis.",
)  # fmt: skip


class ElasticAveraging(NearIdentityMap):
    r"""x_i <- x_i - h (grad L_i(x_i) + rho (x_i - c)),   c <- c + h rho sum_i (x_i - c).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key), of which every worker draws a sample of its own; or a sequence
      of objectives, one for each worker.
    - `step_size`: h > 0. Stable on curvature l up to `elastic_edge(l, rho, W)`.
    - `attraction`: rho >= 0; the paper's alpha is h rho, and its beta W h rho (the symmetric form).
    - `workers`: W >= 1.

    Both updates use the positions before the step. The state is `(center, workers)`; start from `init(parameters)`.

    **Raises:** `ValueError` for a number of workers below 1, or other than that of the objectives.

    **Example:** the mean of workers and centre moves by the gradients alone: attraction is symmetric.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> elastic = sx.optimization.ElasticAveraging(sx.optimization.Quadratic(1.0), step_size=0.1, attraction=1.0, workers=3)
    >>> center, workers = elastic.step(0, elastic.init(jnp.array([1.0])))
    >>> round(float(center[0] + jnp.sum(workers)), 12)
    3.7

    **Reference:** Zhang, Choromanska & LeCun, *Deep learning with elastic averaging SGD* (2015), equations 5 and 6.
    """

    objectives: tuple[Objective, ...]
    step_size: Scalar
    attraction: Scalar
    workers: int = eqx.field(static=True)

    def __init__(self, objective: Any, step_size: Any, attraction: Any, workers: Any):
        self.objectives, self.workers = _objectives(objective, workers, "ElasticAveraging")
        self.step_size = positive("ElasticAveraging: step_size", step_size)
        self.attraction = nonnegative("ElasticAveraging: attraction", attraction)

    def init(self, parameters: State) -> Remembered:
        """Return the state with all workers and the centre at these parameters."""
        return ElasticState(parameters, _copies(parameters, self.workers))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        center, workers = unpack(state, ElasticState)
        apart = jax.tree.map(lambda x, c: x - c[None], workers, center)
        pull = jnp.asarray(self.attraction, jnp.result_type(step_size)) * step_size
        moved = axpy(-step_size, gradients(self.objectives, workers, key), axpy(-pull, apart, workers))
        return ElasticState(axpy(pull, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), apart), center), moved)


def elastic_edge(curvature: Any, attraction: Any, workers: int) -> Any:
    r"""Return the largest stable step size of elastic averaging on a quadratic.

        h < 2/k,     k = (s + sqrt(s^2 - 4 l W rho))/2,     s = l + (W + 1) rho

    k is the largest eigenvalue of ((l + rho, -rho), (-W rho, W rho)), the mean of the workers beside the centre.
    Differences of workers decay below h (l + rho) = 2, which is no sharper.

    **Arguments:** `curvature`: the largest l > 0. `attraction`: rho >= 0. `workers`: W.

    **Returns:** the edge.

    **Example:** one worker without attraction is descent.

    >>> import separatrix as sx
    >>> float(sx.optimization.elastic_edge(1.0, 0.0, 1)), round(float(sx.optimization.elastic_edge(1.0, 0.5, 4)), 4)
    (2.0, 0.7192)

    **Reference:** Zhang, Choromanska & LeCun (2015), section 4, for the stability of the round-robin scheme; this is the
    synchronous one.
    """
    total = curvature + (workers + 1) * attraction
    return 4 / (total + np.sqrt(total**2 - 4 * curvature * workers * attraction))


class LocalDescent(FromParameters, NearIdentityMap):
    r"""c <- (1/W) sum_i D_i^k(c), D_i(x) = x - h grad L_i(x): k local steps, then one average.

    **Arguments:**

    - `objective`: as for `ElasticAveraging`; a sequence gives each worker its own data.
    - `learning_rate`: h > 0 of a local step. The step size of the family is that of a round, k h.
    - `local_steps`: k >= 1. `workers`: W >= 1.

    The state is the parameters. With one objective and no key all workers do the same: k steps of descent. Workers with
    different data drift: the fixed point is not the minimum of the mean for k > 1.

    **Raises:** `ValueError` for counts below 1, or a number of objectives other than `workers`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> local = sx.optimization.LocalDescent(sx.optimization.Quadratic(1.0), learning_rate=0.5, local_steps=3, workers=4)
    >>> sx.evolve(local, local.init(jnp.array([1.0])), steps=1).final.tolist()
    [0.125]

    **Reference:** Stich, *Local SGD converges fast and communicates little* (2019), algorithm 1.
    """

    objectives: tuple[Objective, ...]
    step_size: Scalar
    local_steps: int = eqx.field(static=True)
    workers: int = eqx.field(static=True)

    def __init__(self, objective: Any, learning_rate: Any, local_steps: Any, workers: Any):
        self.objectives, self.workers = _objectives(objective, workers, "LocalDescent")
        self.local_steps = whole("LocalDescent: local_steps", local_steps)
        self.step_size = self.local_steps * positive("LocalDescent: learning_rate", learning_rate)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        def worker(objective: Objective, key: Key | None) -> State:
            round = IteratedNearIdentityMap(GradientDescent(objective, self.step_size), self.local_steps)
            return round.advance(t, state, step_size, key=key)

        ends = _each(self.objectives, self.workers, worker, key)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), ends)


class Downpour(Map):
    r"""Workers that descend on copies, fetch the centre every n_fetch steps and push what they summed every n_push.

        step c of worker i:  if n_fetch | c: x_i <- center
                             a_i <- a_i + g_i,  x_i <- x_i - h g_i
                             if n_push | c: center <- center - h a_i,  a_i <- 0

    **Arguments:**

    - `objective`: as for `ElasticAveraging`.
    - `step_size`: h > 0, of workers and centre alike. `workers`: W.
    - `fetch`, `push`: n_fetch, n_push >= 1.
    - `staggered`: whether worker i is i steps ahead in its count, so that they do not all fetch and push at once.

    At one step all fetch, then all push. With n_fetch = n_push = 1 this is descent with step size W h. The state is
    `(center, workers, accrued)`; a map, and no near-identity one, for at h = 0 a worker jumps to the centre.

    **Raises:** `ValueError` for counts below 1.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> downpour = sx.optimization.Downpour(sx.optimization.Quadratic(1.0), step_size=0.125, workers=4)
    >>> sx.evolve(downpour, downpour.init(jnp.array([1.0])), steps=3).final.center.tolist()
    [0.125]

    **Reference:** Dean et al., *Large scale distributed deep networks* (2012), Downpour SGD, algorithm 7.1 of its appendix,
    with a constant learning rate.
    """

    objectives: tuple[Objective, ...]
    step_size: Scalar
    workers: int = eqx.field(static=True)
    fetch: int = eqx.field(static=True)
    push: int = eqx.field(static=True)
    staggered: bool = eqx.field(static=True)

    def __init__(
        self, objective: Any, step_size: Any, workers: Any, *, fetch: Any = 1, push: Any = 1, staggered: bool = True
    ):
        self.objectives, self.workers = _objectives(objective, workers, "Downpour")
        self.step_size = positive("Downpour: step_size", step_size)
        self.fetch, self.push = (
            whole("Downpour: fetch", fetch),
            whole("Downpour: push", push),
        )
        self.staggered = staggered

    def init(self, parameters: State) -> Remembered:
        """Return the state with all workers and the centre at these parameters, nothing accrued."""
        copies = _copies(parameters, self.workers)
        return DownpourState(parameters, copies, scale(0, copies))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        center, workers, accrued = unpack(state, DownpourState)
        step_size = jnp.asarray(self.step_size, float_dtype(state))
        clock = jnp.asarray(n) + (jnp.arange(self.workers) if self.staggered else jnp.zeros(self.workers, int))
        fetched = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.workers, *leaf.shape)), center)
        workers = _chosen(clock % self.fetch == 0, fetched, workers)
        slopes = gradients(self.objectives, workers, key)
        accrued = add(accrued, slopes)
        pushed = _chosen(clock % self.push == 0, accrued, scale(0, accrued))
        center = axpy(-step_size, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), pushed), center)
        return DownpourState(center, axpy(-step_size, slopes, workers), subtract(accrued, pushed))


def gradients(objectives: tuple[Objective, ...], workers: State, key: Key | None) -> State:
    """grad L_i(x_i), along the leading axis of the workers."""
    count = jax.tree.leaves(workers)[0].shape[0]
    keys: Any = None if key is None else jax.random.split(key, count)
    if len(objectives) == 1:
        return jax.vmap(lambda x, k: gradient(objectives[0], x, k))(workers, keys)
    own: list[Any] = [None] * count if keys is None else list(keys)
    parts = [
        gradient(objective, jax.tree.map(lambda leaf, i=i: leaf[i], workers), own[i])
        for i, objective in enumerate(objectives)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _each(objectives: tuple[Objective, ...], count: int, worker: Function, key: Key | None) -> State:
    """worker(L_i, key_i), stacked; once where all would do the same."""
    keys: Any = None if key is None else jax.random.split(key, count)
    if len(objectives) == 1:
        if keys is None:
            return jax.tree.map(lambda leaf: leaf[None], worker(objectives[0], None))
        return jax.vmap(lambda k: worker(objectives[0], k))(keys)
    own: list[Any] = [None] * count if keys is None else list(keys)
    ends = [worker(objective, k) for objective, k in zip(objectives, own, strict=True)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *ends)


def _chosen(condition: Any, first: State, second: State) -> State:
    """Those of the first where the condition (W,) holds, of the second elsewhere."""
    return jax.vmap(where)(condition, first, second)


def _copies(parameters: State, count: int) -> State:
    parameters = require_trainable(parameters)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), parameters)


def _objectives(objective: Any, workers: Any, name: str) -> tuple[tuple[Objective, ...], int]:
    count = whole(f"{name}: workers", workers)
    several = tuple(objective) if isinstance(objective, tuple | list) else (objective,)
    if len(several) not in (1, count):
        do = "Give one objective for all workers, or one for each."
        raise ValueError(explain(f"{name}: objective", f"{len(several)} for {count} workers", f"1 or {count}", do))
    return tuple(as_objective(each) for each in several), count
