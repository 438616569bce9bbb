"""Stability edges: the formula against the curvature at which an orbit really stops contracting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import optimization

# name: the method on an objective, and the diagonal that its preconditioner stays at. Adaptive methods are held at a
# frozen preconditioner: with eps = 1 and a start of 1e-100 their averages of squares do not show in it.
FROZEN = 1.0
METHODS = {
    "gradient descent": lambda f: optimization.GradientDescent(f, 0.1),
    "heavy ball": lambda f: optimization.HeavyBall(f, 0.1, 0.9),
    "Nesterov": lambda f: optimization.Nesterov(f, 0.1, 0.9),
    "QHM": lambda f: optimization.QHM(f, 0.1, 0.9, 0.7),
    "AggMo": lambda f: optimization.AggMo(f, 0.1, (0.0, 0.9, 0.99)),
    "RMSprop": lambda f: optimization.RMSprop(f, 0.1, eps=FROZEN),
    "Adadelta": lambda f: optimization.Adadelta(f, 0.1, eps=FROZEN),
    "Adagrad": lambda f: optimization.Adagrad(f, 0.1, initial_accumulator=0.0, eps=FROZEN),
    "Adam": lambda f: optimization.Adam(f, 0.1, eps=FROZEN),
    "AdamW": lambda f: optimization.AdamW(f, 0.1, eps=FROZEN, weight_decay=3.0),
    "Nadam": lambda f: optimization.Nadam(f, 0.1, eps=FROZEN),
    "QHAdam": lambda f: optimization.QHAdam(f, 0.1, 0.9, nu1=0.7, eps=FROZEN),
}
# The rest with the slow ones: their formulas are tied to these by `test_special_cases_agree` and by name.
QUICK = {"heavy ball", "AggMo", "Adam", "AdamW", "QHAdam"}
NAMES = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)


def measured_edge(build, edge):
    """Bisection on whether an orbit grows over 300 steps, past the bias corrections of b1, or leaves what is frozen."""

    @jax.jit
    def grows(curvature):
        method = build(optimization.Quadratic(curvature))
        path = sx.evolve(method, method.init(jnp.array([1e-100])), steps=1200, save=lambda s: _position(s))
        size = jnp.abs(path.states[:, 0])
        return ~((jnp.max(size[900:]) <= jnp.max(size[600:900])) & (jnp.max(size) < 1e-20))

    low, high = jnp.asarray(0.5 * edge), jnp.asarray(1.5 * edge)
    assert bool(grows(high)) and not bool(grows(low))
    for _ in range(16):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if bool(grows(middle)) else (middle, high)
    return float(0.5 * (low + high))


def _position(state):
    return getattr(state, "position", state)


@NAMES
def test_edge_is_where_an_orbit_stops_contracting(name):
    method = METHODS[name](optimization.Quadratic(1.0))
    state = method.init(jnp.array([1e-100]))
    diagonal = optimization.preconditioner(method, state)
    # Of H itself where nothing is divided by; else of d^{-1} H.
    edge = float(optimization.stability_edge(method)) * (1.0 if diagonal is None else float(diagonal[0]))
    # Adam's mean still carries 1 - 0.999^900 of its correction of v, which eps hides; the rest is the bisection's 1e-5.
    assert measured_edge(METHODS[name], edge) == pytest.approx(edge, rel=2e-4)


@pytest.mark.parametrize("frequency", ["real", "any"])
def test_no_pair_of_multipliers_leaves_the_circle_before(frequency):
    """AggMo at random momenta: below the edge all multipliers are inside, above it one is outside, and it is real."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        momenta = tuple(generator.uniform(0.0, 0.999, size=generator.integers(1, 6)))
        for factor in (0.3, 0.7, 0.999, 1.001):
            method = optimization.AggMo(optimization.Quadratic(1.0), 1.0, momenta)
            edge = float(optimization.stability_edge(method))
            multipliers = aggregated_multipliers(factor * edge, np.array(momenta))
            worst = multipliers[np.argmax(np.abs(multipliers))]
            if frequency == "any":
                assert (abs(worst) < 1) == (factor < 1)
            elif factor > 1:
                assert abs(worst.imag) < 1e-12 and worst.real < -1


