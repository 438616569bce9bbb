"""What `advise` says, against closed forms, and verified by changing exactly the number it names."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import games
from separatrix.games._reduction import reduced
from separatrix.linear.coordinates import Jacobian

REST = (jnp.array(0.0), jnp.array(0.0))


@pytest.mark.parametrize(("penalty", "step_size"), [(0.1, 1.0), (0.2, 2.0), (0.05, 0.5)])
def test_cures_of_the_dirac_gan_are_the_closed_forms(penalty, step_size):
    # mu = 1 + h lambda, lambda = -g/2 +- i sqrt(1/4 - g^2/4): |mu|^2 = 1 - g h + h^2/4. Edge 4 g; penalty h/4.
    h, descent = step_size, games.SimultaneousDescent(games.DiracGAN(penalty), step_size)
    told = games.advise(descent, REST, slack=0.0)
    turn = np.arctan2(h * np.sqrt(1 - penalty**2) / 2, 1 - h * penalty / 2)
    assert told.decay == pytest.approx(np.sqrt(1 - penalty * h + h**2 / 4), rel=1e-12)
    assert told.rotation == pytest.approx(turn, rel=1e-12) and told.verdict == "rotating"
    assert float(told.largest_factor) == pytest.approx(4 * penalty / h, rel=1e-6)
    assert float(told.penalty) == pytest.approx(h / 4, rel=1e-6)
    # R2 of a linear discriminator is R1.
    assert float(told.fake_penalty) == pytest.approx(h / 4 - penalty, rel=1e-6)
    # The path does what was said, on either side of each number.
    for factor, holds in ((0.99, True), (1.01, False)):
        assert contracts(games.SimultaneousDescent(games.DiracGAN(penalty), 4 * penalty * factor)) is holds
        assert contracts(games.SimultaneousDescent(games.DiracGAN(h / 4 / factor), h)) is holds


def contracts(map, steps=4000):
    """Whether a path from near the equilibrium of the Dirac-GAN comes nearer."""
    end = sx.evolve(map, map.init((jnp.array(1e-3), jnp.array(0.0))), steps=steps, save="last").final
    return bool(np.hypot(*map_players(end)) < 1e-3)


def map_players(state):
    return [float(leaf) for leaf in getattr(state, "parameters", getattr(state, "players", state))]


def test_the_strength_of_a_consensus_term_is_the_least_that_contracts():
    # On x y: |1 + ih - gamma h|^2 = 1 at gamma = (1 - sqrt(1 - h^2))/h.
    h = 0.6
    told = games.advise(games.SimultaneousDescent(games.Bilinear(1.0), h), REST, slack=0.0)
    least = (1 - np.sqrt(1 - h**2)) / h
    assert float(told.consensus) == pytest.approx(least, rel=1e-6)
    assert float(told.symplectic) == pytest.approx(least, rel=1e-6)
    assert np.isnan(float(told.penalty)) and float(told.largest_factor) == 0.0
    assert "extragradient" in " ".join(told.cures) and "alternating" not in " ".join(told.cures)
    for factor, holds in ((1.02, True), (0.98, False)):
        assert contracts(games.ConsensusDescent(games.Bilinear(1.0), h, least * factor), 500) is holds


def test_the_table_is_the_spectral_radius_of_each_map():
    game, h = games.DiracGAN(0.3), 0.8
    told = games.advise(games.SimultaneousDescent(game, h), REST, factors=(0.5, 1.0))
    kinds = {
        "simultaneous": games.SimultaneousDescent, "alternating": games.AlternatingDescent,
        "extragradient": games.Extragradient, "past": games.PastExtragradient, "optimistic": games.OptimisticDescent,
        "competitive": games.CompetitiveDescent, "proximal": games.proximal_point,
    }  # fmt: skip
    assert told.schemes == tuple(kinds)
    for name, radii in zip(told.schemes, np.asarray(told.radii), strict=True):
        for factor, radius in zip(told.factors, radii, strict=True):
            map = kinds[name](game, h * factor)
            state = map.init(REST) if hasattr(map, "init") else REST
            exact = max(abs(np.linalg.eigvals(np.asarray(Jacobian(map, state).matrix()))))
            assert radius == pytest.approx(exact, rel=1e-6), (name, factor)


@pytest.mark.parametrize(
    ("optimizers", "momentum", "rates"),
    [
        ((optax.sgd(0.1),), (0.0, 0.0), (0.1, 0.1)),
        ((optax.sgd(0.1, momentum=0.5), optax.sgd(0.2, momentum=-0.3)), (0.5, -0.3), (0.1, 0.2)),
        ((optax.chain(optax.scale(2.0), optax.sgd(0.1)),), (0.0, 0.0), (0.2, 0.2)),
    ],
)
def test_what_optimisers_make_of_slopes_is_measured(optimizers, momentum, rates):
    play = games.Players(*optimizers)(games.DiracGAN(0.3))
    state = play.step(0, play.init((jnp.array(0.3), jnp.array(-0.1))))
    told = games.advise(play, state)
    np.testing.assert_allclose(told.rates, rates, rtol=1e-12)
    matrix = np.asarray(games.joint_jacobian(games.DiracGAN(0.3), state.parameters).matrix)
    metric = np.diag(np.sqrt(rates))
    own = games.step_matrix(games.linear_game(metric @ matrix @ metric, (1, 1)), "simultaneous", 1.0, momentum=momentum)
    radius = max(abs(np.linalg.eigvals(own)))
    assert float(told.present) == pytest.approx(radius, rel=1e-9) and float(told.misfit) < 1e-9


def test_adam_is_taken_with_its_second_moments_held():
    game, rate, b1 = games.DiracGAN(0.3), 0.01, 0.5
    play = games.Players(optax.adam(rate, b1=b1))(game)
    state = sx.evolve(play, play.init((jnp.array(0.3), jnp.array(-0.2))), steps=300, save="last").final
    told = games.advise(play, state)
    nu = [inner[0].nu / (1 - 0.999**301) for inner in state.optimizer_state[0]]
    expected = [rate * (1 - b1) / (float(np.sqrt(v)) + 1e-8) for v in nu]
    # Terms of (1 - b2) g^2/v, a few thousandths, are what is held.
    np.testing.assert_allclose(told.rates, expected, rtol=0.02)


def networks(key, width=8):
    keys = jax.random.split(key)
    return (
        eqx.nn.MLP(2, 2, width, 2, jnp.tanh, key=keys[0], dtype=jnp.float64),
        eqx.nn.MLP(2, "scalar", width, 2, jnp.tanh, key=keys[1], dtype=jnp.float64),
    )


NETWORKS = networks(jax.random.key(0))
GAN = games.GAN(2, penalty=0.1)
# Data that the generator makes itself: its samples are as spread as they.
DATA = GAN.sample(NETWORKS[0], jax.random.key(8), 300)
OBJECTIVE = sx.sampled(GAN, DATA, batch_size=64, model=NETWORKS)
PARAMETERS = eqx.filter(NETWORKS, eqx.is_inexact_array)


def test_a_reduced_game_has_the_leading_eigenvalues_of_the_whole():
    """The reduced game of 40 numbers against the matrix of 219, which is formed here alone."""
    key, game = jax.random.key(3), games.as_game(OBJECTIVE)
    sizes = tuple(sum(leaf.size for leaf in jax.tree.leaves(player)) for player in PARAMETERS)
    near = reduced(game, PARAMETERS, key, np.full(sum(sizes), 1.0))
    whole = -np.asarray(Jacobian(games.GameField(game), PARAMETERS, key=key).matrix(), float)
    exact, found = np.linalg.eigvals(whole), np.linalg.eigvals(near.game.matrix)
    lead = exact[np.argsort(-np.abs(exact))[:4]]
    for value in lead:
        assert np.min(np.abs(found - value)) < 1e-2 * abs(lead[0])
    assert near.residual < 1e-2
    # Who owns what is kept: V^T H V, with no number of one player in a column of the other.
    np.testing.assert_allclose(near.game.matrix, near.basis.T @ whole @ near.basis, atol=1e-9 * abs(lead[0]))
    np.testing.assert_allclose(
        near.game.twice, near.basis.T @ whole @ whole @ near.basis, atol=1e-9 * abs(lead[0]) ** 2
    )
    assert not np.any(near.basis[: sizes[0], near.game.sizes[0] :])


def test_diagnose_of_a_gan_says_what_its_update_does_and_whether_it_collapsed():
    key, play = jax.random.key(1), games.Players(optax.sgd(0.1))(OBJECTIVE)
    told = sx.diagnose(play, play.init(PARAMETERS), questions=[], key=key)
    assert not told.unanswered
    names = [finding.name for finding in told.findings]
    assert any(name.startswith("largest multiplier of the running update (") for name in names)
    spread = next(finding for finding in told.findings if finding.name.startswith("variance of the samples"))
    assert spread.holds and 0.5 < spread.evidence < 2
    # The same networks with a generator that says nearly one thing: its variance falls with the square.
    still = eqx.tree_at(lambda g: g.layers[-1].weight, PARAMETERS[0], replace_fn=lambda w: 0.1 * w)
    told = sx.diagnose(play, play.init((still, PARAMETERS[1])), questions=[], key=key)
    fallen = next(finding for finding in told.broken if finding.name.startswith("variance of the samples"))
    assert fallen.evidence == pytest.approx(0.01 * spread.evidence, rel=1e-6) and "collapsed" in fallen.cause


def test_diagnose_names_the_number_and_the_number_cures():
    play = games.Players(optax.sgd(1.0))(games.DiracGAN(0.1))
    finding = sx.diagnose(play, play.init(REST), questions=[]).findings[-1]
    assert not finding.holds and "(rotating)" in finding.name and "R1 penalty above 0.25;" in finding.remedy
    cured = games.Players(optax.sgd(1.0))(games.DiracGAN(0.26))
    assert sx.diagnose(cured, cured.init(REST), questions=[]).findings[-1].holds


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: games.advise(sx.as_map(lambda x: x), REST), TypeError, "a map of the players"),
        (lambda: games.advise(games.SimultaneousDescent(games.DiracGAN(), 0.1), REST, slack=-1.0), ValueError, "slack"),
        (
            lambda: (lambda play: games.advise(play, play.init(REST)))(games.Players(optax.scale(0.1))(games.DiracGAN())),
            ValueError, "grows with the slope",
        ),
        (
            lambda: (lambda play: games.advise(play, play.init((jnp.array(1.0), jnp.array(0.5)))))(
                games.Players(optax.adam(0.1))(games.DiracGAN())
            ),
            ValueError, "no response to a slope.*take some steps",
        ),
        (
            lambda: (lambda play: games.advise(play, play.init(REST)))(
                games.Players(optax.sgd(0.1), scheme="shaping")(games.DiracGAN())
            ),
            ValueError, "'shaping'.*linear_stability",
        ),
    ],
)  # fmt: skip
def test_misuse_is_refused_in_words(call, kind, words):
    with pytest.raises(kind, match=f"(?s){words}"):
        call()
