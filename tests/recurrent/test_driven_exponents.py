"""Exponents of GRUs that are driven by data, equinox's and Flax's, against a plain loop of QR decompositions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import separatrix as sx

ROWS, WARM, UNITS, COUNT = 320, 64, 12, 4


def plain_exponents(step, record, size):
    """ln |R_ii| of QR decompositions of products of Jacobians, formed whole, by NumPy."""
    jacobian = jax.jit(jax.jacfwd(step, argnums=1))
    x, q = jnp.zeros(size), np.linalg.qr(np.random.default_rng(3).normal(size=(size, COUNT)))[0]
    sums = np.zeros(COUNT)
    for n, u in enumerate(record):
        q, r = np.linalg.qr(np.asarray(jacobian(u, x)) @ q)
        x = step(u, x)
        sums += np.log(np.abs(np.diag(r))) * (n >= WARM)
    return sums / (len(record) - WARM)


def test_exponents_of_gru_cells_of_two_libraries_driven_by_digits():
    record = jnp.asarray(sx.load("digits").inputs, jnp.float64).reshape(-1, 8)[:ROWS]
    own = eqx.nn.GRUCell(8, UNITS, key=jax.random.key(0), dtype=jnp.float64)
    own = sx.recurrent.with_recurrent_gain(own, 1.5, key=jax.random.key(1))
    flax = nnx.GRUCell(8, UNITS, rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64)
    graph, leaves = nnx.split(flax)
    for cell, step in ((own, lambda u, x: own(u, x)), (flax, lambda u, x: nnx.merge(graph, leaves)(x, u)[0])):
        found = sx.lyapunov_spectrum(sx.from_cell(cell, record), jnp.zeros(UNITS), count=COUNT, transient=WARM)
        truth = plain_exponents(jax.jit(step), record, UNITS)
        # Both forget their first directions at the gap of exponents, within WARM steps; 1/(ROWS - WARM) is left of that.
        np.testing.assert_allclose(found.exponents, truth, atol=0.02)
