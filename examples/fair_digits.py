"""A classifier of digits that must be as good on odd digits as on even ones, and why its multiplier swings.

    min mean loss   subject to   loss on even digits - loss on odd digits = 0

The multiplier plays against the model. Plain descent-ascent overshoots and swings; `advise` reads the turn a step from the
spectrum of the update, and the swing of the run is measured beside it. A proportional term damps it.
"""

import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx

DESCENT, ASCENT, STEPS = 0.5, 0.2, 800


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


def train(batch, ascent, start=None):
    """A run with the multiplier and the gap after every step."""
    game = sx.games.Lagrangian(loss, equal=gap)
    weights = jnp.zeros((64, 10), jnp.float32)
    players = sx.games.Players(optax.sgd(DESCENT), ascent)
    seen = {"pair": lambda model: (model[1].equal[0], gap(model[0], batch))}
    initial = (weights, game.multipliers(weights, batch)) if start is None else start
    return game, sx.fit(game, players, batch, initial=initial, steps=STEPS, metrics=seen, every=1)


def main():
    """Train, explain, damp."""
    digits = sx.load("digits").flat()
    batch = (jnp.asarray(digits.inputs[:512], jnp.float32), jnp.asarray(digits.targets[:512]))
    game, swinging = train(batch, optax.sgd(ASCENT))
    told = sx.games.advise(swinging.map, swinging.state)
    records = np.stack(swinging.metrics["pair"], axis=1)
    # The last half, where the model has settled and the pair alone turns.
    seen = sx.games.cycle_in((records / records.std(axis=0))[STEPS // 2 :])
    predicted = float(np.max(np.abs(np.angle(told.turning)))) if len(told.turning) else 0.0
    print(f"turn of the multiplier a step: {abs(seen.turn):.4f} seen, {predicted:.4f} by the spectrum")
    _, damped = train(batch, sx.games.pi_control(ASCENT, 10 * ASCENT))
    for name, run in (("plain", swinging), ("damped", damped)):
        gaps = np.abs(np.asarray(run.metrics["pair"][1]))
        print(
            f"{name}: largest gap in the second quarter {gaps[STEPS // 4 : STEPS // 2].max():.5f}, last {gaps[-1]:.6f}"
        )
    print(game.optimality(swinging.model, batch))
    return abs(seen.turn), predicted


if __name__ == "__main__":
    main()
