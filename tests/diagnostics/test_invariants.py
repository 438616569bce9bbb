"""Drifts against closed forms: modified energies, Euler's growth, friction, Liouville; errors that cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.diagnostics.along.invariants import line

H = 0.1


def oscillator(friction=0.0):
    # Without friction the second part must not mention s[1] at all: leapfrog asks for that.
    return sx.as_flow(lambda s: (s[1], -s[0] - friction * s[1]) if friction else (s[1], -s[0]))


def run(flow, method, steps=400):
    return sx.evolve(flow, (jnp.array(1.0), jnp.array(0.3)), method=method, step_size=H, steps=steps)


def energy(state):
    return (state[0] ** 2 + state[1] ** 2) / 2


def test_leapfrog_keeps_its_modified_energy_and_lets_the_energy_oscillate():
    path = run(oscillator(), sx.Leapfrog(), 1000)
    # Kick-drift-kick on q'' = -q conserves p^2 + (1 - h^2/4) q^2, drift-kick-drift (1 - h^2/4) p^2 + q^2, to the last bit.
    shapes = {
        "kick": lambda s: s[1] ** 2 + (1 - H**2 / 4) * s[0] ** 2,
        "drift": lambda s: (1 - H**2 / 4) * s[1] ** 2 + s[0] ** 2,
    }
    found = sx.invariants(path, {**shapes, "energy": energy})
    assert min(float(found.drift[0]), float(found.drift[1])) < 1e-13
    # The energy swings between bounds h^2/8 of the amplitude squared apart, and does not drift: zero within three errors.
    amplitude = 1.0 + 0.3**2
    assert float(found.oscillations[2]) == pytest.approx(H**2 / 16 * amplitude, rel=0.01)
    assert abs(found.rates[2]) < 3 * found.rate_errors[2] < 3e-6
    # A plain least-squares slope is off by far more than that.
    plain = np.polyfit(path.times, found.values[:, 2], 1)[0]
    assert abs(plain) > 10 * abs(float(found.rates[2]))


def test_euler_multiplies_the_energy_by_one_plus_h_squared_a_step():
    found = sx.invariants(run(oscillator(), sx.Euler()), energy)
    assert float(found.growth_rates[0]) == pytest.approx(np.log(1 + H**2) / H, rel=1e-12)
    assert any("does not drift along a line" in caution for caution in found.cautions)


@pytest.mark.parametrize("friction", [0.05, 0.2])
def test_energy_of_the_damped_oscillator_decays_at_the_friction(friction):
    path = sx.evolve(
        oscillator(friction), (jnp.array(1.0), jnp.array(0.3)), times=jnp.linspace(0, 60, 601), rtol=1e-10, atol=1e-12
    )
    found = sx.invariants(path, energy)
    # ln E = -c t + a function of period pi/sqrt(1 - c^2/4).
    assert abs(found.growth_rates[0] + friction) < 3 * found.growth_errors[0]
    assert float(found.growth_rates[0]) == pytest.approx(-friction, abs=1e-6)


def test_a_line_is_found_exactly_and_its_error_covers_in_noise():
    times = jnp.linspace(0.0, 7.0, 50)
    slope, error, rest = line(times, 3.0 - 2.0 * times, jnp.ones(50, bool))
    assert float(slope) == pytest.approx(-2.0, abs=1e-13) and error < 1e-14 and float(jnp.max(jnp.abs(rest))) < 1e-13
    noise = jax.random.normal(jax.random.key(0), (1000, 200))
    slopes, errors, _ = jax.jit(jax.vmap(line, in_axes=(None, 0, None)))(jnp.arange(200.0), noise, jnp.ones(200, bool))
    # A standard error holds in 95% at two of them; the errors are estimates themselves.
    assert 0.91 < float(jnp.mean(jnp.abs(slopes) < 2 * errors)) < 0.98


def test_names_components_times_and_batches():
    path = run(oscillator(), sx.RK4(), 100)
    found = sx.invariants(
        path, {"both": lambda s: jnp.stack([s[0], s[1]]), "shifted": lambda t, s: energy(s) - 2.0 * t}
    )
    assert found.names == ("both[0]", "both[1]", "shifted")
    assert float(found.rates[2]) == pytest.approx(-2.0, abs=1e-5)
    starts = (jnp.array([1.0, 0.5]), jnp.zeros(2))
    paths = sx.ensemble(oscillator(), starts, method=sx.Euler(), step_size=H, steps=100)
    many = jax.jit(jax.vmap(lambda one: sx.invariants(one, energy)))(paths)
    np.testing.assert_allclose(many.growth_rates[:, 0], np.log(1 + H**2) / H, rtol=1e-10)


def test_a_broken_trajectory_has_no_drift_and_no_volume():
    doubling = sx.as_map(lambda x: 2.0 * x)
    path = sx.evolve(doubling, jnp.array(1.0), steps=1100)
    found = sx.invariants(path, lambda x: x)
    assert int(found.kept) == 1024 and found.cautions[0].startswith("not known: only the first 1024 of 1101 rows")
    for part in (found.drift, found.rates, found.growth_rates, found.bends):
        assert np.isnan(part).all()
    # Its Jacobian is 2 wherever it is asked for; the run is none.
    volume = sx.volume_drift(doubling, path)
    assert np.isnan(volume.rate) and np.isnan(volume.log_volume).all() and volume.cautions[0].startswith("not known")
    before = sx.evolve(doubling, jnp.array(1.0), steps=1000)
    assert float(sx.invariants(before, lambda x: x).growth_rates[0]) == pytest.approx(np.log(2), rel=1e-10)
    # Of a function that is not finite half way nothing is known either.
    half = sx.invariants(before, lambda x: jnp.where(x > 1e100, jnp.nan, x))
    assert np.isnan(half.rates).all()


def test_an_event_is_an_end():
    """x' = -2 x from 1 at t = 0 to 1/2 at t = ln(2)/2: ln x falls at 2, and a volume too."""
    fall = sx.as_flow(lambda x: -2.0 * x)
    path = sx.evolve(fall, jnp.array([1.0]), times=jnp.linspace(0.0, 1.0, 101), event=lambda x: x[0] - 0.5, rtol=1e-10)
    found, volume = sx.invariants(path, lambda x: x[0]), sx.volume_drift(fall, path)
    assert int(found.kept) == 35
    assert float(found.growth_rates[0]) == pytest.approx(-2.0, abs=1e-6)
    assert float(volume.rate) == pytest.approx(-2.0, abs=1e-6)


