"""A diagnosis in a chapter: its findings as sentences, and what was found of one claim as a number to be checked."""

from collections.abc import Mapping
from typing import Any


def told(diagnoses: Mapping[str, Any]) -> str:
    """A paragraph for each system: its verdict, which names what was checked, and each claim that does not hold."""
    return "\n\n".join(_paragraph(name, found) for name, found in diagnoses.items())


def _paragraph(name: str, found: Any) -> str:
    sentences = [str(finding)[:1].upper() + str(finding)[1:] for finding in found.broken]
    return " ".join([f"{name}: {found.verdict}.", *sentences])


def evidence(found: Any, words: str) -> float:
    """The number of the one finding whose name holds these words."""
    (finding,) = [finding for finding in found.findings if words in finding.name]
    return float(finding.evidence)
