"""One step of every method: identities, stability functions, inverses, invariants, refusals."""

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import separatrix as sx

KUTTA3 = sx.RungeKutta(a=[[], [1 / 2], [-1, 2]], b=[1 / 6, 2 / 3, 1 / 6], c=[0, 1 / 2, 1])
GENERAL = {
    "Euler": sx.Euler(),
    "Midpoint": sx.Midpoint(),
    "Heun": sx.Heun(),
    "RK4": sx.RK4(),
    "Kutta 3": KUTTA3,
    "ImplicitEuler": sx.ImplicitEuler(),
    "ImplicitMidpoint": sx.ImplicitMidpoint(),
    "ExponentialEuler": sx.ExponentialEuler(),
}
SYMPLECTIC = {"SymplecticEuler": sx.SymplecticEuler(), "Leapfrog": sx.Leapfrog()}
RANDOM = {
    "EulerMaruyama": sx.EulerMaruyama(),
    "Milstein": sx.Milstein(),
    "StochasticHeun": sx.StochasticHeun(),
    "SRA1": sx.SRA1(),
}
# Rounding of some tens of operations on numbers of size one.
ROUNDING = 1e-14


def separable(t, state):
    """Nonlinear, in two dimensions, dependent on time: q' = u(t, p), p' = v(t, q)."""
    q, p = state
    return jnp.tanh(jnp.flip(p)) + p * jnp.cos(t), jnp.stack([-jnp.sin(q[0]) + q[1], -(q[1] ** 3)]) * (1.0 + t)


FLOW = sx.as_flow(separable)
STATE = (jnp.array([0.7, -0.4]), jnp.array([0.2, 1.1]))
PENDULUM = sx.as_flow(lambda state: (state[1], -jnp.sin(state[0])))
T = 0.3


def assert_trees_close(first, second, rtol=ROUNDING):
    np.testing.assert_allclose(ravel_pytree(first)[0], ravel_pytree(second)[0], rtol=rtol, atol=rtol)


# Laws of a near-identity map


@pytest.mark.parametrize("name", GENERAL | SYMPLECTIC)
def test_limit_undoes_discretize(name):
    family = sx.discretize(FLOW, (GENERAL | SYMPLECTIC)[name], 0.1)
    still, velocity = jax.jit(lambda x, h: (family.advance(T, x, h), sx.limit(family).velocity(T, x)))(STATE, 0.0)
    assert_trees_close(still, STATE, rtol=0)
    assert_trees_close(velocity, FLOW.velocity(T, STATE))


@pytest.mark.parametrize("name", RANDOM)
def test_limit_of_a_random_discretisation_is_its_drift(name):
    sde = sx.as_sde(separable, lambda t, x: 0.5 + t)
    family = sx.discretize(sde, RANDOM[name], 0.1)
    assert_trees_close(sx.limit(family).velocity(T, STATE), FLOW.velocity(T, STATE))


def test_euler_is_x_plus_h_f_at_time_n_h():
    h = 0.1
    by_hand = jax.tree.map(lambda x, v: x + h * v, STATE, FLOW.velocity(jnp.asarray(3 * h), STATE))
    assert_trees_close(sx.discretize(FLOW, sx.Euler(), h).step(3, STATE), by_hand, rtol=0)


@pytest.mark.parametrize(
    ("method", "a", "b", "c"),
    [
        (sx.Midpoint(), [[], [0.5]], [0, 1], [0, 0.5]),
        (sx.Heun(), [[], [1]], [0.5, 0.5], [0, 1]),
        (sx.RK4(), [[], [0.5], [0, 0.5], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6], [0, 0.5, 0.5, 1]),
    ],
    ids=["Midpoint", "Heun", "RK4"],
)
def test_named_methods_are_their_tableaux(method, a, b, c):
    """Against a plain reading of the definition, in numpy."""
    h, n = 0.1, 3
    x, unravel = ravel_pytree(STATE)
    stages = []
    for row, node in zip(a, c, strict=True):
        point = x + h * sum(w * k for w, k in zip(row, stages, strict=True)) if row else x
        stages.append(ravel_pytree(FLOW.velocity(jnp.asarray(n * h + node * h), unravel(point)))[0])
    by_hand = x + h * sum(w * k for w, k in zip(b, stages, strict=True))
    assert_trees_close(sx.discretize(FLOW, method, h).step(n, STATE), by_hand)
    assert_trees_close(sx.discretize(FLOW, sx.RungeKutta(a, b, c), h).step(n, STATE), by_hand)
    assert sx.RungeKutta(a, b).order == method.order


