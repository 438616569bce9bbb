"""What the chapter on diffusion measures: shares of modes, entropies, and how digits are judged."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.svm import SVC

from separatrix.diagnostics import classifier_two_sample, frechet_distance, principal_features


def shares(points: Any, centres: Any) -> Any:
    """The share of points nearest to each centre, shape (K,)."""
    squares = np.sum((np.asarray(points)[:, None] - np.asarray(centres)[None]) ** 2, axis=-1)
    return np.bincount(np.argmin(squares, axis=1), minlength=len(centres)) / len(points)


def entropy(mixture: Any, reach: float = 5.0, count: int = 801) -> float:
    """-int p log p of a mixture in the plane, by the trapezoidal rule: spectrally exact for such integrands."""
    grid = jnp.linspace(-reach, reach, count)
    points = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    logs = mixture.log_density(points)
    return float(-jnp.sum(jnp.exp(logs) * logs) * (grid[1] - grid[0]) ** 2)


def normal_divergence(first: float, second: float) -> float:
    """KL(N(0, first) | N(0, second)) of two variances."""
    ratio = first / second
    return 0.5 * (ratio - 1 - float(np.log(ratio)))


class DigitJudge:
    """A classifier trained on the real digits, and features in which sets of images are compared."""

    def __init__(self, images: Any, labels: Any):
        self.images, self.labels = np.asarray(images, float).reshape(len(images), -1), np.asarray(labels)
        self.features = principal_features(self.images)
        self.classifier = SVC(C=10.0).fit(self.images, self.labels)

    def agreement(self, images: Any, labels: Any) -> float:
        """The share of images that the classifier gives the label they should have."""
        return float(np.mean(self.classifier.predict(np.asarray(images, float).reshape(len(images), -1)) == labels))

    def against(self, images: Any, others: Any = None) -> tuple[float, float]:
        """(Frechet distance, two-sample accuracy) of images and other ones, the training set by default."""
        features = self.features(images)
        others = self.features(self.images if others is None else others)
        key = jax.random.key(0)
        told = classifier_two_sample(features, others, key=key, permutations=0)
        return float(frechet_distance(features, others, key=key, permutations=0).value), float(told.value)

    def real_against_real(self, seed: int = 0) -> tuple[float, float]:
        """The same for two random halves of the training set."""
        order = np.random.default_rng(seed).permutation(len(self.images))
        half = len(order) // 2
        return self.against(self.images[order[:half]], self.images[order[half : 2 * half]])

    def independent_pixels(self, labels: Any, seed: int = 0) -> Any:
        """Images whose pixels are independent normal numbers with the mean and spread of their class."""
        rng = np.random.default_rng(seed)
        means = np.stack([self.images[self.labels == label].mean(axis=0) for label in range(10)])
        spreads = np.stack([self.images[self.labels == label].std(axis=0) for label in range(10)])
        return np.clip(means[labels] + spreads[labels] * rng.standard_normal((len(labels), means.shape[1])), 0, 1)


class AttributeJudge:
    """A classifier of each of the five attributes of composed pictures, trained on real compositions."""

    def __init__(self, pictures: Any, codes: Any):
        flat = np.asarray(pictures, float).reshape(len(pictures), -1)
        self.classifiers = [SVC(C=10.0).fit(flat, column) for column in np.asarray(codes).T]

    def right(self, pictures: Any, codes: Any) -> np.ndarray:
        """Which attributes of each picture are as they should be, shape (n, 5)."""
        flat = np.asarray(pictures, float).reshape(len(pictures), -1)
        return np.stack([known.predict(flat) for known in self.classifiers], axis=1) == np.asarray(codes)
