"""What every question refuses, by field and index, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix.diagnostics.checks import (
    check_count,
    check_key,
    check_number,
    checked_state,
)


def test_counts():
    assert check_count("n", 3, 1) == 3 and check_count("n", np.int32(3), 1, 3) == 3
    for bad in (2.5, 2.0, True, np.nan, "3", None):
        with pytest.raises(ValueError, match=r"n\n  got .*a whole number, at least 1"):
            check_count("n", bad, 1)
    with pytest.raises(ValueError, match="n\n  got 0, expected at least 1"):
        check_count("n", 0, 1)
    with pytest.raises(ValueError, match="n\n  got 4, expected 1 to 3"):
        check_count("n", 4, 1, 3)
    assert int(jax.jit(lambda n: check_count("n", n, 1))(0)) == 0


def test_numbers():
    for good in (1, 0.5, np.float32(2.0), jnp.array(3.0)):
        check_number("s", good, above=0.0)
    check_number("s", 0.0, least=0.0)
    for bad in (0.0, -1.0, np.nan, np.inf, 1j, True, "1", None, np.ones(2), [1.0, [2.0]]):
        with pytest.raises(ValueError, match=r"s\n  got .*one finite number > 0"):
            check_number("s", bad, above=0.0)
    with pytest.raises(ValueError, match=">= 0"):
        check_number("s", -1e-9, least=0.0)


def test_keys():
    check_key("q", None)
    check_key("q", jax.random.key(0), needed=True)
    check_key("q", jax.random.PRNGKey(0), needed=True)
    for bad in (0, jax.random.split(jax.random.key(0)), jnp.zeros(2)):
        with pytest.raises(TypeError, match=r"q: key\n  got .*one PRNG key"):
            check_key("q", bad)
    with pytest.raises(TypeError, match="got None"):
        check_key("q", None, needed=True)


def test_states():
    state = checked_state("q: state", {"x": 1.0, "n": 3})
    assert state["x"].dtype == float and not state["x"].weak_type
    for bad, words in (
        ({}, "an empty tree"),
        ({"x": jnp.zeros((0, 2))}, r"state\['x'\]\n  got an array of shape \(0, 2\)"),
        ({"x": (jnp.ones(2), jnp.array([1.0, jnp.nan]))}, r"state\['x'\]\[1\]\[1\]\n  got nan"),
        (jnp.array([[1.0, 2.0], [jnp.inf, 0.0]]), r"state\[1, 0\]\n  got inf"),
        (jnp.array(complex(0.0, np.nan)), r"state\n  got nan"),
    ):
        with pytest.raises(ValueError, match=words):
            checked_state("q: state", bad)
    with pytest.raises(TypeError, match=r"state\[1\]\n  got function"):
        checked_state("q: state", (1.0, lambda x: x))
