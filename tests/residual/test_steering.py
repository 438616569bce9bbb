"""Steering by shears: each point arrives, each piece is followed exactly, and switches are two a point."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


@pytest.mark.parametrize(("count", "width"), [(1, 2), (8, 2), (128, 2), (20, 5)])
def test_all_points_arrive_at_once_with_two_switches_a_point(count, width):
    rng = np.random.default_rng(count)
    points, targets = rng.normal(size=(2, count, width))
    flow = sx.residual.steer(points, targets)
    assert flow.pieces == 2 * count
    # w is at right angles to a in each piece: so every piece is a shear.
    size = np.maximum(np.linalg.norm(flow.out, axis=1), 1)
    np.testing.assert_allclose(np.sum(np.asarray(flow.out) * np.asarray(flow.into), axis=1) / size, 0, atol=1e-12)

    @eqx.filter_jit
    def ends(flow, points):
        follow = lambda x: (
            sx.evolve(flow, x, times=(0, flow.pieces), steps=flow.pieces, method=sx.Euler(), save="last").final
        )
        return jax.vmap(follow)(points)

    # Slopes of up to 2,000 between the closest levels amplify the rounding, twice.
    np.testing.assert_allclose(ends(flow, jnp.asarray(points)), targets, atol=1e-7)


def test_two_labels_that_no_line_parts_are_parted():
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # exclusive or
    labels = np.array([-1.0, -1.0, 1.0, 1.0])
    targets = np.stack([labels, np.arange(4.0)], axis=1)
    flow = sx.residual.steer(points, targets)
    path = [sx.evolve(flow, jnp.asarray(x), times=(0, 8), steps=8, method=sx.Euler()) for x in points]
    assert [float(np.sign(one.final[0])) for one in path] == labels.tolist()
    # Along a piece the argument of relu is constant: many steps end where one does.
    fine = sx.evolve(flow, jnp.asarray(points[1]), times=(0, 8), steps=80, method=sx.Euler())
    np.testing.assert_allclose(fine.final, path[1].final, atol=1e-12)


@pytest.mark.parametrize(
    ("points", "targets", "words"),
    [
        (np.zeros((2, 1)), np.zeros((2, 1)), "d >= 2"),
        (np.zeros((2, 2)), np.eye(2), "points\n  got the same place twice"),
        (np.eye(2), np.zeros((2, 2)), "targets\n  got the same place twice"),
        (np.eye(2), np.ones((3, 2)), r"targets \(3, 2\)"),
        (np.array([[np.nan, 0.0], [0.0, 1.0]]), np.eye(2), "points\n  got nan"),
    ],
)  # fmt: skip
def test_what_cannot_be_steered_is_refused(points, targets, words):
    with pytest.raises(ValueError, match=words):
        sx.residual.steer(points, targets)
