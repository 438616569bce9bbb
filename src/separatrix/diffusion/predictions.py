r"""What a network may guess, and how one guess becomes another.

At time t, with x = alpha x0 + sigma eps, let D = E[x0 | x] and e = E[eps | x]. Then x = alpha D + sigma e, and

    noise      e                                  clean      D
    score      grad log p_t(x) = -e/sigma         velocity   alpha' D + sigma' e = dx/dt of the probability flow
    angular    alpha e - sigma D

With two of x, D, e the third is known, so each determines the others wherever it knows enough:

    from velocity   e = (alpha v - alpha' x)/W,   D = (sigma' x - sigma v)/W,   W = alpha sigma' - alpha' sigma
    from angular    D = (alpha x - sigma v)/(alpha^2 + sigma^2),   e = (sigma x + alpha v)/(alpha^2 + sigma^2)

At sigma = 0 the data are seen: D = x/alpha and e = 0, whatever was guessed. The score there is not in the guess, nor is the
velocity where sigma' is infinite; what stands for them is 0 and the drift, both finite, as are their derivatives. At
alpha = 0 noise and score know nothing of the data, and D is NaN.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain, unknown
from separatrix._tree import is_traced
from separatrix._types import Checked, Function, Scalar, State
from separatrix.diffusion.conditions import require_as_many, require_labels
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems.flow import Flow
from separatrix.systems.signature import Frozen, as_pytree

KINDS = ("noise", "clean", "score", "velocity", "angular")


class Prediction(eqx.Module):
    r"""A function of (t, x) that guesses one thing, asked for any.

    Called as it is, it gives the score, so that it goes wherever a score goes: `reverse`, `probability_flow`.

    **Arguments:**

    - `process`: a `NoisingProcess`. `function`: of (t, x), of the shape of x; x may have batch axes in front.
    - `kind`: what it guesses: "noise", "clean", "score", "velocity" or "angular" (v = alpha e - sigma D).

    **Raises:** `TypeError` for anything but a process and a function, `ValueError` for an unknown kind.

    **Example:** standard normal data under the variance-preserving process stay standard normal.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> prediction = sx.diffusion.Prediction(sx.diffusion.VP(), lambda t, x: -x, "score")
    >>> alpha, sigma = prediction.process.marginal(0.5)
    >>> x = jnp.array([2.0])
    >>> bool(jnp.allclose(prediction.clean(0.5, x), alpha * x) & jnp.allclose(prediction.noise(0.5, x), sigma * x))
    True

    **Reference:** Karras et al. (2022), appendix B.3; Salimans & Ho, *Progressive distillation* (2022), appendix D, for
    angular; Lipman et al., *Flow matching guide and code* (2024), table 1.
    """

    process: Checked[NoisingProcess]
    function: Function
    kind: Checked[str] = eqx.field(static=True)

    def __init__(self, process: Checked[NoisingProcess], function: Any, kind: Checked[str] = "noise"):
        require_process("Prediction: process", process)
        if not callable(function):
            do = "Pass a network, or what fit returned as its model."
            raise TypeError(explain("Prediction: function", type(function).__name__, "a function of (t, x)", do))
        if kind not in KINDS:
            raise ValueError(unknown("Prediction: kind", kind, KINDS, "Say what the function guesses."))
        self.process, self.function, self.kind = process, as_pytree(function), kind

    def __call__(self, t: Scalar, x: Array) -> Array:
        return self.score(t, x)

    def parts(self, t: Scalar, x: Array) -> tuple[Array, Array]:
        """D and e, by one call of the function."""
        t = jnp.asarray(t, x.dtype)
        return split(self.process, t, x, self.function(t, x), self.kind)

    def clean(self, t: Scalar, x: Array) -> Array:
        """D, the mean of the data that x may have come from."""
        return self.parts(t, x)[0]

    def noise(self, t: Scalar, x: Array) -> Array:
        """e, the mean of the noise in x."""
        return self.parts(t, x)[1]

    def score(self, t: Scalar, x: Array) -> Array:
        """grad log p_t(x)."""
        return convert(self.process, t, x, self.function(jnp.asarray(t, x.dtype), x), self.kind, "score")

    def velocity(self, t: Scalar, x: Array) -> Array:
        """dx/dt of the probability flow."""
        return convert(self.process, t, x, self.function(jnp.asarray(t, x.dtype), x), self.kind, "velocity")


class PredictedFlow(Flow):
    """dx/dt = alpha' D + sigma' e: the probability flow, also where drift and score are infinite."""

    prediction: Prediction

    def velocity(self, t: Scalar, state: State) -> State:
        return self.prediction.velocity(t, jnp.asarray(state))


def convert(process: NoisingProcess, t: Scalar, x: Array, value: Array, source: str, target: str) -> Array:
    r"""Turn one guess into another.

    **Arguments:**

    - `process`, `t`, `x`: where the guess was made; t one number, x of any shape.
    - `value`: the guess. `source`, `target`: "noise", "clean", "score", "velocity" or "angular".

    **Returns:** an array of the shape of x; finite at sigma = 0 (see the head of this page).

    **Raises:** `ValueError` for an unknown kind.

    **Example:** all data at 0: the noise in x = 3 at sigma = 2 is 1.5.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.diffusion.convert(sx.diffusion.EDM(), 2.0, jnp.array(3.0), jnp.array(0.0), "clean", "noise").item()
    1.5
    """
    for kind in (source, target):
        if kind not in KINDS:
            raise ValueError(unknown("convert: kind", kind, KINDS, "Say what is guessed."))
    if source == target:
        return value
    t = jnp.asarray(t, x.dtype)
    clean, noise = split(process, t, x, value, source)
    alpha, sigma, rise, growth, _ = _levels(process, t)
    match target:
        case "clean":
            return clean
        case "noise":
            return noise
        case "score":
            return jnp.where(sigma > 0, -noise / _or_one(sigma), 0)
        case "angular":
            return alpha * noise - sigma * clean
    # Where sigma' is infinite the noise is 0, and rise D = (alpha'/alpha) x is the drift.
    return rise * clean + growth * noise


def split(process: NoisingProcess, t: Scalar, x: Array, value: Array, kind: str) -> tuple[Array, Array]:
    """D and e from one guess of the dtype of x."""
    alpha, sigma, rise, growth, steep = _levels(process, t)
    match kind:
        case "noise":
            noise = jnp.where(sigma > 0, value, 0)
            return (x - sigma * noise) / alpha, noise
        case "clean":
            return value, jnp.where(sigma > 0, (x - alpha * value) / _or_one(sigma), 0)
        case "score":
            return (x + sigma**2 * value) / alpha, -sigma * value
        case "angular":
            square = alpha**2 + sigma**2
            return (alpha * x - sigma * value) / square, (sigma * x + alpha * value) / square
    wronskian = jnp.where(steep, 1, alpha * growth - rise * sigma)
    clean = jnp.where(steep, x / alpha, (growth * x - sigma * value) / wronskian)
    return clean, jnp.where(steep, 0, (alpha * value - rise * x) / wronskian)


def _levels(process: NoisingProcess, t: Scalar) -> tuple[Array, Array, Array, Array, Array]:
    """alpha, sigma, alpha', sigma' (0 where it is infinite), and whether it is, in the dtype of t."""
    t = jnp.asarray(t)
    (alpha, sigma), (rise, growth) = process.marginal(t), process.slopes(t)
    steep = ~jnp.isfinite(growth)
    alpha, sigma, rise = (jnp.asarray(v, t.dtype) for v in (alpha, sigma, rise))
    return alpha, sigma, rise, jnp.where(steep, 0, growth).astype(t.dtype), steep


def _or_one(sigma: Array) -> Array:
    return jnp.where(sigma > 0, sigma, 1)


def network_prediction(
    process: Checked[NoisingProcess], network: Any, kind: Checked[str] = "noise", condition: Any = None
) -> Prediction:
    r"""Return the prediction of a network that takes one example.

    **Arguments:**

    - `process`: a `NoisingProcess`. `kind`: what the network guesses, as in `Prediction`.
    - `network`: a function of (t, x), or of (t, x, condition), without batch axes.
    - `condition`: one for each member of the batch, with a leading axis; None for none. Of a network with `classes`:
      integers from 0 to `classes`, which stands for none.

    **Returns:** a `Prediction` for x of shape (B, ...).

    **Raises:** `TypeError` and `ValueError` as `Prediction`; `ValueError` for labels that the network does not know, or,
    when it is called, another number of conditions than of points.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> prediction = sx.diffusion.network_prediction(sx.diffusion.EDM(), lambda t, x: x / (1 + t**2), "clean")
    >>> prediction.clean(1.0, jnp.ones((3, 2))).shape
    (3, 2)
    """
    classes = getattr(network, "classes", None)
    if condition is not None and isinstance(classes, int) and getattr(network, "absent", None) is None:
        condition = require_labels("network_prediction: condition", classes, condition)
    return Prediction(process, Batched(as_pytree(network), condition), kind)


class Batched(eqx.Module):
    """(t, x) -> network(t, x[i], condition[i]) for each member of a batch."""

    network: Any
    condition: Any

    def __call__(self, t: Scalar, x: Array) -> Array:
        if self.condition is None:
            return jax.vmap(lambda point: self.network(t, point))(x)
        require_as_many("network_prediction: condition", self.condition, x)
        network = self.network.thaw() if isinstance(self.network, Frozen) else self.network
        return jax.vmap(lambda point, given: network(t, point, given))(x, self.condition)


def prediction_of(what: str, process: NoisingProcess, given: Any) -> Prediction:
    """A prediction as it is; a score as the prediction of it, by its clean form where it has one."""
    if isinstance(given, Prediction):
        return given
    if not callable(given):
        do = "Pass mixture.score_under(process), or score_of(process, network)."
        raise TypeError(explain(what, type(given).__name__, "a function of (t, x)", do))
    clean = getattr(given, "clean", None)
    return Prediction(process, given, "score") if clean is None else Prediction(process, clean, "clean")


def require_process(what: str, process: Any) -> None:
    """Refuse what is no noising process."""
    if not isinstance(process, NoisingProcess):
        raise TypeError(
            explain(what, type(process).__name__, "a NoisingProcess", "Pass for example sx.diffusion.VP().")
        )


def require_prediction(what: str, given: Any) -> None:
    """Refuse what is no prediction."""
    if not isinstance(given, Prediction):
        do = "Pass for example network_prediction(process, network)."
        raise TypeError(explain(what, type(given).__name__, "a Prediction", do))


def require_one_process(what: str, first: NoisingProcess, second: NoisingProcess) -> None:
    """Refuse two processes of two kinds, or known ones that have another noise at the same time."""
    kinds = [type(one).__name__ for one in (first, second)]
    if kinds[0] != kinds[1]:
        raise ValueError(explain(what, " and ".join(kinds), "predictions of one process", "Convert one of them."))
    if first is second or is_traced(first, second):
        return
    with jax.ensure_compile_time_eval():
        levels = [np.asarray(one.marginal(jnp.asarray(first.horizon, float) / 2), float) for one in (first, second)]
    if not np.allclose(*levels, rtol=1e-4):
        got = f"{kinds[0]} of two kinds of noise: alpha, sigma = {levels[0].round(4)} and {levels[1].round(4)} at one time"
        raise ValueError(explain(what, got, "predictions of one process", "Convert one of them."))
