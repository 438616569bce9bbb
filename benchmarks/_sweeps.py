"""A sweep whose workers are killed at random instants: each trial must be recorded exactly once, with its own number."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from separatrix.training.sweeps import Pool, read_sweep, sweep

TRIALS, SHARD, WORKERS = 48, 4, 2
PAUSE = 0.05  # seconds that a trial takes


def trial(x: float) -> float:
    """x^2, after a while. `float` refuses to be traced, so that trials run one after another."""
    time.sleep(PAUSE)
    return float(x) ** 2


class _Killer:
    """Kills a random worker now and then, until so many were killed."""

    def __init__(self, count: int, random: Any) -> None:
        self.count, self.killed, self.ended = count, 0, False
        self._random = random
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def _go(self) -> None:
        while not self.ended and self.killed < self.count:
            time.sleep(self._random.uniform(0.05, 4.0))  # some while they start, which takes seconds, most at work
            workers = multiprocessing.active_children()
            if workers and not self.ended:
                one = workers[self._random.integers(len(workers))]
                if one.pid is not None and one.is_alive():
                    os.kill(one.pid, signal.SIGKILL)
                    self.killed += 1

    def stop(self) -> None:
        """Kill no more."""
        self.ended = True
        self._thread.join()


def swept(folder: Path, count: int) -> list[list[Any]]:
    """A row of the table for sweeps whose workers are killed so many times in all."""
    random, killed, wrong, sweeps = np.random.default_rng(count), 0, 0, 0
    while killed < count:
        path = folder / f"sweep{sweeps}"
        killer = _Killer(count - killed, random)
        try:
            xs = np.arange(TRIALS, dtype=float) + 100 * sweeps
            sweep(trial, {"x": xs}, out=path, shard=SHARD, together=False, executor=Pool(WORKERS), retries=10_000)
        finally:
            killer.stop()
        found, names = read_sweep(path), sorted(file.name for file in (path / "shards").iterdir())
        # One row a trial in one file a shard, each row that of its trial; what a kill left may lie beside.
        whole = [name for name in names if not name.startswith(".")]
        right = np.array_equal(found["trial"], np.arange(TRIALS)) and np.array_equal(found["value"], xs**2)
        wrong += not (right and len(whole) == TRIALS // SHARD and set(found["outcome"]) == {"completed"})
        killed, sweeps = killed + killer.killed, sweeps + 1
    notes = f"{sweeps} sweeps of {TRIALS} trials in shards of {SHARD}: each trial once"
    return [["workers of a sweep killed", killed, wrong, notes]]
