"""The commands about runs: train, resume, show, predict, log-density, forecast, sample, export."""

import dataclasses
import importlib
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from separatrix._errors import explain
from separatrix.cli.climate import compute
from separatrix.cli.command import Answer, Command

RECIPES = {
    "classifier": "a class from the columns of a table, or from pictures in folders",
    "regressor": "a number from the columns of a table",
    "language": "the next character of a text",
    "law": "an equation for a series",
    "series": "a flow for a series with gaps and uneven times, its forecast with bands and horizon",
    "forecaster": "what comes next in a series, with bands",
    "gan": "more pictures, or more rows, like those of a folder or a table",
    "diffusion": "the law of pictures in a folder, or of the rows of a table",
    "words": "pictures drawn as a caption says",
}
_RUN = arg(metavar="RUN")
_TOLD = "; ".join(f"{name}: {about}" for name, about in RECIPES.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a model on a file of your own, in a folder that it can go on from.

    Further options are the fields of the recipe, as --width 32 or --set width=32: see --print-spec.
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE", help=_TOLD)]
    data: str | None = None
    """The file or folder to learn from, or a name of `separatrix data list`."""
    target: str | None = None
    """Of a table: the column to predict."""
    out: Path | None = None
    """Folder of the run; runs/RECIPE-1 or the next number that is free by default."""
    epochs: int | None = None
    """How often every example is used."""
    steps: int | None = None
    """How many steps to take, in place of epochs."""
    spec: Path | None = None
    """TOML file with fields of the recipe; what is given here goes before it."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """A field of the recipe, as name=value."""
    print_spec: bool = False
    """Print all fields of the recipe as a TOML file, with what they mean, and train nothing."""
    watch: int | None = None
    """Steps between readings of the sharpness; 0 for none. By default a hundredth of a run of 2,000 steps or more."""
    tracker: UseAppendAction[tuple[str, ...]] = ()
    """Tell the numbers to a tracker too: jsonl:FILE, tensorboard:FOLDER, wandb:PROJECT or mlflow:ADDRESS."""

    @classmethod
    def prepared(cls, words: list[str]) -> list[str]:
        """The words with the options that only a recipe has as --set name=value."""
        from separatrix.cli.fields import as_settings

        return as_settings(words, {field.name for field in dataclasses.fields(cls)})

    def run(self) -> Answer:
        from separatrix.cli.carrying import free_folder, told, trained
        from separatrix.cli.fields import recipe_of_words

        compute()
        name, recipe = recipe_of_words(self)
        if self.print_spec:
            text = importlib.import_module("separatrix.training.recipes").spec_text(recipe)
            return Answer({"recipe": name, "spec": text}, text.rstrip("\n"))
        path = self.out or free_folder(name)
        return told(trained(recipe, path, self.tracker))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """Go on with a run that was stopped or killed, to its end: it ends with the model that it would have had."""

    folder: Annotated[Positional[Path], _RUN]
    """Folder of the run."""
    tracker: UseAppendAction[tuple[str, ...]] = ()
    """Tell the numbers to a tracker too: jsonl:FILE, tensorboard:FOLDER, wandb:PROJECT or mlflow:ADDRESS."""

    def run(self) -> Answer:
        from separatrix.cli.carrying import resumed, told

        compute()
        return told(resumed(self.folder, self.tracker))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show(Command):
    """Tell how a run stands: its numbers, what was noticed, why, and what to do; of a sweep where its fates lie."""

    folder: Annotated[Positional[Path], _RUN]
    """Folder of the run, or of a sweep."""
    html: Path | None = None
    """Write a page that opens offline to this file."""
    follow: bool = False
    """Say it again while the run goes on."""
    axes: UseAppendAction[tuple[str, ...]] = ()
    """Of a sweep: the two axes of its phase diagram."""
    goal: str | None = None
    """Of a sweep: the number of which the least is shown."""

    def run(self) -> Answer:
        if (self.folder / "sweep.json").is_file():
            from separatrix.cli.sweeps import show_sweep

            return show_sweep(self.folder, self.html, self.axes, self.goal)
        for option, given in (("--axes", self.axes), ("--goal", self.goal)):
            if given:
                do = "Leave it out."
                raise ValueError(explain(f"show {self.folder}: {option}", given, "no such option for a run", do))
        from separatrix.cli.showing import show

        return show(self.folder, self.html, self.follow)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deed(Command):
    """Options of the commands that do something with the model of a run; others are the recipe's own."""

    folder: Annotated[Positional[Path], _RUN]
    """Folder of the run."""
    out: Path | None = None
    """File to write to: a table as CSV, a text, pictures as one PNG, or each alone into a folder."""
    set: UseAppendAction[tuple[str, ...]] = ()
    """An option of the recipe, as name=value. `separatrix show RUN` says which there are."""

    @classmethod
    def prepared(cls, words: list[str]) -> list[str]:
        """The words with the options that only a recipe has as --set name=value."""
        from separatrix.cli.fields import as_settings

        return as_settings(words, {field.name for field in dataclasses.fields(cls)})

    def done(self, what: str, *own: Any) -> Answer:
        """Do it."""
        from separatrix.cli.doing import deed

        compute()
        return deed(self.folder, what, own, self.set, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Deed):
    """Apply the model of a run to another file of the same kind; where the file has the targets, say how right it is."""

    data: Path
    """The file, or a folder of pictures."""

    def run(self) -> Answer:
        return self.done("predict", self.data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogDensity(Deed):
    """Say how likely the model of a run takes each row or picture of a file to be."""

    data: Path
    """The file, or a folder of pictures."""

    def run(self) -> Answer:
        return self.done("log_density", self.data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast(Deed):
    """Go on with the series of a run beyond its last row."""

    steps: int = 10
    """How many rows to go on."""

    def run(self) -> Answer:
        return self.done("forecast", self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Deed):
    """Draw from the model of a run: a text that it writes, points, or pictures.

    Options are those of the recipe, as --length 400 --prompt "In the" of a language model, or --class 3 --seed 1.
    """

    def run(self) -> Answer:
        return self.done("sample")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write the model of a run for other programs: StableHLO with a free batch size, weights, and a card."""

    folder: Annotated[Positional[Path], _RUN]
    """Folder of the run."""
    out: Path | None = None
    """Folder to write to; made if it is missing. RUN/export by default."""

    def run(self) -> Answer:
        from separatrix.cli.exporting import export

        compute()
        return export(self.folder, self.out or self.folder / "export")


def require_run(folder: Path) -> Any:
    """The run in a folder.

    **Raises:** `ValueError` where there is none.
    """
    if not (folder / "run.json").is_file():
        got = "nothing there" if not folder.exists() else "a file" if folder.is_file() else "a folder without run.json"
        do = "Name the folder that `separatrix train` made."
        raise ValueError(explain(f"run {folder}", got, "the folder of a run", do))
    return importlib.import_module("separatrix.training.run").Run.open(folder)
