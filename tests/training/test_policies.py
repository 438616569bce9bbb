"""What is decided along a run: validation and patience, averages, what is done at a step that is not finite, callbacks."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

KEY = jax.random.key(2)
NUMBERS = jnp.array([1.0, 3.0, 8.0, 4.0])


def spread(centre, numbers):
    return jnp.mean((numbers - centre) ** 2)


def fitted(objective=spread, optimizer=None, data=NUMBERS, **changes):
    settings = {"initial": jnp.array(0.0), "steps": 20, "every": 1}
    return sx.fit(objective, optimizer or optax.sgd(0.1), data, **(settings | changes))


def test_validation_is_the_loss_on_other_data():
    """x[n] = 4 (1 - 0.8^n), on numbers of mean 2: (x - 2)^2 + 1 falls until x passes 2, which is at step 3."""
    found = fitted(validation=jnp.array([1.0, 3.0]))
    x = 4 * (1 - 0.8 ** np.arange(21))
    np.testing.assert_allclose(found.metrics["validation"], (x - 2) ** 2 + 1, rtol=1e-12)
    assert found.best_step == 3 and str(found.outcome) == "completed"
    np.testing.assert_allclose(found.best, x[3], rtol=1e-12)
    np.testing.assert_allclose(found.model, x[20], rtol=1e-12)


def test_patience_ends_a_run_early_and_that_is_no_failure():
    found = fitted(validation=jnp.array([1.0, 3.0]), patience=4)
    assert found.steps.tolist() == list(range(8)) and found.best_step == 3
    assert found.outcome.name == "stopped_early" and bool(found.outcome.reached) and found.stopped_at is None
    assert found.events[-1]["event"] == "stopped_early" and "step 3" in found.events[-1]["why"]
    assert repr(found).startswith("Fit(stopped early; 7 steps; loss ")


def test_a_share_is_held_out_by_the_key():
    """Train and validate on parts that meet nowhere and are all there is: their sums give the sum of all."""
    data = jnp.arange(10.0)
    seen = {}

    def loss(model, batch):
        return model * jnp.sum(batch)

    for share in (0.3, 0.5):
        found = fitted(loss, optax.sgd(0.0), data, initial=jnp.array(1.0), steps=1, validation=share, key=KEY)
        seen[share] = float(found.losses[0]), float(found.metrics["validation"][0])
        assert sum(seen[share]) == 45.0
    again = fitted(loss, optax.sgd(0.0), data, initial=jnp.array(1.0), steps=1, validation=0.3, key=KEY)
    assert (float(again.losses[0]), float(again.metrics["validation"][0])) == seen[0.3]


def test_long_validation_is_taken_in_slices():
    data = jnp.asarray(np.arange(10_001.0))
    found = fitted(validation=data, steps=1)
    np.testing.assert_allclose(found.metrics["validation"][0], np.mean(np.arange(10_001.0) ** 2), rtol=1e-12)


def test_the_average_follows_its_recursion_and_is_validated():
    """a <- d a + (1 - d) x, x = 4 (1 - 0.8^n)."""
    found = fitted(average=0.75, validation=jnp.array([4.0]))
    x, a = 4 * (1 - 0.8 ** np.arange(21)), [0.0]
    for n in range(20):
        a.append(0.75 * a[-1] + 0.25 * x[n + 1])
    np.testing.assert_allclose(found.averaged, a[-1], rtol=1e-12)
    np.testing.assert_allclose(found.metrics["validation"], (np.array(a) - 4) ** 2, rtol=1e-10)
    np.testing.assert_allclose(found.model, x[-1], rtol=1e-12)
    first = fitted(average=0.75, steps=7)
    rest = fitted(average=0.75, steps=13, start=7, state=first.state)
    np.testing.assert_array_equal(rest.averaged, found.averaged)


BAD = jnp.ones(60).at[13].set(-1.0)


def with_a_bad_example(model, batch):
    return jnp.mean(model**2 + jnp.log(batch))


def test_a_bad_step_is_skipped_with_its_moments():
    """Adam on the steps that are sound, by hand; those whose batch holds the bad example do not happen."""
    found = fitted(
        with_a_bad_example, optax.adam(0.1), BAD, initial=jnp.array(1.0), steps=90, batch_size=4, key=KEY,
        divergence="skip", every=10,
    )  # fmt: skip
    keys = [jax.random.split(jax.random.fold_in(KEY, n))[0] for n in range(90)]
    bad = [n for n in range(90) if 13 in jax.random.randint(keys[n], (4,), 0, 60)]
    assert bad and found.outcome.name == "completed"
    skips = [event for event in found.events if event["event"] == "skip"]
    assert sum(event["count"] for event in skips) == len(bad) and skips[-1]["step"] == bad[-1] + 1
    optimizer, x = optax.adam(0.1), jnp.array(1.0)
    inner = optimizer.init(x)
    for _ in range(90 - len(bad)):
        with jax.numpy_dtype_promotion("standard"):
            updates, inner = optimizer.update(2 * x, inner, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(found.model, x, rtol=1e-10)


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.chain(optax.clip(1.0), optax.sgd(0.1))])
def test_too_many_bad_steps_in_a_row_end_the_run(optimizer):
    with pytest.warns(RuntimeWarning, match="at step 11;"):
        found = fitted(
            lambda x: jnp.sum(jnp.log(x)), optimizer, None, initial=jnp.array(-1.0), steps=50, divergence="skip"
        )
    np.testing.assert_array_equal(found.model, -1.0)
    assert [event["event"] for event in found.events] == ["skip", "non_finite"]


def test_rolling_back_goes_on_with_smaller_steps():
    """x^4 from 3 at step size 1 leaves the numbers; at 1/16 it goes on from 3 by its recursion."""
    found = sx.fit(lambda x: x**4, optax.sgd(1.0), initial=jnp.array(3.0), steps=30, every=10, divergence="roll_back")
    assert found.outcome.name == "completed"
    rolls = [event for event in found.events if event["event"] == "roll_back"]
    factors = [event["factor"] for event in rolls]
    assert factors == [0.5**k for k in range(1, len(factors) + 1)] and all(event["step"] == 0 for event in rolls)
    # Gradient descent on x^4 from 3 stays bounded for h < 2 / (4 * 9) at the first step.
    assert factors[-1] <= 1 / 18 * 2
    x = 3.0
    for _ in range(30):
        x = x - factors[-1] * 4 * x**3
    np.testing.assert_allclose(found.model, x, rtol=1e-9)
    assert np.isfinite(found.losses).all() and found.steps.tolist() == [0, 10, 20, 30]


def test_rolling_back_ends_too():
    with pytest.warns(RuntimeWarning, match="at step 1;"):
        found = sx.fit(
            lambda x: jnp.log(x), optax.sgd(0.1), initial=jnp.array(-1.0), steps=5, every=1, divergence="roll_back"
        )
    assert [event["event"] for event in found.events] == ["roll_back"] * 8 + ["non_finite"]


def test_a_callback_sees_every_so_many_steps_and_may_end_the_run():
    seen = []

    def look(step, model, metrics):
        seen.append((step, float(model), float(metrics["loss"])))
        return step == 9

    found = fitted(callback=look, every=3)
    assert [step for step, _, _ in seen] == [3, 6, 9]
    for step, model, loss in seen:
        np.testing.assert_allclose(model, 4 * (1 - 0.8**step), rtol=1e-12)
        np.testing.assert_allclose(loss, spread(model, NUMBERS), rtol=1e-12)
    assert found.outcome.name == "stopped_early" and found.steps.tolist() == [0, 3, 6, 9]
    np.testing.assert_array_equal(found.model, seen[-1][1])


def test_an_interrupt_returns_what_there_is():
    def look(step, model, metrics):
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    found = fitted(callback=look, every=3)
    assert found.outcome.name == "interrupted" and not bool(found.outcome.reached)
    assert found.steps[-1] == 6 and found.events[-1] == {"event": "interrupted", "step": 6}
    np.testing.assert_allclose(found.model, 4 * (1 - 0.8**6), rtol=1e-12)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_line_of_progress_has_rate_time_and_metrics(capsys):
    fitted(progress=True, callback=lambda *_: None, every=5)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("100%  20/20") and "steps/s" in lines[-1] and "left" in lines[-1]
    assert f"loss {float(spread(4 * (1 - 0.8**20), NUMBERS)):.3g}" in lines[-1]


REFUSED = {
    "a policy": (lambda: fitted(divergence="skp"), ValueError, "Did you mean 'skip'"),
    "an average of 1": (lambda: fitted(average=1.0), ValueError, "average"),
    "patience for nothing": (lambda: fitted(patience=3), ValueError, "none, without validation"),
    "a share of all": (lambda: fitted(validation=1.0, key=KEY), ValueError, "leaves examples on both sides"),
    "a share without a key": (lambda: fitted(validation=0.5), ValueError, "None with validation=0.5"),
    "validation of no data": (
        lambda: sx.fit(lambda x: x**2, optax.sgd(0.1), initial=jnp.array(1.0), steps=1, validation=NUMBERS),
        ValueError,
        "expected a loss on data",
    ),
    "a metric called validation": (
        lambda: fitted(validation=NUMBERS, metrics={"validation": jnp.sum}),
        ValueError,
        "names of your own",
    ),
    "no callback": (lambda: fitted(callback=3), TypeError, "got int, expected a function"),
    "saving nowhere": (lambda: fitted(save_every=3), ValueError, "without a run folder"),
    "validation while tracing": (
        lambda: jax.vmap(lambda x: fitted(initial=x, validation=NUMBERS).model)(jnp.ones(2)),
        TypeError,
        "validation in a run that is being traced",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_told(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3
