"""What a recurrent network's examination finds, against gains and horizons in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
import separatrix.recurrent

ROTATION = jax.random.orthogonal(jax.random.key(5), 3)


def findings(system, state=None, **asked):
    return sx.diagnostics.examine(system, jnp.zeros(3) if state is None else state, **asked)


def linear(gain, steps):
    return sx.from_cell(lambda u, x: gain * (ROTATION @ x) + u, jnp.ones((steps, 3)))


@pytest.mark.parametrize(
    ("gain", "steps", "holds"), [(0.5, 9, True), (0.5, 10, False), (2.0, 9, True), (2.0, 10, False)]
)
def test_horizon_of_a_linear_network(gain, steps, holds):
    # A gradient changes by the gain a step, exactly: a thousandfold after ln(1000)/ln(2) = 9.97 steps.
    (found,) = findings(linear(gain, steps))
    assert found.evidence == pytest.approx(np.log(1000) / np.log(2), rel=1e-9)
    assert found.threshold == steps and found.holds is holds
    assert ("vanishes" if gain < 1 else "explodes") in found.cause


def test_of_an_isometry_the_horizon_is_without_end_or_nearly():
    (found,) = findings(linear(1.0, 50))
    assert found.evidence > 1e10 and found.holds


def test_gain_that_lets_gradients_back():
    # 0.5^9 > 1e-3 > 0.5^10; with zero input tanh is the identity at rest, so that measured and bound agree.
    cell = sx.recurrent.with_recurrent_gain(sx.recurrent.Elman(2, 3, key=jax.random.key(0)), 0.5, key=jax.random.key(1))
    for steps, holds in ((9, True), (10, False)):
        gain, horizon = findings(sx.from_cell(cell, jnp.zeros((steps, 2))))
        assert gain.evidence == pytest.approx(0.5, rel=1e-12)
        assert gain.threshold == pytest.approx(1e-3 ** (1 / steps), rel=1e-12)
        assert gain.holds is holds and horizon.holds is holds
        assert horizon.evidence == pytest.approx(np.log(1000) / np.log(2), rel=1e-9)
    # From step 1 of 10 there are nine left.
    assert all(found.holds for found in findings(sx.from_cell(cell, jnp.zeros((10, 2))), at=1))


def test_a_gated_cell_is_measured_without_a_bound():
    cell = eqx.nn.GRUCell(2, 3, key=jax.random.key(0))
    found = findings(sx.from_cell(cell, jnp.zeros((12, 2))))
    assert len(found) == 1 and found[0].threshold == 12


@pytest.mark.parametrize("gain", [0.8, 1.3])
def test_a_random_network_rests_below_the_inverse_of_its_radius(gain):
    network = sx.recurrent.random_network(40, gain, key=jax.random.key(0))
    (found,) = findings(network, jnp.zeros(40))
    assert found.evidence == pytest.approx(gain * max(abs(np.linalg.eigvals(np.asarray(network.weight)))), rel=1e-9)
    late = sx.evolve(network, 0.1 * jnp.ones(40), steps=2000, save="last").final
    assert found.holds is bool(jnp.max(jnp.abs(late)) < 1e-6)


def test_the_direction_that_is_kept_best_counts():
    """Of diag(1, 1/4, 1/16) a mean gradient shrinks at first, and one of three directions not at all."""
    kept = sx.from_cell(lambda u, x: jnp.array([1.0, 0.25, 0.0625]) * x + u, jnp.ones((8, 3)))
    (found,) = findings(kept)
    assert found.evidence > 1e10 and found.holds
    (lost,) = findings(sx.from_cell(lambda u, x: jnp.array([0.25, 0.5, 0.0625]) * x + u, jnp.ones((20, 3))))
    assert lost.evidence == pytest.approx(np.log(1000) / np.log(2), rel=1e-9) and lost.status == "caution"
    assert "gates help if the cell has none" in lost.remedy


def test_a_gated_cell_is_not_told_to_become_one():
    """With small weights a GRU's gates are half open, and half of the state is kept: 2^-12 of a gradient after 12 steps."""
    cell = jax.tree.map(lambda w: 1e-9 * w if eqx.is_array(w) else w, eqx.nn.GRUCell(2, 3, key=jax.random.key(0)))
    (found,) = findings(sx.from_cell(cell, jnp.zeros((12, 2))))
    assert found.evidence == pytest.approx(np.log(1000) / np.log(2), rel=1e-6)
    assert found.status == "caution" and "open its gates" in found.remedy and "use a gated cell" not in found.remedy
    elman = sx.recurrent.with_recurrent_gain(
        sx.recurrent.Elman(2, 3, key=jax.random.key(0)), 0.5, key=jax.random.key(1)
    )
    gain, reach = findings(sx.from_cell(elman, jnp.zeros((12, 2))))
    assert gain.status == reach.status == "caution" and "use a gated cell" in reach.remedy


def test_weights_of_zero_and_a_run_that_breaks():
    network = sx.recurrent.network.RandomNetwork(jnp.zeros((3, 3)), jnp.array(2.0))
    (found,) = findings(network)
    assert found.evidence == 0 and found.holds
    nothing = eqx.tree_at(lambda c: c.weight_hh, sx.recurrent.Elman(2, 3, key=jax.random.key(0)), jnp.zeros((3, 3)))
    gain, reach = findings(sx.from_cell(nothing, jnp.ones((12, 2))))
    assert (gain.evidence, reach.evidence) == (0.0, 0.0)
    broken = sx.from_cell(lambda u, x: 1e200 * x + u, jnp.ones((12, 3)))
    assert [finding.status for finding in findings(broken)] == ["not known"]


def test_other_driven_systems_have_no_findings():
    leaky = sx.drive(sx.as_open_map(lambda x, u: 0.5 * x + u), jnp.ones((5, 3)))
    assert findings(leaky) == []
