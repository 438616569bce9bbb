"""Fixed-step methods: one step of a flow or an SDE, from which `discretize` makes a map."""

from separatrix.calculus.methods.base import FlowMethod as FlowMethod, Method as Method, SDEMethod as SDEMethod
from separatrix.calculus.methods.euler_maruyama import EulerMaruyama as EulerMaruyama
from separatrix.calculus.methods.exponential import ExponentialEuler as ExponentialEuler
from separatrix.calculus.methods.implicit import ImplicitEuler as ImplicitEuler, ImplicitMidpoint as ImplicitMidpoint
from separatrix.calculus.methods.milstein import Milstein as Milstein
from separatrix.calculus.methods.runge_kutta import (
    RK4 as RK4,
    Euler as Euler,
    Heun as Heun,
    Midpoint as Midpoint,
    RungeKutta as RungeKutta,
)
from separatrix.calculus.methods.sra1 import SRA1 as SRA1
from separatrix.calculus.methods.stochastic_heun import StochasticHeun as StochasticHeun
from separatrix.calculus.methods.symplectic import Leapfrog as Leapfrog, SymplecticEuler as SymplecticEuler
