r"""Where is Neptune? From Uranus in DE421, 1902 to 2047: a network for the missing force, an orbit, differences.

Three answers to one question, judged by the angle between the force that they name and the direction to Neptune.

1. Differences of the velocities, less the pull of the Sun and the known planets: no fit, and the floor of what is known.
   From the bundled table, rows every 64 days, and from DE421 itself at +-16 and +-32 days where skyfield-data is installed.
2. The universal equation x'' = known(t, x) + network(t), trained through the solver in pieces of five rows.
3. The planet of Le Verrier and Adams: a body of unknown mass and orbit, which pulls on Uranus and is pulled by all. Its
   first guess is theirs: a circle of 38.8 AU (Bode's law), in the plane of Uranus's orbit, at twelve longitudes at once.
   Fitted to places of Uranus alone, in the frame of DE421.

All see a fitted integration without noise, in which Neptune pulls: the methods are tested here, not astronomy.
"""

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
from _table import report

import separatrix as sx
from separatrix.tour.measure.neptune import degrees_between, differences, pull_of, uranus

STEPS, SEEDS, BODE = 800, 3, 38.8


def angles(name, found, truth, began, mass=None):
    degrees = degrees_between(found, truth)
    spent = None if began is None else time.process_time() - began
    parts = (np.median(degrees), np.quantile(degrees, 0.95), np.max(degrees))
    return [name, *(float(part) for part in parts), mass, spent]


def network(table, seed):
    """A network of time in place of the missing force: its values at the rows."""
    years = table.years
    middle, reach = (years[-1] + years[0]) / 2, (years[-1] - years[0]) / 2

    def force(net, t):
        return 1e-5 * net(jnp.atleast_1d((t - middle) / reach))

    def flow_of(net):
        newton = sx.as_flow(lambda t, s: jnp.concatenate([s[3:], table.known(t, s[:3])]))
        return sx.residual.universal(newton, lambda t, s: jnp.concatenate([jnp.zeros(3), force(net, t)]))

    misfit = sx.residual.trajectory_loss(flow_of)
    net = eqx.nn.MLP(1, 3, 32, 2, jnp.tanh, key=jax.random.key(seed))
    pieces = sx.residual.segments(years, table.states, 5, stride=5)
    optimizer = optax.lbfgs(1.0, memory_size=50, linesearch=None)
    found = sx.fit(lambda net, data: 1e12 * misfit(net, data), optimizer, pieces, initial=net, steps=STEPS)
    return jax.vmap(lambda t: force(found.model, t))(years)


def planet(table):
    """A body of unknown mass on an unknown orbit: from Uranus to it at the rows, and its mass over that of Neptune."""
    years, seen, gravity = table.years, table.states[:, :3], sx.data.GRAVITY
    known = table.known

    def flow_of(strength):
        def velocity(t, s):
            u, du, n, dn = jnp.split(s, 4)
            pulled = known(t, u) + pull_of(strength, n - u), known(t, n) + pull_of(gravity["uranus"], u - n)
            return jnp.concatenate([du, pulled[0], dn, pulled[1]])

        return sx.as_flow(velocity)

    def path(guess):  # units in which each number changes by about one
        start = jnp.concatenate([table.states[0] + 1e-5 * guess["uranus"], guess["place"], guess["velocity"] / 5])
        return sx.evolve(sx.on_grid(flow_of(jnp.exp(guess["log_mass"])), sx.RK4(), years), start).states

    def circle(angle):
        place, velocity = table.states[0, :3], table.states[0, 3:]
        normal = jnp.cross(place, velocity)
        first = place / jnp.linalg.norm(place)
        second = jnp.cross(normal / jnp.linalg.norm(normal), first)
        speed = jnp.sqrt(gravity["sun"] / BODE)
        return {
            "uranus": jnp.zeros(6), "place": BODE * (jnp.cos(angle) * first + jnp.sin(angle) * second),
            "velocity": 5 * speed * (jnp.cos(angle) * second - jnp.sin(angle) * first), "log_mass": jnp.log(2e-3),
        }  # fmt: skip

    def fitted(guess, scale, every, steps, tol):
        def misfit(guess, _):
            return scale * (path(guess)[::every, :3] - seen[::every])

        solver = optx.LevenbergMarquardt(rtol=tol, atol=tol)
        found = optx.least_squares(misfit, solver, guess, max_steps=steps, throw=False).value
        return found, jnp.sum(misfit(found, None) ** 2)

    longitudes = jnp.linspace(0, 2 * jnp.pi, 12, endpoint=False)
    guesses, misfits = eqx.filter_jit(jax.vmap(lambda angle: fitted(circle(angle), 1e3, 8, 60, 1e-8)))(longitudes)
    best = jax.tree.map(lambda leaf: leaf[jnp.argmin(misfits)], guesses)
    best, _ = eqx.filter_jit(lambda guess: fitted(guess, 1e6, 4, 150, 1e-10))(best)
    states = path(best)
    return states[:, 6:9] - states[:, :3], float(jnp.exp(best["log_mass"]) / gravity["neptune"])


def from_kernel():
    """The forces by differences of DE421's own velocities, +-16 and +-32 days, and Neptune's; None without the package."""
    try:
        import skyfield_data
        from jplephem.spk import SPK
    except ImportError:
        return None
    from _solar_system import BODIES, FIRST, ROWS, STEP, UNIT, YEAR

    kernel = SPK.open(skyfield_data.get_skyfield_data_path() + "/de421.bsp")
    days = FIRST + STEP / 2 * np.arange(2 * ROWS - 1)

    def rate(shift):
        return kernel[0, 7].compute_and_differentiate(days + shift)[1].T / UNIT * YEAR

    total = (8 * (rate(16) - rate(-16)) - (rate(32) - rate(-32))) / (12 * 16 / YEAR)
    here, names = kernel[0, 7].compute(days).T / UNIT, list(sx.data.GRAVITY)
    for name, body in zip(names, BODIES, strict=True):
        away = kernel[0, body].compute(days).T / UNIT - here
        if name == "neptune":
            truth = away
        elif name != "uranus":
            total = total - np.asarray(pull_of(sx.data.GRAVITY[name], away))
    return total, truth


def main():
    jax.config.update("jax_enable_x64", True)
    table = uranus()
    rows = [angles("differences of order 8, rows of 64 days", differences(table), table.away[4:-4], None)]
    kernel = from_kernel()
    if kernel is not None:
        rows.append(angles("differences of order 4, 16 days, DE421 itself", *kernel, None))
    for seed in range(SEEDS if "--short" not in sys.argv else 1):
        began = time.process_time()
        rows.append(angles(f"network of time, key {seed}", network(table, seed), table.away, began))
    began = time.process_time()
    away, mass = planet(table)
    rows.append(angles("planet on an orbit, twelve longitudes", away, table.away, began, mass))
    columns = ["answer", "median, degrees", "95 %", "largest", "mass over Neptune's", "CPU s"]
    report(
        "neptune", "angle between the missing force and Neptune, 1902 to 2047", columns, rows, __doc__.split("\n\n")[-1]
    )


if __name__ == "__main__":
    main()
