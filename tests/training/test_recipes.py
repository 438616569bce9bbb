"""Recipes on paper: what is written is what is read, and every refusal names the field."""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import pytest
from hypothesis import given, settings, strategies as st

from separatrix.training.recipes import (
    _RECIPES,
    canonical,
    identity,
    read_recipe,
    recipe_class,
    recipe_from,
    recipe_name,
    recipes,
    register_recipe,
    spec_of,
    spec_text,
)
from separatrix.training.recipes._fields import built
from separatrix.training.run import Run, fingerprint


@dataclasses.dataclass(frozen=True)
class Net:
    """A network."""

    width: int = 64
    """Units of a layer."""
    layers: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"


@dataclasses.dataclass(frozen=True)
class Guess:
    """Guess a number from a table.

    For tests.
    """

    data: Path
    """Where the table lies."""
    target: str | None = None
    rate: float = 1e-3
    """Learning rate."""
    limit: int | float = 3
    window: tuple[float, float] = (0.0, 1.0)
    shuffle: bool = True
    net: Net = Net()
    """The network that guesses."""

    def template(self) -> Any:
        return jnp.zeros(self.net.width)

    def resume(self, run: Run, *, more: int = 0) -> Any:
        with Run.reopen(run.path) as run:
            saved = run.restore({"model": self.template()})
            run.save(saved.step + more, {"model": saved.tree["model"] + more})
        return run


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_recipe("guess")(Guess)
    yield
    _RECIPES.pop("guess")


