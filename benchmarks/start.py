"""Row P9: how long until the first answer.

`import separatrix` loads public names on first use, so its own time says little; "with every public name" is the cost
of using all of the library. The floor is the import of what it stands on. Each figure is the median over fresh
processes, called in turn, so that what slows the machine for a while slows all of them alike; files are warm.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _table import interleaved, report

FLOOR = "import jax, equinox, diffrax, optax"
EVERYTHING = "import separatrix as sx; [getattr(sx, name) for name in sx.__all__]"
SCRIPT = str(Path(sys.executable).parent / "separatrix")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"}


def fresh(*words: str) -> Callable[[], None]:
    """A function that runs a process to its end."""
    return lambda: subprocess.run(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True) and None


def imports_jax(*words: str) -> str:
    """Whether `main(words)` imports JAX."""
    code = f"import sys; from separatrix.cli import main; main({list(words)!r}); sys.exit('jax' in sys.modules)"
    return "yes" if subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode else "no"


def main(repeats: int = 9) -> None:
    """Measure, print and write the table."""
    python = sys.executable
    work = {
        "python alone": fresh(python, "-c", "pass"),
        "floor: jax, equinox, diffrax, optax": fresh(python, "-c", FLOOR),
        "import separatrix": fresh(python, "-c", "import separatrix"),
        "import separatrix, every public name": fresh(python, "-c", EVERYTHING),
        "separatrix --help": fresh(SCRIPT, "--help"),
        "separatrix version": fresh(SCRIPT, "version"),
        "separatrix tour --help": fresh(SCRIPT, "tour", "--help"),
    }
    taken = interleaved(work, repeats)
    floor = taken["floor: jax, equinox, diffrax, optax"]
    aims = {
        "import separatrix": "<= 1.2 x floor",
        "import separatrix, every public name": "<= 1.2 x floor",
        "separatrix --help": "<= 0.4 s",
        "separatrix version": "<= 0.4 s",
        "separatrix tour --help": "<= 0.4 s",
    }
    jax = {name: imports_jax(*name.split()[1:]) for name in work if name.startswith("separatrix ")}
    rows = [[name, t, t / floor, jax.get(name), aims.get(name)] for name, t in taken.items()]
    notes = f"Seconds of wall time, medians of {repeats} fresh processes after one warm-up."
    report("P9", "time to the first answer", ["what", "seconds", "/ floor", "imports JAX", "aim"], rows, notes)


if __name__ == "__main__":
    main()
