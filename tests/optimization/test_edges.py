"""Stability edges: what is measured of a method, its closed form, and the curvature at which an orbit stops contracting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx
from separatrix import optimization

# name: (method of an objective, l eta in closed form). Adaptive methods are held at a frozen diagonal of 1: with eps = 1
# and a start of 1e-100 their averages of squares do not show in it.
FROZEN, ETA = 1.0, 0.1
HYPERBOLIC = 3.8 / (1.9 - 2 * 0.7 * 0.9)
METHODS = {
    "gradient descent": (lambda f: optimization.GradientDescent(f, ETA), 2.0),
    "heavy ball": (lambda f: optimization.HeavyBall(f, ETA, 0.9), 3.8),
    "Nesterov": (lambda f: optimization.Nesterov(f, ETA, 0.9), 3.8 / 2.8),
    "QHM": (lambda f: optimization.QHM(f, ETA, 0.9, 0.7), HYPERBOLIC),
    "AggMo": (lambda f: optimization.AggMo(f, ETA, (0.0, 0.9, 0.99)), 6 / (1 + 1 / 1.9 + 1 / 1.99)),
    "RMSprop": (lambda f: optimization.RMSprop(f, ETA, eps=FROZEN), 2.0),
    "Adadelta": (lambda f: optimization.Adadelta(f, ETA, eps=FROZEN), 2.0),
    "Adagrad": (lambda f: optimization.Adagrad(f, ETA, initial_accumulator=0.0, eps=FROZEN), 2.0),
    "Adam": (lambda f: optimization.Adam(f, ETA, eps=FROZEN), 38.0),
    "AdamW": (lambda f: optimization.AdamW(f, ETA, eps=FROZEN, weight_decay=3.0), 19 * (2 - 0.3)),
    "Nadam": (lambda f: optimization.Nadam(f, ETA, eps=FROZEN), 38 / 2.8),
    "QHAdam": (lambda f: optimization.QHAdam(f, ETA, 0.9, nu1=0.7, eps=FROZEN), HYPERBOLIC),
}
# The rest with the slow ones: their closed forms are tied to these by `test_special_cases_agree`.
QUICK = {"heavy ball", "AggMo", "Adam", "AdamW", "QHAdam"}
NAMES = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
BOWL = optimization.Quadratic(jnp.array([1.0, 4.0]))


def edge(method, at=None):
    """l of a method that has just begun, which is the same for all entries."""
    found = optimization.stability_edge(method, method.init(jnp.array([1e-100, 1e-100])), at=at)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("name", METHODS)
def test_edge_is_the_closed_form(name):
    build, closed = METHODS[name]
    assert float(edge(build(BOWL))) * ETA == pytest.approx(closed, rel=1e-12)


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
    build, closed = METHODS[name]
    # Adam's mean still carries 1 - 0.999^900 of its correction of v, which eps hides; the rest is the bisection's 1e-5.
    assert measured_edge(build, closed / ETA) == pytest.approx(closed / ETA, rel=2e-4)


@pytest.mark.parametrize("frequency", ["real", "any"])
def test_no_pair_of_multipliers_leaves_the_circle_before(frequency):
    """AggMo at random momenta: below the edge all multipliers are inside, above it one is outside, and it is real."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        momenta = tuple(generator.uniform(0.0, 0.999, size=generator.integers(1, 6)))
        for factor in (0.3, 0.7, 0.999, 1.001):
            closed = 2 / np.mean(1 / (1 + np.array(momenta)))
            multipliers = aggregated_multipliers(factor * closed, np.array(momenta))
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


def test_schedules_are_taken_at_their_step():
    """Nesterov's momentum n/(n + 3): 0 at first, 1/2 at the third step, 1 in the end; a restarted one knows its age."""
    nesterov = optimization.Nesterov(BOWL, ETA)
    for at, closed in ((0, 2.0), (3, 3 / 2), (None, 4 / 3)):
        assert float(edge(nesterov, at)) * ETA == pytest.approx(closed, rel=1e-8)
    restarted = optimization.RestartedNesterov(BOWL, ETA)
    state = restarted.init(jnp.ones(2))._replace(age=jnp.asarray(3))
    np.testing.assert_allclose(optimization.stability_edge(restarted, state) * ETA, 3 / 2, rtol=1e-12)


def test_special_cases_agree():
    """QHM is gradient descent at nu = 0, momentum at 1, Nesterov at nu = b; one momentum aggregated is heavy ball."""
    f, b = BOWL, 0.8
    ball, nesterov = optimization.HeavyBall(f, ETA * (1 - b), b), optimization.Nesterov(f, ETA * (1 - b), b)
    for one, other in (
        (optimization.QHM(f, ETA, b, 0.0), optimization.GradientDescent(f, ETA)),
        (optimization.QHM(f, ETA, b, 1.0), ball),
        (optimization.QHM(f, ETA, b, b), nesterov),
        (optimization.AggMo(f, ETA * (1 - b), (b,)), ball),
        (optimization.AdamW(f, ETA, b, weight_decay=0.0), optimization.Adam(f, ETA, b)),
    ):
        np.testing.assert_allclose(edge(one), edge(other), rtol=1e-12)


def test_edge_is_differentiable_and_swept():
    """d/d eta of (2 + 2b)/eta; 38/eta."""
    assert float(jax.grad(lambda eta: edge_of_ball(eta))(0.1)) == pytest.approx(-3.8 / 0.1**2, rel=1e-12)
    np.testing.assert_allclose(jax.vmap(edge_of_ball)(jnp.array([0.1, 0.2])), [38.0, 19.0], rtol=1e-12)


