"""A whole loop in one compiled scan, watched from within: `sx.watch(...)` around the optimiser is the one change.

Adam on a quarter of the handwritten digits. The readings lie in the optimiser's state; after the scan the monitor judges
them. With `value_fn` a reading is the ratio to the edge itself, at one more gradient every 20 steps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import separatrix as sx

digits = sx.load("digits").flat()
inputs, labels = jnp.asarray(digits.inputs[:384], jnp.float32), jnp.asarray(digits.targets[:384])
model = eqx.nn.MLP(64, 10, 32, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float32)
parameters, rest = eqx.partition(model, eqx.is_inexact_array)
optimizer = sx.watch(optax.adam(5e-3), every=20)  # the one change


def loss(parameters):
    outputs = jax.vmap(eqx.combine(parameters, rest))(inputs)
    return jnp.mean(jnp.sum((outputs - jax.nn.one_hot(labels, 10, dtype=outputs.dtype)) ** 2, axis=1)) / 2


def step(carry, _):
    parameters, state = carry
    value, slope = jax.value_and_grad(loss)(parameters)
    updates, state = optimizer.update(slope, state, parameters, value=value, value_fn=loss)
    return (optax.apply_updates(parameters, updates), state), value


@jax.jit
def train(parameters, state):
    return jax.lax.scan(step, (parameters, state), length=401)


(parameters, state), losses = train(parameters, optimizer.init(parameters))
monitor = sx.StabilityMonitor()
monitor.read(state)

report = monitor.report()
print(report)
