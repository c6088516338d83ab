"""Models: a cell or a network, what it reads and what it writes, and a loss."""

from rnnlab.models.base import Model
from rnnlab.models.beam import Beam, beam_search
from rnnlab.models.beam_decoding import beam_decode
from rnnlab.models.classifier import Classifier, Regressor, classifier, regressor
from rnnlab.models.conditioned_decoder import (
    ConditionedDecoder,
    ConditionedDecoderParams,
    conditioned_decoder,
)
from rnnlab.models.crf_tagger import ChainParams, CrfTagger, CrfTaggerParams, crf_tagger
from rnnlab.models.ctc import Transcription
from rnnlab.models.ctc_transcriber import CtcTranscriber, ctc_transcriber
from rnnlab.models.dot_product import attention
from rnnlab.models.edits import edit_distance
from rnnlab.models.encoder_decoder import EncoderDecoder, EncoderDecoderParams, encoder_decoder
from rnnlab.models.forecaster import Forecaster, ForecasterParams, forecaster
from rnnlab.models.generation import filtered, sample
from rnnlab.models.language_model import (
    LanguageModel,
    LanguageModelParams,
    TiedReadoutParams,
    language_model,
)
from rnnlab.models.linear_chain import Labelling, LinearChain
from rnnlab.models.network import Network
from rnnlab.models.sequence import SequenceParams
from rnnlab.models.stepwise import StepRegressor, Tagger, step_regressor, tagger
from rnnlab.models.table import Part, Table
from rnnlab.models.task_model import for_task
from rnnlab.models.transformer import Transformer
from rnnlab.models.windows import Autoregression, TimeDelayNetwork, WindowNetwork

__all__ = [
    "Autoregression",
    "Beam",
    "ChainParams",
    "Classifier",
    "ConditionedDecoder",
    "ConditionedDecoderParams",
    "CrfTagger",
    "CrfTaggerParams",
    "CtcTranscriber",
    "EncoderDecoder",
    "EncoderDecoderParams",
    "Forecaster",
    "ForecasterParams",
    "Labelling",
    "LanguageModel",
    "LanguageModelParams",
    "LinearChain",
    "Model",
    "Network",
    "Part",
    "Regressor",
    "SequenceParams",
    "StepRegressor",
    "Table",
    "Tagger",
    "TiedReadoutParams",
    "TimeDelayNetwork",
    "Transcription",
    "Transformer",
    "WindowNetwork",
    "attention",
    "beam_decode",
    "beam_search",
    "classifier",
    "conditioned_decoder",
    "crf_tagger",
    "ctc_transcriber",
    "edit_distance",
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
