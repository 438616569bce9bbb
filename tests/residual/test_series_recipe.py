"""The recipe of series: damped oscillators, whose law and exponent are known, with gaps, uneven times and noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix._errors import DataError
from separatrix.residual import SeriesRecipe
from separatrix.training.recipes import model_in, recipe_from, recipe_of, results_of, train

FREQUENCY, FRICTION, NOISE = 1.7, 0.1, 0.03


def oscillator(times, start):
    """x'' = -w^2 x - 2 g x' in closed form: (x, v)."""
    turning = np.sqrt(FREQUENCY**2 - FRICTION**2)
    decay, (a, b) = np.exp(-FRICTION * times), start
    cos, sin = np.cos(turning * times), np.sin(turning * times)
    x = decay * (a * cos + (b + FRICTION * a) / turning * sin)
    return np.stack([x, decay * (b * cos - (FRICTION * b + FREQUENCY**2 * a) / turning * sin)], axis=1)


def written(path, rows, seed=0):
    """Three experiments at uneven times, a tenth of the values missing."""
    random, lines = np.random.default_rng(seed), ["run,t,x,v"]
    for run, start in zip("abc", ((1.0, 0.0), (0.0, 2.0), (-1.5, 0.5)), strict=True):
        times = np.sort(random.uniform(0, 16, rows))
        states = oscillator(times, start) + NOISE * random.normal(size=(rows, 2))
        kept = random.uniform(size=states.shape) > 0.1
        for t, state, there in zip(times, states, kept, strict=True):
            lines.append(
                ",".join([run, f"{t:.6f}", *(f"{x:.6f}" if k else "" for x, k in zip(state, there, strict=True))])
            )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    data = written(folder / "x.csv", 112)
    recipe = SeriesRecipe(data=data, experiment="run", steps=800, members=4, width=8, depth=1, substeps=2, length=12)
    return train(recipe, folder / "run")


@pytest.mark.slow
def test_bands_hold_what_they_say_of_points_that_did_not_train(run):
    """95 in 100 of some 92 points: 90 to 99 of 100 is two and a half standard errors below and two above."""
    test = results_of(run)["test"]
    inside = test["share_inside_the_band"]
    assert inside["of"] >= 85 and 0.90 <= inside["value"] <= 0.99, inside
    # The noise of a column, 0.03 in x, is 0.04 of its spread: no forecast can err less.
    assert 0.03 < test["rms_error"]["value"] < 0.07 < 0.3 < test["rms_error_of_no_change"]["value"]
    # Orbits of x'' = -w^2 x - 2 g x' come together at the rate g, and the learned field's exponent is -g.
    found = test["largest_exponent"]
    assert abs(found["value"] + FRICTION) < max(3 * found["error"], 0.02) and "horizon" not in test


@pytest.mark.slow
def test_the_forecast_goes_on_from_the_last_rows_and_the_flow_is_in_units_of_the_file(run):
    recipe, model = recipe_of(run), model_in(run)
    ahead = recipe.forecast(model, 10, horizon=2.0)["columns"]
    times = np.asarray(ahead["t"]).reshape(3, -1)
    rows = recipe._rows()[0]
    np.testing.assert_allclose(times[:, -1], [one.times[-1] + 2.0 for one in rows])
    for i, (one, start) in enumerate(zip("abc", ((1.0, 0.0), (0.0, 2.0), (-1.5, 0.5)), strict=True)):
        place = np.asarray([name == one for name in ahead["run"]])
        truth = oscillator(times[i], start)
        for k, name in enumerate("xv"):
            low, middle, high = (np.asarray(ahead[f"{name}{part}"])[place] for part in (" low", "", " high"))
            assert np.all((low < middle) & (middle < high))
            # Bands are of values with noise: without it the truth lies well inside.
            assert np.all((low < truth[:, k]) & (truth[:, k] < high))
    flow, _ = recipe.diagnose(model)
    state = jnp.array([0.5, -0.4])
    right = [-0.4, -(FREQUENCY**2) * 0.5 + 2 * FRICTION * 0.4]
    np.testing.assert_allclose(flow.velocity(0.0, state), right, atol=0.12)
    again = recipe.predict(model, recipe.data)["columns"]
    np.testing.assert_allclose(again["t"], np.concatenate([one.times for one in rows]))
    errors = np.asarray(again["x"]) - np.concatenate([oscillator(one.times, s)[:, 0] for one, s in zip(
        rows, ((1.0, 0.0), (0.0, 2.0), (-1.5, 0.5)), strict=True)])  # fmt: skip
    assert np.sqrt(np.mean(errors**2)) < NOISE


