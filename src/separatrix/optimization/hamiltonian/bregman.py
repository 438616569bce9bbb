r"""Accelerated flows: the Bregman family, and time dilation, which leads from each of its members to every other.

With h a convex function whose gradient is the mirror map, p > 0 and C > 0,

    d/dt grad h(z) = -C p t^{p-1} grad L(x),        x' = (p/t)(z - x),

are the Euler-Lagrange equations of the Bregman Lagrangian under ideal scaling. For h = |x|^2/2 they are

    x'' + ((p + 1)/t) x' + C p^2 t^{p-2} grad L(x) = 0,

of which p = 2, C = 1/4 is Nesterov's. For convex L the quantity D_h(x*, z) + C t^p (L(x) - L*) never grows, hence the rate
L - L* = O(1/t^p). All p are one curve at different speeds, x_q(t) = x_p(t^{q/p}): acceleration of a flow is a matter of the
clock, and it is a discretisation that cannot go faster than its stability lets it.

Where L is mu-strongly convex the clock is exponential, and for h = |x|^2/2

    x' = sqrt(mu)(z - x),   z' = sqrt(mu)(x - z) - grad L(x)/sqrt(mu),      x'' + 2 sqrt(mu) x' + grad L(x) = 0,

for which e^{sqrt(mu) t} (mu |z - x*|^2/2 + L(x) - L*) never grows.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy, float_dtype, scale, subtract
from separatrix._types import Function, Scalar, State
from separatrix.calculus.undefined import undefined
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import unpack
from separatrix.systems.flow import Flow
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import positive
from separatrix.systems.signature import as_pytree

MirrorPoint = MemoryForm(
    "MirrorPoint", ("position", "dual"),
    "Position x and dual variable grad h(z); with h = |x|^2/2 the latter is z = x + (t/p) x'.",
)  # fmt: skip


class BregmanFlow(Flow):
    r"""grad h(z)' = -C p t^{p-1} grad L(x), x' = (p/t)(z - x), from t = 0 or later.

    **Arguments:**

    - `objective`: L(parameters). `power`: p > 0, of the rate O(1/t^p). `constant`: C > 0; 1/4 makes p = 2 Nesterov's.
    - `mirror`: the inverse mirror map, from the dual variable to z, as `jax.nn.softmax` for the entropy on the simplex;
      the identity by default.

    At t = 0 start from `init`, where z = x. For p < 1 the forces there are infinite: start later.

    **Example:** p = 2 from 1 on x^2/2 is 2 J1(t)/t, with its first zero at 3.8317.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.optimization.BregmanFlow(sx.optimization.Quadratic(1.0))
    >>> path = sx.evolve(flow, flow.init(jnp.array([1.0])), times=(0.0, 3.831706), rtol=1e-9, atol=1e-11)
    >>> bool(abs(path.final.position[0]) < 1e-6)
    True

    **Reference:** Wibisono, Wilson & Jordan, *A variational perspective on accelerated methods in optimization* (2016);
    Krichene, Bayen & Bartlett, *Accelerated mirror descent in continuous and discrete time* (2015).
    """

    objective: Objective
    power: Scalar
    constant: Scalar
    mirror: Function | None

    def __init__(
        self, objective: Objective | Function, power: Any = 2.0, constant: Any = 0.25, mirror: Function | None = None
    ):
        self.objective = as_objective(objective)
        self.power = positive("BregmanFlow: power", power)
        self.constant = positive("BregmanFlow: constant", constant)
        self.mirror = None if mirror is None else as_pytree(mirror)

    def init(self, parameters: State, dual: State | None = None) -> Remembered:
        """Return the state at rest: with a mirror map, at mirror(dual), which `parameters` must be."""
        if self.mirror is not None and dual is None:
            do = "Pass init(parameters, dual) with parameters = mirror(dual)."
            raise ValueError(explain("BregmanFlow: dual", "None", "the dual variable, where there is a mirror map", do))
        require_trainable(parameters)
        return MirrorPoint(parameters, jax.tree.map(jnp.asarray, parameters if dual is None else dual))

    def velocity(self, t: Scalar, state: State) -> State:
        position, dual = unpack(state, MirrorPoint)
        dtype = float_dtype(state)
        power, constant = jnp.asarray(self.power, dtype), jnp.asarray(self.constant, dtype)
        # At t = 0 the pull p/t is infinite and acts on z - x = 0: a time that no step notices keeps the product 0.
        t = jnp.where(t == 0, jnp.finfo(dtype).tiny ** 0.4, jnp.asarray(t, dtype))
        z = dual if self.mirror is None else self.mirror(dual)
        pull = scale(power / t, subtract(z, position))
        return MirrorPoint(pull, scale(-constant * power * t ** (power - 1), gradient(self.objective, position, None)))


class StronglyConvexFlow(Flow):
    r"""x' = sqrt(mu)(z - x), z' = sqrt(mu)(x - z) - grad L(x)/sqrt(mu): that is x'' + 2 sqrt(mu) x' + grad L(x) = 0.

    **Arguments:**

    - `objective`: L(parameters). `convexity`: mu > 0, a lower bound of the curvature of L.

    **Example:** on mu x^2/2 it is critically damped: x = (1 + sqrt(mu) t) e^{-sqrt(mu) t}.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.optimization.StronglyConvexFlow(sx.optimization.Quadratic(4.0), convexity=4.0)
    >>> final = sx.evolve(flow, flow.init(jnp.array([1.0])), times=(0.0, 1.0), rtol=1e-9, atol=1e-11).final
    >>> round(float(final.position[0]), 6), round(float(3 * jnp.exp(-2.0)), 6)
    (0.406006, 0.406006)

    **Reference:** Wilson, Recht & Jordan, *A Lyapunov analysis of accelerated methods in optimization* (2021).
    """

    objective: Objective
    convexity: Scalar

    def __init__(self, objective: Objective | Function, convexity: Any):
        self.objective = as_objective(objective)
        self.convexity = positive("StronglyConvexFlow: convexity", convexity)

    def init(self, parameters: State) -> Remembered:
        """Return the state at rest at these parameters."""
        return MirrorPoint(require_trainable(parameters), jax.tree.map(jnp.asarray, parameters))

    def velocity(self, t: Scalar, state: State) -> State:
        position, dual = unpack(state, MirrorPoint)
        root = jnp.sqrt(jnp.asarray(self.convexity))
        pull = scale(root, subtract(dual, position))
        slope = gradient(self.objective, position, None)
        return MirrorPoint(pull, axpy(-1 / root, slope, scale(-1, pull)))


class Dilation(Flow):
    """dy/dt = tau'(t) f(tau(t), y)."""

    flow: Flow
    clock: Function

    def velocity(self, t: Scalar, state: State) -> State:
        dtype = float_dtype(state)
        t = jnp.asarray(t, dtype)
        time, rate = jax.jvp(self.clock, (t,), (jnp.ones_like(t),))
        return scale(rate, self.flow.velocity(time.astype(dtype), state))


