r"""The order of a Runge-Kutta tableau, by Butcher's conditions over rooted trees.

A method has order p where, for every rooted tree of at most p nodes,

    sum_i b_i Phi_i(tree) = 1/gamma(tree),

    Phi_i([t_1 ... t_m]) = prod_k sum_j a_ij Phi_j(t_k),      gamma([t_1 ... t_m]) = |tree| prod_k gamma(t_k),

with Phi = gamma = 1 for a single node. An explicit method of s stages has order s at most, so the search ends.
A tree is written as the sorted tuple of its branches: () is a leaf.

(Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I* (1993), theorem II.2.13.)
"""

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Tree: TypeAlias = tuple[Any, ...]

# Coefficients are given to some 15 digits and enter as products of a few: an unmet condition misses by far more.
TOLERANCE = 1e-10


def order_of(a: np.ndarray, b: np.ndarray) -> int:
    """Return the order of an explicit tableau, 0 where the weights do not sum to 1.

    **Example:** the midpoint rule.

    >>> import numpy as np
    >>> from separatrix.calculus.methods._order_conditions import order_of
    >>> order_of(np.array([[0.0, 0.0], [0.5, 0.0]]), np.array([0.0, 1.0]))
    2
    """
    trees = {()}
    for order in range(1, len(b) + 1):
        if not all(abs(b @ _weight(tree, a) - 1 / _density(tree)) <= TOLERANCE for tree in trees):
            return order - 1
        trees = {larger for tree in trees for larger in _grown(tree)}
    return len(b)


def _grown(tree: Tree) -> Iterator[Tree]:
    """Every tree with one more leaf."""
    yield tuple(sorted((*tree, ())))
    for k, branch in enumerate(tree):
        for larger in _grown(branch):
            yield tuple(sorted((*tree[:k], larger, *tree[k + 1 :])))


def _size(tree: Tree) -> int:
    return 1 + sum(_size(branch) for branch in tree)


def _density(tree: Tree) -> int:
    return _size(tree) * math.prod(_density(branch) for branch in tree)


def _weight(tree: Tree, a: np.ndarray) -> np.ndarray:
    """Phi(tree), one entry for each stage."""
    weight = np.ones(len(a))
    for branch in tree:
        weight = weight * (a @ _weight(branch, a))
    return weight
