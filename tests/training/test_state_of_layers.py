"""A model with state of its own (running statistics, streams of random numbers) would be trained wrong: it is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import separatrix as sx

nnx = pytest.importorskip("flax.nnx")

KEY = jax.random.key(0)
DATA = (jnp.ones((4, 2), jnp.float32), jnp.ones((4, 1), jnp.float32))
NORM, NORM_STATE = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, axis_name="batch", mode="ema")


class Net(nnx.Module):
    def __init__(self, *, norm=False, dropout=None):
        rngs = nnx.Rngs(0)
        self.layer = nnx.Linear(2, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(1, rngs=rngs) if norm else None
        self.dropout = None if dropout is None else nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x):
        x = self.layer(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.dropout is None else self.dropout(x)


def loss(model, batch):
    return jnp.mean((model(batch[0]) - batch[1]) ** 2)


def evaluated(net):
    net.eval()
    return net


REFUSED = {
    "running statistics": (lambda: Net(norm=True), r"initial\.norm\.mean\n  got BatchStat.*trained as weights"),
    "in evaluation mode": (lambda: evaluated(Net(norm=True)), "got BatchStat"),
    "dropout": (lambda: Net(dropout=0.5), r"got RngCount.*first mask.*rngs=nnx\.Rngs\(key\)"),
    "a state": (lambda: nnx.state(Net(norm=True)), r"initial\['norm'\]\['mean'\]"),
    "in a pair": (lambda: (Net(), Net(norm=True)), r"initial\[1\]\.norm\.mean"),
    "a cache": (lambda: {"net": Net(), "cache": nnx.Cache(jnp.zeros(2))}, r"got Cache.*nnx\.split"),
    "linen": (lambda: {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.zeros(2)}}, "batch_stats beside params"),
    "linen, deep": (lambda: [{"params": {"w": jnp.ones(2)}, "spectral": {"u": jnp.zeros(2)}}], r"initial\[0\]"),
    "equinox": (lambda: {"norm": NORM}, r"(?s)initial\['norm'\].*a layer with state.*inference_mode"),
    "equinox, state": (lambda: (eqx.nn.inference_mode(NORM), NORM_STATE), r"initial\[1\]\n  got eqx\.nn\.State"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_state_of_layers_is_refused_in_words(name):
    model, words = REFUSED[name]
    with pytest.raises(TypeError, match=f"(?s){words}") as told:
        sx.fit(loss, optax.adam(0.1), DATA, initial=model(), steps=1)
    assert len(str(told.value).splitlines()) <= 3
    with pytest.raises(TypeError, match="sampled: model"):
        sx.sampled(loss, DATA, model=model())


def test_a_supervised_model_is_looked_at_too():
    with pytest.raises(TypeError, match=r"supervised: model.*\n.*BatchStat"):
        sx.supervised(Net(norm=True), DATA, "squared_error")


class Normed(eqx.Module):
    """A layer whose statistics stay as they are."""

    norm: eqx.nn.BatchNorm
    weight: jax.Array

    def __call__(self, x):
        return x @ self.weight


HARMLESS = {
    "parameters alone": lambda: Net(),
    "dropout in evaluation mode": lambda: evaluated(Net(dropout=0.5)),
    "dropout of nothing": lambda: Net(dropout=0.0),
    "linen's parameters": lambda: {"params": {"w": jnp.ones((2, 1), jnp.float32)}, "cache": {}},
    "no linen": lambda: {"params": jnp.ones((2, 1), jnp.float32), "scale": jnp.ones((), jnp.float32)},
    "inference": lambda: Normed(eqx.nn.inference_mode(NORM), jnp.ones((2, 1), jnp.float32)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_trains(name):
    """Two inputs of 1 and a target of 1: w1 + w2 (+ b) comes to 1."""

    def loss(model, batch):
        if isinstance(model, dict):
            weights = jax.tree.leaves(model["params"])[0]
            return jnp.mean((batch[0] @ weights - batch[1]) ** 2)
        return jnp.mean((model(batch[0]) - batch[1]) ** 2)

    found = sx.fit(loss, optax.sgd(0.1), DATA, initial=HARMLESS[name](), steps=60)
    assert float(found.losses[0]) > 1e-2 and float(found.losses[-1]) < 1e-6
