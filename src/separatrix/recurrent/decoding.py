r"""From one sequence to another of a different length: encoder, attention, decoder, and the search for the likeliest
output.

    encoder    h_m = state after u[0..m]                        decoder   x[n+1] = G(x[n], e_{s[n]})
    attention  a_m = softmax_m(h_m . A x[n+1]),  c = sum_m a_m h_m
    output     p(s[n+1] | u, s[0..n]) = softmax(R (x[n+1], c))

Beam search keeps the `width` best beginnings and lengthens each by each symbol. Beginnings of unequal length are
compared by log p/length^alpha: alpha = 0 is the likelihood itself, which favours short outputs, alpha = 1 the mean per
symbol.

**Reference:** Sutskever, Vinyals & Le (2014); Luong, Pham & Manning, *Effective approaches to attention-based neural
machine translation* (2015), section 3.1, "general"; Wu et al., *Google's neural machine translation system* (2016),
section 7, with |Y|^alpha for the length.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from separatrix._tree import float_dtype
from separatrix._types import Checked, Function, Key, State, StepIndex
from separatrix.evolution import evolve
from separatrix.recurrent.nets import cell_size, checked_mask, exposed, rest, states_of
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.cells import from_cell
from separatrix.systems.map import Map

# The logarithm of a probability that nothing outweighs, finite in single precision.
_NEVER = -1e30


class EncoderDecoder(eqx.Module):
    r"""p(s[n+1] | u, s[0..n]) by a decoder that looks at the states of an encoder.

    **Arguments:**

    - `encoder`: a cell that hears the inputs. `decoder`: a cell with `input_size` = K, the number of output symbols.
    - `key`: A and R.

    Called with inputs (T, input_size) and symbols (S,), of which the first begins each output, it returns logits (S,
    K): row n is for symbol n + 1 (teacher forcing). A mask of shape (T,) says which inputs are there.

    **Raises:** `TypeError` for cells that do not say their sizes; `ValueError` for known symbols outside [0, K), or a
    mask that hides all.

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> encoder, decoder = eqx.nn.GRUCell(2, 8, key=keys[0]), eqx.nn.GRUCell(5, 6, key=keys[1])
    >>> model = sx.recurrent.EncoderDecoder(encoder, decoder, key=keys[2])
    >>> model(jnp.ones((7, 2)), jnp.array([0, 3, 1])).shape
    (3, 5)
    """

    encoder: Any
    decoder: Any
    attention: Array
    readout: eqx.nn.Linear

    def __init__(self, encoder: Any, decoder: Any, *, key: Key):
        heard, said = cell_size(encoder, "hidden_size"), cell_size(decoder, "hidden_size")
        of_attention, of_readout = jax.random.split(key)
        dtype = float_dtype(eqx.filter(decoder, eqx.is_inexact_array))
        self.encoder, self.decoder = encoder, decoder
        self.attention = jax.random.normal(of_attention, (heard, said), dtype) * said**-0.5
        self.readout = eqx.nn.Linear(said + heard, cell_size(decoder, "input_size"), key=of_readout, dtype=dtype)

    @property
    def symbols(self) -> int:
        """K, the number of output symbols."""
        return cell_size(self.decoder, "input_size")

    def memory(self, inputs: Float[Array, "time inputs"], mask: Any = None) -> tuple[Array, Array]:
        """What the decoder looks at: the states of the encoder, and which of them are there."""
        there = jnp.ones(len(inputs), bool) if mask is None else checked_mask("EncoderDecoder", mask, len(inputs))
        return states_of(self.encoder, inputs, there), there

    def logits(self, memory: tuple[Array, Array], hidden: Array) -> Array:
        """R (x, c) of a decoder's state x."""
        states, there = memory
        likeness = jnp.where(there, states @ (self.attention @ hidden), _NEVER)
        context = jax.nn.softmax(likeness) @ states
        return self.readout(jnp.concatenate([hidden, context]))

    def __call__(
        self, inputs: Float[Array, "time inputs"], symbols: Int[Array, " length"], mask: Any = None
    ) -> Float[Array, "length symbols"]:
        """Return the logits of each next symbol of a known output."""
        do = "Number the symbols from 0."
        ranges.indices("EncoderDecoder: symbols", symbols, self.symbols, do)
        memory = self.memory(inputs, mask)
        encoded = jax.nn.one_hot(symbols, self.symbols, dtype=self.readout.weight.dtype)
        hidden = evolve(from_cell(self.decoder, encoded), rest(self.decoder), save=exposed).states[1:]
        return jax.vmap(lambda x: self.logits(memory, x))(hidden)

    def decode(
        self, inputs: Float[Array, "time inputs"], first: Any, stop: Any, steps: Any, *, mask: Any = None, **search: Any
    ) -> "Beam":
        """The likeliest outputs by `beam_search` (of which `search` are options), from symbol `first` until `stop`."""
        memory = self.memory(inputs, mask)

        def step(state: Any, symbol: Any) -> tuple[Any, Any]:
            state = self.decoder(jax.nn.one_hot(symbol, self.symbols, dtype=self.readout.weight.dtype), state)
            return state, jax.nn.log_softmax(self.logits(memory, exposed(state)))

        return beam_search(step, rest(self.decoder), first, stop, steps=steps, **search)


