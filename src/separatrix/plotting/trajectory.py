"""One trajectory or many: components over time, or one over another.

A map has no states between its steps: its points stand alone. A flow is joined to a line.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked
from separatrix.plotting.style import COLOURS, figure, label

# So many curves still have a legend.
_NAMED = 8
# More points than these are a cloud, of smaller ones.
_CLOUD = 300


class Drawn(NamedTuple):
    """Instants (members, T), coordinates (members, T, d), the names of these, and whether points are joined."""

    times: Any
    values: Any
    names: tuple[str, ...]
    joined: bool


def plot_trajectory(
    trajectory: Any,
    *,
    components: Checked[Sequence[int | str] | int | str | None] = None,
    joined: bool | None = None,
    axes: Any = None,
) -> Any:
    """Plot a trajectory or an ensemble of them: components over time, or one component over another.

    **Arguments:**

    - `trajectory`: a `Trajectory`, or one with a batch axis in front. Its states may be any tree of arrays.
    - `components`: which coordinates, by number in the order of the leaves, or by name (that of the leaf, as "velocity",
      with an index where it has several, as "velocity[1]"). One is drawn over time, two as a phase portrait, three in
      space. None: all over time.
    - `joined`: whether the points of a trajectory are joined to a line; by default for times that are no step numbers,
      so for flows and not for maps.
    - `axes`: where to draw, in space for three components; a new figure by default.

    **Returns:** the figure. Its title says what is drawn, and how it ended if not as it should.

    **Raises:** `TypeError` for what is no trajectory, or one that is being traced; `ValueError` for components that are not
    there, or more than three.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> turn = sx.as_flow(lambda x: jnp.stack([x[1], -x[0]]))
    >>> path = sx.evolve(turn, jnp.array([1.0, 0.0]), times=jnp.linspace(0.0, 6.0, 61))
    >>> sx.plotting.plot_trajectory(path, components=(0, 1)).axes[0].get_title()
    'component 1 over component 0'
    """
    drawn = _read(trajectory, joined)
    chosen = _chosen(components, drawn.names)
    axes = _axes(axes, 0 if components is None else len(chosen))
    discrete = np.issubdtype(np.asarray(trajectory.times).dtype, np.integer)
    if components is None or len(chosen) == 1:
        title = _over_time(drawn, chosen, "step" if discrete else "time", axes)
    else:
        title = _over_each_other(drawn, chosen, axes)
    axes.set_title("\n".join(part for part in (title, _many(drawn), _ended(trajectory.outcome)) if part), fontsize=10)
    return axes.figure


def _read(trajectory: Any, joined: bool | None) -> Drawn:
    if not all(hasattr(trajectory, name) for name in ("times", "states", "outcome")):
        do = "Pass what evolve, ensemble or sample returned."
        raise TypeError(explain("plot_trajectory", type(trajectory).__name__, "a Trajectory", do))
    if is_traced(trajectory):
        raise TypeError(explain("plot_trajectory", "a traced trajectory", "a computed one", "Plot outside of jit."))
    times = np.asarray(trajectory.times)
    columns, names = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(trajectory.states):
        values: Any = np.asarray(leaf).astype(complex if np.iscomplexobj(leaf) else float)
        values = values.reshape(*times.shape, -1)
        own = _names(path, np.shape(leaf)[times.ndim :])
        for part, words in ((values.real, "real part of "), (values.imag, "imaginary part of ")):
            if np.iscomplexobj(values):
                columns.append(part)
                names += [words + name for name in own]
        if not np.iscomplexobj(values):
            columns.append(values)
            names += own
    values = np.concatenate(columns, axis=-1).reshape(-1, times.shape[-1], len(names))
    joined = not np.issubdtype(times.dtype, np.integer) if joined is None else joined
    return Drawn(times.reshape(-1, times.shape[-1]), values, tuple(names), joined)


def _names(path: Any, shape: tuple[int, ...]) -> list[str]:
    """The names of the coordinates of a leaf."""
    leaf = jax.tree_util.keystr(path, simple=True, separator=".")
    if not shape:
        return [leaf or "state"]
    indices = [", ".join(map(str, index)) for index in np.ndindex(*shape)]
    return [f"{leaf}[{index}]" if leaf else f"component {index}" for index in indices]


def _chosen(components: Any, names: tuple[str, ...]) -> list[int]:
    if components is None:
        return list(range(len(names)))
    components = [components] if isinstance(components, int | np.integer | str) else list(components)
    known = f"{', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}; or numbers 0 to {len(names) - 1}"
    chosen = []
    for component in components:
        number = names.index(component) if component in names else component
        if isinstance(number, str | bool) or not isinstance(number, int | np.integer) or not 0 <= number < len(names):
            do = "Choose among the coordinates of the saved states."
            raise ValueError(explain("plot_trajectory: components", repr(component), known, do))
        chosen.append(int(number))
    if not 1 <= len(chosen) <= 3:
        do = "Take one over time, two for a portrait, three for space; None for all over time."
        raise ValueError(explain("plot_trajectory: components", f"{len(chosen)} of them", "one, two or three", do))
    return chosen


def _axes(axes: Any, dimension: int) -> Any:
    if axes is None:
        if dimension < 3:
            return figure()[1][0]
        fig, (plane,) = figure(width=4.6, height=4.0)
        plane.remove()
        # The layout does not see the labels of space: room for them.
        fig.set_layout_engine("none")
        return fig.add_axes((0.02, 0.08, 0.82, 0.82), projection="3d")
    if dimension == 3 and not hasattr(axes, "zaxis"):
        do = 'Make them with fig.add_subplot(projection="3d"), or leave axes out.'
        raise ValueError(explain("plot_trajectory: axes", "axes of a plane", "axes of space, for three components", do))
    return axes


def _over_time(drawn: Drawn, chosen: list[int], clock: str, axes: Any) -> str:
    for place, number in enumerate(chosen):
        for times, values in zip(drawn.times, drawn.values, strict=True):
            axes.plot(times, values[:, number], color=COLOURS[place % len(COLOURS)], **_form(drawn))
        axes.lines[-1].set_label(drawn.names[number])
    alone = drawn.names[chosen[0]] if len(chosen) == 1 else "state"
    label(axes, clock, alone, "")
    if 1 < len(chosen) <= _NAMED:
        axes.legend(fontsize=8, frameon=False)
    return f"{alone} over {clock}s" if clock == "step" else f"{alone} over {clock}"


def _over_each_other(drawn: Drawn, chosen: list[int], axes: Any) -> str:
    names = [drawn.names[number] for number in chosen]
    for place, values in enumerate(drawn.values):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(*values[:, chosen].T, color=colour, **_form(drawn))
        axes.plot(*values[:1, chosen].T, "o", color="0.2" if len(drawn.values) == 1 else colour, markersize=4)
    label(axes, names[0], names[1], "")
    if len(chosen) == 3:
        axes.set_zlabel(names[2], fontsize=9)
        return ", ".join(names)
    return f"{names[1]} over {names[0]}"


def _form(drawn: Drawn) -> dict[str, Any]:
    thin = {"alpha": 0.7, "linewidth": 0.8} if len(drawn.values) > 1 else {}
    if drawn.joined and drawn.values.shape[1] > 1:
        return {"linestyle": "-", **thin}
    size = 2.5 if drawn.values.shape[1] <= _CLOUD else 1.0
    return {"linestyle": "", "marker": "o", "markersize": size, **thin}


def _many(drawn: Drawn) -> str:
    return f"{len(drawn.values)} members" if len(drawn.values) > 1 else ""


def _ended(outcome: Any) -> str:
    """How it ended, if not as it should: without the advice."""
    return "" if bool(np.all(np.asarray(outcome.completed))) else str(outcome).split(";")[0]
