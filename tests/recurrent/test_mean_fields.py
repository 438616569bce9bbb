"""Mean field against closed forms, independent quadrature, and networks of finite size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import separatrix as sx
from separatrix import recurrent


@pytest.mark.parametrize("q", [0.3, 1.5, 4.0])
def test_the_critical_line_of_sine_is_its_closed_form(q):
    """E sin^2 = (1 - e^-2q)/2, E cos^2 = (1 + e^-2q)/2."""
    weight, bias = 1 + np.tanh(q), q - np.tanh(q)
    assert recurrent.critical_weight_variance("sine", bias) == pytest.approx(weight, rel=1e-12)
    assert recurrent.critical_bias_variance("sine", weight) == pytest.approx(bias, rel=1e-9)
    found = recurrent.mean_field("sine", weight, bias)
    assert float(found.size) == pytest.approx(q, rel=1e-9)
    # Slope of the size: s_w d/dq (1 - e^-2q)/2 = s_w e^-2q.
    assert float(found.depth_of_size) == pytest.approx(-1 / np.log(weight * np.exp(-2 * q)), rel=1e-9)


@pytest.mark.parametrize("q", [0.2, 2.0])
def test_the_critical_line_of_erf_is_its_closed_form(q):
    """E erf^2 = (2/pi) asin(2q/(1 + 2q)), E erf'^2 = (4/pi)/sqrt(1 + 4q) (Williams 1997)."""
    weight = np.pi / 4 * np.sqrt(1 + 4 * q)
    bias = q - weight * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))
    assert recurrent.critical_weight_variance("erf", bias) == pytest.approx(weight, rel=1e-11)
    assert recurrent.critical_bias_variance("erf", weight) == pytest.approx(bias, rel=1e-7)


@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
def test_rectifiers_are_critical_at_one_point(slope):
    name = "leaky_relu" if slope else "relu"
    assert recurrent.critical_weight_variance(name, slope=slope) == pytest.approx(2 / (1 + slope**2), rel=1e-13)
    with pytest.raises(ValueError, match=r"variance 0\.1, expected parameters with a point where chi = 1"):
        recurrent.critical_weight_variance(name, 0.1, slope=slope)
    # Below it q* = s_b/(1 - s_w (1 + a^2)/2), and past it fields grow without end.
    found = recurrent.mean_field(name, 1.0, 0.3, slope=slope)
    assert float(found.size) == pytest.approx(0.3 / (1 - (1 + slope**2) / 2), rel=1e-12)
    assert recurrent.mean_field(name, 2.1, 0.3, slope=slope).cautions


@pytest.mark.parametrize(("bias", "weight", "size"), [(0.01, 1.42420529, 0.27330091), (0.05, 1.76095464, 0.57004788)])
def test_the_critical_line_of_tanh(bias, weight, size):
    assert recurrent.critical_weight_variance("tanh", bias) == pytest.approx(weight, abs=5e-9)
    assert float(recurrent.mean_field("tanh", weight, bias).size) == pytest.approx(size, abs=1e-7)
    assert recurrent.critical_bias_variance("tanh", weight) == pytest.approx(bias, abs=1e-8)


@pytest.mark.parametrize(("weight", "chi", "depth"), [(1.0, 0.75903165, 3.627), (4.0, 1.34240242, 6.980)])
def test_depth_scales_on_both_sides_of_the_line_of_tanh(weight, chi, depth):
    found = recurrent.mean_field("tanh", weight, 0.05)
    assert float(found.chi) == pytest.approx(chi, abs=1e-8)
    assert float(found.depth_of_likeness) == pytest.approx(depth, abs=5e-4)


def test_selu_keeps_a_unit_variance_and_its_gradients_grow():
    found = recurrent.mean_field("selu", 1.0)
    assert float(found.size) == pytest.approx(1.0, abs=1e-9)
    assert float(found.chi) == pytest.approx(1.0715749925, abs=1e-9)
    # E selu(z) = 0: with weights of variance 1 two inputs that have nothing in common stay so.
    assert float(found.likeness) == pytest.approx(0.0, abs=1e-9)


def test_likeness_in_chaos_is_the_fixed_point_of_its_map_by_other_quadrature():
    found = recurrent.mean_field("tanh", 4.0, 0.05)
    q, c = float(found.size), float(found.likeness)

    def density(x, y):
        return np.exp(-(x**2 - 2 * c * x * y + y**2) / (2 * (1 - c**2))) / (2 * np.pi * np.sqrt(1 - c**2))

    grid = np.linspace(-8, 8, 801)
    x, y = np.meshgrid(grid, grid)
    area = (grid[1] - grid[0]) ** 2
    mean = np.sum(density(x, y) * np.tanh(np.sqrt(q) * x) * np.tanh(np.sqrt(q) * y)) * area
    assert (4.0 * mean + 0.05) / q == pytest.approx(c, abs=1e-9)


