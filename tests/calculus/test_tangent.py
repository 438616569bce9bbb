"""The tangent of a random equation: the noise that moves a point moves its perturbations too."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import separatrix as sx

X, T, H = jnp.array([0.7, -0.4]), 0.6, 0.1


def drift(t, x):
    return jnp.stack([x[1] - 0.3 * t * x[0] ** 2, -jnp.sin(x[0]) + 0.2 * x[0] * x[1]])


def columns(t, x):
    """Three noises into two components, all of them state-dependent."""
    return jnp.stack([jnp.stack([x[1], 0.5 * x[0] * t, jnp.cos(x[0])]), jnp.stack([x[0] ** 2, -x[1], 0.3 * x[1] ** 3])])


SDES = {
    "matrix noise": sx.as_sde(drift, lambda t, x: lx.MatrixLinearOperator(columns(t, x))),
    "diagonal noise": sx.as_sde(drift, lambda t, x: jnp.stack([t * x[0], jnp.sin(x[0] * x[1])])),
    "additive noise": sx.as_sde(drift, lambda t, x: 0.5),
}


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("block", [False, True], ids=["vector", "block"])
def test_tangent_commutes_with_euler_maruyama(name, block):
    """d(x, V) = (f, Df V) dt + (g, Dg V) dW, stepped, is the tangent of the step x + f h + g dW."""
    sde, key = SDES[name], jax.random.key(1)
    v = jnp.array([[0.3, -1.0], [2.0, 0.5], [0.1, 0.7]]) if block else jnp.array([0.3, -1.0])
    state = sx.TangentState(X, v)
    one = sx.discretize(sx.tangent(sde), sx.EulerMaruyama(), H).step(6, state, key=key)
    other = sx.tangent(sx.discretize(sde, sx.EulerMaruyama(), H)).step(6, state, key=key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), tuple(one), tuple(other))


def test_perturbation_of_multiplicative_noise_by_hand():
    state = sx.TangentState(X, jnp.array([0.3, -1.0]))
    dw = jnp.array([0.2, -0.7, 1.1])
    moved = sx.tangent(SDES["matrix noise"]).diffusion(T, state).mv(dw)
    np.testing.assert_allclose(moved.point, columns(T, X) @ dw, rtol=1e-14)
    by_hand = jnp.einsum("ijk,k,j->i", jax.jacfwd(columns, argnums=1)(T, X), state.perturbation, dw)
    np.testing.assert_allclose(moved.perturbation, by_hand, rtol=1e-13)


def test_tangent_of_a_random_map_meets_the_draw_of_the_map():
    map = sx.as_map(lambda n, x, key=None: x * jax.random.normal(key, x.shape) * (1 + jnp.asarray(n, x.dtype)))
    key = jax.random.key(9)
    moved = sx.tangent(map).step(4, sx.TangentState(X, jnp.ones(2)), key=key)
    np.testing.assert_allclose(moved.perturbation, 5 * jax.random.normal(key, (2,)), rtol=1e-14)


def test_tangent_of_a_near_identity_map_keeps_its_clock():
    map = sx.discretize(SDES["additive noise"], sx.EulerMaruyama(), H)
    assert float(sx.tangent(map).step_size) == H
    moved = sx.tangent(map).advance(T, sx.TangentState(X, jnp.eye(2)), jnp.asarray(0.3)).perturbation
    np.testing.assert_allclose(moved.T, jnp.eye(2) + 0.3 * jax.jacfwd(drift, argnums=1)(T, X), rtol=1e-13)


def test_linearize_holds_number_time_and_draw_fixed():
    map = sx.as_map(lambda n, x, key=None: x * jax.random.normal(key, x.shape) * (1 + jnp.asarray(n, x.dtype)))
    key = jax.random.key(9)
    np.testing.assert_allclose(
        sx.linearize(map, X, at=2, key=key).as_matrix(), 3 * jnp.diag(jax.random.normal(key, (2,))), rtol=1e-14
    )
    flow = sx.as_flow(drift)
    np.testing.assert_allclose(sx.linearize(flow, X, at=T).as_matrix(), jax.jacrev(drift, argnums=1)(T, X), rtol=1e-14)