def aggregated_multipliers(gain, momenta):
    """Eigenvalues of (x, v_1..K) -> (x + (1/K) sum v', v_k' = b_k v_k - gain x), written out."""
    count = momenta.size
    velocities = np.hstack([-gain * np.ones((count, 1)), np.diag(momenta)])
    position = np.hstack([[1.0], np.zeros(count)]) + velocities.mean(axis=0)
    return np.linalg.eigvals(np.vstack([position, velocities]))


def test_known_numbers():
    """Cohen et al. (2021, 2022): 2, 38 for heavy ball and Adam at 0.9 with their conventions; 3.8/2.8 for Nesterov."""
    f = optimization.Quadratic(1.0)
    assert float(optimization.stability_edge(optimization.GradientDescent(f, 0.1))) == pytest.approx(20.0, rel=1e-15)
    assert float(optimization.stability_edge(optimization.HeavyBall(f, 0.1, 0.9))) == pytest.approx(38.0, rel=1e-13)
    assert float(optimization.stability_edge(optimization.Nesterov(f, 0.1, 0.9))) == pytest.approx(
        38.0 / 2.8, rel=1e-13
    )
    assert float(optimization.stability_edge(optimization.Nesterov(f, 0.1))) == pytest.approx(40.0 / 3, rel=1e-13)
    assert float(optimization.stability_edge(optimization.Nesterov(f, 0.1), at=3)) == pytest.approx(30.0 / 2, rel=1e-13)
    assert float(optimization.stability_edge(optimization.RestartedNesterov(f, 0.1))) == pytest.approx(
        40.0 / 3, rel=1e-13
    )
    assert float(optimization.stability_edge(optimization.Adam(f, 1e-3))) == pytest.approx(38_000.0, rel=1e-11)


def test_special_cases_agree():
    """QHM is gradient descent at nu = 0, momentum at 1, Nesterov at nu = b; one momentum aggregated is heavy ball."""
    f, eta, b = optimization.Quadratic(1.0), 0.1, 0.8
    edge = optimization.stability_edge
    np.testing.assert_allclose(
        edge(optimization.QHM(f, eta, b, 0.0)), edge(optimization.GradientDescent(f, eta)), rtol=1e-13
    )
    np.testing.assert_allclose(
        edge(optimization.QHM(f, eta, b, 1.0)), edge(optimization.HeavyBall(f, eta * (1 - b), b)), rtol=1e-13
    )
    np.testing.assert_allclose(
        edge(optimization.QHM(f, eta, b, b)), edge(optimization.Nesterov(f, eta * (1 - b), b)), rtol=1e-13
    )
    np.testing.assert_allclose(
        edge(optimization.AggMo(f, eta, (b,))), edge(optimization.HeavyBall(f, eta, b)), rtol=1e-13
    )
    np.testing.assert_allclose(
        edge(optimization.AdamW(f, eta, b, weight_decay=0.0)), edge(optimization.Adam(f, eta, b)), rtol=1e-13
    )


@pytest.mark.parametrize(("name", "hyperparameters", "native"), [
    ("sgd", {"learning_rate": 0.1}, lambda f: optimization.GradientDescent(f, 0.1)),
    ("sgd", {"learning_rate": 0.1, "momentum": 0.8}, lambda f: optimization.HeavyBall(f, 0.1, 0.8)),
    ("sgd", {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True}, lambda f: optimization.Nesterov(f, 0.1, 0.8)),
    ("rmsprop", {"learning_rate": 0.1, "decay": 0.99}, lambda f: optimization.RMSprop(f, 0.1, 0.99)),
    ("adadelta", {"learning_rate": 0.1}, lambda f: optimization.Adadelta(f, 0.1)),
    ("adam", {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99}, lambda f: optimization.Adam(f, 0.1, 0.8)),
    ("adamw", {"learning_rate": 0.1, "weight_decay": 0.5}, lambda f: optimization.AdamW(f, 0.1, weight_decay=0.5)),
    ("nadam", {"learning_rate": 0.1}, lambda f: optimization.Nadam(f, 0.1)),
    ("amsgrad", {"learning_rate": 0.1}, lambda f: optimization.Adam(f, 0.1)),
    ("adamax", {"learning_rate": 0.1}, lambda f: optimization.Adam(f, 0.1)),
])  # fmt: skip
def test_a_name_of_optax_has_the_edge_of_the_native_method(name, hyperparameters, native):
    ours = optimization.stability_edge(native(optimization.Quadratic(1.0)))
    np.testing.assert_allclose(optimization.stability_edge(name, **hyperparameters), ours, rtol=1e-12)


