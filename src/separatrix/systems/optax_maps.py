r"""Any optax optimiser on an objective, as the map that it is.

    g = grad L(theta[n]),   (u, s[n+1]) = update(g, s[n], theta[n]),   theta[n+1] = theta[n] + u.

The state is the pair of parameters and optimiser state. A general transformation does not say how it depends on a step
size, so this map has no limit; `GradientDescent`, `HeavyBall` and `Nesterov` do.
"""

import inspect
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix._types import Function, Key, State, StepIndex
from separatrix.systems.content import by_content
from separatrix.systems.map import Map
from separatrix.systems.objective import Objective, as_objective, require_scalar


class OptimizerState(NamedTuple):
    """Parameters and the state of their optimiser."""

    parameters: Any
    optimizer_state: Any


def finite_part(state: Any) -> Any:
    """The part of a state that must be finite: not the inner state of an optimiser, where infinity may be a start value."""
    return jax.tree.map(
        lambda node: node.parameters if isinstance(node, OptimizerState) else node,
        state,
        is_leaf=lambda node: isinstance(node, OptimizerState),
    )


class OptaxMap(Map):
    """(theta, s) -> (theta + u, s'), with (u, s') = update(grad L(theta), s, theta)."""

    objective: Objective
    transformation: optax.GradientTransformationExtraArgs = eqx.field(static=True)

    def init(self, parameters: State) -> OptimizerState:
        """Return the state at which training starts from these parameters."""
        return OptimizerState(parameters, self.transformation.init(parameters))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        if not isinstance(state, OptimizerState):
            expected = "OptimizerState(parameters, optimizer_state)"
            raise TypeError(
                explain("from_optax: state", type(state).__name__, expected, "Start from map.init(parameters).")
            )
        return self.descend(state, lambda values: (require_scalar(self.objective(values, key=key)), None))[0]

    def parameters(self, state: State) -> State:
        """Return theta."""
        return state.parameters

    def descend(self, state: OptimizerState, loss_and_more: Function) -> tuple[OptimizerState, Any]:
        """One step on a function of the parameters that returns (loss, more); return the state, and what more there was."""
        parameters, inner = state

        def objective(values: State) -> Any:
            return loss_and_more(values)[0]

        (value, more), gradient = jax.value_and_grad(loss_and_more, has_aux=True)(parameters)
        # Some transformations mix integer widths: they run under the promotion rules they were written for.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, inner = self.transformation.update(
                gradient, inner, parameters, value=value, grad=gradient, value_fn=objective
            )
        following = optax.apply_updates(parameters, updates)
        broken = _gathered_nan(inner)
        if broken is not None:
            following = jax.tree.map(lambda leaf: jnp.where(broken, jnp.nan, leaf), following)
        return OptimizerState(following, inner), more


def _gathered_nan(inner: Any) -> Any:
    """Whether an optimiser that gathers gradients of several steps, and moves at the last, has gathered NaN already.

    None for one that moves at each step: there the parameters tell.
    """
    gathering = (optax.MultiStepsState, optax.ApplyEvery)
    nodes = jax.tree.leaves(inner, is_leaf=lambda node: isinstance(node, gathering))
    gathered = [
        leaf for node in nodes if isinstance(node, gathering) for leaf in jax.tree.leaves(node) if is_inexact(leaf)
    ]
    return jnp.stack([jnp.any(jnp.isnan(leaf)) for leaf in gathered]).any() if gathered else None


def from_optax(objective: Objective | Function, transformation: Any) -> OptaxMap:
    r"""Make a `Map` of an objective and an optax transformation, unchanged.

        theta[n+1] = theta[n] + u[n],   (u[n], s[n+1]) = update(grad L(theta[n]), s[n], theta[n])

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key) for mini-batches drawn by key.
    - `transformation`: any `optax.GradientTransformation`. Those that take extra arguments (line searches, Polyak steps)
      are given `value`, `grad` and `value_fn`. For a learning rate that sweeps without recompiling wrap it in
      `optax.inject_hyperparams`.

    **Returns:** a `Map` on `OptimizerState(parameters, optimizer_state)`; `init(parameters)` makes the first.

    **Raises:** `TypeError` for anything but an optax transformation.

    **Example:**

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> descent = sx.from_optax(lambda x: jnp.sum(x**2), optax.sgd(0.25))
    >>> sx.evolve(descent, descent.init(jnp.array([1.0])), steps=3).final.parameters.tolist()
    [0.125]
    """
    if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise TypeError(
            explain(
                "from_optax: transformation",
                type(transformation).__name__,
                "an optax.GradientTransformation",
                "Pass for example optax.adam(1e-3).",
            )
        )
    init, update = optax.with_extra_args_support(transformation)
    by_parts = optax.GradientTransformationExtraArgs(by_content(init), by_content(_with_any_extra(update)))
    return OptaxMap(as_objective(objective), by_parts)


def _with_any_extra(update: Any) -> Any:
    """An update that passes over the extra arguments that it does not know, though it says that it takes them all."""
    parameters = inspect.signature(update).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return update
    known = tuple(parameters)

    def passing_over(updates: Any, state: Any, parameters: Any = None, **extra: Any) -> Any:
        return update(updates, state, parameters, **{name: extra[name] for name in extra if name in known})

    return passing_over


def require_trainable(parameters: State) -> State:
    """Refuse parameters that have no gradient."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if not eqx.is_array_like(leaf) or not is_inexact(leaf):
            raise TypeError(
                explain(
                    f"parameters{jax.tree_util.keystr(path)}",
                    type(leaf).__name__,
                    "floating-point arrays",
                    "Part a model with eqx.partition(model, eqx.is_inexact_array).",
                )
            )
    return parameters
