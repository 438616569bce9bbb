"""Shuffled epochs: each example once a time through, in an order computed from (key, epoch), in memory and on disk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.evolution.shuffle import shuffled

KEY = jax.random.key(4)
ROWS = jax.random.normal(jax.random.key(1), (13, 2))


def pull(model, batch):
    """Linear in the model, so that the sum of all steps is the sum of all gradients, in whatever order."""
    return jnp.mean(batch @ model)


@pytest.mark.parametrize("count", [1, 2, 5, 256, 257, 1000, 65_537])
def test_an_order_is_a_permutation(count):
    order = jax.jit(lambda epoch: shuffled(KEY, epoch, jnp.arange(count), count))
    first, second = np.asarray(order(0)), np.asarray(order(1))
    np.testing.assert_array_equal(np.sort(first), np.arange(count))
    np.testing.assert_array_equal(np.sort(second), np.arange(count))
    assert count < 5 or (first != second).any()


def test_orders_are_as_random_as_they_should_be():
    """Of 300 items in 4,000 orders: who stands where, how far neighbours are apart, and the variance of ascents,
    (n + 1)/12 for uniform permutations (Carlitz 1972); each within 4 standard deviations."""
    n, epochs = 300, 4000
    orders = np.asarray(jax.jit(jax.vmap(lambda e: shuffled(KEY, e, jnp.arange(n), n)))(jnp.arange(epochs)))
    expected = epochs / n
    places = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    chi = np.sum((places - expected) ** 2) / expected
    freedom = (n - 1) ** 2
    assert abs(chi - freedom) < 4 * np.sqrt(2 * freedom)
    steps = np.bincount(((orders[:, 1:] - orders[:, :-1]) % n).ravel(), minlength=n)[1:]
    even = steps.sum() / (n - 1)
    assert abs(np.sum((steps - even) ** 2) / even - (n - 2)) < 4 * np.sqrt(2 * (n - 2))
    ascents = (np.diff(orders, axis=1) > 0).sum(axis=1)
    variance = (n + 1) / 12
    assert abs(ascents.var() - variance) < 4 * variance * np.sqrt(2 / epochs)


def test_all_orders_of_few_items_come_alike():
    """24 orders of 4 items in 4,800 epochs: chi-squared of 23 degrees."""
    orders = np.asarray(jax.jit(jax.vmap(lambda e: shuffled(KEY, e, jnp.arange(4), 4)))(jnp.arange(4800)))
    counts = np.unique(orders @ np.array([64, 16, 4, 1]), return_counts=True)[1]
    assert len(counts) == 24 and np.sum((counts - 200) ** 2) / 200 < 23 + 4 * np.sqrt(46)


@pytest.mark.parametrize("size", [1, 4, 13])
def test_over_an_epoch_every_example_counts_the_same(size):
    """The displacement is -h/B times the sum of all rows, the smaller last batch weighted by its share."""
    found = sx.fit(pull, optax.sgd(0.1), ROWS, initial=jnp.zeros(2), epochs=3, batch_size=size, key=KEY)
    assert found.steps[-1] == 3 * -(-13 // size)
    np.testing.assert_allclose(found.model, -3 * 0.1 / size * jnp.sum(ROWS, axis=0), rtol=1e-12)


def test_the_last_batch_is_dropped_by_choice():
    """12 of 13 rows an epoch, which ones by (key, epoch): as written by hand."""
    found = sx.fit(pull, optax.sgd(0.1), ROWS, initial=jnp.zeros(2), epochs=2, batch_size=4, last_batch="drop", key=KEY)
    order_key = jax.random.fold_in(KEY, 2**31 - 2)
    total = sum(ROWS[shuffled(order_key, epoch, jnp.arange(12), 13)].sum(axis=0) for epoch in range(2))
    assert found.steps[-1] == 6
    np.testing.assert_allclose(found.model, -0.1 / 4 * total, rtol=1e-12)


def test_steps_can_be_epochs_and_epochs_can_draw():
    settings = {"initial": jnp.zeros(2), "batch_size": 4, "key": KEY}
    by_steps = sx.fit(pull, optax.adam(0.1), ROWS, steps=8, draw="epochs", **settings)
    by_epochs = sx.fit(pull, optax.adam(0.1), ROWS, epochs=2, **settings)
    np.testing.assert_array_equal(by_steps.model, by_epochs.model)
    drawn = sx.fit(pull, optax.adam(0.1), ROWS, epochs=2, draw="replacement", **settings)
    np.testing.assert_array_equal(drawn.model, sx.fit(pull, optax.adam(0.1), ROWS, steps=8, **settings).model)


def test_a_supervised_objective_goes_through_its_own_data():
    import equinox as eqx

    objective = sx.supervised(eqx.nn.Linear(2, 1, key=KEY), (ROWS, ROWS[:, :1]), "squared_error", batch_size=5)
    found = sx.fit(objective, optax.sgd(0.05), epochs=2, key=KEY)
    assert found.steps[-1] == 6

    def loss(net, batch):
        return 0.5 * jnp.mean((jax.vmap(net)(batch[0]) - batch[1]) ** 2)

    plain = {"initial": eqx.nn.Linear(2, 1, key=KEY), "epochs": 2, "batch_size": 5, "key": KEY}
    by_hand = sx.fit(loss, optax.sgd(0.05), (ROWS, ROWS[:, :1]), **plain)
    np.testing.assert_allclose(found.model.weight, by_hand.model.weight, rtol=1e-12)


def test_epochs_are_swept_by_vmap():
    def train(rate):
        return sx.fit(pull, optax.sgd(rate), ROWS, initial=jnp.zeros(2), epochs=2, batch_size=4, key=KEY).model

    rates = jnp.array([0.1, 0.2])
    np.testing.assert_allclose(jax.vmap(train)(rates), np.outer(rates, -2 / 4 * ROWS.sum(axis=0)), rtol=1e-12)


def mapped(folder, name, array):
    np.save(folder / name, array)
    return sx.read_npy(folder / name, mmap=True)


@pytest.mark.parametrize("draw", ["epochs", "replacement"])
def test_data_on_disk_give_the_numbers_of_memory(draw, tmp_path):
    """Bit for bit: the same places, the same batches, the same compiled arithmetic."""
    rows, targets = np.asarray(jax.random.normal(KEY, (901, 6))), np.asarray(ROWS)[np.arange(901) % 13, 0]
    on_disk = mapped(tmp_path, "x.npy", rows), mapped(tmp_path, "y.npy", targets)
    model = {"w": jax.random.normal(KEY, (6, 4)), "v": jnp.ones(4)}

    def loss(model, batch, *, key):
        hidden = jnp.tanh(batch[0] @ model["w"]) + 0.01 * jax.random.normal(key, (len(batch[0]), 4))
        return jnp.mean((hidden @ model["v"] - batch[1]) ** 2)

    settings = {"initial": model, "epochs": 3, "batch_size": 50, "key": KEY, "draw": draw}
    memory = sx.fit(loss, optax.adam(0.01), (rows, targets), validation=0.1, **settings)
    disk = sx.fit(loss, optax.adam(0.01), on_disk, validation=0.1, **settings)
    for a, b in zip(jax.tree.leaves(memory.model), jax.tree.leaves(disk.model), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(memory.metrics["validation"], disk.metrics["validation"])
    np.testing.assert_array_equal(memory.losses, disk.losses)


def plain(**changes):
    return sx.fit(pull, optax.sgd(0.1), ROWS, **{"initial": jnp.zeros(2), "batch_size": 4, "key": KEY, **changes})


def broken_on_disk(folder):
    rows = np.ones((40, 2))
    rows[17, 1] = np.nan
    return sx.fit(pull, optax.sgd(0.1), mapped(folder, "nan.npy", rows), initial=jnp.zeros(2), epochs=1, batch_size=4,
                  key=KEY)  # fmt: skip


REFUSED = {
    "both": (lambda _: plain(steps=3, epochs=2), ValueError, "steps=3 and epochs=2, expected one of them"),
    "neither": (lambda _: plain(), ValueError, "neither steps nor epochs"),
    "epochs of nothing": (
        lambda _: sx.fit(lambda x: jnp.sum(x), optax.sgd(0.1), initial=jnp.zeros(2), epochs=2),
        ValueError,
        "steps, where no data is gone through",
    ),
    "a word": (lambda _: plain(epochs=1, draw="epoch"), ValueError, "Did you mean 'epochs'"),
    "another word": (lambda _: plain(epochs=1, last_batch="dropped"), ValueError, "Did you mean 'drop'"),
    "dropping where nothing is last": (lambda _: plain(steps=3, last_batch="drop"), ValueError, "where no batch is a last"),
    "drawing from nothing": (
        lambda _: sx.fit(lambda x: jnp.sum(x), optax.sgd(0.1), initial=jnp.zeros(2), steps=2, draw="epochs"),
        ValueError,
        "none, without data",
    ),
    "no key": (lambda _: plain(epochs=1, key=None), ValueError, "None with batch_size=4"),
    "NaN on disk": (broken_on_disk, ValueError, r"data\[17, 1\]\n  got nan"),
    "all on disk at once": (
        lambda folder: (plain(epochs=1, batch_size=None) and None)
        or sx.fit(pull, optax.sgd(0.1), mapped(folder, "all.npy", np.ones((4, 2))), initial=jnp.zeros(2), steps=1),
        ValueError,
        "None, for data on disk",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_told(name, tmp_path):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}") as told:
        call(tmp_path)
    assert len(str(told.value).splitlines()) <= 3
