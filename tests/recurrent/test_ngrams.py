"""Kneser-Ney against its definition in dictionaries, and on a text; processes whose entropy is known."""

from collections import Counter, defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import recurrent
from separatrix._errors import DataMissing

RANDOM = np.random.default_rng(5)


def by_definition(train, context, symbol, order, symbols, discount):
    """p(symbol | context) by dictionaries, from the equations of Chen & Goodman."""
    grams = {m: [tuple(train[i : i + m]) for i in range(len(train) - m + 1)] for m in range(1, order + 1)}
    p = 1 / symbols
    for m in range(1, order + 1):
        if m == order:
            counts = Counter(grams[m])
        else:
            before = defaultdict(set)
            for gram in set(grams[m + 1]):
                before[gram[1:]].add(gram[0])
            counts = Counter({gram: len(firsts) for gram, firsts in before.items()})
            counts.setdefault(grams[m][0], 1)
        heard = tuple(context[len(context) - m + 1 :])
        row = [counts[(*heard, s)] for s in range(symbols)]
        total, kinds = sum(row), sum(c > 0 for c in row)
        if total:
            p = (max(row[symbol] - discount, 0) + discount * kinds * p) / total
    return p


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_are_those_of_the_definition_and_add_up_to_one(order):
    train = RANDOM.integers(0, 3, 60)
    tests = [np.append(RANDOM.integers(0, 4, 5), last) for last in range(4)]
    tests = [np.append(tests[0][:-1], last) for last in range(4)]
    bits = [recurrent.kneser_ney_bits(train, test, order, symbols=4) for test in tests]
    whole = np.concatenate([train, tests[0]])
    for place in range(6):
        at = len(train) + place
        truth = by_definition(train, whole[:at], whole[at], order, 4, 0.75)
        assert 2 ** -bits[0][place] == pytest.approx(truth, rel=1e-12)
    assert sum(2 ** -row[-1] for row in bits) == pytest.approx(1.0, rel=1e-12)


def test_bits_of_a_book():
    text = sx.load("genesis").inputs
    alphabet, codes = np.unique(text, return_inverse=True)
    cut = len(codes) * 9 // 10
    for order, bits in ((5, 1.747), (8, 1.661)):
        found = recurrent.kneser_ney_bits(codes[:cut], codes[cut:], order, symbols=len(alphabet))
        assert found.mean() == pytest.approx(bits, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("order", "bits"), [(5, 1.899), (8, 1.772)])
def test_bits_of_the_king_james_bible(order, bits):
    try:
        text = sx.load("king-james").inputs
    except DataMissing as missing:
        pytest.skip(str(missing))
    alphabet, codes = np.unique(text, return_inverse=True)
    cut = len(codes) * 9 // 10
    found = recurrent.kneser_ney_bits(codes[:cut], codes[cut : cut + 100_000], order, symbols=len(alphabet))
    assert found.mean() == pytest.approx(bits, abs=5e-4)


