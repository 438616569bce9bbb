r"""Several distances of the same two samples at once.

No one distance sees all: Frechet two moments, MMD what its bandwidth resolves, a classifier what its neighbours separate,
sliced Wasserstein displacements in the unit of the points. Where they disagree, that is the finding.
"""

from typing import Any

import jax

from separatrix._errors import explain
from separatrix._types import Function, Key
from separatrix.diagnostics.checks import check_key
from separatrix.diagnostics.samples.energy import energy_distance
from separatrix.diagnostics.samples.frechet import frechet_distance
from separatrix.diagnostics.samples.mmd import maximum_mean_discrepancy
from separatrix.diagnostics.samples.result import Distances
from separatrix.diagnostics.samples.sliced import sliced_wasserstein
from separatrix.diagnostics.samples.two_sample import classifier_two_sample

KINDS: dict[str, Function] = {
    "sliced_wasserstein_1": lambda *sets, **settings: sliced_wasserstein(*sets, power=1, **settings),
    "sliced_wasserstein_2": sliced_wasserstein,
    "maximum_mean_discrepancy": maximum_mean_discrepancy,
    "energy_distance": energy_distance,
    "classifier_two_sample": classifier_two_sample,
    "frechet_distance": frechet_distance,
}


def distances(
    first: Any,
    second: Any,
    *,
    key: Key,
    kinds: Any = tuple(KINDS),
    features: Function | None = None,
    permutations: int = 200,
) -> Distances:
    """Return how far two samples are from one another, by several measures, each beside what one law would show.

    **Arguments:**

    - `first`, `second`: shape (n, ...) and (m, ...); points are flattened, sizes may differ.
    - `key`: for permutations, directions and folds.
    - `kinds`: some of "sliced_wasserstein_1", "sliced_wasserstein_2", "maximum_mean_discrepancy", "energy_distance",
      "classifier_two_sample", "frechet_distance"; all by default. Each is a function of its own too, with more settings.
    - `features`: a function of a sample (n, ...) in whose values (n, d) all of them are taken.
    - `permutations`: P of every p-value, of which the smallest possible is 1/(1 + P).

    **Returns:** a `Distances`; the points of both samples must be independent for its p-values to hold.

    **Raises:** `ValueError` for an unknown kind, or samples of different shapes.

    **Example:**

    >>> import jax, separatrix as sx
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 100, 2))
    >>> found = sx.distances(x, y + 1.0, key=jax.random.key(1), kinds=("energy_distance", "frechet_distance"))
    >>> bool(found.p_value < 0.02), sorted(found.kinds)
    (True, ['energy_distance', 'frechet_distance'])

    **Reference:** of each measure in its own file; Phipson & Smyth, *Permutation p-values should never be zero* (2010).
    """
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        got = ", ".join(map(repr, unknown)) or "none"
        raise ValueError(explain("distances: kinds", got, f"some of {', '.join(KINDS)}", "Choose among these."))
    check_key("distances", key, needed=True)
    if features is not None:
        first, second = features(first), features(second)
    keys = jax.random.split(key, len(kinds))
    measured = {
        kind: KINDS[kind](first, second, key=k, permutations=permutations) for kind, k in zip(kinds, keys, strict=True)
    }
    return Distances(measured)
