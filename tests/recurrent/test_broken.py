"""States that stop being finite on the way, and symbols that are none: NaN where there are numbers, refused where not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix import recurrent
from separatrix._errors import Diverged

KEY = jax.random.key(0)


class Squaring(eqx.Module):
    """x' = x^2 + u: from 0 with u = 1e200 it overflows at the second step."""

    input_size: int = eqx.field(static=True, default=1)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, u, x):
        return x**2 + jnp.sum(u)


def test_a_classifier_whose_state_overflows_has_no_scores():
    model = recurrent.SequenceClassifier(Squaring(), 3, key=KEY)
    large = jnp.full((4, 1), 1e200)
    assert np.isfinite(model(large[:1])).all()
    assert np.isnan(model(large)).all() and np.isnan(eqx.filter_jit(model)(large)).all()
    scores = jax.vmap(model)(jnp.stack([large, 0 * large]))
    assert np.isnan(scores[0]).all() and np.isfinite(scores[1]).all()


class Doubling(eqx.Module):
    """x' = 1e150 x + 1e150 (u_0 - u_1): rows past the second overflow."""

    input_size: int = eqx.field(static=True, default=2)
    hidden_size: int = eqx.field(static=True, default=1)

    def __call__(self, u, x):
        return 1e150 * (x + u[:1] - u[1:])


def test_a_language_model_has_no_logits_past_a_break_and_writes_nothing():
    model = recurrent.LanguageModel(Doubling(), key=KEY)
    logits = model(jnp.array([0, 0, 0, 0]))
    assert np.isnan(logits).all(axis=1).tolist() == [False, False, True, True]
    assert np.isnan(recurrent.bits_per_symbol(model, jnp.zeros((1, 4), int)))
    for run in (
        lambda: recurrent.generate(model, jnp.array([0]), 8, key=KEY),
        lambda: recurrent.generate(model, jnp.zeros(6, int), 1),
    ):
        with pytest.raises((Diverged, ValueError), match="finite"):
            run()
    with pytest.raises(Exception, match="stopped being finite"):
        jax.block_until_ready(eqx.filter_jit(lambda model: recurrent.generate(model, jnp.array([0]), 8))(model))


def test_logits_that_are_not_finite_write_nothing():
    """The state is fine, the readout is not: argmax of NaN would be a symbol like any other."""
    model = recurrent.LanguageModel(recurrent.Elman(3, 2, key=KEY), key=KEY)
    huge = eqx.tree_at(lambda m: m.readout.bias, model, jnp.array([1e300, 0.0, 0.0]))
    with pytest.raises(Diverged, match="non_finite"):
        recurrent.generate(huge, jnp.array([1]), 3, key=KEY, temperature=1e-100)
    assert recurrent.generate(huge, jnp.array([1]), 3, key=KEY).tolist() == [0, 0, 0]


MODEL = recurrent.LanguageModel(recurrent.Elman(3, 2, key=KEY), key=KEY)


def test_traced_symbols_that_are_none_are_nan():
    """Zero inputs would stand for them, and the last symbol for -1."""
    losses = jax.jit(jax.vmap(lambda row: recurrent.bits_per_symbol(MODEL, row[None])))
    rows = jnp.array([[0, 1, 2], [0, 3, 2], [-1, 1, 2], [0, 1, 3], [0, 1, -1]])
    assert np.isnan(losses(rows)).tolist() == [False, True, True, True, True]
    assert np.isnan(eqx.filter_jit(MODEL)(jnp.array([0, 3, 0]))).all(axis=1).tolist() == [False, True, True]


