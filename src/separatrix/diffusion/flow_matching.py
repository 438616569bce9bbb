r"""Flow matching: the velocity of straight paths, and of the flow's own map.

On x(t) = alpha x(0) + sigma eps the minimiser of E |v(t, x(t)) - (alpha' x(0) + sigma' eps)|^2 is the velocity of the
probability flow. Which noise is paired with which data is free: independently, or within a batch so that the sum of
|x(0) - eps|^2 is least (optimal transport), which makes paths straighter.

MeanFlow learns the map of the flow at once, by its mean velocity u(x, r, t) = (x(t) - x(r))/(t - r), r <= t.
Differentiating (t - r) u along the flow,

    u = v - (t - r) (v . grad_x u + du/dt),

the right side by one `jvp`, held fixed. Then x(r) = x(t) - (t - r) u in one evaluation.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from separatrix._errors import explain, unknown
from separatrix._tree import is_traced
from separatrix._types import Checked, Key, Scalar, State, StepIndex
from separatrix.diffusion.conditions import classes_of, guessed
from separatrix.diffusion.predictions import Prediction, require_process
from separatrix.diffusion.processes import NoisingProcess
from separatrix.diffusion.straight import StraightPath
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key
from separatrix.systems.map import FiniteMap
from separatrix.systems.signature import as_pytree

COUPLINGS = ("independent", "optimal")


def coupled(x: Array, noise: Array, coupling: str) -> Array:
    """The noise, paired with data as the coupling says."""
    if coupling == "independent":
        return noise
    first, second = x.reshape(x.shape[0], -1), noise.reshape(x.shape[0], -1)
    squares = jnp.sum(first**2, 1)[:, None] + jnp.sum(second**2, 1)[None] - 2 * first @ second.T
    rows, columns = optax.assignment.hungarian_algorithm(squares)
    return noise[columns[jnp.argsort(rows)]]


class FlowMatching(eqx.Module):
    r"""E |v(t, x(t)) - (alpha' x(0) + sigma' eps)|^2 over data, noise and uniform times: an objective for `fit`.

    **Arguments:**

    - `process`: a `NoisingProcess` with finite alpha' and sigma' on its times; `StraightPath()` by default.
    - `coupling`: "independent", or "optimal": noise assigned to data within the batch.
    - `drop`: share of labels left out, where the batch is a pair (x, labels); from 0 to 1.
    - `earliest`: times are drawn from [earliest, horizon].

    Called as `loss(network, batch, key=key)`; the network is a function of (t, x), or (t, x, label), that gives the
    velocity: `network_prediction(process, network, "velocity")` samples from it.

    **Raises:** `TypeError` for anything but a process; `ValueError` for an unknown coupling or values outside their ranges.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> data = 3.0 + jax.random.normal(jax.random.key(0), (64, 1))
    >>> loss = sx.diffusion.FlowMatching(coupling="optimal")
    >>> value = loss(lambda t, x: jnp.full_like(x, -3.0), data, key=jax.random.key(1))
    >>> bool(value < 0.5)
    True

    **Reference:** Lipman et al., *Flow matching for generative modeling* (2023), equation 9; Pooladian et al.,
    *Multisample flow matching* (2023), section 3.2, and Tong et al. (2024), section 3.2.3, for the coupling.
    """

    process: Checked[NoisingProcess] = eqx.field(default_factory=StraightPath)
    coupling: Checked[str] = eqx.field(default="independent", static=True)
    drop: Any = eqx.field(default=0.1, converter=as_parameter)
    earliest: Any = eqx.field(default=0.0, converter=as_parameter)

    def __check_init__(self) -> None:
        require_process("FlowMatching: process", self.process)
        if self.coupling not in COUPLINGS:
            raise ValueError(unknown("FlowMatching: coupling", self.coupling, COUPLINGS, "Say how noise meets data."))
        ranges.share("FlowMatching: drop", self.drop, "Leave it out for 0.1.")
        ranges.nonnegative("FlowMatching: earliest", self.earliest, "Leave it out for 0.")

    @property
    def guess(self) -> str:
        """What the network gives."""
        return "velocity"

    def __call__(self, network: Any, batch: Any, *, key: Key | None = None) -> Scalar:
        return jnp.mean(self.terms(network, batch, key=key))

    def terms(self, network: Any, batch: Any, *, key: Key | None = None) -> Float[Array, "batch"]:
        """The loss of each example."""
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        times_key, noise_key, drop_key, order_key = jax.random.split(require_key(key, "FlowMatching"), 4)
        count, dtype = x.shape[0], x.dtype
        low, high = (jnp.asarray(v, dtype) for v in (self.earliest, self.process.horizon))
        places = (jnp.arange(count, dtype=dtype) + jax.random.uniform(times_key, (count,), dtype)) / count
        times = low + (high - low) * jax.random.permutation(order_key, places)
        noise = coupled(x, jax.random.normal(noise_key, x.shape, dtype), self.coupling)
        noised, velocity = jax.vmap(self._path)(times, x, noise)
        found = guessed("FlowMatching: network", network, times, noised, labels, self.drop, drop_key)
        return jnp.mean(((found - velocity) ** 2).reshape(count, -1), axis=1)

    def weight(self, t: Any) -> Array:
        """What the mean square of D - x(0) counts for at time t, under the independent coupling."""
        (alpha, sigma), (rise, growth) = self.process.marginal(t), self.process.slopes(t)
        return (rise - growth * alpha / sigma) ** 2

    def nodes(self, count: int) -> tuple[Array, Array]:
        """Times and masses of the law of times, for integrals over it: the midpoint rule."""
        places = (jnp.arange(float(count)) + 0.5) / count
        return self.earliest + (self.process.horizon - self.earliest) * places, jnp.full(count, 1 / count)

    def _path(self, t: Array, x: Array, noise: Array) -> tuple[Array, Array]:
        (alpha, sigma), (rise, growth) = self.process.marginal(t), self.process.slopes(t)
        alpha, sigma, rise, growth = (jnp.asarray(v, x.dtype) for v in (alpha, sigma, rise, growth))
        return alpha * x + sigma * noise, rise * x + growth * noise


class MeanFlow(eqx.Module):
    r"""E w |u(x(t), r, t) - stop(v - (t - r) (v . grad_x u + du/dt))|^2, v = eps - x(0): an objective for `fit`.

    **Arguments:**

    - `apart`: share of the batch with r < t, a known number; for the rest r = t, where it is flow matching and no
      derivative is taken. Rounded up to whole examples.
    - `power`: p of the weight w = 1/(mean square + 0.001)^p, held fixed; 0 for the plain square.
    - `drop`: share of labels left out, as in `FlowMatching`.

    The network is a function of (times, x), or (times, x, label), with times = [r, t]: `ScoreMLP(..., clocks=2)`.

    **Raises:** `ValueError` for values outside these ranges.

    **Example:** at t = 1 of data that are one point c, u = x - c.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> exact = lambda times, x: (x - 2.0) / times[1]
    >>> float(sx.diffusion.MeanFlow()(exact, jnp.full((8, 1), 2.0), key=jax.random.key(0))) < 1e-12
    True

    **Reference:** Geng et al., *Mean flows for one-step generative modeling* (2025), equations 6 to 11 and algorithm 1.
    """

    apart: Checked[float] = eqx.field(default=0.25, static=True)
    power: Any = eqx.field(default=1.0, converter=as_parameter)
    drop: Any = eqx.field(default=0.1, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.share("MeanFlow: apart", self.apart, "Leave it out for 0.25.")
        ranges.nonnegative("MeanFlow: power", self.power, "Leave it out for 1.")
        ranges.share("MeanFlow: drop", self.drop, "Leave it out for 0.1.")

    def __call__(self, network: Any, batch: Any, *, key: Key | None = None) -> Scalar:
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        keys, count, dtype = jax.random.split(require_key(key, "MeanFlow"), 3), x.shape[0], x.dtype
        pair = jnp.sort(jax.random.uniform(keys[0], (count, 2), dtype), axis=1)
        noise = jax.random.normal(keys[1], x.shape, dtype)
        if labels is not None:
            none = classes_of("MeanFlow: network", network)
            gone = jax.random.uniform(keys[2], (count,)) < self.drop
            labels = jnp.where(gone, none, labels)
        first = math.ceil(self.apart * count)
        examples = (pair, x, noise, labels)
        squares = jnp.concatenate([
            jax.vmap(lambda *one, rule=rule: rule(network, *one))(*jax.tree.map(lambda leaf, cut=cut: leaf[cut], examples))
            for rule, cut in ((_apart, slice(first)), (_together, slice(first, None)))
            if len(x[cut])
        ])  # fmt: skip
        weights = 1 / (jax.lax.stop_gradient(squares) + 1e-3) ** jnp.asarray(self.power, dtype)
        return jnp.mean(weights * squares)


def _apart(network: Any, pair: Array, point: Array, noise: Array, label: Any) -> Array:
    """The mean square at r < t, the target held fixed."""
    given = () if label is None else (label,)
    (r, t), velocity = pair, noise - point
    found, along = jax.jvp(
        lambda y, s: network(jnp.stack([r, s]), y, *given),
        ((1 - t) * point + t * noise, t),
        (velocity, jnp.ones_like(t)),
    )
    target = jax.lax.stop_gradient(velocity - (t - r) * along)
    return jnp.mean((found - target) ** 2)


def _together(network: Any, pair: Array, point: Array, noise: Array, label: Any) -> Array:
    """The mean square at r = t, where the target is the velocity of the path."""
    given, t = () if label is None else (label,), pair[1]
    found = network(jnp.stack([t, t]), (1 - t) * point + t * noise, *given)
    return jnp.mean((found - (noise - point)) ** 2)


class MeanFlowMap(FiniteMap):
    r"""x[n+1] = x[n] - (t[n] - t[n+1]) u(x[n], t[n+1], t[n]): the learned map of the flow, in one step or more.

    **Arguments:**

    - `network`: as `MeanFlow` trains it. `times`: falling, from 1 to 0; [1, 0] for one step.
    - `labels`: shape (B,), or None.

    **Raises:** `ValueError` for times that do not fall, or are outside [0, 1].

    **Example:** data at the point 2 are reached from anywhere in one step.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> steps = sx.diffusion.MeanFlowMap(lambda times, x: (x - 2.0) / times[1], [1.0, 0.0])
    >>> sx.evolve(steps, jnp.array([[5.0], [-1.0]])).final.ravel().tolist()
    [2.0, 2.0]

    **Reference:** Geng et al. (2025), algorithm 2.
    """

    network: Any
    times: Array
    labels: Any
    length: int = eqx.field(static=True)

    def __init__(self, network: Any, times: Any, labels: Any = None):
        self.network, self.times, self.labels = as_pytree(network), jnp.asarray(times, float), labels
        if self.times.ndim != 1 or self.times.shape[0] < 2:
            got, do = f"shape {self.times.shape}", "Pass [1.0, 0.0] for one step."
            raise ValueError(explain("MeanFlowMap: times", got, "at least two falling times", do))
        if not is_traced(self.times):
            do = "Pass [1.0, 0.0] for one step."
            ranges.share("MeanFlowMap: times", self.times, do)
            if not (np.diff(np.asarray(self.times)) < 0).all():
                raise ValueError(explain("MeanFlowMap: times", "times that rise or repeat", "falling times", do))
        self.length = self.times.shape[0] - 1

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        x = jnp.asarray(state)
        times = self.times.astype(x.dtype)
        clock = jnp.stack([times[n + 1], times[n]])
        if self.labels is None:
            mean = jax.vmap(lambda point: self.network(clock, point))(x)
        else:
            mean = jax.vmap(lambda point, label: self.network(clock, point, label))(x, self.labels)
        return x - (times[n] - times[n + 1]) * mean


def transport_cost(prediction: Prediction, start: Array, *, steps: Checked[int] = 50) -> Array:
    r"""Return the kinetic energy of the flow from noise to data, for each point of the prior.

        int_0^T |v(t, x(t))|^2 dt

    For `StraightPath` its mean is at least the squared Wasserstein distance of data and noise, and equal to it if paths are
    straight and do not cross. By the trapezoidal rule along Heun's method.

    **Arguments:**

    - `prediction`: a `Prediction`. `start`: points of the prior, shape (B, ...). `steps`: how many.

    **Returns:** shape (B,).

    **Example:** all data at 3, all noise at 0: the distance squared.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> velocity = sx.diffusion.Prediction(sx.diffusion.StraightPath(), lambda t, x: jnp.full_like(x, -3.0), "velocity")
    >>> round(float(sx.diffusion.transport_cost(velocity, jnp.zeros((1, 1)))[0]), 9)
    9.0

    **Reference:** Benamou & Brenier, *A computational fluid mechanics solution to the Monge-Kantorovich problem* (2000).
    """
    count = ranges.whole("transport_cost: steps", steps, "Leave it out for 50.")
    return evolve(EnergyMap(prediction, count), (start, jnp.zeros(start.shape[0], start.dtype)), save="last").final[1]


class EnergyMap(FiniteMap):
    """Heun's method down the flow, and the trapezoidal rule for its squared speed."""

    prediction: Prediction
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        x, energy = state
        size = jnp.asarray(self.prediction.process.horizon, x.dtype) / self.length
        t = size * (self.length - jnp.asarray(n)).astype(x.dtype)
        first = self.prediction.velocity(t, x)
        second = self.prediction.velocity(t - size, x - size * first)
        speed = [jnp.sum((v**2).reshape(x.shape[0], -1), axis=1) for v in (first, second)]
        return x - size * (first + second) / 2, energy + size * (speed[0] + speed[1]) / 2
