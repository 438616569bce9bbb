"""What a residual net's examination finds, against linear blocks solved by hand."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

TILTED = np.array([[0.3, 2.0], [0.0, -1.0]])  # largest singular value 2.24, spectral radius 1


def findings(field, blocks, state=None):
    return sx.diagnostics.examine(sx.residual.ResNet(field, 1 / blocks), jnp.ones(2) if state is None else state)


def test_lipschitz_constant_of_a_linear_block():
    for blocks, holds in ((2, False), (3, True)):
        found = findings(lambda x: jnp.asarray(TILTED) @ x, blocks)[0]
        assert found.evidence == pytest.approx(np.linalg.norm(TILTED, 2) / blocks, rel=1e-12)
        assert found.holds is holds
    assert "step size below 0.44" in findings(lambda x: jnp.asarray(TILTED) @ x, 2)[0].remedy


def test_the_steepest_block_counts():
    # x' = (1/2 - t) x over t = 0, 1/8, ..., 7/8: the block at t = 0 is the steepest, 1/2.
    found = findings(lambda t, x: (0.5 - t) * x, 8)[0]
    assert found.evidence == pytest.approx(0.5 / 8, rel=1e-12)


@pytest.mark.parametrize("blocks", [4, 32])
def test_estimate_of_the_error_of_growth(blocks):
    found = findings(lambda x: x, blocks, jnp.ones(1))[1]
    coarse, fine = (1 + 1 / blocks) ** blocks, (1 + 0.5 / blocks) ** (2 * blocks)
    assert found.evidence == pytest.approx(2 * (fine - coarse) / (coarse - 1), rel=1e-12)
    # The estimate is right to its next order: within 1/L of the true distance from e.
    assert found.evidence == pytest.approx((np.e - coarse) / (coarse - 1), rel=1 / blocks)
    assert found.holds is (blocks == 32)


def test_blocks_that_do_nothing_and_blocks_without_length():
    """h Lip(f) = 0, and no distance from a flow that does not move."""
    stretch, near = findings(lambda x: 0 * x, 4)
    assert (stretch.evidence, near.evidence) == (0.0, 0.0) and stretch.holds and near.holds
    # x' = cos(4 pi t) vanishes in the mean over 2 blocks of 1/2, at t = 0 and 1/2 it is 1; over 4 it is 1, -1, 1, -1.
    found = findings(lambda t, x: jnp.cos(4 * jnp.pi * t) + 0 * x, 2, jnp.zeros(1))[1]
    assert found.evidence == pytest.approx(2.0, rel=1e-12) and found.status == "caution"
    # Out and back: what the blocks do is 1/2, at their middle, and not the nothing that is left.
    found = findings(lambda t, x: jnp.sign(0.4 - t) + 0 * x, 2, jnp.zeros(1))[1]
    assert found.evidence == pytest.approx(0.0, abs=1e-12)


def test_a_net_that_breaks_is_not_known():
    found = findings(lambda x: 1e200 * x**3, 4)
    assert [finding.status for finding in found] == ["not known", "not known"]


def test_depth_is_the_span_of_the_weights():
    net = sx.residual.AlongDepth([Growth(jnp.array(1.0))], span=2.0)
    found = sx.diagnostics.examine(sx.residual.ResNet(net, 0.5), jnp.ones(1))[1]
    assert found.evidence == pytest.approx(2 * (1.25**8 - 1.5**4) / (1.5**4 - 1), rel=1e-12)


class Growth(eqx.Module):
    """x -> rate x."""

    rate: object

    def __call__(self, x):
        return self.rate * x
