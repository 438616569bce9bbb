r"""A trial: one call of a function at one point of a space, and what is kept of it.

    point -> function(**point) -> numbers, how it ended (outcome), and when it broke (at)

What a function returns is read here: a number, a dictionary of numbers, a `Trajectory`, a `Fit`, or a dictionary that holds
one of these beside numbers. All of it can be traced, so that many trials are one compiled call. A recipe is trained in a
run folder of its own, one trial after another.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import Diverged, explain, unknown
from separatrix._types import Function
from separatrix.systems.trajectory import Outcome, OutcomeKind, Trajectory
from separatrix.training.recipes import recipe_from, recipe_name, results_of, spec_of, train
from separatrix.training.result import Fit
from separatrix.training.run import Run
from separatrix.training.sweeps.space import RESERVED

CODE, AT = "outcome", "at"
NOWHERE = -1.0  # `at` of a trial that did not break
_DO = 'Return a number, {"loss": number}, a Trajectory or a Fit.'


def numbers_of(found: Any) -> dict[str, Any]:
    """What is kept of what a function returned: numbers by name, the code of the outcome, and when it broke.

    **Raises:** `TypeError` for anything else, naming it.
    """
    parts = found if isinstance(found, Mapping) else {"value": found}
    numbers: dict[str, Any] = {}
    ended: dict[str, Any] = {CODE: jnp.asarray(int(OutcomeKind.COMPLETED)), AT: jnp.asarray(NOWHERE)}
    for name, part in parts.items():
        if isinstance(part, Trajectory | Fit | Outcome):
            ended = _ending(part)
            numbers |= _losses(part) if isinstance(part, Fit) else {}
        else:
            numbers[_checked_name(name)] = _number(name, part)
    return numbers | ended


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or name in RESERVED:
        got = f"a value under {name!r}"
        do = "Rename it; an Outcome, a Trajectory or a Fit may stand under any name."
        raise ValueError(explain("sweep: what the function returned", got, "another name", do))
    return name


def _number(name: Any, part: Any) -> Any:
    try:
        array = jnp.asarray(part)
    except TypeError:
        array = None
    if array is None or array.ndim or not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        got = (
            f"{type(part).__name__} under {name!r}"
            if array is None
            else f"{array.dtype}{list(array.shape)} under {name!r}"
        )
        raise TypeError(explain("sweep: what the function returned", got, "a number", _DO))
    return array


def _ending(part: Trajectory | Fit | Outcome) -> dict[str, Any]:
    """Outcome and the step (of a map or a training) or the time that could not be reached."""
    ended = part if isinstance(part, Outcome) else part.outcome
    at = ended.at
    if isinstance(part, Trajectory) and "start" in part.stats:  # of a map: the number of the step
        at = part.stats["start"] + part.stats["steps"] + 1
    elif isinstance(part, Fit):
        at = part.stopped_at if part.stopped_at is not None else NOWHERE
    at = jnp.asarray(at).astype(jax.dtypes.canonicalize_dtype(float))
    return {CODE: ended.code, AT: jnp.where(ended.reached, NOWHERE, at)}


def _losses(fit: Fit) -> dict[str, Any]:
    last = jnp.asarray(fit.losses)[-1]
    return {"loss": last} if not last.ndim else {f"loss_{i}": one for i, one in enumerate(last)}


@dataclasses.dataclass(frozen=True)
class Calls:
    """Trials that call a function of the names of a space; `keyed`: it takes a key too."""

    function: Function
    keyed: bool

    def __call__(self, point: Mapping[str, Any], number: Any, key: Any, home: Path | None) -> dict[str, Any]:
        """What is kept of one trial."""
        more = {"key": jax.random.fold_in(key, number)} if self.keyed else {}
        return numbers_of(self.function(**point, **more))

    @property
    def can_be_traced(self) -> bool:
        """Whether trials may become one compiled call."""
        return True


@dataclasses.dataclass(frozen=True)
class RecipeTrials:
    """Trials that train a recipe: its name, and its fields as plain values."""

    recipe: str
    spec: Mapping[str, Any]

    def __call__(self, point: Mapping[str, Any], number: Any, key: Any, home: Path | None) -> dict[str, Any]:
        """Train, or go on with what is there; the last losses, and the numbers on the part for testing."""
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in point.items()}
        assert home is not None
        path = home / f"{number:06d}"
        try:
            run = _carried_on(path, recipe_from(self.recipe, dict(self.spec) | plain))
        except Diverged:
            run = Run.open(path)
        ends = [event for event in run.events if event["event"] == OutcomeKind.NON_FINITE.name.lower()]
        kind = OutcomeKind.NON_FINITE if run.status == "diverged" else OutcomeKind.COMPLETED
        numbers = {name: values[-1] for name, values in run.metrics.items() if values.ndim == 1 and len(values)}
        tested = (results_of(run) or {"test": {}})["test"]
        numbers |= {f"test_{name}": _or_nan(one["value"]) for name, one in tested.items()}
        broke = float(ends[-1]["step"]) if ends and kind is OutcomeKind.NON_FINITE else NOWHERE
        return numbers | {CODE: int(kind), AT: broke}

    @property
    def can_be_traced(self) -> bool:
        """A recipe reads files: no."""
        return False


def _carried_on(path: Path, recipe: Any) -> Run:
    if (path / "run.json").exists():
        run = Run.open(path)
        done = run.status == "diverged" or (run.status == "finished" and results_of(run) is not None)
        return run if done else recipe_from(str(run.recipe), run.spec).resume(run)
    return train(recipe, path)


def _or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def trials_of(what: Any, names: list[str]) -> Calls | RecipeTrials:
    """The trials of a function or a recipe over these names.

    **Raises:** `ValueError` for a name that is no argument or field, with the nearest; `TypeError` for anything else.
    """
    if dataclasses.is_dataclass(what) and not isinstance(what, type) and hasattr(what, "settled"):
        spec = {name: value for name, value in spec_of(what).items() if value is not None}
        fields = [field.name for field in dataclasses.fields(what) if field.init]
        for name in names:
            if name not in fields:
                raise ValueError(unknown("sweep: space", name, fields, "Name a field of the recipe.", "a field:"))
        return RecipeTrials(recipe_name(what), spec)
    if not callable(what):
        do = "Pass a function of the names of the space, or a recipe."
        raise TypeError(explain("sweep", type(what).__name__, "a function or a recipe", do))
    return Calls(what, _keyed(what, names))


def _keyed(function: Any, names: list[str]) -> bool:
    """Whether a function takes a key; refuse names that it does not take."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a function that does not say
        return False
    kinds = inspect.Parameter
    takes = [n for n, p in parameters.items() if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    free = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name not in takes and not free:
            do = "Name an argument of the function."
            raise ValueError(unknown("sweep: space", name, [n for n in takes if n != "key"], do, "an argument:"))
    for name, one in parameters.items():
        given = name in names or name == "key" or one.kind in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
        if one.default is kinds.empty and not given:
            do = f"Add it to the space, or fix it: functools.partial(function, {name}=...)."
            raise ValueError(explain(f"sweep: function: {name}", "nothing", "an axis of the space", do))
    return "key" in takes
