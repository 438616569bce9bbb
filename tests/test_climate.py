"""The strict climate is strict, and the record of durations does what it says."""

import durations
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import ArrayLike, PyTree

import separatrix as sx
from separatrix._types import State


@pytest.mark.parametrize("good", [1.0, 3, np.float32(2), jnp.ones(2), (jnp.ones(2), {"a": 1j}), [], True], ids=str)
def test_a_state_is_a_tree_of_arrays(good):
    assert isinstance(good, State)


@pytest.mark.parametrize(
    "bad", ["a", (1.0, "a"), {"a": object()}, [lambda x: x]], ids=["word", "pair", "object", "call"]
)
def test_another_leaf_is_no_state(bad):
    assert not isinstance(bad, State)
    assert not isinstance(bad, PyTree[ArrayLike])


def test_a_wrong_argument_is_refused_at_run_time():
    with pytest.raises(Exception, match="step_size"):
        sx.discretize(sx.as_flow(lambda x: -x), sx.Euler(), "a word")


def test_dear_tests_are_slow_unless_they_stay():
    record = {"tests/a.py::b": durations.LIMIT + 0.1, "tests/laws/a.py::b": 99.0, "tests/a.py::test_misuse": 99.0}
    assert [durations.too_dear(name, record) for name in (*record, "tests/a.py::new")] == [True, False, False, False]


def test_a_run_replaces_what_it_ran_and_keeps_what_it_left_out():
    old = {"a.py::ran": 5.0, "a.py::left_out": 6.0, "a.py::removed": 7.0, "b.py::other_file": 8.0}
    new = durations.updated(
        old, {"a.py::ran", "a.py::left_out", "a.py::cheap"}, {"a.py::ran": 4.04, "a.py::cheap": 0.2}
    )
    assert new == {"a.py::left_out": 6.0, "a.py::ran": 4.0, "b.py::other_file": 8.0}


def test_what_numpy_moves_is_what_jax_compiles():
    """Outside jit NumPy moves numbers (`lighter.move_without_compiling`): to the same values, types and weak types."""

    def moved(x, row):
        return [
            jnp.asarray(np.arange(3, dtype=np.int32)),
            x[1],
            x[-1, 2],
            jax.lax.dynamic_slice(x, (row, -1), (2, 2)),
            x[:, None],
            x.reshape(4, 3),
            jnp.squeeze(x[:, None], 1),
            jnp.concatenate([x, x + 1.0], 1),
            jnp.broadcast_to(x[:, 1:2], (3, 5)),
            jnp.ones((2, 3), jnp.float32).astype(float),
            (x * 1e300).astype(jnp.float32),
            x.astype(int),
            x.astype(jnp.bfloat16),
            jnp.asarray(2.0),
            jnp.zeros((0, 3)),
        ]

    x = jnp.linspace(-3.6, 8.1, 12).reshape(3, 4)
    for ours, theirs in zip(moved(x, 2), jax.jit(moved)(x, 2), strict=True):
        assert (ours.dtype, ours.weak_type) == (theirs.dtype, theirs.weak_type)
        np.testing.assert_array_equal(ours, theirs)


def test_what_numpy_writes_later_is_not_shared():
    mine = np.ones(64)
    theirs = jnp.asarray(mine)
    mine[0] = 2.0
    assert theirs[0] == 1.0
