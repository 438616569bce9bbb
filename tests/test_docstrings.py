"""Every example in a docstring runs and says what it says: one test for each module that has one.

They run in the same strict climate as the tests (see conftest), in float64.
"""

import doctest
import importlib
import pkgutil

import pytest

import separatrix

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def _modules() -> list[str]:
    walked = pkgutil.walk_packages(separatrix.__path__, "separatrix.")
    return sorted(found.name for found in walked if not found.name.endswith("__main__"))


@pytest.mark.parametrize("name", _modules())
def test_the_examples_of_a_module_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEPARATRIX_DATA", raising=False)
    results = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name} failed: see above"
