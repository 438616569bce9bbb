"""The turn of a small disturbance, predicted and measured, against closed forms."""

import cmath

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from separatrix import games

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
    # Moments start at rest: of 0.4^n a millionth is left after 15 steps. Else the field is linear up to powers of 1e-5.
    assert complex(found.measured) == pytest.approx(exact, rel=1e-8 if momentum is None else 1e-5)
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


REFUSED = {
    "nothing that turns": (
        lambda: games.disturbed(
            games.SimultaneousDescent(games.QuadraticGame([[1.0, 0.0], [0.0, 1.0]]), 0.1), (jnp.zeros(1), jnp.zeros(1))
        ),
        "real multipliers only",
    ),
    "no size": (
        lambda: games.disturbed(games.SimultaneousDescent(games.DiracGAN(), 0.1), REST, size=0.0), "size\n  got 0.0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()
