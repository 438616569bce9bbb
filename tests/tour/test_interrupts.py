"""A tour that is told to end keeps the chapters that were finished, says so in a line, and is gone within five seconds.

Cheap stand-ins for chapters, in a process of their own; the second one holds out in each of the ways that work has.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

PROMISE = 5.0  # seconds, from the signal to the end of the process

TOUR = """
import sys, time, types
from separatrix.cli import commands, main
from separatrix.tour import Chapter, Check, Section
def first(say):
    return [Section("One", "It was finished.", checks=(Check("half", 0.5, 0.5, 0.01),))]
def second(say):
    {work}
for name, work in (("first", first), ("second", second), ("third", first)):
    chapter = Chapter(name, "The " + name, "Why?", work)
    sys.modules["separatrix.tour.chapters." + name] = types.SimpleNamespace(CHAPTER=chapter)
sys.modules["separatrix.tour.running"].CHAPTERS = ("first", "second", "third")
commands.compute = lambda: None
sys.argv[1:] = ["tour", "--out", sys.argv[1]]
sys.exit(main())
"""

READY = "print('ready', flush=True)"

WAYS = {
    "between instructions": f"{READY}; time.sleep(60)",
    "with all errors swallowed": f"""
    {READY}
    while True:
        try: time.sleep(60)
        except BaseException: pass""",
    "with the error made into another": f"""
    {READY}
    try: time.sleep(60)
    except BaseException: raise RuntimeError("something else") from None""",
    "with threads that the end waits for": f"""
    import concurrent.futures
    pool = concurrent.futures.ThreadPoolExecutor()
    pool.submit(time.sleep, 60)
    {READY}; time.sleep(60)""",
    "in what the collector calls": f"""
    class Loud:
        def __del__(self): time.sleep(60)
    thing = Loud(); {READY}; del thing; time.sleep(60)""",
    "in a compiled program": f"""
    import jax, jax.numpy as jnp
    run = jax.jit(lambda x: jax.lax.while_loop(lambda y: y > -2, jnp.sin, x)); {READY}; run(1.0).block_until_ready()""",
    "with a compiled program behind": f"""
    import threading, jax, jax.numpy as jnp
    run = jax.jit(lambda x: jax.lax.while_loop(lambda y: y > -2, jnp.sin, x))
    threading.Thread(target=run, args=(1.0,)).start()
    time.sleep(1); {READY}; time.sleep(60)""",
}
COMPILING = f"""
    import jax, jax.numpy as jnp
    def f(x):
        for i in range(3000): x = jnp.sin(x @ x) + i
        return x
    traced = jax.jit(f).lower(jnp.ones((3, 3))); {READY}; traced.compile()"""


def interrupted(tmp_path: Path, work: str, number: int, after: float = 0.3) -> tuple[int, str, float]:
    """Exit code, what was said, and how long the end took."""
    command = [sys.executable, "-c", TOUR.format(work=work), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(after)
            began = time.monotonic()
            process.send_signal(number)
            said = process.communicate(timeout=60)[1]
            return process.returncode, said, time.monotonic() - began
        finally:
            process.kill()


def require_kept(tmp_path: Path, ended: tuple[int, str, float], code: int) -> None:
    returned, said, seconds = ended
    assert returned == code
    assert seconds < PROMISE
    assert "what was finished is kept" in said
    for foreign in ("Traceback", "Exception ignored", "Error", "fault of ours"):
        assert foreign not in said
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["separatrix-tour.html"]
    page = (tmp_path / "out" / "separatrix-tour.html").read_text(encoding="utf-8")
    assert "It was finished." in page and "1 of 1 checks hold" in page and page.endswith("</html>\n")
    assert "third <small>has not run yet" in page


@pytest.mark.parametrize("way", WAYS)
def test_what_was_finished_is_kept_and_the_end_is_soon(way: str, tmp_path: Path) -> None:
    require_kept(tmp_path, interrupted(tmp_path, WAYS[way], signal.SIGTERM), 143)


def test_ctrl_c_likewise(tmp_path: Path) -> None:
    require_kept(tmp_path, interrupted(tmp_path, WAYS["between instructions"], signal.SIGINT), 130)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.1, 1.0, 3.0])
def test_compilation_does_not_hold_it_back(after: float, tmp_path: Path) -> None:
    require_kept(tmp_path, interrupted(tmp_path, COMPILING, signal.SIGTERM, after), 143)


def test_a_process_that_is_killed_leaves_the_report_and_the_next_one_no_strays(tmp_path: Path) -> None:
    ended = interrupted(tmp_path, WAYS["between instructions"], signal.SIGKILL)
    assert ended[0] == -signal.SIGKILL
    page = (tmp_path / "out" / "separatrix-tour.html").read_text(encoding="utf-8")
    assert "It was finished." in page
    stray = tmp_path / "out" / ".separatrix-tour.html.abc.tmp"
    stray.touch()
    subprocess.run([sys.executable, "-c", TOUR.format(work="return []"), str(tmp_path / "out")], check=True)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["separatrix-tour.html"]
