r"""P1: value and gradient of a neural ODE, adaptive Tsit5, beside diffrax's default (and torch's, where installed).

dx/dt = MLP 2-64-64-2 (tanh, weights times 2.5), t from 0 to 4, tolerances 1e-5, float32; loss = mean of squares at the
end. The floor is steps x stages x (one jitted evaluation and its vjp).
"""

import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _table import interleaved, report

import separatrix as sx

RTOL = ATOL = 1e-5
END = 4.0


def network():
    model = eqx.nn.MLP(2, 2, 64, 2, jnp.tanh, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: 2.5 * leaf if eqx.is_inexact_array(leaf) and leaf.ndim == 2 else leaf, model)


class Field(eqx.Module):
    """The network over a batch of points, one system."""

    model: eqx.nn.MLP

    def __call__(self, x):
        return jax.vmap(self.model)(x)


def ours(field, x, times):
    # The times are arguments here as there, so that neither side computes gradients for them.
    final = sx.evolve(sx.as_flow(field), x, times=times, save="last", rtol=RTOL, atol=ATOL, max_steps=4096).final
    return jnp.mean(final**2)


def theirs(field, x, times):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: args(y)), diffrax.Tsit5(), times[0], times[1], None, x, args=field,
        stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL), max_steps=4096,
    )  # fmt: skip
    return jnp.mean(solution.ys[-1] ** 2)


def compiled(loss, field, x, times):
    """(seconds to trace and compile, the compiled value-and-gradient)."""
    arrays, rest = eqx.partition(field, eqx.is_inexact_array)
    function = jax.jit(jax.value_and_grad(lambda p, x, times: loss(eqx.combine(p, rest), x, times)))
    began = time.perf_counter()
    run = function.lower(arrays, x, times).compile()
    return time.perf_counter() - began, lambda: run(arrays, x, times)


def floor(field, x, steps):
    """steps x 6 evaluations, each with its vjp, in one jitted scan."""
    arrays, rest = eqx.partition(field, eqx.is_inexact_array)

    @jax.jit
    def run(arrays, x):
        def evaluation(carry, _):
            y, total = carry
            value, pull = jax.vjp(lambda p, y: eqx.combine(p, rest)(y), arrays, y)
            gradient, costate = pull(value)
            return (y + 1e-3 * costate, jax.tree.map(jnp.add, total, gradient)), None

        zeros = jax.tree.map(jnp.zeros_like, arrays)
        return jax.lax.scan(evaluation, (x, zeros), length=6 * steps)[0]

    return lambda: run(arrays, x)


def torch_solver(field, x):
    """torchdiffeq's adjoint on the same weights, or None where it is not installed."""
    try:
        import torch
        from torchdiffeq import odeint_adjoint
    except ImportError:
        return None
    layers = []
    for layer in field.model.layers:
        linear = torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
        linear.weight.data = torch.tensor(np.asarray(layer.weight))
        linear.bias.data = torch.tensor(np.asarray(layer.bias))
        layers += [linear, torch.nn.Tanh()]

    class Velocity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(*layers[:-1])

        def forward(self, t, y):
            return self.net(y)

    velocity, start, times = Velocity(), torch.tensor(np.asarray(x)), torch.tensor([0.0, END])

    def run():
        velocity.zero_grad()
        final = odeint_adjoint(velocity, start, times, rtol=RTOL, atol=ATOL, method="dopri5")[-1]
        (final**2).mean().backward()

    return run


def main():
    rows, times = [], jnp.array([0.0, END])
    for loss in (ours, theirs):
        # What each side imports and sets up once is no part of compiling.
        compiled(loss, Field(network()), jnp.ones((2, 2)), times)
    for batch in (1, 16, 128):
        field = Field(network())
        x = jax.random.normal(jax.random.key(1), (batch, 2))
        compile_ours, run_ours = compiled(ours, field, x, times)
        compile_theirs, run_theirs = compiled(theirs, field, x, times)
        steps = int(sx.evolve(sx.as_flow(field), x, times=times, rtol=RTOL, atol=ATOL).stats["accepted"])
        gradients = [jax.flatten_util.ravel_pytree(run()[1])[0] for run in (run_ours, run_theirs)]
        gap = float(jnp.linalg.norm(gradients[0] - gradients[1]) / jnp.linalg.norm(gradients[1]))
        runs = {"ours": run_ours, "diffrax": run_theirs, "floor": floor(field, x, steps)}
        torch_run = torch_solver(field, x)
        # torch goes apart: its threads stay awake for a while after a call and would slow whoever comes next.
        medians = interleaved(runs, repeats=51, warmup=5)
        medians |= interleaved({"torch": torch_run}, repeats=7) if torch_run else {}
        mine = medians["ours"]
        rows.append([
            batch, steps, 1e3 * mine, 1e3 * medians["diffrax"], medians["diffrax"] / mine,
            medians["torch"] / mine if torch_run else None, mine / medians["floor"], compile_ours, compile_theirs,
            compile_theirs / compile_ours, gap,
        ])  # fmt: skip
    columns = ["batch", "steps", "ours ms", "diffrax ms", "diffrax/ours", "torchdiffeq adjoint/ours", "ours/floor",
               "ours compile s", "diffrax compile s", "compile ratio", "gradient gap"]  # fmt: skip
    report(
        "P1",
        "neural ODE, value and gradient",
        columns,
        rows,
        "Aims: diffrax/ours >= 1.5, torchdiffeq/ours >= 10, compile ratio >= 3.",
    )


if __name__ == "__main__":
    main()
