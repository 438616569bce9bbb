"""The verbs: systems in, systems out."""

from separatrix.calculus.adjoints import adjoint as adjoint
from separatrix.calculus.closed_loop import close_loop as close_loop
from separatrix.calculus.composition import compose as compose
from separatrix.calculus.diffusion_limits import diffusion_limit as diffusion_limit
from separatrix.calculus.discretization import discretize as discretize
from separatrix.calculus.limits import limit as limit
from separatrix.calculus.linearization import linearize as linearize
from separatrix.calculus.modified_equations import modified as modified
from separatrix.calculus.own_grid import on_grid as on_grid
from separatrix.calculus.probability_flows import probability_flow as probability_flow
from separatrix.calculus.reversal import reverse as reverse
from separatrix.calculus.tangents import TangentState as TangentState, tangent as tangent
