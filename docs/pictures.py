"""The pictures of README: one figure of each chapter of the tour, as it comes out of a run.

python docs/pictures.py [chapter ...]
"""

import sys
from pathlib import Path

import jax

from separatrix.plotting import as_svg
from separatrix.tour import CHAPTERS, run_chapter

FOLDER = Path(__file__).parent / "pictures"
# The section of each chapter whose figure is shown.
SHOWN = {"optimization": 3, "games": 2, "recurrent": 0, "residual": 0, "diffusion": 0}


def main(names: list[str]) -> None:
    """Run chapters and write their pictures."""
    jax.config.update("jax_enable_x64", True)
    FOLDER.mkdir(exist_ok=True)
    for name in names or CHAPTERS:
        result = run_chapter(name, lambda chapter, what: print(f"{chapter}: {what}"))
        if not result.ok:
            raise SystemExit(f"{name}: {result.error or 'a number is not what it must be'}")
        figures = [section.figure for section in result.sections if section.figure is not None]
        (FOLDER / f"{name}.svg").write_text(as_svg(figures[SHOWN[name]]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
