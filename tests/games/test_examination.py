"""What a game's examination finds, against edges that are known in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

REST = (jnp.array(0.0), jnp.array(0.0))


def finding(system, state=REST):
    (found,) = sx.diagnostics.examine(system, state)
    return found


@pytest.mark.parametrize("penalty", [0.3, 1.0, 1.5])
def test_edge_of_the_dirac_gan(penalty):
    # Complex eigenvalues (penalty < 1): a = -penalty/2, |lambda|^2 = 1/4. Real ones: 2 over the largest.
    root = np.sqrt(complex(penalty**2 / 4 - 1 / 4))
    truth = 4 * penalty if penalty < 1 else 2 / (penalty / 2 + root.real)
    found = finding(sx.games.field(sx.games.DiracGAN(penalty)))
    # The double eigenvalue at penalty 1 is known to the root of rounding.
    assert found.evidence == pytest.approx(truth, rel=1e-7) and found.holds


def test_without_penalty_no_step_is_short_enough():
    found = finding(sx.games.field(sx.games.DiracGAN(0.0)))
    assert found.evidence == 0 and not found.holds
    assert "0.5i" in found.cause and "spiral out" in found.cause and "extragradient" in found.remedy


def test_the_edge_parts_what_nears_the_equilibrium_from_what_leaves_it():
    # 4 x 0.3 = 1.2 is the edge.
    for step_size, holds in ((1.19, True), (1.21, False)):
        descent = sx.games.SimultaneousDescent(sx.games.DiracGAN(0.3), step_size)
        found = finding(descent)
        assert found.holds is holds and found.threshold == pytest.approx(1.2, rel=1e-9)
        path = sx.evolve(descent, (jnp.array(0.01), jnp.array(0.0)), steps=400, save="last").final
        assert bool(np.hypot(*map(float, path)) < 0.01) is holds


def test_edges_of_the_cures_on_the_bilinear_game():
    # Extragradient contracts for h < 1; the consensus field has eigenvalues -g +- i: edge 2 g/(1 + g^2).
    assert finding(sx.games.Extragradient(sx.games.Bilinear(1.0), 0.1)).threshold == pytest.approx(1.0, rel=1e-9)
    consensus = finding(sx.games.ConsensusDescent(sx.games.Bilinear(1.0), 0.7, strength=0.5))
    assert consensus.threshold == pytest.approx(0.8, rel=1e-9) and consensus.holds
    assert finding(sx.games.SimultaneousDescent(sx.games.Bilinear(1.0), 1e-3)).threshold == 0


def test_extragradient_leaves_a_damped_spiral_at_the_root_of_its_polynomial():
    # Players of different curvature, so that a transposed Jacobian would be seen: J = ((-0.2, -2), (0.5, -1)).
    game = sx.games.as_game(lambda p: (0.1 * p[0] ** 2 + 2 * p[0] * p[1], 0.5 * p[1] ** 2 - 0.5 * p[0] * p[1]))
    values = np.linalg.eigvals(np.array([[-0.2, -2.0], [0.5, -1.0]]))
    edge = finding(sx.games.Extragradient(game, 0.1)).threshold
    radius = max(abs(1 + edge * values + (edge * values) ** 2))
    assert edge > 0.5 and radius == pytest.approx(1.0, abs=1e-9)


def test_off_an_equilibrium_and_of_other_steps_nothing_is_said():
    off = (jnp.array(1.0), jnp.array(0.5))
    assert sx.diagnostics.examine(sx.games.field(sx.games.DiracGAN(0.3)), off) == []
    assert sx.diagnostics.examine(sx.games.AlternatingDescent(sx.games.Bilinear(1.0), 0.1), REST) == []


def test_an_unstable_equilibrium_has_no_edge():
    hill = sx.games.as_game(lambda p: (-0.5 * p[0] ** 2, 0.5 * p[1] ** 2))
    found = finding(sx.games.field(hill))
    assert found.evidence == 0 and "lead away" in found.cause and "spiral" not in found.cause
