"""Numbers of games and of their players that are out of range are refused in words; a game that breaks says so."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import games

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


NETWORKS = (
    eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0), dtype=jnp.float64),
    eqx.nn.MLP(2, "scalar", 4, 1, key=jax.random.key(1), dtype=jnp.float64),
)
KEY = jax.random.key(3)
POINTS = jax.random.normal(jax.random.key(2), (8, 2))


def losses(gan=None, networks=NETWORKS, data=POINTS):
    return (games.GAN(2) if gan is None else gan)(networks, data, key=jax.random.key(3))


def at(game):
    return games.classify(game, (jnp.array(1.0), jnp.array(1.0)))


def constrained(below):
    return games.Lagrangian(lambda x: x**2, below=below).multipliers(jnp.array(1.0))


MISUSED = {
    "a loss that is a word": (lambda: at(lambda p: ("a", "b")), TypeError, r"losses\[0\]\n  got a str"),
    "losses of whole numbers": (lambda: at(lambda p: (1, 2)), TypeError, "losses\n  got numbers of int"),
    "losses of complex numbers": (
        lambda: at(lambda p: (p[0].astype(complex), p[1])), TypeError, "numbers of complex128, float64"
    ),
    "no loss": (lambda: at(lambda p: None), (TypeError, ValueError), "losses"),
    "a player without parameters": (
        lambda: games.Players(optax.sgd(0.1))(games.Bilinear(1.0)).init((None, jnp.array(1.0))),
        ValueError, r"players\[0\]\n  got no parameters",
    ),
    "a player of whole numbers": (
        lambda: games.SimultaneousDescent(games.Bilinear(1.0), 0.1).step(0, (1, jnp.array(1.0))),
        ValueError, r"players\[0\]\n  got no parameters",
    ),
    "a latent size that does not fit": (
        lambda: losses(games.GAN(5)), TypeError, r"generator\n  got .*\(5,\), expected a network of one z, shape \(5,\)"
    ),
    "a discriminator of other data": (
        lambda: losses(networks=(NETWORKS[0], eqx.nn.MLP(4, "scalar", 4, 1, key=jax.random.key(1)))),
        TypeError, r"GAN: discriminator\n.*expected a network of one example, shape \(2,\)",
    ),
    "a discriminator that returns a vector": (
        lambda: losses(networks=(NETWORKS[0], NETWORKS[0])), ValueError, r"got shape \(8, 2\).*one number for each"
    ),
    "data of whole numbers": (lambda: losses(data=jnp.ones((8, 2), int)), ValueError, "GAN: data\n  got int64"),
    "a third network of another form": (
        lambda: losses(networks=(*NETWORKS, NETWORKS[1])), ValueError, r"networks\[2\]\n  got another form"
    ),
    "labels out of range": (
        lambda: losses(games.GAN(2, classes=3), data=(POINTS, jnp.full(8, 7))), ValueError, "labels.*got 7"
    ),
    "a constraint that says whether it holds": (lambda: constrained(lambda x: x < 1), TypeError, "a truth value"),
    "a constraint that is a dictionary": (lambda: constrained(lambda x: {"a": x}), TypeError, "below\n  got a dict"),
    "a constraint that returns nothing": (lambda: constrained(lambda x: None), TypeError, "below\n  got a NoneType"),
    "a constraint without numbers": (lambda: constrained(lambda x: jnp.zeros(0)), ValueError, r"got shape \(0,\)"),
    "advice at a broken state": (
        lambda: games.advise(games.SimultaneousDescent(games.DiracGAN(), 0.1), (jnp.array(jnp.nan), jnp.array(1.0))),
        ValueError, "state\n  got a value that is not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_refused_with_what_to_do(name):
    call, kind, words = MISUSED[name]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()


def test_labels_out_of_range_are_refused_before_training_and_never_trained_on():
    """`fit` looks at all labels once; of a batch that is traced, losses and slopes are NaN."""
    gan, wrong = games.GAN(2, classes=3), jnp.arange(8)
    with pytest.raises(ValueError, match="(?s)GAN: labels.*got 3"):
        sx.fit(gan, games.Players(optax.sgd(0.1)), (POINTS, wrong), initial=NETWORKS, steps=2, key=jax.random.key(0))

    @jax.jit
    def slope(mean, labels):
        critic = lambda x, label: jnp.sum(x)
        return jax.grad(lambda m: gan((lambda z, label: z + m, critic), (POINTS, labels), key=KEY)[0])(mean)

    assert np.isnan(slope(0.5, wrong)) and np.isfinite(slope(0.5, wrong % 3))


def test_what_is_not_finite_is_no_optimum():
    game = games.Lagrangian(lambda x: x**2, equal=lambda x: x * jnp.log(x))
    told = game.optimality((jnp.array(0.0), game.multipliers(jnp.array(0.0))))
    assert "not finite" in told.cautions[0]
