"""How an evolution ended: one contract, whatever solver, gradient, memory, size of the state, or transformation.

`final` is the state at the end that was asked for, and NaN if it was not reached; `last` is the last good one.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix._errors import Diverged
from separatrix._tree import poison

BLOW = sx.as_flow(lambda x: x**2)  # from 1: 1 / (1 - t), gone at t = 1
DECAY = sx.as_flow(lambda x: -x)
FALL = sx.as_flow(lambda s: jnp.stack([s[1], jnp.full_like(s[1], -9.81)]))
ONE = jnp.ones(1)

ADAPTIVE = {
    "Tsit5": None,
    "Dopri5": diffrax.Dopri5(),
    "Dopri8": diffrax.Dopri8(),
    "Bosh3": diffrax.Bosh3(),
    "Kvaerno3": diffrax.Kvaerno3(),
    "Kvaerno5": diffrax.Kvaerno5(),
    "half Euler": diffrax.HalfSolver(diffrax.Euler()),
}


@pytest.mark.parametrize("gradient", ["replay", "checkpoint", "continuous", "forward"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_every_solver_tells_an_escape_and_gives_no_number(name, gradient):
    if gradient != "replay" and name not in ("Tsit5", "Kvaerno5"):
        pytest.skip("one pair and one implicit solver with every gradient")
    path = sx.evolve(BLOW, ONE, times=(0.0, 0.5, 2.0), method=ADAPTIVE[name], gradient=gradient)
    assert path.outcome.name == "escaped"
    np.testing.assert_allclose([path.outcome.at, path.outcome.estimate], 1.0, rtol=2e-3)
    assert np.isnan(path.final).all() and np.isnan(path.states[-1]).all()
    np.testing.assert_allclose(path.states[1], 2.0, rtol=2e-3)
    # A good state far up the pole, at a time that belongs to it: x = 1 / (t* - t).
    assert path.last[0] > 1e3 and 0.9 < path.last_time < 1.01


@pytest.mark.parametrize("method", [sx.RK4(), sx.ImplicitMidpoint(), diffrax.Euler(), diffrax.Heun()], ids=repr)
def test_fixed_steps_that_overflow_say_when(method):
    """x' = x^2 in steps of 1/10 overflows some steps after t = 1, where the solution has gone."""
    path = sx.evolve(BLOW, ONE, times=(0.0, 4.0), step_size=0.1, method=method)
    # The equation of an implicit step has no real root from somewhat before the pole on.
    first = 0.7 if isinstance(method, sx.ImplicitMidpoint) else 1.0
    assert path.outcome.name == "non_finite" and first < float(path.outcome.at) < 4.0
    assert np.isnan(path.final).all() and np.isfinite(path.last).all() and float(path.last_time) < 4.0


@pytest.mark.parametrize("memory", ["linear", "sqrt", "reversible"])
def test_a_map_says_at_which_step_it_broke_in_every_memory_mode(memory):
    class Squares(sx.InvertibleMap):
        def step(self, n, state, *, key=None):
            return state**2

        def inverse_step(self, n, state):
            return jnp.sqrt(state)

    path = sx.evolve(Squares(), jnp.array(10.0), steps=20, memory=memory, save="last", start=3)
    assert path.outcome.name == "non_finite" and float(path.outcome.at) == 12  # 10^512 would be step 9 of these
    assert float(path.last_time) == 11 and np.isnan(path.final) and np.isnan(path.states[-1])
    np.testing.assert_allclose(path.last, 1e256)


@pytest.mark.parametrize("size", [10, 40_000])
def test_the_size_of_a_state_switches_nothing(size):
    path = sx.evolve(BLOW, jnp.ones(size), times=(0.0, 2.0), save="last")
    assert path.outcome.name == "escaped" and float(path.outcome.at) == pytest.approx(1.0, rel=1e-4)


def test_a_state_that_is_broken_from_the_start_is_seen_under_jit():
    ends = jax.jit(lambda x: [sx.evolve(DECAY, x, times=(0.0, 1.0)), sx.evolve(sx.as_map(lambda x: 0 * x), x, steps=1)])
    for path in ends(jnp.array([1.0, jnp.nan])):
        assert path.outcome.name == "non_finite" and np.isnan(path.final).all()


def test_throw_raises_in_the_words_of_the_outcome():
    with pytest.raises(Diverged, match="escaped .at 1.*blows up in finite time"):
        sx.evolve(BLOW, ONE, times=(0.0, 2.0), throw=True)
    with pytest.raises(Diverged, match="escaped: 1.*completed: 1|completed: 1.*escaped: 1"):
        sx.ensemble(BLOW, jnp.array([[1.0], [-1.0]]), times=(0.0, 2.0), throw=True)
    with pytest.raises(RuntimeError, match="non_finite; the state stopped being finite"):
        jax.jit(lambda x: sx.evolve(sx.as_map(lambda x: x**2), x, steps=20, throw=True).final)(jnp.array(10.0))
    assert sx.evolve(DECAY, ONE, times=(0.0, 1.0), throw=True).outcome == "completed"


def test_an_outcome_compares_with_its_words_only():
    outcome = sx.evolve(DECAY, ONE, times=(0.0, 1.0)).outcome
    assert outcome == "completed" and not bool(outcome == "escaped")
    with pytest.raises(ValueError, match="'stuck'.*completed.*non_finite.*step_limit.*escaped.*stiff.*event"):
        _ = outcome == "stuck"


