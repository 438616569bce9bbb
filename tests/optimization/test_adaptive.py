"""Native methods against optax step for step, or against the paper's update written out; where Adam fails."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import optimization

STEPS = 50
START = {"w": jnp.array([0.9, -1.3, 0.5]), "b": jnp.array([[0.4], [-0.2]])}


def loss(p):
    """Neither quadratic nor symmetric, on a tree."""
    x, b = p["w"], p["b"]
    return (
        0.25 * jnp.sum(x**4)
        + 0.5 * x[0] * x[1]
        + jnp.cosh(x[2] - 0.3)
        + 0.7 * jnp.sum((b - x[0]) ** 2)
        + jnp.sin(b[0, 0] * x[1])
    )


PAIRS = {
    "Adam": (lambda: optimization.Adam(loss, 0.03, 0.8, 0.95, 1e-6), optax.adam(0.03, 0.8, 0.95, 1e-6)),
    "Adam without momentum": (lambda: optimization.Adam(loss, 0.03, b1=0.0), optax.adam(0.03, b1=0.0)),
    "Adam, optax's defaults": (lambda: optimization.Adam(loss, 1e-3), optax.adam(1e-3)),
    "AdamW": (lambda: optimization.AdamW(loss, 0.03, weight_decay=0.2), optax.adamw(0.03, weight_decay=0.2)),
    "AdamW, optax's defaults": (lambda: optimization.AdamW(loss, 0.03), optax.adamw(0.03)),
    "Nadam": (lambda: optimization.Nadam(loss, 0.03, 0.8), optax.nadam(0.03, 0.8)),
    "RMSprop": (lambda: optimization.RMSprop(loss, 0.02, initial_scale=0.3), optax.rmsprop(0.02, initial_scale=0.3)),
    "Adagrad": (lambda: optimization.Adagrad(loss, 0.1), optax.adagrad(0.1)),
    "Adadelta": (lambda: optimization.Adadelta(loss, 0.7), optax.adadelta(0.7)),
    "Lion": (lambda: optimization.Lion(loss, 0.01, weight_decay=0.1), optax.lion(0.01, weight_decay=0.1)),
    "signSGD": (lambda: optimization.SignDescent(loss, 0.01), optax.sign_sgd(0.01)),
    "AggMo of one momentum": (lambda: optimization.AggMo(loss, 0.02, (0.9,)), optax.sgd(0.02, 0.9)),
    "QHAdam with nu = 1": (lambda: optimization.QHAdam(loss, 0.03, 0.9, nu1=1.0), optax.adam(0.03)),
    "QHM of nu = 0": (lambda: optimization.QHM(loss, 0.05, nu=0.0), optax.sgd(0.05)),
}


VARIANTS = {"Adam without momentum", "Adam, optax's defaults", "AdamW, optax's defaults", "QHM of nu = 0"}


def some(names, count):
    """The first few; the others run with the slow ones."""
    return [name if i < count else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(names)]


def position(state):
    return getattr(state, "position", state)


def assert_same_orbit(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in VARIANTS else n for n in PAIRS])
def test_equals_optax_step_for_step(name):
    build, transformation = PAIRS[name]
    ours, theirs = build(), sx.from_optax(loss, transformation)
    path = sx.evolve(ours, ours.init(START), steps=STEPS)
    assert path.outcome == "completed"
    assert_same_orbit(position(path.states), sx.evolve(theirs, theirs.init(START), steps=STEPS).states.parameters)


def test_moments_are_those_of_optax():
    ours, theirs = optimization.Adam(loss, 0.03), sx.from_optax(loss, optax.adam(0.03))
    mine = sx.evolve(ours, ours.init(START), steps=STEPS).final
    inner = sx.evolve(theirs, theirs.init(START), steps=STEPS).final.optimizer_state[0]
    assert_same_orbit((mine.mean, mine.square), (inner.mu, inner.nu))


def on_vector(x):
    return loss({"w": x[:3], "b": x[3:, None]})


VECTOR = np.array([0.9, -1.3, 0.5, 0.4, -0.2])
slope = jax.jit(jax.grad(on_vector))


def test_qhadam_is_the_papers_update():
    """Ma & Yarats (2019), equations for QHAdam, in NumPy."""
    eta, b1, b2, nu1, nu2, eps = 0.03, 0.9, 0.95, 0.7, 0.8, 1e-6
    x, m, v = VECTOR.copy(), np.zeros(5), np.zeros(5)
    for n in range(1, STEPS + 1):
        g = np.asarray(slope(x))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        mhat, vhat = m / (1 - b1**n), v / (1 - b2**n)
        x = x - eta * ((1 - nu1) * g + nu1 * mhat) / (np.sqrt((1 - nu2) * g**2 + nu2 * vhat) + eps)
    method = optimization.QHAdam(on_vector, eta, b1, b2, eps, nu1, nu2)
    ours = sx.evolve(method, method.init(jnp.asarray(VECTOR)), steps=STEPS).final.position
    np.testing.assert_allclose(ours, x, rtol=1e-12)


def test_qhm_is_the_papers_update():
    eta, beta, nu = 0.1, 0.9, 0.7
    x, m = VECTOR.copy(), np.zeros(5)
    for _ in range(STEPS):
        g = np.asarray(slope(x))
        m = beta * m + (1 - beta) * g
        x = x - eta * ((1 - nu) * g + nu * m)
    method = optimization.QHM(on_vector, eta, beta, nu)
    np.testing.assert_allclose(
        sx.evolve(method, method.init(jnp.asarray(VECTOR)), steps=STEPS).final.position, x, rtol=1e-12
    )


def test_qhm_with_nu_equal_to_its_momentum_is_nesterov():
    """Ma & Yarats, section 4.1: Nesterov's method as optax holds it, with the averaged gradient."""
    eta, beta = 0.1, 0.8
    quasi, nesterov = (
        optimization.QHM(loss, eta, beta, beta),
        sx.from_optax(loss, optax.sgd(eta * (1 - beta), beta, nesterov=True)),
    )
    ours = sx.evolve(quasi, quasi.init(START), steps=STEPS).final.position
    assert_same_orbit(ours, sx.evolve(nesterov, nesterov.init(START), steps=STEPS).final.parameters)


