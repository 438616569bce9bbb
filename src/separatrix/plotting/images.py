"""Small images side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from separatrix.plotting.style import figure


def plot_images(images: Any, labels: Sequence[str] | None = None, *, columns: int = 10) -> Any:
    """Plot grey images in a grid.

    **Arguments:**

    - `images`: shape (B, H, W), any range; dark is large.
    - `labels`: a caption for each.
    - `columns`: how many in a row.

    **Returns:** the figure.
    """
    images = np.asarray(images)
    rows = -(-len(images) // columns)
    fig, (frame,) = figure(1, width=0.55 * columns, height=0.62 * rows)
    frame.remove()
    cells = fig.subplots(rows, columns, squeeze=False).ravel()
    for number, cell in enumerate(cells):
        cell.axis("off")
        if number < len(images):
            cell.imshow(images[number], cmap="gray_r")
            cell.set_title(labels[number] if labels else "", fontsize=7, pad=1)
    return fig