def test_volume_of_heavy_ball_contracts_by_its_momentum_a_coordinate():
    ball = sx.optimization.HeavyBall(sx.optimization.Himmelblau(), learning_rate=1e-3, momentum=0.9)
    path = sx.evolve(ball, ball.init(jnp.array([1.0, 2.0])), steps=50)
    found = sx.volume_drift(ball, path)
    # d = 2: (1 - a h)^2 = 0.81 a step; the limit contracts by exp(-2 a h).
    np.testing.assert_allclose(found.log_volume, 2 * np.log(0.9) * np.arange(51), atol=1e-12)
    np.testing.assert_allclose(found.divergence, -2 * 0.1 * np.arange(51), atol=1e-12)
    assert float(found.rate) == pytest.approx(2 * np.log(0.9) / np.sqrt(1e-3), rel=1e-12)


def test_volume_of_henon_and_lorenz():
    henon = sx.catalogue.entry("henon").build()
    found = sx.volume_drift(henon, sx.evolve(henon, jnp.array([0.1, 0.1]), steps=60))
    assert float(jnp.exp(found.rate)) == pytest.approx(0.3, rel=1e-12)
    lorenz = sx.catalogue.entry("lorenz").build()
    path = sx.evolve(lorenz, jnp.ones(3), times=jnp.linspace(0.0, 2.0, 21))
    found = sx.volume_drift(lorenz, path)
    # -(10 + 1 + 8/3) everywhere; determinant and divergence by different equations, solved at a relative 2e-10.
    assert float(found.rate) == pytest.approx(-41 / 3, rel=1e-8)
    assert float(found.residual) < 1e-6 and found.cautions == ()


