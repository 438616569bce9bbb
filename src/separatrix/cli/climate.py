"""The climate of commands that compute: float64 at hand, compiled programs kept between runs.

Exponents, orders and long chaotic orbits need float64; nets are built in float32 where they are built. The library
itself never sets a global flag: this is the front, where a person sits.
"""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled programs are kept: JAX's own variable, else the user's cache folder."""
    own = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base, "separatrix", "jax")


def compute() -> None:
    """Turn on float64 and the compilation cache."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if os.environ.get("SEPARATRIX_GANG"):
        from separatrix.training import join_gang

        join_gang()
