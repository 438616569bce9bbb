"""Networks: what their parts must be by construction, and that both can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx


def test_patches_are_patches_and_go_back():
    network = sx.ScoreMixer(8, patch=2, width=8, depth=1, key=jax.random.key(0))
    image = jnp.arange(64.0).reshape(8, 8)
    patches = network.to_patches(image)
    np.testing.assert_array_equal(patches[5], image[2:4, 2:4].ravel())  # second row, second column of four
    np.testing.assert_array_equal(network.to_image(patches), image)


def test_patch_must_divide_the_side():
    with pytest.raises(ValueError, match="a divisor of it"):
        sx.ScoreMixer(28, patch=3, key=jax.random.key(0))


@pytest.mark.parametrize("kind", ["vector", "image"])
def test_an_untrained_network_predicts_nothing_and_learns_a_point(kind):
    # Data that are one point x0: the best noise is (x - alpha x0)/sigma exactly, and its loss 0; nothing learned is 1.
    key = jax.random.key(0)
    if kind == "vector":
        network, data = sx.ScoreMLP(2, width=32, depth=2, key=key), jnp.ones((64, 2), jnp.float32)
    else:
        network, data = sx.ScoreMixer(4, patch=2, width=16, depth=1, key=key), jnp.ones((64, 4, 4), jnp.float32)
    loss = sx.DenoisingScoreMatching(sx.VP(), earliest=0.1)
    found = sx.fit(loss, optax.adam(3e-3), data, initial=network, steps=400, batch_size=64, key=key, every=400)
    size = data[0].size * 64
    assert abs(float(found.losses[0]) - 1.0) < 4 * (2 / size) ** 0.5  # mean of squared standard normals
    assert float(found.losses[-1]) < 0.1


def test_label_and_time_reach_the_output():
    network = sx.ScoreMLP(2, width=16, depth=1, classes=3, key=jax.random.key(0))
    leaves, tree = jax.tree.flatten(network)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    network = jax.tree.unflatten(
        tree, [jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)]
    )
    x = jnp.ones(2, jnp.float32)
    outputs = [network(0.5, x, label) for label in (0, 1, 2, -1)] + [network(0.1, x, 0)]
    apart = [float(jnp.abs(a - b).max()) for i, a in enumerate(outputs) for b in outputs[:i]]
    assert min(apart) > 1e-3
    np.testing.assert_array_equal(network(0.5, x), outputs[3])  # no label is label -1
