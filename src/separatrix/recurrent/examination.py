r"""What a recurrent network is asked: how far back a gradient can reach, and whether it can rest.

For x[n+1] = tanh(W x[n] + ...) with largest singular value s of W, the slope of tanh being at most 1,

    |lambda[0]| <= s^T |lambda[T]|:     a gradient can be above 1e-3 after T steps only if s >= 1e-3^{1/T}.

What it does reach, for a cell of any kind, is measured: with s_1 the largest singular value of the product of the T
Jacobians along these inputs, the gradient in the direction that is kept best changes at r = ln s_1/T nats a step, and by a
factor of a thousand after ln(1e3)/|r| steps, its horizon. Both say what training can feel, and not whether a net that was
trained remembers: what an attractor holds has no gradient left, and is held all the same. So they are cautions.

Undriven, x' = tanh(g J x) rests at 0 iff g rho(J) < 1, with rho the spectral radius.

**Reference:** Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks* (2013), section 2;
Bengio, Simard & Frasconi, *Learning long-term dependencies with gradient descent is difficult* (1994), theorem 4, for
memory in attractors.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from separatrix.diagnostics.along.gradient_profile import gradient_profile
from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.evolution import evolve
from separatrix.recurrent.cells import Elman, spectral_radius
from separatrix.recurrent.network import RandomNetwork
from separatrix.systems.cells import CellMap
from separatrix.systems.driving import RecordedDrive

_LOST = 1e-3


@examine.register(RecordedDrive)
def examine_driven(system: RecordedDrive, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Gradients reach back over the record of inputs: the gain lets them, and they do."""
    steps = system.length - int(at)
    if not isinstance(system.open, CellMap) or steps < 1:
        return []
    cell = system.open.cell
    gain = _gain(cell, steps) if isinstance(cell, Elman) else []
    return gain + _horizon(system, cell, state, int(at), steps, key)


def _gain(cell: Elman, steps: int) -> list[Finding]:
    gain, needed = float(jnp.linalg.norm(cell.weight_hh, 2)), _LOST ** (1 / steps)
    cause = f"no gradient can come back over {steps} steps: below {gain:.3g}^{steps} of it is left, and tanh takes more"
    do = "To train it over so many start from `with_recurrent_gain(cell, 1.0)`, or use a gated cell."
    return [Finding("gain of the recurrent weights, largest singular value", gain, ">=", needed, cause, do, "caution")]


def _horizon(system: RecordedDrive, cell: Any, state: Any, start: int, steps: int, key: Any) -> list[Finding]:
    path = evolve(system, state, steps=steps, start=start, key=key)
    size = float(gradient_profile(system, path, count=1, key=key).log_singular_values[0, 0])
    horizon = float(np.inf if size == 0 else -np.log(_LOST) * steps / abs(size))
    cause, do = "the run broke before its end", ""
    if not np.isnan(size):
        fate = "vanishes, that of the direction kept best" if size < 0 else "explodes"
        cause = f"going back the gradient {fate}, at {abs(size) / steps:.3g} nats a step"
        do = _more(cell) if size < 0 else "Lower the gain, or clip gradients."
    name = "reach of a gradient: steps to a factor of a thousand"
    return [Finding(name, horizon, ">=", float(steps), cause, do, "caution")]


def _more(cell: Any) -> str:
    """How more of a gradient comes back through a cell of this kind."""
    weight: Any = getattr(cell, "weight_hh", None)
    if isinstance(cell, eqx.nn.GRUCell | eqx.nn.LSTMCell) or (weight is not None and weight.shape[0] > weight.shape[1]):
        return "If it is still to be trained, open its gates: raise the bias of the one that keeps."
    if isinstance(cell, Elman):
        return "If it is still to be trained, raise the gain towards 1, or use a gated cell."
    return "If it is still to be trained, raise the gain towards 1; gates help if the cell has none."


@examine.register(RandomNetwork)
def examine_network(system: RandomNetwork, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Without input all activity dies."""
    radius = float(spectral_radius(system.weight))
    evidence = float(system.gain) * radius
    most = f"{1 / radius:.4g}" if radius > 0 else "any"
    do = f"Lower the gain below {most}, or ask `lyapunov_spectrum` whether what it does is chaos."
    cause = "rest is unstable: the network keeps itself active"
    return [Finding("gain times spectral radius of the weights", evidence, "<=", 1.0, cause, do)]
