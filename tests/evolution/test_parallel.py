"""Newton over the sequence against the sequential loop, closed forms and the sequential gradient."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.evolution.parallel import Parallel, evolve_parallel, evolve_parallel_map
from separatrix.evolution.save import resolve

EPS = float(np.finfo(np.float64).eps)
METHODS = [Parallel(), Parallel("diagonal"), Parallel("diagonal", probes=3), Parallel("damped", damping=0.3)]


class Network(sx.Map):
    """x -> tanh(W x + b + sin n): time dependent, with an asymmetric Jacobian."""

    weights: jax.Array
    bias: jax.Array

    def step(self, n, state, *, key=None):
        return jnp.tanh(self.weights @ state + self.bias + jnp.sin(jnp.asarray(n).astype(state.dtype)))


def network(gain: float = 0.8, size: int = 5) -> Network:
    weights = gain * jax.random.normal(jax.random.key(0), (size, size)) / np.sqrt(size)
    return Network(weights, 0.1 * jnp.arange(size, dtype=weights.dtype))


def sequential(map, state, steps, key=None, start=0):
    """x[0], ..., x[N] by a Python loop's scan, the oracle of this file."""

    def step(x, n):
        y = map.step(n, x, key=None if key is None else jax.random.fold_in(key, n))
        return y, y

    rows = jax.lax.scan(step, state, start + jnp.arange(steps))[1]
    return jax.tree.map(lambda x, r: jnp.concatenate([jnp.asarray(x)[None], r]), state, rows)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.variant}{m.probes}")
def test_equals_the_sequential_loop(method):
    map, state = network(), jnp.linspace(-1.0, 1.0, 5)
    found = evolve_parallel(map, state, 60, method, start=7)
    assert bool(found.converged)
    assert float(found.residual) <= 100 * EPS
    # One-step errors of 100 eps, summed along a contracting map: at most some ten of them.
    np.testing.assert_allclose(found.states, sequential(map, state, 60, start=7), atol=2e-13)


def test_contraction_takes_few_rounds_whatever_the_length():
    map, state = network(0.5), jnp.ones(5)
    short, long = (int(evolve_parallel(map, state, steps, Parallel()).iterations) for steps in (40, 640))
    assert short <= 8 and abs(long - short) <= 1
    assert long < int(evolve_parallel(map, state, 640, Parallel("diagonal")).iterations)


@pytest.mark.parametrize("variant", ["full", "damped"])
def test_linear_recurrence_in_one_newton_step(variant):
    """x[n+1] = A x[n] + c: the linearisation is the map, and x[n] = A^n x[0] + (A^n - 1)(A - 1)^{-1} c."""
    a = jnp.array([[0.9, 0.3], [-0.2, 0.8]])
    c = jnp.array([0.5, -1.0])
    found = evolve_parallel(sx.as_map(lambda x: a @ x + c), jnp.array([1.0, 2.0]), 30, Parallel(variant, damping=0.0))
    assert int(found.iterations) == 1
    power = np.linalg.matrix_power(np.asarray(a), 30)
    shift = (power - np.eye(2)) @ np.linalg.solve(np.asarray(a) - np.eye(2), np.asarray(c))
    np.testing.assert_allclose(found.states[-1], power @ np.array([1.0, 2.0]) + shift, rtol=1e-13)


def test_diagonal_is_newton_where_the_jacobian_is_diagonal():
    map, state = sx.as_map(lambda x: jnp.sin(0.9 * x) + 0.3), jnp.array([0.1, 1.0, -2.0])
    rounds = [int(evolve_parallel(map, state, 50, m).iterations) for m in METHODS[:3]]
    assert rounds[0] == rounds[1] == rounds[2] <= 10


@pytest.mark.parametrize("variant", ["full", "diagonal", "damped"])
def test_chaos_needs_many_rounds_and_is_still_right(variant):
    """Logistic map at r = 4 from sin^2: x[n] = sin^2(2^n theta), until 2^n rounding errors fill the interval."""
    theta = 0.3
    logistic = sx.as_map(lambda x: 4.0 * x * (1.0 - x))
    found = evolve_parallel(logistic, jnp.sin(theta) ** 2, 60, Parallel(variant))
    assert bool(found.converged)
    assert 20 <= int(found.iterations) <= 60
    n = np.arange(25)
    np.testing.assert_allclose(found.states[:25], np.sin(2.0**n * theta) ** 2, atol=2.0**25 * 200 * EPS)
    x = np.asarray(found.states)
    np.testing.assert_allclose(x[1:], 4.0 * x[:-1] * (1.0 - x[:-1]), atol=200 * EPS)


