"""Section of the third chapter about forecasts: a reservoir learns the Lorenz system, and its forecast ends in time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import separatrix as sx
from separatrix.plotting import figure
from separatrix.plotting.style import COLOURS, label
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.measure.recurrent import growth_of_errors

# Of the Lorenz system: its largest exponent (Sprott 2003), and rows of the series a unit of time.
_EXPONENT, _SPACING = 0.9056, 0.02
_STARTS, _AHEAD, _HEARD = 20, 700, 200


def _forecast_lorenz(series):
    """A reservoir of 300 units, whose readout is solved for, and 20 forecasts of rows that it was not trained on."""
    cell = sx.recurrent.reservoir(3, 300, key=jax.random.key(0), spectral_radius=0.4, input_gain=0.3, bias_gain=1.0)
    model = sx.recurrent.train_reservoir(cell, series[:5000], washout=200, ridge=1e-10)
    starts = 5400 + 300 * np.arange(_STARTS)
    valid = sx.recurrent.valid_time(model, series, starts, _AHEAD, listen=_HEARD, exponent=_EXPONENT * _SPACING)
    return model, starts, valid


def _errors(model: Any, series: Any, starts: Any) -> Any:
    """Distance of each forecast from the truth in spreads of the series, (starts, rows)."""
    heard = jnp.stack([series[at - _HEARD : at] for at in starts])
    truth = np.stack([series[at : at + _AHEAD] for at in starts])

    def said(past: Any) -> Any:
        path = sx.evolve(model.loop(), model.listen(past), steps=_AHEAD - 1, save=model.said)
        return model.unscaled(path.states)

    found = np.asarray(jax.jit(jax.vmap(said))(heard))
    return np.sqrt(np.mean(((found - truth) / np.asarray(model.scale)) ** 2, axis=2))


def forecast(say: Callable[[str], None]) -> Section:
    """A forecast that ends where the exponent says."""
    say("a reservoir forecasts the Lorenz system")
    lorenz = sx.catalogue.entry("lorenz").build()
    times = np.arange(0, 260, _SPACING)
    series = jnp.asarray(sx.evolve(lorenz, jnp.ones(3), times=times).states[1000:], jnp.float64)
    model, starts, valid = _forecast_lorenz(series)
    errors = _errors(model, series, starts)
    # From where a forecast has gone wrong a little to where nearly all are still small beside the series.
    begin, end = 1.5, 4.0
    first, last = (round(at / (_EXPONENT * _SPACING)) for at in (begin, end))
    rate, error = growth_of_errors(errors, first, last, _SPACING)
    # Each step adds an error of its own, so that errors grow as e^t - 1, in Lyapunov times, and not as e^t.
    law = _EXPONENT * float(np.log(np.expm1(end) / np.expm1(begin))) / (end - begin)
    level = np.exp(np.mean(np.log(errors), axis=0))
    told = float(np.log1p(valid.threshold / level[first] * np.expm1(begin)))
    mean, bar = float(valid.mean), float(valid.error)
    fig = _draw(errors, level, valid)
    text = f"""
        A net of 300 random units hears the Lorenz system for 100 units of time, and one linear solve teaches it to say
        the next row. Then it hears itself. It has learned the flow, not the orbit: each step adds a small error, and all
        grow by a factor e in each Lyapunov time, 1/{_EXPONENT} units, whatever the net, so that each tenfold smaller error
        buys only 2.3 of these.

        {_STARTS} forecasts from rows that were not trained on stay within {valid.threshold:g} spreads of the series for
        {mean:.1f} Lyapunov times on average, some for {float(jnp.min(valid.times)):.1f}, others for
        {float(jnp.max(valid.times)):.1f}: chaos is not equally fast everywhere.
    """
    checks = (
        Check("rate at which errors grow, from the exponent of the Lorenz system", rate, law, 3 * error),
        Check("valid time, Lyapunov times, from the error at 1.5", mean, told, 3 * bar + 0.5),
        Check("forecasts that outlast the horizon", float(valid.censored), 0.0, relation="<="),
    )
    equation = r"x_{n+1} = F(x_n,\,R\,x_n),\qquad |e(t)| \approx \varepsilon\,(e^{\Lambda_1 t} - 1)"
    caption = "Left: errors of 20 forecasts (thin), their geometric mean, and its law. Right: valid times."
    return Section(
        "A forecast ends where the exponent says", text, equation, fig, caption, source(_forecast_lorenz), checks
    )


def _draw(errors: Any, level: Any, valid: Any) -> Any:
    """Errors over time with the slope of the exponent, and how long forecasts were valid."""
    fig, (left, right) = figure(2)
    times = _EXPONENT * _SPACING * np.arange(1, _AHEAD + 1)
    for row in errors:
        left.semilogy(times, row, color="0.8", linewidth=0.6)
    left.semilogy(times, level, color=COLOURS[0], label="geometric mean")
    place = int(np.searchsorted(times, 1.5))
    end = int(np.searchsorted(level, 1.0)) or len(level)
    slope = level[place] * np.expm1(times[:end]) / np.expm1(times[place])
    left.semilogy(times[:end], slope, color=COLOURS[1], linestyle="--", label="from the exponent")
    left.axhline(valid.threshold, color="0.3", linewidth=0.8)
    left.legend(fontsize=8, frameon=False)
    label(left, "Lyapunov times", "error, in spreads of the series")
    right.hist(np.asarray(valid.times), bins=8, color=COLOURS[0])
    right.axvline(float(valid.mean), color=COLOURS[1], linewidth=1.5)
    label(right, "valid prediction time, Lyapunov times", "forecasts")
    return fig
