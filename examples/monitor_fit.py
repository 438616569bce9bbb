"""`fit` with a monitor: momentum on a quarter of the handwritten digits, started past its own stability edge."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import separatrix as sx

digits = sx.load("digits").flat()
inputs, labels = jnp.asarray(digits.inputs[:384], jnp.float32), jnp.asarray(digits.targets[:384])
model = eqx.nn.MLP(64, 10, 32, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float32)


def loss(model, batch):
    inputs, labels = batch
    outputs = jax.vmap(model)(inputs)
    return jnp.mean(jnp.sum((outputs - jax.nn.one_hot(labels, 10, dtype=outputs.dtype)) ** 2, axis=1)) / 2


monitor = sx.StabilityMonitor(every=20)
fitted = sx.fit(loss, optax.sgd(0.05, 0.9), (inputs, labels), initial=model, steps=400, monitor=monitor)

report = monitor.report()
print(report)
