"""Adapters: other libraries' objects as systems, equal to what those libraries compute."""

import functools

import diffrax
import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import separatrix as sx

KEY = jax.random.key(0)
INPUTS = jax.random.normal(jax.random.key(1), (7, 3))


def test_equinox_cell_driven_is_the_scan_over_it():
    cell = eqx.nn.GRUCell(3, 4, key=KEY)
    final = sx.evolve(sx.from_cell(cell, INPUTS), jnp.zeros(4)).final
    expected = jax.lax.scan(lambda h, u: (cell(u, h), None), jnp.zeros(4), INPUTS)[0]
    np.testing.assert_allclose(final, expected, rtol=1e-13)


def test_lstm_keeps_its_pair():
    cell = eqx.nn.LSTMCell(3, 4, key=KEY)
    start = (jnp.zeros(4), jnp.zeros(4))
    final = sx.evolve(sx.from_cell(cell, INPUTS), start).final
    expected = jax.lax.scan(lambda h, u: (cell(u, h), None), start, INPUTS)[0]
    np.testing.assert_allclose(final[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(final[1], expected[1], rtol=1e-13)


def test_flax_cells_of_both_kinds():
    new = nnx.SimpleCell(3, 4, rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64)
    state = jnp.zeros(4)
    for u in INPUTS:
        state = new(state, u)[0]
    np.testing.assert_allclose(sx.evolve(sx.from_cell(new, INPUTS), jnp.zeros(4)).final, state, rtol=1e-12)
    old = linen.SimpleCell(4, dtype=jnp.float64, param_dtype=jnp.float64)
    variables = old.init(KEY, jnp.zeros(4), INPUTS[0])
    state = jnp.zeros(4)
    for u in INPUTS:
        state = old.apply(variables, state, u)[0]
    driven = sx.from_cell(old, INPUTS, variables=variables)
    np.testing.assert_allclose(sx.evolve(driven, jnp.zeros(4)).final, state, rtol=1e-12)


def test_layers_are_the_network():
    keys = jax.random.split(KEY, 5)
    layers = [eqx.nn.Linear(4, 4, key=key) for key in keys]
    x = jnp.arange(4.0)
    expected = functools.reduce(lambda y, layer: layer(y), layers, x)
    np.testing.assert_allclose(sx.evolve(sx.from_layers(layers), x).final, expected, rtol=1e-13)
    np.testing.assert_allclose(sx.evolve(sx.from_layers(eqx.nn.Sequential(layers)), x).final, expected, rtol=1e-13)
    net = eqx.nn.MLP(4, 4, 4, 3, jnp.tanh, key=KEY)
    np.testing.assert_allclose(sx.evolve(sx.from_layers(net), x).final, net(x), rtol=1e-13)


@pytest.mark.parametrize(
    "depth, scan, options",
    [
        (3, False, {"activation": eqx.nn.PReLU(0.3), "final_activation": eqx.nn.PReLU(0.6)}),
        (3, True, {"activation": eqx.nn.PReLU(0.3), "final_activation": jnp.sin}),
        (0, False, {"final_activation": jnp.sin}),
    ],
    ids=["weights in activations", "scanned", "one layer"],
)
def test_layers_of_a_perceptron_are_joined_as_it_joins_them(depth, scan, options):
    net = eqx.nn.MLP(4, 4, 4, depth, scan=scan, key=KEY, **options)
    # Weights that differ from unit to unit and from layer to layer.
    net = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape) if eqx.is_array(leaf) else leaf,
        net,
    )
    x = jnp.linspace(-1.0, 1.0, 4)
    np.testing.assert_allclose(sx.evolve(sx.from_layers(net), x).final, net(x), rtol=1e-13)


def test_layers_of_different_width_are_told_by_number():
    net = eqx.nn.MLP(4, 2, 8, 2, key=KEY)
    with pytest.raises(ValueError, match=r"(?s)layer 0 changes the width.*4 -> 8.*projection"):
        sx.from_layers(net)
    with pytest.raises(ValueError, match=r"(?s)layer 1 changes the width"):
        sx.evolve(sx.from_layers([jnp.tanh, lambda x: jnp.concatenate([x, x])]), jnp.ones(2))
    with pytest.raises(ValueError, match="no layers"):
        sx.from_layers([])
    with pytest.raises(TypeError, match="int"):
        sx.from_layers(3)


