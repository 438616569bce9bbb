"""Each sentence "its limit is ...": the velocity against the equation written out, orbits against another integrator.

The limits are written here once more, in NumPy, and integrated by SciPy. Orbits of the maps must approach them at order
1 in h, and their own `modified` equation at order 2, over two halvings in the asymptotic window. The start has both
moments away from zero, at a time past the singular start of the bias corrections; that start is a test of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax.flatten_util import ravel_pytree

import separatrix as sx
from separatrix.optimization import Averaged, Moments, Squares, SquaresAndSteps, Velocities

A, B, EPS = 1.3, 0.8, 0.1
X, M, V = jnp.array([0.7, -0.4]), jnp.array([0.3, 0.5]), jnp.array([0.6, 0.9])


def quartic(x):
    """Not quadratic, not symmetric in its arguments."""
    return 0.25 * jnp.sum(x**4) + 0.5 * x[0] * x[1] + 0.5 * jnp.sum(x**2) + 0.3 * x[0]


def slope(x):
    return x**3 + 0.5 * x[::-1] + x + np.array([0.3, 0.0])


def hessian(x):
    return np.diag(3 * x**2 + 1) + 0.5 * np.array([[0.0, 1.0], [1.0, 0.0]])


def linear(x):
    """Lion's signs are constant here: away from the jumps."""
    return x[0] + 2.0 * x[1]


def residual(x):
    return jnp.stack([x[0] + x[1] ** 2, jnp.sin(x[1]) - 0.3 * x[0], x[0] * x[1] - 1.0])


def metric(x, v):
    return v * (1 + x[0] ** 2) + 0.1 * jnp.sum(v) * jnp.ones(2)


def unbias(t, m, v):
    return m / (1 - np.exp(-A * t)), v / (1 - np.exp(-B * t))


def adam(t, x, m, v):
    mhat, vhat = unbias(t, m, v)
    g = slope(x)
    return -mhat / (np.sqrt(vhat) + EPS), A * (g - m), B * (g**2 - v)


def adamw(t, x, m, v):
    dx, dm, dv = adam(t, x, m, v)
    return dx - 0.4 * x, dm, dv


def qhadam(t, x, m, v):
    mhat, vhat = unbias(t, m, v)
    g = slope(x)
    dx = -(0.4 * g + 0.6 * mhat) / (np.sqrt(0.2 * g**2 + 0.8 * vhat) + EPS)
    return dx, A * (g - m), B * (g**2 - v)


def qhm(t, x, m):
    return -(0.4 * slope(x) + 0.6 * m), A * (slope(x) - m)


def aggmo(t, x, w):
    return w.mean(axis=0), -np.array([[A], [B]]) * w - slope(x)


def rmsprop(t, x, v):
    return -slope(x) / np.sqrt(v + EPS), A * (slope(x) ** 2 - v)


def adagrad(t, x, total):
    return -slope(x) / np.sqrt(total + EPS), slope(x) ** 2


def adadelta(t, x, v, z):
    u = np.sqrt((z + EPS) / (v + EPS)) * slope(x)
    return -u, A * (slope(x) ** 2 - v), A * (u**2 - z)


def lion(t, x, m):
    g = np.array([1.0, 2.0])
    return -np.sign(0.9 * m + 0.1 * g) - 0.4 * x, A * (g - m)


def newton(t, x):
    return (-np.linalg.solve(hessian(x), slope(x)),)


def gauss_newton(t, x):
    r = np.array([x[0] + x[1] ** 2, np.sin(x[1]) - 0.3 * x[0], x[0] * x[1] - 1.0])
    jacobian = np.array([[1.0, 2 * x[1]], [-0.3, np.cos(x[1])], [x[1], x[0]]])
    return (-np.linalg.lstsq(jacobian, r)[0],)


def natural(t, x):
    return (-np.linalg.solve((1 + x[0] ** 2) * np.eye(2) + 0.1 * np.ones((2, 2)), slope(x)),)


def rescaled(t, x):
    return (-slope(x) / np.sqrt(np.linalg.norm(slope(x))),)


