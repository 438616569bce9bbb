"""A flow that does not get to its end gives NaN to whatever is built on it: no model, policy or law is trained on it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import residual
from separatrix._errors import Diverged

PLANT = sx.as_open_flow(lambda x, u: x**2 + u)
CUBE = sx.as_flow(lambda x: x**3)


class Gain(eqx.Module):
    """u = -K x."""

    value: jax.Array

    def __call__(self, x):
        return -self.value * x


def test_a_policy_is_not_rewarded_for_blowing_up():
    """x' = x^2 - K x from 1: falls for K = 2, and is infinite at t = 1 for K = 0. The cost is the time, 8."""
    loss = residual.policy_loss(PLANT, lambda x, u: jnp.ones(()), horizon=8.0, steps=400)
    starts = jnp.array([1.0, 0.5])
    value = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    assert value(Gain(jnp.array(2.0)), starts)[0].item() == pytest.approx(8.0, rel=1e-12)
    assert np.isnan(value(Gain(jnp.array(0.0)), starts)[0])
    # One start in two is enough.
    assert np.isnan(value(Gain(jnp.array(0.7)), starts)[0]) and value(Gain(jnp.array(0.7)), starts[1:])[0] < 9
    with pytest.warns(RuntimeWarning, match="at step 1;"):
        found = sx.fit(loss, optax.sgd(1.0), starts, initial=Gain(jnp.array(0.5)), steps=3)
    assert found.model.value.item() == 0.5


def test_the_slope_of_a_cost_that_is_not_reached_is_no_number():
    loss = residual.policy_loss(PLANT, lambda x, u: x**2 + u**2, horizon=8.0, steps=400)
    broken, slope = eqx.filter_value_and_grad(loss)(Gain(jnp.array(0.0)), jnp.array([1.0]))
    assert np.isnan(broken) and not np.isfinite(slope.value)


def test_a_terminal_cost_of_a_state_that_is_not_reached_is_nan():
    loss = residual.policy_loss(PLANT, lambda x, u: 0.0 * x, horizon=8.0, steps=400, terminal=lambda x: 1.0)
    assert np.isnan(loss(Gain(jnp.array(0.0)), jnp.array([1.0])))


@pytest.mark.parametrize(("depth", "method"), [(40, sx.Euler()), (None, None)])
def test_a_flow_model_past_its_escape_is_nan(depth, method):
    """x' = x^3 from x is infinite at t = 1/(2 x^2): at 1/2 for x = 1, never before 1 for x = 1/2: x/sqrt(1 - 2 x^2)."""
    model = residual.FlowModel(lambda x: x, CUBE, lambda x: x, depth=depth, method=method, horizon=1.0)
    model = eqx.tree_at(lambda m: m.flow, model, CUBE) if depth is None else residual.with_depth(model, 400, sx.RK4())
    assert model(jnp.array(0.5)).item() == pytest.approx(0.5 / np.sqrt(1 - 0.5), rel=1e-5)
    assert np.isnan(model(jnp.array(3.0)))
    assert np.isnan(jax.vmap(model)(jnp.array([0.5, 3.0]))).tolist() == [False, True]


def test_a_segment_that_does_not_get_to_its_end_makes_the_loss_nan():
    times = jnp.linspace(0.0, 4.0, 9)
    data = residual.segments(times, jnp.exp(-times)[:, None], length=4)
    loss = residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: rate * x**3), substeps=20)
    assert np.isfinite(loss(jnp.array(0.1), data)) and np.isnan(loss(jnp.array(30.0), data))


def test_a_law_without_finite_coefficients_is_refused():
    class Huge(eqx.Module):
        names = ("x",)
        labels = ("x", "x again")

        def __call__(self, x):
            return jnp.stack([x[0], x[0] * 1e200]) * 1e150

    points = jnp.linspace(1.0, 2.0, 5)[:, None]
    with pytest.raises(ValueError, match=r"library's terms\n  got inf at index \[0, 1\].*\n.*lower degree"):
        residual.discover(points, points, Huge(), threshold=0.1)
    # Velocities of nothing have the law of nothing, with no residual.
    found = residual.discover(points, 0 * points, residual.Monomials("x", 1), threshold=0.1)
    assert found.equations == ("x' = 0",) and found.residual == 0.0


def test_a_law_that_breaks_on_the_way_is_told(monkeypatch):
    from separatrix.residual.discovery import ThresholdedLeastSquares

    monkeypatch.setattr(ThresholdedLeastSquares, "init", lambda self: jnp.full((2, 1), jnp.nan))
    points = jnp.linspace(1.0, 2.0, 5)[:, None]
    with pytest.raises(Diverged, match="without a finite solution"):
        residual.discover(points, points, residual.Monomials("x", 1), threshold=0.1)


