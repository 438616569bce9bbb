"""Rates and weak laws: known coefficients of Lorenz and of Hudson Bay, noise that differences cannot bear."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

TIMES = np.linspace(0.0, 6.0, 241)
TURNING = np.stack([np.cos(2 * TIMES), np.sin(2 * TIMES)], axis=1)


@pytest.fixture(scope="module")
def lorenz():
    flow = sx.catalogue.entry("lorenz").build()
    times = jnp.linspace(0.0, 10.0, 5001)
    path = sx.evolve(flow, jnp.array([-8.0, 8.0, 27.0]), times=times, rtol=1e-10, atol=1e-12)
    return np.asarray(times), np.asarray(path.states)


def test_lorenz_by_differences_has_the_known_coefficients(lorenz):
    library = sx.residual.Monomials("xyz", 2)
    states, slopes = sx.residual.rates(*lorenz)
    found = sx.residual.discover(states, slopes, library, 0.1)
    terms = found.terms
    assert {name: set(row) for name, row in terms.items()} == {
        "x": {"x", "y"},
        "y": {"x", "y", "x z"},
        "z": {"z", "x y"},
    }
    known = [-9.999207, 9.999207, 27.99223, -0.998528, -0.99978, -2.666361, 0.999883]
    got = [
        terms["x"]["x"], terms["x"]["y"], terms["y"]["x"], terms["y"]["y"], terms["y"]["x z"], terms["z"]["z"],
        terms["z"]["x y"],
    ]  # fmt: skip
    np.testing.assert_allclose(got, known, atol=2e-5)
    assert found.condition > 1 and np.isfinite(found.condition)


def test_the_weak_form_is_more_exact_than_differences_on_the_same_series(lorenz):
    library = sx.residual.Monomials("xyz", 2)
    truth = np.zeros((10, 3))
    for label, column, value in (
        ("x", 0, -10.0), ("y", 0, 10.0), ("x", 1, 28.0), ("y", 1, -1.0), ("x z", 1, -1.0), ("z", 2, -8 / 3), ("x y", 2,
        1.0),
    ):  # fmt: skip
        truth[library.labels.index(label), column] = value
    weak = sx.residual.discover_weakly(*lorenz, library, 0.1, window=40)
    plain = sx.residual.discover(*sx.residual.rates(*lorenz), library, 0.1)
    errors = [np.abs(np.asarray(found.coefficients) - truth).max() for found in (weak, plain)]
    # Differences: h^2 x'''/6. The trapezoidal rule on functions flat to order 4 at their ends errs by about h^4.
    assert errors[1] > 1e-3 and errors[0] < errors[1] / 100


def test_smoothing_bears_noise_that_differences_do_not():
    noisy = TURNING + 0.02 * np.random.default_rng(0).normal(size=TURNING.shape)
    truth = 2 * np.stack([-np.sin(2 * TIMES), np.cos(2 * TIMES)], axis=1)
    inner = slice(12, -12)
    error = {}
    for how in ("differences", "spline", "savitzky-golay"):
        _, slopes = sx.residual.rates(TIMES, noisy, how, window=25)
        error[how] = np.sqrt(np.mean((np.asarray(slopes) - truth)[inner] ** 2))
    # Differences make s/(sqrt 2 h) of noise.
    assert error["differences"] == pytest.approx(0.02 / (np.sqrt(2) * 0.025), rel=0.1)
    assert error["spline"] < error["differences"] / 4 and error["savitzky-golay"] < error["differences"] / 4


def test_a_polynomial_window_is_exact_on_its_polynomials():
    cubic = (TIMES**3 - TIMES)[:, None]
    for window in (5, 11):
        states, slopes = sx.residual.rates(TIMES, cubic, "savitzky-golay", window=window)
        np.testing.assert_allclose(states, cubic, atol=1e-9)
        np.testing.assert_allclose(slopes[:, 0], 3 * TIMES**2 - 1, atol=1e-8)


def test_standard_errors_are_those_of_least_squares_on_what_is_kept():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, size=(200, 2))
    x, y = points.T
    slopes = np.stack([1.5 * x - y, x * y], axis=1) + 0.1 * rng.normal(size=points.shape)
    found = sx.residual.discover(points, slopes, sx.residual.Monomials("xy", 2), 0.3)
    errors = np.asarray(found.standard_errors)
    labels = found.library.labels
    for column, kept, design in ((0, ("x", "y"), np.stack([x, y], axis=1)), (1, ("x y",), (x * y)[:, None])):
        rows = [labels.index(label) for label in kept]
        assert np.flatnonzero(np.isfinite(errors[:, column])).tolist() == rows
        # Of noise of 0.1, whose size is known from 200 points to 5 %: within three of these.
        exact = 0.1 * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
        np.testing.assert_allclose(errors[rows, column], exact, rtol=0.15)


def test_the_law_as_latex_and_as_an_expression():
    points = np.random.default_rng(0).uniform(1, 2, size=(40, 2))
    slopes = np.stack([2.0 * points[:, 0] ** 2 * points[:, 1], 0 * points[:, 0] - 3e-7], axis=1)
    found = sx.residual.discover(points, slopes, sx.residual.Monomials("xy", 3), 1e-8)
    assert found.latex.splitlines()[0] == r"\begin{aligned}" and r"\dot{x} &= 2 x^{2} y" in found.latex
    sympy = pytest.importorskip("sympy")
    x, y = sympy.symbols("x y")
    difference = found.sympy["x"] - 2 * x**2 * y
    assert max(abs(float(c)) for c in sympy.Poly(difference, x, y).coeffs()) < 1e-9


def test_hudson_bay_has_the_known_rates():
    data = sx.load("lynx-hare")
    years, hare, lynx = (np.asarray(column, float) for column in _columns(data))
    logs = np.log(np.stack([hare, lynx], axis=1))

    def flow_of(rates):
        a, b, c, d = jnp.exp(rates)
        return sx.as_flow(lambda u: jnp.stack([a - b * jnp.exp(u[1]), -c + d * jnp.exp(u[0])]))

    pieces = sx.residual.segments(years - years[0], logs)
    loss = sx.residual.shooting_loss(flow_of, substeps=20)
    first = sx.residual.start_shooting(jnp.log(jnp.array([0.5, 0.03, 0.8, 0.025])), pieces)
    found = sx.fit(loss, optax.lbfgs(), pieces, initial=first, steps=200).model
    known = [0.54016, 0.027165, 0.79639, 0.023695]
    np.testing.assert_allclose(jnp.exp(found.model), known, rtol=1e-3)
    np.testing.assert_allclose(jnp.exp(found.starts[0]), [34.603, 5.845], rtol=1e-3)
    assert float(jnp.sqrt(loss(found, pieces))) == pytest.approx(0.21923, rel=1e-3)


def _columns(data):
    return data.inputs[:, 0], data.targets[:, 0], data.targets[:, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sx.residual.rates(TIMES[::-1], TURNING), "in row 1 after 6"),
        (lambda: sx.residual.rates(TIMES[:2], TURNING[:2]), "T >= 3"),
        (lambda: sx.residual.rates(TIMES**2, TURNING, "savitzky-golay"), 'Take how="spline"'),
        (lambda: sx.residual.rates(TIMES, TURNING, "savitzky-golay", window=10), "10 rows for degree 3"),
        (lambda: sx.residual.discover_weakly(TIMES, TURNING, sx.residual.Monomials("xy", 2), 0.1, window=200), "2 to 120"),
        (lambda: sx.residual.discover_weakly(TIMES, TURNING, sx.residual.Monomials("xyz", 2), 0.1), "2 columns and 201"),
        (lambda: sx.residual.discover_weakly(TIMES, TURNING, sx.residual.Monomials("xy", 2), -1.0), "threshold\n  got -1"),
    ],
)  # fmt: skip
def test_series_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