STABILITY = {
    "Euler": lambda z: 1 + z,
    "Midpoint": lambda z: 1 + z + z**2 / 2,
    "Heun": lambda z: 1 + z + z**2 / 2,
    "Kutta 3": lambda z: 1 + z + z**2 / 2 + z**3 / 6,
    "RK4": lambda z: 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24,
    "ImplicitEuler": lambda z: 1 / (1 - z),
    "ImplicitMidpoint": lambda z: (1 + z / 2) / (1 - z / 2),
    "ExponentialEuler": np.exp,
}


@pytest.mark.parametrize("name", STABILITY)
def test_stability_function(name):
    """x' = l x in the plane: a step multiplies by R(h l)."""
    h, method = 0.5, GENERAL[name]

    @jax.jit
    def step(rate, turn):
        flow = sx.as_flow(lambda x: jnp.stack([rate * x[0] - turn * x[1], turn * x[0] + rate * x[1]]))
        return sx.discretize(flow, method, h).step(0, jnp.array([1.0, 0.0]))

    for z in (-0.7 + 0.9j, -40.0 + 3.0j, 0.4 - 0.2j):
        got = complex(*step(z.real / h, z.imag / h).tolist())
        # The size of the terms that are added up sets the rounding.
        assert abs(got - STABILITY[name](z)) < 1e-14 * max(1.0, abs(z)) ** max(1, method.order)


@pytest.mark.parametrize("name", ["ImplicitEuler", "ImplicitMidpoint"])
def test_implicit_methods_solve_their_equation(name):
    h = 0.4
    x = ravel_pytree(STATE)[0]
    step = sx.discretize(FLOW, GENERAL[name], h).step(2, STATE)
    y, unravel = ravel_pytree(step)
    at, point = (3 * h, y) if name == "ImplicitEuler" else (2.5 * h, (x + y) / 2)
    np.testing.assert_allclose(y, x + h * ravel_pytree(FLOW.velocity(jnp.asarray(at), unravel(point)))[0], atol=1e-14)


def test_large_implicit_steps_do_not_form_the_jacobian():
    """Diffusion on a ring of 600: mode k decays by R(-4 h c sin^2(pi k/n)) in a step, and so do gradients."""
    name, n, k, c, h = "ImplicitMidpoint", 600, 7, 300.0, 0.1
    flow = sx.as_flow(lambda x: c * (jnp.roll(x, 1) - 2.0 * x + jnp.roll(x, -1)))
    mode = jnp.sin(2 * jnp.pi * k * jnp.arange(float(n)) / n)
    family = sx.discretize(flow, GENERAL[name], h)
    factor = STABILITY[name](-4 * h * c * np.sin(np.pi * k / n) ** 2)
    step, pulled = jax.jit(lambda x: (family.step(0, x), jax.vjp(lambda y: family.step(0, y), x)[1](x)[0]))(mode)
    # GMRES stops at eps^(2/3) of the right-hand side.
    np.testing.assert_allclose(step, factor * mode, atol=1e-9)
    np.testing.assert_allclose(pulled, factor * mode, atol=1e-9)


def test_an_implicit_step_without_a_solution_is_reported():
    # z = h (x + z)^2 + h has no real root at h = 1.
    flow = sx.as_flow(lambda x: x**2 + 1.0)
    trajectory = sx.evolve(flow, jnp.array([0.0]), method=sx.ImplicitEuler(), step_size=1.0, steps=3)
    assert trajectory.outcome == "non_finite"
    assert float(trajectory.outcome.at) == 1.0
    assert np.isnan(trajectory.final[0]) and float(trajectory.last[0]) == 0.0


@pytest.mark.parametrize("name", GENERAL | SYMPLECTIC)
def test_derivatives_of_a_step_by_both_modes_and_by_differences(name):
    family = sx.discretize(FLOW, (GENERAL | SYMPLECTIC)[name], 0.1)
    x, unravel = ravel_pytree(STATE)

    @jax.jit
    def step(x):
        return ravel_pytree(family.step(3, unravel(x)))[0]

    forward = jax.jit(jax.jacfwd(step))(x)
    np.testing.assert_allclose(jax.jit(jax.jacrev(step))(x), forward, atol=ROUNDING)
    # Central differences at eps^(1/3) are right to about eps^(2/3).
    d = 6e-6
    columns = [(step(x + d * e) - step(x - d * e)) / (2 * d) for e in jnp.eye(4)]
    np.testing.assert_allclose(jnp.stack(columns, axis=1), forward, atol=1e-9)


