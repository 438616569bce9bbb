"""The spectrum of a product of matrices, against factors whose product is known in closed form."""

import numpy as np
import pytest

from separatrix.linear.spectrum import product_spectrum


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_eigenvalues_of_a_product_keep_their_own_digits_beside_large_ones(count):
    generator = np.random.default_rng(count)
    bases = [np.linalg.qr(generator.standard_normal((3, 3)))[0] for _ in range(count)]
    sizes = np.array([-30.0, 1.0, 0.02])
    # B_{i+1} D B_i^T, round a circle: the product is B_0 D^n B_0^T.
    factors = np.stack([bases[(i + 1) % count] @ np.diag(sizes) @ bases[i].T for i in range(count)])
    values, logarithms = product_spectrum(factors)
    np.testing.assert_allclose(values, sizes**count, rtol=1e-8)
    np.testing.assert_allclose(logarithms, count * np.log(np.abs(sizes)), atol=1e-8)


def test_a_rotation_comes_as_a_pair_and_the_order_of_factors_counts():
    a, b = np.array([[0.0, -2.0], [0.5, 0.3]]), np.array([[1.0, 4.0], [0.0, 0.25]])
    values, _ = product_spectrum(np.stack([a, b, np.eye(2)]))
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(b @ a)), rtol=1e-12)
