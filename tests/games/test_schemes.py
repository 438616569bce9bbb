"""Every scheme against its matrix on a linear game, its factor on games solved by hand, and its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import games
from separatrix.linear.coordinates import Jacobian

# Three numbers for one player, two for the other; no symmetry that a transposed block could hide behind.
MATRIX = np.random.default_rng(3).standard_normal((5, 5))
MATRIX[:3, :3] = MATRIX[:3, :3] + MATRIX[:3, :3].T
MATRIX[3:, 3:] = MATRIX[3:, 3:] + MATRIX[3:, 3:].T
SIZES, H = (3, 2), 0.05
GAME = games.QuadraticGame(MATRIX, SIZES)
POINT = (jnp.array([0.7, -0.4, 0.2]), jnp.array([0.3, 0.8]))
LINEAR = games.linear_game(MATRIX, SIZES)
BILINEAR = games.Bilinear(1.0)
REST = (jnp.array(0.0), jnp.array(0.0))

MAPS = {
    "simultaneous": games.SimultaneousDescent(GAME, H),
    "alternating": games.AlternatingDescent(GAME, H),
    "extragradient": games.Extragradient(GAME, H),
    "past": games.PastExtragradient(GAME, H),
    "optimistic": games.OptimisticDescent(GAME, H),
    "consensus": games.ConsensusDescent(GAME, H, 0.3),
    "symplectic": games.SymplecticDescent(GAME, H, 0.3, align=False),
    "competitive": games.CompetitiveDescent(GAME, H),
    "ridge": games.RidgeDescent(GAME, H),
    "proximal": games.proximal_point(GAME, H),
}


@pytest.mark.parametrize("scheme", MAPS)
def test_the_matrix_of_a_step_is_the_jacobian_of_the_map(scheme):
    map = MAPS[scheme]
    state = map.init(POINT) if hasattr(map, "init") else POINT
    expected = games.step_matrix(LINEAR, scheme, H, strength=0.3)
    found = np.asarray(Jacobian(map, state).matrix())
    if scheme in ("past", "optimistic"):
        # The map remembers slopes m = H x itself, as the matrix does.
        assert found.shape == (10, 10)
    # The proximal step is solved to a tolerance, all else is arithmetic.
    np.testing.assert_allclose(found, expected, atol=1e-6 if scheme == "proximal" else 1e-13)


@pytest.mark.parametrize("scheme", ["simultaneous", "alternating", "extragradient", "past", "optimistic"])
def test_momentum_of_each_player_is_in_the_matrix(scheme):
    betas, order = (0.5, -0.3), (1, 0, 1) if scheme == "alternating" else None
    rule = games.Players(*(optax.sgd(H, momentum=beta) for beta in betas), scheme=scheme, order=order)
    play = rule(GAME)
    expected = games.step_matrix(LINEAR, scheme, H, momentum=betas, order=order)
    # Two steps of the map from rest of the memory, against those of the matrix.
    state, vector = play.init(POINT), np.concatenate([*POINT, np.zeros(5)])
    for n in range(3):
        state, vector = play.step(n, state), expected @ vector
    np.testing.assert_allclose(np.concatenate(state.parameters), vector[:5], rtol=1e-11)


def test_factors_on_the_bilinear_game():
    h = 0.3
    z = 1 + 1j * h
    expected = [
        (games.SymplecticDescent(BILINEAR, h, 0.4, align=False), abs(z - 0.4 * h)),
        (games.OpponentShaping(BILINEAR, h, 0.4, stopped=True), abs(z - 0.4 * h)),
        (games.OpponentShaping(BILINEAR, h, 0.4), abs(z - 0.8 * h)),
        (games.CompetitiveDescent(BILINEAR, h), 1 / np.sqrt(1 + h**2)),
        (games.proximal_point(BILINEAR, h), 1 / np.sqrt(1 + h**2)),
    ]
    for map, factor in expected:
        values = np.linalg.eigvals(np.asarray(Jacobian(map, REST).matrix()))
        np.testing.assert_allclose(np.abs(values), factor, rtol=1e-7)


@pytest.mark.parametrize(("step_size", "count", "share"), [(0.1, 5, 0.5), (0.3, 3, 0.25)])
def test_lookahead_goes_a_part_of_the_way(step_size, count, share):
    ahead = games.Lookahead(games.SimultaneousDescent(BILINEAR, step_size), count, share)
    radius = sx.linear_stability(ahead, REST).spectral_radius
    assert radius == pytest.approx(abs(1 - share + share * (1 + 1j * step_size) ** count), rel=1e-12)
    if count == 5:
        assert radius == pytest.approx(0.9813269, abs=5e-8)
    # Around players with an optimiser it is the same.
    play = games.Lookahead(games.Players(optax.sgd(step_size))(BILINEAR), count, share)
    pair = (jnp.array(1.0), jnp.array(0.5))
    np.testing.assert_allclose(
        jnp.stack(play.step(0, play.init(pair)).parameters), jnp.stack(ahead.step(0, pair)), rtol=1e-12
    )


def test_competitive_steps_have_the_known_radii_and_shaping_the_known_eigenvalues():
    game = games.QuadraticGame([[1.0, 1.0], [-1.0, 1.0]])
    zeros = (jnp.zeros(1), jnp.zeros(1))
    for h, radius in ((1.0, 0.0), (0.5, 0.4472136)):
        found = sx.linear_stability(games.CompetitiveDescent(game, h), zeros).spectral_radius
        assert found == pytest.approx(radius, abs=5e-8)
    for stopped, real in ((True, -0.3), (False, -0.6)):
        flow = sx.limit(games.OpponentShaping(BILINEAR, 0.1, 0.3, stopped=stopped))
        values = np.linalg.eigvals(np.asarray(sx.linearize(flow, REST).as_matrix()))
        np.testing.assert_allclose(np.sort_complex(values), [real - 1j, real + 1j], atol=1e-12)


def test_alignment_draws_to_what_is_stable_and_away_from_what_is_not():
    # L_i = a x_i^2/2 +- x y: S = a I. The adjustment adds gamma (1 + ...) in the sense of a: H^T g . g has the sign of a.
    for a in (0.5, -0.5):
        game = games.QuadraticGame([[a, 1.0], [-1.0, a]])
        point = (jnp.array([1.0]), jnp.array([0.5]))
        moved = games.SymplecticDescent(game, 1.0, 2.0, align=True).step(0, point)
        matrix = np.array([[a, 1.0], [-1.0, a]])
        own = matrix @ [1.0, 0.5]
        turning = (matrix.T - matrix) / 2 @ own
        expected = np.array([1.0, 0.5]) - (own + np.sign(a) * 2.0 * turning)
        np.testing.assert_allclose(np.concatenate(moved), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [games.CompetitiveDescent, games.proximal_point])
def test_limit_is_the_field_of_the_game(kind):
    found = sx.limit(kind(GAME, 0.1)).velocity(0.0, POINT)
    np.testing.assert_allclose(np.concatenate(found), -MATRIX @ np.concatenate(POINT), rtol=1e-9)


@pytest.mark.parametrize(
    "map", [games.PastExtragradient(BILINEAR, 0.1), games.Players(optax.sgd(0.1, momentum=0.9))(BILINEAR),
            games.Lookahead(games.SimultaneousDescent(BILINEAR, 0.1))],
)  # fmt: skip
def test_what_remembers_has_no_limit_and_says_so(map):
    with pytest.raises(TypeError, match=r"(?s)limit is not defined here.*NearIdentityMap"):
        sx.limit(map)


def test_the_order_of_moves_is_the_users():
    twice = games.AlternatingDescent(BILINEAR, 0.5, order=(1, 1, 0))
    x, y = twice.step(0, (jnp.array(1.0), jnp.array(1.0)))
    # y moves by h x twice, then x by -h y.
    assert (float(y), float(x)) == (2.0, 0.0)
    play = games.Players(optax.sgd(0.5), scheme="alternating", order=(1, 1, 0))(BILINEAR)
    found = play.step(0, play.init((jnp.array(1.0), jnp.array(1.0)))).parameters
    assert [float(leaf) for leaf in found] == [0.0, 2.0]
    np.testing.assert_allclose(
        np.asarray(Jacobian(twice, REST).matrix()),
        games.step_matrix(games.linear_game([[0.0, 1.0], [-1.0, 0.0]], (1, 1)), "alternating", 0.5, order=(1, 1, 0)),
    )


def test_optax_has_optimism_too_and_it_is_the_same():
    ours = games.Players(optax.sgd(0.1), scheme="optimistic")(GAME)
    theirs = games.Players(optax.optimistic_gradient_descent(0.1))(GAME)
    # The first step of optax is a plain one, with the slope before taken as the slope: from then on each step is the same.
    second = theirs.step(0, theirs.init(POINT))
    before = tuple(after - start for after, start in zip(second.parameters, POINT, strict=True))
    first = ours.init(POINT)._replace(parameters=second.parameters)
    first = first._replace(optimizer_state=(first.optimizer_state[0], before))
    for n in range(3):
        first, second = ours.step(n, first), theirs.step(n, second)
        for a, b in zip(first.parameters, second.parameters, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


NAMESAKES = {
    "past": lambda game: games.PastExtragradient(game, H),
    "symplectic": lambda game: games.SymplecticDescent(game, H, 0.2),
    "shaping": lambda game: games.OpponentShaping(game, H, 0.2),
    "ridge": lambda game: games.RidgeDescent(game, H),
}


@pytest.mark.parametrize("scheme", NAMESAKES)
def test_plain_descent_as_optimiser_is_the_namesake(scheme):
    plain = NAMESAKES[scheme](GAME)
    play = games.Players(optax.sgd(H), scheme=scheme, strength=0.2)(GAME)
    expected, found = plain.init(POINT), play.init(POINT)
    for n in range(2):
        expected, found = plain.step(n, expected), play.step(n, found)
    expected = getattr(expected, "players", expected)
    for a, b in zip(found.parameters, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_noise_within_a_step_is_shared_or_fresh_as_said():
    """L_i = z x_i with z drawn from the key: extragradient moves by the second draw alone."""

    def noisy(players, *, key):
        z = jax.random.normal(key, (), jnp.float64)
        return z * players[0], z * players[1]

    key, pair = jax.random.key(4), (jnp.array(0.0), jnp.array(0.0))
    draws = {"shared": jax.random.normal(key, (), jnp.float64),
             "fresh": jax.random.normal(jax.random.fold_in(key, 1), (), jnp.float64)}  # fmt: skip
    for noise, draw in draws.items():
        play = games.Players(optax.sgd(0.5), scheme="extragradient", noise=noise)(noisy)
        assert float(play.step(0, play.init(pair), key=key).parameters[0]) == pytest.approx(
            -0.5 * float(draw), rel=1e-12
        )


# Edges of linear games in closed form: the step size up to which each scheme is stable.
EDGES = {
    "simultaneous, c = 0": ([[1.0, 1.0], [-1.0, 0.0]], "simultaneous", 1.0),
    "simultaneous, c = 1": ([[2.0, 1.0], [-1.0, 0.0]], "simultaneous", 2.0),
    "alternating, c = 0": ([[1.0, 1.0], [-1.0, 0.0]], "alternating", -1 + np.sqrt(5)),
    "alternating, c = 1": ([[2.0, 1.0], [-1.0, 0.0]], "alternating", -2 + np.sqrt(8)),
    "R3GAN, g = 0.25": ([[0.0, 0.5], [-0.5, 0.5]], "simultaneous", 2.0),
    "R3GAN, g = 0.5": ([[0.0, 0.5], [-0.5, 1.0]], "simultaneous", 4.0),
    "R3GAN, g = 1": ([[0.0, 0.5], [-0.5, 2.0]], "simultaneous", 1.0717968),
    "extragradient": ([[0.0, 1.0], [-1.0, 0.0]], "extragradient", 1.0),
    "optimistic": ([[0.0, 1.0], [-1.0, 0.0]], "optimistic", 1 / np.sqrt(3)),
    "past": ([[0.0, 1.0], [-1.0, 0.0]], "past", 1 / np.sqrt(3)),
    "alternating": ([[0.0, 1.0], [-1.0, 0.0]], "alternating", 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_edges_in_closed_form(name):
    matrix, scheme, edge = EDGES[name]
    # What is conserved below the edge is stable to rounding: |mu| = 1.
    found = games.largest_step(games.linear_game(matrix, (1, 1)), scheme, slack=1e-13)
    assert found == pytest.approx(edge, rel=1e-6)


def test_proximal_and_competitive_steps_have_no_edge_on_the_bilinear_game():
    game = games.linear_game([[0.0, 1.0], [-1.0, 0.0]], (1, 1))
    assert games.largest_step(game, "proximal") == games.largest_step(game, "competitive") == np.inf
    assert games.largest_step(game, "simultaneous") == 0.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: games.AlternatingDescent(BILINEAR, 0.1, order=(1, 1)).step(0, REST), r"order.*\(1, 1\)"),
        (lambda: games.Players(optax.sgd(0.1), order=(0, 1)), "order.*none"),
        (lambda: games.Players(optax.sgd(0.1), noise="new"), "'new'.*fresh"),
        (lambda: games.Players(optax.sgd(0.1), scheme="optimist"), "'optimist'.*Did you mean 'optimistic'"),
        (lambda: games.SymplecticDescent(BILINEAR, 0.1, -1.0), "strength.*-1.0"),
        (lambda: games.OpponentShaping(BILINEAR, 0.0, 1.0), "step_size.*0.0"),
        (lambda: games.Lookahead(games.SimultaneousDescent(BILINEAR, 0.1), 0), "count.*got 0"),
        (lambda: games.Lookahead(games.SimultaneousDescent(BILINEAR, 0.1), 2, 0.0), "share.*0.0"),
        (lambda: games.proximal_point(BILINEAR, -0.1), "step_size.*-0.1"),
        (
            lambda: games.RidgeDescent(lambda p: (p[0] ** 2, p[1] ** 2, p[2] ** 2), 0.1).step(0, (*REST, REST[0])),
            "ridge: players.*got 3",
        ),
        (lambda: games.step_matrix(LINEAR, "sideways", 0.1), "'sideways'"),
        (
            lambda: jax.eval_shape(
                lambda x: games.CompetitiveDescent(lambda p: (p[0] @ p[1], -p[0] @ p[1]), 0.1).step(0, x),
                (jnp.ones(1500), jnp.ones(1500)),
            ),
            "3000 parameters.*at most 2000",
        ),
    ],
)  # fmt: skip
def test_misuse_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
