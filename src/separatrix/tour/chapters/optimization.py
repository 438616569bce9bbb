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
from separatrix.plotting import figure, plot_curves, plot_images, plot_orders, plot_race
from separatrix.tour.chapter import Chapter, Check, Section, source
from separatrix.tour.chapters import _edges as edges

Say = Callable[[str], None]


def run(say: Say) -> list[Section]:
    """All sections, each a claim with its numbers."""
    digits = sx.load("digits").flat()
    sections = [_training(digits, say)]
    sections += _fashion(say)
    objective = _objective(digits, examples=256, width=16, dtype=jnp.float64)
    sections.append(_limits(objective, say))
    sections.append(edges.edge(_objective(digits, examples=512, width=32, loss="squared_error"), say))
    sections.append(edges.sweep(_objective(digits, examples=256, width=32), say))
    sections.append(edges.edges_in_closed_form(say))
    sections.append(_momentum(objective, say))
    sections.append(_landscapes(say))
    sections.append(edges.verdict(objective, say))
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
    descent = sx.optimization.GradientDescent(objective, step_size=0.3)
    start = descent.init(objective.initial)

    loss = sx.Save(at=50, fn=objective)  # the full-batch loss, every 50 steps
    whole = sx.evolve(descent, start, steps=2000, save=loss)
    batches = sx.evolve(descent, start, steps=2000, save=loss, key=jax.random.key(1))
    accuracy = sx.training.accuracy(objective.model(batches.final), digits.test_inputs, digits.test_targets)
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
    accuracy = sx.training.accuracy(
        objective.model(parameters), jnp.asarray(images.test_inputs), jnp.asarray(images.test_targets)
    )
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
    descent = sx.optimization.GradientDescent(objective, step_sizes[0])
    flows = {"limit": sx.limit(descent), "modified": sx.modified(descent, corrections=1)}
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
    descent = sx.optimization.GradientDescent(objective, step_size)
    orbit = sx.evolve(descent, objective.initial, times=(0.0, end), save=objective)
    grid = jnp.linspace(0.0, end, 65)
    curves = {".gradient descent, h = 0.5": (orbit.times, orbit.states)}
    for name, flow in (("limit flow", sx.limit(descent)), ("modified flow", sx.modified(descent, 1))):
        path = sx.evolve(flow, objective.initial, times=grid, save=objective, rtol=1e-6, atol=1e-8)
        curves[name] = (path.times, path.states)
    plot_curves(curves, x="time t = n h", y="loss", axes=axes, log="y")


def _ball_and_its_equation(objective, friction, step_size, end):
    """Heavy ball with learning rate h^2 and momentum 1 - a h, and x'' + a x' = -grad L."""
    ball = sx.optimization.HeavyBall(objective, learning_rate=step_size**2, momentum=1 - friction * step_size)
    start, times = ball.init(objective.initial), jnp.linspace(0.0, end, 33)
    return sx.evolve(ball, start, times=times), sx.evolve(sx.limit(ball), start, times=times, rtol=1e-8, atol=1e-10)


def _momentum(objective: Any, say: Say) -> Section:
    say("heavy ball against its second-order equation")
    friction, end, step_sizes = 0.5, 8.0, [0.25 / 2**k for k in range(4)]
    ball = sx.optimization.HeavyBall(objective, step_sizes[0] ** 2, momentum=1 - friction * step_sizes[0])
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
    ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), 0.09, 1.0)

    def invariant(state: Any) -> Any:
        return jnp.sum(state.position**2 + state.velocity**2 - 0.3 * state.position * state.velocity)

    values = sx.evolve(ball, ball.init(jnp.array([1.0])), steps=100_000, save=sx.Save(1000, invariant)).states
    return float(jnp.max(jnp.abs(values / values[0] - 1)))


def _two_races():
    """Seven methods on Beale's function, and from just beside a saddle."""
    methods = sx.optimization.classical_methods(0.005)
    beale = sx.optimization.race(sx.optimization.landscape("beale"), jnp.array([1.0, 1.5]), methods, steps=2000)
    saddle = sx.optimization.race(sx.optimization.landscape("saddle"), jnp.array([0.5, 1e-3]), steps=800)
    return beale, saddle


def _landscapes(say: Say) -> Section:
    say("seven methods on Beale's function and on a saddle")
    beale, saddle = _two_races()
    fig, (left, right) = figure(2, width=4.2, height=3.6)
    plot_race(beale, axes=left)
    plot_race(saddle, axes=right)
    there = dict(zip(beale.names, np.asarray(beale.finished).tolist(), strict=True))
    arrived = sum(step > 0 for step in there.values())
    away = dict(zip(saddle.names, np.asarray(saddle.finished).tolist(), strict=True))
    text = f"""
        The two classical pictures. On Beale's function there is one minimum, at (3, 0.5), behind a valley;
        {arrived} of seven methods are within 0.05 of it after 2,000 steps at a learning rate of 0.005; at 0.01
        momentum and Nesterov blow up from this start. Beside a
        saddle gradient descent gains a factor of 1 + h a step along the way out, and waits: from a thousandth of the
        way, {away["SGD"]} steps. Methods that divide each coordinate by the size of its own gradients see no small
        gradient there: RMSprop leaves after {away["RMSprop"]} steps and Adam after {away["Adam"]}.
    """
    # |x_n|^2 + |y_n|^2 with x_n = 0.5 (1 - h)^n and y_n = 1e-3 (1 + h)^n passes 1.
    n = np.arange(801)
    exact = int(np.argmax(np.hypot(0.5 * 0.99**n, 1e-3 * 1.01**n) > 1))
    slowest = max(away["RMSprop"], away["Adam"])
    checks = (
        Check("steps of gradient descent to leave the saddle", float(away["SGD"]), float(exact)),
        Check("steps of the slower of RMSprop and Adam over those", slowest / exact, 0.5, relation="<="),
        Check(
            "methods at the minimum of Beale's function",
            float(arrived),
            5.0,
            relation=">=",
        ),
    )
    caption = "Left: Beale's function; the star is its minimum. Right: L = (x^2 - y^2)/2, whose saddle is the cross."
    equation = r"y_n = (1 + h)^n\, y_0"
    return Section("Two classical pictures", text, equation, fig, caption, source(_two_races), checks)


CHAPTER = Chapter(
    "optimization",
    "Training is a dynamical system",
    "What does an optimiser converge to, what does it really follow, and when is it stable?",
    run,
)
