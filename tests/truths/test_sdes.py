"""Random methods at their orders: geometric Brownian motion and Ornstein-Uhlenbeck by exact moments, others on paths.

On a linear equation one step multiplies the state by F(dW) and the exact solution by G(dW), so that all moments of a path
are powers of one-step moments. Those are Gaussian integrals of the code's own step, done by Gauss-Hermite quadrature: the
orders that follow hold no sampling error.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import separatrix as sx

MU, SIGMA, END = 1.5, 1.0, 1.0
GROWTH = sx.as_sde(lambda x: MU * x, lambda x: SIGMA * x)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
COUNTS = 2 ** np.arange(5, 11)
# Standard errors that a statistic of a fixed seed may be off by: passes for all but 6 in 10^5 seeds.
DEVIATIONS = 4.0
SEED = 20


def slope_of(values, counts=COUNTS):
    return -np.polyfit(np.log2(counts), np.log2(values), 1)[0]


def growth_factors(method, h):
    """F(dW) at the quadrature nodes, from the code's own step at 1."""
    noise = jnp.asarray(np.sqrt(h) * NODES)
    return np.asarray(method.advance_with(GROWTH, jnp.asarray(0.0), jnp.ones(40), jnp.asarray(h), noise))


def growth_moments(method, count):
    """Mean, and mean square distance to the exact path e^{(mu - sigma^2/2) t + sigma W}."""
    h = END / count
    f = growth_factors(method, h)
    g = np.exp((MU - SIGMA**2 / 2) * h + SIGMA * np.sqrt(h) * NODES)
    means = [WEIGHTS @ product for product in (f, f * f, f * g, g * g)]
    mean, square, mixed, exact = (m**count for m in means)
    return mean, square - 2 * mixed + exact


# Geometric Brownian motion


@pytest.mark.parametrize("count", [1, 10, 100])
def test_euler_maruyama_has_the_known_mean_and_strong_error(count):
    h = END / count
    mean, error = growth_moments(sx.EulerMaruyama(), count)
    both = (np.exp(MU * h) * (1 + MU * h + SIGMA**2 * h)) ** count
    known = np.exp((2 * MU + SIGMA**2) * END) - 2 * both + ((1 + MU * h) ** 2 + SIGMA**2 * h) ** count
    assert mean == pytest.approx((1 + MU * h) ** count, rel=1e-12)
    # Terms of size e^4 cancel; raising to a power multiplies rounding by the count.
    assert error == pytest.approx(known, abs=1e-13 * count * np.exp(4))


@pytest.mark.parametrize(
    ("method", "strong", "weak"),
    [(sx.EulerMaruyama(), 0.5, 1.0), (sx.Milstein(), 1.0, 1.0), (sx.StochasticHeun(), 1.0, 1.0)],
    ids=["EulerMaruyama", "Milstein", "StochasticHeun"],
)
def test_strong_and_weak_order_on_geometric_brownian_motion(method, strong, weak):
    assert (method.strong_order, method.weak_order) == (strong, weak)
    mean, error = np.array([growth_moments(method, int(count)) for count in COUNTS]).T
    assert slope_of(np.sqrt(error)) == pytest.approx(strong, abs=0.15), error
    assert slope_of(np.abs(mean - np.exp(MU * END))) == pytest.approx(weak, abs=0.15), mean


def test_evolved_paths_have_the_known_mean_and_distance():
    """100,000 paths as one state; the exact path of each from the same increments, drawn by fold_in(key, n)."""
    paths, steps, key = 100_000, 16, jax.random.key(SEED)
    h = END / steps
    final = np.asarray(sx.evolve(GROWTH, jnp.ones(paths), steps=steps, step_size=h, key=key, save="last").final)
    draw = [
        sx.EulerMaruyama().increments(GROWTH, 0.0, jnp.ones(paths), h, jax.random.fold_in(key, n)) for n in range(steps)
    ]
    exact = np.exp((MU - SIGMA**2 / 2) * END + SIGMA * np.sum(draw, axis=0))
    mean, error = growth_moments(sx.EulerMaruyama(), steps)
    for values, truth in ((final, mean), ((final - exact) ** 2, error), (exact, 4.48168907)):
        off = abs(values.mean() - truth) / (values.std() / np.sqrt(paths))
        assert off < DEVIATIONS, f"seed {SEED}: {off} standard errors"


