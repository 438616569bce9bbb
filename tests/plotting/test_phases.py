"""Phase diagrams: the line that is drawn is the edge, to a cell of the grid or the distance of points."""

import matplotlib.colors
import numpy as np

from separatrix.plotting import plot_phase_diagram


def black_line(fig):
    """The points of the separatrix, as it is drawn; its entry of the legend is empty."""
    lines = [line for line in fig.axes[0].lines if line.get_color() == "black" and len(line.get_xdata())]
    return np.concatenate([np.stack(line.get_data(), axis=1) for line in lines])


def test_the_line_of_a_grid_is_the_closed_form_to_half_a_cell_and_cells_have_the_colours_of_their_fates():
    h, b = np.geomspace(0.5, 8.0, 33), np.linspace(0.0, 0.9, 19)
    x, y = (part.ravel() for part in np.meshgrid(h, b, indexing="ij"))
    fates = np.where(x < 2 * (1 + y), "completed", "non_finite")
    fig = plot_phase_diagram(x, y, fates, names=("rate", "momentum"), log="x", shape=(33, 19))
    line = black_line(fig)
    away = np.log(line[:, 0] / (2 * (1 + line[:, 1])))
    # Between two neighbours: within one spacing of the rates, or of the momenta, whose effect on ln(rate) is at most that.
    assert np.abs(away).max() <= max(np.log(h[1] / h[0]), b[1])
    assert line[:, 1].min() == 0.0 and np.isclose(line[:, 1].max(), 0.9)
    mesh = fig.axes[0].collections[0].get_array()  # rows are momenta, columns rates
    blue, orange = mesh[3, 0], mesh[3, -1]
    assert matplotlib.colors.rgb_to_hsv(blue)[0] > 0.5 > matplotlib.colors.rgb_to_hsv(orange)[0]
    same = np.all(mesh == blue, axis=-1)
    np.testing.assert_array_equal(same.T, (fates == "completed").reshape(33, 19))
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == [
        f"completed: {np.sum(fates == 'completed')}", f"non finite: {np.sum(fates == 'non_finite')}", "separatrix",
    ]  # fmt: skip


def test_the_line_between_points_that_were_drawn_is_the_edge_to_their_distance():
    points = np.random.default_rng(0).random((600, 2))
    fates = np.where(points.sum(axis=1) < 1, "completed", "non_finite")
    line = black_line(plot_phase_diagram(*points.T, fates, names=("a", "b")))
    # The mean distance of 600 points in a square is 0.02; triangles along its sides are longer.
    assert np.median(np.abs(line.sum(axis=1) - 1)) < 0.03 and np.abs(line.sum(axis=1) - 1).max() < 0.15


def test_one_fate_has_no_line():
    fig = plot_phase_diagram([1.0, 2.0], [1.0, 1.0], ["completed"] * 2, names=("a", "b"), shape=(2, 1))
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["completed: 2"]
