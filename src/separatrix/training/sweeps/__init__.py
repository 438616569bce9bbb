"""Sweeps: many trials of a function or a recipe, in shards, here or on a cluster; killed, they go on."""

from separatrix.training.sweeps.executors import (
    Executor as Executor,
    Here as Here,
    Pool as Pool,
    Ray as Ray,
    Slurm as Slurm,
)
from separatrix.training.sweeps.result import Swept as Swept
from separatrix.training.sweeps.search import Search as Search
from separatrix.training.sweeps.space import Range as Range
from separatrix.training.sweeps.sweeping import is_sweep as is_sweep, read_sweep as read_sweep, sweep as sweep
