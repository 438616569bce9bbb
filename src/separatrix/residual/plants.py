r"""Plants: what is to be controlled, with an input port. Both hang at the angle 0 and are upright at pi.

    pendulum     q'' = -sin q - a q' + u
    cart-pole    (M + m) x'' + m l (q'' cos q - q'^2 sin q) = u,     l q'' + x'' cos q + g sin q = 0

with a weight m on a rod without mass, of length l, hinged to a cart of mass M that the force u pushes along a rail.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix._types import Scalar, State
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.open import OpenFlow


class PendulumPlant(OpenFlow):
    """q'' = -sin q - a q' + u, on the state (q, q'): a pendulum that hangs at q = 0, with a torque at its pivot.

    Time is in units of sqrt(length/g), torque in units of what holds the pendulum level.

    **Arguments:**

    - `friction`: a >= 0.

    **Raises:** `ValueError` for a negative friction.

    **Example:** a torque of 1 holds it level.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.PendulumPlant().velocity(0.0, jnp.array([jnp.pi / 2, 0.0]), 1.0).tolist()
    [0.0, 0.0]
    """

    friction: Any = eqx.field(default=0.0, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.nonnegative("PendulumPlant: friction", self.friction, "Leave it out for none.")

    def velocity(self, t: Scalar, state: State, inputs: Any) -> State:
        angle, rate = state[0], state[1]
        friction = jnp.asarray(self.friction, state.dtype)
        return jnp.stack([rate, -jnp.sin(angle) - friction * rate + jnp.asarray(inputs, state.dtype)])

    @staticmethod
    def features(state: Any) -> Any:
        """(cos q, sin q, q'): what a policy may see without knowing how often the pendulum went round."""
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    @staticmethod
    def from_upright(state: Any) -> Any:
        """(q - pi, q'), the angle in [-pi, pi): 0 at rest above."""
        return jnp.stack([_turned(state[0]), state[1]])

    @staticmethod
    def energy(state: Any) -> Any:
        """q'^2/2 - cos q: -1 at rest below, 1 at rest above."""
        return 0.5 * state[1] ** 2 - jnp.cos(state[0])


class CartPole(OpenFlow):
    r"""A pole hinged to a cart, on the state (x, q, x', q'), the force u pushing the cart.

        x'' = (u + m sin q (l q'^2 + g cos q))/(M + m sin^2 q)
        q'' = -(u cos q + m l q'^2 cos q sin q + (M + m) g sin q)/(l (M + m sin^2 q))

    **Arguments:** in units of SI, with the numbers that the field takes; the pole's weight is at its end.

    - `cart`, `pole`: the masses M and m, > 0. `length`: l > 0. `gravity`: g > 0.

    **Raises:** `ValueError` for one that is not positive and finite.

    **Example:** upright it falls at the rate sqrt(g (M + m)/(l M)) if nobody pushes.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> plant = sx.residual.CartPole()
    >>> at_top = jax.jacobian(lambda x: plant.velocity(0.0, x, 0.0))(jnp.array([0.0, jnp.pi, 0.0, 0.0]))
    >>> round(float(jnp.max(jnp.linalg.eigvals(at_top).real)), 3), round((9.81 * 1.1 / 0.5) ** 0.5, 3)
    (4.646, 4.646)

    **Reference:** Barto, Sutton & Anderson, *Neuronlike adaptive elements that can solve difficult learning control
    problems* (1983), for the numbers; Tedrake, *Underactuated Robotics* (2024), section 3.2.1, for the equations.
    """

    cart: Any = eqx.field(default=1.0, converter=as_parameter)
    pole: Any = eqx.field(default=0.1, converter=as_parameter)
    length: Any = eqx.field(default=0.5, converter=as_parameter)
    gravity: Any = eqx.field(default=9.81, converter=as_parameter)

    def __check_init__(self) -> None:
        for name in ("cart", "pole", "length", "gravity"):
            ranges.positive(f"CartPole: {name}", getattr(self, name), "Leave it out for the usual one.")

    def velocity(self, t: Scalar, state: State, inputs: Any) -> State:
        _, q, speed, rate = state
        big, small, length, g = self._numbers(state)
        sin, cos, u = jnp.sin(q), jnp.cos(q), jnp.asarray(inputs, state.dtype)
        mass = big + small * sin**2
        push = (u + small * sin * (length * rate**2 + g * cos)) / mass
        swing = -(u * cos + small * length * rate**2 * cos * sin + (big + small) * g * sin) / (length * mass)
        return jnp.stack([speed, rate, push, swing])

    def features(self, state: Any) -> Any:
        """(x/l, cos q, sin q, x'/sqrt(g l), q' sqrt(l/g)): numbers of order one, whatever the units."""
        x, q, speed, rate = state
        _, _, length, g = self._numbers(state)
        return jnp.stack(
            [x / length, jnp.cos(q), jnp.sin(q), speed / jnp.sqrt(g * length), rate * jnp.sqrt(length / g)]
        )

    @staticmethod
    def from_upright(state: Any) -> Any:
        """(x, q - pi, x', q'), the angle in [-pi, pi): 0 at rest above the middle of the rail."""
        return jnp.stack([state[0], _turned(state[1]), state[2], state[3]])

    def pole_energy(self, state: Any) -> Any:
        """q'^2 l/(2 g) - cos q, of the pole about its hinge, over m g l: -1 at rest below, 1 at rest above."""
        _, _, length, g = self._numbers(state)
        return 0.5 * state[3] ** 2 * length / g - jnp.cos(state[1])

    def energy(self, state: Any) -> Any:
        """(M + m) x'^2/2 + m l x' q' cos q + m l^2 q'^2/2 - m g l cos q: its rate is the power u x'."""
        _, q, speed, rate = state
        big, small, length, g = self._numbers(state)
        turning = small * length * (speed * rate * jnp.cos(q) + 0.5 * length * rate**2 - g * jnp.cos(q))
        return 0.5 * (big + small) * speed**2 + turning

    def _numbers(self, state: Any) -> tuple[Any, ...]:
        return tuple(jnp.asarray(value, state.dtype) for value in (self.cart, self.pole, self.length, self.gravity))


def _turned(angle: Any) -> Any:
    """The angle less pi, in [-pi, pi)."""
    return jnp.mod(angle, 2 * jnp.pi) - jnp.pi
