"""The instrument in anybody's loop: each optimiser, library and precision beside a closed form; it ends no run."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

import separatrix as sx

CURVATURES = np.array([1.0, 7.0, 50.0])
TREE = {"a": jnp.ones(3), "b": jnp.ones(3)}


@pytest.fixture(autouse=True)
def climate_of_users():
    """JAX as it comes: optax and Flax are written for it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def bowls(x):
    """Curvature 50 at most in part a, 20 in part b."""
    scale = jnp.asarray(CURVATURES, x["a"].dtype)
    return (jnp.sum(scale * x["a"] ** 2) + 0.4 * jnp.sum(scale * x["b"] ** 2)) / 2


def ratios(optimizer, steps=21, tree=TREE, loss=bowls, every=20, **settings):
    """(ratios, monitor) of a plain loop."""
    # Wide each time: one program.
    monitor = sx.StabilityMonitor(loss, optimizer, every=every, **{"tol": 1e-6, "wide_every": 1, **settings})
    x, state = tree, optimizer.init(tree)
    step = jax.jit(lambda x, state: optimizer.update(jax.grad(loss)(x), state, x))
    for n in range(steps):
        monitor(n, x, state)
        updates, state = step(x, state)
        x = optax.apply_updates(x, updates)
    return monitor.report().ratios, monitor


HALF = {"a": True, "b": False}
CASES = {
    # At its own step: the rate of a cosine, where one probe at step 64 would find it ended.
    "schedule": (
        lambda: optax.sgd(optax.cosine_decay_schedule(0.02, 60)),
        [25 * 0.02, 25 * 0.02 * (1 + np.cos(np.pi / 3)) / 2],
    ),
    "weight decay": (
        lambda: optax.chain(optax.add_decayed_weights(3.0), optax.sgd(0.02)),
        [50 * 0.02 / (2 - 0.06)] * 2,
    ),
    "masked decay": (
        lambda: optax.chain(optax.add_decayed_weights(3.0, mask={"a": False, "b": True}), optax.sgd(0.02)),
        [25 * 0.02] * 2,
    ),
    "frozen part": (
        lambda: optax.partition({"on": optax.sgd(0.03), "off": optax.set_to_zero()}, {"a": "off", "b": "on"}),
        [10 * 0.03] * 2,
    ),
    "two optimisers": (
        lambda: optax.partition({"p": optax.sgd(0.01), "q": optax.sgd(0.09, 0.9)}, {"a": "p", "b": "q"}),
        [20 * 0.09 / 3.8] * 2,
    ),
    "accumulated mean": (lambda: optax.MultiSteps(optax.sgd(0.03, 0.9), 4), [0.03 * 50 / 3.8] * 2),
    "accumulated sum": (
        lambda: optax.MultiSteps(optax.sgd(0.005), 4, use_grad_mean=False).gradient_transformation(),
        [0.02 * 25] * 2,
    ),
    # Where nothing moves the ratio is 0, and the search of the next reading begins anew.
    "warm-up from nothing": (lambda: optax.sgd(optax.linear_schedule(0.0, 0.04, 40)), [0.0, 25 * 0.02]),
    "rate in the state": (lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=0.03), [25 * 0.03] * 2),
    "finite steps alone": (lambda: optax.apply_if_finite(optax.sgd(0.03), 3), [25 * 0.03] * 2),
}  # fmt: skip


QUICK = {"schedule", "warm-up from nothing", "weight decay", "frozen part", "accumulated mean"}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_ratio_is_the_closed_form_at_the_run_s_own_step(name):
    build, expected = CASES[name]
    found, monitor = ratios(build())
    assert monitor.off is None
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_masked_adamw_is_read_in_its_own_metric():
    # eps = 1 and a gradient of 1e-30 leave v at 0: R = 0.01 (1 - b1)/(1 - b1^21), and a decays by the rate times 5.
    tree = jax.tree.map(lambda leaf: 1e-30 * leaf, TREE)
    found, _ = ratios(optax.adamw(0.01, eps=1.0, weight_decay=5.0, mask=HALF), tree=tree)
    gain = 0.01 * 0.1 / (1 - 0.9**21)
    # G(-1) = gain/(1 + b1); the mean decays apart from the curvature, so V(-1) = -0.05.
    assert found[-1] == pytest.approx(50 * gain / 1.9 / (2 - 0.05), rel=1e-5)


