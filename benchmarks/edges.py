"""The edge that the instrument measures, beside the step size at which the run really leaves.

Optimisers of optax and optax.contrib on three small tasks in float64: a bowl, logistic regression with a ridge, and a tanh
network of 21 parameters at rest. Second moments are hidden by eps = 1, so that they stay as they are while a run is tried.
Measured: the ratio at two low rates, after 200 steps, which predicts at which rate it will be 1. Tried, from the state that
these steps led to: two orbits that begin 1e-7 apart along the top direction; the rate at which their distance begins to
grow, by bisection. The last columns are the largest difference over the tasks, and why none is measured.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report
from jax.flatten_util import ravel_pytree

from separatrix.optimization.stability.held import held_transformation
from separatrix.optimization.stability.responses import UNKNOWN, WHY, refusal, response_at

WARM, LENGTH, HALVINGS = 200, 600, 12
LOW = 1e-3, 2e-3
# Two orbits begin 1e-7 apart.
PARTED, ROUNDING = 1e-4, 1e-12
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": optax.sgd,
    "momentum": lambda h: optax.sgd(h, 0.9),
    "Nesterov": lambda h: optax.sgd(h, 0.9, nesterov=True),
    "optimistic": optax.optimistic_gradient_descent,
    "adam": lambda h: optax.adam(h, eps=1.0),
    "adamw": lambda h: optax.adamw(h, eps=1.0, weight_decay=0.1),
    "nadam": lambda h: optax.nadam(h, eps=1.0),
    "amsgrad": lambda h: optax.amsgrad(h, eps=1.0),
    "adamax": lambda h: optax.adamax(h, eps=1.0),
    "adabelief": lambda h: optax.adabelief(h, eps=1.0),
    "adan": lambda h: optax.adan(h, eps=1.0),
    "yogi": lambda h: optax.yogi(h, eps=1.0),
    "rmsprop": lambda h: optax.rmsprop(h, eps=1.0),
    "rmsprop, momentum": lambda h: optax.rmsprop(h, eps=1.0, momentum=0.9),
    "adagrad": lambda h: optax.adagrad(h, initial_accumulator_value=1.0),
    "adadelta": lambda h: optax.adadelta(h, eps=1.0),
    "sm3": lambda h: optax.sm3(h, momentum=0.9),
    "ademamix": lambda h: optax.contrib.ademamix(h, eps=1.0),
    "simplified ademamix": lambda h: optax.contrib.simplified_ademamix(h, eps=1.0),
    "schedule-free": lambda h: optax.contrib.schedule_free_sgd(h),
    "acprop": lambda h: optax.contrib.acprop(h, eps=1.0),
    "adopt": lambda h: optax.contrib.adopt(h, eps=1.0),
    "lion": optax.lion,
    "sign": optax.sign_sgd,
    "rprop": optax.rprop,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "fromage": optax.fromage,
    "novograd": lambda h: optax.novograd(h, eps=1.0),
    "adafactor": lambda h: optax.adafactor(h, multiply_by_parameter_scale=False, clipping_threshold=None),
    "muon": optax.contrib.muon,
    "prodigy": lambda h: optax.contrib.prodigy(h, eps=1.0),
    "polyak": lambda h: optax.polyak_sgd(max_learning_rate=h),
}  # fmt: skip


# Averages weighted by the rate: they begin with the rate that is tried.
FRESH = {"schedule-free"}
REASONS = {
    "adamw": "the decay moves the place of rest with the rate, but for the bowl's",
    "sm3": "no eps: its denominators are its own small gradients, and grow with the swing",
    "adafactor": "no eps: its denominators are its own small gradients, and grow with the swing",
    "muon": "of vectors it is Adam with a small eps: as adafactor",
    "prodigy": "it estimates its own rate anew from the run",
}


def tasks() -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """(loss of a vector, where it is at rest)."""
    keys = jax.random.split(jax.random.key(0), 4)
    inputs, signs = jax.random.normal(keys[0], (40, 5)), jnp.sign(jax.random.normal(keys[1], 40))

    def logistic(x: Any) -> Any:
        return jnp.mean(jax.nn.softplus(-signs * (inputs @ x))) + 0.01 * jnp.sum(x**2)

    tree = {"w": jax.random.normal(keys[2], (5, 3)), "b": jnp.zeros(3), "v": jax.random.normal(keys[3], 3)}
    flat, back = ravel_pytree(tree)

    def network(x: Any) -> Any:
        p = back(x)
        outputs = jnp.tanh(inputs @ p["w"] + p["b"]) @ p["v"]
        return jnp.mean((outputs - signs) ** 2) + 0.01 * jnp.sum(x**2)

    bowl = lambda x: jnp.sum(jnp.array([1.0, 7.0, 50.0]) * x**2) / 2  # noqa: E731
    return {
        "bowl": (bowl, jnp.zeros(3)), "logistic": (logistic, rest(logistic, jnp.zeros(5))),
        "network": (network, rest(network, flat)),
    }  # fmt: skip


def rest(loss: Callable[[Any], Any], x: Any) -> Any:
    """A minimum: by descent, then by Newton."""
    step = jax.jit(lambda x: x - 0.05 * jax.grad(loss)(x))
    for _ in range(3000):
        x = step(x)
    newton = jax.jit(lambda x: x - jnp.linalg.solve(jax.hessian(loss)(x), jax.grad(loss)(x)))
    for _ in range(10):
        x = newton(x)
    return x


def compared(build: Callable[[Any], Any], loss: Callable[[Any], Any], x: Any, fresh: bool) -> tuple[float, float]:
    """(edge measured, edge at which two orbits part)."""

    def orbit(rate: Any, start: Any, state: Any, length: int) -> Any:
        optimizer = optax.with_extra_args_support(build(rate))

        def step(carry: Any, _: Any) -> Any:
            x, state = carry
            value, slope = jax.value_and_grad(loss)(x)
            updates, state = optimizer.update(slope, state, x, value=value)
            return (optax.apply_updates(x, updates), state), x

        return jax.lax.scan(step, (start, state), length=length)

    ratios: list[float] = []
    (place, state), _ = orbit(LOW[0], x + 1e-7, build(LOW[0]).init(x), WARM)
    for rate in LOW:
        found = response_at(held_transformation(build(rate), state, place, loss(place)), jax.grad(loss)(place))
        why = WHY[UNKNOWN] if float(found.checks.unknown) == 1 else refusal(found.checks)
        if why is not None:
            raise ValueError(why)
        root = jnp.sqrt(found.inverse_edge)
        values, vectors = jnp.linalg.eigh(root[:, None] * jax.hessian(loss)(place) * root[None])
        ratios.append(float(values[-1]))
        top = root * vectors[:, -1]
    if not min(ratios) > 0:
        raise ValueError("no entry that moves by its gradient alone")
    top = top / jnp.linalg.norm(top)
    # 1/ratio is a line in 1/h, of which weight decay is the constant.
    slope = (1 / ratios[0] - 1 / ratios[1]) / (1 / LOW[0] - 1 / LOW[1])
    edge = slope / (1 - (1 / ratios[0] - slope / LOW[0]))

    @jax.jit
    def grows(rate: Any) -> Any:
        begin = build(rate).init(place) if fresh else state
        pair = jax.vmap(lambda start: orbit(rate, start, begin, LENGTH)[1])(jnp.stack([place, place + 1e-7 * top]))
        size = jnp.linalg.norm(pair[0] - pair[1], axis=1)
        before, late = jnp.max(size[400:500]), jnp.max(size[500:])
        # What has met again differs by rounding alone. What has parted may come to a cycle, or meet elsewhere.
        return ~(jnp.max(size) < PARTED) | ((late > before) & (late > ROUNDING))

    low, high = 0.5 * edge, 1.5 * edge
    if bool(grows(low)) or not bool(grows(high)):
        return edge, float("nan")
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if bool(grows(middle)) else (middle, high)
    return edge, (low + high) / 2


def main(only: str = "") -> None:
    """Measure, print and write the table."""
    jax.config.update("jax_enable_x64", True)
    made, rows = tasks(), []
    for name, build in OPTIMIZERS.items():
        if only not in name:
            continue
        cells: list[Any] = [name]
        worst, why = 0.0, REASONS.get(name, "")
        for loss, x in made.values():
            try:
                measured, real = compared(build, loss, x, name in FRESH)
            except (ValueError, TypeError) as error:
                measured, real, why = float("nan"), float("nan"), " ".join(str(error).split())
            cells += [measured, real]
            worst = float(np.fmax(worst, 100 * abs(measured / real - 1))) if real == real else float("nan")
        rows.append([*cells, worst, why])
        print(rows[-1], flush=True)
    columns = ["optimiser", *[f"{task}, {what}" for task in made for what in ("measured", "real")], "% off at most", ""]
    report("edges", "the edge that is measured and the one at which runs leave", columns, rows)


if __name__ == "__main__":
    main(*sys.argv[1:2])
