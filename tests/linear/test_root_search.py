"""Newton's steps against solved systems, and a search in slots against closed forms that are each start's own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix.linear import newton, root_search


class Cubes(eqx.Module):
    """x^3 = a and y = a x: the root is the start's own."""

    def __call__(self, z, own):
        return jnp.stack([z[0] ** 3 - own, z[1] - own * z[0]])


class Affine(eqx.Module):
    """A z - b, b the row's own."""

    matrix: jax.Array

    def __call__(self, z, own):
        return self.matrix @ z - own


@pytest.mark.parametrize("count", [1, 5, 21], ids=["one", "fewer than slots", "more than slots"])
def test_each_start_ends_at_its_own_root_whatever_slot_it_had(count, monkeypatch):
    monkeypatch.setattr(root_search, "_MOST", 4)
    own = jnp.linspace(-3.0, 40.0, count) + 0.25
    starts = jnp.stack([jnp.linspace(30.0, 0.5, count) * jnp.sign(own), jnp.zeros(count)], axis=1)
    found = root_search.find_roots(Cubes(), starts, own, 128)
    roots = np.cbrt(np.asarray(own))
    np.testing.assert_allclose(found.values, np.stack([roots, own * roots], axis=1), rtol=1e-13)
    assert root_search.converged(found, 1e-12).all()


def test_a_start_that_runs_out_of_steps_is_no_root_and_keeps_nobody_waiting():
    own = jnp.array([8.0, 8.0, 8.0])
    starts = jnp.array([[2.1, 16.0], [1e8, 0.0], [1.9, 16.0]])
    found = root_search.find_roots(Cubes(), starts, own, 6)
    assert root_search.converged(found, 1e-12).tolist() == [True, False, True]


def test_steps_solve_their_systems_and_a_singular_one_takes_the_shortest():
    generator = np.random.default_rng(0)
    matrices = generator.standard_normal((3, 6, 6))
    # Of rank 5, with a residual in its range.
    u, s, v = np.linalg.svd(matrices[1])
    matrices[1] = (u[:, :5] * s[:5]) @ v[:5]
    residuals = np.einsum("bij,bj->bi", matrices, generator.standard_normal((3, 6)))
    rows = (jnp.asarray(matrices), jnp.asarray(residuals))
    equations = lambda z, row: row[0] @ z + row[1]
    found = newton.newton_steps(equations, jnp.zeros((3, 6)), rows, jnp.ones(3, bool))
    truth = np.stack([-np.linalg.lstsq(a, r, rcond=1e-10)[0] for a, r in zip(matrices, residuals, strict=True)])
    np.testing.assert_allclose(found.steps[np.array([0, 2])], truth[[0, 2]], rtol=1e-10)
    # Damped by mu = 6 eps^(2/3) = 2e-10, in units of |J|^2/6 over the smallest singular value squared.
    np.testing.assert_allclose(found.steps[1], truth[1], rtol=1e-9 * s[0] ** 2 / s[4] ** 2 + 1e-5)
    cut = newton.shortest_steps(equations, jnp.zeros((3, 6)), rows, 1e-10)
    np.testing.assert_allclose(cut.steps, truth, rtol=1e-10)


def test_damped_steps_are_those_of_the_stacked_least_squares_and_say_what_they_gain():
    generator = np.random.default_rng(1)
    matrices, residuals, mu = (
        generator.standard_normal((2, 4, 4)),
        generator.standard_normal((2, 4)),
        np.array([0.3, 2.0]),
    )
    found = newton.damped_steps(jnp.asarray(matrices), jnp.asarray(residuals), jnp.asarray(mu))
    for row, (matrix, residual) in enumerate(zip(matrices, residuals, strict=True)):
        shift = mu[row] * np.sum(matrix**2) / 4
        stacked = np.vstack([matrix, np.sqrt(shift) * np.eye(4)])
        truth = np.linalg.lstsq(stacked, np.append(-residual, np.zeros(4)), rcond=None)[0]
        np.testing.assert_allclose(found.steps[row], truth, rtol=1e-12)
        gained = np.sum(residual**2) - np.sum((residual + matrix @ truth) ** 2)
        assert float(found.expected[row]) == pytest.approx(gained, rel=1e-12)
        np.testing.assert_allclose(found.slopes[row], matrix.T @ residual, rtol=1e-12)


def test_products_alone_leave_no_more_than_a_tenth_and_one_that_stalls_is_solved_by_its_matrix():
    # A shift of 300 coordinates by one place: GMRES makes no headway on it at all before its 300th vector.
    shift = jnp.roll(jnp.eye(300), 1, axis=0)
    easy = jnp.eye(300) + 0.1 * jax.random.normal(jax.random.key(0), (300, 300)) / jnp.sqrt(300)
    right = jnp.zeros((1, 300)).at[0, 0].set(1.0)
    for matrix, left in ((easy, 0.1), (shift, 1e-12)):
        found = newton.steps_by_products(Affine(matrix), jnp.zeros((1, 300)), right, jnp.ones(1, bool))
        assert float(jnp.linalg.norm(matrix @ found.steps[0] - right[0])) <= left


def test_a_second_search_of_as_many_starts_or_a_few_less_compiles_nothing():
    traced = []

    class Counted(eqx.Module):
        def __call__(self, z, own):
            traced.append(1)
            return z**3 - own

    starts, own = jnp.ones((16, 1)), jnp.linspace(1.0, 2.0, 16)[:, None]
    root_search.find_roots(Counted(), starts, own, 64)
    before = len(traced)
    for count in (16, 13, 9):
        root_search.find_roots(Counted(), starts[:count], own[:count], 50 + count)
    assert before and len(traced) == before


class Chain(eqx.Module):
    """z + z^3 + a neighbour's half = own, of a monotone left side; or 1 + z^2 = 0, which has no root."""

    def left(self, z):
        return z + z**3 + (jnp.roll(z, 1) + jnp.roll(z, -1)) / 4

    def __call__(self, z, own):
        return jnp.where(own[1] > 0, self.left(z) - own[0], 1 + z**2)


@pytest.mark.parametrize("size", [300, 600], ids=["matrix at last", "products throughout"])
def test_large_problems_end_at_their_root_or_say_that_there_is_none(size):
    generator = np.random.default_rng(0)
    roots = jnp.asarray(generator.uniform(-2.0, 2.0, (3, size)))
    solvable = jnp.array([1.0, 0.0, 1.0])
    own = jax.vmap(Chain().left)(roots), solvable
    starts = jnp.asarray(generator.uniform(-3.0, 3.0, (3, size)))
    found = root_search.find_roots(Chain(), starts, own, 128)
    assert root_search.converged(found, 1e-9).tolist() == [True, False, True]
    np.testing.assert_allclose(found.values[[0, 2]], roots[np.array([0, 2])], atol=1e-10)
    # Where there is none the least |r| is that at 0, sqrt n.
    assert float(found.residuals[1]) <= 1.01 * size**0.5
