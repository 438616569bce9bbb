"""How far a short run comes, from where and when it was to start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

survival = sx.diagnostics.survival


@pytest.mark.parametrize("start", [0, 130])
def test_a_map_that_breaks_at_a_step_is_told_how_many_it_made(start):
    # It divides by zero at step 150: 150 - start steps were made of the 200 asked for.
    found = survival(sx.as_map(lambda n, x: x + 0.0 * n + jnp.where(n == 150, jnp.inf, 0.0)), jnp.array(1.0), at=start)
    assert (int(found.reached), int(found.span)) == (150 - start, 200) and found.outcome == "non_finite"
    assert int(found.outcome.at) == 151
    later = survival(sx.as_map(lambda n, x: x + 0.0 * n + jnp.where(n == 150, jnp.inf, 0.0)), jnp.array(1.0), at=151)
    assert int(later.reached) == 200 and later.outcome == "completed"


def test_a_finite_map_ends_where_it_ends():
    layers = sx.from_layers([lambda x: 0.5 * x] * 20)
    assert [float(getattr(survival(layers, jnp.ones(1), at=7), name)) for name in ("reached", "span")] == [13, 13]


def test_a_flow_that_escapes_does_so_from_its_own_start():
    # x' = x^2 (1 + t/10) from x = 1 at t0 = 2: 1/x = 1 - (t - t0) - (t^2 - t0^2)/20 is zero at t - t0 = 0.803848...
    found = survival(sx.as_flow(lambda t, x: x**2 * (1 + t / 10)), jnp.array(1.0), at=2.0)
    root = np.max(np.roots([1 / 20, 1.0, -1 - 2 - 4 / 20])) - 2
    assert float(found.reached) == pytest.approx(root, abs=1e-3) and float(found.span) == 10
    assert str(found.outcome).startswith("escaped")
    calm = survival(sx.as_flow(lambda t, x: -x + t), jnp.array(1.0), at=3.0)
    assert float(calm.reached) == float(calm.span) == 10 and calm.outcome == "completed"


def test_an_sde_that_breaks_in_its_time_is_told_when():
    # The drift is infinite from t = 5.25 on; from t0 = 5 that is half of the half unit asked for.
    sde = sx.as_sde(lambda t, x: jnp.where(t > 5.25, jnp.inf, -1.0) + 0 * x, lambda t, x: 0.1 + 0.0 * t)
    found = survival(sde, jnp.array(0.0), at=5.0, key=jax.random.key(0))
    assert float(found.reached) == pytest.approx(0.25, abs=0.006) and float(found.span) == pytest.approx(0.5)
    assert found.outcome == "non_finite"
