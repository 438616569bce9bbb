"""What a digit costs in bits under the model that drew digits: a part of the chapter on diffusion."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import multivariate_normal

import separatrix as sx
from separatrix.plotting import figure, plot_curves
from separatrix.tour.chapter import Check, Section, source

LEVELS = 17  # of a pixel of the digits, 0 to 16
COUNT = 256  # digits that are weighed


def dequantised(images: Any, key: Any) -> Any:
    """(k + u)/17 in [-1, 1], u uniform: a density for whole numbers."""
    levels = jnp.round(jnp.asarray(images, jnp.float32) * (LEVELS - 1))
    return 2 * (levels + jax.random.uniform(key, levels.shape, jnp.float32)) / LEVELS - 1


def quantised(points: Any) -> Any:
    """The levels that such numbers lie in, over 16: pictures as they were."""
    return jnp.clip(jnp.floor((points + 1) / 2 * LEVELS), 0, LEVELS - 1) / (LEVELS - 1)


def _weigh(network, images):
    """Bits a dimension of digits, with the errors of the probes, under a network that is told no class."""
    process = sx.diffusion.VP()
    prediction = sx.diffusion.network_prediction(process, network, "noise", jnp.full(1, network.classes))
    levels = jnp.round(jnp.asarray(images) * (LEVELS - 1)).astype(jnp.int32)
    scale = {"count": LEVELS, "center": 0.5, "spread": jnp.float32(0.5)}
    settings = {"probes": 4, "steps": 60, "schedule": sx.diffusion.UniformLogSNR(0.02)}
    return sx.diffusion.bits_per_dimension(prediction, levels, key=jax.random.key(0), **scale, **settings)


def normal_bits(train: Any, images: Any) -> tuple[float, float]:
    """(of one normal law with all covariances, of independent pixels): bits a dimension of dequantised digits."""
    fitted, weighed = (np.asarray(dequantised(one, jax.random.key(1)), float) for one in (train, images))
    mean, covariance = fitted.mean(axis=0), np.cov(fitted.T)
    found = []
    spread: Any
    for spread in (covariance, np.diag(np.diag(covariance))):
        nats = multivariate_normal(mean, spread).logpdf(weighed).mean() / mean.size
        found.append(float((np.log(LEVELS / 2) - nats) / np.log(2)))
    return found[0], found[1]


def cost_of_digits(network: Any, digits: Any, say: Any) -> Section:
    """The section: bits a dimension of digits that were not trained on, beside what simpler laws give."""
    say("what a digit costs in bits")
    images = np.asarray(digits.test_inputs)[:COUNT]
    found = _weigh(network, images)
    normal, alone = normal_bits(digits.inputs, images)
    fig, (axes,) = figure(1)
    each = np.sort(np.asarray(found.each))
    shares = (np.arange(len(each)) + 0.5) / len(each)
    ends = np.array([0.0, 1.0])
    curves = {
        "the model": (shares, each), "one normal law": (ends, np.full(2, normal)),
        "independent pixels": (ends, np.full(2, alone)),
    }  # fmt: skip
    plot_curves(curves, x="share of the digits", y="bits a dimension", axes=axes)
    probes = float(np.sqrt(np.mean(np.asarray(found.probe_errors) ** 2) / len(each)))
    text = f"""
        A likelihood is a length of code. {len(each)} digits that were not trained on cost {found.mean:.3f} bits a pixel,
        with a standard error of {found.standard_error:.3f} from the choice of the digits, of which {probes:.4f} is that of
        four random probes of the divergence. Written without a model a pixel of 17 levels takes {np.log2(LEVELS):.2f}
        bits, by independent normal pixels {alone:.3f}. One normal law with all covariances takes {normal:.3f}: a network
        that was trained for pictures, on some 1,400 digits, need not be the better code. Uniform noise within a level makes
        the density one of whole numbers, and the figure an upper bound.
    """
    checks = (
        Check(
            "bits a dimension, below those of independent pixels",
            found.mean,
            alone - 4 * found.standard_error,
            relation="<=",
        ),
        Check("bits a dimension of one normal law, all covariances", normal, alone, relation="<="),
        Check("error of the probes, bits a dimension", probes, 0.02, relation="<="),
    )
    equation = r"-\frac{1}{d}\,E\,\log_2 p\left(\frac{k+u}{17}\right) \ \geq\ -\frac{1}{d}\,E\,\log_2 P(k)"
    caption = "Bits a dimension of test digits in rising order, and the means that simpler laws give."
    return Section("What a digit costs", text, equation, fig, caption, source(_weigh), checks)
