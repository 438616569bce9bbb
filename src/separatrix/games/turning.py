r"""How a run went round: the turn that its records show, and the multiplier that they fit.

With records x_n and a, b the leading components of them, each over its deviation, z_n = a_n + i b_n:

    rotation    mean of arg(z_{n+1}/z_n), each in (-pi, pi]
    multiplier  the eigenvalue mu of T = (sum x' x^T)(sum x x^T)^{-1}, x and x' centred, in that plane

Where x' = M x + noise, white and of any shape, the least-squares T tends to M however large the noise is, and arg mu to
the turn of the mean field, which is the one that `advise` predicts. The mean of the angles does not: a step across the
border at pi counts backwards. Of a circular z' = mu z + noise at rest, with rho = |mu| and
theta = arg mu, it is

    E arg(z'/z) = rho sin theta arccos(rho cos theta)/sqrt(1 - rho^2 cos^2 theta),

below theta for rho < 1; noise along one direction alone can bias it either way. Both need the whole state of what turns:
records of one player alone may move on a line, whose second component is noise. Of two runs on the same noise the
difference turns as the mean field does, where that is linear.

**Reference:** the rotation number of a circle map, Katok & Hasselblatt (1995), section 11.1, of an observed angle;
Hamilton, *Time Series Analysis* (1994), section 11.1, for the least squares; Goodman, *Statistics of the complex Wishart
distribution* (1963), for the law of the angle.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from separatrix._errors import explain
from separatrix.diagnostics.result import Result, Row


class CycleInRun(Result):
    """A turn in what was recorded of a run.

    - `rotation`: radians a record, by the rotation of the plane of the two leading components about their mean;
      `turns`: how often it went round. `steadiness`: |mean e^{i(step of the angle - rotation)}|, 1 for an even turn.
    - `growth`: the factor a record by which the distance from the middle changes. `share`: of the variance in that
      plane.
    - `multiplier`: mu of the least-squares map of that plane, in the sense of the turn; `multiplier_error`: the
      standard error of it. Noise does not bias it as it does `rotation`.
    """

    rotation: Float[Array, ""]
    turns: Float[Array, ""]
    steadiness: Float[Array, ""]
    growth: Float[Array, ""]
    share: Float[Array, ""]
    multiplier: Complex[Array, ""]
    multiplier_error: Float[Array, ""]

    @property
    def cycles(self) -> bool:
        """Whether it went round at least twice, evenly, in a plane with most of the variance."""
        return abs(float(self.turns)) >= 2 and float(self.steadiness) > 0.7 and float(self.share) > 0.5

    @property
    def turn(self) -> float:
        """arg mu: radians a record of the mean field, where what is recorded is the whole state that turns."""
        return float(np.angle(complex(self.multiplier)))

    def rows(self) -> list[Row]:
        return [
            Row("verdict", "cycles" if self.cycles else "no cycle"),
            Row("radians a record", self.rotation),
            Row("turns", self.turns),
            Row("steadiness of the turn", self.steadiness),
            Row("factor of the radius a record", self.growth),
            Row("multiplier of the fitted map", f"{complex(self.multiplier):.5g} (turns by {self.turn:.4g})"),
            Row("share of the variance in its plane", self.share),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if abs(float(self.rotation)) > 2.5:
            found.append("it turns by nearly half a round between records: record more often, its sense is not known")
        if float(self.multiplier_error) > 0.1 * abs(self.turn):
            found.append(f"noise leaves the multiplier known to {float(self.multiplier_error):.2g} only")
        return tuple(found)


def cycle_in(records: Any) -> CycleInRun:
    r"""Return how a run went round: the rotation of its records in the plane in which they vary most.

        theta_n = arg(a_n/s_a + i b_n/s_b),   rotation = mean of theta_{n+1} - theta_n,   a, b the leading components
        of x_n;   mu of the least-squares map of (a, b)

    **Arguments:** `records`: shape (n, ...), n >= 8: states, losses, or any metrics of a run at even intervals; those
    of all players, for what turns is their common state.

    **Returns:** a `CycleInRun`.

    **Raises:** `ValueError` for fewer than 8 records, or less than two numbers each.

    **Example:** alternating steps of 0.1 on the bilinear game go round once in 2 pi/(2 arcsin 0.05) steps.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.AlternatingDescent(sx.games.Bilinear(1.0), 0.1)
    >>> path = sx.evolve(descent, (jnp.array(1.0), jnp.array(0.0)), steps=628)
    >>> found = sx.games.cycle_in(jnp.stack(path.states, axis=1))
    >>> found.cycles, round(abs(float(found.rotation)), 3), round(abs(found.turn), 6)
    (True, 0.1, 0.100042)

    **Reference:** see the module.
    """
    points = np.asarray(records, float)
    if points.ndim < 2 or len(points) < 8 or np.prod(points.shape[1:]) < 2 or not np.isfinite(points).all():
        do = "Record at least two numbers, finite, at eight instants or more."
        raise ValueError(explain("cycle_in: records", f"shape {points.shape}", "(n >= 8, 2 or more)", do))
    points = points.reshape(len(points), -1)
    off = points - points.mean(axis=0)
    left, values, _ = np.linalg.svd(off, full_matrices=False)
    total = float(np.sum(values**2))
    plane = left[:, :2] if total > 0 else np.tile([1.0, 0.0], (len(points), 1))
    z = plane @ np.array([1, 1j])
    steps = np.angle(z[1:] * np.conj(z[:-1]))
    mean = float(np.angle(np.sum(np.exp(1j * steps))))
    steadiness = float(np.abs(np.mean(np.exp(1j * (steps - mean)))))
    radii = np.log(np.maximum(np.abs(z), 1e-300))
    growth = float(np.exp(np.polyfit(np.arange(len(z)), radii, 1)[0]))
    share = float(np.sum(values[:2] ** 2) / total) if total > 0 else 0.0
    turns = float(np.sum(steps) / (2 * np.pi))
    rotation = turns * 2 * np.pi / len(steps)
    multiplier, error = _fitted(plane)
    multiplier = multiplier.conjugate() if multiplier.imag * mean < 0 else multiplier
    numbers = (rotation, turns, steadiness, growth, share, multiplier, error)
    return CycleInRun(*(jnp.asarray(value) for value in numbers))


def _fitted(plane: Any) -> tuple[complex, float]:
    """The eigenvalue of the least-squares map of the plane that turns or is largest, and its standard error."""
    x, after = (part - part.mean(axis=0) for part in (plane[:-1], plane[1:]))
    weight = np.linalg.pinv(x.T @ x)
    matrix = after.T @ x @ weight
    values, right = np.linalg.eig(matrix)
    lead = int(np.lexsort((-np.abs(values), -np.imag(values)))[0])
    left = np.linalg.pinv(right)[lead]
    rest = after - x @ matrix.T
    noise = rest.T @ rest / max(len(x) - 3, 1)
    spread = np.real(left.conj() @ noise @ left) * np.real(right[:, lead].conj() @ weight @ right[:, lead])
    return complex(values[lead]), float(np.sqrt(max(spread, 0.0)))