def test_fields_are_read_as_they_are_meant():
    found = recipe_from(
        "guess", {"data": "a/b.csv", "rate": 1, "window": [0, 2], "net": {"layers": [], "activation": "relu"}}
    )
    assert found == Guess(Path("a/b.csv"), rate=1.0, window=(0.0, 2.0), net=Net(layers=(), activation="relu"))
    assert type(found.rate) is float and type(found.window[0]) is float
    assert type(recipe_from("guess", {"data": "a", "limit": 2}).limit) is int
    assert recipe_from("guess", {"data": "a", "limit": 2.5}).limit == 2.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"raet": 0.1}, "guess: raet\n  got an unknown field, expected one of data, target, rate, limit, window, shuffle, "
                        "net.\n  Did you mean 'rate'?"),
        ({"zzz": 1}, "Choose one of these."),
        ({"rate": "fast"}, "guess: rate\n  got 'fast', expected a finite number."),
        ({"rate": True}, "guess: rate\n  got True, expected a finite number."),
        ({"rate": math.inf}, "guess: rate\n  got inf, expected a finite number."),
        ({"rate": math.nan}, "guess: rate\n  got nan, expected a finite number."),
        ({"shuffle": 1}, "guess: shuffle\n  got 1, expected true or false."),
        ({"data": 3}, "guess: data\n  got 3, expected a path, as a text."),
        ({"target": 3}, "guess: target\n  got 3, expected a text."),
        ({"target": None, "limit": "x"}, "guess: limit\n  got 'x', expected a whole number or a finite number."),
        ({"window": [1]}, "guess: window\n  got 1 values, expected a list of a finite number, a finite number."),
        ({"window": 1}, "guess: window\n  got 1, expected a list of"),
        ({"window": [0, "b"]}, "guess: window[1]\n  got 'b', expected a finite number."),
        ({"net": {"width": 2.0}}, "guess: net: width\n  got 2.0, expected a whole number."),
        ({"net": {"layers": [1, 2.5]}}, "guess: net: layers[1]\n  got 2.5, expected a whole number."),
        ({"net": {"activation": "rel"}}, "guess: net: activation\n  got 'rel', expected one of 'tanh', 'relu'.\n"
                                         "  Did you mean 'relu'?"),
        ({"net": {"widht": 2}}, "guess: net: widht\n  got an unknown field, expected one of width, layers, activation.\n"
                                "  Did you mean 'width'?"),
        ({"net": 3}, "guess: net\n  got 3, expected a table of fields."),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_field_is_refused_by_name(change, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        recipe_from("guess", {"data": "a"} | change)
    assert words in str(caught.value) and len(str(caught.value).splitlines()) == 3


def test_what_must_be_given_is_asked_for():
    with pytest.raises(
        ValueError, match="guess: data\n  got nothing, expected a path, as a text.\n  Add a line data = ..."
    ):
        recipe_from("guess", {})


def test_a_field_that_is_said_twice_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Two:
        step_size: float = 0.1

    with pytest.raises(ValueError, match="two: step-size\n  got the same field twice, expected each once"):
        built(Two, {"step_size": 0.1, "step-size": 0.2}, "two")
    assert built(Two, {"step-size": 0.2}, "two") == Two(0.2)


def test_an_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="recipe\n  got 'gues', expected one of .*guess.*\n  Did you mean 'guess'?"):
        recipe_class("gues")
    with pytest.raises(TypeError, match="got Net, expected a registered recipe"):
        recipe_name(Net())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NETS = st.builds(
    Net,
    st.integers(-(10**20), 10**20),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.sampled_from(["tanh", "relu"]),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
GUESSES = st.builds(
    Guess,
    data=TEXTS.map(Path),
    target=st.none() | TEXTS,
    rate=FLOATS,
    limit=st.integers(-5, 5) | FLOATS,
    window=st.tuples(FLOATS, FLOATS),
    shuffle=st.booleans(),
    net=NETS,
)


@settings(max_examples=200, deadline=None)
@given(GUESSES)
def test_what_is_written_is_what_is_read(tmp_path_factory, one):
    text = spec_text(one)
    values = tomllib.loads(text)
    assert values.pop("recipe") == "guess"
    back = recipe_from("guess", values)
    assert repr(back) == repr(one) and identity(back) == identity(one)
    assert repr(recipe_from("guess", spec_of(one))) == repr(one)


def test_the_text_says_what_each_field_means():
    assert spec_text(Guess(Path("t.csv"), net=Net(width=8))) == (
        '# Guess a number from a table.\n#\n# For tests.\nrecipe = "guess"\n\n'
        '# Where the table lies.\ndata = "t.csv"\n# target =\n\n# Learning rate.\nrate = 0.001\nlimit = 3\n'
        "window = [0.0, 1.0]\nshuffle = true\n\n# The network that guesses.\n[net]\n\n# Units of a layer.\nwidth = 8\n"
        'layers = [64, 64]\nactivation = "tanh"\n'
    )
    defaults = spec_text(Guess)
    assert "# data =    # must be given\n" in defaults and "width = 64\n" in defaults
    assert tomllib.loads(defaults)["rate"] == 0.001


def test_the_identity_is_that_of_the_values():
    one = Guess(Path("a"), rate=1.0)
    assert identity(one) == identity(recipe_from("guess", {"rate": 1, "data": "a"}))
    others = [
        Guess(Path("b"), rate=1.0),
        Guess(Path("a")),
        Guess(Path("a"), rate=1.0, net=Net(width=65)),
        Guess(Path("a"), "t"),
    ]
    assert len({identity(one), *map(identity, others)}) == 5
    assert identity(one) == fingerprint({"spec": spec_of(one), "recipe": "guess"})
    assert canonical(one).startswith('{"recipe":"guess","spec":{"data":"a","limit":3,"net":{"activation":"tanh",')


def test_a_file_is_read_and_refused_by_its_name(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(spec_text(Guess(Path("t.csv"), "y")))
    assert read_recipe(path) == read_recipe(path, "guess") == Guess(Path("t.csv"), "y")
    path.write_text('recipe = "guess"\ndata = "a"\nrate = 1979-05-27')
    with pytest.raises(
        TypeError, match=r"spec.toml: rate\n  got datetime.date\(1979, 5, 27\), expected a finite number"
    ):
        read_recipe(path)
    bad = {
        'data = "a"': "one of .*guess",
        "recipe = 3": "got 3",
        "a = [": "a TOML file",
        "a = " + "[" * 10_000: "a TOML file",
    }
    for text, words in bad.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_recipe(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="expected a TOML file"):
        read_recipe(path)
    with pytest.raises(ValueError, match="No such file or directory, expected a file to read"):
        read_recipe(tmp_path / "absent")
    with pytest.raises(ValueError, match="got 'guess', expected 'other'"):
        path.write_text('recipe = "guess"')
        read_recipe(path, "other")


def test_a_class_that_cannot_be_written_down_is_refused_at_once():
    @dataclasses.dataclass(frozen=True)
    class Bad:
        f: Any = None

    with pytest.raises(TypeError, match=r"Bad.f\n  got the type typing.Any, expected bool, int"):
        register_recipe("bad")(Bad)

    @dataclasses.dataclass(frozen=True)
    class Unsaid:
        rate: float | None = 0.1

    with pytest.raises(TypeError, match=r"Unsaid.rate\n  got the default 0.1, expected None"):
        register_recipe("bad")(Unsaid)

    @dataclasses.dataclass
    class Loose:
        rate: float = 0.1

    for cls in (Loose, int):
        with pytest.raises(TypeError, match="expected a frozen dataclass"):
            register_recipe("bad")(cls)
    with pytest.raises(ValueError, match="which Guess of .* has, expected a name of its own"):
        register_recipe("guess")(Net)
    with pytest.raises(ValueError, match="small letters"):
        register_recipe("os.system")(Net)
    assert "bad" not in recipes()


def test_a_run_finds_its_recipe_by_name(tmp_path):
    recipe = Guess(Path("a"), net=Net(width=3))
    with Run.create(tmp_path / "run", recipe="guess", spec=spec_of(recipe)) as run:
        run.save(2, {"model": jnp.arange(3.0)})
    run = Run.open(run.path)
    assert run.fingerprint == identity(recipe)
    assert run.model.tolist() == [0.0, 1.0, 2.0]
    assert run.resume(more=2).model.tolist() == [2.0, 3.0, 4.0]
    assert Run.open(run.path).checkpoints == [2, 4]
    _RECIPES.pop("guess")
    with pytest.raises(ValueError, match="recipe\n  got 'guess'"):
        run.model
    register_recipe("guess")(Guess)
