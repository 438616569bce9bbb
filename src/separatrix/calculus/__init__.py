"""The verbs: systems in, systems out."""

from separatrix.calculus.adjoint import adjoint as adjoint
from separatrix.calculus.close_loop import close_loop as close_loop
from separatrix.calculus.compose import compose as compose
from separatrix.calculus.diffusion_limit import diffusion_limit as diffusion_limit
from separatrix.calculus.discretize import discretize as discretize
from separatrix.calculus.limit import limit as limit
from separatrix.calculus.linearize import linearize as linearize
from separatrix.calculus.modified import modified as modified
from separatrix.calculus.on_grid import on_grid as on_grid
from separatrix.calculus.probability_flow import probability_flow as probability_flow
from separatrix.calculus.reverse import reverse as reverse
from separatrix.calculus.tangent import TangentState as TangentState, tangent as tangent
