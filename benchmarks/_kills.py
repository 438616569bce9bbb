"""Processes that write a run and are killed, and processes that fight for one. A kill costs a fork (see `_children`).

The work is a recurrence of whole numbers, x[n+1] = a x[n] + c mod 2^64, so that each state is known exactly.
"""

import mmap
import os
import signal
import struct
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from _children import CHILDREN

from separatrix.training.run import Files, Run, StorageError

EVERY = 5  # steps between saves
NUMBERS = 4096  # of the state: 32 kB
PIECE = 4096  # bytes that a slowed write takes at once
PAUSE = 0.001  # seconds between two of them
RACE = "go answered0 answered1 won0 won1"
NAMES = "first step saved asked inside"  # what a child tells of itself


def state_at(step: int) -> np.ndarray:
    """The state after so many steps, by the closed form of the recurrence."""
    a, c, modulus = 6364136223846793005, 1442695040888963407, 1 << 64
    power = pow(a, step, modulus)
    # sum of a^k for k < step, by (a^step - 1) / (a - 1) modulo 2^64 (a - 1)
    total = (pow(a, step, modulus * (a - 1)) - 1) // (a - 1) % modulus
    start = np.arange(NUMBERS, dtype=np.uint64)
    return start * np.uint64(power) + np.uint64(c * total % modulus)


def stepped(state: np.ndarray) -> np.ndarray:
    """One step."""
    return state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)


class Board:
    """Numbers that a child writes and others read, also after its death: a file in memory."""

    def __init__(self, names: str, path: Path | str | None = None) -> None:
        self.names = names.split()
        if path is None:
            self.path = Path(tempfile.mkstemp(suffix=".board")[1])
            self.path.write_bytes(bytes(8 * len(self.names)))
            weakref.finalize(self, self.path.unlink)
        else:
            self.path = Path(path)
        with open(self.path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8 * len(self.names))

    def __getitem__(self, name: str) -> int:
        return struct.unpack_from("q", self._memory, 8 * self.names.index(name))[0]

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self._memory, 8 * self.names.index(name), value)


def write_run(path: str, board_path: str, beside: bool) -> None:
    """Take a run up and work for ever; saves are slowed, and beside the work where asked."""
    board = Board(NAMES, board_path)
    run = Run.reopen(path, files=_slowed(board))
    saved = run.restore()
    state, step = (state_at(0), 0) if saved is None else (saved.tree["model"], saved.step or 0)
    board["saved"] = board["step"] = board["first"] = step
    while True:
        state, step = stepped(state), step + 1
        board["step"] = step
        run.log(step, {"first": int(state[0] >> np.uint64(12))})
        if step % EVERY == 0:
            if beside:
                run.wait()
                board["saved"] = board["asked"]
            run.save(step, {"model": state, "n": step}, wait=not beside)
            board["asked"] = step
            board["saved"] = board["saved"] if beside else step
        if beside:
            time.sleep(PAUSE)


def _slowed(board: Board) -> Files:
    def write(handle: int, data: Any) -> int:
        # A line of a log is written as it is; a checkpoint in pieces.
        if len(data) < PIECE:
            return os.write(handle, data)
        board["inside"] = 1
        time.sleep(PAUSE)
        return os.write(handle, data[:PIECE])

    def rename(source: Any, target: Any) -> None:
        os.replace(source, target)
        board["inside"] = 0

    return Files(write=write, rename=rename)


def kill_once(path: Path, random: np.random.Generator, inside: bool, beside: bool) -> dict[str, Any]:
    """Let a child work on the run, kill it, and say what was left.

    `inside`: wait until it is in the middle of its second save, then a part of the time that one takes.
    """
    board = Board(NAMES)
    pid = CHILDREN.start("write_run", str(path), str(board.path), beside)
    begun = time.monotonic()
    while board["step"] < 1 or (inside and not (board["inside"] and board["step"] >= board["first"] + 2 * EVERY)):
        if time.monotonic() - begun > 20:
            raise RuntimeError("the child does not work")
        time.sleep(0.0005)
    pieces = 8 * NUMBERS // PIECE
    time.sleep(random.uniform(0, PAUSE * pieces if inside else 4 * PAUSE * pieces))
    os.kill(pid, signal.SIGKILL)
    CHILDREN.wait(pid)
    return judged(path, board)


def judged(path: Path, board: Board) -> dict[str, Any]:
    """What a killed run holds, compared with what must be there."""
    strays = _strays(path)
    run = Run.open(path)
    status, latest = run.status, run.latest() if run.checkpoints else None
    step = 0 if latest is None else latest.step or 0
    whole = latest is None or (np.array_equal(latest.tree["model"], state_at(step)) and not latest.passed_over)
    rows = run.steps
    right = run.metrics["first"][:: max(1, len(rows) // 5)] if len(rows) else []
    expected = [float(state_at(int(n))[0] >> np.uint64(12)) for n in rows[:: max(1, len(rows) // 5)]]
    with Run.reopen(path) as again:
        again.restore()
    return {
        "lost": not whole or step < board["saved"] or status != "killed",
        "work": board["step"] - step,
        "inside": board["inside"] == 1,
        "strays": strays,
        "left": _strays(path),
        "bad metrics": not (
            list(right) == expected and list(rows) == list(range(1, len(rows) + 1)) and len(rows) >= step
        ),
    }


def _strays(path: Path) -> int:
    return sum(1 for found in path.rglob("*.tmp"))


def race(path: Path, new: bool) -> int:
    """Two processes that take a run at once; how many had it, each until both were answered."""
    board = Board(RACE)
    children = [CHILDREN.start("race_for", str(path), new, str(board.path), number) for number in (0, 1)]
    time.sleep(0.002)
    board["go"] = 1
    codes = [CHILDREN.wait(pid) for pid in children]
    return board["won0"] + board["won1"] if codes == [0, 0] else -1


def race_for(path: str, new: bool, board_path: str, number: int) -> None:
    """One of two that take a run."""
    board = Board(RACE, board_path)
    while not board["go"]:
        pass
    try:
        run = Run.create(path) if new else Run.reopen(path)
    except StorageError:
        # Locked, or a run is there already: whoever comes late is told so.
        board[f"answered{number}"] = 1
        return
    board[f"won{number}"] = board[f"answered{number}"] = 1
    begun = time.monotonic()
    while (not board["answered0"] or not board["answered1"]) and time.monotonic() - begun < 20:
        time.sleep(0.001)
    run.close()
