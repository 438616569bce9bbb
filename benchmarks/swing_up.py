r"""Is a cart-pole swung up and held, from how many seeds?

The cart of 1 kg stands on a rail of 3 m, the pole of 0.1 kg and 0.5 m hangs; the force is at most 5 N, a fourth of what
the linear regulator would ask for at 30 degrees. A policy, a net of two layers of 32, is trained through the simulator by
`fit`, all seeds as one program under `jax.vmap`: another net, other starts and other batches each. At the top the regulator
takes over, on the region that `hand_over` measures. A run counts if the pole is within 0.1 rad of upright over the last
10 s of 30, the cart has never left the rail and the force was never larger than allowed. Each seed is tried from rest,
hanging, and from 64 states near it.

    python benchmarks/swing_up.py [--pendulum] [--seeds 5] [--steps 1600]
"""

import argparse
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

LENGTH, TRIED, SECONDS, UP = 30.0, 64, 10.0, 0.1


class Task:
    """What differs between the two plants."""

    def __init__(self, pendulum: bool):
        self.name = "pendulum" if pendulum else "cart-pole"
        if pendulum:
            self.plant, self.limit, self.rest = sx.residual.PendulumPlant(), 0.3, (jnp.pi, 0.0)
            self.q, self.r, self.rail = np.eye(2), 1.0, None
            self.starts, self.tried = np.array([np.pi, 2.0]), np.array([0.3, 0.1])
            self.horizon, self.step_size = 16.0, 0.16
        else:
            self.plant, self.limit, self.rest = sx.residual.CartPole(), 5.0, (0.0, jnp.pi, 0.0, 0.0)
            self.q, self.r, self.rail = np.diag([1.0, 10.0, 0.1, 0.1]), 0.1, 1.5
            self.starts, self.tried = np.array([0.3, np.pi, 0.3, 2.0]), np.array([0.2, 0.3, 0.2, 0.5])
            self.horizon, self.step_size = 4.0, 0.04
        self.size = len(self.q)
        self.held = sx.residual.hand_over(
            self.plant, lambda x: 0.0 * x[0], jnp.array(self.rest), q=self.q, r=self.r, limit=self.limit,
            coordinates=self.plant.from_upright, constraint=None if self.rail is None else self.fence,
        )  # fmt: skip

    def fence(self, x: Any, u: Any) -> Any:
        return jnp.abs(x[0]) - self.rail

    def near(self, x: Any) -> Any:
        """0 at the top, 1/3 at the border of what the regulator holds, 1 far away."""
        value = self.held.regulator.value(x)
        return value / (value + 2 * jnp.asarray(self.held.level, x.dtype))

    def cost(self, x: Any, u: Any) -> Any:
        energy = self.plant.energy(x) if self.size == 2 else self.plant.pole_energy(x)
        angle = x[0] if self.size == 2 else x[1]
        shape = 0.25 * (energy - 1) ** 2 + 0.5 * (1 + jnp.cos(angle)) + 2 * self.near(x) + 0.01 * (u / self.limit) ** 2
        return shape if self.size == 2 else shape + 0.1 * x[0] ** 2

    def loss(self) -> Any:
        fence = None if self.rail is None else lambda x, u: jnp.abs(x[0]) - 0.8 * self.rail
        return sx.residual.policy_loss(
            self.plant, self.cost, horizon=self.horizon, steps=round(self.horizon / self.step_size),
            terminal=lambda x: 6 * self.near(x), constraint=fence, weight=50.0, method=sx.Midpoint(),
        )  # fmt: skip


def train(task: Task, seeds: int, steps: int, rate: float) -> Any:
    """The policies of all seeds, stacked, and their losses."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))
    loss, width = task.loss(), 3 if task.size == 2 else 5

    def one(key: Any) -> Any:
        first, second, third = jax.random.split(key, 3)
        net = eqx.nn.MLP(width, "scalar", 32, 2, jnp.tanh, key=first, dtype=jnp.float32)
        policy = sx.residual.BoundedPolicy(net, limit=task.limit, features=task.plant.features)
        starts = jax.random.uniform(second, (1024, task.size), jnp.float32, -1, 1) * jnp.asarray(
            task.starts, jnp.float32
        )
        found = sx.fit(loss, optimizer, starts, initial=policy, steps=steps, batch_size=16, key=third)
        return found.model, found.losses

    return eqx.filter_jit(eqx.filter_vmap(one))(jax.random.split(jax.random.key(0), seeds))


def trials(task: Task, policies: Any) -> dict[str, Any]:
    """Of each seed and start: since when it is up for good, how far the cart went, the largest force."""
    spread = np.random.default_rng(1).uniform(-1, 1, (TRIED, task.size)) * task.tried
    starts = jnp.asarray(np.concatenate([np.zeros((1, task.size)), spread]), jnp.float32)

    def one(policy: Any, start: Any) -> Any:
        handed = task.held.after(policy)

        def seen(x: Any) -> Any:
            offset = task.plant.from_upright(x)
            return offset[0 if task.size == 2 else 1], x[0], handed(0.0, x)

        path = sx.evolve(
            sx.close_loop(task.plant, handed), start, times=(0.0, LENGTH), step_size=0.005, method=sx.RK4(), save=seen
        )
        angle, place, force = path.states
        late = jnp.max(jnp.where(jnp.abs(angle) > UP, path.times, 0.0))
        return late, jnp.max(jnp.abs(place)), jnp.max(jnp.abs(force))

    late, place, force = eqx.filter_jit(eqx.filter_vmap(lambda p: jax.lax.map(lambda s: one(p, s), starts)))(policies)
    return {"late": np.asarray(late), "place": np.asarray(place), "force": np.asarray(force)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pendulum", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--rate", type=float, default=1e-2)
    asked = parser.parse_args()
    clock = time.process_time()
    task = Task(asked.pendulum)
    policies, losses = jax.block_until_ready(train(task, asked.seeds, asked.steps, asked.rate))
    spent = time.process_time() - clock
    found = trials(task, policies)
    kept = found["force"] <= task.limit * (1 + 1e-6)
    if task.rail is not None:
        kept &= found["place"] <= task.rail
    good = kept & (found["late"] <= LENGTH - SECONDS)
    rows = [
        [
            str(seed), float(np.asarray(losses)[seed, -1]), "yes" if good[seed, 0] else "no",
            float(found["late"][seed, 0]), float(np.mean(good[seed, 1:])), float(found["place"][seed].max()),
            float(found["force"][seed].max()),
        ]
        for seed in range(asked.seeds)
    ]  # fmt: skip
    report(
        f"swing up {task.name}", f"{task.name} swung up and held; training took {spent:.0f} CPU s for all seeds",
        ["seed", "loss", "from rest", "up since", f"share of {TRIED}", "largest |x|", "largest |u|"], rows,
        f"level of the hand-over {float(task.held.level):.3g}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
