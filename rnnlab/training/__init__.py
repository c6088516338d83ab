"""Training: losses, the step, the loop, checkpoints, regularisers, clipping, monitors."""

from rnnlab.training import clipping, losses, monitors, regularizers
from rnnlab.training.clipping import ThresholdRange, threshold_range
from rnnlab.training.losses import cross_entropy
from rnnlab.training.monitors import GradientLooks, monitor_gradients, read_monitor
from rnnlab.training.regularizers import flossing_loss, pascanu_omega
from rnnlab.training.step import TrainState, initial_state, train_step

__all__ = [
    "GradientLooks",
    "ThresholdRange",
    "TrainState",
    "clipping",
    "cross_entropy",
    "flossing_loss",
    "initial_state",
    "losses",
    "monitor_gradients",
    "monitors",
    "pascanu_omega",
    "read_monitor",
    "regularizers",
    "threshold_range",
    "train_step",
]
