r"""Pictures as a PNG file: several side by side, each as large as it can be seen.

    pictures (n, height, width) or (n, height, width, 3) in [0, 1]    ->    one picture of ceil(sqrt n) columns
    8-bit level = round(255 value);    a row of a PNG is one byte, 0 for no filter, and its levels

A level is what `read_images` reads back: a picture written alone is read as the same levels.

**Reference:** ISO/IEC 15948 (PNG), 11.2 critical chunks: IHDR, IDAT, IEND, each with the CRC-32 of its type and data.
"""

import math
import struct
import zlib

import numpy as np
from jaxtyping import Float, UInt8

from separatrix._errors import explain

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SEEN = 96  # pixels: a side that is smaller is enlarged by a whole factor in a grid
_GAP = 2


def picture_levels(
    pictures: Float[np.ndarray, "n height width *colours"],
) -> UInt8[np.ndarray, "n height width *colours"]:
    """Pictures in [0, 1] as 8-bit levels; what lies outside is cut.

    **Raises:** `ValueError` for another shape, no picture, or values that are not finite.
    """
    if pictures.ndim not in (3, 4) or (pictures.ndim == 4 and pictures.shape[3] != 3) or 0 in pictures.shape:
        expected = "(n, height, width) or (n, height, width, 3)"
        raise ValueError(explain("pictures", f"shape {pictures.shape}", expected, "Put the colours last."))
    if not np.isfinite(pictures).all():
        bad = int(np.argwhere(~np.isfinite(pictures))[0][0])
        do = "The model has diverged: train with a lower learning rate."
        raise ValueError(explain(f"pictures: number {bad + 1}", "values that are not finite", "0 to 1", do))
    return np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)


def picture_grid(
    pictures: Float[np.ndarray, "n height width *colours"], columns: int | None = None
) -> UInt8[np.ndarray, "rows columns *colours"]:
    """Pictures side by side, in the order of reading; one alone as it is. Columns are about as many as rows by default.

    **Example:**

    >>> picture_grid(np.ones((3, 96, 96))).shape  # two rows of two, the last place empty
    (194, 194)
    """
    levels = picture_levels(pictures)
    if len(levels) == 1:
        return levels[0]
    factor = max(1, _SEEN // max(levels.shape[1:3]))
    levels = levels.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width = levels.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sides = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    paper = np.full((*sides, *levels.shape[3:]), 255, np.uint8)
    for number, picture in enumerate(levels):
        top, left = (number // columns) * (height + _GAP), (number % columns) * (width + _GAP)
        paper[top : top + height, left : left + width] = picture
    return paper


def png_bytes(levels: UInt8[np.ndarray, "height width *colours"]) -> bytes:
    """The PNG file of a picture of 8-bit levels, grey or red, green, blue.

    **Example:**

    >>> png_bytes(np.zeros((2, 3), np.uint8))[:8] == b"\\x89PNG\\r\\n\\x1a\\n"
    True
    """
    height, width = levels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), levels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if levels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
