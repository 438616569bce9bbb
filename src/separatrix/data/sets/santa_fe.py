"""Santa Fe laser: 10,093 intensities of a far-infrared laser in chaos, whole numbers from 0 to 255.

Inputs are the rows in the order of time, shape (10093, 1), float64. The first 1,000 were set A of the competition, and
the next 100 were to be forecast.

**Reference:** Huebner, Abraham & Weiss, "Dimensions and entropies of chaotic intensity pulsations in a single-mode
far-infrared NH3 laser", Phys. Rev. A 40 (1989); Weigend & Gershenfeld, *Time series prediction: forecasting the future
and understanding the past*, 1994.
"""

import importlib.util
from pathlib import Path

import numpy as np

from separatrix.data.arrays import read_npy
from separatrix.data.dataset import Fields
from separatrix.data.files import refusal
from separatrix.data.sets.named import Arrays, NamedSet, Place

_DO = "Copy santafe_laser.npy from the wheel of reservoirpy."


def _find_package() -> str | None:
    found = importlib.util.find_spec("reservoirpy")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "datasets" / "santafe_laser.npy"
    return str(path) if path.exists() else None


def _read(path: str) -> Arrays:
    rows = read_npy(path)
    good = rows.dtype.kind in "iu" and rows.ndim == 2 and rows.shape[1] == 1 and rows.min() >= 0 and rows.max() <= 255
    if not good:
        raise refusal(f"{path}: santa-fe", f"{rows.dtype}{rows.shape}", "whole numbers 0 to 255, shape (n, 1)", _DO)
    return {"intensity": rows.astype(np.uint8)}


def _prepare(raw: Arrays) -> Fields:
    rows = raw["intensity"].astype(np.float64)
    return {"inputs": rows, "targets": None, "test_inputs": None, "test_targets": None}


SANTA_FE = NamedSet(
    name="santa-fe",
    summary="intensity of a far-infrared laser in chaos, 10,093 rows in the order of time",
    source="U. Huebner, N. B. Abraham, C. O. Weiss, Phys. Rev. A 40, 1989; as shipped with reservoirpy",
    licence="published for the Santa Fe competition, 1991; cite the source",
    sha256="1cf7e20a162559d1df51bbf6bac8caea513c7686835410fb5ae7feb4bee1601f",
    file="santafe_laser.npy",
    install="pip install reservoirpy",
    places=(Place("reservoirpy", _find_package, _read),),
    read=_read,
    prepare=_prepare,
)
