"""`fit` is `evolve` of an optimiser on mini-batches: the same numbers, told when they break."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix._errors import Diverged

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (200, 3))
Y = X @ jnp.array([1.0, -2.0, 0.5]) + 0.3


def squares(model, batch):
    inputs, targets = batch
    return jnp.mean((inputs @ model["w"] + model["b"] - targets) ** 2)


START = {"w": jnp.zeros(3), "b": jnp.zeros(())}


def test_least_squares_are_found():
    found = sx.fit(squares, optax.adam(0.05), (X, Y), initial=START, steps=1500, batch_size=50, key=KEY)
    np.testing.assert_allclose(found.model["w"], [1.0, -2.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.model["b"], 0.3, atol=1e-6)
    assert found.stopped_at is None and found.outcome.name == "completed"
    assert repr(found).startswith("Fit(completed; 1500 steps; loss ")


def test_it_is_the_loop_written_by_hand():
    optimizer = optax.adam(0.05)
    found = sx.fit(squares, optimizer, (X, Y), initial=START, steps=7, batch_size=5, key=KEY)
    parameters, state = START, optimizer.init(START)
    for n in range(7):
        batch_key = jax.random.split(jax.random.fold_in(KEY, n))[0]
        chosen = jax.random.randint(batch_key, (5,), 0, 200)
        slope = jax.grad(squares)(parameters, (X[chosen], Y[chosen]))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(slope, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    for name in START:
        np.testing.assert_allclose(found.model[name], parameters[name], rtol=1e-12)


def test_full_batch_descent_contracts_by_its_known_factor():
    """On |x|^2 the step h takes x to (1 - 2 h) x."""
    found = sx.fit(
        lambda x: jnp.sum(x**2),
        lambda loss: sx.optimization.GradientDescent(loss, 0.1),
        initial=jnp.ones(2),
        steps=10,
        every=1,
    )
    np.testing.assert_allclose(found.losses, 2 * 0.8 ** (2 * np.arange(11)), rtol=1e-12)
    np.testing.assert_array_equal(found.steps, np.arange(11))


def test_going_on_equals_never_having_stopped():
    settings = {"initial": START, "batch_size": 20, "key": KEY}
    whole = sx.fit(squares, optax.adam(0.05), (X, Y), steps=60, **settings)
    first = sx.fit(squares, optax.adam(0.05), (X, Y), steps=25, **settings)
    rest = sx.fit(squares, optax.adam(0.05), (X, Y), steps=35, state=first.state, start=25, **settings)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(rest.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rest.steps[0] == 25


def test_a_model_with_functions_inside_is_put_together():
    model = eqx.nn.MLP(3, "scalar", 16, 1, jnp.tanh, key=KEY)

    def loss(net, batch, *, key):
        inputs, targets = batch
        noise = 0.01 * jax.random.normal(key, inputs.shape)
        return jnp.mean((jax.vmap(net)(inputs + noise) - targets) ** 2)

    found = sx.fit(
        loss, optax.adam(1e-2), (X, Y), initial=model, steps=300, batch_size=50, key=KEY,
        metrics={"size": lambda net: jnp.sum(net.layers[0].weight ** 2)},
    )  # fmt: skip
    assert float(found.losses[-1]) < 0.05 * float(found.losses[0])
    assert found.metrics["size"].shape == found.losses.shape
    np.testing.assert_allclose(found.metrics["size"][-1], jnp.sum(found.model.layers[0].weight ** 2))
    whole = sx.fit(lambda net: jnp.sum(net.layers[0].weight ** 2), optax.sgd(0.1), initial=model, steps=3)
    np.testing.assert_allclose(whole.model.layers[0].weight, 0.8**3 * model.layers[0].weight)


def test_divergence_is_told_with_its_step_and_nothing_is_lost():
    """x^4 from 3 at step size 1: x -> x - 4 x^3 leaves the numbers at step 7 or so, by its own recursion."""
    x, step = 3.0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        while np.isfinite(x):
            x, last, step = np.float64(x) - 4 * np.float64(x) ** 3, x, step + 1
    settings = {"initial": jnp.array(3.0), "steps": 50, "every": 1}
    with pytest.warns(RuntimeWarning, match=f"(?s)diverged.*at step {step}") as told:
        found = sx.fit(lambda x: x**4, optax.sgd(1.0), **settings)
    assert "Traceback" not in str(told[0].message)
    assert found.stopped_at == step
    np.testing.assert_allclose(found.model, last)
    assert found.to_dict()["stopped_at"] == step
    with pytest.raises(Diverged, match=f"at step {step}"):
        sx.fit(lambda x: x**4, optax.sgd(1.0), throw=True, **settings)
    with pytest.warns(RuntimeWarning, match=f"at step {step}"):
        sx.fit(lambda x: x**4, lambda loss: sx.optimization.GradientDescent(loss, 1.0), **settings)


def test_supervised_objectives_train_too():
    model = eqx.nn.Linear(3, 1, key=KEY)
    objective = sx.supervised(model, (X, Y[:, None]), "squared_error")
    found = sx.fit(objective, optax.sgd(0.3), steps=300)
    np.testing.assert_allclose(found.model.weight[0], [1.0, -2.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.model(X[0]), Y[:1], atol=1e-5)
    # The same loss with a batch size, and on other data: targets doubled double the answer.
    doubled = sx.fit(objective, optax.adam(0.05), (X, 2 * Y[:, None]), steps=1500, batch_size=50, key=KEY)
    np.testing.assert_allclose(doubled.model.weight[0], [2.0, -4.0, 1.0], atol=1e-5)
    with pytest.raises(ValueError, match="1 to 200"):
        sx.fit(objective, optax.sgd(0.3), steps=1, batch_size=201)


def test_progress_is_told_and_a_second_fit_does_not_compile():
    said, count = [], 0

    def loss(model, batch):
        nonlocal count
        count += 1
        return squares(model, batch)

    optimizer = optax.sgd(0.1)
    settings = {"initial": START, "steps": 200, "batch_size": 10}
    sx.fit(loss, optimizer, (X, Y), key=KEY, progress=lambda *done: said.append(done), **settings)
    assert said[-1] == (200, 200)
    before = count
    sx.fit(loss, optimizer, (X + 1.0, Y), key=jax.random.key(5), progress=lambda *done: None, **settings)
    assert count == before


REFUSED = {
    "no model": (lambda: sx.fit(squares, optax.sgd(0.1), (X, Y), steps=1), ValueError, "initial=model"),
    "nothing to train": (
        lambda: sx.fit(squares, optax.sgd(0.1), (X, Y), initial={"w": jnp.array([1, 2])}, steps=1),
        ValueError,
        "dict without floating-point arrays",
    ),
    "no optimiser": (
        lambda: sx.fit(squares, 0.1, (X, Y), initial=START, steps=1),
        TypeError,
        r"float.*optax\.adam",
    ),
    "batch larger than data": (
        lambda: sx.fit(squares, optax.sgd(0.1), (X, Y), initial=START, steps=1, batch_size=201),
        ValueError,
        "201.*1 to 200",
    ),
    "batch without data": (
        lambda: sx.fit(squares, optax.sgd(0.1), initial=START, steps=1, batch_size=2),
        ValueError,
        "without data",
    ),
    "unequal lengths": (
        lambda: sx.fit(squares, optax.sgd(0.1), (X, Y[:-1]), initial=START, steps=1),
        ValueError,
        r"\(200, 3\) and \(199,\)",
    ),
    "no data": (lambda: sx.fit(squares, optax.sgd(0.1), (X[:0], Y[:0]), initial=START, steps=1), ValueError, "length >= 1"),
    "NaN in the data": (
        lambda: sx.fit(squares, optax.sgd(0.1), (X, Y.at[4].set(jnp.nan)), initial=START, steps=1),
        ValueError,
        r"data\[1\]\[4\].*got nan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_told(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3
