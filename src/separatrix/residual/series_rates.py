r"""Rates of a series, and laws that need none.

Differences of second order have the error h^2 x'''/6, and noise of size s becomes s/(sqrt 2 h). A smoothing spline, or a
polynomial fitted in a moving window (Savitzky and Golay), trades bias for it. The weak form avoids the derivative: for
functions phi_k that vanish at the ends of a window

    - integral phi_k'(t) x(t) dt = Xi^T integral phi_k(t) Theta(x(t)) dt,

so that noise is averaged over the window and not divided by h.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.signal import savgol_filter

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.residual.discovery import Discovery, sparse_law
from separatrix.systems import ranges


def rates(
    times: Any,
    states: Any,
    how: Checked[Literal["differences", "spline", "savitzky-golay"]] = "differences",
    *,
    window: Checked[int] = 11,
    degree: Checked[int] = 3,
) -> tuple[Any, Any]:
    """Return states and rates dx/dt of a series, as `discover` takes them.

    **Arguments:**

    - `times`: shape (T,), increasing. `states`: shape (T, d), without gaps.
    - `how`: `"differences"` of second order, also of uneven times, and the states as they are; `"spline"`: a cubic
      smoothing spline through each column, its smoothness by generalised cross-validation, T >= 5; `"savitzky-golay"`: a
      polynomial of a `degree` in a moving `window`, an odd number of rows above the degree, of evenly spaced times.

    **Returns:** (states, rates), shape (T, d) each; the states smoothed as the rates are.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, times that do not increase (the row is
    named) or, for the moving window, are not even, and for a window or degree that does not fit.

    **Example:** a parabola has its rate by differences, whatever the times.

    >>> import numpy as np, separatrix as sx
    >>> times = np.array([0.0, 1.0, 1.5, 4.0])
    >>> sx.residual.rates(times, times[:, None] ** 2)[1].ravel().tolist()
    [0.0, 2.0, 3.0, 8.0]

    **Reference:** Savitzky & Golay, *Smoothing and differentiation of data by simplified least squares procedures* (1964);
    Woltring, *A Fortran package for generalized, cross-validatory spline smoothing* (1986).
    """
    times, states = _checked("rates", times, states, 5 if how == "spline" else 3)
    if how == "differences":
        return jnp.asarray(states), jnp.asarray(np.gradient(states, times, axis=0, edge_order=2))
    if how == "spline":
        curves = [make_smoothing_spline(times, column) for column in states.T]
        smooth = np.stack([curve(times) for curve in curves], axis=1)
        return jnp.asarray(smooth), jnp.asarray(np.stack([curve.derivative()(times) for curve in curves], axis=1))
    gaps = np.diff(times)
    if not np.allclose(gaps, gaps[0], rtol=1e-3):
        got = f"gaps from {gaps.min():g} to {gaps.max():g}"
        raise ValueError(explain("rates: times", got, "evenly spaced times for a moving window", 'Take how="spline".'))
    degree = ranges.whole("rates: degree", degree, "Take 3.")
    if not (window % 2 and degree < window <= len(times)):
        got, expected = f"{window} rows for degree {degree}", f"an odd number above the degree, at most {len(times)}"
        raise ValueError(explain("rates: window", got, expected, "Take for example 11."))
    smooth, slopes = (
        savgol_filter(states, window, degree, deriv=order, delta=float(gaps[0]), axis=0) for order in (0, 1)
    )
    return jnp.asarray(smooth), jnp.asarray(slopes)


def discover_weakly(
    times: Any, states: Any, library: Any, threshold: float, *, window: Checked[int] = 20, power: Checked[int] = 4
) -> Discovery:
    r"""Find a sparse law for a series without its rates: thresholded least squares on the weak form.

        -integral phi_k' x dt = Xi^T integral phi_k Theta(x) dt,    phi_k(t) = (1 - s^2)^q,  s = (t - c_k)/r in (-1, 1)

    **Arguments:**

    - `times`: shape (T,), increasing, evenly spaced or not. `states`: shape (T, d), without gaps.
    - `library`, `threshold`: as in `discover`. `window`: rows on either side of the centre of phi_k, 2 to (T - 1)/2; a
      centre stands on every row that has them. `power`: q >= 2, the smoothness of phi_k at its ends.

    **Returns:** a `Discovery`. Its standard errors take the rows of the weak form to be independent, which windows that
    overlap are not: they are too small.

    **Raises:** `ValueError` as `discover`, for a window that does not fit the series, and for fewer windows than terms.

    **Example:**

    >>> import numpy as np, separatrix as sx
    >>> times = np.linspace(0.0, 6.0, 301)
    >>> states = np.stack([np.cos(2 * times), np.sin(2 * times)], axis=1)
    >>> sx.residual.discover_weakly(times, states, sx.residual.Monomials("xy", 2), 0.1).equations
    ("x' = -2 y", "y' = 2 x")

    **Reference:** Messenger & Bortz, *Weak SINDy: Galerkin-based data-driven model selection* (2021), section 3, with
    equal windows.
    """
    times, states = _checked("discover_weakly", times, states, 5)
    window = ranges.whole("discover_weakly: window", window, "Take fewer rows.", least=2, most=(len(times) - 1) // 2)
    power = ranges.whole("discover_weakly: power", power, "Take 4.", least=2)
    ranges.nonnegative("discover_weakly: threshold", threshold, "Take 0 to keep all terms.")
    centres = np.arange(window, len(times) - window)
    count = len(library.labels)
    if states.shape[1] != len(library.names) or len(centres) < count:
        got = f"{states.shape[1]} columns and {len(centres)} windows"
        expected = f"{len(library.names)} columns and at least {count} windows, one a term"
        raise ValueError(explain("discover_weakly", got, expected, "Take a longer series or a smaller window."))
    places = centres[:, None] + np.arange(-window, window + 1)
    instants = times[places]
    middle, reach = (instants[:, :1] + instants[:, -1:]) / 2, (instants[:, -1:] - instants[:, :1]) / 2
    s = (instants - middle) / reach
    bump, slope = (1 - s**2) ** power, -2 * power * s * (1 - s**2) ** (power - 1) / reach
    weights = np.gradient(instants, axis=1)  # of the trapezoidal rule, whose ends count for nothing here
    terms = np.asarray(jax.vmap(library)(jnp.asarray(states)))
    ranges.finite("discover_weakly: the library's terms", terms, "Scale the variables, or take a lower degree.")
    left = np.einsum("kj,kjp->kp", weights * bump, terms[places])
    right = -np.einsum("kj,kjd->kd", weights * slope, states[places])
    return sparse_law("discover_weakly", jnp.asarray(left), jnp.asarray(right), library, threshold)


def _checked(where: str, times: Any, states: Any, least: int) -> tuple[Any, Any]:
    times, states = np.asarray(times, float), np.asarray(states, float)
    if times.ndim != 1 or states.ndim != 2 or len(times) != len(states) or len(times) < least:
        got = f"times {times.shape} and states {states.shape}"
        raise ValueError(explain(where, got, f"times (T,) and states (T, d), T >= {least}", "Pass one series."))
    ranges.finite(f"{where}: times", times, "Drop rows without a time.")
    ranges.finite(f"{where}: states", states, "Fill gaps, or cut the series there.")
    rises = np.diff(times) > 0
    if not rises.all():
        row = int(np.argmin(rises)) + 1
        got = f"{times[row]:g} in row {row} after {times[row - 1]:g}"
        raise ValueError(explain(f"{where}: times", got, "times that increase", "Sort them and drop repeats."))
    return times, states
