"""Numbers of games and of their players that are out of range are refused in words; a game that breaks says so."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

GAME = sx.games.Bilinear(1.0)
NAN = float("nan")
STEPS = {
    name: getattr(sx.games, name)
    for name in ("SimultaneousDescent", "AlternatingDescent", "Extragradient", "OptimisticDescent")
}
REFUSED = {
    **{f"{name} of 0": (lambda kind=kind: kind(GAME, 0.0), "step_size\n  got 0.0") for name, kind in STEPS.items()},
    **{f"{name} of NaN": (lambda kind=kind: kind(GAME, NAN), "step_size\n  got nan") for name, kind in STEPS.items()},
    "a negative step": (lambda: sx.games.ConsensusDescent(GAME, -0.1, 0.1), "step_size\n  got -0.1"),
    "a negative strength": (lambda: sx.games.ConsensusDescent(GAME, 0.1, -0.1), "strength\n  got -0.1"),
    "players of negative strength": (
        lambda: sx.games.Players(optax.sgd(0.1), scheme="consensus", strength=-1.0), "strength\n  got -1.0"
    ),
    "a matrix with NaN": (lambda: sx.games.Bilinear([[1.0, NAN]]), r"matrix\n  got nan"),
    "a negative penalty": (lambda: sx.games.DiracGAN(-1.0), "penalty\n  got -1.0"),
    "a penalty of a GAN": (lambda: sx.games.GAN(2, penalty=NAN), "penalty\n  got nan"),
    "no noise": (lambda: sx.games.GAN(0), "latent_size\n  got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_out_of_range_are_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3


def test_a_step_size_may_be_traced():
    """On the bilinear game a simultaneous step lengthens by 1 + h^2, squared: derivative 2 h |x|^2."""

    def length(h):
        x, y = sx.games.SimultaneousDescent(GAME, h).step(0, (jnp.array(1.0), jnp.array(2.0)))
        return x**2 + y**2

    assert jax.grad(length)(0.3).item() == pytest.approx(2 * 0.3 * 5.0, rel=1e-12)


def test_a_game_that_breaks_has_no_result():
    """Simultaneous steps of 1e100 on x y multiply by 1e100: past the numbers at the fourth, and x y at the third."""
    path = sx.evolve(sx.games.SimultaneousDescent(GAME, 1e100), (jnp.array(1.0), jnp.array(1.0)), steps=6)
    assert np.isnan(path.final[0]) and np.isnan(path.final[1]) and path.outcome == "non_finite"
    with pytest.warns(RuntimeWarning, match="at step 3;"):
        found = sx.fit(GAME, sx.games.Players(optax.sgd(1e100)), initial=(jnp.array(1.0), jnp.array(1.0)), steps=6)
    assert np.isfinite(found.model[0])
