"""Processes by fork, from a program of its own that has one thread: forking one with several can stop for ever.

here -> a line of JSON, [work, arguments...] -> the program forks -> the child works; its number comes back
"""

import atexit
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

_WORKS = ("write_run", "race_for", "read_only_child")


class Children:
    """Starts children and tells how they ended. The program starts with the first child."""

    def __init__(self) -> None:
        self._program: Any = None

    def start(self, work: str, *arguments: Any) -> int:
        """A child that does a piece of work and ends; its number."""
        return self._ask([work, *arguments])

    def wait(self, pid: int) -> int:
        """How a child ended, as `os.waitstatus_to_exitcode` says it."""
        return self._ask(["wait", pid])

    def _ask(self, line: list[Any]) -> int:
        if self._program is None:
            # The linear algebra of NumPy has threads of its own unless told otherwise.
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            command = [sys.executable, str(Path(__file__).resolve())]
            self._program = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            atexit.register(self._program.kill)
        self._program.stdin.write(json.dumps(line) + "\n")
        self._program.stdin.flush()
        answer = self._program.stdout.readline()
        if not answer:
            raise RuntimeError("the program that starts children ended")
        return int(answer)


CHILDREN = Children()


def main() -> None:
    """Answer one line after another."""
    import _kills
    import _refusals

    works = {name: getattr(_kills, name, None) or getattr(_refusals, name) for name in _WORKS}
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        if what == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1]), flush=True)
        else:
            print(_forked(works[what], arguments), flush=True)


def _forked(work: Any, arguments: list[Any]) -> int:
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and len(list(tasks.iterdir())) != 1:
        raise RuntimeError("the program that forks has more than one thread")
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.close(0)
        os.dup2(2, 1)  # what a child prints is no answer
        work(*arguments)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # JAX, which is imported and not used, warns of forks
    main()
