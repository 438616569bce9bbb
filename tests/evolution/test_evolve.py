"""The front door: what is kept, how it ends, what is refused, and that it goes through jit, vmap and grad."""

import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.evolution import maps

HALVING = sx.as_map(lambda x: 0.5 * x)
LOGISTIC = sx.as_map(lambda x: 4.0 * x * (1.0 - x))
DECAY = sx.as_flow(lambda x: -x)
NOISE = sx.as_sde(lambda x: -x, lambda x: 0.1)
POWERS = 8.0 * 0.5 ** np.arange(11.0)


@pytest.mark.parametrize(
    ("save", "kept"),
    [
        ("all", range(11)),
        ("last", [10]),
        (5, [0, 5, 10]),
        (3, [0, 3, 6, 9]),
        (np.array([0, 1, 7]), [0, 1, 7]),
        ([2, 10], [2, 10]),
        (sx.Save(at=4), [0, 4, 8]),
    ],
    ids=str,
)
def test_rows_kept_of_a_map(save, kept):
    path = sx.evolve(HALVING, 8.0, steps=10, save=save)
    np.testing.assert_array_equal(path.times, list(kept))
    np.testing.assert_array_equal(path.states, POWERS[list(kept)])
    assert float(path.final) == POWERS[10]
    assert int(path.stats["steps"]) == 10


def test_a_function_of_the_state_is_kept():
    path = sx.evolve(HALVING, jnp.array([8.0, 4.0]), steps=4, save=jnp.sum)
    np.testing.assert_array_equal(path.states, [12.0, 6.0, 3.0, 1.5, 0.75])
    assert path.final.shape == (2,)


def test_chunks_change_nothing(monkeypatch):
    """An orbit run in chunks of 7 with the host between is that of one scan."""
    whole = sx.evolve(LOGISTIC, 0.3, steps=100, save=[0, 35, 70, 100])
    monkeypatch.setattr(maps, "_CHUNK_STEPS", 7)
    calls = []
    chunked = sx.evolve(LOGISTIC, 0.3, steps=100, save=[0, 35, 70, 100], progress=lambda *done: calls.append(done))
    np.testing.assert_array_equal(whole.states, chunked.states)
    assert calls[-1] == (100, 100)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    every = sx.evolve(LOGISTIC, 0.3, steps=100)
    np.testing.assert_array_equal(every.states[::35], whole.states[:3])


def test_a_long_orbit_keeps_its_observable_only():
    """Ten million doublings of an angle, by a rotation that never repeats: mean of the cosine tends to 0 like 1/n."""
    turn = sx.as_map(lambda x: jnp.stack([jnp.mod(x[0] + 0.6180339887498949, 1.0), x[1] + jnp.cos(2 * jnp.pi * x[0])]))
    path = sx.evolve(turn, jnp.zeros(2), steps=10_000_000, save=sx.Save(5_000_000, lambda x: x[1]))
    assert path.states.shape == (3,)
    # |sum of e^{2 pi i k a}| <= 1/|sin(pi a)| for any number of terms.
    assert abs(float(path.states[-1])) < 1 / np.sin(np.pi * 0.6180339887498949) + 1e-3


def test_a_map_that_breaks_says_when_and_keeps_the_last_good_state():
    path = sx.evolve(sx.as_map(lambda x: x**2), 10.0, steps=20)
    # 10^(2^8) = 1e256 is the last power below 1.8e308.
    assert path.outcome.name == "non_finite"
    assert float(path.outcome.at) == 9
    assert float(path.last) == pytest.approx(1e256) and float(path.last_time) == 8
    assert np.isnan(path.final)
    assert not bool(path.outcome.completed)
    assert np.isfinite(path.states[:9]).all() and np.isnan(path.states[9:]).all()


def test_fixed_steps_that_overflow_never_say_completed():
    """diffrax's constant steps report success here."""
    path = sx.evolve(sx.as_flow(lambda x: x**2), 2.0, times=(0.0, 2.0), step_size=0.1)
    assert path.outcome.name == "non_finite"
    assert np.isfinite(float(path.last)) and np.isnan(path.final)
    assert 0.5 < float(path.outcome.at) < 2.0
    stepped = sx.evolve(
        sx.as_flow(lambda x: x**2), 2.0, times=(0.0, 2.0), method=diffrax.Tsit5(), step_size=0.1, save="last"
    )
    assert stepped.outcome.name != "completed"


