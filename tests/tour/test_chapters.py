"""Each chapter of the tour runs, and every number of it is what it must be. Minutes: behind the slow marker."""

import jax
import pytest

from separatrix.tour import CHAPTERS, run_chapter


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAPTERS)
def test_every_number_of_a_chapter_holds(name):
    # A chapter is a user's program: JAX as it comes, in float64 as the command line has it.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = run_chapter(name)
    assert not result.error
    assert not [check for check in result.checks if not check.ok]
    assert all(section.figure is None or section.caption for section in result.sections)
