"""A finding: a measured number beside its threshold, what it means, and what to do."""

import dataclasses
from typing import Any

import numpy as np

_RELATIONS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured beside what it should be.

    **Arguments:**

    - `name`: what is claimed of a healthy system, as "step size below its stability edge".
    - `evidence`, `relation`, `threshold`: the claim holds where `evidence relation threshold`, with a relation of
      "<", "<=", ">", ">=". Never for NaN.
    - `cause`, `remedy`: where the claim does not hold: why, and what to do.

    **Example:**

    >>> import separatrix as sx
    >>> found = sx.Finding("below the edge", 2.5, "<", 2.0, "the step is too long", "Lower it below 0.8 of itself.")
    >>> found.holds, str(found)
    (False, 'below the edge: 2.5, must be < 2. The step is too long. Lower it below 0.8 of itself.')
    """

    name: str
    evidence: float
    relation: str
    threshold: float
    cause: str = ""
    remedy: str = ""

    @property
    def holds(self) -> bool:
        """Whether the claim holds."""
        return bool(_RELATIONS[self.relation](self.evidence, self.threshold))

    def __str__(self) -> str:
        text = f"{self.name}: {self.evidence:.6g}"
        if self.holds:
            return f"{text}, as it must be ({self.relation} {self.threshold:.6g})"
        cause = f" {self.cause[:1].upper()}{self.cause[1:].rstrip('.')}." if self.cause else ""
        return f"{text}, must be {self.relation} {self.threshold:.6g}.{cause} {self.remedy}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and whether the claim holds."""
        return {**dataclasses.asdict(self), "holds": self.holds}
