"""When classes part, against closed forms; rates of the flow in the clock of the noise; the stiffness of a schedule."""

import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

D = sx.diffusion


def pair(process, m, s, axis=1):
    means = jnp.zeros((2, axis)).at[0, 0].set(-m).at[1, 0].set(m)
    return D.Prediction(process, D.GaussianMixture([0.5, 0.5], means, [s, s]).score_under(process).clean, "clean")


def test_speciation_of_two_normal_laws():
    """VE sigma^2 = m^2 - s^2; VP alpha^2 = 1/(m^2 - s^2 + 1)."""
    edm = D.speciation(pair(D.EDM(), 3.0, 1.0), jnp.zeros(1))
    assert float(edm.level) == pytest.approx(2.8284271, abs=6e-8) and float(edm.time) == float(edm.level)
    vp = D.speciation(pair(D.VP(), 3.0, 1.0), jnp.zeros(1))
    assert float(vp.time) == pytest.approx(0.4649236, abs=6e-8)
    assert float(D.VP().marginal(vp.time)[0] ** 2) == pytest.approx(1 / 9, rel=1e-9)
    assert np.isnan(D.speciation(pair(D.EDM(), 0.9, 1.0), jnp.zeros(1)).time)  # one mode: nothing parts


def test_rates_along_and_across_two_classes():
    """At the middle of +-m on the first axis, y = 0: mu = (s^2 w + m^2 s_n^2)/w^2, w = s^2 + s_n^2, and s^2/w across."""
    m, s, noise = 1.5, 0.4, 0.7
    w = s**2 + noise**2
    across, along = D.separation_rates(pair(D.EDM(), m, s, 2), noise, jnp.zeros(2))
    assert float(across) == pytest.approx(s**2 / w - 1, rel=1e-12)
    assert float(along) == pytest.approx(s**2 / w + m**2 * noise**2 / w**2 - 1, rel=1e-12)
    assert float(along) > 0


def test_exponents_of_a_path_on_normal_data():
    """A step of DDIM multiplies y by r + (1 - r) c, c = v/(v + s^2) for each direction; of two directions, exactly."""
    variances, times = np.array([[1.0, 0.01]]), jnp.array([0.9, 0.6, 0.35, 0.2, 0.0])
    process = D.VP()

    def clean(t, x):
        alpha, sigma = process.marginal(t)
        return alpha * variances * x / (alpha**2 * variances + sigma**2)

    map = D.sampling_map(D.DDIM(), D.Prediction(process, clean, "clean"), times)
    alpha, sigma = (np.asarray(a)[:-1] for a in process.marginal(times))
    s = sigma / alpha
    r, c = (s[1:] / s[:-1])[:, None], variances / (variances + s[:-1, None] ** 2)
    truth = np.log(np.prod(r + (1 - r) * c, axis=0)) / np.log(s[0] / s[-1])
    np.testing.assert_allclose(D.path_exponents(map, jnp.array([0.3, -1.0])), np.sort(truth), rtol=1e-9)
    with pytest.raises(ValueError, match="map\n  got 1 levels"):
        D.path_exponents(D.sampling_map(D.DDIM(), D.Prediction(process, clean, "clean"), times[-2:]), jnp.ones(2))


def test_stiffness_of_a_schedule():
    """On data that are a point all rates are -1: the stiffness is the longest step in ln sigma."""
    point = D.Prediction(D.EDM(), lambda t, x: jnp.zeros_like(x), "clean")
    for times, longest in (([80.0, 20.0, 1.0, 0.0], np.log(20.0)), ([80.0, 40.0, 20.0, 0.0], np.log(2.0))):
        map = D.sampling_map(D.DDIM(), point, jnp.array(times))
        found = sx.diagnostics.examine(map, jnp.ones((1, 3)))[0]
        assert found.evidence == pytest.approx(longest, rel=1e-12) and found.holds == (longest < 2)


