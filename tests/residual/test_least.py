"""What is least: energy beside the Gramian, Pontryagin's gradient by the adjoint, the brachistochrone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

KNOTS = np.linspace(0.0, 1.0, 9)


class Force(eqx.Module):
    """u(t), straight lines between values at knots."""

    values: jax.Array

    def __call__(self, t, x):
        return jnp.interp(jnp.asarray(t, x.dtype), jnp.asarray(KNOTS, x.dtype), self.values.astype(x.dtype))


def test_energy_that_training_finds_is_that_of_the_gramian():
    # Rest to rest over 1 in unit time: 12. With w |x(T) - x_1|^2 in place of arrival it is d^T (W + 1/w)^-1 d.
    plant, end, w = sx.as_open_flow(lambda x, u: jnp.stack([x[1], u])), np.array([1.0, 0.0]), 1e4
    loss = sx.residual.policy_loss(
        plant, lambda x, u: u**2, horizon=1.0, steps=32, terminal=lambda x: w * jnp.sum((x - jnp.asarray(end)) ** 2)
    )
    optimizer = optax.lbfgs(1.0, memory_size=12, linesearch=None)
    found = sx.fit(loss, optimizer, jnp.zeros((1, 2)), initial=Force(jnp.zeros(9)), steps=80)
    a, b = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0], [1.0]])
    weighted = np.asarray(sx.residual.gramian(a, b, 1.0)) + np.eye(2) / w
    fined = end @ np.linalg.solve(weighted, end)
    assert found.losses[-1].item() == pytest.approx(fined, rel=1e-4)
    _, energy = sx.residual.least_energy(a, b, np.zeros(2), end, 1.0)
    assert energy == pytest.approx(12.0, rel=1e-9)
    spent = np.trapezoid(np.interp(np.linspace(0, 1, 2001), KNOTS, found.model.values) ** 2, dx=1 / 2000)
    # Arrival is off by 12/w and less, which saves 0.3 % of the energy.
    assert spent == pytest.approx(energy, rel=0.01)


def test_the_gradient_of_a_policy_is_what_pontryagin_says_with_the_costate_of_adjoint():
    # dJ/du = dc/du + B^T lambda,   -lambda' = Df^T lambda + dc/dx,   lambda(T) = grad g(x(T)).
    plant, start = sx.residual.PendulumPlant(0.2), jnp.array([0.4, -0.3])
    cost, terminal = lambda x, u: u**2 + jnp.cos(x[0]), lambda x: (x[0] - 2.0) ** 2 + x[1] ** 4
    force = Force(jnp.asarray(np.random.default_rng(0).normal(size=9)))
    loss = sx.residual.policy_loss(plant, cost, horizon=1.0, steps=160, terminal=terminal)
    by_training = jax.grad(loss)(force, start[None]).values
    flow = sx.close_loop(plant, force)
    path = sx.evolve(flow, start, times=(0.0, 1.0), dense=True, rtol=1e-10, atol=1e-12)
    back = sx.adjoint(flow, path, cost=lambda t, x: jnp.cos(x[0]))
    grid = np.linspace(0.0, 1.0, 161)
    costate = sx.evolve(back, jax.grad(terminal)(path.final), times=grid, rtol=1e-10, atol=1e-12).states[::-1]
    slope = 2 * np.interp(grid, KNOTS, force.values) + np.asarray(costate[:, 1])
    hats = np.stack([np.interp(grid, KNOTS, row) for row in np.eye(9)])
    # Simpson's rule is exact for cubics, and each hat has a corner at a node of the rule.
    weights = np.ones(161)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    by_costate = hats @ (weights * slope) / (3 * 160)
    np.testing.assert_allclose(by_training, by_costate, atol=2e-6)


def test_the_fastest_slide_is_found_by_training_and_takes_pi():
    # From (0, 0) to (pi, 2) below, g = 1: on a straight piece v grows evenly, so that it takes 2 length/(v_0 + v_1).
    across = jnp.linspace(0.0, np.pi, 65)

    def duration(inner):
        down = jnp.concatenate([jnp.zeros(1), inner, jnp.full(1, 2.0)])
        speed = jnp.sqrt(2 * down)
        # The first piece starts from rest, and the square root has no slope there.
        speed = jnp.concatenate([jnp.zeros(1), jnp.sqrt(2 * down[1:])])
        return jnp.sum(2 * jnp.hypot(jnp.diff(across), jnp.diff(down)) / (speed[1:] + speed[:-1]))

    straight = 2.0 * across[1:-1] / np.pi
    assert duration(straight).item() == pytest.approx(np.sqrt(np.pi**2 + 4), rel=1e-12)
    assert duration(straight).item() == pytest.approx(3.7241918, rel=1e-7)
    found = sx.fit(duration, optax.adam(optax.cosine_decay_schedule(0.03, 1500)), initial=straight, steps=1500)
    # A polygon is slower than the cycloid, mostly on its first piece, where the cycloid falls straight down.
    assert np.pi < found.losses[-1].item() < np.pi * 1.01
    # Its place: x = s - sin s, y = 1 - cos s.
    s = np.linspace(0.3, np.pi, 200)
    cycloid = np.interp(np.asarray(across[1:-1]), s - np.sin(s), 1 - np.cos(s))
    late = np.asarray(across[1:-1]) > 0.3
    np.testing.assert_allclose(np.asarray(found.model)[late], cycloid[late], atol=0.03)