def test_path_is_the_plain_recursion_over_folded_keys():
    steps, h, key, x = 20, 0.05, jax.random.key(SEED), jnp.array([1.0, 2.0])
    states = sx.evolve(GROWTH, x, steps=steps, step_size=h, key=key).states
    for n in range(steps):
        dw = jnp.sqrt(h) * jax.random.normal(jax.random.fold_in(key, n), (2,))
        np.testing.assert_allclose(states[n], x, rtol=1e-13)
        x = x + MU * x * h + SIGMA * x * dw
    np.testing.assert_allclose(states[-1], x, rtol=1e-13)


# Ornstein-Uhlenbeck

THETA, NOISE, LEVEL, START = 2.0, 0.5, 1.0, 3.0
RELAXATION = sx.as_sde(lambda x: THETA * (LEVEL - x), lambda x: NOISE)


def relaxation_moments(method, count, end=0.5):
    """Mean and variance at `end`: one step is x -> a x + b + c . noise, read off the code by differentiation."""
    h = jnp.asarray(end / count)
    structure = method.increments(RELAXATION, 0.0, jnp.asarray(0.0), h, jax.random.key(0))
    silent = jax.tree.map(jnp.zeros_like, structure)

    def step(x, noise):
        return method.advance_with(RELAXATION, jnp.asarray(0.0), x, h, noise)

    b, (a, c) = jax.value_and_grad(step, argnums=(0, 1))(jnp.asarray(0.0), silent)
    a, b, h, c = float(a), float(b), float(h), np.array(jax.tree.leaves(c))
    # Covariance of dW, and of (dW, dZ/h) where there are two.
    spread = h * c @ np.array([[1, 1 / 2], [1 / 2, 1 / 3]])[: len(c), : len(c)] @ c
    fixed, power = b / (1 - a), a**count
    return fixed + (START - fixed) * power, spread * (1 - power**2) / (1 - a**2)


@pytest.mark.parametrize(
    "method", [sx.EulerMaruyama(), sx.Milstein(), sx.StochasticHeun(), sx.SRA1()], ids=lambda m: type(m).__name__
)
def test_weak_order_on_ornstein_uhlenbeck(method):
    """In the mean and in the variance; the trapezoidal rule of Heun has order 2 where the noise is additive."""
    order = {"StochasticHeun": 2.0}.get(type(method).__name__, method.weak_order)
    mean, variance = np.array([relaxation_moments(method, int(count)) for count in COUNTS]).T
    assert slope_of(np.abs(mean - 1.735758882342885)) == pytest.approx(order, abs=0.15)
    exact = NOISE**2 * (1 - np.exp(-2 * THETA * 0.5)) / (2 * THETA)
    assert exact == pytest.approx(0.0540415448, rel=1e-8)
    assert slope_of(np.abs(variance - exact)) == pytest.approx(order, abs=0.15)


def test_stationary_variance_of_euler_maruyama():
    """v = (1 - theta h)^2 v + s^2 h, so v = s^2/(2 theta - theta^2 h): 1/16 in the limit, 0.0694 at h = 0.1."""
    paths, h, steps, key = 50_000, 0.1, 60, jax.random.key(SEED)
    x = np.asarray(sx.evolve(RELAXATION, jnp.full(paths, LEVEL), steps=steps, step_size=h, key=key, save="last").final)
    truth = NOISE**2 / (2 * THETA - THETA**2 * h)
    # A sample variance of normal numbers scatters by sqrt(2/n) of itself.
    off = abs(x.var() / truth - 1) / np.sqrt(2 / paths)
    assert off < DEVIATIONS, f"seed {SEED}: {off} standard errors"
    assert abs(x.mean() - LEVEL) < DEVIATIONS * np.sqrt(truth / paths), f"seed {SEED}"


# Nonlinear equations, on coupled paths


