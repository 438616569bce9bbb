"""Residual networks as discretised flows: neural ODEs, universal equations, discovery of laws, control."""

from separatrix.residual import examination as examination
from separatrix.residual.control import (
    BoundedPolicy as BoundedPolicy,
    TimedPolicy as TimedPolicy,
    policy_loss as policy_loss,
)
from separatrix.residual.controlled import (
    ControlledFlow as ControlledFlow,
    NeuralCDE as NeuralCDE,
    linear_path as linear_path,
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
from separatrix.residual.handing_over import HandOver as HandOver, Regulator as Regulator, hand_over as hand_over
from separatrix.residual.horizons import (
    PolicyFit as PolicyFit,
    TrainableHorizon as TrainableHorizon,
    train_policy as train_policy,
    trainable_horizon as trainable_horizon,
)
from separatrix.residual.identifiability import (
    BoundedNetwork as BoundedNetwork,
    CoefficientProfile as CoefficientProfile,
    MonotoneNetwork as MonotoneNetwork,
    coefficient_profile as coefficient_profile,
)
from separatrix.residual.latent import LatentODE as LatentODE, latent_loss as latent_loss
from separatrix.residual.linear_control import (
    gramian as gramian,
    least_energy as least_energy,
    lqr as lqr,
    lqr_cost as lqr_cost,
    lqr_gains as lqr_gains,
)
from separatrix.residual.lines import LineDiffusion as LineDiffusion, Reaction as Reaction
from separatrix.residual.plants import CartPole as CartPole, PendulumPlant as PendulumPlant
from separatrix.residual.random_steps import moment_loss as moment_loss, transition_loss as transition_loss
from separatrix.residual.recipe import Law as Law, LawRecipe as LawRecipe
from separatrix.residual.resnet import (
    AlongDepth as AlongDepth,
    NeuralODE as NeuralODE,
    ResNet as ResNet,
)
from separatrix.residual.reversible import (
    AntisymmetricField as AntisymmetricField,
    HamiltonianNet as HamiltonianNet,
    MomentumNet as MomentumNet,
    euler_bound as euler_bound,
)
from separatrix.residual.series_rates import discover_weakly as discover_weakly, rates as rates
from separatrix.residual.series_recipe import SeriesRecipe as SeriesRecipe
from separatrix.residual.shooting import (
    Segments as Segments,
    ShootingModel as ShootingModel,
    segments as segments,
    shooting_loss as shooting_loss,
    start_shooting as start_shooting,
    trajectory_loss as trajectory_loss,
)
from separatrix.residual.steering import NeuronFlow as NeuronFlow, steer as steer
from separatrix.residual.transport import (
    gather as gather,
    random_neurons as random_neurons,
    steering_loss as steering_loss,
)
from separatrix.residual.universal_equations import universal as universal
