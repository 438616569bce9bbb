r"""Latent ODEs: many irregular series, one flow, and of each series a start that is guessed from what was seen.

    q(z_0 | rows) = N(m, s^2),  (m, s) from a recurrent net that reads the rows backwards,
    dz/dt = f(z),      x(t) = D(z(t)),

trained together by the evidence lower bound of each series, with noise of size sigma in what is seen,

    -ELBO = E_q sum_j |x(t_j) - y_j|^2/(2 sigma^2) + KL(q || N(0, 1)),
    KL = sum_k (m_k^2 + s_k^2 - 1)/2 - log s_k.

Rows carry the time to the next row that was read, and which of their values there were: gaps and uneven times are told, not
filled in.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from separatrix._types import Checked, Function, Key, State, StepIndex
from separatrix.calculus import on_grid
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.residual.shooting import fine_grid
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap


class LatentODE(eqx.Module):
    r"""x(t) = D(z(t)), dz/dt = f(t, z), with z at the first row guessed from the rows.

    **Arguments:**

    - `reader`: a recurrent cell h <- c(row, h) for rows of 2 d + 1 numbers, as `equinox.nn.GRUCell(2 * d + 1, hidden)`: the
      values with 0 for gaps, which there were, and the time since the row before.
    - `guess`: from h, shape (hidden,), to (m, log s), shape (2 latent,).
    - `flow`: a `Flow` on z, shape (latent,), as `NeuralODE(field)`. `decoder`: from z to what is seen, shape (d,).
    - `hidden`: the size of h. `substeps`: steps of RK4 between two instants, >= 1.

    **Raises:** `ValueError` for a size or substeps below 1.

    **Example:** what is guessed of a start, and the values at instants of one's own.

    >>> import equinox as eqx, jax, jax.numpy as jnp, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0), 4)
    >>> model = sx.residual.LatentODE(
    ...     eqx.nn.GRUCell(3, 8, key=keys[0]), eqx.nn.Linear(8, 4, key=keys[1]),
    ...     sx.residual.NeuralODE(eqx.nn.MLP(2, 2, 8, 1, key=keys[2])), eqx.nn.Linear(2, 1, key=keys[3]), hidden=8,
    ... )
    >>> mean, spread = model.start(jnp.array([0.0, 0.4, 1.0]), jnp.array([[1.0], [jnp.nan], [0.5]]))
    >>> model.values(mean, jnp.array([0.0, 0.5, 2.0, 3.0])).shape
    (4, 1)

    **Reference:** Chen, Rubanova, Bettencourt & Duvenaud, *Neural ordinary differential equations* (2018), section 5;
    Rubanova, Chen & Duvenaud, *Latent ODEs for irregularly-sampled time series* (2019), section 3.
    """

    reader: Function
    guess: Function
    flow: Flow
    decoder: Function
    hidden: Checked[int] = eqx.field(static=True)
    substeps: Checked[int] = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        ranges.whole("LatentODE: hidden", self.hidden, "Take the size of the reader's state.")
        ranges.whole("LatentODE: substeps", self.substeps, "Leave it out for 1.")

    def start(self, times: Inexact[Array, " T"], values: Inexact[Array, "T d"]) -> tuple[Any, Any]:
        """Mean and spread of z at the first instant, from rows with NaN where nothing was seen."""
        present = ~jnp.isnan(values)
        gaps = jnp.diff(times, prepend=times[:1])
        rows = jnp.concatenate([jnp.where(present, values, 0), present.astype(values.dtype), gaps[:, None]], axis=1)
        reading = ReadBackwards(self.reader, rows, len(rows))
        told = self.guess(evolve(reading, jnp.zeros(self.hidden, values.dtype), save="last").final)
        mean, log_spread = jnp.split(told, 2)
        return mean, jnp.exp(log_spread)

    def values(self, start: Inexact[Array, " latent"], times: Inexact[Array, " T"]) -> Inexact[Array, "T d"]:
        """What is seen at increasing times, from z at the first of them; NaN past a break."""
        steps = on_grid(self.flow, RK4(), fine_grid(times, self.substeps))
        return jax.vmap(self.decoder)(evolve(steps, start, save=self.substeps).states)


class ReadBackwards(FiniteMap):
    """h <- c(row, h), from the last row to the first."""

    reader: Function
    rows: Any
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.reader(self.rows[self.length - 1 - jnp.asarray(n)], state)


def latent_loss(noise: float) -> Function:
    r"""Return the negative evidence lower bound of a `LatentODE`, one draw of each start, over the number of values seen.

    **Arguments:**

    - `noise`: sigma > 0, the spread of what is seen about D(z).

    **Returns:** l(model, (times, values), *, key) for `fit`, with times (N, T) and values (N, T, d), NaN where nothing was
    seen. Without a key the starts are their means.

    **Raises:** `ValueError` for a noise that is not positive and finite.

    **Example:**

    >>> import separatrix as sx
    >>> loss = sx.residual.latent_loss(0.1)

    **Reference:** Kingma & Welling, *Auto-encoding variational Bayes* (2014), equation 10.
    """
    ranges.positive("latent_loss: noise", noise, "Take the size of what is left of a good fit.")

    def one(model: LatentODE, times: Any, values: Any, key: Any) -> tuple[Any, Any]:
        mean, spread = model.start(times, values)
        drawn = mean if key is None else mean + spread * jax.random.normal(key, mean.shape, mean.dtype)
        found, present = model.values(drawn, times), ~jnp.isnan(values)
        broken = jnp.any(jnp.isnan(found))
        squares = jnp.sum(jnp.where(present, found - jnp.where(present, values, 0), 0) ** 2)
        divergence = jnp.sum((mean**2 + spread**2 - 1) / 2 - jnp.log(spread))
        bound = squares / jnp.asarray(2 * noise**2, squares.dtype) + divergence
        return jnp.where(broken, jnp.nan, bound), jnp.sum(present)

    def loss(model: LatentODE, batch: Any, *, key: Any = None) -> Any:
        times, values = batch
        keys = None if key is None else jax.random.split(key, len(times))
        bounds, counts = jax.vmap(lambda t, y, k: one(model, t, y, k))(times, values, keys)
        return jnp.sum(bounds) / jnp.maximum(jnp.sum(counts), 1).astype(bounds.dtype)

    return loss
