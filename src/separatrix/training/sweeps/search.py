r"""Searches: trials that Optuna chooses by what those before them gave.

    ask for a shard of trials -> compute them together -> tell what they gave -> ask again

The study is built anew from the shards that are finished, so a search that was killed goes on from its files alone.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from separatrix._errors import explain, unknown
from separatrix.training.run import StorageError
from separatrix.training.sweeps.space import Axis, Design, Range
from separatrix.training.sweeps.work import Shard


@dataclasses.dataclass(frozen=True)
class Search:
    """Ask Optuna (an extra) for the trials.

    - `goal`: the number to make small, or large with `largest`. A trial that does not complete counts as failed.
    - `sampler`: "tpe", "random" or "cmaes".
    """

    goal: str
    largest: bool = False
    sampler: str = "tpe"

    def __post_init__(self) -> None:
        if self.sampler not in _SAMPLERS:
            raise ValueError(unknown("Search: sampler", self.sampler, _SAMPLERS, 'Say sampler="tpe".'))

    def plain(self) -> dict[str, Any]:
        """The search as plain values."""
        return dataclasses.asdict(self)


_SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "cmaes": "CmaEsSampler"}


def rounds(search: Search, design: Design, size: int, tables: list[dict[str, np.ndarray]]) -> Iterator[Shard]:
    """Shard after shard; `tables` holds the results of those that were yielded, when the next one is asked for."""
    optuna = _optuna()
    axes = {name: _distribution(optuna, axis) for name, axis in design.axes.items()}
    for number, first in enumerate(range(0, design.trials, size)):
        sampler = getattr(optuna.samplers, _SAMPLERS[search.sampler])(seed=design.seed + number)
        study = optuna.create_study(direction="maximize" if search.largest else "minimize", sampler=sampler)
        for table in tables:
            _tell(optuna, study, search, axes, table)
        trials = np.arange(first, min(first + size, design.trials))
        asked = [study.ask(axes).params for _ in trials]
        yield Shard(number, trials, {name: np.array([one[name] for one in asked]) for name in axes})


def _tell(optuna: Any, study: Any, search: Search, axes: dict[str, Any], table: dict[str, np.ndarray]) -> None:
    if search.goal not in table:
        raise ValueError(unknown("Search: goal", search.goal, table, "Name a number that the function returns."))
    states = optuna.trial.TrialState
    for row in range(len(table["trial"])):
        point = {
            name: table[name][row].item() if hasattr(table[name][row], "item") else table[name][row] for name in axes
        }
        good = table["outcome"][row] == "completed"
        value = float(table[search.goal][row]) if good else None
        state = states.COMPLETE if good else states.FAIL
        study.add_trial(optuna.trial.create_trial(params=point, distributions=axes, value=value, state=state))


def _distribution(optuna: Any, axis: Axis) -> Any:
    kinds = optuna.distributions
    if not isinstance(axis, Range):
        return kinds.CategoricalDistribution(tuple(axis.tolist()))
    if axis.whole:
        return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return kinds.FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        do = 'Type: pip install "separatrix[sweeps]"'
        raise StorageError(explain("sweep: search", "no package optuna", "optuna", do)) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
