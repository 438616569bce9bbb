"""What is drawn of a trajectory: which artists, with which data, under which title."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import separatrix as sx
from separatrix.plotting import plot_trajectory


class Body(NamedTuple):
    """Where it is and how fast."""

    position: jax.Array
    velocity: jax.Array


FALL = sx.as_flow(lambda s: Body(s.velocity, -s.position))
TURN = sx.as_flow(lambda x: jnp.stack([x[1], -x[0], 0.5 * x[2]]))
START, TIMES = jnp.array([1.0, 0.0, 0.2]), jnp.linspace(0.0, 3.0, 13)
PATH = sx.evolve(TURN, START, times=TIMES)
ORBIT = sx.evolve(sx.as_map(lambda x: 3.7 * x * (1 - x)), jnp.array(0.3), steps=20)
TREE = sx.evolve(FALL, Body(jnp.array([1.0, 2.0]), jnp.array([0.0, -1.0])), times=TIMES)
MANY = jax.vmap(lambda x: sx.evolve(TURN, x, times=TIMES))(jnp.stack([START, 2 * START, -START]))


def curves(fig):
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in fig.axes[0].lines]


def styles(fig):
    return [(line.get_linestyle(), line.get_marker()) for line in fig.axes[0].lines]


def title(fig):
    return fig.axes[0].get_title()


def test_a_flow_is_a_line_and_a_map_is_points():
    fig = plot_trajectory(PATH)
    assert isinstance(fig, Figure) and styles(fig) == [("-", "None")] * 3
    for number, (x, y) in enumerate(curves(fig)):
        np.testing.assert_array_equal(x, TIMES)
        np.testing.assert_array_equal(y, PATH.states[:, number])
    assert fig.axes[0].get_xlabel() == "time" and title(fig) == "state over time"
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == [f"component {i}" for i in range(3)]
    fig = plot_trajectory(ORBIT)
    assert styles(fig) == [("None", "o")]
    np.testing.assert_array_equal(curves(fig)[0][0], np.arange(21))
    np.testing.assert_array_equal(curves(fig)[0][1], ORBIT.states)
    assert fig.axes[0].get_xlabel() == "step" and title(fig) == "state over steps"
    assert styles(plot_trajectory(ORBIT, joined=True)) == [("-", "None")]


def test_components_are_chosen_by_number_and_by_name():
    fig = plot_trajectory(PATH, components=(2, 0))
    (x, y), start = curves(fig)
    np.testing.assert_array_equal(x, PATH.states[:, 2])
    np.testing.assert_array_equal(y, PATH.states[:, 0])
    assert [float(v[0]) for v in start] == [0.2, 1.0] and title(fig) == "component 0 over component 2"
    fig = plot_trajectory(PATH, components=1)
    np.testing.assert_array_equal(curves(fig)[0][1], PATH.states[:, 1])
    assert title(fig) == "component 1 over time" and fig.axes[0].get_ylabel() == "component 1"
    fig = plot_trajectory(TREE, components=("position[1]", "velocity[0]"))
    np.testing.assert_array_equal(curves(fig)[0][0], TREE.states.position[:, 1])
    np.testing.assert_array_equal(curves(fig)[0][1], TREE.states.velocity[:, 0])
    assert title(fig) == "velocity[0] over position[1]"


def test_three_components_are_drawn_in_space():
    fig = plot_trajectory(PATH, components=(0, 1, 2))
    drawn = fig.axes[0].lines[0].get_data_3d()
    np.testing.assert_allclose(np.stack(drawn, axis=1), PATH.states)
    assert fig.axes[0].name == "3d" and fig.axes[0].get_zlabel() == "component 2"
    assert title(fig) == "component 0, component 1, component 2"
    with pytest.raises(ValueError, match=r'(?s)axes of a plane.*projection="3d"'):
        plot_trajectory(PATH, components=(0, 1, 2), axes=plot_trajectory(PATH).axes[0])


def test_a_tree_is_drawn_leaf_by_leaf():
    fig = plot_trajectory(TREE)
    names = [line.get_label() for line in fig.axes[0].lines]
    assert names == ["position[0]", "position[1]", "velocity[0]", "velocity[1]"]
    np.testing.assert_array_equal(curves(fig)[3][1], TREE.states.velocity[:, 1])
    pair = sx.evolve(sx.as_map(lambda s: (s[0] + 1, 0.5 * s[1])), (jnp.array(0), jnp.array(1.0)), steps=3)
    assert [line.get_label() for line in plot_trajectory(pair).axes[0].lines] == ["0", "1"]
    spin = sx.evolve(sx.as_map(lambda z: 1j * z), jnp.array(1.0 + 0.0j), steps=4)
    fig = plot_trajectory(spin, components=("real part of state", "imaginary part of state"))
    np.testing.assert_allclose(curves(fig)[0], [[1, 0, -1, 0, 1], [0, 1, 0, -1, 0]], atol=1e-15)


def test_members_of_an_ensemble_are_drawn_each():
    fig = plot_trajectory(MANY, components=(0, 1))
    assert len(fig.axes[0].lines) == 6 and title(fig) == "component 1 over component 0\n3 members"
    for member in range(3):
        np.testing.assert_array_equal(curves(fig)[2 * member][1], MANY.states[member, :, 1])
    colours = [line.get_color() for line in fig.axes[0].lines]
    assert colours[0] == colours[1] and len(set(colours)) == 3
    fig = plot_trajectory(MANY)
    assert len(fig.axes[0].lines) == 9
    # Over time a colour is a component.
    assert len({line.get_color() for line in fig.axes[0].lines[:3]}) == 1


def test_the_title_says_how_it_ended_if_not_as_it_should():
    blown = sx.evolve(sx.as_map(lambda x: x**3), jnp.array(10.0), steps=30)
    assert title(plot_trajectory(blown)).startswith("state over steps\nnon_finite (at ")
    assert "completed" not in title(plot_trajectory(PATH)) + title(plot_trajectory(MANY))
    # Rows past the break are not drawn.
    assert np.isnan(curves(plot_trajectory(blown))[0][1][-1])
    last = sx.evolve(TURN, START, times=(0.0, 1.0), save="last")
    assert styles(plot_trajectory(last)) == [("None", "o")] * 3


REFUSED = {
    "no trajectory": (lambda: plot_trajectory(jnp.ones(3)), TypeError, "expected a Trajectory"),
    "traced": (
        lambda: jax.jit(lambda x: plot_trajectory(sx.evolve(TURN, x, times=TIMES)))(START), TypeError, "Plot outside of jit"
    ),
    "a number too high": (lambda: plot_trajectory(PATH, components=(0, 3)), ValueError, "got 3, expected component 0"),
    "a name that is not there": (lambda: plot_trajectory(TREE, components=("speed",)), ValueError, r"got 'speed'"),
    "half a number": (lambda: plot_trajectory(PATH, components=(0.5, 1)), ValueError, "got 0.5"),
    "four": (lambda: plot_trajectory(TREE, components=(0, 1, 2, 3)), ValueError, "4 of them, expected one, two or three"),
    "none": (lambda: plot_trajectory(TREE, components=()), ValueError, "0 of them"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_told(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()
