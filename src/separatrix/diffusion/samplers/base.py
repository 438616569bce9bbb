r"""What a sampler is: one step from a noise level to the next, from which `sampling_map` makes a finite map.

    x[n+1] = F(t[n], t[n+1], x[n], z[n]),   z[n] standard normal, drawn by the key of the step

The draw stands apart from the step, so that laws can be followed exactly: on normal data with the exact prediction a step
is linear in x and z. A multistep method carries the clean prediction of the step before beside x.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Key, State, StepIndex
from separatrix.diffusion.predictions import Prediction
from separatrix.systems import ranges
from separatrix.systems.map import FiniteMap

if TYPE_CHECKING:
    # To a type checker an abstract attribute is no argument of `__init__`: the subclass says what it is.
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class Sampler(eqx.Module):
    """A rule for one step; `draws` says how many normal arrays it takes, `multistep` whether it looks back."""

    draws: AbstractVar[int]
    multistep: AbstractVar[bool]

    @abstractmethod
    def advance(self, prediction: Prediction, step: "LevelStep", state: State, noise: Array) -> State:
        """Return the state at the next level; `noise` has shape (draws, *x.shape)."""

    def begin(self, x: Array) -> State:
        """The state to start from."""
        return (x, jnp.zeros_like(x)) if self.multistep else x

    def seen(self, state: State) -> Any:
        """x in a state."""
        return state[0] if self.multistep else state


class LevelStep(eqx.Module):
    """Where a step is: its number and the times before, now and next."""

    number: Any
    before: Array
    now: Array
    then: Array


class SamplingMap(FiniteMap):
    """x[n+1] = F(t[n], t[n+1], x[n], z[n])."""

    sampler: Sampler
    prediction: Prediction
    times: Array
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        x = self.sampler.seen(state)
        shape = (self.sampler.draws, *x.shape)
        noise = jnp.zeros(shape, x.dtype) if key is None else jax.random.normal(key, shape, x.dtype)
        return self.advance(n, state, noise)

    def advance(self, n: StepIndex, state: State, noise: Array) -> State:
        """The step under given noise of shape (draws, *x.shape)."""
        times = self.times.astype(noise.dtype)
        step = LevelStep(n, times[jnp.maximum(jnp.asarray(n) - 1, 0)], times[n], times[jnp.asarray(n) + 1])
        return self.sampler.advance(self.prediction, step, state, noise)


def sampling_map(sampler: Sampler, prediction: Prediction, times: Any) -> SamplingMap:
    r"""Return the finite map that a sampler makes of a prediction on falling times.

    **Arguments:**

    - `sampler`: a `Sampler`. `prediction`: a `Prediction`.
    - `times`: shape (N + 1,), as a `Schedule` gives them.

    **Returns:** a `FiniteMap` of N steps, on `sampler.begin(x)`.

    **Raises:** `TypeError` for what is no sampler; `ValueError` for fewer than two times, or known ones that are negative,
    not finite, or neither fall nor rise throughout (rising ones lead up, as `ddim_inversion` takes them).

    **Example:** one step of DDIM to no noise is the clean prediction, here 0.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> prediction = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: x / t, "noise")
    >>> map = sx.diffusion.sampling_map(sx.diffusion.DDIM(), prediction, jnp.array([80.0, 0.0]))
    >>> map.step(0, jnp.array([50.0])).item()
    0.0
    """
    if not isinstance(sampler, Sampler):
        do = "Pass for example sx.diffusion.DDIM()."
        raise TypeError(explain("sampling_map: sampler", type(sampler).__name__, "a Sampler", do))
    times = jnp.asarray(times)
    do = "Pass what a Schedule gives, or times that fall from the horizon to 0."
    if times.ndim != 1 or times.shape[0] < 2:
        raise ValueError(explain("sampling_map: times", f"shape {times.shape}", "(N + 1,), at least two", do))
    if not is_traced(times):
        ranges.nonnegative("sampling_map: times", times, do)
        if len(turns := set(np.sign(np.diff(np.asarray(times))))) > 1 or turns == {0}:
            raise ValueError(
                explain("sampling_map: times", "times that turn or repeat", "times that fall throughout", do)
            )
    return SamplingMap(sampler, prediction, times, times.shape[0] - 1)


def levels(prediction: Prediction, t: Array) -> tuple[Array, Array]:
    """alpha and sigma at t, in its dtype."""
    alpha, sigma = prediction.process.marginal(t)
    return jnp.asarray(alpha, t.dtype), jnp.asarray(sigma, t.dtype)
