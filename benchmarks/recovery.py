r"""Which method finds the law of Lotka and Volterra in noisy data, and how often?

The data of the paper on universal equations: x' = 1.3 x - 0.9 x y, y' = 0.8 x y - 1.8 y from (0.44249296, 4.6280594), at
31 instants of [0, 3], with normal noise of so many per cent of each column's mean. A law is recovered if it has the right
terms of 1, x, y, x^2, x y, y^2 and no other; the threshold is 0.4, half of the smallest coefficient, for all:

- plain: thresholded least squares on rates by differences of second order;
- plain, known part taken away: the same on the rates less 1.3 x and -1.8 y, as the universal equation knows them;
- universal: x' = 1.3 x + N_1, y' = -1.8 y + N_2, the network N fitted by multiple shooting with free starts, all members of
  all levels as one program; then thresholding on N along the fitted orbits;
- PySINDy, where it is installed: its sequential thresholding, with its finite differences, and with its smoothed ones.

Shares are of MEMBERS noises a level, with Wilson's intervals of 95 %.

**Reference:** Rackauckas et al., *Universal differential equations for scientific machine learning* (2020), section 3.1.
"""

import importlib.util
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.residual.discovery import ThresholdedLeastSquares

LEVELS = (0.0, 0.1, 0.5, 1.0, 2.5, 5.0)
MEMBERS, STEPS, THRESHOLD, LENGTH = 32, 1500, 0.4, 6
LIBRARY = sx.residual.Monomials(("x", "y"), 2)
LAW = np.array([[0, 0], [1.3, 0], [0, -1.8], [0, 0], [-0.9, 0.8], [0, 0]])
KNOWN = np.array([[0, 0], [1.3, 0], [0, -1.8], [0, 0], [0, 0], [0, 0]])


def data() -> tuple[Any, Any]:
    """Times (T,), and states (levels, members, T, 2)."""
    flow = sx.as_flow(lambda x: jnp.asarray(LAW.T) @ LIBRARY(x))
    times = np.linspace(0.0, 3.0, 31)
    truth = np.asarray(sx.evolve(flow, jnp.array([0.44249296, 4.6280594]), times=times, rtol=1e-10, atol=1e-12).states)
    noise = np.random.default_rng(0).normal(size=(len(LEVELS), MEMBERS, *truth.shape))
    return times, truth + noise * np.asarray(LEVELS)[:, None, None, None] / 100 * truth.mean(axis=0)


@eqx.filter_jit
def supports(points: Any, rates: Any) -> Any:
    """Terms that are left, (members, p, 2), of states and rates (members, T, 2)."""

    def one(points: Any, rates: Any) -> Any:
        algorithm = ThresholdedLeastSquares(jax.vmap(LIBRARY)(points), rates, jnp.asarray(THRESHOLD, points.dtype))
        return sx.evolve(algorithm, algorithm.init(), steps=6, save="last").final != 0

    return jax.vmap(one)(points, rates)


def universal(times: Any, states: Any) -> tuple[Any, Any]:
    """Fitted states (members, T, 2), and what the networks add to the known rates there."""
    cut = [sx.residual.segments(times, one, length=LENGTH, stride=LENGTH) for one in states]
    pieces = jax.tree.map(lambda *parts: jnp.stack(parts), *cut)
    keys = jax.random.split(jax.random.key(0), len(states))
    nets = eqx.filter_vmap(lambda key: eqx.nn.MLP(2, 2, 8, 2, jax.nn.tanh, key=key))(keys)
    scale = jnp.asarray(states[0].std(axis=0))

    def flow_of(net: Any) -> Any:
        known = sx.as_flow(lambda x: jnp.stack([1.3 * x[0], -1.8 * x[1]]))
        return sx.residual.universal(known, sx.as_flow(lambda x: net(x / scale) * scale))

    one = sx.residual.shooting_loss(flow_of, matching=10.0, substeps=2)
    starts = jnp.stack([sx.residual.start_shooting(None, part).starts for part in cut])

    def loss(models: Any) -> Any:
        # The pieces are held by the loss, and are no data of fit: their first axis is that of members.
        return jnp.mean(eqx.filter_vmap(one)(models, pieces))

    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, STEPS))
    initial = sx.residual.ShootingModel(nets, starts)
    found = sx.fit(loss, optimizer, initial=initial, steps=STEPS).model

    def along(model: Any, part: Any) -> tuple[Any, Any]:
        flow = flow_of(model.model)
        net = model.model
        path = jax.vmap(lambda t, a: sx.evolve(sx.on_grid(flow, sx.RK4(), t), a).states)(part.times, model.starts)
        path = path[:, :LENGTH].reshape(-1, 2)
        return path, jax.vmap(lambda x: net(x / scale) * scale)(path)

    return eqx.filter_jit(eqx.filter_vmap(along))(found, pieces)


def peers(times: Any, states: Any) -> dict[str, list[bool]]:
    """PySINDy's thresholding on each member."""
    import pysindy as ps

    found: dict[str, list[bool]] = {}
    for name, rates in (("PySINDy", ps.FiniteDifference()), ("PySINDy, smoothed", ps.SmoothedFiniteDifference())):
        found[name] = []
        for one in states:
            optimizer = ps.STLSQ(threshold=THRESHOLD, alpha=0.0)
            model = ps.SINDy(optimizer, ps.PolynomialLibrary(degree=2), rates)
            model.fit(np.asarray(one), t=np.asarray(times))
            found[name].append(bool(np.array_equal(model.coefficients().T != 0, LAW != 0)))
    return found


def main() -> None:
    """Print the table."""
    jax.config.update("jax_enable_x64", True)
    times, states = data()
    flat = states.reshape(-1, *states.shape[2:])
    rates = np.stack([np.gradient(one, times, axis=0, edge_order=2) for one in flat])
    known = np.stack([np.asarray(jax.vmap(LIBRARY)(jnp.asarray(one))) @ KNOWN for one in flat])
    right, rest = LAW != 0, (LAW - KNOWN) != 0
    hits = {
        "plain": np.all(np.asarray(supports(flat, rates)) == right, axis=(1, 2)),
        "plain, known part taken away": np.all(np.asarray(supports(flat, rates - known)) == rest, axis=(1, 2)),
    }
    if "--plain" not in sys.argv:
        hits["universal"] = np.all(np.asarray(supports(*universal(times, flat))) == rest, axis=(1, 2))
    if importlib.util.find_spec("pysindy") is not None:
        hits |= {name: np.array(found) for name, found in peers(times, flat).items()}
    print(f"share of {MEMBERS} recovered at noise of " + ", ".join(f"{level:g} %" for level in LEVELS))
    for name, found in hits.items():
        counts = found.reshape(len(LEVELS), MEMBERS).sum(axis=1)
        z, n = 1.959964, MEMBERS
        share = counts / n
        middle, half = (
            (share + z**2 / (2 * n)) / (1 + z**2 / n),
            z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2),
        )
        half = half / (1 + z**2 / n)
        cells = zip(share, middle - half, middle + half, strict=True)
        print(f"{name:30}", "  ".join(f"{a:4.0%} ({max(b, 0):.0%} to {min(c, 1):.0%})" for a, b, c in cells))


if __name__ == "__main__":
    main()
