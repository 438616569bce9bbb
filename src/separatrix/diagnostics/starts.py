"""Starts of a search: a batch of states that the caller gives, or points spread evenly over a box."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from separatrix._errors import explain
from separatrix._tree import is_inexact, is_traced
from separatrix._types import State
from separatrix.linear.coordinates import as_vector, from_vector


def starting_states(what: str, guesses: Any, region: Any, count: int) -> State:
    """The guesses, or points of Sobol's sequence in the box, with one leading axis."""
    if (guesses is None) == (region is None):
        do = "Pass a batch of states, or region=(low, high) to spread starts over a box."
        got = "neither" if guesses is None else "both"
        raise ValueError(explain(f"{what}: guesses and region", got, "one of them", do))
    if region is None:
        return _batch(what, guesses)
    if not isinstance(region, tuple | list) or len(region) != 2:
        do = "Pass region=(low, high)."
        raise ValueError(explain(f"{what}: region", type(region).__name__, "a pair of states", do))
    low, high = (as_vector(side) for side in region)
    if low.shape != high.shape or not bool(jnp.all(low <= high)) or not bool(jnp.all(jnp.isfinite(high - low))):
        do = "Pass two finite states of one form, every number of the first at most that of the second."
        raise ValueError(explain(f"{what}: region", f"{low} to {high}", "low <= high", do))
    if low.size > qmc.Sobol.MAXDIM or count < 1:
        do = "Pass guesses, for example states of a trajectory."
        raise ValueError(explain(f"{what}: starts", f"{count} in {low.size} dimensions", "1 or more in 21201", do))
    # Scrambled with a fixed seed: the plain sequence begins in the corner itself, which is often a fixed point.
    unit = qmc.Sobol(low.size, scramble=True, rng=np.random.default_rng(0)).random_base2(int(np.ceil(np.log2(count))))
    spread = low[None] + jnp.asarray(unit[:count], low.dtype) * (high - low)[None]
    like = jax.tree.map(jnp.asarray, region[0])
    return jax.vmap(lambda vector: from_vector(vector, like))(spread)


def _batch(what: str, guesses: Any) -> State:
    guesses = jax.tree.map(jnp.asarray, guesses)
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(guesses)}
    if len(counts) != 1 or 0 in counts:
        do = "Stack the guesses: every leaf of shape (number of guesses, ...)."
        raise ValueError(explain(f"{what}: guesses", f"leading axes {sorted(counts)}", "one, not empty", do))
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(guesses) if eqx.is_inexact_array(leaf)):
        raise ValueError(
            explain(f"{what}: guesses", "a value that is not finite", "finite numbers", "Drop those rows.")
        )
    return guesses


def within(values: Any, region: Any) -> np.ndarray:
    """Which points lie in the box, its walls included to a millionth of its width; all without one."""
    if region is None:
        return np.ones(len(values), bool)
    low, high = (np.asarray(as_vector(side)) for side in region)
    slack = 1e-6 * (high - low)
    return np.all((np.asarray(values) >= low - slack) & (np.asarray(values) <= high + slack), axis=1)


def refuse_traced(what: str, *arguments: Any) -> None:
    """How many points there are decides the shapes of the answer, so that no tracing is possible."""
    if is_traced(*arguments):
        do = "Call it outside jit: how many answers there are decides their shapes."
        raise TypeError(explain(what, "traced arguments", "values", do))


def is_single(dtype: Any) -> bool:
    """Whether a dtype has fewer digits than these questions need."""
    return float(jnp.finfo(dtype).eps) > 1e-10


def warn_if_single(what: str, dtype: Any) -> None:
    """Say once that float32 knows roots to few digits."""
    if is_single(dtype):
        text = f"{what}: float32 states; roots are known to about 1e-4 and merged at 1e-2: use float64 for more"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def around(state: State) -> tuple[State, State]:
    """The box |x - state| <= max(1, |state|), coordinate by coordinate."""

    def shifted(sign: float) -> State:
        return jax.tree.map(
            lambda x: x + sign * jnp.maximum(jnp.abs(x), 1.0).astype(x.dtype) if is_inexact(x) else x, state
        )

    return shifted(-1.0), shifted(1.0)


def rows_of(tree: State, rows: Any) -> State:
    """Rows of a batch of states; of what the host can see, on the host, where no number of rows is a program of its own."""

    def cut(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        if is_traced(leaf, rows) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            return leaf[rows]
        return jax.device_put(np.asarray(leaf)[np.asarray(rows)])

    return jax.tree.map(cut, tree)
