"""Cells and the size of their recurrent weights, against other implementations and closed forms."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import separatrix as sx

KEY = jax.random.key(0)


def test_elman_is_the_equation_of_an_independent_library():
    nnx = pytest.importorskip("flax.nnx")
    ours = eqx.tree_at(lambda c: c.bias, sx.recurrent.Elman(2, 3, key=KEY), jnp.array([0.3, -0.1, 0.2]))
    theirs = nnx.SimpleCell(2, 3, rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64)
    theirs.dense_i.kernel[...] = ours.weight_ih.T
    theirs.dense_i.bias[...] = ours.bias
    theirs.dense_h.kernel[...] = ours.weight_hh.T
    inputs, start = jax.random.normal(KEY, (7, 2)), jnp.array([0.5, -0.5, 0.1])
    mine = sx.evolve(sx.from_cell(ours, inputs), start).final
    np.testing.assert_allclose(mine, sx.evolve(sx.from_cell(theirs, inputs), start).final, rtol=1e-13)


@pytest.mark.parametrize(
    ("cell", "gates"),
    [(sx.recurrent.Elman(2, 5, key=KEY), 1), (eqx.nn.GRUCell(2, 5, key=KEY), 3), (eqx.nn.LSTMCell(2, 5, key=KEY), 4)],
    ids=["Elman", "GRU", "LSTM"],
)
def test_every_singular_value_of_every_gate_is_the_gain(cell, gates):
    scaled = sx.recurrent.with_recurrent_gain(cell, 1.7, key=jax.random.key(1))
    blocks = scaled.weight_hh.reshape(gates, 5, 5)
    np.testing.assert_allclose(jnp.linalg.svd(blocks, compute_uv=False), 1.7, rtol=1e-13)
    np.testing.assert_array_equal(scaled.weight_ih, cell.weight_ih)
    # The gates are drawn apart.
    assert all(float(jnp.max(jnp.abs(a - b))) > 0.1 for a, b in itertools.pairwise(blocks))


def test_recurrent_gain_is_a_leaf():
    cell = sx.recurrent.Elman(2, 5, key=KEY)
    derivative = jax.jacfwd(lambda gain: sx.recurrent.with_recurrent_gain(cell, gain, key=KEY).weight_hh)(2.0)
    np.testing.assert_allclose(derivative, sx.recurrent.with_recurrent_gain(cell, 1.0, key=KEY).weight_hh, rtol=1e-14)


def test_spectral_radius_of_a_rotation_and_of_a_companion_matrix():
    rotation = 0.8 * jnp.array([[jnp.cos(1.0), -jnp.sin(1.0)], [jnp.sin(1.0), jnp.cos(1.0)]])
    assert float(sx.recurrent.spectral_radius(rotation)) == pytest.approx(0.8, rel=1e-14)
    # Roots of z^3 - 2 z^2 - 5 z + 6 are -2, 1, 3.
    companion = jnp.array([[2.0, 5.0, -6.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert float(sx.recurrent.spectral_radius(companion)) == pytest.approx(3.0, rel=1e-13)


def test_scaling_to_a_spectral_radius_sets_the_growth_of_powers():
    matrix = sx.recurrent.with_spectral_radius(jax.random.normal(KEY, (20, 20)), 0.9)
    # Gelfand: |A^n|^(1/n) -> radius from above; the gap is ln(condition of the eigenvectors)/n.
    vectors = np.linalg.eig(np.asarray(matrix))[1]
    n = 4096
    power = np.linalg.matrix_power(np.asarray(matrix), n)
    rate = np.log(np.linalg.norm(power, 2)) / n
    assert np.log(0.9) - 1e-12 <= rate <= np.log(0.9) + np.log(np.linalg.cond(vectors)) / n + 1e-12


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: sx.recurrent.with_recurrent_gain(eqx.nn.Linear(2, 2, key=KEY), 1.0, key=KEY), TypeError, "got Linear"),
        (lambda: sx.recurrent.spectral_radius(jnp.ones((2, 3))), ValueError, r"got shape \(2, 3\), expected \(N, N\)"),
        (lambda: sx.recurrent.random_network(0, 1.0, key=KEY), ValueError, "at least one unit"),
        (lambda: sx.recurrent.SequenceClassifier(jnp.tanh, 3, key=KEY), TypeError, "a cell that says its hidden_size"),
    ],
)
def test_what_cannot_be_done_is_said(call, kind, said):
    with pytest.raises(kind, match=said):
        call()


class TestRandomNetwork:
    def test_weights_have_variance_one_over_n(self):
        weight = sx.recurrent.random_network(400, 1.0, key=KEY).weight
        # 160,000 squares of a normal: mean 1/N, standard error sqrt(2)/(400 N).
        assert 400 * float(jnp.mean(weight**2)) == pytest.approx(1.0, abs=4 * 2**0.5 / 400)
        assert float(jnp.mean(weight)) == pytest.approx(0.0, abs=4 / 400**1.5)

    def test_variance_of_the_fields_is_that_of_mean_field_theory(self):
        # q of g = 2 from its own equation by quadrature on a grid, not by the code's Gauss-Hermite rule.
        gain, z = 2.0, np.linspace(-10, 10, 20001)
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
        q = 1.0
        for _ in range(200):
            q = gain**2 * density @ np.tanh(np.sqrt(q) * z) ** 2
        rate = 0.5 * np.log(gain**2 * density @ np.cosh(np.sqrt(q) * z) ** -4.0)
        assert sx.recurrent.mean_field_exponent(gain) == pytest.approx(rate, abs=1e-7)
        network = sx.recurrent.random_network(400, gain, key=KEY)
        path = sx.evolve(network, jax.random.normal(KEY, (400,)), steps=400, save=20)
        fields = np.var(np.arctanh(np.asarray(path.states[2:])))
        # One network in mean field: a relative error of a few / sqrt(N).
        assert fields == pytest.approx(q, rel=3 / 20)

    def test_near_the_edge_the_exponent_is_that_of_the_expansion(self):
        # q = e + O(e^2) and g^2 E sech^4 = (1 + e)^2 (1 - 2q + 17/3 * 3 q^2 ...), with e = g - 1: to first order
        # g^2 (1 - 2q) with q = e gives 1 + 0 e: lambda is of second order and positive.
        rates = [sx.recurrent.mean_field_exponent(1 + e) for e in (0.01, 0.02)]
        assert rates[0] > 0
        assert np.log2(rates[1] / rates[0]) == pytest.approx(2.0, abs=0.15)

    @pytest.mark.parametrize("gain", [1.001, 1.1, 2.0, 5.0, 50.0, 1e4])
    def test_mean_field_exponent_is_that_of_its_own_equations(self, gain):
        """Both means by adaptive quadrature in y = s z, where neither the bend nor the tail is missed."""

        def mean(function, s):
            density = lambda y: function(y) * np.exp(-((y / s) ** 2) / 2) / (s * np.sqrt(np.pi / 2))
            end = min(40.0, 12 * s)
            return scipy.integrate.quad(density, 0, end, points=[end / 50, end / 8], epsabs=0, epsrel=1e-13, limit=500)[
                0
            ]

        square = lambda y: np.cosh(y) ** -2.0
        # E tanh^2 = 1 - E sech^2; below s = 1 directly, where that would cancel.
        power = lambda s: mean(lambda y: np.tanh(y) ** 2, s) if s < 1 else 1 - mean(square, s)
        s = scipy.optimize.brentq(lambda s: gain * np.sqrt(power(s)) / s - 1, 1e-3, gain, xtol=1e-15, rtol=1e-14)
        exact = np.log(gain) + 0.5 * np.log(mean(lambda y: square(y) ** 2, s))
        assert sx.recurrent.mean_field_exponent(gain) == pytest.approx(exact, abs=1e-12)

    def test_at_the_edge_and_below_it_the_network_is_its_linear_part(self):
        assert sx.recurrent.mean_field_exponent(0.9) == pytest.approx(np.log(0.9), rel=1e-15)
        assert sx.recurrent.mean_field_exponent(1.0) == 0.0
        # lambda = (2/3) e^2 + O(e^3), from E tanh^2 = q - 2 q^2 + 17/3 q^3 and E sech^4 = 1 - 2 q + 7 q^2.
        assert sx.recurrent.mean_field_exponent(1 + 1e-5) == pytest.approx(2e-10 / 3, rel=1e-4)
        for gain in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="above 0"):
                sx.recurrent.mean_field_exponent(gain)

    @pytest.mark.parametrize("gain", [1.5, 3.0])
    def test_exponent_is_that_of_mean_field_theory(self, gain):
        def exponent(key):
            network = sx.recurrent.random_network(300, gain, key=key)
            start = jax.random.normal(key, (300,))
            return sx.lyapunov_spectrum(network, start, count=1, steps=840, transient=200).exponents[0]

        values = jax.jit(jax.vmap(exponent))(jax.random.split(jax.random.key(3), 6))
        spread = float(jnp.std(values, ddof=1)) / 6**0.5
        # Between networks, plus the correction of finite size, of order 1/N.
        assert float(jnp.mean(values)) == pytest.approx(
            sx.recurrent.mean_field_exponent(gain), abs=4 * spread + 3 / 300
        )
