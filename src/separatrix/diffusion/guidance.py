r"""Guidance: another field than the one that was learned.

    between two guesses      D = D_plain + scale (D_wanted - D_plain)      scale 1: what is wanted; 0: the plain one
    by a classifier          score = score + scale grad log p(y | x(t))
    by what was measured     y = A x(0) + N(0, s^2):  score = score + grad log p(y | x(t)),
        dps       p(y | x(t)) ~ N(A D, s^2),                  moments   ~ N(A D, A V A^T + s^2),  V = (sigma^2/alpha) dD/dx

The paper on classifier-free guidance writes (1 + w) e_wanted - w e_plain: scale = 1 + w. With scale > 1 the law that is
sampled is not the tilted one, p (p_wanted/p)^scale, whose noised scores do not add in that way: for x | c ~ N(c, 1),
c ~ N(0, tau^2) the one has the variance (1 + tau^2)^(1 - scale), the other (1 + tau^2)/(1 + scale tau^2).

V is the exact covariance of x(0) given x(t), so that for normal data `moments` is exact.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain, unknown
from separatrix._tree import is_traced
from separatrix._types import Checked, Function, Scalar
from separatrix.diffusion.conditions import (
    classes_of,
    none_like,
    require_as_many,
    require_labels,
    require_like_absent,
)
from separatrix.diffusion.predictions import KINDS, Prediction, require_one_process, require_prediction, split
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.signature import Frozen, as_pytree

METHODS = ("moments", "dps")
_ALL = 1e30  # the end of an interval without one, finite as all parameters of a system


class Between(eqx.Module):
    """(t, x) -> D_plain + scale (D_wanted - D_plain) inside an interval of sigma/alpha, D_wanted outside."""

    plain: Prediction
    wanted: Prediction
    scale: Scalar
    interval: tuple[Any, Any]

    def __call__(self, t: Scalar, x: Array) -> Array:
        wanted, plain = self.wanted.clean(t, x), self.plain.clean(t, x)
        return plain + _scale_at(self.wanted.process, t, self.scale, self.interval, x.dtype) * (wanted - plain)


class ClassGuided(eqx.Module):
    """The same for one network with labels, by one call on a doubled batch."""

    process: NoisingProcess
    network: Any
    kind: str = eqx.field(static=True)
    labels: Array
    scale: Scalar
    interval: tuple[Any, Any]

    def __call__(self, t: Scalar, x: Array) -> Array:
        require_as_many("class_guided: labels", self.labels, x)
        network = self.network.thaw() if isinstance(self.network, Frozen) else self.network
        labels = jnp.concatenate([self.labels, none_like("class_guided: network", network, self.labels)])
        twice = jnp.concatenate([x, x])
        guess = jax.vmap(lambda point, label: network(t, point, label))(twice, labels)
        clean, _ = split(self.process, t, twice, guess, self.kind)
        wanted, plain = jnp.split(clean, 2)
        return plain + _scale_at(self.process, t, self.scale, self.interval, x.dtype) * (wanted - plain)


def guided(
    plain: Checked[Prediction],
    wanted: Checked[Prediction],
    *,
    scale: Any = None,
    w: Any = None,
    interval: Any = (0.0, jnp.inf),
) -> Prediction:
    r"""Return the prediction that goes from a plain one towards a wanted one, or past it.

        D = D_plain + scale (D_wanted - D_plain)

    **Arguments:**

    - `plain`, `wanted`: of one process: without and with a condition; or a weak and a good network (auto-guidance).
    - `scale`: 1 for no guidance. Or `w`, as the paper on classifier-free guidance writes it: scale = 1 + w.
    - `interval`: of sigma/alpha: outside there is no guidance.

    **Returns:** a `Prediction` of clean data, two calls for each of its own.

    **Raises:** `TypeError` for anything but predictions; `ValueError` for those of two processes, both or none of
    scale and w, one that is no finite number, or an interval that is crossed.

    **Example:** towards data at 1 from data at 0.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> at = lambda c: sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: jnp.full_like(x, c), "clean")
    >>> sx.diffusion.guided(at(0.0), at(1.0), scale=3.0).clean(1.0, jnp.zeros(1)).tolist()
    [3.0]

    **Reference:** Ho & Salimans (2022), equation 6; Karras et al., *Guiding a diffusion model with a bad version of itself*
    (2024), equation 3; Kynkaanniemi et al., *Applying guidance in a limited interval* (2024), equation 4.
    """
    for name, given in (("plain", plain), ("wanted", wanted)):
        require_prediction(f"guided: {name}", given)
    require_one_process("guided", plain.process, wanted.process)
    chosen, inside = _asked("guided", scale, w, interval)
    return Prediction(wanted.process, Between(plain, wanted, chosen, inside), "clean")


def class_guided(
    process: NoisingProcess, network: Any, labels: Any, *, kind: str = "noise", scale: Any = None, w: Any = None,
    interval: Any = (0.0, jnp.inf),
) -> Prediction:  # fmt: skip
    r"""Return the classifier-free guided prediction of a network with labels, by one call on a doubled batch.

        D = D(none) + scale (D(label) - D(none))

    **Arguments:**

    - `process`, `network`, `kind`: as in `network_prediction`; the network has `classes`, or `absent`, an array.
    - `labels`: shape (B,), what each member of the batch is to be; or rows (B, ...) of the shape of `absent`.
    - `scale`, `w`, `interval`: as in `guided`.

    **Returns:** a `Prediction` of clean data for x of shape (B, ...).

    **Raises:** `TypeError` for a network without classes; `ValueError` for labels that are no integers or that it does not
    know, an unknown kind, as `guided`, and, when it is called, for another number of labels than of points.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> network = sx.diffusion.ScoreMLP(2, classes=3, key=jax.random.key(0), dtype=jnp.float64)
    >>> prediction = sx.diffusion.class_guided(sx.diffusion.VP(), network, jnp.array([0, 2]), scale=2.0)
    >>> prediction.clean(0.5, jnp.zeros((2, 2))).shape
    (2, 2)
    """
    absent = getattr(network, "absent", None)
    if absent is None:
        given = require_labels("class_guided: labels", classes_of("class_guided: network", network), labels)
    else:
        given = jnp.asarray(labels)
        require_like_absent("class_guided: labels", absent, given)
    if kind not in KINDS:
        raise ValueError(unknown("class_guided: kind", kind, KINDS, "Say what the network guesses."))
    chosen, inside = _asked("class_guided", scale, w, interval)
    function = ClassGuided(process, as_pytree(network), kind, given, chosen, inside)
    return Prediction(process, function, "clean")


class ByClassifier(eqx.Module):
    """(t, x) -> D + scale (sigma^2/alpha) grad log p(y | x)."""

    prediction: Prediction
    log_probability: Function
    scale: Scalar

    def __call__(self, t: Scalar, x: Array) -> Array:
        alpha, sigma = _at(self.prediction.process, t, x.dtype)

        def total(y: Array) -> Array:
            found = self.log_probability(t, y)
            if jnp.shape(found) != x.shape[:1]:
                do = "Return log p of the class that is wanted alone, one number for each point."
                got = f"shape {jnp.shape(found)} for points of shape {x.shape}"
                raise ValueError(explain("classifier_guided: log_probability", got, f"{x.shape[:1]}", do))
            return jnp.sum(found)

        slope = jax.grad(total)(x)
        return self.prediction.clean(t, x) + jnp.asarray(self.scale, x.dtype) * sigma**2 / alpha * slope


def classifier_guided(prediction: Checked[Prediction], log_probability: Any, *, scale: Any = 1.0) -> Prediction:
    r"""Return the prediction that follows a classifier of noised points too.

        score + scale grad log p(y | x(t))

    **Arguments:**

    - `prediction`: a `Prediction`. `log_probability`: (t, x) -> log p(y | x(t)) of the class that is wanted, shape (B,),
      for x of shape (B, ...). `scale`: finite; 1 is Bayes' rule.

    **Returns:** a `Prediction` of clean data.

    **Raises:** `TypeError` for anything but a `Prediction` and a function; `ValueError` for a scale that is no finite
    number or, when it is called, log-probabilities that are not one for each point.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> plain = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: 0 * x, "clean")
    >>> to_the_right = sx.diffusion.classifier_guided(plain, lambda t, x: x[:, 0])
    >>> to_the_right.clean(2.0, jnp.zeros((1, 1))).tolist()
    [[4.0]]

    **Reference:** Dhariwal & Nichol (2021), algorithm 2; Song et al. (2021), equation 14.
    """
    require_prediction("classifier_guided: prediction", prediction)
    if not callable(log_probability):
        do = "Pass the log-probability of the class that is wanted."
        got = type(log_probability).__name__
        raise TypeError(explain("classifier_guided: log_probability", got, "a function of (t, x)", do))
    ranges.finite("classifier_guided: scale", _one("classifier_guided: scale", scale), "Leave it out for 1.")
    function = ByClassifier(prediction, as_pytree(log_probability), as_parameter(scale))
    return Prediction(prediction.process, function, "clean")


class Measured(eqx.Module):
    """(t, x) -> the mean of x(0) given x(t) and y = A x(0) + noise."""

    prediction: Prediction
    operator: Function
    observed: Array
    noise: Scalar
    method: str = eqx.field(static=True)

    def __call__(self, t: Scalar, x: Array) -> Array:
        self._require_shape(x)
        return jax.vmap(lambda point: self._one(t, point))(x)

    def _require_shape(self, x: Array) -> None:
        """Refuse an operator that does not take one example, or another shape than it gives."""
        one = f"one example of shape {x.shape[1:]}"
        try:
            seen = jax.eval_shape(self.operator, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
        except (TypeError, ValueError, IndexError) as error:
            got, do = f"{type(error).__name__} at {one}", "Pass a linear function of one example, without a batch axis."
            raise ValueError(explain("measured: operator", got, "x -> A x", do)) from error
        if not isinstance(seen, jax.ShapeDtypeStruct):
            got, do = f"{type(seen).__name__} of {one}", "Join what was measured in one array."
            raise ValueError(explain("measured: operator", got, "one array", do))
        if seen.shape != self.observed.shape:
            do = "Pass y as the operator gives it of one example, without a batch axis."
            raise ValueError(explain("measured: observed", f"shape {self.observed.shape}", f"{seen.shape}", do))

    def _one(self, t: Scalar, x: Array) -> Array:
        alpha, sigma = _at(self.prediction.process, t, x.dtype)
        clean, pull = jax.vjp(lambda point: self.prediction.clean(t, point[None])[0], x)
        seen, back = jax.vjp(self.operator, clean)
        gap, variance = (self.observed.astype(x.dtype) - seen).ravel(), jnp.asarray(self.noise, x.dtype) ** 2
        if self.method == "moments":
            basis = jnp.eye(gap.size, dtype=x.dtype).reshape(gap.size, *seen.shape)
            ahead = lambda e: jax.jvp(self.operator, (clean,), (pull(*back(e))[0],))[1].ravel()  # noqa: E731
            covariance = sigma**2 / alpha * jax.vmap(ahead)(basis)
            symmetric = (covariance + covariance.T) / 2 + variance * jnp.eye(gap.size, dtype=x.dtype)
            pressed = jnp.linalg.solve(symmetric, gap)
        else:
            pressed = gap / variance
        return clean + sigma**2 / alpha * pull(*back(pressed.reshape(seen.shape)))[0]


def measured(
    prediction: Checked[Prediction], operator: Any, observed: Any, *, noise: Any, method: Checked[str] = "moments"
) -> Prediction:
    r"""Return the prediction for data of which something was measured: y = A x(0) + N(0, noise^2).

    Inpainting is the operator that takes the pixels that are known.

    **Arguments:**

    - `prediction`: of batches. `operator`: x -> A x, linear, on one example without batch axis. `observed`: y.
    - `noise`: standard deviation of the measurement, above 0.
    - `method`: "moments", exact for normal data, at the cost of one derivative for each number of y; or "dps", cheaper,
      which takes x(0) for certain and pulls too hard at high noise.

    **Returns:** a `Prediction` of clean data.

    **Raises:** `TypeError` for anything but a `Prediction` and a function; `ValueError` for a noise that is no positive
    number, an unknown method, or numbers that are not finite; and, when it is called, for an operator that does not take
    one example, or numbers that are not as many as it gives.

    **Example:** standard normal data, of which the first coordinate was seen to be 1: at high noise D is (1, 0).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> normal = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: x / (1 + t**2), "clean")
    >>> seen = sx.diffusion.measured(normal, lambda x: x[:1], jnp.array([1.0]), noise=1e-3)
    >>> seen.clean(1e3, jnp.zeros((1, 2))).round(4).tolist()
    [[1.0, 0.0]]

    **Reference:** Chung et al., *Diffusion posterior sampling* (2023), equation 16 (with the weight 1/noise^2 in place of
    their normalised step); Boys et al., *Tweedie moment projected diffusions* (2023), equation 9; Rozet et al. (2024).
    """
    require_prediction("measured: prediction", prediction)
    if not callable(operator):
        do = "Pass for example lambda x: A @ x."
        raise TypeError(explain("measured: operator", type(operator).__name__, "a function of one example", do))
    ranges.positive(
        "measured: noise", _one("measured: noise", noise), "Give the standard deviation of the measurement."
    )
    if method not in METHODS:
        raise ValueError(unknown("measured: method", method, METHODS, "Take moments."))
    ranges.finite("measured: observed", observed, "Leave out of the operator what was not measured.")
    function = Measured(prediction, as_pytree(operator), jnp.asarray(observed), as_parameter(noise), method)
    return Prediction(prediction.process, function, "clean")


def _asked(what: str, scale: Any, w: Any, interval: Any) -> tuple[Any, tuple[Any, Any]]:
    """The scale, as it is or from w, and the interval."""
    if (scale is None) == (w is None):
        got = "neither" if scale is None else f"scale = {scale} and w = {w}"
        raise ValueError(
            explain(f"{what}: scale", got, "one of scale and w = scale - 1", "Pass scale=1 for no guidance.")
        )
    name = f"{what}: {'w' if scale is None else 'scale'}"
    ranges.finite(name, _one(name, w if scale is None else scale), "Take 1 to 5.")
    return as_parameter(1.0 + w if scale is None else scale), _inside(f"{what}: interval", interval)


def _inside(what: str, interval: Any) -> tuple[Any, Any]:
    """The two ends of an interval of levels."""
    do = "Leave it out for all levels."
    try:
        low, high = interval
    except (TypeError, ValueError):
        raise ValueError(explain(what, repr(interval), "two levels of sigma/alpha, (low, high)", do)) from None
    ranges.nonnegative(what, _one(what, low), do)
    if (
        not is_traced(high)
        and isinstance(high, float | np.ndarray | np.floating | jax.Array)
        and np.all(high == np.inf)
    ):
        high = _ALL
    ranges.positive(what, _one(what, high), do)
    ranges.ordered(what, low, high, do, strictly=True)
    return as_parameter(low), as_parameter(high)


def _one(what: str, value: Any) -> Any:
    """A value; refused where it is several."""
    if np.ndim(value):
        do = "Take the same for all, or jax.vmap over several."
        raise ValueError(explain(what, f"shape {np.shape(value)}", "one number", do))
    return value


def _scale_at(process: NoisingProcess, t: Scalar, scale: Any, interval: tuple[Any, Any], dtype: Any) -> Array:
    alpha, sigma = _at(process, t, dtype)
    low, high = (jnp.asarray(end, dtype) for end in interval)
    return jnp.where((sigma >= low * alpha) & ((sigma <= high * alpha) | (high >= _ALL)), jnp.asarray(scale, dtype), 1)


def _at(process: NoisingProcess, t: Scalar, dtype: Any) -> tuple[Array, Array]:
    alpha, sigma = process.marginal(jnp.asarray(t, dtype))
    return jnp.asarray(alpha, dtype), jnp.asarray(sigma, dtype)