def test_growth_of_the_score_near_the_data():
    """On N(0, v) along one axis and a point along the other: -1/(v + s^2) and -1/s^2. Halfway between two narrow laws
    +-m: (m^2/w - 1)/w, w = s_d^2 + s^2, which grows by the power 4 while s_d << s << m."""
    v, levels = 0.3, np.array([0.2, 0.05, 0.01])
    process = D.VP()

    def clean(t, x):
        alpha, sigma = process.marginal(t)
        return alpha * jnp.array([[v, 0.0]]) * x / (alpha**2 * v + sigma**2)

    line = D.score_growth(D.Prediction(process, clean, "clean"), jnp.array([0.4, 0.0]), levels)
    truth = -1 / np.stack([levels**2, v + levels**2], axis=1)
    np.testing.assert_allclose(line.eigenvalues, truth, rtol=1e-9)
    powers = np.diff(np.log(-truth), axis=0) / -np.diff(np.log(levels))[:, None]
    np.testing.assert_allclose(line.powers, powers, atol=1e-9)
    assert np.allclose(powers[:, 0], 2)
    m, narrow, near = 1.0, 1e-3, np.array([0.04, 0.02])
    between = D.score_growth(pair(D.EDM(), m, narrow), jnp.zeros(1), near)
    w = narrow**2 + near**2
    np.testing.assert_allclose(between.eigenvalues[:, 0], (m**2 / w - 1) / w, rtol=1e-9)
    assert float(between.powers[0, 0]) == pytest.approx(4, abs=0.02)
    with pytest.raises(ValueError, match="two levels or more that fall"):
        D.score_growth(pair(D.EDM(), m, narrow), jnp.zeros(1), [0.1, 0.2])


def test_rates_of_many_components_are_those_of_a_jacobian():
    """dD/dy diagonal with the entries 0, 0.3 and 0.9 at 300 components: Lanczos is exact on three eigenvalues."""
    share = jnp.zeros(300).at[:5].set(0.3).at[7].set(0.9)
    prediction = D.Prediction(D.EDM(), lambda t, x: share[None] * x, "clean")
    map = D.sampling_map(D.DDIM(), prediction, jnp.array([8.0, 2.0, 1.0, 0.0]))
    found = D.path_rates(map, jnp.linspace(-1.0, 2.0, 300))
    np.testing.assert_allclose(found.lowest, [-1, -1], atol=1e-9)
    np.testing.assert_allclose(found.highest, [-0.1, -0.1], atol=1e-9)
    np.testing.assert_allclose(found.stiffness, np.log([4, 2]), rtol=1e-9)
    # A step multiplies y by r + (1 - r) mu; what is left out is smaller by a factor 0.4, six times over.
    steps = [np.log(np.prod([r + (1 - r) * mu for r in (0.25, 0.5)])) / np.log(8) for mu in (0.3, 0.9)]
    largest = D.path_exponents(map, jnp.ones(300), count=6)
    np.testing.assert_allclose(largest, [steps[0]] * 5 + [steps[1]], rtol=4e-3)
    with pytest.raises(ValueError, match="300 components"):
        D.path_exponents(map, jnp.ones(300))


def test_a_schedule_that_steps_over_the_parting_of_classes_is_told():
    """Two laws +-3 of spread 1 part at sigma = sqrt(8)."""
    prediction = pair(D.EDM(), 3.0, 1.0)
    for times, near in (([80.0, 10.0, 1.0, 0.1, 0.0], 0), ([80.0, 10.0, 4.0, 2.8, 2.0, 1.0, 0.1, 0.0], 3)):
        map = D.sampling_map(D.DDIM(), prediction, jnp.array(times))
        *_, found = sx.diagnostics.examine(map, jnp.array([[40.0]]))
        assert found.evidence == near and found.status == ("holds" if near else "caution")
        assert "loses its stability" in found.name