def test_step_limit_marks_what_was_not_reached():
    path = sx.evolve(DECAY, 1.0, times=jnp.linspace(0.0, 100.0, 11), max_steps=3)
    assert path.outcome.name == "step_limit"
    assert np.isnan(path.states[-1])
    assert np.isfinite(float(path.last)) and np.isnan(path.final)


def test_resuming_equals_never_having_stopped():
    descent = sx.optimization.GradientDescent(
        lambda x, *, key: 0.5 * jnp.sum((x - jax.random.normal(key, x.shape)) ** 2), 0.1
    )
    key = jax.random.key(3)
    whole = sx.evolve(descent, jnp.zeros(3), steps=50, key=key)
    first = sx.evolve(descent, jnp.zeros(3), steps=20, key=key)
    second = sx.evolve(descent, first.final, steps=30, start=20, key=key)
    np.testing.assert_array_equal(whole.final, second.final)
    np.testing.assert_array_equal(whole.states[20:], second.states)


@pytest.mark.parametrize(
    "run",
    [
        lambda x: sx.evolve(HALVING, x, steps=5).final,
        lambda x: sx.evolve(DECAY, x, times=(0.0, 1.0), step_size=0.1).final,
        lambda x: sx.evolve(DECAY, x, times=(0.0, 1.0), rtol=1e-9, atol=1e-12).final,
        lambda x: sx.evolve(NOISE, x, times=(0.0, 1.0), step_size=0.1, key=jax.random.key(0)).final,
        pytest.param(
            lambda x: sx.evolve(DECAY, x, times=(0.0, 1.0), method=diffrax.Kvaerno5(), rtol=1e-8, atol=1e-8).final,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["map", "fixed", "adaptive", "sde", "implicit"],
)
def test_under_jit_vmap_and_grad(run):
    states = jnp.array([[1.0, 2.0], [0.5, -1.0]])
    plain = jnp.stack([run(x) for x in states])
    np.testing.assert_allclose(jax.jit(run)(states[0]), plain[0], rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(run)(states), plain, rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(run(x)))(states[0])
    h = 1e-5
    for i, e in enumerate(np.eye(2)):
        measured = (run(states[0] + h * e).sum() - run(states[0] - h * e).sum()) / (2 * h)
        np.testing.assert_allclose(slope[i], measured, rtol=1e-6)


def test_gradient_in_a_parameter_and_in_the_step_size():
    def end(rate, step_size):
        flow = sx.as_flow(eqx.Partial(lambda rate, x: -rate * x, rate))
        return sx.evolve(flow, 1.0, steps=10, step_size=step_size, method=sx.Euler(), save="last").final

    # (1 - r h)^10
    slopes = jax.grad(end, argnums=(0, 1))(0.5, 0.1)
    np.testing.assert_allclose(slopes, (-10 * 0.1 * 0.95**9, -10 * 0.5 * 0.95**9), rtol=1e-12)


@pytest.mark.parametrize("save", [np.array([0.3, 0.7]), np.array([0.0, 1.0]), "all", "last"], ids=str)
@pytest.mark.parametrize("memory", ["linear", "sqrt"])
def test_rows_of_fixed_and_adaptive_flows_lie_at_their_times(save, memory):
    times = np.array([0.0, 0.5, 1.0])
    kept = {"all": times, "last": times[-1:]}[save] if isinstance(save, str) else save
    adaptive = sx.evolve(DECAY, 1.0, times=times, save=save, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(adaptive.times, kept)
    np.testing.assert_allclose(adaptive.states, np.exp(-kept), rtol=1e-8)
    fixed = sx.evolve(DECAY, 1.0, times=times, step_size=0.01, save=save, memory=memory)
    np.testing.assert_allclose(fixed.times[-1], kept[-1])
    np.testing.assert_allclose(fixed.states, np.exp(-np.asarray(fixed.times)), rtol=1e-9)


def test_a_pytree_state_of_mixed_shapes():
    flow = sx.as_flow(lambda s: {"q": s["p"], "p": -s["q"]})
    start = {"q": jnp.eye(2), "p": jnp.zeros((2, 2))}
    path = sx.evolve(flow, start, times=(0.0, np.pi / 2), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(path.final["p"], -np.eye(2), atol=1e-8)


def test_float32_tolerance_it_cannot_meet_is_told_and_raised():
    with pytest.warns(UserWarning, match=r"(?s)rtol.*got 1e-12.*at least 1\.2e-06 in float32"):
        path = sx.evolve(DECAY, jnp.float32(1.0), times=(0.0, 1.0), rtol=1e-12)
    assert path.final.dtype == jnp.float32
    np.testing.assert_allclose(path.final, np.exp(-1.0), rtol=1e-5)


TWO = jnp.ones(2)

REFUSED = {
    "plain function": (lambda: sx.evolve(lambda x: x, TWO, steps=1), TypeError, "as_map, as_flow, as_sde"),
    "open system": (
        lambda: sx.evolve(sx.as_open_map(lambda x, u: x + u), TWO, steps=1),
        TypeError,
        "waits for an input.*drive",
    ),
    "NaN in the state": (
        lambda: sx.evolve(HALVING, {"a": jnp.array([1.0, jnp.nan])}, steps=1),
        ValueError,
        r"state\['a'\]\[1\].*got nan",
    ),
    "infinite state": (lambda: sx.evolve(HALVING, jnp.array([[1.0], [jnp.inf]]), steps=1), ValueError, r"\[1, 0\].*inf"),
    "NaN in a parameter": (
        lambda: sx.evolve(sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.nan), 0.1), TWO, steps=1),
        ValueError,
        r"GradientDescent.*objective\.curvature.*nan",
    ),
    "empty state": (lambda: sx.evolve(HALVING, {}, steps=1), ValueError, "empty tree"),
    "empty array": (lambda: sx.evolve(HALVING, jnp.zeros((0, 2)), steps=1), ValueError, r"\(0, 2\).*at least one number"),
    "a word in the state": (lambda: sx.evolve(HALVING, {"x": "one"}, steps=1), TypeError, r"\['x'\].*str"),
    "integer state of a flow": (lambda: sx.evolve(DECAY, jnp.array([1]), times=(0.0, 1.0)), TypeError, "int64.*floating"),
    "wrong shape back": (lambda: sx.evolve(sx.as_map(lambda x: x[:1]), TWO, steps=1), ValueError, "FunctionMap.step"),
    "wrong dtype back": (
        lambda: sx.evolve(sx.as_map(lambda x: x.astype(jnp.float32)), TWO, steps=1),
        ValueError,
        "float32",
    ),
    "wrong structure back": (lambda: sx.evolve(sx.as_map(lambda x: (x, x)), TWO, steps=1), ValueError, "structure"),
    "no steps": (lambda: sx.evolve(HALVING, TWO), ValueError, "steps=100"),
    "negative steps": (lambda: sx.evolve(HALVING, TWO, steps=-1), ValueError, "-1.*>= 0"),
    "fractional steps": (lambda: sx.evolve(HALVING, TWO, steps=2.5), ValueError, "2.5.*whole"),
    "seed for a key": (lambda: sx.evolve(HALVING, TWO, steps=1, key=7), TypeError, r"jax\.random\.key"),
    "no key": (lambda: sx.evolve(NOISE, TWO, times=(0.0, 1.0), step_size=0.1), ValueError, "key=None"),
    "no times": (lambda: sx.evolve(DECAY, TWO), ValueError, "from when to when"),
    "one time": (lambda: sx.evolve(DECAY, TWO, times=[1.0]), ValueError, r"\(t0, t1\)"),
    "times backwards": (lambda: sx.evolve(DECAY, TWO, times=(1.0, 0.0)), ValueError, "increasing.*reverse"),
    "NaN in times": (lambda: sx.evolve(DECAY, TWO, times=(0.0, jnp.nan)), ValueError, "times.*finite"),
    "unknown save": (lambda: sx.evolve(HALVING, TWO, steps=1, save="some"), ValueError, "'some'"),
    "save past the end": (lambda: sx.evolve(HALVING, TWO, steps=3, save=[5]), ValueError, "0 to 3"),
    "save out of order": (lambda: sx.evolve(HALVING, TWO, steps=3, save=[2, 1]), ValueError, "increasing"),
    "save outside the times": (
        lambda: sx.evolve(DECAY, TWO, times=(0.0, 1.0), save=[0.5, 2.0]),
        ValueError,
        "within 0 to 1",
    ),
    "every k of adaptive steps": (lambda: sx.evolve(DECAY, TWO, times=(0.0, 1.0), save=3), ValueError, "step_size="),
    "step size for a map": (lambda: sx.evolve(HALVING, TWO, steps=1, step_size=0.1), ValueError, "own step_size"),
    "times for a map": (lambda: sx.evolve(HALVING, TWO, times=(0.0, 1.0)), ValueError, "steps="),
    "a flow's method for a map": (lambda: sx.evolve(HALVING, TWO, steps=1, method=sx.RK4()), TypeError, "Parallel"),
    "no instance": (lambda: sx.evolve(DECAY, TWO, times=(0.0, 1.0), method=diffrax.Tsit5), TypeError, "instance"),
    "negative tolerance": (lambda: sx.evolve(DECAY, TWO, times=(0.0, 1.0), rtol=-1.0), ValueError, "-1.0"),
    "unknown gradient": (
        lambda: sx.evolve(DECAY, TWO, times=(0.0, 1.0), gradient="adjoint"),
        ValueError,
        "replay, checkpoint, continuous, forward",
    ),
    "layers used up": (
        lambda: sx.evolve(sx.from_layers([jnp.tanh, jnp.sin]), TWO, steps=3),
        ValueError,
        "at most 2",
    ),
    "optax state missing": (
        lambda: sx.evolve(sx.from_optax(sx.optimization.Quadratic(1.0), optax.adam(0.1)), TWO, steps=1),
        (TypeError, ValueError),
        r"init",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_told_in_one_message(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as told:
        call()
    message = str(told.value)
    assert re.search(words, message, re.DOTALL), message
    assert len(message.splitlines()) <= 3
    assert "Traceback" not in message and "jaxpr" not in message


def test_second_call_of_the_same_shape_does_not_compile():
    count = 0

    class Counted(sx.Flow):
        rate: jax.Array

        def velocity(self, t, state):
            nonlocal count
            count += 1
            return -self.rate * state

    sx.evolve(Counted(jnp.asarray(1.0)), 1.0, times=(0.0, 1.0), rtol=1e-6)
    before = count
    sx.evolve(Counted(jnp.asarray(2.0)), 3.0, times=(0.0, 2.0), rtol=1e-7)
    assert count == before


def test_a_value_that_is_traced_out_of_sight_is_differentiated():
    # x_N = k^N x_0 with k in the closure of a function: dx/dk = N k^(N - 1) x_0; the state itself is not traced.
    def end(k, **options):
        return sx.evolve(sx.as_map(lambda x: k * x), jnp.asarray(2.0), steps=5, **options).final

    for options in ({}, {"save": "last"}, {"memory": "sqrt", "save": "last"}, {"save": np.array([2, 5])}):
        slope = jax.grad(lambda k, o=options: end(k, **o))(1.1)
        assert float(slope) == pytest.approx(5 * 1.1**4 * 2, rel=1e-12)
    assert float(jax.jit(end)(1.1)) == pytest.approx(2 * 1.1**5, rel=1e-12)
    np.testing.assert_allclose(jax.vmap(end)(jnp.array([1.1, 0.5])), [2 * 1.1**5, 2 * 0.5**5], rtol=1e-12)


def test_rows_at_uneven_steps_are_those_of_all_steps():
    doubling = sx.as_map(lambda n, x: x + n)
    every = sx.evolve(doubling, jnp.asarray(0), steps=1003).states
    kept = [0, 1, 7, 640, 1003]
    some = sx.evolve(doubling, jnp.asarray(0), steps=1003, save=np.array(kept))
    assert some.states.tolist() == every[np.array(kept)].tolist() == [n * (n - 1) // 2 for n in kept]
    late = sx.evolve(doubling, jnp.asarray(0), steps=20, start=5, save=np.array([8]))
    assert late.states.tolist() == [5 + 6 + 7] and int(late.final) == sum(range(5, 25))


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 1000])
def test_a_break_is_dated_whatever_the_rows(steps):
    # 2^(2^n) overflows at n = 10.
    squaring = sx.as_map(lambda x: x * x)
    for save in ("all", "last", np.array([0, steps])):
        path = sx.evolve(squaring, jnp.asarray(2.0), steps=steps, save=save)
        assert bool(path.outcome.completed) == (steps < 10)
        if steps >= 10:
            assert (float(path.outcome.at), int(path.last_time), float(path.last)) == (10, 9, 2.0**512)
            assert np.isnan(path.states[-1])
