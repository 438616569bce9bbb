r"""Momentum as a Hamiltonian flow with friction, for any kinetic energy K.

    x' = grad K(p),      p' = -grad L(x) - a p,      H = K(p) + L(x),      dH/dt = -a p . grad K(p)

It is conformally symplectic: with J the derivative of the flow over a time t and Omega the canonical form,
J^T Omega J = e^{-a t} Omega, so that volume contracts by exactly e^{-a t d}. Methods that keep this exactly solve the
friction exactly and the rest by symplectic shears:

    conformal symplectic Euler   p <- e^{-a h} p - h grad L(x),   x <- x + h grad K(p)                    order 1
    conformal leapfrog           D(h/2) T(h/2) V(h) T(h/2) D(h/2)                                         order 2

with D(s): p <- e^{-a s} p, T(s): x <- x + s grad K(p), V(s): p <- p - s grad L(x). With K = |p|^2/2 the first is heavy ball
of learning rate h^2 and momentum e^{-a h}, to the letter.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy, scale
from separatrix._types import Function, Key, Scalar, State
from separatrix.calculus.methods.symplectic import ReversibleMethod
from separatrix.calculus.undefined import undefined
from separatrix.optimization.hamiltonian.kinetic import QuadraticKinetic, RelativisticKinetic
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import FromParameters, unpack
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.memory import MemoryForm
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import nonnegative, positive
from separatrix.systems.signature import as_pytree

CanonicalPoint = MemoryForm(
    "CanonicalPoint", ("position", "momentum"),
    "Position x and momentum p; the velocity is grad K(p).",
)  # fmt: skip


class ConformalHamiltonian(FromParameters, Flow):
    r"""x' = grad K(p), p' = -grad L(x) - a p.

    **Arguments:**

    - `objective`: L(parameters). `friction`: a >= 0, in 1/time; 0 conserves K + L.
    - `kinetic`: K, a differentiable function of the momentum; |p|^2/2 by default.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.optimization.ConformalHamiltonian(sx.optimization.Quadratic(1.0), friction=0.5)
    >>> flow.velocity(0.0, sx.optimization.CanonicalPoint(jnp.array([1.0]), jnp.array([2.0]))).momentum.tolist()
    [-2.0]

    **Reference:** McLachlan & Perlmutter, *Conformal Hamiltonian systems* (2001); Maddison, Paulin, Teh, O'Donoghue &
    Doucet, *Hamiltonian descent methods* (2018).
    """

    memory: ClassVar[Any] = CanonicalPoint
    objective: Objective
    friction: Scalar
    kinetic: Function

    def __init__(self, objective: Objective | Function, friction: Any, kinetic: Any = None):
        self.objective = as_objective(objective)
        self.friction = nonnegative("ConformalHamiltonian: friction", friction)
        self.kinetic = as_kinetic(kinetic)

    def velocity(self, t: Scalar, state: State) -> State:
        position, momentum = unpack(state, CanonicalPoint)
        return CanonicalPoint(self.motion(momentum), axpy(-jnp.asarray(self.friction), momentum, self.force(position)))

    def motion(self, momentum: State) -> State:
        """grad K(p)."""
        return jax.grad(self.kinetic)(momentum)

    def force(self, position: State, key: Key | None = None) -> State:
        """-grad L(x)."""
        return scale(-1, gradient(self.objective, position, key))

    def energy(self, state: State) -> Scalar:
        """H = K(p) + L(x)."""
        position, momentum = unpack(state, CanonicalPoint)
        return self.kinetic(momentum) + self.objective(position)


class ConformalSymplecticEuler(ReversibleMethod):
    r"""p <- e^{-a h} p - h grad L(x), x <- x + h grad K(p), of order 1; undone in closed form.

    **Raises:** `TypeError` for a flow that is not a `ConformalHamiltonian`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.optimization.ConformalHamiltonian(sx.optimization.Quadratic(jnp.array([1.0, 4.0])), friction=0.5)
    >>> ball = sx.discretize(flow, sx.optimization.ConformalSymplecticEuler(), 0.1)
    >>> J = sx.linearize(ball, flow.init(jnp.ones(2))).as_matrix()
    >>> bool(jnp.isclose(jnp.linalg.det(J), jnp.exp(-0.5 * 0.1 * 2), rtol=1e-14))
    True

    **Reference:** Bhatt, Floyd & Moore, *Second order conformal symplectic schemes for damped Hamiltonian systems* (2016);
    Franca, Sulam, Robinson & Vidal, *Conformal symplectic and relativistic optimization* (2020).
    """

    order: ClassVar[int] = 1

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        flow, (position, momentum) = require_conformal(system), unpack(state, CanonicalPoint)
        momentum = axpy(step_size, flow.force(position, key), damped(flow, momentum, step_size))
        return CanonicalPoint(axpy(step_size, flow.motion(momentum), position), momentum)

    def retreat(self, system: Flow, t: Scalar, state: State, step_size: Scalar) -> State:
        flow, (position, momentum) = require_conformal(system), unpack(state, CanonicalPoint)
        position = axpy(-step_size, flow.motion(momentum), position)
        return CanonicalPoint(
            position, damped(flow, axpy(-step_size, flow.force(position), momentum), -jnp.asarray(step_size))
        )


class ConformalLeapfrog(ReversibleMethod):
    r"""Half the friction, half a drift, a kick, half a drift, half the friction: order 2, symmetric.

    **Raises:** `TypeError` for a flow that is not a `ConformalHamiltonian`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> kinetic = sx.optimization.RelativisticKinetic(speed=2.0)
    >>> flow = sx.optimization.ConformalHamiltonian(sx.optimization.Beale(), friction=0.5, kinetic=kinetic)
    >>> map = sx.discretize(flow, sx.optimization.ConformalLeapfrog(), 0.1)
    >>> start = flow.init(jnp.array([1.0, 1.0]))
    >>> bool(jnp.allclose(map.inverse_step(0, map.step(0, start)).position, start.position, rtol=1e-13))
    True

    **Reference:** as for `ConformalSymplecticEuler`.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        flow, (position, momentum), half = require_conformal(system), unpack(state, CanonicalPoint), step_size / 2
        momentum = damped(flow, momentum, half)
        position = axpy(half, flow.motion(momentum), position)
        momentum = axpy(step_size, flow.force(position, key), momentum)
        return CanonicalPoint(axpy(half, flow.motion(momentum), position), damped(flow, momentum, half))

    def retreat(self, system: Flow, t: Scalar, state: State, step_size: Scalar) -> State:
        # A symmetric method is undone by its own step with the other sign.
        return self.advance(system, t, state, -jnp.asarray(step_size))


