"""A plain optax + Flax NNX loop with one line added: where does this run stand against its own stability edge?

The instrument wants parameters as a tree of arrays: `nnx.split` parts them from the module, `nnx.merge` puts them back.
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


graph, parameters = nnx.split(Network(nnx.Rngs(0)), nnx.Param)
transformation = optax.sgd(0.1, momentum=0.9)
state = transformation.init(parameters)


def loss_of_parameters(parameters, inputs, labels):
    return loss(nnx.merge(graph, parameters), inputs, labels)


@jax.jit
def train(parameters, state, inputs, labels):
    slope = jax.grad(loss_of_parameters)(parameters, inputs, labels)
    updates, state = transformation.update(slope, state, parameters)
    return optax.apply_updates(parameters, updates), state


monitor = sx.StabilityMonitor(loss_of_parameters, transformation, every=20)
for step in range(401):
    monitor(step, parameters, state, inputs, labels)  # the one line
    parameters, state = train(parameters, state, inputs, labels)

report = monitor.report()
print(report)
