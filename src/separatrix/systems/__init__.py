"""The nouns: maps, flows, SDEs, what they return, and how other things become one of them."""

from separatrix.systems.base import System as System
from separatrix.systems.cells import as_cell as as_cell, from_cell as from_cell
from separatrix.systems.coupling import couple as couple
from separatrix.systems.diffrax_terms import from_diffrax as from_diffrax
from separatrix.systems.driving import drive as drive
from separatrix.systems.flow import Flow as Flow
from separatrix.systems.functions import (
    as_flow as as_flow,
    as_map as as_map,
    as_near_identity as as_near_identity,
    as_open_flow as as_open_flow,
    as_open_map as as_open_map,
    as_sde as as_sde,
)
from separatrix.systems.iteration import iterate as iterate
from separatrix.systems.layers import from_layers as from_layers
from separatrix.systems.map import (
    FiniteMap as FiniteMap,
    InvertibleMap as InvertibleMap,
    Map as Map,
    NearIdentityMap as NearIdentityMap,
)
from separatrix.systems.memory import MemoryForm as MemoryForm, Remembered as Remembered
from separatrix.systems.objective import (
    FunctionObjective as FunctionObjective,
    Objective as Objective,
    WrappedObjective as WrappedObjective,
    as_objective as as_objective,
)
from separatrix.systems.open import OpenFlow as OpenFlow, OpenMap as OpenMap
from separatrix.systems.optax_maps import OptimizerState as OptimizerState, from_optax as from_optax
from separatrix.systems.projection import project as project
from separatrix.systems.sde import SDE as SDE
from separatrix.systems.trajectory import Outcome as Outcome, OutcomeKind as OutcomeKind, Trajectory as Trajectory
