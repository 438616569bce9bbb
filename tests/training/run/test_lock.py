"""One writer a folder, and a dead one's folder for the next."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from separatrix.training.run import Run, RunLocked
from separatrix.training.run._lock import Lock, holder_of, proven_dead
from separatrix.training.run._process import boot


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def words_of(pid):
    """What the system says of a process after its name: its state first, its start twentieth."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def pretend(path, **fields):
    """A lock that somebody else holds."""
    lock = Lock(path)
    said = json.loads(path.read_text()) | {"token": "another"} | fields
    lock.release()
    path.write_text(json.dumps(said))


def test_the_second_is_refused_with_words_that_name_the_first(path):
    lock = Lock(path)
    with pytest.raises(RunLocked) as caught:
        Lock(path)
    for word in (str(path.parent), f"pid {os.getpid()}", f"host {socket.gethostname()}", "since 20", "Close the run"):
        assert word in str(caught.value)
    lock.release()
    Lock(path).release()


def test_a_living_process_keeps_it_and_a_dead_one_does_not(path):
    child = sleeper()
    try:
        pretend(path, pid=child.pid, start=int(words_of(child.pid)[19]))
        with pytest.raises(RunLocked, match=rf"(?s)pid {child.pid}.*Wait for it"):
            Lock(path)
        child.send_signal(signal.SIGKILL)
        while words_of(child.pid)[0] != "Z":
            time.sleep(0.001)
        assert proven_dead(holder_of(path))  # dead, and its parent has not asked about it yet
    finally:
        child.kill()
        child.wait()
    Lock(path).release()


def test_a_number_given_again_is_another_process(path):
    pretend(path, pid=1, start=int(words_of(1)[19]) + 1)
    Lock(path).release()
    pretend(path, pid=1, start=int(words_of(1)[19]))
    with pytest.raises(RunLocked):
        Lock(path)


def test_a_machine_started_anew_has_no_old_processes(path):
    assert boot()
    pretend(path, boot="another")
    Lock(path).release()


@pytest.mark.parametrize("fields", [{"host": "elsewhere"}, {"namespace": "pid:[1]", "pid": 99999999}])
def test_who_cannot_be_proven_dead_is_refused_unless_forced(path, fields):
    pretend(path, **fields)
    with pytest.raises(RunLocked) as caught:
        Lock(path)
    assert "force=True" in str(caught.value) or "host" not in fields
    lock = Lock(path, force=True)
    assert lock.held()
    lock.release()


def test_a_torn_lock_is_free(path):
    pretend(path)
    path.write_text(path.read_text()[:20])
    Lock(path).release()
    path.write_bytes(b"\xff\0")
    Lock(path).release()


def test_who_lost_it_by_force_writes_no_more(tmp_path):
    run = Run.create(tmp_path / "run")
    run.save(1, {"x": 1})
    other = Run.reopen(tmp_path / "run", force=True)
    with pytest.raises(RunLocked):
        run.save(2, {"x": 2})
    other.save(2, {"x": 3}, wait=True)
    run.close()
    assert other.status == "running" and holder_of(tmp_path / "run" / "lock") is not None
    other.finish()
    assert Run.open(tmp_path / "run").latest().tree == {"x": 3}


def test_a_run_that_is_forgotten_gives_its_folder_back(tmp_path):
    run = Run.create(tmp_path / "run")
    del run
    Run.reopen(tmp_path / "run").close()


def test_a_forked_copy_neither_holds_nor_gives_back(tmp_path):
    lock = Lock(tmp_path / "lock")
    mine = lock._mine["pid"]
    lock._mine["pid"] = mine + 1
    assert not lock.held()
    lock.release()
    lock._mine["pid"] = mine
    assert lock.held()
    lock.release()
