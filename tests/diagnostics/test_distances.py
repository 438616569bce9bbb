"""Distances of samples against closed forms, SciPy, and what p-values and standard errors promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.special
import scipy.stats

import separatrix as sx
from separatrix.diagnostics.samples import KINDS, _samples

DEVIATIONS = 4.0
SEED = 11
KEY = jax.random.key(SEED)


def normals(shift, sizes=(1500, 1000), dimension=3, seed=SEED):
    """Samples of N(0, I) and N(shift, I)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((sizes[0], dimension)), rng.standard_normal((sizes[1], dimension)) + np.asarray(shift)


def near(found, truth):
    off = abs(float(found.value) - truth) / float(found.error)
    assert off < DEVIATIONS, f"seed {SEED}: {off} standard errors from {truth}: {found}"


# Against the definition, and other libraries


@pytest.mark.parametrize("sizes", [(40, 40), (40, 25), (7, 90)])
def test_one_dimension_equals_scipy(sizes):
    rng = np.random.default_rng(SEED)
    x, y = rng.standard_normal(sizes[0]), 2 * rng.standard_normal(sizes[1]) + 0.3
    one = sx.sliced_wasserstein(x, y, key=KEY, power=1, permutations=0)
    assert float(one.value) == pytest.approx(scipy.stats.wasserstein_distance(x, y), rel=1e-12)
    assert float(one.details["projection error"]) == 0.0
    energy = sx.energy_distance(x, y, key=KEY, permutations=0)
    # SciPy's is the root, of empirical laws.
    assert float(energy.details["of empirical laws"]) == pytest.approx(
        scipy.stats.energy_distance(x, y) ** 2, rel=1e-10
    )


def test_order_two_in_one_dimension_is_the_optimal_assignment():
    """Each point of either sample repeated to the least common multiple of the sizes, sorted, and matched."""
    rng = np.random.default_rng(SEED)
    x, y = rng.standard_normal(6), rng.standard_normal(10) ** 2
    pairs = np.repeat(np.sort(x), 5) - np.repeat(np.sort(y), 3)
    found = sx.sliced_wasserstein(x, y, key=KEY, permutations=0)
    assert float(found.value) == pytest.approx(np.sqrt(np.mean(pairs**2)), rel=1e-12)


@pytest.mark.parametrize("block", [1 << 22, 128])
@pytest.mark.parametrize("kernel", ["gaussian", "mixture", "energy"])
def test_mmd_is_its_definition_whatever_the_blocks(kernel, block, monkeypatch):
    monkeypatch.setattr(_samples, "BLOCK", block)
    # A program is kept by the shapes it was made for: each size of block has shapes of its own.
    x, y = normals([0.5, 0, 0], (31, 20 if block > 128 else 21))
    s = 1.3
    formulas = {
        "gaussian": lambda r: np.exp(-(r**2) / (2 * s**2)),
        "mixture": lambda r: np.mean([np.exp(-(r**2) / (2 * (c * s) ** 2)) for c in (0.25, 0.5, 1, 2, 4)], axis=0),
        "energy": lambda r: -r,
    }
    cross = formulas[kernel](scipy.spatial.distance.cdist(x, y)).mean()
    own = [formulas[kernel](scipy.spatial.distance.pdist(z)).mean() for z in (x, y)]
    found = sx.maximum_mean_discrepancy(x, y, key=KEY, kernel=kernel, bandwidth=s, permutations=0)
    assert float(found.value) == pytest.approx(own[0] + own[1] - 2 * cross, rel=1e-9)


def test_error_of_mmd_is_the_jackknife_by_leaving_out():
    x, y = normals([0.5, 0, 0], (12, 9))
    measure = lambda x, y: float(sx.energy_distance(x, y, key=KEY, permutations=0).value)
    without = [[measure(np.delete(x, i, 0), y) for i in range(12)], [measure(x, np.delete(y, i, 0)) for i in range(9)]]
    expected = np.sqrt(11 * np.var(without[0]) + 8 * np.var(without[1]))
    assert float(sx.energy_distance(x, y, key=KEY, permutations=0).error) == pytest.approx(expected, rel=1e-9)


