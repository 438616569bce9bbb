"""Games against what can be worked out by hand: factors, invariants, eigenvalues, limits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

ETA = 0.3
PAIR = (jnp.asarray(1.0), jnp.asarray(0.5))
BILINEAR = sx.games.Bilinear(1.0)


class Curved(sx.games.Game):
    """A game without symmetry, of players of different shapes: what is right here is right by no accident."""

    def __call__(self, players, *, key=None):
        x, y = players
        first = jnp.sum(x**4) / 4 + y[0] * jnp.sin(x[0]) + x[1] * y[1] ** 2 * y[2]
        return first, jnp.sum((y - jnp.asarray([x[0], x[1], x[0] * x[1]])) ** 2) + jnp.cos(x[0] * y[2])


CURVED = Curved()
POINT = (jnp.array([0.7, -0.4]), jnp.array([0.3, 0.8, -0.6]))


def length(state):
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state)))


def assert_trees_close(first, second, **tolerance):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 1e-12, "atol": 1e-14} | tolerance))


@pytest.mark.parametrize(
    ("descent", "factor"),
    [
        (sx.games.SimultaneousDescent(BILINEAR, ETA), np.sqrt(1 + ETA**2)),
        (sx.games.Extragradient(BILINEAR, ETA), np.sqrt((1 - ETA**2) ** 2 + ETA**2)),
        (sx.games.ConsensusDescent(BILINEAR, ETA, 0.4), np.sqrt((1 - 0.4 * ETA) ** 2 + ETA**2)),
    ],
    ids=["simultaneous", "extragradient", "consensus"],
)
def test_factor_of_a_step_on_the_bilinear_game(descent, factor):
    path = sx.evolve(descent, PAIR, steps=50, save=length)
    np.testing.assert_allclose(path.states[1:] / path.states[:-1], factor, rtol=1e-12)


@pytest.mark.parametrize("eta", [0.1, 1.0, 1.9])
def test_alternating_conserves_its_ellipse_and_leaves_it_past_two(eta):
    def invariant(state):
        x, y = state
        return x**2 + y**2 - eta * x * y

    values = sx.evolve(sx.games.AlternatingDescent(BILINEAR, eta), PAIR, steps=1000, save=invariant).states
    np.testing.assert_allclose(values, values[0], rtol=1e-10)
    far = sx.evolve(sx.games.AlternatingDescent(BILINEAR, 2.1), PAIR, steps=200, save="last").final
    assert float(length(far)) > 1e6


@pytest.mark.parametrize("eta", [0.1, 0.4])
def test_optimistic_contracts_at_its_larger_root(eta):
    """With z = x + iy: z[n+1] = (1 + 2 i eta) z[n] - i eta z[n-1]."""
    rate = max(abs(np.roots([1.0, -(1 + 2j * eta), 1j * eta])))
    descent = sx.games.OptimisticDescent(BILINEAR, eta)
    path = sx.evolve(descent, descent.init(PAIR), steps=400, save=lambda s: length(s.players))
    np.testing.assert_allclose((path.states[-1] / path.states[200]) ** (1 / 200), rate, rtol=1e-6)
    assert rate < 1
    # Bounded up to 1/sqrt 3, as the docstring says: there the larger root lies on the unit circle.
    edge = 1 / np.sqrt(3)
    edged = sx.games.OptimisticDescent(BILINEAR, edge)
    path = sx.evolve(edged, edged.init(PAIR), steps=400, save=lambda s: length(s.players))
    np.testing.assert_allclose(path.states[-1], path.states[200], rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_eigenvalues_of_the_dirac_gan(gamma):
    jacobian = sx.linearize(sx.games.field(sx.games.DiracGAN(gamma)), (jnp.asarray(0.0), jnp.asarray(0.0))).as_matrix()
    root = np.sqrt(complex(gamma**2 / 4 - 1 / 4))
    expected = np.array([-gamma / 2 + root, -gamma / 2 - root])
    # A double root moves by the square root of rounding.
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(jacobian)), np.sort_complex(expected), atol=1e-7)


def test_dirac_gan_without_penalty_turns_for_ever():
    flow = sx.games.field(sx.games.DiracGAN(0.0))
    path = sx.evolve(flow, PAIR, times=jnp.linspace(0.0, 60.0, 61), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(path.states[0] ** 2 + path.states[1] ** 2, 1.25, rtol=1e-9)
    # It turns in the sense of the field: the generator moves against the discriminator's slope.
    assert float(path.states[0][1]) < 1.0 and float(path.states[1][1]) > 0.5
    still = sx.evolve(sx.games.field(sx.games.DiracGAN(1.0)), PAIR, times=(0.0, 60.0)).final
    assert float(length(still)) < 1e-6


def test_each_player_descends_on_its_own_loss_only():
    x, y = POINT
    v = sx.games.field(CURVED).velocity(0.0, POINT)
    np.testing.assert_allclose(v[0], -jax.grad(lambda x: CURVED((x, y))[0])(x), rtol=1e-14)
    np.testing.assert_allclose(v[1], -jax.grad(lambda y: CURVED((x, y))[1])(y), rtol=1e-14)


@pytest.mark.parametrize("kind", [sx.games.SimultaneousDescent, sx.games.AlternatingDescent, sx.games.Extragradient])
def test_limit_is_the_field_of_the_game(kind):
    limit = sx.limit(kind(CURVED, 0.1))
    assert_trees_close(limit.velocity(0.0, POINT), sx.games.field(CURVED).velocity(0.0, POINT))


def test_limit_of_consensus_is_the_consensus_field():
    expected = sx.games.ConsensusField(CURVED, 0.3)
    assert_trees_close(
        sx.limit(sx.games.ConsensusDescent(CURVED, 0.1, 0.3)).velocity(0.0, POINT), expected.velocity(0.0, POINT)
    )
    v = sx.games.field(CURVED).velocity(0.0, POINT)
    drawn = sx.linearize(sx.games.field(CURVED), POINT).transpose().mv(v)
    by_hand = jax.tree.map(lambda a, b: a - 0.3 * b, v, drawn)
    assert_trees_close(expected.velocity(0.0, POINT), by_hand)


def test_simultaneous_is_euler_and_extragradient_a_tableau():
    field = sx.games.field(CURVED)
    euler = sx.discretize(field, sx.Euler(), 0.1)
    assert_trees_close(sx.games.SimultaneousDescent(CURVED, 0.1).step(0, POINT), euler.step(0, POINT))
    tableau = sx.discretize(field, sx.RungeKutta(a=[[], [1.0]], b=[0.0, 1.0]), 0.1)
    assert_trees_close(sx.games.Extragradient(CURVED, 0.1).step(0, POINT), tableau.step(0, POINT))


def test_what_the_dynamics_add_to_the_field_is_known():
    """First correction on the bilinear game, J = dv a quarter turn: f2 = c2 - J^2 x/2, hence J^2 = -1 gives the growth."""
    for kind, rate in (
        (sx.games.SimultaneousDescent, 0.5),
        (sx.games.Extragradient, -0.5),
        (sx.games.AlternatingDescent, 0.0),
    ):
        flow = sx.modified(kind(BILINEAR, 0.1), corrections=1)
        v = flow.velocity(0.0, PAIR)
        growth = (PAIR[0] * v[0] + PAIR[1] * v[1]) / (PAIR[0] ** 2 + PAIR[1] ** 2)
        if kind is sx.games.AlternatingDescent:
            # Its ellipse: x^2 + y^2 - h x y is conserved by the modified flow to second order in h.
            slope = 2 * PAIR[0] * v[0] + 2 * PAIR[1] * v[1] - 0.1 * (v[0] * PAIR[1] + PAIR[0] * v[1])
            assert abs(float(slope)) < 0.1**2
        else:
            np.testing.assert_allclose(growth, rate * 0.1, rtol=1e-12)


def test_optimistic_has_no_limit_and_says_so():
    with pytest.raises(TypeError, match="limit"):
        sx.limit(sx.games.OptimisticDescent(BILINEAR, 0.1))


NAMESAKES = {
    "simultaneous": sx.games.SimultaneousDescent,
    "alternating": sx.games.AlternatingDescent,
    "extragradient": sx.games.Extragradient,
    "consensus": lambda game, h: sx.games.ConsensusDescent(game, h, 0.2),
    "optimistic": sx.games.OptimisticDescent,
}


@pytest.mark.parametrize("scheme", NAMESAKES)
def test_plain_descent_as_optimiser_is_the_namesake(scheme):
    plain = NAMESAKES[scheme](CURVED, 0.05)
    play = sx.games.Players(optax.sgd(0.05), scheme=scheme, strength=0.2)(CURVED)
    expected = sx.evolve(plain, plain.init(POINT), steps=20, save="last").final
    found = sx.evolve(play, play.init(POINT), steps=20, save="last").final.parameters
    assert_trees_close(found, expected.players if scheme == "optimistic" else expected, rtol=1e-10)


def test_each_player_has_its_own_optimiser():
    play = sx.games.Players(optax.adam(0.1), optax.sgd(0.2))(CURVED)
    final = sx.evolve(play, play.init(POINT), steps=3, save="last").final.parameters
    players, first, second = POINT, optax.adam(0.1), optax.sgd(0.2)
    states = first.init(players[0]), second.init(players[1])
    for _ in range(3):
        x, y = players
        g = jax.grad(lambda x, y=y: CURVED((x, y))[0])(x), jax.grad(lambda y, x=x: CURVED((x, y))[1])(y)
        with jax.numpy_dtype_promotion("standard"):
            a, s = first.update(g[0], states[0])
            b, t = second.update(g[1], states[1])
        players, states = (x + a, y + b), (s, t)
    assert_trees_close(final, players, rtol=1e-10)


def gaussian_losses(mean, scale, slope):
    """A generator z -> m + s z against D(x) = a x on data N(0, 1), by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    soft = lambda u: np.logaddexp(0.0, u)
    fake, real = slope * (mean + scale * nodes), slope * nodes
    real_part, fake_part = weights @ soft(-real), weights @ soft(fake)
    return weights @ soft(-fake), -fake_part, real_part + fake_part, weights @ fake, weights @ real


