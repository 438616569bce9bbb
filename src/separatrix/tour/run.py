"""Run the chapters and write the report. A chapter that fails is told as failed; the others still come."""

import dataclasses
import importlib
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix._files import write_whole
from separatrix.tour.chapter import Chapter, Check, Section
from separatrix.tour.report import render, render_chapter

CHAPTERS = ("optimization", "games", "recurrent", "residual", "diffusion")

Say = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class ChapterResult:
    """What one chapter gave: its sections, or why it failed."""

    chapter: Chapter
    sections: tuple[Section, ...]
    seconds: float
    error: str = ""

    @property
    def checks(self) -> list[Check]:
        """All numbers of the chapter."""
        return [check for section in self.sections for check in section.checks]

    @property
    def ok(self) -> bool:
        """Whether it ran and every number is what it must be."""
        return not self.error and all(check.ok for check in self.checks)

    def _repr_html_(self) -> str:
        return render_chapter(self)


@dataclasses.dataclass(frozen=True)
class Tour:
    """All results, and where the report lies."""

    results: tuple[ChapterResult, ...]
    report: Path

    @property
    def ok(self) -> bool:
        """Whether every chapter is."""
        return all(result.ok for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return chapters, times and checks as plain values."""
        chapters = [
            {
                "name": result.chapter.name,
                "ok": result.ok,
                "seconds": round(result.seconds, 2),
                "error": result.error,
                "checks": [check.to_dict() for check in result.checks],
            }
            for result in self.results
        ]
        return {"ok": self.ok, "report": str(self.report), "chapters": chapters}


def run(only: Sequence[str] | None = None, out: str | Path = "out", progress: Say | None = None) -> Tour:
    """Run the tour and write `separatrix-tour.html`.

    **Arguments:**

    - `only`: names of chapters; all by default.
    - `out`: folder of the report, made if missing.
    - `progress`: called as `progress(chapter, what)` as work goes on.

    **Returns:** a `Tour` with `ok`, `report` and `to_dict()`.

    **Raises:** `ValueError` for a chapter that does not exist.
    """
    names = list(only) if only else list(CHAPTERS)
    unknown = [name for name in names if name not in CHAPTERS]
    if unknown:
        raise ValueError(
            explain(
                "tour: chapter", ", ".join(unknown), f"some of: {', '.join(CHAPTERS)}", "Leave it out for all chapters."
            )
        )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "separatrix-tour.html"
    results: list[ChapterResult] = []
    try:
        for name in names:
            results.append(run_chapter(name, progress))
    finally:
        # Also where the tour is interrupted: what was finished stays readable.
        write_whole(report, render(results))
    return Tour(tuple(results), report)


def run_chapter(name: str, progress: Say | None = None) -> ChapterResult:
    """Run one chapter; its result shows itself in a notebook.

    **Arguments:**

    - `name`: of `CHAPTERS`. `progress`: called as `progress(chapter, what)` as work goes on.

    **Returns:** a `ChapterResult`, with the error where the chapter failed.
    """
    say = progress or (lambda chapter, what: None)
    chapter, sections, error, began = Chapter(name, name, "", lambda say: []), (), "", time.perf_counter()
    try:
        chapter = importlib.import_module(f"separatrix.tour.chapters.{name}").CHAPTER
        title = chapter.title
        sections = tuple(chapter.run(lambda what: say(title, what)))
    except Exception as failure:
        error = "".join(traceback.format_exception_only(failure)).strip()
    return ChapterResult(chapter, sections, time.perf_counter() - began, error)
