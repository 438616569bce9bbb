"""Small images side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.plotting.style import figure


def plot_images(images: Any, labels: Checked[Sequence[Any] | None] = None, *, columns: Checked[int] = 10) -> Any:
    """Plot images in a grid.

    **Arguments:**

    - `images`: shape (B, H, W), grey of any range, dark is large; or (B, H, W, 3) in colour, 0 to 1 or 0 to 255.
    - `labels`: a caption for each: words, numbers, or an array of them.
    - `columns`: how many in a row, at least 1.

    **Returns:** the figure.

    **Raises:** `ValueError` for another shape, labels that are not as many as images, or no columns.

    **Example:**

    >>> import numpy as np, separatrix as sx
    >>> fig = sx.plotting.plot_images(np.zeros((2, 8, 8)), np.array([3, 7]))
    >>> [axes.get_title() for axes in fig.axes[:2]]
    ['3', '7']
    """
    images = np.asarray(images)
    grey = images.ndim == 3
    if not (len(images) if images.ndim else 0) or not (grey or (images.ndim == 4 and images.shape[-1] in (3, 4))):
        expected = "(B, H, W), or (B, H, W, 3) in colour, B >= 1"
        do = "Put the images on the first axis: image[None] for one."
        raise ValueError(explain("plot_images: images", f"shape {images.shape}", expected, do))
    captions = [""] * len(images) if labels is None else [str(word) for word in np.asarray(labels).tolist()]
    if len(captions) != len(images):
        do = "Give one to each image."
        raise ValueError(explain("plot_images: labels", f"{len(captions)} for {len(images)} images", "as many", do))
    if isinstance(columns, bool) or not isinstance(columns, int | np.integer) or columns < 1:
        raise ValueError(explain("plot_images: columns", repr(columns), "a whole number >= 1", "Leave it out for 10."))
    rows = -(-len(images) // columns)
    fig, (frame,) = figure(1, width=0.55 * columns, height=0.62 * rows)
    frame.remove()
    cells = fig.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, image, caption in zip(cells, images, captions, strict=False):
        cell.imshow(image, cmap="gray_r" if grey else None)
        cell.set_title(caption, fontsize=7, pad=1)
    return fig