def test_the_text_of_an_outcome_has_cause_and_remedy():
    path = sx.evolve(DECAY, ONE, times=(0.0, 100.0), max_steps=3)
    for text in (repr(path), str(path.outcome), repr(path.outcome)):
        assert "step_limit" in text and "raise max_steps" in text


def test_a_broken_value_has_no_derivative_unless_it_is_masked():
    """The gradient of a loss on a broken run is not finite; masked members of a batch contribute nothing."""
    ends = lambda a: jax.vmap(lambda x: sx.evolve(BLOW, a * x, times=(0.0, 2.0), save="last", rtol=1e-9).final)(
        jnp.array([1.0, -1.0])
    )

    def losses(a):
        reached = ends(a)
        return jnp.stack([reached.sum(), jnp.where(jnp.isfinite(reached), reached, 0.0).sum()])

    plain, masked = jax.jit(jax.jacrev(losses))(1.0)
    assert not np.isfinite(plain)
    implicit = lambda a: sx.evolve(BLOW, a * ONE, times=(0.0, 2.0), method=diffrax.Kvaerno3()).final[0]
    assert np.isnan(jax.value_and_grad(implicit)(1.0)).all()
    # x = -a / (1 + 2 a): its derivative at a = 1 is -1/9.
    np.testing.assert_allclose(masked, -1.0 / 9.0, rtol=1e-5)


def test_poison():
    value, pull = jax.vjp(lambda x: poison(False, (x, jnp.arange(2))), jnp.array([1.0, 2.0]))
    assert np.isnan(value[0]).all() and value[1].tolist() == [0, 1]
    zero = np.zeros((2,), jax.dtypes.float0)
    np.testing.assert_array_equal(pull((jnp.array([1.0, 0.0]), zero))[0], [np.inf, 0.0])
    kept, pull = jax.vjp(lambda x: poison(True, x), jnp.array([1.0, -2.0]))
    np.testing.assert_array_equal(kept, [1.0, -2.0])
    np.testing.assert_array_equal(pull(jnp.array([3.0, 4.0]))[0], [3.0, 4.0])


# --- the same value with and without a gradient -----------------------------------------------------------------------


def test_a_long_solve_has_the_same_value_with_a_gradient():
    """x = cos(w t) over 200 units of time takes more steps than are kept: those between are taken again."""

    @jax.jit
    def end(w):
        flow = sx.as_flow(lambda x: jnp.stack([x[1], -w * w * x[0]]))
        path = sx.evolve(flow, jnp.array([1.0, 0.0]), times=(0.0, 200.0), rtol=1e-9, atol=1e-11, save="last")
        return path.final[0], path.stats["accepted"]

    (value, steps), slope = jax.value_and_grad(end, has_aux=True)(3.0)
    assert steps > 4 * 1024
    assert value == end(3.0)[0]
    np.testing.assert_allclose(slope, -200.0 * np.sin(600.0), rtol=2e-6)
    np.testing.assert_allclose(value, np.cos(600.0), atol=2e-6)


def test_over_random_solves_the_values_agree_and_gradients_are_those_of_differences():
    """200 linear systems, intervals, tolerances and starts; the gradient against the exact one of expm."""

    def end(matrix, x, t1, rtol):
        return sx.evolve(
            sx.as_flow(lambda x: matrix @ x), x, times=jnp.stack([-0.3 + 0 * t1, t1]), rtol=rtol
        ).final.sum()

    keys = jax.random.split(jax.random.key(3), 4)
    matrices = jax.random.normal(keys[0], (200, 3, 3))
    starts = jax.random.normal(keys[1], (200, 3))
    ends = jax.random.uniform(keys[2], (200,), minval=0.1, maxval=3.0)
    rtols = 10.0 ** jax.random.uniform(keys[3], (200,), minval=-9.0, maxval=-4.0)
    plain = jax.jit(jax.vmap(end))(matrices, starts, ends, rtols)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(end, argnums=1)))(matrices, starts, ends, rtols)
    np.testing.assert_array_equal(plain, values)
    exact = jax.vmap(lambda a, t: jax.scipy.linalg.expm(a * (t + 0.3)).sum(axis=0))(matrices, ends)
    scale = np.abs(np.asarray(exact)).max(axis=1, keepdims=True)
    assert (np.abs(slopes - exact) / scale < 100 * np.asarray(rtols)[:, None]).all()


@pytest.mark.parametrize(("method", "rtol"), [(None, 1e-7), (diffrax.Kvaerno3(), 1e-5)], ids=["pair", "implicit"])
def test_thinned_steps_give_the_gradient_of_all_steps(method, rtol):
    """Room for 128 steps against room for all: the steps between kept ones are taken again."""

    @eqx.filter_jit
    def loss(a, gradient):
        flow = sx.as_flow(lambda t, x: jnp.stack([x[1], -a * x[0] + jnp.sin(t)]))
        path = sx.evolve(
            flow,
            jnp.array([1.0, 0.2]),
            times=jnp.array([0.1, 3.0, 7.0, 60.0]),
            rtol=rtol,
            max_steps=4000,
            method=method,
            gradient=gradient,
        )
        return jnp.sum(path.states**2), path.stats["accepted"]

    both = [
        eqx.filter_jit(jax.value_and_grad(loss, has_aux=True))(1.3, gradient) for gradient in ("replay", "checkpoint")
    ]
    assert both[0][0][1] > 2 * 128
    np.testing.assert_allclose(both[1][1], both[0][1], rtol=1e-9)
    assert both[0][0][0] == both[1][0][0] == loss(1.3, "replay")[0]
