"""Sections of the first chapter about stability: training at the edge, sweeps, edges in closed form, the verdict."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.plotting import figure, plot_curves, plot_fates, plot_stability
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.measure.training import fate

Say = Callable[[str], None]


def _training_at_the_edge(objective):
    """Two optimisers on all the data, each watched against an edge of its own."""
    reports = {}
    for name, optimizer in {"gradient descent": optax.sgd(0.15), "Adam": optax.adam(5e-3)}.items():
        monitor = sx.StabilityMonitor(every=20)
        sx.fit(objective, optimizer, steps=1500, monitor=monitor)
        reports[name] = monitor.report()
    return reports


def edge(objective: Any, say: Say) -> Section:
    """Two optimisers, each at its own edge."""
    say("gradient descent and Adam, watched against the edge of each")
    reports = _training_at_the_edge(objective)
    fig, axes = figure(2, width=4.4, height=3.0)
    for axis, (name, report) in zip(axes, reports.items(), strict=True):
        plot_stability(report, axes=axis)
        axis.set_title(name, fontsize=10)
    text = """
        A quadratic of curvature l is stable under gradient descent where h l < 2. A network is no quadratic: trained
        with all data and a fixed step its sharpest curvature first grows, until it meets 2/h, and then hovers there, at
        the edge of stability, while the loss goes on falling, no longer at every step. Adam goes to an edge too, in the
        metric of its own second moments: 38 over its learning rate. The instrument is told neither number. It measures
        each optimiser's edge from its update, and the ratio to it, so that both hover at 1.
    """
    checks = []
    for name, report in reports.items():
        late = float(np.mean(report.ratios[-25:]))
        checks += [
            Check(f"{name}: ratio to the edge at the start", float(report.ratios[0]), 0.6, relation="<="),
            Check(f"{name}: ratio to the edge, mean of the last 500 steps", late, 1.0, 0.1),
            Check(f"{name}: last loss over the first", float(report.losses[-1] / report.losses[0]), 0.2, relation="<="),
        ]
    caption = (
        "512 digits, squared error; triangles are what the instrument noticed. Cohen et al., Gradient descent on neural "
        "networks typically occurs at the edge of stability; Adaptive gradient methods at the edge of stability."
    )
    equation = r"\lambda_{\max}(\nabla^2 L) < \frac{2}{h},\qquad \lambda_{\max}(D^{-1}\nabla^2 L) < \frac{38}{\eta}"
    code = source(_training_at_the_edge)
    return Section("Training goes to its own stability edge", text, equation, fig, caption, code, tuple(checks))


def _many_step_sizes(objective, step_sizes, steps):
    """One compiled call for all step sizes: the step size is a leaf of the map."""

    def losses(step_size):
        descent = sx.optimization.GradientDescent(objective, step_size)
        return sx.evolve(descent, objective.initial, steps=steps, save=objective).states

    return jax.jit(jax.vmap(losses))(step_sizes)


def sweep(objective: Any, say: Say) -> Section:
    """Fates over the step size."""
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
    rough = _largest_ratio(objective, step_sizes[found["oscillates"][0]], steps)
    text = """
        The step size is a leaf of the map, so a sweep is a vmap: 64 trainings in one compiled call. Small steps
        converge monotonically. A step can raise the loss only if the curvature it crosses exceeds 2/h, for
        L(x - h g) <= L(x) - h |g|^2 (1 - h l / 2) where no curvature is above l: so a run that oscillates has met 2/h.
        It may still train, as it finds a flatter place. Past a second boundary it is lost.
    """
    checks = (
        Check("largest ratio to the edge of the first run that oscillates", rough, 1.0, relation=">="),
        Check("kinds of fate among the 64 runs", float(len(last)), 3.0),
    )
    caption = "Left: fate over the step size. Right: the last run of each kind."
    return Section("A sweep is a vmap", text, "", fig, caption, source(_many_step_sizes), checks)


def _largest_ratio(objective: Any, step_size: Any, steps: int) -> float:
    """Largest h times sharpness over 2 along one run."""
    monitor = sx.StabilityMonitor(every=10)
    sx.fit(objective, lambda loss: sx.optimization.GradientDescent(loss, step_size), steps=steps, monitor=monitor)
    return float(np.nanmax(monitor.report().ratios))


def _stability_edges(curvature, factors):
    """The largest stable step size times the curvature, for three methods with momentum 0.9."""
    objective, start = sx.optimization.Quadratic(curvature), jnp.array([1.0])
    methods = {
        "gradient descent": lambda h: sx.optimization.GradientDescent(objective, h),
        "heavy ball": lambda h: sx.optimization.HeavyBall(objective, h, 0.9),
        "Nesterov": lambda h: sx.optimization.Nesterov(objective, h, 0.9),
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


def edges_in_closed_form(say: Say) -> Section:
    """Edges on a quadratic, by runs and by formula."""
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


def _two_verdicts(objective, edge):
    """Gradient descent a fifth below its edge, and a quarter past it."""
    below, past = (sx.optimization.GradientDescent(objective, factor * edge) for factor in (0.8, 1.25))
    questions = ["linear_stability"]
    return [sx.diagnose(descent, objective.initial, questions=questions) for descent in (below, past)]


def verdict(objective: Any, say: Say) -> Section:
    """What `diagnose` says below the edge and past it."""
    say("the verdict on two step sizes")
    edge = 2 / float(sx.curvature(objective, objective.initial, tol=1e-6).sharpness)
    below, past = _two_verdicts(objective, edge)
    mild, hard = (_ratio(verdict) for verdict in (below, past))
    text = f"""
        The same questions can be asked of any system, and the family adds its own: where does this optimiser stand
        against its edge? A fifth below it: "{mild}". A quarter past it: "{hard}".
    """
    checks = (
        Check("ratio to the edge at 0.8 of it", mild.evidence, 0.8, 1e-3),
        Check("ratio to the edge at 1.25 of it", hard.evidence, 1.25, 1e-3),
        Check("claims that do not hold past the edge", float(len(past.broken)), 1.0, relation=">="),
    )
    return Section("The verdict", text, code=source(_two_verdicts), checks=checks)


def _ratio(verdict: Any) -> Any:
    return next(finding for finding in verdict.findings if finding.name.startswith("sharpness over"))
