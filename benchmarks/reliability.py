r"""Runs on disk under what happens to them: `make reliability`, or a hundredth of it without `--full`.

Each part can be tried by itself, as `--only mutated raced`; the table then has the rows of the others from their last
full trial, each with its own date.

killed       SIGKILL at a random instant, half of them inside a save that a slowed disk draws out; the same run is taken
             up again each time. Lost: no good checkpoint, one older than what was promised, or one with other numbers
mutated      a checkpoint changed by accident (bits, cuts, zeros, splices, insertions, blocks, another file) or on
             purpose, with digests made to fit
refused      the disk refuses at each open, write, sync, rename and remove in turn; a full disk; a read-only folder
raced        two processes take one run, new or left by a dead one
held up      a checkpoint of 100 MB: how long it keeps the computation from going on
resumed      trainings of every kind, killed and taken up again: the same bytes as without
commands     the same of `separatrix train` and `separatrix resume`
swept        SIGKILL at random instants for the workers of a sweep: each trial must be recorded exactly once
"""

import argparse
import codecs
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _children import CHILDREN
from _commands import commanded
from _kills import EVERY, NAMES, NUMBERS, Board, kill_once, race
from _mutants import ACCIDENTS, Watch, forgeries
from _refusals import ERRORS, full_disk, read_only, refuse_each
from _resumes import resumed
from _sweeps import swept
from _table import RESULTS, report

from separatrix.training.run import Run, StorageError, load_tree

KILLS, MUTANTS, RACES, RESUMES, COMMANDS, WORKERS = 1000, 10_000, 100, 100, 30, 200


def killed(folder: Path, count: int, beside: bool) -> list[list[Any]]:
    """A row of the table for killed runs that save beside the work, or wait for each save."""
    random = np.random.default_rng(count + beside)
    path = folder / f"killed{beside}"
    Run.create(path).close()
    found = [kill_once(path, random, inside=number % 2 == 0, beside=beside) for number in range(count)]
    lost, work = sum(one["lost"] for one in found), max(one["work"] for one in found)
    wrong = sum(one["bad metrics"] or one["left"] > 0 for one in found)
    inside, strays = sum(one["inside"] for one in found), sum(one["strays"] for one in found)
    how = "saving beside the work" if beside else "waiting for each save"
    notes = f"{inside} inside a save; {strays} strays, 0 after restart; work lost at most {work / EVERY:.1f} intervals"
    # Beside the work one save may be under way, and the next one asked for: two intervals. Else one at most.
    late = work > (2 * EVERY if beside else EVERY)
    return [[f"killed, {how}", len(found), lost + wrong + late, notes]]


def mutated(folder: Path, count: int) -> list[list[Any]]:
    """Rows of the table for changed files: refused or passed over, or as it was; anything else is wrong."""
    random, watch, sign = np.random.default_rng(count), Watch(), folder / "sign"
    path, other = folder / "mutated", folder / "other"
    for where in (path, other):
        with Run.create(where, spec={"size": 3}) as run:
            for step in (1, 2, 3):
                run.log(step, {"loss": 1 / step})
                run.save(step, _tree(step, float(where == other)), key=np.arange(2, dtype=np.uint32), wait=True)
    files = sorted((path / "checkpoints").iterdir())
    newest, whole = files[-1], files[-1].read_bytes()
    others = [files[0].read_bytes(), *(file.read_bytes() for file in (other / "checkpoints").iterdir())]
    read = {"by accident": 0, "on purpose": 0}
    wrong, slowest = dict(read), 0.0
    forged_files = forgeries(whole, sign)
    # What Python and JAX import on first use is imported: what a file runs, it runs at each reading.
    for name in ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be"):
        codecs.lookup(name)
    for data in (whole, *forged_files):
        newest.write_bytes(data)
        _read_well(path, newest, data == whole, "on purpose", watch)
    watch = Watch()
    for number in range(count + len(forged_files)):
        kind = "by accident" if number < count else "on purpose"
        if kind == "by accident":
            data = ACCIDENTS[number % len(ACCIDENTS)](whole, others[random.integers(len(others))], random)
        else:
            data = forged_files[number - count]
        newest.write_bytes(data)
        begun = time.perf_counter()
        right = _read_well(path, newest, data == whole, kind, watch)
        slowest = max(slowest, time.perf_counter() - begun)
        read[kind] += 1
        wrong[kind] += not right
    newest.write_bytes(whole)
    ran = f"0 ran code, slowest {1e3 * slowest:.0f} ms"
    if watch.seen or sign.exists():
        wrong["on purpose"] += 1
        ran = f"code ran: {set(watch.seen)}"
    return [[f"mutated {kind}", read[kind], wrong[kind], ran] for kind in read]


def _read_well(path: Path, newest: Path, same: bool, kind: str, watch: Watch) -> bool:
    """Whether a changed newest checkpoint is refused by itself, and passed over by its run."""
    import warnings

    with warnings.catch_warnings(), watch:
        warnings.simplefilter("ignore")
        try:
            alone = load_tree(newest).tree
        except StorageError:
            alone = None
        try:
            saved = Run.open(path).latest()
        except StorageError:
            return False
    if kind == "on purpose":
        return True  # what somebody signs anew can say anything, as long as it runs nothing and is told in our words
    step = 3 if same else 2
    fits = saved.step == step and _equal(saved.tree, _tree(step, 0.0)) and bool(saved.passed_over) != same
    # By itself, another whole file is what it is: only its run knows that it does not belong there.
    return fits and (alone is None or any(_equal(alone, _tree(n, of)) for n in (1, 2, 3) for of in (0.0, 1.0)))


