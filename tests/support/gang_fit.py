"""One spec of a training, for one process, several devices or several processes: gang_fit.py FOLDER RUN STEPS."""

import os
import signal
import sys

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR"))

import separatrix as sx  # noqa: E402

sx.training.join_gang()

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402


def loss(model, batch):
    """Least squares of a small net."""
    inputs, targets = batch
    return jnp.mean((jnp.tanh(inputs @ model["w"]) @ model["v"] - targets) ** 2)


def main():
    """Train, and write the parameters from the first process."""
    out, folder, steps = sys.argv[1:4]
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 3))
    start = {"w": jnp.asarray(random.normal(size=(3, 8))), "v": jnp.asarray(random.normal(size=8))}
    every = None if folder == "-" else 20
    kill_at = int(os.environ.get("KILL_AT", -1))

    def killed(step, model, row):
        if step >= kill_at > 0 and jax.process_index() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    found = sx.fit(
        loss, optax.adam(1e-2), (x, np.sin(x).sum(axis=1)), initial=start, steps=int(steps), batch_size=16, every=20,
        key=jax.random.key(1), run=None if folder == "-" else folder, save_every=every, devices="all",
        callback=killed, validation=0.25 if "VALIDATE" in os.environ else None,
    )  # fmt: skip
    if jax.process_index() == 0:
        np.savez(out, devices=len(jax.devices()), losses=np.asarray(found.losses), **found.model)
    print(found)


if __name__ == "__main__":
    main()
