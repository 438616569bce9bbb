"""Guided fields on normal data, where guided, tilted and conditional laws are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import separatrix as sx

D = sx.diffusion
EDM = D.EDM(1e5)
TAU = 1.5


def centred(variance):
    return D.Prediction(EDM, Linear(jnp.asarray(variance)), "clean")


class Linear(eqx.Module):
    """The mean of N(0, v) behind x."""

    variance: jax.Array

    def __call__(self, t, x):
        return self.variance * x / (self.variance + t**2)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 3.5])
def test_the_guided_law_is_not_the_tilted_one(scale):
    """x | c ~ N(c, 1), c ~ N(0, tau^2): (1 + tau^2)^(1 - scale), tilted (1 + tau^2)/(1 + scale tau^2)."""
    prediction = D.guided(centred(1 + TAU**2), centred(1.0), scale=scale)
    times = jnp.append(jnp.geomspace(1e5, 1e-3, 1500), 0.0)
    found = float(D.final_variance(D.sampling_map(D.ChurnedHeun(), prediction, times), 1e10))
    truth, tilted = (1 + TAU**2) ** (1 - scale), (1 + TAU**2) / (1 + scale * TAU**2)
    assert found == pytest.approx(truth, rel=1e-3)
    assert (abs(found - tilted) < 2e-3) is (scale in (0.0, 1.0))


@pytest.mark.slow
def test_the_gap_between_guided_and_tilted_laws():
    """Normal laws of variances a (plain) and b: guided a (b/a)^scale, so that W_2 is the difference of two spreads; and
    for mixtures the tilted quantiles by another quadrature, and no gap without guidance."""
    plain, wanted = (D.GaussianMixture([1.0], [[0.0]], [s]) for s in (1.5, 0.8))
    found = D.guidance_gap(D.EDM(400.0), plain, wanted, 2.0, count=4000)
    a, b = 1.5**2, 0.8**2
    guided, tilted = np.sqrt(b**2 / a), np.sqrt(1 / (2 / b - 1 / a))
    # The tails beyond the outermost quantiles are left out: of N(0, 1), 3e-3 of the variance at 4000 of them.
    assert float(found.distance) == pytest.approx(guided - tilted if guided > tilted else tilted - guided, rel=5e-3)
    assert [float(np.std(q)) for q in (found.guided, found.tilted)] == pytest.approx([guided, tilted], rel=3e-3)
    pair, one = D.GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], [0.5, 0.7]), D.GaussianMixture([1.0], [[1.0]], [0.7])
    mixed = D.guidance_gap(D.EDM(400.0), pair, one, 3.0, count=99)

    def density(x):
        p, q = (float(np.exp(m.log_density(jnp.array([x])))) for m in (pair, one))
        return p * (q / p) ** 3

    mass = integrate.quad(density, -6, 8, limit=200)[0]
    below = integrate.quad(density, -6, float(mixed.tilted[49]), limit=200)[0]
    assert below / mass == pytest.approx(0.5, abs=1e-5) and float(mixed.distance) > 0.02
    assert float(D.guidance_gap(D.EDM(400.0), pair, one, 1.0, count=99).distance) < 5e-3


@pytest.mark.slow
def test_the_gap_in_three_dimensions_is_that_of_its_coordinates():
    """x | c ~ N(c, 1), c ~ N(0, tau^2) in each coordinate: both laws are products, and the square of the sliced distance is
    the mean of the squares on the lines, whatever the direction, for the spreads are alike in all."""
    centre, scale = np.array([1.0, -0.5, 0.0]), 2.0
    plain = D.GaussianMixture([1.0], [[0.0] * 3], [(1 + TAU**2) ** 0.5])
    wanted = D.GaussianMixture([1.0], [centre.tolist()], [1.0])
    found = D.guidance_gap(D.EDM(400.0), plain, wanted, scale, key=jax.random.key(0), count=2000, steps=150)
    guided, tilted = (1 + TAU**2) ** (1 - scale), (1 + TAU**2) / (1 + scale * TAU**2)
    count = len(found.guided)
    for sample, variance in ((found.guided, guided), (found.tilted, tilted)):
        # Of a normal law the variance of n points has the standard error v sqrt(2/n).
        np.testing.assert_allclose(np.var(sample, axis=0), variance, rtol=4 * (2 / count) ** 0.5)
        assert abs(np.corrcoef(np.asarray(sample).T)[0, 1]) < 4 / count**0.5
    np.testing.assert_allclose(
        np.mean(found.tilted, 0), scale * centre * (1 + TAU**2) / (1 + scale * TAU**2), atol=4 * (tilted / count) ** 0.5
    )
    first = D.GaussianMixture([1.0], [[0.0]], [(1 + TAU**2) ** 0.5])
    lines = [
        D.guidance_gap(
            D.EDM(400.0), first, D.GaussianMixture([1.0], [[c]], [1.0]), scale, count=2000, steps=150
        ).distance
        for c in centre.tolist()
    ]
    exact = float(np.mean(np.square(lines))) ** 0.5
    # The estimate is biased up by what two samples of one law show, added in squares.
    assert abs(float(found.distance) - np.hypot(exact, float(found.floor))) < 4 * float(found.error) + float(
        found.floor
    )
    assert exact > 5 * float(found.floor)
    same = D.guidance_gap(D.EDM(400.0), plain, wanted, 1.0, key=jax.random.key(1), count=1000, steps=60)
    assert float(same.distance) < 2 * float(same.floor)


def test_w_of_the_paper_and_the_interval():
    x, plain, wanted = jnp.array([[1.0]]), centred(4.0), centred(1.0)
    by_w, by_scale = (D.guided(plain, wanted, **kind).clean(2.0, x) for kind in ({"w": 0.5}, {"scale": 1.5}))
    np.testing.assert_allclose(by_w, by_scale, rtol=1e-15)
    noise = [p.noise(2.0, x) for p in (plain, wanted)]
    np.testing.assert_allclose(
        D.guided(plain, wanted, w=0.5).noise(2.0, x), 1.5 * noise[1] - 0.5 * noise[0], rtol=1e-12
    )
    inside = D.guided(plain, wanted, scale=3.0, interval=(1.0, 3.0))
    for t in (4.0, 0.5):
        np.testing.assert_allclose(inside.clean(t, x), wanted.clean(t, x), rtol=1e-12)
    assert abs((inside.clean(2.0, x) - wanted.clean(2.0, x)).item()) > 0.1
    # A guided prediction is sampled like another, outside of jit too; where alpha = 0 there is guidance.
    straight = D.StraightPath()
    at = (D.Prediction(straight, lambda t, x, c=c: jnp.full_like(x, c), "clean") for c in (0.0, 1.0))
    pulled = D.guided(*at, scale=3.0)
    np.testing.assert_allclose(pulled.clean(1.0, x), 3.0, rtol=1e-12)
    path = D.sample(straight, pulled, jax.random.key(0), (2, 1), steps=1, method=D.DDIM())
    np.testing.assert_allclose(path.final, 3.0, rtol=1e-9)


def test_one_doubled_batch_is_two_calls():
    network = D.ScoreMLP(2, 8, 1, classes=3, key=jax.random.key(0), dtype=jnp.float64)
    x, labels, process = jax.random.normal(jax.random.key(1), (4, 2)), jnp.array([0, 2, 1, 0]), D.VP()
    plain, wanted = (D.network_prediction(process, network, "noise", c) for c in (jnp.full(4, 3), labels))
    found = D.class_guided(process, network, labels, scale=2.5)
    np.testing.assert_allclose(found.clean(0.4, x), D.guided(plain, wanted, scale=2.5).clean(0.4, x), rtol=1e-12)
    old = D.score_of(process, network, labels, guidance=1.5)
    np.testing.assert_allclose(found.score(0.4, x), old(0.4, x), rtol=1e-9)


def test_a_classifier_is_bayes_rule():
    """x ~ N(0, 4) and y = x + N(0, 1): the score of p(y | x(t)) by hand gives the posterior mean."""
    y, prior, noise = 1.2, 4.0, 1.0

    def log_probability(t, x):
        mean, spread = prior * x[:, 0] / (prior + t**2), prior * t**2 / (prior + t**2) + noise
        return -((y - mean) ** 2) / (2 * spread)

    t, x = 1.7, jnp.array([[0.4], [-2.0]])
    found = D.classifier_guided(centred(prior), log_probability).clean(t, x)
    precision = 1 / prior + 1 / t**2 + 1 / noise
    np.testing.assert_allclose(found, (x / t**2 + y / noise) / precision, rtol=1e-12)


COVARIANCE = jnp.array([[2.0, 0.7, -0.3], [0.7, 1.0, 0.2], [-0.3, 0.2, 0.5]])
OPERATOR = jnp.array([[1.0, -0.5, 0.0], [0.0, 0.3, 2.0]])


@pytest.mark.parametrize("process", [D.VP()], ids=["VP"])
def test_measured_normal_data(process):
    """Moment matching gives the exact mean given x(t) and y = A x0 + N(0, s^2); DPS that of its own formula."""
    y, s, t, x = jnp.array([0.8, -1.1]), 0.4, 0.6, jnp.array([[0.4, -1.0, 0.7]])
    alpha, sigma = process.marginal(t)
    gain = alpha * COVARIANCE @ jnp.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * jnp.eye(3))
    plain = D.Prediction(process, lambda t, x: x @ gain.T, "clean")
    found = {
        m: D.measured(plain, lambda x: OPERATOR @ x, y, noise=s, method=m).clean(t, x)[0] for m in ("moments", "dps")
    }
    precision = jnp.linalg.inv(COVARIANCE) + alpha**2 / sigma**2 * jnp.eye(3) + OPERATOR.T @ OPERATOR / s**2
    exact = jnp.linalg.solve(precision, alpha * x[0] / sigma**2 + OPERATOR.T @ y / s**2)
    np.testing.assert_allclose(found["moments"], exact, rtol=1e-10)
    clean = gain @ x[0]
    dps = clean + sigma**2 / alpha * gain.T @ OPERATOR.T @ (y - OPERATOR @ clean) / s**2
    np.testing.assert_allclose(found["dps"], dps, rtol=1e-10)
    assert float(jnp.abs(dps - exact).max()) > 0.05


def test_inversion_of_ddim_is_undone_at_order_one():
    law = D.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])
    process = D.VP()
    prediction, x = D.Prediction(process, law.score_under(process).clean, "clean"), jnp.array([[0.7], [-1.5]])

    @jax.jit
    def there_and_back(times):
        up = D.ddim_inversion(prediction, x, schedule=D.GivenTimes(times))
        return sx.evolve(D.sampling_map(D.DDIM(), prediction, times), up, save="last").final

    with pytest.raises(ValueError, match="a last time above 0"):
        D.ddim_inversion(prediction, x, schedule=D.UniformTimes())
    errors = [float(jnp.abs(there_and_back(jnp.linspace(1.0, 1e-3, n + 1)) - x).max()) for n in (200, 400)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.15)


KEY = jax.random.key(0)


def plane(*scales):
    """Normal laws in the plane."""
    return [D.GaussianMixture([1.0], [[0.0, 0.0]], [scale]) for scale in scales]


FAR = D.GaussianMixture([1.0], [[8.0, 8.0]], [1.0])
NARROW, WIDE = (D.GaussianMixture([1.0], [[0.0]], [s]) for s in (0.5, 1.0))


def test_guidance_out_of_range_is_refused_in_words():
    network = D.ScoreMLP(1, 4, 1, classes=2, key=jax.random.key(0))
    for call, words in (
        (lambda: D.guided(centred(1.0), centred(1.0)), "neither, expected one of"),
        (lambda: D.guided(centred(1.0), centred(1.0), scale=1.0, w=0.0), "scale = 1.0 and w = 0.0"),
        (lambda: D.guided(centred(1.0), centred(1.0), scale=float("inf")), "scale\n  got inf"),
        (lambda: D.guided(centred(1.0), centred(1.0), scale=1.0, interval=(2.0, 1.0)), "2.0 and 1.0"),
        (lambda: D.class_guided(D.VP(), network, jnp.array([3]), scale=1.0), r"got 3 at index \[0\]"),
        (
            lambda: D.guidance_gap(EDM, *[D.GaussianMixture([1.0], [[0.0, 0.0]], [1.0])] * 2, 1.0),
            "got None in 2 dimensions",
        ),
        (
            lambda: D.guidance_gap(EDM, NARROW, D.GaussianMixture([1.0], [[0.0, 0.0]], [1.0]), 1.0),
            "got 1 and 2 dimensions",
        ),
        (
            lambda: D.guidance_gap(EDM, *plane(0.5, 1.0), 3.0, key=KEY),
            "got scale 3, expected one whose tilted law has a mass",
        ),
        (lambda: D.guidance_gap(EDM, plane(1.0)[0], FAR, 3.0, key=KEY), "points that are worth .* of the tilted law"),
        (lambda: D.guidance_gap(EDM, NARROW, NARROW, [1.0, 2.0]), r"got shape \(2,\)"),
        (lambda: D.guidance_gap(EDM, NARROW, WIDE, 3.0), "got scale 3, expected one whose tilted law has a mass"),
        (lambda: D.measured(centred(1.0), lambda x: x, jnp.ones(1), noise=0.0), "noise\n  got 0.0"),
        (lambda: D.measured(centred(1.0), lambda x: x, jnp.ones(1), noise=1.0, method="dsp"), "Did you mean 'dps'"),
    ):
        with pytest.raises(ValueError, match=f"(?s){words}"):
            call()
