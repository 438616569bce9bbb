"""A finding: a measured number beside its threshold, what it means, and what to do."""

import dataclasses
from typing import Any

import numpy as np

from separatrix._errors import explain

_SEVERITIES = {"broken": "BROKEN", "caution": "caution"}
_RELATIONS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured beside what it should be.

    **Arguments:**

    - `name`: what is claimed of a healthy system, as "step size below its stability edge".
    - `evidence`, `relation`, `threshold`: the claim holds where `evidence relation threshold`, with a relation of
      "<", "<=", ">", ">=". With NaN on either side it is not known.
    - `cause`, `remedy`: where the claim does not hold: why, and what to do.
    - `severity`: what it means that the claim does not hold: "broken", the system fails at what it is for; "caution", it
      may, and a verdict says so beside the claims that hold.

    **Raises:** `ValueError` for another relation or severity.

    **Example:**

    >>> import separatrix as sx
    >>> because, cure = "the step is too long", "Lower it below 0.8 of itself."
    >>> found = sx.diagnostics.Finding("below the edge", 2.5, "<", 2.0, because, cure)
    >>> found.holds, str(found)
    (False, 'below the edge: 2.5, must be < 2. The step is too long. Lower it below 0.8 of itself.')
    """

    name: str
    evidence: float
    relation: str
    threshold: float
    cause: str = ""
    remedy: str = ""
    severity: str = "broken"

    def __post_init__(self) -> None:
        for what, given, words in (("relation", self.relation, _RELATIONS), ("severity", self.severity, _SEVERITIES)):
            if given not in words:
                expected = ", ".join(f'"{word}"' for word in words)
                raise ValueError(explain(f"Finding: {what}", repr(given), f"one of {expected}", "Choose among these."))

    @property
    def known(self) -> bool:
        """Whether both numbers are: no comparison with NaN decides anything."""
        return not (np.isnan(self.evidence) or np.isnan(self.threshold))

    @property
    def holds(self) -> bool:
        """Whether the claim is known to hold."""
        return self.known and bool(_RELATIONS[self.relation](self.evidence, self.threshold))

    @property
    def status(self) -> str:
        """Return "holds", "BROKEN", "caution" or "not known"."""
        if not self.known:
            return "not known"
        return "holds" if self.holds else _SEVERITIES[self.severity]

    def __str__(self) -> str:
        cause = f" {self.cause[:1].upper()}{self.cause[1:].rstrip('.')}." if self.cause else ""
        if not self.known:
            return f"{self.name}: not known.{cause} {self.remedy}".rstrip()
        text = f"{self.name}: {self.evidence:.6g}"
        if self.holds:
            return f"{text}, as it must be ({self.relation} {self.threshold:.6g})"
        word = "must" if self.severity == "broken" else "should"
        return f"{text}, {word} be {self.relation} {self.threshold:.6g}.{cause} {self.remedy}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, whether the claim holds, and its status."""
        return {**dataclasses.asdict(self), "holds": self.holds, "status": self.status}
