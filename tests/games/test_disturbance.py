"""The turn of a small disturbance, predicted and measured, against closed forms."""

import cmath

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from separatrix import games
from separatrix.games._secants import linearised
from separatrix.games.disturbance import leading_pair

REST = (jnp.array(0.0), jnp.array(0.0))


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [None, 0.4])
def test_the_dirac_gan_turns_as_its_closed_form(penalty, momentum):
    """mu = 1 + h lambda, lambda = -g/2 + sqrt(g^2/4 - 1/4); with momentum (mu - 1)(mu - b) = h mu lambda."""
    h, root = 0.1, -penalty / 2 + cmath.sqrt(penalty**2 / 4 - 1 / 4)
    play = games.Players(optax.sgd(h, momentum=momentum))(games.DiracGAN(penalty))
    found = games.disturbed(play, play.init(REST), size=1e-5, steps=60)
    b = momentum or 0.0
    exact = max(np.roots([1.0, -(1 + b + h * root), b]), key=abs)
    assert complex(found.predicted) == pytest.approx(exact, rel=1e-9)
    # Moments start at rest and are in s_n; the field is linear up to powers of 1e-5.
    assert complex(found.measured) == pytest.approx(exact, rel=1e-8)
    assert complex(found.later) == pytest.approx(exact, rel=1e-8) and found.drift < 1e-8
    np.testing.assert_allclose(found.path, exact ** np.arange(61), rtol=1e-6)
    np.testing.assert_allclose(found.share, 1.0, rtol=1e-6)


def test_common_noise_leaves_the_turn_of_a_linear_field():
    """x y with noise that is added: the difference of two runs does not see it."""

    def noisy(players, key=None):
        x, y = players
        noise = 0.0 if key is None else jax.random.normal(key)
        return x * y, 0.2 * y**2 - x * y + noise * y

    descent = games.SimultaneousDescent(noisy, 0.2)
    found = games.disturbed(descent, REST, key=jax.random.key(0), size=0.1)
    exact = np.linalg.eigvals(np.eye(2) + 0.2 * np.array([[0.0, -1.0], [1.0, -0.4]]))[0]
    assert found.rotation == pytest.approx([abs(np.angle(exact))] * 2, rel=1e-6)


# Its pair turns as that of a bilinear game; the third number leaks into it, and decays slowly. Far from normal.
LEAKING = np.array([[0.0, 0.6, 4.0], [-0.6, 0.3, 2.0], [0.0, 0.0, 0.05]])


@pytest.mark.parametrize(("scheme", "size"), [("simultaneous", None), ("optimistic", None), ("simultaneous", 0.0)])
def test_other_eigenvectors_of_a_game_that_is_not_normal_are_not_counted(scheme, size):
    """Momentum starts at rest, so that d_0 is no eigenvector: w^H s_n is mu^n all the same, and no projection is."""
    play = games.Players(optax.sgd(0.5, momentum=0.3), scheme=scheme)(games.QuadraticGame(LEAKING, (1, 1, 1)))
    start = play.init((jnp.zeros(1),) * 3)
    found = games.disturbed(play, start, steps=40, size=size)
    T = games.step_matrix(games.linear_game(0.5 * LEAKING, (1, 1, 1)), scheme, 1.0, momentum=0.3)
    mu = complex(found.predicted)
    assert np.min(np.abs(np.linalg.eigvals(T) - mu)) < 1e-9
    np.testing.assert_allclose(found.path, mu ** np.arange(41), atol=1e-9)
    assert complex(found.later) == pytest.approx(mu, rel=1e-9) and found.error < 1e-9


def test_the_coordinate_of_any_disturbance_is_that_of_the_left_eigenvector():
    """c_{n+1} = mu c_n of a start that is mostly another eigenvector, where a projection onto the plane is far off."""
    descent = games.SimultaneousDescent(games.QuadraticGame(LEAKING, (1, 1, 1)), 0.5)
    pair = leading_pair(descent, (jnp.zeros(1),) * 3, None, 0.0, 1)
    T, path = np.eye(3) - 0.5 * LEAKING, [np.array([0.1, 0.0, 1.0])]
    for _ in range(8):
        path.append(T @ path[-1])
    c = pair.coordinate(np.array(path))
    np.testing.assert_allclose(c[1:], pair.multiplier * c[:-1], rtol=1e-9)
    plane = np.stack([pair.direction.real, -pair.direction.imag], axis=1)
    flat = np.array(path) @ np.linalg.pinv(plane).T @ np.array([1, 1j])
    assert np.max(np.abs(flat[1:] / flat[:-1] - pair.multiplier)) > 0.3


