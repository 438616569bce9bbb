"""Survival: how far a short run comes before it stops being finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._tree import asarrays, is_traced
from separatrix._types import Key
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import Question, register
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.linear.coordinates import kind_of
from separatrix.systems.map import FiniteMap
from separatrix.systems.trajectory import Outcome

_STEPS = 200
_TIME = 10.0
# An SDE takes as many steps as a map, over a twentieth of a flow's time.
_STEP_SIZE = 0.0025


class Survival(Result):
    """How far a short run came.

    - `reached`, `span`: steps of a map or time of a flow: how far it came, and how far it was to go.
    - `outcome`: how it ended.
    """

    reached: Float[Array, ""]
    span: Float[Array, ""]
    outcome: Outcome

    def rows(self) -> list[Row]:
        return [Row("outcome", str(self.outcome)), Row("reached", self.reached), Row("of", self.span)]

    @property
    def cautions(self) -> tuple[str, ...]:
        return ()


def survival(system: Any, state: Any, *, at: Any = 0, key: Key | None = None) -> Survival:
    """Run a system for 200 steps (a map, an SDE) or 10 units of time (a flow), and say how far it came.

    **Arguments:** a `Map`, `Flow` or `SDE`; a state; the step number or time to start from; a key for a random one (one
    of its own where an SDE is given none).

    **Returns:** a `Survival`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> found = sx.diagnostics.survival(sx.as_flow(lambda x: x**2), jnp.array(1.0))
    >>> found.outcome.name, round(float(found.reached), 3)
    ('escaped', 1.0)
    """
    kind = kind_of(system)
    state = asarrays(state)
    if kind == "map":
        start = int(at)
        steps = min(_STEPS, system.length - start) if isinstance(system, FiniteMap) else _STEPS
        path = evolve(system, state, steps=steps, start=start, key=key, save="last")
        return _survival(path.stats["steps"], steps, path.outcome)
    start = float(at)
    if kind == "flow":
        path = evolve(system, state, times=(start, start + _TIME), save="last")
        ended = path.outcome
        # Where it is known whether it completed nothing is compiled for it.
        xp: Any = jnp if is_traced(ended) else np
        reached = xp.where(ended.completed, _TIME, xp.asarray(ended.at) - start)
        return _survival(reached, _TIME, path.outcome)
    key = jax.random.key(0) if key is None else key
    path = evolve(system, state, times=(start, start + _STEPS * _STEP_SIZE), step_size=_STEP_SIZE, key=key, save="last")
    return _survival(_STEP_SIZE * float(path.stats["steps"]), _STEPS * _STEP_SIZE, path.outcome)


def _survival(reached: Any, span: Any, outcome: Outcome) -> Survival:
    dtype = jnp.zeros(()).dtype
    return Survival(jnp.asarray(reached).astype(dtype), jnp.asarray(span, dtype), outcome)


def _judge(answer: Survival, system: Any) -> list[Finding]:
    """It stays finite."""
    reached, span = float(answer.reached), float(answer.span)
    if not bool(answer.outcome.reached) and not reached < span:
        # That it broke is known, if not where.
        reached = 0.0
    return [
        Finding(
            "stays finite over a short run",
            reached,
            ">=",
            span,
            answer.outcome.advice or "the run ended early",
            "Lower the step size, or start nearer to where it is stable.",
        )
    ]


register(Question("survival", "does a short run stay finite?", survival, judge=_judge, rank=0))
