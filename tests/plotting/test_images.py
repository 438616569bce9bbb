"""What is drawn of images: pixels and captions."""

import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.plotting import plot_images

IMAGES = np.random.default_rng(0).uniform(size=(4, 3, 5))


@pytest.mark.parametrize("labels", [jnp.arange(4), np.arange(4), [0, 1, 2, 3], ("0", "1", "2", "3"), range(4)])
def test_captions_are_words_numbers_or_arrays_of_them(labels):
    fig = plot_images(IMAGES, labels, columns=3)
    assert [axes.get_title() for axes in fig.axes] == ["0", "1", "2", "3", "", ""]
    for axes, image in zip(fig.axes, IMAGES, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
    assert not fig.axes[4].images and not any(axes.axison for axes in fig.axes)


def test_colours_and_no_captions():
    colour = np.random.default_rng(1).uniform(size=(2, 3, 5, 3))
    fig = plot_images(colour, columns=2)
    np.testing.assert_array_equal(fig.axes[1].images[0].get_array(), colour[1])
    assert [axes.get_title() for axes in fig.axes] == ["", ""]
    assert plot_images(IMAGES).axes[0].images[0].get_cmap().name == "gray_r"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot_images(IMAGES[0]), r"shape \(3, 5\).*image\[None\]"),
        (lambda: plot_images(IMAGES[:0]), r"shape \(0, 3, 5\)"),
        (lambda: plot_images(IMAGES, jnp.arange(3)), "3 for 4 images"),
        (lambda: plot_images(IMAGES, columns=0), "columns\n  got 0"),
    ],
)
def test_misuse_is_told(call, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()


def test_it_is_public():
    assert sx.plotting.plot_images is plot_images
