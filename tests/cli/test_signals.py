"""Signals against real processes: the exit code, the time it takes, and that `finally` blocks run."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

# A command that waits between Python instructions, as a tour does, and marks that its clean-up ran.
ORDERLY = """
import sys, time
from pathlib import Path
from separatrix.cli import commands, main
def run(self):
    try:
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
    finally:
        Path(sys.argv[1]).touch()
commands.Version.run = run
sys.exit(main(["version"]))
"""

# A command that is deep in a compiled program, where no Python handler runs: sin(x) > -2 for ever.
STUCK = """
import sys
import jax, jax.numpy as jnp
from separatrix.cli import commands, main
def run(self):
    print("ready", flush=True)
    jax.block_until_ready(jax.jit(lambda x: jax.lax.while_loop(lambda y: y > -2, jnp.sin, x))(1.0))
commands.Version.run = run
sys.exit(main(["version"]))
"""


@contextlib.contextmanager
def started(code: str, *words: str) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_work_in_order(tmp_path: Path, number: int, code: int) -> None:
    with started(ORDERLY, str(tmp_path / "cleaned")) as process:
        process.send_signal(number)
        said = process.communicate(timeout=10)[1]
    assert process.returncode == code
    assert (tmp_path / "cleaned").exists()
    assert "what was finished is kept" in said and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_compiled_program_does_not_hold_the_process_beyond_five_seconds(number: int, code: int) -> None:
    with started(STUCK) as process:
        time.sleep(1.0)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=30) == code
        assert time.monotonic() - began < 5.0


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with started(STUCK) as process:
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - began < 2.0  # well under the patience of four seconds that one Ctrl-C is given
