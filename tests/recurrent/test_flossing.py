"""The penalty on exponents: closed forms of linear nets, the library's own exponents, finite differences, training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

INPUTS = 0.5 * jax.random.normal(jax.random.key(3), (400, 2))


def with_weights(weights, activation="tanh"):
    cell = sx.recurrent.Elman(2, len(weights), key=jax.random.key(0), activation=activation)
    return eqx.tree_at(lambda c: c.weight_hh, cell, jnp.asarray(weights, float))


def test_of_a_linear_net_they_are_logarithms_of_moduli_and_chosen_ones_are_chosen():
    cell = with_weights(np.array([[1.5, 4.0, 0.0], [0.0, 0.8, 1.0], [0.0, 0.0, 0.3]]), "identity")
    # Not normal: frames turn into place as (0.8/1.5)^n and (0.3/0.8)^n, below 1e-12 after the 100 steps left out.
    truth = np.log([1.5, 0.8, 0.3])
    found = sx.recurrent.conditional_exponents(cell, INPUTS[:160], count=3, transient=100)
    np.testing.assert_allclose(found, truth, atol=1e-10)
    penalty = sx.recurrent.flossing_penalty(cell, INPUTS[:160], exponents=[0, 2], transient=100)
    assert float(penalty) == pytest.approx((truth[0] ** 2 + truth[2] ** 2) / 2, abs=1e-10)


def test_they_are_those_of_the_diagnostic_and_the_gradient_is_that_of_finite_differences():
    weights = 1.3 * np.random.default_rng(0).standard_normal((6, 6)) / 6**0.5
    cell = with_weights(weights)
    plain = sx.lyapunov_spectrum(sx.from_cell(cell, INPUTS), jnp.zeros(6), count=2, transient=100)
    mine = sx.recurrent.conditional_exponents(cell, INPUTS, count=2, transient=100)
    # Both start their frames elsewhere and count the same steps; 300 of them leave some parts in a thousand.
    np.testing.assert_allclose(mine, plain.exponents, atol=0.02)

    @jax.jit
    def penalty(w):
        changed = eqx.tree_at(lambda c: c.weight_hh, cell, w)
        return sx.recurrent.flossing_penalty(changed, INPUTS[:40], exponents=2)

    direction = np.random.default_rng(1).standard_normal((6, 6))
    slope = float(jnp.sum(jax.jit(jax.grad(penalty))(jnp.asarray(weights)) * direction))
    step = 1e-5
    finite = (penalty(weights + step * direction) - penalty(weights - step * direction)) / (2 * step)
    assert slope == pytest.approx(float(finite), rel=1e-6)


def test_training_brings_the_two_leading_exponents_to_zero():
    cell = with_weights(0.5 * np.random.default_rng(2).standard_normal((6, 6)) / 6**0.5)
    loss = lambda cell, batch: sx.recurrent.flossing_penalty(cell, batch[0], exponents=2)
    pieces = 0.2 * INPUTS.reshape(8, 50, 2)
    found = sx.fit(loss, optax.adam(0.02), pieces, initial=cell, steps=250, batch_size=1, key=jax.random.key(0))
    before, after = (
        np.asarray(sx.lyapunov_spectrum(sx.from_cell(net, 0.2 * INPUTS), jnp.zeros(6), count=2).exponents)
        for net in (cell, found.model)
    )
    assert np.all(before < -0.4)
    assert np.all(np.abs(after) < 0.1)


@pytest.mark.parametrize("wrong", [0, -1, [], [0, -2], 1.5, True])
def test_what_is_no_choice_of_exponents_is_refused(wrong):
    with pytest.raises(ValueError, match="flossing_penalty: exponents"):
        sx.recurrent.flossing_penalty(with_weights(np.eye(2)), INPUTS, exponents=wrong)


def test_more_exponents_than_coordinates_are_refused():
    with pytest.raises(ValueError, match="count"):
        sx.recurrent.flossing_penalty(with_weights(np.eye(2)), INPUTS, exponents=3)
