"""A diagnosis in a chapter: its findings as sentences, and what was found of one claim as a number to be checked."""

from collections.abc import Mapping
from typing import Any


def told(diagnoses: Mapping[str, Any]) -> str:
    """A paragraph for each system: its verdict, and each claim that does not hold; else the claims that do."""
    return "\n\n".join(_paragraph(name, found) for name, found in diagnoses.items())


def _paragraph(name: str, found: Any) -> str:
    sentences = [str(finding)[:1].upper() + str(finding)[1:] for finding in found.broken]
    claims = "; ".join(finding.name for finding in found.findings)
    return f"{name}: {found.verdict}. {' '.join(sentences)}" if sentences else f"{name}: sound ({claims})."


def evidence(found: Any, words: str) -> float:
    """The number of the one finding whose name holds these words."""
    (finding,) = [finding for finding in found.findings if words in finding.name]
    return float(finding.evidence)
