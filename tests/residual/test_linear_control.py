"""Regulators and least energy: against closed forms, Bellman's recursion, and simulation."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import separatrix as sx

UPRIGHT = ([[0.0, 1.0], [1.0, 0.0]], [[0.0], [1.0]])


def test_the_upright_pendulum_has_the_gain_one_plus_root_two():
    gain = sx.residual.lqr(*UPRIGHT, np.eye(2), [[1.0]])
    np.testing.assert_allclose(gain, [[1 + np.sqrt(2), 1 + np.sqrt(2)]], rtol=1e-12)


def test_the_discrete_gain_is_the_limit_of_finite_horizons_and_tends_to_the_continuous_one():
    a, b, q, r = [[1.0, 0.1], [0.1, 1.0]], [[0.0], [0.1]], np.eye(2), [[1.0]]
    gains = sx.residual.lqr_gains(a, b, q, r, 400)
    steady = sx.residual.lqr(a, b, q, r, discrete=True)
    np.testing.assert_allclose(gains[0], steady, rtol=1e-9)
    np.testing.assert_allclose(
        gains[-1], np.asarray(np.linalg.solve(r + np.asarray(b).T @ b, np.asarray(b).T @ a)), rtol=1e-12
    )
    errors = []
    for h in (0.02, 0.01):
        exact = scipy.linalg.expm(np.block([[np.array(UPRIGHT[0]), np.array(UPRIGHT[1])], [np.zeros((1, 3))]]) * h)
        found = sx.residual.lqr(exact[:2, :2], exact[:2, 2:], h * np.eye(2), [[h]], discrete=True)
        errors.append(np.abs(np.asarray(found) - (1 + np.sqrt(2))).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


def test_one_dimensional_riccati_is_the_golden_ratio():
    # P = 1 + P - P^2/(1 + P) has the root (1 + sqrt 5)/2, and K = P/(1 + P) its inverse.
    gain = sx.residual.lqr([[1.0]], [[1.0]], [[1.0]], [[1.0]], discrete=True)
    assert gain.item() == pytest.approx((np.sqrt(5) - 1) / 2, rel=1e-12)


def test_least_energy_arrives_and_no_other_input_is_cheaper():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    start, end, horizon = np.array([1.0, 0.0, -1.0]), np.array([0.5, 2.0, 0.0]), 1.5
    force, energy = sx.residual.least_energy(a, b, start, end, horizon)
    bent = lambda t: jnp.array([1.0, -2.0]) * jnp.sin(2 * np.pi * t / horizon)

    def arrive(u):
        flow = sx.as_flow(lambda t, s: jnp.append(jnp.asarray(a) @ s[:3] + jnp.asarray(b) @ u(t), jnp.sum(u(t) ** 2)))
        return sx.evolve(
            flow, jnp.append(jnp.asarray(start), 0.0), times=(0.0, horizon), steps=400, method=sx.RK4()
        ).final

    last = arrive(force)
    np.testing.assert_allclose(last[:3], end, atol=1e-8)
    assert last[3].item() == pytest.approx(energy, rel=1e-8)
    # Whatever leads there is the least input plus one that leads nowhere: add one, and the energy can only grow.
    nowhere = arrive(bent)[:3] - jnp.asarray(scipy.linalg.expm(a * horizon) @ start)
    back, _ = sx.residual.least_energy(a, b, np.zeros(3), -np.asarray(nowhere), horizon)
    other = arrive(lambda t: force(t) + bent(t) + back(t))
    np.testing.assert_allclose(other[:3], end, atol=1e-7)
    assert other[3] > energy * (1 + 1e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.residual.least_energy(np.eye(2), [[1.0], [0.0]], [0, 0], [0, 1], 1.0), "a state that can be reached"),
        (lambda: sx.residual.least_energy(np.eye(2), np.eye(2), [0.0], [0, 1], 1.0), r"start \(1,\)"),
        (lambda: sx.residual.gramian(np.eye(2), np.eye(3), 1.0), r"B \(3, 3\)"),
        (lambda: sx.residual.gramian(np.eye(2), np.eye(2), 0.0), "horizon\n  got 0.0"),
        (lambda: sx.residual.lqr_gains(*UPRIGHT, np.eye(2), [[1.0]], 0), "steps\n  got 0"),
        (lambda: sx.residual.lqr_gains(*UPRIGHT, np.eye(2), [[1.0]], 2, terminal=-np.eye(2)),
        "terminal\n  got an eigenvalue -1"),
        (lambda: sx.residual.lqr_gains(*UPRIGHT, np.eye(2), [[1.0]], 2, terminal=np.eye(3)),
        r"terminal\n  got shape \(3, 3\)"),
        (lambda: sx.residual.lqr(2 * np.eye(1), np.zeros((1, 1)), np.eye(1), np.eye(1), discrete=True), "no solution"),
    ],
)  # fmt: skip
def test_what_has_no_answer_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
