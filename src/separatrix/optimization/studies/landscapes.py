r"""The landscape zoo: functions of the plane whose critical points are all known.

    saddle            L = (x^2 - y^2)/2
    monkey saddle     L = x^3 - 3 x y^2
    three-hump camel  L = 2x^2 - 1.05x^4 + x^6/6 + xy + y^2
    six-hump camel    L = (4 - 2.1x^2 + x^4/3) x^2 + xy + (-4 + 4y^2) y^2
    Styblinski-Tang   L = sum_i (x_i^4 - 16 x_i^2 + 5 x_i)/2
    Mueller-Brown     L = sum_k A_k exp(a_k (x - X_k)^2 + b_k (x - X_k)(y - Y_k) + c_k (y - Y_k)^2)

A critical point is where grad L = 0; its index is the number of negative eigenvalues of the Hessian there: 0 for a minimum,
1 for a saddle, 2 for a maximum. Positions are roots of polynomials (of exponentials for the last), to double precision.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from separatrix._errors import unknown
from separatrix._types import Key, Scalar
from separatrix.optimization.objectives import Beale, Himmelblau, Rosenbrock
from separatrix.systems.objective import Objective


@dataclasses.dataclass(frozen=True)
class CriticalPoint:
    """Where the gradient vanishes: position, value, and the number of negative curvatures."""

    position: tuple[float, ...]
    value: float
    index: int


class Saddle(Objective):
    """L = (x^2 - y^2)/2: one saddle at the origin, no minimum."""

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        return (parameters[0] ** 2 - parameters[1] ** 2) / 2


class MonkeySaddle(Objective):
    """L = x^3 - 3 x y^2: a critical point at the origin whose Hessian is zero."""

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        x, y = parameters[0], parameters[1]
        return x**3 - 3 * x * y**2


class ThreeHumpCamel(Objective):
    """L = 2x^2 - 1.05x^4 + x^6/6 + xy + y^2: three minima in a valley, two saddles."""

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        x, y = parameters[0], parameters[1]
        return 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2


class SixHumpCamel(Objective):
    """L = (4 - 2.1x^2 + x^4/3) x^2 + xy + (-4 + 4y^2) y^2: six minima, seven saddles, two maxima.

    **Reference:** Dixon & Szego, *The global optimization problem: an introduction* (1978).
    """

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        x, y = parameters[0], parameters[1]
        return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2


class StyblinskiTang(Objective):
    """L = sum_i (x_i^4 - 16 x_i^2 + 5 x_i)/2, in any dimension: 3^d critical points, 2^d of them minima."""

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        return jnp.sum(parameters**4 - 16 * parameters**2 + 5 * parameters) / 2


# Rows: height A, curvatures a, b, c, centre (X, Y) of each of four Gaussians.
_MUELLER_BROWN = np.array([
    [-200.0, -1.0, 0.0, -10.0, 1.0, 0.0],
    [-100.0, -1.0, 0.0, -10.0, 0.0, 0.5],
    [-170.0, -6.5, 11.0, -6.5, -0.5, 1.5],
    [15.0, 0.7, 0.6, 0.7, -1.0, 1.0],
])  # fmt: skip


class MuellerBrown(Objective):
    """Four Gaussians with a curved path between three minima, the standard test of methods that find saddles.

    **Reference:** Mueller & Brown, *Location of saddle points and minimum energy paths by a constrained simplex
    optimization procedure*, Theoretica Chimica Acta 53 (1979).
    """

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        height, a, b, c, x, y = jnp.asarray(_MUELLER_BROWN.T, parameters.dtype)
        dx, dy = parameters[0] - x, parameters[1] - y
        return jnp.sum(height * jnp.exp(a * dx**2 + b * dx * dy + c * dy**2))


@dataclasses.dataclass(frozen=True)
class Landscape:
    """An objective of the plane with all its critical points inside a window.

    - `objective`: L. `low`, `high`: corners of a window that shows it. `critical_points`: minima first, the lowest first.
    """

    objective: Objective
    low: tuple[float, float]
    high: tuple[float, float]
    critical_points: tuple[CriticalPoint, ...]


def _points(*rows: tuple[float, float, float, int]) -> tuple[CriticalPoint, ...]:
    return tuple(CriticalPoint((x, y), value, index) for x, y, value, index in rows)


def _mirrored(*rows: tuple[float, float, float, int]) -> tuple[CriticalPoint, ...]:
    """Each row and its image under (x, y) -> (-x, -y)."""
    return _points(*[row for x, y, value, index in rows for row in ((x, y, value, index), (-x, -y, value, index))])


# Roots of 4x^3 - 32x + 5, which is the derivative of a component of Styblinski-Tang times two.
_LOW, _TOP, _HIGH = -2.9035340277711770, 0.15673125678034009, 2.7468027709908370


def _separable() -> tuple[CriticalPoint, ...]:
    def height(x: float) -> float:
        return (x**4 - 16 * x**2 + 5 * x) / 2

    pairs = [(x, y) for x in (_LOW, _HIGH, _TOP) for y in (_LOW, _HIGH, _TOP)]
    rows = [(x, y, height(x) + height(y), int(x == _TOP) + int(y == _TOP)) for x, y in pairs]
    return _points(*sorted(rows, key=lambda row: (row[3], row[2])))


_ZOO = {
    "saddle": lambda: Landscape(Saddle(), (-2.0, -2.0), (2.0, 2.0), _points((0.0, 0.0, 0.0, 1))),
    # Its Hessian vanishes: no eigenvalue is negative, yet it is no minimum.
    "monkey-saddle": lambda: Landscape(MonkeySaddle(), (-2.0, -2.0), (2.0, 2.0), _points((0.0, 0.0, 0.0, 0))),
    "rosenbrock": lambda: Landscape(Rosenbrock(), (-2.0, -1.0), (2.0, 3.0), _points((1.0, 1.0, 0.0, 0))),
    "beale": lambda: Landscape(Beale(), (-4.5, -4.5), (4.5, 4.5), _points(
        (3.0, 0.5, 0.0, 0),
        (0.10053793732415833, -2.6445135850231254, 9.86451228475556, 1),
        (0.0, 1.0, 14.203125, 1),
    )),
    "himmelblau": lambda: Landscape(Himmelblau(), (-6.0, -6.0), (6.0, 6.0), _points(
        (3.0, 2.0, 0.0, 0),
        (-2.8051180869527448, 3.1313125182505730, 0.0, 0),
        (-3.7793102533777469, -3.2831859912861694, 0.0, 0),
        (3.5844283403304917, -1.8481265269644035, 0.0, 0),
        (3.3851541836070207, 0.0738518798377493, 13.31192627040559, 1),
        (0.08667750455539634, 2.8842547011747763, 67.71915008752613, 1),
        (-3.0730257507643897, -0.08135304428796751, 104.01516291755811, 1),
        (-0.12796134673068005, -1.9537149802445766, 178.33723920192745, 1),
        (-0.2708445906673476, -0.9230385564799815, 181.6165215225827, 2),
    )),
    "three-hump-camel": lambda: Landscape(ThreeHumpCamel(), (-2.5, -2.5), (2.5, 2.5), (
        *_points((0.0, 0.0, 0.0, 0)),
        *_mirrored(
            (1.7475523458302888, -0.8737761729151444, 0.29863844223685904, 0),
            (1.07054229182366, -0.53527114591183, 0.87736155776314, 1),
        ),
    )),
    "six-hump-camel": lambda: Landscape(SixHumpCamel(), (-2.0, -1.2), (2.0, 1.2), (
        *_mirrored(
            (0.08984201310031806, -0.7126564030207396, -1.0316284534898774, 0),
            (1.7036067149699807, -0.7960835686726251, -0.21546382438371905, 0),
            (1.6071047529201974, 0.5686514548841314, 2.1042503103112575, 0),
        ),
        *_points((0.0, 0.0, 0.0, 1)),
        *_mirrored(
            (1.1092053368047865, -0.7682680925095399, 0.5437186009781853, 1),
            (1.6380679841897787, 0.22867406904439408, 2.2293571975307134, 1),
            (1.2960702671671092, 0.6050843880386585, 2.2294708180298595, 1),
            (1.2302298765166524, 0.16233458445899493, 2.496295351023577, 2),
        ),
    )),
    "styblinski-tang": lambda: Landscape(StyblinskiTang(), (-5.0, -5.0), (5.0, 5.0), _separable()),
    "mueller-brown": lambda: Landscape(MuellerBrown(), (-1.6, -0.4), (1.2, 2.0), _points(
        (-0.5582236346330243, 1.4417258418046686, -146.69951720995397, 0),
        (0.6234994049308765, 0.02803775852868568, -108.16672411685235, 0),
        (-0.050010822998206056, 0.4666941048719721, -80.76781812965903, 0),
        (0.21248658200066198, 0.2929883251073677, -72.24894011232522, 1),
        (-0.8220015587327321, 0.6243128028148713, -40.664843508657405, 1),
    )),
}  # fmt: skip


def landscape(name: str) -> Landscape:
    """Return a landscape of the zoo by name.

    **Arguments:** one of "saddle", "monkey-saddle", "rosenbrock", "beale", "himmelblau", "three-hump-camel",
    "six-hump-camel", "styblinski-tang", "mueller-brown".

    **Returns:** a `Landscape`: the objective, a window, and every critical point in it with value and index.

    **Raises:** `ValueError` for another name.

    **Example:** the six-hump camel has six minima, seven saddles and two maxima.

    >>> import separatrix as sx
    >>> indices = [point.index for point in sx.optimization.landscape("six-hump-camel").critical_points]
    >>> [indices.count(index) for index in (0, 1, 2)]
    [6, 7, 2]
    """
    if name not in _ZOO:
        raise ValueError(unknown("landscape", name, _ZOO, "Pick one of these.", of="one of:"))
    return _ZOO[name]()


def landscapes() -> tuple[str, ...]:
    """Return the names of the zoo.

    **Example:**

    >>> import separatrix as sx
    >>> "beale" in sx.optimization.landscapes()
    True
    """
    return tuple(_ZOO)
