"""A classifier of digits that must be as good on odd digits as on even ones, and why its multiplier swings.

    min mean loss   subject to   loss on even digits - loss on odd digits = 0

The multiplier plays against the model. `advise` reads from the spectrum of the update how a disturbance of it turns and
decays; here the multiplier of a settled run is moved a little, and what follows is measured beside it.
"""

import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx

DESCENT, ASCENT, KICK = 0.5, 0.3, 0.05


def losses(weights, batch):
    """The loss of each example."""
    inputs, targets = batch
    return optax.softmax_cross_entropy_with_integer_labels(inputs @ weights, targets)


def loss(weights, batch):
    """The mean loss, and a little of the weights, so that there is one optimum."""
    return jnp.mean(losses(weights, batch)) + 0.005 * jnp.sum(weights**2)


def gap(weights, batch):
    """Mean loss on even digits less that on odd ones."""
    each, even = losses(weights, batch), batch[1] % 2 == 0
    return jnp.sum(jnp.where(even, each, 0)) / jnp.sum(even) - jnp.sum(jnp.where(even, 0, each)) / jnp.sum(~even)


digits = sx.load("digits").flat()
batch = (jnp.asarray(digits.inputs[:512], jnp.float32), jnp.asarray(digits.targets[:512]))
game = sx.games.Lagrangian(loss, equal=gap)
players = sx.games.Players(optax.sgd(DESCENT), optax.sgd(ASCENT))
weights = jnp.zeros((64, 10), jnp.float32)


def train(start, steps):
    """A run with the multiplier and the gap after every step."""
    seen = {"pair": lambda model: (model[1].equal[0], gap(model[0], batch))}
    return sx.fit(game, players, batch, initial=start, steps=steps, metrics=seen, every=1)


settled = train((weights, game.multipliers(weights, batch)), 1500)
optimum = game.optimality(settled.model, batch)
told = sx.games.advise(settled.map, settled.state)

model, multipliers = settled.model
moved = train((model, sx.games.ConstraintMultipliers(multipliers.equal + KICK)), 25)
still = train(settled.model, 25)
response = np.stack(moved.metrics["pair"], axis=1) - np.stack(still.metrics["pair"], axis=1)
seen = sx.games.cycle_in(response / response.std(axis=0))

print(optimum)
print(f"by the spectrum: {complex(told.turning[0]):.4f}, turns by {abs(np.angle(told.turning[0])):.4f} a step")
print(f"seen:            {complex(seen.multiplier):.4f}, turns by {abs(seen.turn):.4f} a step")
