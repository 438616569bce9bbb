r"""How far generated examples are from real ones, in features of our own.

Features are the leading principal components of the real training set. In them, with means m and covariances C,

    Frechet distance   |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}),

and a classifier that is to tell the two sets apart is right half of the time where they have one law.
"""

from typing import Any

import numpy as np
import scipy.linalg
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier


def principal_features(real: Any, count: int = 20) -> Any:
    """Return the function x (n, ...) -> (n, count) of the leading principal components of a real set."""
    model = PCA(count, random_state=0).fit(np.asarray(real, float).reshape(len(real), -1))
    return lambda examples: model.transform(np.asarray(examples, float).reshape(len(examples), -1))


def frechet_distance(first: Any, second: Any) -> float:
    """Return the Frechet distance of two sets of features (n, d), (m, d), taken as Gaussian."""
    means = [np.mean(features, axis=0) for features in (first, second)]
    spreads = [np.cov(np.asarray(features, float), rowvar=False) for features in (first, second)]
    root = scipy.linalg.sqrtm(spreads[0] @ spreads[1])
    return float(np.sum((means[0] - means[1]) ** 2) + np.trace(spreads[0] + spreads[1] - 2 * np.real(root)))


def two_sample_accuracy(first: Any, second: Any, seed: int = 0) -> tuple[float, float]:
    """Return (accuracy, its standard error) of five nearest neighbours in telling two sets apart, by cross-validation.

    The sets are brought to equal size; 1/2 means that they cannot be told apart.
    """
    rng, size = np.random.default_rng(seed), min(len(first), len(second))
    sets = [np.asarray(s)[rng.permutation(len(s))[:size]] for s in (first, second)]
    features, labels = np.concatenate(sets), np.repeat([0, 1], size)
    order = rng.permutation(2 * size)
    scores = cross_val_score(KNeighborsClassifier(5), features[order], labels[order], cv=5)
    share = float(scores.mean())
    return share, float(np.sqrt(share * (1 - share) / (2 * size)))
