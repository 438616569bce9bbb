"""The recipe of laws on times that are not even: an oscillator whose equations are known."""

import numpy as np
import pytest

from separatrix.residual.recipe import LawRecipe
from separatrix.training.recipes import model_in, train

RANDOM = np.random.default_rng(3)
TIMES = np.cumsum(RANDOM.uniform(0.05, 0.25, 60))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """x'' = -4 x on two experiments of uneven times: x = a sin 2t + b cos 2t."""
    folder = tmp_path_factory.mktemp("law")
    rows = ["run,t,x,v"]
    for name, shift in (("one", 0.0), ("two", 1.0)):
        rows += [f"{name},{t:.8f},{np.sin(2 * t + shift):.9f},{2 * np.cos(2 * t + shift):.9f}" for t in TIMES]
    (folder / "x.csv").write_text("\n".join(rows))
    recipe = LawRecipe(data=folder / "x.csv", times="t", experiment="run", degree=1, steps=400)
    return train(recipe, folder / "run")


def test_the_law_of_an_oscillator_is_found_on_uneven_times(run):
    """x' = v, v' = -4 x; shooting with steps of RK4 of at most 0.07 has errors below 1e-5."""
    from separatrix.training.recipes import recipe_of

    recipe, model = recipe_of(run), model_in(run)
    law = recipe.law(model)
    assert law.library.labels == ("1", "x", "v")
    np.testing.assert_allclose(law.coefficients, [[0, 0], [0, -4], [1, 0]], atol=2e-3)
    flow, state = recipe.diagnose(model)
    np.testing.assert_allclose(flow.velocity(0.0, state), [state[1], -4 * state[0]], atol=5e-3)
    found = recipe.predict(model, recipe.data)["columns"]
    np.testing.assert_allclose(found["t"], TIMES, atol=1e-7)
    np.testing.assert_allclose(found["x"], np.sin(2 * TIMES), atol=0.01)
    ahead = recipe.forecast(model, 3)["columns"]
    np.testing.assert_allclose(np.diff(ahead["t"]), np.median(np.diff(TIMES)), rtol=1e-6)
    np.testing.assert_allclose(ahead["x"], np.sin(2 * np.asarray(ahead["t"]) + 1), atol=0.01)
