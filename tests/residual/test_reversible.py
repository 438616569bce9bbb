"""Reversible nets: exact inverses, gradients that agree at constant memory, traits that survive the verbs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

WEIGHT = jax.random.normal(jax.random.key(0), (4, 4)) / 2
START = (jnp.array([0.3, -0.2, 0.9, 0.1]), jnp.array([0.0, 0.5, -0.1, 0.2]))


class Layer(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return jnp.tanh(self.weight @ x)


def _energy(x):
    return jnp.sum(jnp.logaddexp(0.0, WEIGHT @ x))


NETS = {
    "momentum": sx.residual.MomentumNet(Layer(WEIGHT), 0.9),
    "hamiltonian": sx.discretize(sx.residual.HamiltonianNet(_energy, _energy), sx.Leapfrog(), 0.2),
}


def test_momentum_is_written_out_and_numbers_its_blocks():
    net = sx.residual.MomentumNet(lambda n, x: (n + 1.0) * x, 0.25)
    x, v = net.step(2, (jnp.array(2.0), jnp.array(4.0)))
    # v' = 0.25 * 4 + 0.75 * 3 * 2 = 5.5, x' = 7.5.
    assert (x.item(), v.item()) == (7.5, 5.5)
    # At rest momentum is none: x' - x = (1 - g) f(x), an Euler step of size 1 - g.
    assert sx.residual.MomentumNet(lambda x: -x, 0.5).step(0, (jnp.array(1.0), jnp.array(0.0)))[0].item() == 0.5


@pytest.mark.parametrize("name", NETS)
def test_a_net_undoes_itself_and_its_gradient_needs_no_layer_kept(name):
    net = NETS[name]

    @eqx.filter_jit
    def both(net):
        there = sx.evolve(net, START, steps=30, save="last").final
        back = sx.evolve(sx.reverse(net, horizon=30 if name == "momentum" else 6.0), there, steps=30, save="last").final
        twice = sx.iterate(net, 3)
        returned = twice.inverse_step(1, twice.step(1, START))

        def loss(net, memory):
            return jnp.sum(sx.evolve(net, START, steps=30, save="last", memory=memory).final[0] ** 2)

        return back, returned, eqx.filter_grad(loss)(net, "reversible"), eqx.filter_grad(loss)(net, "linear")

    back, returned, constant, linear = both(net)
    # 30 blocks of g = 0.9 lose 0.9^-30 = 24 times the rounding.
    for kept in (back, returned):
        for got, wanted in zip(kept, START, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-10)
    for got, wanted in zip(jax.tree.leaves(constant), jax.tree.leaves(linear), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-12)


def test_iterates_keep_what_their_map_knows():
    momentum, hamiltonian = NETS["momentum"], NETS["hamiltonian"]
    assert isinstance(sx.iterate(momentum, 2), sx.InvertibleMap)
    assert isinstance(sx.iterate(hamiltonian, 2), sx.InvertibleMap)
    assert isinstance(sx.iterate(hamiltonian, 2), sx.NearIdentityMap)
    assert isinstance(sx.compose(momentum, momentum), sx.InvertibleMap)
    finite = sx.reverse(sx.compose(momentum, momentum), horizon=4)
    assert isinstance(finite, sx.InvertibleMap) and isinstance(sx.iterate(finite, 2), sx.InvertibleMap)
    assert not isinstance(sx.iterate(sx.as_map(lambda x: x), 2), sx.InvertibleMap)


def test_a_hamiltonian_net_keeps_its_energy_to_the_order_of_leapfrog():
    flow = sx.residual.HamiltonianNet(_energy, _energy)

    @eqx.filter_jit
    def drift(step_size, steps):
        path = sx.evolve(flow, START, step_size=step_size, steps=steps, method=sx.Leapfrog(), save="last")
        return flow.energy(path.final) - flow.energy(START)

    coarse, fine = drift(0.1, 20), drift(0.05, 40)
    assert np.log2(abs(coarse / fine)) == pytest.approx(2.0, abs=0.15)


def test_eulers_bound_is_where_the_spectral_radius_passes_one():
    field = sx.residual.AntisymmetricField(6, friction=0.3, key=jax.random.key(1))
    edge = sx.residual.euler_bound(field).item()
    matrix = np.asarray(jax.jacfwd(field)(jnp.zeros(6)))
    np.testing.assert_allclose(np.linalg.eigvals(matrix).real, -0.3, atol=1e-12)
    for factor, stable in ((0.999, True), (1.001, False)):
        radius = np.abs(np.linalg.eigvals(np.eye(6) + factor * edge * matrix)).max()
        assert bool(radius < 1) is stable
    free = sx.residual.AntisymmetricField(6, key=jax.random.key(1))
    assert sx.residual.euler_bound(free).item() == 0.0


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: sx.residual.MomentumNet(lambda x: x, 0.0), ValueError, "momentum\n  got 0.0"),
        (lambda: sx.residual.MomentumNet(lambda x: x, 1.0), ValueError, "1.0 and 1.0"),
        (lambda: sx.residual.MomentumNet(lambda a, b, c: a, 0.5), TypeError, r"f\(n, x\)"),
        (lambda: sx.residual.AntisymmetricField(0, key=jax.random.key(0)), ValueError, "size\n  got 0"),
        (lambda: sx.residual.AntisymmetricField(2, friction=-1.0, key=jax.random.key(0)), ValueError, "friction\n  got -1"),
        (lambda: sx.residual.euler_bound(3.0), TypeError, "an AntisymmetricField"),
    ],
)  # fmt: skip
def test_bad_numbers_are_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
