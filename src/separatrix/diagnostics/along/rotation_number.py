r"""How fast an orbit turns: the mean angle per step, in turns.

    rho = lim (1/N) sum_n a(x_n),      a(x_n) = angle(x_{n+1}) - angle(x_n)

A plain mean errs by 1/N, since the last turn is not complete. The weighted mean

    rho_N = sum_n w(n/N) a(x_n) / sum_n w(n/N),      w(s) = exp(-1/(s (1 - s)))

fades out smoothly at both ends. On a quasi-periodic orbit of a smooth map its error falls faster than any power of 1/N;
on a chaotic one no faster than N^(-1/2). The difference of the two half-orbits' means is an estimate of the error of a
half, hence a cautious one of the whole, and tells the two cases apart.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype
from separatrix._types import Function, Key, State
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution.any_system import evolve
from separatrix.evolution.save import Save
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map


class RotationNumber(Result):
    """The rotation number and how well it is known.

    - `value`: turns a step of a map, turns a unit of time of a flow. `error`: |difference of the halves' means|.
    - `halves`, shape (2,): the means over the first and the second half of the orbit.
    - `largest_step`: the largest |angle| between neighbours, in turns; with an angle known only up to whole turns it must
      stay well under one half.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]
    halves: Float[Array, " 2"]
    largest_step: Float[Array, ""]
    wrapped: bool = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row("rotation number", self.value, self.error),
            Row("halves", self.halves),
            Row("largest step", f"{float(self.largest_step):.4g} turns"),
            Row("steps", str(self.steps)),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        if not np.isfinite(self.value):
            return ("the orbit does not stay finite",)
        found = []
        if self.error > 1e-6:
            found.append("the halves disagree: a transient, too short an orbit, or a chaotic one (N^(-1/2) at best)")
        if self.wrapped and self.largest_step > 0.45:
            found.append("single steps of almost half a turn: their direction is a guess; sample a flow more often")
        if self.single_precision:
            found.append("float32: about five digits at best")
        return tuple(found)


def rotation_number(
    system: Any,
    state: Any,
    *,
    steps: int = 10_000,
    angle: Function | None = None,
    turn: float = 1.0,
    transient: int = 0,
    interval: float | None = None,
    key: Key | None = None,
) -> RotationNumber:
    r"""Return the mean number of turns per step (map) or per unit of time (flow) of an orbit.

        rho = lim (angle(x_N) - angle(x_0)) / N

    **Arguments:**

    - `system`: a `Map`, or a `Flow` with `interval`, the time between two looks at it. `state`: where the orbit starts.
    - `steps`: N, the number of angles averaged, after `transient` ones that are not.
    - `angle`: angle(state) in radians, about any centre, known up to whole turns: steps are then taken the short way,
      between -1/2 and 1/2 turn. None for the lift of a circle map: the state itself is one number that counts turns of
      length `turn`.
    - `key`: randomness of a random map.

    **Returns:** a `RotationNumber`. It is made under `jit` and `vmap` too.

    **Raises:** `ValueError` for fewer than 16 steps, a lift that is not one number, or a flow without an interval;
    `TypeError` for an SDE.

    **Example:** rotation by the golden mean.

    >>> import separatrix as sx
    >>> golden = (5 ** 0.5 - 1) / 2
    >>> found = sx.rotation_number(sx.as_map(lambda x: x + golden), 0.0, steps=1000)
    >>> bool(abs(found.value - golden) < 1e-13)
    True

    **Reference:** Das, Saiki, Sander & Yorke, *Quantitative quasiperiodicity* (2017), for the weight; Sander & Meiss,
    *Birkhoff averages and rotational invariant circles for area-preserving maps* (2020), for the comparison of halves.
    """
    if steps < 16 or transient < 0:
        do = "Average over a thousand steps or more, and drop none or more before."
        raise ValueError(explain("rotation_number: steps", (steps, transient), "steps >= 16, transient >= 0", do))
    state = asarrays(state)
    if angle is None and (not eqx.is_array(state) or state.size != 1):
        do = "Pass angle=lambda x: jnp.arctan2(x[1], x[0]), or any angle of your own."
        got = f"a state of form {jax.tree.map(jnp.shape, state)}"
        raise ValueError(explain("rotation_number: lift", got, "one number, or an angle", do))
    read = jnp.ravel if angle is None else lambda x: jnp.ravel(jnp.asarray(angle(x)))
    angles, unit = _angles(system, state, steps + transient, interval, read, key)
    return _averaged(angles[transient:], angle is not None, turn if angle is None else 2 * np.pi, unit)


def _angles(system: Any, state: State, steps: int, interval: Any, read: Function, key: Any) -> tuple[Any, float]:
    """The angles of the orbit, and how long a step is."""
    match system:
        case Map():
            return evolve(system, state, steps=steps, key=key, save=Save(fn=read)).states[:, 0], 1.0
        case Flow() if interval is None or not interval > 0:
            do = "Say how long between two looks, a small part of a turn: interval=0.1."
            raise ValueError(explain("rotation_number: interval of a flow", interval, "a positive time", do))
        case Flow():
            times = np.arange(steps + 1) * float(interval)
            tight: dict[str, Any] = (
                {"rtol": 1e-10, "atol": 1e-12} if float(jnp.finfo(float_dtype(state)).eps) < 1e-10 else {}
            )
            path = evolve(system, state, times=times, save=Save(fn=read), max_steps=100 * steps, **tight)
            return path.states[:, 0], float(interval)
    raise undefined("rotation_number", system, "Map or Flow", "Make it one with as_map or as_flow.")


@eqx.filter_jit
def _averaged(angles: Any, wrapped: bool, turn: float, unit: float) -> RotationNumber:
    moves = jnp.diff(angles) / jnp.asarray(turn, angles.dtype)
    moves = moves - jnp.round(moves) if wrapped else moves
    half = moves.size // 2
    scale = jnp.asarray(1 / unit, moves.dtype)
    halves = jnp.stack([_weighted(moves[:half]), _weighted(moves[-half:])]) * scale
    value = _weighted(moves) * scale
    floor = (
        4
        * jnp.finfo(moves.dtype).eps
        * jnp.maximum(jnp.max(jnp.abs(angles)) / jnp.asarray(turn, moves.dtype), 1)
        * scale
    )
    return RotationNumber(
        value=value,
        error=jnp.maximum(jnp.abs(halves[1] - halves[0]), floor / jnp.sqrt(jnp.asarray(moves.size, moves.dtype))),
        halves=halves,
        largest_step=jnp.max(jnp.abs(moves)),
        wrapped=wrapped,
        steps=moves.size,
        single_precision=float(jnp.finfo(moves.dtype).eps) > 1e-10,
    )


def _weighted(values: Any) -> Any:
    """sum w(n/N) a_n / sum w(n/N), n = 1/2, 3/2, ..., so that no weight is exp(-1/0)."""
    s = (np.arange(values.size) + 0.5) / values.size
    weight = np.exp(-1 / (s * (1 - s)))
    return jnp.dot(jnp.asarray(weight / weight.sum(), values.dtype), values)
