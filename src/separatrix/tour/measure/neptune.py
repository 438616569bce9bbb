r"""What the search for Neptune needs: the pull of what is known on Uranus, the truth, and angles.

    x'' = sum_j Gm_j (x_j(t) - x)/|x_j(t) - x|^3 + missing(t),

about the barycentre of the solar system, in AU and years. Places of the known bodies are cubic in time between the rows of
the table.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np

import separatrix as sx

# Central differences of order 8 of the first derivative.
_EIGHTH = (4 / 5, -1 / 5, 4 / 105, -1 / 280)


def pull_of(strength: Any, away: Any) -> Any:
    """Gm r/|r|^3, for r of shape (..., 3) to where the body is."""
    return strength * away / jnp.linalg.norm(away, axis=-1, keepdims=True) ** 3


class KnownBodies(eqx.Module):
    """The acceleration of a place x at a time t by the Sun and all planets but some."""

    strengths: Any
    path: diffrax.CubicInterpolation

    def __call__(self, t: Any, x: Any) -> Any:
        away = self.path.evaluate(t).reshape(-1, 3) - x
        return jnp.sum(pull_of(self.strengths[:, None], away), axis=0)


class Uranus(eqx.Module):
    """`years` (T,), `states` (T, 6) of Uranus, the pull of what was `known`, and `away` (T, 3): from it to Neptune."""

    years: Any
    states: Any
    known: KnownBodies
    away: Any

    @property
    def truth(self) -> Any:
        """The pull of Neptune in the table, (T, 3)."""
        return pull_of(sx.data.GRAVITY["neptune"], self.away)


def uranus(unknown: tuple[str, ...] = ("uranus", "neptune")) -> Uranus:
    """Uranus in the table, and the known bodies: all but those that do not pull on it, or are not known."""
    table, names = sx.load("solar-system"), list(sx.data.GRAVITY)
    years, places = jnp.asarray(table.inputs[:, 0]), jnp.asarray(table.targets)
    others = np.array([i for i, name in enumerate(names) if name not in unknown])
    rows = places[:, others].reshape(len(years), -1)
    path = diffrax.CubicInterpolation(years, diffrax.backward_hermite_coefficients(years, rows))
    known = KnownBodies(jnp.array([sx.data.GRAVITY[names[i]] for i in others]), path)
    at, velocity = places[:, names.index("uranus")], places[:, -1]
    return Uranus(years, jnp.concatenate([at, velocity], axis=1), known, places[:, names.index("neptune")] - at)


def differences(found: Uranus) -> Any:
    """What no known body explains, without a fit: differences of order 8 of the velocities, less the known pull.

    Of the rows that have four on either side, shape (T - 8, 3).
    """
    states, step = np.asarray(found.states), float(found.years[1] - found.years[0])
    total = len(states)
    sums = [
        c * (states[4 + k : total - 4 + k, 3:] - states[4 - k : total - 4 - k, 3:]) for k, c in enumerate(_EIGHTH, 1)
    ]
    known = eqx.filter_vmap(found.known)(found.years[4:-4], found.states[4:-4, :3])
    return sum(sums) / step - np.asarray(known)


def degrees_between(first: Any, second: Any) -> Any:
    """The angle between vectors (T, 3), in degrees."""
    first, second = np.asarray(first), np.asarray(second)
    across, along = np.linalg.norm(np.cross(first, second), axis=1), np.sum(first * second, axis=1)
    return np.degrees(np.arctan2(across, along))