@pytest.mark.parametrize("loss", ["non_saturating", "saturating", "wasserstein"])
def test_losses_of_a_gan_on_gaussians(loss):
    class Generator(eqx.Module):
        mean: jax.Array
        scale: jax.Array

        def __call__(self, z):
            return self.mean + self.scale * z

    class Discriminator(eqx.Module):
        slope: jax.Array

        def __call__(self, x):
            return self.slope * x[0]

    mean, scale, slope, penalty = 0.7, 0.5, 0.9, 0.4
    networks = Generator(jnp.asarray(mean), jnp.asarray(scale)), Discriminator(jnp.asarray(slope))
    count = 400_000
    real = jax.random.normal(jax.random.key(1), (count, 1))
    own, other = sx.games.GAN(1, loss, penalty)(networks, real, key=jax.random.key(2))
    plain, saturating, logistic, fake, true = gaussian_losses(mean, scale, slope)
    expected = {
        "non_saturating": (plain, logistic),
        "saturating": (saturating, logistic),
        "wasserstein": (-fake, fake - true),
    }[loss]
    # Five standard errors of means of numbers of spread below one.
    np.testing.assert_allclose(own, expected[0], atol=5 / np.sqrt(count))
    np.testing.assert_allclose(other, expected[1] + penalty / 2 * slope**2, atol=5 * 2 / np.sqrt(count))


