"""One reading, whichever loop it is taken in: optimisers x loops x precisions.

The four loops take the same steps, so that their readings at one step are one number: that of the response that is measured
in the plainest of them, and where the step is plain descent the closed form, size times curvature over two.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import separatrix as sx

pytestmark = pytest.mark.slow
CURVATURES = np.array([1.0, 7.0, 50.0])
STEPS, EVERY = 41, 20


@pytest.fixture(autouse=True)
def climate_of_users():
    """JAX as it comes: optax and Flax are written for it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def bowl(a, b):
    """Curvature 50 at most along a vector, 20 along a matrix."""
    scale = jnp.asarray(CURVATURES, a.dtype)
    return (jnp.sum(scale * a**2) + 0.4 * jnp.sum(scale * b**2)) / 2


class Plain(eqx.Module):
    a: jax.Array
    b: jax.Array


class Flaxen(nnx.Module):
    def __init__(self, a, b):
        self.a, self.b = nnx.Param(a), nnx.Param(b)


def start(dtype):
    return jnp.ones(3, dtype), jnp.ones((1, 3), dtype)


def in_equinox(optimizer, dtype):
    model, loss = Plain(*start(dtype)), lambda model: bowl(model.a, model.b)
    state = optimizer.init(model)
    monitor = sx.StabilityMonitor(loss, optimizer, every=EVERY, tol=1e-6, wide_every=1)
    step = jax.jit(lambda model, state: optimizer.update(jax.grad(loss)(model), state, model))
    for n in range(STEPS):
        monitor(n, model, state)
        updates, state = step(model, state)
        model = eqx.apply_updates(model, updates)
    return monitor


def in_flax(transformation, dtype):
    model, loss = Flaxen(*start(dtype)), lambda model: bowl(model.a[...], model.b[...])
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    monitor = sx.StabilityMonitor(loss, optimizer, every=EVERY, tol=1e-6, wide_every=1)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    for n in range(STEPS):
        monitor(n, model, optimizer)
        step(model, optimizer)
    return monitor


def in_fit(optimizer, dtype):
    loss = lambda tree: bowl(tree["a"], tree["b"])
    monitor = sx.StabilityMonitor(loss, optimizer, every=EVERY, tol=1e-6, wide_every=1)
    sx.fit(loss, optimizer, initial=dict(zip("ab", start(dtype), strict=True)), steps=STEPS, monitor=monitor)
    return monitor


def within(optimizer, dtype):
    watched, loss = sx.watch(optimizer, every=EVERY), lambda tree: bowl(tree["a"], tree["b"])
    tree = dict(zip("ab", start(dtype), strict=True))

    @jax.jit
    def run(tree, state):
        def step(carry, _):
            tree, state = carry
            value, slope = jax.value_and_grad(loss)(tree)
            updates, state = watched.update(slope, state, tree, value=value, value_fn=loss)
            return (optax.apply_updates(tree, updates), state), None

        return jax.lax.scan(step, (tree, state), length=STEPS)[0]

    monitor = sx.StabilityMonitor()
    monitor.read(run(tree, watched.init(tree))[1])
    return monitor


LOOPS = {"equinox": in_equinox, "nnx.Optimizer": in_flax, "fit": in_fit, "watch": within}


def matrices(tree):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)


def parts(tree):
    return jax.tree.map(lambda leaf: "on" if leaf.ndim > 1 else "off", tree)


# The ratio at step 40; None where no formula is at hand, and the loops are held against one another alone.
OPTIMISERS = {
    "sgd": (lambda: optax.sgd(0.03), 50 * 0.03 / 2),
    "cosine": (lambda: optax.sgd(optax.cosine_decay_schedule(0.02, 60)), 25 * 0.02 * (1 + np.cos(2 * np.pi / 3)) / 2),
    "decay": (lambda: optax.sgd(optax.exponential_decay(0.02, 10, 0.5)), 25 * 0.02 / 16),
    "frozen": (lambda: optax.partition({"on": optax.sgd(0.03), "off": optax.set_to_zero()}, parts), 10 * 0.03),
    "steps": (lambda: optax.MultiSteps(optax.sgd(0.03, 0.9), 4), 50 * 0.03 / 3.8),
    "masked": (lambda: optax.chain(optax.masked(optax.add_decayed_weights(3.0), matrices), optax.sgd(0.02)), 25 * 0.02),
    "adamw": (lambda: optax.adamw(0.01, weight_decay=0.1, mask=matrices), None),
    "clipped": (lambda: optax.chain(optax.clip_by_global_norm(1e3), optax.sgd(0.03)), 50 * 0.03 / 2),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_loop_reads_the_same_and_the_closed_form(name, dtype):
    build, expected = OPTIMISERS[name]
    found = {}
    for loop, run in LOOPS.items():
        monitor = run(build(), dtype)
        assert monitor.off is None, (loop, monitor.off)
        report = monitor.report()
        found[loop] = float(report.ratios[report.steps.tolist().index(40)])
    # The size of a step is rounded to the precision of the parameters; `watch` takes its direction by power iteration.
    error = 2 * float(jnp.finfo(dtype).eps) + 1e-3
    reference = found["equinox"] if expected is None else expected
    np.testing.assert_allclose(list(found.values()), reference, rtol=error, err_msg=str(found))


CLIMBING = {
    "scale": lambda: optax.scale(1e-3),
    "adam": lambda: optax.chain(optax.scale_by_adam(), optax.scale(1e-3)),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", CLIMBING)
def test_every_loop_names_an_optimiser_that_climbs_first(name, dtype):
    for loop, run in LOOPS.items():
        report = run(CLIMBING[name](), dtype).report()
        assert report.events and report.events[0].kind == "climbing", (loop, [event.kind for event in report.events])


@pytest.mark.parametrize("name", ["lion", "signs"])
def test_every_loop_goes_on_with_an_optimiser_without_an_edge_or_refuses_it_before_it_begins(name):
    build = {"lion": lambda: optax.lion(1e-3), "signs": lambda: optax.sign_sgd(1e-3)}[name]
    for run in LOOPS.values():
        try:
            monitor = run(build(), jnp.float32)
        except ValueError as error:
            assert "expected an optimiser with an edge" in str(error)
        else:
            assert monitor.off is not None or not np.isfinite(monitor.report().ratios).any()
