"""What a noising process is asked, against normal laws by hand and by quadrature."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import separatrix as sx


def findings(process, state):
    return sx.diagnostics.examine(process, state)


@pytest.mark.parametrize("horizon", [1.0, 9.0, 81.0])
def test_brownian_prior_from_unit_data(horizon):
    divergence, missing = findings(sx.diffusion.Brownian(horizon), jnp.array([1.0, -1.0]))
    # N(0, 1 + T) against N(0, T): (1/T - ln(1 + 1/T))/2 nats; the bound's term is 1/(2T). The reversal ends at T/(1 + T).
    assert divergence.evidence == pytest.approx(0.5 * (1 / horizon - np.log1p(1 / horizon)), rel=1e-12)
    assert f"at most {1 / (2 * horizon):.3g} of any" in divergence.name
    assert missing.evidence == pytest.approx(1 / (1 + horizon), rel=1e-12)
    assert divergence.holds is (horizon > 1.0) and missing.holds is (horizon == 81.0)


PROCESSES = {"VP": sx.diffusion.VP(0.1, 2.0), "VE": sx.diffusion.VE(0.1, 3.0), "Brownian": sx.diffusion.Brownian(4.0)}


def divergence_from_prior(process, density, reach):
    """KL of a law with this density from the prior, by quadrature."""
    prior = stats.norm(0, float(process.prior_scale))

    def integrand(x):
        p = density(x)
        return p * (np.log(p) - prior.logpdf(x)) if p > 0 else 0.0

    return integrate.quad(integrand, -reach, reach, limit=200, epsabs=1e-13)[0]


@pytest.mark.parametrize("name", PROCESSES)
def test_divergence_of_normal_data_by_quadrature(name):
    process, data = PROCESSES[name], np.array([1.5, -0.4])
    alpha, sigma = (float(v) for v in process.marginal(process.horizon))
    law = stats.norm(0, np.sqrt(alpha**2 * np.mean(data**2) + sigma**2))
    found = findings(process, jnp.asarray(data))[0]
    assert found.evidence == pytest.approx(divergence_from_prior(process, law.pdf, 12 * law.std()), rel=1e-7)


@pytest.mark.parametrize("name", PROCESSES)
def test_of_data_that_are_not_normal_the_divergence_lies_between_it_and_the_bound(name):
    """Two points +-c: a mixture of two normal laws. The bound is the mean divergence of its parts."""
    process, c = PROCESSES[name], 1.3
    alpha, sigma = (float(v) for v in process.marginal(process.horizon))
    parts = [stats.norm(sign * alpha * c, sigma) for sign in (-1, 1)]
    mixed = divergence_from_prior(process, lambda x: (parts[0].pdf(x) + parts[1].pdf(x)) / 2, alpha * c + 12 * sigma)
    bound = divergence_from_prior(process, parts[0].pdf, alpha * c + 12 * sigma)
    found = findings(process, jnp.array([c, -c]))[0]
    assert found.evidence < mixed < bound and f"at most {bound:.3g} of any" in found.name


def test_missing_variance_is_what_the_flow_loses():
    process, spread = sx.diffusion.Brownian(2.0), 0.8
    normal = sx.diffusion.GaussianMixture([1.0], [[0.0]], [spread])
    flow = sx.reverse(sx.probability_flow(process, normal.score_under(process)), horizon=2.0)
    factor = sx.evolve(flow, jnp.ones(1), times=(0.0, 2.0), rtol=1e-10, atol=1e-12, save="last").final.item()
    missing = findings(process, jnp.array([spread]))[1]
    assert 1 - factor**2 * 2.0 / spread**2 == pytest.approx(missing.evidence, rel=1e-7)


def test_the_usual_schedules_are_sound():
    for process in (sx.diffusion.VP(), sx.diffusion.VE()):
        assert all(found.holds for found in findings(process, jnp.array([1.0, -0.5])))
    assert "later horizon" in findings(sx.diffusion.Brownian(1.0), jnp.ones(2))[0].remedy
