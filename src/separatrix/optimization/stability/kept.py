"""What `watch` keeps in an optimiser's state, as readings of the history."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix.optimization.stability.oscillation import Oscillation
from separatrix.optimization.stability.peeling import WatchState
from separatrix.optimization.stability.reading import Reading
from separatrix.optimization.stability.responses import Checks


class KeptReadings(NamedTuple):
    """Readings that are new, oldest first: (step, reading, oscillation, checks of the response).

    `losses`: first, least, largest rise and its step, NaN where no values were passed. `names`: of the parameters' arrays.
    """

    readings: list[tuple[int, Reading, Oscillation, Checks]]
    losses: tuple[float, float, float, float]
    names: list[str]


def kept_readings(tree: Any, last: int) -> KeptReadings:
    """The readings after step `last` in the one `WatchState` of a tree."""
    is_watch = lambda node: isinstance(node, WatchState)  # noqa: E731
    found = [node for node in jax.tree.leaves(tree, is_leaf=is_watch) if is_watch(node)]
    if len(found) != 1:
        do = "Make the optimiser with sx.watch(optimizer), once, and pass its state."
        raise ValueError(explain("StabilityMonitor.read", f"{len(found)} states of watch", "one", do))
    state = jax.tree.map(np.asarray, found[0])
    numbers = state.readings
    curved = np.isfinite(numbers["ratio"]) | np.isfinite(numbers["along"]) | ~np.isfinite(numbers["climbing"])
    # The first step of a loop has none before it, with which its gradient could be compared.
    order = [i for i in np.argsort(numbers["step"]) if numbers["step"][i] > last and curved[i]]
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.gradient)]
    first, least, rise, peak = (float(number) for number in state.losses)
    fates = {i: fate for i, fate in zip(reversed(order), state.fates, strict=False)}
    readings = [_one(numbers, i, fates.get(i, np.zeros_like(state.fates[0]))) for i in order]
    return KeptReadings(readings, (first, least, rise, peak), names)


def _one(numbers: Any, i: Any, fate: Any) -> tuple[int, Reading, Oscillation, Checks]:
    get = {name: jnp.asarray(values[i]) for name, values in numbers.items()}
    nan = jnp.full_like(get["ratio"], jnp.nan)
    known = bool(jnp.isfinite(get["ratio"]))
    reading = Reading(
        get["ratio"] if known else get["along"], get["ratio_error"] if known else jnp.zeros_like(nan), nan, get["loss"],
        get["update_ratio"], get["response"], nan, nan, nan, get["climbing"], get["idle"], nan, nan,
        jnp.asarray(jnp.nan_to_num(get["products"])).astype(jnp.int32), jnp.asarray(fate),
    )  # fmt: skip
    code = jnp.nan_to_num(get["refused"]).astype(jnp.int8)[None]
    checks = Checks(get["unknown"], get["mixing"], get["bending"], code)
    swing = Oscillation(float(get["flip"]), float(get["growth"]), float(get["amplitude"]))
    return int(get["step"]), reading, swing, checks
