"""Lynx and hare: pelts traded by the Hudson's Bay Company, 1900-1920, the textbook predator and prey.

Inputs are the years, shape (21, 1); targets the two counts (hare, lynx) in thousands, shape (21, 2); both float64.

**Reference:** hare: MacLulich, "Fluctuations in the Numbers of the Varying Hare", University of Toronto Press, 1937;
lynx: Elton, Nicholson, "The Ten-Year Cycle in Numbers of the Lynx in Canada", J. Anim. Ecol. 11, 215-244, 1942.
"""

from pathlib import Path

from separatrix.data.dataset import Fields
from separatrix.data.delimited import read_csv
from separatrix.data.sets.named import Arrays, NamedSet, Place, folder_of

_BUNDLED = str(Path(__file__).parents[1] / "bundled" / "lynx_hare.csv")


def _read(path: str) -> Arrays:
    table = read_csv(path, columns=("year", "hare", "lynx"), times="year")
    return {"year": table.matrix("year"), "pelts": table.matrix("hare", "lynx")}


def _prepare(raw: Arrays) -> Fields:
    return {"inputs": raw["year"], "targets": raw["pelts"], "test_inputs": None, "test_targets": None}


LYNX_HARE = NamedSet(
    name="lynx-hare",
    summary="pelts of hare and lynx in thousands, Hudson Bay, each year from 1900 to 1920",
    source="D. A. MacLulich, 1937 (hare); C. Elton, M. Nicholson, J. Anim. Ecol. 11, 1942 (lynx)",
    licence="facts, not subject to copyright; cite the sources",
    sha256="4c92d4902120bfabc8a24caad3b9a4f4fe9f2c1c41913296f051e0454143e5e4",
    file="lynx-hare.csv",
    install="pip install --force-reinstall separatrix",
    places=(Place("bundled", folder_of(_BUNDLED), _read),),
    read=_read,
    prepare=_prepare,
)
