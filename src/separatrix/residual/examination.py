r"""What a residual net is asked: whether its blocks can be undone, and whether it is near the flow that it steps along.

    x[l+1] = x[l] + h f(l h, x[l]),   l = 0, ..., L - 1,   L = T/h

A block is invertible, by the fixed point of x = y - h f(x), where h Lip(f) < 1; along the orbit of the state Lip(f) is at
least the largest singular value of Df there, which is what is measured. With x_h the last state at this depth and
x_{h/2} that at twice the depth, Euler's error is C h + O(h^2), so that of x_h is

    |x_h - x(T)| = 2 |x_h - x_{h/2}| + O(h^2).

**Reference:** Behrmann et al., *Invertible residual networks* (2019), theorem 1, for the condition; Hairer, Norsett &
Wanner, *Solving Ordinary Differential Equations I* (1993), section II.4, for the estimate.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.evolution import evolve
from separatrix.linear.coordinates import Jacobian, as_vector
from separatrix.residual.resnet import AlongDepth, NeuralODE, ResNet
from separatrix.systems.signature import Frozen

# Jacobians of up to so many coordinates are formed along the orbit.
_FORMED = 512
# A tenth of what all blocks together do.
_NEAR = 0.1
# The first condition is sufficient and not necessary, and a net that is not near its flow may do its work all the same.
_MAY = "caution"


@examine.register(ResNet)
def examine_resnet(system: ResNet, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Blocks can be undone, and the net is near its flow: over the span of its weights, or over T = 1."""
    h = float(system.step_size)
    if not 0 < h < np.inf:
        do = "Give the net blocks of a positive step size, T/L for L of them."
        raise ValueError(explain("examination of a residual net: step_size", h, "a positive number", do))
    field = system.block.field.thaw() if isinstance(system.block.field, Frozen) else system.block.field
    span = field.span if isinstance(field, AlongDepth) else 1.0
    steps = max(1, round(span / h))
    path = evolve(system, state, steps=steps)
    return [*_invertible(system, path, h), _near(system, state, path, steps)]


def _invertible(system: ResNet, path: Any, h: float) -> list[Finding]:
    if as_vector(path.final).size > _FORMED:
        return []
    states = jax.tree.map(lambda leaf: leaf[:-1], path.states)
    steepest = float(jnp.max(_steepness(system.block, states, path.times[:-1])))
    cause = f"blocks stretch differences up to {steepest:.3g} a unit of depth: one may fold, and have no inverse"
    # Of a field that does not stretch at all every step size will do, and the claim holds.
    most = f"{1 / steepest:.3g}" if steepest > 0 else "any"
    do = f"Take blocks of step size below {most}, or bound the norms of the weights."
    return [
        Finding(
            "step size times the field's Lipschitz constant along the orbit", h * steepest, "<", 1.0, cause, do, _MAY
        )
    ]


@eqx.filter_jit
def _steepness(block: NeuralODE, states: Any, times: Any) -> Any:
    """The largest singular value of Df at each state."""
    return jax.vmap(lambda x, t: jnp.linalg.norm(Jacobian(block, x, at=t).matrix(), 2))(states, times)


def _near(system: ResNet, state: Any, path: Any, steps: int) -> Finding:
    halved = eqx.tree_at(lambda net: net.step_size, system, system.step_size / 2)
    finer = evolve(halved, state, steps=2 * steps, save="last").final
    coarse = as_vector(path.final)
    apart = jax.vmap(lambda x: jnp.linalg.norm(as_vector(x) - as_vector(state)))(path.states)
    moved, off = float(jnp.max(apart)), 2 * float(jnp.linalg.norm(coarse - as_vector(finer)))
    # Blocks that do nothing follow their flow exactly, unless shorter ones do something.
    error = off / moved if moved != 0 else np.inf if off > 0 else off
    cause = "the blocks are too long for Euler's method: the net is a map of its own, and its depth cannot be changed"
    do = "Take more and shorter blocks, or blocks of a higher order (`with_depth(model, L, Heun())`)."
    name = "estimated distance from the flow, relative to what the blocks do"
    return Finding(name, error, "<=", _NEAR, cause, do, _MAY)
