"""A batch against its members one by one, closed forms, and the work it does."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.evolution._compaction import Loop, run_compacted, stage_sizes


class VanDerPol(sx.Flow):
    """x' = v; v' = mu (1 - x^2) v - x: the larger mu, the more steps."""

    stiffness: jax.Array

    def velocity(self, t, state):
        x, v = state
        return jnp.stack([v, self.stiffness * (1.0 - x**2) * v - x])


def oscillators(count: int) -> tuple[VanDerPol, jax.Array]:
    stiffness = jnp.linspace(0.5, 1.5, count).at[-1].set(40.0)
    return VanDerPol(stiffness), jnp.tile(jnp.array([2.0, 0.0]), (count, 1))


def member(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def countdown(lengths):
    """Members that count to their length; rows hold what they wrote and, last, how many lanes ran in all."""

    def advance(length, carry):
        return (jnp.minimum(carry[0] + 1, length), carry[0] + 1 >= length), carry[0] + 1

    def write(rows, members, written):
        sums, lanes = rows
        return sums.at[members].add(written, mode="drop"), lanes + members.shape[0]

    loop = Loop(advance, lambda carry: carry[1], lambda carry: (carry[0], jnp.asarray(True)), write, lengths)
    start = (jnp.zeros_like(lengths), lengths <= 0)
    return jax.jit(lambda: run_compacted(loop, start, (jnp.zeros_like(lengths), jnp.asarray(0))))()


@pytest.mark.parametrize("count", [1, 2, 5, 33, 300])
def test_compaction_runs_each_member_its_own_number_of_steps(count):
    lengths = jax.random.randint(jax.random.key(count), (count,), 0, 50) ** 2
    (reached, _), (sums, lanes) = countdown(lengths)
    np.testing.assert_array_equal(reached, lengths)
    np.testing.assert_array_equal(sums, lengths * (lengths + 1) // 2)  # each step written once
    assert int(lanes) >= int(lengths.sum())


def test_a_straggler_costs_what_it_would_alone():
    """256 of 50 steps and one of 5,000: under vmap 257 * 5,000 lanes, here the sum of the parts and one round more."""
    lengths = jnp.full(257, 50).at[100].set(5000)
    lanes = int(countdown(lengths)[1][1])
    assert lanes <= 257 * 50 + 5000
    # Geometric lengths are the worst for stages: still at most eight times what is needed.
    lengths = (2.0 ** jnp.linspace(0.0, 12.0, 256)).astype(int)
    assert int(countdown(lengths)[1][1]) <= 8 * int(lengths.sum())


def test_stage_sizes():
    assert stage_sizes(257) == [257, 64, 8, 1]
    assert stage_sizes(1) == [1]
    assert stage_sizes(3) == [3, 1]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_members_are_those_of_evolve(count):
    flow, states = oscillators(count)
    times = jnp.linspace(0.0, 4.0, 9)
    together = sx.ensemble(flow, states, times=times, batched_system=True)
    assert together.states.shape == (count, 9, 2) and together.times.shape == (count, 9)
    for i in range(count):
        alone = sx.evolve(member(flow, i), states[i], times=times)
        # The same steps; the compiler orders sums otherwise in a batch.
        np.testing.assert_allclose(together.states[i], alone.states, atol=1e-11)
        np.testing.assert_allclose(together.final[i], alone.final, atol=1e-11)
        assert int(together.stats["steps"][i]) == int(alone.stats["steps"])
        assert together.outcome.name[i] == alone.outcome.name == "completed"


@pytest.mark.parametrize("method", [diffrax.Dopri5(), diffrax.Bosh3(), diffrax.Kvaerno5()])
def test_decay_at_every_rate_has_its_closed_form(method):
    rates = jnp.array([0.1, 1.0, 50.0])
    flow = eqx.filter_vmap(lambda a: Decay(a))(rates)
    times = jnp.array([0.0, 0.3, 1.0])
    path = sx.ensemble(flow, jnp.ones((3, 1)), times=times, batched_system=True, method=method, rtol=1e-8, atol=1e-10)
    expected = np.exp(-np.outer(rates, times))
    np.testing.assert_allclose(path.states[..., 0], expected, atol=1e-6)  # 1e-8 a step, some tens of steps


class Decay(sx.Flow):
    """x' = -a x."""

    rate: jax.Array

    def velocity(self, t, state):
        return -self.rate * state