@pytest.mark.parametrize(
    ("method", "order"),
    [(sx.EulerMaruyama(), 0.5), (sx.Milstein(), 1.0), (sx.StochasticHeun(), 1.0)],
    ids=["EulerMaruyama", "Milstein", "StochasticHeun"],
)
def test_strong_order_on_a_nonlinear_equation(method, order):
    """x = sinh(asinh x0 + a W) solves dx = a^2 x/2 dt + a sqrt(1 + x^2) dW.

    (Kloeden & Platen, equation 4.4.38.)
    """
    a, paths, counts = 0.8, 2000, 2 ** np.arange(4, 10)
    sde = sx.as_sde(lambda x: 0.5 * a**2 * x, lambda x: a * jnp.sqrt(1 + x**2))
    fine = np.random.default_rng(SEED).normal(scale=np.sqrt(END / counts[-1]), size=(counts[-1], paths))
    exact = np.sinh(np.arcsinh(0.5) + a * fine.sum(axis=0))
    errors = []
    for count in counts:
        dw = jnp.asarray(fine.reshape(count, -1, paths).sum(axis=1))
        final = follow(sde, method, jnp.full(paths, 0.5), END / count, dw)
        errors.append(np.sqrt(np.mean((np.asarray(final) - exact) ** 2)))
    assert slope_of(errors, counts) == pytest.approx(order, abs=0.15), f"seed {SEED}: {errors}"


def test_sra1_has_strong_order_three_halves():
    """dx = (sin t - x^3) dt + (1 + cos(3t)/2) dW: increments (dW, dZ) of a fine path, added up for the coarse ones.

    Over two intervals dZ adds up as dZ_1 + dZ_2 + h dW_1. The finest path stands for the exact one: from 8 times the
    finest of the compared steps its own error is 4 % of theirs.
    """
    paths, finest, counts = 500, 2**12, 2 ** np.arange(4, 10)
    sde = sx.as_sde(lambda t, x: jnp.sin(t) - x**3, lambda t, x: 1.0 + 0.5 * jnp.cos(3.0 * t))
    keys = jax.random.split(jax.random.key(SEED), finest)
    h = END / finest
    draw = jax.vmap(lambda key: sx.SRA1().increments(sde, jnp.asarray(0.0), jnp.zeros(paths), jnp.asarray(h), key))
    noise = [np.asarray(part) for part in draw(keys)]
    reference = np.asarray(follow(sde, sx.SRA1(), jnp.zeros(paths), h, tuple(map(jnp.asarray, noise))))
    errors = []
    for count in counts[::-1]:
        while len(noise[0]) > count:
            noise = coarser(*noise)
        final = follow(sde, sx.SRA1(), jnp.zeros(paths), END / count, tuple(map(jnp.asarray, noise)))
        errors.append(np.sqrt(np.mean((np.asarray(final) - reference) ** 2)))
    assert slope_of(errors[::-1], counts) == pytest.approx(1.5, abs=0.15), f"seed {SEED}: {errors}"


def coarser(dw, z):
    """Increments (dW, dZ/h) of steps of twice the size: dZ = h (z_1 + z_2 + dW_1) over 2 h."""
    return dw[::2] + dw[1::2], (z[::2] + z[1::2] + dw[::2]) / 2


@eqx.filter_jit
def follow(sde, method, state, h, noise):
    """The state after one step for each row of the given increments."""

    def step(carry, row):
        n, x = carry
        return (n + 1.0, method.advance_with(sde, n * h, x, jnp.asarray(h), row)), None

    return jax.lax.scan(step, (jnp.asarray(0.0), state), noise)[0][1]


# Noise that depends on time, and its increments


def weights_of_noise(method, h, count):
    """dx[end]/d noise for dx = t dW, whose exact solution weighs dW(s) with s."""
    sde = sx.as_sde(lambda t, x: 0.0 * x, lambda t, x: t)
    noise = sx.SRA1().increments(sde, 0.0, jnp.asarray(0.0), h, jax.random.key(0))
    noise = noise if isinstance(method, sx.SRA1) else noise[0]
    rows = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape)), noise)
    return jax.grad(lambda rows: follow(sde, method, jnp.asarray(0.0), h, rows))(rows)


@pytest.mark.parametrize(("method", "share"), [(sx.EulerMaruyama(), 3), (sx.StochasticHeun(), 12)])
def test_mean_square_error_of_noise_that_grows_in_time(method, share):
    """sum_n int (s - w_n)^2 ds is h^2 T/3 for weights at the left end, h^2 T/12 for those in the middle."""
    count, h = 10, 0.1
    w = np.asarray(weights_of_noise(method, h, count))
    left = np.arange(count) * h
    error = np.sum((left + h - w) ** 3 - (left - w) ** 3) / 3
    assert error == pytest.approx(h**2 / share, rel=1e-12)