@pytest.mark.parametrize("name", GENERAL | SYMPLECTIC | RANDOM)
def test_float32_stays_float32_throughout(name):
    small = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), STATE)
    if name in RANDOM:
        family = sx.discretize(sx.as_sde(separable, lambda t, x: 0.5), RANDOM[name], 0.1)
        program = jax.make_jaxpr(lambda x, key: family.step(0, x, key=key))(small, jax.random.key(0))
    else:
        family = sx.discretize(FLOW, (GENERAL | SYMPLECTIC)[name], 0.1)
        program = jax.make_jaxpr(lambda x: family.step(0, x))(small)
    assert "f64[2]" not in str(program)
    assert [leaf.dtype for leaf in program.out_avals] == [jnp.float32, jnp.float32]


# Backward error


def gap(family, flow, state, end, count):
    """Distance at `end` between the map and a flow, the flow by diffrax at high accuracy."""
    reached = jax.lax.fori_loop(0, count, lambda n, x: family.step(n, x), state)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, x, args: flow.velocity(t, x)),
        diffrax.Tsit5(),
        0.0,
        end,
        end / 40,
        state,
        stepsize_controller=diffrax.ConstantStepSize(),
    )
    return jnp.linalg.norm(reached - solution.ys[0])


@pytest.mark.parametrize(
    ("name", "order"),
    [("Euler", 1), pytest.param("ImplicitEuler", 1, marks=pytest.mark.slow), ("Midpoint", 2), ("Heun", 2)],
)
def test_modified_is_one_order_closer_than_limit(name, order):
    """The first correction that does not vanish is that of the method's own order."""
    flow = sx.as_flow(lambda t, x: jnp.stack([x[1] - 0.3 * x[0] ** 2, -jnp.sin(x[0]) + jnp.cos(t)]))
    x, end = jnp.array([0.7, -0.4]), 1.0
    measure = jax.jit(
        lambda h, count: [
            gap(family := sx.discretize(flow, GENERAL[name], h), verb(family), x, end, count)
            for verb in (sx.limit, lambda map: sx.modified(map, order))
        ]
    )
    counts = 2 ** np.arange(4, 8)
    gaps = np.array([measure(end / count, jnp.asarray(count)) for count in counts])
    slopes = -np.polyfit(np.log2(counts), np.log2(gaps), 1)[0]
    np.testing.assert_allclose(slopes, [order, order + 1], atol=0.15)


@pytest.mark.parametrize(
    ("name", "order", "series"),
    [
        # ln R(z) / z - 1 by powers of z.
        ("Heun", 2, {2: -1 / 6}),
        ("Kutta 3", 3, {3: -1 / 24}),
        ("ImplicitMidpoint", 2, {2: 1 / 12}),
        ("ExponentialEuler", 1, {}),
    ],
)
def test_modified_rate_of_a_linear_field_is_the_logarithm_of_the_stability_function(name, order, series):
    rate, h = -1.3, 0.2
    flow = sx.as_flow(lambda x: rate * x)
    corrected = sx.modified(sx.discretize(flow, GENERAL[name], h), corrections=order)
    velocity = jax.jit(lambda x: corrected.velocity(0.0, x))(jnp.array([1.0]))
    expected = rate * (1 + sum(c * (h * rate) ** k for k, c in series.items()))
    np.testing.assert_allclose(velocity, [expected], rtol=1e-13)


def test_first_correction_of_symplectic_euler_is_half_the_bracket():
    # q' = p, p' = -q: the modified Hamiltonian is (p^2 + q^2)/2 - h p q/2 + ..., for p first.
    h, q, p = 0.1, 0.8, -0.3
    rotation = sx.as_flow(lambda state: (state[1], -state[0]))
    family = sx.discretize(rotation, sx.SymplecticEuler(), h)
    velocity = sx.modified(family, corrections=1).velocity(0.0, (jnp.asarray(q), jnp.asarray(p)))
    assert_trees_close(velocity, (jnp.asarray(p - h * q / 2), jnp.asarray(-q + h * p / 2)))


# Geometry


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_inverse_undoes_the_step(name):
    family = sx.discretize(FLOW, SYMPLECTIC[name], 0.2)
    assert isinstance(family, sx.InvertibleMap)
    for n in (0, 5):
        assert_trees_close(family.inverse_step(n, family.step(n, STATE)), STATE)
        assert_trees_close(family.step(n, family.inverse_step(n, STATE)), STATE)


