"""Models: a cell, what it reads and what it writes, and a loss."""

from rnnlab.models.base import Model
from rnnlab.models.beam import Beam, beam_search
from rnnlab.models.classifier import Classifier, Regressor, classifier, regressor
from rnnlab.models.conditioned_decoder import (
    ConditionedDecoder,
    ConditionedDecoderParams,
    conditioned_decoder,
)
from rnnlab.models.encoder_decoder import EncoderDecoder, EncoderDecoderParams, encoder_decoder
from rnnlab.models.forecaster import Forecaster, ForecasterParams, forecaster
from rnnlab.models.generation import filtered, sample
from rnnlab.models.language_model import (
    LanguageModel,
    LanguageModelParams,
    TiedReadoutParams,
    language_model,
)
from rnnlab.models.sequence import SequenceParams
from rnnlab.models.stepwise import StepRegressor, Tagger, step_regressor, tagger
from rnnlab.models.table import Part, Table
from rnnlab.models.task_model import for_task

__all__ = [
    "Beam",
    "Classifier",
    "ConditionedDecoder",
    "ConditionedDecoderParams",
    "EncoderDecoder",
    "EncoderDecoderParams",
    "Forecaster",
    "ForecasterParams",
    "LanguageModel",
    "LanguageModelParams",
    "Model",
    "Part",
    "Regressor",
    "SequenceParams",
    "StepRegressor",
    "Table",
    "Tagger",
    "TiedReadoutParams",
    "beam_search",
    "classifier",
    "conditioned_decoder",
    "encoder_decoder",
    "filtered",
    "for_task",
    "forecaster",
    "language_model",
    "regressor",
    "sample",
    "step_regressor",
    "tagger",
]