def test_symplectic_conformal_and_neither():
    well = sx.as_flow(lambda s: (s[1], -(s[0] ** 3) - jnp.flip(s[0])))
    state = (jnp.array([0.4, -1.0]), jnp.array([0.3, 0.8]))
    leapfrog = sx.symplecticity(sx.discretize(well, sx.Leapfrog(), 0.1), state)
    assert float(leapfrog.defect) < 1e-14 and float(leapfrog.factor) == pytest.approx(1.0, abs=1e-15)
    # Euler: J = 1 + h A with A Hamiltonian, so J^T O J - O = h^2 A^T O A, of order h^2.
    steps = [sx.symplecticity(sx.discretize(well, sx.Euler(), h), state).defect for h in (0.1, 0.05)]
    assert float(steps[0] / steps[1]) == pytest.approx(4.0, rel=1e-9)
    ball = sx.optimization.HeavyBall(sx.optimization.Himmelblau(), learning_rate=1e-3, momentum=0.9)
    found = sx.symplecticity(ball, ball.init(jnp.array([1.0, 2.0])))
    assert float(found.factor) == pytest.approx(0.9, abs=1e-14) and float(found.conformal_defect) < 1e-14
    assert float(found.determinant) == pytest.approx(0.81, abs=1e-13)
    assert float(found.defect) == pytest.approx(0.1 * 2, abs=1e-13)
    damped = sx.symplecticity(sx.limit(ball), ball.init(jnp.array([1.0, 2.0])))
    friction = 0.1 / np.sqrt(1e-3)
    assert float(damped.factor) == pytest.approx(-friction, rel=1e-12) and float(damped.conformal_defect) < 1e-12
    # Two frictions: no one factor. J^T O + O J holds -c_i for the i-th pair, so what is left is half their difference.
    uneven = sx.as_flow(lambda s: (s[1], -s[0] - jnp.array([0.1, 0.5]) * s[1]))
    found = sx.symplecticity(uneven, state)
    assert float(found.factor) == pytest.approx(-0.3) and float(found.conformal_defect) == pytest.approx(0.2 * 2)


def test_an_array_holds_positions_first():
    standard = sx.symplecticity(sx.catalogue.entry("standard").build(), jnp.array([1.0, 0.2]))
    assert float(standard.defect) < 1e-15 and "two coordinates" in standard.cautions[0]


def test_single_precision_is_told():
    path = sx.evolve(sx.as_map(lambda x: 0.9 * x), jnp.ones((), jnp.float32), steps=50)
    with pytest.warns(RuntimeWarning, match="float32"):
        found = sx.invariants(path, lambda x: x)
    assert any("float32" in caution for caution in found.cautions)


def test_misuse_is_told():
    path = run(oscillator(), sx.Euler(), 10)
    with pytest.raises(TypeError, match="a Trajectory"):
        sx.invariants(3, energy)
    with pytest.raises(TypeError, match="real values"):
        sx.invariants(path, lambda s: jnp.asarray(1))
    with pytest.raises(TypeError, match="a function of the state"):
        sx.invariants(path, {})
    with pytest.raises(ValueError, match="at least 4"):
        sx.invariants(run(oscillator(), sx.Euler(), 2), energy)
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        sx.invariants(jax.vmap(lambda q: run_from(q))(jnp.ones(3)), energy)
    descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(1.0), 0.1)
    with pytest.raises(ValueError, match=r"one step of 0\.1 between rows"):
        sx.volume_drift(descent, sx.evolve(descent, jnp.ones(2), steps=20, save=2))
    with pytest.raises(ValueError, match="two equal halves"):
        sx.symplecticity(descent, jnp.ones(3))


def run_from(q):
    return sx.evolve(oscillator(), (q, jnp.zeros(())), method=sx.Euler(), step_size=H, steps=10)


def test_the_figure_holds_each_function_and_its_trend():
    found = sx.invariants(run(oscillator(), sx.Euler(), 50), {"energy": energy, "q": lambda s: s[0]})
    lines = sx.plotting.plot(found).axes[0].lines
    assert len(lines) == 4
    trend = np.polyfit(lines[1].get_xdata(), lines[1].get_ydata(), 1)[0]
    assert trend == pytest.approx(float(found.rates[0]), rel=1e-9)
