"""The loss against closed forms on normal data, and guidance against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

PROCESS = sx.VP()
SCALE = 0.5


def best(t):
    """On data N(0, s^2): E[z | x] = c x with c = sigma/(alpha^2 s^2 + sigma^2)."""
    alpha, sigma = PROCESS.marginal(t)
    return sigma / (alpha**2 * SCALE**2 + sigma**2)


def expected_loss(coefficient, weight=lambda t: 1.0):
    """E_t w (1 - 2 c sigma + c^2 (alpha^2 s^2 + sigma^2)), by the trapezoidal rule."""
    t = jnp.linspace(1e-3, 1.0, 20_001)
    alpha, sigma = PROCESS.marginal(t)
    c = coefficient(t)
    return np.mean(weight(t) * (1 - 2 * c * sigma + c**2 * (alpha**2 * SCALE**2 + sigma**2)))


@pytest.mark.parametrize(
    "coefficient", [best, lambda t: 0.3 + 0.0 * t, lambda t: -best(t)], ids=["best", "0.3", "sign"]
)
def test_loss_of_a_linear_prediction(coefficient):
    loss = sx.DenoisingScoreMatching(PROCESS)
    data = SCALE * jax.random.normal(jax.random.key(0), (400, 1))
    keys = jax.random.split(jax.random.key(1), 200)
    draws = [SCALE * jax.random.normal(k, (400, 1)) for k in (jax.random.key(2),)]
    assert draws[0].shape == data.shape

    def once(key):
        first, second = jax.random.split(key)
        batch = SCALE * jax.random.normal(first, (400, 1))
        return loss(lambda t, x: coefficient(t) * x, batch, key=second)

    values = np.asarray(jax.vmap(once)(keys))
    assert abs(values.mean() - expected_loss(coefficient)) < 4 * values.std() / len(values) ** 0.5


def test_weight_enters_by_example():
    weight = lambda t: t**2  # noqa: E731
    loss = sx.DenoisingScoreMatching(PROCESS, weight=weight)
    keys = jax.random.split(jax.random.key(4), 200)
    data = SCALE * jax.random.normal(jax.random.key(3), (20_000, 1))
    values = np.asarray(jax.lax.map(lambda key: loss(lambda t, x: 0.3 * x, data, key=key), keys[:50]))
    # The data are fixed: their own variance is off by sqrt(2/20000), 1 %, of a term below 0.09/4.
    assert abs(values.mean() - expected_loss(lambda t: 0.3, weight)) < 4 * values.std() / 50**0.5 + 3e-4


def test_fit_finds_the_score_of_normal_data():
    # One coefficient at one noise level: the fitted c is the regression of z on x.
    loss = sx.DenoisingScoreMatching(PROCESS, earliest=0.3)
    level = sx.DenoisingScoreMatching(sx.VP(2.0, 2.0), earliest=1.0)
    data = SCALE * jax.random.normal(jax.random.key(5), (4000, 1))
    assert float(loss.earliest) == 0.3

    def objective(c, batch, *, key):
        return level(lambda t, x: c * x, batch, key=key)

    found = sx.fit(
        objective, optax.adam(0.02), data, initial=jnp.array(0.0), steps=400, batch_size=1000, key=jax.random.key(6)
    )
    alpha, sigma = level.process.marginal(1.0)
    truth = float(sigma / (alpha**2 * data.var() + sigma**2))
    # Adam's walk around the minimum: 0.02 times the relative noise of a gradient of 1000 examples, a few per cent.
    assert abs(float(found.model) - truth) < 0.02


def test_dropped_labels_become_minus_one():
    loss = sx.DenoisingScoreMatching(PROCESS, drop=0.25)
    labels = jnp.arange(20_000) % 10
    model = lambda t, x, label: jnp.where(label == -1, 1e3, 0.0) + x  # noqa: E731
    plain = sx.DenoisingScoreMatching(PROCESS, drop=0.0)
    batch = (jnp.zeros((20_000, 1)), labels)
    raised = float(loss(model, batch, key=jax.random.key(0)) - plain(model, batch, key=jax.random.key(0))) / 1e6
    assert abs(raised - 0.25) < 4 * (0.25 * 0.75 / 20_000) ** 0.5 + 1e-3


def test_no_key_is_refused():
    with pytest.raises(ValueError, match="DenoisingScoreMatching is random"):
        sx.DenoisingScoreMatching(PROCESS)(lambda t, x: x, jnp.ones((2, 1)))


def test_guidance_is_its_formula():
    network = sx.ScoreMLP(3, width=8, depth=1, classes=4, key=jax.random.key(0), dtype=jnp.float64)
    leaves, tree = jax.tree.flatten(network)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    network = jax.tree.unflatten(tree, [jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)])
    x, labels, w = jax.random.normal(jax.random.key(2), (4, 3)), jnp.arange(4), 1.5
    found = sx.Denoiser(network, labels, w)(0.4, x)
    for number in range(4):
        given, free = network(0.4, x[number], labels[number]), network(0.4, x[number])
        np.testing.assert_allclose(found[number], (1 + w) * given - w * free, rtol=1e-12)
        assert float(jnp.abs(given - free).max()) > 1e-3


def test_score_and_noise_undo_each_other():
    def noise(t, x):
        return jnp.sin(x)

    x = jnp.array([0.3, 2.0])
    score = sx.score_of(PROCESS, noise)
    np.testing.assert_allclose(score(0.4, x), -jnp.sin(x) / PROCESS.marginal(0.4)[1], rtol=1e-14)
    np.testing.assert_array_equal(sx.noise_of(PROCESS, score)(0.4, x), noise(0.4, x))
    exact = sx.noise_of(PROCESS, lambda t, x: -x)
    np.testing.assert_allclose(sx.score_of(PROCESS, exact)(0.4, x), -x, rtol=1e-14)
