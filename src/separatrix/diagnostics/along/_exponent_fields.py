r"""The numbers of a spectrum, from sums of logarithms at the borders of batches; the volume's is the last.

    lambda_i = (S_i[B] - S_i[0])/T,      batch b: (S_i[b] - S_i[b - 1])/(T/B)

Few numbers: they are worked out on the host, unless they are traced.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import is_traced
from separatrix.diagnostics.along._batch_means import errors_of, standard_error
from separatrix.diagnostics.along._exponent_sums import dimension, entropy, of, settled, sound


def fields_of(sums: Any, step: Any, length: int, counted: int, size: int, measured: bool) -> dict[str, Any]:
    """Exponents and what follows from them, by the names of `LyapunovSpectrum`."""
    xp = of(sums, step)
    # Few numbers: on the host, unless they are traced.
    sums, step = (xp.asarray(value) for value in (sums, step))
    duration = counted * step
    rates = xp.diff(sums, axis=0).T / (length * step)
    means = (sums[-1] - sums[0]) / duration
    order = xp.argsort(-means[:-1])
    exponents, batches = means[:-1][order], _fixed(rates[:-1][order])
    fixed, duration_fixed = _fixed(exponents), _fixed(duration)
    residual = xp.sum(fixed) - _fixed(means[-1]) if measured else xp.full((), np.nan, step.dtype)
    errors = _errors(batches, fixed, residual, duration_fixed, counted)
    values = settled(fixed, errors)
    (kaplan_yorke, along), (bound, positive) = dimension(values, size), entropy(values, size)
    derived = errors_of(xp.stack([along, positive]), batches)
    fields = {
        "exponents": exponents,
        "standard_errors": errors,
        "batches": batches,
        "sum_residual": residual,
        "kaplan_yorke": kaplan_yorke,
        "kaplan_yorke_error": derived[0],
        "entropy_bound": bound,
        "entropy_error": derived[1],
        "duration": duration,
        "step_size": step,
    }
    if xp is np:
        fields = jax.device_put({name: np.asarray(value, step.dtype) for name, value in fields.items()})
    else:
        fields |= {"exponents": sound(exponents, fixed[0] - 2 * errors[0])}
        fields = {name: jnp.asarray(value) for name, value in fields.items()}
    return fields


def _fixed(value: Any) -> Any:
    return jax.lax.stop_gradient(value) if is_traced(value) else value


def _errors(batches: Any, exponents: Any, residual: Any, duration: Any, steps: int) -> Any:
    """Batch means, and two errors that batches do not tell: of the method in its step, and of growth as a power of time.

    Over N steps t^2 grows by 2 ln N nats: an exponent that makes no more of a run is not told from zero.
    """
    xp = of(batches, exponents, duration)
    errors = xp.hypot(standard_error(batches), xp.where(xp.isnan(residual), 0.0, residual))
    algebraic = xp.abs(exponents) * duration < 2 * float(np.log(steps))
    return xp.where(algebraic, xp.maximum(errors, xp.abs(exponents)), errors)
