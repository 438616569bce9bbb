r"""Random equations fitted to what was seen: by the likelihood of their steps, or by the moments of their paths.

    dx = f(t, x) dt + g(t, x) dW

Between two instants h apart the step of Euler and Maruyama is normal, so that a path has the likelihood

    -ln p = sum_n 1/2 r_n^T S_n^-1 r_n + 1/2 ln det(2 pi S_n),    r_n = x_n+1 - x_n - f h,   S_n = g g^T h.

It needs states that were seen whole and without noise, and instants that lie close: what it finds differs from the truth by
O(h). For dx = -theta x dt + sigma dW its maximum is that of a regression, 1 - theta h = sum x_n x_n+1/sum x_n^2, and the
exact one is exp(-theta h) = the same. Where instants are far apart, or steps were seen with noise, moments of simulated
paths are compared with moments of the observed ones instead.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Function, Key, StepIndex
from separatrix.calculus.methods import EulerMaruyama
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.map import FiniteMap
from separatrix.systems.sde import SDE


def transition_loss(sde_of: Function) -> Function:
    r"""Return the loss l(model, segments): the mean of -ln p(x_n+1 | x_n), by the step of Euler and Maruyama.

        -ln p = 1/2 r^T S^-1 r + 1/2 ln det(2 pi S),    r = x_n+1 - x_n - f(t_n, x_n) h,    S = g g^T h

    **Arguments:**

    - `sde_of`: model -> `SDE` on vectors, whose noise reaches every coordinate: S must have an inverse.

    **Returns:** l(model, batch) for `fit`, with a batch of `Segments` (of length 1, one transition each, to draw
    mini-batches from). Transitions from or to a state that was not seen whole count for nothing. It is NaN if S is
    singular: then a step has no density.

    **Raises:** `TypeError`, when it is called, for a model that makes no `SDE`.

    **Example:** the rate and the noise of an Ornstein-Uhlenbeck process, from one path.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> make = lambda m: sx.as_sde(lambda x: -jnp.exp(m[0]) * x, lambda x: jnp.exp(m[1]))
    >>> times = jnp.linspace(0.0, 100.0, 2001)
    >>> path = sx.evolve(make(jnp.log(jnp.array([1.0, 0.5]))), jnp.zeros(1), times=times, steps=2000, key=jax.random.key(0))
    >>> data = sx.residual.segments(times, path.states, 1)
    >>> loss = sx.residual.transition_loss(make)
    >>> found = sx.fit(loss, optax.lbfgs(1.0, linesearch=None), data, initial=jnp.zeros(2), steps=20)
    >>> bool(abs(jnp.exp(found.model[1]) - 0.5) < 0.02)
    True

    **Reference:** Iacus, *Simulation and Inference for Stochastic Differential Equations* (2008), section 3.2.1, for the
    pseudo-likelihood; Dietrich et al., *Learning effective stochastic differential equations from microscopic simulations*
    (2023), section III, for networks in it.
    """

    def loss(model: Any, batch: Any) -> Any:
        sde = _require_sde("transition_loss", sde_of(model))
        times, states = batch.times, batch.states

        def one(t: Any, h: Any, now: Any, then: Any) -> Any:
            drift, noise = sde.drift(t, now), jnp.asarray(sde.diffusion(t, now).as_matrix(), now.dtype)
            apart = h > 0
            h = jnp.where(apart, h, 1)  # the filling of a shorter segment; it does not count
            root = jnp.linalg.cholesky((noise @ noise.T) * h)
            white = jax.scipy.linalg.solve_triangular(root, then - now - drift * h, lower=True)
            return 0.5 * (white @ white + now.size * jnp.log(2 * jnp.pi)) + jnp.sum(jnp.log(jnp.diag(root)))

        steps = jnp.diff(times, axis=1)
        each = jax.vmap(jax.vmap(one))(times[:, :-1], steps, states[:, :-1], states[:, 1:])
        counted = steps > 0
        if batch.present is not None:
            whole = jnp.all(batch.present, axis=-1)
            counted = counted & whole[:, :-1] & whole[:, 1:]
        return jnp.sum(jnp.where(counted, each, 0)) / jnp.maximum(jnp.sum(counted.astype(each.dtype)), 1)

    return loss


class SubsteppedPath(FiniteMap):
    """Euler and Maruyama in k steps from each instant to the next, one row an instant."""

    sde: SDE
    times: Any
    substeps: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: Any, *, key: Key | None = None) -> Any:
        place, inner = jnp.divmod(jnp.asarray(n), self.substeps)
        h = ((self.times[place + 1] - self.times[place]) / self.substeps).astype(state.dtype)
        t = self.times[place].astype(state.dtype) + inner.astype(state.dtype) * h
        return EulerMaruyama().advance(self.sde, t, state, h, key=key)


def moment_loss(sde_of: Function, times: Any, *, substeps: Checked[int] = 1) -> Function:
    r"""Return the loss l(model, paths, *, key): how far means and covariances of simulated paths are from the observed.

        l = mean over instants of |m - m*|^2/s^2 + |C - C*|_F^2/s^4

    with m*, C* of the observed paths at an instant, m, C of as many simulated ones from the same starts, and s^2 the mean
    observed variance over all coordinates and instants.

    **Arguments:**

    - `sde_of`: model -> `SDE` on vectors. `times`: shape (T,), increasing, of the columns of the paths.
    - `substeps`: steps of Euler and Maruyama from one instant to the next, >= 1.

    **Returns:** l(model, batch, *, key) for `fit`, with paths (P, T, d), of which two at least are needed, and a new noise
    in each step. Its floor is that of the noise of both, of order 1/P. It is NaN if a simulated path does not get to its
    end.

    **Raises:** `ValueError` for times that do not increase or substeps below 1; when it is called, for paths of another
    length; `TypeError` for a model that makes no `SDE`.

    **Example:** the noise of a Brownian motion, seen twice.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> paths = jnp.stack([jnp.zeros(4000), 0.7 * jax.random.normal(jax.random.key(0), (4000,))], axis=1)[..., None]
    >>> make = lambda scale: sx.as_sde(lambda x: 0.0 * x, lambda x: scale)
    >>> loss = sx.residual.moment_loss(make, jnp.array([0.0, 1.0]))
    >>> found = sx.fit(loss, optax.adam(0.02), paths, initial=jnp.array(0.3), steps=200, key=jax.random.key(1))
    >>> bool(abs(found.model - 0.7) < 0.05)
    True

    **Reference:** Hansen & Scheinkman, *Back to the future: generating moment implications for continuous-time Markov
    processes* (1995), for moments; Duffie & Singleton, *Simulated moments estimation of Markov models of asset prices*
    (1993), for simulated ones.
    """
    substeps = ranges.whole("moment_loss: substeps", substeps, "Take 1 where instants lie close.")
    instants = jnp.asarray(times)
    if instants.ndim != 1 or len(instants) < 2 or (not is_traced(instants) and not np.all(np.diff(instants) > 0)):
        do = "Sort them, and drop repeats."
        raise ValueError(explain("moment_loss: times", f"shape {instants.shape}", "two or more that increase", do))
    length = len(instants) - 1

    def loss(model: Any, paths: Any, *, key: Key) -> Any:
        sde = _require_sde("moment_loss", sde_of(model))
        if paths.ndim != 3 or paths.shape[0] < 2 or paths.shape[1] != length + 1:
            expected = f"(P, {length + 1}, d) with P >= 2"
            raise ValueError(explain("moment_loss: paths", f"shape {paths.shape}", expected, "One row an instant."))
        chain = SubsteppedPath(sde, instants, substeps, length * substeps)

        def follow(start: Any, own: Key) -> Any:
            path = evolve(chain, start, key=own, save=substeps)
            return jnp.where(path.outcome.completed, path.states, jnp.nan)

        made = jax.vmap(follow)(paths[:, 0], jax.random.split(key, len(paths)))
        (mean, spread), (seen, width) = _moments(made[:, 1:]), _moments(paths[:, 1:])
        scale = jnp.mean(jnp.trace(width, axis1=1, axis2=2)) / paths.shape[2]
        away = jnp.sum((mean - seen) ** 2, axis=1) / scale
        return jnp.mean(away + jnp.sum((spread - width) ** 2, axis=(1, 2)) / scale**2)

    return loss


def _moments(paths: Any) -> tuple[Any, Any]:
    """Means (T, d) and covariances (T, d, d) over paths (P, T, d)."""
    mean = jnp.mean(paths, axis=0)
    off = paths - mean[None]
    return mean, jnp.einsum("pti,ptj->tij", off, off) / (len(paths) - 1)


def _require_sde(where: str, made: Any) -> SDE:
    if not isinstance(made, SDE):
        do = "Return sx.as_sde(drift, diffusion) of the model."
        raise TypeError(explain(f"{where}: sde_of", type(made).__name__, "an SDE", do))
    return made
