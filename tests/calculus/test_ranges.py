"""What a verb or a method is made with is checked where it is made, by name."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

FLOW, SDE = sx.as_flow(lambda x: -x), sx.as_sde(lambda x: -x, lambda x: 0.5)
BOWL = sx.optimization.Quadratic(1.0)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("step_size", [0.0, NAN, INF, -INF])
def test_step_sizes_are_finite_and_not_zero(step_size):
    with pytest.raises(ValueError, match=r"discretize: step_size\n  got .*, expected a finite number other than 0"):
        sx.discretize(FLOW, sx.Euler(), step_size)
    with pytest.raises(ValueError, match="as_near_identity: step_size"):
        sx.as_near_identity(lambda t, x, h: x + h * x, step_size)


def test_a_negative_step_runs_a_flow_back_and_is_refused_for_noise():
    forth, back = (sx.discretize(FLOW, sx.ImplicitMidpoint(), h) for h in (0.1, -0.1))
    x = jnp.array([0.7])
    # The midpoint rule is symmetric.
    np.testing.assert_allclose(back.step(0, forth.step(0, x)), x, rtol=1e-13)
    with pytest.raises(ValueError, match="above 0, for an SDE"):
        sx.discretize(SDE, sx.EulerMaruyama(), -0.1)


@pytest.mark.parametrize(
    ("grid", "got"),
    [
        ([0.0, 1.0, NAN, 2.0], r"t\[2\] = nan"),
        ([0.0, INF], r"t\[1\] = inf"),
        ([0.0, 1.0, 0.5], r"t\[1\] = 1, t\[2\] = 0.5"),
        ([0.0, 1.0, 1.0], r"t\[1\] = 1, t\[2\] = 1"),
        ([0.0, 0.0, 1.0], r"t\[0\] = 0, t\[1\] = 0"),
    ],
)
def test_a_grid_goes_one_way(grid, got):
    for system, method in ((FLOW, sx.Euler()), (SDE, sx.EulerMaruyama())):
        with pytest.raises(ValueError, match=rf"on_grid: grid\n  got {got}, expected finite times that rise"):
            sx.on_grid(system, method, jnp.array(grid))


def test_a_falling_grid_is_for_flows():
    with pytest.raises(ValueError, match=r"t\[1\] = 1, t\[2\] = 1.5"):
        sx.on_grid(FLOW, sx.Euler(), jnp.array([2.0, 1.0, 1.5]))
    fell = sx.evolve(sx.on_grid(FLOW, sx.Euler(), jnp.array([1.0, 0.75, 0.25])), jnp.array(1.0)).final
    assert float(fell) == 1.25 * 1.5
    with pytest.raises(ValueError, match=r"(?s)t\[0\] = 1, t\[1\] = 0.75.*reverse\(sde"):
        sx.on_grid(SDE, sx.EulerMaruyama(), jnp.array([1.0, 0.75, 0.25]))


def test_steps_of_a_grid_draw_from_their_own_keys_and_times():
    grid, key, x = jnp.array([0.5, 0.75, 2.0]), jax.random.key(8), jnp.array([0.7, -0.4])
    sde = sx.as_sde(lambda t, x: -t * x, lambda t, x: t)
    path = sx.evolve(sx.on_grid(sde, sx.EulerMaruyama(), grid), x, key=key)
    for n, (t, h) in enumerate([(0.5, 0.25), (0.75, 1.25)]):
        x = x - t * x * h + t * h**0.5 * jax.random.normal(jax.random.fold_in(key, n), (2,))
        np.testing.assert_allclose(path.states[n + 1], x, rtol=1e-12)


def test_a_grid_takes_methods_of_its_kind():
    grid = jnp.array([0.0, 1.0])
    with pytest.raises(TypeError, match="on_grid of a Flow"):
        sx.on_grid(FLOW, sx.Milstein(), grid)
    with pytest.raises(TypeError, match="on_grid of an SDE"):
        sx.on_grid(SDE, sx.RK4(), grid)


@pytest.mark.parametrize("order", [-1, True])
def test_orders_are_whole(order):
    descent = sx.optimization.GradientDescent(BOWL, 0.1)
    with pytest.raises(ValueError, match="modified: corrections"):
        sx.modified(descent, order)
    with pytest.raises(ValueError, match="diffusion_limit: order"):
        sx.diffusion_limit(descent, order, key=jax.random.key(0))


@pytest.mark.parametrize("samples", [1, True])
def test_samples_are_counted(samples):
    with pytest.raises(ValueError, match="diffusion_limit: samples"):
        sx.diffusion_limit(sx.optimization.GradientDescent(BOWL, 0.1), key=jax.random.key(0), samples=samples)


RATES = {
    "GradientDescent: step_size": lambda rate: sx.optimization.GradientDescent(BOWL, rate),
    "HeavyBall: learning_rate": lambda rate: sx.optimization.HeavyBall(BOWL, rate, 0.9),
    "Nesterov: learning_rate": lambda rate: sx.optimization.Nesterov(BOWL, rate),
    "Newton: step_size": lambda rate: sx.optimization.Newton(BOWL, rate),
    "GaussNewton: step_size": lambda rate: sx.optimization.GaussNewton(lambda p: p, rate),
    "NaturalGradient: step_size": lambda rate: sx.optimization.NaturalGradient(BOWL, lambda p, v: v, rate),
    "ElasticAveraging: step_size": lambda rate: sx.optimization.ElasticAveraging(BOWL, rate, 1.0, 2),
    "LocalDescent: learning_rate": lambda rate: sx.optimization.LocalDescent(BOWL, rate, 2, 2),
    "Downpour: step_size": lambda rate: sx.optimization.Downpour(BOWL, rate, 2),
    "DelayedDescent: step_size": lambda rate: sx.optimization.DelayedDescent(BOWL, rate, 1),
    "StaleDescent: step_size": lambda rate: sx.optimization.StaleDescent(BOWL, rate, 1),
    "DelayCompensatedDescent: step_size": lambda rate: sx.optimization.DelayCompensatedDescent(BOWL, rate, 1, 0.1),
    "CentralFlow: step_size": lambda rate: sx.optimization.CentralFlow(BOWL, rate),
    "Adam: learning_rate": lambda rate: sx.optimization.Adam(BOWL, rate),
    "SGLD: step_size": lambda rate: sx.optimization.SGLD(BOWL, rate, 1.0),
}


@pytest.mark.parametrize("name", RATES)
def test_rates_are_above_zero(name):
    for rate in (-0.1, 0.0, NAN, INF):
        with pytest.raises(ValueError, match=rf"{name}\n  got .*, expected a finite number above 0"):
            RATES[name](rate)
    # A traced one cannot be looked at, and passes.
    jax.vmap(lambda rate: RATES[name](rate).step_size)(jnp.array([0.1, 0.2]))


OTHERS = {
    "HeavyBall: momentum": (lambda value: sx.optimization.HeavyBall(BOWL, 0.1, value), (2.0, -0.1, NAN)),
    "Nesterov: momentum": (lambda value: sx.optimization.Nesterov(BOWL, 0.1, value), (2.0, -0.1, NAN)),
    "ElasticAveraging: attraction": (
        lambda value: sx.optimization.ElasticAveraging(BOWL, 0.1, value, 2),
        (-1.0, NAN, INF),
    ),
    "DelayCompensatedDescent: strength": (
        lambda value: sx.optimization.DelayCompensatedDescent(BOWL, 0.1, 1, value),
        (-1.0, NAN),
    ),
    "CentralFlow: resolution": (lambda value: sx.optimization.CentralFlow(BOWL, 0.1, value), (0.0, -1.0, NAN)),
    "CentralFlow: tol": (lambda value: sx.optimization.CentralFlow(BOWL, 0.1, tol=value), (0.0, NAN)),
    "Newton: damping": (lambda value: sx.optimization.Newton(BOWL, damping=value), (-1.0, NAN)),
    "Adam: eps": (lambda value: sx.optimization.Adam(BOWL, 0.1, eps=value), (-1e-8, NAN)),
    "Adam: b1": (lambda value: sx.optimization.Adam(BOWL, 0.1, b1=value), (1.0, -0.1, NAN)),
    "AdamW: weight_decay": (lambda value: sx.optimization.AdamW(BOWL, 0.1, weight_decay=value), (-0.1, NAN)),
    "Lion: weight_decay": (lambda value: sx.optimization.Lion(BOWL, 0.1, weight_decay=value), (-0.1, NAN)),
    "Adagrad: initial_accumulator": (lambda value: sx.optimization.Adagrad(BOWL, 0.1, value), (-0.1, NAN)),
    "RMSprop: eps": (lambda value: sx.optimization.RMSprop(BOWL, 0.1, eps=value), (-0.1, NAN)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_hyperparameters_are_in_their_range(name):
    build, values = OTHERS[name]
    for value in values:
        with pytest.raises(ValueError, match=rf"{name}\n  got .*, expected a"):
            build(value)


def test_solvers_of_another_library_are_no_methods():
    with pytest.raises(TypeError, match="discretize of a Flow"):
        sx.discretize(FLOW, diffrax.Tsit5(), 0.1)
