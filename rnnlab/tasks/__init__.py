"""Synthetic tasks as pure functions of a key, each with its exact baseline."""

from typing import TYPE_CHECKING

from rnnlab._lazy import lazily

if TYPE_CHECKING:
    from rnnlab.tasks import registry as registry
    from rnnlab.tasks.base import Task as Task
    from rnnlab.tasks.context_free import AnBn as AnBn
    from rnnlab.tasks.context_free import anbn as anbn
    from rnnlab.tasks.copying import CopyMemory as CopyMemory
    from rnnlab.tasks.copying import CopyWithPadding as CopyWithPadding
    from rnnlab.tasks.copying import copy_memory as copy_memory
    from rnnlab.tasks.copying import copy_with_padding as copy_with_padding
    from rnnlab.tasks.holding import FlipFlop as FlipFlop
    from rnnlab.tasks.holding import flip_flop as flip_flop
    from rnnlab.tasks.images import Digits as Digits
    from rnnlab.tasks.images import digits as digits
    from rnnlab.tasks.modular import ModularCounting as ModularCounting
    from rnnlab.tasks.modular import modular_counting as modular_counting
    from rnnlab.tasks.modular import parity as parity
    from rnnlab.tasks.noise_free import NoiseFreeLongLag as NoiseFreeLongLag
    from rnnlab.tasks.noise_free import noise_free_long_lag as noise_free_long_lag
    from rnnlab.tasks.ordering import TemporalOrder as TemporalOrder
    from rnnlab.tasks.ordering import temporal_order as temporal_order
    from rnnlab.tasks.reber import EmbeddedReber as EmbeddedReber
    from rnnlab.tasks.reber import embedded_reber as embedded_reber
    from rnnlab.tasks.recall import AssociativeRecall as AssociativeRecall
    from rnnlab.tasks.recall import associative_recall as associative_recall
    from rnnlab.tasks.registry import make_task as make_task
    from rnnlab.tasks.selection import SelectiveCopy as SelectiveCopy
    from rnnlab.tasks.selection import selective_copy as selective_copy
    from rnnlab.tasks.sine import SineWave as SineWave
    from rnnlab.tasks.sine import sine_wave as sine_wave
    from rnnlab.tasks.sums import Adding as Adding
    from rnnlab.tasks.sums import Multiplication as Multiplication
    from rnnlab.tasks.sums import adding as adding
    from rnnlab.tasks.sums import multiplication as multiplication
    from rnnlab.tasks.word import WordDetection as WordDetection
    from rnnlab.tasks.word import word_detection as word_detection
    from rnnlab.tasks.xor import DelayedXor as DelayedXor
    from rnnlab.tasks.xor import delayed_xor as delayed_xor

_HOME = {
    "Adding": "sums",
    "AnBn": "context_free",
    "AssociativeRecall": "recall",
    "CopyMemory": "copying",
    "CopyWithPadding": "copying",
    "DelayedXor": "xor",
    "Digits": "images",
    "EmbeddedReber": "reber",
    "FlipFlop": "holding",
    "ModularCounting": "modular",
    "Multiplication": "sums",
    "NoiseFreeLongLag": "noise_free",
    "SelectiveCopy": "selection",
    "SineWave": "sine",
    "Task": "base",
    "TemporalOrder": "ordering",
    "WordDetection": "word",
    "adding": "sums",
    "anbn": "context_free",
    "associative_recall": "recall",
    "copy_memory": "copying",
    "copy_with_padding": "copying",
    "delayed_xor": "xor",
    "digits": "images",
    "embedded_reber": "reber",
    "flip_flop": "holding",
    "make_task": "registry",
    "modular_counting": "modular",
    "multiplication": "sums",
    "noise_free_long_lag": "noise_free",
    "parity": "modular",
    "selective_copy": "selection",
    "sine_wave": "sine",
    "temporal_order": "ordering",
    "word_detection": "word",
}
_MODULES = ("registry",)

__all__ = [*_HOME, *_MODULES]

__getattr__, __dir__ = lazily("rnnlab.tasks", _HOME, _MODULES)
