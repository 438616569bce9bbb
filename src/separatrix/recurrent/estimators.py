r"""Estimators: reservoirs, forecasters and classifiers of sequences behind `fit` and `predict`.

    ReservoirRegressor            rows of a table in the order of time:  y[n] = R (1, x[n+1]),  x[n+1] = F(x[n], u[n])
    SequenceForecaster            a series:  u[T], u[T + 1], ... = the closed loop after u[0..T-1]
    SequenceClassifierEstimator   sequences, padded alike:  the likeliest class of R x[T]

They keep scikit-learn's contract without inheriting from it: parameters are kept as they are given, what is learned
ends in an underscore, `get_params`, `set_params` and tags are there for `clone`, pipelines and searches. scikit-learn
is imported when its tools ask, and for nothing else.

**Reference:** Buitinck et al., *API design for machine learning software: experiences from the scikit-learn project*
(2013).
"""

import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import explain, unknown
from separatrix.recurrent.calibration import held_out_errors
from separatrix.recurrent.forecasting import SeriesForecast, forecast, train_reservoir
from separatrix.recurrent.recipe import CELLS
from separatrix.recurrent.reservoirs import collected, reservoir, ridge_readout
from separatrix.recurrent.sequence import SequenceClassifier
from separatrix.training.fitting import fit as fit_model


class ReservoirRegressor:
    r"""A reservoir that hears the rows of a table one after another, and a linear readout of its state.

    **Arguments:**

    - `units`, `spectral_radius`, `leak`, `input_gain`, `bias_gain`: of `reservoir`. Columns are scaled before they are
      heard. `ridge`: of the readout.
    - `washout`: rows at first from which it does not learn; 0 learns from all.
    - `seed`: of the random weights.

    What it predicts of a row depends on the rows before it: `predict` begins at rest, so that a table is to be given
    whole and in order.

    **Example:** the sum of the last two inputs.

    >>> import numpy as np, separatrix as sx
    >>> x = np.random.default_rng(0).standard_normal((400, 1))
    >>> y = x[:, 0] + np.append(0.0, x[:-1, 0])
    >>> net = sx.recurrent.ReservoirRegressor(units=50, input_gain=0.1).fit(x[:300], y[:300])
    >>> net.score(x[300:], y[300:]) > 0.95
    True

    **Reference:** Lukosevicius (2012).
    """

    def __init__(self, units: Any = 100, spectral_radius: Any = 0.9, leak: Any = 1.0, input_gain: Any = 0.5,
                 bias_gain: Any = 0.2, ridge: Any = 1e-6, washout: Any = 0, seed: Any = 0):  # fmt: skip
        self.units, self.spectral_radius, self.leak = units, spectral_radius, leak
        self.input_gain, self.bias_gain, self.ridge = input_gain, bias_gain, ridge
        self.washout, self.seed = washout, seed

    def fit(self, X: Any, y: Any) -> "ReservoirRegressor":
        """Learn the readout from rows X, shape (T, columns), and targets y, shape (T,) or (T, outputs)."""
        from sklearn.utils.validation import validate_data

        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        y = np.asarray(y, float)
        if not 0 <= self.washout < len(X):
            do = "Take a shorter washout, or more rows."
            raise ValueError(explain("ReservoirRegressor: washout", self.washout, f"0 to below {len(X)} rows", do))
        self.mean_, self.scale_ = X.mean(axis=0), np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
        self.cell_ = reservoir(
            X.shape[1], self.units, key=jax.random.key(self.seed), spectral_radius=self.spectral_radius, leak=self.leak,
            input_gain=self.input_gain, bias_gain=self.bias_gain, dtype=_widest(),
        )  # fmt: skip
        targets = y[:, None] if y.ndim == 1 else y
        self.flat_ = y.ndim == 1
        states = self._states(X)[self.washout :]
        self.readout_ = np.asarray(
            ridge_readout(states, jnp.asarray(targets[self.washout :], states.dtype), self.ridge)
        )
        return self

    def predict(self, X: Any) -> Any:
        """The output at each row, from those up to it."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        found = np.asarray(self._states(X)) @ self.readout_[:, 1:].T + self.readout_[:, 0]
        return found[:, 0] if self.flat_ else found

    def score(self, X: Any, y: Any) -> float:
        """The share of the variance of y that is explained."""
        from sklearn.metrics import r2_score

        return float(r2_score(y, self.predict(X)))

    def _states(self, X: Any) -> Any:
        # What lies a thousand spreads away saturates every unit as well.
        heard = np.clip((X - self.mean_) / self.scale_, -1e3, 1e3)
        return collected(self.cell_, jnp.asarray(heard, self.cell_.weight.dtype))[0]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return _params_of(self)

    def set_params(self, **params: Any) -> "ReservoirRegressor":
        """Change parameters."""
        return _changed(self, params)

    def __repr__(self) -> str:
        return _said(self)

    def __sklearn_tags__(self) -> Any:
        return _tags("regressor")


class SequenceForecaster:
    r"""A reservoir that forecasts a series, with bands from rows that were kept from training.

    **Arguments:** as of `ReservoirRegressor`; `held_out`: the last part of the series, which makes the bands.

    **Example:**

    >>> import numpy as np, separatrix as sx
    >>> series = np.sin(0.3 * np.arange(600))[:, None]
    >>> net = sx.recurrent.SequenceForecaster(units=60).fit(series[:500])
    >>> bool(np.abs(net.predict(10) - series[500:510]).max() < 0.05)
    True

    **Reference:** Jaeger & Haas (2004).
    """

    def __init__(self, units: Any = 200, spectral_radius: Any = 0.9, leak: Any = 1.0, input_gain: Any = 0.5,
                 bias_gain: Any = 0.2, ridge: Any = 1e-6, washout: Any = 50, held_out: Any = 0.2,
                 seed: Any = 0):  # fmt: skip
        self.units, self.spectral_radius, self.leak = units, spectral_radius, leak
        self.input_gain, self.bias_gain, self.ridge = input_gain, bias_gain, ridge
        self.washout, self.held_out, self.seed = washout, held_out, seed

    def fit(self, X: Any, y: Any = None) -> "SequenceForecaster":
        """Learn from a series X, shape (T,) or (T, columns); y is not used."""
        series = _series_of("SequenceForecaster: X", X)
        if not 0 < self.held_out < 0.9:
            do = "Take 0.2."
            raise ValueError(explain("SequenceForecaster: held_out", self.held_out, "above 0, below 0.9", do))
        self.trained_ = round(len(series) * (1 - self.held_out))
        cell = reservoir(
            series.shape[1], self.units, key=jax.random.key(self.seed), spectral_radius=self.spectral_radius,
            leak=self.leak, input_gain=self.input_gain, bias_gain=self.bias_gain, dtype=_widest(),
        )  # fmt: skip
        self.series_ = series
        heard = jnp.asarray(series, _widest())
        self.model_ = train_reservoir(cell, heard[: self.trained_], washout=self.washout, ridge=self.ridge)
        self.n_features_in_ = series.shape[1]
        return self

    def predict(self, horizon: int = 1) -> Any:
        """The next rows after those of `fit`, shape (horizon, columns)."""
        return np.asarray(self.forecast(horizon, bands=False).mean)

    def forecast(self, horizon: int = 1, *, bands: bool = True) -> SeriesForecast:
        """The same with bands."""
        if not hasattr(self, "model_"):
            raise ValueError(explain("SequenceForecaster", "one that has learned nothing", "a fit", "Call fit first."))
        heard = jnp.asarray(self.series_, _widest())
        found = forecast(self.model_, heard, horizon)
        return held_out_errors(self.model_, heard, horizon, first=self.trained_).around(found) if bands else found

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the root mean square error, in spreads of the columns, on the rows X that follow those of `fit`."""
        truth = _series_of("SequenceForecaster: X", X)
        errors = (self.predict(len(truth)) - truth) / self.series_.std(axis=0)
        return -float(np.sqrt(np.mean(errors**2)))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return _params_of(self)

    def set_params(self, **params: Any) -> "SequenceForecaster":
        """Change parameters."""
        return _changed(self, params)

    def __repr__(self) -> str:
        return _said(self)

    def __sklearn_tags__(self) -> Any:
        return _tags(None)


