r"""What the readings mean: rules, each with its threshold and where the number comes from.

- climbing: for a gradient like the run's own the optimiser's first response goes uphill: a minus is missing. It is said
  alone, since below an edge turned round nothing else means what it says.
- dead network: three readings long the loss has not changed by a hundredth, and nine tenths of the entries have a gradient
  of exactly 0; or for four it has stayed within a hundredth of ln(classes), which is what saying nothing costs.
- jump: within the first interval the loss rose to three times that of the start.
- without updates: two readings long the step has left whole arrays as they were, while it moved others.
- without an edge: two readings long the optimiser of some arrays has had none. The ratio is that of the others.
- edge of stability: the median of the last five ratios is within 15 % of 1, where training hovers (Cohen et al. 2021).
- oscillation: the ratio is past 1, where the linearised run grows, and the run alternates along the top direction.
- spike ahead: within two intervals the alternation will have raised the loss by a fifth, and it will not turn before: past
  the edge it grows, pushes the parameters to where the loss is flatter, and turns at a height that Damian, Nichani & Lee
  (2023) give. Where that is not known: it has come a tenth of the way, or an earlier burst half of it. Or: the run starts
  at 1.1 of the edge, where descent grows by a fifth a step, and no reading could see it first.
- diverging: the ratio is past 2 at the start, or later while the loss rises: gradient descent finds a flatter place below
  4/lambda alone (Lewkowycz et al. 2020); or the loss is ten times that of the start.
- catapult: launched past the edge, the loss rose by a fifth or more, and is now below where it was; so is the ratio.
- bad batch: the loss rises in one step by 12 deviations of the changes before it, with the ratio well below the edge:
  of normal noise one step in 1e33 does so, of exponential noise one in 450,000.
- noise: the noise scale is ten batches, where doubling the batch still nearly halves the steps (McCandlish et al. 2018),
  and the loss no longer falls.
- vanishing denominators: at least half of the rise of the ratio is that of the optimiser's response, not of the curvature,
  and bursts have begun to raise the loss. Adam comes to its edge so in good runs too.
"""

from typing import Any

import numpy as np

from separatrix.diagnostics.finding import Finding
from separatrix.optimization.stability.oscillation import Oscillation, steps_until
from separatrix.optimization.stability.report import Event
from separatrix.optimization.stability.responses import WHY

_NEAR_EDGE = 0.15
_FLIPS = 0.5
_HORIZON = 2
_LOST = 2.0
_GROWN = 10.0
_RISEN = 1.2
_BEGUN = 0.1
_LAUNCHED = 1.1
_LANDED = 0.85
_DEVIATIONS = 12.0
_BEFORE = 8
_NOISY = 10.0
_RISE = np.log(2.0)
_JUMPED = 3.0
_IDLE = 0.9
_SAME = 0.01


def judge(history: Any) -> list[Event]:
    """Return what the newest reading of a history shows; `history` is the monitor's own record."""
    uphill = _climbing(history)
    if uphill:
        return uphill + _non_finite(history)
    rules = (
        _non_finite, _dead, _jump, _grown, _past_the_edge, _edge, _catapult, _bad_batch, _noise, _denominators, _still,
        _edgeless,
    )  # fmt: skip
    return [event for rule in rules for event in rule(history)]


def judge_losses(history: Any) -> list[Event]:
    """Return what the losses of the first steps show, before there may be a reading."""
    early = history.early()
    start = history.first if np.isfinite(history.first) else next((v for _, v in early), np.nan)
    step, worst = max(early, key=lambda pair: np.inf if np.isnan(pair[1]) else pair[1], default=(0, np.nan))
    if not start > 0:
        return []
    return _jumped(early[-1][0], step, np.inf if np.isnan(worst) else worst / start)


def _climbing(history: Any) -> list[Event]:
    share = history.climbing[-1]
    if not share > 0:
        return []
    cause = "the optimiser moves along the gradient and not against it, so that the loss is climbed"
    do = "End the chain by optax.scale(-learning_rate), or optax.scale_by_learning_rate."
    finding = Finding(
        "share of the steps for a gradient that goes uphill, less downhill", float(share), "<", 0.0, cause, do
    )
    return [Event(history.steps[-1], "climbing", finding)]


def _dead(history: Any) -> list[Event]:
    losses, idle = np.asarray(history.losses), history.idle[-1]
    flat = lambda count: len(losses) >= count and np.ptp(losses[-count:]) <= _SAME * abs(losses[-1])  # noqa: E731
    step, do = history.steps[-1], "Start again with a lower learning rate, another initialisation, or leaky units."
    if flat(3) and idle >= _IDLE:
        cause = (
            f"of {100 * idle:.3g} % of the entries the gradient is exactly 0, and the loss stays at {losses[-1]:.4g}"
        )
        return [
            Event(step, "dead network", Finding("share of entries without a gradient", idle, "<", _IDLE, cause, do))
        ]
    level = np.log(history.classes) if history.classes and history.classes > 1 else np.nan
    if flat(4) and abs(losses[-1] - level) <= _SAME * level:
        gap = float(abs(losses[-1] / level - 1))
        cause = f"the loss stays at ln({history.classes}), which is that of outputs that do not depend on the input"
        do = f"{do[:-1]}; if it has only just begun, a higher one."
        return [
            Event(step, "dead network", Finding("distance of the loss from ln(classes)", gap, ">", _SAME, cause, do))
        ]
    return []


