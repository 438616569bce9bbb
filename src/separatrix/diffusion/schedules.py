r"""Schedules: at which noise levels a sampler stops.

    uniform in t          t_i = T + (i/N)(t_end - T)
    Karras                s_i = (s_max^{1/rho} + i/(N - 1) (s_min^{1/rho} - s_max^{1/rho}))^rho,  i < N,   then s = 0
    uniform in log-SNR    the same with rho -> infinity: s_i geometric

with s = sigma/alpha. Each gives N + 1 falling times, for N steps. With one step the levels are s_max and 0.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked
from separatrix.diffusion.ddpm import DDPM
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter

# The largest sigma/alpha to begin at where alpha is 0 at the horizon.
_LARGEST = 80.0


class Schedule(eqx.Module):
    """Times from the horizon down, for a process and a number of steps."""

    @abstractmethod
    def times(self, process: NoisingProcess, steps: int) -> Float[Array, "times"]:
        """Return steps + 1 falling times."""


class UniformTimes(Schedule):
    """Equal steps in t from the horizon to `earliest`, at least 0.

    **Raises:** `ValueError` for an earliest time that is negative or not finite.
    """

    earliest: Any = eqx.field(default=0.0, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.nonnegative("UniformTimes: earliest", self.earliest, "Leave it out for 0.")

    def times(self, process: NoisingProcess, steps: int) -> Array:
        return jnp.linspace(process.horizon, self.earliest, steps + 1)


class KarrasLevels(Schedule):
    r"""Levels of noise that are uniform in s^{1/rho}, s = sigma/alpha, then 0.

    **Arguments:**

    - `low`: the last level above 0. `high`: the first; by default that of the horizon, or 80 where that is infinite.
    - `rho`: 7 in the paper; larger gives more of the steps to little noise.

    **Raises:** `ValueError` for levels or a power that are not positive, or levels that cross.

    **Reference:** Karras et al. (2022), equation 5.
    """

    low: Any = eqx.field(default=0.002, converter=as_parameter)
    high: Any = eqx.field(default=None, converter=as_parameter)
    rho: Any = eqx.field(default=7.0, converter=as_parameter)

    def __check_init__(self) -> None:
        _check_levels("KarrasLevels", self.low, self.high)
        ranges.positive("KarrasLevels: rho", self.rho, "Leave it out for 7.")

    def times(self, process: NoisingProcess, steps: int) -> Array:
        high, start = _highest(process, self.high)
        _check_levels("KarrasLevels", self.low, high)
        places = jnp.arange(steps) / max(steps - 1, 1)
        ends = high ** (1 / self.rho), jnp.asarray(self.low, float) ** (1 / self.rho)
        return _from_levels(process, (ends[0] + places * (ends[1] - ends[0])) ** self.rho, start)


class UniformLogSNR(Schedule):
    """Levels of noise in geometric progression, s = sigma/alpha, then 0; `low` and `high` as in `KarrasLevels`.

    **Raises:** `ValueError` for levels that are not positive, or cross.

    **Reference:** Lu et al., *DPM-Solver* (2022), section 3.3.
    """

    low: Any = eqx.field(default=0.002, converter=as_parameter)
    high: Any = eqx.field(default=None, converter=as_parameter)

    def __check_init__(self) -> None:
        _check_levels("UniformLogSNR", self.low, self.high)

    def times(self, process: NoisingProcess, steps: int) -> Array:
        high, start = _highest(process, self.high)
        _check_levels("UniformLogSNR", self.low, high)
        places = jnp.arange(steps) / max(steps - 1, 1)
        return _from_levels(process, high * (jnp.asarray(self.low, float) / high) ** places, start)


class WholeTimes(Schedule):
    """Of a `DDPM` of N steps: the times n + 1 for n = round(linspace(N - 1, 0, S)), and last 0.

    **Reference:** Song, Meng & Ermon, *Denoising diffusion implicit models* (2021), section 4.2 and appendix D.2.
    """

    def times(self, process: NoisingProcess, steps: int) -> Array:
        if not isinstance(process, DDPM) or not 1 <= steps <= process.length:
            got = f"{steps} steps of {type(process).__name__}"
            expected = "a DDPM, and at most as many steps as it has"
            raise ValueError(explain("WholeTimes", got, expected, "Take KarrasLevels() for other processes."))
        chosen = np.round(np.linspace(0, process.length - 1, steps))[::-1] + 1
        return jnp.asarray(np.append(chosen, 0.0))


class GivenTimes(Schedule):
    """Times of the user's own, falling from at most the horizon to at least 0.

    **Raises:** `ValueError` for fewer than two times, and for times that are not finite, rise, repeat, end below zero
    noise, or are not as many as the steps.
    """

    given: Array

    def __init__(self, given: Any):
        self.given = jnp.asarray(given, float)

    def __check_init__(self) -> None:
        do = "Give times that fall from the horizon to 0 or more."
        if self.given.ndim != 1 or self.given.shape[0] < 2:
            raise ValueError(explain("GivenTimes", f"shape {self.given.shape}", "at least two times", do))
        if is_traced(self.given):
            return
        ranges.nonnegative("GivenTimes", self.given, do)
        known = np.asarray(self.given)
        if not (np.diff(known) < 0).all():
            at = int(np.argmax(np.diff(known) >= 0))
            got = f"t[{at}] = {known[at]:g}, t[{at + 1}] = {known[at + 1]:g}"
            raise ValueError(explain("GivenTimes", got, "times that fall throughout", do))

    def times(self, process: NoisingProcess, steps: int) -> Array:
        if steps != self.given.shape[0] - 1:
            do = "Leave steps out, or give one time more than there are steps."
            raise ValueError(explain("GivenTimes", f"{steps} steps", f"{self.given.shape[0] - 1}", do))
        if not is_traced(self.given, process) and float(self.given[0]) > float(process.horizon) * (1 + 1e-6):
            do = "Begin at the horizon or below."
            raise ValueError(explain("GivenTimes", f"{float(self.given[0]):g}", f"at most {process.horizon}", do))
        return self.given


def times_of(what: str, schedule: Checked[Schedule], process: NoisingProcess, steps: Checked[int | None]) -> Array:
    """The falling times of a schedule; those that are the user's own say how many."""
    if not isinstance(schedule, Schedule):
        do = "Pass for example sx.diffusion.KarrasLevels()."
        raise TypeError(explain(f"{what}: schedule", type(schedule).__name__, "a Schedule", do))
    if steps is None:
        steps = schedule.given.shape[0] - 1 if isinstance(schedule, GivenTimes) else 50
    return schedule.times(process, ranges.whole(f"{what}: steps", steps, "Take at least one."))


def _highest(process: NoisingProcess, high: Any) -> tuple[Any, Any]:
    """The first level and its time: exactly the horizon, if nothing else is said and its level is finite."""
    if high is not None:
        return jnp.asarray(high, float), None
    alpha, sigma = (jnp.asarray(value, float) for value in process.marginal(process.horizon))
    finite = alpha > sigma / 1e6
    level = jnp.where(finite, sigma / jnp.where(finite, alpha, 1), _LARGEST)
    return level, jnp.where(finite, process.horizon, process.time_of(jnp.asarray(_LARGEST)))


def _from_levels(process: NoisingProcess, levels: Array, start: Any) -> Array:
    times = process.time_of(levels)
    times = times if start is None else times.at[0].set(start)
    return jnp.concatenate([times, jnp.zeros_like(times[:1])])


def _check_levels(what: str, low: Any, high: Any) -> None:
    do = "Leave both out for 0.002 and the noise of the horizon."
    ranges.positive(f"{what}: low", low, do)
    if high is not None:
        ranges.positive(f"{what}: high", high, do)
        ranges.ordered(f"{what}: low and high", low, high, do, strictly=True)
