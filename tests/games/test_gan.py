"""Losses of GANs by quadrature and by the Dirac-GAN, conditions, whole batches, and what does not fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import games


class Shift(eqx.Module):
    """z -> m + s z, by label if there is one."""

    mean: jax.Array
    scale: jax.Array

    def __call__(self, z, label=None):
        return (self.mean if label is None else self.mean[label]) + self.scale * z


class Slope(eqx.Module):
    """D(x) = a x."""

    slope: jax.Array

    def __call__(self, x, label=None):
        return self.slope * x[0]


def quadrature(count=60):
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


@pytest.mark.parametrize("loss", ["least_squares", "hinge", "relativistic"])
def test_losses_on_gaussians(loss):
    mean, scale, slope, first, second = 0.7, 0.5, 0.9, 0.4, 0.3
    nodes, weights = quadrature()
    fake, real = slope * (mean + scale * nodes), slope * nodes
    soft = lambda u: np.logaddexp(0.0, u)
    pairs = real[:, None] - fake[None, :]
    both = weights[:, None] * weights[None, :]
    # The hinge is not smooth: its means are by the normal law itself, in closed form.
    expected = {
        "least_squares": (weights @ (fake - 1) ** 2 / 2, weights @ (real - 1) ** 2 / 2 + weights @ fake**2 / 2),
        "hinge": (-slope * mean, hinged(1.0, slope) + hinged(1 + slope * mean, slope * scale)),
        "relativistic": (np.sum(both * soft(pairs)), np.sum(both * soft(-pairs))),
    }[loss]
    networks = Shift(jnp.asarray(mean), jnp.asarray(scale)), Slope(jnp.asarray(slope))
    count = 400_000
    data = jax.random.normal(jax.random.key(1), (count, 1))
    gan = games.GAN(1, loss, first, fake_penalty=second)
    own, other = gan(networks, data, key=jax.random.key(2))
    # Five standard errors of means of numbers of spread below two.
    np.testing.assert_allclose(own, expected[0], atol=10 / np.sqrt(count))
    np.testing.assert_allclose(other, expected[1] + (first + second) / 2 * slope**2, atol=10 / np.sqrt(count))


def hinged(mean, deviation):
    """E max(0, m + s z)."""
    from scipy.stats import norm

    return mean * norm.cdf(mean / deviation) + deviation * norm.pdf(mean / deviation)


@pytest.mark.parametrize("loss", ["saturating", "non_saturating", "wasserstein", "relativistic"])
def test_a_gan_of_points_is_the_dirac_gan(loss):
    """All data at 0, all samples at theta, D = psi x: fields alike but for the sign in which D is said."""
    theta, psi, first, second, third = 0.6, 0.4, 0.3, 0.2, 0.7
    weights = {"fake_penalty": second, "gradient_penalty": third}
    gan = games.GAN(1, loss, first, **weights)
    game = games.DiracGAN(first, loss=loss, **weights)
    data, key = jnp.zeros((7, 1)), jax.random.key(0)

    def of_gan(players):
        networks = Shift(players[0], jnp.asarray(0.0)), Slope(players[1])
        return gan(networks, data, key=key)

    # In the Dirac-GAN D is large on what is generated; in a GAN on data: psi changes its sign.
    found = games.field(games.as_game(of_gan)).velocity(0.0, (jnp.asarray(theta), jnp.asarray(-psi)))
    expected = games.field(game).velocity(0.0, (jnp.asarray(theta), jnp.asarray(psi)))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], -expected[1], rtol=1e-12)


def test_a_conditional_gan_sees_the_labels_of_its_batch():
    means = jnp.array([-2.0, 0.0, 3.0])
    gan = games.GAN(1, "wasserstein", None, classes=3)
    networks = Shift(means, jnp.asarray(0.0)), Slope(jnp.asarray(1.0))
    labels = jnp.array([0, 0, 2, 2, 2, 1])
    own, other = gan(networks, (jnp.zeros((6, 1)), labels), key=jax.random.key(0))
    # E D(y) is the mean of the labels' means, and D(x) is 0.
    assert float(own) == pytest.approx(-5 / 6, rel=1e-12) and float(other) == pytest.approx(5 / 6, rel=1e-12)
    drawn = gan.sample(networks[0], jax.random.key(1), 5, labels=2)
    np.testing.assert_allclose(drawn, 3.0)
    np.testing.assert_allclose(gan.sample(networks[0], jax.random.key(1), 4)[:, 0], [-2.0, 0.0, 3.0, -2.0])


def test_a_discriminator_of_whole_batches_tells_what_each_example_cannot():
    # D = the deviation of the batch, for each: data of deviation 1, samples of deviation 0.
    def spread(x):
        return jnp.full(x.shape[0], jnp.std(x))

    gan = games.GAN(1, "wasserstein", None, whole_batch=True)
    data = jnp.array([[-1.0], [1.0]])
    own, other = gan((Shift(jnp.asarray(5.0), jnp.asarray(0.0)), spread), data, key=jax.random.key(0))
    assert (float(own), float(other)) == (0.0, -1.0)


def test_spectral_normalisation_divides_by_the_largest_singular_value():
    weight = jax.random.normal(jax.random.key(0), (5, 3))
    plain = eqx.tree_at(lambda layer: layer.weight, eqx.nn.Linear(3, 5, key=jax.random.key(1)), weight)
    layer = games.SpectralLinear(plain, 60)
    x = jnp.array([0.3, -0.2, 0.9])
    size = jnp.linalg.norm(weight, 2)
    np.testing.assert_allclose(layer(x), weight @ x / size + plain.bias, rtol=1e-10)
    # Its slope in the weights is that of the exact quotient: the iteration is differentiated through.
    of_layer = jax.grad(lambda w: jnp.sum(jnp.sin(eqx.tree_at(lambda m: m.layer.weight, layer, w)(x))))(weight)
    exact = jax.grad(lambda w: jnp.sum(jnp.sin(w @ x / jnp.linalg.svd(w, compute_uv=False)[0] + plain.bias)))(weight)
    np.testing.assert_allclose(of_layer, exact, atol=1e-8)
    with pytest.raises(ValueError, match="no linear layer"):
        games.spectral_normalised(Slope(jnp.asarray(1.0)))


def test_a_third_network_is_the_running_average_of_the_generator():
    """a <- d a + (1 - d) theta, of the parameters after the step where the third moves last."""
    data, key = jnp.zeros((16, 1)), jax.random.key(0)
    start = Shift(jnp.asarray(1.0), jnp.asarray(0.0))
    networks = start, Slope(jnp.asarray(0.5)), start
    gan = games.GAN(1, penalty=None)
    play = games.Players(optax.sgd(0.1), optax.sgd(0.1), optax.sgd(0.25), scheme="alternating")
    found = [sx.fit(gan, play, data, initial=networks, batch_size=4, key=key, steps=n).model for n in (1, 2)]
    (first, early), (second, late) = [(float(model[0].mean), float(model[2].mean)) for model in found]
    assert early == pytest.approx(0.75 * 1.0 + 0.25 * first, rel=1e-12)
    assert late == pytest.approx(0.75 * early + 0.25 * second, rel=1e-12) and second != first


@pytest.mark.slow
def test_networks_of_flax_descend_as_the_same_networks_of_equinox():
    """One linear layer each, with the same weights: the step of plain descent is the same."""
    from flax import nnx

    class Layer(nnx.Module):
        def __init__(self, size_in, size_out, seed):
            self.layer = nnx.Linear(size_in, size_out, rngs=nnx.Rngs(seed), param_dtype=jnp.float64)

        def __call__(self, x):
            return jnp.squeeze(self.layer(x))

    own = Layer(2, 3, 0), Layer(3, 1, 1)
    same = [eqx.nn.Linear(2, 3, key=KEY, dtype=jnp.float64), eqx.nn.Linear(3, "scalar", key=KEY, dtype=jnp.float64)]
    same = [
        eqx.tree_at(lambda a: (a.weight, a.bias), layer, (net.layer.kernel[...].T, net.layer.bias[...]))
        for layer, net in zip(same, own, strict=True)
    ]
    data, gan = jax.random.normal(KEY, (20, 3)), games.GAN(2, penalty=0.3)
    ends = [
        sx.fit(gan, games.Players(optax.sgd(0.1)), data, initial=nets, steps=5, batch_size=8, key=KEY).model
        for nets in (own, tuple(same))
    ]
    for net, layer in zip(*ends, strict=True):
        np.testing.assert_allclose(net.layer.kernel[...].T, layer.weight, rtol=1e-12)
        np.testing.assert_allclose(net.layer.bias[...], layer.bias, rtol=1e-12, atol=1e-14)


PAIR = (Shift(jnp.asarray(0.0), jnp.asarray(1.0)), Slope(jnp.asarray(1.0)))
DATA, KEY = jnp.zeros((4, 1)), jax.random.key(0)
REFUSED = {
    "a vector of logits": (
        lambda: games.GAN(1)((PAIR[0], lambda x: jnp.stack([x[0], x[0]])), DATA, key=KEY), ValueError,
        r"discriminator\n  got shape \(4, 2\).*scalar",
    ),
    "samples of another shape": (
        lambda: games.GAN(1)((lambda z: jnp.concatenate([z, z]), PAIR[1]), DATA, key=KEY), ValueError,
        r"generator\n  got shape \(2,\), expected \(1,\)",
    ),
    "one network": (lambda: games.GAN(1)((PAIR[0],), DATA, key=KEY), TypeError, "two networks, or three"),
    "labels that nobody asked for": (lambda: games.GAN(1)(PAIR, (DATA, DATA), key=KEY), ValueError, "classes="),
    "no labels": (lambda: games.GAN(1, classes=2)(PAIR, DATA, key=KEY), ValueError, r"\(examples, labels\)"),
    "one class": (lambda: games.GAN(1, classes=1), ValueError, "classes\n  got 1"),
    "a label that is none": (
        lambda: games.GAN(1, classes=2).sample(PAIR[0], KEY, 3, labels=2), ValueError, "integers from 0 to 1"
    ),
    "labels of a plain GAN": (lambda: games.GAN(1).sample(PAIR[0], KEY, 3, labels=2), ValueError, "without classes"),
    "an unknown loss": (lambda: games.GAN(1, "wassersten"), ValueError, "Did you mean 'wasserstein'"),
    "a negative R2": (lambda: games.GAN(1, fake_penalty=-1.0), ValueError, "fake_penalty\n  got -1.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()