def test_edge_is_differentiable_and_swept():
    """d/d eta of (2 + 2b)/eta."""
    rate = jax.grad(
        lambda eta: optimization.stability_edge(optimization.HeavyBall(optimization.Quadratic(1.0), eta, 0.9))
    )(0.1)
    assert float(rate) == pytest.approx(-3.8 / 0.1**2, rel=1e-12)
    edges = jax.vmap(lambda eta: optimization.stability_edge("adam", learning_rate=eta))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(edges, [380.0, 190.0], rtol=1e-12)


def bowl(x):
    return jnp.sum(jnp.cosh(x * jnp.array([1.0, 2.0, 3.0]))) + 0.5 * x[0] * x[1]


START = jnp.array([0.5, -0.4, 0.3])
# One run of optax, and what its update has divided the average gradient by, measured from the update itself.
OPTAX = {
    "adam": (optax.adam(0.01), {}, lambda s: s[0].mu),
    "adam inside a chain": (
        optax.chain(optax.clip_by_global_norm(1e9), optax.adam(0.01, b1=0.8, b2=0.9, eps=1e-2)),
        {"b1": 0.8, "b2": 0.9, "eps": 1e-2},
        lambda s: s[1][0].mu,
    ),
    "adamax": (optax.adamax(0.01), {"name": "adamax"}, lambda s: s[0].mu),
    "amsgrad": (optax.amsgrad(0.01), {}, lambda s: s[0].mu),
}


@pytest.mark.parametrize("name", OPTAX)
def test_diagonal_in_an_optax_state_is_what_the_update_divided_by(name):
    transformation, hyperparameters, mean = OPTAX[name]
    method = sx.from_optax(bowl, transformation)
    path = sx.evolve(method, method.init(START), steps=7)
    before, after = path.states.parameters[6], path.final
    diagonal = optimization.preconditioner(method, after, **hyperparameters)
    divided = -0.01 * mean(after.optimizer_state) / (after.parameters - before)
    np.testing.assert_allclose(diagonal, divided, rtol=1e-10)
    np.testing.assert_array_equal(optimization.preconditioner(None, after.optimizer_state, **hyperparameters), diagonal)


RAW = {
    "rmsprop": (optax.rmsprop(0.01), {}),
    "rmsprop, eps outside": (optax.rmsprop(0.01, eps=1e-2, eps_in_sqrt=False), {"eps": 1e-2, "eps_in_sqrt": False}),
    "rmsprop, unbiased": (optax.rmsprop(0.01, bias_correction=True), {"b2": 0.9}),
    "rmsprop, centred": (optax.rmsprop(0.01, centered=True, eps=1e-3), {"eps": 1e-3}),
    "adagrad": (optax.adagrad(0.01), {}),
}


@pytest.mark.parametrize("name", RAW)
def test_diagonal_without_momentum_is_gradient_over_update(name):
    transformation, hyperparameters = RAW[name]
    method = sx.from_optax(bowl, transformation)
    path = sx.evolve(method, method.init(START), steps=7)
    before = path.states.parameters[6]
    divided = -0.01 * jax.grad(bowl)(before) / (path.final.parameters - before)
    np.testing.assert_allclose(optimization.preconditioner(method, path.final, **hyperparameters), divided, rtol=1e-10)


def test_diagonal_of_adadelta_is_that_of_the_next_step_held():
    """u = g/d with the average step of after the update: d = sqrt((v + eps)/(z + eps))."""
    method = sx.from_optax(bowl, optax.adadelta(0.5))
    final = sx.evolve(method, method.init(START), steps=7).final
    inner = jax.tree.leaves(final.optimizer_state, is_leaf=lambda s: hasattr(s, "e_g"))[0]
    expected = jnp.sqrt((inner.e_g + 1e-6) / (inner.e_x + 1e-6))
    np.testing.assert_allclose(optimization.preconditioner(method, final), expected, rtol=1e-13)
    ours = optimization.Adadelta(bowl, 0.5)
    mine = sx.evolve(ours, ours.init(START), steps=7).final
    np.testing.assert_allclose(optimization.preconditioner(ours, mine), expected, rtol=1e-10)


