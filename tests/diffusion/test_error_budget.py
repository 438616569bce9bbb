"""Where a sampler's error comes from: closed forms on normal data, finite differences, distances of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

D = sx.diffusion
MEAN, VARIANCE, TOP = 0.7, 0.4, 6.0
EDM = D.EDM(TOP)
LAW = D.GaussianMixture([1.0], [[MEAN]], [VARIANCE**0.5])
TWO = jnp.array([[TOP], [-TOP]])  # mean 0 and variance TOP^2, exactly those of the prior


def score_times(factor, law=LAW):
    """The score, too large by a factor."""
    exact = law.score_under(EDM)
    return D.Prediction(EDM, lambda t, x: factor * exact(t, x), "score")


def shrinking(levels, factor):
    """What a step of DDIM does to y - m: 1 - (1 - s'/s) factor s^2/(v + s^2)."""
    return 1 - (1 - levels[1:] / levels[:-1]) * factor * levels[:-1] ** 2 / (VARIANCE + levels[:-1] ** 2)


def test_prior_and_score_of_normal_data_in_closed_form():
    levels, wrong = np.geomspace(TOP, 0.05, 12), 0.03
    map = D.sampling_map(D.DDIM(), score_times(1 + wrong), jnp.asarray(levels))
    found = D.error_budget(map, LAW, TWO)
    own, right = shrinking(levels, 1 + wrong), shrinking(levels, 1.0)
    left = np.cumprod(own[::-1])[::-1]  # of step n and all after it
    away = TOP * np.array([1.0, -1.0]) - MEAN
    reached = away[None] * np.concatenate([[1.0], np.cumprod(own)[:-1]])[:, None]
    parts = (own - right)[:, None] * reached * np.append(left[1:], 1.0)[:, None]
    np.testing.assert_allclose(found.parts[..., 0], parts, rtol=1e-9)
    np.testing.assert_allclose(found.by_step, np.sqrt(np.mean(parts**2, axis=1)), rtol=1e-9)
    # The prior is N(0, T^2), the law at the first level N(m, v + T^2).
    widened = MEAN + np.sqrt(VARIANCE + TOP**2) * np.array([1.0, -1.0])
    of_prior = (TOP * np.array([1.0, -1.0]) - widened) * np.prod(own)
    assert float(found.prior) == pytest.approx(np.sqrt(np.mean(of_prior**2)), rel=1e-9)
    assert sum(found.shares.values()) == pytest.approx(1, rel=1e-12)


def test_the_parts_add_up_to_the_distance_of_what_is_drawn():
    """From points that have the prior's two moments, in one dimension: the end less sqrt(v), to first order."""
    levels, wrong = np.append(np.geomspace(TOP, 0.01, 160), 0.0), 0.004
    map = D.sampling_map(D.DDIM(), score_times(1 + wrong), jnp.asarray(levels))
    found = D.error_budget(map, LAW, TWO)
    ends = np.asarray(found.ends)[:, 0]
    truth = MEAN + np.sqrt(VARIANCE) * np.array([1.0, -1.0])
    distance = np.sqrt(np.mean((ends - truth) ** 2))
    assert float(found.bound) == pytest.approx(distance, rel=0.04)  # the end is 4 % of its spread off
    # Of the score alone, in many steps: sqrt(v) (e/2) ln(1 + T^2/v).
    small = D.sampling_map(D.DDIM(), score_times(1.001), jnp.geomspace(TOP, 1e-3, 1000))
    from_law = jnp.asarray(MEAN + np.sqrt(VARIANCE + TOP**2) * np.array([[1.0], [-1.0]]))
    rate = float(D.error_budget(small, LAW, from_law).score) / 1e-3
    assert rate == pytest.approx(np.sqrt(VARIANCE) / 2 * np.log1p(TOP**2 / VARIANCE), rel=0.01)


def test_steps_of_normal_data_in_closed_form():
    """The flow multiplies y - m by sqrt((v + s_N^2)/(v + s_0^2)); four times the steps by Heun's method is near enough."""
    levels = np.geomspace(TOP, 0.05, 10)
    found = D.error_budget(D.sampling_map(D.DDIM(), score_times(1.0), jnp.asarray(levels)), LAW, TWO)
    exact = np.sqrt((VARIANCE + levels[-1] ** 2) / (VARIANCE + levels[0] ** 2))
    away = TOP * np.array([1.0, -1.0]) - MEAN
    truth = abs(np.prod(shrinking(levels, 1.0)) - exact) * np.sqrt(np.mean(away**2))
    assert float(found.steps) == pytest.approx(truth, rel=0.02)
    assert float(found.score) < 1e-12


@pytest.mark.parametrize("sampler", [D.DPMSolver(), D.DPMSolverSDE()], ids=["2M", "SDE"])
def test_displacements_are_derivatives_of_the_end(sampler):
    """Of a mixture, with a method that looks back, also under noise: (end(e) - end(0))/e by finite differences."""
    law = D.GaussianMixture([0.3, 0.7], [[-2.0, 0.0], [1.0, 0.5]], [0.5, 0.3])
    levels, key, e = jnp.append(jnp.geomspace(TOP, 0.1, 8), 0.0), jax.random.key(4), 1e-5
    start = TOP * jax.random.normal(jax.random.key(2), (5, 2))

    def end(factor):
        map = D.sampling_map(sampler, score_times(factor, law), levels)
        return sampler.seen(sx.evolve(map, sampler.begin(start), key=key, save="last").final)

    found = D.error_budget(D.sampling_map(sampler, score_times(1 + e, law), levels), law, start, key=key)
    slope = (end(1 + e) - end(1 - e)) / (2 * e)
    np.testing.assert_allclose(jnp.sum(found.parts, axis=0) / e, slope, rtol=1e-3, atol=1e-4)
    assert bool(jnp.isnan(found.steps)) is (sampler.draws > 0)


@pytest.mark.slow
def test_the_bound_holds_for_the_sliced_distance_of_samples():
    """Two axes of different variance: sliced W_2^2 = E (|a cos, b sin| - |a' cos, b' sin|)^2 over directions."""
    law = D.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.3, 0.3])
    map = D.sampling_map(D.DDIM(), score_times(1.02, law), jnp.geomspace(TOP, 0.02, 60))
    start = TOP * jax.random.normal(jax.random.key(2), (3000, 2))
    found = D.error_budget(map, law, start)
    exact = D.sampling_map(D.DDIM(), D.Prediction(EDM, law.score_under(EDM).clean, "clean"), map.times)
    without = sx.evolve(exact, start, save="last").final  # the same points: no noise of sampling between them
    measured = sx.sliced_wasserstein(found.ends, without, key=jax.random.key(3), permutations=0)
    score = float(found.score)
    assert float(measured.value) < score * (1 + 0.04)
    assert float(measured.value) > 0.6 * score


