"""Gradients through time against explicit products, closed forms and automatic differentiation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.special import digamma, polygamma

import separatrix as sx
from separatrix.linear.log_svd import log_singular_values, log_svd

LONG = 1500


class Product(sx.FiniteMap):
    """x[n+1] = J[n] x[n]."""

    matrices: jax.Array
    length: int = eqx.field(static=True)

    def step(self, n, state, *, key=None):
        return self.matrices[n] @ state


def products(matrices):
    """P[n] = J[N-1] ... J[n], for n = 0, ..., N."""
    out = [np.eye(matrices.shape[1])]
    for matrix in np.asarray(matrices)[::-1]:
        out.append(out[-1] @ matrix)
    return out[::-1]


def gaussian(d, steps, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(steps, d, d)) / d**0.5)


def profile(matrices, *arguments, **keywords):
    system = Product(matrices, len(matrices))
    return sx.gradient_profile(system, sx.evolve(system, jnp.zeros(matrices.shape[1])), *arguments, **keywords)


def test_all_singular_values_of_a_short_product_are_numpys():
    matrices = gaussian(5, 12)
    found = profile(matrices, count=5)
    truth = np.stack([np.linalg.svd(p, compute_uv=False) for p in products(matrices)])
    # The explicit product is right to eps times its largest singular value.
    np.testing.assert_allclose(found.singular_values, truth, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(jnp.exp(found.log_smallest), truth[:, -1], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.log_mean_square, np.log((truth**2).mean(axis=1)), atol=1e-12)
    assert found.whole and (np.asarray(found.changes) == 0).all()


def test_a_product_too_long_for_floats_keeps_every_singular_value():
    # diag(1, 1/4, 4, ...)^1500 in a turned frame: powers of 4^1500 = 1e903.
    frame = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (5, 5)))[0]
    matrix = frame @ jnp.diag(jnp.array([1.0, 0.25, 4.0, 2.0, 0.5])) @ frame.T
    found = profile(jnp.broadcast_to(matrix, (LONG, 5, 5)), jnp.ones(5), count=5)
    np.testing.assert_allclose(found.log_singular_values[0], LONG * np.log([4.0, 2.0, 1.0, 0.5, 0.25]), atol=1e-8)
    np.testing.assert_allclose(found.log_spread[0], 2 * LONG * np.log(4.0), rtol=1e-12)


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_an_orthogonal_network_is_an_isometry_times_its_gain(gain):
    turns = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (12, 5, 5)))[0]
    found = profile(gain * turns, jnp.arange(1.0, 6.0))
    powers = np.log(gain) * np.arange(12.0, -1.0, -1.0)
    np.testing.assert_allclose(found.log_singular_values, np.broadcast_to(powers[:, None], (13, 4)), atol=1e-12)
    np.testing.assert_allclose(found.log_spread, 0, atol=1e-12)
    np.testing.assert_allclose(found.log_norms, powers + np.log(np.sqrt(55)), atol=1e-12)
    assert float(found.growth_rate) == pytest.approx(np.log(gain), abs=1e-13)
    # 2^-10 is the first power of 1/2 below 1e-3, 2^10 the first of 2 above 1e3.
    horizons = float(found.vanishing_horizon()), float(found.exploding_horizon())
    assert horizons == {0.5: (10, np.inf), 1.0: (np.inf, np.inf), 2.0: (np.inf, 10)}[gain]
    assert found.verdict == {0.5: "vanishes", 1.0: "persists", 2.0: "explodes"}[gain]


def test_a_gradient_that_comes_back_has_not_vanished():
    # Down to 1e-4 and up again: only the second fall is for good.
    factors = jnp.concatenate([jnp.full(4, 0.1), jnp.full(8, 10.0), jnp.full(12, 0.1)])[::-1]
    found = profile(factors[:, None, None], jnp.ones(1))
    assert float(found.vanishing_horizon()) == 4 + 8 + 8 and float(found.exploding_horizon(2e3)) == 12


def test_a_costate_is_the_gradient_of_the_loss():
    cell = sx.recurrent.Elman(3, 8, key=jax.random.key(0))
    driven = sx.from_cell(cell, jax.random.normal(jax.random.key(1), (5, 3)))
    start = 0.3 * jnp.ones(8)
    loss = lambda x: jnp.sum(jnp.sin(x))
    path = sx.evolve(driven, start)
    found = sx.gradient_profile(driven, path, jax.grad(loss)(path.final), count=8)
    gradient = jax.grad(lambda x: loss(sx.evolve(driven, x).final))(start)
    assert float(found.norms[0]) == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-12)
    jacobian = jax.jacobian(lambda x: sx.evolve(driven, x).final)(start)
    np.testing.assert_allclose(
        found.singular_values[0], np.linalg.svd(jacobian, compute_uv=False), rtol=1e-9, atol=1e-15
    )


def test_leading_singular_values_of_a_wide_net_without_its_product():
    matrices = gaussian(80, 12)
    found = profile(matrices, count=3)
    truth = np.linalg.svd(products(matrices)[0], compute_uv=False)
    assert not found.whole and np.isnan(found.log_smallest).all()
    # Errors are of second order in the residuals, which the bounds are of first order in.
    np.testing.assert_allclose(found.log_singular_values[0], np.log(truth[:3]), atol=1e-5)
    assert 0 < float(found.changes.max()) <= 1e-3 and "lower bounds" in found.cautions[0]
    assert "raise sweeps" in profile(matrices, count=3, sweeps=1).cautions[0]


@pytest.mark.parametrize("d", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_bounds_cover_the_singular_values_of_one_gaussian_layer(d):
    """One layer's spectrum has no gap at the edge, the less the wider it is. 20 seeds, and what few sweeps leave."""
    for seed in range(20):
        matrices = gaussian(d, 1, seed)
        truth = np.log(np.linalg.svd(matrices[0], compute_uv=False)[:4])
        for sweeps in (1, 3, 40) if seed < 5 else (40,):
            found = profile(matrices, sweeps=sweeps)
            off, bound = truth - np.asarray(found.log_singular_values[0]), np.asarray(found.changes)
            # From below, and within the bound.
            assert (off > -1e-12).all() and (off <= bound).all(), (seed, sweeps, off, bound)
            assert bound[0] > 0.1 if sweeps == 1 else True
        # Errors are of second order in what bounds are of first order in.
        assert off.max() < 1e-5 and bound.max() <= 1e-3


