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
    divergence, missing = findings(sx.Brownian(horizon), jnp.array([1.0, -1.0]))
    # x(T) ~ N(1, T) against N(0, T): 1/(2T) nats. The reversal ends at T/(1 + T).
    assert divergence.evidence == pytest.approx(1 / (2 * horizon), rel=1e-12)
    assert missing.evidence == pytest.approx(1 / (1 + horizon), rel=1e-12)
    assert divergence.holds is (horizon == 81.0) and missing.holds is (horizon == 81.0)


@pytest.mark.parametrize("process", [sx.VP(0.1, 2.0), sx.VE(0.1, 3.0), sx.Brownian(4.0)], ids=["VP", "VE", "Brownian"])
def test_divergence_by_quadrature(process):
    data = np.array([1.5, -0.4])
    alpha, sigma = (float(v) for v in process.marginal(process.horizon))

    def integrand(x, centre):
        law = stats.norm(alpha * centre, sigma)
        return law.pdf(x) * (law.logpdf(x) - stats.norm(0, float(process.prior_scale)).logpdf(x))

    parts = [integrate.quad(integrand, *(alpha * c + 12 * sigma * np.array([-1, 1])), args=(c,))[0] for c in data]
    assert findings(process, jnp.asarray(data))[0].evidence == pytest.approx(np.mean(parts), rel=1e-7)


def test_missing_variance_is_what_the_flow_loses():
    process, spread = sx.Brownian(2.0), 0.8
    normal = sx.GaussianMixture([1.0], [[0.0]], [spread])
    flow = sx.reverse(sx.probability_flow(process, normal.score_under(process)), horizon=2.0)
    factor = sx.evolve(flow, jnp.ones(1), times=(0.0, 2.0), rtol=1e-10, atol=1e-12, save="last").final.item()
    missing = findings(process, jnp.array([spread]))[1]
    assert 1 - factor**2 * 2.0 / spread**2 == pytest.approx(missing.evidence, rel=1e-7)


def test_the_usual_schedules_are_sound():
    for process in (sx.VP(), sx.VE()):
        assert all(found.holds for found in findings(process, jnp.array([1.0, -0.5])))
    assert "later horizon" in findings(sx.Brownian(1.0), jnp.ones(2))[0].remedy
