"""Recurrent networks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix.catalogue.listing import Entry
from separatrix.recurrent import Elman, LanguageModel, Writing, random_network
from separatrix.systems import as_map, from_cell
from separatrix.systems.base import as_parameter


def _elman() -> Any:
    inputs = jnp.cos(jnp.arange(20.0)).reshape(10, 2)
    return from_cell(Elman(2, 3, key=jax.random.key(0)), inputs)


def _orthogonal() -> Any:
    layer = eqx.nn.Linear(3, 3, use_bias=False, key=jax.random.key(1))
    return as_map(eqx.tree_at(lambda layer: layer.weight, layer, 1.1 * jax.random.orthogonal(jax.random.key(1), 3)))


def _product(x: Any, *, key: Any) -> Any:
    return x if key is None else jax.random.normal(key, (3, 3), x.dtype) @ x * (1.5 / 3**0.5)


def _writing() -> Any:
    model = LanguageModel(Elman(4, 3, key=jax.random.key(2)), key=jax.random.key(3))
    return Writing(model, as_parameter(1.0))


def _vector() -> Any:
    return jnp.array([0.5, -0.5, 1.0])


ENTRIES = (
    Entry("elman", "map", "an Elman network driven by a recorded sequence", "x' = tanh(W x + V u + b)",
          "its adjoint is backpropagation through time", _elman, _vector, 10),
    Entry("random-network", "map", "sixteen tanh units with random weights and gain 1.5", "x' = tanh(g J x), J_ij ~ N(0, 1/N)",
          "rest is stable iff g times the spectral radius of J is below 1; as N grows that is g < 1",
          lambda: random_network(16, 1.5, key=jax.random.key(4)), lambda: 0.5 * jnp.cos(jnp.arange(16.0)), 20),
    Entry("orthogonal-network", "map", "a linear network with orthogonal weights and gain 1.1", "x' = g Q x, Q^T Q = 1",
          "all exponents are ln g", _orthogonal, _vector, 20),
    Entry("gaussian-products", "map", "products of independent Gaussian matrices", "x' = G x, G_ij ~ N(0, g^2/N)",
          "largest exponent ln g + (ln(2/N) + psi(N/2))/2 (Newman 1986)", lambda: as_map(_product), _vector, 20, None, True),
    Entry("writing", "map", "a language model that reads what it writes", "x' = F(x, e_s), s' ~ softmax(R x')",
          "a Markov chain on (x, s)", _writing, lambda: (_vector(), jnp.asarray(1)), 20, None, True),
)  # fmt: skip
