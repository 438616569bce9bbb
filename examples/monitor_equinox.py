"""A plain optax + equinox loop with one line added: where does this run stand against its own stability edge?

Adam on a quarter of the handwritten digits. Its threshold, 38 over the learning rate in the metric of its second moments,
is measured from the transformation itself.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import separatrix as sx

digits = sx.load("digits").flat()
inputs, labels = jnp.asarray(digits.inputs[:384], jnp.float32), jnp.asarray(digits.targets[:384])
model = eqx.nn.MLP(64, 10, 32, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float32)
optimizer = optax.adam(5e-3)
state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))


def loss(model, inputs, labels):
    outputs = jax.vmap(model)(inputs)
    return jnp.mean(jnp.sum((outputs - jax.nn.one_hot(labels, 10, dtype=outputs.dtype)) ** 2, axis=1)) / 2


@eqx.filter_jit
def train(model, state, inputs, labels):
    value, slope = eqx.filter_value_and_grad(loss)(model, inputs, labels)
    updates, state = optimizer.update(slope, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, value


monitor = sx.StabilityMonitor(loss, optimizer, every=20)
for step in range(401):
    monitor(step, model, state, inputs, labels)  # the one line
    model, state, value = train(model, state, inputs, labels)

report = monitor.report()
print(report)
