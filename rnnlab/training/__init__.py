"""Training: losses, the step, the loop, checkpoints, regularisers, clipping, monitors."""

from rnnlab.training import checkpoints, clipping, losses, metrics, monitors, regularizers
from rnnlab.training.checkpoints import Checkpoints
from rnnlab.training.clipping import ThresholdRange, threshold_range
from rnnlab.training.evaluation import Validation, evaluate
from rnnlab.training.faults import CheckpointError, Interrupted, NonFiniteError
from rnnlab.training.freezing import frozen
from rnnlab.training.loop import TrainingRun, Watch, fit
from rnnlab.training.losses import cross_entropy, gaussian_nll, pinball
from rnnlab.training.metrics import read_metrics
from rnnlab.training.monitors import (
    GradientLooks,
    monitor_gradients,
    read_monitor,
    watch_monitor,
)
from rnnlab.training.range_test import RangeTest, range_test
from rnnlab.training.regularizers import flossing_loss, pascanu_omega
from rnnlab.training.sampling import inverse_sigmoid, scheduled_sampling
from rnnlab.training.step import TrainState, initial_state, train_step
from rnnlab.training.sweep import Sweep, sweep
from rnnlab.training.truncated import truncated_loss
from rnnlab.training.weights import load_weights, pack, save_weights, unpack

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "GradientLooks",
    "Interrupted",
    "NonFiniteError",
    "RangeTest",
    "Sweep",
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
    "frozen",
    "gaussian_nll",
    "initial_state",
    "inverse_sigmoid",
    "load_weights",
    "losses",
    "metrics",
    "monitor_gradients",
    "monitors",
    "pack",
    "pascanu_omega",
    "pinball",
    "range_test",
    "read_metrics",
    "read_monitor",
    "regularizers",
    "save_weights",
    "scheduled_sampling",
    "sweep",
    "threshold_range",
    "train_step",
    "truncated_loss",
    "unpack",
    "watch_monitor",
]
