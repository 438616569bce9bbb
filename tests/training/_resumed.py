"""A program of its own: trains into run folders, for a test that kills it. `python _resumed.py FOLDER PAUSE [NAME ...]`.

Trains all cases at once, or those that are named, each in FOLDER/NAME. Prints a line at each look, and one with a digest if
a case is done. PAUSE slows each look down, so that there is time to kill.
"""

import hashlib
import os
import pathlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx

KEY = jax.random.key(7)
COUNT = 403


def data(folder):
    """Inputs and targets, as files."""
    paths = folder / "x.npy", folder / "y.npy"
    if not paths[1].exists():
        x = np.random.default_rng(0).normal(size=(COUNT, 5)).astype(np.float32)
        np.save(paths[0], x)
        np.save(paths[1], np.sin(x[:, :1]) + 0.1 * x[:, 1:2])
    return paths


def loss(model, batch, *, key):
    hidden = jnp.tanh(batch[0] @ model["w"] + 0.01 * jax.random.normal(key, (5, 16), jnp.float32).sum(0))
    return jnp.mean((hidden @ model["v"] - batch[1]) ** 2)


def start():
    w, v = jax.random.split(jax.random.key(1))
    return {
        "w": 0.4 * jax.random.normal(w, (5, 16), jnp.float32),
        "v": 0.2 * jax.random.normal(v, (16, 1), jnp.float32),
    }


CASES = {
    "full": {"optimizer": optax.sgd(0.05, momentum=0.9), "steps": 60, "every": 6},
    "epochs": {"optimizer": optax.sgd(0.05), "epochs": 8, "batch_size": 50, "every": 7},
    "adam": {"optimizer": optax.adam(1e-2), "steps": 60, "batch_size": 50, "every": 6, "average": 0.9, "validation": 0.2,
             "patience": 50},
    "mapped": {"optimizer": optax.adam(1e-2), "epochs": 8, "batch_size": 50, "every": 7, "average": 0.9},
    "rolling": {"optimizer": optax.sgd(3.0), "steps": 60, "every": 6, "divergence": "roll_back"},
}  # fmt: skip


def sde():
    """Langevin dynamics: the noise of each step is the key's."""
    return {
        "objective": loss,
        "optimizer": lambda objective: sx.optimization.SGLD(objective, 1e-3, 1e-4),
        "initial": start(),
    }


def recurrent():
    """A language model on symbols."""
    symbols = np.random.default_rng(1).integers(0, 3, (200, 9))
    model = sx.recurrent.LanguageModel(sx.recurrent.Elman(3, 8, key=KEY), key=jax.random.key(1))
    return {"objective": sx.recurrent.bits_per_symbol, "optimizer": optax.adam(1e-2), "initial": model, "data": symbols}


def gan():
    """Two networks, each with its own optimiser."""
    points = np.random.default_rng(2).normal(2.0, 0.5, (200, 1)).astype(np.float32)
    one, other = jax.random.split(KEY)
    networks = (
        eqx.nn.Linear(1, 1, key=one, dtype=jnp.float32),
        eqx.nn.MLP(1, "scalar", 8, 1, jnp.tanh, key=other, dtype=jnp.float32),
    )
    players = sx.games.Players(optax.adam(5e-3), scheme="alternating")
    return {
        "objective": sx.games.GAN(latent_size=1, penalty=1.0),
        "optimizer": players,
        "initial": networks,
        "data": points,
    }


def diffusion():
    """A score learned by denoising."""
    points = np.random.default_rng(3).normal(size=(200, 2)).astype(np.float32)
    network = sx.diffusion.ScoreMLP(2, width=8, key=KEY)
    matching = sx.diffusion.DenoisingScoreMatching(sx.diffusion.VP())
    return {"objective": matching, "optimizer": optax.adam(1e-3), "initial": network, "data": points, "average": 0.9}


FAMILIES = {"sde": sde, "recurrent": recurrent, "gan": gan, "diffusion": diffusion}


def say(line):
    """One line, whole, also where several threads speak."""
    os.write(1, f"{line}\n".encode())


def train(name, folder, pause=0.0):
    """One case, into a folder of its name."""
    x, y = data(folder)
    held = sx.read_npy(x, mmap=name == "mapped"), sx.read_npy(y, mmap=name == "mapped")
    plain = {"objective": loss, "initial": start(), "data": held}
    if name in CASES:
        options = plain | CASES[name] | {"metrics": {"size": lambda model: jnp.sum(model["w"] ** 2)}}
    else:
        options = {"data": held, "steps": 60, "batch_size": 50, "every": 6} | FAMILIES[name]()

    def look(step, model, metrics):
        say(f"at {name} {step}")
        time.sleep(pause)

    given = [options.pop(part) for part in ("objective", "optimizer", "data")]
    return sx.fit(*given, key=KEY, run=folder / name, save_every=5, callback=look, **options)


def digest(fit):
    """SHA-256 of all that a run ends with."""
    # Of a model its arrays: an activation function has no bytes of its own.
    parts = eqx.filter((fit.model, fit.state, fit.metrics, fit.averaged, fit.best), eqx.is_array_like)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(parts))).hexdigest()


if __name__ == "__main__":
    where, seconds, names = pathlib.Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:] or list(CASES)
    data(where)
    with ThreadPoolExecutor(len(names)) as pool:
        # All at once: one kill then kills them all, each at an instant of its own.
        found = {name: pool.submit(train, name, where, seconds) for name in names}
        for name, future in found.items():
            say(f"done {name} {digest(future.result())}")