@pytest.mark.parametrize(
    "build",
    [lambda: optax.scale(0.01), lambda: optax.chain(optax.scale_by_adam(), optax.scale(1e-2))],
    ids=["plain", "Adam"],
)
def test_an_optimiser_that_climbs_is_named_first(build):
    _, monitor = ratios(build(), steps=41)
    assert monitor.events[0].kind == "climbing" and monitor.report().state == "climbing"
    assert monitor.events[0].finding.evidence == pytest.approx(1.0) and "scale(-learning_rate)" in str(
        monitor.events[0]
    )


def test_parts_without_updates_are_named_once():
    _, monitor = ratios(CASES["frozen part"][0](), steps=61)
    (event,) = monitor.events
    assert event.kind == "without updates" and "['a']" in event.finding.cause and "['b']" not in event.finding.cause


REFUSED = {
    "signs of all parts": lambda: optax.partition(
        {"p": optax.lion(1e-3), "q": optax.sign_sgd(1e-3)}, {"a": "p", "b": "q"}
    ),
    "orthogonal factors": lambda: optax.contrib.muon(1e-3),
    "line search": lambda: optax.lbfgs(),
    "gathered inside": lambda: optax.chain(
        optax.clip(1.0), optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
    ),
}


@pytest.mark.parametrize(
    "name", [name if name != "orthogonal factors" else pytest.param(name, marks=pytest.mark.slow) for name in REFUSED]
)
def test_what_has_no_edge_is_said_once_and_the_run_goes_on(name):
    optimizer = REFUSED[name]()
    tree = {"a": jnp.ones((2, 3)), "b": 0.5 * jnp.ones((2, 3))}
    loss = lambda x: jnp.sum(x["a"] ** 2 + x["b"] ** 2)
    monitor = sx.StabilityMonitor(loss, optimizer, every=10)
    state, heard = optimizer.init(tree), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(41):
            slope = jax.tree.map(lambda leaf, n=n: (1 + 0.1 * n) * leaf, tree)
            monitor(n, tree, state)
            if name != "line search":
                _, state = optimizer.update(slope, state, tree)
        heard = [str(one.message) for one in caught if "StabilityMonitor" in str(one.message)]
    assert len(heard) == 1 and "switched off" in heard[0] and "unwatched" in heard[0]
    assert monitor.report().state == "not watched" and "switched off" in monitor.report().cautions[-1]


@pytest.mark.parametrize(
    ("build", "words"),
    [(optax.lion, "steps along signs"), (optax.lamb, "by a given length"), (optax.fromage, "does not shrink"),
     (optax.novograd, "divides by its length")],
    ids=["signs", "trust ratios", "given length", "layer norms"],
)  # fmt: skip
def test_what_never_has_an_edge_is_refused_before_a_run(build, words):
    with pytest.raises(ValueError, match=words):
        sx.StabilityMonitor(bowls, build(1e-3))


@pytest.mark.parametrize(
    ("build", "words"),
    [(optax.lion, "steps along signs"), (optax.lamb, "trust ratios"), (optax.fromage, "does not shrink")],
    ids=["signs", "trust ratios", "given length"],
)
def test_a_part_without_an_edge_is_skipped_in_words(build, words):
    labels = {"a": "p", "b": "q"}
    optimizer = optax.partition({"p": build(1e-3), "q": optax.sgd(0.03, 0.9)}, labels)
    found, monitor = ratios(optimizer, steps=41)
    # Curvature 20 in part b, which alone has an edge. LAMB's moments have no scale before its first step.
    np.testing.assert_allclose(found, 0.03 * 20 / 3.8, rtol=1e-6)
    (event,) = monitor.events
    assert event.kind == "without an edge" and event.step == (40 if build is optax.lamb else 20)
    assert "['a']" in event.finding.cause and "['b']" not in event.finding.cause and words in event.finding.cause
    # Watched from within: the same arrays, the same words.
    watcher, x = sx.watch(optimizer), TREE
    state = watcher.init(x)
    step = jax.jit(lambda x, state: watcher.update(jax.grad(bowls)(x), state, x))
    for _ in range(41):
        updates, state = step(x, state)
        x = optax.apply_updates(x, updates)
    within = sx.StabilityMonitor()
    within.read(state)
    assert [(one.kind, one.finding.cause) for one in within.events] == [("without an edge", event.finding.cause)]


