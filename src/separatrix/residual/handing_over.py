r"""Hand-over: a policy that leads to the neighbourhood of a point of rest, and the linear regulator that holds it there.

    u(t, x) = clip(-K e, +-limit)   where V(e) = e^T P e <= level,     pi(t, x)   elsewhere,     e = x - target

K and P are those of Riccati's equation for the plant linearised at the target. Without bounds and without curvature V falls
along every orbit. With them it falls up to some level, which is measured: from points spread over the surfaces V = level of
a geometric row of levels the regulated plant is run, and the level is the last up to which all of them stay below their
own V and come back. So the region is kept by the regulator that takes over in it, as far as the points tell: it is a
measurement, and no proof.

**Reference:** Tedrake, *Underactuated Robotics* (2024), section 3.5, for swing-up and balance; Najafi, Babuska & Lopes, *A
fast sampling method for estimating the domain of attraction* (2016), for the level by samples.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked, Function
from separatrix.calculus import close_loop
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.residual.linear_control import lqr, lqr_cost
from separatrix.systems import ranges
from separatrix.systems.open import OpenFlow
from separatrix.systems.signature import as_pytree, positional_count

_LEVELS, _POINTS = 24, 64
_CALM = 12.0  # time constants of the slowest rate that a run lasts: V falls by exp(-24)
_FINE = 20.0  # steps in the time constant of the fastest


class Regulator(eqx.Module):
    """u(x) = clip(-K (x - target), +-limit), with the value V(x) = (x - target)^T P (x - target)."""

    target: Any
    gain: Any
    weights: Any
    limit: float = eqx.field(static=True)
    coordinates: Function | None = eqx.field(static=True)

    def offset(self, state: Any) -> Any:
        """x - target, as the coordinates see both."""
        if self.coordinates is None:
            return state - self.target.astype(state.dtype)
        return self.coordinates(state) - self.coordinates(self.target.astype(state.dtype))

    def value(self, state: Any) -> Any:
        """V(x), the cost that is left without bounds."""
        e = self.offset(state)
        return e @ (jax.lax.stop_gradient(self.weights).astype(e.dtype) @ e)

    def __call__(self, state: Any) -> Any:
        e = self.offset(state)
        return jnp.clip(-(jax.lax.stop_gradient(self.gain).astype(e.dtype) @ e), -self.limit, self.limit)


class HandOver(eqx.Module):
    """The policy of a regulator where its value is at most the level, another one elsewhere: made by `hand_over`."""

    policy: Function = eqx.field(converter=as_pytree)
    regulator: Regulator
    level: Any
    takes_time: bool = eqx.field(static=True)

    def holds(self, state: Any) -> Any:
        """Whether the regulator has the state."""
        return self.regulator.value(state) <= jnp.asarray(self.level, state.dtype)

    def after(self, policy: Function) -> "HandOver":
        """Return the same hand-over after another policy."""
        takes_time = positional_count(policy, (1, 2), "u(x) or u(t, x)") == 2
        return HandOver(as_pytree(policy), self.regulator, self.level, takes_time)

    def __call__(self, t: Any, state: Any) -> Any:
        led = self.policy(t, state) if self.takes_time else self.policy(state)
        return jnp.where(self.holds(state), self.regulator(state), led)


def hand_over(
    plant: OpenFlow,
    policy: Checked[Function],
    target: Any,
    *,
    q: Any,
    r: float,
    limit: float,
    coordinates: Function | None = None,
    constraint: Function | None = None,
    level: float | None = None,
) -> HandOver:
    r"""Return the policy that hands over to the linear regulator near a point of rest, so that it stays there.

        u = clip(-K e, +-limit)  if  e^T P e <= level,  else  pi(t, x)

    **Arguments:**

    - `plant`: an `OpenFlow` of one input, on a vector; at rest at `target` without input.
    - `policy`: u(x) or u(t, x), a number.
    - `q`, (d, d), and `r` > 0: the cost of the regulator, as in `lqr`. `limit`: the largest input, > 0.
    - `coordinates`: of a state, so that angles are told modulo 2 pi, as `plant.from_upright`; the state by default.
    - `constraint`: b(x, u), <= 0 where the regulator may go, as in `policy_loss`.
    - `level`: of V, where the hand-over is; measured by default.

    **Returns:** a `HandOver` u(t, x), with `level`, `regulator` and `holds(x)`.

    **Raises:** `ValueError` for a target at which the plant does not rest, one that cannot be held, or where the
    constraint is not kept, or for a limit or level that is not positive and finite.

    **Example:** a pendulum that does nothing but is held where it stands upright.

    >>> import jax.numpy as jnp, numpy as np, separatrix as sx
    >>> plant = sx.residual.PendulumPlant()
    >>> held = sx.residual.hand_over(plant, lambda x: 0.0 * x[0], jnp.array([jnp.pi, 0.0]), q=np.eye(2), r=1.0, limit=0.5)
    >>> loop = sx.close_loop(plant, held)
    >>> end = sx.evolve(loop, jnp.array([jnp.pi - 0.1, 0.0]), times=(0.0, 20.0), steps=400, method=sx.RK4()).final
    >>> bool(jnp.allclose(end, jnp.array([jnp.pi, 0.0]), atol=1e-5))
    True

    **Reference:** Tedrake, *Underactuated Robotics* (2024), section 3.5.
    """
    ranges.positive("hand_over: limit", limit, "Pass the largest input.")
    ranges.positive("hand_over: r", r, "Pass what an input costs.")
    ranges.finite("hand_over: target", target, "Pass a state of rest.")
    target = jnp.asarray(target)
    at_rest = jnp.zeros((), target.dtype)
    drift = float(jnp.max(jnp.abs(plant.velocity(0.0, target, at_rest))))
    if not drift <= 1e3 * float(jnp.finfo(target.dtype).eps) * (1 + float(jnp.max(jnp.abs(target)))):
        do = "Pass a state in which the plant stays without input."
        raise ValueError(explain("hand_over: target", f"a velocity of {drift:.2g} there", "rest", do))
    a, b = jax.jacobian(lambda x, u: plant.velocity(0.0, x, u), argnums=(0, 1))(target, at_rest)
    problem = (np.asarray(a, float), np.asarray(b, float)[:, None], q, np.array([[float(r)]]))
    gain, weights = lqr(*problem), lqr_cost(*problem)
    regulator = Regulator(target, gain[0], weights, float(limit), coordinates)
    if level is None:
        level = _measured_level(plant, regulator, problem[:2], constraint)
    else:
        ranges.positive("hand_over: level", level, "Leave it out to have it measured.")
    takes_time = positional_count(policy, (1, 2), "u(x) or u(t, x)") == 2
    return HandOver(as_pytree(policy), regulator, jnp.asarray(level), takes_time)


def _measured_level(plant: OpenFlow, regulator: Regulator, linear: tuple[Any, Any], constraint: Any) -> float:
    """The largest level of a geometric row up to which all points of the surfaces are held."""
    a, b = linear
    gain, weights = np.asarray(regulator.gain, float), np.asarray(regulator.weights, float)
    rates = -np.linalg.eigvals(a - b @ gain[None]).real
    # On this level -K e reaches the limit for the first time.
    unbounded = regulator.limit**2 / float(gain @ np.linalg.solve(weights, gain))
    levels = unbounded * 2.0 ** (np.arange(_LEVELS) / 2 - 6)  # from 1/64 of it to 45 times
    drawn = np.random.default_rng(0).standard_normal((_POINTS, len(gain)))
    sphere = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    surface = np.linalg.solve(np.linalg.cholesky(weights).T, sphere.T).T  # V = 1
    dtype = regulator.target.dtype
    starts = regulator.target[None, None] + jnp.asarray(np.sqrt(levels)[:, None, None] * surface, dtype)
    horizon, fastest = _CALM / float(rates.min()), float(np.abs(np.linalg.eigvals(a - b @ gain[None])).max())
    steps = int(np.ceil(_FINE * horizon * fastest))
    last = None
    for level, spread in zip(levels, starts, strict=True):
        if not bool(_held(plant, regulator, constraint, spread, jnp.asarray(horizon, dtype), steps)):
            break
        last = float(level)
    if last is None:
        do = "Allow a larger limit, or pass the level."
        raise ValueError(explain("hand_over: target", "a regulator that holds no region", "one that does", do))
    return last


@eqx.filter_jit
def _held(plant: OpenFlow, regulator: Regulator, constraint: Any, starts: Any, horizon: Any, steps: int) -> Any:
    """Whether all starts stay below their V, keep the constraint, and come to a hundredth of it."""
    loop = close_loop(plant, regulator)

    def seen(x: Any) -> tuple[Any, Any]:
        broken = jnp.zeros((), bool) if constraint is None else jnp.any(constraint(x, regulator(x)) > 0)
        return regulator.value(x), broken

    def one(start: Any) -> Any:
        path = evolve(loop, start, steps=steps, step_size=horizon / steps, method=RK4(), save=seen)
        values, broken = path.states
        slack = 1 + 64 * jnp.finfo(start.dtype).eps
        calm = jnp.all(values <= slack * values[0]) & (values[-1] < 0.01 * values[0])
        return calm & ~jnp.any(broken) & path.outcome.completed

    return jnp.all(jax.vmap(one)(starts))