def test_noise_that_ends_chaos_and_the_exponent_with_noise():
    assert recurrent.critical_bias_variance("tanh", 1.5**2) == pytest.approx(0.18614375, abs=1e-8)
    assert recurrent.mean_field_exponent(1.5, noise=0.18614374623) == pytest.approx(0.0, abs=1e-9)
    assert recurrent.mean_field_exponent(2.0, noise=0.5) == pytest.approx(0.0919846, abs=1e-7)

    # The same by quad: q = 4 E tanh^2 + 0.5.
    def mean(function, q):
        weigh = lambda z: function(np.sqrt(q) * z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        return scipy.integrate.quad(weigh, -12, 12, epsabs=1e-13)[0]

    q = 1.0
    for _ in range(100):
        q = 4 * mean(lambda x: np.tanh(x) ** 2, q) + 0.5
    rate = 0.5 * np.log(4 * mean(lambda x: np.cosh(x) ** -4.0, q))
    assert recurrent.mean_field_exponent(2.0, noise=0.5) == pytest.approx(rate, abs=1e-11)


def test_a_wide_network_with_noise_has_that_exponent():
    def exponent(key):
        network = recurrent.random_network(200, 2.0, key=key, noise=0.5**0.5)
        found = sx.lyapunov_spectrum(network, jnp.ones(200), count=1, steps=800, transient=100, key=key)
        return found.exponents[0]

    values = jax.jit(jax.vmap(exponent))(jax.random.split(jax.random.key(5), 6))
    spread = float(jnp.std(values, ddof=1)) / 6**0.5
    # Between networks, and the correction of finite size, of order 1/N.
    assert float(jnp.mean(values)) == pytest.approx(0.0919846, abs=4 * spread + 2 / 200)


class TestExponentsAtRest:
    def test_known_value_of_the_flow(self):
        found = recurrent.exponents_at_rest(-1.4, 0.8, continuous=True)
        assert float(found) == pytest.approx(0.1955011, abs=1e-7)

    def test_the_share_is_that_of_the_eigenvalues_of_wide_networks(self):
        size = 400
        weight = np.asarray(recurrent.random_network(size, 1.0, key=jax.random.key(1)).weight)
        values = 0.8 * np.linalg.eigvals(weight)
        # Eigenvalues repel one another: their count in a smooth region fluctuates far less than sqrt(N).
        slack = 3 / size**0.5 / 5
        for rate in (-1.6, -1.2, -0.7):
            share = np.mean(values.real - 1 < rate)
            assert share == pytest.approx(float(recurrent.exponents_at_rest(rate, 0.8, continuous=True)), abs=slack)
        for rate in (-1.5, -0.5):
            share = np.mean(np.log(np.abs(values)) < rate)
            assert share == pytest.approx(float(recurrent.exponents_at_rest(rate, 0.8)), abs=slack)
            share = np.mean(np.log(np.abs(0.7 + 0.3 * values)) < rate / 3)
            assert share == pytest.approx(float(recurrent.exponents_at_rest(rate / 3, 0.8, leak=0.3)), abs=slack)

    def test_the_largest_of_the_leaky_map_is_at_the_edge_of_its_disc(self):
        gain, leak = 0.8, 0.3
        top = np.log(1 - leak * (1 - gain))
        share = recurrent.exponents_at_rest(np.array([top - 1e-3, top]), gain, leak=leak)
        assert share[0] < 1 and share[1] == pytest.approx(1.0, abs=1e-12)

    def test_exponents_of_a_leaky_network_are_those_of_its_linear_part(self):
        network = recurrent.random_network(20, 0.7, key=jax.random.key(3), leak=0.4)
        matrix = 0.6 * np.eye(20) + 0.4 * 0.7 * np.asarray(network.weight)
        truth = np.sort(np.log(np.abs(np.linalg.eigvals(matrix))))[::-1]
        found = sx.lyapunov_spectrum(network, 1e-6 * jnp.ones(20), count=3, steps=4000, transient=400)
        # ln of the condition of the eigenvectors over the steps.
        slack = np.log(np.linalg.cond(np.linalg.eig(matrix)[1])) / 3600
        np.testing.assert_allclose(found.exponents, truth[:3], atol=3 * slack)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recurrent.mean_field("tan", 1.0), "Did you mean 'tanh'"),
        (lambda: recurrent.mean_field("tanh", 0.0), "weight_variance\n  got 0.0"),
        (lambda: recurrent.mean_field("tanh", 1.0, -1.0), "bias_variance\n  got -1.0"),
        (lambda: recurrent.mean_field("tanh", float("nan")), "got nan"),
        (lambda: recurrent.critical_bias_variance("relu", 2.5), "one of tanh, erf, sine"),
        (lambda: recurrent.critical_bias_variance("tanh", 1.0), "chaotic without biases"),
        (lambda: recurrent.critical_bias_variance("sine", 2.5), "below 2"),
        (lambda: recurrent.exponents_at_rest(0.0, 1.0, leak=0.5, continuous=True), "none of a flow"),
        (lambda: recurrent.random_network(3, 1.0, key=jax.random.key(0), leak=1.5), "leak\n  got 1.5"),
    ],
)
def test_numbers_without_a_meaning_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
