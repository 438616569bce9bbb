"""Training on several devices and processes: the numbers of one device, and a dead peer."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import separatrix as sx

SCRIPT = Path(__file__).parents[1] / "support" / "gang_fit.py"
LAUNCH = [sys.executable, "-m", "separatrix.cli", "launch", "-n", "2"]


def run(words, **more):
    """Run in a process of its own, with the variables of this one but its flags; (exit code, what it said)."""
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | more
    done = subprocess.run(
        [str(word) for word in words], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_one_device_four_devices_and_two_processes_give_the_same_numbers(tmp_path):
    for name, words, more in (
        ("one", [sys.executable, SCRIPT], {}),
        ("four", [sys.executable, SCRIPT], {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}),
        ("two", [*LAUNCH, SCRIPT], {}),
    ):
        code, said = run([*words, tmp_path / f"{name}.npz", "-", 100], **more)
        assert code == 0, said
    one, four, two = (np.load(tmp_path / f"{name}.npz") for name in ("one", "four", "two"))
    assert [int(found["devices"]) for found in (one, four, two)] == [1, 4, 2]
    for found in (four, two):
        for name in ("w", "v", "losses"):
            np.testing.assert_allclose(found[name], one[name], rtol=0, atol=1e-6)
    assert one["losses"][-1] < 0.5 * one["losses"][0]


@pytest.mark.slow
def test_a_dead_peer_ends_all_with_a_word_and_the_same_words_go_on(tmp_path):
    words = [*LAUNCH, SCRIPT, tmp_path / "out.npz", tmp_path / "run", 100]
    code, said = run(words, KILL_AT="40")
    assert code == 1 and "launch: process 1 of 2" in said and "ended by signal 9 (SIGKILL)" in said
    assert sx.Run.open(tmp_path / "run").checkpoints[-1] >= 20
    code, said = run(words)
    assert code == 0, said
    assert run([sys.executable, SCRIPT, tmp_path / "one.npz", "-", 100])[0] == 0
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "out.npz")
    for name in ("w", "v", "losses"):
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-6)


def test_devices_that_there_are_not_are_refused():
    loss = lambda model, batch: jnp.mean((batch - model) ** 2)
    fit = lambda devices, data=np.ones(8), loss=loss: sx.fit(
        loss, optax.sgd(0.1), data, initial=jnp.array(0.0), steps=2, devices=devices
    )
    with pytest.raises(ValueError, match=rf"got 99, expected at most {len(jax.devices())}"):
        fit(99)
    with pytest.raises(TypeError, match="got 'some', expected a count"):
        fit("some")
    with pytest.raises(TypeError, match="devices of jax.devices"):
        fit([1, 2])
    with pytest.raises(ValueError, match="an objective without data"):
        fit(1, None, lambda model: model**2)
    # One device: x[2] = 1 - 0.8^2 exactly as without.
    np.testing.assert_allclose(float(fit(1).model), 1 - 0.8**2, rtol=1e-15)
