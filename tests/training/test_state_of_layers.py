"""What layers carry (running statistics, streams of random numbers, caches) goes along with training and is not trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

nnx = pytest.importorskip("flax.nnx")
linen = pytest.importorskip("flax.linen")

KEY = jax.random.key(0)
INPUTS = jax.random.normal(KEY, (24, 2), jnp.float32)
DATA = (INPUTS, jnp.sum(INPUTS, axis=1, keepdims=True))
NORM, NORM_STATE = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, axis_name="batch", mode="ema", dtype=jnp.float32)
RATE = 0.05


@pytest.fixture(autouse=True)
def as_flax_comes():
    """Flax is written for JAX as it comes, with implicit promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


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


def fitted(model, loss=loss, optimizer=None, **changes):
    return sx.fit(loss, optimizer or optax.sgd(RATE), DATA, **({"initial": model, "steps": 5, "every": 1} | changes))


@nnx.jit
def flax_step(net, optimizer):
    optimizer.update(net, nnx.grad(loss)(net, DATA))


def flax_loop(net, steps, wrt=nnx.Param):
    """The plain loop of Flax."""
    optimizer = nnx.Optimizer(net, optax.sgd(RATE), wrt=wrt)
    for _ in range(steps):
        flax_step(net, optimizer)
    return net


