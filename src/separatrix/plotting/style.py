"""One look for all figures: a colour-blind safe cycle, light frame, text that prints."""

import io
import re
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

# Okabe & Ito (2008), reordered so that the first three differ in lightness too when printed in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FATES = {"converges": "#009E73", "oscillates": "#E69F00", "diverges": "#D55E00"}

_STYLE: Any = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "separatrix",
}


def figure(columns: int = 1, *, width: float = 3.6, height: float = 2.7) -> tuple[Figure, list[Any]]:
    """Return a figure and its row of axes; it belongs to no window and needs no closing.

    **Arguments:** the number of axes side by side, and the size of each in inches.

    **Example:**

    >>> import separatrix as sx
    >>> fig, axes = sx.plotting.figure(2)
    >>> len(axes)
    2
    """
    with matplotlib.rc_context(_STYLE):
        fig = Figure(figsize=(width * columns, height), layout="constrained")
        axes = fig.subplots(1, columns, squeeze=False)[0]
    return fig, list(axes)


def styled() -> Any:
    """The style, for as long as a `with` block runs."""
    return matplotlib.rc_context(_STYLE)


def label(axes: Any, x: str, y: str, title: str = "") -> None:
    """Name both axes and set the title, in the sizes of the style whatever the caller's are."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.set_title(title, fontsize=10)


def as_svg(fig: Figure) -> str:
    """Return a figure as an SVG element, without date or other traces of when it was made."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


# Colours of the style, and the variables of a page that say what they are there.
_THEME = {"#000000": "--ink", "#b0b0b0": "--grid"} | {
    colour.lower(): f"--colour-{number}" for number, colour in enumerate(COLOURS[:6])
}


def as_themed_svg(fig: Figure) -> str:
    """Return a figure as an SVG element whose colours are those of the page: `var(--ink)`, `--grid`, `--colour-0` to `-5`.

    So one picture is right on light and on dark paper. Its background is the page's.
    """
    fig.patch.set_alpha(0)
    for axes in fig.axes:
        axes.patch.set_alpha(0)
        if (legend := axes.get_legend()) is not None:
            legend.get_frame().set_alpha(0)
    text = re.sub(r"<metadata>.*?</metadata>", "", as_svg(fig), flags=re.DOTALL)
    for colour, name in _THEME.items():
        text = text.replace(f": {colour}", f": var({name})")
    return text.replace("<svg ", '<svg class="themed" ', 1)
