"""States with named parts: a tuple, a pytree, and what a map trains of it."""

import copy
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.systems.content import by_content
from separatrix.systems.memory import MemoryForm

FORM = MemoryForm("Pair", ("position", "pace"), "A pair.")
X, W = jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0])


def test_it_is_the_tuple_of_its_parts_and_each_part_has_a_name():
    state = FORM(X, pace=W)
    position, pace = state
    assert position is X and pace is W and state.position is X and state.pace is W and state[1] is W
    assert len(state) == 2 and isinstance(state, tuple) and FORM.__doc__ == "A pair."
    assert str(inspect.signature(FORM)) == "(position, pace)"
    assert repr(FORM(1, 2)) == "Pair(position=1, pace=2)" and FORM(1, 2) == (1, 2)
    assert FORM(1, 2)._replace(pace=5) == (1, 5) and FORM(1, 2)._asdict() == {"position": 1, "pace": 2}
    with pytest.raises(AttributeError, match=r"Pair\(position, pace\) has no 'mean'"):
        state.mean
    for parts, named in (((1,), {}), ((1, 2, 3), {}), ((1, 2), {"pace": 3}), ((1,), {"speed": 3})):
        with pytest.raises(TypeError, match=r"Pair\(position, pace\)\n  got .* expected 2 parts"):
            FORM(*parts, **named)


def test_it_is_a_pytree_whose_paths_are_the_names():
    state = FORM({"a": X}, W)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".position['a']", ".pace"]
    assert jax.tree.unflatten(structure, [1, 2]) == ({"a": 1}, 2)
    other = MemoryForm("Pair", ("position", "speed"), "A pair.")
    assert jax.tree.structure(other({"a": X}, W)) != structure == jax.tree.structure(state)
    doubled = jax.jit(lambda s: jax.tree.map(lambda leaf: 2 * leaf, s))(state)
    np.testing.assert_array_equal(doubled.pace, 2 * W)
    # d/ds of <x, w> is (w, x), in the form of s.
    slope = jax.grad(lambda s: jnp.vdot(s.position, s.pace))(FORM(X, W))
    np.testing.assert_array_equal(slope.position, W)
    np.testing.assert_array_equal(slope.pace, X)
    for again in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert again.form == FORM and jax.tree.structure(again) == structure
        np.testing.assert_array_equal(again.position["a"], X)


def test_functions_that_close_over_states_of_two_forms_are_two():
    other = MemoryForm("Pair", ("pace", "position"), "A pair.")
    read = lambda state: lambda x: x + state.pace
    one, same, two = (by_content(read(form(1.0, 2.0))) for form in (FORM, FORM, other))
    assert one == same and one != two


def test_it_is_kept_and_read_again(tmp_path):
    state = sx.optimization.Moments(X, W, W**2)
    sx.save(tmp_path / "state", state)
    again = sx.load_model(tmp_path / "state", state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    np.testing.assert_array_equal(again.square, W**2)


def test_what_a_map_trains_is_the_first_part_whatever_the_method():
    bowl = sx.optimization.Quadratic(1.0)
    ball = sx.optimization.HeavyBall(bowl, 0.1, 0.9)
    sgd = sx.optimization.GradientDescent(bowl, 0.1)
    late = sx.optimization.DelayedDescent(bowl, 0.1, 2)
    history = late.step(0, late.init(X))
    np.testing.assert_allclose(late.parameters(history), 0.9 * X, rtol=1e-15)
    assert sgd.parameters(X) is X and ball.parameters(sx.optimization.PhasePoint(X, W)) is X
    assert sx.iterate(ball, 3).parameters(sx.optimization.PhasePoint(X, W)) is X
    # A model that is itself a pair is all parameters.
    assert sgd.parameters((X, W)) == (X, W)
