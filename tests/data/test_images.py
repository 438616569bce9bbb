"""Folders of pictures against what Pillow wrote, pixel by pixel; what is more than a picture is refused by name."""

import sys
from pathlib import Path

import numpy as np
import pytest

from separatrix.data import DataError, DataMissing, load, read_images, split_files

Image = pytest.importorskip("PIL.Image")

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 256, (5, 3, 4), dtype=np.uint8)  # five pictures, 3 high and 4 wide
COLOUR = DRAW.integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)


def write(folder: Path, pictures: np.ndarray, suffix: str = ".png", **options: object) -> Path:
    """Picture i in class i % 2."""
    for i, picture in enumerate(pictures):
        place = folder / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}{suffix}", **options)
    return folder


ORDER = [0, 2, 4, 1, 3]  # cats, then dogs


@pytest.mark.parametrize("pictures", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_levels_and_labels_are_those_written(tmp_path: Path, pictures: np.ndarray, suffix: str) -> None:
    if suffix == ".webp" and pictures.ndim == 3:
        pytest.skip("WebP has no grey")
    write(tmp_path, pictures, suffix, **({"lossless": True} if suffix == ".webp" else {}))
    (tmp_path / "cat" / ".hidden").touch()
    (tmp_path / "LICENSE").touch()
    found = load(tmp_path)
    assert found.inputs.dtype == np.float32 and found.classes == ("cat", "dog")
    np.testing.assert_array_equal(found.inputs, pictures[ORDER].astype(np.float32) / np.float32(255))
    assert found.targets.tolist() == [0, 0, 0, 1, 1] and found.targets.dtype == np.int32


def test_colour_becomes_grey_by_its_law_and_grey_colour_by_thrice(tmp_path: Path) -> None:
    grey = read_images(write(tmp_path / "c", COLOUR), colour="grey").values * 255
    law = COLOUR[ORDER] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - law).max() <= 0.502  # Pillow rounds to a level, with coefficients of 16 bits
    tripled = read_images(write(tmp_path / "g", GREY), colour="rgb").values
    np.testing.assert_array_equal(tripled * 255, np.repeat(GREY[ORDER][..., None], 3, axis=3))
    write(tmp_path / "g", COLOUR[:1])
    with pytest.raises(DataError, match=r"(?s)got 4 x 3 pixels in grey, expected .* in colour.*colour='rgb'"):
        load(tmp_path / "g")


def test_sixteen_bits_of_grey_keep_their_levels(tmp_path: Path) -> None:
    deep = DRAW.integers(0, 2**16, (3, 4), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png")
    found = read_images(tmp_path)
    np.testing.assert_array_equal(np.rint(found.values[0] * 65535).astype(np.uint16), deep)
    assert found.labels is None and load(tmp_path).targets is None


def test_a_palette_is_read_as_the_colours_it_means(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR[0]).quantize(12)
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_images(tmp_path).values[0] * 255, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("tag", "turned"), [(3, np.rot90(GREY[0], 2)), (6, np.rot90(GREY[0], -1)), (8, np.rot90(GREY[0]))]
)
def test_a_turned_camera_is_turned_back(tmp_path: Path, tag: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(GREY[0]).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_images(tmp_path).values[0] * 255, turned)


def test_pictures_of_other_sizes_are_resized_when_asked(tmp_path: Path) -> None:
    write(tmp_path, GREY)
    Image.new("L", (9, 7), 51).save(tmp_path / "dog" / "z.png")
    with pytest.raises(
        DataError, match=r"(?s)z\.png\n  got 9 x 7 pixels in grey, expected 4 x 3 .*size=\(height, width\)"
    ):
        load(tmp_path)
    found = load(tmp_path, size=(2, 5))
    assert found.inputs.shape == (6, 2, 5)
    np.testing.assert_allclose(found.inputs[-1], 0.2, rtol=1e-6)  # of one level, whatever the size
    assert load(tmp_path, size=4).inputs.shape == (6, 4, 4)


def spoiled(folder: Path, what: str) -> None:
    """One file x.png (or what it is) that must be refused."""
    path = folder / "x.png"
    grey, colour = Image.fromarray(GREY[0]), Image.fromarray(COLOUR[0])
    match what:
        case "transparent":
            Image.fromarray(np.dstack([COLOUR[0], GREY[0]])).save(path)
        case "transparent by a colour":
            colour.quantize(8).save(path, transparency=1)
        case "several frames":
            colour.save(path, save_all=True, append_images=[Image.fromarray(COLOUR[1])])
        case "inks":
            colour.convert("CMYK").save(folder / "x.jpg")
        case "cut short":
            noise = Image.fromarray(DRAW.integers(0, 256, (64, 64), dtype=np.uint8))
            noise.save(path)
            path.write_bytes(path.read_bytes()[:2000])
        case "no picture":
            path.write_bytes(b"GIF89a, or not")
        case "another format":
            grey.save(path, format="GIF")
        case "empty":
            path.touch()
        case "large":
            Image.new("1", (8192, 8192)).save(path)
        case "a text":
            grey.save(path)
            (folder / "x.txt").write_text("no picture")


SPOILED = {
    "transparent": "transparent pixels", "transparent by a colour": "transparent pixels", "several frames": "2 frames",
    "inks": "mode CMYK", "cut short": "expected a file that can be read whole", "no picture": "cannot identify",
    "another format": "cannot identify", "empty": "of 0 bytes",
    "large": "8192 x 8192 pixels, expected at most 33554432", "a text": "x.txt, which is no picture",
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_more_or_less_than_a_picture_is_refused_by_name(tmp_path: Path, what: str) -> None:
    spoiled(tmp_path, what)
    with pytest.raises(DataError) as refusal:
        read_images(tmp_path)
    message = str(refusal.value)
    assert SPOILED[what] in message and str(tmp_path) in message and len(message.splitlines()) == 3


def test_alpha_that_hides_nothing_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([COLOUR[0], np.full((3, 4), 255, np.uint8)])).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_images(tmp_path).values[0] * 255, COLOUR[0])


def test_parts_in_folders_share_their_classes(tmp_path: Path) -> None:
    write(tmp_path / "train", GREY)
    write(tmp_path / "test", GREY[:1])
    with pytest.raises(DataError, match="split_files"):
        load(tmp_path)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "dog")
    parts = split_files(tmp_path / "train", test=tmp_path / "test")
    assert parts.test.targets.tolist() == [1] and parts.test.classes == ("cat", "dog")
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "eel")
    with pytest.raises(DataError, match="a class that is not among those given"):
        split_files(tmp_path / "train", test=tmp_path / "test")


def test_without_pillow_the_install_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GREY)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(DataMissing, match=r'pip install "separatrix\[images\]"'):
        load(tmp_path)
