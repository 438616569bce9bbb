"""Losses of denoising, flow matching and MeanFlow against their least values, in closed form and by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import separatrix as sx

D = sx.diffusion
KEY = jax.random.key(2)


def normal(spread):
    return D.GaussianMixture([1.0], [[0.0]], [spread])


@pytest.mark.parametrize(("spread", "floor"), [(1.0, 0.2752707), (0.5, 0.1724883)])
def test_floor_of_noise_prediction(spread, floor):
    assert D.loss_floor(D.DenoisingScoreMatching(D.VP()), normal(spread)) == pytest.approx(floor, abs=6e-8)


def test_floors_of_edm():
    for center, spread in ((-1.2, 1.2), (0.7, 0.4)):
        loss = D.EDMMatching(D.EDM(), 0.5, center, spread)
        assert D.loss_floor(loss, normal(0.5)) == pytest.approx(1.0, abs=1e-9)
    assert D.loss_floor(D.EDMMatching(D.EDM()), normal(1.0)) == pytest.approx(1.6283226, abs=6e-8)
    # In sigma/alpha the loss is the same for every process.
    assert D.loss_floor(D.EDMMatching(D.VP()), normal(1.0)) == pytest.approx(1.6283226, abs=1e-6)


def test_floor_of_flow_matching_by_hand():
    """Var(eps - x0 | x_t) = s^2/((1 - t)^2 s^2 + t^2), whose integral is s pi/2."""
    assert D.loss_floor(D.FlowMatching(), normal(0.7)) == pytest.approx(0.7 * np.pi / 2, rel=1e-7)


def test_floor_of_a_mixture_by_another_quadrature():
    law, loss = D.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0]), D.DenoisingScoreMatching(D.VP())

    def unexplained(t):
        noised = law.noised(D.VP(), t)
        x = jnp.linspace(-14.0, 14.0, 8001)[:, None]
        score = noised.score(x)[:, 0]
        return 1 - D.VP().marginal(t)[1] ** 2 * jnp.sum(jnp.exp(noised.log_density(x)) * score**2) * (x[1, 0] - x[0, 0])

    t, weight = np.polynomial.legendre.leggauss(60)
    values = jax.jit(jax.vmap(unexplained))(jnp.asarray(1e-3 + 0.999 * (t + 1) / 2))
    assert D.loss_floor(loss, law) == pytest.approx(float(weight @ np.asarray(values)) / 2, rel=2e-5)


def losses_of(loss, guess, spread):
    def once(key):
        data, noise = jax.random.split(key)
        return loss(guess, spread * jax.random.normal(data, (400, 1)), key=noise)

    return np.asarray(jax.jit(jax.vmap(once))(jax.random.split(KEY, 100)))


def test_what_is_drawn_has_these_floors():
    """The exact model, within four standard errors; and what lies above it by a wrong sign."""
    for loss, spread in ((D.EDMMatching(D.EDM()), 1.0), (D.FlowMatching(), 0.7)):
        exact = D.ExactModel(normal(spread), loss.process, loss.guess)
        values = losses_of(loss, exact, spread)
        assert abs(values.mean() - D.loss_floor(loss, normal(spread))) < 4 * values.std() / 10


def test_the_gap_of_a_model_is_its_squared_error():
    """A guess c D in place of D on N(0, 1) under EDM: E w (1 - c)^2 E D^2, E D^2 = 1/(1 + s^2)."""
    loss, law = D.EDMMatching(D.EDM(), 0.5, 0.0, 0.5), normal(1.0)
    data = law.sample(jax.random.key(0), 2000)
    found = D.loss_gap(loss, lambda t, x: 0.7 * x / (1 + t**2), data, law=law, key=KEY, draws=4)
    z = np.linspace(-8, 8, 4001)
    s = np.exp(0.5 * z)
    mass = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    truth = np.sum(mass * (s**2 + 0.25) / (0.5 * s) ** 2 * 0.09 / (1 + s**2))
    assert abs(found.gap - truth) < 4 * found.standard_error and found.standard_error < 0.15 * truth
    assert found.loss - found.floor == pytest.approx(found.gap, rel=1e-9)


def test_the_empirical_law_by_its_definition():
    examples = jnp.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]])
    law, x, process = D.EmpiricalLaw(examples), jnp.array([0.7, 0.1]), D.VP()
    alpha, sigma = process.marginal(0.4)
    weights = np.exp(-np.sum((np.asarray(x) - float(alpha) * np.asarray(examples)) ** 2, 1) / (2 * float(sigma) ** 2))
    np.testing.assert_allclose(
        law.posterior_mean(process, 0.4, x), weights @ np.asarray(examples) / weights.sum(), rtol=1e-12
    )
    np.testing.assert_allclose(law.posterior_mean(process, 0.0, x), [0.5, 0.5], rtol=1e-12)


def test_optimal_coupling_on_the_line_is_monotone():
    """Both sorted; its mean squared distance is that of the quantiles. Independent noise stays as it is."""
    from separatrix.diffusion.flow_matching import coupled

    x, noise = jax.random.normal(KEY, (32, 1)) + 3.0, jax.random.normal(jax.random.key(9), (32, 1))
    paired = coupled(x, noise, "optimal")
    order = jnp.argsort(x[:, 0])
    np.testing.assert_array_equal(paired[order, 0], jnp.sort(noise[:, 0]))
    assert coupled(x, noise, "independent") is noise


def test_transport_costs():
    """From N(0, 1) to N(3, 1): 9 along straight paths that do not cross, 9 + 2 - pi/2 of independent pairs."""
    data = D.GaussianMixture([1.0], [[3.0]], [1.0])
    path = D.StraightPath()
    flow = D.Prediction(path, data.score_under(path).clean, "clean")
    optimal = D.Prediction(path, lambda t, x: jnp.full_like(x, -3.0), "velocity")
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)  # the energy is a quadratic in the start: exact
    cost = jax.jit(lambda p: D.transport_cost(p, jnp.asarray(nodes)[:, None], steps=400))
    independent, straight = (weights @ np.asarray(cost(p)) / weights.sum() for p in (flow, optimal))
    assert straight == pytest.approx(9.0, rel=1e-12)
    assert independent == pytest.approx(9 + 2 - np.pi / 2, abs=2e-4)


SPREAD = 0.6


def width(t):
    return jnp.sqrt((1 - t) ** 2 * SPREAD**2 + t**2)


def mean_velocity(times, x):
    """(x(t) - x(r))/(t - r) of N(0, s^2), whose flow scales by the width; at r = t the velocity."""
    r, t = times
    apart = t - r > 1e-6
    size = jnp.where(apart, t - r, 1.0)
    slope = (t - (1 - t) * SPREAD**2) / width(t) ** 2
    return x * jnp.where(apart, (1 - width(r) / width(t)) / size, slope)


def test_mean_flow_at_the_exact_map():
    """u - target = -(1 - (t - r) du/dx) (v - E v): its square is (width(r)/width(t))^2 s^2/width(t)^2."""
    loss = D.MeanFlow(apart=1.0, power=0.0)
    values = losses_of(loss, mean_velocity, SPREAD)
    truth = integrate.dblquad(
        lambda r, t: 2 * float((width(r) / width(t)) ** 2 * SPREAD**2 / width(t) ** 2),
        0,
        1,
        0,
        lambda t: t,
        epsabs=1e-6,
    )[0]
    assert abs(values.mean() - truth) < 4 * values.std() / 10
    with_sign = losses_of(loss, lambda times, x: mean_velocity(times[::-1], x), SPREAD)
    assert abs(with_sign.mean() - truth) > 20 * values.std() / 10


def test_mean_flow_map_is_the_flow_in_any_number_of_steps():
    x = jnp.array([[1.0], [-2.0]])
    for times in ([1.0, 0.0], [1.0, 0.3, 0.0]):
        end = sx.evolve(D.MeanFlowMap(mean_velocity, times), x, save="last").final
        np.testing.assert_allclose(end, SPREAD * x, rtol=1e-12)


def test_preconditioning_keeps_what_is_asked_of_unit_size():
    """Of data N(0, d^2) with F = 0 the guess is the exact mean, for processes with alpha or sigma 0 too."""
    for process in (D.EDM(), D.VP(), D.StraightPath()):
        model = D.Preconditioned(lambda level, x: 0 * x, process, 0.5)
        for t in (0.0, 0.37, 1.0):
            exact = normal(0.5).posterior_mean(process, t, jnp.array([1.3]))
            np.testing.assert_allclose(model(t, jnp.array([1.3])), exact, atol=1e-12)


def test_losses_out_of_range_are_refused_in_words():
    with pytest.raises(ValueError, match="data_scale\n  got 0.0"):
        D.EDMMatching(D.EDM(), 0.0)
    with pytest.raises(ValueError, match="Did you mean 'optimal'"):
        D.FlowMatching(coupling="optimum")
    with pytest.raises(ValueError, match="coupling"):
        D.loss_floor(D.FlowMatching(coupling="optimal"), normal(1.0))
    with pytest.raises(ValueError, match="2 components in 2 dimensions"):
        D.loss_floor(D.FlowMatching(), D.GaussianMixture([0.5, 0.5], jnp.zeros((2, 2)), [1.0, 1.0]))
