"""The commands, and which words call them. What is heavy is imported where it is used."""

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

import separatrix
from separatrix._errors import DataMissing, explain
from separatrix.cli.climate import compute
from separatrix.cli.command import Answer, Command, columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tour(Command):
    """Run the vignettes on real data, end to end, into one report that opens offline."""

    only: tuple[str, ...] = ()
    """Chapters to run; all by default."""
    out: Path = Path("out/tour")
    """Folder of the report; made if it is missing."""
    spec: Path | None = None
    """TOML file with these options; what is given here goes before it."""

    def run(self) -> Answer:
        from separatrix.cli.progress import progress

        compute()
        tour = importlib.import_module("separatrix.tour")
        with progress() as say:
            result = tour.run(only=list(self.only) or None, out=self.out, progress=say)
        verdict = "every number is what it must be" if result.ok else "a number is not what it must be: see the report"
        return Answer(result.to_dict(), f"{verdict}\nreport: {result.report}", result.ok)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnose(Command):
    """Ask a system the questions that apply to it: findings with evidence, cause and remedy."""

    system: Annotated[Positional[str], arg(metavar="NAME|MODULE:SYSTEM")]
    """A name of `separatrix list`, or MODULE:NAME of a pair (system, state), or of a function that returns one."""
    question: tuple[str, ...] = ()
    """Questions to ask; those that apply by default. An unknown one is answered with the names of all."""
    html: Path | None = None
    """Write a page with figures to this file."""

    def run(self) -> Answer:
        from separatrix._files import write_whole
        from separatrix.cli.target import target

        compute()
        diagnostics = importlib.import_module("separatrix.diagnostics")
        for name in self.question:
            diagnostics.question(name)
        system, state, key = target(self.system)
        found = separatrix.diagnose(system, state, questions=self.question or None, key=key)
        text = str(found)
        if self.html is not None:
            from separatrix.cli.diagnosis_page import page

            self.html.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.html, page(self.system, found))
            text += f"\npage: {self.html}"
        return Answer({"system": self.system, "verdict": found.verdict} | found.to_dict(), text, found.exit_code == 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Tell what is installed, which devices there are, and which data sets are found."""

    def run(self) -> Answer:
        from separatrix.cli.doctor import examine

        return examine()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataList(Command):
    """List the named data sets and where each is found."""

    def run(self) -> Answer:
        from separatrix import data

        sets = [{"name": name, "summary": data.summary(name), "found": data.locate(name)} for name in data.names()]
        rows = [(str(row["name"]), str(row["summary"]), str(row["found"] or "not found")) for row in sets]
        return Answer(sets, columns(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataShow(Command):
    """Show the card of a data set: source, licence, shape, digest."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """A name of `separatrix data list`, or the path of a file."""

    def run(self) -> Answer:
        from separatrix import data

        card = data.load(self.name).card
        return Answer(card.to_dict(), str(card))


@dataclasses.dataclass(frozen=True, kw_only=True)
class List(Command):
    """List the catalogue of example systems whose truths are known."""

    def run(self) -> Answer:
        if importlib.util.find_spec("separatrix.catalogue") is None:
            do = "Install separatrix again."
            raise DataMissing(explain("list", "no module separatrix.catalogue", "the catalogue of systems", do))
        compute()
        entries: list[Any] = list(importlib.import_module("separatrix.catalogue").entries())
        rows = [(entry.name, entry.kind, entry.summary) for entry in entries]
        return Answer([dict(zip(("name", "kind", "summary"), row, strict=True)) for row in rows], columns(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version(Command):
    """Print the version."""

    def run(self) -> Answer:
        return Answer({"separatrix": separatrix.__version__}, f"separatrix {separatrix.__version__}")