def test_a_wide_product_keeps_singular_values_of_any_ratio():
    """diag(4, 2, 1, 1/2, 1/4, ...)^300 of 80 coordinates, from a turned frame to another: 2^300 = 1e90 apart."""
    rng = np.random.default_rng(0)
    first, last = (np.linalg.qr(rng.standard_normal((80, 80)))[0] for _ in range(2))
    powers = np.r_[4.0, 2.0, 1.0, 0.5, np.full(76, 0.25)]
    middle = np.broadcast_to(np.diag(powers), (298, 80, 80))
    matrices = np.concatenate([(np.diag(powers) @ first)[None], middle, (last @ np.diag(powers))[None]])
    found = profile(jnp.asarray(matrices))
    np.testing.assert_allclose(found.log_singular_values[0], 300 * np.log(powers[:4]), atol=1e-9)
    assert float(found.changes.max()) < 1e-3


def test_equal_singular_values_and_none_at_all():
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((80, 80)))[0]
    found = profile(jnp.asarray(np.stack([0.5 * turn] * 3)))
    np.testing.assert_allclose(found.log_singular_values[0], np.full(4, 3 * np.log(0.5)), atol=1e-12)
    none = profile(jnp.zeros((3, 80, 80)))
    assert np.isneginf(none.log_singular_values[0]).all() and (np.asarray(none.changes) <= 1e-3).all()
    assert np.isneginf(none.log_mean_square[0])


def test_both_sides_of_a_graded_decomposition():
    rng = np.random.default_rng(2)
    for count in (4, 5):
        logs, rows = np.array([3.0, -20.0, 1.0, 0.0, 25.0])[:count], rng.standard_normal((count, 8))
        values, left, right = map(np.asarray, log_svd(jnp.asarray(logs), jnp.asarray(rows)))
        np.testing.assert_allclose(left @ left.T, np.eye(count), atol=1e-13)
        np.testing.assert_allclose(right @ right.T, np.eye(count), atol=1e-13)
        matrix = np.exp(logs)[:, None] * rows
        # K A = diag(e^s) X, and A = K^T diag(e^s) X, to rounding of the largest.
        np.testing.assert_allclose(left @ matrix, np.exp(values)[:, None] * right, atol=1e-14 * np.exp(values[0]))
        np.testing.assert_allclose(
            np.exp(values), np.linalg.svd(matrix, compute_uv=False), atol=1e-14 * np.exp(values[0])
        )
        np.testing.assert_allclose(log_singular_values(jnp.asarray(logs), jnp.asarray(rows)), values, atol=1e-12)


