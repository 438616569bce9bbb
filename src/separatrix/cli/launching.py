"""The command `launch`: one command or script in several processes, which train one model together."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from separatrix._errors import SeparatrixError, explain
from separatrix.cli.command import Answer, Command

_GRACE = 5.0  # seconds that the others have to say their word
_LOOK = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch(Command):
    """Run a command of separatrix, or a script, in several processes that train one model: launch -n 2 train ...

    A script calls sx.training.join_gang() first, and fit(..., devices="all"). If one process dies all end; started again,
    they go on from the last checkpoint.
    """

    processes: int = 2
    """How many; -n for short."""
    words: tuple[str, ...] = ()
    """The command, or the script and its arguments: all that follows the options."""

    @classmethod
    def prepared(cls, words: list[str]) -> list[str]:
        """Options of `launch` first; what follows is the command's."""
        own, rest = [], list(words)
        while rest and rest[0].startswith("-"):
            word = rest.pop(0)
            name, sign, value = word.partition("=")
            if name in ("-n", "--processes"):
                own.append(f"--processes={value if sign else rest.pop(0) if rest else ''}")
            else:
                own.append(word)
        return [*own, *(["--words", *(f" {word}" for word in rest)] if rest else [])]

    def run(self) -> Answer:
        words = [word.removeprefix(" ") for word in self.words]
        if self.processes < 1:
            raise ValueError(explain("launch: -n", self.processes, "at least 1", "Say -n 2"))
        if not words:
            do = "For example: separatrix launch -n 2 train classifier --data x.csv --out run"
            raise ValueError(explain("launch", "no command", "a command or a script", do))
        if words[0] == "train" and not any(word.split("=")[0] == "--out" for word in words):
            do = "Add --out FOLDER: all processes must mean the same run."
            raise ValueError(explain("launch: train", "no folder", "--out", do))
        return _gang(words, self.processes)


def _gang(words: list[str], count: int) -> Answer:
    """Start all, wait for all; end all if one ends badly."""
    script = [words[0]] if words[0].endswith(".py") else ["-m", "separatrix.cli", words[0]]
    address = f"127.0.0.1:{_free_port()}"
    with tempfile.TemporaryFile() as quiet:
        began = []
        for number in range(count):
            env = os.environ | {"SEPARATRIX_GANG": f"{address} {count} {number}"}
            out: dict[str, Any] = {} if number == 0 else {"stdout": quiet, "stderr": quiet}
            began.append(subprocess.Popen([sys.executable, *script, *words[1:]], env=env, **out))
        try:
            bad = _wait(began)
        finally:
            _end(began)
    if bad is None:
        return Answer({"processes": count, "words": words}, f"{count} processes ended well")
    code = began[bad].returncode
    how = f"ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
    do = "Type the same words again, or `resume`: what was saved is whole, and the run goes on from there."
    raise GangEnded(explain(f"launch: process {bad} of {count}", how, "all of them to the end", do))


def _wait(began: list[Any]) -> int | None:
    """The first process that ended badly; None if all ended well."""
    while True:
        codes = [process.poll() for process in began]
        bad = [number for number, code in enumerate(codes) if code]
        if bad:
            # Who was killed is the cause; who ended because of it has a word of its own to say.
            until = time.monotonic() + _GRACE
            while time.monotonic() < until and any(process.poll() is None for process in began):
                time.sleep(_LOOK)
            return next((number for number in bad if (codes[number] or 0) < 0), bad[0])
        if all(code == 0 for code in codes):
            return None
        time.sleep(_LOOK)


def _end(began: list[Any]) -> None:
    for process in began:
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + _GRACE
    for process in began:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class GangEnded(SeparatrixError):
    """One of the processes that were launched ended badly."""