class TestProcesses:
    even = recurrent.even_process()

    def test_entropies_of_the_even_process(self):
        assert self.even.entropy_rate == pytest.approx(2 / 3, rel=1e-14)
        for length, bits in ((3, 0.7924813), (5, 0.7295740), (8, 0.6926065)):
            assert self.even.best_of_ngrams(length) == pytest.approx(bits, abs=5e-8)
        np.testing.assert_allclose(self.even.stationary, [2 / 3, 1 / 3], rtol=1e-13)

    def test_runs_of_ones_are_even_and_n_grams_pay_what_they_must(self):
        symbols = np.asarray(self.even.sample(60_000, key=jax.random.key(0)))
        runs = np.diff(np.flatnonzero(symbols == 0)) - 1
        assert (runs % 2 == 0).all() and runs.max() >= 8
        # Of a zero after a zero: probability 1/2.
        assert np.mean(runs == 0) == pytest.approx(0.5, abs=4 * 0.5 / len(runs) ** 0.5)
        bits = recurrent.kneser_ney_bits(symbols[:30_000], symbols[30_000:], 5, symbols=2)
        # The standard error by batches of 300 symbols; what is lost on learned frequencies is of order 16/30,000.
        spread = bits.reshape(100, 300).mean(axis=1).std(ddof=1) / 10
        assert bits.mean() == pytest.approx(0.7295740, abs=4 * spread + 1e-3)

    def test_a_markov_chain_has_the_entropy_of_its_rows(self):
        flip = 0.2
        table = jnp.array([[[1 - flip, 0.0], [flip, 0.0]], [[0.0, flip], [0.0, 1 - flip]]])
        chain = recurrent.HiddenMarkovProcess(table)
        h = -(flip * np.log2(flip) + (1 - flip) * np.log2(1 - flip))
        assert chain.entropy_rate == pytest.approx(h, rel=1e-13)
        assert chain.best_of_ngrams(2) == pytest.approx(h, rel=1e-12) and chain.best_of_ngrams(1) == pytest.approx(1.0)


REFUSED = {
    "short": (
        lambda: recurrent.kneser_ney_bits([0, 1], [0, 1, 0], 3, symbols=2), r"shape \(2,\), expected \(T,\) with T >= 3"
    ),
    "symbol": (lambda: recurrent.kneser_ney_bits([0, 1, 2], [0], 1, symbols=2), r"got 2 at index \[2\]"),
    "one": (lambda: recurrent.kneser_ney_bits([0, 0], [0], 1, symbols=1), "symbols\n  got 1"),
    "discount": (lambda: recurrent.kneser_ney_bits([0, 1], [0], 1, symbols=2, discount=1.0), "discount\n  got 1.0"),
    "rows": (lambda: recurrent.HiddenMarkovProcess(jnp.ones((2, 1, 1))), "equal to 1 for each i"),
    "rate": (
        lambda: recurrent.HiddenMarkovProcess(jnp.full((1, 2, 2), 0.5)).entropy_rate, "one state for each state and symbol"
    ),
    "length": (lambda: recurrent.even_process().best_of_ngrams(17), "got 17, expected 1 to 16"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.slow
def test_a_gru_of_16_units_learns_the_even_process_to_its_entropy_rate():
    import equinox as eqx
    import optax

    process = recurrent.even_process()
    symbols = np.asarray(process.sample(420_000, key=jax.random.key(0)))
    rows, test = symbols[:320_000].reshape(-1, 64), symbols[320_000:].reshape(-1, 1000)
    cell = eqx.nn.GRUCell(2, 16, key=jax.random.key(1), dtype=jnp.float32)
    model = recurrent.LanguageModel(cell, key=jax.random.key(2))
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 3000, 0.01)))
    found = sx.fit(
        recurrent.bits_per_symbol, adam, rows, initial=model, steps=3000, batch_size=64, key=jax.random.key(3)
    )
    each = jax.jit(jax.vmap(lambda row: recurrent.bits_per_symbol(found.model, row[None])))(jnp.asarray(test))
    # What it pays above what the process itself pays on these symbols; the latter's own mean varies by 0.0015.
    own = []
    for row in test:
        odd, bits = None, []
        for symbol in row:
            bits.append(None if odd is None else 0.0 if odd else 1.0)
            odd = False if symbol == 0 else None if odd is None else not odd
        own.append(np.mean([b for b in bits[1:] if b is not None]))
    paid, error = float(np.mean(each)), float(np.std(each) / len(each) ** 0.5)
    assert abs(np.mean(own) - 2 / 3) < 4 * error + 0.001
    # At the start of a row nothing tells the parity: even the best predictor pays the excess entropy, log2 3 - 2/3 bit.
    assert paid - float(np.mean(own)) < 0.003 + (np.log2(3) - 2 / 3) / 1000
    assert paid < 0.6926 - 0.01  # below every 8-gram
