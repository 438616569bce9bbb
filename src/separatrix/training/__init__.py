"""Training: objectives on data, and `fit`, which is `evolve` of an optimiser on mini-batches."""

from separatrix.training.averaging import PowerAverage as PowerAverage
from separatrix.training.fitting import Fit as Fit, fit as fit
from separatrix.training.gang import join_gang as join_gang
from separatrix.training.run import Run as Run, load_model as load_model, save as save
from separatrix.training.sampling import sampled as sampled
from separatrix.training.supervision import accuracy as accuracy, supervised as supervised
from separatrix.training.sweeps import Range as Range, read_sweep as read_sweep, sweep as sweep