def test_sra1_is_exact_on_noise_that_grows_in_time():
    # int s dW over a step is (t + h) dW - dZ.
    count, h = 10, 0.1
    dw, z = weights_of_noise(sx.SRA1(), h, count)
    np.testing.assert_allclose(dw, np.arange(1, count + 1) * h, rtol=1e-13)
    np.testing.assert_allclose(z, -h, rtol=1e-12)


def test_increments_have_the_law_of_brownian_motion():
    """E dW^2 = h, E dW dZ/h = h/2, E (dZ/h)^2 = h/3; the two leaves of a state are independent."""
    samples, h = 200_000, 0.3
    state = (jnp.zeros(samples), jnp.zeros(samples))
    sde = sx.as_sde(lambda x: x, lambda x: 1.0)
    dw, z = sx.SRA1().increments(sde, 0.0, state, jnp.asarray(h), jax.random.key(SEED))
    (plain, _) = sx.EulerMaruyama().increments(sde, 0.0, state, jnp.asarray(h), jax.random.key(SEED))
    products = [
        (dw[0] * dw[0], h), (dw[0] * z[0], h / 2), (z[0] * z[0], h / 3), (dw[0] * dw[1], 0), (z[0] * dw[1], 0),
        (z[0] * z[1], 0), (dw[0], 0), (z[0], 0), (plain, 0), (plain**2, h),
    ]  # fmt: skip
    for values, truth in products:
        off = abs(float(values.mean()) - truth) / (float(values.std()) / np.sqrt(samples))
        assert off < DEVIATIONS, f"seed {SEED}: {off} standard errors from {truth}"


@pytest.mark.parametrize("method", [sx.EulerMaruyama(), sx.StochasticHeun(), sx.SRA1()], ids=lambda m: type(m).__name__)
def test_general_noise_enters_through_its_matrix(method):
    """One step of dx = g dW, three noises into two components: the response to dW is g, to dZ nothing."""
    g = jnp.array([[1.0, -0.5, 0.3], [0.2, 2.0, 0.7]])
    sde = sx.as_sde(lambda x: jnp.zeros(2), lambda x: lx.MatrixLinearOperator(g))
    noise = method.increments(sde, 0.0, jnp.zeros(2), jnp.asarray(0.1), jax.random.key(SEED))
    response = jax.jacobian(lambda n: method.advance_with(sde, 0.0, jnp.zeros(2), jnp.asarray(0.1), n))(noise)
    first, *second = jax.tree.leaves(response)
    np.testing.assert_allclose(first, g, rtol=1e-14)
    for other in second:
        np.testing.assert_allclose(other, 0.0, atol=1e-15)


# What the Ito reading asks of Heun's rule


def correction_of(sde, t, x, h=0.2):
    """-h/2 sum_j (Dg_j) g_j, from the code's own step: the mean of the first increment over +-sqrt(h) of each noise."""
    method = sx.StochasticHeun()
    silent = method.advance_with(sde, t, x, h, None)
    structure = sde.diffusion(t, x).in_structure()
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), structure)
    # A drift of zero and no increment: what moves the state is the correction, at both ends of the step.
    return jax.tree.map(jnp.subtract, method.advance_with(sde, t, x, h, zero), silent)


def columns(x):
    """Three noises into two components, none of them commuting."""
    return jnp.array([[1.0, 0.3, 0.0], [0.0, 0.5, 2.0]]) * jnp.stack([x[1], x[0] * x[1], x[0] ** 2])[None]


CORRECTED = {
    # Matrix noise: sum_jk g_kj dg_ij/dx_k by hand, from the Jacobian of all entries.
    "matrix": (
        sx.as_sde(lambda x: jnp.zeros(2), lambda x: lx.MatrixLinearOperator(columns(x))),
        lambda x: jnp.einsum("kj,ijk->i", columns(x), jax.jacfwd(columns)(x)),
    ),
    # Diagonal noise whose entries look at each other: only dg_i/dx_i enters.
    "crossed": (
        sx.as_sde(lambda x: jnp.zeros(2), lambda x: jnp.stack([x[0] * x[1], x[0] + x[1] ** 2])),
        lambda x: jnp.stack([x[0] * x[1] * x[1], (x[0] + x[1] ** 2) * 2 * x[1]]),
    ),
    "diagonal": (
        sx.as_sde(lambda x: jnp.zeros(2), lambda x: jnp.stack([jnp.sin(x[0]), x[1] ** 2])),
        lambda x: jnp.stack([jnp.sin(x[0]) * jnp.cos(x[0]), 2 * x[1] ** 3]),
    ),
    "additive": (sx.as_sde(lambda x: jnp.zeros(2), lambda x: 0.7), lambda x: jnp.zeros(2)),
}


