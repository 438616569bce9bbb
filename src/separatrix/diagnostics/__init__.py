"""The questions that any system can be asked; each answer is a `Result` with numbers, uncertainty and cautions."""

from separatrix.diagnostics.finding import Finding as Finding
from separatrix.diagnostics.linear_stability import (
    LinearStability as LinearStability,
    linear_stability as linear_stability,
)
from separatrix.diagnostics.result import Result as Result, Row as Row
