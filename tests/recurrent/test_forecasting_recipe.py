"""Recipe `forecaster`: a file in, a forecast with bands out, and what is told of rows that are not as they should be."""

import numpy as np
import pytest

from separatrix.training.recipes import model_in, recipe_from, recipe_of, results_of, train

T = np.arange(400)
WAVE = np.stack([np.sin(0.35 * T), 3 + 0.5 * np.cos(0.35 * T)], axis=1)


def write(path, times, rows, gaps=()):
    lines = ["time,a,b"]
    for n, (t, row) in enumerate(zip(times, rows, strict=True)):
        a = "" if n in gaps else f"{row[0]:.9g}"
        lines.append(f"{t:.9g},{a},{row[1]:.9g}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecaster")
    data = write(folder / "wave.csv", 0.5 * T, WAVE, gaps=(5, 6, 40))
    fields = {"data": str(data), "width": 16, "length": 25, "horizon": 20, "steps": 300, "batch_size": 8}
    return train(recipe_from("forecaster", fields | {"learning_rate": 0.01}), folder / "run")


def test_a_wave_is_forecast_better_than_by_no_change(finished):
    found = results_of(finished)["test"]
    still = np.sqrt(np.mean(((WAVE[320:] - WAVE[319:-1]) / WAVE[:320].std(axis=0)) ** 2))
    assert found["rms_error_of_no_change"]["value"] == pytest.approx(still, rel=1e-2)
    assert found["rms_error_of_next_row"]["value"] < 0.3 * still
    assert found["rms_error_of_20_rows"]["value"] < 0.7


def test_what_was_missing_is_told(finished):
    assert results_of(finished)["notes"] == [
        "column 'a': 3 missing, the first in row 6, filled by lines between neighbours"
    ]


def test_the_forecast_goes_on_from_the_last_row_with_bands_around_it(finished):
    recipe = recipe_of(finished)
    columns = recipe.forecast(model_in(finished), 6)["columns"]
    assert list(columns) == ["time", "a", "a low", "a high", "b", "b low", "b high"]
    np.testing.assert_allclose(columns["time"], 0.5 * (399 + np.arange(1, 7)), rtol=1e-9)
    assert all(low < high for low, high in zip(columns["a low"], columns["a high"], strict=True))
    truth = np.sin(0.35 * (399 + np.arange(1, 4)))
    np.testing.assert_allclose(columns["a"][:3], truth, atol=0.4)


def test_the_bands_hold_nine_tenths_of_the_rows_that_were_not_trained_on(finished):
    found = results_of(finished)["test"]
    shares = {name: number["value"] for name, number in found.items() if name.startswith("share_inside")}
    assert list(shares) == ["share_inside_the_band", "share_inside_at_1", "share_inside_at_10", "share_inside_at_20"]
    # 80 rows of a wave of period 18 are four or five independent ones: 3 sqrt(0.9 0.1/5) in all, more at one lead.
    assert abs(shares["share_inside_the_band"] - 0.9) < 0.15
    assert all(share > 0.5 for share in shares.values())


def test_a_column_without_values_is_refused_and_a_horizon_past_the_end_is_told(tmp_path):
    (tmp_path / "empty.csv").write_text("time,a,b\n" + "".join(f"{n},{n % 7},\n" for n in range(200)))
    with pytest.raises(ValueError, match="column 'b'"):
        fields = {"data": str(tmp_path / "empty.csv"), "values": ["a", "b"], "length": 25}
        recipe_from("forecaster", fields).settled()
    data = write(tmp_path / "wave.csv", 0.5 * T, WAVE)
    recipe = recipe_from("forecaster", {"data": str(data), "length": 25, "horizon": 90}).settled()
    assert recipe.task().notes == ("the horizon of 90 rows is longer than the 80 that test: it ends with these",)


def test_uneven_times_are_evened_and_told(tmp_path):
    times = 0.5 * T.astype(float)
    times[100:] += 0.25
    data = write(tmp_path / "uneven.csv", times, WAVE)
    recipe = recipe_from("forecaster", {"data": str(data), "width": 4, "length": 25}).settled()
    notes = recipe.task().notes
    assert notes == ("times are uneven, first at row 101: brought to steps of 0.5 by straight lines",)


@pytest.mark.parametrize(
    ("change", "fields", "words"),
    [
        (lambda t, x: (t, np.stack([x[:, 0], 0 * x[:, 1]], axis=1)), {}, "column 'b'\n  got one value in every row"),
        (lambda t, x: (np.where(T == 50, t - 10, t), x), {}, "times that increase"),
        (lambda t, x: (t, x), {"values": ["c"]}, "column\n  got 'c'"),
        (lambda t, x: (t, x), {"length": 500}, "got 400 rows"),
        (lambda t, x: (t, x), {"horizon": 0}, "horizon\n  got 0"),
        (lambda t, x: (t, x), {"calibration": 0.0}, "calibration\n  got 0.0"),
        (lambda t, x: (t, x), {"calibration": 0.01}, "8 that calibrate"),
        (lambda t, x: (t[:20], x[:20]), {}, "got 20 rows"),
        (lambda t, x: (t, x), {"patience": 3}, "no part of the data validates"),
    ],
)
def test_series_that_cannot_be_forecast_are_refused_before_training(tmp_path, change, fields, words):
    data = write(tmp_path / "series.csv", *change(0.5 * T, WAVE))
    with pytest.raises(ValueError, match=words):
        recipe_from("forecaster", {"data": str(data), "length": 25} | fields).settled().task()
