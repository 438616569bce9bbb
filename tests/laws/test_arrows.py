"""The arrow rule: imports point down the list of layers, and families do not import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "src" / "separatrix"
SHARED = {"_types", "_tree", "_errors", "_files", "__init__"}
# Each layer may import those before it. Families stand side by side; data and plotting import shared types, and
# plotting the classes of results. Training and the families read files through data: a recipe begins at the user's file.
BELOW = ["systems", "calculus", "evolution", "linear", "diagnostics", "training"]
ORDER = [*BELOW, "FAMILIES", "catalogue", "tour", "cli"]
FAMILIES = {"optimization", "games", "recurrent", "residual", "diffusion"}
ASIDE = {"data": set(), "plotting": {"diagnostics"}}


def layer_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_layers(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "separatrix" and len(parts) > 1:
                yield parts[1]


def allowed(layer):
    if layer in ASIDE:
        return SHARED | ASIDE[layer] | {layer}
    place = ORDER.index("FAMILIES" if layer in FAMILIES else layer)
    below = set(ORDER[:place]) - {"FAMILIES"}
    if place > ORDER.index("FAMILIES"):
        below |= FAMILIES | set(ASIDE)
    if place >= ORDER.index("training"):
        below |= {"data"}
    return SHARED | below | {layer, "__version__"}


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_down(path):
    layer = layer_of(path)
    wrong = {name for name in imported_layers(path) if name not in allowed(layer)}
    assert not wrong, f"{layer} must not import {sorted(wrong)}"


def private_imports(path):
    """(what is imported, the room whose private module it is) of each import of one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("separatrix."):
            continue
        for name in node.names:
            parts = f"{node.module}.{name.name}".split(".")[1:]
            first = next((i for i, part in enumerate(parts) if part.startswith("_")), 0)
            if first and ROOT.joinpath(*parts[:first], f"{parts[first]}.py").exists():
                yield ".".join(parts), ROOT.joinpath(*parts[:first])


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_private_modules_stay_in_their_room(path):
    wrong = [name for name, room in private_imports(path) if not path.is_relative_to(room)]
    assert not wrong


def test_no_class_has_the_name_of_another():
    found: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in found.items() if len(places) > 1}


def test_no_file_is_long():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


LOOPS = {"scan", "while_loop", "fori_loop", "associative_scan", "map"}


@pytest.mark.parametrize("layer", sorted(FAMILIES | {"training", "catalogue", "tour"}))
def test_what_evolve_runs_has_no_loop_of_its_own(layer):
    """`evolve` is the only loop: no family and no trainer calls one of JAX's, or a diffrax solve."""
    found = []
    for path in (ROOT / layer).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                called = node.value.attr == "lax" and node.attr in LOOPS
            else:
                called = isinstance(node, ast.Attribute) and node.attr == "diffeqsolve"
            found += [f"{path.relative_to(ROOT)}:{node.lineno}"] if called else []
    assert not found
