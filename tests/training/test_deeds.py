"""What a recipe's methods take are the options of its commands, and what they return is said and written."""

import dataclasses
import json
from typing import Any, Literal

import numpy as np
import pytest

from separatrix.cli.doing import came_out
from separatrix.training.recipes import carry_out, deed_options, deeds_of, register_recipe
from separatrix.training.recipes.recipe import _RECIPES


@dataclasses.dataclass(frozen=True)
class Painter:
    """A recipe that draws what it is told."""

    def sample(
        self,
        model: Any,
        *,
        count: int = 4,
        class_: str | None = None,
        scale: float = 1.0,
        mode: Literal["a", "b"] = "a",
    ) -> dict[str, Any]:
        return {"pictures": np.full((count, 2, 2), scale / 10), "notes": [f"{class_} {mode} {type(scale).__name__}"]}

    def predict(self, model: Any, path: Any, *, long: bool = False) -> str:
        return f"{path} {long}"

    def forecast(self, model: Any, steps: int) -> Any:
        return [steps]


@pytest.fixture(autouse=True)
def _registered():
    register_recipe("painter")(Painter)
    yield
    _RECIPES.pop("painter")


def test_keyword_arguments_are_options():
    assert deeds_of(Painter) == ("predict", "sample", "forecast")
    assert deed_options(Painter, "sample") == {"count": 4, "class": None, "scale": 1.0, "mode": "a"}
    found = carry_out(Painter(), "sample", None, (), [("count", "2"), ("class", "3"), ("scale", "2"), ("mode", "b")])
    assert found["notes"] == ["3 b float"] and found["pictures"].shape == (2, 2, 2)
    assert carry_out(Painter(), "predict", None, ("x.csv",), [("long", "true")]) == {"text": "x.csv True"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([("cuont", "2")], "sample of a painter: cuont\n  got an unknown field.*Did you mean 'count'"),
        ([("count", "2.5")], "count\n  got 2.5, expected a whole number"),
        ([("mode", "c")], "mode\n  got 'c', expected one of 'a', 'b'"),
        ([("scale", "inf")], "scale"),
        ([("count", "1"), ("count", "2")], "one value"),
    ],
)
def test_options_that_are_none_are_refused(words, said):
    with pytest.raises((ValueError, TypeError), match=f"(?s){said}"):
        carry_out(Painter(), "sample", None, (), words)


def test_a_deed_without_options_takes_none():
    with pytest.raises(ValueError, match="forecast of a painter: count\n  got an unknown option, expected none"):
        carry_out(Painter(), "forecast", None, (3,), [("count", "1")])


def test_what_a_recipe_cannot_do_or_may_not_return_is_refused():
    with pytest.raises(ValueError, match="which cannot log-density.*this one can predict, sample, forecast"):
        carry_out(Painter(), "log_density", None)
    with pytest.raises(TypeError, match="got list, expected a text, or some of"):
        carry_out(Painter(), "forecast", None, (3,))


def test_pictures_become_one_file_or_one_each(tmp_path):
    pictures = np.linspace(0, 1, 3 * 200 * 100).reshape(3, 200, 100)
    answer = came_out({"pictures": pictures}, None, tmp_path / "sample.png")
    assert answer.data == {"written": str(tmp_path / "sample.png")}
    assert (tmp_path / "sample.png").read_bytes()[16:24] == (202).to_bytes(4, "big") + (402).to_bytes(4, "big")
    came_out({"pictures": pictures}, tmp_path / "each", tmp_path / "no.png")
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == ["1.png", "2.png", "3.png"]


def test_columns_numbers_and_texts_are_said_and_written(tmp_path):
    found = {
        "columns": {"a": [1, 2], "b": ["x", "y,z"]},
        "numbers": {"hits": {"value": 0.5, "error": 0.25, "of": 4, "about": "share"}},
        "notes": ["one gap"],
    }
    answer = came_out(found, tmp_path / "made" / "x.csv", tmp_path / "no.png")
    assert (tmp_path / "made" / "x.csv").read_text() == 'a,b\n1,x\n2,"y,z"\n'
    assert "0.50 ± 0.25" in answer.text and "note: one gap" in answer.text and json.dumps(answer.data)
    assert came_out({"text": "words"}, tmp_path / "t.txt", tmp_path / "no.png").text.startswith("words\nwritten: ")
    assert (tmp_path / "t.txt").read_text() == "words"
    with pytest.raises(ValueError, match="got nothing to write there"):
        came_out({"numbers": {}}, tmp_path / "x.csv", tmp_path / "no.png")


def test_every_kind_of_picture_is_drawn_on_the_page():
    """Plain values, as JSON keeps them, that a page draws: the numbers and words that were given are there."""
    from separatrix.cli.run_page import _picture
    from separatrix.training.recipes import results

    t, band = np.arange(3.0), np.array([1.0, np.inf, 2.0])
    made = [
        results.grid(np.zeros((2, 4, 4)), "drawn <by> it"),
        results.cloud({"data": np.eye(2), "drawn": 2 * np.eye(2)}, "points"),
        results.curves([results.curve("series", t, t, dots=True), results.curve("ahead", t, band, -t, band)], "path"),
        results.table(["order", "value"], [["first", 0.123456789], ["second", 3]], "orders"),
    ]
    pages = [_picture(one) for one in json.loads(json.dumps(made, allow_nan=False))]
    assert "drawn &lt;by&gt; it" in pages[0] and "data:image/png;base64," in pages[0] and "2 pictures" in pages[0]
    for page, title in zip(pages[1:3], ("points", "path"), strict=True):
        assert f"<h3>{title}</h3>" in page and "<svg" in page and "#000000" not in page
    assert "<td>0.12346</td>" in pages[3] and "<td>3</td>" in pages[3]