def test_a_loss_that_fails_ends_no_run():
    monitor = sx.StabilityMonitor(lambda x: x["missing"], optax.sgd(0.1))
    with pytest.warns(RuntimeWarning, match="switched off at step 0"):
        monitor(0, TREE, optax.sgd(0.1).init(TREE))
    monitor(20, TREE, None)
    assert not monitor.events


def test_a_state_of_another_optimiser_is_refused_in_words():
    monitor = sx.StabilityMonitor(bowls, optax.sgd(0.1))
    with pytest.warns(RuntimeWarning, match=r"not those of optimizer.init\(parameters\)"):
        monitor(0, TREE, optax.adam(0.1).init(TREE))


INPUTS = jax.random.normal(jax.random.key(1), (32, 4), jnp.float32)
LABELS = jnp.argmax(INPUTS[:, :3], axis=1)


class Network(nnx.Module):
    """4 - 5 - 3 with a batch normalisation."""

    def __init__(self, rngs):
        self.first = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.last = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.norm(self.first(x))))


def cross_entropy(model, inputs, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels))


def dense_ratio(loss, parameters, size):
    """Of a dense Hessian: its largest eigenvalue by the size of a step of momentum 0.9 over 3.8."""
    flat, back = ravel_pytree(parameters)
    return size * float(jnp.linalg.eigvalsh(jax.hessian(lambda p: loss(back(p)))(flat))[-1]) / 3.8


@nnx.jit
def nnx_step(model, optimizer, inputs, labels):
    slope = nnx.grad(cross_entropy)(model, inputs, labels)
    optimizer.update(model, slope)


def test_the_standard_loop_of_flax_by_its_state_by_its_module_and_watched_from_within():
    model = Network(nnx.Rngs(0))
    transformation = optax.sgd(0.1, 0.9)
    optimizer = nnx.Optimizer(model, sx.watch(transformation), wrt=nnx.Param)
    graph, _, rest = nnx.split(model, nnx.Param, ...)
    by_state = sx.StabilityMonitor(lambda p, x, y: cross_entropy(nnx.merge(graph, p, rest), x, y), optimizer, tol=1e-4)
    by_module, within = sx.StabilityMonitor(cross_entropy, optimizer, tol=1e-4), sx.StabilityMonitor()
    for n in range(41):
        by_state(n, nnx.state(model, nnx.Param), optimizer.opt_state, INPUTS, LABELS)
        by_module(n, model, optimizer, INPUTS, LABELS)
        if n == 40:
            graph_now, parameters, rest_now = nnx.split(model, nnx.Param, ...)
        nnx_step(model, optimizer, INPUTS, LABELS)
    within.read(optimizer)
    assert by_state.off is None and by_module.off is None and within.off is None
    np.testing.assert_allclose(by_state.report().ratios, by_module.report().ratios, rtol=1e-3)
    # A copy each time: the normalisation writes its statistics, in the trace in which they were made.
    loss = lambda p: cross_entropy(nnx.merge(graph_now, p, jax.tree.map(jnp.array, rest_now)), INPUTS, LABELS)
    truth = dense_ratio(loss, parameters, 0.1)
    assert by_module.report().ratios[-1] == pytest.approx(truth, rel=5e-3)
    # Along the updates alone it is a bound from below.
    assert within.report().steps.tolist() == [20, 40] and np.all(within.report().ratios <= 1.02 * truth)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_half_precision_is_read_in_single(dtype):
    tree = jax.tree.map(lambda leaf: leaf.astype(dtype), TREE)
    found, monitor = ratios(optax.sgd(0.03, 0.9), tree=tree, tol=0.03)
    assert monitor.off is None
    # The learning rate itself is rounded to the precision of the parameters.
    np.testing.assert_allclose(found, 0.03 * 50 / 3.8, rtol=float(jnp.finfo(dtype).eps))


class Odd(eqx.Module):
    """With whatever else a model may hold."""

    weight: jax.Array
    empty: list
    count: jax.Array
    key: jax.Array
    name: str = eqx.field(static=True)
    activation: object

    def __call__(self, x):
        return self.activation(self.weight @ x)


