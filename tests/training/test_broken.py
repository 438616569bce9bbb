"""A loss that is not finite is a broken step, whatever descends on it: named, and the model before it kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix._errors import Diverged

KEY = jax.random.key(3)


def logarithm(model):
    return jnp.sum(jnp.log(model))


OPTIMISERS = {
    "sgd": optax.sgd(0.1),
    "adam": optax.adam(0.1),
    "sign": optax.sign_sgd(0.1),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    "gathering": optax.MultiSteps(optax.sgd(0.1), 4),
    "every third": optax.chain(optax.sgd(0.1), optax.apply_every(3)),
    "line search": optax.lbfgs(),
    "descent": lambda loss: sx.optimization.GradientDescent(loss, 0.1),
    "own Adam": lambda loss: sx.optimization.Adam(loss, 0.1),
    "signs": lambda loss: sx.optimization.Lion(loss, 0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_first_step_breaks_where_the_loss_is_not_finite_but_its_gradient_is(name):
    """log x from -1: NaN, with the slope -1, along which every optimiser would walk on."""
    with pytest.warns(RuntimeWarning, match=r"(?s)fit: training diverged.*at step 1;"):
        found = sx.fit(logarithm, OPTIMISERS[name], initial=jnp.array(-1.0), steps=6, every=2)
    assert found.outcome.name == "non_finite" and found.stopped_at == 1
    np.testing.assert_array_equal(found.model, -1.0)
    assert found.steps.tolist() == [0, 2, 4, 6] and np.isnan(found.losses).all()
    assert repr(found).startswith("Fit(diverged at step 1; 6 steps; loss nan -> nan")


def test_an_infinite_loss_with_a_finite_slope_breaks_too():
    """1/x^2 at 1e-200 is infinite; with the slope cut off the step would be finite."""
    clipped = optax.chain(optax.clip(1.0), optax.sgd(0.1))
    with pytest.warns(RuntimeWarning, match="at step 1;"):
        found = sx.fit(lambda x: 1 / x**2, clipped, initial=jnp.array(1e-200), steps=3)
    np.testing.assert_array_equal(found.model, 1e-200)


def test_the_step_that_meets_the_break_is_named_and_the_model_before_it_kept():
    """log x by steps of 1: 3 -> 3 - 1/3 -> ... -> below 0, where the loss is NaN and the next step cannot be taken."""
    x, path = 3.0, [3.0]
    while x > 0:
        x -= 1 / x
        path.append(x)
    taken = len(path) - 1
    for optimizer in (optax.sgd(1.0), lambda loss: sx.optimization.GradientDescent(loss, 1.0)):
        with pytest.warns(RuntimeWarning, match=f"at step {taken + 1};"):
            found = sx.fit(logarithm, optimizer, initial=jnp.array(3.0), steps=taken + 5, every=1)
        assert found.stopped_at == taken + 1
        np.testing.assert_allclose(found.model, path[-1], rtol=1e-12)
        np.testing.assert_allclose(found.losses[:taken], np.log(path[:-1]), rtol=1e-12)
        assert np.isnan(found.losses[taken:]).all()


def test_a_loss_that_is_not_finite_after_the_last_step_is_no_completion():
    with pytest.warns(RuntimeWarning, match="at step 1;"):
        found = sx.fit(logarithm, optax.sgd(1.0), initial=jnp.array(0.3), steps=1)
    assert found.outcome.name == "non_finite" and found.stopped_at == 1
    with pytest.warns(RuntimeWarning, match="at step 8;"):
        again = sx.fit(
            logarithm, lambda loss: sx.optimization.GradientDescent(loss, 1.0), initial=jnp.array(0.3), steps=1, start=7
        )
    assert again.stopped_at == 8


def test_the_batch_that_breaks_is_named():
    """One example in sixty has no finite loss: the first batch that draws it breaks the run, by the keys of the steps."""
    data = jnp.ones(60).at[13].set(-1.0)

    def loss(model, batch):
        return jnp.mean(model**2 + jnp.log(batch))

    batches = [jax.random.randint(jax.random.split(jax.random.fold_in(KEY, n))[0], (4,), 0, 60) for n in range(90)]
    first = next(n for n, batch in enumerate(batches) if 13 in batch)
    assert first > 0
    with pytest.warns(RuntimeWarning, match=f"at step {first + 1};"):
        found = sx.fit(loss, optax.sgd(0.1), data, initial=jnp.array(1.0), steps=90, batch_size=4, key=KEY)
    np.testing.assert_allclose(found.model, 0.8**first, rtol=1e-12)


def test_one_player_of_a_game_breaks_it():
    game = (lambda p: p[0] * p[1], lambda p: jnp.log(p[1]) - p[0] * p[1])
    with pytest.warns(RuntimeWarning, match="at step 1;"):
        found = sx.fit(game, sx.games.Players(optax.sgd(0.1)), initial=(jnp.array(1.0), jnp.array(-2.0)), steps=5)
    assert [float(x) for x in found.model] == [1.0, -2.0]


def test_an_optimiser_that_passes_over_bad_gradients_still_does():
    """optax.apply_if_finite holds still for two steps, then lets the third through, which breaks."""
    patient = optax.apply_if_finite(optax.sgd(0.1), 2)
    with pytest.warns(RuntimeWarning, match="at step 3;"):
        sx.fit(logarithm, patient, initial=jnp.array(-1.0), steps=6)


def test_a_finite_loss_is_what_it_was_bit_for_bit():
    """The guard multiplies by one: same loss, same slopes."""
    start = jnp.array([1.3, -0.7])

    def loss(x):
        return jnp.sum(jnp.cos(x) * x**2)

    descent = sx.optimization.GradientDescent(loss, 0.1)
    found = sx.fit(
        loss, lambda guarded: sx.optimization.GradientDescent(guarded, 0.1), initial=start, steps=20, every=20
    )
    np.testing.assert_array_equal(found.model, sx.evolve(descent, start, steps=20, save="last").final)
    assert not isinstance(found.map.objective, sx.systems.WrappedObjective)


def test_throwing_says_the_step():
    with pytest.raises(Diverged, match=r"(?s)training diverged.*at step 1;"):
        sx.fit(logarithm, optax.sgd(0.1), initial=jnp.array(-1.0), steps=3, throw=True)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_narrow_floats_train_with_x64_on(dtype):
    """|x|^2 by steps of 1/4 halves x each time: exact in every binary float."""
    for optimizer in (optax.sgd(0.25), lambda loss: sx.optimization.GradientDescent(loss, 0.25)):
        found = sx.fit(lambda x: jnp.sum(x**2), optimizer, initial=jnp.array([1.0, -3.0], dtype), steps=5)
        assert found.model.dtype == dtype and found.losses.dtype == dtype
        np.testing.assert_array_equal(found.model.astype(float), np.array([1.0, -3.0]) / 32)
    with pytest.warns(RuntimeWarning, match="at step 1;"):
        sx.fit(logarithm, optax.adam(0.1), initial=-jnp.ones((), dtype), steps=2)