def test_a_gan_learns_a_gaussian_through_fit():
    key = jax.random.key(0)
    data = 2.0 + 0.5 * jax.random.normal(key, (2000, 1), jnp.float32)
    networks = (
        eqx.nn.Linear(1, 1, key=key, dtype=jnp.float32),
        eqx.nn.MLP(1, "scalar", 16, 1, jnp.tanh, key=key, dtype=jnp.float32),
    )
    gan = sx.games.GAN(latent_size=1, penalty=1.0)
    run = sx.fit(
        gan,
        sx.games.Players(optax.adam(5e-3), scheme="alternating"),
        data,
        initial=networks,
        steps=3000,
        batch_size=128,
        key=key,
    )
    fake = gan.sample(run.model[0], jax.random.key(3), 4000)
    # The discriminator sees 2,000 points; the fit is not exact, but mean and spread are learned to a few per cent.
    np.testing.assert_allclose(fake.mean(), 2.0, atol=0.1)
    np.testing.assert_allclose(fake.std(), 0.5, atol=0.1)
    assert set(run.metrics) == {"loss"} and run.losses.shape == (101, 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(run.model, eqx.is_array))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: sx.games.SimultaneousDescent(BILINEAR, 0.1).init(jnp.ones(2)), TypeError, "tuple of at least two"),
        (
            lambda: sx.games.SimultaneousDescent(lambda p: (p[0],), 0.1).step(0, PAIR),
            ValueError,
            "1 of shapes.*2 scalars",
        ),
        (
            lambda: sx.games.AlternatingDescent(lambda p: p[0] * p[1], 0.1).step(0, PAIR),
            ValueError,
            "1 of shapes.*2 scalars",
        ),
        (lambda: sx.games.GAN(2)(PAIR, jnp.ones((3, 1))), ValueError, "key"),
        (lambda: sx.games.Players(optax.sgd(0.1), scheme="turns"), ValueError, "'turns'.*alternating"),
        (lambda: sx.games.Players(), TypeError, "optax"),
        (lambda: sx.games.Players(*[optax.sgd(0.1)] * 3)(BILINEAR).init(PAIR), ValueError, "got 3, expected 2"),
        (lambda: sx.games.GAN(2, "hinges"), ValueError, "'hinges'.*Did you mean 'hinge'"),
    ],
)
def test_misuse_is_told(call, kind, words):
    with pytest.raises(kind, match=f"(?s){words}"):
        call()
