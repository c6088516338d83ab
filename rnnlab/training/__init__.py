"""Tools for training: losses, the step, regularisers, thresholds for clipping, monitors."""

from rnnlab.training import clipping, losses, monitors, regularizers
from rnnlab.training.clipping import ThresholdRange, threshold_range
from rnnlab.training.losses import cross_entropy
from rnnlab.training.monitors import GradientLooks, monitor_gradients, read_monitor
from rnnlab.training.regularizers import flossing_loss, pascanu_omega
from rnnlab.training.step import Metrics, TrainState, adam, train_step

__all__ = [
    "GradientLooks",
    "Metrics",
    "ThresholdRange",
    "TrainState",
    "adam",
    "clipping",
    "cross_entropy",
    "flossing_loss",
    "losses",
    "monitor_gradients",
    "monitors",
    "pascanu_omega",
    "read_monitor",
    "regularizers",
    "threshold_range",
    "train_step",
]
