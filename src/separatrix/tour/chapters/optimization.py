r"""First chapter: training is a dynamical system.

Gradient descent x[n+1] = x[n] - h grad L(x[n]) on a network phi_L o ... o phi_1 is a map; its limit is gradient flow, its
first modified equation a flow one order closer; it is stable where h times the top curvature stays below 2; and
momentum is a second-order equation. All of it is measured here on handwritten digits.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix._errors import DataMissing
from separatrix.plotting import figure, plot_curves, plot_fates, plot_images, plot_orders
from separatrix.tour.chapter import Chapter, Check, Section, source
from separatrix.tour.measure.training import fate, sharpness_along

Say = Callable[[str], None]


def run(say: Say) -> list[Section]:
    """All sections, each a claim with its numbers."""
    digits = sx.load("digits").flat()
    sections = [_training(digits, say)]
    sections += _fashion(say)
    objective = _objective(digits, examples=256, width=16, dtype=jnp.float64)
    sections.append(_limits(objective, say))
    sections.append(_edge(_objective(digits, examples=512, width=32, loss="squared_error"), say))
    sections.append(_sweep(_objective(digits, examples=256, width=32), say))
    sections.append(_edges_in_closed_form(say))
    sections.append(_momentum(objective, say))
    return sections


def _objective(digits: Any, *, examples: int, width: int, dtype: Any = jnp.float32, loss: str = "cross_entropy") -> Any:
    """A tanh network 64 - width - width - 10 on the first examples of the digits."""
    model = eqx.nn.MLP(64, 10, width, 2, jax.nn.tanh, key=jax.random.key(0), dtype=dtype)
    inputs, labels = jnp.asarray(digits.inputs[:examples].reshape(examples, -1), dtype), digits.targets[:examples]
    targets = jax.nn.one_hot(labels, 10, dtype=dtype) if loss == "squared_error" else jnp.asarray(labels)
    return sx.supervised(model, (inputs, targets), loss)


def _train(digits):
    """Ten lines of a user."""
    model = eqx.nn.MLP(64, 10, 64, 2, jax.nn.tanh, key=jax.random.key(0), dtype=jnp.float32)
    objective = sx.supervised(model, (digits.inputs, digits.targets), batch_size=64)
    descent = sx.GradientDescent(objective, step_size=0.3)
    start = descent.init(objective.initial)

    loss = sx.Save(at=50, fn=objective)  # the full-batch loss, every 50 steps
    whole = sx.evolve(descent, start, steps=2000, save=loss)
    batches = sx.evolve(descent, start, steps=2000, save=loss, key=jax.random.key(1))
    accuracy = objective.accuracy(batches.final, digits.test_inputs, digits.test_targets)
    return objective, whole, batches, accuracy


def _training(digits: Any, say: Say) -> Section:
    say("training a network on digits, full batch and mini-batches")
    objective, whole, batches, accuracy = _train(digits)
    fig, (left, right) = figure(2)
    curves = {"full batch": (whole.times / 0.3, whole.states), "batches of 64": (batches.times / 0.3, batches.states)}
    plot_curves(curves, x="step", y="loss on all data", log="y", axes=left, title="one map, with a key and without")
    _confusion(objective.model(batches.final), digits, right)
    text = f"""
        A network is a composition of layers, its training a composition of steps. One object, gradient descent on the
        loss of all {len(digits)} digits, runs full-batch when it is evolved without a key and becomes stochastic
        gradient descent when it is given one: step n then draws its batch from the key folded with n, so a run can be
        stopped, resumed and repeated exactly.
    """
    correct = Check("test accuracy", float(accuracy), 0.96, relation=">=")
    caption = "Left: loss along the orbit. Right: how test digits are classified; rows are truths."
    code = source(_train)
    equation = (
        r"\theta_{n+1} = \theta_n - h\,\nabla L(\theta_n),\qquad"
        r"L = \frac{1}{N}\sum_i \ell(\phi_L\circ\dots\circ\phi_1(x_i), y_i)"
    )
    return Section("A training run is an orbit", text, equation, fig, caption, code, (correct,))


def _confusion(model: Any, digits: Any, axes: Any) -> None:
    predicted = np.asarray(jnp.argmax(jax.vmap(model)(jnp.asarray(digits.test_inputs)), axis=-1))
    table = np.zeros((10, 10))
    np.add.at(table, (digits.test_targets, predicted), 1)
    axes.grid(False)
    axes.imshow(np.log1p(table), cmap="Blues")
    axes.set(xlabel="predicted", ylabel="digit", xticks=range(10), yticks=range(10))
    for (row, column), count in np.ndenumerate(table):
        if count:
            axes.text(column, row, int(count), ha="center", va="center", fontsize=6, color="w" if count > 9 else "k")


def _train_fashion(images):
    """Ten lines of a user of optax."""
    model = eqx.nn.MLP(784, 10, 128, 1, key=jax.random.key(0), dtype=jnp.float32)
    objective = sx.supervised(model, (images.inputs, images.targets), batch_size=256)
    adam = sx.from_optax(objective, optax.adam(2e-3))
    trained = sx.evolve(adam, adam.init(objective.initial), steps=1000, key=jax.random.key(1), save="last")
    return objective, trained.final.parameters


def _fashion(say: Say) -> list[Section]:
    try:
        images = sx.load("fashion-mnist").flat()
    except DataMissing:
        return []
    say("training on Fashion-MNIST with optax's Adam")
    objective, parameters = _train_fashion(images)
    accuracy = objective.accuracy(parameters, jnp.asarray(images.test_inputs), jnp.asarray(images.test_targets))
    fig = plot_images(images.test_inputs[:20].reshape(-1, 28, 28))
    text = """
        Any optax transformation is a map too, on the pair of parameters and optimiser state, and goes through the same
        evolve. Here Adam trains on Fashion-MNIST, 1,000 batches of 256.
    """
    check = Check("test accuracy", float(accuracy), 0.83, relation=">=")
    caption = "The first twenty test images."
    return [Section("The same with an optimiser of yours", text, "", fig, caption, source(_train_fashion), (check,))]


def _closest_flows(objective, step_sizes, end):
    """How gradient descent approaches its limit flow, and the flow that it follows at each step size."""
    descent = sx.GradientDescent(objective, step_sizes[0])
    flows = {"limit": sx.limit(descent), "modified": sx.modified(descent, order=1)}
    return {
        name: sx.measured_order(descent, flow, objective.initial, end=end, step_sizes=step_sizes, rtol=1e-8)
        for name, flow in flows.items()
    }


def _limits(objective: Any, say: Say) -> Section:
    say("gradient descent against its limit flow and its modified flow")
    end, step_sizes = 4.0, [0.25 / 2**k for k in range(4)]
    found = _closest_flows(objective, step_sizes, end)
    errors = {name: order.errors for name, order in found.items()}
    slopes = {name: float(order.order) for name, order in found.items()}
    fig, (left, right) = figure(2)
    _loss_curves(objective, left)
    plot_orders(step_sizes, errors, slopes, axes=right, title="distance in parameter space")
    text = """
        As the step size goes to zero gradient descent becomes gradient flow: its derivative in its own step size, at
        zero. With a finite step it follows another flow more closely, that of the loss L + (h/4) |grad L|^2: it has
        learned to avoid steep places. Both flows are found by one rule, automatic differentiation in the step size, and
        the distances fall at order 1 and 2 in it. Float64, 256 digits, a network of 1,498 parameters.
    """
    checks = (
        Check("order of the distance to the limit", slopes["limit"], 1.0, 0.15),
        Check("order of the distance to the modified flow", slopes["modified"], 2.0, 0.15),
    )
    equation = (
        r"\dot\theta = -\nabla L(\theta),\qquad \dot\theta = -\nabla\left(L + \frac{h}{4}|\nabla L|^2\right)(\theta)"
    )
    caption = "Left: the loss along the orbit (points) and both flows. Right: largest distance up to t = 4."
    return Section(
        "What gradient descent converges to, and what it really follows",
        text,
        equation,
        fig,
        caption,
        source(_closest_flows),
        checks,
    )


def _loss_curves(objective: Any, axes: Any) -> None:
    step_size, end = 0.5, 16.0
    descent = sx.GradientDescent(objective, step_size)
    orbit = sx.evolve(descent, objective.initial, times=(0.0, end), save=objective)
    grid = jnp.linspace(0.0, end, 65)
    curves = {".gradient descent, h = 0.5": (orbit.times, orbit.states)}
    for name, flow in (("limit flow", sx.limit(descent)), ("modified flow", sx.modified(descent, 1))):
        path = sx.evolve(flow, objective.initial, times=grid, save=objective, rtol=1e-6, atol=1e-8)
        curves[name] = (path.times, path.states)
    plot_curves(curves, x="time t = n h", y="loss", axes=axes, log="y")


def _training_at_the_edge(objective, step_size):
    """Full-batch descent with a fixed step, and the top Hessian eigenvalue every hundred steps."""
    descent = sx.GradientDescent(objective, step_size)
    orbit = sx.evolve(descent, objective.initial, steps=3000, save=100)
    return orbit, sharpness_along(objective, orbit.states)


def _edge(objective: Any, say: Say) -> Section:
    say("the top Hessian eigenvalue along training, against 2 / step size")
    step_size = 0.15
    orbit, curvatures = _training_at_the_edge(objective, step_size)
    losses = jax.vmap(objective)(orbit.states)
    numbers = np.arange(len(orbit)) * 100
    fig, (left, right) = figure(2)
    plot_curves({"loss": (numbers, losses)}, x="step", y="loss", axes=left, log="y")
    levels = {"2 / step size": 2 / step_size}
    plot_curves({"top eigenvalue": (numbers, curvatures)}, x="step", y="curvature", axes=right, levels=levels)
    text = """
        A quadratic of curvature l is stable under gradient descent where h l < 2. A network is no quadratic: trained
        with all data and a fixed step its sharpest curvature first grows, until it meets 2/h, and then stays there, at
        the edge of stability, while the loss goes on falling, no longer at every step.
    """
    late = float(np.mean(curvatures[-8:]) * step_size)
    checks = (
        Check("sharpness times step size at the start", curvatures[0] * step_size, 2.0, relation="<="),
        Check("sharpness times step size, mean of the last 700 steps", late, 2.0, 0.2),
        Check("loss at the end over loss at the start", float(losses[-1] / losses[0]), 0.2, relation="<="),
    )
    caption = (
        "512 digits, squared error. Cohen et al., Gradient descent on neural networks typically occurs at the edge."
    )
    equation = r"\lambda_{\max}(\nabla^2 L) < \frac{2}{h}"
    code = source(_training_at_the_edge)
    return Section("Training goes to its own stability edge", text, equation, fig, caption, code, checks)


def _many_step_sizes(objective, step_sizes, steps):
    """One compiled call for all step sizes: the step size is a leaf of the map."""

    def losses(step_size):
        descent = sx.GradientDescent(objective, step_size)
        return sx.evolve(descent, objective.initial, steps=steps, save=objective).states

    return jax.jit(jax.vmap(losses))(step_sizes)


def _sweep(objective: Any, say: Say) -> Section:
    say("64 step sizes in one compiled call")
    steps, step_sizes = 120, jnp.geomspace(0.02, 20.0, 64, dtype=jnp.float32)
    losses = np.asarray(_many_step_sizes(objective, step_sizes, steps))
    fates = np.array([fate(row) for row in losses])
    edge = 2 / float(sx.curvature(objective, objective.initial).sharpness)
    fig, (left, right) = figure(2)
    plot_fates(step_sizes, losses[:, -1], fates, x="step size", y=f"loss after {steps} steps", edge=edge, axes=left)
    found = {name: np.flatnonzero(fates == name) for name in ("converges", "oscillates", "diverges")}
    last = {name: places[-1] for name, places in found.items() if places.size}
    curves = {f"{name}, h = {step_sizes[i]:.2g}": (np.arange(steps + 1), losses[i]) for name, i in last.items()}
    plot_curves(curves, x="step", y="loss", axes=right, log="y")
    rough = _largest_product(objective, step_sizes[found["oscillates"][0]], steps)
    text = """
        The step size is a leaf of the map, so a sweep is a vmap: 64 trainings in one compiled call. Small steps
        converge monotonically. A step can raise the loss only if the curvature it crosses exceeds 2/h, for
        L(x - h g) <= L(x) - h |g|^2 (1 - h l / 2) where no curvature is above l: so a run that oscillates has met 2/h.
        It may still train, as it finds a flatter place. Past a second boundary it is lost.
    """
    checks = (
        Check("largest h times sharpness of the first run that oscillates", rough, 2.0, relation=">="),
        Check("kinds of fate among the 64 runs", float(len(last)), 3.0),
    )
    caption = "Left: fate over the step size. Right: the last run of each kind."
    return Section("A sweep is a vmap", text, "", fig, caption, source(_many_step_sizes), checks)


def _largest_product(objective: Any, step_size: Any, steps: int) -> float:
    """Largest h times sharpness along one run, every fifth step."""
    descent = sx.GradientDescent(objective, step_size)
    orbit = sx.evolve(descent, objective.initial, steps=steps, save=5)
    return float(step_size) * max(sharpness_along(objective, orbit.states))


def _stability_edges(curvature, factors):
    """The largest stable step size times the curvature, for three methods with momentum 0.9."""
    objective, start = sx.Quadratic(curvature), jnp.array([1.0])
    methods = {
        "gradient descent": lambda h: sx.GradientDescent(objective, h),
        "heavy ball": lambda h: sx.HeavyBall(objective, h, 0.9),
        "Nesterov": lambda h: sx.Nesterov(objective, h, 0.9),
    }
    edges = {}
    for name, build in methods.items():

        def size(factor, build=build):
            method = build(factor / curvature)
            final = sx.evolve(method, method.init(start), steps=4000, save="last").final
            return jnp.max(jnp.abs(jnp.stack(jax.tree.leaves(final))))

        stable = jax.jit(jax.vmap(size))(factors) < 1.0
        edges[name] = float(jnp.max(jnp.where(stable, factors, 0.0)))
    return edges


def _edges_in_closed_form(say: Say) -> Section:
    say("stability edges of three methods on a quadratic")
    beta, factors = 0.9, jnp.linspace(0.5, 4.5, 801)
    edges = _stability_edges(25.0, factors)
    truths = {"gradient descent": 2.0, "heavy ball": 2 + 2 * beta, "Nesterov": (2 + 2 * beta) / (1 + 2 * beta)}
    spacing = float(factors[1] - factors[0])
    checks = tuple(Check(f"edge of {name}, h l", edges[name], truth, 1.01 * spacing) for name, truth in truths.items())
    text = """
        On a quadratic the edges are known in closed form, for learning rate h, curvature l and momentum b. Here they
        are found by running 801 step sizes of each method at once.
    """
    equation = r"h\lambda < 2,\qquad h\lambda < 2+2b,\qquad h\lambda < \frac{2+2b}{1+2b}"
    return Section(
        "Where three methods stop being stable", text, equation, code=source(_stability_edges), checks=checks
    )


def _ball_and_its_equation(objective, friction, step_size, end):
    """Heavy ball with learning rate h^2 and momentum 1 - a h, and x'' + a x' = -grad L."""
    ball = sx.HeavyBall(objective, learning_rate=step_size**2, momentum=1 - friction * step_size)
    start, times = ball.init(objective.initial), jnp.linspace(0.0, end, 33)
    return sx.evolve(ball, start, times=times), sx.evolve(sx.limit(ball), start, times=times, rtol=1e-8, atol=1e-10)


