r"""What a point of a game is: the joint Jacobian, split, and what stands there.

With slopes g_i = dL_i/dx_i and H = dg/dx, blocks H_ij = d^2 L_i/dx_i dx_j, the field v = -g has the Jacobian

    -H = -(S + A),      S = (H + H^T)/2  falls,      A = (H - H^T)/2  turns.

A point with g = 0 is

    local Nash       H_ii > 0 for every player: no player gains by moving alone
    local minimax    of two opposed players, H_12 = -H_21^T: H_22 > 0 and H_11 - H_12 H_22^{-1} H_21 > 0 (the first
                     knows that the second will answer; also called a Stackelberg point)
    spurious         neither, and yet the flow stays: all eigenvalues of H have a positive real part
    unstable         neither, and the flow leaves

Players with L_1 + L_2 = 0 are opposed, and stay so if a loss gains a term without its own player's numbers, which
changes no slope, or one of these alone (a penalty of the discriminator).

Stability is a property of the dynamics and not of the point, so it is told beside: a Nash point of a game of general
sum may be left by the flow, and a minimax point that is no Nash point often is.

**Reference:** Balduzzi et al., *The mechanics of n-player differentiable games* (2018), section 2; Jin, Netrapalli &
Jordan, *What is local optimality in nonconvex-nonconcave minimax optimization?* (2020), propositions 5 and 19; Ratliff,
Burden & Sastry, *On the characterization of local Nash equilibria* (2016), for strict local Nash.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from separatrix._errors import explain
from separatrix._tree import asarrays
from separatrix._types import Checked, Function, Key, State
from separatrix.diagnostics.result import Result, Row
from separatrix.games._large_points import of_products
from separatrix.games.game import Game, GameField, as_game, require_losses, require_players
from separatrix.linear.coordinates import Jacobian, dimension_of
from separatrix.linear.derivatives import require_derivatives
from separatrix.systems.optax_maps import require_trainable

# The most parameters for which the joint Jacobian is formed: 2,000^2 numbers of 8 bytes are 32 MB.
MOST_FORMED = 2000


class JointJacobian(NamedTuple):
    """H = dg/dx of the slopes g, in real coordinates, player after player.

    - `matrix`: H, shape (d, d). `sizes`: the number of coordinates of each player.
    """

    matrix: Any
    sizes: tuple[int, ...]

    @property
    def symmetric(self) -> Any:
        """S = (H + H^T)/2: what falls."""
        return (self.matrix + self.matrix.T) / 2

    @property
    def antisymmetric(self) -> Any:
        """A = (H - H^T)/2: what turns."""
        return (self.matrix - self.matrix.T) / 2

    def block(self, i: int, j: int) -> Any:
        """H_ij = d^2 L_i/dx_i dx_j."""
        ends = np.cumsum((0, *self.sizes))
        return self.matrix[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]


def joint_jacobian(game: Checked[Game | Function], players: State, *, key: Key | None = None) -> JointJacobian:
    r"""Return the Jacobian of all slopes in all players, which is the Hessian of no function where A is not 0.

        H = dg/dx = S + A,      g_i = dL_i/dx_i

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `players`: where, a tuple of at least two trees of floats with
      at most 2,000 numbers together.
    - `key`: of a random game, held fixed.

    **Returns:** a `JointJacobian`. The Jacobian of the field is its negative.

    **Raises:** `ValueError` for more than 2,000 parameters: `field_split` and `linear_stability` of `field(game)` need
    products alone.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> found = sx.games.joint_jacobian(sx.games.DiracGAN(1.0), (jnp.array(0.0), jnp.array(0.0)))
    >>> found.symmetric.tolist(), found.antisymmetric.tolist()
    ([[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.5], [-0.5, 0.0]])

    **Reference:** Balduzzi et al. (2018), section 2.3.
    """
    game, players = as_game(game), asarrays(require_trainable(require_players(players)))
    require_losses(game, players, key)
    sizes = sizes_of("joint_jacobian", players)
    if sum(sizes) > MOST_FORMED:
        do = "Ask classify, or field_split of sx.games.field(game): both need products alone."
        raise ValueError(explain("joint_jacobian: players", f"{sum(sizes)} numbers", f"at most {MOST_FORMED}", do))
    jacobian = Jacobian(GameField(game), players, key=key)
    require_derivatives("joint_jacobian", jacobian, matrix := jacobian.matrix())
    return JointJacobian(-matrix, sizes)


def sizes_of(what: str, players: State) -> tuple[int, ...]:
    """The number of coordinates of each player; one without any is refused."""
    sizes = tuple(dimension_of(player) for player in players)
    if 0 in sizes:
        do = "Give it at least one floating-point array, or leave it out of the game."
        raise ValueError(explain(f"{what}: players[{sizes.index(0)}]", "no parameters", "at least one", do))
    return sizes


class PointOfGame(Result):
    """What stands at a point of a game.

    - `slopes`: |g| over the size of the point, 0 at rest. `spectrum`, shape (d,): eigenvalues of the field's Jacobian
      -H, the least stable first.
    - `curvatures`: for each player the least eigenvalue of H_ii. `answered`: the least eigenvalue of
      H_11 - H_12 H_22^{-1} H_21; NaN where the game is not one of two opposed players, or H_22 is singular.
    - `turning`: |A|^2/(|A|^2 + |S|^2). `tolerance`: what counts as 0.
    - `formed`: whether H was formed, of at most 2,000 numbers. Otherwise `spectrum` holds the outer eigenvalues found
      (the first known to `residual`), curvatures are upper bounds of the least ones, and `turning` is an estimate: what
      is negative or grows is proved so, and that nothing is, is not.
    """

    slopes: Float[Array, ""]
    spectrum: Complex[Array, " d"]
    curvatures: Float[Array, " n"]
    answered: Float[Array, ""]
    turning: Float[Array, ""]
    tolerance: Float[Array, ""]
    residual: Float[Array, ""]
    sizes: tuple[int, ...] = eqx.field(static=True)
    formed: bool = eqx.field(static=True, default=True)

    @property
    def at_rest(self) -> bool:
        """Whether no player has a slope."""
        return float(self.slopes) <= float(self.tolerance) ** 0.5

    @property
    def stability(self) -> str:
        """Return "stable", "neutral" or "unstable": what the flow of simultaneous descent does there.

        "undecided" where H was not formed and nothing that grows was found.
        """
        most = float(np.max(np.real(self.spectrum)))
        if not self.formed:
            return "unstable" if most > float(self.tolerance) + float(self.residual) else "undecided"
        return "neutral" if abs(most) <= float(self.tolerance) else "stable" if most < 0 else "unstable"

    @property
    def is_nash(self) -> bool:
        """Whether every player is at a strict local minimum of its own loss; False where that is not proved."""
        return self.at_rest and self.formed and float(np.min(self.curvatures)) > float(self.tolerance)

    @property
    def is_minimax(self) -> bool:
        """Whether the second player is at a strict minimum, and the first too, given its answer; False as above."""
        strict = min(float(self.curvatures[-1]), float(np.nan_to_num(self.answered, nan=-1.0)))
        return self.at_rest and self.formed and strict > float(self.tolerance)

    @property
    def kind(self) -> str:
        """Return "no equilibrium", "local Nash", "local minimax", "spurious", "unstable", "degenerate", or
        "undecided".

        Undecided is a point of more than 2,000 numbers at which products did not prove it to be none of these.
        Degenerate is a point that second derivatives do not decide: one of them is 0 to rounding, as in a bilinear game.
        """
        if not self.at_rest:
            return "no equilibrium"
        if self.is_nash:
            return "local Nash"
        if self.is_minimax:
            return "local minimax"
        # Of a minimum that is not strict nothing is known; where a curvature is negative, it is no minimum.
        own = self.curvatures[-1:] if np.isfinite(self.answered) else self.curvatures
        decided = float(np.min(own)) < -float(self.tolerance) or float(self.answered) < -float(self.tolerance)
        if not decided:
            return "degenerate" if self.formed else "undecided"
        kinds = {"stable": "spurious", "neutral": "degenerate", "unstable": "unstable", "undecided": "undecided"}
        return kinds[self.stability]

    def rows(self) -> list[Row]:
        rows = [
            Row("kind", f"{self.kind} ({len(self.sizes)} players, {sum(self.sizes)} numbers)"),
            Row("flow", self.stability),
            Row("spectrum of the field", self.spectrum),
            Row("least own curvatures", self.curvatures),
        ]
        if np.isfinite(self.answered):
            rows.append(Row("least curvature of the first, the second answering", self.answered))
        return [*rows, Row("share of the Jacobian that turns", self.turning)]

    @property
    def cautions(self) -> tuple[str, ...]:
        if not self.at_rest:
            return (f"the point is no equilibrium (slopes {float(self.slopes):.2g}): its kind is that of no point",)
        if self.kind == "undecided":
            tolerance = float(self.tolerance)
            down = [i + 1 for i, least in enumerate(np.asarray(self.curvatures)) if least < -tolerance]
            proved = (
                f"it is no local Nash point (player {down[0]} has a direction down)" if down else "none was negative"
            )
            return (
                f"H of {sum(self.sizes)} numbers was not formed, least curvatures are upper bounds from Lanczos vectors: "
                f"{proved}; that nothing more negative and nothing that grows was missed is not proved",
            )
        if self.kind == "degenerate":
            return ("a second derivative is 0 to rounding: higher ones decide what stands here",)
        return ()


def classify(game: Checked[Game | Function], players: State, *, key: Key | None = None) -> PointOfGame:
    r"""Say what stands at a point of a game: a local Nash or minimax point, a spurious or an unstable one.

        local Nash  H_ii > 0;    local minimax  H_22 > 0, H_11 - H_12 H_22^{-1} H_21 > 0;    stable  Re spec(H) > 0

    **Arguments:** those of `joint_jacobian`; any number of players and of numbers. Of more than 2,000 the matrix is not
    formed: 60 Lanczos vectors of each H_ii and Arnoldi vectors of H find what is negative, or grows.

    **Returns:** a `PointOfGame`. Of a large game it proves what a point is not; what it may be is "undecided", in words.

    **Raises:** as `joint_jacobian`.

    **Example:** of -3x^2 - y^2 + 4xy, which the first player lowers and the second raises, 0 is a minimax point;
    simultaneous descent leaves it. Of 3x^2 + y^2 + 4xy it is none, and simultaneous descent goes there.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> rest = (jnp.array(0.0), jnp.array(0.0))
    >>> [(found.kind, found.stability) for found in (sx.games.classify(g, rest) for g in sx.games.minimax_pair())]
    [('local minimax', 'unstable'), ('spurious', 'stable')]

    **Reference:** see the module; the pair is that of Wang, Zhang & Ba, *On solving minimax optimization locally: a
    follow-the-ridge approach* (2020), section 3.
    """
    game = as_game(game)
    point = asarrays(require_trainable(require_players(players)))
    require_losses(game, point, key)
    sizes = sizes_of("classify", point)
    field = Jacobian(GameField(game), point, key=key)
    moved = require_derivatives("classify", field, field.value()).astype(float)
    if sum(sizes) > MOST_FORMED:
        found = of_products(field, sizes, float(np.finfo(field.point.dtype).eps))
        size = found.pop("size")
        numbers = {name: jnp.asarray(value) for name, value in found.items()}
        slopes = jnp.asarray(np.linalg.norm(moved) / max(1.0, size))
        return PointOfGame(slopes=slopes, **numbers, sizes=sizes, formed=False)
    jacobian = joint_jacobian(game, players, key=key)
    matrix = np.asarray(jacobian.matrix, float)
    size = np.linalg.norm(matrix, 2)
    eps = float(np.finfo(jacobian.matrix.dtype).eps)
    values = np.linalg.eigvals(-matrix)
    turning, falling = (float(np.sum(np.asarray(part) ** 2)) for part in (jacobian.antisymmetric, jacobian.symmetric))
    return PointOfGame(
        slopes=jnp.asarray(np.linalg.norm(moved) / max(1.0, size)),
        spectrum=jnp.asarray(values[np.lexsort((-np.imag(values), -np.real(values).round(12)))].astype(complex)),
        curvatures=jnp.asarray([_least(jacobian.block(i, i)) for i in range(len(jacobian.sizes))]),
        answered=jnp.asarray(_answered(jacobian, eps**0.5)),
        turning=jnp.asarray(turning / (turning + falling) if turning + falling > 0 else 0.0),
        tolerance=jnp.asarray(eps**0.5 * max(size, 1.0)),
        residual=jnp.asarray(0.0),
        sizes=jacobian.sizes,
    )


def _least(block: Any) -> float:
    return float(np.linalg.eigvalsh(np.asarray(block + block.T, float) / 2)[0])


def _answered(jacobian: JointJacobian, rounding: float) -> float:
    """The least eigenvalue of the first player's curvature when the second answers; NaN where that is not defined."""
    if len(jacobian.sizes) != 2:
        return np.nan
    own, other, back, answer = (np.asarray(jacobian.block(i, j), float) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    opposed = np.abs(other + back.T).max() <= rounding * max(1.0, float(np.abs(other).max()))
    singular = np.min(np.abs(np.linalg.eigvalsh(answer))) <= rounding * max(1.0, np.linalg.norm(answer, 2))
    return _least(own - other @ np.linalg.solve(answer, back)) if opposed and not singular else np.nan