def test_aggmo_is_the_papers_update():
    """Lucas et al. (2019), section 3, in NumPy."""
    eta, momenta = 0.05, np.array([0.0, 0.9, 0.99])
    x, v = VECTOR.copy(), np.zeros((3, 5))
    for _ in range(STEPS):
        v = momenta[:, None] * v - np.asarray(slope(x))
        x = x + eta / 3 * v.sum(axis=0)
    method = optimization.AggMo(on_vector, eta)
    np.testing.assert_allclose(
        sx.evolve(method, method.init(jnp.asarray(VECTOR)), steps=STEPS).final.position, x, rtol=1e-12
    )


@pytest.mark.parametrize("name", some(["Adam", "AggMo of one momentum", "Nadam", "Adagrad", "Lion"], 2))
def test_float32_stays_float32_and_near(name):
    ours = PAIRS[name][0]()
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), START)
    final = position(sx.evolve(ours, ours.init(single), steps=STEPS).final)
    exact = position(sx.evolve(ours, ours.init(START), steps=STEPS).final)
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(exact), strict=True):
        assert a.dtype == jnp.float32
        # Fifty steps of roundings of 6e-8; a sign taken within a rounding of zero may move by one step more.
        np.testing.assert_allclose(a, b, atol=0.03 if name == "Lion" else 2e-5)


# Reddi, Kale & Kumar (2018), theorem 1: f = C x at every third step and -x else, on [-1, 1]; b1 = 0, b2 = 1/(1 + C^2),
# steps alpha/sqrt(n). The mean (C - 2)/3 x is least at -1; Adam goes to +1, the worst point.
PULL = 3.0


def projected(slope, transformation):
    """One step on f = slope x, brought back into [-1, 1]."""
    descent = sx.from_optax(lambda x: slope * jnp.sum(x), transformation)

    def step(n, state):
        parameters, inner = descent.step(n, state)
        return sx.OptimizerState(jnp.clip(parameters, -1.0, 1.0), inner)

    return sx.as_map(step)


def schedule(count):
    return 0.5 / jnp.sqrt(count + 1.0)


@pytest.mark.parametrize(("name", "rule", "end"), [
    ("Adam", lambda b2: optax.adam(schedule, b1=0.0, b2=b2), 1.0),
    ("AMSGrad", lambda b2: optax.amsgrad(schedule, b1=0.0, b2=b2), -1.0),
])  # fmt: skip
def test_adam_fails_and_amsgrad_works_where_a_rare_large_gradient_matters(name, rule, end):
    transformation = rule(1 / (1 + PULL**2))
    one, two, three = (projected(slope, transformation) for slope in (PULL, -1.0, -1.0))
    period = sx.compose(three, two, one)
    start = sx.OptimizerState(jnp.zeros(1), transformation.init(jnp.zeros(1)))
    path = sx.evolve(period, start, steps=3000, save=1000)
    assert float(path.final.parameters[0]) == pytest.approx(end, abs=0.02), (name, path.states.parameters[:, 0])