def _momentum(objective: Any, say: Say) -> Section:
    say("heavy ball against its second-order equation")
    friction, end, step_sizes = 0.5, 8.0, [0.25 / 2**k for k in range(4)]
    ball = sx.HeavyBall(objective, step_sizes[0] ** 2, momentum=1 - friction * step_sizes[0])
    start = ball.init(objective.initial)
    found = sx.measured_order(ball, sx.limit(ball), start, end=end, step_sizes=step_sizes, rtol=1e-8)
    fig, (left, right) = figure(2)
    coarse, flow = _ball_and_its_equation(objective, friction, 0.25, end)
    curves = {
        ".heavy ball, h = 0.25": (coarse.times, jax.vmap(objective)(coarse.states.position)),
        "x'' + a x' = -grad L": (flow.times, jax.vmap(objective)(flow.states.position)),
    }
    plot_curves(curves, x="time t = n h", y="loss", axes=left, log="y")
    order = float(found.order)
    plot_orders(step_sizes, {"limit": found.errors}, {"limit": order}, axes=right, title="distance in phase space")
    friction_drift = _frictionless_drift()
    text = """
        Momentum is a second-order equation: with h the square root of the learning rate and friction
        a = (1 - momentum)/h, heavy ball tends to a damped particle in the landscape of the loss. Without friction
        nothing is lost: on a quadratic the discrete ball conserves its own energy to rounding, and oscillates for ever.
    """
    checks = (
        Check("order of the distance to the second-order equation", order, 1.0, 0.15),
        Check("drift of x^2 + w^2 - h x w over 100,000 steps without friction", friction_drift, 1e-10, relation="<="),
    )
    equation = r"\ddot x + a\,\dot x = -\nabla L(x)"
    return Section(
        "Momentum is a second-order equation",
        text,
        equation,
        fig,
        "Left: the loss along heavy ball (points) and along its limit. Right: their distance.",
        source(_ball_and_its_equation),
        checks,
    )


def _frictionless_drift() -> float:
    """Largest relative change of the invariant of momentum 1 on L = x^2/2: x^2 + w^2 - h x w with h = 0.3."""
    ball = sx.HeavyBall(sx.Quadratic(1.0), 0.09, 1.0)

    def invariant(state: Any) -> Any:
        return jnp.sum(state.position**2 + state.velocity**2 - 0.3 * state.position * state.velocity)

    values = sx.evolve(ball, ball.init(jnp.array([1.0])), steps=100_000, save=sx.Save(1000, invariant)).states
    return float(jnp.max(jnp.abs(values / values[0] - 1)))


CHAPTER = Chapter(
    "optimization",
    "Training is a dynamical system",
    "What does an optimiser converge to, what does it really follow, and when is it stable?",
    run,
)
