r"""Processes with hidden states whose entropy is known: what no model of a sequence can beat.

    p(s[0..T-1]) = pi T[s_0] T[s_1] ... T[s_{T-1}] 1,      T[s]_ij = probability to say s and go from i to j

The even process says 1s in runs of even length between 0s: from A it says 0 and stays, or 1 and goes to B, with
probability 1/2 each; from B it says 1 and goes back. What it said last tells its state from some time on (it is
unifilar), so that the entropy rate is the mean over states of the entropy of what is said next: (2/3) 1 + (1/3) 0 =
2/3 bit. But no number of last symbols suffices, for a run of 1s that fills the window has an unknown parity: the best
n-gram pays H(n) - H(n-1), which comes down to 2/3 but never reaches it. A net with one bit of memory does.

**Reference:** Weiss (1973); Crutchfield & Feldman, *Regularities unseen, randomness observed*, Chaos 13 (2003),
section IV.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key, State, StepIndex
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.base import require_key
from separatrix.systems.map import Map

_LONGEST = 16


class HiddenMarkovProcess(Map):
    r"""(i, s) -> (j, s'): with probability T[s']_ij it says s' and goes to j. i is held as a vector of zeros and one 1.

    **Arguments:** `transitions`: T, shape (K, N, N), not negative, with rows of sum_s T[s] adding up to 1.

    **Raises:** `ValueError` for anything else.

    **Example:** a coin.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> coin = sx.recurrent.HiddenMarkovProcess(0.5 * jnp.ones((2, 1, 1)))
    >>> coin.entropy_rate, coin.best_of_ngrams(3)
    (1.0, 1.0)
    """

    transitions: Float[Array, "symbols states states"]

    def __check_init__(self) -> None:
        table = np.asarray(self.transitions)
        good = (table >= 0).all() and np.allclose(table.sum(axis=(0, 2)), 1, atol=1e-6)
        if not good:
            do = "Give the probability to say s and go from i to j."
            expected = "numbers of at least 0, with sum over s and j equal to 1 for each i"
            raise ValueError(explain("HiddenMarkovProcess: transitions", table.tolist(), expected, do))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        place, symbol = state
        chances = jnp.einsum("i,sij->sj", place, self.transitions.astype(place.dtype))
        drawn = jax.random.categorical(require_key(key, "HiddenMarkovProcess"), jnp.log(chances).reshape(-1))
        count = place.shape[0]
        return jax.nn.one_hot(drawn % count, count, dtype=place.dtype), (drawn // count).astype(jnp.result_type(symbol))

    @property
    def stationary(self) -> Float[np.ndarray, " states"]:
        """pi, the part of time in each state."""
        matrix = np.asarray(self.transitions, float).sum(axis=0)
        values, vectors = np.linalg.eig(matrix.T)
        leading = np.real(vectors[:, np.argmin(np.abs(values - 1))])
        return leading / leading.sum()

    @property
    def entropy_rate(self) -> float:
        """Bits a symbol, of a process whose state follows from the last state and symbol.

        **Raises:** `ValueError` for any other: there is then no closed form.
        """
        table = np.asarray(self.transitions, float)
        if (np.count_nonzero(table, axis=2) > 1).any():
            got, do = "a state that goes on to two states with one symbol", "Bound it by best_of_ngrams."
            raise ValueError(explain("entropy_rate: transitions", got, "one state for each state and symbol", do))
        return float(self.stationary @ _entropies(table.sum(axis=2).T))

    def best_of_ngrams(self, length: Checked[int]) -> float:
        """H(n) - H(n-1) in bits: what the best predictor that sees n - 1 symbols pays for the n-th.

        **Raises:** `ValueError` for n below 1 or above 16: there are K^n sequences.
        """
        length = ranges.whole("best_of_ngrams: length", length, "Take 3.", most=_LONGEST)
        table = np.asarray(self.transitions, float)
        rows, previous, block = self.stationary[None, :], 0.0, 0.0
        for _ in range(length):
            rows = np.einsum("wi,sij->wsj", rows, table).reshape(-1, rows.shape[1])
            whole = float(_entropies(rows.sum(axis=1)[None, :])[0])
            previous, block = whole, whole - previous
        return block

    def sample(self, steps: Checked[int], *, key: Key) -> Array:
        """A sequence of so many symbols, from the stationary law; integers, shape (steps,)."""
        steps = ranges.whole("sample: steps", steps, "Say how many symbols.")
        of_first, of_rest = jax.random.split(key)
        place = jax.random.categorical(of_first, jnp.log(jnp.asarray(self.stationary, self.transitions.dtype)))
        first = jax.nn.one_hot(place, self.transitions.shape[1], dtype=self.transitions.dtype)
        start = (first, jnp.asarray(0, jnp.int32))
        return evolve(self, start, steps=steps, key=of_rest, save=lambda state: state[1]).states[1:]


def even_process() -> HiddenMarkovProcess:
    """The even process: runs of 1s between 0s are of even length; 2/3 bit a symbol.

    **Example:**

    >>> import separatrix as sx
    >>> process = sx.recurrent.even_process()
    >>> round(process.entropy_rate, 9), [round(process.best_of_ngrams(n), 7) for n in (3, 5, 8)]
    (0.666666667, [0.7924813, 0.729574, 0.6926065])
    """
    return HiddenMarkovProcess(jnp.array([[[0.5, 0.0], [0.0, 0.0]], [[0.0, 0.5], [1.0, 0.0]]]))


def _entropies(rows: np.ndarray) -> np.ndarray:
    """Of each row, in bits."""
    return -np.sum(np.where(rows > 0, rows * np.log2(np.where(rows > 0, rows, 1)), 0.0), axis=1)
