"""A folder of pictures: each sub-folder a class, each file in it one picture.

    pictures/cat/001.png        pictures/dog/001.jpg        ->        values in [0, 1], labels 0 = cat, 1 = dog

Pictures become grey (height, width) or red, green, blue (height, width, 3), float32, level / 255 (/ 65535 for 16 bits).
What a picture holds beyond that is refused in words, not dropped: transparency, several frames, 16-bit colour, inks. The
format is known by the content, and only PNG, JPEG, BMP and WebP are opened; the size is known from the header, and
compared with a cap before a pixel is decoded. A picture that its camera noted as turned is turned.

**Reference:** grey from colour: ITU-R BT.601, L = 0.299 R + 0.587 G + 0.114 B. Turning: EXIF 2.3, tag Orientation.
"""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from separatrix._errors import DataMissing, explain
from separatrix.data.files import refusal, require_file, sound

Colour: TypeAlias = Literal["grey", "rgb"]
Size: TypeAlias = int | tuple[int, int]

MAX_PIXELS = 2**25  # of one picture: 33 million, more than most cameras have
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_LEAVINGS = ("thumbs.db", "desktop.ini")  # what file managers leave behind, beside names that begin with a point
_DEEP = "I;16"
_DO = "Repair it, or take it out of the folder."


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures, their labels, the classes that the labels mean, and the files, in one order.

    - `values`: float32 in [0, 1], shape (n, height, width), or (n, height, width, 3) in colour.
    - `labels`: int32, shape (n,), or None where the folder has no sub-folders.
    """

    values: Float[np.ndarray, "n height width ..."]
    labels: Int[np.ndarray, " n"] | None
    classes: tuple[str, ...]
    files: tuple[Path, ...]


def read_images(
    folder: str | PathLike[str],
    *,
    size: Size | None = None,
    colour: Colour | None = None,
    classes: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pictures:
    """Read a folder of pictures.

    **Arguments:**

    - `folder`: pictures in sub-folders, one a class, or pictures alone.
    - `size`: resize all to (height, width), or to a square; by default they must be of one size.
    - `colour`: make all "grey" or "rgb"; by default they must be all of one of these.
    - `classes`: the names of the sub-folders in the order of their labels; sorted by default.
    - `max_pixels`: the most pixels that one picture may have.

    **Returns:** `Pictures`.

    **Raises:** `DataMissing` if there is no such folder, or no Pillow; `DataError` (a `ValueError`), naming the file, for
    what cannot be opened, is cut short, is too large, or holds more than grey or colour.

    **Example:**

    >>> import pathlib, tempfile
    >>> import PIL.Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, level in (("dark", 0), ("light", 255)):
    ...         pathlib.Path(folder, name).mkdir()
    ...         PIL.Image.new("L", (3, 2), level).save(pathlib.Path(folder, name, "a.png"))
    ...     found = read_images(folder)
    >>> found.values.shape, found.labels.tolist(), found.classes
    ((2, 2, 3), [0, 1], ('dark', 'light'))

    **Reference:** see the module.
    """
    _require_options(size, colour)
    require_pillow()
    files, labels, named = _files(Path(folder), classes)
    values = read_image_files(files, size=size, colour=colour, max_pixels=max_pixels)
    return Pictures(values, labels, named, tuple(files))


def read_image_files(
    files: Sequence[Path], *, size: Size | None = None, colour: Colour | None = None, max_pixels: int = MAX_PIXELS
) -> Float[np.ndarray, "n height width ..."]:
    """Read pictures of these files, in this order.

    **Arguments:** as `read_images` has them.

    **Returns:** float32 in [0, 1], shape (n, height, width), or (n, height, width, 3) in colour.

    **Raises:** as `read_images`, naming the file.
    """
    _require_options(size, colour)
    image = require_pillow()
    wanted = None if size is None else (size, size) if isinstance(size, int) else size
    first = _picture(image, files[0], colour, wanted, max_pixels)
    where = str(files[0].parent)
    _require_memory(where, len(files) * first.nbytes)
    with sound(where, "Read less of it, or resize the pictures by size=."):
        values = np.empty((len(files), *first.shape), np.float32)
    for i, file in enumerate(files):
        picture = first if i == 0 else _picture(image, file, colour, wanted, max_pixels)
        if picture.shape != first.shape:
            alike = picture.ndim == first.ndim
            do = "Pass colour='rgb' or 'grey' to make all alike; on the command line --colour grey."
            if alike:
                do = "Pass size=(height, width) to resize all; on the command line --size N."
            raise refusal(f"{file}", _told(picture), f"{_told(first)}, as in {files[0].name}", do)
        values[i] = picture
    return values


def is_pictures(folder: Path) -> bool:
    """Whether there are pictures in a folder, or in its first sub-folders."""
    with sound(str(folder), "Check the folder."):
        entries = sorted(folder.iterdir())
        inside = [*entries, *(file for entry in entries[:50] if entry.is_dir() for file in entry.iterdir())]
    return any(file.suffix.lower() in SUFFIXES for file in inside)


def require_pillow() -> Any:
    """Pillow's module of images, or the line that installs it."""
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        do = 'Try: pip install "separatrix[images]"'
        raise DataMissing(explain("read_images", "no Pillow", "Pillow installed", do)) from error
    return PIL