def test_many_rows_inside_one_step():
    """500 rows of x' = -x at loose tolerance: a dozen steps, forty rows each, sixteen a turn."""
    path = sx.ensemble(sx.as_flow(lambda x: -x), jnp.array([1.0, -3.0]), times=jnp.linspace(0.0, 5.0, 500), rtol=1e-4)
    assert int(path.stats["steps"].max()) < 40
    np.testing.assert_allclose(path.states, np.outer([1.0, -3.0], np.exp(-np.linspace(0.0, 5.0, 500))), atol=1e-3)


def test_each_member_has_its_own_outcome():
    """x' = x^2 from x(0): finite for x(0) <= 0, gone to infinity at t = 1/x(0) otherwise."""
    states = jnp.array([-1.0, 0.5, 0.25, 2.0])
    path = sx.ensemble(sx.as_flow(lambda x: x**2), states, times=jnp.linspace(0.0, 3.0, 7))
    assert path.outcome.name == ["completed", "escaped", "completed", "escaped"]
    np.testing.assert_allclose(path.outcome.estimate[np.array([1, 3])], [2.0, 0.5], rtol=1e-4)
    assert np.isnan(path.states[1, 5:]).all() and np.isfinite(path.states[1, :4]).all()
    assert np.isfinite(path.last).all()
    np.testing.assert_array_equal(np.isnan(path.final), ~np.asarray(path.outcome.completed))
    np.testing.assert_allclose(path.states[2, -1], 1.0 / (4.0 - 3.0), rtol=1e-4)


def test_step_limit_is_a_members_own():
    flow, states = oscillators(5)
    path = sx.ensemble(flow, states, times=(0.0, 4.0), batched_system=True, max_steps=60, rtol=1e-5, atol=1e-5)
    alone = sx.evolve(member(flow, 4), states[4], times=(0.0, 4.0), max_steps=60, rtol=1e-5, atol=1e-5)
    assert path.outcome.name[:4] == ["completed"] * 4
    assert path.outcome.name[4] == alone.outcome.name != "completed"
    np.testing.assert_allclose(path.outcome.at[4], alone.outcome.at)


@pytest.mark.parametrize(
    "save", ["last", np.array([0.5, 2.0]), jnp.sum, sx.Save(at=np.array([1.0]), fn=lambda x: {"v": x[1]})],
    ids=["last", "array", "function", "Save"],
)  # fmt: skip
def test_what_is_kept(save):
    flow, states = oscillators(4)
    times = jnp.array([0.0, 1.0, 4.0])
    together = sx.ensemble(flow, states, times=times, batched_system=True, save=save)
    for i in range(4):
        alone = sx.evolve(member(flow, i), states[i], times=times, save=save)
        for ours, theirs in zip(jax.tree.leaves(together.states), jax.tree.leaves(alone.states), strict=True):
            np.testing.assert_allclose(ours[i], theirs, atol=1e-11)


def test_gradient_of_decay_has_its_closed_form():
    rates, times = jnp.array([0.5, 1.0, 8.0]), jnp.array([0.0, 0.4, 1.0])

    def rows(rates, gradient):
        return sx.ensemble(Decay(rates[:, None]), jnp.ones((3, 1)), times=times, batched_system=True, rtol=1e-9,
                           atol=1e-11, max_steps=500, gradient=gradient).states[..., 0]  # fmt: skip

    expected = -np.asarray(times) * np.exp(-np.outer(rates, times))
    reverse = jax.grad(lambda a: jnp.sum(rows(a, "replay")))(rates)
    np.testing.assert_allclose(reverse, expected.sum(axis=1), atol=1e-7)
    forward = jax.jacfwd(lambda a: rows(a, "forward"))(rates)  # (members, times, rates)
    np.testing.assert_allclose(np.einsum("iti->it", forward), expected, atol=1e-7)
    np.testing.assert_array_equal(forward[0, :, 1:], 0.0)


def test_gradient_is_that_of_the_members_one_by_one():
    flow, states = oscillators(3)
    times = jnp.linspace(0.0, 3.0, 4)

    def loss(path):
        return jnp.sum(jnp.sin(path.states)) + jnp.sum(path.final**2)

    def batch(args):
        return loss(sx.ensemble(*args, times=times, batched_system=True, max_steps=500))

    def loop(args):
        return sum(loss(sx.evolve(*member(args, i), times=times, max_steps=500)) for i in range(3))

    ours, theirs = eqx.filter_grad(batch)((flow, states)), eqx.filter_grad(loop)((flow, states))
    for p, q in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-10)


