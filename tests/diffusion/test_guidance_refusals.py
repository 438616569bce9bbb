"""Guidance that cannot be: one error in words, before the network is called or anything is compiled."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

D = sx.diffusion
EDM, KEY = D.EDM(), jax.random.key(0)
NAN, INF = float("nan"), float("inf")
X = jnp.zeros((2, 3))


class Untouched(eqx.Module):
    """A network with classes, or with rows as conditions, that must not be called."""

    classes: int | None = eqx.field(static=True, default=3)
    absent: jax.Array | None = None

    def __call__(self, t, x, label=None):
        raise AssertionError("the network was called")


def untouched(t, x):
    raise AssertionError("the prediction was called")


NET = Untouched()
ROWS = Untouched(None, jnp.zeros(4))
BARE = Untouched(None)
PLAIN = D.Prediction(EDM, untouched, "clean")
ZERO = D.Prediction(EDM, lambda t, x: 0 * x, "clean")


def by_class(labels, scale: Any = 2.0, network=NET, **more):
    return D.class_guided(EDM, network, labels, scale=scale, **more)


def clean(prediction):
    return prediction.clean(1.0, X)


def sampled(prediction):
    return D.sample(EDM, prediction, KEY, X.shape, steps=2, method=D.DDIM())


def seen(operator, observed, **more):
    return D.measured(PLAIN, operator, observed, **({"noise": 1.0} | more))


def first_two(x):
    return x[:2]


CASES = {
    # labels: how many, which, of what kind
    "one label too many": (lambda: clean(by_class(jnp.array([0, 1, 2]))), r"labels\n  got shape \(3,\) for .* \(2, 3\)"),
    "one label for two": (lambda: clean(by_class(jnp.array([0]))), "labels\n  got .* expected 2, one for each member"),
    "no labels": (lambda: clean(by_class(jnp.zeros(0, int))), r"labels\n  got shape \(0,\)"),
    "too many labels, sampled": (lambda: sampled(by_class(jnp.array([0, 1, 2]))), r"labels\n  got shape \(3,\)"),
    "too many labels, by two predictions": (
        lambda: sampled(D.guided(ZERO, D.network_prediction(EDM, NET, "clean", jnp.array([0, 1, 2])), scale=2.0)),
        r"condition\n  got shape \(3,\)",
    ),
    "too many labels, by w": (
        lambda: D.score_of(EDM, NET, jnp.array([0, 1, 2]), 1.0)(1.0, X), r"labels\n  got shape \(3,\) for",
    ),
    "too many rows": (lambda: clean(by_class(jnp.zeros((3, 4)), network=ROWS)), r"labels\n  got shape \(3, 4\) for"),
    "rows of another width": (lambda: by_class(jnp.zeros((2, 5)), network=ROWS), r"got shape \(2, 5\), expected \(B, 4\)"),
    "one label without an axis": (lambda: by_class(jnp.array(1)), r"labels\n  got shape \(\), expected \(B,\)"),
    "a table of labels": (lambda: by_class(jnp.zeros((2, 1), int)), r"labels\n  got shape \(2, 1\)"),
    "a label past none": (lambda: by_class(jnp.array([0, 4])), r"labels\n  got 4 at index \[1\], expected integers from 0"),
    "a label below 0": (lambda: by_class([0, -1]), r"labels\n  got -1 at index \[1\]"),
    "a label past none, by one prediction": (
        lambda: D.network_prediction(EDM, NET, "clean", jnp.array([0, 4])), r"condition\n  got 4 at index \[1\]",
    ),
    "a label past none, by w": (lambda: D.score_of(EDM, NET, jnp.array([0, 4]), 1.0), r"labels\n  got 4 at index \[1\]"),
    "float labels": (lambda: by_class(jnp.array([0.0, 1.0])), "labels\n  got dtype float64, expected integers from 0 to 3"),
    "float labels, by one prediction": (
        lambda: D.network_prediction(EDM, NET, "clean", jnp.array([0.0, 1.0])), "condition\n  got dtype float64",
    ),
    "float labels, by w": (lambda: D.score_of(EDM, NET, jnp.array([0.0, 1.0]), 1.0), "labels\n  got dtype float64"),
    "labels in words": (lambda: by_class(["cat", "dog"]), "labels\n  got dtype <U3, expected integers from 0 to 3"),
    "true and false": (lambda: by_class(jnp.array([True, False])), "labels\n  got dtype bool"),
    "labels of a kind that is none": (lambda: by_class(jnp.array([0, 1]), kind="nois"), "Did you mean 'noise'"),
    # scales
    "a scale of nan": (lambda: by_class(jnp.array([0, 1]), NAN), "class_guided: scale\n  got nan"),
    "a scale of inf": (lambda: D.guided(PLAIN, PLAIN, scale=INF), "guided: scale\n  got inf"),
    "a w of nan": (lambda: D.guided(PLAIN, PLAIN, w=NAN), "guided: w\n  got nan"),
    "several scales": (lambda: by_class(jnp.array([0, 1]), jnp.ones(3)), r"scale\n  got shape \(3,\), expected one number"),
    "a classifier's scale of nan": (lambda: D.classifier_guided(PLAIN, untouched, scale=NAN), "scale\n  got nan"),
    "a classifier's several scales": (lambda: D.classifier_guided(PLAIN, untouched, scale=[1.0, 2.0]), r"got shape \(2,\)"),
    "a guidance w of nan": (lambda: D.score_of(EDM, NET, jnp.array([0, 1]), NAN), "guidance\n  got nan"),
    "a gap at a scale of nan": (
        lambda: D.guidance_gap(EDM, *[D.GaussianMixture([1.0], [[0.0]], [1.0])] * 2, NAN), "scale\n  got nan",
    ),
    # intervals
    "an interval upside down": (lambda: by_class(jnp.array([0, 1]), interval=(2.0, 1.0)), "interval\n  got 2.0 and 1.0"),
    "an interval of nothing": (lambda: D.guided(PLAIN, PLAIN, scale=2.0, interval=(1.0, 1.0)), "got 1.0 and 1.0"),
    "an interval from below 0": (lambda: D.guided(PLAIN, PLAIN, scale=2.0, interval=(-1.0, 1.0)), "interval\n  got -1.0"),
    "an interval to nan": (lambda: D.guided(PLAIN, PLAIN, scale=2.0, interval=(0.0, NAN)), "interval\n  got nan"),
    "an interval from infinity": (lambda: D.guided(PLAIN, PLAIN, scale=2.0, interval=(INF, INF)), "interval\n  got inf"),
    "an interval of three": (lambda: D.guided(PLAIN, PLAIN, scale=2.0, interval=(1, 2, 3)), r"got \(1, 2, 3\)"),
    "an interval of one": (lambda: D.guided(PLAIN, PLAIN, scale=2.0, interval=1.0), "got 1.0, expected two levels"),
    # processes and classifiers
    "predictions of two noises": (
        lambda: D.guided(PLAIN, D.Prediction(D.VP(), untouched, "clean"), scale=2.0), "EDM and VP",
    ),
    "predictions of two rates": (
        lambda: D.guided(*(D.Prediction(D.VP(0.1, b), untouched, "noise") for b in (10.0, 20.0)), scale=2.0),
        "VP of two kinds of noise",
    ),
    "samples of another process": (
        lambda: D.sample(D.VP(), PLAIN, KEY, X.shape, steps=2), "VP and EDM, expected predictions of one process",
    ),
    "a classifier of all classes": (
        lambda: clean(D.classifier_guided(ZERO, lambda t, x: jax.nn.log_softmax(x))), r"got shape \(2, 3\) for points",
    ),
    "a classifier of the whole batch": (
        lambda: sampled(D.classifier_guided(ZERO, lambda t, x: jnp.sum(x))), r"got shape \(\) for points",
    ),
    # measurements
    "a measurement of another length": (lambda: clean(seen(first_two, jnp.zeros(3))), r"observed\n  got shape \(3,\)"),
    "a measurement of each member": (lambda: sampled(seen(first_two, jnp.zeros((2, 2)))), r"got shape \(2, 2\)"),
    "a measurement of one number": (lambda: clean(seen(first_two, 1.0)), r"observed\n  got shape \(\), expected \(2,\)"),
    "an operator of another length": (
        lambda: clean(seen(lambda x: jnp.zeros((2, 5)) @ x, jnp.zeros(2))), r"operator\n  got TypeError at one example",
    ),
    "an operator of two arrays": (lambda: clean(seen(lambda x: (x, x), jnp.zeros(3))), "operator\n  got tuple"),
    "a measurement of nan": (lambda: seen(first_two, jnp.array([0.0, NAN])), r"observed\n  got nan at index \[1\]"),
    "a measurement without noise": (lambda: seen(first_two, jnp.zeros(2), noise=0.0), "noise\n  got 0.0"),
    "a noise of nan": (lambda: seen(first_two, jnp.zeros(2), noise=NAN), "noise\n  got nan"),
    "a noise for each number": (lambda: seen(first_two, jnp.zeros(2), noise=jnp.ones(2)), r"noise\n  got shape \(2,\)"),
    "an unknown method": (lambda: seen(first_two, jnp.zeros(2), method="moment"), "Did you mean 'moments'"),
    # inversion
    "inversion of whole numbers": (lambda: D.ddim_inversion(PLAIN, jnp.zeros((2, 3), int)), "x\n  got int64"),
    "inversion of a list": (lambda: D.ddim_inversion(PLAIN, [0.0]), "x\n  got list"),
    "inversion of nan": (lambda: D.ddim_inversion(PLAIN, X.at[1, 2].set(NAN)), r"x\n  got nan at index \[1, 2\]"),
    "inversion to no noise": (lambda: D.ddim_inversion(PLAIN, X, schedule=D.UniformTimes()), "a last time above 0"),
    "inversion in no steps": (lambda: D.ddim_inversion(PLAIN, X, steps=0), "steps\n  got 0"),
    "inversion with other labels": (
        lambda: D.ddim_inversion(by_class(jnp.array([0, 1, 2])), X, steps=2), r"labels\n  got shape \(3,\)",
    ),
    "a sample of other labels": (
        lambda: MODEL.sample(KEY, 4, label=jnp.array([0, 1, 2])), r"label\n  got shape \(3,\) of .*, or 4 of them",
    ),
    "a sample of a float label": (lambda: MODEL.sample(KEY, 4, label=1.0), "label\n  got .* of float64"),
    "a sample of a label past none": (lambda: MODEL.sample(KEY, 4, label=3), "label\n  got 3, expected"),
    "a sample at a scale of nan": (lambda: MODEL.sample(KEY, 4, label=1, scale=NAN), "scale\n  got nan"),
}  # fmt: skip
MODEL = D.DiffusionModel(
    D.Preconditioned(NET, EDM, 1.0), jnp.float32([0.0]), jnp.float32([1.0]),
    {"shape": (1,), "classes": 3, "width": 1, "depth": 1},
)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_guidance_that_cannot_be_is_refused_in_words(name):
    call, words = CASES[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n  got " in str(caught.value) and "vmap" not in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: by_class(jnp.array([0]), network=BARE),
        lambda: D.guided(untouched, PLAIN, scale=2.0),
        lambda: D.classifier_guided(untouched, untouched),
        lambda: D.classifier_guided(PLAIN, 3),
        lambda: D.measured(untouched, first_two, jnp.zeros(2), noise=1.0),
        lambda: D.measured(PLAIN, jnp.eye(3), jnp.zeros(3), noise=1.0),
        lambda: D.ddim_inversion(untouched, X),
    ],
)
def test_what_is_of_another_type_is_refused_in_words(call):
    with pytest.raises(TypeError, match="(?s)got .*, expected .*\n"):
        call()


def test_a_measurement_takes_the_dtype_of_the_state():
    """Whole numbers measured, or float64 beside float32: the state keeps its dtype, so that a path of it can go on."""
    for observed in (np.array([1, 0]), np.array([1.0, 0.0])):
        pulled = D.measured(ZERO, first_two, observed, noise=0.5)
        assert pulled.clean(1.0, jnp.zeros((1, 3), jnp.float32)).dtype == jnp.float32
