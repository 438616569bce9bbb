r"""Training between the truth and one's own forecasts: forced loops.

    x[n+1] = F(x[n], (1 - a) R (1, x[n]) + a u[n]),      a in [0, 1]

a = 1 is teacher forcing: the net hears what is true, and never learns to live with what it says itself. a = 0 is the
free loop, whose gradients, along a chaotic series, explode as its perturbations do. Between them a forced loop has the
Jacobian F_x + (1 - a) F_u R: the least strength for which its largest exponent, along the series, is not positive lets
gradients come back, and hears as little of the truth as that allows. For a cell that only passes on what it hears, x'
= u, with R of one number r > 1 it is a = 1 - 1/r. Scheduled forcing lowers a from stage to stage of `fit`.

**Reference:** Hess, Monfared, Brenner & Durstewitz, *Generalized teacher forcing for learning chaotic dynamics* (2023),
sections 3 and 4, there of the state, here of the input; Bengio et al., *Scheduled sampling* (2015), with a mean for a
draw.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar, State, StepIndex
from separatrix.diagnostics.along.lyapunov_spectrum import lyapunov_spectrum
from separatrix.evolution import evolve
from separatrix.recurrent.forecasting import Forecaster, checked_columns
from separatrix.recurrent.nets import exposed
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.cells import from_cell
from separatrix.systems.driving import drive
from separatrix.systems.open import OpenMap


class ForcedLoop(OpenMap):
    """x' = F(x, (1 - a) R (1, x) + a u), with the scaled truth u as its input; a is a leaf."""

    model: Forecaster
    strength: Scalar

    def step(self, n: StepIndex, state: State, inputs: Any, *, key: Key | None = None) -> State:
        said = self.model.said(state)
        a = jnp.asarray(self.strength, said.dtype)
        return self.model.cell((1 - a) * said + a * inputs, state)


def forced_loss(model: Forecaster, batch: Any, strength: Any, *, listen: Checked[int] = 0) -> Scalar:
    r"""Return the mean squared error of the next value, scaled, of a forced loop: a loss for `fit`.

    **Arguments:**

    - `model`: a `Forecaster`. `batch`: shape (B, T + 1, columns). `strength`: a from 0 to 1, which may be traced.
    - `listen`: rows at first of each piece that are heard as they are, and are not counted: a loop that hears little of
      the truth must first know where it is.

    **Returns:** a scalar; at a = 1 that of `next_value_loss`.

    **Raises:** `ValueError` for a batch of another shape, or a strength outside [0, 1].

    **Example:** with the truth alone, and with half of it.

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> pieces = jnp.sin(0.5 * jnp.arange(60.0)).reshape(3, 20, 1)
    >>> model = sx.recurrent.forecaster(eqx.nn.GRUCell(1, 4, key=jax.random.key(0)), pieces[0], key=jax.random.key(1))
    >>> whole, half = (sx.recurrent.forced_loss(model, pieces, a) for a in (1.0, 0.5))
    >>> bool(jnp.allclose(whole, sx.recurrent.next_value_loss(model, pieces))), bool(whole == half)
    (True, False)

    **Reference:** Hess et al. (2023), equation 4.
    """
    ranges.share("forced_loss: strength", strength, "Take 1 for teacher forcing.")
    batch = jnp.asarray(batch)
    if batch.ndim != 3 or batch.shape[1] < 2:
        do = "Cut the series into pieces of at least two rows."
        raise ValueError(explain("forced_loss: batch", f"shape {batch.shape}", "(B, T + 1, columns), T >= 1", do))
    most = batch.shape[1] - 2
    listen = ranges.whole("forced_loss: listen", listen, "Take fewer rows than a piece has.", least=0, most=most)
    scaled, loop = jax.vmap(model.heard)(batch), ForcedLoop(model, as_parameter(strength))

    def said(piece: Any) -> Any:
        first = model.initial
        if listen:
            first = evolve(from_cell(model.cell, piece[:listen]), first, save="last").final
        hidden: Any = evolve(drive(loop, piece[listen:-1]), first, save=exposed).states[1:]
        return jax.vmap(model.said_of)(hidden)

    return jnp.mean((jax.vmap(said)(scaled) - scaled[:, listen + 1 :]) ** 2)


def forcing_strength(model: Forecaster, series: Any, *, halvings: Checked[int] = 8) -> float:
    r"""Return the least strength for which the forced loop does not part orbits along a series: its exponent is 0.

    **Arguments:**

    - `model`: a `Forecaster`. `series`: shape (T, columns), T >= 32.
    - `halvings`: of the interval that holds it: it is known to 2^-halvings.

    **Returns:** a in [0, 1]: 0 where the free loop has no positive exponent, 1 where even the truth alone has one.

    **Raises:** `ValueError` for a series that does not fit the model, or is too short.

    **Example:** see the head of this page: 1 - 1/1.6.

    >>> import equinox as eqx, jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Elman(1, 1, key=jax.random.key(0), activation="identity")
    >>> cell = eqx.tree_at(lambda c: (c.weight_hh, c.weight_ih), cell, (jnp.zeros((1, 1)), jnp.ones((1, 1))))
    >>> series = jnp.sin(jnp.arange(64.0))[:, None]
    >>> model = sx.recurrent.forecaster(cell, series, key=jax.random.key(1))
    >>> model = eqx.tree_at(lambda m: m.readout, model, jnp.array([[0.0, 1.6]]))
    >>> abs(sx.recurrent.forcing_strength(model, series) - 0.375) < 2**-7
    True

    **Reference:** Hess et al. (2023), section 4.2, with the exponent for the bound on norms.
    """
    series = checked_columns("forcing_strength: series", series, model.cell, constant=True)
    halvings = ranges.whole("forcing_strength: halvings", halvings, "Take 8.")
    if len(series) < 32:
        do = "Pass a longer piece of the series."
        raise ValueError(explain("forcing_strength: series", f"{len(series)} rows", "at least 32", do))
    heard = model.heard(series)

    def parts(strength: float) -> bool:
        loop = drive(ForcedLoop(model, as_parameter(strength)), heard)
        return float(lyapunov_spectrum(loop, model.initial, count=1).exponents[0]) > 0

    if not parts(0.0):
        return 0.0
    low, high = 0.0, 1.0
    if parts(high):
        return 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if parts(middle) else (low, middle)
    return high
