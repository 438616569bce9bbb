"""The strict climate is strict, and the record of durations does what it says."""

import durations
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
