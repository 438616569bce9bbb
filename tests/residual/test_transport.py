"""Pieces that stretch, mass that is gathered, densities moved: against adaptive solves, slopes and assignment."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import separatrix as sx


def follow(flow, points):
    pieces = flow.exact()
    return np.asarray(jax.jit(jax.vmap(lambda x: sx.evolve(pieces, x, save="last").final))(jnp.asarray(points)))


def test_a_piece_is_exact_whether_it_stretches_shrinks_or_shears():
    rng = np.random.default_rng(0)
    out, into, bias = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), rng.normal(size=4)
    out[1] = [-into[1, 1], into[1, 0]]  # a shear
    out[2] = [-into[2, 1] + 1e-6, into[2, 0]]  # nearly one
    flow = sx.residual.NeuronFlow(*map(jnp.asarray, (out, into, bias)))
    points = rng.normal(size=(5, 2))
    # Piece by piece, since the field jumps between them.
    slow = []
    for x in points:
        state = jnp.asarray(x)
        for k in range(4):
            piece = sx.as_flow(lambda y, k=k: jax.nn.relu(flow.into[k] @ y + flow.bias[k]) * flow.out[k])
            state = sx.evolve(piece, state, times=(0.0, 1.0), rtol=1e-11, atol=1e-12).final
        slow.append(state)
    np.testing.assert_allclose(follow(flow, points), np.stack(slow), rtol=1e-8, atol=1e-9)


def test_cells_are_gathered_and_the_grid_stays():
    edges = [np.array([0.0, 0.4, 1.0, 2.0]), np.array([-1.0, 1.0])]
    flow = sx.residual.gather(edges, core=0.9, shrink=1e-4)
    assert flow.pieces == (2 * 3 + 2) + (2 * 1 + 2)
    corners = np.array([[0.0, -1.0], [0.4, 1.0], [1.0, -1.0], [2.0, 1.0], [3.5, -2.0]])
    np.testing.assert_allclose(follow(flow, corners), corners, atol=1e-12)
    # A middle of 0.9 of a cell comes to 1e-4 of its length, about the middle.
    middles = np.array([[0.2, 0.0], [0.7, 0.0], [1.5, 0.0]])
    lengths = np.array([0.4, 0.6, 1.0])
    for sign in (-1.0, 1.0):
        off = np.stack([sign * 0.45 * lengths, np.full(3, sign * 0.9)], axis=1)
        np.testing.assert_allclose(follow(flow, middles + off), middles + 1e-4 * off, atol=1e-12)


def distance(first, second):
    """W_1 between two samples of one size, by assignment."""
    cost = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return cost[scipy.optimize.linear_sum_assignment(cost)].mean()


def test_a_density_is_taken_to_another_one_up_to_the_size_of_a_cell():
    # From the unit square to a disk far off, by strips of equal mass to points of equal shares.
    rng, errors = np.random.default_rng(0), []
    sample = rng.uniform(size=(512, 2))
    turn, radius = 2 * np.pi * rng.uniform(size=512), np.sqrt(rng.uniform(size=512))
    wanted = np.stack([3 + radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    for count in (8, 64):
        k = np.arange(count) + 0.5
        spiral = np.sqrt(k / count)[:, None] * np.stack([np.cos(2.399963 * k), np.sin(2.399963 * k)], axis=1)
        gathered = sx.residual.gather([np.linspace(0, 1, count + 1), [0.0, 1.0]], core=0.98, shrink=1e-7)
        middles = np.stack([k / count, np.full(count, 0.5)], axis=1)
        flow = gathered.then(sx.residual.steer(middles, spiral + np.array([3.0, 0.0])))
        assert flow.pieces == 4 * count + 6
        errors.append(distance(follow(flow, sample), wanted))
    # Points of a spiral stand for 1/N of the disk each: 2/3 of a radius of N^-1/2 away. Then two samples of 512,
    # and the 4 % that lay between cells.
    assert errors[0] < 2 / 3 / np.sqrt(8) + 0.2
    assert errors[1] < 2 / 3 / np.sqrt(64) + 0.2
    assert errors[1] < 0.7 * errors[0]


def test_loss_of_no_push_is_the_distance_that_is_asked_and_training_lowers_it():
    rng = np.random.default_rng(3)
    points, targets = jnp.asarray(rng.normal(size=(2, 4, 2)))
    still = sx.residual.random_neurons(8, 2, key=jax.random.key(0))
    still = sx.residual.NeuronFlow(0 * still.out, still.into, still.bias)
    loss = sx.residual.steering_loss()
    assert loss(still, (points, targets)).item() == pytest.approx(float(jnp.mean(jnp.sum((points - targets) ** 2, -1))))
    first = sx.residual.random_neurons(8, 2, key=jax.random.key(0))
    found = sx.fit(loss, optax.adam(0.05), (points, targets), initial=first, steps=300)
    assert found.losses[-1] < 0.05 * found.losses[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.residual.gather([[0.0, 0.0]]), "edges\n  got shape"),
        (lambda: sx.residual.gather([[0.0, 1.0]], core=1.0), r"core\n  got 1.0, expected a number in \(0, 1\)"),
        (lambda: sx.residual.random_neurons(0, 2, key=jax.random.key(0)), "pieces\n  got 0"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()
