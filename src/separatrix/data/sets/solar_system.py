"""The solar system in DE421: where the Sun and the planets were and will be, 1902 to 2047, every 64 days.

Inputs are the years (Julian, TDB), shape (829, 1). Targets, shape (829, 11, 3), are the places in AU of the Sun, Mercury,
Venus, Earth with Moon, Mars, Jupiter, Saturn, Uranus, Neptune and Pluto, each with its moons, about the barycentre of all
in the axes of the ICRF; row 10 is the velocity of Uranus in AU a year. `GRAVITY` holds the strengths Gm in the same units:
body j pulls by Gm (x_j - x)/|x_j - x|^3.

DE421 is no record of observations: it is an integration of the equations of motion, Neptune among them, fitted to some.

**Reference:** Folkner, Williams & Boggs, "The planetary and lunar ephemeris DE 421", IPN Progress Report 42-178 (2009),
table 1 for the strengths.
"""

from pathlib import Path

from separatrix.data.arrays import read_npy
from separatrix.data.dataset import Fields
from separatrix.data.files import refusal
from separatrix.data.sets.named import Arrays, NamedSet, Place, folder_of

_BUNDLED = str(Path(__file__).parents[1] / "bundled" / "solar_system.npy")
_COLUMNS = 34  # the year, ten places, one velocity
_AU, _YEAR = 149597870.6996262, 365.25 * 86400.0  # km, s
_STRENGTHS = {
    "sun": 132712440040.944, "mercury": 22032.09, "venus": 324858.592, "earth": 398600.436233 + 4902.800076,
    "mars": 42828.375214, "jupiter": 126712764.8, "saturn": 37940585.2, "uranus": 5794548.6, "neptune": 6836535.0,
    "pluto": 977.0,
}  # fmt: skip
GRAVITY: dict[str, float] = {name: value * _YEAR**2 / _AU**3 for name, value in _STRENGTHS.items()}  # AU^3 a year^2


def _read(path: str) -> Arrays:
    rows = read_npy(path)
    if rows.dtype.kind != "f" or rows.ndim != 2 or rows.shape[1] != _COLUMNS:
        got, expected = f"{rows.dtype}{rows.shape}", f"numbers of shape (n, {_COLUMNS})"
        raise refusal(f"{path}: solar-system", got, expected, "Save the year, ten places and a velocity in each row.")
    return {"rows": rows}


def _prepare(raw: Arrays) -> Fields:
    rows = raw["rows"]
    places = rows[:, 1:].reshape(len(rows), -1, 3)
    return {"inputs": rows[:, :1], "targets": places, "test_inputs": None, "test_targets": None}


SOLAR_SYSTEM = NamedSet(
    name="solar-system",
    summary="places of the Sun and planets every 64 days from 1902 to 2047, as DE421 computed them",
    source="W. M. Folkner, J. G. Williams, D. H. Boggs, DE 421, JPL, 2009; read from the package skyfield-data",
    licence="work of NASA, in the public domain; skyfield-data and jplephem: MIT",
    sha256="09bba5f6be0676f2863e958f01a38b3341b80fbea5671fc13ed8afc6f5131d20",
    file="solar-system.npy",
    install="pip install --force-reinstall separatrix",
    places=(Place("bundled", folder_of(_BUNDLED), _read),),
    read=_read,
    prepare=_prepare,
)