def dilate(flow: Any, clock: Function) -> Flow:
    r"""Return the flow whose curves are those of another at times tau(t): y(t) = x(tau(t)).

        dy/dt = tau'(t) f(tau(t), y)

    **Arguments:**

    - `flow`: a `Flow`. `clock`: tau, a differentiable function of the time.

    **Returns:** a `Flow` on the same state.

    **Raises:** `TypeError` for anything but a `Flow`: a map has no other clock than its steps.

    **Example:** the Bregman flow of power 4 is that of power 2 by the clock t^2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> loss = sx.optimization.Rosenbrock()
    >>> two, four = (sx.optimization.BregmanFlow(loss, power=p) for p in (2.0, 4.0))
    >>> point = sx.optimization.MirrorPoint(jnp.array([0.5, 1.0]), jnp.array([1.0, 2.0]))
    >>> first, second = sx.optimization.dilate(two, lambda t: t**2).velocity(1.5, point), four.velocity(1.5, point)
    >>> bool(jnp.allclose(first.position, second.position)), bool(jnp.allclose(first.dual, second.dual))
    (True, True)

    **Reference:** Wibisono, Wilson & Jordan (2016), theorem on time dilation.
    """
    if not isinstance(flow, Flow):
        raise undefined("dilate", flow, "Flow", "Take the limit of a near-identity map first.")
    return Dilation(flow, as_pytree(clock))
