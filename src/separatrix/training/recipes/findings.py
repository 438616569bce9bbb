r"""What the records of a run say: did the loss fall, did it spike and why, did the model learn the training part by heart?

    rise      L_n / min over m < n of L_m,      a spike where it passes 1.5
    overfit   V at the end / least V,           past 1.1 the run went on too long

The cause of a spike is read beside it: the ratio of the sharpness to the optimiser's own edge, where the run was watched.
"""

from typing import Any

import numpy as np

from separatrix.diagnostics.finding import Finding
from separatrix.training.run import Run

_SPIKE, _OVERFIT, _NEAR, _SEEN = 1.5, 1.1, 3, 0.02
RATIO, SHARPNESS = "sharpness_over_edge", "sharpness"


def findings_of(run: Run) -> list[Finding]:
    """What the metrics and events of a run say; empty where nothing was measured yet."""
    steps, metrics, events = run.steps, run.metrics, run.events
    found = [_noticed(event) for event in events if event["event"] == "noticed"]
    losses = np.asarray(metrics.get("loss", ()), float)
    if losses.ndim == 1 and (len(losses) > 1 or run.status == "diverged"):
        found = [*_fell(run, losses), *_spike(run, steps, losses, metrics), *found]
    valid = np.asarray(metrics.get("validation", ()), float)
    if valid.ndim == 1 and np.isfinite(valid).sum() > 2:
        found += _overfit(steps, valid)
    return found


def _noticed(event: dict[str, Any]) -> Finding:
    name = f"step {event.get('step')}: {event.get('kind')}: {event.get('name')}"
    numbers = [_number(event.get(word)) for word in ("evidence", "threshold")]
    relation = event.get("relation") if event.get("relation") in ("<", "<=", ">", ">=") else "<"
    return Finding(
        name,
        numbers[0],
        str(relation),
        numbers[1],
        str(event.get("cause", "")),
        str(event.get("remedy", "")),
        "caution",
    )


def _fell(run: Run, losses: Any) -> list[Finding]:
    finite = losses[np.isfinite(losses)]
    if run.status == "diverged" or len(finite) < len(losses):
        do = "Lower the learning rate (a tenth), and train again with --watch 20 to see its edge."
        share = float(np.isfinite(losses).mean()) if run.status != "diverged" else 0.0
        return [Finding("share of the losses that is finite", share, ">=", 1.0, "training diverged", do)]
    if not (finite > 0).all():
        change = float(finite[-1] - finite[0])
        return [Finding("change of the loss", change, "<", 0.0, "nothing was learned", "Raise the learning rate.")]
    do = "Raise or lower the learning rate by 3, or train for longer."
    return [
        Finding(
            "loss at the end over that at the start", float(finite[-1] / finite[0]), "<", 1.0, "nothing was learned", do
        )
    ]


def _spike(run: Run, steps: Any, losses: Any, metrics: dict[str, Any]) -> list[Finding]:
    """The largest rise of the loss over the least before it, and what the sharpness says of it."""
    good = np.isfinite(losses)
    if good.sum() < 3 or not (losses[good] > 0).all():
        return []
    steps, losses = steps[good], losses[good]
    rises = losses[1:] / np.minimum.accumulate(losses)[:-1]
    # A loss that is next to nothing may rise a hundredfold: that is no spike.
    rises = np.where(losses[1:] > _SEEN * losses[0], rises, 1.0)
    at = int(np.argmax(rises))
    cause, do = _why(int(steps[at + 1]), metrics, run)
    name = f"largest rise of the loss over the least before it (step {steps[at + 1]})"
    return [Finding(name, float(rises[at]), "<", _SPIKE, cause, do, "caution")]


def _why(step: int, metrics: dict[str, Any], run: Run) -> tuple[str, str]:
    ratios = np.asarray(metrics.get(RATIO, ()), float)
    if not np.isfinite(ratios).any():
        return "the sharpness of this run was not watched", "Train again with --watch 20 to see why."
    near = ratios[run.steps <= step][-_NEAR:]
    near = near[np.isfinite(near)]
    if len(near) and near.max() > 1:
        cause = (
            f"the sharpness had come to {near.max():.3g} times the optimiser's edge: steps were too long for the slope"
        )
        return cause, f"Lower the learning rate to below {1 / near.max():.2g} of itself, or warm it up."
    cause = (
        f"the sharpness that was read before it was {near.max(initial=0.0):.3g} of the optimiser's edge at most: a batch "
        "stands out, or gradients have become so small that Adam, which divides by them, takes longer steps"
    )
    return cause, "Take larger batches, lower the learning rate towards the end, or read more often: --watch 9."


def _overfit(steps: Any, valid: Any) -> list[Finding]:
    good = np.isfinite(valid)
    steps, valid = steps[good], valid[good]
    best = int(np.argmin(valid))
    if not valid[best] > 0:
        return []
    cause = f"the model learns the training part by heart: its least validation loss was at step {steps[best]}"
    do = f"Stop earlier (--steps {max(1, int(steps[best]))}), or give it more data or fewer weights."
    ratio = float(valid[-1] / valid[best])
    return [Finding("validation loss at the end over its least", ratio, "<", _OVERFIT, cause, do, "caution")]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