class RelativisticDescent(FromParameters, NearIdentityMap):
    r"""Conformal leapfrog with the relativistic kinetic energy: heavy ball of which no step is longer than c h.

    In the symbols of its source: mu = e^{-a h}, epsilon = h^2/(2 m), delta = 4/(c h)^2, alpha = 1, v = h p/(2 m). As c goes
    to infinity it is heavy ball of second order, off by O(1/c^2).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `step_size`: h > 0. `friction`: a >= 0. `speed`: c > 0. `mass`: m > 0.

    **Example:** from the steep wall of a valley a step is at most c h long.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.RelativisticDescent(sx.optimization.Rosenbrock(), step_size=0.05, friction=1.0, speed=2.0)
    >>> path = sx.evolve(descent, descent.init(jnp.array([-3.0, 20.0])), steps=100).states.position
    >>> bool(jnp.linalg.norm(path[1:] - path[:-1], axis=1).max() < 2.0 * 0.05)
    True

    **Reference:** Franca, Sulam, Robinson & Vidal, *Conformal symplectic and relativistic optimization* (2020),
    relativistic gradient descent (RGD).
    """

    memory: ClassVar[Any] = CanonicalPoint
    objective: Objective
    step_size: Scalar
    friction: Scalar
    kinetic: RelativisticKinetic

    def __init__(self, objective: Objective | Function, step_size: Any, friction: Any, speed: Any, mass: Any = 1.0):
        self.objective = as_objective(objective)
        self.step_size = positive("RelativisticDescent: step_size", step_size)
        self.friction = nonnegative("RelativisticDescent: friction", friction)
        self.kinetic = RelativisticKinetic(speed, mass)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        flow = ConformalHamiltonian(self.objective, self.friction, self.kinetic)
        return ConformalLeapfrog().advance(flow, t, state, step_size, key=key)


