"""Flip-flops: targets against a loop, the fixed points of trained nets, and their portrait."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix.plotting import plot_principal_portrait


def test_targets_are_the_last_pulses():
    pulses, kept = (np.asarray(rows) for rows in sx.recurrent.flip_flops(4, 60, key=jax.random.key(1), rate=0.2))
    state, expected = np.zeros((4, 3)), []
    for n in range(60):
        state = np.where(pulses[:, n] != 0, pulses[:, n], state)
        expected.append(state)
    np.testing.assert_array_equal(kept, np.stack(expected, axis=1))
    assert np.mean(pulses != 0) == pytest.approx(0.2, abs=4 * (0.16 / pulses.size) ** 0.5)
    assert abs(pulses.mean()) < 4 * (0.2 / pulses.size) ** 0.5


def test_refusals():
    with pytest.raises(ValueError, match="rate"):
        sx.recurrent.flip_flops(1, 5, key=jax.random.key(0), rate=0.0)
    points = sx.fixed_points(sx.as_map(lambda x: 0.5 * x), jnp.zeros((1, 2)))
    wrong = {"do not move": np.zeros((1, 4, 2)), "shape": np.zeros((4, 2)), "not finite": np.full((1, 4, 2), np.nan)}
    for word, orbits in wrong.items():
        with pytest.raises(ValueError, match=word):
            sx.recurrent.principal_portrait(sx.as_map(lambda x: 0.5 * x), orbits, points)


def test_a_portrait_turned_in_space_is_the_same_and_spirals_have_two_directions():
    # A saddle focus: 1.1 turned by 0.5 in a plane, 0.2 along the third axis; in axes turned by a rotation Q.
    turn = np.array([[np.cos(0.5), -np.sin(0.5), 0], [np.sin(0.5), np.cos(0.5), 0], [0, 0, 0.2 / 1.1]]) * 1.1
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    system = sx.as_map(lambda x, a=jnp.asarray(q @ turn @ q.T): a @ x)
    circle = (
        np.array([[3 * np.cos(t), np.sin(t), 0.1 * np.sin(2 * t)] for t in np.linspace(0, 2 * np.pi, 40, False)]) @ q.T
    )
    found = sx.recurrent.principal_portrait(system, circle[None], sx.fixed_points(system, jnp.zeros((1, 3))))
    variances = np.array([4.5, 0.5, 0.005])
    np.testing.assert_allclose(found.shares, variances / variances.sum(), atol=1e-12)
    assert found.dimension == pytest.approx(variances.sum() ** 2 / np.sum(variances**2))
    np.testing.assert_allclose(np.abs(found.axes @ q), [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    assert len(found.directions) == 2 and np.allclose(found.growth, 1.1) and not found.stable.any()
    fig = plot_principal_portrait(
        found.orbits, found.points, found.stable, directions=found.directions, owners=found.owners
    )
    assert len(fig.axes[0].get_lines()) == 1 + 2 + 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_trained_net_has_eight_stable_fixed_points(seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    cell = sx.recurrent.Elman(3, 40, key=keys[0], dtype=jnp.float32)
    cell = sx.recurrent.with_recurrent_gain(cell, 1.0, key=keys[3])
    model = sx.recurrent.SequenceLabeler(cell, 3, key=keys[1])
    data = sx.recurrent.flip_flops(1024, 60, key=keys[2], dtype=jnp.float32)

    def loss(model, batch):
        return jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2)

    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(3e-3, 2500, 0.02)))
    trained = sx.fit(loss, adam, data, initial=model, steps=2500, batch_size=64, key=jax.random.key(9)).model
    new = sx.recurrent.flip_flops(64, 100, key=jax.random.key(100), dtype=jnp.float32)
    assert float(loss(trained, new)) < 0.02
    cell = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, trained.cell)
    readout = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, trained.readout)
    quiet = sx.as_map(lambda x, cell=cell: cell(jnp.zeros(3), x))
    run = jax.vmap(lambda u: sx.evolve(sx.from_cell(cell, u), jnp.zeros(40)).states)
    orbits = run(new[0][:16].astype(jnp.float64))
    found = sx.fixed_points(quiet, orbits[:, 20::4].reshape(-1, 40))
    stable = np.asarray(found.indices) == 0
    stable &= ~np.asarray(found.slow)
    said = np.asarray(jax.vmap(readout)(found.coordinates))[stable]
    # Eight, one for each corner of the cube, which it says within 0.3.
    assert stable.sum() == 8, found
    assert len({tuple(row) for row in np.sign(said)}) == 8 and np.all(np.abs(np.abs(said) - 1) < 0.3)
    portrait = sx.recurrent.principal_portrait(quiet, orbits, found)
    assert portrait.shares[:3].sum() > 0.6  # three bits: three axes hold most