def test_a_judged_sampler_tells_its_shares():
    levels = jnp.append(jnp.geomspace(TOP, 0.02, 12), 0.0)
    judged = D.JudgedSampler(D.sampling_map(D.DPMSolver(), score_times(1.3), levels), LAW)
    found = {finding.name: finding for finding in sx.diagnostics.examine(judged, D.DPMSolver().begin(TWO))}
    (score,) = (one for name, one in found.items() if "error by the score" in name)
    (steps,) = (one for name, one in found.items() if "error by the steps" in name)
    assert score.status == "caution" and score.evidence > 0.1 and steps.evidence < score.evidence
    assert "most is made at sigma/alpha" in score.cause


@pytest.mark.slow
def test_what_examples_do_not_say_is_not_told():
    """Of two examples +-1 the set alone decides where noise is small: the score's share is of the steps above."""
    law = D.EmpiricalLaw(jnp.array([[-1.0], [1.0]]))
    at = [float(law.effective(EDM, t, jnp.array([1.0]))) for t in (50.0, 0.1)]
    assert at[0] == pytest.approx(2, abs=1e-3) and at[1] == pytest.approx(1, abs=1e-9)
    normal = D.Prediction(EDM, lambda t, x: x / (1 + t**2), "clean")
    judged = D.JudgedSampler(D.sampling_map(D.DDIM(), normal, jnp.array([50.0, 5.0, 0.5, 0.05, 0.0])), law)
    (score,) = (
        f for f in sx.diagnostics.examine(judged, jnp.array([[50.0], [-50.0]])) if "error by the score" in f.name
    )
    assert score.status == "not known" and "the examples do not say" in score.cause
    many = D.JudgedSampler(judged.sampler, D.EmpiricalLaw(jnp.linspace(-1.0, 1.0, 64)[:, None]))
    (score,) = (f for f in sx.diagnostics.examine(many, jnp.array([[50.0], [-50.0]])) if "error by the score" in f.name)
    assert "above sigma/alpha = 0.05" in score.name and score.known
    with pytest.raises(TypeError, match="law\n  got int"):
        D.error_budget(judged.sampler, 3, TWO)
    with pytest.raises(TypeError, match="map\n  got JudgedSampler"):
        D.error_budget(judged, law, TWO)
