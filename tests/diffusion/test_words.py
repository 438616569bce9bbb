"""Words to pictures: captions, what composed pictures show, bounds and contrasts in closed form, and refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

import separatrix as sx
from separatrix import diffusion as D
from separatrix._errors import DataError, DataMissing
from separatrix.data import png_bytes
from separatrix.diffusion.words.attending import Attention
from separatrix.diffusion.words.autoencoder import into_channels, into_places, normal_kl
from separatrix.diffusion.words.captions import combinations
from separatrix.diffusion.words.latent import untrained_pair
from separatrix.diffusion.words.towers import contrast
from separatrix.training.recipes import carry_out, model_in, recipe_from, recipe_of, results_of, train
from separatrix.training.run import OtherModel

DIGITS = D.NOUNS["digits"]
CLOTHES = D.composed_vocabulary(D.NOUNS["fashion-mnist"])


def woken(network, key):
    """The network with no weight at zero."""
    leaves, tree = jax.tree.flatten(eqx.filter(network, eqx.is_inexact_array))
    keys = jax.random.split(key, len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, noisy), network)


def test_a_caption_is_read_back_word_by_word():
    for row in combinations(10)[::7]:
        text = D.caption_of(D.NOUNS["fashion-mnist"], row)
        tokens = CLOTHES.tokens(text.upper())[0]
        assert CLOTHES.text(tokens) == text.replace(",", "") and tokens[0] == 1
    np.testing.assert_array_equal(CLOTHES.absent, [1, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two small sneekers", "unknown word 'sneekers', expected .*\n  Did you mean 'sneakers'"),
        ("", "''\n  got no word, expected some of one, two, small"),
        ("?!", "got no word"),
        ("one bag, dark, bright", "got 'dark' and 'bright', expected one of them at most"),
        ("one bags", "got 'one' and 'bags'"),
        ("two small bag", "got 'two' and 'bag'"),
        ("one bag, in the left", "got 'in' and 'left'"),
        ("a bag", "unknown word 'a'"),
        ("dark dark bag", "got 'dark' twice"),
    ],
)
def test_captions_that_cannot_be_drawn_are_answered(text, words):
    with pytest.raises(ValueError, match=words):
        CLOTHES.tokens(text)


def test_captions_of_ones_own_make_a_vocabulary():
    words = D.Vocabulary.of(["a red bag", "Bag, blue"])
    assert words.words == ("a", "bag", "blue", "red") and words.length == 4
    with pytest.raises(ValueError, match="4 words, expected at most 3"):
        words.tokens("a red blue bag")
    with pytest.raises(ValueError, match="caption 1\n  got no word"):
        D.Vocabulary.of(["bag", "..."])
    with pytest.raises(ValueError, match="words\n  got a word twice"):
        D.Vocabulary(("bag", "bag"), 3)


def test_composed_pictures_show_what_their_captions_say():
    """Read by other means: separate patches, centre of mass, brightest level, height."""
    solid = np.ones((3, 8, 8), np.float32)
    made = D.compose_pictures(solid, [0, 1, 2], 200, nouns=("a", "b", "c"), seed=3)
    for picture, (_, number, size, light, place) in zip(made.pictures, made.codes, strict=True):
        column = ndimage.center_of_mass(picture)[1] + 0.5
        assert abs(column - 32 * (1 + place) / 4) <= 1.5
        assert (picture.max() > 0.6) == bool(light) and picture.max() > 0.2
        wide = np.ptp(np.flatnonzero(picture.max(axis=0))) + 1
        assert number or wide in ((15, 16) if size else (10, 11))  # two may stand one beside the other by two
        assert (picture[16 - 2 : 16 + 2].max(axis=1) == 0).any() == bool(number) or size == 1
        tall = np.count_nonzero(picture.max(axis=1))
        assert abs(tall - (15.5 if size else 10.5) * (1 + number)) <= 1
    assert made.captions[0] == D.caption_of(("a", "b", "c"), made.codes[0])


def test_what_is_withheld_is_not_shown_and_each_pair_of_values_is():
    kept = D.withheld(10)
    digits = sx.load("digits")
    made = D.compose_pictures(digits.inputs, digits.targets, 3000, nouns=DIGITS, side=16, without=kept)
    shown = {tuple(row) for row in made.codes.tolist()}
    assert not shown & {tuple(row) for row in kept.tolist()} and len(shown) == 200
    assert np.ptp(np.bincount(kept[:, 0])) == 0  # as many of each noun
    for first in range(5):
        for second in range(first):
            pairs = {(row[first], row[second]) for row in shown}
            assert len(pairs) == len({row[first] for row in shown}) * len({row[second] for row in shown})
    only = D.compose_pictures(digits.inputs, digits.targets, 100, nouns=DIGITS, side=16, only=kept)
    assert {tuple(row) for row in only.codes.tolist()} <= {tuple(row) for row in kept.tolist()}


def test_composing_refuses_what_has_no_captions():
    items = np.zeros((2, 8, 8))
    for given, words in (
        ((items, None, 2), "labels\n  got pictures without classes"),
        ((items, [0], 2), r"labels\n  got shape \(1,\), expected \(2,\)"),
        ((items, [0, 12], 2), "labels\n  got 12"),
        ((items, [0, 1], 2), "got no picture of 'pullover'"),
        ((items[0], [0, 1], 2), r"items\n  got shape \(8, 8\)"),
        ((items * np.nan, [0, 1], 2), "items\n  got nan"),
        ((items, [0, 1], 0), "count\n  got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            D.compose_pictures(*given)
    for more, words in (
        ({"side": 30}, "side\n  got 30, expected a multiple of 8"),
        ({"only": [[0, 5, 0, 0, 0]]}, r"got \[0, 5, 0, 0, 0\], expected codes of 2 nouns"),
        ({"only": [[0, 0, 0, 0, 0]], "without": [[0, 0, 0, 0, 0]]}, "got only and without"),
        ({"without": combinations(2)}, "got none left"),
    ):
        with pytest.raises(ValueError, match=words):
            D.compose_pictures(items, [0, 1], 2, nouns=("a", "b"), **more)


class Linear(eqx.Module):
    """The posterior of x = W z + s eps, in closed form, as an autoencoder."""

    W: jax.Array
    s: float

    def draw(self, x, key):
        inverse = jnp.linalg.inv(self.W.T @ self.W + self.s**2 * jnp.eye(self.W.shape[1]))
        mean, covariance = inverse @ self.W.T @ x, self.s**2 * inverse
        values = jnp.diag(covariance)  # W has orthogonal columns: the posterior has independent coordinates
        return mean + jnp.sqrt(values) * jax.random.normal(key, mean.shape), normal_kl(mean, jnp.log(values))

    def decode(self, z):
        return self.W @ z


def test_the_bound_is_the_likelihood_where_the_posterior_is_exact():
    """Probabilistic PCA: with the exact posterior the bound is -log p(x) for every x."""
    W = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 2)))[0] * np.array([2.0, 0.7])
    s, x = 0.5, np.random.default_rng(1).standard_normal(5)
    truth = -multivariate_normal(np.zeros(5), W @ W.T + s**2 * np.eye(5)).logpdf(x) / 5
    count = 20_000
    terms = np.asarray(
        D.EvidenceBound(s).terms(Linear(jnp.asarray(W), s), jnp.tile(jnp.asarray(x), (count, 1)), key=jax.random.key(0))
    )
    assert abs(terms.mean() - truth) < 4 * terms.std() / count**0.5
    assert terms.std() / count**0.5 < 0.01


def test_the_divergence_is_the_integral():
    m, v = 0.7, 0.3
    q = norm(m, v**0.5)
    truth = quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), -8, 8)[0]
    assert abs(float(normal_kl(jnp.array([m]), jnp.log(jnp.array([v])))) - truth) < 1e-9


def test_squares_become_channels_and_back():
    x = np.arange(4 * 8 * 3).reshape(4, 8, 3)
    found = np.asarray(into_channels(jnp.asarray(x), 2))
    for i, j in ((0, 0), (1, 3)):
        np.testing.assert_array_equal(found[i, j], x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel())
    np.testing.assert_array_equal(into_places(jnp.asarray(found), 2), x)


def test_attention_is_that_of_jax_and_does_not_see_what_fills_up():
    layer = Attention(8, 6, key=jax.random.key(0))
    layer = eqx.tree_at(lambda a: a.outside, layer, jnp.eye(8, dtype=jnp.float32))
    x, rows = (jax.random.normal(jax.random.key(n), s, jnp.float32) for n, s in ((1, (5, 8)), (2, (7, 6))))
    present = np.array([True] * 4 + [False] * 3)
    size = lambda a: a / np.sqrt(np.mean(np.asarray(a) ** 2, -1, keepdims=True) + 1e-5)
    q, (k, v) = size(x) @ layer.asks, jnp.split(size(rows) @ layer.offers, 2, axis=1)
    q, k, v = (a.reshape(1, -1, 4, 2) for a in (q, k, v))
    truth = jax.nn.dot_product_attention(q, k, v, mask=jnp.asarray(present)[None, None, None]).reshape(5, 8)
    np.testing.assert_allclose(layer(x, rows, present), truth, atol=1e-5)
    np.testing.assert_allclose(layer(x, rows[:4]), truth, atol=1e-5)


def test_one_network_serves_with_words_and_without():
    keys = jax.random.split(jax.random.key(0), 3)
    network = woken(D.AttendingNet((2, 2, 3), 8, 1, D.CaptionReader(9, 4, 8, key=keys[0]), key=keys[1]), keys[2])
    model = D.Preconditioned(network, D.EDM(), 1.0)
    z = jax.random.normal(keys[2], (2, 2, 2, 3), jnp.float32)
    tokens, none = jnp.array([[1, 5, 0, 0], [1, 3, 4, 0]]), jnp.array([[1, 0, 0, 0]] * 2)

    @eqx.filter_jit
    def found(model):
        guided = [D.class_guided(D.EDM(), model, tokens, kind="clean", scale=s).clean(0.7, z) for s in (0.0, 1.0, 3.0)]
        plain = [jax.vmap(lambda z, c: model(jnp.float32(0.7), z, c))(z, given) for given in (tokens, none)]
        # In training: with all captions dropped the loss is that of no captions.
        losses = [D.EDMMatching(D.EDM(), 1.0, drop=drop).terms(model, (z, given), key=keys[0])
                  for drop, given in ((1.0, tokens), (0.0, none), (0.0, tokens))]  # fmt: skip
        return guided, plain, losses, model.network(jnp.float32(0.1), z[0], jnp.array([1, 9, 0, 0]))

    (at_none, at_one, at_three), (wanted, plain), losses, strange = found(model)
    np.testing.assert_allclose(at_none, plain, atol=1e-5)
    np.testing.assert_allclose(at_one, wanted, atol=1e-5)
    np.testing.assert_allclose(at_three, 3 * wanted - 2 * plain, atol=1e-4)
    assert float(jnp.abs(wanted - plain).max()) > 1e-3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert float(jnp.abs(losses[2] - losses[1]).max()) > 1e-4
    assert bool(jnp.isnan(strange).all())  # a token that is none
    with pytest.raises(ValueError, match=r"labels\n  got shape \(2, 3\), expected \(B, 4\)"):
        D.class_guided(D.EDM(), model, tokens[:, :3], kind="clean", scale=1.0)
    with pytest.raises(ValueError, match="width\n  got 6, expected a multiple of 4"):
        D.AttendingNet((2, 2, 3), 6, 1, D.VectorReader(3, 6, key=keys[0]), key=keys[1])


@pytest.mark.slow
def test_the_autoencoder_learns_from_its_bound_alone():
    pair = woken(D.LatentPair(
        D.Autoencoder((8, 8), 2, 4, 1, key=jax.random.key(0)),
        D.Preconditioned(
            D.AttendingNet((2, 2, 2), 4, 1, D.CaptionReader(5, 3, 4, key=jax.random.key(1)), key=jax.random.key(2)),
            D.EDM(), 1.0,
        ),
    ), jax.random.key(3))  # fmt: skip
    batch = jax.random.normal(jax.random.key(4), (4, 8, 8), jnp.float32), jnp.array([[1, 2, 0]] * 4)
    key = jax.random.key(5)
    whole = eqx.filter_grad(lambda p: D.LatentMatching()(p, batch, key=key))(pair)
    bound = eqx.filter_grad(lambda a: D.EvidenceBound()(a, batch[0], key=jax.random.split(key)[0]))(pair.autoencoder)
    for first, second in zip(jax.tree.leaves(whole.autoencoder), jax.tree.leaves(bound), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(whole.denoiser.network.reader.words[2]).max()) > 0


def test_contrast_in_closed_form():
    """Orthonormal pairs: ln(1 + (B - 1) e^{-c}); in twos that are the same, half of each target is elsewhere: + ln 2."""
    basis, c = jnp.eye(6, dtype=jnp.float64), 3.0
    assert abs(float(contrast(basis, basis, c)) - np.log(1 + 5 * np.exp(-c))) < 1e-12
    twice = jnp.concatenate([basis[:3], basis[:3]])
    same = jnp.tile(jnp.eye(3, dtype=bool), (2, 2))
    truth = np.log(2 * np.exp(c) + 4) - c
    assert abs(float(contrast(twice, twice, c, same)) - truth) < 1e-12


def test_captions_and_pictures_that_cannot_be_used_are_refused_before_anything_is_compiled():
    pictures, captions = np.random.default_rng(0).random((12, 8, 8, 3)), ["dark, red", "bright blue", "blue"] * 4
    form = {"shape": (8, 8, 3), "width": 8, "depth": 1, "channels": 4, "coder": 8}
    words, one = D.Vocabulary.of(captions), jnp.float32(1)
    model = D.LatentDiffusion(untrained_pair(form, words, jax.random.key(0)), one, one, words, form)
    for call, words in (
        (lambda: model.sample("green", jax.random.key(0), 1), "unknown word 'green'"),
        (lambda: model.sample(["red", "blue"], jax.random.key(0), 3), "captions\n  got 2, expected 1 or 3"),
        (lambda: model.sample("red", jax.random.key(0), 0), "count\n  got 0"),
        (lambda: model.sample("red", jax.random.key(0), 1, steps=0), "steps\n  got 0"),
        (lambda: model.sample("red", jax.random.key(0), 1, scale=np.inf), "scale\n  got inf"),
        (
            lambda: D.LatentDiffusion.fit(pictures, captions[:3], key=jax.random.key(0)),
            "captions\n  got 3, expected 12",
        ),
        (lambda: D.LatentDiffusion.fit(pictures, None, key=jax.random.key(0)), "captions\n  got none"),
        (lambda: D.LatentDiffusion.fit(pictures[:, :7], captions, key=jax.random.key(0)), "got 7 by 8 pixels"),
        (lambda: D.Unclip.fit(pictures[:, :4], captions, key=jax.random.key(0)), "got 4 by 8 pixels"),
        (lambda: D.LatentDiffusion.fit(pictures * np.nan, captions, key=jax.random.key(0)), "pictures\n  got nan"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.slow
def test_a_model_of_ones_own_captions_is_saved_and_draws_the_same(tmp_path):
    pictures = np.random.default_rng(0).random((12, 8, 8, 3))
    captions = ["dark, red", "bright blue", "blue"] * 4
    small = {"width": 8, "depth": 1, "steps": 3, "batch_size": 4}
    model = D.LatentDiffusion.fit(pictures, captions, key=jax.random.key(0), **small)
    model.save(tmp_path / "m.safetensors")
    other = D.LatentDiffusion.load(tmp_path / "m.safetensors")
    drawn = [
        m.sample(["red", "blue", "dark blue"], jax.random.key(1), 3, steps=1, batch_size=2) for m in (model, other)
    ]
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].shape == (3, 8, 8, 3) and other.vocabulary == model.vocabulary
    sx.save(tmp_path / "other.safetensors", {"weights": np.ones(3)})
    with pytest.raises(ValueError, match="got another model, expected a model of captions"):
        D.LatentDiffusion.load(tmp_path / "other.safetensors")
    wrong = D.LatentDiffusion(model.pair, model.center, model.spread, model.vocabulary, model.form | {"width": 12})
    wrong.save(tmp_path / "wrong.safetensors")
    with pytest.raises(OtherModel):
        D.LatentDiffusion.load(tmp_path / "wrong.safetensors")


SMALL = {"steps": 12, "examples": 40, "side": 16, "width": 8, "depth": 1, "batch_size": 8, "watch": 0}


@pytest.mark.slow
def test_the_recipe_composes_learns_and_draws(tmp_path):
    run = train(recipe_from("words", SMALL | {"data": "digits", "judge_steps": 3}), tmp_path / "run")
    recipe, model = recipe_of(run), model_in(run)
    assert recipe.nouns == DIGITS and recipe.shape == (16, 16)
    found = results_of(run)["test"]
    assert set(found) == {"bound", "denoising_loss", "captions_right", "judge_right"}
    asked = [("caption", "two small 7s, dark, on the left"), ("count", "3"), ("steps", "1"), ("batch_size", "2")]
    drawn = [carry_out(recipe, "sample", model, words=asked)["pictures"] for _ in range(2)]
    assert drawn[0].shape == (3, 16, 16)
    np.testing.assert_array_equal(*drawn)
    for words, said in (
        ([("caption", "two sevens")], "unknown word 'sevens'"),
        ([("caption", "")], "got no word"),
        ([("steps", "0")], "steps\n  got 0"),
        ([("caption", "one 7"), ("scale", "inf")], "scale"),
    ):
        with pytest.raises(ValueError, match=said):
            carry_out(recipe, "sample", model, words=words)


def captioned(folder, column="text", side=8):
    folder.mkdir()
    rng, rows = np.random.default_rng(0), [f"file,{column}"]
    for n in range(20):
        (folder / f"{n}.png").write_bytes(png_bytes(rng.integers(0, 255, (side, side), np.uint8)))
        rows.append(f"{n}.png,{('a dark square', 'a light square')[n % 2]}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


@pytest.mark.slow
def test_a_table_of_pictures_and_captions_is_learned(tmp_path):
    spec = SMALL | {"data": str(captioned(tmp_path / "a")), "captions": "text", "steps": 2}
    run = train(recipe_from("words", spec), tmp_path / "run")
    assert recipe_of(run).words == ("a", "dark", "light", "square")
    drawn = recipe_of(run).sample(model_in(run), caption="dark square", count=2, steps=1)["pictures"]
    assert drawn.shape == (2, 8, 8)


def no_classes(folder):
    folder.mkdir()
    for n in range(20):
        (folder / f"{n}.png").write_bytes(png_bytes(np.zeros((8, 8), np.uint8)))
    return folder


@pytest.mark.parametrize(
    ("make", "more", "words"),
    [
        (lambda p: no_classes(p / "a"), {}, "pictures without captions or classes"),
        (lambda p: captioned(p / "a"), {}, "a table without captions"),
        (lambda p: captioned(p / "a"), {"captions": "txet"}, "Did you mean 'text'"),
        (
            lambda p: captioned(p / "a", side=9),
            {"captions": "text"},
            "got 9 by 9 pixels",
        ),
        (lambda p: p / "nowhere", {}, "nothing there"),
        (lambda p: "digits", {"captions": "text"}, "captions\n  got a column"),
        (lambda p: "digits", {"examples": 0}, "examples\n  got 0"),
        (lambda p: "digits", {"side": 12}, "side\n  got 12"),
        (lambda p: "digits", {"unsaid": 2.0}, "unsaid\n  got 2.0"),
    ],
)
def test_data_without_captions_and_wrong_numbers_are_refused_before_training(tmp_path, make, more, words):
    with pytest.raises((ValueError, DataError, DataMissing), match=words):
        recipe_from("words", SMALL | {"data": str(make(tmp_path))} | more).settled()


@pytest.mark.slow
def test_unclip_learns_its_parts_apart_and_draws_from_them():
    """Its loss is the sum of four, each with a gradient for its own part alone; what it draws is of the pictures' kind."""
    digits = sx.load("digits")
    made = D.compose_pictures(digits.inputs, digits.targets, 24, nouns=DIGITS, side=16)
    words = D.composed_vocabulary(DIGITS)
    small = {"width": 8, "depth": 1, "steps": 3, "batch_size": 8, "embedding": 6}
    model = D.Unclip.fit(made.pictures, made.captions, key=jax.random.key(0), vocabulary=words, **small)
    drawn = [model.sample(made.captions[:3], jax.random.key(1), 3, steps=1, batch_size=2) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].shape == (3, 16, 16) and float(drawn[0].min()) >= 0 and float(drawn[0].max()) <= 1
    batch = jnp.asarray(made.pictures[:4]), jnp.asarray(words.tokens(made.captions[:4]))
    parts = woken(model.parts, jax.random.key(2))
    found = eqx.filter_jit(eqx.filter_jacrev(lambda p: D.UnclipMatching().terms(p, batch, key=jax.random.key(3))))(
        parts
    )
    own = (found.towers, found.prior.network, found.decoder.network, found.upsampler)
    moved = [any(float(jnp.abs(leaf[i]).max()) > 0 for leaf in jax.tree.leaves(part)) for part in own for i in range(4)]
    assert moved == [i == j for i in range(4) for j in range(4)]
    assert model.chosen(made.pictures[:5], made.captions[:7]).max() < 7
