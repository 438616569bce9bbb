"""Terms of diffrax as systems: an ODETerm is a flow; a drift term with a control term is an SDE."""

from typing import Any

import diffrax
import lineax as lx
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._types import Operator, Scalar, State
from separatrix.systems.flow import Flow
from separatrix.systems.functions import as_operator
from separatrix.systems.sde import SDE


class TermFlow(Flow):
    """dx/dt = term.vf(t, x, args)."""

    term: diffrax.ODETerm[Any]
    args: PyTree

    def velocity(self, t: Scalar, state: State) -> State:
        return self.term.vf(t, state, self.args)


class TermSDE(SDE):
    """dx = drift_term.vf(t, x, args) dt + control_term.vf(t, x, args) dW."""

    drift_term: diffrax.ODETerm[Any]
    control_term: Any
    args: PyTree

    def drift(self, t: Scalar, state: State) -> State:
        return self.drift_term.vf(t, state, self.args)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        value = self.control_term.vf(t, state, self.args)
        return value if isinstance(value, lx.AbstractLinearOperator) else as_operator(value, state)


def from_diffrax(term: Any, args: PyTree = None) -> Flow | SDE:
    r"""Make a system of a diffrax term.

    **Arguments:**

    - `term`: an `ODETerm`, giving dx/dt = vf(t, x, args); or `MultiTerm(ODETerm, ControlTerm)`, giving an SDE whose
      diffusion is the control term's field. The control itself (a Brownian path) is not used: `evolve` draws its own.
    - `args`: what diffrax would pass on as `args`.

    **Returns:** a `Flow` or an `SDE`.

    **Raises:** `TypeError` for any other term.

    **Example:**

    >>> import diffrax, separatrix as sx
    >>> decay = sx.from_diffrax(diffrax.ODETerm(lambda t, y, args: -args * y), 2.0)
    >>> float(decay.velocity(0.0, 3.0))
    -6.0
    """
    match term:
        case diffrax.ODETerm():
            return TermFlow(term, args)
        case diffrax.MultiTerm(terms=(diffrax.ODETerm() as drift, diffrax.ControlTerm() as noise)):
            return TermSDE(drift, noise, args)
    raise TypeError(
        explain(
            "from_diffrax",
            type(term).__name__,
            "ODETerm, or MultiTerm(ODETerm, ControlTerm)",
            "Write other terms as a function with as_flow or as_sde.",
        )
    )
