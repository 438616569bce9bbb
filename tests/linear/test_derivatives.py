"""A Jacobian that is not finite is refused in words before any routine for eigenvalues sees it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.diagnostics.equilibria.rest import spectra_of


@pytest.mark.parametrize("size", [2, 600])
def test_linear_stability_names_where_derivatives_are_missing(size, capfd):
    # The last coordinate alone has none at 0: the slope of a root.
    flow = sx.as_flow(lambda x: {"a": -x["a"], "b": -jnp.sqrt(jnp.abs(x["b"]))})
    with pytest.raises(ValueError, match=rf"(?s)derivatives.*in 1 of {size} coordinates, first state\['b'\], number 0"):
        sx.linear_stability(flow, {"a": jnp.ones(size - 1), "b": jnp.zeros(1)})
    assert "DLASCL" not in "".join(capfd.readouterr())


def test_a_mean_square_of_zero_is_told():
    # d/dv of m/(sqrt v + eps) at v = 0: Adam's, of a parameter that never had a slope.
    play = sx.games.Players(optax.adam(0.1))(lambda players: (players[0][0] * players[1], -players[0][0] * players[1]))
    start = play.init((jnp.array([1.0, 2.0]), jnp.array(0.5)))
    state = play.step(0, start)
    with pytest.raises(
        ValueError, match=r"not finite in 1 of 9 coordinates, first state.optimizer_state.*nu, number 1"
    ):
        sx.linear_stability(play, state)


def test_a_fixed_point_without_derivatives_has_no_kind_of_stability():
    values, tolerances = spectra_of(np.array([[[np.nan]], [[-2.0]]]), "flow", 1e-16)
    assert np.isnan(values[0, 0]) and values[1, 0] == -2.0 and np.isfinite(tolerances).all()
