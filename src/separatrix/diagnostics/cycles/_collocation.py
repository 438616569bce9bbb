r"""Orthogonal collocation: a periodic function as polynomials of degree m = 4 on N intervals, one after the other.

    u on [t_n, t_n + h_n]:   u(t_n + s h_n) = sum_j u_j l_j(s),   s_j = j/m,   with u_m of one interval u_0 of the next

A differential equation is asked to hold at the Gauss points c_1, ..., c_m of each interval. The error is then of order
h^(2m) at the ends of intervals and of order h^(m + 1) between them, where its leading term is

    u - x = h^(m+1) x^(m+1)/m! * int_0^s prod_k (r - c_k) dr

A mesh is good where this term is the same on all intervals (de Boor). A function is held by its values (N m, d) at the
base points, time in units of the period, from t = 0 on.
"""

import math

import numpy as np

DEGREE = 4

_points, _weights = np.polynomial.legendre.leggauss(DEGREE)
GAUSS, WEIGHTS = (1 + _points) / 2, _weights / 2
BASE = np.arange(DEGREE + 1) / DEGREE
# Column j: the coefficients of l_j, the constant one first.
_LAGRANGE = np.linalg.inv(np.vander(BASE, increasing=True))


def lagrange(s: np.ndarray) -> np.ndarray:
    """l_j(s), shape (..., m + 1)."""
    return np.power.outer(np.asarray(s, float), np.arange(DEGREE + 1)) @ _LAGRANGE


def _slopes(s: np.ndarray) -> np.ndarray:
    """l_j'(s)."""
    order = np.arange(1, DEGREE + 1)
    return (order * np.power.outer(np.asarray(s, float), order - 1)) @ _LAGRANGE[1:]


# What turns the base values of an interval into values and slopes (times h) at its Gauss points, (m, m + 1) each.
VALUES, SLOPES = lagrange(GAUSS), _slopes(GAUSS)
# l_j^(m): the m-th difference.
_TOP = math.factorial(DEGREE) * _LAGRANGE[DEGREE]


def _error_constant() -> float:
    """max_s |int_0^s prod_k (r - c_k) dr|/m!."""
    product = np.polynomial.Polynomial.fromroots(GAUSS).integ()
    return float(np.max(np.abs(product(np.linspace(0, 1, 1001))))) / math.factorial(DEGREE)


_ERROR = _error_constant()


def blocks(values: np.ndarray) -> np.ndarray:
    """The base values of each interval, its end included, (N, m + 1, d)."""
    rows = values.reshape(-1, DEGREE, values.shape[-1])
    return np.concatenate([rows, np.roll(rows[:, :1], -1, axis=0)], axis=1)


def scattered(rows: np.ndarray) -> np.ndarray:
    """The adjoint of `blocks`: what acts on base values of intervals (N, m + 1, d) as what acts on values (N m, d)."""
    whole = rows[:, :DEGREE].copy()
    whole[:, 0] += np.roll(rows[:, DEGREE], 1, axis=0)
    return whole.reshape(-1, rows.shape[-1])


def base_times(mesh: np.ndarray) -> np.ndarray:
    """Times of the base points, (N m,)."""
    starts = np.concatenate([[0.0], np.cumsum(mesh)[:-1]])
    return (starts[:, None] + mesh[:, None] * BASE[:DEGREE]).ravel()


def evaluated(values: np.ndarray, mesh: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The function at any times in units of the period."""
    times = np.asarray(times, float) % 1.0
    ends = np.cumsum(mesh)
    place = np.minimum(np.searchsorted(ends, times, side="right"), len(mesh) - 1)
    s = (times - (ends[place] - mesh[place])) / mesh[place]
    return np.einsum("kj,kjd->kd", lagrange(s), blocks(values)[place])


def functional(values: np.ndarray) -> np.ndarray:
    """What acts on v as int <v, u'> dt, u of these values, (N m, d), divided by its own norm: the phase condition."""
    slopes = np.einsum("kj,njd->nkd", SLOPES, blocks(values))
    rows = scattered(np.einsum("k,kj,nkd->njd", WEIGHTS, VALUES, slopes))
    return rows / max(float(np.linalg.norm(rows)), 1e-300)


def _top_derivative(values: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """|u^(m+1)| of each interval and coordinate, from the jumps of the m-th derivative at its ends, (N, d)."""
    derivative = np.einsum("j,njd->nd", _TOP, blocks(values)) / mesh[:, None] ** DEGREE
    after = (np.roll(mesh, -1) + mesh)[:, None] / 2
    jumps = np.abs(np.roll(derivative, -1, axis=0) - derivative) / after
    return (jumps + np.roll(jumps, 1, axis=0)) / 2


def error(values: np.ndarray, mesh: np.ndarray) -> float:
    """The leading term of the error between ends of intervals, relative to 1 + |u|."""
    term = _ERROR * np.max(_top_derivative(values, mesh), axis=1) * mesh ** (DEGREE + 1)
    return float(np.max(term) / (1 + np.max(np.abs(values))))


def equidistributed(values: np.ndarray, mesh: np.ndarray, count: int) -> np.ndarray:
    """A mesh of `count` intervals on which the error of each is the same; coordinates count by their own extent."""
    extent = np.ptp(values, axis=0)
    size = np.max(_top_derivative(values, mesh) / (extent + 0.01 * np.max(extent) + 1e-300), axis=1)
    density = size ** (1 / (DEGREE + 1))
    # Half of what is everywhere the same: no interval is more than three times as long as the average.
    density = density + 0.5 * float(np.sum(density * mesh)) + 1e-300
    reached = np.concatenate([[0.0], np.cumsum(density * mesh)])
    ends = np.concatenate([[0.0], np.cumsum(mesh)])
    nodes = np.interp(np.linspace(0.0, reached[-1], count + 1), reached, ends)
    return np.diff(nodes) / (nodes[-1] - nodes[0])


def extremes(values: np.ndarray) -> np.ndarray:
    """Least and largest first coordinate."""
    first = blocks(values)[:, :, 0]
    found = []
    for sign in (-1.0, 1.0):
        rows = sign * first
        best = -np.inf
        # The polynomials beside the largest base value.
        place = int(np.argmax(np.max(rows, axis=1)))
        for row in (rows[place - 1], rows[place], rows[(place + 1) % len(rows)]):
            polynomial = np.polynomial.Polynomial(_LAGRANGE @ row)
            roots = polynomial.deriv().roots()
            inside = np.real(roots[(np.abs(np.imag(roots)) < 1e-9) & (np.real(roots) > 0) & (np.real(roots) < 1)])
            best = max(best, float(np.max(polynomial(np.concatenate([[0.0, 1.0], inside])))))
        found.append(sign * best)
    return np.array(found)
