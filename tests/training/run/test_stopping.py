"""The first signal is a wish, the second an order."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from separatrix.training.run import Run, stop_asked


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_is_a_wish(number, code):
    before = signal.getsignal(number)
    with stop_asked() as stop:
        assert not stop.asked and stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop.asked and stop.exit_code == code
    assert signal.getsignal(number) is before


def test_the_second_goes_to_who_had_it_before(request):
    # A shell starts what runs in the background with SIGINT ignored.
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), stop_asked() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_asks_nothing():
    found = []

    def inside():
        with stop_asked() as stop:
            found.append(stop.asked)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [False]


WORK = """
import sys, time
from separatrix.training.run import Run, stop_asked
run = Run.create(sys.argv[1])
n = 0
with stop_asked() as stop, run:
    while not stop.asked:
        n += 1
        run.log(n, {"n": n})
        if n == 1:
            run.save(n, {"n": n}, wait=True)
            print("working", flush=True)
        time.sleep(float(sys.argv[2]))
    run.save(n, {"n": n})
    run.finish("interrupted")
sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_program_saves_and_exits_within_five_seconds(number, code, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path / "run"), "0.01"], stdout=subprocess.PIPE)
    child.stdout.readline()
    begun = time.monotonic()
    child.send_signal(number)
    assert child.wait() == code and time.monotonic() - begun < 5
    child.stdout.close()
    run = Run.open(tmp_path / "run")
    assert run.status == "interrupted" and run.latest().tree["n"] == run.steps[-1]


def test_the_second_signal_ends_at_once_with_the_last_checkpoint_whole(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path / "run"), "60"], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    begun = time.monotonic()
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM and time.monotonic() - begun < 1
    child.stdout.close()
    run = Run.open(tmp_path / "run")
    assert run.status == "killed" and run.latest().tree == {"n": 1}
