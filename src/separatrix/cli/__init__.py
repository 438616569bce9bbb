"""Words in, public calls, text or JSON out. No mathematics lives here.

    separatrix COMMAND [--option value]  ->  a command (frozen dataclass)  ->  an answer (text, data)  ->  exit code

Exit codes: 0 good, 1 a check failed or a fault of ours, 2 usage or bad input, 3 diverged, 4 data missing,
130 interrupted, 143 terminated. Help and version answer without importing JAX.
"""

from separatrix.cli.program import main as main

__all__ = ["main"]
