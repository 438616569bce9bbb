"""Optimisation: objectives, and descent methods as near-identity maps with limits."""

from separatrix.optimization.descent import GradientDescent as GradientDescent
from separatrix.optimization.momentum import (
    HeavyBall as HeavyBall,
    Nesterov as Nesterov,
    PhasePoint as PhasePoint,
    energy as energy,
)
from separatrix.optimization.objectives import (
    Beale as Beale,
    DoubleWell as DoubleWell,
    Himmelblau as Himmelblau,
    Quadratic as Quadratic,
    Rosenbrock as Rosenbrock,
)