@pytest.mark.parametrize("name", ["SymplecticEuler", "Leapfrog", "ImplicitMidpoint"])
def test_symplectic_methods_keep_the_area_form(name):
    """M^T J M = J for the pendulum of two coupled bobs."""

    def velocity(state):
        q, p = state
        return p, -jnp.sin(q) - 0.3 * (q - jnp.flip(q))

    family = sx.discretize(sx.as_flow(velocity), (GENERAL | SYMPLECTIC)[name], 0.3)
    x, unravel = ravel_pytree(STATE)
    m = jax.jacfwd(lambda x: ravel_pytree(family.step(0, unravel(x)))[0])(x)
    j = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])
    np.testing.assert_allclose(m.T @ j @ m, j, atol=1e-14)


def test_explicit_methods_do_not_keep_it():
    m = jax.jacfwd(lambda x: jnp.stack(sx.discretize(PENDULUM, sx.RK4(), 0.3).step(0, (x[0], x[1]))))(STATE[0])
    assert abs(np.linalg.det(m) - 1) > 1e-6


def test_invariants_on_the_harmonic_oscillator():
    """Symplectic Euler keeps q^2 + p^2 - h p q, leapfrog (1 - h^2/4) q^2 + p^2, implicit midpoint q^2 + p^2."""
    h, start = 0.3, (jnp.asarray(0.8), jnp.asarray(-0.3))
    rotation = sx.as_flow(lambda state: (state[1], -state[0]))
    invariants = {
        sx.SymplecticEuler(): lambda q, p: q**2 + p**2 - h * p * q,
        sx.Leapfrog(): lambda q, p: (1 - h**2 / 4) * q**2 + p**2,
        sx.ImplicitMidpoint(): lambda q, p: q**2 + p**2,
    }
    for method, invariant in invariants.items():
        q, p = sx.evolve(sx.discretize(rotation, method, h), start, steps=300).states
        np.testing.assert_allclose(invariant(q, p), invariant(*start), rtol=1e-13)


def test_leapfrog_turns_by_the_angle_whose_sine_of_half_is_half_the_step():
    # trace M = 2 - h^2 = 2 cos(angle): from (1, 0), q[n] = cos(n angle).
    h, steps = 0.5, 50
    rotation = sx.as_flow(lambda state: (state[1], -state[0]))
    q, _ = sx.evolve(
        sx.discretize(rotation, sx.Leapfrog(), h), (jnp.asarray(1.0), jnp.asarray(0.0)), steps=steps
    ).states
    np.testing.assert_allclose(q, np.cos(np.arange(steps + 1) * 2 * np.arcsin(h / 2)), atol=1e-13)


def test_implicit_midpoint_keeps_both_quadratic_invariants_of_the_free_top():
    inertia = jnp.array([1.0, 2.0, 3.5])
    top = sx.discretize(sx.as_flow(lambda m: jnp.cross(m, m / inertia)), sx.ImplicitMidpoint(), 0.2)
    m = sx.evolve(top, jnp.array([1.0, 0.4, -0.7]), steps=100).states
    for invariant in (m**2 @ jnp.ones(3), m**2 @ (1 / inertia)):
        np.testing.assert_allclose(invariant, invariant[0], rtol=1e-12)


def test_heavy_ball_without_friction_is_symplectic_euler():
    def objective(q):
        return jnp.sum(q**4) + q[0] * q[1]

    learning_rate = 0.04
    q, w = STATE
    ball = sx.optimization.HeavyBall(objective, learning_rate, 1.0).step(0, sx.optimization.PhasePoint(q, w))
    kick = sx.as_flow(lambda state: (state[1], -jax.grad(objective)(state[0])))
    assert_trees_close(tuple(ball), sx.discretize(kick, sx.SymplecticEuler(), learning_rate**0.5).step(0, (q, w)))


# Random methods without noise


@pytest.mark.parametrize(
    ("name", "quiet"),
    [
        ("EulerMaruyama", sx.Euler()),
        ("Milstein", sx.Euler()),
        ("StochasticHeun", sx.Heun()),
        ("SRA1", sx.RungeKutta(a=[[], [3 / 4]], b=[1 / 3, 2 / 3])),
    ],
)
def test_without_diffusion_a_random_method_is_its_deterministic_one(name, quiet):
    expected = sx.discretize(FLOW, quiet, 0.2).step(3, STATE)
    family = sx.discretize(sx.as_sde(separable, lambda t, x: 0.0), RANDOM[name], 0.2)
    assert_trees_close(family.step(3, STATE, key=jax.random.key(0)), expected)
    noisy = sx.discretize(sx.as_sde(separable, lambda t, x: 1.0 + t), RANDOM[name], 0.2)
    assert_trees_close(noisy.step(3, STATE), expected)


# Refusals

SDE = sx.as_sde(lambda x: -x, lambda x: x)
IDENTITY = sx.as_flow(lambda x: x)


