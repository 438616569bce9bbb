"""Bad input is refused before anything is compiled, with the field and index named."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import asarrays, is_inexact, is_traced, structure
from separatrix._types import Key, State
from separatrix.systems.base import System
from separatrix.systems.from_optax import finite_part
from separatrix.systems.map import Map
from separatrix.systems.open import OpenSystem


def check_system(system: Any) -> None:
    """Refuse what is not a system, and a system with parameters that are not finite."""
    if isinstance(system, OpenSystem):
        raise TypeError(
            explain(
                "evolve: system",
                f"{type(system).__name__}, which waits for an input",
                "a Map, Flow or SDE",
                "Close it first with drive(system, inputs) or close_loop.",
            )
        )
    if not isinstance(system, System):
        raise TypeError(
            explain(
                "evolve: system",
                type(system).__name__,
                "a Map, Flow or SDE",
                "Make it one with as_map, as_flow, as_sde or from_optax.",
            )
        )
    check_finite(system, type(system).__name__)


def check_state(state: Any, *, differentiable: bool, what: str = "evolve: state") -> State:
    """Return the state with array leaves; refuse an empty, a non-numeric, a non-finite or (for flows) an integer one."""
    if not jax.tree.leaves(state):
        raise ValueError(explain(what, "an empty tree", "a pytree with at least one array", "Pass the initial state."))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = f"{what}{jax.tree_util.keystr(path)}"
        if not eqx.is_array_like(leaf):
            raise TypeError(
                explain(
                    name,
                    type(leaf).__name__,
                    "an array or number",
                    "Keep functions and strings out of the state: eqx.partition parts them.",
                )
            )
        if jnp.size(leaf) == 0:
            raise ValueError(
                explain(name, f"an array of shape {jnp.shape(leaf)}", "at least one number", "Drop the empty leaf.")
            )
        if differentiable and not is_inexact(leaf):
            raise TypeError(
                explain(
                    name,
                    f"dtype {jnp.result_type(leaf)}",
                    "floating point",
                    "Write 1.0 for 1, or convert with .astype(float).",
                )
            )
    check_finite(finite_part(state), what)
    return asarrays(state)


def check_finite(tree: Any, what: str) -> None:
    """Refuse NaN and infinity in concrete leaves, naming leaf and index."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not eqx.is_array_like(leaf) or is_traced(leaf) or not is_inexact(leaf):
            continue
        if not np.isfinite(np.asarray(leaf)).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(np.asarray(leaf)))[0])
            where = f"{what}{jax.tree_util.keystr(path)}" + (f"[{', '.join(map(str, index))}]" if index else "")
            raise ValueError(
                explain(where, np.asarray(leaf)[index], "a finite number", "Look at where this value was made.")
            )


def check_key(key: Any) -> Key | None:
    """Refuse a seed where a key is meant."""
    if key is None or (
        isinstance(key, jax.Array)
        and (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or (key.dtype == jnp.uint32 and key.shape == (2,)))
    ):
        return key
    raise TypeError(
        explain(
            "evolve: key", repr(key), "one PRNG key", "Pass key=jax.random.key(seed); split many members with ensemble."
        )
    )


def check_steps(steps: Any, what: str = "steps", least: int = 0) -> int:
    """Return a count of steps as an int."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < least:
        raise ValueError(
            explain(
                f"evolve: {what}",
                repr(steps),
                f"a whole number >= {least}",
                f"Give {what} as a Python int, known before compiling.",
            )
        )
    return int(steps)


def check_times(times: Any) -> Any:
    """Return times as an array, a NumPy one where they are known: at least two, finite, strictly increasing.

    Inside a trace every `jnp` operation gives a tracer, so what is to be looked at stays with NumPy.
    """
    if times is None:
        raise ValueError(explain("evolve: times", "None", "times=(t0, ..., t1)", "Say from when to when."))
    array = jnp.asarray(times) if is_traced(times) else np.asarray(times)
    array = array if is_inexact(array) else array.astype(float)
    if array.ndim != 1 or array.shape[0] < 2:
        got = f"shape {array.shape}"
        raise ValueError(
            explain("evolve: times", got, "at least (t0, t1)", "Pass times=(t0, t1), or a grid of times to save.")
        )
    if isinstance(array, np.ndarray):
        check_finite(array, "evolve: times")
        if not (np.diff(array) > 0).all():
            do = "Sort them; to go backwards evolve reverse(flow)."
            raise ValueError(explain("evolve: times", array, "strictly increasing times", do))
    return array


def check_step_form(map: Map, state: State, key: Key | None) -> None:
    """Refuse a step that returns another structure, shape or dtype than it was given, naming the first such leaf."""
    index = jax.ShapeDtypeStruct((), jnp.zeros((), int).dtype)
    after = eqx.filter_eval_shape(lambda n, x, k: map.step(n, x, key=k), index, state, key)
    before = structure(state)
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise ValueError(
            explain(
                f"{type(map).__name__}.step changes the structure",
                jax.tree.structure(after),
                jax.tree.structure(before),
                "Return from step the tree that came in.",
            )
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                explain(
                    f"{type(map).__name__}.step changes state{jax.tree_util.keystr(path)}",
                    f"{new.dtype}{list(new.shape)}",
                    f"{old.dtype}{list(old.shape)}",
                    "Start from the form that step returns; layers of different width need a projection to one width.",
                )
            )
