r"""Where shards are computed: in this process, in processes beside it, on SLURM, or on Ray.

One protocol of one call: `carry_out(work, shards)` computes the shards, in any order, and says of each, as soon as it is
known, that its file is there (None) or what became of its worker. Whether a shard is tried again is not decided here.
"""

import contextlib
import dataclasses
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from separatrix._errors import explain
from separatrix.systems import ranges
from separatrix.training.run import StorageError
from separatrix.training.sweeps.work import Shard

Ended = Iterator[tuple[Shard, str | None]]
_AGAIN = 0.5  # seconds between two looks at a job


@runtime_checkable
class Executor(Protocol):
    """Computes shards; see the head of this page."""

    def carry_out(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Ended:
        """Compute the shards; yield each with None, or with what became of its worker."""
        ...


@dataclasses.dataclass(frozen=True)
class Here:
    """This process, one shard after another."""

    def carry_out(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Ended:
        """Compute the shards."""
        for shard in shards:
            work(shard)
            yield shard, None


@dataclasses.dataclass(frozen=True)
class Pool:
    """Processes of this machine, each begun anew (`spawn`). The function must stand at the top of a module."""

    workers: int = 2

    def __post_init__(self) -> None:
        ranges.whole("Pool: workers", self.workers, "Say how many processes: Pool(4).")

    def carry_out(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Ended:
        """Compute the shards. A worker has an executor of its own: so its death is told of its own shard alone."""
        from concurrent.futures import FIRST_COMPLETED, wait
        from concurrent.futures.process import BrokenProcessPool

        _require_pickles(work)
        waiting, running, began, done = deque(shards), {}, {}, False
        idle: list[Any] = [None] * min(self.workers, len(shards))
        try:
            while waiting or running:
                while waiting and idle:
                    worker, shard = idle.pop() or _worker(work), waiting.popleft()
                    try:
                        future = worker.submit(_carry, shard)
                    except BrokenProcessPool:  # it died with nothing to do
                        worker = _worker(work)
                        future = worker.submit(_carry, shard)
                    running[future] = (shard, worker)
                    began[future] = _processes(worker)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    shard, worker = running[future]
                    try:
                        future.result()
                        why, done = None, True
                    except BrokenProcessPool:
                        _require_started(done, began[future])
                        why = "its worker process died"
                    running.pop(future)
                    if why is not None:
                        worker.shutdown(wait=False)
                    idle.append(worker if why is None else None)
                    yield shard, why
        finally:
            for worker in [*(worker for _, worker in running.values()), *(one for one in idle if one is not None)]:
                _end(worker)


_WORK: list[Callable[[Shard], None]] = []


def _worker(work: Callable[[Shard], None]) -> Any:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_install, initargs=(work, os.getpid()))


def _install(work: Callable[[Shard], None], parent: int) -> None:
    """Make this process a worker: Ctrl-C is its parent's affair, and it does not outlive it."""
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_AGAIN)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()
    _WORK[:] = [work]


def _carry(shard: Shard) -> None:
    _WORK[0](shard)


def _end(worker: Any) -> None:
    """End a worker, whatever it is at."""
    for process in _processes(worker):
        with contextlib.suppress(OSError, ValueError):
            process.terminate()
    worker.shutdown(wait=True, cancel_futures=True)


def _processes(worker: Any) -> list[Any]:
    return list((getattr(worker, "_processes", None) or {}).values())


def _require_started(done: bool, processes: list[Any]) -> None:
    """Refuse workers that end with an error of Python's own before any has done something: each new one would.

    **Raises:** `StorageError`.
    """
    for process in processes:
        process.join(1.0)
        if not done and process.exitcode == 1:
            got = "a worker that ends before it begins (what it says stands above)"
            do = 'Put the call under `if __name__ == "__main__":`, in a file: each worker imports it.'
            raise StorageError(explain("sweep: Pool", got, "workers that start", do))


def _require_pickles(work: Any) -> None:
    """Refuse a function that another process cannot be given.

    **Raises:** `TypeError`.
    """
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        do = "Define it with `def` in a file that is imported, and what it holds likewise; or leave executor= out."
        raise TypeError(
            explain("sweep: function", str(error)[:200], "a function at the top of a module", do)
        ) from error


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Jobs of SLURM, by submitit (an extra). A job that is taken off its machine is queued again and goes on.

    - `logs`: folder of the jobs' scripts and output, on a disk that all machines see.
    - `options`: as submitit has them: `timeout_min`, `slurm_partition`, `mem_gb`, `cpus_per_task`.
    - `cluster`: "slurm"; "local" for processes of this machine, "debug" for this process, to try things out.
    """

    logs: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cluster: str = "slurm"

    def carry_out(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Ended:
        """Submit the shards as one array of jobs."""
        submitit = _imported("submitit", "sweeps")
        try:
            executor = submitit.AutoExecutor(folder=self.logs, cluster=self.cluster)
            executor.update_parameters(**({"timeout_min": 60} | dict(self.options)))
            jobs = dict(zip(executor.map_array(work, list(shards)), shards, strict=True))
        except Exception as error:
            do = "Check the options and that sbatch works here. What is finished is kept."
            raise StorageError(explain("sweep: SLURM", _said(error), "a cluster that takes the jobs", do)) from error
        try:
            while jobs:
                for job in [job for job in jobs if job.done()]:
                    yield jobs.pop(job), _of_job(job)
                if jobs:
                    time.sleep(_AGAIN)
        finally:
            for job in jobs:
                with contextlib.suppress(Exception):
                    job.cancel()


def _of_job(job: Any) -> str | None:
    error = job.exception()
    if isinstance(error, StorageError):
        raise error
    if error is None:
        return None
    if "CannotWrite" in str(error):
        do = "Free some space, or check that the folder may be written. What is finished is kept."
        raise StorageError(explain("sweep: a job", _said(error), "a disk that takes its results", do))
    return f"its job ended: {_said(error)}"


@dataclasses.dataclass(frozen=True)
class Ray:
    """Tasks of Ray (an extra): of a cluster at an `address`, or of one that is begun here with so many `workers`."""

    workers: int | None = None
    address: str | None = None

    def carry_out(self, work: Callable[[Shard], None], shards: Sequence[Shard]) -> Ended:
        """Hand the shards out as tasks."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = _imported("ray", "sweeps")
        begun = not ray.is_initialized()
        if begun:
            try:
                more = {} if self.address else {"num_cpus": self.workers, "include_dashboard": False}
                ray.init(address=self.address or "local", log_to_driver=False, configure_logging=False, **more)
            except Exception as error:
                do = "Check the address, and RAY_AUTH_MODE=token with the cluster's token. What is finished is kept."
                raise StorageError(explain("sweep: Ray", _said(error), "a cluster that answers", do)) from error
        try:
            # What a task is given by value is sent once.
            task, sent = ray.remote(max_retries=0)(_of_task), ray.put(work)
            running = {task.remote(sent, shard): shard for shard in shards}
            while running:
                for one in ray.wait(list(running))[0]:
                    shard = running.pop(one)
                    try:
                        ray.get(one)
                        why = None
                    except ray.exceptions.RayTaskError as error:
                        raise error.as_instanceof_cause() from error
                    except ray.exceptions.RayError as error:
                        why = f"its worker died: {_said(error)}"
                    yield shard, why
        finally:
            if begun:
                ray.shutdown()


def _of_task(work: Callable[[Shard], None], shard: Shard) -> None:
    work(shard)


def _imported(name: str, extra: str) -> Any:
    """A package of an extra.

    **Raises:** `StorageError` where it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        do = f'Type: pip install "separatrix[{extra}]"'
        raise StorageError(explain("sweep: executor", f"no package {name}", f"{name}", do)) from error


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:200]
