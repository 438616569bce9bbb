"""Rotation numbers against closed forms: rigid and conjugated rotations, a locked tongue, heavy ball on a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

GOLDEN = (np.sqrt(5) - 1) / 2


def arnold(omega, k):
    return sx.as_map(lambda x: x + omega - k / (2 * np.pi) * jnp.sin(2 * np.pi * x))


@pytest.mark.parametrize("omega", [GOLDEN, -0.3])
def test_a_rigid_rotation_and_one_without_coupling(omega):
    found = sx.rotation_number(arnold(omega, 0.0), 0.2, steps=2000)
    assert float(found.value) == pytest.approx(omega, abs=1e-12) and float(found.error) < 1e-11


def test_inside_the_tongue_of_one_half_it_is_one_half():
    # At omega = 1/2 the circle map has a cycle of period 2 by symmetry, superstable or stable for 0 < K < 1.
    found = sx.rotation_number(arnold(0.5, 0.9), 0.2, steps=2000, transient=2000)
    assert float(found.value) == pytest.approx(0.5, abs=1e-12) and found.cautions == ()
    # Twenty steps are too few for a rotation that is no fraction of small denominator.
    assert "halves disagree" in sx.rotation_number(arnold(0.37, 0.9), 0.2, steps=20).cautions[0]


def test_a_conjugate_of_a_rotation_converges_faster_than_any_power():
    # h(y) = y + 0.8 sin(2 pi y)/(2 pi) carries the rotation R by rho into F = h R h^-1, whose orbits are h of those of R:
    # the same rotation number, by steps that are not equal.
    def angle(y):
        return 2 * np.pi * (y + 0.8 * jnp.sin(2 * np.pi * y) / (2 * np.pi))

    rotation = sx.as_map(lambda y: y + GOLDEN - 0.5)
    errors = []
    for steps in (50, 100, 200, 400):
        found = sx.rotation_number(rotation, 0.1, steps=steps, angle=angle)
        errors.append(abs(float(found.value) - (GOLDEN - 0.5)))
        assert errors[-1] <= max(float(found.error), 1e-13)
    # 1/N would give a factor of 8 from 50 to 400 steps.
    assert errors[0] / errors[-1] > 1e4


def test_heavy_ball_turns_as_its_multipliers_say():
    # z^2 - (1 + b - eta l) z + b = 0: z = sqrt(b) e^{i theta}, cos theta = (1 + b - eta l)/(2 sqrt b). Without friction
    # (b = 1) the orbit neither grows nor decays.
    eta, curvature = 0.3, 1.0
    ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(curvature), eta, 1.0)
    start = ball.init(jnp.array([1.0]))
    found = sx.rotation_number(ball, start, steps=4000, angle=lambda s: jnp.arctan2(s.velocity[0], s.position[0]))
    theta = np.arccos((2 - eta * curvature) / 2)
    # From x towards -w: clockwise.
    assert float(found.value) == pytest.approx(-theta / (2 * np.pi), abs=1e-12)


def test_a_flow_turns_so_often_in_a_unit_of_time():
    flow = sx.as_flow(lambda s: jnp.stack([s[1], -4.0 * s[0]]))
    found = sx.rotation_number(
        flow, jnp.array([1.0, 0.0]), steps=400, interval=0.1, angle=lambda s: jnp.arctan2(s[1] / 2, s[0])
    )
    assert float(found.value) == pytest.approx(-2 / (2 * np.pi), abs=1e-8)


def test_chaos_is_told_and_half_turns_too():
    # The doubling of an angle: steps of it are all over the circle, and the halves agree to N^(-1/2) only.
    chaotic = sx.as_map(lambda x: 4 * x * (1 - x))
    found = sx.rotation_number(chaotic, 0.3, steps=4000, angle=lambda x: 2 * np.pi * x)
    assert float(found.error) > 1e-4 and "chaotic" in found.cautions[0]
    assert "half a turn" in found.cautions[1]


def test_many_parameters_in_one_call_rise_monotonically():
    # The devil's staircase: rho is monotone in omega, and rho(omega) + rho(1 - omega) = 1 by symmetry x -> -x.
    omegas = jnp.linspace(0.05, 0.95, 31)
    values = jax.vmap(lambda omega: sx.rotation_number(arnold(omega, 0.9), 0.0, steps=3000).value)(omegas)
    assert np.all(np.diff(values) > -1e-4)
    np.testing.assert_allclose(values + values[::-1], 1.0, atol=1e-4)


def test_misuse_text_and_figure():
    with pytest.raises(ValueError, match="one number, or an angle"):
        sx.rotation_number(arnold(0.1, 0.0), jnp.ones(2))
    with pytest.raises(ValueError, match="steps >= 16"):
        sx.rotation_number(arnold(0.1, 0.0), 0.0, steps=3)
    with pytest.raises(ValueError, match="a positive time"):
        sx.rotation_number(sx.as_flow(lambda x: x), 0.0)
    with pytest.raises(TypeError, match="Map or Flow"):
        sx.rotation_number(sx.as_sde(lambda x: x, lambda x: 1.0), 0.0)
    found = sx.rotation_number(arnold(0.25, 0.0), 0.0, steps=64)
    assert "0.25" in str(found)
    axes = sx.plotting.plot(found).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.25, 0.25], atol=1e-12)
