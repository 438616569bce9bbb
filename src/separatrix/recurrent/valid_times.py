r"""For how long a forecast is valid: until its error is a part theta of the spread of the series.

Of a chaotic series an error of size e grows as e exp(lambda t) and reaches theta at about t = ln(theta/e)/lambda, so
that times are counted in Lyapunov times 1/lambda. They vary from start to start as the finite-time exponent does: a
mean is told with its spread over many starts.

**Reference:** Vlachas et al., *Backpropagation algorithms and reservoir computing in recurrent neural networks for the
forecasting of complex spatiotemporal dynamics* (2020), equation 10.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.recurrent.forecasting import Forecaster, along, checked_columns
from separatrix.systems import ranges


class ValidTime(Result):
    """How long forecasts stay good: `times`, one a start, in Lyapunov times (steps where no exponent was given); their
    `mean`, its standard `error`, and `spread`, the standard deviation over starts; `censored`: how many outlast the
    horizon."""

    times: Float[Array, " starts"]
    mean: Float[Array, ""]
    error: Float[Array, ""]
    spread: Float[Array, ""]
    censored: Array
    threshold: float = eqx.field(static=True)
    unit: str = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row(f"valid prediction time, {self.unit}", self.mean, self.error),
            Row("spread over starts", self.spread),
            Row("starts", str(len(self.times))),
            Row("threshold, in spreads of the series", self.threshold),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        many = int(self.censored)
        return (f"{many} forecasts outlast the horizon: the mean is a lower bound",) if many else ()


def valid_time(
    model: Forecaster,
    series: Any,
    starts: Any,
    horizon: Checked[int],
    *,
    listen: Checked[int],
    exponent: Any = None,
    threshold: Any = 0.4,
) -> ValidTime:
    r"""Measure for how long forecasts stay within a part of the spread of a series.

        t = first h with sqrt(mean over columns of ((forecast - truth)/s)^2) > threshold

    **Arguments:**

    - `model`: a `Forecaster`. `series`: shape (T, columns), the truth.
    - `starts`: row numbers after which forecasts begin, each at least `listen` and at most T - horizon.
    - `horizon`: rows of each forecast. `listen`: rows that the model hears before each.
    - `exponent`: largest Lyapunov exponent of the series in nats a row; times are then in Lyapunov times 1/exponent.
    - `threshold`: theta, in standard deviations of the series the model was trained on.

    **Returns:** a `ValidTime`. A forecast that is not finite is not valid.

    **Raises:** `ValueError` for starts outside their range, or numbers that are not positive.

    **Example:** a period-two series is forecast for ever.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> series = jnp.tile(jnp.array([1.0, -1.0]), 50)[:, None]
    >>> cell = sx.recurrent.Elman(1, 2, key=jax.random.key(0), activation="identity")
    >>> model = sx.recurrent.train_reservoir(cell, series, washout=4, ridge=0.0)
    >>> found = sx.recurrent.valid_time(model, series, [20, 31], 30, listen=10)
    >>> found.times.tolist(), int(found.censored)
    ([30.0, 30.0], 2)

    **Reference:** Vlachas et al., *Backpropagation algorithms and reservoir computing in recurrent neural networks for
    the forecasting of complex spatiotemporal dynamics* (2020), equation 10.
    """
    series = checked_columns("valid_time: series", series, model.cell, constant=True)
    horizon = ranges.whole("valid_time: horizon", horizon, "Say how many rows to forecast.")
    listen = ranges.whole("valid_time: listen", listen, "Say how many rows it hears before.")
    ranges.positive("valid_time: threshold", threshold, "Take 0.4.")
    if exponent is not None:
        ranges.positive("valid_time: exponent", exponent, "Leave it out for times in rows.")
    places = np.asarray(starts)
    if places.ndim != 1 or not places.size or not np.issubdtype(places.dtype, np.integer):
        raise ValueError(
            explain("valid_time: starts", repr(starts), "a list of row numbers", "Pass for example [500].")
        )
    wrong = (places < listen) | (places > len(series) - horizon)
    if wrong.any():
        expected, do = f"{listen} to {len(series) - horizon}", "Leave room to listen before and to compare after."
        raise ValueError(explain("valid_time: starts", int(places[wrong][0]), expected, do))
    heard = jnp.stack([series[at - listen : at] for at in places])
    truth = jnp.stack([series[at : at + horizon] for at in places])
    valid = jax.vmap(lambda past, future: _valid_rows(model, past, future, threshold))(heard, truth)
    unit = 1.0 if exponent is None else float(exponent)
    times = jnp.asarray(np.asarray(valid) * unit)
    count = len(places)
    spread = jnp.std(times, ddof=1) if count > 1 else jnp.asarray(jnp.nan)
    words = "rows" if exponent is None else "Lyapunov times"
    censored = jnp.sum(valid == horizon)
    return ValidTime(times, jnp.mean(times), spread / count**0.5, spread, censored, float(threshold), words)


@eqx.filter_jit
def _valid_rows(model: Forecaster, past: Any, future: Any, threshold: Any) -> Any:
    said = evolve(model.loop(), model.listen(past), steps=len(future) - 1, save=model.said).states
    found = model.unscaled(said)
    errors = jnp.sqrt(jnp.mean(((found - future) / along(model.scale, found)) ** 2, axis=1))
    return jnp.sum(jnp.cumprod(errors <= jnp.asarray(threshold, errors.dtype), dtype=int))
