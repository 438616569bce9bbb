r"""Recipe `language`: what is the next character, or word, of a text?

    p(s[n+1] | s[0..n]) = softmax(R x[n+1]),     loss = mean of -log2 p   (bits a symbol),     perplexity = 2^bits

With `unit = "word"` the symbols are the most frequent words and signs of the training part, and one for all others.

The text is cut into rows of `length` predictions each, which are shuffled; the state starts anew in each row. The first
part of the text trains, then comes the part for validation, and the last one tests.
"""

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import DataError, explain
from separatrix.data import load, read_text
from separatrix.data.dataset import digest
from separatrix.data.loading import named_set
from separatrix.recurrent.cells import Elman
from separatrix.recurrent.ngrams import kneser_ney_bits
from separatrix.recurrent.sequence import LanguageModel, bits_per_symbol, generate
from separatrix.systems.cells import from_cell
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.results import mean, number
from separatrix.training.recipes.training import (
    length_of,
    require_counts,
    require_same_data,
    validated_by,
)

CELLS = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell, "elman": Elman}
_SUFFIXES = (".txt", ".text", ".md", ".gz")
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
_OTHER = "<unk>"  # every word outside the vocabulary
_PROBED = 64  # characters whose gradients `diagnose` follows


@register_recipe("language")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Language(Training):
    """Learn a text character by character or word by word, and write on."""

    epochs: int = 20
    """How often every row is used, if `steps` is not given."""
    batch_size: int = 32
    """Rows a step; all, where there are fewer."""
    learning_rate: float = 3e-3
    """Of Adam, after clipping the gradient to norm 1."""
    cell: Literal["gru", "lstm", "elman"] = "gru"
    """The recurrent cell."""
    width: int = 128
    """Units of the cell."""
    length: int = 64
    """Predictions a row: how far back a gradient goes."""
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Parts of the text for training, validation and test, in this order."""
    unit: Literal["character", "word"] = "character"
    """What a symbol is."""
    words: int = 2000
    """Of words: how many of the most frequent are told apart; all others are one."""
    vocabulary: tuple[str, ...] = ()
    """Settled from the text: its characters or words."""

    def settled(self) -> "Language":
        """The recipe with the characters of the text in its fields."""
        require_counts(self)
        if self.words < 1:
            raise ValueError(explain("language: words", self.words, "at least 1", "Take 2000."))
        codes, vocabulary = self._text()
        return dataclasses.replace(self, vocabulary=vocabulary, digest=digest({"inputs": codes}))

    def task(self) -> Task:
        """Bits per character on rows of the training part."""
        train, validation, _ = self._rows()
        size = min(self.batch_size, len(train))
        held = validated_by(self, jnp.asarray(validation) if len(validation) else None)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(self.learning_rate))
        options = {"batch_size": size} | length_of(self) | held
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        return Task(bits_per_symbol, initial, jnp.asarray(train), optimizer, options)

    def model(self, key: Any) -> LanguageModel:
        """A new model."""
        keys, count = jax.random.split(key), len(self.vocabulary)
        cell = CELLS[self.cell](count, self.width, dtype=jnp.float32, key=keys[0])
        return LanguageModel(cell, key=keys[1])

    def results(self, model: Any) -> dict[str, Any]:
        """Bits a symbol on the last part of the text and the perplexity, beside those of frequencies and of n-grams."""
        train, _, test = self._rows()
        found: dict[str, Any] = {}
        if len(test):
            each = eqx.filter_jit(jax.vmap(lambda row: bits_per_symbol(model, row[None])))
            pieces = [np.asarray(each(jnp.asarray(test[at : at + 256]))) for at in range(0, len(test), 256)]
            bits = mean(np.concatenate(pieces), "the error over rows")
            perplexity = None if bits["value"] is None else 2 ** bits["value"]
            error = None if perplexity is None or bits["error"] is None else perplexity * math.log(2) * bits["error"]
            found = {
                f"bits_per_{self.unit}": bits,
                **self._in_context(model, test),
                "perplexity": number(
                    perplexity or math.nan, error, bits["of"], f"2^bits: how many {self.unit}s it hesitates between"
                ),
                "bits_of_frequencies": _frequencies(train, test, len(self.vocabulary)),
                "bits_of_n_grams": _n_grams(train, test, len(self.vocabulary)),
            }
        text = self.sample(model, length=400, seed=self.seed)
        return {"test": found, "pictures": [{"kind": "text", "text": text}]}

    def _in_context(self, model: Any, rows: Any) -> dict[str, Any]:
        """Bits of each row but the first if the row before it was read, as n-grams read on; a row alone begins blind."""
        if len(rows) < 2:
            return {}
        pairs = np.concatenate([rows[:-1, :-1], rows[1:]], axis=1)
        each = eqx.filter_jit(jax.vmap(lambda row: bits_per_symbol(model, row[None], heard=self.length)))
        pieces = [np.asarray(each(jnp.asarray(pairs[at : at + 256]))) for at in range(0, len(pairs), 256)]
        bits = mean(np.concatenate(pieces), f"after the {self.length} {self.unit}s before; the error over rows")
        return {f"bits_per_{self.unit}_in_context": bits}

    def sample(
        self,
        model: Any,
        *,
        length: int = 200,
        prompt: str | None = None,
        temperature: float = 1.0,
        top: int | None = None,
        seed: int = 0,
    ) -> str:
        """A text that the model writes, with `top` drawn among the so many likeliest characters alone.

        **Raises:** `ValueError` for a prompt with a character that the model does not know.
        """
        if prompt is not None:
            start = self._symbols(prompt)
        else:
            start = [next((c for c in "\n ." if c in self.vocabulary), self.vocabulary[0])]
        place = {symbol: code for code, symbol in enumerate(self.vocabulary)}
        strange = next((symbol for symbol in start if symbol not in place), None)
        if strange is not None or not start:
            got = repr(strange) if start else "an empty text"
            raise ValueError(explain("sample: prompt", got, f"{self.unit}s of the training text", "Begin otherwise."))
        codes = jnp.asarray([place[symbol] for symbol in start], jnp.int32)
        drawn = generate(model, codes, length, key=jax.random.key(seed), temperature=temperature, top=top)
        written = [self.vocabulary[int(code)] for code in drawn]
        return (prompt or "") + ("".join(written) if self.unit == "character" else _joined(written, prompt))

    def diagnose(self, model: Any) -> tuple[Any, Any]:
        """The cell, driven by the beginning of the text, and its state: a system to ask questions of."""
        codes, _ = self._text()
        return from_cell(model.cell, model.encode(jnp.asarray(codes[:_PROBED], jnp.int32))), model.initial

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], Any]:
        """log2 p of each next character for rows of codes, and what one row is."""
        return (
            lambda rows: jax.vmap(lambda row: jax.nn.log_softmax(model(row)) / math.log(2))(rows),
            (self.length,),
            "int32",
        )

    def _text(self) -> tuple[Any, tuple[str, ...]]:
        """The codes of the text, and what they mean; a settled recipe knows that already."""
        if self.unit == "word":
            return self._words()
        path, known = self.data, self.vocabulary or None
        if named_set(path) is not None:
            text = _own_words(load(str(path)), path)
            vocabulary = known or tuple(sorted(set(text)))
            codes = np.array([vocabulary.index(character) for character in text], np.int32)
        else:
            _require_text(path)
            read = read_text(path, vocabulary=known)
            codes, vocabulary = read.codes, read.vocabulary
        require_same_data(self, digest({"inputs": codes}))
        if len(vocabulary) < 2:
            raise DataError(
                explain(str(path), f"only {''.join(vocabulary)!r}", "two characters or more", "Name another text.")
            )
        return codes, vocabulary

    def _words(self) -> tuple[Any, tuple[str, ...]]:
        """The same of words; the vocabulary is of the training part alone."""
        path = self.data
        if named_set(path) is not None:
            text = _own_words(load(str(path)), path)
        else:
            _require_text(path)
            text = read_text(path).decode()
        symbols = self._symbols(text)
        often = Counter(symbols[: round(len(symbols) * max(self.fractions[0], 0))])
        known = sorted(often, key=lambda word: (-often[word], word))[: self.words]
        vocabulary = self.vocabulary or (*known, _OTHER)
        if len(known) < 2:
            got, do = f"{len(known)} words that differ", "Name another text."
            raise DataError(explain(str(path), got, "two or more in the training part", do))
        place = {word: code for code, word in enumerate(vocabulary)}
        codes = np.array([place.get(word, place[_OTHER]) for word in symbols], np.int32)
        require_same_data(self, digest({"inputs": codes}))
        return codes, vocabulary

    def _symbols(self, text: str) -> list[str]:
        return list(text) if self.unit == "character" else _WORD.findall(text)

    def _rows(self) -> tuple[Any, Any, Any]:
        """Rows of length + 1 codes; the last code of one is the first of the next."""
        codes, _ = self._text()
        first, second, third = self.fractions
        if min(self.fractions) < 0 or not first > 0 or abs(first + second + third - 1) > 1e-9:
            do = "Give training, validation, test."
            raise ValueError(explain("language: fractions", self.fractions, "three shares that add up to 1", do))
        ends = [round(len(codes) * first), round(len(codes) * (first + second)), len(codes)]
        parts = [_cut(codes[a:b], self.length) for a, b in zip([0, *ends], ends, strict=False)]
        for name, part, share in zip(("training", "validation", "test"), parts, self.fractions, strict=True):
            if share > 0 and not len(part):
                got = f"{len(codes)} {self.unit}s, of which {share:.0%} are for {name}"
                do = "Take a longer text, a smaller --length, or other fractions."
                raise ValueError(explain(f"language: {self.data}", got, f"at least {self.length + 1} there", do))
        return parts[0], parts[1], parts[2]


def _cut(codes: Any, length: int) -> Any:
    count = max(0, (len(codes) - 1) // length)
    return codes[np.arange(count)[:, None] * length + np.arange(length + 1)[None, :]]


def _joined(words: list[str], before: str | None) -> str:
    """Words with blanks between them, and none before a sign that ends something."""
    text = "".join(word if word in ".,;:!?)" else f" {word}" for word in words)
    return text if before else text.lstrip()


def _require_text(path: Path) -> None:
    if path.is_dir() or path.suffix.lower() not in _SUFFIXES:
        got = "a folder" if path.is_dir() else f"suffix {path.suffix!r}"
        expected = f"a text ending in {', '.join(_SUFFIXES)}"
        raise ValueError(explain(f"--data {path}", got, expected, "Name a text file, in UTF-8."))


def _own_words(found: Any, path: Path) -> str:
    if found.inputs.dtype != np.uint8 or found.inputs.ndim != 1:
        raise ValueError(explain(f"--data {path}", "no text", "genesis, king-james, or a text file", "Name another."))
    return bytes(found.inputs).decode("ascii")


def _frequencies(train: Any, test: Any, count: int) -> dict[str, Any]:
    """Bits of the test by the frequencies of training, each counted once more than seen: what a model must beat."""
    seen = np.bincount(train.ravel(), minlength=count) + 1.0
    bits = -np.log2(seen / seen.sum())[test[:, 1:]]
    return number(float(bits.mean()), None, bits.size, "what a model must beat")


def _n_grams(train: Any, test: Any, count: int) -> dict[str, Any]:
    """Bits of the test by n-grams with Kneser and Ney's smoothing, of the order that has fewest on the end of training."""
    text, rest = (np.append(rows[:, :-1].ravel(), rows[-1, -1]) for rows in (train, test))
    cut = max(len(text) * 9 // 10, 1)
    orders = [n for n in (2, 3, 4, 5, 6, 8) if len(text) - cut >= n] or [1]
    tried = {n: kneser_ney_bits(text[:cut], text[cut:], n, symbols=count).mean() for n in orders}
    order = min(tried, key=tried.__getitem__)
    bits = kneser_ney_bits(text, rest, order, symbols=count)[1:]
    return number(float(bits.mean()), None, bits.size, f"n = {order}, Kneser-Ney: what a good model beats")
