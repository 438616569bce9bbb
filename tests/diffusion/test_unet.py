"""The U-Net: what it sees, what it is asked, and how it begins."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

D = sx.diffusion


def woken(network, key):
    """The network with no weight at zero."""
    leaves, tree = jax.tree.flatten(eqx.filter(network, eqx.is_array))
    keys = jax.random.split(key, len(leaves))
    noisy = [leaf + 0.05 * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, noisy), network)


def test_every_pixel_is_seen_and_place_and_label_count():
    """24 x 12 pixels in colour, two halvings deep on one side only: both sides must be even and 12 or more."""
    network = woken(D.SmallUNet((24, 12, 3), 4, classes=2, key=jax.random.key(0)), jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (24, 12, 3), jnp.float32)

    @jax.jit
    def answers(x):
        t = jnp.float32(0.3)
        far = jax.grad(lambda x: network(t, x, 0)[0, 0, 0])(x)
        return (
            network(t, x, 0),
            network(t, x, 1),
            network(jnp.float32(0.9), x, 0),
            far,
            network(t, jnp.roll(x, 3, 0), 0),
        )

    found, labelled, later, far, moved = answers(x)
    # Attention at the lowest size: the first pixel depends on each of the others.
    assert float(jnp.abs(far).min()) > 0
    for other in (labelled, later, jnp.roll(moved, -3, 0)):
        assert float(jnp.abs(other - found).max()) > 1e-3 * float(jnp.abs(found).max())
    assert len(network.down) == 1 and network.attention.inside.weight.shape[2] == 8


def test_it_begins_as_nothing_so_that_the_model_begins_as_the_best_linear_guess():
    model = D.Preconditioned(D.SmallUNet((12, 12), 4, key=jax.random.key(0)), D.EDM(), 1.0)
    x = jax.random.normal(jax.random.key(2), (12, 12), jnp.float32)
    np.testing.assert_allclose(eqx.filter_jit(model)(jnp.float32(2.0), x), x / 5, rtol=1e-6)


def test_sizes_out_of_range_are_refused_in_words():
    for call, words in (
        (lambda: D.SmallUNet((12, 12), 0, key=jax.random.key(0)), "width\n  got 0"),
        (lambda: D.SmallUNet((12, 12), classes=0, key=jax.random.key(0)), "classes\n  got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