@pytest.mark.parametrize(
    ("system", "method", "message"),
    [
        (
            IDENTITY,
            sx.Milstein(),
            r"of a Flow .*\n  got a Milstein, expected (\w+, )*Euler, .*SymplecticEuler\.\n .*RK4\(\)",
        ),
        (SDE, sx.RK4(), r"of an SDE .*\n  got a RK4, expected (\w+, )*EulerMaruyama, Milstein, SRA1, StochasticHeun"),
        (
            sx.as_map(lambda x: x),
            sx.RK4(),
            r"expected Flow or SDE\.\n  A Map is discrete already: take its limit first",
        ),
        (IDENTITY, "rk4", r"got a str, expected (\w+, )*Euler"),
        (IDENTITY, sx.RK4, r"got the class RK4, expected an instance\.\n  Write RK4\(\)"),
        (IDENTITY, sx.RungeKutta, r"Write RungeKutta\(a, b, c\)"),
    ],
    ids=["flow by Milstein", "SDE by RK4", "map", "name", "class", "tableau class"],
)
def test_pairs_that_do_not_fit_are_told_what_does(system, method, message):
    with pytest.raises(TypeError, match=message) as caught:
        sx.discretize(system, method, 0.1)
    assert "ReversibleMethod" not in str(caught.value)


@pytest.mark.parametrize("step_size", ["0.1", None, 1j])
def test_a_step_size_is_a_real_number(step_size):
    with pytest.raises(TypeError, match=r"discretize: step_size\n  got .*, expected a real number"):
        sx.discretize(IDENTITY, sx.Euler(), step_size)


def test_a_whole_step_size_is_taken():
    assert sx.discretize(IDENTITY, sx.Euler(), 1).step(0, jnp.array([3.0])).tolist() == [6.0]


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        ([[]], [0.5], None, r"sum b = 0\.5, expected sum b = 1"),
        ([[]], [float("nan")], None, r"sum b = nan"),
        ([[], [0.5]], [0, 1], [0, 1], r"c = \(0\.0, 1\.0\), expected the row sums \(0\.0, 0\.5\)"),
        ([[], [0.5]], [1], None, r"2 rows, 1 weights, 2 nodes, expected equal lengths"),
        ([[0.5]], [1], None, r"row 0 of a = \(0\.5,\), expected 0 entries left of the diagonal, zeros elsewhere"),
        ([[], []], [0, 1], None, r"row 1 of a = \(\), expected 1 entries"),
    ],
    ids=["weights", "nan", "nodes", "lengths", "implicit", "short row"],
)
def test_tableaux_that_are_none_are_refused(a, b, c, message):
    with pytest.raises(ValueError, match=message):
        sx.RungeKutta(a, b, c)


def test_symplectic_methods_refuse_what_is_not_separable():
    friction = sx.as_flow(lambda state: (state[1], -state[0] - 0.1 * state[1]))
    position = sx.as_flow(lambda state: (state[1] + state[0], -state[0]))
    pair = (jnp.asarray(1.0), jnp.asarray(0.0))
    for method in SYMPLECTIC.values():
        with pytest.raises(ValueError, match=r"p' that depends on p, expected .*\n  Use ImplicitMidpoint"):
            sx.discretize(friction, method, 0.1).step(0, pair)
        with pytest.raises(ValueError, match=r"q' that depends on q"):
            sx.discretize(position, method, 0.1).inverse_step(0, pair)
        with pytest.raises(ValueError, match=r"expected a pair \(position, momentum\)"):
            sx.discretize(IDENTITY, method, 0.1).step(0, jnp.ones(2))


def test_exponential_euler_refuses_a_state_too_large_for_its_matrix():
    with pytest.raises(ValueError, match=r"got 2000 components, expected at most 1024.*\n  Use ImplicitMidpoint"):
        sx.discretize(IDENTITY, sx.ExponentialEuler(), 0.1).step(0, jnp.ones(2000))


def test_milstein_refuses_noise_that_is_not_diagonal():
    general = sx.as_sde(lambda x: -x, lambda x: lx.MatrixLinearOperator(jnp.ones((2, 3)) * x[0]))
    with pytest.raises(ValueError, match=r"got MatrixLinearOperator, expected diagonal noise\.\n  Use EulerMaruyama"):
        sx.discretize(general, sx.Milstein(), 0.1).step(0, jnp.ones(2), key=jax.random.key(0))


def test_sra1_refuses_noise_that_depends_on_the_state():
    with pytest.raises(
        ValueError, match=r"depends on the state, expected additive noise g\(t\)\.\n  Use EulerMaruyama"
    ):
        sx.discretize(SDE, sx.SRA1(), 0.1).step(0, jnp.ones(2), key=jax.random.key(0))
