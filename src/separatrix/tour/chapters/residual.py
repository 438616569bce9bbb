r"""Fourth chapter: depth is time.

A residual net x[l+1] = x[l] + h f(l h, x[l]) is Euler's method on dx/dt = f(t, x). What follows from that is measured:
how the depth may change after training, why gradients survive, what a flow cannot do, how a half-known law is completed
and read, how a force that is missing points at Neptune, how predators and prey are forecast, and how a policy is trained
through a simulator.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.plotting import figure, plot_curves, plot_orders
from separatrix.tour.chapter import Chapter, Check, Section, source
from separatrix.tour.chapters._neptune import neptune
from separatrix.tour.measure.residual import depth_errors, from_upright, root_mean_square, widen
from separatrix.tour.verdicts.residual import verdict

Say = Callable[[str], None]


def run(say: Say) -> list[Section]:
    """All sections, each a claim with its numbers."""
    laws = [_unknown_law(say), neptune(say), _lynx_and_hare(say), _swing_up(say)]
    return [_depth(say), _gradients(say), _crossing(say), *laws, verdict(say)]


def _train(digits):
    """Ten lines of a user."""
    keys = jax.random.split(jax.random.key(0), 7)
    dense = {"activation": jnp.tanh, "dtype": jnp.float32}
    blocks = [eqx.nn.MLP(32, 32, 32, 1, key=key, **dense) for key in keys[:5]]  # weights at t = 0, 1/4, ..., 1
    encoder = eqx.nn.Linear(64, 32, key=keys[5], dtype=jnp.float32)
    readout = eqx.nn.Linear(32, 10, key=keys[6], dtype=jnp.float32)
    model = sx.residual.FlowModel(
        encoder, sx.residual.NeuralODE(sx.residual.AlongDepth(blocks)), readout, depth=8, method=sx.Euler()
    )
    objective = sx.supervised(model, (digits.inputs, digits.targets), batch_size=128)
    trained = sx.fit(objective, optax.adam(3e-3), steps=500, key=jax.random.key(1))
    return objective.model(trained.model)


def _depth(say: Say) -> Section:
    say("training a residual classifier of eight blocks on digits")
    digits = sx.load("digits").flat()
    model = _train(digits)
    say("its hidden state at other depths, against the neural ODE")
    accuracies = {}
    for depth in (2, 4, 8, 16, 64):
        outputs = jax.vmap(sx.residual.with_depth(model, depth))(jnp.asarray(digits.test_inputs))
        hits = jnp.argmax(outputs, axis=-1) == digits.test_targets
        accuracies[depth] = float(jnp.mean(hits))
    depths = [16, 32, 64, 128, 256]
    methods = {"Euler": sx.Euler(), "Heun": sx.Heun(), "RK4": sx.RK4()}
    errors = depth_errors(widen(model), jnp.asarray(digits.test_inputs[:64], float), depths, methods)
    sizes = [1 / depth for depth in depths]
    orders = {name: float(sx.diagnostics.fit_order(sizes[2:], values[2:]).order) for name, values in errors.items()}
    fig, (left, right) = figure(2)
    plot_orders(sizes, errors, orders, axes=left, title="hidden state against the neural ODE")
    curves = {".the same weights": (list(accuracies), 100 * np.array(list(accuracies.values())))}
    plot_curves(curves, x="depth (residual blocks)", y="test accuracy (%)", log="x", axes=right, title="digits")
    right.set_xticks(list(accuracies), [str(depth) for depth in accuracies])
    right.set_xticks([], minor=True)
    right.axvline(8, color="0.3", linestyle="--", linewidth=1, label="depth in training")
    right.legend(fontsize=8)
    text = """
        A classifier with eight residual blocks, its weights piecewise linear in depth, is trained on digits in float32.
        The blocks are Euler steps of a neural ODE, so the same weights make a net of any depth, and with more blocks the
        hidden state tends to that of the ODE: at order 1 in the step size, at order 2 and 4 where each block is a step of
        Heun or of Runge and Kutta. Training has made the field strong, so the slopes settle late: they are taken over
        depths 64 to 256, of the largest distance among 64 test images, in float64.
    """
    checks = (
        Check("test accuracy, depth 8 as trained", accuracies[8], 0.96, relation=">="),
        # One per cent is 3.6 of the 360 test images.
        Check("test accuracy, depth 64 with the same weights", accuracies[64], accuracies[8], 0.01),
        *(
            Check(f"order of {name}", orders[name], truth, 0.15)
            for name, truth in (("Euler", 1.0), ("Heun", 2.0), ("RK4", 4.0))
        ),
    )
    equation = r"x_{l+1} = x_l + h\,f(l h, x_l)\quad\longrightarrow\quad \dot x = f(t, x),\qquad h = 1/L"
    caption = "Left: distance at the last layer over the step size 1/depth. Right: accuracy when the depth is changed."
    return Section("A residual net steps along a flow", text, equation, fig, caption, source(_train), checks)


def _costates(layers, start, last):
    """The norm of the gradient at every layer, for the plain and for the residual net of the same weights."""
    plain = sx.from_layers(layers)  # x -> phi_l(x)
    residual = sx.residual.ResNet(sx.residual.AlongDepth(layers), step_size=1 / 63)  # x -> x + h phi_l(x)
    norms = {}
    for name, net in {"plain": plain, "residual": residual}.items():
        path = sx.evolve(net, start, steps=64)
        norms[name] = sx.evolve(sx.adjoint(net, path), last, save=jnp.linalg.norm).states[::-1]
    return norms


def _gradients(say: Say) -> Section:
    say("the gradient at each of 64 layers, plain and residual")
    width, gain = 64, 0.5
    keys = jax.random.split(jax.random.key(2), 66)
    blank = eqx.nn.Linear(width, width, use_bias=False, key=keys[0])
    weights = [jnp.sqrt(gain / width) * jax.random.normal(key, (width, width)) for key in keys[:64]]
    layers = [eqx.nn.Sequential([eqx.tree_at(lambda m: m.weight, blank, w), eqx.nn.Lambda(jnp.tanh)]) for w in weights]
    start, last = 0.1 * jax.random.normal(keys[64], (width,)), jax.random.normal(keys[65], (width,))
    norms = {name: np.asarray(values / values[-1]) for name, values in _costates(layers, start, last).items()}
    fig, (axes,) = figure(1, width=5.0)
    curves = {f"{name} net": (np.arange(65), values) for name, values in norms.items()}
    theory = gain ** ((64 - np.arange(65)) / 2)
    curves["theory of the plain net"] = (np.arange(65), theory)
    plot_curves(curves, x="layer", y="gradient norm / that at the output", log="y", axes=axes)
    axes.lines[-1].set(linestyle="--", color="0.3")
    axes.legend(fontsize=8)
    text = """
        Backpropagation is a dynamical system too: the costate, run backwards by the transposed Jacobians. With weights of
        variance 1/2 over the width a plain tanh net multiplies its squared norm by 1/2 a layer, and nothing of the
        gradient arrives at the first of 64. The same weights in residual blocks of step 1/63 multiply by the identity
        and a little more; over all depth the norm changes by the factor that the flow gives it, which is near 1.
    """
    rate = float(np.log(norms["plain"][0]) / 64)
    checks = (
        # A layer adds the logarithm of sqrt(chi^2_n/n), standard deviation 1/sqrt(2n): 3 standard errors of 64 layers.
        Check("plain: logarithm of the norm a layer", rate, 0.5 * np.log(gain), 3 / np.sqrt(2 * width * 64)),
        # The first-order terms add up to a standard deviation sqrt(gain/n)/sqrt(64); 4 of them, and 0.4 % of second order.
        Check("residual: norm at the first layer", float(norms["residual"][0]), 1.0, 0.05),
    )
    equation = r"\lambda_l = DF_l(x_l)^T \lambda_{l+1},\qquad E|\lambda_0|^2 = 2^{-64}\,|\lambda_{64}|^2"
    caption = "64 layers of width 64, the same random weights in both nets."
    return Section("Why gradients survive", text, equation, fig, caption, source(_costates), checks)


def _swap(extra):
    """A neural ODE with extra dimensions, trained to send -1 to 1 and 1 to -1."""
    width = 1 + extra
    field = eqx.nn.MLP(width, width, 16, 1, jnp.tanh, key=jax.random.key(1), dtype=jnp.float32)
    model = sx.residual.FlowModel(
        lambda x: sx.residual.augment(x, extra), sx.residual.NeuralODE(field), lambda z: z[:1], 16, sx.RK4()
    )
    points = jnp.array([[-1.0], [1.0]], jnp.float32)
    objective = sx.supervised(model, (points, -points), lambda output, target: jnp.sum((output - target) ** 2))
    trained = sx.fit(objective, optax.adam(0.03), steps=400)
    return float(trained.losses[-1]), jax.vmap(objective.model(trained.model).hidden)(points)


def _crossing(say: Say) -> Section:
    say("two points that must change places, on the line and in the plane")
    fig, axes = figure(2)
    errors = []
    for extra, panel in zip((0, 1), axes, strict=True):
        error, paths = _swap(extra)
        errors.append(error)
        curves = {f"from {start}": (paths.times[i], paths.states[i, :, 0]) for i, start in enumerate(("-1", "1"))}
        title = f"{'in the plane' if extra else 'on the line'}: error {error:.2g}"
        plot_curves(curves, x="depth t", y="hidden state, first component", axes=panel, title=title)
    text = """
        Orbits of a flow do not cross. On the line they therefore keep their order, so a scalar neural ODE cannot send -1
        to 1 and 1 to -1: the best that a monotone function can do is the constant 0, with mean squared error exactly 1.
        One more dimension, zero at the start, lets the orbits pass each other, and the error goes to 0.
    """
    checks = (
        # Monotone maps have errors above 1; training comes close.
        Check("mean squared error on the line", errors[0], 1.0, 0.02),
        Check("mean squared error with one dimension more", errors[1], 1e-3, relation="<="),
    )
    equation = r"x_1(0) < x_2(0) \;\Rightarrow\; x_1(t) < x_2(t)\qquad (d = 1)"
    caption = "The first component of the two orbits through depth. Dupont, Doucet & Teh, Augmented neural ODEs (2019)."
    return Section("What a flow cannot do", text, equation, fig, caption, source(_swap), checks)


def _known(x):
    return jnp.stack([1.5 * x[0], -3.0 * x[1]])


def _complete(times, orbits):
    """A network for what is missing in x' = 1.5 x + ?, y' = -3 y + ?, then its terms."""
    network = eqx.nn.MLP(2, 2, 16, 2, jnp.tanh, key=jax.random.key(0))
    loss = sx.residual.trajectory_loss(lambda network: sx.residual.universal(_known, network))
    schedule = optax.cosine_decay_schedule(1e-2, 1500)
    trained = sx.fit(loss, optax.adam(schedule), sx.residual.segments(times, orbits, 4), initial=network, steps=1500)

    points = orbits.reshape(-1, 2)
    found = sx.residual.discover(
        points, jax.vmap(trained.model)(points), sx.residual.Monomials(("x", "y"), 3), threshold=0.2
    )
    return trained.model, found


def _unknown_law(say: Say) -> Section:
    say("a network fills the gap in a half-known law")
    interaction = {"x": ("x y", -1.0), "y": ("x y", 1.0)}
    law = sx.residual.universal(_known, lambda x: jnp.stack([-x[0] * x[1], x[0] * x[1]]))
    times, starts = jnp.linspace(0.0, 3.0, 61), jnp.array([[1.0, 1.0], [2.0, 2.5], [4.0, 1.0]])
    precise = {"rtol": 1e-9, "atol": 1e-10}
    orbits = jax.vmap(lambda start: sx.evolve(law, start, times=times, **precise).states)(starts)
    network, found = _complete(times, orbits)
    say("extrapolating what was found")
    grid = jnp.linspace(0.0, 30.0, 601)
    flows = {
        "truth": law,
        "discovered law": sx.residual.universal(_known, found.flow),
        "network": sx.residual.universal(_known, network),
    }
    paths = {name: sx.evolve(flow, starts[0], times=grid, rtol=1e-8, atol=1e-9).states for name, flow in flows.items()}
    fig, (left, right) = figure(2, width=4.2)
    _phase_portrait(orbits, left)
    curves = {name: (grid, path[:, 0]) for name, path in paths.items()}
    plot_curves(curves, x="time", y="prey x", axes=right, title="prey, from (1, 1)")
    for line, style in zip(right.lines, ("-", "--", ":"), strict=True):
        line.set_linestyle(style)
    right.axvspan(0.0, 3.0, color="0.9", label="span of the data")
    right.legend(fontsize=8, loc="upper right", framealpha=0.9, frameon=True)
    right.set_ylim(0.0, 11.5)
    late = paths["discovered law"] - paths["truth"]
    size = float(jnp.max(jnp.ptp(paths["truth"], axis=0)))
    text = f"""
        Of Lotka and Volterra's law only the growth and death rates are given; a network stands where the interaction is
        missing. It is trained by multiple shooting on three orbits of length 3, without noise. Sequentially thresholded
        least squares on the network's values, with all ten monomials up to degree 3, then leave one term an equation:
        {"; ".join(found.equations)}. With these the law is complete, and holds ten times further than the data.
    """
    kinds = [set(terms) for terms in found.terms.values()]
    checks = (
        Check("terms found besides x y", float(sum(len(kind - {"x y"}) for kind in kinds)), 0.0),
        *(
            Check(f"coefficient of {term} in {name}'", found.terms[name].get(term, 0.0), truth, 0.02)
            for name, (term, truth) in interaction.items()
        ),
        # Rates right to 0.2 % shift the phase by 0.06 at t = 30, where the prey changes by 9 a unit of time: 0.08 of 6.
        Check("largest error up to t = 30 over the range", float(jnp.abs(late).max()) / size, 0.1, relation="<="),
    )
    equation = r"\dot x = 1.5\,x + N_1(x, y),\qquad \dot y = -3\,y + N_2(x, y)"
    caption = "Left: the three orbits of the data. Right: prey far past the data (grey), by law and by network alone."
    return Section("A network for the part that is unknown", text, equation, fig, caption, source(_complete), checks)


def _phase_portrait(orbits: Any, axes: Any) -> None:
    curves = {f"orbit {number + 1}": (orbit[:, 0], orbit[:, 1]) for number, orbit in enumerate(orbits)}
    plot_curves(curves, x="prey x", y="predators y", axes=axes, title="data, 61 states an orbit")


def _predators_and_prey(observed):
    """Four rates and an initial state, all in logarithms, from yearly counts of (hare, lynx)."""

    def orbit(model, years):
        a, b, c, d = jnp.exp(model["rates"])
        law = sx.as_flow(lambda z: jnp.stack([a - b * jnp.exp(z[1]), -c + d * jnp.exp(z[0])]))
        return sx.evolve(law, model["start"], steps=8 * years, step_size=1 / 8, save=8).states

    def loss(model, observed):
        return jnp.mean((orbit(model, len(observed) - 1) - observed) ** 2)

    initial = {"rates": jnp.log(jnp.array([0.5, 0.025, 0.9, 0.025])), "start": observed[0]}
    trained = sx.fit(loss, optax.adam(optax.cosine_decay_schedule(0.03, 1500)), observed, initial=initial, steps=1500)
    return trained, orbit(trained.model, 20)


def _lynx_and_hare(say: Say) -> Section:
    say("lynx and hare of the Hudson Bay")
    pelts = sx.load("lynx-hare")
    years, logs = np.asarray(pelts.inputs).ravel(), np.log(np.asarray(pelts.targets, float))
    seen = 15
    trained, path = _predators_and_prey(jnp.asarray(logs[:seen]))
    error = root_mean_square(path[seen:], logs[seen:])
    persistence = root_mean_square(logs[seen - 1], logs[seen:])
    average = root_mean_square(logs[:seen].mean(axis=0), logs[seen:])
    fig, axes = figure(2, width=4.2)
    for column, (name, panel) in enumerate(zip(("hare", "lynx"), axes, strict=True)):
        curves = {
            "fitted law": (years, np.exp(path[:, column])),
            ".observed": (years, np.exp(logs[:, column])),
        }
        plot_curves(curves, x="year", y="pelts (thousands)", axes=panel, title=name)
        panel.axvspan(years[seen] - 0.5, years[-1], color="0.9", label="not seen in training")
        panel.set_ylim(0.0, 120.0)
        panel.set_xticks(years[::5].astype(int))
        panel.legend(fontsize=8)
    a, b, c, d = np.exp(np.asarray(trained.model["rates"]))
    text = f"""
        The pelts that the Hudson Bay Company bought, 1900 to 1920. Four rates and the initial state are fitted to the
        logarithms of the first 15 years: hares grow at {a:.2f} a year and are eaten at {b:.4f} per thousand lynx, lynx die
        at {c:.2f} and grow at {d:.4f} per thousand hares. The six years after that are a forecast, with a typical factor
        of {np.exp(error):.2f} between law and counts. Repeating 1914 is wrong by a factor of {np.exp(persistence):.2f}, the
        geometric mean of the years seen by {np.exp(average):.2f}. Six years are one test of one law: evidence, no proof.
    """
    checks = (
        Check("forecast error / error of repeating 1914", error / persistence, 0.5, relation="<="),
        Check("forecast error / error of the mean of the years seen", error / average, 1.0, relation="<="),
    )
    equation = r"\dot x = a\,x - b\,x\,y,\qquad \dot y = -c\,y + d\,x\,y"
    caption = "Pelts of hare and lynx, and the law fitted to 1900-1914; grey years were not seen. Errors in logarithms."
    code = source(_predators_and_prey)
    return Section("Lynx and hare, forecast", text, equation, fig, caption, code, checks)


class Odd(eqx.Module):
    """net(c, s, v) - net(c, -s, -v): a torque that is mirrored with the pendulum, hence zero where it stands still."""

    net: eqx.nn.MLP

    def __call__(self, seen: Any) -> Any:
        return self.net(seen) - self.net(seen * jnp.array([1.0, -1.0, -1.0], seen.dtype))


def _learn_to_swing(starts):
    """A bounded torque as a function of the state, trained through the simulator."""
    plant = sx.residual.PendulumPlant()
    net = Odd(eqx.nn.MLP(3, "scalar", 24, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float32))
    policy = sx.residual.BoundedPolicy(net, limit=0.5, features=plant.features)

    def cost(x, u):  # far from the energy of the upright position, or far from that position
        return 0.5 * (plant.energy(x) - 1.0) ** 2 + (1.0 + jnp.cos(x[0])) + 0.01 * u**2

    def terminal(x):
        return 3.0 * (1.0 + jnp.cos(x[0]) + 0.5 * x[1] ** 2)

    loss = sx.residual.policy_loss(plant, cost, horizon=10.0, steps=64, terminal=terminal, method=sx.Midpoint())
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, 240)))
    trained = sx.fit(loss, optimizer, starts, initial=policy, steps=240, batch_size=32, key=jax.random.key(2))
    return trained.model, sx.close_loop(plant, trained.model)


def _swing_up(say: Say) -> Section:
    say("training a policy through a simulated pendulum")
    policy, loop = _learn_to_swing(_starts(jax.random.key(1), 4096, fastest=2.0))
    say("the trained policy from rest below, and from 256 other starts")
    times = jnp.linspace(0.0, 60.0, 601, dtype=jnp.float32)
    path = sx.evolve(loop, jnp.array([0.05, 0.0], jnp.float32), times=times, rtol=1e-5, atol=1e-6)
    torque = np.asarray(jax.vmap(policy)(path.states))
    away, late = from_upright(path.states[:, 0]), np.asarray(times) >= 30.0

    fresh = _starts(jax.random.key(9), 256, fastest=1.0)
    ends = jax.vmap(lambda s: sx.evolve(loop, s, times=(0.0, 60.0), step_size=0.1, save="last").final)(fresh)
    share = float(np.mean((from_upright(ends[:, 0]) < 5.0) & (np.abs(ends[:, 1]) < 0.05)))
    fig, axes = figure(2, width=4.2)
    shown = np.asarray(times) <= 30.0
    angles = {"angle": (times[shown], np.degrees(np.asarray(path.states[shown, 0])))}
    levels = {"upright": 180.0 * np.sign(float(path.states[-1, 0]))}
    plot_curves(angles, x="time (sqrt(length/g))", y="angle (degrees, 0 = hanging)", levels=levels, axes=axes[0])
    pushes, edges = {"torque": (times[shown], torque[shown])}, {"bounds": 0.5, "_lower": -0.5}
    plot_curves(pushes, x="time (sqrt(length/g))", y="torque (m g length)", axes=axes[1], levels=edges)
    axes[1].lines[-1].set_linestyle("--")
    text = f"""
        A pendulum hangs, and its motor is too weak to lift it: half of the torque that would hold it level, enough for 30
        degrees. It must swing. A policy, a small network of the state, is trained by the gradient of the cost
        through the simulator, from 32 random starts at a time; the cost asks for the energy of the upright position, and
        for that position. From rest near the bottom it pumps energy, catches the pendulum at the top and holds it there;
        so it does from {100 * share:.0f} % of 256 other starts, over six times the horizon of the training.
    """
    checks = (
        Check("largest angle from upright, t = 30 to 60 (degrees)", float(away[late].max()), 5.0, relation="<="),
        Check("largest torque", float(np.abs(torque).max()), 0.5 * (1 + 1e-6), relation="<="),
        Check("share of 256 other starts that end upright", share, 0.95, relation=">="),
    )
    equation = (
        r"\ddot q = -\sin q + u,\qquad |u| \leq 0.5,\qquad \dot J = c(x, u),\qquad \min_\theta\, E\,[J(T) + g(x(T))]"
    )
    caption = "Angle and torque from rest, 3 degrees from the bottom."
    return Section(
        "A policy trained through the simulator", text, equation, fig, caption, source(_learn_to_swing), checks
    )


def _starts(key: Any, count: int, fastest: float) -> Any:
    """Random angles all around, and rates up to the fastest."""
    return jax.random.uniform(key, (count, 2), jnp.float32, -1, 1) * jnp.array([np.pi, fastest], jnp.float32)


CHAPTER = Chapter(
    "residual",
    "Depth is time",
    "What does it mean that a residual net is a discretised flow, and what can be done with flows that learn?",
    run,
)
