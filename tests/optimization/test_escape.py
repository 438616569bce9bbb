"""Escapes over a barrier, measured and by Kramers, against quadrature."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import separatrix as sx
from separatrix.optimization.stochastic.escape import Absorbing, WatchedMap

KEY = jax.random.key(0)


def exact_passage(temperature, target=1.0):
    """(1/T) int_{-1}^{b} e^{L(y)/T} int_{-inf}^{y} e^{-L(z)/T} dz dy for the double well, from -1 to b."""
    loss = lambda x: (x**2 - 1) ** 2 / 4
    inner = lambda y: scipy.integrate.quad(lambda z: np.exp((loss(y) - loss(z)) / temperature), -3, y)[0]
    return scipy.integrate.quad(inner, -1.0, target, epsrel=1e-6)[0] / temperature


def kramers(temperature, **keywords):
    return sx.optimization.kramers_time(
        sx.optimization.DoubleWell(), jnp.array([-1.0]), jnp.array([0.0]), temperature, **keywords
    )


def test_kramers_time_is_asymptotic_to_the_exact_passage():
    """The relative error is O(T): it halves with T, in the end."""
    temperatures = np.array([0.02, 0.01, 0.005])
    errors = np.array([float(kramers(t).time) / exact_passage(t) - 1 for t in temperatures])
    slopes = np.diff(np.log2(np.abs(errors))) / np.diff(np.log2(temperatures))
    np.testing.assert_allclose(slopes, 1.0, atol=0.15)
    assert abs(errors[-1]) < 0.03
    # The saddle itself is reached in half the time, up to the same order.
    assert exact_passage(0.01, 0.0) / exact_passage(0.01) == pytest.approx(0.5, abs=1e-3)


def test_kramers_time_in_two_dimensions_has_the_entropy_of_the_pass():
    """A narrow pass (curvature 9 across it, 1 across the well) is crossed three times more slowly than a straight one."""

    def loss(x):
        across = 1.0 + 8.0 * jnp.exp(-10 * x[0] ** 2)
        return (x[0] ** 2 - 1) ** 2 / 4 + 0.5 * across * x[1] ** 2

    found = sx.optimization.kramers_time(loss, jnp.array([-1.0, 0.0]), jnp.array([0.0, 0.0]), 0.05)
    across = 1.0 + 8.0 * np.exp(-10.0)
    assert float(found.time / kramers(0.05).time) == pytest.approx(3.0 / across**0.5, rel=1e-12)


def test_underdamped_kramers_time():
    """mu is the unstable eigenvalue of the motion at the saddle; for large friction a, a times the overdamped time."""
    friction = 0.8
    found = kramers(0.03, friction=friction)
    motion = sx.limit(sx.optimization.HeavyBall(sx.optimization.DoubleWell(), 0.01, 1 - friction * 0.1))
    spectrum = sx.linear_stability(motion, sx.optimization.PhasePoint(jnp.zeros(1), jnp.zeros(1))).spectrum
    assert float(found.exit_rate) == pytest.approx(float(np.max(np.real(spectrum))), rel=1e-10)
    for large in (1e3, 1e4):
        ratio = float(kramers(0.03, friction=large).time / kramers(0.03).time) / large
        # mu a/|l_1| = 1 - |l_1|/a^2 + ...
        assert ratio == pytest.approx(1 + 1 / large**2, rel=1e-10)


def test_dissipation_of_one_swing_is_that_of_its_parabola():
    """The action of one round trip of energy D in l x^2/2 is the area pi sqrt(2 D/l) sqrt(2 D) = 2 pi D/sqrt(l)."""
    friction, temperature = 0.3, 0.07
    # Barrier 1/4 from a minimum of curvature 2.
    swing = np.linspace(0, 2 * np.pi, 2001)[:-1]
    x, w = np.sqrt(2 * 0.25 / 2) * np.cos(swing), -np.sqrt(2 * 0.25) * np.sin(swing)
    area = abs(np.sum(w * np.roll(x, -1) - w * x))
    found = kramers(temperature, friction=friction)
    assert float(found.dissipation) == pytest.approx(friction * area / temperature, rel=1e-5)
    assert np.isinf(kramers(temperature).dissipation)


def test_kramers_time_under_jit_and_vmap():
    temperatures = jnp.array([0.02, 0.05])
    together = jax.jit(jax.vmap(lambda t: kramers(t, friction=0.5).time))(temperatures)
    alone = [kramers(float(t), friction=0.5).time for t in temperatures]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_kramers_cautions():
    assert "below three temperatures" in kramers(0.1).cautions[0]
    backwards = sx.optimization.kramers_time(sx.optimization.DoubleWell(), jnp.array([0.0]), jnp.array([1.0]), 0.05)
    assert np.isnan(backwards.time) and "index 0" in backwards.cautions[0]
    assert "less than T from one swing" in kramers(0.05, friction=1e-3).cautions[0]
    assert (
        "not critical: |grad L| = "
        in sx.optimization.kramers_time(
            sx.optimization.DoubleWell(), jnp.array([-0.9]), jnp.array([0.0]), 0.05
        ).cautions[0]
    )
    with pytest.raises(ValueError, match=r"temperature\n  got 0.0, expected a finite number above 0"):
        kramers(0.0)
    with pytest.raises(ValueError, match="the form of the minimum"):
        sx.optimization.kramers_time(sx.optimization.DoubleWell(), jnp.zeros(1), jnp.zeros(2), 0.1)


def test_measured_escape_from_the_double_well():
    """From -1 to +1 at T = 0.4: within three standard errors of the exact passage, and an error of O(h)."""
    found = sx.optimization.escape_times(
        sx.optimization.Langevin(sx.optimization.DoubleWell(), 0.4), jnp.array([-1.0]), lambda x: 1.0 - x[0],
        steps=2000, step_size=0.04, key=KEY, members=1000,
    )  # fmt: skip
    exact = exact_passage(0.4)
    assert bool(found.escaped.all()) and found.cautions == ()
    assert abs(found.mean - exact) < 3 * found.error + 0.04 * exact
    assert found.error / found.mean == pytest.approx(1000**-0.5, rel=0.3)


def test_the_bridge_counts_crossings_within_a_step():
    """Brownian motion leaves (-1, 1) at time 1; seen at the ends of steps alone it is late by 2 * 0.5826 sqrt(h)."""
    members, h = 3000, 0.02
    motion = sx.as_sde(lambda x: 0.0 * x, lambda x: 1.0)
    margin = lambda x: 1.0 - x**2
    bridged = sx.optimization.escape_times(
        motion, jnp.array(0.0), margin, steps=400, step_size=h, key=KEY, members=members
    )
    naive = Absorbing(sx.discretize(motion, sx.EulerMaruyama(), h), margin, None)
    starts = WatchedMap(jnp.zeros(members), jnp.ones(members, bool), jnp.zeros(members, int))
    late = h * float(jnp.mean(sx.ensemble(naive, starts, steps=400, key=KEY, save="last").final.steps))
    assert abs(bridged.mean - 1.0) < 3 * bridged.error + h
    # Overshoot of a Gaussian walk, -zeta(1/2)/sqrt(2 pi) = 0.5826 steps, on both sides.
    assert abs(late - (1 + 0.5826 * h**0.5) ** 2) < 3 * float(bridged.error) + h


def test_a_bridge_crosses_with_its_own_probability():
    """A Brownian path between two points inside leaves with probability exp(-2 d0 d1/(s^2 h)), d the distances.

    For dx = s dW + ..., a sloped border n.x < c and noise that depends on time: d = (c - n.x) and v = |s n|^2.
    """
    members, h, n = 20_000, 0.04, 5
    normal, level, spread = jnp.array([1.0, -2.0]), 1.5, jnp.array([[0.5, 0.3], [0.0, 0.8]])
    sde = sx.as_sde(lambda t, x: 0.0 * x, lambda t, x: lx.MatrixLinearOperator((1 + t) * spread))
    absorbing = Absorbing(sx.discretize(sde, sx.EulerMaruyama(), h), lambda x: level - normal @ x, sde)
    before, after = jnp.array([0.9, -0.1]), jnp.array([0.5, -0.35])
    keys = jax.random.split(KEY, members)
    share = float(jnp.mean(jax.vmap(lambda key: absorbing.crossed(n, before, after, key))(keys)))
    variance = float(jnp.sum(((1 + n * h) * spread.T @ normal) ** 2))
    truth = np.exp(-2 * 0.4 * 0.3 / (variance * h))
    assert 0.05 < truth < 0.95
    assert abs(share - truth) < 4 * (truth * (1 - truth) / members) ** 0.5


def test_escape_of_a_map_is_counted_in_steps():
    """The symmetric walk on the integers leaves (-5, 5) after 25 steps on average."""
    walk = sx.as_map(lambda x, *, key=None: x + jax.random.rademacher(key, (), x.dtype))
    found = sx.optimization.escape_times(
        walk, jnp.array(0.0), lambda x: 5.0 - jnp.abs(x), steps=600, key=KEY, members=2000
    )
    assert abs(found.mean - 25.0) < 3.5 * found.error


def test_a_run_that_ends_too_early_gives_the_mean_of_exponential_times():
    """Leaving with probability 1/50 a step, watched for 20 steps only."""
    gate = sx.as_map(lambda x, *, key=None: jnp.where(jax.random.uniform(key, ()) < 0.02, -1.0, x))
    found = sx.optimization.escape_times(gate, jnp.array(1.0), lambda x: x, steps=20, key=KEY, members=4000)
    assert abs(found.mean - 50.0) < 3.5 * found.error
    assert "had not left when the run ended" in found.cautions[0]


def test_escape_times_refuses():
    bath = sx.optimization.Langevin(sx.optimization.DoubleWell(), 0.25)
    settings = {"steps": 10, "key": KEY, "members": 10}
    with pytest.raises(ValueError, match=r"got margin -1, expected a start with margin > 0"):
        sx.optimization.escape_times(bath, jnp.array([-1.0]), lambda x: x[0], step_size=0.1, **settings)
    with pytest.raises(TypeError, match=r"got bool of shape \(\), expected a real scalar"):
        sx.optimization.escape_times(bath, jnp.array([-1.0]), lambda x: x[0] < 0, step_size=0.1, **settings)
    with pytest.raises(ValueError, match="step_size"):
        sx.optimization.escape_times(bath, jnp.array([-1.0]), lambda x: 1 - x[0], **settings)
    with pytest.raises(TypeError, match="A Flow leaves at one time"):
        sx.optimization.escape_times(sx.as_flow(lambda x: -x), jnp.array([-1.0]), lambda x: 1 - x[0], **settings)


@pytest.mark.slow
def test_measured_underdamped_escape():
    """Friction 1, T = 0.06 (barrier 4.2 T): the formula is within its O(T) of the ensemble, about 10 %."""
    bath = sx.optimization.UnderdampedLangevin(sx.optimization.DoubleWell(), 1.0, 0.06)
    found = sx.optimization.escape_times(
        bath, bath.init(jnp.array([-1.0])), lambda s: 1.0 - s.position[0],
        steps=30_000, step_size=0.1, method=sx.optimization.BAOAB(), key=KEY, members=500,
    )  # fmt: skip
    assert abs(found.mean / kramers(0.06, friction=1.0).time - 1) < 0.1 + 3 * found.error / found.mean
