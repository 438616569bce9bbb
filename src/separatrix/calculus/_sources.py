"""Which entry of the state each entry of a result is made of, read off a program.

Every entry of every value carries the number of the entry of the state that it is computed from, or a mark: NONE of them,
SEVERAL, or UNKNOWN. Arithmetic entry by entry joins marks, slicing and stacking move them, and a sum or a matrix product
joins all that it adds up. Nothing is evaluated. Like `depends_on` it may see more than there is (x - x, a matrix that
happens to be diagonal), and never less. What other primitives do is UNKNOWN, unless all that enters has one source.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from separatrix._types import State
from separatrix.calculus.dependence import CALLS

NONE, SEVERAL, UNKNOWN = -1, -2, -3

_ENTRYWISE = """
    abs acos acosh add and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos cosh digamma
    div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul
    ne neg nextafter not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh xor
"""
_MOVING = "broadcast_in_dim concatenate expand_dims reshape rev slice squeeze stack transpose"
ENTRYWISE, MOVING = frozenset(_ENTRYWISE.split()), frozenset(_MOVING.split())
ADDING = frozenset({"dot_general", "reduce_sum", "cumsum"})


def is_entrywise(function: Callable[[State], State], state: State) -> bool:
    """Return whether entry i of `function(state)` is made of entry i of `state` alone, as far as the program tells.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from separatrix.calculus._sources import is_entrywise
    >>> is_entrywise(lambda x: jnp.sin(2.0 * x), jnp.ones(2)), is_entrywise(lambda x: x[::-1], jnp.ones(2))
    (True, False)
    """
    return all(((s == NONE) | (s == own)).all() for s, own in _with_own(function, state))


def is_mixed(function: Callable[[State], State], state: State) -> bool:
    """Return whether some entry i of `function(state)` is surely computed from other entries of `state` than i."""
    return any(((s != NONE) & (s != UNKNOWN) & (s != own)).any() for s, own in _with_own(function, state))


def _with_own(function: Callable[[State], State], state: State) -> list[tuple[np.ndarray, np.ndarray]]:
    """The sources of each leaf of a result that has the form of the state, beside the numbers of its own entries."""
    program = jax.make_jaxpr(lambda x: jax.tree.leaves(function(x)))(state).jaxpr
    numbers, first = [], 0
    for variable in program.invars:
        size = int(np.prod(variable.aval.shape))
        numbers.append(np.asarray(first + np.arange(size)).reshape(variable.aval.shape))
        first += size
    return list(zip(_through_program(program, numbers), numbers, strict=True))


def _through_program(program: core.Jaxpr, inputs: list[np.ndarray]) -> list[np.ndarray]:
    known = dict(zip(program.invars, inputs, strict=True))

    def read(atom: Any) -> np.ndarray:
        blank = np.full(np.shape(atom.val) if isinstance(atom, core.Literal) else atom.aval.shape, NONE)
        return blank if isinstance(atom, core.Literal) else known.get(atom, blank)

    for equation in program.eqns:
        entering = [read(atom) for atom in equation.invars]
        shapes = [getattr(variable.aval, "shape", ()) for variable in equation.outvars]
        known.update(zip(equation.outvars, _through(equation, entering, shapes), strict=True))
    return [read(atom) for atom in program.outvars]


def _through(equation: Any, entering: list[np.ndarray], shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    name, inner = equation.primitive.name, equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    inner = getattr(inner, "jaxpr", inner)
    if name in CALLS and inner is not None and len(inner.invars) == len(entering):
        return _through_program(inner, entering)
    marks = np.unique(np.concatenate([np.ravel(source) for source in entering])) if entering else np.array([NONE])
    marks = marks[marks != NONE]
    if len(marks) == 0:
        return [np.full(shape, NONE) for shape in shapes]
    if name in ENTRYWISE:
        return [_joined([np.broadcast_to(source, shapes[0]) for source in entering])]
    if name in MOVING:
        return [_moved(equation, entering)]
    if name in ADDING and len(shapes) == 1:
        return [_joined([_added(equation, entering, i) for i in range(len(entering))])]
    return [np.full(shape, marks[0] if len(marks) == 1 else UNKNOWN) for shape in shapes]


def _joined(sources: list[np.ndarray]) -> np.ndarray:
    """The source of what is made of several things, entry by entry."""
    total = np.full(sources[0].shape, NONE)
    for source in sources:
        differ = np.where((total == UNKNOWN) | (source == UNKNOWN), UNKNOWN, SEVERAL)
        joined = np.where(total == NONE, source, np.where((source == NONE) | (source == total), total, differ))
        # Surely several is not made less sure by what is unknown.
        total = np.where((total == SEVERAL) | (source == SEVERAL), SEVERAL, joined)
    return total


def _added(equation: Any, entering: list[np.ndarray], i: int) -> np.ndarray:
    """Sources through sums over one argument, by how many terms carry a mark and whether their marks are one number."""

    def total(values: np.ndarray) -> np.ndarray:
        ones = [np.ones(source.shape) for source in entering]
        return _sum_of(equation, [*ones[:i], values.astype(float), *ones[i + 1 :]])

    source = entering[i]
    some, several, unknown = (total(source != NONE), total(source == SEVERAL), total(source == UNKNOWN))
    number = np.where(source >= 0, source, 0)
    mean, square = total(number) / np.maximum(some, 1), total(number.astype(float) ** 2) / np.maximum(some, 1)
    one = np.abs(square - mean**2) < 0.25 / np.maximum(some, 1)
    found = np.where(one, np.rint(mean).astype(int), SEVERAL)
    found = np.where(unknown > 0, UNKNOWN, found)
    return np.where(some == 0, NONE, np.where(several > 0, SEVERAL, found))


def _moved(equation: Any, entering: list[np.ndarray]) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        return np.asarray(equation.primitive.bind(*[jnp.asarray(source) for source in entering], **equation.params))


def _sum_of(equation: Any, values: list[np.ndarray]) -> np.ndarray:
    """The sums of a primitive that adds, in NumPy's float64 whatever JAX's is."""
    name, params = equation.primitive.name, equation.params
    if name == "reduce_sum":
        return np.asarray(np.sum(values[0], axis=tuple(params["axes"])))
    if name == "cumsum":
        axis, order = params["axis"], slice(None, None, -1 if params["reverse"] else 1)
        turned = (slice(None),) * axis + (order,)
        return np.cumsum(values[0][turned], axis=axis)[turned]
    (left, right), (left_batch, right_batch) = params["dimension_numbers"]
    first, second = list(range(values[0].ndim)), [values[0].ndim + i for i in range(values[1].ndim)]
    for i, j in zip((*left, *left_batch), (*right, *right_batch), strict=True):
        second[j] = first[i]
    free = [i for i in first if i not in (*left, *left_batch)]
    free += [axis for j, axis in enumerate(second) if j not in (*right, *right_batch)]
    return np.asarray(np.einsum(values[0], first, values[1], second, [*left_batch, *free]))