@pytest.mark.parametrize("name", CORRECTED)
def test_heun_subtracts_the_ito_correction(name):
    sde, by_hand = CORRECTED[name]
    x, h = jnp.array([0.7, -0.4]), 0.2
    first = -0.5 * h * by_hand(x)
    np.testing.assert_allclose(correction_of(sde, 0.3, x, h), (first - 0.5 * h * by_hand(x + first)) / 2, rtol=1e-13)


def test_heun_solves_the_ito_equation_by_default():
    # dx = x dW: the mean stays 1; read as Stratonovich's it would be e^{1/2} = 1.65.
    paths = 20_000
    sde = sx.as_sde(lambda x: 0.0 * x, lambda x: x)
    final = sx.evolve(
        sde, jnp.ones(paths), times=(0.0, 1.0), step_size=0.05, method=sx.StochasticHeun(), key=jax.random.key(SEED)
    ).final
    # Its weak error at h = 0.05 is below 1e-3; the scatter of the mean, sqrt((e - 1)/n), is 9e-3.
    assert float(final.mean()) == pytest.approx(1.0, abs=1e-3 + DEVIATIONS * np.sqrt((np.e - 1) / paths))


def test_heun_on_a_pair_of_states_corrects_each():
    sde = sx.as_sde(lambda z: jax.tree.map(jnp.zeros_like, z), lambda z: (0.5 * z[0], z[1] ** 2))
    z = (jnp.array([1.2, -0.3]), jnp.array([[0.4]]))
    got = correction_of(sde, 0.0, z, 1e-6)
    np.testing.assert_allclose(got[0] / -0.5e-6, 0.25 * z[0], rtol=1e-5)
    np.testing.assert_allclose(got[1] / -0.5e-6, 2 * z[1] ** 3, rtol=1e-5)


@pytest.mark.parametrize(
    "diffusion",
    [
        lambda x: jnp.stack([x[1], x[0]]),
        lambda x: x * jnp.sum(x),
        lambda x: jnp.array([[1.0, 0.5], [0.0, 1.0]]) @ x,
        lambda x: x[::-1],
        lambda x: jnp.where(x[0] > 0, x, 2 * x),
    ],
    ids=["crossed", "sum", "matrix", "reversed", "switched"],
)
def test_milstein_refuses_noise_of_other_components(diffusion):
    sde = sx.as_sde(lambda x: -x, diffusion)
    with pytest.raises(ValueError, match=r"(?s)Milstein.*other components than x_i"):
        sx.evolve(sde, jnp.array([0.7, -0.4]), steps=2, step_size=0.1, method=sx.Milstein(), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("diffusion", "product"),
    [
        (lambda x: jnp.stack([0.5 * x[0], jnp.sin(x[1])]), lambda x: np.array([0.25 * x[0], np.sin(x[1]) * np.cos(x[1])])),
        (lambda x: jnp.clip(x, -1.0, 1.0) * jnp.array([2.0, 3.0]), lambda x: np.array([4.0, 9.0]) * x),
        (jax.vmap(lambda y: jnp.array([1.0, 2.0]) @ jnp.stack([y, y**2])), lambda x: (x + 2 * x**2) * (1 + 4 * x)),
        (lambda x: 0.5, lambda x: 0.0 * x),
    ],
    ids=["stacked", "clipped", "mapped", "additive"],
)  # fmt: skip
def test_milstein_takes_noise_of_each_component_however_written(diffusion, product):
    x, h = np.array([0.7, -0.4]), 0.1
    sde = sx.as_sde(lambda x: jnp.zeros(2), diffusion)
    moved = sx.Milstein().advance_with(sde, 0.0, jnp.asarray(x), h, jnp.zeros(2))
    np.testing.assert_allclose(moved - x, -0.5 * product(x) * h, rtol=1e-13, atol=1e-16)