NAN = float("nan")
PIECES = residual.segments(jnp.arange(5.0), jnp.ones((5, 1)), 2, stride=2)
OVERLAPPING = residual.segments(jnp.arange(4.0), jnp.ones((4, 1)), 2)
REFUSED = {
    "friction": (lambda: residual.PendulumPlant(-0.1), "friction\n  got -0.1"),
    "friction of NaN": (lambda: residual.PendulumPlant(NAN), "friction\n  got nan"),
    "an infinite limit": (lambda: residual.BoundedPolicy(lambda x: x, np.inf), "limit\n  got inf"),
    "a limit of NaN": (lambda: residual.BoundedPolicy(lambda x: x, NAN), "limit\n  got nan"),
    "an infinite horizon": (
        lambda: residual.policy_loss(PLANT, jnp.sum, horizon=np.inf, steps=3), "horizon inf in 3 steps"
    ),
    "a horizon of NaN": (lambda: residual.policy_loss(PLANT, jnp.sum, horizon=NAN, steps=3), "horizon nan in 3 steps"),
    "NaN in A": (lambda: residual.lqr([[NAN]], [[1.0]], [[1.0]], [[1.0]]), r"lqr: A\n  got nan at index \[0, 0\]"),
    "Q not symmetric": (
        lambda: residual.lqr(np.eye(2), np.eye(2), [[1.0, 0.5], [0.0, 1.0]], np.eye(2)),
        "lqr: Q\n  got a matrix that is not symmetric",
    ),
    "Q that rewards": (
        lambda: residual.lqr(np.eye(2), np.eye(2), np.diag([1.0, -2.0]), np.eye(2)),
        "eigenvalue -2, expected eigenvalues >= 0"
    ),
    "R that costs nothing": (
        lambda: residual.lqr(np.eye(2), np.eye(2), np.eye(2), np.diag([1.0, 0.0])), "eigenvalue 0, expected eigenvalues > 0"
    ),
    "half a degree": (lambda: residual.Monomials("xy", 1.5), "degree\n  got 1.5, expected a whole number >= 0"),
    "names twice": (lambda: residual.Monomials("xx", 1), "got x, x, expected different names"),
    "a threshold of NaN": (
        lambda: residual.discover(jnp.ones((9, 1)), jnp.ones((9, 1)), residual.Monomials("x", 1), NAN),
        "threshold\n  got nan"
    ),
    "half a depth": (lambda: residual.FlowModel(lambda x: x, CUBE, lambda x: x, depth=2.5), "depth 2.5 and horizon 1"),
    "an infinite depth of time": (
        lambda: residual.FlowModel(lambda x: x, CUBE, lambda x: x, horizon=np.inf), "depth 8 and horizon inf"
    ),
    "fixed steps without a depth": (
        lambda: residual.FlowModel(lambda x: x, CUBE, lambda x: x, depth=None), r"got Euler\(\) and depth None"
    ),
    "a step size": (lambda: residual.ResNet(lambda x: x, 0.0), "ResNet: step_size\n  got 0.0"),
    "a step size of NaN": (lambda: residual.ResNet(lambda x: x, NAN), "ResNet: step_size\n  got nan"),
    "a span": (lambda: residual.AlongDepth([Gain(jnp.ones(()))], NAN), "a span of nan"),
    "dimensions": (lambda: residual.augment(jnp.ones(2), -1), "extra\n  got -1"),
    "an infinite state": (
        lambda: residual.segments(jnp.arange(4.0), jnp.zeros((4, 1)).at[2, 0].set(jnp.inf), 1),
        r"states\n  got inf at index \[2, 0\]"
    ),
    "a column of NaN": (lambda: residual.segments(jnp.arange(4.0), jnp.full((4, 1), NAN), 1), "column 0 without a value"),
    "a start for each": (
        lambda: residual.shooting_loss(lambda m: m)(residual.ShootingModel(None, jnp.zeros((1, 1))), PIECES),
        "1 starts for 2"
    ),
    "overlap": (
        lambda: residual.shooting_loss(lambda m: m)(residual.ShootingModel(None, jnp.zeros((2, 1))), OVERLAPPING), "overlap"
    ),
    "a negative matching": (lambda: residual.shooting_loss(lambda m: m, matching=-1.0), "matching\n  got -1"),
    "less than is seen": (lambda: residual.start_shooting(None, PIECES, width=0), "width\n  got 0"),
    "a state that is not seen whole": (
        lambda: residual.trajectory_loss(lambda m: sx.as_flow(lambda x: x), observe=lambda x: x[:0])(None, PIECES),
        "got 0 values a state, expected 1"
    ),
    "half a substep": (lambda: residual.trajectory_loss(lambda m: m, substeps=0.5), "substeps\n  got 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_out_of_range_are_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}") as told:
        call()
    assert len(str(told.value).splitlines()) <= 3