def test_the_error_of_the_mean_square_covers():
    z = []
    for seed in range(50):
        matrices = gaussian(80, 12, seed)
        found, truth = profile(matrices, count=3, sweeps=1), np.sum(products(matrices)[0] ** 2) / 80
        z.append((np.exp(float(found.log_mean_square[0])) / truth - 1) / float(found.mean_square_error[0]))
    # 11 columns: 2.23 standard errors are 95 of 100 of t with 10 degrees.
    assert (np.abs(z) < 2.23).mean() >= 0.9, np.sort(z)


def test_growth_of_gaussian_products_is_newmans():
    # Leading exponent of products of N x N Gaussians of variance 1/N: (ln(2/N) + digamma(N/2))/2.
    found = profile(gaussian(5, LONG), jnp.ones(5), count=1)
    truth = 0.5 * (np.log(2 / 5) + digamma(2.5))
    assert abs(float(found.growth_rate) - truth) < 3 * float(found.growth_error)
    # Increments are independent, of variance trigamma(5/2)/4: the error from 32 batches is right to an eighth, thrice.
    assert float(found.growth_error) == pytest.approx((polygamma(1, 2.5) / 4 / LONG) ** 0.5, rel=0.4)
    # And ln s_1/N is the same but for ln 5/N.
    assert float(found.log_singular_values[0, 0]) / LONG == pytest.approx(float(found.growth_rate), abs=2e-3)


def test_a_linear_flow_is_its_exponential():
    matrix = np.array([[-0.5, 2.0, 0.0], [-1.0, 0.3, 0.4], [0.0, 0.0, -2.0]])
    flow = sx.as_flow(lambda x: jnp.asarray(matrix) @ x)
    path = sx.evolve(flow, jnp.ones(3), times=(1.0, 4.0), dense=True)
    found = sx.gradient_profile(flow, path, jnp.array([1.0, 0.0, 0.0]), intervals=16)
    middle = scipy.linalg.expm(1.5 * matrix)
    # A tolerance of 1e-9 a step, in the block and in no trajectory: the field is linear.
    np.testing.assert_allclose(found.singular_values[8, :3], np.linalg.svd(middle, compute_uv=False), rtol=1e-7)
    assert float(found.norms[8]) == pytest.approx(np.linalg.norm(middle[0]), rel=1e-8)
    np.testing.assert_allclose(found.times, np.linspace(1, 4, 17))


def test_an_averaged_profile_is_the_root_mean_square_and_a_dead_layer_ends_it():
    matrices = gaussian(5, 12)
    found = profile(matrices)
    truth = [np.sqrt(np.sum(p**2) / 5) for p in products(matrices)]
    np.testing.assert_allclose(found.norms, truth, rtol=1e-12)
    dead = profile(matrices.at[2].set(0.0).at[8, 0].set(0.0), count=5)
    assert np.isneginf(dead.log_norms[:3]).all() and np.isneginf(dead.log_singular_values[0]).all()
    # One row of J[8] is zero: the rank of P[8] is 4.
    assert float(dead.singular_values[8, 3]) > 1e-4 and float(dead.singular_values[8, 4]) < 1e-14


@pytest.mark.slow
def test_a_random_map_and_a_state_with_a_counter():
    noisy = sx.as_map(lambda x, *, key: x * jax.random.uniform(key, (), x.dtype, 0.5, 1.5))
    key = jax.random.key(4)
    path = sx.evolve(noisy, jnp.ones(2), steps=9, key=key)
    found = sx.gradient_profile(noisy, path, jnp.array([1.0, 0.0]), key=key)
    np.testing.assert_allclose(found.norms[0], path.final[0], rtol=1e-12)
    counted = sx.as_map(lambda s: {"x": 0.5 * s["x"], "n": s["n"] + 1})
    path = sx.evolve(counted, {"x": jnp.ones(2), "n": jnp.asarray(0)}, steps=3)
    np.testing.assert_allclose(sx.gradient_profile(counted, path).singular_values[0], [0.125, 0.125], rtol=1e-13)


def test_norms_do_not_underflow_in_single_precision():
    halving = sx.as_map(lambda x: 0.5 * x)
    path = sx.evolve(halving, jnp.ones(2, jnp.float32), steps=300)
    found = sx.gradient_profile(halving, path, jnp.array([3.0, 4.0], jnp.float32))
    assert float(found.log_norms[0]) == pytest.approx(np.log(5) - 300 * np.log(2), rel=1e-5)
    zero = sx.gradient_profile(halving, path, jnp.zeros(2, jnp.float32))
    assert np.isneginf(zero.log_norms).all() and (np.asarray(zero.norms) == 0).all()


