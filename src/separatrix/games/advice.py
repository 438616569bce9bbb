r"""Which method, which step, which penalty: what the spectrum of a game's running update says.

Near a state one step multiplies perturbations by the eigenvalues mu of its matrix T (`linear_steps`), so that

    |mu| < 1                they decay, by |mu| a step
    |arg mu| > |log |mu||   they turn more than they grow: with |mu| > 1 players chase each other, or steps overshoot
    else, with |mu| > 1     they leave, under every scheme and step: a loss curves down there, as at a saddle, or where
                            training is under way

and a cure is the least number that brings every |mu| of what turns below 1: of the step size, of a gradient penalty, of
the strength of a consensus or symplectic term. R1 of weight gamma adds gamma K to H, with K the difference of H at two
weights.

What is assumed: the batch, the noise and the second moments of the optimisers are held, and the state is taken as the
equilibrium. Directions that move by less than `slack` a step count as at rest: a network has many of them. Of a network H
is taken over the distance of two steps and not by derivatives, which see none of its kinks (`_secants`).

**Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), proposition 4 and lemma 4; Mescheder, Geiger
& Nowozin, *Which training methods for GANs do actually converge?* (2018), theorem 4.1; Fiez & Ratliff, *Local
convergence analysis of gradient descent ascent with finite timescale separation* (2021), for R1 beside other schemes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from separatrix._types import Checked, Key, State
from separatrix.diagnostics.result import Result, Row
from separatrix.games._reduction import Reduced, products
from separatrix.games._running import LinearStep, Running, residuals_of, running, turns
from separatrix.games.linear_steps import LinearGame, crossing
from separatrix.linear.coordinates import dimension_of
from separatrix.systems import ranges
from separatrix.systems.map import Map

# Offered in the table; the others need a matrix at each step, or a strength.
TABLE = ("simultaneous", "alternating", "extragradient", "past", "optimistic", "competitive", "proximal")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Of a Krylov space: a multiplier is listed where it is known to half of its distance from 1.
_KNOWN = 0.5


class Advice(Result):
    """What the running update of a game does near a state, and what would make it contract.

    - `multipliers`, shape (k,): mu of one step, the largest |mu| first, without directions at rest, and of large games
      without those that a Krylov space does not tell from them. `turning` and `leaving` are those that turn more than
      they grow, and those beyond 1 that do not.
    - `radii`, shape (schemes, factors): the spectral radius of each of `schemes` at `factors` times the present step.
    - `edges`, shape (schemes,): the factor up to which nothing that turns grows in each; 0 for none, infinite for all
      up to 1,000. `spins`: the largest |mu| that turns, of each at the present step.
    - `largest_factor`: the edge of the present scheme.
    - `penalty`, `fake_penalty`: the least weight of R1 and of R2 at which nothing that turns grows, the present one
      where it does already, infinite where none does, NaN where the game has no such number. `consensus`,
      `symplectic`: the same of the strength of these terms, with the step as it is.
    - `residual`: relative, of the leading eigenvalue, where the matrix was not formed. `rates`: the mean step of each
      player for a slope of 1. `slack`: what counts as at rest.
    """

    multipliers: Complex[Array, " k"]
    radii: Float[Array, "schemes factors"]
    spins: Float[Array, " schemes"]
    edges: Float[Array, " schemes"]
    largest_factor: Float[Array, ""]
    penalty: Float[Array, ""]
    fake_penalty: Float[Array, ""]
    consensus: Float[Array, ""]
    symplectic: Float[Array, ""]
    residual: Float[Array, ""]
    misfit: Float[Array, ""]
    rates: Float[Array, " n"]
    slack: Float[Array, ""]
    present: Float[Array, ""]
    scheme: str = eqx.field(static=True)
    schemes: tuple[str, ...] = eqx.field(static=True)
    factors: tuple[float, ...] = eqx.field(static=True)
    size: int = eqx.field(static=True)

    @property
    def turning(self) -> Any:
        """Multipliers that turn more than they grow or decay."""
        return np.asarray(self.multipliers)[turns(np.asarray(self.multipliers))]

    @property
    def leaving(self) -> Any:
        """Multipliers beyond 1 that hardly turn: no step is short enough for them."""
        values = np.asarray(self.multipliers)
        return values[(np.abs(values) > 1 + float(self.slack)) & ~turns(values)]

    @property
    def leading(self) -> complex:
        """The multiplier that decides: the largest that turns where one of these does not decay, else the largest."""
        if len(self.turning) and abs(self.turning[0]) >= 1 - float(self.slack):
            return complex(self.turning[0])
        return complex(self.multipliers[0]) if len(self.multipliers) else 1.0 + 0.0j

    @property
    def rotation(self) -> float:
        """Radians by which the leading direction turns in a step."""
        return float(abs(np.angle(self.leading)))

    @property
    def decay(self) -> float:
        """|mu| of the leading direction: below 1 it decays by this factor in a step."""
        return abs(self.leading)

    @property
    def turns(self) -> bool:
        """Whether the leading direction turns more than it grows or decays."""
        return bool(turns(np.asarray([self.leading]))[0])

    @property
    def verdict(self) -> str:
        """Return "contracting", "rotating", "unstable", or "at rest".

        Rotating is what turns and does not decay; unstable is what leaves without turning.
        """
        if not len(self.multipliers):
            return "at rest"
        if self.decay < 1 - float(self.slack):
            return "contracting"
        if self.turns:
            return "rotating"
        return "unstable" if self.decay > 1 + float(self.slack) else "contracting"

    @property
    def stable_schemes(self) -> tuple[str, ...]:
        """The schemes in which, with the step as it is, all that turns would decay."""
        pairs = zip(self.schemes, np.asarray(self.spins), strict=True)
        return tuple(name for name, spin in pairs if spin < 1 - 1e-12)

    @property
    def cures(self) -> tuple[str, ...]:
        """What makes every |mu| < 1, a clause each, each with its number; empty where nothing must change."""
        if self.verdict != "rotating":
            return ()
        found = []
        if 0 < float(self.largest_factor) < 1:
            found.append(f"steps below {float(self.largest_factor):.4g} of the present ones")
        for name, words in (("penalty", "an R1 penalty"), ("fake_penalty", "an R2 penalty")):
            if np.isfinite(value := float(getattr(self, name))):
                found.append(f"{words} above {value:.4g}")
        for name in ("consensus", "symplectic"):
            if np.isfinite(value := float(getattr(self, name))):
                found.append(f"a {name} term of strength above {value:.4g}")
        if others := [name for name in self.stable_schemes if name != self.scheme]:
            found.append(f"without another change, {' or '.join(others)} steps")
        return tuple(found)

    def rows(self) -> list[Row]:
        period = 2 * np.pi / self.rotation if self.rotation > 0 else np.inf
        turning = f"turns by {self.rotation:.4g} a step (once in {period:.4g} steps)" if self.turns else "does not turn"
        rows = [
            Row("verdict", f"{self.verdict} ({self.scheme}, {self.size} parameters)"),
            Row("leading direction", f"times {self.decay:.8g} a step; {turning}"),
            Row("largest step at which no turn grows, over the present", self.largest_factor),
        ]
        if len(self.leaving):
            fastest = float(np.max(np.abs(self.leaving)))
            rows.append(
                Row("leaving, whatever the step", f"{len(self.leaving)} directions, times {fastest:.6g} a step")
            )
        words = {"penalty": "least R1", "fake_penalty": "least R2", "consensus": "least consensus strength"}
        rows += [Row(said, getattr(self, name)) for name, said in words.items() if not np.isnan(getattr(self, name))]
        rows += [Row("cure", cure) for cure in self.cures]
        head = "  ".join(f"{factor:>9g}" for factor in self.factors)
        rows.append(Row("spectral radius at steps of", head))
        for name, radii in zip(self.schemes, np.asarray(self.radii), strict=True):
            rows.append(Row(f"  {name}", "  ".join(f"{radius:>9.6f}" for radius in radii)))
        return rows

    @property
    def cautions(self) -> tuple[str, ...]:
        found = ["the batch, the noise and the optimisers' second moments are held, and the state is taken as at rest"]
        if self.residual > 1e-2:
            found.append(f"the leading eigenvalue is known to {float(self.residual):.1g} of itself")
        if self.misfit > 1e-2:
            found.append("an optimiser remembers otherwise than by momentum: its multipliers are approximate")
        return tuple(found)


def advise(
    map: Checked[Map],
    state: State,
    *,
    key: Key | None = None,
    factors: Any = FACTORS,
    slack: Checked[float | None] = None,
    size: Checked[float | None] = None,
    draws: Checked[int] = 1,
) -> Advice:
    r"""Say what a game's running update does near a state, and which number would make it contract.

        mu in spec(T),   T the matrix of one step on g = H x,   H = dg/dx at this state

    **Arguments:**

    - `map`: `Players(...)(game)`, the `map` of a `Fit` on a game, or one of the descents of `sx.games`. `state`: its
      state, as `Fit.state`, after some steps.
    - `key`: of a random game: the batch and the noise of one step, held fixed. `draws`: over how many batches and noises
      H is a mean, at least 1.
    - `size`: the distance over which H is taken, over the length of the players (or over 1 where that is less); 0 for
      derivatives at the state. By default 0 where H is formed, else twice the length of a step and no less than 0.001:
      over it networks with kinks (ReLU) change pieces, which a derivative does not see.
    - `factors`: the step sizes of the table, over the present ones; 1 is always among them.
    - `slack`: directions with |mu - 1| below it count as at rest, and |mu| <= 1 + slack as stable; 1e-9 by default
      where H is formed, else 1e-4.

    **Returns:** an `Advice`. Of more than 64 parameters H is not formed: 20 Arnoldi vectors, and as many products a
    player.

    **Raises:** `TypeError` for a map that is none of a game; `ValueError` for an optimiser that climbs or has no rate
    yet, a state that is not finite, or one at which the game has no derivatives.

    **Example:** the Dirac-GAN with a penalty of 0.1 cycles at steps of 1; its edge is 4 gamma, a penalty of 1/4.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.SimultaneousDescent(sx.games.DiracGAN(0.1), 1.0)
    >>> found = sx.games.advise(descent, (jnp.array(0.0), jnp.array(0.0)), slack=0.0)
    >>> found.verdict, round(float(found.penalty), 6), round(float(found.largest_factor), 6)
    ('rotating', 0.25, 0.4)

    **Reference:** see the module.
    """
    if slack is not None:
        ranges.nonnegative("advise: slack", slack, "Leave it out.")
    if size is not None:
        ranges.nonnegative("advise: size", size, "Leave it out.")
    ranges.whole("advise: draws", draws, "Leave it out for 1.")
    factors = tuple(sorted({1.0, *(float(factor) for factor in factors)}))
    ranges.positive("advise: factors", jnp.asarray(factors), "Leave them out.")
    step, near, told = running(map, state, key, slack, size=size, draws=draws)
    players, slack = told.players, step.slack
    values, vectors = np.linalg.eig(step.matrix(near.game))
    moving = values[(np.abs(values - 1) > slack) & (residuals_of(near, vectors) < _KNOWN)]
    lead = moving[np.lexsort((-np.imag(moving), -np.abs(moving).round(12)))]
    others = tuple(name for name in TABLE if name != step.scheme and (name != "competitive" or len(players) > 1))
    schemes = (step.scheme, *others)
    table = [[step.other(name).radius(near.game, factor) for factor in factors] for name in schemes]
    edges = [step.other(name).edge(near.game) for name in schemes]
    return Advice(
        multipliers=jnp.asarray(lead.astype(complex)),
        radii=jnp.asarray(table),
        spins=jnp.asarray([step.other(name).spin(near.game) for name in schemes]),
        edges=jnp.asarray(edges),
        largest_factor=jnp.asarray(edges[0]),
        penalty=jnp.asarray(_least_penalty("penalty", step, near, told)),
        fake_penalty=jnp.asarray(_least_penalty("fake_penalty", step, near, told)),
        consensus=jnp.asarray(_least_strength("consensus", step, near.game)),
        symplectic=jnp.asarray(_least_strength("symplectic", step, near.game)),
        residual=jnp.asarray(near.residual),
        misfit=jnp.asarray(told.misfit),
        rates=jnp.asarray(_means(told.metric, near.sizes)),
        slack=jnp.asarray(slack),
        present=jnp.asarray(step.radius(near.game, 1.0)),
        scheme=step.scheme,
        schemes=schemes,
        factors=factors,
        size=dimension_of(players),
    )


def _means(metric: Any, sizes: tuple[int, ...]) -> Any:
    return [float(part.mean()) for part in np.split(metric, np.cumsum(sizes)[:-1])]


def _least_strength(scheme: str, step: LinearStep, game: LinearGame) -> float:
    """The least strength of a term that makes the present step stable; infinite where none does."""
    if step.scheme not in ("simultaneous", scheme):
        return np.nan
    if step.other(scheme, 0.0).stable(game):
        return 0.0
    return _first(lambda strength: step.other(scheme, strength).stable(game))


def _first(holds: Callable[[float], bool]) -> float:
    """The least number on a logarithmic grid at which a condition comes to hold; infinite for none."""
    found = crossing(lambda value: not holds(value), 1e-5, 1e5, 31)
    return found if found > 0 else 1e-5


def _least_penalty(name: str, step: LinearStep, near: Reduced, told: Running) -> float:
    """The least weight of a penalty that makes the present step stable."""
    weight = penalty_of(told.game, name)
    if weight is None:
        return np.nan
    if step.stable(near.game):
        return weight
    other = with_penalty(told.game, name, weight + 1.0)
    heavier = products(other, told.players, told.key, near.root[:, None] * near.basis, told.distance)
    added = near.basis.T @ (near.root[:, None] * (heavier - near.pushed))

    def stable(more: float) -> bool:
        matrix = near.game.matrix + more * added
        # The terms of consensus and symplectic steps belong to the present H.
        return step.stable(near.game._replace(matrix=matrix))

    return weight + _first(stable)


def penalty_of(game: Any, name: str) -> float | None:
    """The weight of a penalty that a game has, or the objective inside of it; None where it has none."""
    nodes = jax.tree.leaves(game, is_leaf=lambda node: hasattr(node, name))
    found = [getattr(node, name) for node in nodes if getattr(node, name, None) is not None]
    return float(found[0]) if len(found) == 1 else None


def with_penalty(game: Any, name: str, weight: float) -> Any:
    """The same game with another weight of a penalty."""

    def changed(node: Any) -> Any:
        if not hasattr(node, name):
            return node
        return dataclasses.replace(node, **{name: weight})

    return jax.tree.map(changed, game, is_leaf=lambda node: hasattr(node, name))
