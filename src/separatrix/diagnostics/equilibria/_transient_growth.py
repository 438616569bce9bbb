r"""How far a perturbation can grow before it decays: sup_n |K^n| of a matrix.

    |K^N| <= 1   =>   sup_n |K^n| = max_{n < N} |K^n|,      for |K^(qN + r)| <= |K^N|^q |K^r|

N is the first power of two with that property, found by squaring, so the search ends where nothing larger can follow. All
powers below N are looked at while they are few; else so many an octave, and then those around the largest. A flow is
searched in steps of time delta, K = exp(delta A), and its maximum refined in between.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

# Squarings: a system 1e-8 from the border of stability needs as many; after more of them rounding is seen.
_LEVELS = 36
# Numbers that all powers looked at may hold, and operations they may take: half a second, 32 MB.
_NUMBERS, _OPERATIONS = 1 << 22, 1 << 30
# Where not all are looked at: in each octave, and around each of the largest.
_AN_OCTAVE, _PEAKS = 64, 4
# Octaves over which what has no bound must have grown, each time.
_GROWING = 9
# Steps of a flow: K = exp(A/(8 |A|)) turns no mode by more than an eighth.
_PART = 8.0
_REFINED = 64
# Rounding of a norm that is one.
_ONE = 1 + 1e-12


class Growth(NamedTuple):
    """The largest |K^n| seen and its n (or t), how far was searched (infinite: nothing larger follows), and whether all."""

    growth: float
    time: float
    searched: float
    complete: bool


_NONE = Growth(1.0, 0.0, np.inf, True)
_UNBOUNDED = Growth(np.inf, np.inf, np.inf, True)


def of_map(matrix: np.ndarray, values: np.ndarray, tolerance: float) -> Growth:
    """sup_n |J^n|."""
    if np.max(np.abs(values)) - 1 > tolerance:
        return _UNBOUNDED
    return _largest_power(matrix)


def of_flow(matrix: np.ndarray, values: np.ndarray, tolerance: float) -> Growth:
    """sup_t |exp(t A)|."""
    if np.max(np.real(values)) > tolerance:
        return _UNBOUNDED
    # exp(t A) shrinks all at once where the symmetric part is negative.
    if np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1] <= tolerance:
        return _NONE
    step = 1 / (_PART * float(np.linalg.norm(matrix, 2)))
    found = _largest_power(scipy.linalg.expm(step * matrix))
    if not np.isfinite(found.growth) or len(matrix) > _REFINED:
        return found._replace(time=found.time * step, searched=found.searched * step)
    ends = (max(found.time - 1, 0) * step, (found.time + 1) * step)
    size = lambda t: -float(np.linalg.norm(scipy.linalg.expm(t * matrix), 2))  # noqa: E731
    best: Any = scipy.optimize.minimize_scalar(size, bounds=ends, method="bounded", options={"xatol": 1e-9 * step})
    growth, time = max((found.growth, found.time * step), (-float(best.fun), float(best.x)))
    return Growth(growth, time, found.searched * step, found.complete)


def _largest_power(matrix: np.ndarray) -> Growth:
    """max_n |K^n| of a matrix that is not past the border of stability."""
    squares = [matrix]
    while not _at_most_one(squares[-1]) and len(squares) < _LEVELS and np.isfinite(squares[-1]).all():
        with np.errstate(over="ignore", invalid="ignore"):
            squares.append(squares[-1] @ squares[-1])
    ends = _at_most_one(squares[-1])
    late = [_size(square) for square in squares[-_GROWING:]]
    if not ends and (not np.isfinite(late[-1]) or np.all(np.divide(late[1:], late[:-1]) > 1.5)):
        # It still grows where it is as near to the border as numbers tell: as n on a Jordan block of |mu| = 1.
        return _UNBOUNDED
    count, d = 2 ** (len(squares) - 1), len(matrix)
    few = max(4, min(_NUMBERS // d**2, _OPERATIONS // d**3))
    if count <= few:
        sizes, best = _sizes(_powers(squares, count))
        growth, number, complete = sizes[best], float(best), True
    else:
        growth, number = _sampled(squares, count, few)
        complete = False
    growth, number = (growth, number) if growth > _ONE else (1.0, 0.0)
    return Growth(float(growth), number, np.inf if ends else float(count), complete)


def _powers(squares: list[np.ndarray], count: int) -> np.ndarray:
    """K^0, ..., K^(count - 1), count a power of two."""
    powers = np.eye(len(squares[0]))[None]
    for square in squares:
        if len(powers) < count:
            powers = np.concatenate([powers, powers @ square])
    return powers


def _sampled(squares: list[np.ndarray], count: int, few: int) -> tuple[float, float]:
    """So many powers an octave, K^(2n) from K^n; then, around the largest, nearer and nearer ones down to neighbours."""
    start = min(_AN_OCTAVE, 2 ** int(np.log2(max(few // 8, 4))))
    powers = _powers(squares, start)
    numbers, (sizes, _) = np.arange(start), _sizes(powers)
    seen = dict(zip(numbers.tolist(), sizes.tolist(), strict=True))
    powers, numbers = powers[start // 2 :], numbers[start // 2 :]
    while 2 * numbers[0] < count:
        powers, numbers = powers @ powers, 2 * numbers
        seen.update(zip(numbers.tolist(), _sizes(powers)[0].tolist(), strict=True))
    beside = _powers(squares, start)
    for peak in sorted(seen, key=lambda n: -seen[n])[: _PEAKS if start == _AN_OCTAVE else 1]:
        gap = max(1, 2 * peak // start)
        while gap >= 1:
            for n in (max(peak - gap, 0), peak + gap):
                seen[n] = seen.get(n) or _size(_power(squares, n))
            peak = max((peak, max(peak - gap, 0), peak + gap), key=lambda n: seen[n])
            gap //= 2
        # An oscillation is finer than the gaps: every power nearby.
        first = max(peak - start // 2, 0)
        near = _sizes(_power(squares, first) @ beside)[0]
        seen.update(zip(range(first, first + start), near.tolist(), strict=True))
    best = max(seen, key=lambda n: seen[n])
    return seen[best], float(best)


def _power(squares: list[np.ndarray], n: int) -> np.ndarray:
    """K^n by the binary digits of n."""
    product = np.eye(len(squares[0]))
    for level, square in enumerate(squares):
        if n >> level & 1:
            product = product @ square
    return product


def _sizes(powers: np.ndarray) -> tuple[np.ndarray, int]:
    """|.| of each matrix, or a bound from below where that rules it out as the largest; and which is."""
    frobenius = np.array([_frobenius(power) for power in powers])
    # |.|_F/sqrt(d) <= |.| <= |.|_F: only what may be the largest needs its singular values.
    sizes = frobenius / np.sqrt(powers.shape[1])
    for place in np.flatnonzero(frobenius >= np.max(sizes) * (1 - 1e-12)):
        sizes[place] = _size(powers[place])
    return sizes, int(np.argmax(sizes))


def _frobenius(matrix: np.ndarray) -> float:
    """|.|_F, without overflow of its square."""
    largest = float(np.max(np.abs(matrix)))
    return largest * float(np.linalg.norm(matrix / largest)) if 0 < largest < np.inf else largest


def _size(matrix: np.ndarray) -> float:
    """|.|, the root of the largest eigenvalue of K^T K."""
    largest = float(np.max(np.abs(matrix)))
    if not 0 < largest < np.inf:
        return largest if largest == 0 else np.inf
    scaled = matrix / largest
    return largest * float(np.sqrt(max(np.linalg.eigvalsh(scaled.T @ scaled)[-1], 0.0)))


def _at_most_one(matrix: np.ndarray) -> bool:
    frobenius = _frobenius(matrix)
    return bool(frobenius <= _ONE or (frobenius <= np.sqrt(len(matrix)) * _ONE and _size(matrix) <= _ONE))