def test_default_bandwidth_is_the_median_distance_and_does_not_see_the_labels():
    x, y = normals([2.0, 0, 0], (30, 20))
    found = sx.maximum_mean_discrepancy(x, y, key=KEY, permutations=0)
    median = np.median(scipy.spatial.distance.pdist(np.concatenate([x, y])))
    assert float(found.details["bandwidth"]) == pytest.approx(median, rel=1e-9)


def test_frechet_is_the_matrix_square_root_of_scipy():
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((200, 4)) @ rng.standard_normal((4, 4))
    y = rng.standard_normal((150, 4)) @ rng.standard_normal((4, 4)) + 1.0
    c1, c2 = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * root)
    assert float(sx.frechet_distance(x, y, key=KEY, permutations=0).value) == pytest.approx(expected, rel=1e-9)


def test_nearest_neighbours_vote_as_scipy_finds_them():
    """One fold left out of two: of well-separated pairs each point's nearest elsewhere is known."""
    x, y = normals([0.8, 0, 0], (60, 60))
    found = sx.classifier_two_sample(x, y, key=KEY, neighbours=1, folds=2, permutations=0)
    # Folds are random: over many keys the mean accuracy is that of the nearest of a random half, by direct simulation.
    pool, labels, rng = np.concatenate([x, y]), np.repeat([0, 1], 60), np.random.default_rng(0)
    values = [float(sx.classifier_two_sample(x, y, key=jax.random.key(k), neighbours=1, folds=2, permutations=0).value)
              for k in range(60)]  # fmt: skip
    direct = []
    for _ in range(60):
        fold = np.concatenate([rng.permutation(60) % 2, rng.permutation(60) % 2])
        hits = 0
        for side in (0, 1):
            tree = scipy.spatial.cKDTree(pool[fold != side])
            hits += np.sum(labels[fold != side][tree.query(pool[fold == side])[1]] == labels[fold == side])
        direct.append(hits / 120)
    gap = np.mean(values) - np.mean(direct)
    assert abs(gap) < DEVIATIONS * np.sqrt((np.var(values) + np.var(direct)) / 60)
    assert float(found.error) == pytest.approx(np.sqrt(found.value * (1 - found.value) / 120), rel=1e-12)


# Closed forms


def test_wasserstein_of_normal_laws_in_one_dimension():
    """W_2^2 = (a - b)^2 + (s - t)^2; W_1 of equal spreads is |a - b|."""
    rng = np.random.default_rng(SEED)
    x, y = rng.standard_normal(4000), 1.0 + 2.0 * rng.standard_normal(3000)
    near(sx.sliced_wasserstein(x, y, key=KEY, permutations=0), np.sqrt(1 + 1))
    near(sx.sliced_wasserstein(x, (y - 1) / 2 - 0.7, key=KEY, power=1, permutations=0), 0.7)


def test_sliced_wasserstein_of_a_shift_is_its_square_over_the_dimension():
    shift = np.array([3.0, 0.0, -1.0, 2.0])
    x, y = normals(shift, (3000, 2000), 4)
    near(sx.sliced_wasserstein(x, y, key=KEY, permutations=0), np.sqrt(np.sum(shift**2) / 4))


def test_mmd_of_normal_laws():
    """E k(x, y) = (s^2/(s^2 + 2))^{d/2} exp(-|m|^2/(2 (s^2 + 2))) for unit covariances."""
    shift, s, d = np.array([1.0, -0.5, 0.2]), 1.5, 3
    x, y = normals(shift)
    front = (s**2 / (s**2 + 2)) ** (d / 2)
    truth = 2 * front * (1 - np.exp(-np.sum(shift**2) / (2 * (s**2 + 2))))
    near(sx.maximum_mean_discrepancy(x, y, key=KEY, bandwidth=s, permutations=0), truth)


