"""Bad input is refused before anything is compiled, with the field and index named."""

import re
import traceback
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype, is_inexact, is_traced, structure
from separatrix._types import Key, State
from separatrix.calculus.discretization import Discretization, ReversibleDiscretization
from separatrix.systems.base import System
from separatrix.systems.clock import NearIdentityFrom
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map
from separatrix.systems.open import OpenSystem
from separatrix.systems.optax_maps import finite_part
from separatrix.systems.ranges import first_not_finite


def check_system(system: Any, what: str = "evolve") -> None:
    """Refuse what is not a system, and a system with parameters that are not finite."""
    if isinstance(system, OpenSystem):
        raise TypeError(
            explain(
                f"{what}: system",
                f"{type(system).__name__}, which waits for an input",
                "a Map, Flow or SDE",
                "Close it first with drive(system, inputs) or close_loop.",
            )
        )
    if not isinstance(system, System):
        raise TypeError(
            explain(
                f"{what}: system",
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
        found = first_not_finite(leaf) if eqx.is_array_like(leaf) else None
        if found is not None:
            value, index = found
            where = f"{what}{jax.tree_util.keystr(path)}" + (f"[{', '.join(map(str, index))}]" if index else "")
            raise ValueError(explain(where, value, "a finite number", "Look at where this value was made."))


def check_key(key: Any, what: str = "evolve") -> Key | None:
    """Refuse a seed where a key is meant."""
    if key is None or (
        isinstance(key, jax.Array)
        and (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or (key.dtype == jnp.uint32 and key.shape == (2,)))
    ):
        return key
    raise TypeError(
        explain(
            f"{what}: key",
            repr(key),
            "one PRNG key",
            "Pass key=jax.random.key(seed); split many members with ensemble.",
        )
    )


def check_steps(steps: Any, what: str = "steps", least: int = 0, where: str = "evolve") -> int:
    """Return a count of steps as an int."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < least:
        raise ValueError(
            explain(
                f"{where}: {what}",
                repr(steps),
                f"a whole number >= {least}",
                f"Give {what} as a Python int, known before compiling.",
            )
        )
    return int(steps)


def check_positive(value: Any, what: str) -> None:
    """Refuse a number that is not positive and finite, unless it is traced or not given."""
    if value is None or is_traced(value):
        return
    number = np.asarray(value)
    if number.dtype == bool or not np.issubdtype(number.dtype, np.number) or number.ndim != 0:
        raise TypeError(explain(what, repr(value), "one number > 0", "Pass for example 1e-3."))
    if np.iscomplexobj(number) or not (np.isfinite(number) and number > 0):
        raise ValueError(explain(what, value, "a finite number > 0", "Pass for example 1e-3."))


def check_word(value: Any, words: tuple[str, ...], what: str) -> None:
    """Refuse a word that is none of those that are known."""
    if value is not None and value not in words:
        known = ", ".join(words)
        raise ValueError(explain(what, repr(value), f"one of {known}", f'Leave it out for "{words[0]}".'))


def check_times(times: Any, dtype: Any = None, what: str = "evolve") -> Any:
    """Return times in a dtype (that of the state), as a NumPy array if they are known: at least two, finite, increasing.

    Inside a trace every `jnp` operation gives a tracer, so what is to be looked at stays with NumPy.
    """
    if times is None:
        raise ValueError(explain(f"{what}: times", "None", "times=(t0, ..., t1)", "Say from when to when."))
    array = jnp.asarray(times) if is_traced(times) else np.asarray(times)
    array = array if is_inexact(array) else array.astype(float)
    if array.ndim != 1 or array.shape[0] < 2:
        got = f"shape {array.shape}"
        raise ValueError(
            explain(f"{what}: times", got, "at least (t0, t1)", "Pass times=(t0, t1), or a grid of times to save.")
        )
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(explain(f"{what}: times", f"dtype {array.dtype}", "real times", "Pass real numbers."))
    dtype = array.dtype if dtype is None else dtype
    if not isinstance(array, np.ndarray):
        return array.astype(dtype)
    check_finite(array, f"{what}: times")
    if not (np.diff(array) > 0).all():
        do = "Sort them; to go backwards evolve reverse(flow)."
        raise ValueError(explain(f"{what}: times", array, "strictly increasing times", do))
    cast = array.astype(dtype)
    if not (np.diff(cast) > 0).all() or not np.isfinite(cast).all():
        name = jnp.dtype(dtype).name
        do = "Take fewer of them, count time from t0, or use a state of float64."
        raise ValueError(
            explain(f"{what}: times", f"times that coincide in {name}", "times that it can tell apart", do)
        )
    return cast


def check_field(system: Any, t: Any, state: State) -> None:
    """Refuse a velocity, drift or diffusion of another structure, shape or dtype than the state, naming the first leaf."""
    name = type(system).__name__
    field, function = ("velocity", system.velocity) if isinstance(system, Flow) else ("drift", system.drift)
    after = traced_form(f"{name}.{field}", function, t, state)
    _require_same_form(f"{name}.{field} differs from the state", structure(state), after, _AS_STATE)
    if not isinstance(system, Flow):
        operator = traced_form(f"{name}.diffusion", system.diffusion, t, state)
        if not isinstance(operator, lx.AbstractLinearOperator):
            got, expected = type(operator).__name__, "a lineax operator from noise to state"
            do = "Return lineax.DiagonalLinearOperator(g), or MatrixLinearOperator(g)."
            raise TypeError(explain(f"{name}.diffusion", got, expected, do))
        form = operator.out_structure()
        _require_same_form(f"{name}.diffusion differs from the state", structure(state), form, _AS_STATE)


_AS_STATE = "Return an array for each array of the state, of its shape and dtype."


def traced_form(name: str, function: Any, *arguments: Any) -> Any:
    """The form of what a user's function returns; a branch on traced values is told with the function and its argument."""
    try:
        return eqx.filter_eval_shape(function, *arguments)
    except jax.errors.ConcretizationTypeError as error:
        where = _place_of(error)
        got = f"a branch in Python (if, while, float(), bool()) on a traced value{where}"
        do = "Write jnp.where(condition, a, b), or jax.lax.cond; jnp.clip and jnp.maximum for limits."
        raise TypeError(explain(name, got, "array operations that JAX can trace", do)) from error


def _place_of(error: Exception) -> str:
    """The last line of the user's own code in a traceback, and the argument that JAX blames."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in ("site-packages", "separatrix"))]
    blamed = re.search(r"depends on the values? of the arguments? ([^\n]+)", str(error))
    place = f", in {own[-1].name} (line {own[-1].lineno}: {own[-1].line})" if own else ""
    return place + (f", argument {blamed.group(1).rstrip('.')}" if blamed else "")


def _require_same_form(what: str, before: Any, after: Any, do: str) -> None:
    """Refuse another structure, shape or dtype, naming the first leaf."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise ValueError(explain(f"{what}: structure", jax.tree.structure(after), jax.tree.structure(before), do))
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in pairs:
        if (jnp.shape(old), jnp.result_type(old)) != (jnp.shape(new), jnp.result_type(new)):
            got = f"{jnp.result_type(new)}{list(jnp.shape(new))}"
            expected = f"{jnp.result_type(old)}{list(jnp.shape(old))}"
            raise ValueError(explain(f"{what}: state{jax.tree_util.keystr(path)}", got, expected, do))


def check_step_form(map: Map, state: State, key: Key | None) -> None:
    """Refuse a step, or the field that it discretises, that returns another structure, shape or dtype than it was given."""
    index = jax.ShapeDtypeStruct((), jnp.zeros((), int).dtype)
    stepped = map.map if isinstance(map, NearIdentityFrom) else map
    if isinstance(stepped, Discretization | ReversibleDiscretization):
        check_field(stepped.system, jax.ShapeDtypeStruct((), float_dtype(state)), state)
    after = traced_form(f"{type(map).__name__}.step", lambda n, x, k: map.step(n, x, key=k), index, state, key)
    do = "Start from the form that step returns; layers of different width need a projection to one width."
    _require_same_form(f"{type(map).__name__}.step changes the state", structure(state), after, do)