def test_after_k_rounds_the_first_k_states_are_right():
    logistic, state, steps = sx.as_map(lambda x: 3.9 * x * (1.0 - x)), jnp.array(0.2), 30
    truth = sequential(logistic, state, steps)
    for rounds, variant in itertools.product((1, 5, 17), ("full", "diagonal")):
        found = evolve_parallel(logistic, state, steps, Parallel(variant, max_iterations=rounds))
        assert int(found.settled) >= rounds
        # Some ulp of one step, multiplied by at most 3.9 a step.
        np.testing.assert_allclose(found.states[: rounds + 1], truth[: rounds + 1], rtol=4 * EPS * 3.9**rounds)


def test_overflowing_corrections_do_no_harm():
    """Products of the derivatives 2 x of x -> x^2 / 2^... pass 1e308, and the guess itself overflows under F."""
    grows = sx.as_map(lambda x: jnp.where(x < 1e3, 2.0 * x + x**3, jnp.exp(-x)))
    found = evolve_parallel(grows, jnp.array(0.5), 40, Parallel())
    assert bool(found.converged)
    np.testing.assert_allclose(found.states, sequential(grows, jnp.array(0.5), 40), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda m: m.variant)
def test_gradient_is_the_sequential_gradient(method):
    def loss(run, map, state):
        rows = run(map, state)
        return jnp.sum(rows[-1] ** 2) + jnp.sum(jnp.sin(rows[11]))

    map, state = network(), jnp.linspace(-1.0, 1.0, 5)
    for mode in (eqx.filter_grad, lambda f: eqx.filter_jit(eqx.filter_grad(f))):
        parallel = mode(lambda args: loss(lambda m, x: evolve_parallel(m, x, 40, method).states, *args))((map, state))
        plain = mode(lambda args: loss(lambda m, x: sequential(m, x, 40), *args))((map, state))
        for ours, theirs in zip(jax.tree.leaves(parallel), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_gradient_of_a_closed_over_array_and_finite_differences():
    def end(a):
        map = sx.as_map(lambda x: jnp.cos(a * x))
        return evolve_parallel(map, jnp.array(0.4), 12, Parallel()).states[-1]

    a, h = jnp.array(0.9), 1e-6
    difference = (end(a + h) - end(a - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(end)(a), difference, rtol=1e-8)  # h^2 + eps / h
    np.testing.assert_allclose(jax.jvp(end, (a,), (jnp.ones(()),))[1], jax.grad(end)(a), rtol=1e-12)


@pytest.mark.parametrize("variant", ["full", "diagonal"])
def test_second_derivative(variant):
    map = network(size=3)

    def loss(run):
        return lambda x: jnp.sum(run(map, x) ** 2)

    state = jnp.array([0.3, -0.2, 0.5])
    ours = jax.hessian(loss(lambda m, x: evolve_parallel(m, x, 10, Parallel(variant)).states))(state)
    np.testing.assert_allclose(ours, jax.hessian(loss(lambda m, x: sequential(m, x, 10)))(state), atol=1e-12)


def test_random_map_draws_step_n_from_fold_in():
    map = sx.as_map(lambda n, x, key: 0.7 * jnp.sin(x) + jax.random.normal(key, x.shape, x.dtype))
    state, key = jnp.ones(3), jax.random.key(5)
    found = evolve_parallel(map, state, 25, Parallel(), key=key, start=4)
    np.testing.assert_allclose(found.states, sequential(map, state, 25, key, 4), atol=1e-13)


def test_pytree_state_with_complex_single_and_counter_leaves():
    def step(state):
        count = state["count"] + 1
        pull = 1.0 / count.astype(jnp.float64)
        z = 0.5 * jnp.conj(state["z"]) * jnp.exp(jax.lax.complex(0.0 * pull, pull))
        return {
            "count": count,
            "z": z,
            "x": jnp.tanh(state["x"] + 0.1 * jnp.abs(z).astype(jnp.float32)),
            "odd": ~state["odd"],
        }

    state = {
        "count": jnp.array(0),
        "z": jnp.array([1.0 + 1.0j, 0.5 - 2.0j]),
        "x": jnp.ones(2, jnp.float32),
        "odd": jnp.array(False),
    }
    found = evolve_parallel(sx.as_map(step), state, 20, Parallel())
    truth = sequential(sx.as_map(step), state, 20)
    assert bool(found.converged)
    for ours, theirs in zip(jax.tree.leaves(found.states), jax.tree.leaves(truth), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=20 * float(np.finfo(np.float32).eps))
    np.testing.assert_array_equal(found.states["count"], np.arange(21))


def test_vmap_equals_a_loop():
    map, states = network(), jax.random.normal(jax.random.key(2), (3, 5))
    batch = jax.vmap(lambda x: evolve_parallel(map, x, 20, Parallel()).states)(states)
    for row, state in zip(batch, states, strict=True):
        np.testing.assert_allclose(row, evolve_parallel(map, state, 20, Parallel()).states, atol=1e-13)


def test_float32_meets_its_own_tolerance():
    map = eqx.tree_at(lambda m: (m.weights, m.bias), network(), replace_fn=lambda leaf: leaf.astype(jnp.float32))
    found = evolve_parallel(map, jnp.ones(5, jnp.float32), 60, Parallel())
    assert found.states.dtype == jnp.float32 and bool(found.converged)
    truth = sequential(network(), jnp.ones(5), 60)
    np.testing.assert_allclose(found.states, truth, atol=1e-4)  # 100 eps = 1.2e-5 a step, contracting


def run(map, state, steps, method, save="all", key=None, start=0):
    return evolve_parallel_map(map, state, steps=steps, method=method, key=key, save=resolve(save), start=start)


def test_trajectory_reports_rounds_and_rows():
    map, state = network(), jnp.ones(5)
    path = run(map, state, 30, Parallel(), save=sx.evolution.Save(at=10, fn=jnp.sum), start=2)
    truth = sequential(map, state, 30, start=2)
    assert str(path.outcome) == "completed"
    assert 1 <= int(path.stats["iterations"]) <= 10 and int(path.stats["steps"]) == 30
    np.testing.assert_array_equal(path.times, [2, 12, 22, 32])
    np.testing.assert_allclose(path.states, truth[::10].sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(path.final, truth[-1], atol=1e-12)


def test_too_few_rounds_is_a_step_limit_never_completed():
    path = run(sx.as_map(lambda x: 4.0 * x * (1.0 - x)), jnp.array(0.3), 50, Parallel(max_iterations=10))
    settled = int(path.stats["steps"])
    assert path.outcome.name == "step_limit" and 10 <= settled < 50
    assert float(path.outcome.at) == settled
    assert np.isfinite(path.states[: settled + 1]).all() and np.isnan(path.states[settled + 1 :]).all()
    np.testing.assert_allclose(path.last, path.states[settled])


def test_a_break_is_found_at_its_step():
    """x -> x^2 from 10: 10^(2^n) is finite up to n = 8 in float64."""
    path = run(sx.as_map(lambda x: x**2), jnp.array(10.0), 40, Parallel())
    assert path.outcome.name == "non_finite" and float(path.outcome.at) == 9
    np.testing.assert_allclose(path.last, 1e256, rtol=1e-12)
    assert np.isnan(path.states[9:]).all() and np.isfinite(path.states[:9]).all()


def test_no_steps():
    path = run(network(), jnp.ones(5), 0, Parallel())
    np.testing.assert_array_equal(path.states, np.ones((1, 5)))
    assert str(path.outcome) == "completed"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("variant", "newton", 'one of "full"'), ("max_iterations", 0, ">= 1"), ("tol", 0.0, "> 0"),
     ("damping", 1.0, "in [0, 1)"), ("probes", -1, ">= 0")],
)  # fmt: skip
def test_refuses_bad_settings(field, value, words):
    with pytest.raises(Exception) as caught:
        Parallel(**{field: value})
    message = str(caught.value)
    assert field in message and repr(value) in message
    assert field == "variant" or words in message


def test_refuses_an_integer_state():
    with pytest.raises(ValueError, match="integers only") as caught:
        evolve_parallel(sx.as_map(lambda n: n + 1), jnp.array(3), 4, Parallel())
    assert "without method=" in str(caught.value)


def test_front_door_gives_the_sequential_trajectory():
    """A near-identity map over its own time, by `evolve`, with and without Newton."""
    oscillator = sx.discretize(sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])])), sx.RK4(), 0.05)
    state = jnp.array([1.0, 0.0])
    plain = sx.evolve(oscillator, state, times=(0.0, 2.0))
    parallel = sx.evolve(oscillator, state, times=(0.0, 2.0), method=sx.Parallel())
    np.testing.assert_allclose(parallel.times, plain.times)
    np.testing.assert_allclose(parallel.states, plain.states, atol=1e-12)
    assert str(parallel.outcome) == "completed" and 1 <= int(parallel.stats["iterations"]) <= 12


def test_a_second_call_does_not_compile_again():
    traces = []

    def step(x):
        traces.append(None)
        return jnp.tanh(x)

    map = sx.as_map(step)
    for value in (1.0, 2.0):
        evolve_parallel(map, jnp.array([value]), 9, Parallel())
        traced = len(traces) if value == 1.0 else traced
    assert len(traces) == traced