def test_energy_distance_of_normal_laws():
    """E|N(m, 2)| = 2/sqrt(pi) exp(-m^2/4) + m (1 - 2 Phi(-m/sqrt 2)), and E|x - x'| = 2/sqrt(pi)."""
    x, y = normals([1.2], dimension=1)
    cross = 2 / np.sqrt(np.pi) * np.exp(-(1.2**2) / 4) + 1.2 * (1 - 2 * scipy.stats.norm.cdf(-1.2 / np.sqrt(2)))
    near(sx.energy_distance(x, y, key=KEY, permutations=0), 2 * cross - 4 / np.sqrt(np.pi))


def test_frechet_of_normal_laws_with_covariances_that_do_not_commute():
    a, b = np.array([[2.0, 0.6], [0.6, 0.5]]), np.array([[0.4, -0.3], [-0.3, 3.0]])
    rng = np.random.default_rng(SEED)
    x = rng.multivariate_normal([0, 0], a, 4000)
    y = rng.multivariate_normal([1, -1], b, 4000)
    root = scipy.linalg.sqrtm(scipy.linalg.sqrtm(a) @ b @ scipy.linalg.sqrtm(a)).real
    near(sx.frechet_distance(x, y, key=KEY, permutations=0), 2 + np.trace(a + b - 2 * root))


def test_accuracy_stays_below_that_of_bayes_and_comes_near():
    """Phi(|m|/2) for unit covariances."""
    x, y = normals([1.5, 0, 0], (1500, 1500))
    found = sx.classifier_two_sample(x, y, key=KEY, neighbours=51, permutations=0)
    bayes = scipy.stats.norm.cdf(0.75)
    assert bayes - 0.03 < float(found.value) < bayes + DEVIATIONS * float(found.error)


# Errors and p-values


QUICK = ("energy_distance",)
EACH = [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in KINDS]


@pytest.mark.parametrize("kind", EACH)
def test_standard_error_is_the_spread_over_repetitions(kind):
    """300 repetitions under an alternative: a sample deviation scatters by 4 %."""
    settings = {"classifier_two_sample": {"neighbours": 11, "permutations": 40}}.get(kind, {"permutations": 0})
    if kind.startswith("sliced"):
        settings["projections"] = 64

    def one(key):
        keys = jax.random.split(key, 3)
        x, y = jax.random.normal(keys[0], (120, 2)), 1.5 * jax.random.normal(keys[1], (100, 2)) + 1.0
        found = KINDS[kind](x, y, key=keys[2], **settings)
        return found.value, found.error

    values, errors = jax.jit(jax.vmap(one))(jax.random.split(KEY, 300))
    ratio = float(jnp.sqrt(jnp.mean(errors**2)) / jnp.std(values))
    assert 0.85 < ratio < 1.25, ratio


@pytest.mark.parametrize("kind", EACH)
def test_p_values_are_uniform_under_one_law_and_small_under_two(kind):
    """400 repetitions of 19 permutations: p takes 20 values, each with probability 1/20 where there are no ties."""

    settings = {"projections": 8} if kind.startswith("sliced") else {}

    def p_value(key, shift):
        keys = jax.random.split(key, 3)
        x, y = jax.random.normal(keys[0], (30, 2)), jax.random.normal(keys[1], (20, 2)) + shift
        return KINDS[kind](x, y, key=keys[2], permutations=19, **settings).p_value

    repeat = jax.jit(jax.vmap(p_value, in_axes=(0, None)))
    keys = jax.random.split(KEY, 400)
    null = np.asarray(repeat(keys, 0.0))
    if kind == "classifier_two_sample":
        # Accuracies tie, and ties count against: at most uniform, and not by far.
        assert np.mean(null <= 0.1) < 0.1 + DEVIATIONS * np.sqrt(0.09 / 400) and np.mean(null <= 0.5) > 0.3
    else:
        counts = np.bincount(np.rint(null * 20).astype(int), minlength=21)[1:]
        assert scipy.stats.chisquare(counts).pvalue > 1e-3, f"seed {SEED}: {counts}"
        jittered = null - np.random.default_rng(SEED).uniform(0, 1 / 20, 400)
        assert scipy.stats.kstest(jittered, "uniform").pvalue > 1e-3
    # The smallest p there is, in nearly all of 400.
    assert np.mean(np.asarray(repeat(keys, 1.5)) <= 0.05) > 0.8


