"""What stands at a point of a game, and how far it is from one that nobody would leave, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import games

REST = (jnp.zeros(1), jnp.zeros(1))


def test_the_joint_jacobian_is_split_and_not_transposed():
    # L_1 = x^2 + 3 x y, L_2 = 5 x y: H = ((2, 3), (5, 0)).
    game = games.as_game(lambda p: (p[0] ** 2 + 3 * p[0] * p[1], 5 * p[0] * p[1]))
    found = games.joint_jacobian(game, (jnp.array(0.3), jnp.array(-0.2)))
    np.testing.assert_allclose(found.matrix, [[2.0, 3.0], [5.0, 0.0]], atol=1e-14)
    np.testing.assert_allclose(found.symmetric, [[2.0, 4.0], [4.0, 0.0]], atol=1e-14)
    np.testing.assert_allclose(found.antisymmetric, [[0.0, -1.0], [1.0, 0.0]], atol=1e-14)
    np.testing.assert_allclose(found.block(0, 1), [[3.0]], atol=1e-14)


def test_the_minimax_pair_is_told_right_where_simultaneous_descent_is_wrong_on_both():
    first, second = games.minimax_pair()
    found = [games.classify(game, REST) for game in (first, second)]
    assert [(point.kind, point.stability) for point in found] == [("local minimax", "unstable"), ("spurious", "stable")]
    # H_11 - H_12 H_22^{-1} H_21: -6 + 16/2 = 2, and 6 - 16/2 = -2.
    np.testing.assert_allclose([float(point.answered) for point in found], [2.0, -2.0], rtol=1e-12)
    for game, flow, ridge in ((first, 2.0, -2.0), (second, -2.0, 2.0)):
        values = np.linalg.eigvals(sx.linearize(games.field(game), REST).as_matrix())
        followed = sx.linearize(sx.limit(games.RidgeDescent(game, 0.1)), REST).as_matrix()
        # Double eigenvalues are known to the root of rounding: their sum and product are known to rounding.
        np.testing.assert_allclose([values.sum(), values.prod()], [2 * flow, 4.0], atol=1e-12)
        np.testing.assert_allclose([np.trace(followed), np.linalg.det(followed)], [2 * ridge, 4.0], atol=1e-12)


def three_players(signs):
    """L_i = s_i x_i^2/2 + x_i (x_{i+1} - x_{i-1}): Nash iff all s_i > 0, and what turns does not matter to that."""

    def losses(x):
        return tuple(s * x[i] ** 2 / 2 + x[i] * (x[(i + 1) % 3] - x[i - 1]) for i, s in enumerate(signs))

    return games.as_game(losses)


@pytest.mark.parametrize(
    ("signs", "kind", "stability"),
    [((1.0, 2.0, 3.0), "local Nash", "stable"), ((1.0, 2.0, -0.5), "spurious", "stable"),
     ((-1.0, -2.0, 0.5), "unstable", "unstable"), ((1.0, 0.0, 1.0), "degenerate", "stable")],
)  # fmt: skip
def test_three_players(signs, kind, stability):
    zeros = (jnp.array(0.0),) * 3
    found = games.classify(three_players(signs), zeros)
    turn = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    expected = np.linalg.eigvals(-(np.diag(signs) + turn))
    np.testing.assert_allclose(np.sort_complex(found.spectrum), np.sort_complex(expected), atol=1e-12)
    np.testing.assert_allclose(found.curvatures, signs, atol=1e-12)
    assert (found.kind, found.stability) == (kind, stability)
    assert np.isnan(float(found.answered))


def test_points_of_the_zoo():
    # The penalty belongs to the discriminator alone: the players stay opposed, and 0 - (1/2)(1)(-1/2) = 1/4 > 0.
    dirac = games.classify(games.DiracGAN(1.0), (jnp.array(0.0), jnp.array(0.0)))
    assert dirac.kind == "local minimax" and float(dirac.answered) == pytest.approx(0.25, rel=1e-12)
    assert games.classify(games.Bilinear(1.0), (jnp.array(0.0), jnp.array(0.0))).kind == "degenerate"
    away = games.classify(games.DiracGAN(1.0), (jnp.array(0.5), jnp.array(0.2)))
    assert away.kind == "no equilibrium" and "no equilibrium" in away.cautions[0]
    # (s, 0) is the equilibrium of the GAN of a variance: H = ((0, -2s), (2s, 0)), all of which turns.
    variance = games.classify(games.LearnedVarianceGAN(2.0), (jnp.array(2.0), jnp.array(0.0)))
    assert float(variance.turning) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(np.sort(np.imag(variance.spectrum)), [-4.0, 4.0], rtol=1e-12)


def test_exploitability_is_exact_where_answers_are_known_and_a_lower_bound_elsewhere():
    pennies = games.matching_pennies()
    x, y = jnp.array([0.75, 0.25]), jnp.array([0.5, 0.5])
    # Against (1/2, 1/2) nothing is to be won; against (3/4, 1/4) the second wins 1/2 by the other side.
    np.testing.assert_allclose(games.exploitability(pennies, (x, y)).gaps, [0.0, 0.5], atol=1e-15)
    assert games.exploitability(pennies, (y, y)).total == 0.0
    # a x^2/2 + x y - b y^2/2: the best answers are -y/a and x/b, and the gaps a (x + y/a)^2/2, b (y - x/b)^2/2.
    a, b, p, q = 2.0, 0.5, 0.3, -0.7
    game = games.QuadraticGame([[a, 1.0], [-1.0, b]])
    found = games.exploitability(game, (jnp.array([p]), jnp.array([q])))
    np.testing.assert_allclose(found.gaps, [a / 2 * (p + q / a) ** 2, b / 2 * (q - p / b) ** 2], rtol=1e-9)
    assert "lower bound" in found.cautions[0] and len(found.cautions) == 1
    endless = games.exploitability(games.Bilinear(1.0), (jnp.array(1.0), jnp.array(1.0)), steps=20)
    assert any("no lower end" in caution for caution in endless.cautions)


REFUSED = {
    "one player": (lambda: games.classify(lambda p: (p[0],), (jnp.zeros(1),)), TypeError, "tuple of at least two"),
    "losses that are no scalars": (lambda: games.classify(lambda p: p, REST), ValueError, r"\(1,\).*2 scalars"),
    "a player without parameters": (
        lambda: games.classify(lambda p: (p[0] ** 2, p[0] ** 2), (jnp.array(1.0), ())), ValueError,
        r"players\[1\].*no parameters",
    ),
    "a game too large to be formed": (
        lambda: games.joint_jacobian(lambda p: (p[0] @ p[1], p[0] @ p[1]), (jnp.ones(1001), jnp.ones(1001))),
        ValueError, "2002 numbers.*at most 2000.*field_split",
    ),
    "a matrix that is not square": (lambda: games.QuadraticGame([[1.0, 2.0]]), ValueError, r"\(1, 2\)"),
    "sizes that do not add up": (lambda: games.QuadraticGame(np.eye(3), (1, 1)), ValueError, "add up to 3"),
    "a payoff of another shape": (lambda: games.MatrixGame(np.eye(2), np.eye(3)), ValueError, "MatrixGame: other"),
    "three populations": (lambda: games.Replicator(games.matching_pennies(), 3), ValueError, "got 3, expected 1 to 2"),
    "one population of unequal moves": (
        lambda: games.Replicator(games.MatrixGame([[1.0, 2.0, 3.0]]), 1), ValueError, "a square one"
    ),
    "a loss of the Dirac-GAN": (lambda: games.DiracGAN(loss="hinge"), ValueError, "'hinge'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()


def test_replicators_conserve_and_turn_with_the_known_period():
    shares = jnp.array([0.5, 0.25, 0.25])
    flow = games.Replicator(games.rock_paper_scissors(), populations=1)
    period = 11.29750057
    # Back where it was after a period, and not after half of it.
    half, whole = sx.evolve(flow, shares, times=jnp.array([0.0, period / 2, period]), rtol=1e-11, atol=1e-13).states[1:]
    np.testing.assert_allclose(whole, shares, atol=1e-8)
    assert float(jnp.abs(half - shares).max()) > 0.1
    np.testing.assert_allclose(jnp.prod(half), jnp.prod(shares), rtol=1e-9)
    # Of matching pennies x_1 x_2 y_1 y_2 is conserved: the divergence of the equilibrium from the state.
    pair = (jnp.array([0.7, 0.3]), jnp.array([0.6, 0.4]))
    end = sx.evolve(games.Replicator(games.matching_pennies()), pair, times=(0.0, 3.0), rtol=1e-11, atol=1e-13).final
    np.testing.assert_allclose(jnp.prod(end[0]) * jnp.prod(end[1]), 0.21 * 0.24, rtol=1e-9)
    assert abs(float(end[0][0]) - 0.7) > 0.05


def test_the_gan_of_a_variance_has_its_invariant_and_its_period():
    flow = games.field(games.LearnedVarianceGAN(2.0))
    start, period = (jnp.array(1.0), jnp.array(0.5)), 1.671717912
    half, whole = (sx.evolve(flow, start, times=(0.0, t), rtol=1e-12, atol=1e-13).final for t in (period / 2, period))
    np.testing.assert_allclose(jnp.stack(whole), [1.0, 0.5], atol=1e-8)

    def invariant(state):
        theta, psi = state
        return psi**2 + theta**2 / 2 - 4.0 * jnp.log(theta)

    np.testing.assert_allclose(invariant(half), invariant(start), rtol=1e-9)
    assert abs(float(half[0]) - 1.0) > 0.5


@pytest.mark.parametrize("loss", ["saturating", "non_saturating", "relativistic", "wasserstein"])
@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
def test_eigenvalues_of_the_dirac_gan_with_two_penalties(loss, weight):
    # J = ((0, -s), (s, -2g)), s = 1/2, of Wasserstein's loss 1: -g +- sqrt(g^2 - s^2).
    speed = 1.0 if loss == "wasserstein" else 0.5
    game = games.DiracGAN(weight, weight, loss=loss)
    matrix = np.asarray(sx.linearize(games.field(game), (jnp.array(0.0), jnp.array(0.0))).as_matrix())
    np.testing.assert_allclose(matrix, [[0.0, -speed], [speed, -2 * weight]], atol=1e-14)


def test_the_gradient_penalty_of_wasserstein_holds_the_slope_at_one():
    game = games.DiracGAN(gradient_penalty=2.0, loss="wasserstein")
    slope = games.field(game).velocity(0.0, (jnp.array(0.3), jnp.array(1.5)))[1]
    # dL_2/dpsi = -theta + gamma_0 (|psi| - 1) sign psi.
    np.testing.assert_allclose(slope, 0.3 - 2.0 * 0.5, rtol=1e-12)
    assert bool(jnp.isfinite(jax.grad(lambda p: game((jnp.array(0.3), p))[1])(jnp.array(0.0))))


def diagonal_pair(a, b, c):
    """a x^2/2 + c x y - b y^2/2 in each of many coordinates: 2x2 blocks, solved by hand."""

    def game(players):
        x, y = players
        value = jnp.sum(a * x**2 / 2 + c * x * y - b * y**2 / 2)
        return value, -value

    return game


@pytest.mark.parametrize(
    ("lower", "upper", "kind", "stability"),
    [(0.0, 0.0, "undecided", "undecided"), (-3.0, 0.0, "unstable", "unstable"), (1.0, -1.5, "undecided", "undecided")],
)
def test_a_large_game_is_told_by_products(lower, upper, kind, stability):
    n = 1100
    a, b, c = np.linspace(-0.5, 3, n) + lower, np.linspace(1, 4, n) + upper, np.linspace(2, 1, n)
    told = games.classify(diagonal_pair(*map(jnp.asarray, (a, b, c))), (jnp.zeros(n), jnp.zeros(n)))
    assert not told.formed and (told.kind, told.stability) == (kind, stability) and not told.is_nash
    # Lanczos: bounds from above, near the ends of an even spectrum within 2 (b - a)(pi/(2 k))^2 of k = 60 vectors.
    for found, least, span in zip(told.curvatures, (a.min(), b.min()), (np.ptp(a), np.ptp(b)), strict=True):
        assert least - 1e-9 <= float(found) <= least + 2 * span * (np.pi / 120) ** 2
    # Blocks ((-a, -c), (c, -b)) of -H: shares and the largest real part in closed form.
    turning = np.sum(2 * c**2) / np.sum(2 * c**2 + a**2 + b**2)
    assert float(told.turning) == pytest.approx(turning, rel=1e-9)
    if upper == 0.0:
        # 15 vectors of the Schur complement a + c^2/b.
        answered = a + c**2 / b
        assert (
            answered.min() - 1e-6 <= float(told.answered) <= answered.min() + 2 * np.ptp(answered) * (np.pi / 30) ** 2
        )
    else:
        assert np.isnan(float(told.answered))
    if kind == "unstable":
        most = np.max(np.real(-(a + b) / 2 + np.sqrt((a - b + 0j) ** 2 / 4 - c**2)))
        assert float(np.real(told.spectrum[0])) == pytest.approx(most, abs=0.01)
    else:
        assert "is not proved" in told.cautions[0]
        assert ("player 2 has a direction down" in told.cautions[0]) is (upper < 0)


def test_a_game_without_derivatives_here_is_refused_in_words():
    def game(players):
        return jnp.sqrt(jnp.abs(players[0])) * players[1], players[1] ** 2

    at = (jnp.array(0.0), jnp.array(1.0))
    for ask in (games.classify, games.joint_jacobian):
        with pytest.raises(ValueError, match=r"(?s)derivatives of the system.*not finite.*state\[0\], number 0"):
            ask(game, at)
    with pytest.raises(ValueError, match=r"(?s)advise: derivatives of the system"):
        games.advise(games.SimultaneousDescent(game, 0.1), at)
