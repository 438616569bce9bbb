"""Shares of turning against closed forms; loops against curls; Helmholtz parts that were put in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix._tree import asarrays

KEY = jax.random.key(0)


def test_a_bilinear_game_only_turns_and_descent_only_falls():
    game = sx.field_split(
        sx.games.field(sx.games.Bilinear(jnp.array([[1.0, 2.0], [0.0, 3.0]]))), (jnp.ones(2), jnp.ones(2))
    )
    # A = ((0, -M), (M^T, 0)): |A|^2 = 2 |M|^2.
    assert float(game.index) == 1.0 and float(game.antisymmetric) == 2 * 14.0 and not game.conservative
    fall = sx.field_split(
        sx.optimization.GradientDescent(sx.optimization.Himmelblau(), 0.1),
        jnp.array([1.0, -2.0]),
        key=KEY,
        radii=(0.1, 1.0),
    )
    assert float(fall.index) < 1e-28 and fall.conservative and fall.cautions == ()
    assert np.all(np.abs(fall.circulations) <= fall.circulation_errors)


@pytest.mark.parametrize("penalty", [0.0, 0.3, 2.0])
def test_dirac_gan_with_its_penalty(penalty):
    found = sx.field_split(sx.games.field(sx.games.DiracGAN(penalty)), asarrays((0.0, 0.0)))
    assert float(found.index) == pytest.approx(0.5 / (0.5 + penalty**2), abs=1e-14)
    assert float(found.divergence) == pytest.approx(-penalty, abs=1e-15)


def test_consensus_adds_a_fall_to_the_turn():
    # v - g grad |v|^2/2 on x y: J = ((-g, -1), (1, -g)).
    consensus = sx.games.ConsensusDescent(sx.games.Bilinear(1.0), 0.1, strength=0.5)
    found = sx.field_split(consensus, asarrays((1.0, 0.5)))
    assert float(found.index) == pytest.approx(1 / (1 + 0.25), abs=1e-14)


def test_a_map_that_is_no_family_is_split_by_its_displacement():
    # Henon at (x, y): F - x has J = ((-2ax - 1, 1), (b, -1)); A = (1 - b)/2 off the diagonal.
    found = sx.field_split(sx.catalogue.entry("henon").build(), jnp.array([0.5, 0.2]))
    antisymmetric, symmetric = 2 * 0.35**2, 2.4**2 + 1 + 2 * 0.65**2
    assert float(found.antisymmetric) == pytest.approx(antisymmetric, abs=1e-14)
    assert float(found.symmetric) == pytest.approx(symmetric, abs=1e-13)


def test_probes_agree_with_the_matrix_within_their_errors():
    matrix = jax.random.normal(jax.random.key(7), (40, 40)) @ jnp.diag(jnp.linspace(0.1, 2.0, 40))
    flow, at = sx.as_flow(lambda x: matrix @ jnp.tanh(x)), jnp.zeros(40)
    exact = sx.field_split(flow, at)
    scores = []
    for i in range(40):
        probed = sx.field_split(flow, at, key=jax.random.key(i), probes=64)
        scores.append([
            (probed.index - exact.index) / probed.index_error,
            (probed.symmetric - exact.symmetric) / probed.symmetric_error,
            (probed.divergence - exact.divergence) / probed.divergence_error,
        ])  # fmt: skip
    # Of 120 at two standard errors 5% miss; 12% would be three binomial errors and more.
    assert np.mean(np.abs(np.array(scores)) > 2) < 0.12
    assert np.abs(np.mean(scores)) < 4 / np.sqrt(120)


def test_a_large_state_is_probed_without_forming_its_matrix():
    # x_i' = c x_{i+1} - x_i round a ring of n: |S|^2 = n (1 + c^2/2), |A|^2 = n c^2/2.
    ring = sx.as_flow(lambda x: 0.5 * jnp.roll(x, -1) - x)
    found = sx.field_split(ring, jnp.ones(5000), key=KEY)
    assert found.probes == 64
    assert abs(found.index - 0.125 / 1.25) < 4 * found.index_error
    assert abs(found.divergence + 5000) < 4 * found.divergence_error


def test_small_circles_see_the_curl_and_large_ones_what_lies_within():
    # f = (-y^3, x^3): curl 3 (x^2 + y^2). Over a disc of radius r about (1, 0) its mean is 3 (1 + r^2/2).
    flow = sx.as_flow(lambda x: jnp.stack([-(x[1] ** 3), x[0] ** 3]))
    found = sx.field_split(flow, jnp.array([1.0, 0.0]), key=KEY, radii=(1e-3, 1.0, 2.0))
    expected = 3 * (1 + np.array([1e-3, 1.0, 2.0]) ** 2 / 2)
    # A random plane in two dimensions is turned either way.
    np.testing.assert_allclose(np.abs(found.circulations), np.broadcast_to(expected[:, None], (3, 16)), rtol=1e-9)
    assert not found.conservative


def test_a_field_that_turns_only_far_away_is_found_by_its_loops():
    far = lambda x: jnp.where(jnp.sum(x**2) > 1, 1.0, 0.0) * (jnp.sum(x**2) - 1) ** 4
    flow = sx.as_flow(lambda x: -x + far(x) * jnp.stack([-x[1], x[0]]))
    near, away = (sx.field_split(flow, jnp.zeros(2), key=KEY, radii=r) for r in (0.5, 2.0))
    assert near.conservative and float(away.index) == 0.0 and not away.conservative


def test_helmholtz_on_the_torus_returns_what_was_put_in():
    # f = -grad U + (dH/dy, -dH/dx) + (0.3, -0.1) on a torus of unequal sides.
    sides = np.array([2 * np.pi, 3.0])
    k = 2 * np.pi / 3.0

    def potential(p):
        return jnp.cos(p[0]) * jnp.sin(k * p[1]) + 0.5 * jnp.sin(2 * p[0])

    def stream(p):
        return jnp.exp(jnp.sin(p[0] + k * p[1]))

    def velocity(p):
        turn = jax.grad(stream)(p)
        return -jax.grad(potential)(p) + jnp.stack([turn[1], -turn[0]]) + jnp.array([0.3, -0.1])

    found = sx.helmholtz(sx.as_flow(velocity), (np.zeros(2), sides), resolution=40, periodic=True)
    points = found.points.reshape(-1, 2)
    np.testing.assert_allclose(found.gradient.reshape(-1, 2), -jax.vmap(jax.grad(potential))(points), atol=1e-10)
    np.testing.assert_allclose(found.potential.reshape(-1), jax.vmap(potential)(points), atol=1e-10)
    np.testing.assert_allclose(found.harmonic, np.broadcast_to([0.3, -0.1], found.harmonic.shape), atol=1e-12)
    assert float(found.shares.sum()) == pytest.approx(1.0, abs=1e-12) and float(found.overlap) < 1e-13
    assert found.cautions == ()


def test_helmholtz_on_a_box_returns_what_was_put_in():
    # U and H vanish on the boundary; (x, -y) is curl free and divergence free.
    def bubble(p):
        return (1 - p[0] ** 2) * (4 - p[1] ** 2)

    def velocity(p):
        fall = jax.grad(lambda p: bubble(p) * jnp.cos(p[0] + 0.5 * p[1]))(p)
        turn = jax.grad(lambda p: bubble(p) * jnp.exp(0.5 * p[0]))(p)
        return -fall + jnp.stack([turn[1], -turn[0]]) + jnp.stack([p[0], -p[1]])

    found = sx.helmholtz(sx.as_flow(velocity), ((-1.0, -2.0), (1.0, 2.0)), resolution=20)
    points = found.points.reshape(-1, 2)
    fall = jax.vmap(jax.grad(lambda p: bubble(p) * jnp.cos(p[0] + 0.5 * p[1])))(points)
    np.testing.assert_allclose(found.gradient.reshape(-1, 2), -fall, atol=1e-9)
    np.testing.assert_allclose(found.harmonic.reshape(-1, 2), np.asarray(points) * np.array([1.0, -1.0]), atol=1e-9)
    np.testing.assert_allclose(
        found.potential.reshape(-1), jax.vmap(lambda p: bubble(p) * jnp.cos(p[0] + 0.5 * p[1]))(points), atol=1e-9
    )
    assert float(found.overlap) < 1e-12 and "harmonic share" in found.cautions[0]


def test_helmholtz_of_a_gradient_and_of_a_game():
    descent = sx.optimization.GradientDescent(sx.optimization.Himmelblau(), 0.1)
    assert float(sx.helmholtz(descent, ((-5.0, -5.0), (5.0, 5.0)), resolution=12).shares[1]) < 1e-24
    game = sx.helmholtz(
        sx.games.field(sx.games.Bilinear(1.0)), ((-1.0, -1.0), (1.0, 1.0)), like=asarrays((0.0, 0.0)), resolution=12
    )
    assert float(game.shares[0]) < 1e-24


def test_helmholtz_in_three_dimensions():
    # A Beltrami field (curl f = f) on the torus, and a gradient: shares 3/(3 + 1/2) and (1/2)/(3 + 1/2).
    def velocity(p):
        x, y, z = p
        abc = jnp.stack([jnp.sin(z) + jnp.cos(y), jnp.sin(x) + jnp.cos(z), jnp.sin(y) + jnp.cos(x)])
        return abc + jnp.array([0.0, 0.0, 1.0]) * jnp.sin(z)

    found = sx.helmholtz(sx.as_flow(velocity), (np.zeros(3), 2 * np.pi * np.ones(3)), resolution=8, periodic=True)
    np.testing.assert_allclose(found.shares, [0.5 / 3.5, 3 / 3.5, 0.0], atol=1e-12)


def test_a_coarse_grid_is_told():
    rough = sx.as_flow(lambda p: jnp.stack([jnp.sin(7 * p[0]), jnp.cos(p[1])]))
    found = sx.helmholtz(rough, (np.zeros(2), 2 * np.pi * np.ones(2)), resolution=16, periodic=True)
    assert "take a finer one" in found.cautions[0]


def test_misuse_is_told():
    flow = sx.as_flow(lambda x: -x)
    with pytest.raises(ValueError, match="key=None"):
        sx.field_split(flow, jnp.zeros(2), probes=8)
    with pytest.raises(ValueError, match="every field is a gradient"):
        sx.field_split(flow, jnp.zeros(1), key=KEY, radii=1.0)
    with pytest.raises(ValueError, match="2 or 3"):
        sx.helmholtz(flow, (np.zeros(4), np.ones(4)))
    with pytest.raises(ValueError, match="8 to 45"):
        sx.helmholtz(flow, (np.zeros(2), np.ones(2)), resolution=100)
    with pytest.raises(ValueError, match="low < high"):
        sx.helmholtz(flow, (np.ones(2), np.zeros(2)))
    with pytest.raises(TypeError, match="as_map, as_flow or as_sde"):
        sx.field_split(lambda x: x, jnp.zeros(2))
    still = sx.field_split(sx.as_flow(lambda x: 0.0 * x), jnp.zeros(2))
    assert "nothing to split" in still.cautions[0]


def test_figures_show_the_index_and_every_part():
    found = sx.field_split(sx.games.field(sx.games.DiracGAN(1.0)), asarrays((0.0, 0.0)))
    bars = sx.plotting.plot(found).axes[0].patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], [2 / 3, 1 / 3], atol=1e-12)
    parts = sx.helmholtz(
        sx.games.field(sx.games.Bilinear(1.0)), ((-1.0, -1.0), (1.0, 1.0)), like=asarrays((0.0, 0.0)), resolution=10
    )
    assert [axes.get_title().split(":")[0] for axes in sx.plotting.plot(parts).axes] == [
        "gradient",
        "rotation",
        "harmonic",
    ]
