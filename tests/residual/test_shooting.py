"""Shooting on uneven times, with gaps, several experiments and half-seen states: closed forms and finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

NAN = np.nan
TIMES = np.array([0.0, 0.1, 0.4, 0.45, 1.0, 1.6, 1.7])


def _decay(rate):
    return sx.as_flow(lambda x: -rate * x)


def test_the_loss_on_uneven_times_with_gaps_is_the_mean_over_what_was_seen():
    seen = np.stack([np.exp(-TIMES), 3.0 * np.exp(-TIMES)], axis=1)
    seen[2, 0] = seen[4, 1] = NAN
    data = sx.residual.segments(TIMES, seen, 3, stride=3)
    loss = eqx.filter_jit(sx.residual.trajectory_loss(_decay, substeps=20))(jnp.array(2.0), data)
    # From t = 0 and t = 0.45, at rate 2 where 1 is true; the start itself counts, at no error.
    errors = []
    for first, last in ((0, 3), (3, 6)):
        for j in range(first, last + 1):
            for k, size in enumerate((1.0, 3.0)):
                if not np.isnan(seen[j, k]):
                    start = size * np.exp(-TIMES[first])
                    errors.append(start * np.exp(-2 * (TIMES[j] - TIMES[first])) - size * np.exp(-TIMES[j]))
    # RK4 with h of at most 0.03: (2 h)^5/120 a step.
    assert float(loss) == pytest.approx(np.mean(np.square(errors)), rel=1e-6)


def test_a_segment_that_starts_in_a_gap_counts_for_nothing():
    whole = np.exp(-TIMES)[:, None]
    gap = whole.copy()
    gap[3] = NAN
    loss = sx.residual.trajectory_loss(_decay, substeps=4)
    kept = sx.residual.segments(TIMES[:4], gap[:4], 3)
    both = sx.residual.segments(TIMES, gap, 3, stride=3)
    assert loss(jnp.array(2.0), both).item() == pytest.approx(loss(jnp.array(2.0), kept).item(), rel=1e-12)


def test_a_segment_without_a_start_neither_breaks_the_loss_nor_its_gradient():
    seen = np.exp(-TIMES)[:, None]
    seen[3] = NAN
    # x' = rate x log x has no value at 0, which stands where nothing was seen.
    loss = sx.residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: rate * x * jnp.log(x)), substeps=4)
    both = sx.residual.segments(TIMES, seen, 3, stride=3)
    kept = sx.residual.segments(TIMES[:4], seen[:4], 3)
    for got, wanted in zip(*(jax.value_and_grad(loss)(jnp.array(0.5), data) for data in (both, kept)), strict=True):
        assert got.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_experiments_of_different_length_are_one_set_of_segments():
    table = sx.data.Table(
        {"run": np.array([1, 1, 1, 2, 2]), "t": np.array([0.0, 1.0, 3.0, 5.0, 5.5]), "x": np.arange(5.0)}, "here"
    )
    data = sx.residual.segments(sx.data.series(table, "t", experiment="run"))
    np.testing.assert_array_equal(data.times, [[0.0, 1.0, 3.0], [5.0, 5.5, 5.5]])
    np.testing.assert_array_equal(data.present[..., 0], [[True, True, True], [True, True, False]])
    np.testing.assert_array_equal(data.follows, [False, False])


def test_matching_conditions_join_the_segments_of_one_experiment_alone():
    times = np.array([0.0, 1.0, 2.0])
    data = sx.residual.segments(times, np.zeros((2, 3, 1)), 1, stride=1)
    starts = jnp.array([[1.0], [2.0], [5.0], [9.0]])
    still = sx.residual.shooting_loss(lambda _: sx.as_flow(lambda x: jnp.ones_like(x)), matching=3.0)
    # Every state grows by 1 over a segment: the first pair meets (1 + 1 = 2), the second misses by 9 - 6 = 3.
    squares = np.mean([1.0, 4.0, 4.0, 9.0, 25.0, 36.0, 81.0, 100.0])
    found = still(sx.residual.ShootingModel(None, starts), data).item()
    assert found == pytest.approx(squares + 3.0 * (0 + 9) / 2, rel=1e-12)


@pytest.mark.parametrize("memory", ["linear", "sqrt"])
def test_gradients_through_gaps_and_uneven_times_equal_finite_differences(memory):
    seen = np.stack([np.cos(TIMES), np.sin(TIMES)], axis=1)
    seen[1, 0] = seen[3] = NAN
    data = sx.residual.segments(TIMES, seen, 3, stride=3)
    loss = eqx.filter_jit(
        sx.residual.shooting_loss(
            lambda w: sx.as_flow(lambda x: jnp.stack([-w[0] * x[1] ** 3, w[1] * x[0]])),
            substeps=2,
            memory=memory,
            at_once=1,
        )
    )
    point = sx.residual.start_shooting(jnp.array([1.2, 0.7]), data)
    vector, back = jax.flatten_util.ravel_pytree(point)
    gradient = jax.flatten_util.ravel_pytree(eqx.filter_grad(lambda p: loss(p, data))(point))[0]
    h = 1e-5
    steps = [loss(back(vector.at[i].add(h)), data) - loss(back(vector.at[i].add(-h)), data) for i in range(vector.size)]
    # Central differences: h^2 of the third derivative, and rounding over h.
    np.testing.assert_allclose(gradient, np.stack(steps) / (2 * h), rtol=1e-6, atol=1e-9)


def test_the_frequency_of_an_oscillator_is_found_from_its_place_at_uneven_times():
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0.0, 8.0, 40))
    seen = (np.cos(2.3 * times) + 0.4 * np.sin(2.3 * times))[:, None]
    seen[rng.uniform(size=40) < 0.1] = NAN
    data = sx.residual.segments(times, seen, 5, stride=5)
    loss = sx.residual.shooting_loss(
        lambda w: sx.as_flow(lambda x: jnp.stack([x[1], -(w**2) * x[0]])),
        matching=10.0,
        observe=lambda x: x[:1],
        substeps=12,
    )
    first = sx.residual.start_shooting(jnp.array(1.8), data, width=2)
    optimizer = optax.lbfgs(1.0, memory_size=20, linesearch=None)
    found = sx.fit(loss, optimizer, data, initial=first, steps=200).model
    # Exact data have an exact answer; RK4 with steps of at most 0.8/12 is right to (w h)^4/120 = 5e-6 of the frequency.
    assert float(found.model) == pytest.approx(2.3, abs=1e-5)
    np.testing.assert_allclose(
        found.starts[0], [seen[0, 0], 2.3 * 0.4 * np.cos(2.3 * times[0]) - 2.3 * np.sin(2.3 * times[0])], atol=1e-3
    )


def test_a_break_is_nan_even_where_nothing_was_seen_after_it():
    seen = np.array([[1.0], [1.0], [NAN]])
    data = sx.residual.segments(np.array([0.0, 0.1, 9.0]), seen, 2)
    loss = sx.residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: rate * x**3), substeps=50)
    assert np.isnan(loss(jnp.array(5.0), data)) and np.isfinite(loss(jnp.array(-5.0), data))
