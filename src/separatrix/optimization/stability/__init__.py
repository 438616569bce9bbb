"""The stability instrument: where a training run stands against its optimiser's own edge, why, and what to do."""

from separatrix.optimization.stability.edges import edge_ratio as edge_ratio, stability_edge as stability_edge
from separatrix.optimization.stability.monitor import StabilityMonitor as StabilityMonitor
from separatrix.optimization.stability.report import Event as Event, StabilityReport as StabilityReport
from separatrix.optimization.stability.watching import watch as watch