@pytest.mark.parametrize(("native", "transformation"), [
    (lambda f: optimization.Adam(f, 0.01), optax.adam(0.01)),
    (lambda f: optimization.RMSprop(f, 0.01), optax.rmsprop(0.01)),
], ids=["Adam", "RMSprop"])  # fmt: skip
def test_native_and_optax_agree_on_the_diagonal(native, transformation):
    ours, theirs = native(bowl), sx.from_optax(bowl, transformation)
    mine = optimization.preconditioner(ours, sx.evolve(ours, ours.init(START), steps=7).final, at=7)
    np.testing.assert_allclose(
        mine, optimization.preconditioner(theirs, sx.evolve(theirs, theirs.init(START), steps=7).final), rtol=1e-12
    )


def test_diagonal_of_adagrad_is_in_its_own_unit_of_time():
    """S = eta^2 G: d in h = eta^2 is eta times optax's, and the edge 2/h is 1/eta times optax's 2/eta."""
    eta = 0.1
    ours, theirs = optimization.Adagrad(bowl, eta), sx.from_optax(bowl, optax.adagrad(eta))
    mine = optimization.preconditioner(ours, sx.evolve(ours, ours.init(START), steps=7).final)
    optaxs = optimization.preconditioner(theirs, sx.evolve(theirs, theirs.init(START), steps=7).final)
    np.testing.assert_allclose(mine, eta * optaxs, rtol=1e-12)
    np.testing.assert_allclose(
        optimization.stability_edge(ours) * mine,
        optimization.stability_edge("adagrad", learning_rate=eta) * optaxs,
        rtol=1e-12,
    )


def test_methods_without_a_diagonal_have_none():
    for build in (
        lambda: optimization.GradientDescent(bowl, 0.1),
        lambda: optimization.Nesterov(bowl, 0.1),
        lambda: optimization.AggMo(bowl, 0.1),
    ):
        assert optimization.preconditioner(build(), build().init(START)) is None
    plain = sx.from_optax(bowl, optax.sgd(0.1, 0.9))
    assert optimization.preconditioner(plain, plain.init(START)) is None


@pytest.mark.parametrize(("call", "kind", "words"), [
    (
        lambda: optimization.stability_edge(optimization.SignDescent(bowl, 0.1)),
        ValueError, "SignDescent has no stability edge"
    ),
    (lambda: optimization.stability_edge("lion", learning_rate=0.1), ValueError, "lion has no stability edge"),
    (lambda: optimization.stability_edge("adamm", learning_rate=0.1), TypeError, r"'adamm', expected one of sgd, rmsprop"),
    (lambda: optimization.stability_edge("adam", lr=0.1), TypeError, r"got \['lr'\], expected learning_rate, b1"),
    (lambda: optimization.stability_edge(optimization.Adam(bowl, 0.1), b1=0.9), TypeError, "expected a map alone"),
    (lambda: optimization.stability_edge(sx.from_optax(bowl, optax.adam(0.1))), TypeError, r"stability_edge\('adam'"),
    (lambda: optimization.preconditioner(optimization.Lion(bowl, 0.1), None), ValueError, "Lion has no stability edge"),
    (lambda: optimization.preconditioner(None, optax.lion(0.1).init(START)), TypeError, "expected one of ScaleByAdamState"),
    (
        lambda: optimization.preconditioner(optimization.Adam(bowl, 0.1), optimization.Adam(bowl, 0.1).init(START), at=0),
        ValueError, "steps >= 1"
    ),
    (lambda: optimization.preconditioner(None, (optax.adam(0.1).init(START), optax.adam(0.1).init(START))), TypeError,
     "2 adaptive states"),
])  # fmt: skip
def test_what_has_no_edge_or_is_not_known_is_told(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
