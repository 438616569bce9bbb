"""Section of the fourth chapter about Neptune: a network for the force that the known planets do not explain."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.plotting import figure, plot_curves
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.measure.neptune import degrees_between, differences, uranus


def _missing_force(known, years, states):
    """x'' = known(t, x) + network(t), fitted to Uranus in pieces of five rows."""
    middle, reach = (years[-1] + years[0]) / 2, (years[-1] - years[0]) / 2

    def force(network, t):
        return 1e-5 * network(jnp.atleast_1d((t - middle) / reach))

    def flow_of(network):
        newton = sx.as_flow(lambda t, s: jnp.concatenate([s[3:], known(t, s[:3])]))
        return sx.residual.universal(newton, lambda t, s: jnp.concatenate([jnp.zeros(3), force(network, t)]))

    misfit = sx.residual.trajectory_loss(flow_of)
    network = eqx.nn.MLP(1, 3, 32, 2, jnp.tanh, key=jax.random.key(0))
    trained = sx.fit(
        lambda network, pieces: 1e12 * misfit(network, pieces),  # of a part in a million of an AU
        optax.lbfgs(1.0, memory_size=50, linesearch=None),
        sx.residual.segments(years, states, length=5, stride=5),
        initial=network,
        steps=500,
    )
    return jax.vmap(lambda t: force(trained.model, t))(years), trained


def neptune(say: Callable[[str], None]) -> Section:
    """Where the unknown force points, against where Neptune is."""
    say("the orbit of Uranus, and a network for the force that is missing")
    table = uranus()
    force, _ = _missing_force(table.known, table.years, table.states)
    found, floor = degrees_between(force, table.away), degrees_between(differences(table), table.away[4:-4])
    years, truth = np.asarray(table.years), np.asarray(table.truth)
    strength = float(np.median(np.linalg.norm(force, axis=1) / np.linalg.norm(truth, axis=1)))
    fig, (left, right) = figure(2, width=4.2)
    size = {"learned": force, "Neptune's pull": truth}
    curves = {name: (years, np.linalg.norm(values, axis=1)) for name, values in size.items()}
    plot_curves(curves, x="year", y="missing force (AU / year²)", log="y", axes=left)
    left.lines[-1].set_linestyle("--")
    angles = {"learned force": (years, found), "differences": (years[4:-4], floor)}
    plot_curves(angles, x="year", y="angle to Neptune (degrees)", log="y", axes=right)
    text = f"""
        The Sun and the planets known in 1846, with Pluto, do not move Uranus as DE421 has it from 1902 to 2047: between 8
        and 180 millionths of its acceleration are missing. A network of time stands where that force is missing; the other
        equations are Newton's. Trained through the solver, it points at Neptune within {np.median(found):.2f} degrees in
        half of the years, {np.max(found):.1f} in the worst, which are the first and last, and has its strength.

        DE421 is a fitted integration in which Neptune pulls, so that this asks whether the method finds a small force, and
        not whether Neptune exists. Without noise it needs no method: differences of the velocities in the table, less the
        known pull, point at Neptune within {np.median(floor):.3f} degrees in half of the years, {np.max(floor):.2f} in the
        worst. A planet on an orbit of its own in place of the network does better than both (`benchmarks/neptune.py`).
    """
    checks = (
        Check("learned force, median angle to Neptune (degrees)", float(np.median(found)), 0.2, relation="<="),
        Check("learned force, 95 % of the years (degrees)", float(np.quantile(found, 0.95)), 1.0, relation="<="),
        Check("learned strength over that of Neptune's pull", strength, 1.0, 0.01),
        Check("differences, largest angle to Neptune (degrees)", float(np.max(floor)), 0.1, relation="<="),
    )
    equation = r"\ddot x = \sum_j G m_j\,\frac{x_j(t) - x}{|x_j(t) - x|^3} + N(t)"
    caption = (
        "Left: size of the missing force. Right: how far from Neptune it points, learned and by plain differences."
    )
    return Section("Neptune, from Uranus", text, equation, fig, caption, source(_missing_force), checks)
