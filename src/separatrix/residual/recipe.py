r"""Recipe `law`: which equation does a series follow?

    dx/dt = Xi^T Theta(x),     Theta the monomials up to a degree

in scaled variables: each column over its root mean square, rates over theirs. Which terms there are is found on central
differences of the series, by sequentially thresholded least squares at a ladder of thresholds: the law is the shortest one
whose residual is at most `tolerance` times that of all terms. Their coefficients are then fitted by multiple shooting,
which has no error of differences.

Times need not be even. Rates are then those of a cubic smoothing spline through each column.

**Reference:** Woltring, *A Fortran package for generalized, cross-validatory spline smoothing* (1986), by SciPy's
`make_smoothing_spline`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.interpolate import make_smoothing_spline

from separatrix._errors import DataError, explain
from separatrix.calculus import on_grid
from separatrix.calculus.methods import RK4
from separatrix.data.dataset import digest
from separatrix.evolution import evolve
from separatrix.residual.discovery import Discovery, LibraryFlow, Monomials, discover
from separatrix.residual.series_files import series_at
from separatrix.residual.shooting import Segments, fine_grid, segments, trajectory_loss
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.results import rms
from separatrix.training.recipes.training import length_of, require_counts, require_same_data

_RIGHT = {
    "degree": "1 to 5", "tolerance": "at least 1", "fraction": "0.2 to 1", "threshold": "0 or more",
    "substeps": "at least 1", "patience": "none: no part of a series validates",
}  # fmt: skip
_LADDER = np.geomspace(0.01, 5.0, 40)  # thresholds, in scaled units where a term of size 1 makes a typical rate


class Law(eqx.Module):
    """Coefficients Xi, shape (p, d), of the terms that the law has; the others are none."""

    coefficients: Any
    terms: Any  # bool

    @property
    def kept(self) -> Any:
        """Xi with zeros for terms that there are not."""
        return jnp.where(self.terms, self.coefficients, 0.0)


@register_recipe("law")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LawRecipe(Training):
    """Find the equation that a series follows, and write it out."""

    epochs: int = 1000
    """How often every piece of the series is used, if `steps` is not given."""
    learning_rate: float = 0.02
    """Of Adam."""
    times: str | None = None
    """The column of the times; the one called time, t, year or date, else the first."""
    values: tuple[str, ...] = ()
    """The columns that the law is about; all others by default."""
    experiment: str | None = None
    """The column that says which experiment a row belongs to."""
    degree: int = 2
    """The highest degree of a term."""
    threshold: float | None = None
    """The smallest scaled coefficient that is kept; chosen by `tolerance` if it is left out."""
    tolerance: float = 1.5
    """The law has the fewest terms whose residual is at most so many times that of all terms."""
    length: int = 5
    """Rows that a piece of the series is followed over."""
    substeps: int = 4
    """Steps of Runge and Kutta from row to row."""
    fraction: float = 0.85
    """The part of each experiment that trains; what comes later tests."""
    scales: tuple[float, ...] = ()
    """Settled: the root mean square of each column in training."""
    rate: float = 1.0
    """Settled: the root mean square of the scaled rates."""
    spacing: float = 0.0
    """Settled: the time from row to row; the median, where it varies."""
    terms: tuple[tuple[int, ...], ...] = ()
    """Settled: for each column, the numbers of the terms that its equation has."""
    last: tuple[float, ...] = ()
    """Settled: time and values of the last row."""

    def settled(self) -> "LawRecipe":
        """The recipe with scales and terms in its fields."""
        require_counts(self)
        for name, value, right in (
            ("degree", self.degree, 1 <= self.degree <= 5),
            ("tolerance", self.tolerance, self.tolerance >= 1),
            ("fraction", self.fraction, 0.2 <= self.fraction <= 1),
            ("patience", self.patience, self.patience is None),
            ("threshold", self.threshold, self.threshold is None or self.threshold >= 0),
            ("substeps", self.substeps, self.substeps >= 1),
        ):
            if not right:
                expected = _RIGHT[name]
                raise ValueError(explain(f"law: {name}", value, expected, "Repair the value."))
        orbits, columns, code = self._orbits()
        train = [self._part(times, states)[0] for times, states in orbits]
        scales = np.sqrt(np.mean(np.concatenate([states for _, states in train]) ** 2, axis=0))
        flat = next((name for name, scale in zip(columns, scales, strict=True) if not scale > 0), None)
        if flat is not None:
            do = "Leave it out: name the others by --values"
            raise DataError(explain(f"{self.data}: column {flat!r}", "zero in every row", "values that change", do))
        points = np.concatenate([states / scales for _, states in train])
        rates = np.concatenate([_rates(t, s / scales) for t, s in train])
        rate = float(np.sqrt(np.mean(rates**2)))
        if not rate > 0:
            raise DataError(explain(str(self.data), "a series that does not change", "one that does", "Name another."))
        chosen = self._shortest(Monomials(columns, self.degree), points, rates / rate)
        terms = tuple(tuple(int(i) for i in np.flatnonzero(column)) for column in chosen.T)
        times, states = orbits[-1]
        return dataclasses.replace(
            self, values=columns, scales=tuple(map(float, scales)), rate=rate, spacing=float(np.median(np.diff(times))),
            terms=terms, last=(float(times[-1]), *map(float, states[-1])), digest=code,
        )  # fmt: skip

    def task(self) -> Task:
        """The squared distance of pieces of the series, each followed from where it was observed."""
        orbits = [self._part(times, states)[0] for times, states in self._orbits()[0]]
        train = _pieces(orbits, self.length, self.scales)
        size = self.batch_size if self.batch_size < len(train.times) else None
        loss = trajectory_loss(self._scaled_flow, substeps=self.substeps)
        options = {"batch_size": size} | length_of(self)
        return Task(loss, self._first(orbits), train, optax.adam(self.learning_rate), options)

    def model(self, key: Any) -> Law:
        """A law with the terms of the recipe and coefficients of zero."""
        mask = np.zeros((len(self._library.labels), len(self.values)), bool)
        for column, numbers in enumerate(self.terms):
            mask[list(numbers), column] = True
        return Law(jnp.zeros(mask.shape), jnp.asarray(mask))

    def results(self, model: Any) -> dict[str, Any]:
        """The equations, their error on later rows, and the law over the data."""
        orbits, _, _ = self._orbits()
        squares = [self._errors(model, *self._part(t, s)) for t, s in orbits] if self.fraction < 1 else []
        squares = np.concatenate(squares) if squares else np.zeros(0)
        test = {}
        if squares.size:
            about = "of rows ahead of the last that trained, in parts of a column's size"
            test["rms_error"] = rms(squares, about)
        equations = list(self.law(model).equations)
        pictures = [self._picture(model, times, states) for times, states in orbits[:4]]
        return {"test": test, "text": equations, "pictures": [{"kind": "equations", "lines": equations}, *pictures]}

    def law(self, model: Any) -> Discovery:
        """The law in the units of the file."""
        scales, library = np.asarray(self.scales), self._library
        units = np.prod(scales[None, :] ** np.asarray(library.exponents), axis=1)  # (p,), of each term
        table = np.asarray(model.kept, float) * self.rate * scales[None, :] / units[:, None]
        return Discovery(library, jnp.asarray(table), float("nan"))

    def predict(self, model: Any, path: Path) -> dict[str, Any]:
        """The values at the times of a file, from those of its first row."""
        times, states = dataclasses.replace(self, data=path, digest="", scales=())._orbits()[0][0]
        return self._columns(times, self._path(model, times, states[0]))

    def forecast(self, model: Any, steps: int) -> dict[str, Any]:
        """The next rows, from the last row of the series."""
        if steps < 1:
            raise ValueError(explain("forecast: steps", steps, "at least 1", "Say how many rows to go on."))
        start, *state = self.last
        times = start + self.spacing * np.arange(steps + 1)
        return self._columns(times[1:], self._path(model, times, np.asarray(state))[1:])

    def diagnose(self, model: Any) -> tuple[Any, Any]:
        """The law as a flow, and the last row: a system to ask questions of."""
        return self.law(model).flow, jnp.asarray(self.last[1:])

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], Any]:
        """The velocity for a batch of states, and what one state is."""
        flow = self.law(model).flow
        return lambda states: jax.vmap(lambda x: flow.velocity(0.0, x))(states), (len(self.values),), "float32"

    @property
    def _library(self) -> Monomials:
        return Monomials(self.values, self.degree)

    def _scaled_flow(self, model: Any) -> LibraryFlow:
        return LibraryFlow(self._library, model.kept * self.rate)

    def _shortest(self, library: Any, points: Any, rates: Any) -> Any:
        """Which terms the law has, shape (p, d): of the ladder of laws the shortest that is good enough."""
        if self.threshold is not None:
            return np.asarray(discover(points, rates, library, self.threshold).coefficients) != 0
        laws = [discover(points, rates, library, float(threshold)) for threshold in (0.0, *_LADDER)]
        masks = [np.asarray(law.coefficients) != 0 for law in laws]
        enough = self.tolerance * laws[0].residual + 1e-12
        good = [mask for mask, law in zip(masks, laws, strict=True) if law.residual <= enough]
        return min(good, key=lambda mask: int(mask.sum()))

    def _first(self, orbits: list[tuple[Any, Any]]) -> Law:
        """The terms with their coefficients by least squares on rates."""
        law, scales = self.model(None), np.asarray(self.scales)
        points = jnp.asarray(np.concatenate([states / scales for _, states in orbits]))
        rates = jnp.asarray(np.concatenate([_rates(times, states / scales) for times, states in orbits]) / self.rate)
        table = jax.vmap(self._library)(points)
        columns = [
            jnp.linalg.lstsq(jnp.where(law.terms[:, j], table, 0.0), rates[:, j])[0] for j in range(len(self.values))
        ]
        return Law(jnp.where(law.terms, jnp.stack(columns, axis=1), 0.0), law.terms)

    def _part(self, times: Any, states: Any) -> tuple[Any, Any]:
        """Rows that train, and rows that test, beginning with the last that trained."""
        end = max(round(len(times) * self.fraction), self.length + 1)
        return (times[:end], states[:end]), (times[end - 1 :], states[end - 1 :])

    def _errors(self, model: Any, _: Any, test: Any) -> Any:
        """Squared scaled errors of the rows that test, followed from the last that trained."""
        times, states = test
        if len(times) < 2:
            return np.zeros(0)
        path = self._path(model, times, states[0])
        errors = ((path - states) / np.asarray(self.scales))[1:] ** 2
        return (
            np.where(np.isfinite(errors), errors, np.inf).ravel() if not np.isfinite(errors).all() else errors.ravel()
        )

    def _path(self, model: Any, times: Any, start: Any) -> Any:
        """The law from a row on, at increasing times; NaN past where it breaks."""
        scales, substeps = np.asarray(self.scales), 2 * self.substeps
        begin = jnp.asarray(np.asarray(start, float) / scales)
        steps = on_grid(self._scaled_flow(model), RK4(), fine_grid(jnp.asarray(times), substeps))
        path = evolve(steps, begin, save=substeps)
        return np.asarray(path.states, float) * scales

    def _picture(self, model: Any, times: Any, states: Any) -> dict[str, Any]:
        train = len(self._part(times, states)[0][0])
        path = self._path(model, times, states[0])
        return {
            "kind": "orbit", "names": list(self.values), "times": times.tolist(), "observed": states.T.tolist(),
            "law": [[v if np.isfinite(v) else None for v in row] for row in path.T.tolist()],
            "border": float(times[min(train, len(times)) - 1]),
        }  # fmt: skip

    def _columns(self, times: Any, path: Any) -> dict[str, Any]:
        broken = int(np.sum(~np.isfinite(path).all(axis=1)))
        notes = [f"the law leaves all bounds {broken} rows before the end"] if broken else []
        named = {name: path[:, i].tolist() for i, name in enumerate(self.values)}
        return {"columns": {self.times or "time": np.asarray(times).tolist()} | named, "notes": notes}

    def _orbits(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...], str]:
        """Times and values of each experiment, the columns, and the digest of them all."""
        found, _ = series_at(self.data, self.times, self.values, self.experiment)
        orbits = [_require_whole(str(self.data), one, self.length) for one in found]
        code = digest(
            {f"{kind}{i}": part for i, one in enumerate(orbits) for kind, part in zip("tx", one, strict=True)}
        )
        require_same_data(self, code)
        return orbits, found.names, code


def _require_whole(where: str, one: Any, length: int) -> tuple[Any, Any]:
    """Times and values of an experiment without gaps."""
    gaps = np.argwhere(~one.present)
    if len(gaps):
        do = "Fill it in, leave the column out, or cut the series there."
        got = f"a gap in row {gaps[0][0] + 1} of the series"
        raise DataError(explain(f"{where}: {one.name}", got, "a value in each row", do))
    if len(one) < length + 2:
        do = "Take a longer series, or a smaller --length."
        raise DataError(explain(f"{where}: {one.name}", f"{len(one)} rows", f"at least {length + 2}", do))
    return one.times, one.values


def _is_even(times: Any) -> bool:
    steps = np.diff(times)
    return bool(np.allclose(steps, steps[0], rtol=1e-3))


def _rates(times: Any, states: Any) -> Any:
    """dx/dt at each row: by central differences of even times, else by smoothing splines."""
    if _is_even(times):
        return np.gradient(states, times, axis=0, edge_order=2)
    return np.stack([make_smoothing_spline(times, column).derivative()(times) for column in states.T], axis=1)


def _pieces(orbits: list[tuple[Any, Any]], length: int, scales: tuple[float, ...]) -> Segments:
    """All overlapping pieces of the orbits, scaled."""
    parts = [segments(times - times[0], states / np.asarray(scales), length) for times, states in orbits]
    return Segments(*(jnp.concatenate([getattr(part, name) for part in parts]) for name in ("times", "states")))
