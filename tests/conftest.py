"""The strict climate: float64, no implicit promotion of dtypes or ranks, types checked at run time.

The import hook must stand before the first import of `separatrix`: jaxtyping reads the shapes in every signature, and
beartype checks them in every call. The compilation cache is only a saving of time: a test never depends on it.
"""

import ctypes
import gc
import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import durations
import jax
import jaxlib.version
import lighter
import pytest
from jaxtyping import install_import_hook

# Most of the time goes to compiling programs that run once. Without the compiler's later passes it is nearly halved, and
# without its newer emitters again. A flag that a release does not know ends the process: these are for the releases they
# were tried with.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if jaxlib.version.__version_info__[:2] == (0, 10):
    FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ.setdefault("XLA_FLAGS", FLAGS)

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "jax"

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(CACHE)))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

lighter.share_contexts()
lighter.check_leaves_by_isinstance()
lighter.move_without_compiling()
install_import_hook("separatrix", "strict_types.checked")

# Linux gives a process 65,530 mappings of memory, and each compiled program takes a few: past them LLVM ends the worker.
MAPS = Path("/proc/self/maps")
MOST_MAPS = 15_000
STATM = Path("/proc/self/statm")
MOST_BYTES = 1_800_000_000


def mappings() -> int:
    """Mappings of memory that this worker holds, 0 where the system does not tell."""
    return MAPS.read_bytes().count(b"\n") if MAPS.exists() else 0


def resident_bytes() -> int:
    """Memory that this worker holds, 0 where the system does not tell."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_do_not_pile_up():
    """Forget compiled programs where they are many or large: a small machine has memory for few."""
    yield
    if mappings() > MOST_MAPS or resident_bytes() > MOST_BYTES:
        jax.clear_caches()
        gc.collect()
        if STATM.exists() and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)


def pytest_addoption(parser):
    parser.addoption("--record-durations", action="store_true", help="write what tests cost into tests/durations.json")


def pytest_configure(config):
    if config.getoption("--record-durations"):
        config.pluginmanager.register(durations.Recorder(), "durations-recorder")


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    record = durations.recorded()
    for item in items:
        if durations.too_dear(item.nodeid, record):
            item.add_marker(pytest.mark.slow)
