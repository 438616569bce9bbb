r"""Several processes that train one model: each is told by its surroundings who it is.

    SEPARATRIX_GANG = "127.0.0.1:40123 2 1"       the address of process 0, how many there are, which one this is

`separatrix launch -n 2 ...` sets it. On a cluster, where the scheduler tells JAX, "auto" lets `jax.distributed` find out.
"""

import os
import sys
import threading
import time
from typing import Any

import jax

from separatrix._errors import explain

GANG = "SEPARATRIX_GANG"
_joined: list[int] = []
_LOOK = 0.5  # seconds between two looks at whether who launched us is there


def join_gang() -> int:
    """Join the other processes, if there are any; to be called before JAX computes anything.

    **Returns:** the number of this process, 0 for the first and for one that is alone.

    **Raises:** `ValueError` for surroundings that say something else.
    """
    said = os.environ.get(GANG, "")
    if not said or _joined:
        return _joined[0] if _joined else 0
    if said == "auto":
        jax.distributed.initialize()
    else:
        parts = said.split()
        if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            do = "Unset it, or start by: separatrix launch -n 2 ..."
            raise ValueError(explain(GANG, repr(said), '"ADDRESS:PORT COUNT NUMBER", or "auto"', do))
        jax.distributed.initialize(parts[0], int(parts[1]), int(parts[2]))
    _joined.append(jax.process_index())
    _end_with_the_others()
    return _joined[0]


def _end_with_the_others() -> None:
    """An error ends this process at once: else it would wait at its end for the others, and they for it."""
    before, parent = sys.excepthook, os.getppid()

    def hook(kind: Any, error: Any, trace: Any) -> None:
        before(kind, error, trace)
        leave(1)

    sys.excepthook = hook
    if os.environ.get(GANG) != "auto" and os.name == "posix":

        def watch() -> None:
            while os.getppid() == parent:
                time.sleep(_LOOK)
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def leave(code: int) -> None:
    """End one of several processes at once if it failed; nothing otherwise."""
    if code and _joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
