"""Pictures written are read back as they were, by our reader and by Pillow."""

import io

import numpy as np
import pytest

from separatrix.data import picture_grid, picture_levels, png_bytes, read_images

PIL = pytest.importorskip("PIL.Image")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_a_picture_is_read_back_level_by_level(shape, tmp_path):
    levels = RANDOM.integers(0, 256, shape).astype(np.uint8)
    with PIL.open(io.BytesIO(png_bytes(levels))) as image:
        np.testing.assert_array_equal(np.asarray(image), levels)
    (tmp_path / "a.png").write_bytes(png_bytes(levels))
    found = read_images(tmp_path).values
    np.testing.assert_array_equal(picture_levels(found)[0], levels)


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_a_grid_holds_each_picture_once_in_the_order_of_reading(count):
    pictures = RANDOM.random((count, 40, 50))
    paper = picture_grid(pictures)
    columns = int(np.ceil(np.sqrt(count)))
    seen = 0
    for number in range(count):
        row, column = divmod(number, columns)
        piece = paper[row * 42 : row * 42 + 40, column * 52 : column * 52 + 50]
        np.testing.assert_array_equal(piece, picture_levels(pictures)[number])
        seen += piece.size
    assert (paper == 255).sum() >= paper.size - seen  # the rest is paper


def test_small_pictures_are_enlarged_by_a_whole_factor_and_one_alone_is_not():
    pictures = RANDOM.random((2, 8, 8, 3))
    paper, levels = picture_grid(pictures), picture_levels(pictures)
    assert paper.shape == (96, 194, 3)
    np.testing.assert_array_equal(paper[6::12, 6:96:12], levels[0])
    np.testing.assert_array_equal(picture_grid(pictures[:1]), levels[0])


def test_what_lies_outside_is_cut_and_what_is_not_finite_is_refused():
    np.testing.assert_array_equal(picture_levels(np.array([[[-1.0, 0.5, 2.0]]]))[0], [[0, 128, 255]])
    with pytest.raises(ValueError, match="number 2\n  got values that are not finite"):
        picture_levels(np.stack([np.zeros((2, 2)), np.full((2, 2), np.nan)]))
    with pytest.raises(ValueError, match=r"got shape \(2, 2, 2, 4\)"):
        picture_levels(np.zeros((2, 2, 2, 4)))
