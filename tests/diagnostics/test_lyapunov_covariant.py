"""Covariant vectors: eigenvectors of linear maps, and what the dynamics carries into itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


def parallel(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return np.abs(np.sum(one * other, -1)) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


def test_of_a_linear_map_they_are_its_eigenvectors():
    # Three real eigenvalues; the matrix is far from normal, so that a transpose would give the left ones.
    vectors = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
    values = np.array([1.5, -0.9, 0.4])
    matrix = jnp.asarray(vectors @ np.diag(values) @ np.linalg.inv(vectors))
    found = sx.covariant_vectors(sx.as_map(lambda x: matrix @ x), jnp.zeros(3), steps=240)
    np.testing.assert_allclose(parallel(found.vectors, vectors.T[None]), 1.0, atol=1e-12)
    np.testing.assert_allclose(found.exponents, np.log(np.abs(values)), atol=1e-12)
    assert found.cautions == ()


def test_of_the_cat_map_they_are_orthogonal_eigenvectors():
    cat = sx.catalogue.entry("cat")
    found = sx.covariant_vectors(cat.build(), cat.start(), steps=90)
    _, vectors = np.linalg.eigh([[2.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(parallel(found.vectors, vectors.T[::-1][None]), 1.0, atol=1e-12)
    np.testing.assert_allclose(found.angles(), np.pi / 2, atol=1e-7)


def test_henon_carries_them_into_one_another():
    henon = sx.catalogue.entry("henon").build()
    found = sx.covariant_vectors(henon, jnp.array([0.1, 0.1]), steps=600)
    jacobians = jax.vmap(jax.jacfwd(lambda x: henon.step(0, x)))(found.states)
    pushed = jnp.einsum("nab,nib->nia", jacobians, found.vectors)
    np.testing.assert_allclose(parallel(pushed[:-1], found.vectors[1:]), 1.0, atol=1e-9)
    # The second is not the second row of QR: they meet at every angle, as near tangencies must.
    assert float(jnp.min(found.angles())) < 0.1 < 0.5 < float(jnp.max(found.angles()))
    growth = jnp.mean(jnp.log(jnp.linalg.norm(pushed, axis=-1)), axis=0)
    np.testing.assert_allclose(found.exponents, growth, atol=1e-9)
    np.testing.assert_allclose(found.states[1:], jax.vmap(lambda x: henon.step(0, x))(found.states[:-1]), atol=1e-12)


def test_of_a_flow_the_neutral_one_is_its_velocity():
    lorenz = sx.catalogue.entry("lorenz").build()
    found = sx.covariant_vectors(lorenz, jnp.ones(3), times=(0.0, 60.0), step_size=0.02)
    velocity = jax.vmap(lambda x: lorenz.velocity(0.0, x))(found.states)
    np.testing.assert_allclose(parallel(found.vectors[:, 1], velocity), 1.0, atol=1e-6)
    assert float(found.times[1] - found.times[0]) == pytest.approx(0.08)


def test_a_short_run_and_misuse_are_told():
    rotation = sx.as_map(lambda x: jnp.array([[0.6, -0.8], [0.8, 0.6]]) @ x)
    found = sx.covariant_vectors(rotation, jnp.zeros(2), steps=30)
    assert any("depend on the end" in caution for caution in found.cautions)
    with pytest.raises(ValueError, match="Say steps="):
        sx.covariant_vectors(rotation, jnp.zeros(2))
    with pytest.raises(ValueError, match="some left between"):
        sx.covariant_vectors(rotation, jnp.zeros(2), steps=10, transient=5, settling=5)
    with pytest.raises(ValueError, match="directions on both sides"):
        found.angles(2)
