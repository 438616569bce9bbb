"""Pictures drawn on the way: at which steps, by which weights, and the same ones in a run that was killed."""

import hashlib
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.cli.run_page import page
from separatrix.cli.showing import facts, show
from separatrix.data import picture_grid, png_bytes
from separatrix.training.recipes import recipe_from, samples_of, train
from separatrix.training.recipes.strip import SHARES, Drawing, Strip
from separatrix.training.run import Run

PICTURE = jnp.ones((2, 3, 3)) / 2


def loss(model, batch):
    return jnp.mean((batch - model) ** 2)


def fitted(strip, folder, steps=40, **more):
    settings = {"initial": jnp.zeros(()), "steps": steps, "every": 3, "callback": strip, "run": folder}
    return sx.fit(loss, optax.sgd(0.1), jnp.ones(8), **(settings | more))


def test_rows_of_pictures_are_kept_at_the_first_measurement_after_each_share(tmp_path):
    seen = []
    strip = Strip(Drawing(lambda model: seen.append(float(model)) or PICTURE * model), tmp_path / "run", 40)
    found = fitted(strip, tmp_path / "run", average=0.5)
    # Measured at 3, 6, ..., 39, 40: after 5 comes 6, after 10 comes 12, after 20 comes 21, and 40.
    run = Run.open(tmp_path / "run")
    assert [step for step, _ in samples_of(run)] == [6, 12, 21, 40]
    assert seen[-1] == pytest.approx(float(found.averaged), rel=1e-12) and seen == sorted(seen)
    assert abs(seen[0] - (1 - 0.8**6)) > 0.05  # not of the weights themselves
    assert samples_of(run)[-1][1] == png_bytes(picture_grid(np.asarray(PICTURE * seen[-1]), 2))
    assert picture_grid(np.zeros((3, 96, 96)), 3).shape == (96, 3 * 98 - 2)


def test_a_run_that_was_ended_and_goes_on_keeps_them_and_draws_each_once(tmp_path):
    drawn = []
    strip = Strip(Drawing(lambda model: drawn.append(1) or PICTURE * model), tmp_path / "run", 40)

    def stopped(step, model, metrics, *, averaged=None):
        strip(step, model, metrics, averaged=averaged)
        if step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(stopped, tmp_path / "run", save_every=13)
    assert [step for step, _ in samples_of(Run.open(tmp_path / "run"))] == [6, 12]
    fitted(strip, tmp_path / "run", save_every=13)
    whole = Strip(strip._drawing, tmp_path / "whole", 40)
    fitted(whole, tmp_path / "whole")
    assert samples_of(Run.open(tmp_path / "run")) == samples_of(Run.open(tmp_path / "whole")) and len(drawn) == 8


def test_few_shares_short_runs_and_models_that_draw_nothing(tmp_path):
    late = Strip(Drawing(lambda model: PICTURE, SHARES[2:]), tmp_path / "late", 40)
    none = Strip(Drawing(lambda model: PICTURE, ()), tmp_path / "none", 40)
    for step in range(1, 41):
        late(step, 1.0, {})
        none(step, 1.0, {})
    assert sorted(file.name for file in (tmp_path / "late" / "samples").iterdir()) == ["20.png", "40.png"]
    assert not (tmp_path / "none").exists()

    def broken(model):
        raise ValueError("sample\n  got no finite number")

    with pytest.warns(UserWarning, match="no picture is kept of step 20: sample got no finite number"):
        Strip(Drawing(broken), tmp_path, 40)(20, 1.0, {})


def shades(folder):
    for number in range(30):
        levels = np.random.default_rng(number).integers(0, 100, (8, 8)) + 100 * (number % 2)
        file = folder / ("dark", "light")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png_bytes(levels.astype(np.uint8)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffusion", "gan"])
def test_a_run_of_pictures_shows_them(name, tmp_path):
    more = {"steps": 120, "width": 4} if name == "diffusion" else {"steps": 16, "width": 8, "held_out": 0.5}
    spec = {"data": str(shades(tmp_path / "data")), "batch_size": 24, "watch": 0, "seed": 3} | more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = (train(recipe_from(name, spec), tmp_path / place) for place in ("a", "b"))
    # Of a diffusion that takes 120 steps of 24, only as many as cost 3 % of it: 0.03 * 3 * 120 * 24/160 = 1.6, the last.
    assert [step for step, _ in samples_of(first)] == ([120] if name == "diffusion" else [2, 4, 8, 16])
    assert [hashlib.sha256(png).digest() for _, png in samples_of(first)] == [
        hashlib.sha256(png).digest() for _, png in samples_of(second)
    ]
    text, html = show(tmp_path / "a", None, False).text, page(facts(first))
    assert "drawn on the way, at steps" in text
    assert all(f"step {step}</th>" in html for step, _ in samples_of(first))
