"""Whether a function's result depends on its argument, read off its program.

An output is tainted if a tainted value enters the primitive that makes it. Nothing is evaluated. The answer may be a false
yes (x - x, or a constant branch) and is never a false no.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from separatrix._types import State

# Primitives that run their inner program once, on their own inputs. Loops and branches mix all of theirs.
CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}
)


def depends_on(function: Callable[[Any], Any], state: State) -> bool:
    """Return whether any output of `function(state)` is made from any leaf of `state`.

    **Example:**

    >>> from separatrix.calculus.dependence import depends_on
    >>> depends_on(lambda x: 2.0 * x, 1.0), depends_on(lambda x: 3.0, 1.0)
    (True, False)
    """
    program = jax.make_jaxpr(lambda x: jax.tree.leaves(function(x)))(state).jaxpr
    return any(_tainted_outputs(program, [True] * len(program.invars)))


def _tainted_outputs(program: core.Jaxpr, inputs: list[bool]) -> list[bool]:
    tainted = {variable for variable, taint in zip(program.invars, inputs, strict=True) if taint}

    def is_tainted(atom: Any) -> bool:
        return not isinstance(atom, core.Literal) and atom in tainted

    for equation in program.eqns:
        entering = [is_tainted(atom) for atom in equation.invars]
        leaving = _through(equation, entering)
        tainted |= {variable for variable, taint in zip(equation.outvars, leaving, strict=True) if taint}
    return [is_tainted(atom) for atom in program.outvars]


def _through(equation: Any, entering: list[bool]) -> list[bool]:
    """Taint of an equation's outputs; a call is followed inside, any other primitive mixes all of its inputs."""
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    inner = getattr(inner, "jaxpr", inner)
    if equation.primitive.name in CALLS and inner is not None and len(inner.invars) == len(entering):
        return _tainted_outputs(inner, entering)
    return [any(entering)] * len(equation.outvars)