def test_fresh_batches_turn_on_average_as_their_mean():
    """a x y with a drawn each step: E d_n = (E T)^n d_0; of a single pair of runs the turn is another."""

    def drawn(players, key=None):
        x, y = players
        a = 1.0 if key is None else 1 + 0.5 * jax.random.normal(key)
        return a * x * y, -a * x * y + 0.1 * y**2

    descent = games.SimultaneousDescent(drawn, 0.1)
    found = games.disturbed(descent, REST, key=jax.random.key(0), steps=30, draws=64)
    assert 0 < float(found.scatter) < 0.02
    assert found.rotation[1] == pytest.approx(found.rotation[0], abs=4 * float(found.scatter))
    assert abs(found.rotation[0] - 0.1) < 0.1 * 4 * 0.5 / 8  # of 64 draws of a
    assert np.isnan(float(games.disturbed(descent, REST, key=jax.random.key(0), steps=8, draws=1).scatter))


class Kinked(eqx.Module):
    """The slope of x is a staircase: H is 0 on each stair."""

    spacing: float = eqx.field(static=True)

    def __call__(self, players):
        x, y = players
        stairs = jnp.mean(jnp.abs(x[:, None] - self.spacing * (jnp.arange(400.0) - 199.5)[None, :]), axis=1)
        return jnp.sum(stairs + x * y), jnp.sum(-x * y)


def test_slopes_that_are_stairs_are_seen_over_a_distance():
    """Of stairs of spacing s and height 1/200 in 400 pieces, H is 0 by derivatives and 1/(200 s) over many of them."""
    spacing, h = 0.0005, 0.05
    players = (jnp.full(40, 1e-5), jnp.zeros(40))
    descent = games.SimultaneousDescent(Kinked(spacing), h)
    flat = games.advise(descent, players, size=0.0)
    seen = games.advise(descent, players, size=0.1)
    steep = 1 / (200 * spacing)
    exact = np.min(np.abs(np.linalg.eigvals(np.eye(2) - h * np.array([[steep, 1.0], [-1.0, 0.0]]))))
    assert np.min(np.abs(flat.multipliers)) == pytest.approx(np.sqrt(1 + h**2), rel=1e-6)
    # Over 2 x 0.1/sqrt(40) of each number are some 60 stairs: known to one of them.
    assert exact < 0.51 and np.min(np.abs(seen.multipliers)) == pytest.approx(exact, rel=1 / 30)


def test_a_smooth_game_is_the_same_over_a_distance():
    """Secants are H up to e^2, and their transpose is that of H."""
    matrix = np.random.default_rng(0).standard_normal((6, 6))
    matrix[:3, :3] += matrix[:3, :3].T
    matrix[3:, 3:] += matrix[3:, 3:].T
    game = games.QuadraticGame(matrix, (3, 3))
    players, u = (jnp.ones(3), jnp.zeros(3)), jnp.arange(6.0)
    exact, over = (linearised(game, players, None, e) for e in (0.0, 0.1))
    np.testing.assert_allclose(over.mv(u), exact.mv(u), rtol=1e-10)
    np.testing.assert_allclose(over.rmv(u), exact.rmv(u), rtol=1e-10)
    np.testing.assert_allclose(over.rmv(u), -matrix.T @ u, rtol=1e-10)


REFUSED = {
    "nothing that turns": (
        lambda: games.disturbed(
            games.SimultaneousDescent(games.QuadraticGame([[1.0, 0.0], [0.0, 1.0]]), 0.1), (jnp.zeros(1), jnp.zeros(1))
        ),
        "real multipliers only",
    ),
    "a negative size": (
        lambda: games.disturbed(games.SimultaneousDescent(games.DiracGAN(), 0.1), REST, size=-1.0), "size\n  got -1.0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
