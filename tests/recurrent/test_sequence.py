"""Sequence models against their definitions, and training against what the data hold."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

KEY = jax.random.key(0)


@pytest.mark.parametrize("kind", ["Elman", "GRU", "LSTM"])
def test_a_classifier_reads_the_last_state_of_the_recursion(kind):
    build = {"Elman": sx.recurrent.Elman, "GRU": eqx.nn.GRUCell, "LSTM": eqx.nn.LSTMCell}[kind]
    model = sx.recurrent.SequenceClassifier(build(3, 5, key=KEY, dtype=jnp.float64), 4, key=jax.random.key(1))
    inputs = jax.random.normal(KEY, (6, 3))
    state = (jnp.zeros(5), jnp.zeros(5)) if kind == "LSTM" else jnp.zeros(5)
    for row in inputs:
        state = model.cell(row, state)
    hidden = state[0] if kind == "LSTM" else state
    np.testing.assert_allclose(model(inputs), model.readout.weight @ hidden + model.readout.bias, rtol=1e-12)


def language_model(symbols=5, size=7):
    return sx.recurrent.LanguageModel(eqx.nn.GRUCell(symbols, size, key=KEY, dtype=jnp.float64), key=jax.random.key(1))


def test_a_language_model_sees_the_past_and_not_the_future():
    model = language_model()
    jacobian = jax.jacobian(lambda first: sx.evolve(sx.from_cell(model.cell, first), model.initial).states[1:])(
        model.encode(jnp.array([0, 3, 1, 4]))
    )
    reach = jnp.max(jnp.abs(jacobian), axis=(1, 3))
    assert bool(jnp.all((reach > 0) == jnp.tril(jnp.ones((4, 4), bool))))
    one, two = model(jnp.array([0, 3, 1, 4])), model(jnp.array([0, 3, 2, 4]))
    np.testing.assert_allclose(one[:2], two[:2], rtol=1e-14)
    assert float(jnp.min(jnp.max(jnp.abs(one - two)[2:], axis=1))) > 1e-4


def test_probabilities_of_all_texts_sum_to_one():
    # sum over s1, s2 of p(s1 | s0) p(s2 | s0, s1) = 1: row n of the logits is for symbol n + 1.
    model = language_model(symbols=3)
    texts = jnp.array([[1, i, j] for i in range(3) for j in range(3)])
    bits = jnp.array([sx.recurrent.bits_per_symbol(model, text[None]) for text in texts])
    assert float(jnp.sum(2.0 ** (-2 * bits))) == pytest.approx(1.0, abs=1e-12)


def test_bits_of_what_follows_when_a_part_was_heard():
    # -log2 p(s2, s3 | s0, s1) by the chain rule: all predictions less the first.
    model, row = language_model(), jnp.array([[0, 3, 1, 4], [2, 2, 0, 1]])
    whole, first = (sx.recurrent.bits_per_symbol(model, part) for part in (row, row[:, :2]))
    heard = sx.recurrent.bits_per_symbol(model, row, heard=1)
    assert float(heard) == pytest.approx(float(3 * whole - first) / 2, rel=1e-12)
    with pytest.raises(ValueError, match="heard"):
        sx.recurrent.bits_per_symbol(model, row, heard=3)


def test_written_text_has_the_distribution_of_the_model():
    model, prompt, temperature = language_model(symbols=3), jnp.array([1, 0]), 0.5
    keys = jax.random.split(jax.random.key(4), 4000)
    texts = jax.jit(jax.vmap(lambda key: sx.recurrent.generate(model, prompt, 2, key=key, temperature=temperature)))(
        keys
    )
    counts = np.zeros((3, 3))
    np.add.at(counts, tuple(np.asarray(texts).T), 1)
    expected = np.zeros((3, 3))
    for i in range(3):
        logits = model(jnp.concatenate([prompt, jnp.array([i])])) / temperature
        p = jax.nn.softmax(logits, axis=-1)
        expected[i] = p[1, i] * p[2] * 4000
    # Chi-squared with 8 degrees of freedom: 26.1 at one in a thousand.
    assert np.sum((counts - expected) ** 2 / expected) < 26.1


def test_without_a_key_the_likeliest_symbol_is_written():
    model, prompt = language_model(), jnp.array([2])
    written, text = sx.recurrent.generate(model, prompt, 6), list(np.asarray(prompt))
    for _ in range(6):
        text.append(int(jnp.argmax(model(jnp.asarray(text))[-1])))
    assert written.tolist() == text[1:]


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match=r"got shape \(0,\), expected \(P,\), P >= 1"):
        sx.recurrent.generate(language_model(), jnp.zeros(0, int), 5)


def test_training_learns_a_grammar_to_its_entropy():
    # Second order: a repeated symbol is followed by another one for sure, else the next is fair among both. A model
    # without memory of the state before pays 0.918 bits: with state "run of one" (p = 2/3) or "run of two" (1/3),
    # the entropy rate is 2/3 bit, and H(s[n+1] | s[n]) = H(1/3) = 0.918.
    rng, text = np.random.default_rng(0), [0, 1]
    for _ in range(20_000):
        text.append(1 - text[-1] if text[-1] == text[-2] else int(rng.integers(2)))
    windows = np.array(text[: len(text) // 41 * 41]).reshape(-1, 41)
    model = sx.recurrent.LanguageModel(sx.recurrent.Elman(2, 8, key=KEY), key=jax.random.key(1))
    run = sx.fit(
        sx.recurrent.bits_per_symbol,
        optax.adam(0.02),
        windows,
        initial=model,
        steps=300,
        batch_size=32,
        key=KEY,
        every=300,
    )
    bits = float(sx.recurrent.bits_per_symbol(run.model, windows))
    # The first symbols of a window are without their past: about 1/40 bit; and a sampling error below 0.01.
    assert 2 / 3 - 0.01 < bits < 2 / 3 + 0.06


def test_the_likeliest_symbols_alone_are_drawn_and_as_often_as_they_are_likely():
    """A model of one state: each symbol is an independent draw from softmax(b) over the best three."""
    model = jax.tree.map(jnp.zeros_like, language_model())
    bias = jnp.array([0.3, 2.0, 1.0, -1.0, 1.5])
    model = eqx.tree_at(lambda m: m.readout.bias, model, bias)
    drawn = np.asarray(sx.recurrent.generate(model, jnp.array([0]), 4000, key=KEY, top=3))
    shares = np.bincount(drawn, minlength=5) / 4000
    truth = np.where(np.isin(np.arange(5), [1, 2, 4]), np.exp(bias), 0.0)
    np.testing.assert_allclose(shares, truth / truth.sum(), atol=4 * 0.5 / 4000**0.5)
    assert shares[0] == shares[3] == 0.0
    best = sx.recurrent.generate(model, jnp.array([0]), 5, key=KEY, top=1)
    assert best.tolist() == [1] * 5
    with pytest.raises(ValueError, match="top\n  got 6, expected 1 to 5"):
        sx.recurrent.generate(model, jnp.array([0]), 5, key=KEY, top=6)