def _jump(history: Any) -> list[Event]:
    # Between two readings, or before there could be one; a rise from reading to reading is the curvature's to explain.
    within = history.peak < history.every or len(history.steps) == 1
    if len(history.steps) > 2 or not 0 < history.peak <= history.every or not within or not history.first > 0:
        return []
    return _jumped(history.steps[-1], history.peak, history.rise * min(1.0, history.before_rise / history.first))


def _jumped(now: int, step: int, rise: float) -> list[Event]:
    if not rise > _JUMPED:
        return []
    cause = f"the loss rose to {rise:.3g} times that of the start by step {step}: the first steps are too long"
    do = "Lower the learning rate, or warm it up over the first hundred steps."
    return [
        Event(now, "jump", Finding("loss in the first steps over that of the start", rise, "<", _JUMPED, cause, do))
    ]


def _still(history: Any) -> list[Event]:
    if not history.still:
        return []
    count, shown = len(history.still), _named(history, history.still)
    cause = f"the optimiser leaves {count} arrays of the parameters as they are: {shown}"
    do = "If that is meant (frozen parts), nothing; else look at masks, labels, and whether the loss depends on them."
    finding = Finding("arrays without updates", float(count), "<", 1.0, cause, do)
    return [Event(history.steps[-1], "without updates", finding)]


