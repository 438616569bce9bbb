"""Noise of sampled gradients with few batches, and the batch on which a run is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

KEY = jax.random.key(5)


@pytest.mark.parametrize("batches", [3, 4])
def test_noise_scale_of_few_batches_is_its_definition(batches):
    """tr Sigma/B = S/(K - 1) and |G|^2 = |g|^2 - tr Sigma/(K B), which are unbiased; errors by leaving one out."""
    size, points = 2, jax.random.normal(jax.random.key(1), (20, 3)) * jnp.array([[1.0, 2.0, 0.5]])
    loss = sx.sampled(lambda x, a: jnp.mean(jnp.sum((x[None] - a) ** 2, axis=1)) / 2, points, batch_size=size)
    x = jnp.array([2.0, -1.0, 0.3])
    found = sx.noise_scale(loss, x, KEY, batches=batches)
    drawn = jax.random.split(KEY, batches)
    gradients = np.stack([jax.grad(lambda p, key=key: loss(p, key=key))(x) for key in drawn])

    def estimates(rows):
        mean, count = rows.mean(axis=0), len(rows)
        variance = np.sum((rows - mean) ** 2) / (count - 1)
        signal = np.sum(mean**2) - variance / count
        return np.array([size * variance, signal, size * variance / signal])

    whole = estimates(gradients)
    less = np.stack([estimates(np.delete(gradients, k, axis=0)) for k in range(batches)])
    errors = np.sqrt((batches - 1) * np.mean((less - less.mean(axis=0)) ** 2, axis=0))
    np.testing.assert_allclose([found.noise, found.signal, found.value], whole, rtol=1e-12)
    np.testing.assert_allclose([found.noise_error, found.signal_error, found.standard_error], errors, rtol=1e-11)


def test_signal_is_unbiased():
    # E |g|^2 over K batches is |G|^2 + tr Sigma/(K B): the mean over 4,000 keys tells whether that was subtracted.
    points = jnp.array([-1.0, 1.0])
    loss = sx.sampled(lambda x, a: jnp.mean((x - a) ** 2) / 2, points, batch_size=1)
    found = jax.vmap(lambda key: sx.noise_scale(loss, jnp.array(0.5), key, batches=3).signal)(
        jax.random.split(KEY, 4000)
    )
    error = float(jnp.std(found)) / 4000**0.5
    assert abs(float(jnp.mean(found)) - 0.25) < 4 * error
    # The bias without it, 1/(3 B), is eight errors.
    assert 8 * error < 1 / 3


def test_a_run_is_measured_on_one_batch_of_its_own():
    """Drawn neither from the key of the run nor from that of any of its steps, and the same all along."""
    steps, key = 12, jax.random.key(7)

    def loss(x, *, key):
        return 0.0 * x + jax.random.uniform(key)

    losses = np.asarray(sx.fit(loss, optax.sgd(0.1), initial=jnp.array(1.0), steps=steps, key=key, every=1).losses)
    assert np.ptp(losses) == 0.0
    of_the_run = [key, *[jax.random.fold_in(key, n) for n in range(steps + 1)]]
    assert losses[0] not in [float(jax.random.uniform(k)) for k in of_the_run]
