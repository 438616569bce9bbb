"""Latents of an autoencoder that is trained first: how they are drawn, and that it stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix import diffusion as D
from separatrix.diffusion.words.judge import with_noise
from separatrix.diffusion.words.latent import untrained_pair


def test_latents_are_drawn_with_their_own_variance():
    """F = 0 has EDM's loss 1 on every law of second moment 1: here of mean 0.6 and variance 0.64."""
    count, shape = 4_000, (4, 4, 1)
    means = jnp.full((count, *shape), 0.6, jnp.float32)
    logs = jnp.full((count, *shape), np.log(0.64), jnp.float32)
    words = D.Vocabulary(("dark", "bag"), 3)
    pair = untrained_pair(
        {"shape": (16, 16), "width": 4, "depth": 1, "channels": 1, "coder": 4}, words, jax.random.key(0)
    )
    told = jnp.tile(jnp.asarray(words.absent), (count, 1))
    terms = jax.jit(lambda key: D.EncodedMatching().terms(pair.denoiser, ((means, logs), told), key=key))(
        jax.random.key(0)
    )
    error = float(terms.std()) / count**0.5
    assert error < 0.05
    assert abs(float(terms.mean()) - 1.0) < 4 * error


@pytest.mark.slow
def test_an_autoencoder_of_its_own_stays_as_it_is_and_is_saved(tmp_path):
    pictures = np.random.default_rng(0).random((12, 8, 8))
    captions = ["dark", "bright", "dark bright"] * 4
    coder = D.Autoencoder((8, 8), 3, 12, depth=1, key=jax.random.key(0))  # of no default size
    small = {"width": 8, "depth": 1, "steps": 3, "batch_size": 4, "autoencoder": coder}
    model = D.LatentDiffusion.fit(pictures, captions, key=jax.random.key(1), **small)
    for first, second in zip(jax.tree.leaves(coder), jax.tree.leaves(model.pair.autoencoder), strict=True):
        np.testing.assert_array_equal(first, second)
    assert model.pair.denoiser.network.shape == coder.latent == (2, 2, 3)
    model.save(tmp_path / "m.safetensors")
    other = D.LatentDiffusion.load(tmp_path / "m.safetensors")
    drawn = [m.sample("dark", jax.random.key(2), 3, steps=2, batch_size=2) for m in (model, other)]
    np.testing.assert_array_equal(*drawn)


def test_how_bright_a_picture_is_passes_the_norms():
    """Without biases norms take sizes away, so that m(2 x) - m(x) = A x and D(2 z) - D(z) = B z, linear maps alone."""
    coder, keys = D.Autoencoder((8, 8), 3, 8, key=jax.random.key(0)), jax.random.split(jax.random.key(1))
    x, z = (100 * jax.random.normal(key, shape) for key, shape in zip(keys, ((8, 8), (2, 2, 3)), strict=True))
    squares = x.reshape(2, 4, 2, 4).transpose(0, 2, 1, 3).reshape(2, 2, 16)
    passed = squares @ coder.past.weight[0, 0].astype(float)[:, :3]
    np.testing.assert_allclose(coder.encode(2 * x)[0] - coder.encode(x)[0], passed, atol=1e-4)
    back = (z @ coder.back.weight[0, 0].astype(float)).reshape(2, 2, 4, 4).transpose(0, 2, 1, 3).reshape(8, 8)
    np.testing.assert_allclose(coder.decode(2 * z) - coder.decode(z), back, atol=1e-4)
    assert float(jnp.abs(passed).max()) > 1 and float(jnp.abs(back).max()) > 1


def test_pictures_are_disturbed_by_a_share_of_the_noise():
    """E (s U n)^2 = s^2/3, and all pixels of a picture have one U."""
    gaps = np.asarray(with_noise(jnp.zeros((4000, 8, 8)), 0.3, jax.random.key(0)))
    squares = (gaps**2).mean(axis=(1, 2))
    assert abs(squares.mean() - 0.03) < 4 * squares.std() / 4000**0.5
    assert abs(np.mean(squares**2) / 0.3**4 - (1 / 5) * (1 + 2 / 64)) < 0.02