def test_units_of_the_file_and_scaled_ones_are_the_same_flow():
    """y = exp(2 z + 1) and w = 10 z - 3: dy/dt = r 2 y f, dw/dt = r 10 f; in second form y'' by its own chain rule."""
    from separatrix.residual.series_model import FileFlow, ScaledColumns, SeriesFlow

    columns = ScaledColumns((1.0, -3.0), (2.0, 10.0), (True, False))
    values = jnp.array([[2.0, 4.0], [0.3, -8.0]])
    np.testing.assert_allclose(columns.unscaled(columns.scaled(values)), values, rtol=1e-12)
    turn = jnp.array([[0.0, 1.0], [-2.0, 0.0]])
    flow = FileFlow(SeriesFlow(lambda z: turn @ z, False), columns, 0.5)
    z = columns.scaled(values[0])
    want = 0.5 * jnp.array([2.0 * values[0, 0], 10.0]) * (turn @ z)
    np.testing.assert_allclose(flow.velocity(0.0, values[0]), want, rtol=1e-12)
    one = ScaledColumns((1.0,), (2.0,), (True,))
    second = FileFlow(SeriesFlow(lambda s: -s[:1] - 0.3 * s[1:], True), one, 0.5)
    # y = exp(2 q + 1): y' = 2 y q', y'' = 2 y (q'' + 2 q'^2), with q' = r v and q'' = r^2 f(q, v).
    q, v = 0.2, -0.7
    y = np.exp(2 * q + 1)
    slope, push = 0.5 * v, 0.25 * (-q - 0.3 * v)
    found = second.velocity(0.0, jnp.array([y, 2 * y * slope]))
    np.testing.assert_allclose(found, [2 * y * slope, 2 * y * (push + 2 * slope**2)], rtol=1e-12)


def test_a_column_between_bounds_has_its_chain_rule():
    """z = log((y - a)/(b - y)) = 2 q + 1: y' = (y - a)(b - y)/(b - a) 2 r f(q)."""
    from separatrix.residual.series_model import FileFlow, ScaledColumns, SeriesFlow

    columns = ScaledColumns((1.0,), (2.0,), (False,), ((-1.0, 3.0),))
    values = jnp.array([[-0.999], [0.5], [2.9999]])
    np.testing.assert_allclose(columns.unscaled(columns.scaled(values)), values, rtol=1e-12)
    far = columns.unscaled(jnp.array([[-40.0], [40.0]]))
    assert far.min() >= -1.0 and far.max() <= 3.0
    flow = FileFlow(SeriesFlow(lambda q: -3.0 * q, False), columns, 0.5)
    q, y = columns.scaled(values[1]), values[1]
    np.testing.assert_allclose(flow.velocity(0.0, y), (y + 1) * (3 - y) / 4 * 2 * 0.5 * -3 * q, rtol=1e-12)


def driven(times, starts, inputs, rate=1.0):
    """x' = -x + u(t) for inputs in straight lines: x = u - u' + (x_0 - u_0 + u') exp(-t) on each line."""
    states = [starts]
    for k, step in enumerate(np.diff(times)):
        slope = (inputs[k + 1] - inputs[k]) / step
        states.append(inputs[k + 1] - slope + (states[-1] - inputs[k] + slope) * np.exp(-step))
    return np.array(states)


