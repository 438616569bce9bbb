"""Recipes with an average of the weights, and with examples in files of the run."""

from pathlib import Path

import jax
import numpy as np
import pytest

from separatrix.training.recipes import Regressor, model_in, results_of, train

RANDOM = np.random.default_rng(1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The same run in memory and on disk; y = 3 a - b, no part validates."""
    folder = tmp_path_factory.mktemp("kept")
    rows = [f"{a:.5f},{b:.5f},{3 * a - b:.6f}" for a, b in RANDOM.normal(size=(60, 2))]
    (folder / "x.csv").write_text("\n".join(["a,b,y", *rows]))
    asked = {"data": folder / "x.csv", "target": "y", "steps": 60, "width": 4, "depth": 1, "batch_size": 10}
    asked |= {"average": 0.9, "fractions": (0.8, 0.0, 0.2), "learning_rate": 0.01}
    return {
        name: train(Regressor(**asked, on_disk=name == "disk"), folder / name, progress=False)
        for name in ("memory", "disk")
    }


def _leaves(model: object) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model) if hasattr(leaf, "dtype")]


def test_the_model_is_the_average(runs: dict) -> None:
    """The average of factor 0.9 lags behind the weights, which still move; and what is told of the run is of it."""
    run = runs["memory"]
    model, averaged = model_in(run), run.load(run.model, at="averaged").tree
    assert all(map(np.array_equal, _leaves(model), _leaves(averaged)))
    assert not all(map(np.array_equal, _leaves(model), _leaves(run.model)))
    from separatrix.training.recipes import recipe_of

    assert recipe_of(run).results(model)["test"] == results_of(run)["test"]
    assert recipe_of(run).results(run.model)["test"] != results_of(run)["test"]


def test_on_disk_is_bit_for_bit_as_in_memory(runs: dict) -> None:
    memory, disk = (_leaves(run.latest().tree["state"]) for run in runs.values())
    assert len(memory) == len(disk) and all(a.tobytes() == b.tobytes() for a, b in zip(memory, disk, strict=True))
    path = Path(runs["disk"].path, "examples")
    assert np.load(path / "0.npy").shape == (48, 2) and not Path(runs["memory"].path, "examples").exists()


def test_scores_of_a_file_are_those_of_the_part_for_testing(runs: dict, tmp_path: Path) -> None:
    from separatrix.training.recipes import recipe_of

    recipe, model = recipe_of(runs["memory"]), model_in(runs["memory"])
    from separatrix.data import Table, read_csv, split

    table = read_csv(recipe.data)
    rows = split(Table({"row": np.arange(60)}, "rows"), recipe.fractions, key=recipe.seed).test["row"]
    part = [f"{table['y'][i]},{table['a'][i]},{table['b'][i]}" for i in rows]  # the columns in another order
    (tmp_path / "part.csv").write_text("\n".join(["y,a,b", *part]))
    found = recipe.predict(model, tmp_path / "part.csv")
    told = results_of(runs["memory"])["test"]
    for name, one in found["numbers"].items():
        assert one["value"] == pytest.approx(told[name]["value"], rel=1e-6)
        assert one["of"] == told[name]["of"] == 12
    (tmp_path / "bare.csv").write_text("b,a\n1,2\n")
    assert "numbers" not in recipe.predict(model, tmp_path / "bare.csv")
    (tmp_path / "some.csv").write_text("b,a,y\n1,2,5\n1,2,\n")
    assert recipe.predict(model, tmp_path / "some.csv")["numbers"]["rms_error"]["of"] == 1


def test_what_cannot_be_trained_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_text("\n".join(["t,x", *(f"{i},{np.cos(i):.6f}" for i in range(12))]))
    from separatrix.residual.recipe import LawRecipe

    with pytest.raises(ValueError, match="law: on_disk\n  got true, with all examples in every step"):
        train(LawRecipe(data=tmp_path / "x.csv", degree=1, steps=2, on_disk=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    from separatrix.training.recipes import training

    def refuses(*_: object, **__: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(training, "fit", refuses)
    with pytest.raises(ValueError, match="no"):
        train(LawRecipe(data=tmp_path / "x.csv", degree=1, steps=2), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
