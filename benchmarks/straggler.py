r"""P2: a batch with a straggler.

257 van der Pol oscillators, x'' = mu (1 - x^2) x' - x, over t = 0, ..., 10 with Tsit5 at rtol 1e-5, atol 1e-7, in one
call: 256 with mu between 0.5 and 1.5, which take some 50 steps, and one with mu = 500, which is stiff and takes
thousands. The floor is the parts solved apart: the easy ones in one batch, then the stiff one alone, both by the same
code.
"""

import sys
import time
import types
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _table import interleaved, report

import separatrix as sx

EASY, END, RTOL, ATOL, MAX_STEPS = 256, 10.0, 1e-5, 1e-7, 100_000
STIFFNESS = jnp.concatenate([jnp.linspace(0.5, 1.5, EASY), jnp.array([500.0])])
STATES = jnp.broadcast_to(jnp.array([2.0, 0.0]), (EASY + 1, 2))


class VanDerPol(sx.Flow):
    """x' = v; v' = mu (1 - x^2) v - x."""

    stiffness: jax.Array

    def velocity(self, t: Any, state: Any) -> Any:
        return field(t, state, self.stiffness)


def field(t: Any, state: Any, mu: Any) -> Any:
    x, v = state
    return jnp.stack([v, mu * (1 - x**2) * v - x])


@eqx.filter_jit
def ours(stiffness: Any, states: Any) -> Any:
    times = (0.0, END)
    path = sx.ensemble(VanDerPol(stiffness), states, times=times, rtol=RTOL, atol=ATOL, max_steps=MAX_STEPS,
                       save="last", batched_system=True)  # fmt: skip
    return path.final, path.stats


@eqx.filter_jit
def theirs(stiffness: Any, states: Any) -> Any:
    def one(mu: Any, state: Any) -> Any:
        controller = diffrax.PIDController(rtol=RTOL, atol=ATOL)
        solution = diffrax.diffeqsolve(diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, END, None, state, args=mu,
                                       stepsize_controller=controller, max_steps=MAX_STEPS,
                                       saveat=diffrax.SaveAt(t1=True), adjoint=diffrax.ForwardMode())  # fmt: skip
        return solution.ys[0], solution.stats["num_steps"]

    return jax.vmap(one)(stiffness, states)


def apart(solve: Any) -> Any:
    """The easy members in one call, the stiff one in another."""
    easy, hard = solve(STIFFNESS[:EASY], STATES[:EASY]), solve(STIFFNESS[EASY:], STATES[EASY:])
    return easy[0], hard[0]


def compile_time(solve: Any) -> float:
    """Seconds to trace and compile the whole batch, without the compilation cache."""
    jax.clear_caches()
    start = time.perf_counter()
    solve.lower(STIFFNESS, STATES).compile()
    return time.perf_counter() - start


def torchode_solver() -> Any:
    """The same problem for torchode, or None where it is not installed."""
    # torchode's annotations come from torchtyping, which no longer imports beside this torch: names that say nothing do.
    annotations: Any = types.ModuleType("torchtyping")
    annotations.TensorType = type("TensorType", (), {"__class_getitem__": classmethod(lambda cls, form: Any)})
    annotations.is_float = float
    sys.modules.setdefault("torchtyping", annotations)
    try:
        import torch
        import torchode
    except ImportError:
        return None
    mu, states = torch.tensor(np.asarray(STIFFNESS)), torch.tensor(np.asarray(STATES))

    def velocity(t: Any, state: Any) -> Any:
        x, v = state[:, 0], state[:, 1]
        return torch.stack([v, mu * (1 - x**2) * v - x], dim=1)

    term = torchode.ODETerm(velocity)
    controller = torchode.IntegralController(atol=ATOL, rtol=RTOL, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), controller)
    ends = torch.tensor([[0.0, END]] * (EASY + 1))
    problem = torchode.InitialValueProblem(y0=states, t_eval=ends)

    def run() -> Any:
        with torch.no_grad():
            return solver.solve(problem).ys[:, -1].numpy()

    return run


def main() -> None:
    """Print and keep the row."""
    fns = {
        "separatrix.ensemble": lambda: ours(STIFFNESS, STATES)[0],
        "separatrix, the parts apart": lambda: apart(ours),
        "diffrax, the parts apart": lambda: apart(theirs),
        "diffrax under vmap": lambda: theirs(STIFFNESS, STATES)[0],
    }
    medians = interleaved(fns, repeats=7)
    absent = "torchode is not installed here."
    if (peer := torchode_solver()) is not None:
        medians |= interleaved({"torchode": peer}, repeats=3)
        absent = ""
    floor = medians["separatrix, the parts apart"]
    compiling = {"separatrix.ensemble": compile_time(ours), "diffrax under vmap": compile_time(theirs)}
    rows = [[name, 1e3 * seconds, seconds / floor, compiling.get(name)] for name, seconds in medians.items()]
    steps = np.asarray(ours(STIFFNESS, STATES)[1]["steps"])
    error = float(jnp.abs(fns["separatrix.ensemble"]() - fns["diffrax under vmap"]()).max())
    notes = (
        f"Steps: {steps[:EASY].min()} to {steps[:EASY].max()} easy, {steps[-1]} stiff. Largest difference from "
        f"diffrax at the end: {error:.1e}. float32, forward only. We compile longer: a loop for each of four stages. "
        f"{absent}"
    )
    report(
        "P2",
        "256 easy members and a stiff one in one call",
        ["solver", "ms", "of our parts apart", "compile, s"],
        rows,
        notes,
    )


if __name__ == "__main__":
    main()