def test_inputs_of_two_experiments_drive_each_its_own():
    from separatrix.data import Experiment
    from separatrix.residual.series_model import ScaledColumns, SeriesField, path_of
    from separatrix.residual.series_rows import clocks_of, input_path, rows_of, window_before

    random, plain, rows = np.random.default_rng(3), ScaledColumns((0.0,), (1.0,), (False,)), []
    for name, first in (("a", 2.0), ("b", 7.0)):
        times = first + np.cumsum(random.uniform(0.2, 0.8, 14))
        inputs = random.normal(size=14)
        values = np.stack([driven(times, 0.3, inputs), inputs], axis=1)
        values[11:, 0] = np.nan  # rows of inputs alone
        values[5, 1] = np.interp(times[5], times[[4, 6]], values[[4, 6], 1])
        values[:, 0] = np.where(np.isnan(values[:, 0]), np.nan, driven(times, 0.3, values[:, 1]))
        values[5, 1] = np.nan  # a gap of the inputs is a straight line
        rows.append(rows_of("x", Experiment(name, times, values, ~np.isnan(values)), 0.7, 0.15, ("x", "u"), ("u",)))
    assert [len(one.times) for one in rows] == [11, 11]
    path = input_path(rows, 1.0, plain)
    field = SeriesField(jnp.array([[-1.0, 1.0]]), lambda z: jnp.zeros(1))
    later = [np.asarray(one.inputs[0][11:]) for one in rows]
    window = window_before(rows, [11, 11], later, 3, 11, 1.0, plain)
    assert clocks_of(rows, 1.0)[1] > 100
    for i, one in enumerate(rows):
        instants = jnp.concatenate([window.times[i], window.ahead[i]])
        found = path_of(field, False, instants, jnp.array([0.3]), 8, path)[:, 0]
        truth = driven(one.inputs[0], 0.3, one.inputs[1][:, 0])
        # RK4 in steps of 0.1 at most: h^4/120 of one; rounding of a clock of 200.
        np.testing.assert_allclose(found, truth, atol=2e-6)


@pytest.mark.slow
def test_a_series_that_is_driven_is_forecast_with_the_inputs_that_are_known_ahead(tmp_path):
    times = np.linspace(0.0, 30.0, 151)
    random = np.random.default_rng(0)
    inputs = np.interp(times, np.arange(0, 31, 1.5), random.normal(size=21))
    states = driven(times, 0.5, inputs) + 0.01 * random.normal(size=151)
    lines = [f"{t:.3f},{x:.5f},{u:.5f}" if i < 121 else f"{t:.3f},,{u:.5f}"
             for i, (t, x, u) in enumerate(zip(times, states, inputs, strict=True))]  # fmt: skip
    (tmp_path / "x.csv").write_text("t,x,u\n" + "\n".join(lines) + "\n")
    recipe = SeriesRecipe(data=tmp_path / "x.csv", inputs=("u",), steps=500, members=2, width=8, depth=1, substeps=1)
    out = train(recipe, tmp_path / "run")
    found = recipe_of(out).forecast(model_in(out), 30)
    np.testing.assert_allclose(found["columns"]["t"], times[121:], atol=1e-6)
    errors = np.asarray(found["columns"]["x"]) - driven(times, 0.5, inputs)[121:]
    # The field is a network's; inputs move x by 0.5. Without them nothing of it could be said past one time constant.
    assert np.sqrt(np.mean(errors**2)) < 0.05 < 0.3 < np.std(states[121:])
    assert not found["notes"]
    held = recipe_of(out).forecast(model_in(out), 40)["notes"]
    assert any("inputs are known up to 30" in note for note in held)


