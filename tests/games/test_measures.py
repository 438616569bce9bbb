"""What the games chapter measures, against closed forms and the dense Jacobian."""

import jax
import jax.numpy as jnp
import pytest

import separatrix as sx
from separatrix.tour.measure.games import MODES, SPREAD, ring


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_share_of_the_dirac_gan(gamma):
    """J = ((0, -1/2), (1/2, -gamma)): |A|^2 = 1/2, |S|^2 = gamma^2."""
    flow, point = sx.games.field(sx.games.DiracGAN(gamma)), (jnp.asarray(0.0), jnp.asarray(0.0))
    found = sx.field_split(flow, point, key=jax.random.key(0), probes=20_000)
    # Five standard errors, and rounding where every probe says the same.
    assert abs(found.index - 0.5 / (0.5 + gamma**2)) < 5 * found.index_error + 1e-12


def test_share_of_a_gradient_is_zero():
    flow = sx.limit(sx.optimization.GradientDescent(sx.optimization.Himmelblau(), 0.1))
    assert sx.field_split(flow, jnp.array([1.0, -2.0]), key=jax.random.key(0), probes=64).index < 1e-28


def test_the_ring_of_the_chapter_is_a_mixture_of_its_modes():
    found = sx.games.mode_coverage(ring(jax.random.key(0), 20_000), MODES, SPREAD)
    # An eighth of the points at each, five standard errors.
    assert int(found.count) == 8
    assert float(abs(found.shares - found.due).max()) < 5 * (1 / 8 * 7 / 8 / 20_000) ** 0.5