def test_gradient_of_an_array_the_velocity_closes_over():
    def end(a):
        return sx.ensemble(sx.as_flow(lambda x: -a * x), jnp.ones(2), times=(0.0, 1.0), max_steps=200).final[0]

    np.testing.assert_allclose(jax.grad(end)(jnp.array(0.7)), -np.exp(-0.7), rtol=1e-5)


def test_a_second_call_does_not_compile_again():
    traces = []

    class Counted(sx.Flow):
        rate: jax.Array

        def velocity(self, t, state):
            traces.append(None)
            return -self.rate * state

    for rate in (1.0, 2.0):
        sx.ensemble(Counted(jnp.array(rate)), jnp.ones((4, 2)), times=(0.0, rate))
        traced = len(traces) if rate == 1.0 else traced
    assert len(traces) == traced


def test_random_maps_draw_by_member_and_step():
    walk = sx.as_map(lambda x, key: x + jax.random.normal(key, x.shape, x.dtype))
    key, states = jax.random.key(3), jnp.zeros((5, 2))
    path = sx.ensemble(walk, states, steps=7, key=key)
    few = sx.ensemble(walk, states[:2], steps=7, key=key)
    np.testing.assert_array_equal(few.states, path.states[:2])
    for i in range(5):
        alone = sx.evolve(walk, states[i], steps=7, key=jax.random.fold_in(key, i))
        np.testing.assert_allclose(path.states[i], alone.states, rtol=1e-14)
    assert len(np.unique(np.asarray(path.final))) == 10


def test_fixed_steps_of_flows_and_sdes():
    states = jnp.array([1.0, -2.0, 0.5])
    flow = sx.ensemble(sx.as_flow(lambda x: -x), states, times=(0.0, 1.0), step_size=0.1, method=sx.RK4())
    np.testing.assert_allclose(flow.final, states * np.exp(-1.0), rtol=1e-6)  # h^4 / 120
    noisy, key = sx.as_sde(lambda x: -x, lambda x: 0.3), jax.random.key(0)
    paths = sx.ensemble(noisy, states, times=(0.0, 1.0), step_size=0.1, key=key)
    for i in range(3):
        alone = sx.evolve(noisy, states[i], times=(0.0, 1.0), step_size=0.1, key=jax.random.fold_in(key, i))
        np.testing.assert_allclose(paths.states[i], alone.states, rtol=1e-13)


def test_a_swept_map_breaks_member_by_member():
    """x -> a x^2 from 1: rests at a = 1, dies below, explodes above; a^(2^n - 1) passes 1e308 for a = 2 at n = 11."""

    class Square(sx.Map):
        a: jax.Array

        def step(self, n, state, *, key=None):
            return self.a * state**2

    path = sx.ensemble(Square(jnp.array([1.0, 0.5, 2.0])), jnp.ones(3), steps=20, batched_system=True)
    assert path.outcome.name == ["completed", "completed", "non_finite"]
    assert float(path.outcome.at[2]) == 11
    np.testing.assert_allclose(path.last[2], 2.0**1023)
    assert np.isnan(path.final[2])


def test_float32_stays_float32():
    path = sx.ensemble(sx.as_flow(lambda x: -x), jnp.ones((3, 2), jnp.float32), times=(0.0, 1.0))
    assert path.final.dtype == path.states.dtype == jnp.float32
    np.testing.assert_allclose(path.final, np.exp(-1.0), rtol=1e-3)


def test_refusals():
    flow, states = oscillators(4)
    with pytest.raises(ValueError, match="a leading axis of 4 members") as caught:
        sx.ensemble(flow, {"x": states, "y": states[:3]}, times=(0.0, 1.0))
    assert "['y']" in str(caught.value)
    with pytest.raises(ValueError, match=r"system\.stiffness"):
        sx.ensemble(VanDerPol(jnp.array(1.0)), states, times=(0.0, 1.0), batched_system=True)
    with pytest.raises(ValueError, match="one entry a member"):
        sx.ensemble(flow, jnp.array(1.0), times=(0.0, 1.0))
    with pytest.raises(ValueError, match="times to keep"):
        sx.ensemble(flow, states, times=(0.0, 1.0), save=3, batched_system=True)
    with pytest.raises(Exception, match="'backward'"):
        sx.ensemble(flow, states, times=(0.0, 1.0), gradient="backward", batched_system=True)
