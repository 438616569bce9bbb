"""The standard Flax NNX loop, watched in two ways: where does this run stand against its own stability edge?

From within: `sx.watch(...)` around the optimiser, and `monitor.read(optimizer)` whenever somebody wants to know. From
without: one line in the loop, `monitor(step, model, optimizer, inputs, labels)`.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import separatrix as sx

digits = sx.load("digits").flat()
inputs, labels = jnp.asarray(digits.inputs[:768], jnp.float32), jnp.asarray(digits.targets[:768])


class Network(nnx.Module):
    """64 - 32 - 10, tanh."""

    def __init__(self, rngs):
        self.first = nnx.Linear(64, 32, rngs=rngs)
        self.second = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


def loss(model, inputs, labels):
    outputs = model(inputs)
    return jnp.mean(jnp.sum((outputs - jax.nn.one_hot(labels, 10, dtype=outputs.dtype)) ** 2, axis=1)) / 2


model = Network(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, sx.watch(optax.sgd(0.1, momentum=0.9)), wrt=nnx.Param)  # from within


@nnx.jit
def train(model, optimizer, inputs, labels):
    slope = nnx.grad(loss)(model, inputs, labels)
    optimizer.update(model, slope)


monitor = sx.StabilityMonitor(loss, optimizer, every=20)
for step in range(401):
    monitor(step, model, optimizer, inputs, labels)  # from without: the one line
    train(model, optimizer, inputs, labels)

within = sx.StabilityMonitor()
within.read(optimizer)

report = monitor.report()
print(report)