T = "t,x,y\n" + "\n".join(f"{i},{np.sin(i):.4f},{np.cos(i):.4f}" for i in range(30)) + "\n"
BAD = {
    "times that repeat": (T + "29,0,1\n", {}, ["row 31", "29"]),
    "times that go back": (T + "7,0,1\n", {}, ["row 31", "7"]),
    "a series too short": ("t,x\n0,1\n1,2\n2,3\n", {}, ["3 rows", "at least 4"]),
    "a flat column": ("t,x,y\n" + "\n".join(f"{i},{i % 3},5" for i in range(20)) + "\n", {}, ["'y'", "one value"]),
    "an unknown column": (T, {"values": ("x", "q")}, ["q"]),
    "a negative value of a positive column": (T, {"positive": ("x",)}, ["'x'", "above 0", "row"]),
    "a positive column that is none": (T, {"positive": ("q",)}, ["'q'", "x"]),
    "parts that do not fit": (T, {"fraction": 0.9, "calibration": 0.2}, ["calibration", "0.2"]),
    "batches": (T, {"batch_size": 4}, ["batch_size", "all pieces"]),
    "hidden rates of form second": (T, {"form": "second", "hidden": 1}, ["hidden", "second"]),
    "an input that is none": (T, {"inputs": ("q",)}, ["inputs", "'q'", "x, y"]),
    "nothing but inputs": (T, {"inputs": ("x", "y")}, ["inputs", "all columns"]),
    "an input that is fitted": (T, {"values": ("x",), "inputs": ("x",)}, ["inputs", "'x' twice"]),
    "an input of one value": (
        "t,x,u\n" + "\n".join(f"{i},{i % 3},5" for i in range(20)) + "\n",
        {"inputs": ("u",)},
        ["'u'", "one value"],
    ),
    "bounds of another form": (T, {"bounds": ("x:0",)}, ["bounds", "'x:0'", "two numbers"]),
    "bounds that fall": (T, {"bounds": ("x:2:-2",)}, ["bounds", "increase"]),
    "bounds of no column": (T, {"bounds": ("q:0:1",)}, ["bounds", "'q'", "x, y"]),
    "bounds of a positive column": (
        T.replace("-", ""),
        {"bounds": ("x:0:2",), "positive": ("x",)},
        ["'x'", "not positive"],
    ),
    "a value on a bound": (T, {"bounds": ("y:-1:1",)}, ["'y'", "1 in row 1", "between -1 and 1", "widen"]),
    "no members": (T, {"members": 0}, ["members", "at least 1"]),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_what_cannot_be_is_refused_by_name(case, tmp_path):
    text, fields, words = BAD[case]
    (tmp_path / "x.csv").write_text(text)
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    with pytest.raises((ValueError, DataError)) as refused:
        recipe_from("series", {"data": str(tmp_path / "x.csv")} | fields).settled()
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_column_without_a_value_is_named(tmp_path):
    rows = [f"{i},{np.sin(i):.4f}," for i in range(30)]
    (tmp_path / "x.csv").write_text("t,x,y\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match="(?s)column 'y'.*no value"):
        recipe_from("series", {"data": str(tmp_path / "x.csv")}).settled()


def test_columns_of_very_different_size_are_scaled_and_told(tmp_path):
    rows = [f"{i * 0.3:.2f},{np.sin(0.3 * i):.5f},{1e6 * np.cos(0.3 * i):.2f}" for i in range(60)]
    (tmp_path / "x.csv").write_text("t,x,y\n" + "\n".join(rows) + "\n")
    recipe = recipe_from("series", {"data": str(tmp_path / "x.csv"), "members": 2}).settled()
    task = recipe.task()
    assert any("'x'" in note and "'y'" in note and "scaled" in note for note in task.notes)
    # Each column over its spread: of a sine over whole turns that is 1/sqrt 2.
    assert float(jnp.max(jnp.abs(task.data.states))) < 1.7
    assert recipe.scale[1] / recipe.scale[0] == pytest.approx(1e6, rel=0.05)


def test_a_hidden_quantity_has_a_rate_of_its_own(tmp_path):
    """The whole state is moved by the field, so that a loss can be formed: x'' = -x of which x alone is seen."""
    rows = [f"{0.3 * i:.2f},{np.sin(0.3 * i):.5f}" for i in range(40)]
    (tmp_path / "x.csv").write_text("t,x\n" + "\n".join(rows) + "\n")
    recipe = recipe_from("series", {"data": str(tmp_path / "x.csv"), "hidden": 1, "members": 2}).settled()
    model = recipe.model(jax.random.key(0))
    field = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, model.model)
    state = jnp.array([0.4, -1.3])
    hidden = recipe.flow(model).velocity(0.0, state)[1]
    scaled = jnp.append(recipe._columns.scaled(state[:1]), state[1])
    np.testing.assert_allclose(hidden, recipe.rate * (field.linear @ scaled + field.network(scaled))[1], rtol=1e-12)