def test_floor_is_what_one_law_shows():
    """E F of equal normal laws by repetition, against the mean over permutations of one pair."""
    x, y = normals([0.0, 0, 0], (150, 150))
    found = sx.frechet_distance(x, y, key=KEY)
    repeated = [float(sx.frechet_distance(*normals([0, 0, 0], (150, 150), seed=k), key=KEY, permutations=0).value)
                for k in range(30)]  # fmt: skip
    assert float(found.floor) == pytest.approx(np.mean(repeated), rel=0.2)
    assert float(found.error) >= np.std(np.asarray(found.null)) * 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_p_value_is_one_over_all_permutations_and_that_of_a_tie_is_one(kind):
    """Of 12 and 9 points far apart no other of 293,930 labellings does as well (8,000 in folds); of equal points all do."""
    settings = {"classifier_two_sample": {"folds": 3}}.get(kind, {"projections": 4} if "sliced" in kind else {})
    x, y = normals([9.0, 0, 0], (12, 9))
    assert float(KINDS[kind](x, y, key=KEY, permutations=19, **settings).p_value) == 1 / 20
    x, y = np.full((12, 3), 0.3), np.full((9, 3), 0.3)
    assert float(KINDS[kind](x, y, key=KEY, permutations=19, **settings).p_value) == 1.0


def test_a_p_value_counts_the_permutations_that_do_as_well():
    x, y = normals([0.4, 0, 0], (12, 9))
    found = sx.energy_distance(x, y, key=KEY, permutations=50)
    above = int(np.sum(np.asarray(found.null) >= float(found.value)))
    assert 0 < above < 50 and float(found.p_value) == pytest.approx((1 + above) / 51, rel=1e-14)


def test_ties_of_counts_are_ties_to_rounding():
    """Of 0 and 1 the energy distance is that of two counts: many permutations give the same value, whatever the order."""
    x, y = np.repeat([0.0, 1.0], [7, 3]), np.repeat([0.0, 1.0], [3, 7])
    found = sx.energy_distance(x, y, key=KEY, permutations=400)
    # Of 10 ones 7 or more, or 3 or fewer, fall to the second half: hypergeometric.
    law = scipy.stats.hypergeom(20, 10, 10)
    assert float(found.p_value) == pytest.approx(law.cdf(3) + law.sf(6), abs=4 * 0.5 / 20)


def test_error_of_slicing_is_that_of_random_directions():
    """y = x + m: W_2^2 along theta is (theta . m)^2, with E theta_1^4 = 3/(d (d + 2)), whatever the points."""
    shift, d, count = np.array([2.0, 0.0, -1.0, 0.5]), 4, 4000
    x = np.random.default_rng(SEED).standard_normal((5, d))
    found = sx.sliced_wasserstein(x, x + shift, key=KEY, projections=count, permutations=0)
    square = np.sum(shift**2)
    spread = square * np.sqrt(3 / (d * (d + 2)) - 1 / d**2)
    # d SW = d SW^2/(2 SW). A sample deviation of so many is right to 3 %.
    expected = spread / np.sqrt(count) / (2 * np.sqrt(square / d))
    assert float(found.details["projection error"]) == pytest.approx(expected, rel=0.1)
    assert abs(float(found.value) - np.sqrt(square / d)) < DEVIATIONS * expected
    # In the mean over |theta . m|, as a plain number: E |theta_1| = Gamma(d/2)/(sqrt(pi) Gamma((d + 1)/2)).
    first = sx.sliced_wasserstein(x, x + shift, key=KEY, projections=count, permutations=0, power=1)
    mean = np.sqrt(square) * scipy.special.gamma(d / 2) / (np.sqrt(np.pi) * scipy.special.gamma((d + 1) / 2))
    spread = np.sqrt(square / d - mean**2)
    assert float(first.details["projection error"]) == pytest.approx(spread / np.sqrt(count), rel=0.1)
    assert abs(float(first.value) - mean) < DEVIATIONS * spread / np.sqrt(count)