def _require_options(size: Any, colour: Any) -> None:
    sides = (size, size) if isinstance(size, int) else size
    if size is not None and (len(sides) != 2 or not all(isinstance(n, int) and 1 <= n <= 2**15 for n in sides)):
        do = "Give whole numbers of pixels from 1 to 32768."
        raise ValueError(explain("read_images: size", repr(size), "one side, or (height, width)", do))
    if colour not in (None, "grey", "rgb"):
        do = "Leave it out to keep what the pictures are."
        raise ValueError(explain("read_images: colour", repr(colour), '"grey" or "rgb"', do))


def _files(folder: Path, classes: Sequence[str] | None) -> tuple[list[Path], Any, tuple[str, ...]]:
    """The pictures in order, their labels, and the classes."""
    if not folder.exists():
        raise DataMissing(explain("read_images", f"no folder at {folder}", "an existing folder", "Check the path."))
    with sound(str(folder), "Check the folder."):
        entries = sorted(entry for entry in folder.iterdir() if not _is_leaving(entry))
    inside = [entry for entry in entries if entry.is_dir()]
    if not inside:
        return _of_one(folder), None, ()
    loose = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
    if loose:
        do = "Move it into the sub-folder of its class."
        raise refusal(str(folder), f"the picture {loose[0].name} beside sub-folders", "pictures in sub-folders", do)
    named = tuple(entry.name for entry in inside) if classes is None else tuple(classes)
    strange = sorted({entry.name for entry in inside} - set(named))
    if strange:
        do = "Read all folders with the classes of them all."
        raise refusal(f"{folder / strange[0]}", "a class that is not among those given", ", ".join(named[:20]), do)
    groups = [_of_one(folder / name) if (folder / name).is_dir() else [] for name in named]
    labels = np.repeat(np.arange(len(named), dtype=np.int32), [len(group) for group in groups])
    return [file for group in groups for file in group], labels, named


def _of_one(folder: Path) -> list[Path]:
    """The pictures of one folder, which holds nothing else."""
    with sound(str(folder), "Check the folder."):
        files = sorted(entry for entry in folder.iterdir() if not _is_leaving(entry))
    if not files:
        raise refusal(str(folder), "no pictures", f"files ending in {', '.join(SUFFIXES)}", "Put pictures there.")
    for file in files:
        if file.is_dir() or file.suffix.lower() not in SUFFIXES:
            got = f"{file.name}, a folder" if file.is_dir() else f"{file.name}, which is no picture"
            do = "Take it out, or convert it."
            raise refusal(str(folder), got, f"only files ending in {', '.join(SUFFIXES)}", do)
    return files


def _is_leaving(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _LEAVINGS


def _picture(pil: Any, path: Path, colour: Colour | None, size: tuple[int, int] | None, most: int) -> Any:
    """One picture as float32 in [0, 1]."""
    file = require_file("read_images", path)
    with sound(f"{file}", _DO), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, which are refused below
        with pil.Image.open(file, formats=_FORMATS) as opened:
            _require_plain(file, opened, most)
            opened.load()
            turned = pil.ImageOps.exif_transpose(opened)
        return _levels(file, turned, colour, size, pil.Image)


def _require_plain(file: Path, image: Any, most: int) -> None:
    """Refuse what is too large or holds more than a picture, before it is decoded."""
    width, height = image.size
    if width * height > most:
        do = f"Make it smaller, or pass max_pixels={width * height}."
        raise refusal(f"{file}", f"{width} x {height} pixels", f"at most {most} pixels", do)
    if getattr(image, "n_frames", 1) > 1:
        raise refusal(f"{file}", f"{image.n_frames} frames", "one picture", "Save its frames as files.")
    if image.format == "PNG" and image.mode != _DEEP and _png_depth(file) == 16:
        raise refusal(f"{file}", "16 bits a colour", "8 bits a colour, or 16 bits of grey", "Save it with 8 bits.")


def _png_depth(file: Path) -> int:
    """Bits a channel, from the header chunk of a PNG file."""
    with file.open("rb") as stream:
        return stream.read(25)[24]


def _levels(file: Path, image: Any, colour: Colour | None, size: tuple[int, int] | None, module: Any) -> Any:
    """Levels of a decoded picture."""
    grey = image.mode in ("1", "L", _DEEP)
    if image.mode == _DEEP:
        plain = module.fromarray(np.asarray(image).astype(np.float32))
        scale = np.float32(65535)
    else:
        plain, scale = _opaque(file, image), np.float32(255)
        grey = plain.mode == "L"
        if colour == "grey" and not grey:
            plain, grey = plain.convert("L"), True
    if size is not None and (image.height, image.width) != size:
        plain = plain.resize((size[1], size[0]), module.Resampling.BILINEAR)
    levels = np.asarray(plain, np.float32) / scale
    return np.repeat(levels[:, :, None], 3, axis=2) if grey and colour == "rgb" else levels


def _opaque(file: Path, image: Any) -> Any:
    """An 8-bit picture of grey or colour, of the same colours."""
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        full = image.convert("RGBA")
        if full.getextrema()[3] != (255, 255):
            do = "Put it on a background of one colour first."
            raise refusal(f"{file}", "transparent pixels", "a picture without them", do)
        return image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode in ("RGB", "P"):
        return image.convert("RGB")
    raise refusal(f"{file}", f"a picture of mode {image.mode}", "grey or red, green, blue", "Convert it to RGB.")


def _require_memory(where: str, size: int) -> None:
    """Refuse what is more than the machine has, before it is asked for."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if size > there:
        raise refusal(where, f"{size} bytes of pictures", f"at most the {there} of memory", "Resize them by size=.")


def _told(picture: Any) -> str:
    height, width = picture.shape[:2]
    return f"{width} x {height} pixels {'in colour' if picture.ndim == 3 else 'in grey'}"
