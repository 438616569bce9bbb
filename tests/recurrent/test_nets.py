"""Cells and nets against closed forms, the definition written out, and one another."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import recurrent

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 6)


@pytest.mark.parametrize(("name", "phi"), [("relu", lambda x: np.maximum(x, 0)), ("identity", lambda x: x)])
def test_elman_with_another_activation_is_the_equation(name, phi):
    cell = recurrent.Elman(2, 8, key=KEY, activation=name)
    u, x = np.array([0.4, -1.0]), np.linspace(-2, 1, 8)
    fields = np.asarray(cell.weight_hh) @ x + np.asarray(cell.weight_ih) @ u
    assert (fields < 0).any() and (fields > 0).any()
    np.testing.assert_allclose(cell(u, x), phi(fields), rtol=1e-13)


def test_orthogonal_cells_keep_lengths_and_stay_so_when_their_generator_moves():
    cell = recurrent.Orthogonal(2, 5, key=KEY, gain=1.3, activation="identity")
    moved = eqx.tree_at(lambda c: c.generator, cell, cell.generator + 0.7 * jnp.arange(25.0).reshape(5, 5))
    for one in (cell, moved):
        np.testing.assert_allclose(jnp.linalg.svd(one.matrix, compute_uv=False), 1.3, rtol=1e-12)
        assert float(jnp.linalg.det(one.matrix)) == pytest.approx(1.3**5, rel=1e-11)
    frozen, x, u = cell.frozen(), jnp.arange(5.0), jnp.array([1.0, -2.0])
    np.testing.assert_allclose(frozen(u, x), cell(u, x), rtol=1e-12)
    found = sx.lyapunov_spectrum(sx.from_cell(frozen, jnp.zeros((300, 2))), jnp.ones(5))
    np.testing.assert_allclose(found.exponents, np.log(1.3), atol=1e-12)


class TestAntisymmetric:
    cell = recurrent.Antisymmetric(2, 4, step_size=0.1, friction=0.3, key=KEYS[1])

    def test_the_cell_is_eulers_step_of_its_flow(self):
        inputs, x = jnp.array([0.3, -0.7]), jnp.array([0.5, -1.0, 2.0, 0.1])
        flow = sx.drive(self.cell.flow(), lambda t: inputs)
        step = sx.discretize(flow, sx.Euler(), 0.1)
        np.testing.assert_allclose(self.cell(inputs, x), step.step(0, x), rtol=1e-13)

    def test_the_edge_of_stability_is_that_of_the_spectrum_of_its_step(self):
        edge = self.cell.longest_step
        for factor, stable in ((0.99, True), (1.01, False)):
            multipliers = np.linalg.eigvals(np.eye(4) + factor * edge * np.asarray(self.cell.matrix))
            assert bool(np.max(np.abs(multipliers)) < 1) is stable
        assert recurrent.longest_step(0.3, 2.0) == pytest.approx(0.6 / 4.09, rel=1e-14)
        assert recurrent.longest_step(0.0, 2.0) == 0.0

    def test_without_friction_the_linear_flow_keeps_lengths(self):
        cell = eqx.tree_at(lambda c: c.friction, self.cell, jnp.asarray(0.0))
        np.testing.assert_allclose(np.linalg.eigvals(np.asarray(cell.matrix)).real, 0.0, atol=1e-13)


class TestDiagonalRecurrence:
    cell = recurrent.DiagonalRecurrence(3, 4, key=KEYS[2])
    inputs = jax.random.normal(KEYS[3], (40, 3))
    start = jnp.arange(8.0) / 8

    def test_the_scan_over_time_is_the_recursion(self):
        path = sx.evolve(sx.from_cell(self.cell, self.inputs), self.start)
        np.testing.assert_allclose(self.cell.sequence(self.inputs, self.start), path.states[1:], rtol=1e-11, atol=1e-12)

    def test_the_recursion_is_its_sum(self):
        a, start = np.asarray(self.cell.multipliers), np.asarray(self.start)
        gamma = np.sqrt(1 - np.abs(a) ** 2)
        b = np.asarray(self.cell.weight_ih[0]) + 1j * np.asarray(self.cell.weight_ih[1])
        z0 = start[:4] + 1j * start[4:]
        sums = a**40 * z0 + sum(a ** (39 - n) * gamma * (b @ np.asarray(self.inputs[n])) for n in range(40))
        found = self.cell.sequence(self.inputs, self.start)[-1]
        np.testing.assert_allclose(found, np.concatenate([sums.real, sums.imag]), rtol=1e-11, atol=1e-12)

    def test_exponents_are_the_logarithms_of_its_multipliers(self):
        found = sx.lyapunov_spectrum(sx.from_cell(self.cell, jnp.tile(self.inputs, (10, 1))), self.start)
        np.testing.assert_allclose(found.exponents, self.cell.exponents, atol=0.02)
        assert np.sum(self.cell.exponents) == pytest.approx(
            2 * np.sum(np.log(np.abs(self.cell.multipliers))), rel=1e-12
        )

    def test_white_inputs_keep_their_variance(self):
        """E |z|^2 = gamma^2 |b|^2/(1 - |a|^2) = |b|^2."""
        inputs = jax.random.normal(KEYS[4], (20_000, 3))
        z = self.cell.sequence(inputs, jnp.zeros(8))[500:]
        power = jnp.mean(z[:, :4] ** 2 + z[:, 4:] ** 2, axis=0)
        truth = jnp.sum(self.cell.weight_ih**2, axis=(0, 2))
        # |a| < 0.99: 100 steps of memory leave 200 independent samples, relative error 1/sqrt(200).
        np.testing.assert_allclose(power, truth, rtol=4 / 200**0.5)


GRU = eqx.nn.GRUCell(2, 4, key=KEYS[0], dtype=jnp.float64)
LSTM = eqx.nn.LSTMCell(4, 3, key=KEYS[1], dtype=jnp.float64)
NET = recurrent.Stacked([GRU, LSTM])
INPUTS = jax.random.normal(KEYS[2], (9, 2))


def test_stacked_cells_are_one_after_the_other():
    path = sx.evolve(sx.from_cell(NET, INPUTS), recurrent.rest(NET))
    below = sx.evolve(sx.from_cell(GRU, INPUTS), jnp.zeros(4)).states[1:]
    above = sx.evolve(sx.from_cell(LSTM, below), (jnp.zeros(3), jnp.zeros(3)))
    np.testing.assert_allclose(recurrent.exposed(path.final), above.final[0], rtol=1e-12)
    np.testing.assert_allclose(path.final[0], below[-1], rtol=1e-12)
    model = recurrent.SequenceClassifier(NET, 5, key=KEY)
    np.testing.assert_allclose(model(INPUTS), model.readout(above.final[0]), rtol=1e-12)


def test_padding_changes_nothing_and_no_gradient_comes_from_it():
    model = recurrent.SequenceClassifier(NET, 5, key=KEY)
    mask = recurrent.mask_of(jnp.array(6), 9)
    padded = INPUTS.at[6:].set(jnp.nan)
    np.testing.assert_allclose(model(padded, mask), model(INPUTS[:6]), rtol=1e-13)
    slope = jax.grad(lambda rows: jnp.sum(model(rows, mask)))(INPUTS)
    assert np.all(slope[6:] == 0) and np.all(np.any(slope[:6] != 0, axis=1))


def test_a_bidirectional_net_reads_a_padded_sequence_from_its_own_end():
    both = recurrent.Bidirectional(recurrent.Elman(2, 3, key=KEYS[3]), recurrent.Elman(2, 4, key=KEYS[4]))
    whole, padded = both(INPUTS[:6]), both(INPUTS, recurrent.mask_of(jnp.array(6), 9))
    np.testing.assert_allclose(padded[:6], whole, rtol=1e-13)
    forth = sx.evolve(sx.from_cell(both.forth, INPUTS[:6]), jnp.zeros(3)).states[1:]
    back = sx.evolve(sx.from_cell(both.back, INPUTS[:6][::-1]), jnp.zeros(4)).states[1:][::-1]
    np.testing.assert_allclose(whole, np.concatenate([forth, back], axis=1), rtol=1e-13)
    labels = recurrent.SequenceLabeler(both, 2, key=KEY)(INPUTS[:6])
    assert labels.shape == (6, 2)
    # The label of the first row depends on the last row, by the way back alone.
    reach = jax.jacobian(lambda rows: both(rows)[0])(INPUTS[:6])
    assert np.all(np.asarray(reach[:3, 1:]) == 0) and np.any(np.asarray(reach[3:, 5]) != 0)


@pytest.mark.parametrize("every", [1, 3, 4, 20])
def test_truncated_gradients_are_those_of_the_last_factors(every):
    """x[n+1] = a x[n] + a: of the sum over a, terms whose way back is not cut."""
    steps, start, a = 10, 2.0, 0.9

    def final(a):
        inner = sx.as_map(lambda x: a * x + a)
        return sx.evolve(recurrent.truncated(inner, every), start, steps=steps).final

    path = [start]
    for _ in range(steps):
        path.append(a * path[-1] + a)
    # x[N] by a, through the steps after the last that `every` divides.
    cut = ((steps - 1) // every) * every
    truth = sum(a ** (steps - 1 - n) * (path[n] + 1) for n in range(cut, steps))
    value, slope = jax.value_and_grad(final)(a)
    assert float(value) == pytest.approx(path[-1], rel=1e-13)
    assert float(slope) == pytest.approx(truth, rel=1e-12)


class TestBeam:
    law = np.log(np.random.default_rng(3).dirichlet(np.ones(4), size=(4,)))

    def step(self, state, symbol):
        """A law that changes with the step number, which the state counts."""
        return state + 1, jax.nn.log_softmax(jnp.asarray(self.law)[symbol] * (1 + 0.3 * state))

    def best(self, alpha, steps=4, stop=0):
        """All outputs, by their definition."""
        found = []
        for length in range(1, steps + 1):
            for body in itertools.product(range(4), repeat=length):
                ends = stop not in body[:-1] and (body[-1] == stop or length == steps)
                if ends:
                    last, total = 2, 0.0
                    for n, symbol in enumerate(body):
                        row = self.law[last] * (1 + 0.3 * n)
                        total += row[symbol] - np.log(np.sum(np.exp(row)))
                        last = symbol
                    found.append((total / length**alpha, body, total))
        return sorted(found, reverse=True)

    @pytest.mark.parametrize("alpha", [0.0, 0.7])
    def test_wide_enough_it_finds_the_best_outputs_in_order(self, alpha):
        found = recurrent.beam_search(self.step, jnp.asarray(0.0), 2, 0, steps=4, width=64, alpha=alpha)
        for rank, (score, body, total) in enumerate(self.best(alpha)[:5]):
            assert found.symbols[rank, : len(body)].tolist() == list(body)
            assert int(found.lengths[rank]) == len(body)
            assert float(found.scores[rank]) == pytest.approx(score, rel=1e-12)
            assert float(found.log_p[rank]) == pytest.approx(total, rel=1e-12)

    def test_a_decoder_says_what_beam_search_asks(self):
        model = recurrent.EncoderDecoder(GRU, eqx.nn.GRUCell(4, 5, key=KEYS[5], dtype=jnp.float64), key=KEY)
        found = model.decode(INPUTS, 2, 0, 3, width=16)
        symbols = found.symbols[0, : int(found.lengths[0])]
        taught = jnp.concatenate([jnp.array([2]), symbols[:-1].astype(int)])
        log_p = jax.nn.log_softmax(model(INPUTS, taught))
        total = jnp.sum(jnp.take_along_axis(log_p, symbols[:, None].astype(int), axis=1))
        assert float(found.log_p[0]) == pytest.approx(float(total), rel=1e-12)
        # Padding of the input changes nothing.
        padded = jnp.concatenate([INPUTS, jnp.full((2, 2), jnp.nan)])
        again = model(padded, taught, recurrent.mask_of(jnp.array(9), 11))
        np.testing.assert_allclose(jax.nn.log_softmax(again), log_p, rtol=1e-12, atol=1e-12)


REFUSED = {
    "no cells": (lambda: recurrent.Stacked([]), "cells\n  got none"),
    "sizes": (lambda: recurrent.Stacked([LSTM, GRU]), "input_size of cell 1\n  got 2, expected 3"),
    "all hidden": (lambda: recurrent.SequenceClassifier(GRU, 2, key=KEY)(INPUTS, jnp.zeros(9, bool)), "hides all"),
    "mask": (
        lambda: recurrent.SequenceClassifier(GRU, 2, key=KEY)(INPUTS, jnp.ones(8, bool)),
        r"expected shape \(9,\)",
    ),
    "length": (lambda: recurrent.mask_of(jnp.array([0, 3]), 3), r"got -1 at index \[0\]"),
    "every": (lambda: recurrent.truncated(sx.as_map(lambda x: x), 0), "every\n  got 0"),
    "activation": (lambda: recurrent.Elman(1, 2, key=KEY, activation="tan"), "Did you mean 'tanh'"),
    "radius": (lambda: recurrent.DiagonalRecurrence(1, 2, key=KEY, radius=(0.5, 1.0)), "largest < 1"),
    "friction": (lambda: recurrent.Antisymmetric(1, 2, step_size=0.1, friction=-1.0, key=KEY), "friction\n  got -1.0"),
    "alpha": (lambda: recurrent.beam_search(lambda s, x: (s, x), 0.0, 0, 0, steps=2, alpha=-1.0), "alpha\n  got -1.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as told:
        call()
    assert len(str(told.value).splitlines()) <= 3


def test_rest_has_the_dtype_of_the_weights_whatever_that_of_a_leak_or_step():
    key, narrow = jax.random.key(0), jnp.float32
    cells = [
        recurrent.reservoir(2, 6, key=key, dtype=narrow, leak=0.5),
        recurrent.cycle_reservoir(2, 6, 0.9, key=key, dtype=narrow, leak=0.5),
        recurrent.Antisymmetric(2, 6, key=key, dtype=narrow, step_size=0.1, friction=0.2),
        recurrent.Elman(2, 6, key=key, dtype=narrow),
    ]
    for cell in cells:
        state = recurrent.rest(cell)
        after = jax.eval_shape(cell, jax.ShapeDtypeStruct((2,), narrow), state)
        assert (state.dtype, after.dtype) == (narrow, narrow), type(cell).__name__
