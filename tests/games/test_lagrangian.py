"""Training under constraints: known optima, edges in closed form, and constraints that cannot be met."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import games


def scalar(c):
    """min x^2/2 subject to x = 1."""
    return games.Lagrangian(lambda x: x**2 / 2, equal=lambda x: x - 1.0, augmented=c)


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_edges_of_the_constrained_parabola(c):
    point = (jnp.array(1.0), games.ConstraintMultipliers(jnp.array([-1.0])))
    found = games.joint_jacobian(scalar(c), point)
    np.testing.assert_allclose(found.matrix, [[1 + c, 1.0], [-1.0, 0.0]], atol=1e-14)
    linear = games.linear_game(found.matrix, found.sizes)
    alternating = -(1 + c) + np.sqrt((1 + c) ** 2 + 4)
    assert games.largest_step(linear, "alternating") == pytest.approx(alternating, rel=1e-6)
    assert games.largest_step(linear, "simultaneous") == pytest.approx(1 + c, rel=1e-6)
    # And the path on either side of the edge.
    for factor, holds in ((0.98, True), (1.02, False)):
        descent = games.AlternatingDescent(scalar(c), alternating * factor)
        start = (jnp.array(1.001), point[1])
        end = sx.evolve(descent, start, steps=1500, save="last").final
        assert bool(abs(float(end[0]) - 1.0) < 1e-3) is holds


MATRIX = jnp.array([[2.0, 0.5], [0.5, 1.0]])
TOWARDS = jnp.array([1.0, -2.0])


def quadratic(x):
    return x @ MATRIX @ x / 2 - TOWARDS @ x


def test_an_equality_is_met_at_the_known_optimum():
    # min x^T A x/2 - b . x with e . x = 1: the KKT system is linear.
    e = jnp.array([1.0, 1.0])
    kkt = np.block([[np.asarray(MATRIX), np.ones((2, 1))], [np.ones((1, 2)), np.zeros((1, 1))]])
    exact = np.linalg.solve(kkt, [1.0, -2.0, 1.0])
    game = games.Lagrangian(quadratic, equal=lambda x: e @ x - 1.0)
    descent = games.Extragradient(game, 0.2)
    end = sx.evolve(descent, (jnp.zeros(2), game.multipliers(jnp.zeros(2))), steps=600, save="last").final
    np.testing.assert_allclose(np.concatenate([end[0], end[1].equal]), exact, atol=1e-9)
    told = game.optimality(end)
    for name in ("stationarity", "violation", "sign", "slackness"):
        assert float(getattr(told, name)) < 1e-8, name


@pytest.mark.parametrize("augmented", [0.0, 2.0])
def test_inequalities_hold_and_idle_ones_have_no_multiplier(augmented):
    # x_1 <= 0.5 binds (the free optimum (8/7, -18/7) is beyond), x_2 <= 3 does not: x_1 = 1/2, x_2 = -2 - 1/4.
    game = games.Lagrangian(quadratic, below=lambda x: jnp.stack([x[0] - 0.5, x[1] - 3.0]), augmented=augmented)
    slow = optax.sgd(0.1)
    play = games.Players(slow, slow if augmented else games.nonnegative(slow), scheme="extragradient")(game)
    start = (jnp.array([2.0, 4.0]), game.multipliers(jnp.zeros(2)))
    state = sx.evolve(play, play.init(start), steps=1500, save="last").final
    x, multipliers = state.parameters
    np.testing.assert_allclose(x, [0.5, -2.25], atol=1e-7)
    # grad: 2 x_1 + x_2/2 - 1 + mu = 0.
    np.testing.assert_allclose(multipliers.below, [1.125, 0.0], atol=1e-7)
    told = game.optimality(state.parameters)
    assert max(float(told.violation), float(told.slackness), float(told.sign)) < 1e-7 and not told.infeasible


def test_a_proportional_term_damps_what_ascent_alone_does_not():
    # x' = x - h (x + l), l' = l + k_i e + k_p (e - e_before), e = x - 1, in (x, l, e_before), around the optimum.
    h = 0.3

    def radius(ki, kp):
        step = np.array([[1 - h, -h, 0.0], [ki + kp, 1.0, -kp], [1.0, 0.0, 0.0]])
        return max(abs(np.linalg.eigvals(step)))

    for ki, kp in ((0.3, 0.0), (0.3, 1.0)):
        play = games.Players(optax.sgd(h), games.pi_control(ki, kp))(scalar(0.0))
        start = play.init((jnp.array(0.0), games.ConstraintMultipliers(jnp.zeros(1))))
        far = sx.evolve(play, start, steps=60, save=lambda state: state.parameters[0])
        off = np.abs(np.asarray(far.states) - 1.0)
        # The envelope over a window as long as a turn falls by the radius a step.
        first, last = off[10:30].max(), off[30:50].max()
        np.testing.assert_allclose((last / first) ** (1 / 20), radius(ki, kp), rtol=0.03)
    assert radius(0.3, 1.0) < radius(0.3, 0.0)


def test_constraints_that_cannot_be_met_are_named_and_their_multipliers_grow():
    game = games.Lagrangian(lambda x: x**2, equal=lambda x: jnp.stack([x - 1.0, x + 1.0]))
    play = games.Players(optax.sgd(0.05), scheme="extragradient")(game)
    state = play.init((jnp.array(0.3), game.multipliers(jnp.array(0.3))))
    sizes = []
    for steps in (500, 1000):
        end = sx.evolve(play, state, steps=steps, save="last").final
        sizes.append(float(game.optimality(end.parameters).largest))
    # Both multipliers move apart by 0.05 a step, for ever.
    np.testing.assert_allclose(sizes, [25.0, 50.0], rtol=0.05)
    told = game.optimality(end.parameters)
    assert told.infeasible and "infeasible" in told.cautions[0]
    broken = sx.diagnose(play, end, questions=[]).broken
    assert any("multipliers grow" in finding.cause and "infeasible" in finding.remedy for finding in broken)


def test_training_on_batches_under_a_bound_on_the_weights():
    """Least squares with |w|^2 <= 1: ridge regression at the multiplier that the bound needs."""
    key = jax.random.key(0)
    inputs = jax.random.normal(key, (64, 3))
    targets = inputs @ jnp.array([2.0, -1.0, 0.5])

    def loss(w, batch):
        return jnp.mean((batch[0] @ w - batch[1]) ** 2) / 2

    game = games.Lagrangian(loss, below=lambda w, batch: (w @ w - 1.0) / 2, augmented=1.0)
    start = (jnp.zeros(3), game.multipliers(jnp.zeros(3), (inputs, targets)))
    run = sx.fit(
        game, games.Players(optax.sgd(0.1), scheme="extragradient"), (inputs, targets), initial=start, steps=800
    )
    w, multipliers = run.model
    gram, right = inputs.T @ inputs / 64, inputs.T @ targets / 64
    exact = jnp.linalg.solve(gram + multipliers.below[0] * jnp.eye(3), right)
    np.testing.assert_allclose(w, exact, atol=1e-6)
    np.testing.assert_allclose(w @ w, 1.0, atol=1e-6)


REFUSED = {
    "no constraint": (lambda: games.Lagrangian(lambda x: x), "constraints\n  got none"),
    "a negative weight": (lambda: scalar(-1.0), "augmented\n  got -1.0"),
    "a constraint that is a matrix": (
        lambda: games.Lagrangian(lambda x: x, equal=lambda x: jnp.eye(2) * x).multipliers(jnp.array(1.0)),
        r"\(2, 2\)",
    ),
    "a loss that is no number": (
        lambda: games.Lagrangian(lambda x: jnp.stack([x, x]), equal=lambda x: x).multipliers(jnp.array(1.0)),
        r"loss\n  got shape \(2,\)",
    ),
    "multipliers of another shape": (
        lambda: scalar(0.0)((jnp.array(1.0), games.ConstraintMultipliers(jnp.zeros(2)))),
        r"multipliers.equal\n  got shape \(2,\)",
    ),
    "no gain": (lambda: games.pi_control(0.0, 1.0), "integral\n  got 0.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){words}"):
        call()


def test_other_players_than_multipliers_are_refused():
    with pytest.raises(TypeError, match="expected ConstraintMultipliers"):
        scalar(0.0)((jnp.array(1.0), jnp.array(1.0)))
    with pytest.raises(TypeError, match="optax"):
        games.nonnegative(3.0)
