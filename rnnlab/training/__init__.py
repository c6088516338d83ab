"""Training: losses, the step, the loop, checkpoints, regularisers, clipping, monitors."""

from rnnlab.training import checkpoints, clipping, losses, metrics, monitors, regularizers
from rnnlab.training.checkpoints import Checkpoints
from rnnlab.training.clipping import ThresholdRange, threshold_range
from rnnlab.training.evaluation import Validation, evaluate
from rnnlab.training.faults import CheckpointError, Interrupted, NonFiniteError
from rnnlab.training.loop import TrainingRun, Watch, fit
from rnnlab.training.losses import cross_entropy
from rnnlab.training.metrics import read_metrics
from rnnlab.training.monitors import GradientLooks, monitor_gradients, read_monitor
from rnnlab.training.regularizers import flossing_loss, pascanu_omega
from rnnlab.training.step import TrainState, initial_state, train_step
from rnnlab.training.truncated import truncated_loss

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "GradientLooks",
    "Interrupted",
    "NonFiniteError",
    "ThresholdRange",
    "TrainState",
    "TrainingRun",
    "Validation",
    "Watch",
    "checkpoints",
    "clipping",
    "cross_entropy",
    "evaluate",
    "fit",
    "flossing_loss",
    "initial_state",
    "losses",
    "metrics",
    "monitor_gradients",
    "monitors",
    "pascanu_omega",
    "read_metrics",
    "read_monitor",
    "regularizers",
    "threshold_range",
    "train_step",
    "truncated_loss",
]