# name: the map at step size h, a state, the limit written out
CASES = {
    "Adam": (lambda h: sx.optimization.Adam(quartic, h, 1 - A * h, 1 - B * h, EPS), Moments(X, M, V), adam),
    "AdamW": (lambda h: sx.optimization.AdamW(quartic, h, 1 - A * h, 1 - B * h, EPS, 0.4), Moments(X, M, V), adamw),
    "Nadam": (lambda h: sx.optimization.Nadam(quartic, h, 1 - A * h, 1 - B * h, EPS), Moments(X, M, V), adam),
    "QHAdam": (
        lambda h: sx.optimization.QHAdam(quartic, h, 1 - A * h, 1 - B * h, EPS, 0.6, 0.8),
        Moments(X, M, V),
        qhadam,
    ),
    "QHM": (lambda h: sx.optimization.QHM(quartic, h, 1 - A * h, 0.6), Averaged(X, M), qhm),
    "AggMo": (
        lambda h: sx.optimization.AggMo(quartic, h**2, (1 - A * h, 1 - B * h)),
        Velocities(X, jnp.stack([M, V])),
        aggmo,
    ),
    "RMSprop": (lambda h: sx.optimization.RMSprop(quartic, h, 1 - A * h, EPS), Squares(X, V), rmsprop),
    "Adagrad": (lambda h: sx.optimization.Adagrad(quartic, h**0.5, eps=EPS / h), Squares(X, V), adagrad),
    "Adadelta": (lambda h: sx.optimization.Adadelta(quartic, h, 1 - A * h, EPS), SquaresAndSteps(X, V, M), adadelta),
    "Lion": (lambda h: sx.optimization.Lion(linear, h, 0.9, 1 - A * h, 0.4), Averaged(X, M), lion),
    "Newton": (lambda h: sx.optimization.Newton(quartic, h), X, newton),
    "Gauss-Newton": (lambda h: sx.optimization.GaussNewton(residual, h), X, gauss_newton),
    "natural gradient": (lambda h: sx.optimization.NaturalGradient(quartic, metric, h), X, natural),
    "cubic Newton": (lambda h: sx.optimization.CubicNewton(quartic, 2 / h**2), X, rescaled),
}
NAMES = pytest.mark.parametrize("name", CASES)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@NAMES
def test_limit_is_the_equation_written_out(name):
    build, start, equation = CASES[name]
    velocity = jax.jit(lambda t, state: sx.limit(build(0.1)).velocity(t, state))(jnp.asarray(0.7), start)
    for ours, theirs in zip(leaves(velocity), equation(0.7, *leaves(start)), strict=True):
        # A linear solve and a root: a few hundred roundings.
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def integrated(velocity, start, times):
    """By SciPy's eighth order, far below the distances measured."""
    solution = scipy.integrate.solve_ivp(velocity, times, flat(start), method="DOP853", rtol=1e-11, atol=1e-12)
    return solution.y[:, -1]


COUNTS, FIRST, SPAN = (64, 128, 256), 0.5, 1.0


def ends(build, start):
    """Ends of orbits over one span of time at three step sizes. All take the same number of steps, so that one program
    serves every step size; the row at the end of the span is read."""
    for count in COUNTS:
        family = build(SPAN / count)
        path = sx.evolve(family, start, steps=max(COUNTS), start=round(FIRST * count / SPAN)).states
        yield family, flat(jax.tree.map(lambda leaf, n=count: leaf[n], path))


def order(errors):
    return -np.polyfit(np.log2(COUNTS), np.log2(errors), 1)[0]


@NAMES
def test_orbits_approach_the_limit_at_order_one(name):
    build, start, equation = CASES[name]
    shapes = [leaf.shape for leaf in leaves(start)]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def written(t, y):
        parts = [part.reshape(shape) for part, shape in zip(np.split(y, cuts), shapes, strict=True)]
        return np.concatenate([rate.ravel() for rate in equation(t, *parts)])

    reached = integrated(written, start, (FIRST, FIRST + SPAN))
    assert order([np.max(np.abs(end - reached)) for _, end in ends(build, start)]) == pytest.approx(1.0, abs=0.15)


