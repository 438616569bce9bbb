"""Critical points against the definition, and counts against polynomial elimination; escapes against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.polynomial import Polynomial

import separatrix as sx

NAMES = sx.optimization.landscapes()


@pytest.mark.parametrize("name", NAMES)
def test_every_critical_point_has_no_gradient_and_its_index(name):
    scene = sx.optimization.landscape(name)
    answers = jax.jit(
        lambda x: [f(x) for f in (scene.objective, jax.grad(scene.objective), jax.hessian(scene.objective))]
    )
    for point in scene.critical_points:
        value, gradient, hessian = map(np.asarray, answers(np.array(point.position)))
        # The gradient of a position known to eps is eps times the curvature.
        assert np.linalg.norm(gradient) < 1e-13 * max(1.0, np.linalg.norm(hessian))
        assert value == pytest.approx(point.value, rel=1e-12, abs=1e-12)
        assert np.sum(np.linalg.eigvalsh(hessian) < 0) == point.index


def real_roots(polynomial, reach):
    roots = polynomial.roots()
    return sum(abs(root.imag) < 1e-9 and abs(root.real) < reach for root in roots)


def test_no_critical_point_is_missing():
    x = Polynomial([0, 1])
    # Six-hump camel: y = -(8x - 8.4x^3 + 2x^5) from dL/dx, put into x - 8y + 16y^3 = 0.
    y = -(8 * x - 8.4 * x**3 + 2 * x**5)
    assert real_roots(x - 8 * y + 16 * y**3, 10) == 15
    # Three-hump camel: y = -x/2 from dL/dy, put into 4x - 4.2x^3 + x^5 + y = 0.
    assert real_roots(4 * x - 4.2 * x**3 + x**5 - x / 2, 10) == 5
    # Styblinski-Tang: three roots a component, so nine pairs.
    assert real_roots(4 * x**3 - 32 * x + 5, 10) == 3
    # Himmelblau: dL/dx = 4x(x^2 + y - 11) + 2(x + y^2 - 7) and dL/dy = 2(x^2 + y - 11) + 4y(x + y^2 - 7) have a resultant
    # in y of degree nine.
    counts = {name: len(sx.optimization.landscape(name).critical_points) for name in NAMES}
    assert counts["six-hump-camel"] == 15 and counts["three-hump-camel"] == 5 and counts["styblinski-tang"] == 9
    assert real_roots(himmelblau_resultant(), 10) == counts["himmelblau"] == 9


def himmelblau_resultant():
    """Resultant in y of both derivatives: the determinant of Sylvester's matrix, by interpolation in x."""

    def sylvester(x):
        a = [2.0, 4 * x, 2 * x - 14 + 4 * x**3 - 44 * x]  # 2y^2 + 4xy + ...
        b = [4.0, 0.0, 4 * x - 28 + 2, 2 * x**2 - 22]  # 4y^3 + (4x - 26)y + ...
        rows = [[*a, 0, 0], [0, *a, 0], [0, 0, *a], [*b, 0], [0, *b]]
        return np.linalg.det(np.array(rows, float))

    nodes = 5 * np.cos(np.pi * (np.arange(10) + 0.5) / 10)
    return Polynomial.fit(nodes, [sylvester(x) for x in nodes], 9).convert()


def test_the_sum_of_signs_is_that_of_a_function_that_grows_in_all_directions():
    # Morse: minima - saddles + maxima = 1 on the plane, for a function that grows to infinity everywhere.
    for name in ("himmelblau", "six-hump-camel", "three-hump-camel", "styblinski-tang"):
        assert sum((-1) ** point.index for point in sx.optimization.landscape(name).critical_points) == 1


@pytest.mark.parametrize("step_size", [0.01, 0.1])
def test_descent_leaves_a_saddle_by_the_closed_form(step_size):
    methods = {"descent": lambda loss: sx.optimization.GradientDescent(loss, step_size)}
    found = sx.optimization.race(
        sx.optimization.landscape("saddle"), jnp.array([0.5, 1e-4]), methods, steps=1200, escape=1.0
    )
    # |x_n|^2 + |y_n|^2 with x_n = 0.5 (1 - h)^n, y_n = 1e-4 (1 + h)^n.
    n = np.arange(1201)
    distance = np.hypot(0.5 * (1 - step_size) ** n, 1e-4 * (1 + step_size) ** n)
    assert int(found.finished[0]) == int(np.argmax(distance > 1))


def test_methods_that_rescale_by_their_gradients_do_not_wait_at_the_saddle():
    found = sx.optimization.race(sx.optimization.landscape("saddle"), jnp.array([0.5, 1e-6]), steps=400)
    steps = dict(zip(found.names, np.asarray(found.finished).tolist(), strict=True))
    assert steps["SGD"] == -1 and 0 < steps["RMSprop"] < 150 and 0 < steps["Adam"] < 150


def test_the_first_picture_ends_at_the_minimum_of_beale_and_draws_every_path(tmp_path):
    found = sx.optimization.race(
        sx.optimization.landscape("beale"), jnp.array([1.0, 1.5]), {"Adam": optax.adam(0.05)}, steps=1500, near=1e-3
    )
    assert int(found.finished[0]) > 0 and np.allclose(found.paths[0, -1], [3.0, 0.5], atol=1e-3)
    lines = sx.plotting.plot_race(found).axes[0].lines
    np.testing.assert_array_equal(lines[-2].get_xdata(), found.paths[0, :, 0])
    moving = sx.plotting.animate_race(found, frames=3)
    moving.save(tmp_path / "race.gif", writer="pillow")
    assert (tmp_path / "race.gif").stat().st_size > 1000


def test_misuse_is_told():
    with pytest.raises(ValueError, match="'bale', expected one of: saddle"):
        sx.optimization.landscape("bale")
    with pytest.raises(ValueError, match=r"a start of shape \(2,\)"):
        sx.optimization.race(sx.optimization.landscape("saddle"), jnp.zeros(3))
