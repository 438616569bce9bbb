r"""Models of sequences: a driven map and a readout.

    x[n+1] = F(x[n], u[n]),    classifier: y = R x[T],    language model: p(s[n+1] | s[0..n]) = softmax(R x[n+1])

with R affine. The inputs of a language model are its symbols, u[n] = e_{s[n]}. Writing text closes the loop: the random
map on (x, s),

    x' = F(x, e_s),      s' ~ softmax(R x' / temperature).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from separatrix._errors import explain
from separatrix._tree import float_dtype, poison
from separatrix._types import Checked, Key, Scalar, State, StepIndex
from separatrix.evolution import evolve
from separatrix.recurrent.nets import Bidirectional, cell_size, checked_mask, exposed, masked_drive, rest, states_of
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.cells import from_cell
from separatrix.systems.map import Map


class SequenceClassifier(eqx.Module):
    r"""y = R x[T] with x[n+1] = cell(u[n], x[n]).

    **Arguments:**

    - `cell`: an `Elman`, `eqx.nn.GRUCell`, `eqx.nn.LSTMCell`, or any module cell(u, x) with a `hidden_size`.
    - `classes`: length of y, at least 1.
    - `key`: R. The initial state starts at zero, and is trained with the rest.

    Called with inputs of shape (T, input_size), and a mask of shape (T,) if the sequence is padded, it returns shape
    (classes,): NaN where the state stops being finite on the way.

    **Raises:** `TypeError` for a cell without `hidden_size`; `ValueError` for classes that are not a whole
    number of at least 1, or a mask that hides all.

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> model = sx.recurrent.SequenceClassifier(eqx.nn.GRUCell(8, 16, key=jax.random.key(0)), 10, key=jax.random.key(1))
    >>> model(jnp.zeros((5, 8))).shape
    (10,)
    """

    cell: Any
    readout: eqx.nn.Linear
    initial: Any

    def __init__(self, cell: Any, classes: Checked[int], *, key: Key):
        classes = ranges.whole("SequenceClassifier: classes", classes, "Say how many classes there are.")
        self.cell, self.readout, self.initial = cell, *_ends(cell, classes, key)

    def __call__(self, inputs: Float[Array, "time inputs"], mask: Any = None) -> Float[Array, " classes"]:
        """Return the scores of one sequence."""
        if mask is None:
            driven = from_cell(self.cell, inputs)
        else:
            driven = masked_drive(self.cell, inputs, checked_mask("SequenceClassifier", mask, len(inputs)))
        return self.readout(exposed(evolve(driven, self.initial, save="last").final))


class SequenceLabeler(eqx.Module):
    r"""y[n] = R x[n+1] with x[n+1] = cell(u[n], x[n]): as many outputs as inputs.

    **Arguments:**

    - `cell`: as in `SequenceClassifier`, or a `Bidirectional`, which reads from both ends.
    - `outputs`: length of each y, at least 1. `key`: R.

    Called with inputs of shape (T, input_size), and a mask of shape (T,) if padded, it returns shape (T, outputs).

    **Raises:** as `SequenceClassifier`.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> model = sx.recurrent.SequenceLabeler(sx.recurrent.Elman(2, 4, key=jax.random.key(0)), 3, key=jax.random.key(1))
    >>> model(jnp.ones((5, 2))).shape
    (5, 3)
    """

    cell: Any
    readout: eqx.nn.Linear

    def __init__(self, cell: Any, outputs: Checked[int], *, key: Key):
        outputs = ranges.whole("SequenceLabeler: outputs", outputs, "Say how long each output is.")
        ends = (cell.forth, cell.back) if isinstance(cell, Bidirectional) else (cell,)
        size = sum(cell_size(end, "hidden_size") for end in ends)
        dtype = float_dtype(eqx.filter(cell, eqx.is_inexact_array))
        self.cell, self.readout = cell, eqx.nn.Linear(size, outputs, key=key, dtype=dtype)

    def __call__(self, inputs: Float[Array, "time inputs"], mask: Any = None) -> Float[Array, "time outputs"]:
        """Return one output a step."""
        if isinstance(self.cell, Bidirectional):
            return jax.vmap(self.readout)(self.cell(inputs, mask))
        there = jnp.ones(len(inputs), bool) if mask is None else checked_mask("SequenceLabeler", mask, len(inputs))
        return jax.vmap(self.readout)(states_of(self.cell, inputs, there))


class LanguageModel(eqx.Module):
    r"""p(s[n+1] | s[0], ..., s[n]) = softmax(R x[n+1]) with x[n+1] = cell(e_{s[n]}, x[n]).

    **Arguments:**

    - `cell`: as in `SequenceClassifier`, with `input_size` = K, the number of symbols.
    - `key`: R. The initial state starts at zero, and is trained with the rest.

    Called with symbols s, shape (T,), integers in [0, K), it returns logits of shape (T, K): row n is for symbol n + 1.
    Rows past a state that is not finite are NaN, and so are those past a symbol outside [0, K) if symbols are traced.

    **Raises:** `TypeError` for a cell without `input_size` and `hidden_size`; where it is called, `TypeError` for
    symbols that are no integers, `ValueError` for known symbols outside [0, K).

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> model = sx.recurrent.LanguageModel(eqx.nn.LSTMCell(27, 16, key=jax.random.key(0)), key=jax.random.key(1))
    >>> model(jnp.array([3, 1, 20])).shape
    (3, 27)
    """

    cell: Any
    readout: eqx.nn.Linear
    initial: Any

    def __init__(self, cell: Any, *, key: Key):
        self.cell, self.readout, self.initial = cell, *_ends(cell, cell_size(cell, "input_size"), key)

    def __call__(self, symbols: Int[Array, " time"]) -> Float[Array, "time symbols"]:
        """Return the logits of each next symbol."""
        hidden = evolve(from_cell(self.cell, self.encode(symbols)), self.initial, save=exposed).states[1:]
        return jax.vmap(self.readout)(hidden)

    @property
    def symbols(self) -> int:
        """K, the number of symbols."""
        return self.readout.weight.shape[0]

    def encode(self, symbols: Int[Array, "..."]) -> Float[Array, "... symbols"]:
        """Return e_s; NaN for a traced symbol that is not there."""
        _check_symbols("LanguageModel: symbols", symbols, self.symbols)
        encoded = jax.nn.one_hot(symbols, self.symbols, dtype=self.readout.weight.dtype)
        return jnp.where(_known(symbols, self.symbols)[..., None], encoded, jnp.nan)


class Writing(Map):
    """(x, s) -> (x', s'): x' = cell(e_s, x), s' ~ softmax(R x' / temperature); without a key the likeliest symbol.

    With `top`, s' is drawn among the so many likeliest symbols alone.
    """

    model: LanguageModel
    temperature: Scalar
    top: int | None = eqx.field(static=True, default=None)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        hidden, symbol = state
        hidden = self.model.cell(self.model.encode(symbol), hidden)
        logits = self.model.readout(exposed(hidden))
        logits = logits / jnp.asarray(self.temperature, logits.dtype)
        sound = jnp.all(jnp.isfinite(logits))
        if self.top is not None:
            least = jax.lax.top_k(logits, self.top)[0][-1]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        drawn = jnp.argmax(logits) if key is None else jax.random.categorical(key, logits)
        # A symbol cannot be NaN: where there is no law to draw from, the state says so for it.
        hidden = poison(sound, hidden)
        return hidden, drawn.astype(jnp.result_type(symbol))


def bits_per_symbol(model: LanguageModel, batch: Any, *, heard: Checked[int] = 0) -> Scalar:
    r"""Return the mean of -log2 p(s[n+1] | s[0..n]) over a batch: a loss for `fit`.

    **Arguments:**

    - `model`: a `LanguageModel`. `batch`: integers in [0, K), shape (B, T + 1), T >= 1: T predictions a row.
    - `heard`: how many predictions at first of each row are not counted, below T: a row alone begins blind.

    **Returns:** a scalar in bits; log2 K for the uniform distribution. NaN for a traced batch with a symbol outside
    [0, K).

    **Raises:** `ValueError` for a batch of another shape, a known symbol outside [0, K), or a count of heard predictions
    that leaves none; `TypeError` for symbols that are no integers.

    **Example:** a model that has seen nothing.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> model = sx.recurrent.LanguageModel(sx.recurrent.Elman(4, 8, key=jax.random.key(0)), key=jax.random.key(1))
    >>> blank = jax.tree.map(jnp.zeros_like, model)
    >>> round(sx.recurrent.bits_per_symbol(blank, jnp.array([[0, 1, 2, 3]])).item(), 9)
    2.0
    """
    batch = jnp.asarray(batch)
    if batch.ndim != 2 or batch.shape[1] < 2:
        do = "Cut the text into rows of at least two symbols."
        raise ValueError(explain("bits_per_symbol: batch", f"shape {batch.shape}", "(B, T + 1), T >= 1", do))
    _check_symbols("bits_per_symbol: batch", batch, model.symbols)
    heard = ranges.whole("bits_per_symbol: heard", heard, "Take 0.", least=0, most=batch.shape[1] - 2)
    log_p = jax.nn.log_softmax(jax.vmap(model)(batch[:, :-1]))[:, heard:]
    following = batch[:, heard + 1 :]
    taken = jnp.take_along_axis(log_p, following[..., None].astype(jnp.int32), axis=-1)[..., 0]
    taken = jnp.where(_known(following, model.symbols), taken, jnp.nan)
    return -jnp.mean(taken) / jnp.log(jnp.asarray(2, taken.dtype))


def generate(
    model: LanguageModel,
    prompt: Any,
    steps: Checked[int],
    *,
    key: Key | None = None,
    temperature: Any = 1.0,
    top: Checked[int | None] = None,
) -> Int[Array, " steps"]:
    r"""Let a language model write on: evolve the closed loop.

    **Arguments:**

    - `model`: a `LanguageModel`. `prompt`: symbols to start from, shape (P,), P >= 1.
    - `steps`: how many symbols to write, at least 1. `key`: the draws; None for the likeliest symbol each time.
    - `temperature`: > 0; 1 for the model's own distribution, less for likelier symbols.
    - `top`: draw among the so many likeliest symbols alone, from 1 (the likeliest) to K; all if None.

    **Returns:** the symbols written, shape (steps,), without the prompt.

    **Raises:** `ValueError` for an empty prompt, a known symbol outside [0, K), no steps, a temperature that is not
    positive, or a top outside 1 to K; `Diverged` where a state or a logit stops being finite, for there is no symbol
    that could say so.

    **Example:** the same key writes the same text.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> model = sx.recurrent.LanguageModel(sx.recurrent.Elman(4, 8, key=jax.random.key(0)), key=jax.random.key(1))
    >>> one, two = (sx.recurrent.generate(model, jnp.array([0, 1]), 20, key=jax.random.key(2)) for _ in range(2))
    >>> one.tolist() == two.tolist()
    True

    **Reference:** Sutskever, Martens & Hinton, *Generating text with recurrent neural networks* (2011).
    """
    prompt = jnp.asarray(prompt)
    if prompt.ndim != 1 or prompt.size == 0:
        do = "Start from at least one symbol."
        raise ValueError(explain("generate: prompt", f"shape {prompt.shape}", "(P,), P >= 1", do))
    _check_symbols("generate: prompt", prompt, model.symbols)
    ranges.whole("generate: steps", steps, "Say how many symbols to write.")
    ranges.positive("generate: temperature", temperature, "Leave it out for the model's own distribution.")
    if top is not None:
        ranges.whole("generate: top", top, "Leave it out for all symbols.", most=model.symbols)
    hidden = model.initial
    if prompt.size > 1:
        hidden = evolve(from_cell(model.cell, model.encode(prompt[:-1])), hidden, save="last").final
    loop = Writing(model, as_parameter(temperature), top)
    # There is no symbol that could say that the state or a logit is not finite.
    return evolve(loop, (hidden, prompt[-1]), steps=steps, key=key, save=_symbol, throw=True).states[1:]


def _symbol(state: State) -> Any:
    return state[1]


def _check_symbols(what: str, symbols: Any, count: int) -> None:
    ranges.indices(what, symbols, count, "Number the symbols from 0, in the order of the model's alphabet.")


def _known(symbols: Any, count: int) -> Any:
    return (symbols >= 0) & (symbols < count)


def _ends(cell: Any, outputs: int, key: Key) -> tuple[eqx.nn.Linear, State]:
    """A readout and an initial state for a cell."""
    initial = rest(cell)
    return eqx.nn.Linear(cell_size(cell, "hidden_size"), outputs, key=key, dtype=float_dtype(initial)), initial