class SequenceClassifierEstimator:
    r"""A recurrent net that reads a sequence and names its class.

    **Arguments:**

    - `cell`: "gru", "lstm" or "elman". `width`: its units.
    - `steps`, `batch_size`, `learning_rate`: of Adam. `seed`: of weights and batches.

    **Example:** does a sequence rise or fall?

    >>> import numpy as np, separatrix as sx
    >>> rising = np.random.default_rng(0).random(80) < 0.5
    >>> x = np.where(rising, 1.0, -1.0)[:, None, None] * np.linspace(-1, 1, 6)[None, :, None]
    >>> net = sx.recurrent.SequenceClassifierEstimator(width=8, steps=60).fit(x[:60], rising[:60])
    >>> net.score(x[60:], rising[60:])
    1.0
    """

    def __init__(self, cell: Any = "gru", width: Any = 32, steps: Any = 500, batch_size: Any = 32,
                 learning_rate: Any = 5e-3, seed: Any = 0):  # fmt: skip
        self.cell, self.width, self.steps = cell, width, steps
        self.batch_size, self.learning_rate, self.seed = batch_size, learning_rate, seed

    def fit(self, X: Any, y: Any) -> "SequenceClassifierEstimator":
        """Learn from sequences X, shape (n, T, columns), and their classes y, shape (n,), numbers or words."""
        X, y = _sequences_of("SequenceClassifierEstimator: X", X), np.asarray(y)
        if y.shape != (len(X),):
            raise ValueError(explain("SequenceClassifierEstimator: y", f"shape {y.shape}", f"({len(X)},)", "One each."))
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            got, do = f"only {self.classes_[0]!r}", "Pass examples of another."
            raise ValueError(explain("SequenceClassifierEstimator: y", got, "two classes or more", do))
        if self.cell not in CELLS:
            raise ValueError(unknown("SequenceClassifierEstimator: cell", self.cell, CELLS, "Choose one of them."))
        self.mean_, spread = X.mean(axis=(0, 1)), X.std(axis=(0, 1))
        self.scale_ = np.where(spread > 0, spread, 1.0)
        self.n_features_in_ = X.shape[2]
        keys = jax.random.split(jax.random.key(self.seed), 3)
        cell = CELLS[self.cell](X.shape[2], self.width, dtype=jnp.float32, key=keys[0])
        model = SequenceClassifier(cell, len(self.classes_), key=keys[1])
        adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(self.learning_rate))
        data = (self._heard(X), codes.astype(np.int32))
        self.model_ = fit_model(_cross_entropy, adam, data, initial=model, steps=self.steps, key=keys[2],
                                batch_size=min(self.batch_size, len(X))).model  # fmt: skip
        return self

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, shape (n, classes), in the order of `classes_`."""
        if not hasattr(self, "model_"):
            do = "Call fit first."
            raise ValueError(explain("SequenceClassifierEstimator", "one that has learned nothing", "a fit", do))
        X = _sequences_of("SequenceClassifierEstimator: X", X)
        if X.shape[2] != self.n_features_in_:
            got = f"{X.shape[2]} columns"
            raise ValueError(explain("SequenceClassifierEstimator: X", got, f"{self.n_features_in_}", "As in fit."))
        return np.asarray(_chances(self.model_, self._heard(X)), float)

    def predict(self, X: Any) -> Any:
        """The likeliest class of each."""
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def score(self, X: Any, y: Any) -> float:
        """The share that is right."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def _heard(self, X: Any) -> Any:
        return jnp.asarray((X - self.mean_) / self.scale_, jnp.float32)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name."""
        return _params_of(self)

    def set_params(self, **params: Any) -> "SequenceClassifierEstimator":
        """Change parameters."""
        return _changed(self, params)

    def __repr__(self) -> str:
        return _said(self)

    def __sklearn_tags__(self) -> Any:
        return _tags("classifier")


def _cross_entropy(model: Any, batch: Any) -> Any:
    inputs, codes = batch
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(inputs), codes))


@eqx.filter_jit
def _chances(model: Any, inputs: Any) -> Any:
    return jax.nn.softmax(jax.vmap(model)(inputs), axis=-1)


def _widest() -> Any:
    """float64 where it is turned on."""
    return jnp.zeros(()).dtype


def _series_of(what: str, values: Any) -> Any:
    series = np.asarray(values, float)
    series = series[:, None] if series.ndim == 1 else series
    if series.ndim != 2 or not len(series):
        raise ValueError(explain(what, f"shape {series.shape}", "(T,) or (T, columns)", "Put time first."))
    return _finite(what, series)


def _sequences_of(what: str, values: Any) -> Any:
    found = np.asarray(values, float)
    found = found[:, :, None] if found.ndim == 2 else found
    if found.ndim != 3 or not found.size:
        raise ValueError(explain(what, f"shape {found.shape}", "(n, T) or (n, T, columns)", "Pad them to one length."))
    return _finite(what, found)


def _finite(what: str, values: Any) -> Any:
    if not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        got, do = f"{values[place]} at {place}", "Repair that row, or leave it out."
        raise ValueError(explain(what, got, "finite numbers", do))
    return values


def _params_of(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in inspect.signature(type(one)).parameters}


def _changed(one: Any, params: dict[str, Any]) -> Any:
    known = _params_of(one)
    for name, value in params.items():
        if name not in known:
            raise ValueError(unknown(f"{type(one).__name__}: parameter", name, known, "Choose one of them."))
        setattr(one, name, value)
    return one


def _said(one: Any) -> str:
    """The parameters that are not as they are by default."""
    own = inspect.signature(type(one)).parameters
    changed = {name: value for name, value in _params_of(one).items() if value is not own[name].default}
    return f"{type(one).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


def _tags(kind: str | None) -> Any:
    """What scikit-learn asks of an estimator."""
    from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

    table = kind == "regressor"
    return Tags(
        estimator_type=kind,
        target_tags=TargetTags(required=kind is not None, multi_output=table),
        regressor_tags=RegressorTags() if table else None,
        classifier_tags=ClassifierTags() if kind == "classifier" else None,
        input_tags=InputTags(two_d_array=table or kind is None, three_d_array=kind == "classifier"),
    )