def _named(history: Any, arrays: Any) -> str:
    names = [history.names[i] if i < len(history.names) else str(i) for i in arrays]
    return ", ".join(name or "the parameters" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _edgeless(history: Any) -> list[Event]:
    if not history.edgeless:
        return []
    count, shown = len(history.edgeless), _named(history, history.edgeless)
    cause = (
        f"the optimiser of {count} arrays of the parameters ({shown}) has {WHY[next(iter(history.edgeless.values()))]}"
    )
    do = "The ratio is that of the other arrays, these held as they are; watch the loss for the rest."
    finding = Finding("arrays whose optimiser has no edge", float(count), "<", 1.0, cause, do)
    return [Event(history.steps[-1], "without an edge", finding)]


def _non_finite(history: Any) -> list[Event]:
    loss = history.losses[-1]
    known = history.knows_losses or not np.isfinite(history.climbing[-1])
    if np.isfinite(loss) or not known:
        return []
    cause, do = "the loss stopped being finite", "Go back to the last good checkpoint with a lower learning rate."
    # That it is no number is the evidence, and not that nothing is known.
    evidence = float(np.inf if np.isnan(loss) else abs(loss))
    return [Event(history.steps[-1], "non-finite", Finding("loss is finite", evidence, "<", np.inf, cause, do))]


def _grown(history: Any) -> list[Event]:
    """A loss far above that of the start, whatever the sharpness."""
    start = history.losses[0]
    growth = history.losses[-1] / start if start > 0 else np.nan
    if not np.isfinite(growth) or not growth > _GROWN:
        return []
    cause, do = (
        "the run is far above its start and has not come back",
        "Go back, with a lower learning rate or a warm-up.",
    )
    finding = Finding("loss over that of the start", float(growth), "<", _GROWN, cause, do)
    return [Event(history.steps[-1], "diverging", finding)]


def _past_the_edge(history: Any) -> list[Event]:
    """Past the edge: oscillation, a spike ahead, or divergence."""
    step, ratio, swing = history.steps[-1], history.ratios[-1], history.swings[-1]
    if not ratio > 1 + history.errors[-1]:
        return []
    since = history.since(lambda r: r > 1)
    cut = 1 / ratio
    cause = f"preconditioned sharpness has been past the optimiser's edge since step {since}"
    do = f"Lower the learning rate to below {cut:.2g} of itself, or warm it up over the first steps."
    found = []
    if swing.flip > _FLIPS:
        cause = f"{cause}, with an oscillation of period 2 along the top eigenvector"
        found.append(Event(step, "oscillation", Finding("sharpness over the edge", float(ratio), "<", 1.0, cause, do)))
        found += _forecast(history, swing, cause, do)
    if len(history.steps) == 1 and _LAUNCHED < ratio <= _LOST:
        finding = Finding("sharpness over the edge at the start", float(ratio), "<", _LAUNCHED, cause, do)
        found.append(Event(step, "spike ahead", finding))
    if ratio > _LOST and (len(history.steps) == 1 or history.rising()):
        finding = Finding(
            "sharpness over the edge, past which no flatter place is found", float(ratio), "<", _LOST, cause, do
        )
        found.append(Event(step, "diverging", finding))
    return found


def _forecast(history: Any, swing: Oscillation, cause: str, do: str) -> list[Event]:
    """The alternation's own loss against that of the run: when it will have raised it by a fifth, if it gets there."""
    energy = history.ratios[-1] * swing.amplitude**2 / 2
    level, horizon = (_RISEN - 1) * abs(history.losses[-1]), float(_HORIZON * history.every)
    left, height = steps_until(level, energy, swing.growth), history.height()
    gets_there = height > level if np.isfinite(height) else energy > _BEGUN * level or _bursts(history)
    if left > horizon or not gets_there:
        return []
    rise = f", to turn at {100 * height / abs(history.losses[-1]):.2g} % above the loss" if np.isfinite(height) else ""
    cause = f"{cause}, growing by {100 * (swing.growth - 1):.2g} % a step{rise}"
    finding = Finding("steps until the oscillation raises the loss by a fifth", left, ">", horizon, cause, do)
    return [Event(history.steps[-1], "spike ahead", finding)]


def _bursts(history: Any) -> bool:
    """Whether an earlier burst got half of the way to a spike."""
    return history.rise > 1 + (_RISEN - 1) / 2


def _edge(history: Any) -> list[Event]:
    recent = np.asarray(history.ratios[-5:])
    if len(recent) < 5 or not abs(np.median(recent) - 1) < _NEAR_EDGE:
        return []
    cause = "progressive sharpening has brought the run to its own edge, where it stays while the loss falls"
    do = "This is common and no fault; a lower learning rate would only let the sharpness rise further."
    finding = Finding(
        "median of five sharpnesses over the edge", float(np.median(recent)), "<", 1 - _NEAR_EDGE, cause, do
    )
    return [Event(history.steps[-1], "edge of stability", finding)]


def _catapult(history: Any) -> list[Event]:
    ratios = np.asarray(history.ratios)
    flatter = len(ratios) > 2 and ratios[0] > 1 and ratios[-1] < _LANDED * ratios[0]
    if not flatter or not history.rise > _RISEN or not history.losses[-1] < history.losses[0]:
        return []
    cause = f"launched past the edge, the loss peaked at step {history.peak}, and the run landed in a flatter place"
    do = "Nothing, if the peak can be borne; else warm up."
    finding = Finding("largest rise of the loss over the least before", history.rise, "<", _RISEN, cause, do)
    return [Event(history.steps[-1], "catapult", finding)]


def _bad_batch(history: Any) -> list[Event]:
    """A single step whose loss stands out, told by its rise over the one before: a loss that falls fast is none."""
    steps, losses = history.recent_losses()
    calm = len(history.ratios) > 1 and max(history.ratios[-2:]) < 1 - _NEAR_EDGE
    if len(losses) < _BEFORE + 2 or not np.isfinite(losses).all() or not calm:
        return []
    changes, least = np.diff(losses), 0.01 * abs(np.median(losses)) + np.finfo(float).tiny
    # Beside those before it: what a run does from its start or momentum has been larger already.
    usual = [1.4826 * np.median(np.abs(changes[:k])) + least for k in range(_BEFORE, len(changes))]
    sizes = changes[_BEFORE:] / np.array(usual)
    worst = _BEFORE + 1 + int(np.argmax(sizes))
    size = float(sizes.max())
    if not size > _DEVIATIONS:
        return []
    cause = f"the batch of step {steps[worst]} has a loss far outside those around it, and the run was below its edge"
    do = "Look at that batch; clip gradients, or skip steps whose loss stands out so."
    return [
        Event(
            history.steps[-1],
            "bad batch",
            Finding("largest rise of the loss over its usual changes", size, "<", _DEVIATIONS, cause, do),
        )
    ]


def _noise(history: Any) -> list[Event]:
    scale, size = history.noise_scale(), history.batch_size
    if not size or not scale > _NOISY * size or not history.flat():
        return []
    cause = "gradients of single batches differ by far more than their mean"
    enough = f"a batch of {scale:.2g} would balance noise and slope" if np.isfinite(scale) else "no slope is seen"
    do = f"Lower the learning rate, or average more: {enough}."
    return [
        Event(history.steps[-1], "noise", Finding("noise scale over batch size", scale / size, "<", _NOISY, cause, do))
    ]


def _denominators(history: Any) -> list[Event]:
    ratios, responses = np.asarray(history.ratios), np.asarray(history.responses)
    if len(ratios) < 3 or not ratios[-1] > 1 or not _bursts(history) or not np.isfinite(ratios[:-1]).any():
        return []
    # The first of Adam's readings may have had no ratio yet.
    start = int(np.nanargmin(ratios[:-1]))
    rise, gain = np.log(ratios[-1] / max(ratios[start], 1e-30)), responses[-1] - responses[start]
    if not rise > _RISE or not gain > rise / 2:
        return []
    cause = "second moments have decayed with the gradients: the optimiser's steps grew, not the curvature"
    do = "Raise eps or b2, or decay the learning rate."
    finding = Finding(
        "growth of the optimiser's response over that of the sharpness", float(gain / rise), "<", 0.5, cause, do
    )
    return [Event(history.steps[-1], "vanishing denominators", finding)]
