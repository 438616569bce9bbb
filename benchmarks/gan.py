"""Row P8: a training step of a GAN on a ring of eight Gaussians.

Generator and discriminator are perceptrons of 4 layers of 16 units on batches of 512, non-saturating losses, Adam for both,
simultaneous steps. Ours is `fit` of `GAN` with `Players`; the floor is the same step by hand, `jax.grad` of the two losses
and optax in one compiled loop; the peer is PyTorch as its users write it, eagerly, with `torch.optim.Adam`, where torch is
there. The process keeps to one core, and PyTorch to one thread: threads that wait for each other count as work. Counted are
CPU seconds, medians of calls in turn, so that other work does not matter. "Times ours" above 1 says that we are faster.

    python gan.py            one core
    python gan.py threads    all cores; PyTorch with one thread and with two
"""

import functools
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

STEPS, BATCH, LATENT, RATE, ROUNDS = 500, 512, 16, 1e-4, 3


def networks(key: Any) -> tuple[Any, Any]:
    """Generator and discriminator, 4 x 16."""
    first, second = jax.random.split(key)
    return (
        eqx.nn.MLP(LATENT, 2, 16, 4, jax.nn.relu, key=first, dtype=jnp.float32),
        eqx.nn.MLP(2, "scalar", 16, 4, jax.nn.relu, key=second, dtype=jnp.float32),
    )


def ring(key: Any, count: int) -> Any:
    """Points around eight centres of radius 2."""
    which, noise = jax.random.split(key)
    angles = 2 * jnp.pi * jax.random.randint(which, (count,), 0, 8).astype(jnp.float32) / 8
    centres = 2 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return centres + 0.02 * jax.random.normal(noise, (count, 2), jnp.float32)


def ours(data: Any, start: Any) -> Callable[[], Any]:
    """`fit`, as users call it."""
    gan, players = sx.games.GAN(LATENT, penalty=None), sx.games.Players(optax.adam(RATE, b1=0.5))

    def run() -> Any:
        found = sx.fit(
            gan, players, data, initial=start, steps=STEPS, batch_size=BATCH, key=jax.random.key(1), every=STEPS
        )
        return eqx.filter(found.model, eqx.is_array)

    return run


def by_hand(data: Any, start: Any) -> Callable[[], Any]:
    """The same step in one `lax.scan`."""
    parameters, rest = eqx.partition(start, eqx.is_inexact_array)
    adam = optax.adam(RATE, b1=0.5)

    def step(state: Any, key: Any) -> tuple[Any, None]:
        (g, d), (of_g, of_d) = state
        places, noise = jax.random.split(key)
        real = data[jax.random.randint(places, (BATCH,), 0, len(data))]
        z = jax.random.normal(noise, (BATCH, LATENT), jnp.float32)

        def scores(g: Any, d: Any) -> tuple[Any, Any]:
            generator, discriminator = eqx.combine((g, d), rest)
            return jax.vmap(discriminator)(jax.vmap(generator)(z)), jax.vmap(discriminator)(real)

        own = jax.grad(lambda g: jnp.mean(jax.nn.softplus(-scores(g, d)[0])))(g)

        def other(d: Any) -> Any:
            fake, true = scores(g, d)
            return jnp.mean(jax.nn.softplus(-true)) + jnp.mean(jax.nn.softplus(fake))

        up, of_g = adam.update(own, of_g)
        down, of_d = adam.update(jax.grad(other)(d), of_d)
        return ((eqx.apply_updates(g, up), eqx.apply_updates(d, down)), (of_g, of_d)), None

    @jax.jit
    def run(parameters: Any, key: Any) -> Any:
        state = parameters, tuple(map(adam.init, parameters))
        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[0][0]

    return functools.partial(run, parameters, jax.random.key(1))


def torch_run(data: Any, threads: int) -> Callable[[], Any]:
    """The eager loop of PyTorch."""
    import torch

    def perceptron(size: int, out: int) -> Any:
        layers: list[Any] = []
        for width in (16,) * 4:
            layers += [torch.nn.Linear(size, width), torch.nn.ReLU()]
            size = width
        return torch.nn.Sequential(*layers, torch.nn.Linear(size, out))

    generator, discriminator = perceptron(LATENT, 2), perceptron(2, 1)
    of_g, of_d = (torch.optim.Adam(net.parameters(), RATE, betas=(0.5, 0.999)) for net in (generator, discriminator))
    points, soft = torch.tensor(np.array(data)), torch.nn.functional.softplus

    def run() -> Any:
        torch.set_num_threads(threads)
        for _ in range(STEPS):
            real = points[torch.randint(len(points), (BATCH,))]
            fake = generator(torch.randn(BATCH, LATENT))
            loss_d = soft(-discriminator(real)).mean() + soft(discriminator(fake.detach())).mean()
            loss_g = soft(-discriminator(fake)).mean()
            of_g.zero_grad()
            loss_g.backward()
            of_d.zero_grad()
            loss_d.backward()
            of_g.step()
            of_d.step()
        return loss_g.item()

    return run


def seconds(work: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median CPU seconds of each, in turn, after one call that is not counted."""
    for run in work.values():
        jax.block_until_ready(run())
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            began = time.process_time()
            jax.block_until_ready(run())
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(threads: bool) -> None:
    """Measure, print and write the table."""
    if not threads:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    data, start = ring(jax.random.key(0), 50_000), networks(jax.random.key(0))
    began = time.process_time()
    jax.block_until_ready(ours(data, start)())
    cold = time.process_time() - began
    work = {"ours": ours(data, start), "by hand": by_hand(data, start)}
    if importlib.util.find_spec("torch") is not None:
        work |= {f"PyTorch, eager, threads: {count}": torch_run(data, count) for count in ((1, 2) if threads else (1,))}
    taken = seconds(work)
    rows = [
        [name, 1e3 * cpu / STEPS, cpu / taken["ours"], taken["ours"] / cpu, cold if name == "ours" else None]
        for name, cpu in taken.items()
    ]
    where = "All cores." if threads else "One core."
    notes = f"Milliseconds of the CPU a step, {STEPS} steps of a batch of {BATCH}; first call in CPU seconds. {where}"
    columns = ["what", "CPU ms a step", "takes times ours", "ours takes times it", "first call"]
    report("P8", "A training step of a GAN", columns, rows, notes)


if __name__ == "__main__":
    main("threads" in sys.argv[1:])
