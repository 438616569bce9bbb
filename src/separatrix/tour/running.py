"""Run the chapters and write the report. A chapter that fails is told as failed; the others still come."""

import dataclasses
import importlib
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from separatrix._errors import unknown
from separatrix._files import remove_strays, write_whole
from separatrix.tour.chapter import Chapter, Check, Section
from separatrix.tour.report import chapter_html, render, render_chapter

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

    @cached_property
    def html(self) -> str:
        """The chapter as a part of the report, drawn once."""
        return chapter_html(self)

    def _repr_html_(self) -> str:
        return render_chapter(self)


@dataclasses.dataclass(frozen=True)
class TourResult:
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


def run(only: Sequence[str] | None = None, out: str | Path = "out", progress: Say | None = None) -> TourResult:
    """Run the tour and write `separatrix-tour.html`, anew after each chapter: what was finished is kept.

    **Arguments:**

    - `only`: names of chapters; all by default.
    - `out`: folder of the report, made if missing.
    - `progress`: called as `progress(chapter, what)` as work goes on.

    **Returns:** a `TourResult` with `ok`, `report` and `to_dict()`.

    **Raises:** `ValueError` for a chapter that does not exist; `OSError` if the folder cannot be written to.
    """
    names = list(only) if only else list(CHAPTERS)
    for name in names:
        if name not in CHAPTERS:
            raise ValueError(unknown("tour: chapter", name, CHAPTERS, "Leave it out for all chapters."))
    report = _ready(Path(out)) / "separatrix-tour.html"
    remove_strays(report)
    results: list[ChapterResult] = []
    written = 0
    try:
        for name in names:
            results.append(_drawn(run_chapter(name, progress)))
            write_whole(report, render(results, pending=names[len(results) :]))
            written = len(results)
    finally:
        # An interrupt may come while the report is written: what was finished is kept.
        if written < len(results):
            write_whole(report, render(results, pending=names[len(results) :]))
    return TourResult(tuple(results), report)


def _ready(folder: Path) -> Path:
    """The folder, made if missing; one that cannot be written to is an error now, and not after the first chapter."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _drawn(result: ChapterResult) -> ChapterResult:
    """The result with its part of the report; one that cannot be drawn is told as failed."""
    try:
        result.html  # noqa: B018  (drawn here, and kept)
    except Exception as failure:
        error = f"its pictures cannot be drawn: {_told(failure)}"
        return dataclasses.replace(result, sections=(), error=error)
    return result


def _told(failure: Exception) -> str:
    return "".join(traceback.format_exception_only(failure)).strip()


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
        _require_no_interrupt(failure)
        error = _told(failure)
    return ChapterResult(chapter, sections, time.perf_counter() - began, error)


def _require_no_interrupt(failure: BaseException) -> None:
    """Raise the interrupt that a chapter met and that came out of it as another error."""
    link: BaseException | None = failure
    while link is not None:
        if not isinstance(link, Exception):
            raise link from None
        link = link.__cause__ or link.__context__