def test_an_autoencoder_of_other_pictures_is_refused():
    coder = D.Autoencoder((8, 8, 3), 3, 4, key=jax.random.key(0))
    words = r"autoencoder\n  got one of pictures \(8, 8, 3\), expected one of pictures \(8, 8\)"
    with pytest.raises(ValueError, match=words):
        D.LatentDiffusion.fit(np.zeros((2, 8, 8)), ["a", "b"], key=jax.random.key(0), autoencoder=coder)
    for call, said in (
        (lambda: D.train_autoencoder(np.zeros((2, 7, 8)), key=jax.random.key(0)), "got 7 by 8 pixels"),
        (lambda: D.train_autoencoder(np.zeros((2, 8, 8)), key=jax.random.key(0), steps=0), "steps\n  got 0"),
        (lambda: D.train_autoencoder(np.zeros((2, 8, 8)), key=jax.random.key(0), noise=0.0), "noise\n  got 0"),
        (lambda: D.train_autoencoder(np.full((2, 8, 8), np.nan), key=jax.random.key(0)), "pictures"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


class Shuffled:
    """A model that draws dark and bright pictures in turn, whatever it is asked for."""

    def sample(self, captions, key, count, **settings):
        return np.stack([np.full((8, 8), (0.2, 0.8)[n % 2]) for n in range(count)])


@pytest.mark.slow
def test_of_several_drawn_the_one_is_kept_that_is_as_its_caption_says():
    rng = np.random.default_rng(0)
    levels = np.tile([0.2, 0.8], 32)
    pictures = np.clip(levels[:, None, None] + 0.05 * rng.standard_normal((64, 8, 8)), 0, 1)
    captions = ["dark", "bright"] * 32
    settings = {"steps": 60, "batch_size": 16, "size": 4, "width": 4}
    towers = D.CaptionTowers.fit(pictures, captions, key=jax.random.key(0), **settings)
    np.testing.assert_array_equal(towers.chosen(pictures, ["dark", "bright"]), np.arange(64) % 2)
    best = D.best_drawn(Shuffled(), towers, ["bright", "dark", "dark"], jax.random.key(1), of=4)
    np.testing.assert_array_equal(best[:, 0, 0], [0.8, 0.2, 0.2])
    u = np.asarray(jax.vmap(towers.towers.picture)((pictures[:2].astype(np.float32) - towers.center) / towers.spread))
    v = np.asarray(jax.vmap(towers.towers.caption)(towers.vocabulary.tokens(captions[:2])))
    np.testing.assert_allclose(towers.similarity(pictures[:2], captions[:2]), np.sum(u * v, axis=1), atol=1e-6)


def test_a_model_to_go_on_from_must_be_of_the_same_pictures_and_latents():
    form = {"shape": (8, 8), "width": 4, "depth": 1, "channels": 3, "coder": 4}
    words, one = D.Vocabulary(("dark", "bright"), 3), jnp.float32(1)
    model = D.LatentDiffusion(untrained_pair(form, words, jax.random.key(0)), one, one, words, form)
    other, few = D.Autoencoder((8, 8), 2, 4, key=jax.random.key(0)), (["dark", "bright"],)
    for pictures, more, said in (
        (np.zeros((2, 4, 8)), {}, r"initial\n  got one of pictures \(8, 8\), expected one of pictures \(4, 8\)"),
        (np.zeros((2, 8, 8)), {"autoencoder": other}, r"autoencoder\n  got latents \(2, 2, 2\), expected \(2, 2, 3\)"),
    ):
        with pytest.raises(ValueError, match=said):
            D.LatentDiffusion.fit(pictures, *few, key=jax.random.key(0), initial=model, **more)


@pytest.mark.slow
def test_a_model_goes_on_from_its_weights():
    """With a rate near 0 it stays where it was, in scale and words too."""
    form = {"shape": (8, 8), "width": 4, "depth": 1, "channels": 3, "coder": 4}
    words, one = D.Vocabulary(("dark", "bright"), 3), jnp.float32(0.25)
    model = D.LatentDiffusion(untrained_pair(form, words, jax.random.key(0)), one, one, words, form)
    pictures = np.random.default_rng(0).random((4, 8, 8))
    more = {"steps": 2, "batch_size": 2, "learning_rate": 1e-12}
    found = D.LatentDiffusion.fit(pictures, ["dark", "bright"] * 2, key=jax.random.key(1), initial=model, **more)
    assert found.form == form and found.vocabulary is words and float(found.spread) == 0.25
    for first, second in zip(jax.tree.leaves(model.pair), jax.tree.leaves(found.pair), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-7)


def test_no_other_weights_come_with_the_package():
    with pytest.raises(ValueError, match="pretrained: name\n  got 'fashion'"):
        D.pretrained("fashion")
