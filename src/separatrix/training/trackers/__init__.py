"""Trackers: a run's numbers told to JSON lines, TensorBoard, Weights & Biases or MLflow, three calls each."""

from separatrix.training.trackers.known import (
    JsonLines as JsonLines,
    MLflow as MLflow,
    TensorBoard as TensorBoard,
    WandB as WandB,
    tracker_named as tracker_named,
)
from separatrix.training.trackers.tracker import Told as Told, Tracker as Tracker, trackers_of as trackers_of
