r"""The rate at which a heat bath carries descent out of a minimum (Eyring, Kramers, Langer).

With barrier D = L(s) - L(m) from a minimum m to the saddle s, H the Hessian, l_1 < 0 its one negative eigenvalue at s,

    mean time over the saddle = (2 pi / mu) sqrt(|det H(s)| / det H(m)) exp(D/T) (1 + O(T)),

    mu = |l_1|                               overdamped,    dx = -grad L dt + sqrt(2 T) dW
    mu = sqrt(a^2/4 + |l_1|) - a/2           underdamped,   x'' = -grad L - a x' + noise

where mu is the rate at which the motion without noise leaves the saddle. The time is that of reaching the far side of the
saddle; the saddle itself is reached in half of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import structure
from separatrix._types import Function, Scalar, State
from separatrix.diagnostics.result import Result, Row
from separatrix.systems.objective import as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import positive

# Both Hessians are formed: 512^2 float64 are 2 MiB.
_DENSE = 512


class KramersTime(Result):
    """The mean time over a saddle, in the limit of a low temperature.

    - `time`: NaN where the critical points are not a minimum and a saddle of index 1. `barrier`: L(s) - L(m).
    - `temperature`; `exit_rate`: mu, at which the saddle is left; `index`: how many negative eigenvalues the saddle has.
    - `least_curvature`: of the minimum. `slope`: the larger |grad L| of the two, 0 at critical points.
    - `dissipation`: of the underdamped formula, what friction takes from one swing at the height of the barrier, over T:
      a J/T, with the action J = 2 pi D/sqrt(l) of a parabola of the least curvature l; infinite for the overdamped one.
    """

    time: Float[Array, ""]
    barrier: Float[Array, ""]
    temperature: Float[Array, ""]
    exit_rate: Float[Array, ""]
    index: Float[Array, ""]
    least_curvature: Float[Array, ""]
    slope: Float[Array, ""]
    dissipation: Float[Array, ""]

    def rows(self) -> list[Row]:
        return [
            Row("mean time", self.time),
            Row("barrier", self.barrier),
            Row("barrier over temperature", self.barrier / self.temperature),
            Row("rate at which the saddle is left", self.exit_rate),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not (self.index == 1 and self.least_curvature > 0):
            found.append(
                f"the formula is for a minimum and a saddle of index 1: least curvature {float(self.least_curvature):.2g}, "
                f"index {int(self.index)}"
            )
        if self.slope > 1e-4:
            found.append(f"the points are not critical: |grad L| = {float(self.slope):.2g}")
        if not self.barrier > 3 * self.temperature:
            found.append("the barrier is below three temperatures: the error of the formula, O(T), is no longer small")
        if self.dissipation < 1:
            found.append(
                "friction takes less than T from one swing: escape waits for energy to diffuse, and is slower than this"
            )
        return tuple(found)


def kramers_time(
    objective: Function, minimum: Any, saddle: Any, temperature: Any, *, friction: Any = None
) -> KramersTime:
    r"""Return the mean time in which `Langevin` or `UnderdampedLangevin` goes from a minimum over a saddle.

        (2 pi / mu) sqrt(|det H(s)| / det H(m)) exp((L(s) - L(m))/T)

    **Arguments:**

    - `objective`: L, twice differentiable at both points.
    - `minimum`, `saddle`: critical points of index 0 and 1, of one form and at most 512 numbers.
    - `temperature`: T > 0, well below the barrier. `friction`: a > 0 of the underdamped equation; None for overdamped.

    **Returns:** a `KramersTime`. Its `time` counts one saddle; with several at the same height add their rates 1/time.

    **Raises:** `ValueError` for points of different form, too many coordinates, or a temperature that is not positive.

    **Example:** the double well, 2 pi/sqrt(2) exp(1/(4 T)).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> well, left, top = sx.optimization.DoubleWell(), jnp.array([-1.0]), jnp.array([0.0])
    >>> found = sx.optimization.kramers_time(well, left, top, temperature=0.05)
    >>> round(float(found.time), 2)
    659.38

    **Reference:** Kramers, *Brownian motion in a field of force and the diffusion model of chemical reactions* (1940);
    Langer, *Statistical theory of the decay of metastable states* (1969); Bovier, Eckhoff, Gayrard & Klein, *Metastability
    in reversible diffusion processes I* (2004).
    """
    loss = as_objective(objective)
    temperature = positive("kramers_time: temperature", temperature)
    friction = None if friction is None else positive("kramers_time: friction", friction)
    _check_points(require_trainable(minimum), require_trainable(saddle))
    bottom, top = _critical_point(loss, minimum), _critical_point(loss, saddle)
    temperature = jnp.asarray(temperature, bottom.value.dtype)
    barrier = top.value - bottom.value
    rate = _exit_rate(-top.curvatures[0], friction)
    entropy = 0.5 * (jnp.sum(jnp.log(jnp.abs(top.curvatures))) - jnp.sum(jnp.log(jnp.abs(bottom.curvatures))))
    index = jnp.sum(top.curvatures < 0).astype(barrier.dtype)
    time = 2 * jnp.pi / rate * jnp.exp(entropy + barrier / temperature)
    return KramersTime(
        time=jnp.where((index == 1) & (bottom.curvatures[0] > 0), time, jnp.nan),
        barrier=barrier,
        temperature=temperature,
        exit_rate=rate,
        index=index,
        least_curvature=bottom.curvatures[0],
        slope=jnp.maximum(bottom.slope, top.slope),
        dissipation=_dissipation(friction, barrier, bottom.curvatures[0], temperature),
    )


class _Critical(NamedTuple):
    """Value, slope and eigenvalues of the Hessian, ascending, at a point."""

    value: Any
    slope: Any
    curvatures: Any


def _critical_point(loss: Function, point: State) -> _Critical:
    flat, restore = ravel_pytree(jax.tree.map(jnp.asarray, point))

    def value(vector: Any) -> Scalar:
        return loss(restore(vector))

    slope = jnp.linalg.norm(jax.grad(value)(flat))
    return _Critical(value(flat), slope, jnp.linalg.eigvalsh(jax.hessian(value)(flat)))


def _exit_rate(steepness: Any, friction: Any) -> Any:
    """mu, written so that no digits cancel where the friction is large."""
    if friction is None:
        return steepness
    half = jnp.asarray(friction, steepness.dtype) / 2
    return steepness / (half + jnp.sqrt(half**2 + steepness))


def _dissipation(friction: Any, barrier: Any, curvature: Any, temperature: Any) -> Any:
    """a J/T, with the action J of one round trip in a parabola."""
    if friction is None:
        return jnp.full_like(barrier, jnp.inf)
    action = 2 * jnp.pi * barrier / jnp.sqrt(jnp.abs(curvature))
    return jnp.asarray(friction, barrier.dtype) * action / temperature


def _check_points(minimum: State, saddle: State) -> None:
    forms = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), structure(point)) for point in (minimum, saddle)]
    if forms[0] != forms[1]:
        do = "Give both as the objective takes them."
        raise ValueError(explain("kramers_time: saddle", forms[1], f"the form of the minimum, {forms[0]}", do))
    size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(minimum))
    if size > _DENSE:
        do = "Take the formula on the subspace in which the two Hessians differ."
        raise ValueError(explain("kramers_time: minimum", f"{size} numbers", f"at most {_DENSE}", do))