def edge_of_ball(eta):
    ball = optimization.HeavyBall(BOWL, eta, 0.9)
    return optimization.stability_edge(ball, ball.init(jnp.ones(2)))[0]


def bowl(x):
    return jnp.sum(jnp.cosh(x * jnp.array([1.0, 2.0, 3.0], x.dtype))) + 0.5 * x[0] * x[1]


START, RATE, SEVENTH = jnp.array([0.5, -0.4, 0.3]), 0.01, 7


def unbiased(v, b2):
    """sqrt(v) of the next step, whose own gradient is small: n = 8, and v decays once more."""
    return jnp.sqrt(b2 * v / (1 - b2 ** (SEVENTH + 1)))


# One run of optax, and d of its next step in closed form, from what its state holds.
OPTAX = {
    "adam": (optax.adam(RATE), 38, lambda s: (1 - 0.9**8) * (unbiased(s[0].nu, 0.999) + 1e-8)),
    "adam inside a chain": (
        optax.chain(optax.clip_by_global_norm(1e9), optax.adam(RATE, b1=0.8, b2=0.9, eps=1e-2)), 18,
        lambda s: (1 - 0.8**8) * (unbiased(s[1][0].nu, 0.9) + 1e-2),
    ),
    "adamax": (optax.adamax(RATE), 38, lambda s: (1 - 0.9**8) * 0.999 * s[0].nu),
    "rmsprop": (optax.rmsprop(RATE), 2, lambda s: jnp.sqrt(0.9 * s[0].nu + 1e-8)),
    "rmsprop, eps outside": (
        optax.rmsprop(RATE, eps=1e-2, eps_in_sqrt=False), 2, lambda s: jnp.sqrt(0.9 * s[0].nu) + 1e-2
    ),
    "rmsprop, unbiased": (
        optax.rmsprop(RATE, bias_correction=True), 2,
        lambda s: jnp.sqrt(0.9 * s[0].nu / (1 - 0.9**8) + 1e-8),
    ),
    "rmsprop, centred": (
        optax.rmsprop(RATE, centered=True, eps=1e-3), 2, lambda s: jnp.sqrt(0.9 * s[0].nu - (0.9 * s[0].mu) ** 2 + 1e-3)
    ),
    "adagrad": (optax.adagrad(RATE), 2, lambda s: jnp.sqrt(s[0].sum_of_squares + 1e-7)),
    "adadelta": (optax.adadelta(RATE), 2, lambda s: jnp.sqrt((0.9 * s[1].e_g + 1e-6) / (s[1].e_x + 1e-6))),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTAX)
def test_edge_of_optax_is_the_closed_form_of_its_state(name):
    transformation, closed, diagonal = OPTAX[name]
    method = sx.from_optax(bowl, transformation)
    state = sx.evolve(method, method.init(START), steps=SEVENTH, save="last").final
    expected = closed / RATE * diagonal(state.optimizer_state)
    np.testing.assert_allclose(optimization.stability_edge(method, state), expected, rtol=1e-10)


@pytest.mark.parametrize(("native", "transformation"), [
    (lambda f: optimization.Adam(f, RATE), optax.adam(RATE)),
    (lambda f: optimization.Nadam(f, RATE), optax.nadam(RATE)),
    (lambda f: optimization.AdamW(f, RATE, weight_decay=0.5), optax.adamw(RATE, weight_decay=0.5)),
    (lambda f: optimization.RMSprop(f, RATE), optax.rmsprop(RATE)),
    (lambda f: optimization.Adagrad(f, RATE), optax.adagrad(RATE)),
    (lambda f: optimization.Adadelta(f, RATE), optax.adadelta(RATE)),
    (lambda f: optimization.HeavyBall(f, RATE, 0.8), optax.sgd(RATE, 0.8)),
    (lambda f: optimization.Nesterov(f, RATE, 0.8), optax.sgd(RATE, 0.8, nesterov=True)),
], ids=["Adam", "Nadam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "heavy ball", "Nesterov"])  # fmt: skip
def test_a_method_and_its_double_of_optax_have_one_edge(native, transformation):
    ours, theirs = native(bowl), sx.from_optax(bowl, transformation)
    mine, other = (sx.evolve(method, method.init(START), steps=SEVENTH, save="last").final for method in (ours, theirs))
    found = optimization.stability_edge(ours, mine, at=SEVENTH)
    np.testing.assert_allclose(found, optimization.stability_edge(theirs, other), rtol=1e-9)


def test_in_single_precision_the_edge_is_the_same():
    adam = optimization.Adam(bowl, RATE)
    states = [
        sx.evolve(adam, adam.init(START.astype(d)), steps=SEVENTH, save="last").final for d in ("float32", "float64")
    ]
    single, double = (optimization.stability_edge(adam, state) for state in states)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=1e-5)


@pytest.mark.parametrize(("call", "kind", "words"), [
    (lambda: edge(optimization.SignDescent(BOWL, 0.1)), ValueError, "SignDescent\n.*it steps along signs"),
    (lambda: edge(optimization.Lion(BOWL, 0.1)), ValueError, "Lion\n.*it steps along signs"),
    (lambda: edge(sx.from_optax(BOWL, optax.adam(0.1))), ValueError, "has seen none yet.*\n.*Take some steps first"),
    (lambda: edge(optimization.DelayedDescent(BOWL, 0.1, delay=2)), TypeError, "got DelayedDescent, expected a map"),
    (lambda: edge(optimization.Adam(BOWL, 0.1), at=-1), ValueError, "steps >= 0"),
])  # fmt: skip
def test_what_has_no_edge_or_is_not_known_is_told(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