@pytest.mark.parametrize("order", [1, 2])
def test_error_of_sliced_wasserstein_in_one_dimension_is_that_of_its_potentials(order):
    """x and y = a + s x', in closed form: phi' = p sign(x - T x)|x - T x|^(p - 1) with T x = a + s x, E x = 0."""
    rng = np.random.default_rng(SEED)
    a, s, n, m = 3.0, 1.5, 4000, 1000
    x, y = rng.standard_normal(n), a + s * rng.standard_normal(m)
    found = sx.sliced_wasserstein(x, y, key=KEY, power=order, permutations=0)
    if order == 1:
        # T x > x but in the far tail: phi = -x, psi = y.
        variance = 1 / n + s**2 / m
        expected = np.sqrt(variance)
    else:
        # phi = x^2 (1 - s) - 2 a x, psi = (y - a)^2 (1 - 1/s) + 2 a (y - a) with y - a of variance s^2; Var z^2 = 2.
        variance = (2 * (1 - s) ** 2 + 4 * a**2) / n + s**4 * (2 * (1 - 1 / s) ** 2 + 4 * a**2 / s**2) / m
        expected = np.sqrt(variance) / (2 * np.sqrt(a**2 + (1 - s) ** 2))
    assert float(found.error) == pytest.approx(expected, rel=0.1)


def test_error_of_frechet_is_that_of_two_normal_laws_in_one_dimension():
    """F = a^2 + (s - t)^2: from dF = 2 a da + (1 - t/s) ds^2 + (1 - s/t) dt^2, var s^2 = 2 s^4/n."""
    rng = np.random.default_rng(SEED)
    a, s, t, n, m = 0.7, 1.0, 2.5, 6000, 2000
    x, y = s * rng.standard_normal((n, 1)), a + t * rng.standard_normal((m, 1))
    variance = 4 * a**2 * (s**2 / n + t**2 / m) + (1 - t / s) ** 2 * 2 * s**4 / n + (1 - s / t) ** 2 * 2 * t**4 / m
    found = sx.frechet_distance(x, y, key=KEY, permutations=0)
    assert float(found.error) == pytest.approx(np.sqrt(variance), rel=0.1)


# Features, all at once, misuse


def test_principal_features_are_centred_and_uncorrelated_with_falling_spread():
    data = np.random.default_rng(1).standard_normal((400, 6)) @ np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) + 7.0
    features = sx.diagnostics.principal_features(data, 4)(data)
    top = np.linalg.eigvalsh(np.cov(data, rowvar=False))[::-1][:4]
    np.testing.assert_allclose(np.cov(features, rowvar=False), np.diag(top), atol=1e-10)
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-10)


def test_frechet_of_known_moments_in_named_features():
    """Commuting covariances: |m|^2 + sum (s - 1)^2, in the features' own units."""
    rng = np.random.default_rng(0)
    white = rng.standard_normal((500, 3))
    white -= white.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(np.cov(white, rowvar=False)), white.T).T
    means, spreads = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 3.0])
    found = sx.frechet_distance(means + spreads * white, white, key=KEY, features=lambda x: 2 * x, permutations=0)
    assert float(found.value) == pytest.approx(4 * (np.sum(means**2) + np.sum((spreads - 1) ** 2)), rel=1e-8)
    named = sx.frechet_distance(
        white, white + 1, key=KEY, features=sx.diagnostics.principal_features(white, 2), permutations=0
    )
    assert "2 principal components" in str(named)