class HamiltonianDescent(FromParameters, NearIdentityMap):
    r"""p <- (p - h grad L(x))/(1 + a h), x <- x + h grad K(p), for a chosen kinetic energy K.

    On an objective that grows as |x|^b it converges linearly with K = |p|^a/a, 1/a + 1/b = 1, without strong convexity,
    where heavy ball (a = 2, b > 2) is sublinear. Its limit is `ConformalHamiltonian`.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `step_size`: h > 0. `friction`: a >= 0. `kinetic`: K, a function of the momentum; |p|^2/2 by default.

    **Example:** |x|^4/4, which heavy ball leaves above 1e-5 after as many steps.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> quartic = lambda x: jnp.sum(x**4) / 4
    >>> kinetic = sx.optimization.PowerKinetic(4 / 3)
    >>> descent = sx.optimization.HamiltonianDescent(quartic, step_size=0.1, friction=5.0, kinetic=kinetic)
    >>> final = sx.evolve(descent, descent.init(jnp.array([1.0])), steps=200, save="last").final
    >>> bool(quartic(final.position) < 1e-16)
    True

    **Reference:** Maddison, Paulin, Teh, O'Donoghue & Doucet, *Hamiltonian descent methods* (2018), first explicit
    method.
    """

    memory: ClassVar[Any] = CanonicalPoint
    objective: Objective
    step_size: Scalar
    friction: Scalar
    kinetic: Function

    def __init__(self, objective: Objective | Function, step_size: Any, friction: Any, kinetic: Any = None):
        self.objective = as_objective(objective)
        self.step_size = positive("HamiltonianDescent: step_size", step_size)
        self.friction = nonnegative("HamiltonianDescent: friction", friction)
        self.kinetic = as_kinetic(kinetic)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        position, momentum = unpack(state, CanonicalPoint)
        kicked = axpy(-step_size, gradient(self.objective, position, key), momentum)
        momentum = scale(1 / (1 + jnp.asarray(self.friction, jnp.result_type(step_size)) * step_size), kicked)
        return CanonicalPoint(axpy(step_size, jax.grad(self.kinetic)(momentum), position), momentum)


def damped(flow: ConformalHamiltonian, momentum: State, time: Any) -> State:
    """D(s): e^{-a s} p."""
    return scale(jnp.exp(-jnp.asarray(flow.friction, jnp.result_type(time)) * time), momentum)


def as_kinetic(kinetic: Any) -> Function:
    """A kinetic energy as a pytree; |p|^2/2 where none is given."""
    if kinetic is None:
        return QuadraticKinetic()
    if not callable(kinetic):
        do = "Pass for example PowerKinetic(4 / 3), or a function of the momentum."
        raise TypeError(explain("kinetic", type(kinetic).__name__, "a scalar function of the momentum", do))
    return as_pytree(kinetic)


def require_conformal(flow: Any) -> ConformalHamiltonian:
    """The flow, where its friction is known apart from its forces."""
    if not isinstance(flow, ConformalHamiltonian):
        raise undefined("a conformal method", flow, "ConformalHamiltonian", "Use Leapfrog or ImplicitMidpoint.")
    return flow