# The rest take a second each.
QUICK = {"Adam", "Adagrad", "AggMo"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_orbits_approach_the_modified_equation_at_order_two(name):
    build, start, _ = CASES[name]
    unravel = ravel_pytree(start)[1]

    @jax.jit
    def velocity(family, t, y):
        return ravel_pytree(sx.modified(family, 1).velocity(t, unravel(y)))[0]

    errors = []
    for family, end in ends(build, start):
        followed = integrated(
            lambda t, y, f=family: np.asarray(velocity(f, jnp.asarray(t), y)), start, (FIRST, FIRST + SPAN)
        )
        errors.append(np.max(np.abs(end - followed)))
    assert order(errors) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    "name", ["Adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("AdamW", "QHAdam"))]
)
def test_from_its_own_start_the_orbit_approaches_the_limit_at_order_one(name):
    """At t = 0 the corrections are singular: m/(1 - e^{-at}) starts at grad L, which the first step takes exactly."""
    build, _, equation = CASES[name]
    start, counts = build(0.1).init(X), (64, 256)
    g = slope(np.asarray(X))

    def written(t, y):
        x, m, v = np.split(y, 3)
        if t == 0:
            m, v, t = A * g * 1e-9, B * g**2 * 1e-9, 1e-9
        return np.concatenate(equation(t, x, m, v))

    reached = integrated(written, start, (0.0, 1.0))
    paths = [sx.evolve(build(1 / count), start, steps=256).states for count in counts]
    ends = [flat(jax.tree.map(lambda leaf, n=n: leaf[n], path)) for n, path in zip(counts, paths, strict=True)]
    errors = [np.max(np.abs(end - reached)) for end in ends]
    assert np.log2(errors[0] / errors[1]) / 2 == pytest.approx(1.0, abs=0.15)


def test_limit_at_the_very_start_is_the_normalised_gradient():
    velocity = sx.limit(CASES["Adam"][0](0.1)).velocity(0.0, CASES["Adam"][0](0.1).init(X))
    g = slope(np.asarray(X))
    np.testing.assert_allclose(velocity.position, -g / (np.abs(g) + EPS), rtol=1e-13)
    np.testing.assert_allclose(velocity.square, B * g**2, rtol=1e-13)


def test_adam_without_memory_is_descent_along_signs():
    signs = sx.evolve(sx.optimization.SignDescent(quartic, 0.01), X, steps=20).states
    np.testing.assert_allclose(
        sx.limit(sx.optimization.SignDescent(quartic, 0.1)).velocity(0.0, X), -np.sign(slope(np.asarray(X)))
    )
    for forgetful in (
        sx.optimization.Adam(quartic, 0.01, 0.0, 0.0, 0.0),
        sx.optimization.RMSprop(quartic, 0.01, 0.0, 0.0),
    ):
        path = sx.evolve(forgetful, forgetful.init(X), steps=20).states
        np.testing.assert_allclose(path.position, signs, rtol=1e-12)


@pytest.mark.slow
def test_adams_limit_tends_to_the_sign_flow_as_its_memory_shrinks():
    """x' = -mhat/sqrt(vhat) with rates c: the distance to -sign(g) falls as 1/c."""
    gaps = []
    for c in (50.0, 200.0):
        flow = sx.limit(sx.optimization.Adam(quartic, 1e-3, 1 - c * 1e-3, 1 - 2 * c * 1e-3, 0.0))
        away = jnp.array([0.9, 1.1])  # no slope changes its sign on the way
        end = sx.evolve(flow, Moments(away, *(2 * [jnp.zeros(2)])), times=(0.0, 0.2), rtol=1e-9, atol=1e-11).final
        gaps.append(float(jnp.max(jnp.abs(end.position - (away - 0.2)))))
    assert np.log(gaps[0] / gaps[1]) / np.log(4) == pytest.approx(1.0, abs=0.15)


def test_adagrads_flow_exchanges_objective_for_roots():
    """L + 2 sum sqrt(S + e) does not change along the limit, whatever the objective."""
    flow = sx.limit(sx.optimization.Adagrad(quartic, 0.1, eps=3.0))
    path = sx.evolve(flow, Squares(X, 0.01 * V), times=jnp.linspace(0.0, 5.0, 6), rtol=1e-10, atol=1e-12).states
    e = 0.1**2 * 3.0
    kept = jax.vmap(quartic)(path.position) + 2 * jnp.sum(jnp.sqrt(path.square + e), axis=1)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-8)


@pytest.mark.parametrize("rule", ["AMSGrad", "AdaMax"])
def test_running_maxima_have_no_limit_of_this_kind(rule):
    """At h = 0 their step lifts the maximum to the present value: the family is not the identity there."""

    def step(t, state, h):
        x, v, top = state
        g = jax.grad(quartic)(x)
        v = v + B * h * (g**2 - v)
        top = jnp.maximum(top, v) if rule == "AMSGrad" else jnp.maximum((1 - B * h) * top, jnp.abs(g))
        return x - h * g / (jnp.sqrt(top) + EPS), v, top

    family = sx.as_near_identity(step, 0.1)
    with pytest.raises(ValueError, match="no limit under this scaling"):
        sx.limit(family).velocity(0.0, (X, V, 0.1 * V))


@pytest.mark.slow
def test_lion_rests_inside_the_box_of_its_weight_decay():
    decay = 2.0
    lion = sx.optimization.Lion(lambda x: 0.5 * jnp.sum((x - jnp.array([3.0, 0.2])) ** 2), 1e-3, weight_decay=decay)
    end = sx.evolve(lion, lion.init(jnp.array([1.0, -1.0])), steps=8000, save="last").final.position
    # To the step that it chatters by; the momentum makes of it a few.
    np.testing.assert_allclose(end, [1 / decay, 0.2], atol=0.03)