class Beam(NamedTuple):
    """Outputs, best first: `symbols` (width, steps), with `stop` after their end; `lengths`, `stop` counted; ln p of
    each; and ln p/length^alpha, by which they are in order."""

    symbols: Int[Array, "width steps"]
    lengths: Int[Array, " width"]
    log_p: Float[Array, " width"]
    scores: Float[Array, " width"]


def beam_search(
    step: Checked[Function],
    state: State,
    first: Any,
    stop: Any,
    *,
    steps: Checked[int],
    width: Checked[int] = 4,
    alpha: Any = 0.0,
) -> Beam:
    r"""Search for the likeliest sequences of symbols: keep the best beginnings, lengthen each by each symbol.

    **Arguments:**

    - `step`: (state, symbol) -> (state, ln p of each next symbol, shape (K,)).
    - `state`: before `first`. `first`, `stop`: symbols that begin and end an output; `first` is not part of it.
    - `steps`: symbols at most. `width`: beginnings kept; 1 is greedy, K^(steps - 1) exhaustive.
    - `alpha`: of the length in ln p/length^alpha, >= 0.

    **Returns:** a `Beam` of `width` outputs. Where there are fewer than `width` sequences, the rest have ln p = -1e30.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:** a law in which the likelier beginning leads to the less likely whole.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> law = jnp.log(jnp.array([[0.0, 0.6, 0.4], [0.5, 0.25, 0.25], [0.9, 0.05, 0.05]]))
    >>> step = lambda state, symbol: (state, law[symbol])
    >>> greedy, wide = (sx.recurrent.beam_search(step, 0.0, 0, 0, steps=2, width=w).symbols[0].tolist() for w in (1, 2))
    >>> greedy, wide
    ([1, 0], [2, 0])

    **Reference:** Wu et al. (2016), section 7.
    """
    steps = ranges.whole("beam_search: steps", steps, "Say how many symbols an output has at most.")
    width = ranges.whole("beam_search: width", width, "Take 1 for the greedy choice.")
    ranges.nonnegative("beam_search: alpha", alpha, "Take 0 for the likelihood.")
    dtype = jax.eval_shape(step, state, jnp.asarray(first))[1].dtype
    repeat = lambda leaf: jnp.broadcast_to(leaf, (width, *jnp.shape(leaf)))  # noqa: E731
    symbol = jnp.asarray(first, jnp.int32)
    start = _Beginnings(
        jax.tree.map(repeat, state),
        repeat(symbol),
        jnp.full((width, steps), jnp.asarray(stop, jnp.int32)),
        jnp.full(width, _NEVER, dtype).at[0].set(0),
        jnp.zeros(width, jnp.int32),
        jnp.zeros(width, bool),
    )
    search = _BeamSearch(step, jnp.asarray(stop, jnp.int32), as_parameter(alpha))
    found = evolve(search, tuple(start), steps=steps, save="last", throw=True).final
    found = _Beginnings(*found)
    scores = found.log_p / jnp.maximum(found.lengths, 1).astype(dtype) ** jnp.asarray(alpha, dtype)
    order = jnp.argsort(-scores)
    return Beam(found.symbols[order], found.lengths[order], found.log_p[order], scores[order])


class _Beginnings(NamedTuple):
    states: Any
    last: Any
    symbols: Any
    log_p: Any
    lengths: Any
    ended: Any


class _BeamSearch(Map):
    """One symbol more."""

    law: Function
    stop: Any
    alpha: Any

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        old = _Beginnings(*state)
        width = old.log_p.shape[0]
        states, more = jax.vmap(self.law)(old.states, old.last)
        count, dtype = more.shape[1], old.log_p.dtype
        # What has ended is lengthened by `stop` alone, at no cost.
        still = jnp.where(
            jnp.arange(count, dtype=jnp.int32) == self.stop, jnp.zeros((), dtype), jnp.asarray(_NEVER, dtype)
        )
        total = old.log_p[:, None] + jnp.maximum(jnp.where(old.ended[:, None], still, more), _NEVER)
        total = jnp.maximum(total, _NEVER)
        lengths = old.lengths + (~old.ended).astype(jnp.int32)
        score = total / lengths[:, None].astype(dtype) ** jnp.asarray(self.alpha, dtype)
        _, best = jax.lax.top_k(score.reshape(-1), width)
        parent, symbol = best // count, (best % count).astype(jnp.int32)
        pick = lambda leaf: leaf[parent]  # noqa: E731
        return tuple(
            _Beginnings(
                jax.tree.map(pick, states),
                symbol,
                pick(old.symbols).at[:, n].set(symbol),
                total.reshape(-1)[best],
                pick(lengths),
                pick(old.ended) | (symbol == self.stop),
            )
        )
