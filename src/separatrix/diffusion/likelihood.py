r"""Likelihood by change of variables along a flow.

    d/dt log p_t(x(t)) = -div f(t, x(t)),   so   log p_0(x) = log p_T(x(T)) + int_0^T div f(t, x(t)) dt.

The divergence is the trace of the Jacobian: exact by one forward derivative a dimension, or unbiased by one product with
a random probe, E v^T J v for E v v^T = I.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix._types import Function, Key, Scalar, State
from separatrix.evolution import evolve
from separatrix.systems.flow import Flow


class WithDivergence(Flow):
    """d/dt (x, l) = (f, div f), with the trace exact or along one probe."""

    flow: Flow
    probe: Any

    def velocity(self, t: Scalar, state: State) -> State:
        x = state[0]

        def along(direction: Any) -> tuple[Any, Any]:
            return jax.jvp(lambda y: self.flow.velocity(t, y), (x,), (direction,))

        if self.probe is not None:
            velocity, pushed = along(self.probe)
            return velocity, jnp.vdot(self.probe, pushed)
        basis = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
        pushed = jax.vmap(lambda e: jnp.vdot(e, along(e)[1]))(basis)
        return self.flow.velocity(t, x), jnp.sum(pushed)


def log_likelihood(
    flow: Flow, x: Any, times: Any, prior_log_density: Function, *, key: Key | None = None, **settings: Any
) -> Scalar:
    r"""Return log p_0(x) for the law that a flow carries to a known one.

        log p_0(x) = log p_T(x(T)) + int_0^T div f dt

    **Arguments:**

    - `flow`: on one array, as `probability_flow(process, score)`.
    - `x`: the point, an array; `jax.vmap` over many.
    - `times`: (0, T). `prior_log_density`: log p_T, as `process.prior_log_density`.
    - `key`: None for the exact trace, whose cost grows with the dimension; a key for one Gaussian probe.
    - `settings`: for `evolve`: `rtol`, `method`, `step_size`, ...

    **Returns:** a scalar, in nats; NaN where the flow did not get to T.

    **Raises:** `TypeError` for a state that is not one array of floating-point numbers.

    **Example:** contraction of a normal law, dx/dt = -x: p_0 = N(0, e^2) goes to p_1 = N(0, 1).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> normal = lambda x: jnp.sum(-x**2 / 2 - jnp.log(2 * jnp.pi) / 2)
    >>> value = sx.diffusion.log_likelihood(sx.as_flow(lambda x: -x), jnp.array([0.0]), (0.0, 1.0), normal)
    >>> round(float(value), 4)
    -1.9189

    **Reference:** Chen et al., *Neural ordinary differential equations* (2018), theorem 1; Grathwohl et al., *FFJORD*
    (2019), section 3.1, for the probe.
    """
    if not (isinstance(x, jax.Array) and is_inexact(x)):
        got = f"{x.dtype}{list(x.shape)}" if isinstance(x, jax.Array) else type(x).__name__
        do = "Ravel the state, or pass jnp.asarray(x, float)."
        raise TypeError(explain("log_likelihood: x", got, "one array of floating-point numbers", do))
    probe = None if key is None else jax.random.normal(key, x.shape, x.dtype)
    start = (x, jnp.zeros((), x.dtype))
    final, gained = evolve(WithDivergence(flow, probe), start, times=times, save="last", **settings).final
    return prior_log_density(final) + gained
