"""The questions that any system can be asked; each answer is a `Result` with numbers, uncertainty and cautions."""

from separatrix.diagnostics.diagnose import Diagnosis as Diagnosis, diagnose as diagnose
from separatrix.diagnostics.examine import examine as examine
from separatrix.diagnostics.finding import Finding as Finding
from separatrix.diagnostics.linear_stability import (
    LinearStability as LinearStability,
    linear_stability as linear_stability,
)
from separatrix.diagnostics.questions import QUESTIONS as QUESTIONS, Question as Question, question as question
from separatrix.diagnostics.result import Result as Result, Row as Row
from separatrix.diagnostics.survival import Survival as Survival, survival as survival
