"""What cannot be used is refused in words, before anything is compiled."""

import jax
import jax.numpy as jnp
import pytest

import separatrix as sx

D = sx.diffusion
EDM = D.EDM()
NORMAL = D.Prediction(EDM, lambda t, x: x / (1 + t**2), "clean")
LAW = D.GaussianMixture([1.0], [[0.0]], [1.0])
KEY = jax.random.key(0)
UNTRAINED = D.DiffusionModel(
    D.Preconditioned(lambda level, x: jnp.exp(1e9 * x), EDM, 1.0), jnp.float32([0.0]), jnp.float32([1.0]),
    {"shape": (1,), "classes": None, "width": 1, "depth": 1},
)  # fmt: skip


def seen_of_two(x):
    return x[:1]


CASES = {
    "points that are whole numbers": (lambda: D.log_density(NORMAL, jnp.zeros((2, 1), int)), "points\n  got .* of int64"),
    "no points": (lambda: D.log_density(NORMAL, jnp.zeros((0, 1))), r"points\n  got shape \(0, 1\)"),
    "a probe without probes": (lambda: D.log_density(NORMAL, jnp.zeros((2, 1)), probe="gaussian"), "without probes"),
    "a schedule that is none": (lambda: D.log_density(NORMAL, jnp.zeros((2, 1)), schedule=3), "schedule\n  got int"),
    "dimension of whole numbers": (lambda: D.local_dimension(NORMAL, jnp.zeros((2, 1), int), 0.1), "of int64"),
    "dimension by no probes": (lambda: D.local_dimension(NORMAL, jnp.zeros((2, 1)), 0.1, probes=0, key=KEY), "probes"),
    "times that turn": (lambda: D.sampling_map(D.DDIM(), NORMAL, [3.0, 1.0, 2.0]), "times that turn or repeat"),
    "one time": (lambda: D.sampling_map(D.DDIM(), NORMAL, [3.0]), "at least two"),
    "a time below 0": (lambda: D.sampling_map(D.DDIM(), NORMAL, [3.0, -1.0]), "times"),
    "MeanFlow's times that rise": (lambda: D.MeanFlowMap(lambda t, x: x, [0.0, 1.0]), "rise or repeat"),
    "MeanFlow's times past 1": (lambda: D.MeanFlowMap(lambda t, x: x, [2.0, 0.0]), "from 0 to 1"),
    "the floor of MeanFlow": (lambda: D.loss_floor(D.MeanFlow(), LAW), "loss\n  got MeanFlow"),
    "the gap of MeanFlow": (lambda: D.loss_gap(D.MeanFlow(), None, jnp.zeros((2, 1)), key=KEY), "loss\n  got MeanFlow"),
    "guidance towards a function": (lambda: D.guided(NORMAL, lambda t, x: x, scale=2.0), "wanted\n  got function"),
    "guidance between processes": (
        lambda: D.guided(NORMAL, D.Prediction(D.VP(), lambda t, x: x, "clean"), scale=2.0), "EDM and VP",
    ),
    "a measurement that is NaN": (lambda: D.measured(NORMAL, seen_of_two, jnp.array([jnp.nan]), noise=1.0), "observed"),
    "a measurement of another shape": (
        lambda: D.measured(NORMAL, seen_of_two, jnp.zeros(3), noise=1.0).clean(1.0, jnp.zeros((1, 2))), r"got shape \(3,\)",
    ),
    "batches of none": (lambda: UNTRAINED.sample(KEY, 4, batch_size=0), "batch_size"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_used_is_refused_in_words(name):
    call, words = CASES[name]
    with pytest.raises((TypeError, ValueError), match=words):
        call()


def test_samples_that_break_say_at_which_level():
    with pytest.raises(ValueError, match="no finite number at step 1 of 3, sigma/alpha = 80"):
        UNTRAINED.sample(jax.random.key(4), 4, steps=3)