NAN = float("nan")
REFUSED = {
    "a symbol too many": (lambda: MODEL(jnp.array([0, 3])), ValueError, r"got 3 at index \[1\], expected integers from 0"),
    "a symbol below 0": (
        lambda: recurrent.bits_per_symbol(MODEL, jnp.array([[0, -1]])), ValueError, r"got -1 at index \[0, 1\]"
    ),
    "a prompt of none": (lambda: recurrent.generate(MODEL, jnp.array([4]), 2), ValueError, "prompt\n  got 4"),
    "a prompt of floats": (
        lambda: recurrent.generate(MODEL, jnp.array([1.0]), 2), TypeError, "prompt\n  got dtype float64"
    ),
    "no steps": (lambda: recurrent.generate(MODEL, jnp.array([1]), 0), ValueError, "steps\n  got 0"),
    "no temperature": (
        lambda: recurrent.generate(MODEL, jnp.array([1]), 2, temperature=0.0), ValueError, "ture\n  got 0.0"
    ),
    "a temperature of NaN": (lambda: recurrent.generate(MODEL, jnp.array([1]), 2, temperature=NAN), ValueError, "got nan"),
    "rows of one": (lambda: recurrent.bits_per_symbol(MODEL, jnp.array([[0]])), ValueError, r"shape \(1, 1\)"),
    "no classes": (lambda: recurrent.SequenceClassifier(Squaring(), 0, key=KEY), ValueError, "classes\n  got 0"),
    "no units": (lambda: recurrent.Elman(2, 0, key=KEY), ValueError, "hidden_size\n  got 0"),
    "no inputs": (lambda: recurrent.Elman(-1, 2, key=KEY), ValueError, "input_size\n  got -1"),
    "a negative gain": (lambda: recurrent.random_network(3, -1.0, key=KEY), ValueError, "gain\n  got -1.0"),
    "a gain of NaN": (
        lambda: recurrent.with_recurrent_gain(recurrent.Elman(1, 2, key=KEY), NAN, key=KEY), ValueError, "gain\n  got nan"
    ),
    "a negative radius": (lambda: recurrent.with_spectral_radius(jnp.eye(2), -0.5), ValueError, "radius\n  got -0.5"),
    "a nilpotent matrix": (
        lambda: recurrent.with_spectral_radius(jnp.array([[0.0, 1.0], [0.0, 0.0]]), 0.5),
        ValueError, "of the matrix\n  got 0.0"
    ),
    "no gain": (lambda: recurrent.mean_field_exponent(0.0), ValueError, "gain\n  got 0.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_out_of_range_are_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3


def test_a_radius_is_set_for_any_kind_of_matrix():
    """[[2, 1], [0, 1]] has radius 2; i times it too."""
    matrix = np.array([[2, 1], [0, 1]])
    for kind in (int, np.float32, complex):
        found = recurrent.with_spectral_radius(jnp.asarray(matrix.astype(kind) * (1j if kind is complex else 1)), 0.5)
        assert np.max(np.abs(np.linalg.eigvals(np.asarray(found)))) == pytest.approx(0.5, rel=1e-6)


class Growing(eqx.Module):
    """A cell whose state grows by its input at each step."""

    weight: jax.Array
    input_size: int = 1
    hidden_size: int = 3

    def __call__(self, inputs, state):
        return jnp.concatenate([state, inputs * self.weight[0]])


SINES = jnp.stack([jnp.sin(0.3 * jnp.arange(300.0)), jnp.cos(0.2 * jnp.arange(300.0))], axis=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda cell, rows: recurrent.echo_state(cell, rows),
        lambda cell, rows: recurrent.flossing_penalty(cell, rows),
        lambda cell, rows: recurrent.SequenceLabeler(cell, 2, key=jax.random.key(0))(rows),
        lambda cell, rows: recurrent.train_reservoir(cell, rows, washout=20),
    ],
)
def test_a_cell_whose_state_changes_shape_is_refused_with_both_shapes(call):
    with pytest.raises(ValueError, match=r"(\(4,\), expected \(3,\))|(\[4\], expected float64\[3\])"):
        call(Growing(jnp.ones(1)), SINES[:60, :1])


def test_a_reservoir_that_blows_up_is_an_outcome_and_no_forecast():
    wild = recurrent.reservoir(2, 20, key=jax.random.key(0), spectral_radius=1e3, activation="identity")
    with pytest.raises(
        Diverged, match=r"(?s)train_reservoir: cell\n  got a run that ended so: non_finite.*Lower the spectral"
    ):
        recurrent.train_reservoir(wild, SINES, washout=20)
    tame = recurrent.reservoir(2, 20, key=jax.random.key(0))
    model = recurrent.train_reservoir(tame, SINES, washout=20)
    broken = eqx.tree_at(lambda m: m.cell, model, wild)
    found = recurrent.forecast(broken, SINES, 5, key=jax.random.key(1))
    assert not bool(found.outcome.completed) and np.isnan(found.mean).all() and np.isnan(found.quantiles).all()
    assert "stopped being finite" in found.cautions[0]
    assert recurrent.echo_state(wild, SINES).verdict == "broke"


NO_ROWS = {
    "no numbers": [["a", "b"]] * 30,
    "unequal length": [[1.0], [1.0, 2.0]],
    r"nan at index \[7, 1\]": SINES.at[7, 1].set(jnp.nan),
}


@pytest.mark.parametrize(("words", "rows"), NO_ROWS.items())
def test_rows_that_are_no_numbers_are_refused_by_place(words, rows):
    with pytest.raises(ValueError, match=words):
        recurrent.train_reservoir(recurrent.reservoir(2, 9, key=jax.random.key(0)), rows, washout=2)


def test_a_washout_longer_than_the_series_is_refused():
    model = recurrent.train_reservoir(recurrent.reservoir(2, 9, key=jax.random.key(0)), SINES, washout=20)
    with pytest.raises(ValueError, match="washout\n  got 400"):
        recurrent.with_residual(model, SINES, 400)
