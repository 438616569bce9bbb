"""What the games chapter measures, against closed forms and the dense Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.tour.measure.games import modes_reached, ring


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


def test_modes_of_a_ring_are_counted():
    points = ring(jax.random.key(0), 20_000, spread=0.1)
    count, near = modes_reached(points)
    assert int(count) == 8
    # Of a plane Gaussian 1 - exp(-k^2/2) lies within k = 3 spreads; five standard errors.
    inside = 1 - np.exp(-4.5)
    np.testing.assert_allclose(near, inside, atol=5 * np.sqrt(inside * (1 - inside) / 20_000))
    half = points[points[:, 1] > 1.0]
    assert int(modes_reached(half)[0]) == 3
    assert [int(v) for v in modes_reached(jnp.zeros((10, 2)))] == [0, 0]
