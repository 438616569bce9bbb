r"""What a game is asked: how long a step of its players may be.

At an equilibrium of a field v with eigenvalues lambda a step of size h multiplies along each eigenvector by R(h
lambda),

    simultaneous, consensus   R(z) = 1 + z          |R|^2 < 1  iff  2 a + |lambda|^2 h < 0
    extragradient             R(z) = 1 + z + z^2    |R|^2 < 1  iff  2 a + (|lambda|^2 + 2 Re lambda^2) h
                                                                  + 2 a |lambda|^2 h^2 + |lambda|^4 h^3 < 0

with a = Re lambda. So the edge of simultaneous descent is the least -2 a/|lambda|^2: what turns (Im lambda) lowers it,
and at a = 0 no step is short enough. Which other steps are stable there, `linear_stability` of the map itself tells.

Players with optimisers are judged by `advise`: the largest multiplier of their running update, why it is no smaller,
and the number that would make it so. Of a GAN on data the spread of its samples is judged beside, of a constrained
training whether its constraints can be met.

**Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), lemma 4.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from separatrix.calculus import limit
from separatrix.diagnostics.equilibria.linear_stability import linear_stability
from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.games.advice import Advice, advise
from separatrix.games.dynamics import ConsensusDescent, Extragradient, SimultaneousDescent
from separatrix.games.game import ConsensusField, GameField
from separatrix.games.gan import GAN
from separatrix.games.instruments import collapse
from separatrix.games.lagrangian import Lagrangian
from separatrix.games.players import PlayersMap
from separatrix.linear.spectrum import euler_edge

_AT_REST = 1e-4
_SEEN = 1_000  # samples of a generator, and data beside them
_CURE = "Step alternately, by extragradient, or add a consensus term or a gradient penalty."
Condition = Callable[[complex], list[float]]


def two_steps(value: complex) -> list[float]:
    """(|1 + h lambda + h^2 lambda^2|^2 - 1)/h as a polynomial in h, the highest power first."""
    a, square = value.real, abs(value) ** 2
    return [square**2, 2 * a * square, square + 2 * (value**2).real, 2 * a]


def edge(values: Any, condition: Condition, rounding: float) -> float:
    """The step size up to which all eigenvalues are stable; 0 where one is not for any, infinite for none that moves."""
    return min((_edge_of(complex(value), condition, rounding) for value in values), default=np.inf)


def _edge_of(value: complex, condition: Condition, rounding: float) -> float:
    if abs(value) <= rounding:
        return np.inf
    if abs(value.real) <= rounding:
        value = complex(0.0, value.imag)
    powers = np.array(condition(value))
    # The sign just above h = 0 is that of the lowest power that is there.
    if powers[np.flatnonzero(powers)[-1]] > 0:
        return 0.0
    roots = np.roots(powers)
    real = roots.real[(np.abs(roots.imag) <= 1e-9 * np.abs(roots)) & (roots.real > 1e-12 / abs(value))]
    return float(np.min(real, initial=np.inf))


def _edge_at(
    field: Any, players: Any, at: Any, key: Any, condition: Condition | None
) -> tuple[float, str, bool] | None:
    """The edge (of one step of Euler's without a condition), the eigenvalue that falls least, and whether it turns.

    None off an equilibrium, or where not all eigenvalues are had.
    """
    found = linear_stability(field, players, at=at, key=key)
    values = np.asarray(found.spectrum)
    if not (float(found.displacement) <= _AT_REST and len(values) == found.size and np.isfinite(values).all()):
        return None
    worst = complex(max(values, key=lambda value: (value.real, abs(value.imag))))
    told = f"an eigenvalue {worst.real + 0.0:.3g} {'+' if worst.imag >= 0 else '-'} {abs(worst.imag):.3g}i of the field"
    reach = euler_edge(values, float(found.tolerance))
    if condition is not None:
        reach = edge(values, condition, float(found.tolerance))
    return reach, told, abs(worst.imag) > float(found.tolerance)


@examine.register(GameField)
@examine.register(ConsensusField)
def examine_field(system: Any, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Simultaneous descent is stable at this equilibrium for some step size."""
    found = _edge_at(system, state, at, key, None)
    if found is None:
        return []
    away = "spiral out" if found[2] else "lead away"
    cause = f"{found[1]} does not fall: simultaneous steps {away}, however short"
    return [Finding("largest stable step size of simultaneous descent", found[0], ">", 0.0, cause, _CURE)]


@examine.register(SimultaneousDescent)
@examine.register(ConsensusDescent)
@examine.register(Extragradient)
def examine_descent(system: Any, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """The step size is below the edge of the equilibrium."""
    condition = two_steps if isinstance(system, Extragradient) else None
    found = _edge_at(limit(system), state, at, key, condition)
    if found is None:
        return []
    do = f"Lower the step size below {found[0]:.3g}." if found[0] > 0 else _CURE
    cause = f"{found[1]}: past the edge steps lead away from the equilibrium"
    return [Finding("step size below the edge of the equilibrium", float(system.step_size), "<", found[0], cause, do)]


@examine.register(PlayersMap)
def examine_players(system: Any, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """What the running update does, whether a generator collapsed, and whether constraints can be met."""
    objective = getattr(system.game, "function", system.game)
    losses = getattr(objective, "function", objective)
    found = []
    if isinstance(losses, GAN) and key is not None and getattr(objective, "data", None) is not None:
        found += _spread(losses, objective, state, key)
    if isinstance(losses, Lagrangian):
        found += _feasible(losses, objective, state, key)
    return [*found, _multiplier(advise(system, state, key=key))]


def _multiplier(told: Advice) -> Finding:
    why = {
        "rotating": f"it turns by {told.rotation:.3g} a step and does not decay: players chase each other in circles",
        "unstable": f"{len(told.leaving)} directions leave without turning: a loss curves down there",
    }.get(told.verdict, "it decays too slowly to be told from rest")
    do = "Train on: where losses still curve down no step or penalty is the cure."
    if told.verdict == "rotating":
        do = f"Take {'; or '.join(told.cures)}." if told.cures else "No step, penalty or consensus term alone cures it."
    name = f"largest multiplier of the running update ({told.verdict})"
    # Where training is under way the state is no equilibrium: this is its linearisation there.
    border = 1.0 if told.verdict == "rotating" else 1.0 + float(told.slack)
    return Finding(name, told.decay, "<", border, why, do, "caution")


def _spread(gan: GAN, objective: Any, state: Any, key: Any) -> list[Finding]:
    networks = objective.model(state.parameters)
    data = objective.data[0] if gan.classes is not None else objective.data
    count = min(_SEEN, data.shape[0])
    return collapse(gan.sample(networks[0], key, count), data[:count]).findings()


def _feasible(game: Lagrangian, objective: Any, state: Any, key: Any) -> list[Finding]:
    model = objective.model(state.parameters) if hasattr(objective, "model") else state.parameters
    told = game.optimality(model, getattr(objective, "data", None), key=key)
    ratio = float(told.repair) / max(float(told.violation), 1e-3)
    cause = f"a violation of {float(told.violation):.3g} that no small change of the model lowers: the multipliers grow"
    do = "Loosen the constraints: they look infeasible."
    if not float(told.violation) > 1e-3:
        return []
    return [Finding("slope of the violation over the violation", ratio, ">=", 1e-3, cause, do)]
