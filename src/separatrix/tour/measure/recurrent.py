"""What the chapter on recurrent networks measures: entropies of a text, the condition of eigenvectors, growing errors."""

from typing import Any

import numpy as np


def entropies(symbols: Any) -> tuple[float, float]:
    """(H(s[n]), H(s[n+1] | s[n])) in bits, of the frequencies of symbols and of pairs: what a model without memory, and one
    that knows the last symbol, must pay at least on this text."""
    symbols = np.asarray(symbols)
    count = int(symbols.max()) + 1
    pairs = np.bincount(symbols[:-1].astype(np.int64) * count + symbols[1:])
    single = _bits(np.bincount(symbols))
    return single, _bits(pairs) - single


def eigenvector_condition(matrix: Any) -> float:
    """The condition number of the matrix of eigenvectors: by this factor at most |A^n v| strays from |eigenvalue|^n."""
    return float(np.linalg.cond(np.linalg.eig(np.asarray(matrix))[1]))


def growth_of_errors(errors: Any, first: int, last: int, spacing: float) -> tuple[float, float]:
    """Mean rate of growth of errors, (starts, rows), between two rows, and its standard error over the starts."""
    grown = np.log(errors[:, last] / errors[:, first]) / ((last - first) * spacing)
    return float(grown.mean()), float(grown.std(ddof=1) / np.sqrt(len(grown)))


def _bits(counts: Any) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log2(shares)))
