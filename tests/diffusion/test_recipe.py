"""The recipe from files to samples: pictures of two classes, a table with words for classes, and what is refused."""

import inspect
import warnings

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.svm import SVC

import separatrix as sx
from separatrix import diffusion as D
from separatrix._errors import DataError, DataMissing
from separatrix.data import png_bytes
from separatrix.training.recipes import model_in, recipe_from, recipe_of, results_of, train
from separatrix.training.run import OtherModel


def picture_folder(folder, count=12, classes=("dark", "light")):
    rng = np.random.default_rng(0)
    for name, level in zip(classes, (60, 190), strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            levels = np.clip(level + 20 * rng.standard_normal((8, 8)), 0, 255).astype(np.uint8)
            (folder / name / f"{i:02d}.png").write_bytes(png_bytes(levels))
    return folder


def table_file(path, count=60):
    rng = np.random.default_rng(1)
    rows = [f"{i},{rng.normal(10 if i % 2 else -10, 1):.4f},{rng.normal(0, 3):.4f},{'right' if i % 2 else 'left'}"
            for i in range(count)]  # fmt: skip
    path.write_text("\n".join(["id,x,y,side", *rows]) + "\n")
    return path


def settings(data, **more):
    return {"data": str(data), "steps": 30, "width": 4, "watch": 0, "batch_size": 16} | more


def test_pictures_are_learned_drawn_and_weighed(tmp_path):
    spec = settings(picture_folder(tmp_path / "shades"), labels="true")  # as --labels without a value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = train(recipe_from("diffusion", spec), tmp_path / "run")
    recipe, model = recipe_of(run), model_in(run)
    assert recipe.classes == ("dark", "light") and recipe.shape == (8, 8)
    tests = results_of(run)["test"]
    assert set(tests) == {"above_floor", "denoising_loss", "bits_per_dimension", "distance_to_training"}
    assert all(one["value"] is not None and np.isfinite(one["value"]) for one in tests.values())
    # The preconditioned model begins as the best linear one, whose loss is near 1 at unit spread: never above it by much.
    assert 0 < tests["denoising_loss"]["value"] < 1.3 and tests["above_floor"]["value"] > 0
    drawn = recipe.sample(model, count=5, class_="light", scale=2.0, steps=3, batch_size=2)["pictures"]
    again = recipe.sample(model, count=5, class_="light", scale=2.0, steps=3, batch_size=2)["pictures"]
    assert drawn.shape == (5, 8, 8) and drawn.min() >= 0 and drawn.max() <= 1
    np.testing.assert_array_equal(drawn, again)
    found = recipe.log_density(model, tmp_path / "shades", steps=4, probes=2, batch_size=8)
    assert len(found["columns"]["picture"]) == 24 and found["numbers"]["mean_bits_per_dimension"]["of"] == 24
    with pytest.raises(ValueError, match="(?s)sampler\n  got 'dmp'.*Did you mean 'dpm'"):
        # Past the type checks of the tests, which users do not have.
        inspect.unwrap(type(recipe).sample)(recipe, model, sampler="dmp")
    with pytest.raises(ValueError, match="class\n  got 'lihgt'.*dark, light.\n  Did you mean 'light'"):
        recipe.sample(model, class_="lihgt")
    for option, value in (("steps", 0), ("count", 0), ("scale", float("inf"))):
        with pytest.raises(ValueError, match=option):
            recipe.sample(model, **{option: value})
    # The same again gives the same bytes.
    twin = train(recipe_from("diffusion", spec), tmp_path / "twin")
    for first, second in zip(leaves(model), leaves(model_in(twin)), strict=True):
        np.testing.assert_array_equal(first, second)


class Nothing(eqx.Module):
    """F = 0, with two classes."""

    classes: int = 2

    def __call__(self, level, x, label):
        return 0 * x


def leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


def test_rows_of_a_table_in_their_own_units(tmp_path):
    spec = settings(table_file(tmp_path / "sides.csv"), labels="side", drop=["id"], depth=1, steps=40)
    run = train(recipe_from("diffusion", spec), tmp_path / "run")
    recipe, model = recipe_of(run), model_in(run)
    assert recipe.classes == ("left", "right") and [column.name for column in recipe.columns] == ["x", "y"]
    drawn = recipe.sample(model, count=6, steps=4)["columns"]
    assert set(drawn) == {"x", "y"} and max(map(abs, drawn["x"])) < 40
    # A density has units, those of the table. With F = 0 it is that of a normal law of the columns' spreads.
    found = recipe.log_density(D.Preconditioned(Nothing(), D.EDM(), 1.0), tmp_path / "sides.csv", steps=120, probes=1)
    x = np.genfromtxt(tmp_path / "sides.csv", delimiter=",", skip_header=1, usecols=(1, 2))
    means, scales = (np.array([getattr(c, n) for c in recipe.columns]).ravel() for n in ("fills", "scale"))
    truth = norm(means, scales).logpdf(x).sum(axis=1)
    assert np.abs(np.array(found["columns"]["nats"]) - truth).max() < 0.02


def one_of(folder):
    """All but the last picture of a class taken away; the seed puts that one into another part."""
    for path in sorted((folder / "light").iterdir())[:-1]:
        path.unlink()
    return folder


REFUSED = {
    "an empty folder": (lambda p: (p / "none").mkdir() or p / "none", {}, "no pictures|without pictures"),
    "labels of pictures": (
        lambda p: picture_folder(p / "a"),
        {"labels": "side"},
        "the class of a picture is its folder",
    ),
    "labels of pictures without folders": (
        lambda p: picture_folder(p / "a") / "dark",
        {"labels": "true"},
        "got pictures without classes, expected sub-folders",
    ),
    "an unknown label": (lambda p: table_file(p / "t.csv"), {"labels": "sied"}, "Did you mean 'side'"),
    "words as data": (lambda p: table_file(p / "t.csv"), {}, "column 'side'\n  got a category, expected numbers"),
    "a size of a table": (lambda p: table_file(p / "t.csv"), {"size": 8}, "no such option for a table"),
    "nothing there": (lambda p: p / "nowhere", {}, "nowhere\n  got nothing there, expected a folder of pictures"),
    "a class of one picture": (
        lambda p: one_of(picture_folder(p / "a")),
        {"seed": 3},
        "class 'light'\n  got no example in the part for training",
    ),
    "classes that are measurements": (
        lambda p: table_file(p / "t.csv"),
        {"labels": "x", "drop": ["side"]},
        "column 'x', row 1\n  got .*, expected a word",
    ),
    "classes that are dropped": (
        lambda p: table_file(p / "t.csv"),
        {"labels": "side", "drop": ["side"]},
        "drop\n  got the column of classes",
    ),
    "a width of the average": (lambda p: table_file(p / "t.csv"), {"average_width": 0.5}, "width\n  got 0.5"),
    "an average of 1": (lambda p: table_file(p / "t.csv"), {"average": 1.0}, "average\n  got 1.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_that_cannot_be_learned_are_refused_before_training(name, tmp_path):
    make, more, words = REFUSED[name]
    with pytest.raises((ValueError, DataMissing), match=words):
        recipe_from("diffusion", settings(make(tmp_path), **more)).settled()


def test_nan_and_gaps_in_a_table_are_named(tmp_path):
    for cell in ("nan", ""):
        path = tmp_path / "gap.csv"
        path.write_text(f"x,y\n1.0,2.0\n{cell},1.0\n" + "0.5,0.25\n" * 20)
        with pytest.raises(DataError, match="column 'x', row 2"):
            recipe_from("diffusion", settings(path)).settled()


def test_one_picture_and_pictures_of_mixed_size_are_refused(tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.png").write_bytes(png_bytes(np.zeros((8, 8), np.uint8)))
    with pytest.raises(ValueError):
        recipe_from("diffusion", settings(one)).settled()
    (one / "b.png").write_bytes(png_bytes(np.zeros((8, 9), np.uint8)))
    with pytest.raises(DataError, match=r"b.png.*9 x 8 pixels|9 x 8"):
        recipe_from("diffusion", settings(one)).settled()


def test_a_model_of_arrays_is_saved_and_weighs_in_the_units_of_the_data(tmp_path):
    data = np.random.default_rng(0).normal([50.0, -3.0], [10.0, 0.1], (200, 2))
    labels = (data[:, 0] > 50).astype(int)
    model = D.DiffusionModel.fit(data, labels, key=jax.random.key(0), steps=20, width=8, depth=1)
    model.save(tmp_path / "m.safetensors")
    other = D.DiffusionModel.load(tmp_path / "m.safetensors")
    drawn = [m.sample(jax.random.key(1), 5, label=1, scale=2.0, steps=3, batch_size=2) for m in (model, other)]
    np.testing.assert_array_equal(*drawn)
    with pytest.raises(ValueError, match="label\n  got 2, expected integers from 0 to 1"):
        model.sample(jax.random.key(1), 5, label=2)
    with pytest.raises(ValueError, match=r"labels\n  got shape \(3,\), expected \(200,\)"):
        D.DiffusionModel.fit(data, labels[:3], key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"data\n  got nan at index \[4, 1\]"):
        D.DiffusionModel.fit(np.where(np.arange(400).reshape(200, 2) == 9, np.nan, data), key=jax.random.key(0))
    with pytest.raises(TypeError, match="data\n  got dtype <U1, expected numbers"):
        D.DiffusionModel.fit([["a", "b"]], key=jax.random.key(0))
    with pytest.raises(ValueError, match="learning_rate\n  got -1.0"):
        D.DiffusionModel.fit(data, key=jax.random.key(0), learning_rate=-1.0)
    # A file of something else, and one whose arrays are of another network than it says.
    sx.save(tmp_path / "other.safetensors", {"weights": np.ones(3)})
    with pytest.raises(ValueError, match="other.safetensors\n  got another model, expected a diffusion model"):
        D.DiffusionModel.load(tmp_path / "other.safetensors")
    wrong = D.DiffusionModel(model.model, model.center, model.spread, model.form | {"width": 16})
    wrong.save(tmp_path / "wrong.safetensors")
    with pytest.raises(OtherModel, match="8 in the file, expected 16"):
        D.DiffusionModel.load(tmp_path / "wrong.safetensors")
    # With F = 0 the law is normal, with the center and spread of each column.
    plain = D.DiffusionModel(D.Preconditioned(Nothing(), D.EDM(), 1.0), model.center, model.spread, model.form)
    truth = norm(data.mean(axis=0), data.std(axis=0)).logpdf(data[:5]).sum(axis=1)
    np.testing.assert_allclose(plain.log_density(data[:5], steps=120).values, truth, atol=0.05)


def shape_folder(folder, count, seed):
    """Circles and squares of several sizes, brightnesses and places on dark ground, edges smoothed by averaging."""
    rng, places = np.random.default_rng(seed), (np.arange(64) + 0.5) / 4
    made = []
    for i in range(count):
        radius = rng.uniform(3.0, 6.0)
        down, across = (np.abs(places - rng.uniform(radius, 16 - radius)) for _ in range(2))
        if i % 2:
            inside = np.maximum(down[:, None], across[None]) < 0.9 * radius
        else:
            inside = np.hypot(down[:, None], across[None]) < radius
        levels = np.where(inside, rng.integers(150, 256), rng.integers(0, 60)).reshape(16, 4, 16, 4).mean(axis=(1, 3))
        made.append((("circles", "squares")[i % 2], levels.astype(np.uint8)))
    for i, (name, levels) in enumerate(made):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{i:03d}.png").write_bytes(png_bytes(levels))
    return np.stack([levels for _, levels in made]), np.arange(count) % 2


def centred_shapes(pictures):
    """Levels from 0 to 1, the brighter half moved to the middle: what is left is the shape."""
    made = []
    for picture in np.asarray(pictures, float):
        picture = (picture - picture.min()) / (np.ptp(picture) + 1e-9)
        mass = np.clip(picture - 0.5, 0, 1) + 1e-9
        moves = [round(7.5 - float((mass.sum(axis=1 - a) * np.arange(16)).sum() / mass.sum())) for a in (0, 1)]
        made.append(np.roll(picture, moves, (0, 1)).ravel())
    return np.stack(made)


@pytest.mark.slow
def test_circles_and_squares_are_drawn_as_asked(tmp_path):
    """The job of a user with 500 pictures, with half of the default steps: what is asked for is drawn, judged by a
    classifier of real ones, and a pixel costs far fewer than 8 bits."""
    shape_folder(tmp_path / "shapes", 500, 0)
    real, labels = shape_folder(tmp_path / "real", 2000, 1)
    judge = SVC(C=10.0).fit(centred_shapes(real[:1500]), labels[:1500])
    assert judge.score(centred_shapes(real[1500:]), labels[1500:]) > 0.99
    spec = {"data": str(tmp_path / "shapes"), "steps": 280, "watch": 0}
    run = train(recipe_from("diffusion", spec), tmp_path / "run")
    recipe, model = recipe_of(run), model_in(run)
    right = [
        np.mean(
            judge.predict(centred_shapes(recipe.sample(model, count=64, class_=name, scale=2.0)["pictures"])) == code
        )
        for code, name in enumerate(("circles", "squares"))
    ]
    assert np.mean(right) > 0.7 and min(right) > 0.6  # a coin gives one half, three standard errors of 64 are 0.19
    assert results_of(run)["test"]["bits_per_dimension"]["value"] < 4
