r"""How the score grows as the noise goes to zero.

With y = x/alpha and s = sigma/alpha the score is (D - y)/s^2 in y, and its Jacobian (dD/dy - 1)/s^2. Each eigenvalue of it
tells what the data are like in its direction:

    normal data of variance v      -1/(v + s^2)                 bounded:   power 2 s^2/(v + s^2) -> 0
    across a surface of data       -1/s^2                       power 2
    between two points +-m         (m^2/s^2 - 1)/s^2            power 4, and positive: neighbours part

the power being d ln|eigenvalue|/d ln(1/s). So on data that lie near a surface no bound on the score's slope holds down to
sigma = 0: an explicit method needs steps in proportion to s^2 in the clock of the variance, or equal ones in ln s. Data of
thickness w across their surface have -1/(w^2 + s^2): a network whose power falls below 2 there adds a thickness of its own.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.symmetry_breaking import separation_rates
from separatrix.systems import ranges


class ScoreGrowth(NamedTuple):
    """Levels sigma/alpha, the eigenvalues of the score's Jacobian in y at each (rising), and the powers of 1/sigma."""

    levels: Float[Array, "levels"]
    eigenvalues: Float[Array, "levels rates"]
    powers: Float[Array, "steps rates"]


def score_growth(prediction: Prediction, point: Array, levels: Any) -> ScoreGrowth:
    r"""Return how the Jacobian of the score grows at a clean point as the noise goes to zero.

        (dD/dy - 1)/s^2,   power = ln|e(s')/e(s)|/ln(s/s')

    **Arguments:**

    - `prediction`: of batches. `point`: clean, without batch axis.
    - `levels`: sigma/alpha, falling, at least two, above 0.

    **Returns:** a `ScoreGrowth`: eigenvalues rising at each level; `powers` between neighbouring levels, in that order.

    **Raises:** `ValueError` for levels that do not fall or are not positive, or more than 256 components.

    **Example:** standard normal data in one direction, none in the other: powers 2 and nearly 0.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> line = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: x * jnp.array([[1.0, 0.0]]) / (1 + t**2), "clean")
    >>> growth = sx.diffusion.score_growth(line, jnp.zeros(2), [0.02, 0.01])
    >>> growth.powers.round(3).tolist()
    [[2.0, 0.0]]

    **Reference:** Yang et al., *Lipschitz singularities in diffusion models* (2023), theorem 3.1, for the growth; Stanczuk
    et al., *Diffusion models encode the intrinsic dimension of data manifolds* (2024), section 3, for its directions.
    """
    do = "Give for example [0.1, 0.05]."
    known = jnp.asarray(levels, point.dtype)
    ranges.positive("score_growth: levels", known, do)
    if known.ndim != 1 or known.shape[0] < 2 or (not is_traced(known) and not np.all(np.diff(np.asarray(known)) < 0)):
        raise ValueError(explain("score_growth: levels", levels, "two levels or more that fall", do))
    times = prediction.process.time_of(known)
    rates = jnp.stack([separation_rates(prediction, t, point) for t in times])
    found = rates / known[:, None] ** 2
    sizes = jnp.log(jnp.abs(found))
    return ScoreGrowth(known, found, jnp.diff(sizes, axis=0) / -jnp.diff(jnp.log(known))[:, None])
