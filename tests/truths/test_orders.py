"""Every fixed-step method at its order: against the matrix exponential, and on nonlinear problems in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import separatrix as sx

KUTTA3 = sx.RungeKutta(a=[[], [1 / 2], [-1, 2]], b=[1 / 6, 2 / 3, 1 / 6], c=[0, 1 / 2, 1])
# Dormand & Prince (1980), the weights of order 5.
DORMAND_PRINCE = sx.RungeKutta(
    a=[
        [],
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    ],
    b=[35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
)
# The stated order beside the method, so that a wrong `order` is seen too.
GENERAL = {
    "Euler": (sx.Euler(), 1),
    "Midpoint": (sx.Midpoint(), 2),
    "Heun": (sx.Heun(), 2),
    "RK4": (sx.RK4(), 4),
    "Kutta 3": (KUTTA3, 3),
    "Dormand-Prince 5": (DORMAND_PRINCE, 5),
    "ImplicitEuler": (sx.ImplicitEuler(), 1),
    "ImplicitMidpoint": (sx.ImplicitMidpoint(), 2),
    "ExponentialEuler": (sx.ExponentialEuler(), 2),
}
SYMPLECTIC = {"SymplecticEuler": (sx.SymplecticEuler(), 1), "Leapfrog": (sx.Leapfrog(), 2)}
ALL = GENERAL | SYMPLECTIC
END = 1.0

# Not normal, not symmetric, with a growing, an oscillating and a decaying part.
A = jnp.array([[0.2, 1.3, 0.0], [-1.7, -0.4, 0.6], [0.3, 0.0, -1.1]])
B, C = jnp.array([[1.0, 0.4], [-0.2, 0.7]]), jnp.array([[-1.2, 0.5], [0.1, -2.0]])


@eqx.filter_jit
def march(system, method, state, count):
    """The state at END after that many equal steps; one compilation for all counts."""
    family = sx.discretize(system, method, END / count.astype(float))
    return jax.lax.fori_loop(0, count, lambda n, x: family.step(n, x), state)


def error(system, method, state, exact, count):
    reached = march(system, method, state, jnp.asarray(count))
    gaps = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), reached, exact)
    return float(max(jax.tree.leaves(gaps)))


def assert_order(system, method, state, exact, order):
    """Slope over five halvings; high orders start coarser, to stay above rounding."""
    counts = (4 if order >= 4 else 32) * 2 ** np.arange(6)
    errors = [error(system, method, state, exact, int(count)) for count in counts]
    slope = -np.polyfit(np.log2(counts), np.log2(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.15), dict(zip(counts.tolist(), errors, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_stated_order(name):
    method, order = ALL[name]
    assert method.order == order


@pytest.mark.parametrize("name", [name for name in GENERAL if name != "ExponentialEuler"])
def test_order_on_a_linear_system_against_the_matrix_exponential(name):
    method, order = GENERAL[name]
    start = jnp.array([1.0, -0.5, 2.0])
    assert_order(sx.as_flow(lambda x: A @ x), method, start, jax.scipy.linalg.expm(END * A) @ start, order)


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_order_on_a_separable_linear_system_against_the_matrix_exponential(name):
    method, order = SYMPLECTIC[name]
    start = (jnp.array([1.0, -0.5]), jnp.array([0.3, 0.8]))
    exact = jax.scipy.linalg.expm(END * jnp.block([[jnp.zeros((2, 2)), B], [C, jnp.zeros((2, 2))]]))
    exact = tuple(jnp.split(exact @ jnp.concatenate(start), 2))
    assert_order(sx.as_flow(lambda x: (B @ x[1], C @ x[0])), method, start, exact, order)


@pytest.mark.parametrize("name", GENERAL)
def test_order_on_a_nonlinear_problem_that_depends_on_time(name):
    """y' = -2 s y^2, z' = 2 s y z with s = t + 0.3: y = 1/(1 + s^2), z = 1 + s^2."""
    method, order = GENERAL[name]

    def velocity(t, x):
        s = t + 0.3
        return jnp.stack([-2.0 * s * x[0] ** 2, 2.0 * s * x[0] * x[1]])

    def solution(t):
        return jnp.array([1 / (1 + (t + 0.3) ** 2), 1 + (t + 0.3) ** 2])

    assert_order(sx.as_flow(velocity), method, solution(0.0), solution(END), order)


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_order_on_a_separable_problem_that_depends_on_time(name):
    """Built to have the solution q = sin t, p = cos t."""
    method, order = SYMPLECTIC[name]

    def velocity(t, state):
        q, p = state
        return p**3 - jnp.cos(t) ** 3 + jnp.cos(t), q**2 - jnp.sin(t) ** 2 - jnp.sin(t)

    exact = jnp.sin(END), jnp.cos(END)
    assert_order(sx.as_flow(velocity), method, (jnp.asarray(0.0), jnp.asarray(1.0)), exact, order)


@pytest.mark.parametrize("name", ALL)
def test_order_on_the_pendulum(name):
    """q'' = -sin q from rest at q0: sin(q/2) = k sn(K(k) - t) with k = sin(q0/2) and K the quarter period."""
    method, order = ALL[name]
    pendulum = sx.catalogue.entry("pendulum").build()
    start = (jnp.asarray(1.2), jnp.asarray(0.0))
    assert_order(pendulum, method, start, pendulum_at(1.2, END), order)


def pendulum_at(amplitude, t):
    """Position and momentum, by Jacobi's elliptic functions of modulus k = sin(q0/2)."""
    k = np.sin(amplitude / 2)
    sn, cn, _, _ = special.ellipj(special.ellipk(k**2) - t, k**2)
    return jnp.asarray(2 * np.arcsin(k * sn)), jnp.asarray(-2 * k * cn)


def test_exponential_euler_is_exact_where_the_field_is_linear_in_state_and_time():
    # u' = A u + b + c t: the matrix exponential of the system with two more rows, (t, 1).
    b, c = jnp.array([0.3, -1.0, 0.5]), jnp.array([-0.7, 0.2, 1.1])
    flow = sx.as_flow(lambda t, x: A @ x + b + t * c)
    start = jnp.array([1.0, -0.5, 2.0])
    whole = jnp.block([[A, c[:, None], b[:, None]], [jnp.zeros((1, 4)), jnp.ones((1, 1))], [jnp.zeros((1, 5))]])
    exact = (jax.scipy.linalg.expm(END * whole) @ jnp.concatenate([start, jnp.array([0.0, 1.0])]))[:3]
    for count in (1, 3):
        # Rounding of an exponential of norm about ten.
        assert error(flow, sx.ExponentialEuler(), start, exact, count) < 1e-14 * 100


def test_residual_net_of_depth_l_approaches_its_flow_at_the_order_of_its_block():
    """h = 1/L: the error halves when L doubles; with Heun's block it falls by 4, with RK4's by 16."""
    weights = jnp.array([[0.4, -1.1], [0.9, 0.2]])
    flow = sx.as_flow(lambda t, x: jnp.tanh(weights @ x + t))
    start = jnp.array([0.5, -0.3])
    exact = march(flow, DORMAND_PRINCE, start, jnp.asarray(512))
    for method, factor in ((sx.Euler(), 2), (sx.Heun(), 4), (sx.RK4(), 16)):
        coarse, fine = (error(flow, method, start, exact, depth) for depth in (64, 128))
        assert coarse / fine == pytest.approx(factor, rel=0.1)
