"""The only loops: maps by scan, flows by adaptive steps, fixed-step SDEs, batches that do not stall."""

from separatrix.evolution.any_system import evolve as evolve
from separatrix.evolution.ensembles import ensemble as ensemble
from separatrix.evolution.parallel import Parallel as Parallel
from separatrix.evolution.save import Save as Save
