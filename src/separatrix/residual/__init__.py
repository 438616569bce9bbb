"""Residual networks as discretised flows: neural ODEs, universal equations, discovery of laws, control."""

from separatrix.residual import examination as examination
from separatrix.residual.control import (
    BoundedPolicy as BoundedPolicy,
    PendulumPlant as PendulumPlant,
    lqr as lqr,
    policy_loss as policy_loss,
)
from separatrix.residual.discovery import (
    Discovery as Discovery,
    Monomials as Monomials,
    discover as discover,
)
from separatrix.residual.flow_model import (
    FlowModel as FlowModel,
    augment as augment,
    with_depth as with_depth,
)
from separatrix.residual.recipe import Law as Law, LawRecipe as LawRecipe
from separatrix.residual.resnet import (
    AlongDepth as AlongDepth,
    NeuralODE as NeuralODE,
    ResNet as ResNet,
)
from separatrix.residual.universal_equations import (
    Segments as Segments,
    segments as segments,
    trajectory_loss as trajectory_loss,
    universal as universal,
)
