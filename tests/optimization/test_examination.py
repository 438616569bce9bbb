"""The verdict on an optimiser: the ratio of a quadratic in closed form, below and past the edge."""

import jax
import jax.numpy as jnp
import optax
import pytest

import separatrix as sx
from separatrix.optimization import against_the_edge

BOWL = sx.optimization.Quadratic(jnp.array([1.0, 4.0, 9.0]))
# The method at learning rate h, and h l over its edge at l = 9.
METHODS = {
    "descent": (lambda h: sx.optimization.GradientDescent(BOWL, h), 1 / 2),
    "heavy ball": (lambda h: sx.optimization.HeavyBall(BOWL, h, 0.9), 1 / 3.8),
    "Nesterov": (lambda h: sx.optimization.Nesterov(BOWL, h, 0.9), 2.8 / 3.8),
    "Adam": (lambda h: sx.optimization.Adam(BOWL, h, eps=1.0), 0.1 / 3.8),
    "RMSprop": (lambda h: sx.optimization.RMSprop(BOWL, h, eps=1.0), 1 / 2),
    "optax, momentum": (lambda h: sx.from_optax(BOWL, optax.sgd(h, momentum=0.9)), 1 / 3.8),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("wanted", [0.75, 1.25])
def test_ratio_of_a_quadratic_is_the_closed_form(name, wanted):
    build, factor = METHODS[name]
    method = build(wanted / (9 * factor))
    (finding,) = against_the_edge(method, method.init(jnp.zeros(3)))
    assert finding.evidence == pytest.approx(wanted, rel=1e-6) and finding.holds == (wanted < 1)
    assert f"below {1 / wanted:.2g} of itself" in finding.remedy


def test_it_is_part_of_the_verdict():
    method = sx.optimization.GradientDescent(BOWL, 2.5 / 9)
    found = sx.diagnose(method, jnp.ones(3), questions=["linear_stability"])
    (finding,) = against_the_edge(method, jnp.ones(3))
    assert finding in found.broken and finding.evidence == pytest.approx(1.25, rel=1e-6)
    assert sx.diagnose(
        sx.optimization.GradientDescent(BOWL, 1.5 / 9), jnp.ones(3), questions=["linear_stability"]
    ).sound


def test_an_optimiser_without_a_scale_or_an_edge_has_none():
    adam = sx.from_optax(BOWL, optax.adam(1e-3))
    # Before the first step; and where a step along signs has no edge at all.
    assert against_the_edge(adam, adam.init(jnp.ones(3))) == []
    lion = sx.from_optax(BOWL, optax.lion(1e-3))
    assert against_the_edge(lion, lion.init(jnp.ones(3))) == []
    state = sx.evolve(adam, adam.init(jnp.ones(3)), steps=3, save="last").final
    (finding,) = against_the_edge(adam, state)
    # v_hat = g^2 of a gradient that hardly changes: R = eta (1 - b1)/(1 - b1^4) sqrt((1 - b2^4)/(b2 (1 - b2^3)))/g.
    g = jax.grad(BOWL)(jnp.ones(3))
    response = 1e-3 * 0.1 / (1 - 0.9**4) * ((1 - 0.999**4) / (0.999 * (1 - 0.999**3))) ** 0.5 / g
    assert finding.evidence == pytest.approx(float(jnp.max(response * BOWL.curvature)) / 3.8, rel=5e-3)


def test_curvature_that_is_not_finite_is_not_known():
    cusp = sx.optimization.GradientDescent(sx.as_objective(lambda x: jnp.sum(jnp.sqrt(jnp.abs(x)))), 0.1)
    (finding,) = against_the_edge(cusp, jnp.zeros(2))
    assert finding.status == "not known" and "not finite" in finding.cause
