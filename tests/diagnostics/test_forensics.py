"""Which member broke, when, which component, how stiff: on members whose ends are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.diagnostics import forensics


class Pair(sx.Flow):
    """x' = k x^2 beside y' = -s (y - cos t): one escapes at 1/k from x = 1, the other is stiff with s."""

    k: jax.Array
    s: jax.Array

    def velocity(self, t, state):
        return jnp.stack([-self.s * (state[0] - jnp.cos(t)), self.k * state[1] ** 2])


FAMILY = eqx.filter_vmap(Pair)(jnp.array([0.1, 2.0, 0.01]), jnp.array([1.0, 3.0, 1e6]))
STARTS = jnp.ones((3, 2))


def test_each_broken_member_is_named_with_its_time_component_and_remedy():
    """Member 1 escapes at 1/2. Member 2 has rates -1e6 and 2 k y = 0.02: explicit steps of 2e-6 run out before t = 2."""
    run = eqx.filter_jit(
        lambda family: sx.ensemble(family, STARTS, times=(0.0, 2.0), batched_system=True, max_steps=3000)
    )
    paths = run(FAMILY)
    found = forensics(FAMILY, paths, batched_system=True)
    assert found.members.tolist() == [1, 2]
    assert found.components[0] == 1 and found.growth[0] > 100  # 2 k x, huge beside the pole
    assert float(found.at[0]) == pytest.approx(0.5, abs=1e-3)
    assert float(found.fastest[1]) == pytest.approx(1e6, rel=1e-9)
    assert float(found.stiffness[1]) == pytest.approx(1e6 / 0.02, rel=1e-3)
    text = str(found)
    assert "2 of 3" in text and "escaped at 0.5" in text and "stiff at" in text and "stiffness" in text
    assert "Kvaerno5" in found.remedies[1] and "Kvaerno5" not in found.remedies[0]


def test_a_map_a_single_run_and_one_that_reached_its_end():
    doubling = sx.as_map(lambda x: jnp.stack([0.5 * x[0], x[1] ** 2]))
    path = sx.evolve(doubling, jnp.array([1.0, 4.0]), steps=20)
    found = forensics(doubling, path)
    # 4^(2^n) passes 1.8e308 at n = 9: the last good state is 4^256, whose multiplier is 2 x.
    assert found.members.tolist() == [0] and found.components.tolist() == [1]
    assert float(found.fastest[0]) == pytest.approx(2 * 4.0**256, rel=1e-12)
    assert np.isnan(float(found.stiffness[0]))
    good = forensics(doubling, sx.evolve(doubling, jnp.array([1.0, 0.5]), steps=5))
    assert good.members.size == 0 and "0 of 1" in str(good)


def test_what_is_no_trajectory_is_refused():
    flow = sx.as_flow(lambda x: -x)
    with pytest.raises(TypeError, match=r"(?s)forensics: trajectory.*what evolve or ensemble returned"):
        forensics(flow, jnp.ones(3))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda x: forensics(flow, sx.evolve(flow, x, times=(0.0, 1.0))).at)(jnp.ones(2))