def test_native_adam_fails_there_too():
    """Constant step: per period +C, -1, -1 normalised by b2 = 0.1 is a move towards +1."""

    def step(n, state):
        slope = jnp.where(n % 3 == 0, PULL, -1.0)
        adam = optimization.Adam(lambda x: slope * jnp.sum(x), 1e-3, 0.0, 1 / (1 + PULL**2))
        moved = adam.step(n, state)
        return moved._replace(position=jnp.clip(moved.position, -1.0, 1.0))

    start = optimization.Adam(loss, 1e-3).init(jnp.zeros(1))
    path = sx.evolve(sx.as_map(step), start, steps=12_000, save="last")
    assert float(path.final.position[0]) == pytest.approx(1.0, abs=5e-3)


METHODS = {
    "AdaMax": optax.adamax(0.02),
    "AMSGrad": optax.amsgrad(0.02),
    "RMSprop, centred, with momentum": optax.rmsprop(0.01, centered=True, momentum=0.5),
    "NadamW": optax.nadamw(0.02),
}


@pytest.mark.parametrize("name", some(METHODS, 2))
def test_the_others_come_from_optax_and_reach_the_minimum(name):
    """To a tenth of the learning rate, at which adaptive methods go on moving."""
    theirs = sx.from_optax(optimization.Quadratic(jnp.array([1.0, 30.0])), METHODS[name])
    path = sx.evolve(theirs, theirs.init(jnp.array([1.0, -0.7])), steps=2000, save="last")
    assert float(jnp.max(jnp.abs(path.final.parameters))) < 0.01


NATIVE = {
    "Adam": lambda f: optimization.Adam(f, 0.02),
    "AdamW": lambda f: optimization.AdamW(f, 0.02, weight_decay=0.0),
    "Nadam": lambda f: optimization.Nadam(f, 0.02),
    "QHAdam": lambda f: optimization.QHAdam(f, 0.02),
    "QHM": lambda f: optimization.QHM(f, 0.05, 0.9, 0.7),
    "AggMo": lambda f: optimization.AggMo(f, 0.02, (0.0, 0.9)),
    "RMSprop": lambda f: optimization.RMSprop(f, 0.005),
    "Adagrad": lambda f: optimization.Adagrad(f, 0.5),
    "Adadelta": lambda f: optimization.Adadelta(f, 1.0),
    "Lion": lambda f: optimization.Lion(f, 0.002, weight_decay=0.0),
    "signSGD": lambda f: optimization.SignDescent(f, 0.002),
}


@pytest.mark.parametrize("name", some(NATIVE, 2))
def test_every_native_method_reaches_the_minimum_of_an_ill_conditioned_quadratic(name):
    method = NATIVE[name](optimization.Quadratic(jnp.array([1.0, 30.0])))
    final = sx.evolve(method, method.init(jnp.array([1.0, -0.7])), steps=3000, save="last").final
    # Those that divide by a root end within their step size of it, signs within a few steps; Adadelta, which raises its
    # own step until the edge, goes on at 0.026.
    assert float(jnp.max(jnp.abs(position(final)))) < 0.03


@pytest.mark.parametrize(("build", "words"), [
    (lambda: optimization.Adam(loss, 0.1, b1=1.0), r"Adam: b1\n  got 1\.0, expected a decay in \[0, 1\)"),
    (lambda: optimization.AdamW(loss, 0.1, b2=-0.1), r"AdamW: b2"),
    (lambda: optimization.RMSprop(loss, 0.0), r"RMSprop: learning_rate\n  got 0\.0, expected a finite number above 0"),
    (lambda: optimization.QHM(loss, 0.1, nu=1.5), r"QHM: nu\n  got 1\.5, expected a number from 0 to 1"),
    (lambda: optimization.AggMo(loss, 0.1, 0.9), r"AggMo: momenta\n  got shape \(\), expected one decay for each velocity"),
    (lambda: optimization.AggMo(loss, 0.1, (0.9, 1.1)), r"AggMo: momenta"),
    (lambda: optimization.Lion(loss, 0.1, b1=2.0), r"Lion: b1\n  got 2\.0, expected a number from 0 to 1"),
])  # fmt: skip
def test_values_out_of_range_are_refused_by_name(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_bare_parameters_are_no_state():
    with pytest.raises(TypeError, match=r"expected Moments\(position, mean, square\)"):
        optimization.Adam(on_vector, 0.1).step(0, jnp.asarray(VECTOR))


def test_parameters_without_a_gradient_are_refused():
    with pytest.raises(TypeError, match="floating-point arrays"):
        optimization.Adam(on_vector, 0.1).init(jnp.arange(5))
