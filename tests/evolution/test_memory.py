"""Gradients at less memory equal those of the plain scan; what they keep is measured by the compiler."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.evolution.memory import checkpointed_scan, iterate_map


class Leapfrog(sx.InvertibleMap):
    """q += h p; p -= h k sin q: symplectic, so that its inverse does not amplify rounding."""

    stiffness: jax.Array
    step_size: float = eqx.field(static=True)
    friction: float = eqx.field(default=1.0, static=True)

    def step(self, n, state, *, key=None):
        q, p = state
        q = q + self.step_size * p
        return q, self.friction * p - self.step_size * self.force(n, q)

    def inverse_step(self, n, state):
        q, p = state
        p = (p + self.step_size * self.force(n, q)) / self.friction
        return q - self.step_size * p, p

    def force(self, n, q):
        return self.stiffness * jnp.sin(q) * (1.0 + 0.1 * jnp.cos(jnp.asarray(n).astype(q.dtype)))


def oscillator(size: int = 3, friction: float = 1.0) -> tuple[Leapfrog, tuple[jax.Array, jax.Array]]:
    map = Leapfrog(jnp.linspace(0.5, 1.5, size), 0.1, friction)
    return map, (jnp.linspace(-1.0, 1.0, size), jnp.linspace(0.3, -0.2, size))


def end(map, state, steps, memory, start=0):
    q, p = iterate_map(map, state, steps, memory=memory, start=start)
    return jnp.sum(q**2) + jnp.sum(jnp.sin(p))


@pytest.mark.parametrize("memory", ["sqrt", "reversible"])
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 16, 50])
def test_value_and_gradient_equal_the_plain_scan(memory, steps):
    args = oscillator()
    value, gradient = eqx.filter_value_and_grad(lambda a: end(*a, steps, memory, start=3))(args)
    truth, plain = eqx.filter_value_and_grad(lambda a: end(*a, steps, "linear", start=3))(args)
    np.testing.assert_allclose(value, truth, rtol=1e-15)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain), strict=True):
        # Same sums in the same order for sqrt; for reversible the points are off by some n eps.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


def test_reversible_gradient_against_finite_differences():
    map, state = oscillator()

    def loss(stiffness, memory):
        return end(eqx.tree_at(lambda m: m.stiffness, map, stiffness), state, 40, memory)

    gradient, h = jax.grad(loss)(map.stiffness, "reversible"), 1e-6
    for i in range(3):
        up, down = (loss(map.stiffness.at[i].add(s), "linear") for s in (h, -h))
        np.testing.assert_allclose(gradient[i], (up - down) / (2 * h), rtol=1e-7, atol=1e-8)


def test_reversible_sees_an_array_its_functions_close_over():
    class Shift(sx.InvertibleMap):
        functions: tuple = eqx.field(static=True)

        def step(self, n, state, *, key=None):
            return self.functions[0](state)

        def inverse_step(self, n, state):
            return self.functions[1](state)

    def loss(a, memory):
        return iterate_map(Shift((lambda x: a * x + 1.0, lambda x: (x - 1.0) / a)), jnp.array(2.0), 5, memory=memory)

    a = jnp.array(1.1)
    # x[5] = 2 a^5 + a^4 + a^3 + a^2 + a + 1
    closed_form = 10 * a**4 + 4 * a**3 + 3 * a**2 + 2 * a + 1
    np.testing.assert_allclose(jax.grad(loss)(a, "reversible"), closed_form, rtol=1e-13)
    np.testing.assert_allclose(jax.grad(loss)(a, "sqrt"), closed_form, rtol=1e-13)


def test_integer_leaves_are_walked_back_too():
    class Counting(sx.InvertibleMap):
        def step(self, n, state, *, key=None):
            count, x = state
            return count + 1, x * (1.0 + 1.0 / (1.0 + count.astype(x.dtype)))

        def inverse_step(self, n, state):
            count, x = state
            count = count - 1
            return count, x / (1.0 + 1.0 / (1.0 + count.astype(x.dtype)))

    gradient = jax.grad(lambda x: iterate_map(Counting(), (jnp.array(0), x), 9, memory="reversible")[1])(jnp.array(3.0))
    np.testing.assert_allclose(gradient, 10.0, rtol=1e-13)  # the product of (k + 2)/(k + 1), k < 9, telescopes


def test_vmap_and_jit_of_the_reversible_gradient():
    map, _ = oscillator(1)
    starts = (jnp.linspace(-1.0, 1.0, 4)[:, None], jnp.zeros((4, 1)))
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: end(map, x, 30, "reversible"))))(starts)
    plain = jax.vmap(jax.grad(lambda x: end(map, x, 30, "linear")))(starts)
    for ours, theirs in zip(gradient, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_a_way_back_lost_to_rounding_is_refused():
    """Momentum 0.5 loses a bit a step: after 200 steps nothing of the start is left."""
    map, state = oscillator(friction=0.5)
    eqx.filter_grad(lambda a: end(*a, 10, "reversible"))((map, state))
    with pytest.raises(Exception, match="lost half of all digits") as caught:
        jax.block_until_ready(eqx.filter_grad(lambda a: end(*a, 200, "reversible"))((map, state)))
    assert 'memory="sqrt"' in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 5, 16, 23])
def test_checkpointed_scan_is_the_scan(length):
    xs = {"a": jnp.arange(length, dtype=jnp.float64), "b": jnp.ones((length, 2))}

    def body(carry, x):
        carry = jnp.sin(carry) + x["a"] * jnp.sum(x["b"])
        return carry, (carry, x["b"] * carry)

    def answers(memory, c, xs):
        value, pull = jax.vjp(lambda c, xs: checkpointed_scan(body, c, xs, memory=memory), c, xs)
        return value, pull(jax.tree.map(jnp.ones_like, value))

    ours, theirs = jax.jit(lambda *args: [answers(memory, *args) for memory in ("sqrt", "linear")])(jnp.array(0.3), xs)
    for p, q in zip(jax.tree.leaves(ours[0]), jax.tree.leaves(theirs[0]), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-14)
    for p, q in zip(jax.tree.leaves(ours[1]), jax.tree.leaves(theirs[1]), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-14, atol=1e-14)


def test_random_map_has_one_path_for_every_memory():
    map = sx.as_map(lambda n, x, key: 0.9 * x + jax.random.normal(key, x.shape, x.dtype))
    key, state = jax.random.key(1), jnp.zeros(3)
    x = state
    for n in range(4, 15):
        x = map.step(n, x, key=jax.random.fold_in(key, n))
    for memory in ("linear", "sqrt"):
        np.testing.assert_allclose(iterate_map(map, state, 11, key=key, start=4, memory=memory), x, rtol=1e-14)


def temporary_bytes(memory, steps, size):
    map, state = oscillator(size)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda a: end(*a, steps, memory)))
    return gradient.lower((map, state)).compile().compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_as_said():
    """Four times the steps: four times the memory, twice, the same."""
    grown = {}
    for memory in ("linear", "sqrt", "reversible"):
        small, large = (temporary_bytes(memory, steps, 2048) for steps in (400, 1600))
        grown[memory] = large / small
    assert 3.8 < grown["linear"] < 4.2
    assert 1.7 < grown["sqrt"] < 2.3
    assert 0.95 < grown["reversible"] < 1.05


def test_refusals():
    map, state = oscillator()
    halving = sx.as_map(lambda x: 0.5 * x)
    with pytest.raises(TypeError, match="an InvertibleMap") as caught:
        iterate_map(halving, jnp.ones(2), 3, memory="reversible")
    assert "FunctionMap" in str(caught.value)
    with pytest.raises(ValueError, match="a map without randomness"):
        iterate_map(map, state, 3, key=jax.random.key(0), memory="reversible")
    with pytest.raises(ValueError, match="'quadratic'"):
        iterate_map(map, state, 3, memory="quadratic")
    with pytest.raises(ValueError, match="iterate_map"):
        checkpointed_scan(lambda c, x: (c, None), jnp.ones(2), length=3, memory="reversible")
