r"""The trackers that there are: JSON lines, TensorBoard, Weights & Biases (and Trackio, which speaks the same), MLflow.

Each is imported when a run starts. What it is made of is plain: texts, so that a command line can say it.
"""

import dataclasses
import importlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from separatrix._errors import explain, unknown
from separatrix.training.trackers.tracker import Tracker, plain_or_none


@dataclasses.dataclass
class JsonLines:
    """A file of one JSON object a line: {"start": ...}, {"step": n, name: number, ...}, {"finish": outcome}."""

    path: str | Path

    def start(self, about: Mapping[str, Any]) -> None:
        """A line for what was asked."""
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._append({"start": json.loads(json.dumps(about, default=str))})

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """A line for the numbers of a step; what is not finite is null."""
        self._append({"step": step} | {name: plain_or_none(number) for name, number in values.items()})

    def finish(self, outcome: str) -> None:
        """A line for the end."""
        self._append({"finish": outcome})

    def _append(self, line: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclasses.dataclass
class TensorBoard:
    """Event files for TensorBoard, by tensorboardX (an extra), in a folder."""

    folder: str | Path
    _writer: Any = dataclasses.field(default=None, repr=False, init=False)

    def start(self, about: Mapping[str, Any]) -> None:
        """Open a file; what was asked is a text in it."""
        self._writer = _module("tensorboardX").SummaryWriter(logdir=str(self.folder), write_to_disk=True)
        self._writer.add_text("spec", json.dumps(about, default=str, indent=1), 0)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """A point of each curve."""
        for name, number in values.items():
            self._writer.add_scalar(name, number, step)
        self._writer.flush()

    def finish(self, outcome: str) -> None:
        """Close the file."""
        self._writer.add_text("outcome", outcome, 0)
        self._writer.close()


@dataclasses.dataclass
class WandB:
    """Weights & Biases (an extra); with `module="trackio"` Trackio, which has the same three calls.

    - `mode`: "online", "offline" (files that `wandb sync` sends later) or "disabled". `folder`: where files go.
    """

    project: str = "separatrix"
    mode: str = "online"
    folder: str | Path | None = None
    module: str = "wandb"
    _run: Any = dataclasses.field(default=None, repr=False, init=False)

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin a run there."""
        more = {"mode": self.mode, "dir": None if self.folder is None else str(self.folder)}
        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        config = json.loads(json.dumps(about, default=str))
        package = _module(self.module)
        self._run = package.init(project=self.project, config=config, **(more if self.module == "wandb" else {}))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a step."""
        self._run.log(dict(values), step=step)

    def finish(self, outcome: str) -> None:
        """End the run there, good or not."""
        if self.module == "wandb":
            self._run.summary["outcome"] = outcome
            self._run.finish(exit_code=int(outcome != "finished"))
        else:
            self._run.finish()


@dataclasses.dataclass
class MLflow:
    """MLflow (an extra): a store as `sqlite:///runs.db`, or the address of a server."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "separatrix"
    _client: Any = dataclasses.field(default=None, repr=False, init=False)
    _run: Any = dataclasses.field(default=None, repr=False, init=False)

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin a run there; what was asked are its parameters."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # by default it waits for minutes
        tracking = _module("mlflow.tracking")
        self._client = tracking.MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(self.experiment)
        number = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
        self._run = self._client.create_run(number).info.run_id
        for name, value in _flat("", about):
            self._client.log_param(self._run, name, str(value)[:500])

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a step."""
        for name, number in values.items():
            self._client.log_metric(self._run, name, number, step=step)

    def finish(self, outcome: str) -> None:
        """End the run there."""
        status = {"finished": "FINISHED", "interrupted": "KILLED"}.get(outcome, "FAILED")
        self._client.set_tag(self._run, "outcome", outcome)
        self._client.set_terminated(self._run, status)


def _flat(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(f"{path}.{name}" if path else str(name), inner)]
    return [(path, value)]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        do = 'pip install "separatrix[trackers]"'
        raise ImportError(f"no package {name.partition('.')[0]}; {do}") from error


_KNOWN = {"jsonl": JsonLines, "tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
_PLACES = {
    "jsonl": "metrics.jsonl",
    "tensorboard": "tensorboard",
    "wandb": "separatrix",
    "mlflow": "sqlite:///mlflow.db",
}


def tracker_named(text: str) -> Tracker:
    """The tracker that a text says: KIND, or KIND:PLACE.

    PLACE is a file ("jsonl"), a folder ("tensorboard"), a project ("wandb") or an address ("mlflow").

    **Raises:** `ValueError` with the nearest kind; also where its package is not installed.

    **Example:**

    >>> tracker_named("tensorboard:logs")
    TensorBoard(folder='logs')
    """
    kind, _, place = text.partition(":")
    if kind not in _KNOWN:
        do = "Say for example tensorboard:logs"
        raise ValueError(unknown("tracker", kind, _KNOWN, do))
    package = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        do = 'Type: pip install "separatrix[trackers]"'
        raise ValueError(explain(f"tracker {kind}", f"no package {package}", package, do))
    return _KNOWN[kind](place or _PLACES[kind])
