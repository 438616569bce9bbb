"""The flat namespace is short and says what it holds; all else is in its family or room; no function hides its module."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import separatrix as sx

FAMILIES = ("optimization", "games", "recurrent", "residual", "diffusion")


def test_the_flat_namespace_is_about_a_hundred_names() -> None:
    assert len(sx.__all__) <= 120


@pytest.mark.parametrize("name", ["sample", "field", "trace", "race", "segments", "Adam", "GAN", "LyapunovSpectrum"])
def test_a_name_that_says_nothing_alone_is_in_its_room_and_the_error_says_in_which(name: str) -> None:
    assert name not in sx.__all__
    with pytest.raises(AttributeError, match=rf"write sx\.\w+\.{name}"):
        getattr(sx, name)


def test_a_name_that_is_nowhere_is_refused_plainly() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sampel'$"):
        sx.sampel


def test_no_function_hides_the_module_of_its_name() -> None:
    sx.load_families()
    for found in pkgutil.walk_packages(sx.__path__, "separatrix."):
        if found.name.endswith("__main__"):
            continue
        importlib.import_module(found.name)
        parent, _, leaf = found.name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(parent), leaf), ModuleType), found.name


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_flat_name_is_called_by_is_the_same_thing_in_its_family(family: str) -> None:
    module = importlib.import_module(f"separatrix.{family}")
    for name in set(sx.__all__) & set(dir(module)):
        assert getattr(sx, name) is getattr(module, name), name
