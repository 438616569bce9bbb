"""Forced loops against their recursion, and the strength at which orbits no longer part against its closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix import recurrent

KEY = jax.random.key(0)
SERIES = (2 + jnp.sin(jnp.arange(64.0)))[:, None]
MODEL = recurrent.forecaster(recurrent.Elman(1, 3, key=KEY), SERIES, key=jax.random.key(1))


def by_hand(piece, strength):
    """The loss of one piece in NumPy."""
    scaled = (np.asarray(piece) - float(MODEL.mean[0])) / float(MODEL.scale[0])
    w, v, r = (np.asarray(part) for part in (MODEL.cell.weight_hh, MODEL.cell.weight_ih, MODEL.readout))
    x, errors = np.zeros(3), []
    for n in range(len(scaled) - 1):
        heard = (1 - strength) * (r[:, 0] + r[:, 1:] @ x) + strength * scaled[n]
        x = np.tanh(w @ x + v @ heard)
        errors.append((r[:, 0] + r[:, 1:] @ x - scaled[n + 1]) ** 2)
    return np.mean(errors)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_the_recursion(strength):
    batch = SERIES[:60].reshape(3, 20, 1)
    found = float(recurrent.forced_loss(MODEL, batch, strength))
    assert found == pytest.approx(np.mean([by_hand(piece, strength) for piece in batch]), rel=1e-12)
    if strength == 1.0:
        assert found == pytest.approx(float(recurrent.next_value_loss(MODEL, batch)), rel=1e-13)


def test_rows_that_are_listened_to_are_heard_as_they_are_and_not_counted():
    piece, listen, a = SERIES[:20], 5, 0.25
    scaled = (np.asarray(piece) - float(MODEL.mean[0])) / float(MODEL.scale[0])
    w, v, r = (np.asarray(part) for part in (MODEL.cell.weight_hh, MODEL.cell.weight_ih, MODEL.readout))
    x, errors = np.zeros(3), []
    for n in range(19):
        heard = scaled[n] if n < listen else (1 - a) * (r[:, 0] + r[:, 1:] @ x) + a * scaled[n]
        x = np.tanh(w @ x + v @ heard)
        if n >= listen:
            errors.append((r[:, 0] + r[:, 1:] @ x - scaled[n + 1]) ** 2)
    found = recurrent.forced_loss(MODEL, piece[None], a, listen=listen)
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-12)
    with pytest.raises(ValueError, match="listen"):
        recurrent.forced_loss(MODEL, piece[None], a, listen=19)


def test_scale_and_mean_of_a_series_are_not_trained():
    batch = SERIES[:60].reshape(3, 20, 1)
    slope = jax.grad(lambda model: recurrent.forced_loss(model, batch, 0.5))(MODEL)
    assert not np.any(slope.mean) and not np.any(slope.scale) and not np.any(slope.residual)
    assert np.any(slope.readout) and np.any(slope.cell.weight_hh)


@pytest.mark.parametrize(("slope", "strength"), [(0.9, 0.0), (1.25, 0.2), (4.0, 0.75)])
def test_the_least_strength_of_a_cell_that_passes_on_is_its_closed_form(slope, strength):
    cell = recurrent.Elman(1, 1, key=KEY, activation="identity")
    cell = eqx.tree_at(lambda c: (c.weight_hh, c.weight_ih), cell, (jnp.zeros((1, 1)), jnp.ones((1, 1))))
    model = recurrent.forecaster(cell, SERIES, key=KEY)
    model = eqx.tree_at(lambda m: m.readout, model, jnp.array([[0.0, slope]]))
    found = recurrent.forcing_strength(model, SERIES, halvings=6)
    assert strength - 1e-12 <= found <= strength + 2**-6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recurrent.forced_loss(MODEL, SERIES[None], 1.5), "strength\n  got 1.5"),
        (lambda: recurrent.forced_loss(MODEL, SERIES, 0.5), r"got shape \(64, 1\)"),
        (lambda: recurrent.forcing_strength(MODEL, SERIES[:31]), "31 rows, expected at least 32"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