@pytest.mark.slow
def test_all_at_once_see_a_change_of_shape_that_two_moments_do_not():
    """Two points +-1 against N(0, 1): equal means and variances."""
    rng = np.random.default_rng(SEED)
    x, y = rng.choice([-1.0, 1.0], (400, 1)), rng.standard_normal((400, 1))
    found = sx.distances(x, y, key=KEY)
    assert float(found["frechet_distance"].p_value) > 0.01 and found.p_value < 0.05
    seen = ("sliced_wasserstein_1", "sliced_wasserstein_2", "maximum_mean_discrepancy", "energy_distance")
    assert all(float(found[kind].p_value) < 0.01 for kind in seen)
    assert found.p_value == pytest.approx(6 * min(float(each.p_value) for each in found.kinds.values()))
    assert "under one law" in str(found) and set(found.to_dict()["kinds"]) == set(KINDS)


def test_images_are_flattened_and_integers_taken_as_numbers():
    rng = np.random.default_rng(SEED)
    x, y = rng.integers(0, 9, (60, 4, 4)), rng.integers(0, 9, (50, 4, 4))
    flat = [z.reshape(len(z), -1).astype(float) for z in (x, y)]
    one, other = (float(sx.energy_distance(*pair, key=KEY, permutations=0).value) for pair in ((x, y), flat))
    assert one == other


@pytest.mark.slow
def test_single_precision_is_kept():
    x, y = (z.astype(np.float32) for z in normals([1.0, 0, 0], (60, 60)))
    found = sx.distances(x, y, key=KEY, permutations=5)
    exact = sx.distances(x.astype(float), y.astype(float), key=KEY, permutations=5)
    for kind in ("sliced_wasserstein_1", "maximum_mean_discrepancy", "energy_distance", "frechet_distance"):
        assert found[kind].value.dtype == jnp.float32
    # Directions are drawn in the dtype, so those differ.
    for kind in ("energy_distance", "frechet_distance"):
        assert float(found[kind].value) == pytest.approx(float(exact[kind].value), rel=1e-3)


def test_cautions_say_why_not_to_trust():
    x, y = normals(np.zeros(30), (25, 25), 30)
    found = sx.frechet_distance(x, y, key=KEY, permutations=0)
    assert any("singular" in text for text in found.cautions) and any(
        "no permutations" in text for text in found.cautions
    )
    assert any("rough" in text for text in found.cautions)


def test_misuse_is_told():
    x, y = normals([0, 0, 0], (20, 20))
    with pytest.raises(ValueError, match="points of one shape"):
        sx.energy_distance(x, y[:, :2], key=KEY)
    with pytest.raises(ValueError, match='"gaussian", "mixture" or "energy"'):
        sx.maximum_mean_discrepancy(x, y, key=KEY, kernel="laplace")
    with pytest.raises(ValueError, match="1 or 2"):
        sx.sliced_wasserstein(x, y, key=KEY, power=3)
    with pytest.raises(ValueError, match="an odd number of neighbours"):
        sx.classifier_two_sample(x, y, key=KEY, neighbours=4)
    with pytest.raises(ValueError, match="some of sliced_wasserstein_1"):
        sx.distances(x, y, key=KEY, kinds=("wasserstein",))
    with pytest.raises(ValueError, match="at most 3"):
        sx.diagnostics.principal_features(x, 5)


