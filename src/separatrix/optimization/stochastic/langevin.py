r"""Descent in a heat bath: Langevin dynamics at a temperature T.

    overdamped     dx = -grad L(x) dt + sqrt(2 T) dW                          density proportional to exp(-L(x)/T)
    underdamped    dx = w dt,  dw = (-grad L(x) - a w) dt + sqrt(2 a T) dW     ... to exp(-(L(x) + |w|^2/2)/T)

The amplitude of the noise and the friction are tied by the temperature (Einstein's relation), so that the second density
does not depend on the friction a, and its part in x is the first. For large a the second, in the time t/a, is the first.

Steps of them sample another density, off by a power of h. On curvature l, where the variance should be T/l:

    Euler-Maruyama, SGLD      T/(l (1 - h l/2))
    BAOAB                     T/l for every stable h

SGLD takes the gradient on a random sample, whose noise of covariance S adds h S/2 to the temperature.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import PyTree

from separatrix._tree import axpy, scale, structure
from separatrix._types import Function, Key, Operator, Scalar, State
from separatrix.calculus.methods.base import SDEMethod, normal
from separatrix.calculus.undefined import undefined
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import FromParameters, unpack
from separatrix.optimization.methods.momentum import PhasePoint
from separatrix.systems.functions import as_operator
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import nonnegative, positive
from separatrix.systems.sde import SDE


class Langevin(FromParameters, SDE):
    r"""dx = -grad L(x) dt + sqrt(2 T) dW, with stationary density proportional to exp(-L(x)/T).

    **Arguments:**

    - `objective`: L(parameters), growing fast enough that exp(-L/T) can be normalised.
    - `temperature`: T >= 0, in the unit of L; 0 is gradient flow.

    **Example:** on curvature 2 at temperature 1/2 the variance is T/l = 1/4.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> bath = sx.optimization.Langevin(sx.optimization.Quadratic(2.0), temperature=0.5)
    >>> sx.optimization.stationary_covariance(bath, jnp.zeros(1)).covariance.tolist()
    [[0.25]]

    **Reference:** Pavliotis, *Stochastic Processes and Applications* (2014), chapter 4.
    """

    objective: Objective
    temperature: Scalar

    def __init__(self, objective: Objective | Function, temperature: Any):
        self.objective = as_objective(objective)
        self.temperature = nonnegative("Langevin: temperature", temperature)

    def drift(self, t: Scalar, state: State) -> State:
        return scale(-1, gradient(self.objective, state, None))

    def diffusion(self, t: Scalar, state: State) -> Operator:
        return as_operator(jnp.sqrt(2 * jnp.asarray(self.temperature)), state)


class UnderdampedLangevin(FromParameters, SDE):
    r"""dx = w dt, dw = (-grad L(x) - a w) dt + sqrt(2 a T) dW, with stationary density exp(-(L(x) + |w|^2/2)/T).

    The limit of heavy ball in a heat bath. The state is a `PhasePoint`; its diffusion is diagonal, and zero on x.

    **Arguments:**

    - `objective`: L(parameters).
    - `friction`: a >= 0, in 1/time. `temperature`: T >= 0, in the unit of L.

    **Example:** whatever the friction, Var x = T/l and Var w = T.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> bath = sx.optimization.UnderdampedLangevin(sx.optimization.Quadratic(2.0), friction=0.3, temperature=0.5)
    >>> found = sx.optimization.stationary_covariance(bath, bath.init(jnp.zeros(1))).covariance
    >>> bool(jnp.allclose(found, jnp.diag(jnp.array([0.25, 0.5]))))
    True

    **Reference:** Pavliotis, *Stochastic Processes and Applications* (2014), chapter 6.
    """

    memory: ClassVar[Any] = PhasePoint
    objective: Objective
    friction: Scalar
    temperature: Scalar

    def __init__(self, objective: Objective | Function, friction: Any, temperature: Any):
        self.objective = as_objective(objective)
        self.friction = nonnegative("UnderdampedLangevin: friction", friction)
        self.temperature = nonnegative("UnderdampedLangevin: temperature", temperature)

    def drift(self, t: Scalar, state: State) -> State:
        position, velocity = unpack(state, PhasePoint)
        force = scale(-1, gradient(self.objective, position, None))
        return PhasePoint(velocity, axpy(-jnp.asarray(self.friction), velocity, force))

    def diffusion(self, t: Scalar, state: State) -> Operator:
        position, velocity = unpack(state, PhasePoint)
        amplitude = jnp.sqrt(2 * jnp.asarray(self.friction) * jnp.asarray(self.temperature))
        still = jax.tree.map(jnp.zeros_like, position)
        moved = jax.tree.map(lambda leaf: jnp.full_like(leaf, amplitude.astype(leaf.dtype)), velocity)
        return lx.DiagonalLinearOperator(PhasePoint(still, moved))


class BAOAB(SDEMethod):
    r"""A step of `UnderdampedLangevin` by splitting: half a kick, half a drift, heat bath, half a drift, half a kick.

        B  w <- w - (h/2) grad L(x)       A  x <- x + (h/2) w       O  w <- e^{-a h} w + sqrt(T (1 - e^{-2 a h})) z

    in the order B A O A B, z ~ N(0, I). Weak order 2. On a quadratic the positions have the variance T/l exactly for
    every step size h < 2/sqrt(l), as no other order of the letters gives.

    **Raises:** `TypeError` for any other SDE.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> bath = sx.optimization.UnderdampedLangevin(sx.optimization.Quadratic(1.0), friction=1.0, temperature=0.1)
    >>> method, key = sx.optimization.BAOAB(), jax.random.key(0)
    >>> path = sx.evolve(bath, bath.init(jnp.ones(3)), steps=100, step_size=0.5, method=method, key=key)
    >>> str(path.outcome)
    'completed'

    **Reference:** Leimkuhler & Matthews, *Rational construction of stochastic numerical methods for molecular sampling*
    (2013).
    """

    # In paths, z being the normalised integral of e^{-a (h - s)} dW(s) over the step.
    strong_order: ClassVar[float] = 1.0
    weak_order: ClassVar[float] = 2.0

    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        return normal(key, structure(unpack(state, PhasePoint)[1]))

    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        if not isinstance(system, UnderdampedLangevin):
            raise undefined("BAOAB", system, "UnderdampedLangevin", "Use EulerMaruyama for other SDEs.")
        position, velocity = unpack(state, PhasePoint)
        half = step_size / 2
        velocity = axpy(-half, gradient(system.objective, position, None), velocity)
        position = axpy(half, velocity, position)
        velocity = _refreshed(system, velocity, step_size, noise)
        position = axpy(half, velocity, position)
        return PhasePoint(position, axpy(-half, gradient(system.objective, position, None), velocity))


def _refreshed(system: UnderdampedLangevin, velocity: State, step_size: Scalar, noise: PyTree | None) -> State:
    """The heat bath alone, exactly: an Ornstein-Uhlenbeck process over a step."""
    rate = jnp.asarray(system.friction, jnp.result_type(step_size)) * step_size
    kept = scale(jnp.exp(-rate), velocity)
    if noise is None:
        return kept
    variance = -jnp.asarray(system.temperature, jnp.result_type(step_size)) * jnp.expm1(-2 * rate)
    return axpy(jnp.sqrt(variance), noise, kept)


class SGLD(FromParameters, NearIdentityMap):
    r"""Stochastic gradient Langevin dynamics: x[n+1] = x[n] - h grad L(x[n]; sample) + sqrt(2 h T) z.

    With L = -log of an unnormalised posterior and T = 1 it samples that posterior, to O(h). Welling and Teh write eps = 2 h
    and let it fall with n; here h is constant. Without a key it is gradient descent; on curvature l with gradient noise of
    variance s^2 the stationary variance is (T + h s^2/2)/(l (1 - h l/2)).

    **Arguments:**

    - `objective`: L(parameters, *, key) of a random sample, or L(parameters).
    - `step_size`: h > 0. `temperature`: T >= 0.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> sampler = sx.optimization.SGLD(sx.optimization.Quadratic(1.0), step_size=0.1, temperature=1.0)
    >>> path = sx.evolve(sampler, sampler.init(jnp.zeros(1000)), steps=200, key=jax.random.key(0), save="last")
    >>> round(float(jnp.var(path.final)), 1)
    1.0

    **Reference:** Welling & Teh, *Bayesian learning via stochastic gradient Langevin dynamics* (2011), equation 4.
    """

    objective: Objective
    step_size: Scalar
    temperature: Scalar

    def __init__(self, objective: Objective | Function, step_size: Any, temperature: Any):
        self.objective = as_objective(objective)
        self.step_size = positive("SGLD: step_size", step_size)
        self.temperature = nonnegative("SGLD: temperature", temperature)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        if key is None:
            return axpy(-step_size, gradient(self.objective, state, None), state)
        sample, bath = jax.random.split(key)
        moved = axpy(-step_size, gradient(self.objective, state, sample), state)
        temperature = jnp.asarray(self.temperature, jnp.result_type(step_size))
        hot = temperature > 0
        # At temperature 0 it is stochastic gradient descent, smooth in h at 0.
        amplitude = jnp.where(hot, jnp.sqrt(2 * step_size * jnp.where(hot, temperature, 1)), 0)
        return axpy(amplitude, normal(bath, structure(state)), moved)