def _tree(step: int, shift: float) -> dict[str, Any]:
    base = np.arange(12, dtype=np.float32).reshape(3, 4) + np.float32(step + shift)
    return {"model": {"w": base, "b": base[0] > 2, "n": step, "rate": 0.1 * step, "name": "net", "no": None},
            "state": [base.astype(np.float16), np.int32(step), np.zeros((0, 2)), base[0] * 1j]}  # fmt: skip


def _equal(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in b)
    if isinstance(b, list):
        return isinstance(a, list) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(b, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def refused(folder: Path, errors: tuple[int, ...] = ERRORS) -> list[list[Any]]:
    """Rows of the table for a disk that refuses: failing, full, read-only and forbidden at each call by default."""
    found = list(refuse_each(folder, errors))
    wrong = [f"{call}: {what}" for call, what in found if what]
    calls = ", ".join(f"{sum(name == call for name, _ in found)} {call}" for call in dict.fromkeys(c for c, _ in found))
    rows = [["disk refuses a call", len(found), len(wrong), wrong[0] if wrong else calls]]
    for name, said in (("disk full", full_disk()), ("folder read-only", read_only())):
        tried = not said.startswith("not tried")
        rows.append([name, int(tried), int(bool(said) and tried), said or "told, old data whole"])
    return rows


def raced(folder: Path, count: int) -> list[list[Any]]:
    """Rows of the table for two processes that take one run."""
    new = [race(folder / f"race{n}", new=True) for n in range(count // 2)]
    left = folder / "left"
    Run.create(left).close()
    random, stale = np.random.default_rng(0), []
    for _ in range(count - count // 2):
        kill_once_held(left, random)
        stale.append(race(left, new=False))
    rows = (("new run", new), ("run of a dead process", stale))
    return [[f"two take a {name}", len(won), sum(n != 1 for n in won), "one winner each"] for name, won in rows]


def kill_once_held(path: Path, random: np.random.Generator) -> None:
    """Leave a lock of a dead process."""
    board = Board(NAMES)
    pid = CHILDREN.start("write_run", str(path), str(board.path), False)
    while board["step"] < 1:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.002))
    os.kill(pid, signal.SIGKILL)
    CHILDREN.wait(pid)


def held_up(folder: Path, repeats: int, megabytes: int = 100) -> list[list[Any]]:
    """Rows of the table for what a checkpoint costs the computation."""
    import jax
    import jax.numpy as jnp

    count = megabytes * 1_000_000 // 4 // 10
    tree = {"model": [jnp.full(count, float(n)) for n in range(10)]}
    jax.block_until_ready(tree)
    with Run.create(folder / "held") as run:
        run.save(0, tree, wait=True)
        holds, writes = [], []
        for step in range(1, repeats + 1):
            begun = time.perf_counter()
            run.save(step, tree)
            holds.append(time.perf_counter() - begun)
            run.wait()
            writes.append(time.perf_counter() - begun)
    hold, write = statistics.median(holds), statistics.median(writes)
    notes = f"{1e3 * hold:.0f} ms of {1e3 * write:.0f} ms, {hold / write:.1%}"
    return [[f"held up by {megabytes} MB", repeats, int(hold > 0.1 * write), notes]]


PARTS: dict[str, tuple[Callable[[Path, int], list[list[Any]]], int]] = {
    "waiting": (lambda folder, count: killed(folder, count, beside=False), KILLS // 2),
    "beside": (lambda folder, count: killed(folder, count, beside=True), KILLS // 2),
    "mutated": (mutated, MUTANTS),
    "refused": (lambda folder, _: refused(folder), 1),
    "raced": (raced, RACES),
    "held": (lambda folder, _: held_up(folder, 7), 1),
    "resumed": (resumed, RESUMES),
    "commands": (commanded, COMMANDS),
    "swept": (swept, WORKERS),
}


def main() -> None:
    """Try the parts that are asked for; print and keep the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="1,000 kills, 10,000 mutants, 100 races, 130 resumes")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="all by default")
    asked = parser.parse_args()
    share = 1 if asked.full else 100
    kept = _kept(share)
    for name in asked.only:
        try_out, count = PARTS[name]
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            rows = try_out(Path(folder), max(4, count // share))
            about = f"{time.strftime('%Y-%m-%d')}, {time.perf_counter() - begun:.0f} s"
        kept[name] = [[*row, about] for row in rows]
        _place(share).parent.mkdir(exist_ok=True)
        _place(share).write_text(json.dumps(kept, indent=1) + "\n")
    notes = (
        f"A state of {8 * NUMBERS // 1000} kB is saved every {EVERY} steps. Beside the work, what was computed while a "
        "save was written is lost too."
    )
    table = [row for name in PARTS for row in kept.get(name, ())]
    report("reliability", "runs on disk under faults", ["fault", "tried", "wrong", "notes", "when"], table, notes)
    if any(row[2] for row in table):
        raise SystemExit("reliability: something went wrong")


def _place(share: int) -> Path:
    """The rows of each part at its last trial of this size."""
    return RESULTS / f"reliability_parts_{'full' if share == 1 else 'hundredth'}.json"


def _kept(share: int) -> dict[str, list[list[Any]]]:
    return json.loads(_place(share).read_text()) if _place(share).exists() else {}


if __name__ == "__main__":
    main()