def test_integers_keys_functions_and_empty_parts_stay_out():
    model = Odd(jnp.eye(3), [], jnp.asarray(3), jax.random.key(0), "odd", jax.nn.relu)
    optimizer = optax.sgd(0.3)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    loss = lambda model, x: jnp.sum(model(x) ** 2) / 2
    monitor = sx.StabilityMonitor(loss, optimizer, tol=1e-8)
    monitor(0, model, state, jnp.array([1.0, 2.0, 2.0]))
    # Hessian: x x^T for each row of the weight, of length 9.
    assert monitor.off is None and monitor.report().ratios[0] == pytest.approx(0.3 * 9 / 2, rel=1e-6)


def test_a_state_made_of_the_whole_model_fits_too():
    tree = {"w": jnp.ones(3), "n": jnp.arange(3)}
    optimizer = optax.sgd(0.03, 0.9)
    loss = lambda x: jnp.sum(CURVATURES * x["w"] ** 2) / 2
    monitor = sx.StabilityMonitor(loss, optimizer, tol=1e-8)
    monitor(0, tree, optimizer.init(tree))
    assert monitor.off is None and monitor.report().ratios[0] == pytest.approx(0.03 * 50 / 3.8, rel=1e-6)


def test_complex_parameters():
    # |z|^2 c/2 has curvature c in both coordinates; the step follows the conjugate of JAX's gradient.
    loss = lambda z: jnp.sum(jnp.asarray([3.0, 10.0]) * jnp.abs(z) ** 2) / 2
    monitor = sx.StabilityMonitor(loss, optax.sgd(0.1), tol=1e-8)
    z = jnp.array([1.0 + 2.0j, 0.5 - 1.0j])
    monitor(0, z, optax.sgd(0.1).init(z))
    assert monitor.off is None and monitor.report().ratios[0] == pytest.approx(0.5, rel=1e-6)


def perceptron(parameters, inputs, labels):
    hidden = jax.nn.relu(inputs @ parameters["w"] + parameters["b"])
    outputs = hidden @ parameters["v"] + parameters["c"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))


def start(bias=0.0):
    keys = jax.random.split(jax.random.key(2), 2)
    return {
        "w": 0.5 * jax.random.normal(keys[0], (4, 16)), "b": jnp.full(16, bias),
        "v": 0.5 * jax.random.normal(keys[1], (16, 3)), "c": jnp.zeros(3),
    }  # fmt: skip


def test_a_dead_network_is_told():
    monitor, x, optimizer = sx.StabilityMonitor(perceptron, optax.sgd(0.01)), start(-100.0), optax.sgd(0.01)
    labels = jnp.arange(32) % 3
    for n in range(0, 81, 20):
        monitor(n, x, optimizer.init(x), INPUTS, labels)
    (event,) = [event for event in monitor.events if event.kind == "dead network"]
    # All but the last three biases have a gradient of 0.
    size = 4 * 16 + 16 + 16 * 3
    assert event.step == 40 and event.finding.evidence == pytest.approx(size / (size + 3))


def test_a_loss_that_stays_at_the_logarithm_of_the_classes_is_told():
    monitor, x = sx.StabilityMonitor(perceptron, optax.sgd(1e-9)), jax.tree.map(lambda leaf: 1e-3 * leaf, start())
    for n in range(0, 81, 20):
        monitor(n, x, optax.sgd(1e-9).init(x), INPUTS, jnp.arange(32) % 3)
    (event,) = monitor.events
    assert event.kind == "dead network" and "ln(3)" in event.finding.cause


@pytest.mark.parametrize("passed", [True, False], ids=["losses passed", "losses not passed"])
def test_a_jump_in_the_first_steps_is_told_at_once(passed):
    optimizer, x = optax.adam(3.0), start()
    state, monitor = optimizer.init(x), sx.StabilityMonitor(perceptron, optimizer)
    step = jax.jit(jax.value_and_grad(perceptron))
    losses = []
    for n in range(3):
        value, slope = step(x, INPUTS, LABELS)
        monitor(n, x, state, INPUTS, LABELS, **({"loss": value} if passed else {}))
        updates, state = optimizer.update(slope, state, x)
        x = optax.apply_updates(x, updates)
        losses.append(float(value))
    assert losses[1] > 3 * losses[0]
    assert (monitor.events[0].step, monitor.events[0].kind) == (1, "jump")
    assert monitor.events[0].finding.evidence == pytest.approx(losses[1] / losses[0], rel=1e-5)
