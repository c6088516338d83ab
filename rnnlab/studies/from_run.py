"""The network of a training run as the studies measure it: before and after its training."""

import dataclasses
from typing import Any, NamedTuple, TypeVar

import jax

from rnnlab._usage import existing_folder
from rnnlab.cells import Readout
from rnnlab.cells.readout import ReadoutParams
from rnnlab.data import Corpus
from rnnlab.layers import Stack, StackParams, stack
from rnnlab.models import LanguageModel
from rnnlab.models.base import float_dtype
from rnnlab.models.language_model import LanguageModelParams, TiedReadoutParams
from rnnlab.studies import training
from rnnlab.studies.settings import TRAINED, UNTRAINED, StudySettings
from rnnlab.studies.train_settings import TrainSettings
from rnnlab.training.trees import fingerprint
from rnnlab.typing import Array

Settings = TypeVar("Settings", bound=StudySettings)


class TrainedNetwork(NamedTuple):
    """The network of a run, and the text on which it is measured.

    Attributes:
        network: the embedding and the cell as one stack, and the readout; it reads one-hot codes.
        params: by phase, with a leading axis of one seed.
        tied: whether the readout is the transposed embedding.
        corpus: the validation part of the run's text, in the run's alphabet.
        about: which run, after how many steps, and the fingerprint of its parameters.
    """

    network: Stack
    params: dict[str, StackParams]
    tied: bool
    corpus: Corpus
    about: dict[str, Any]


def fixed_by(run: TrainSettings) -> dict[str, Any]:
    """The settings of a study that the network of a run leaves no choice about."""
    return {
        "cells": (run.cell,),
        "layers": run.layers,
        "hidden_size": run.hidden_size,
        "seeds": 1,
        "data": run.data,
        "alphabet": run.alphabet,
        "init": run.init,
        # The parameters of a run in bfloat16 are float32, and so they are measured.
        "precision": "float64" if run.precision == "float64" else "float32",
    }


def resolve(settings: Settings) -> Settings:
    """``settings`` with the values of the run that they name; unchanged where they name none.

    Raises:
        ValueError: for a directory without a run, and for a setting that is neither its default nor
            the value of the run.
    """
    if settings.from_run is None:
        return settings
    folder = existing_folder("--from", settings.from_run)
    fixed = fixed_by(training.settings_of(folder))
    for name, value in fixed.items():
        given = getattr(settings, name)
        default = type(settings).__dataclass_fields__[name].default
        if given not in (default, value):
            raise ValueError(
                f"{name} is {_shown(given)}, but that of the network in {folder} is "
                f"{_shown(value)}; leave {name} out"
            )
    return dataclasses.replace(settings, **fixed)


def read_network(settings: StudySettings) -> TrainedNetwork:
    """The network of the run that ``settings`` name.

    Raises:
        ValueError: for a directory without a run, and for settings of another network.
        CheckpointError: where no checkpoint is whole, or the text is another now.
    """
    if settings.from_run is None:
        raise ValueError("from_run is None; give the directory of a training run")
    if resolve(settings) != settings:
        raise ValueError(
            f"the settings are not those of the network in {settings.from_run}; complete them "
            "with rnnlab.studies.from_run.resolve"
        )
    trained = training.read(existing_folder("--from", settings.from_run))
    setup = trained.setup
    before = training.initial_params(setup)
    return TrainedNetwork(
        network=as_stack(setup.model),
        params={
            UNTRAINED: _one_seed(as_stack_params(before)),
            TRAINED: _one_seed(as_stack_params(trained.params)),
        },
        tied=setup.model.tied,
        corpus=setup.texts.validation,
        about={
            "run": settings.from_run,
            "step": trained.step,
            "params_sha256": fingerprint(trained.params),
        },
    )


def as_stack(model: LanguageModel) -> Stack:
    """A language model as a stack that reads one-hot codes, for which an embedding is a matrix."""
    dtype = float_dtype(model.cell)
    embedding = Readout(model.embedding.size, bias=False, param_dtype=dtype)
    return stack([stack([embedding, model.cell]), Readout(model.outputs, param_dtype=dtype)])


def as_stack_params(params: LanguageModelParams) -> StackParams:
    """The parameters of :func:`as_stack`; tied weights appear twice."""
    readout = params.readout
    if isinstance(readout, TiedReadoutParams):
        readout = ReadoutParams(params.embedding.T, readout.b)
    embedding = ReadoutParams(params.embedding, None)
    return StackParams((StackParams((embedding, params.cell)), readout))


def _one_seed(params: StackParams) -> StackParams:
    def with_axis(leaf: Array) -> Array:
        return leaf[None]

    return jax.tree.map(with_axis, params)


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