def test_batch_norm_is_the_plain_loop_of_flax():
    found = fitted(Net(norm=True)).model
    plain = flax_loop(Net(norm=True), 5)
    assert isinstance(found, Net)
    for mine, theirs in zip(jax.tree.leaves(nnx.state(found)), jax.tree.leaves(nnx.state(plain)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)
    assert float(found.norm.var[...][0]) != 1.0
    np.testing.assert_allclose(evaluated(found)(INPUTS), evaluated(plain)(INPUTS), rtol=2e-5, atol=1e-6)


def test_statistics_are_carried_with_any_optimiser_and_go_on():
    by_optax = fitted(Net(norm=True))
    by_map = fitted(Net(norm=True), optimizer=lambda objective: sx.optimization.GradientDescent(objective, RATE))
    np.testing.assert_allclose(by_map.model.norm.mean[...], by_optax.model.norm.mean[...], rtol=1e-5)
    first = fitted(Net(norm=True), steps=2)
    rest = fitted(Net(norm=True), steps=3, start=2, state=first.state)
    np.testing.assert_array_equal(rest.model.norm.var[...], by_optax.model.norm.var[...])


def test_dropout_draws_anew_at_each_step():
    """With a learning rate of 0 steps differ by their masks alone; without a key, by the layer's count."""
    seen = []
    for key in (KEY, None):
        masks = []

        def noted(model, batch, masks=masks):
            out = model(batch[0])
            jax.debug.callback(lambda drawn: masks.append(np.asarray(drawn) == 0), out)
            return jnp.mean(out)

        fitted(Net(dropout=0.5), noted, optax.sgd(0.0), steps=4, every=4, key=key)
        jax.effects_barrier()
        steps = [mask for mask in masks if mask.any()]
        assert len({mask.tobytes() for mask in steps}) >= 4
        seen.append({mask.tobytes() for mask in steps})
        again = fitted(Net(dropout=0.5), key=key)
        np.testing.assert_array_equal(again.losses, fitted(Net(dropout=0.5), key=key).losses)
    assert seen[0] != seen[1]


def test_validation_is_in_evaluation_mode():
    """Dropout is off and statistics are the running ones: the loss of the model in evaluation mode."""
    net = Net(norm=True, dropout=0.5)
    found = fitted(net, steps=3, every=3, key=KEY, validation=DATA)
    np.testing.assert_allclose(found.metrics["validation"][-1], loss(evaluated(found.model), DATA), rtol=1e-6)
    np.testing.assert_allclose(found.metrics["validation"][0], loss(evaluated(Net(norm=True)), DATA), rtol=1e-6)


def test_modules_can_be_players():
    """Each player's loss falls along its own parameters; both modules come back."""
    losses = (lambda p, b: loss(p[0], b), lambda p, b: loss(p[1], b))
    settings = {"initial": (Net(norm=True), Net()), "steps": 5}
    found = sx.fit(losses, sx.games.Players(optax.sgd(RATE)), DATA, **settings)
    assert isinstance(found.model, tuple) and all(isinstance(player, Net) for player in found.model)
    np.testing.assert_allclose(found.model[0].norm.mean[...], flax_loop(Net(norm=True), 5).norm.mean[...], rtol=1e-5)
    np.testing.assert_allclose(found.model[1].layer.kernel[...], flax_loop(Net(), 5).layer.kernel[...], rtol=1e-5)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        return linen.BatchNorm(use_running_average=not train)(linen.Dense(1)(x))


def linen_loss(variables, batch):
    out, changed = Linen().apply(variables, batch[0], True, mutable=["batch_stats"])
    return jnp.mean((out - batch[1]) ** 2), changed


def test_collections_of_linen_are_carried():
    variables = Linen().init(KEY, INPUTS, True)
    found = fitted(variables, linen_loss).model
    parameters, statistics = variables["params"], variables["batch_stats"]
    for _ in range(5):

        def of(values, statistics=statistics):
            return linen_loss({"params": values, "batch_stats": statistics}, DATA)

        slopes, changed = jax.grad(of, has_aux=True)(parameters)
        statistics = changed["batch_stats"]
        parameters = jax.tree.map(lambda p, g: p - RATE * g, parameters, slopes)
    for mine, theirs in zip(jax.tree.leaves(found["params"]), jax.tree.leaves(parameters), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)
    for mine, theirs in zip(jax.tree.leaves(found["batch_stats"]), jax.tree.leaves(statistics), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)


class Normed(eqx.Module):
    norm: eqx.nn.BatchNorm
    weight: jax.Array

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        return x @ self.weight, state


def equinox_loss(pair, batch):
    model, state = pair
    out, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(batch[0], state)
    return jnp.mean((out - batch[1]) ** 2), state


def test_a_state_of_equinox_is_carried():
    model = Normed(NORM, jnp.ones((2, 1), jnp.float32))
    found, state = fitted((model, NORM_STATE), equinox_loss).model
    parameters, rest = eqx.partition(model, eqx.is_inexact_array)
    here = jax.tree.map(lambda leaf: leaf, NORM_STATE)
    for _ in range(5):

        def of(values, here=here):
            return equinox_loss((eqx.combine(values, rest), jax.tree.map(lambda leaf: leaf, here)), DATA)

        slopes, here = jax.grad(of, has_aux=True)(parameters)
        parameters = jax.tree.map(lambda p, g: p - RATE * g, parameters, slopes)
    np.testing.assert_allclose(found.weight, parameters.weight, rtol=2e-5)
    for mine, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(here), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6)


def test_what_is_returned_beside_a_loss_changes_nothing():
    plain = fitted(Net())
    more = fitted(Net(), lambda model, batch: (loss(model, batch), {"inputs": batch[0]}))
    np.testing.assert_array_equal(more.model.layer.kernel[...], plain.model.layer.kernel[...])


