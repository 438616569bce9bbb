"""The report: what is shown, what is told when a chapter fails, and checks that can fail."""

import json
import sys
import types

import pytest

from separatrix.plotting import figure
from separatrix.tour import Chapter, Check, Section, run as tour
from separatrix.tour.chapter import source


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (Check("equal", 1.0, 1.1, 0.2), True),
        (Check("far", 1.0, 1.3, 0.2), False),
        (Check("above", 2.0, 1.0, relation=">="), True),
        (Check("below", 0.5, 1.0, relation=">="), False),
        (Check("under", 0.5, 1.0, relation="<="), True),
        (Check("nothing", float("nan"), 1.0, 10.0), False),
        (Check("nothing bounded", float("nan"), 1.0, relation="<="), False),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else str(value),
)
def test_a_check_can_fail(check, good):
    assert check.ok is good


@pytest.fixture
def chapters(monkeypatch):
    """Two chapters of which the first fails."""

    def good(say):
        say("drawing")
        picture, (axes,) = figure()
        axes.plot([0.0, 1.0], [1.0, 0.0], label="<line & more>")
        axes.legend()
        checks = (Check("half", 0.5, 0.5, 0.01), Check("wrong", 0.7, 0.5, 0.01))
        return [Section("A <title>", "First.\n\nSecond.", r"x' = -x", picture, "What to see", "x = 1", checks)]

    def bad(say):
        raise RuntimeError("no <such> luck")

    found = {
        "separatrix.tour.chapters.bad": types.SimpleNamespace(CHAPTER=Chapter("bad", "Bad", "Why?", bad)),
        "separatrix.tour.chapters.good": types.SimpleNamespace(CHAPTER=Chapter("good", "Good", "How?", good)),
    }
    monkeypatch.setattr(sys.modules["separatrix.tour.running"], "CHAPTERS", ("bad", "good"))
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_a_failing_chapter_is_told_and_the_rest_still_comes(chapters, tmp_path):
    said = []
    result = tour(out=tmp_path, progress=lambda *what: said.append(what))
    assert not result.ok
    assert said == [("Good", "drawing")]
    page = result.report.read_text(encoding="utf-8")
    assert "This chapter failed: RuntimeError: no &lt;such&gt; luck" in page
    assert "1 of 2 checks hold" in page
    assert "A &lt;title&gt;" in page and "<title>A" not in page
    assert page.count("<p>First.</p><p>Second.</p>") == 1
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    record = json.loads(json.dumps(result.to_dict()))
    assert [chapter["ok"] for chapter in record["chapters"]] == [False, False]
    assert record["chapters"][1]["checks"][0]["measured"] == 0.5
    assert list(tmp_path.iterdir()) == [result.report]


def test_a_chapter_that_cannot_be_imported_is_told_too(chapters, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["separatrix.tour.running"], "CHAPTERS", ("absent", "good"))
    result = tour(out=tmp_path)
    assert [chapter["error"][:19] for chapter in result.to_dict()["chapters"]] == ["ModuleNotFoundError", ""]
    assert len(result.results[1].sections) == 1


def test_an_interrupted_tour_leaves_what_was_finished(chapters, monkeypatch, tmp_path):
    def interrupted(say):
        raise KeyboardInterrupt

    module = types.SimpleNamespace(CHAPTER=Chapter("bad", "Bad", "Why?", interrupted))
    monkeypatch.setitem(sys.modules, "separatrix.tour.chapters.bad", module)
    monkeypatch.setattr(sys.modules["separatrix.tour.running"], "CHAPTERS", ("good", "bad"))
    with pytest.raises(KeyboardInterrupt):
        tour(out=tmp_path)
    assert "1 of 2 checks hold" in (tmp_path / "separatrix-tour.html").read_text(encoding="utf-8")


def test_only_some_chapters_and_unknown_ones(chapters, tmp_path):
    assert [r.chapter.name for r in tour(only=["good"], out=tmp_path).results] == ["good"]
    with pytest.raises(ValueError, match=r"(?s)chapter.*nothing.*bad, good"):
        tour(only=["nothing"], out=tmp_path)


def test_what_is_shown_is_what_ran():
    def example(a):
        """Not shown."""
        b = a + 1
        return b

    assert source(example) == "b = a + 1\nreturn b"


def test_a_report_that_cannot_be_written_is_told_and_the_old_one_is_whole(chapters, monkeypatch, tmp_path):
    report = tour(only=["good"], out=tmp_path).report
    before = report.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as failure:
        tour(out=tmp_path)
    assert failure.value.filename == str(report)
    assert report.read_bytes() == before and list(tmp_path.iterdir()) == [report]


def test_a_folder_that_cannot_be_written_to_is_told_before_a_chapter_runs(chapters, tmp_path):
    said = []
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        tour(out=tmp_path / "file", progress=lambda *what: said.append(what))
    assert not said


def test_pictures_that_cannot_be_drawn_are_told_and_the_rest_still_comes(chapters, tmp_path):
    spoiled = Chapter("bad", "Bad", "Why?", lambda say: [Section("A", "B", r"\frac{")])
    chapters["separatrix.tour.chapters.bad"].CHAPTER = spoiled
    result = tour(out=tmp_path)
    assert "cannot be drawn" in result.results[0].error and len(result.results[1].sections) == 1
