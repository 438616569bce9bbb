"""A monitor between the pieces of a run reads what it reads of a run as a whole, and changes no number of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx
from separatrix.training.run import Run


def loss(x, batch):
    return jnp.sum(jnp.array([1.0, 30.0]) * (x - jnp.mean(batch)) ** 2) / 2


def test_a_run_in_pieces_is_read_as_one_that_is_whole(tmp_path):
    data, start = jnp.linspace(-1.0, 1.0, 8), jnp.array([1.0, 1e-2])
    whole, pieces = sx.StabilityMonitor(every=20), sx.StabilityMonitor(every=20)
    settings = {"initial": start, "steps": 60, "key": jax.random.key(0)}
    one = sx.fit(loss, optax.sgd(0.07), data, monitor=whole, **settings)
    two = sx.fit(loss, optax.sgd(0.07), data, monitor=pieces, run=tmp_path / "run", **settings)
    alone = sx.fit(loss, optax.sgd(0.07), data, **settings)
    np.testing.assert_array_equal(two.model, alone.model)
    np.testing.assert_allclose(pieces.report().ratios, whole.report().ratios, rtol=1e-6)
    # 0.07 times 30 over 2: past the edge, with an oscillation that both have noted along the steep direction.
    np.testing.assert_allclose(pieces.report().ratios[-1], 1.05, rtol=1e-3)
    assert [(e.step, e.kind) for e in pieces.events] == [(e.step, e.kind) for e in whole.events] != []
    run = Run.open(tmp_path / "run")
    np.testing.assert_allclose(run.metrics["sharpness_over_edge"][[0, -1]], 1.05, rtol=1e-3)
    noticed = [event for event in run.events if event["event"] == "noticed"]
    assert [(event["step"], event["kind"]) for event in noticed] == [(e.step, e.kind) for e in pieces.events]
    assert noticed[0]["remedy"].startswith("Lower the learning rate")
    assert one.outcome == "completed"