REFUSED = {
    "a state of NNX": (lambda: fitted(nnx.state(Net(norm=True))), r"initial\['norm'\]\['mean'\].*the module itself"),
    "a bare variable": (lambda: fitted({"net": Net(), "cache": nnx.Cache(jnp.zeros(2))}), r"got Cache.*the module itself"),
    "linen, deep": (lambda: fitted([{"params": {"w": jnp.ones(2)}, "spectral": {"u": jnp.zeros(2)}}]), r"initial\[0\]"),
    "equinox without its state": (lambda: fitted({"norm": NORM}), r"(?s)initial\['norm'\].*\(model, state\)"),
    "equinox, nothing back": (
        lambda: fitted((NORM, NORM_STATE), lambda pair, batch: jnp.sum(pair[0].weight)),
        r"got a loss with nothing beside it.*return \(loss, state\)",
    ),
    "linen, nothing back": (
        lambda: fitted(Linen().init(KEY, INPUTS, True), lambda v, b: linen_loss(v, b)[0]),
        r"got a loss with nothing beside it.*mutable=\['batch_stats'\]",
    ),
    "by itself": (lambda: sx.sampled(loss, DATA, model=Net(norm=True)), r"sampled: model\.norm\.mean\n  got BatchStat"),
    "supervised": (lambda: sx.supervised(Net(norm=True), DATA, "squared_error"), r"supervised: model.*\n.*BatchStat"),
    "an objective of one's own": (
        lambda: fitted(Net(norm=True), sx.as_objective(lambda p: 0.0), data=None),
        "expected a function that is given the model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_is_refused_in_words(name):
    call, words = REFUSED[name]
    if name == "an objective of one's own":
        call = lambda: sx.fit(sx.as_objective(lambda p: 0.0), optax.sgd(0.1), initial=Net(norm=True), steps=1)
    with pytest.raises(TypeError, match=f"(?si){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3


class Fixed(eqx.Module):
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
    "inference": lambda: Fixed(eqx.nn.inference_mode(NORM), jnp.zeros((2, 1), jnp.float32)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_carries_nothing_trains_as_ever(name):
    """Targets are the sum of two inputs: both weights come to 1."""

    def loss(model, batch):
        if isinstance(model, dict):
            weights = jax.tree.leaves(model["params"])[0]
            return jnp.mean((batch[0] @ (2 * weights) - batch[1]) ** 2)
        return jnp.mean((model(batch[0]) - batch[1]) ** 2)

    found = fitted(HARMLESS[name](), loss, optax.sgd(0.1), steps=150, every=50)
    assert float(found.losses[0]) > 1e-2 and float(found.losses[-1]) < 1e-6


class Digits(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(3)
        self.first, self.norm = nnx.Linear(64, 64, rngs=rngs), nnx.BatchNorm(64, rngs=rngs)
        self.dropout, self.last = nnx.Dropout(0.3, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def digits_loss(net, batch):
    return optax.softmax_cross_entropy_with_integer_labels(net(batch[0]), batch[1]).mean()


@pytest.mark.slow
def test_digits_with_batch_norm_and_dropout_reach_the_accuracy_of_the_plain_loop():
    digits = sx.load("digits").flat()
    inputs, targets = jnp.asarray(digits.inputs, jnp.float32), jnp.asarray(digits.targets)
    held = jnp.asarray(digits.test_inputs, jnp.float32)
    settings = {"epochs": 12, "batch_size": 64, "key": KEY, "last_batch": "drop"}
    found = sx.fit(digits_loss, optax.adam(1e-3), (inputs, targets), initial=Digits(), **settings)
    net = Digits()
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer, batch):
        optimizer.update(net, nnx.grad(digits_loss)(net, batch))

    for epoch in range(12):
        order = np.random.default_rng(epoch).permutation(len(targets))
        for i in range(len(targets) // 64):
            chosen = order[64 * i : 64 * i + 64]
            step(net, optimizer, (inputs[chosen], targets[chosen]))

    def accuracy(net):
        return float(np.mean(np.argmax(net(held), -1) == digits.test_targets))

    for mode in ("train", "eval"):
        mine, theirs = (accuracy(getattr(one, mode)() or one) for one in (found.model, net))
        # Two draws of one binomial, 4 standard deviations apart at most.
        spread = np.sqrt(2 * theirs * (1 - theirs) / len(held))
        assert abs(mine - theirs) < 4 * spread + 1e-9, (mode, mine, theirs)
    assert accuracy(found.model) > 0.93