BAD = {
    "one nan": (lambda x: x.at[2, 1].set(jnp.nan), r"second sample\[2, 1\]\n  got nan, expected a finite number"),
    "one infinity": (lambda x: x.at[0, 0].set(-jnp.inf), r"second sample\[0, 0\]\n  got -inf"),
    "complex": (lambda x: x.astype(complex), "complex128, expected real numbers"),
    "one point": (lambda x: x[:1], r"\(1, 3\), expected \(n, \.\.\.\) with n >= 2"),
    "no point": (lambda x: x[:0], r"with n >= 2"),
    "points of nothing": (lambda x: x[:, :0], r"\(20, 0\)"),
    "a number": (lambda x: x[0, 0], r"shape \(\)"),
    "words": (lambda x: ["up", "down"], "an array of numbers"),
    "other points": (lambda x: x[:, :2], "points of one shape"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_samples_are_refused_with_their_place(kind, case):
    x, y = map(jnp.asarray, normals([0, 0, 0], (20, 20)))
    spoil, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words):
        KINDS[kind](x, spoil(y), key=KEY)
    with pytest.raises((ValueError, TypeError), match=words.replace("second", "first")):
        KINDS[kind](spoil(x), y, key=KEY)


@pytest.mark.parametrize("kind", QUICK)
def test_what_is_not_finite_inside_a_trace_has_no_p_value(kind):
    x, y = map(jnp.asarray, normals([0, 0, 0], (20, 20)))
    spoiled = jax.jit(lambda x: KINDS[kind](x, y, key=KEY, permutations=9))(x.at[3, 1].set(jnp.nan))
    assert np.isnan(spoiled.value) and np.isnan(spoiled.p_value) and "nothing is known" in spoiled.cautions[0]
    # Overflow of squares in float32.
    large = 1e25 * jnp.asarray(x, jnp.float32)
    found = KINDS[kind](large, 1e25 * jnp.asarray(y, jnp.float32), key=KEY, permutations=9)
    assert np.isnan(found.p_value)
    both = sx.diagnostics.Distances({"a": found, "b": KINDS[kind](x, y, key=KEY, permutations=9)})
    assert np.isnan(both.p_value)


def test_points_that_coincide_leave_a_bandwidth():
    """Of 20 points 14 are one: the median distance is 0."""
    x, y = np.r_[np.zeros((7, 1)), np.ones((3, 1))], np.r_[np.zeros((7, 1)), np.full((3, 1), 3.0)]
    found = sx.maximum_mean_discrepancy(x, y, key=KEY, permutations=19)
    pairs = scipy.spatial.distance.pdist(np.concatenate([x, y]))
    assert float(found.details["bandwidth"]) == pytest.approx(np.sqrt(np.mean(pairs**2)), rel=1e-9)
    assert np.isfinite(found.value) and 1 / 20 <= float(found.p_value) <= 1


def test_counts_and_settings_out_of_range_are_told():
    x, y = normals([0, 0, 0], (20, 20))
    with pytest.raises(ValueError, match="permutations\n  got -1, expected at least 0"):
        sx.energy_distance(x, y, key=KEY, permutations=-1)
    for bandwidth in (0.0, -1.0, np.nan, np.inf, np.ones(2)):
        with pytest.raises(ValueError, match=r"bandwidth\n  got .*one finite number > 0"):
            sx.maximum_mean_discrepancy(x, y, key=KEY, bandwidth=bandwidth)
    with pytest.raises(ValueError, match="projections\n  got 0"):
        sx.sliced_wasserstein(x, y, key=KEY, projections=0)
    with pytest.raises(ValueError, match=r"reference\[0, 0\]\n  got nan"):
        sx.diagnostics.principal_features(np.full((5, 2), np.nan), 1)
    with pytest.raises(ValueError, match="points of 2 numbers, expected 3"):
        sx.diagnostics.principal_features(x, 1)(y[:, :2])


def test_figures_show_the_value_beside_permuted_labels():
    x, y = normals([0.7, 0, 0], (60, 60))
    found = sx.distances(x, y, key=KEY, kinds=("energy_distance", "frechet_distance"), permutations=50)
    axes = sx.plotting.plot(found).axes[0]
    null = np.asarray(found["energy_distance"].null)
    expected = (float(found["energy_distance"].value) - null.mean()) / null.std()
    # Kinds from the top down.
    heights = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert heights[1] == pytest.approx(expected, rel=1e-9)
    one = sx.plotting.plot(found["energy_distance"]).axes[0]
    assert one.lines[0].get_xdata()[0] == pytest.approx(float(found["energy_distance"].value))