def test_diffrax_terms_are_flows_and_sdes():
    flow = sx.from_diffrax(diffrax.ODETerm(lambda t, y, args: -y + t))
    np.testing.assert_allclose(flow.velocity(2.0, jnp.array([1.0])), [1.0])
    final = sx.evolve(flow, jnp.array([1.0]), times=(0.0, 1.0), rtol=1e-10, atol=1e-12).final
    np.testing.assert_allclose(final, 2 * np.exp(-1.0), rtol=1e-9)  # t - 1 + 2 e^{-t} at t = 1


@pytest.mark.parametrize(
    "transformation",
    [optax.adam(0.1), optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)), optax.lbfgs()],
    ids=["adam", "clipped momentum", "lbfgs with line search"],
)
def test_optax_loop_by_hand(transformation):
    objective = sx.optimization.Rosenbrock()
    descent = sx.from_optax(objective, transformation)
    start = jnp.array([-1.0, 1.5])
    final = sx.evolve(descent, descent.init(start), steps=15, save="last").final.parameters
    extended = optax.with_extra_args_support(transformation)

    @jax.jit
    def step(parameters, state):
        value, slope = jax.value_and_grad(objective)(parameters)
        updates, state = extended.update(slope, state, parameters, value=value, grad=slope, value_fn=objective)
        return optax.apply_updates(parameters, updates), state

    parameters, state = start, transformation.init(start)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for _ in range(15):
            parameters, state = step(parameters, state)
    # Compiled whole or step by step, sums are rounded in another order; a line search may amplify that a little.
    np.testing.assert_allclose(final, parameters, rtol=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2.0 * x,
        lambda t, x: 2.0 * x,
        functools.partial(lambda a, x: a * x, 2.0),
        functools.partial(lambda a, t, x: a * x, 2.0),
        eqx.Partial(lambda a, x: a * x, jnp.asarray(2.0)),
        jax.tree_util.Partial(lambda a, t, x: a * x, 2.0),
    ],
)
def test_functions_of_state_or_of_time_and_state(function):
    np.testing.assert_allclose(sx.as_flow(function).velocity(1.0, jnp.asarray(3.0)), 6.0)
    np.testing.assert_allclose(sx.as_map(function).step(1, jnp.asarray(3.0)), 6.0)


@pytest.mark.parametrize("adapter", [sx.as_flow, sx.as_map, lambda f: sx.as_near_identity(f, 0.1)])
def test_other_signatures_are_told_what_is_expected(adapter):
    with pytest.raises(TypeError, match=r"f\(.*x"):
        adapter(lambda a, b, c, d: a)


def test_diffusion_as_number_array_tree_or_operator():
    import lineax as lx

    x = jnp.array([1.0, 2.0])
    for value, expected in [
        (0.5, [0.5, 1.0]),
        (jnp.array([0.5, 2.0]), [0.5, 4.0]),
        (lx.MatrixLinearOperator(jnp.array([[0.0, 1.0], [1.0, 0.0]])), [2.0, 1.0]),
    ]:
        noise = sx.as_sde(lambda x: -x, lambda x, value=value: value).diffusion(0.0, x)
        np.testing.assert_allclose(noise.mv(jnp.array([1.0, 2.0])), expected)
    with pytest.raises(ValueError, match=r"(?s)diffusion of the wrong form.*MatrixLinearOperator"):
        sx.as_sde(lambda x: -x, lambda x: jnp.ones((3, 3))).diffusion(0.0, x)


def test_a_driven_map_takes_as_many_steps_as_it_has_inputs():
    total = sx.drive(sx.as_open_map(lambda x, u: x + u), jnp.arange(5.0))
    assert total.length == 5
    assert float(sx.evolve(total, 0.0).final) == 10.0


def test_coupling_refuses_mixed_kinds():
    with pytest.raises(TypeError, match="systems of one kind"):
        sx.couple(sx.as_map(lambda x: x), sx.as_flow(lambda x: x), coupling=lambda t, x: x)
