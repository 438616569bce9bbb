"""A sweep on a cluster of one machine: `cluster_sweep.py slurm FOLDER`, or `ray FOLDER ADDRESS`; the scripts start them.

Each trial must be there once with its own number; of SLURM's, one job is taken off the machine half-way and goes on.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from separatrix.training.sweeps import Ray, Slurm, sweep

TRIALS, SHARD, PAUSE = 12, 4, 3.0


def trial(x: float) -> float:
    """x^2, after a while; `float` refuses to be traced."""
    time.sleep(PAUSE)
    return float(x) ** 2


def take_off(logs: Path, seconds: float) -> None:
    """Send a job of ours the signal by which SLURM warns before it takes it off its machine; then let it start again."""
    while not (running := _jobs("R")):
        time.sleep(0.2)
    # Before it says so, the job has no handler for the signal.
    while not any("Starting with" in path.read_text() for path in logs.glob("*.out")):
        time.sleep(0.2)
    time.sleep(seconds)
    subprocess.run(["scancel", "--signal=USR2", running[0]], check=False)
    print(f"job {running[0]} was warned", flush=True)
    while True:  # SLURM waits two minutes before it starts a job anew, unless it is told not to
        for job in _jobs("PD"):
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True, check=False)
        time.sleep(1.0)


def _jobs(state: str) -> list[str]:
    listed = ["squeue", "-h", "-r", "-t", state, "-o", "%A"]
    return subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()


def main() -> None:
    """Sweep, and compare."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "slurm":
        executor = Slurm(str(folder / "jobs"), {"timeout_min": 5, "cpus_per_task": 1})
        threading.Thread(target=take_off, args=(folder / "jobs", 3.0), daemon=True).start()
    else:
        executor = Ray(address=sys.argv[3])
    xs = np.arange(TRIALS, dtype=float)
    found = sweep(trial, {"x": xs}, out=folder / "sweep", shard=SHARD, together=False, executor=executor)
    print(found)
    right = np.array_equal(found["trial"], np.arange(TRIALS)) and np.array_equal(found["value"], xs**2)
    if not right or found.counts() != {"completed": TRIALS}:
        raise SystemExit(f"{kind}: wrong")
    again = sum("requeue" in path.read_text().lower() for path in folder.glob("jobs/*.err"))
    print(f"{kind}: {TRIALS} trials, each once; {again} jobs queued again")


if __name__ == "__main__":
    main()
