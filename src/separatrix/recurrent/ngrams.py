r"""The baseline of language models: n-grams with interpolated Kneser-Ney smoothing.

    p_m(s | h) = max(c(h s) - D, 0)/c(h) + D N(h)/c(h) p_{m-1}(s | h'),      p_0 = 1/K

with h' the context h without its first symbol, c(h) = sum_s c(h s) and N(h) the number of symbols seen after h. At the
highest order c counts how often h s was seen, below it in how many different contexts: a symbol that follows one other
symbol only is no likely guess after another. A context that was not seen leaves p_{m-1} as it is.

**Reference:** Kneser & Ney, *Improved backing-off for m-gram language modeling* (1995); Chen & Goodman, *An empirical
study of smoothing techniques* (1999), equations 24 to 28, with one discount.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.systems import ranges


def kneser_ney_bits(
    train: Any, test: Any, order: Checked[int], *, symbols: Checked[int], discount: Any = 0.75
) -> Float[np.ndarray, " test"]:
    r"""Return -log2 p of each symbol of a test text, by n-grams of a training text that comes before it.

    **Arguments:**

    - `train`, `test`: integers in [0, K), shape (T,). The contexts of the first symbols of `test` reach into `train`.
    - `order`: n >= 1, symbols of an n-gram: the context is of n - 1. `symbols`: K. `discount`: D in (0, 1).

    **Returns:** bits, shape (length of test,); their mean is the cross entropy.

    **Raises:** `ValueError` for symbols outside [0, K), texts that are empty or shorter than the order, or numbers
    outside their range.

    **Example:** of a text that repeats itself little is left to say.

    >>> import numpy as np, separatrix as sx
    >>> text = np.tile([0, 1, 2, 3], 200)
    >>> bool(sx.recurrent.kneser_ney_bits(text, text[:40], 3, symbols=4).mean() < 0.01)
    True

    **Reference:** Chen & Goodman (1999), section 2.7.
    """
    order = ranges.whole("kneser_ney_bits: order", order, "Take 5.")
    symbols = ranges.whole("kneser_ney_bits: symbols", symbols, "Say how many there are.", least=2)
    if not 0 < discount < 1:
        raise ValueError(explain("kneser_ney_bits: discount", discount, "above 0 and below 1", "Take 0.75."))
    texts = [np.asarray(text) for text in (train, test)]
    for name, text in zip(("train", "test"), texts, strict=True):
        if text.ndim != 1 or len(text) < order:
            got, do = f"shape {text.shape}", "Pass a longer text, or a lower order."
            raise ValueError(explain(f"kneser_ney_bits: {name}", got, f"(T,) with T >= {order}", do))
        ranges.indices(f"kneser_ney_bits: {name}", text, symbols, "Number the symbols from 0.")
    text, seen = np.concatenate(texts).astype(np.int64), len(texts[0])
    grams = _grams(text, order, symbols)
    p = np.full(len(text) - seen, 1 / symbols)
    for m in range(1, order + 1):
        contexts = np.concatenate([[0], grams[m - 1][:-1]])  # of what ends at i, the m - 1 symbols before i
        counts = _counts(grams, m, order, seen)
        _, places = np.unique(grams[m][m - 1 : seen], return_index=True)
        kinds = places + m - 1  # one place of each kind of m-gram that was seen
        size = int(contexts.max()) + 1
        total = np.bincount(contexts[kinds], counts[grams[m][kinds]], size)[contexts[seen:]]
        after = np.bincount(contexts[kinds], minlength=size)[contexts[seen:]]
        own = np.maximum(counts[grams[m][seen:]] - discount, 0)
        known = np.maximum(total, 1)
        p = np.where(total > 0, (own + discount * after * p) / known, p)
    return -np.log2(p)


def _grams(text: np.ndarray, order: int, symbols: int) -> list[np.ndarray]:
    """For m = 0, ..., order a number for the m symbols that end at each place, equal where these are."""
    found = [np.zeros(len(text), np.int64)]
    for m in range(1, order + 1):
        # The first place has no m symbols, but where m is 1: a number of its own, which nothing else has.
        outside = 0 if m == 1 else found[-1].max() + 1
        before = np.concatenate([[outside], found[-1][:-1]])
        found.append(np.unique(before * symbols + text, return_inverse=True)[1])
    return found


def _counts(grams: list[np.ndarray], m: int, order: int, seen: int) -> np.ndarray:
    """c of each m-gram: how often it was seen at the highest order, in how many contexts below it."""
    size = int(grams[m].max()) + 1
    if m == order:
        return np.bincount(grams[m][m - 1 : seen], minlength=size).astype(float)
    _, places = np.unique(grams[m + 1][m:seen], return_index=True)
    counts = np.bincount(grams[m][places + m], minlength=size).astype(float)
    # The first m symbols of the text follow nothing, and were seen all the same.
    first = grams[m][m - 1]
    counts[first] = max(counts[first], 1)
    return counts
