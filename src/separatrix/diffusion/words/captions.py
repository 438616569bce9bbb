r"""Captions and their words: a text is a row of whole numbers.

    caption   count  size  noun(s), brightness, on the left | in the middle | on the right
    tokens    (1, w_1, ..., w_n, 0, ..., 0)      1 begins, w_i > 1 are words, 0 fills up

"two small sneakers, dark, on the left" says five attributes. The row (1, 0, ..., 0) stands for no caption. Words that
exclude one another are kept as groups, at most one word of each in a caption: {dark, bright}, and {one, sneakers}.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from separatrix._errors import did_you_mean, explain, listed
from separatrix.systems import ranges

BEGIN, PAD = 1, 0
COUNTS, SIZES, LIGHTS, PLACES = ("one", "two"), ("small", "large"), ("dark", "bright"), ("left", "middle", "right")
ATTRIBUTES = ("object", "count", "size", "brightness", "place")
_WHERE = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
_CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
# A digit's name would also be a count, so that digits are called by their numerals.
NOUNS = {"fashion-mnist": _CLOTHES, "digits": tuple(str(n) for n in range(10))}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    r"""The words of captions, and how a text becomes a row of tokens.

    **Arguments:**

    - `words`: word number i has the token i + 2.
    - `length`: tokens of a row, the one that begins it among them.
    - `exclusive`: groups of words of which a caption has at most one.

    **Example:**

    >>> import separatrix as sx
    >>> words = sx.diffusion.Vocabulary(("dark", "bright", "bag"), 4, exclusive=(("dark", "bright"),))
    >>> words.tokens(["bag, dark", "Bag"]).tolist()
    [[1, 4, 2, 0], [1, 4, 0, 0]]
    """

    words: tuple[str, ...]
    length: int
    exclusive: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.words or len(set(self.words)) != len(self.words):
            got = "none" if not self.words else "a word twice"
            raise ValueError(explain("Vocabulary: words", got, "words, each once", "Repair the list."))
        ranges.whole("Vocabulary: length", self.length, "Pass the words of the longest caption and 1.", least=2)

    @staticmethod
    def of(captions: Iterable[str]) -> "Vocabulary":
        """The words of some captions, in order, as long as the longest of them.

        **Raises:** `ValueError` for no captions, and for one without a word.
        """
        split = [words_of(text) for text in captions]
        for number, words in enumerate(split):
            if not words:
                do = "Describe the picture, or leave it out."
                raise ValueError(explain(f"caption {number}", "no word", "at least one word", do))
        if not split:
            raise ValueError(explain("captions", "none", "a caption for each picture", "Give one to each."))
        return Vocabulary(tuple(sorted({w for words in split for w in words})), 1 + max(map(len, split)))

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.words) + 2

    @property
    def absent(self) -> np.ndarray:
        """The row that stands for no caption."""
        return np.array([BEGIN] + [PAD] * (self.length - 1), np.int32)

    def tokens(self, captions: str | Sequence[str]) -> np.ndarray:
        """The rows of captions, shape (n, length).

        **Raises:** `ValueError` for a caption that is empty, too long, has a word that is not known, or two that exclude
        one another.
        """
        texts = [captions] if isinstance(captions, str) else list(captions)
        if not texts:
            raise ValueError(explain("captions", "none", "at least one", "Give a caption."))
        codes = {word: number + 2 for number, word in enumerate(self.words)}
        rows = np.tile(self.absent, (len(texts), 1))
        for row, text in zip(rows, texts, strict=True):
            words = words_of(text)
            self._check(text, words, codes)
            row[1 : 1 + len(words)] = [codes[word] for word in words]
        return rows

    def text(self, tokens: Any) -> str:
        """The words of one row."""
        return " ".join(self.words[int(code) - 2] for code in np.asarray(tokens) if code > BEGIN)

    def _check(self, text: str, words: list[str], codes: dict[str, int]) -> None:
        what = f"caption {text!r}"
        if not words:
            raise ValueError(explain(what, "no word", f"some of {listed(self.words, 30)}", "Say what to draw."))
        for word in words:
            if word not in codes:
                do = did_you_mean(word, self.words) or "Use these words only."
                raise ValueError(explain(what, f"the unknown word {word!r}", f"some of {listed(self.words, 30)}", do))
        for group in self.exclusive:
            found = [word for word in words if word in group]
            if len(found) > 1:
                got = f"{found[0]!r} and {found[1]!r}" if found[0] != found[1] else f"{found[0]!r} twice"
                raise ValueError(explain(what, got, "one of them at most", "Leave one out."))
        if len(words) >= self.length:
            expected = f"at most {self.length - 1}, as in training"
            raise ValueError(explain(what, f"{len(words)} words", expected, "Shorten it."))


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, signs between them left out.

    >>> words_of("Two small T-shirts, dark!")
    ['two', 'small', 't-shirts', 'dark']
    """
    return re.findall(r"[^\W_]+(?:-[^\W_]+)*", text.lower())


def plural(noun: str) -> str:
    """The plural of a noun.

    >>> plural("dress"), plural("7"), plural("bag")
    ('dresses', '7s', 'bags')
    """
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def caption_of(nouns: Sequence[str], codes: Any, said: Any = None) -> str:
    """The caption of five codes, (object, count, size, brightness, place); `said`: which of them it says.

    >>> caption_of(("bag", "coat"), (1, 1, 0, 0, 2))
    'two small coats, dark, on the right'
    >>> caption_of(("bag", "coat"), (0, 0, 1, 1, 1), said=(True, True, False, False, True))
    'one bag, in the middle'
    """
    said = (True,) * 5 if said is None else said
    noun, count, size, light, place = (int(code) for code in codes)
    named = plural(nouns[noun]) if count and said[1] else nouns[noun]
    first = [COUNTS[count]] * bool(said[1]) + [SIZES[size]] * bool(said[2]) + [named] * bool(said[0])
    parts = [" ".join(first), LIGHTS[light] if said[3] else "", _WHERE[PLACES[place]] if said[4] else ""]
    return ", ".join(part for part in parts if part)


def composed_vocabulary(nouns: Sequence[str]) -> Vocabulary:
    """The words of `caption_of`, and which of them exclude one another."""
    many = tuple(plural(noun) for noun in nouns)
    groups = [COUNTS, SIZES, LIGHTS, PLACES, (*nouns, *many), ("on", "in"), ("the",), ("in", "left"), ("in", "right"),
              ("on", "middle")]  # fmt: skip
    groups += [("one", noun) for noun in many] + [("two", noun) for noun in nouns]
    words = (*COUNTS, *SIZES, *LIGHTS, "on", "in", "the", *PLACES, *nouns, *many)
    return Vocabulary(words, 8, tuple(groups))


def combinations(nouns: int) -> np.ndarray:
    """All combinations of codes, shape (24 nouns, 5).

    >>> combinations(10).shape
    (240, 5)
    """
    counts = (nouns, len(COUNTS), len(SIZES), len(LIGHTS), len(PLACES))
    return np.array(list(itertools.product(*map(range, counts))), np.int32)
