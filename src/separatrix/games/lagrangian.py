r"""Training under constraints, as the game that it is.

    min f(x)  subject to  g(x) = 0,  h(x) <= 0          L = f + lambda . g + mu . h,   mu >= 0

The first player descends on L in x, the second ascends in its multipliers: its slopes are the constraints themselves.
With the augmented term of weight c (equalities: c/2 |g|^2; inequalities: the multiplier max(0, mu + c h) in the place
of mu)

    L_1 = f + lambda . g + (c/2) |g|^2 + (1/2c) sum (max(0, mu + c h)^2 - mu^2)
    L_2 = -lambda . g - (1/2c) sum (max(0, mu + c h)^2 - mu^2),        so that dL_2/dmu = -max(h, -mu/c):

multipliers of inequalities then keep their sign by themselves, and rest exactly where h <= 0, mu >= 0 and mu h = 0.
Without the term (c = 0) inequalities need `nonnegative(optimiser)` on the second player.

Multipliers oscillate for the reason that GANs do: the field (of min x^2/2 subject to x = 1: eigenvalues -1/2 +- i sqrt
3/2) turns. `advise` reads the same spectrum. A proportional term damps it: with the constraint e_n as slope,

    lambda[n+1] = lambda[n] + k_i e_n + k_p (e_n - e_{n-1})        `pi_control`

**Reference:** Platt & Barr, *Constrained differential optimization* (1988); Bertsekas, *Constrained Optimization and
Lagrange Multiplier Methods* (1982), sections 2.1, 2.2 and 3.1; Stooke, Achiam & Abbeel, *Responsive safety in
reinforcement learning by PID Lagrangian methods* (2020), algorithm 2.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import asarrays, dot
from separatrix._types import Checked, Function, Key, Scalar, State
from separatrix.diagnostics.result import Result, Row
from separatrix.games.game import Game
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.signature import accepts_key, as_pytree


class ConstraintMultipliers(NamedTuple):
    """The second player: multipliers of equalities g = 0 and of inequalities h <= 0, each a vector; None for none."""

    equal: Any = None
    below: Any = None


class Lagrangian(Game):
    r"""The game of a loss and its constraints: players (model, multipliers).

        L_1 = f + lambda . g + mu . h + (c/2) |g|^2,      dL_2 = (-g, -h)

    **Arguments:**

    - `loss`: f(model), or with batches f(model, batch); a keyword `key` where it is random.
    - `equal`, `below`: functions of the same arguments that return g(x), to be 0, and h(x), to be at most 0: a number
      or a vector each. One at least.
    - `augmented`: c >= 0, the weight of the augmented term, a traced leaf. Above 0 multipliers of inequalities keep
      their sign by themselves.

    Train it by `fit(lagrangian, Players(...), data, initial=(model, lagrangian.multipliers(model, batch)))`, or step
    along it by any descent of `sx.games`.

    **Raises:** `ValueError` for no constraint, or a negative weight; where it is evaluated, for constraints that are no
    numbers or vectors, or multipliers that do not fit them.

    **Example:** min x^2/2 subject to x = 1: x = 1, lambda = -1.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> game = sx.games.Lagrangian(lambda x: x**2 / 2, equal=lambda x: x - 1.0, augmented=1.0)
    >>> descent = sx.games.AlternatingDescent(game, 0.5)
    >>> end = sx.evolve(descent, (jnp.array(0.0), game.multipliers(jnp.array(0.0))), steps=100).final
    >>> round(float(end[0]), 6), round(float(end[1].equal[0]), 6)
    (1.0, -1.0)

    **Reference:** see the module.
    """

    loss: Function
    equal: Function | None
    below: Function | None
    augmented: Scalar
    takes_key: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self, loss: Checked[Function], *, equal: Checked[Function | None] = None,
        below: Checked[Function | None] = None, augmented: Checked[float] = 0.0,
    ):  # fmt: skip
        if equal is None and below is None:
            do = "Pass equal=g for g(x) = 0, or below=h for h(x) <= 0."
            raise ValueError(explain("Lagrangian: constraints", "none", "one at least", do))
        for name, function in (("loss", loss), ("equal", equal), ("below", below)):
            if function is not None and not callable(function):
                do = "Pass a function of the model; with batches, of the model and a batch."
                raise TypeError(explain(f"Lagrangian: {name}", type(function).__name__, "a function", do))
        ranges.nonnegative("Lagrangian: augmented", augmented, "Leave it out for none.")
        self.loss = as_pytree(loss)
        self.equal = None if equal is None else as_pytree(equal)
        self.below = None if below is None else as_pytree(below)
        self.takes_key = tuple(f is not None and accepts_key(f) for f in (loss, equal, below))
        self.augmented = as_parameter(augmented)

    def __call__(self, players: Any, batch: Any = None, *, key: Key | None = None) -> tuple[Scalar, Scalar]:
        model, multipliers = players
        value, g, h = self._values(model, batch, key)
        _require_fit(multipliers, g, h)
        c = jnp.asarray(self.augmented, value.dtype)
        equal, below = _vectors(multipliers, value.dtype)
        # Without the term mu itself weighs h.
        safe = jnp.where(c > 0, c, 1)
        shifted = jnp.where(c > 0, jnp.maximum(below + c * h, 0), below)
        weighed = jnp.where(c > 0, (shifted**2 - below**2) / (2 * safe), below * h)
        held = equal @ g + jnp.sum(weighed)
        return value + held + c / 2 * (g @ g), -held

    def constraints(self, model: Any, batch: Any = None, *, key: Key | None = None) -> ConstraintMultipliers:
        """Return (g, h) as vectors, None for what there is none of."""
        parts = self._values(model, batch, key)[1:]
        given = (self.equal, self.below)
        return ConstraintMultipliers(
            *(None if function is None else part for function, part in zip(given, parts, strict=True))
        )

    def multipliers(self, model: Any, batch: Any = None, *, key: Key | None = None) -> ConstraintMultipliers:
        """Return the second player to start from: a multiplier of 0 for each constraint."""
        shapes = eqx.filter_eval_shape(lambda x: self.constraints(x, batch, key=key), model)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def _values(self, model: Any, batch: Any, key: Key | None) -> tuple[Any, Any, Any]:
        def of(place: int, function: Any) -> Any:
            arguments = (model,) if batch is None else (model, batch)
            return function(*arguments, **({"key": key} if self.takes_key[place] else {}))

        value = jnp.asarray(of(0, self.loss))
        if value.shape != ():
            raise ValueError(explain("Lagrangian: loss", f"shape {value.shape}", "a scalar", "Take the mean."))
        parts = []
        for place, (name, function) in enumerate((("equal", self.equal), ("below", self.below)), start=1):
            part = jnp.zeros(0, value.dtype) if function is None else _constraint(name, of(place, function))
            parts.append(part.reshape(-1).astype(value.dtype))
        return value, parts[0], parts[1]

    def optimality(self, players: Any, batch: Any = None, *, key: Key | None = None) -> "Optimality":
        """Return how far these players are from an optimum under the constraints (Karush, Kuhn and Tucker)."""
        model, multipliers = players
        _require_fit(multipliers, *self._values(model, batch, key)[1:])
        equal, below = _vectors(multipliers, None)
        parameters, rest = eqx.partition(model, eqx.is_inexact_array)

        def plain(x: State) -> Any:
            value, g, h = self._values(eqx.combine(x, rest), batch, key)
            return value + equal @ g + below @ h

        def breach(x: State) -> Any:
            _, g, h = self._values(eqx.combine(x, rest), batch, key)
            return (g @ g + jnp.sum(jnp.maximum(h, 0) ** 2)) / 2

        parameters = asarrays(parameters)
        slope, steepest = jax.grad(plain)(parameters), jax.grad(breach)(parameters)
        value, g, h = self._values(model, batch, key)
        return Optimality(
            loss=value,
            stationarity=jnp.sqrt(dot(slope, slope)),
            violation=jnp.max(jnp.concatenate([jnp.abs(g), jnp.maximum(h, 0)])),
            sign=jnp.max(jnp.maximum(-below, 0), initial=0.0),
            slackness=jnp.max(jnp.abs(below * h), initial=0.0),
            repair=jnp.sqrt(dot(steepest, steepest)),
            largest=jnp.max(jnp.abs(jnp.concatenate([equal, below]))),
        )


class Optimality(Result):
    """How far a model and its multipliers are from an optimum under constraints; all but `loss` are 0 at one.

    - `loss`: f. `stationarity`: |grad f + lambda . grad g + mu . grad h|. `violation`: the largest |g| or max(h, 0).
    - `sign`: the most by which a multiplier of an inequality is below 0. `slackness`: the largest |mu h|.
    - `repair`: |grad (|g|^2 + |max(h, 0)|^2)/2|: how steeply the violation can be lowered. `largest`: the largest
      multiplier.
    """

    loss: Float[Array, ""]
    stationarity: Float[Array, ""]
    violation: Float[Array, ""]
    sign: Float[Array, ""]
    slackness: Float[Array, ""]
    repair: Float[Array, ""]
    largest: Float[Array, ""]

    @property
    def infeasible(self) -> bool:
        """Whether no small change of the model lowers the violation: then multipliers grow for ever.

        The slope of |violation|^2/2 is of the size of the violation times that of the constraints' own slopes; here it
        is below a thousandth of the violation.
        """
        return float(self.violation) > 1e-3 and float(self.repair) < 1e-3 * float(self.violation)

    def rows(self) -> list[Row]:
        return [
            Row("loss", self.loss),
            Row("slope of the Lagrangian", self.stationarity),
            Row("largest violation", self.violation),
            Row("largest |multiplier x constraint|", self.slackness),
            Row("largest multiplier", self.largest),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not np.isfinite(float(self.stationarity) + float(self.violation)):
            found.append("the loss, a constraint or a slope of them is not finite here: nothing is known of an optimum")
        if self.infeasible:
            found.append(
                f"the constraints look infeasible: a violation of {float(self.violation):.3g} that no small change "
                f"lowers; multipliers grow (the largest is {float(self.largest):.3g})"
            )
        if float(self.sign) > 0:
            found.append("a multiplier of an inequality is negative: use augmented > 0, or nonnegative(optimiser)")
        return tuple(found)


def nonnegative(optimizer: Any) -> optax.GradientTransformation:
    """Return an optimiser of `ConstraintMultipliers` that keeps those of inequalities at 0 or above.

    **Arguments:** `optimizer`: an optax transformation.

    **Raises:** `TypeError` for anything else.

    **Example:**

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> ascent, held = sx.games.nonnegative(optax.sgd(1.0)), sx.games.ConstraintMultipliers(jnp.zeros(1), jnp.zeros(1))
    >>> slopes = sx.games.ConstraintMultipliers(jnp.ones(1), jnp.ones(1))
    >>> update, _ = ascent.update(slopes, ascent.init(held), held)
    >>> (update.equal + 0).tolist(), (update.below + 0).tolist()
    ([-1.0], [0.0])
    """
    _require_optimizer("nonnegative", optimizer)
    held = optax.masked(
        optax.keep_params_nonnegative(),
        _below_alone,
    )
    return optax.chain(optimizer, held)


def pi_control(integral: Checked[float], proportional: Checked[float]) -> optax.GradientTransformation:
    r"""Return an optimiser of multipliers: proportional-integral control of the constraints.

        lambda[n+1] = lambda[n] + k_i e_n + k_p (e_n - e_{n-1}),      e = -slope, the constraint; e_{-1} = e_0

    **Arguments:** `integral`: k_i > 0, the step size of plain ascent. `proportional`: k_p >= 0, which damps.

    **Raises:** `ValueError` for gains out of range.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> control = sx.games.pi_control(0.5, 2.0)
    >>> update, state = control.update(jnp.array(-1.0), control.init(jnp.array(0.0)))
    >>> later, _ = control.update(jnp.array(-3.0), state)
    >>> float(update), float(later)
    (0.5, 5.5)

    **Reference:** Stooke, Achiam & Abbeel (2020), algorithm 2, without its derivative term.
    """
    ranges.positive("pi_control: integral", integral, "Pass for example 0.1.")
    ranges.nonnegative("pi_control: proportional", proportional, "Pass 0 for plain ascent.")

    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params), jnp.asarray(True)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        before, first = state

        def leaf(slope: Any, old: Any) -> Any:
            change = jnp.where(first, jnp.zeros_like(slope), slope - old)
            return -(jnp.asarray(integral, slope.dtype) * slope + jnp.asarray(proportional, slope.dtype) * change)

        return jax.tree.map(leaf, updates, before), (updates, jnp.asarray(False))

    return optax.GradientTransformation(init, update)


def _constraint(name: str, given: Any) -> Any:
    """What a constraint returned, as numbers."""
    do = "Return one number for each constraint: x - 1 for x <= 1, and not whether it holds."
    if not isinstance(given, jax.Array | np.ndarray | np.generic | float | int):
        raise TypeError(explain(f"Lagrangian: {name}", f"a {type(given).__name__}", "a number or a vector", do))
    part = jnp.asarray(given)
    if part.dtype == bool:
        raise TypeError(explain(f"Lagrangian: {name}", "a truth value", "a number or a vector", do))
    if part.ndim > 1 or part.size == 0:
        raise ValueError(explain(f"Lagrangian: {name}", f"shape {part.shape}", "a number or a vector", do))
    return part


def _below_alone(tree: Any) -> ConstraintMultipliers:
    return ConstraintMultipliers(*(None if part is None else i == 1 for i, part in enumerate(tree)))


def _require_optimizer(what: str, optimizer: Any) -> None:
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        do = "Pass for example optax.sgd(0.1)."
        raise TypeError(explain(f"{what}: optimizer", type(optimizer).__name__, "an optax transformation", do))


def _vectors(multipliers: ConstraintMultipliers, dtype: Any) -> tuple[Any, Any]:
    """Both kinds as vectors, of no length for none."""
    known = next(part for part in multipliers if part is not None)
    dtype = jnp.result_type(known) if dtype is None else dtype
    return (
        jnp.zeros(0, dtype) if multipliers.equal is None else jnp.asarray(multipliers.equal, dtype),
        jnp.zeros(0, dtype) if multipliers.below is None else jnp.asarray(multipliers.below, dtype),
    )


def _require_fit(multipliers: Any, g: Any, h: Any) -> None:
    if not isinstance(multipliers, ConstraintMultipliers):
        do = "Start from (model, lagrangian.multipliers(model))."
        raise TypeError(explain("Lagrangian: players[1]", type(multipliers).__name__, "ConstraintMultipliers", do))
    for name, own, part in (("equal", multipliers.equal, g), ("below", multipliers.below, h)):
        shape = (0,) if own is None else jnp.shape(own)
        if shape != part.shape:
            do = "Start from (model, lagrangian.multipliers(model))."
            raise ValueError(explain(f"Lagrangian: multipliers.{name}", f"shape {shape}", f"{part.shape}", do))
