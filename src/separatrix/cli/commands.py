"""The commands, and which words call them. What is heavy is imported where it is used."""

import dataclasses
import importlib
import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

import separatrix
from separatrix._errors import DataMissing, explain
from separatrix.cli import output
from separatrix.cli.climate import compute
from separatrix.cli.command import Answer, Command, columns
from separatrix.cli.launching import Launch as Launch
from separatrix.cli.runs import (
    Export as Export,
    Forecast as Forecast,
    LogDensity as LogDensity,
    Predict as Predict,
    Resume as Resume,
    Sample as Sample,
    Show as Show,
    Train as Train,
)
from separatrix.cli.sweeps import Sweep as Sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tour(Command):
    """Run the vignettes on real data, end to end, into one report that opens offline."""

    only: UseAppendAction[tuple[str, ...]] = ()
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
    """Ask a system, or a run, the questions that apply to it: findings with evidence, cause and remedy."""

    system: Annotated[Positional[str], arg(metavar="NAME|MODULE:SYSTEM|RUN")]
    """A name of `separatrix list`, or MODULE:NAME of a pair (system, state), or of a function that returns one; or the
    folder of a run."""
    question: UseAppendAction[tuple[str, ...]] = ()
    """Questions to ask; those that apply by default. An unknown one is answered with the nearest names."""
    html: Path | None = None
    """Write a page with figures to this file."""

    def run(self) -> Answer:
        from separatrix._files import write_whole
        from separatrix.cli.refusals import their_code
        from separatrix.cli.target import module_of, target

        compute()
        if Path(self.system, "run.json").is_file():
            return self._of_run()
        diagnostics = importlib.import_module("separatrix.diagnostics")
        for name in self.question:
            diagnostics.question(name)
        html = None if self.html is None else Path.cwd() / self.html  # the user's module may go elsewhere
        with output.kept():
            system, state, key = target(self.system)
            with their_code(f"diagnose: {self.system}", module_of(self.system)):
                asked = list(dict.fromkeys(self.question)) or None
                found = separatrix.diagnose(system, state, questions=asked, key=key)
                text = str(found)
        if html is not None:
            from separatrix.cli.diagnosis_page import page

            html.parent.mkdir(parents=True, exist_ok=True)
            write_whole(html, page(self.system, found))
            text += f"\npage: {self.html}"
        return Answer({"system": self.system, "verdict": found.verdict} | found.to_dict(), text, found.exit_code == 0)

    def _of_run(self) -> Answer:
        from separatrix.cli.showing import diagnosis

        for option, given in (("--question", self.question), ("--html", self.html)):
            if given:
                do = f"Leave it out; a page of a run is made by: separatrix show {self.system} --html FILE"
                raise ValueError(explain(f"diagnose {self.system}: {option}", given, "no such option for a run", do))
        return diagnosis(Path(self.system))


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
    targets: UseAppendAction[tuple[str, ...]] = ()
    """For a table: the columns to predict; the others are the inputs."""
    columns: UseAppendAction[tuple[str, ...]] = ()
    """For a table: the columns to read; all by default."""
    delimiter: str | None = None
    """For a table of text: the sign between columns."""
    missing: Literal["refuse", "drop", "keep"] | None = None
    """For a table: what becomes of missing values; refused by default."""
    kinds: Literal["numbers", "infer"] | None = None
    """For a table: numbers alone (the default), or words and dates too."""

    def run(self) -> Answer:
        from separatrix import data

        targets = self.targets[0] if len(self.targets) == 1 else list(self.targets) or None
        card = data.load(
            self.name,
            targets=targets,
            columns=list(self.columns) or None,
            delimiter=self.delimiter,
            missing=self.missing,
            kinds=self.kinds,
        ).card
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
