"""Recurrent networks."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix.catalogue.listing import Entry
from separatrix.recurrent import (
    Antisymmetric,
    DiagonalRecurrence,
    Elman,
    LanguageModel,
    Stacked,
    Writing,
    cycle_reservoir,
    random_network,
    random_network_flow,
)
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


def _antisymmetric() -> Any:
    cell = Antisymmetric(1, 4, step_size=0.1, friction=0.2, key=jax.random.key(5))
    return from_cell(cell, jnp.cos(jnp.arange(20.0))[:, None])


def _oscillators() -> Any:
    return from_cell(DiagonalRecurrence(1, 2, key=jax.random.key(6)), jnp.cos(jnp.arange(20.0))[:, None])


def _reservoir() -> Any:
    cell = cycle_reservoir(1, 8, 0.9, key=jax.random.key(7), leak=0.5)
    return from_cell(cell, jnp.cos(jnp.arange(20.0))[:, None])


def _stacked() -> Any:
    keys = jax.random.split(jax.random.key(8))
    net = Stacked([eqx.nn.GRUCell(1, 3, key=keys[0]), Elman(3, 2, key=keys[1])])
    return from_cell(net, jnp.cos(jnp.arange(20.0))[:, None])


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
    Entry("noisy-network", "map", "sixteen leaky tanh units with noise in their fields", "x' = (1 - d) x + d tanh(g J x + s z)",
          "as N grows, noise of variance 0.18614375 ends the chaos of gain 1.5 (without leak)",
          lambda: random_network(16, 1.5, key=jax.random.key(4), leak=0.5, noise=0.4),
          lambda: 0.5 * jnp.cos(jnp.arange(16.0)), 20, None, True),
    Entry("random-network-flow", "flow", "sixteen rate units with random weights and gain 1.5", "dx/dt = -x + g J tanh(x)",
          "rest is stable iff the rightmost eigenvalue of g J is left of 1; as N grows that is g < 1 (Sompolinsky 1988)",
          lambda: random_network_flow(16, 1.5, key=jax.random.key(4)), lambda: 0.5 * jnp.cos(jnp.arange(16.0)), 5.0, 0.05),
    Entry("antisymmetric-network", "map", "Euler's step of a flow that turns, driven", "x' = x + h tanh((W - W^T - c 1) x + V u)",
          "stable at rest iff h < 2 c/(c^2 + m^2) for each frequency m (Chang 2019)",
          _antisymmetric, lambda: jnp.array([0.5, -0.5, 1.0, 0.2]), 20),
    Entry("diagonal-recurrence", "map", "two damped oscillators, driven", "z' = a z + sqrt(1 - |a|^2) B u",
          "exponents are ln|a|, each twice; a sequence takes one associative scan (Orvieto 2023)",
          _oscillators, lambda: jnp.array([0.5, -0.5, 1.0, 0.2]), 20),
    Entry("cycle-reservoir", "map", "a leaky reservoir whose units hear their neighbour, driven", "x' = (1 - d) x + d tanh(r P x + V u)",
          "linear and without leak it remembers N - 1 + r^(2N) delays (Rodan & Tino 2011)",
          _reservoir, lambda: jnp.cos(jnp.arange(8.0)), 20),
    Entry("stacked-network", "map", "an Elman cell on top of a GRU, driven", "x1' = F1(x1, u), x2' = F2(x2, x1')",
          "its last layer is the Elman cell, driven by the new states of the GRU",
          _stacked, lambda: [_vector(), jnp.array([0.3, -0.4])], 20),
)  # fmt: skip
