r"""Games that can be solved by hand.

    bilinear    min_x max_y x^T A y                 v = (-A y, A^T x): a turn, eigenvalues +- i (singular values of A)
    quadratic   g = H x, with any H: every game near an equilibrium
    Dirac-GAN   min_theta max_psi f(theta psi) - (gamma/2) psi^2,  f(s) = -log(1 + e^{-s})
    variance    min_theta max_psi psi (s^2 - theta^2)

The Dirac-GAN is the smallest GAN: a generator that puts all mass at theta, a linear discriminator D(x) = psi x, true
data at 0, and a gradient penalty of weight gamma. At its equilibrium 0 the field has eigenvalues
-gamma/2 +- sqrt(gamma^2/4 - 1/4); without penalty theta^2 + psi^2 is constant, and training cycles.

The GAN of a variance has the generator theta z, the critic psi x^2 and data N(0, s^2), with the losses of Wasserstein:
its field (2 theta psi, s^2 - theta^2) conserves psi^2 + theta^2/2 - s^2 ln theta, and cycles too.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Key, Scalar, State
from separatrix.games.game import Game
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


def _as_matrix(matrix: Any) -> Any:
    return jnp.asarray(matrix) if isinstance(matrix, list | tuple) else as_parameter(matrix)


class Bilinear(Game):
    """L_1 = x^T A y = -L_2.

    **Arguments:**

    - `matrix`: A, shape (n, m) for players of shapes (n,) and (m,); a number for players of equal shape.

    **Raises:** `ValueError` for values that are not finite.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> [float(loss) for loss in sx.games.Bilinear(2.0)((jnp.array(1.0), jnp.array(3.0)))]
    [6.0, -6.0]
    """

    matrix: Any = eqx.field(default=1.0, converter=_as_matrix)

    def __check_init__(self) -> None:
        ranges.finite("Bilinear: matrix", self.matrix, "Leave it out for 1.")

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        x, y = players
        matrix = jnp.asarray(self.matrix).astype(y.dtype)
        value = jnp.sum(x * (matrix @ y if matrix.ndim == 2 else matrix * y))
        return value, -value


class QuadraticGame(Game):
    r"""L_i = x_i . (H_ii x_i/2 + sum_{j != i} H_ij x_j): slopes g = H x, the linear game.

    **Arguments:**

    - `matrix`: H, shape (d, d), any matrix; its diagonal blocks are taken symmetric, as second derivatives are.
    - `sizes`: how many of the d numbers each player has; one each by default.

    **Raises:** `ValueError` for a matrix that is not square or not finite, or sizes that do not add up to d.

    **Example:** a x^2/2 + x y - a y^2/2 with a = 1, between its two players.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> game = sx.games.QuadraticGame([[1.0, 1.0], [-1.0, 1.0]])
    >>> [v.tolist() for v in sx.games.field(game).velocity(0.0, (jnp.array([1.0]), jnp.array([2.0])))]
    [[-3.0], [-1.0]]

    **Reference:** Letcher et al., *Differentiable game mechanics* (2019), section 2.
    """

    matrix: Any = eqx.field(converter=_as_matrix)
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, matrix: Any, sizes: Any = None):
        self.matrix = _as_matrix(matrix)
        shape = jnp.shape(self.matrix)
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
            raise ValueError(explain("QuadraticGame: matrix", f"shape {shape}", "(d, d), d >= 2", "Pass H of g = H x."))
        ranges.finite("QuadraticGame: matrix", self.matrix, "Repair the entry.")
        self.sizes = (1,) * shape[0] if sizes is None else tuple(int(size) for size in sizes)
        if sum(self.sizes) != shape[0] or min(self.sizes) < 1 or len(self.sizes) < 2:
            do = "Say how many numbers each of the players has."
            raise ValueError(explain("QuadraticGame: sizes", self.sizes, f"two or more that add up to {shape[0]}", do))

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        everybody = jnp.concatenate([jnp.ravel(jnp.asarray(player)) for player in players])
        matrix, ends = jnp.asarray(self.matrix).astype(everybody.dtype), np.cumsum((0, *self.sizes))
        losses = []
        for i, player in enumerate(players):
            rows = matrix[ends[i] : ends[i + 1]]
            own, twice = jnp.ravel(jnp.asarray(player)), rows[:, ends[i] : ends[i + 1]]
            losses.append(own @ (rows @ everybody) - own @ (twice @ own) / 2)
        return tuple(losses)


def rotating_quadratic(weight: Any) -> QuadraticGame:
    """The game with H = (1 - w) I + w (0, 1; -1, 0): eigenvalues of the field -(1 - w) +- i w.

    **Arguments:** `weight`: w, from 0 (two bowls) to 1 (the bilinear game).

    **Example:**

    >>> import separatrix as sx
    >>> sx.games.rotating_quadratic(0.25).matrix.tolist()
    [[0.75, 0.25], [-0.25, 0.75]]
    """
    ranges.share("rotating_quadratic: weight", weight, "Pass for example 0.5.")
    w = as_parameter(weight)
    return QuadraticGame(jnp.stack([jnp.stack([1 - w, w]), jnp.stack([-w, 1 - w])]))


def minimax_pair() -> tuple[QuadraticGame, QuadraticGame]:
    """The games of f1 = -3x^2 - y^2 + 4xy and f2 = 3x^2 + y^2 + 4xy, lowered by the first player, raised by the second.

    At 0 the first has a local minimax point, which simultaneous descent leaves (eigenvalues 2, 2), and the second has
    none, though simultaneous descent goes there (-2, -2).

    **Example:**

    >>> import separatrix as sx
    >>> [game.matrix.tolist() for game in sx.games.minimax_pair()]
    [[[-6.0, 4.0], [-4.0, 2.0]], [[6.0, 4.0], [-4.0, -2.0]]]

    **Reference:** Wang, Zhang & Ba (2020), section 3.
    """
    return QuadraticGame([[-6.0, 4.0], [-4.0, 2.0]]), QuadraticGame([[6.0, 4.0], [-4.0, -2.0]])


DIRAC_LOSSES = ("saturating", "non_saturating", "wasserstein", "relativistic")


class DiracGAN(Game):
    r"""L_1 = f(theta psi), L_2 = -f(theta psi) + (gamma_1 + gamma_2)/2 psi^2 + gamma_0/2 (|psi| - 1)^2.

    **Arguments:**

    - `penalty`, `fake_penalty`: gamma_1, gamma_2 >= 0, the weights of R1 (slope of D at the data) and R2 (at what is
      generated): of a linear D they are the same. Critically damped at a sum of 1.
    - `gradient_penalty`: gamma_0 >= 0, of a slope of length 1, as with Wasserstein's loss.
    - `loss`: "saturating", f(s) = -log(1 + e^{-s}) for both; "non_saturating", L_1 = log(1 + e^s); "wasserstein",
      f(s) = s; "relativistic", of the pair (data, generated): L_1 = log(1 + e^s), L_2 = log(1 + e^{-s}).

    All four have the same field at 0 up to its speed, 1/2 or (Wasserstein) 1.

    **Raises:** `ValueError` for a negative penalty or an unknown loss.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.linearize(sx.games.field(sx.games.DiracGAN(1.0)), (jnp.array(0.0), jnp.array(0.0))).as_matrix().tolist()
    [[-0.0, -0.5], [0.5, -1.0]]

    **Reference:** Mescheder, Geiger & Nowozin, *Which training methods for GANs do actually converge?* (2018),
    sections 2 to 4, lemma 4.1; Huang et al., *The GAN is dead; long live the GAN!* (2024), for the relativistic pair
    with R1 and R2.
    """

    penalty: Any = eqx.field(default=0.0, converter=as_parameter)
    fake_penalty: Any = eqx.field(default=0.0, converter=as_parameter)
    gradient_penalty: Any = eqx.field(default=0.0, converter=as_parameter)
    loss: str = eqx.field(static=True, default="saturating")

    def __check_init__(self) -> None:
        for name in ("penalty", "fake_penalty", "gradient_penalty"):
            ranges.nonnegative(f"DiracGAN: {name}", getattr(self, name), "Leave it out for none.")
        if self.loss not in DIRAC_LOSSES:
            expected = f"one of {', '.join(DIRAC_LOSSES)}"
            raise ValueError(explain("DiracGAN: loss", repr(self.loss), expected, "Leave it out."))

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        theta, psi = players
        score, soft = jnp.sum(theta * psi), jax.nn.softplus
        square = jnp.sum(psi**2)
        weight = (jnp.asarray(self.penalty) + jnp.asarray(self.fake_penalty)).astype(psi.dtype)
        # |psi| has no slope at 0: there the slope of its square root is taken as that of a length of at least 1e-12.
        length = jnp.sqrt(jnp.maximum(square, jnp.asarray(1e-24, psi.dtype)))
        regularity = weight / 2 * square + jnp.asarray(self.gradient_penalty, psi.dtype) / 2 * (length - 1) ** 2
        match self.loss:
            case "wasserstein":
                return score, regularity - score
            case "non_saturating":
                return soft(score), soft(-score) + regularity
            case "relativistic":
                return soft(score), soft(-score) + regularity
        return -soft(-score), soft(-score) + regularity


class LearnedVarianceGAN(Game):
    r"""L_1 = -psi theta^2, L_2 = psi (theta^2 - s^2): a generator theta z against a critic psi x^2 on N(0, s^2).

    **Arguments:** `deviation`: s > 0 of the data.

    Its flow (2 theta psi, s^2 - theta^2) conserves psi^2 + theta^2/2 - s^2 ln theta, and turns around (s, 0).

    **Raises:** `ValueError` for a deviation that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.games.field(sx.games.LearnedVarianceGAN(2.0))
    >>> [float(v) for v in flow.velocity(0.0, (jnp.array(1.0), jnp.array(0.5)))]
    [1.0, 3.0]

    **Reference:** after Mescheder, Geiger & Nowozin (2018), section 2, with a second moment in the place of the first.
    """

    deviation: Any = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("LearnedVarianceGAN: deviation", self.deviation, "Pass that of the data.")

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        theta, psi = players
        squared = jnp.sum(theta**2)
        variance = jnp.asarray(self.deviation, squared.dtype) ** 2
        return -jnp.sum(psi) * squared, jnp.sum(psi) * (squared - variance)
