"""What the first chapter measures: the fate of a run."""

from typing import Any

import numpy as np


def fate(losses: Any) -> str:
    """How a run went: it "diverges" (lost, or ends above its start), "oscillates" (rises on the way), or "converges"."""
    if not np.isfinite(losses).all() or losses[-1] > losses[0]:
        return "diverges"
    return "oscillates" if (np.diff(losses) > 1e-3 * losses[:-1]).any() else "converges"