def test_an_event_is_the_end_of_the_way_back():
    """x' = -x^2: dx(t)/dx0 = (x/x0)^2, and the event comes where x has fallen to 1/4 of 2."""
    fall = sx.as_flow(lambda x: -(x**2))
    path = sx.evolve(fall, jnp.array([2.0]), times=(5.0, 9.0), dense=True, rtol=1e-10, event=lambda x: x[0] - 0.5)
    # 1/x = 1/2 + t - 5: x = 1/2 at t = 6.5.
    found = sx.gradient_profile(fall, path, jnp.array([3.0]), intervals=8)
    np.testing.assert_allclose(found.times, 5 + 1.5 * np.arange(9) / 8, rtol=1e-8)
    x = 1 / (0.5 + (np.asarray(found.times) - 5))
    np.testing.assert_allclose(found.norms, 3 * (0.5 / x) ** 2, rtol=1e-7)
    assert float(found.growth_rate) == pytest.approx(np.log(1 / 16) / 1.5, rel=1e-6)
    # With a clock in the field: x' = -t x, from t = 1 to where x = e^-1.5 x0, that is t = 2.
    clocked = sx.as_flow(lambda t, x: -t * x)
    path = sx.evolve(clocked, jnp.array([2.0, 1.0]), times=(1.0, 4.0), dense=True,
                     rtol=1e-10, event=lambda x: x[0] - 2 * jnp.exp(-1.5))  # fmt: skip
    found = sx.gradient_profile(clocked, path, intervals=4)
    np.testing.assert_allclose(found.log_singular_values[:, 0], (found.times**2 - 4) / 2, atol=1e-8)


def test_a_run_that_broke_has_no_profile():
    blow, doubling = sx.as_flow(lambda x: x**2), sx.as_map(lambda x: 1e100 * x)
    paths = [
        (blow, sx.evolve(blow, jnp.array([1.0]), times=(0.0, 2.0), dense=True)),
        # The Jacobians are numbers wherever they are asked for; the run is none.
        (doubling, sx.evolve(doubling, jnp.array([1.0, 2.0]), steps=20)),
    ]
    for system, path in paths:
        assert not bool(path.outcome.completed)
        found = sx.gradient_profile(system, path)
        for part in (found.log_norms, found.log_singular_values, found.growth_rate, found.log_mean_square):
            assert np.isnan(part).all()
        assert np.isnan(found.vanishing_horizon()) and np.isnan(found.exploding_horizon())
        assert found.verdict == "unknown" and found.cautions[0].startswith("not known")


def test_misuse_is_told():
    halving = sx.as_map(lambda x: 0.5 * x)
    path = sx.evolve(halving, jnp.ones(2), steps=3)
    with pytest.raises(ValueError, match="gradient of the loss in the last state"):
        sx.gradient_profile(halving, path, jnp.ones(3))
    with pytest.raises(ValueError, match='save="all"'):
        sx.gradient_profile(halving, sx.evolve(halving, jnp.ones(2), steps=3, save="last"))
    with pytest.raises(TypeError, match=r"what evolve\(system, state"):
        sx.gradient_profile(halving, jnp.ones(2))
    with pytest.raises(ValueError, match="at least 1"):
        sx.gradient_profile(halving, path, count=0)
    with pytest.raises(ValueError, match=r"cotangent\[1\]\n  got nan"):
        sx.gradient_profile(halving, path, jnp.array([1.0, jnp.nan]))
    with pytest.raises(ValueError, match="a positive number"):
        sx.gradient_profile(halving, path).vanishing_horizon(0.0)
    flow = sx.as_flow(lambda x: -x)
    with pytest.raises(ValueError, match="dense=True"):
        sx.gradient_profile(flow, sx.evolve(flow, jnp.ones(2), times=(0.0, 1.0)))


def test_the_figure_shows_the_gradient_against_the_way_back():
    matrices = gaussian(5, 12)
    found = profile(matrices, count=2)
    lines = {line.get_label(): line for line in sx.plotting.plot(found).axes[0].lines}
    np.testing.assert_allclose(lines["gradient"].get_ydata(), found.log_norms)
    np.testing.assert_allclose(lines["gradient"].get_xdata(), np.arange(12.0, -1, -1))


def test_a_flow_in_single_precision_is_profiled_without_a_warning():
    # Warnings are errors here: the costates were asked for at 1e-9, which single precision does not hold.
    flow = sx.as_flow(lambda x: -2.0 * x)
    path = sx.evolve(flow, jnp.ones(1, jnp.float32), times=(0.0, 1.0), dense=True)
    found = sx.gradient_profile(flow, path, intervals=4)
    np.testing.assert_allclose(found.log_singular_values[:, 0], [-2.0, -1.5, -1.0, -0.5, 0.0], atol=1e-4)
