"""Convolution by patches, against scipy's correlation and its derivative against the compiler's own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import correlate2d

from separatrix.linear.patches import convolved


def test_convolution_is_the_sum_of_correlations_of_its_channels():
    keys = jax.random.split(jax.random.key(0))
    x, weight = jax.random.normal(keys[0], (5, 7, 2)), jax.random.normal(keys[1], (3, 3, 2, 4))
    truth = np.stack(
        [sum(correlate2d(x[:, :, i], weight[:, :, i, o], mode="same") for i in range(2)) for o in range(4)], axis=-1
    )
    np.testing.assert_allclose(convolved(x, weight), truth, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(convolved(x, weight[1:2, 1:2]), x @ weight[1, 1], rtol=1e-12, atol=1e-12)

    def own(w):
        layout = ("NHWC", "HWIO", "NHWC")
        return jnp.sum(jnp.sin(jax.lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=layout)))

    slopes = [jax.grad(f)(weight) for f in (own, lambda w: jnp.sum(jnp.sin(convolved(x, w))))]
    np.testing.assert_allclose(*slopes, rtol=1e-10, atol=1e-12)
