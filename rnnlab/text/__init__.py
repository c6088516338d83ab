"""Text processing: normalisation, tokens, stems, counts, vocabularies and pipelines."""

from typing import TYPE_CHECKING

from rnnlab._lazy import lazily

if TYPE_CHECKING:
    from rnnlab.text.codes import one_hot as one_hot
    from rnnlab.text.counts import BagOfWords as BagOfWords
    from rnnlab.text.counts import bag_of_words as bag_of_words
    from rnnlab.text.counts import load_bag_of_words as load_bag_of_words
    from rnnlab.text.counts import tf_idf as tf_idf
    from rnnlab.text.dates import normalize_dates as normalize_dates
    from rnnlab.text.dates import replace_dates as replace_dates
    from rnnlab.text.documents import Documents as Documents
    from rnnlab.text.documents import read_csv as read_csv
    from rnnlab.text.documents import read_folder as read_folder
    from rnnlab.text.normalization import collapse_whitespace as collapse_whitespace
    from rnnlab.text.normalization import expand_contractions as expand_contractions
    from rnnlab.text.normalization import lower_case as lower_case
    from rnnlab.text.normalization import normalize_unicode as normalize_unicode
    from rnnlab.text.normalization import remove_punctuation as remove_punctuation
    from rnnlab.text.normalization import replace_numbers as replace_numbers
    from rnnlab.text.normalization import strip_accents as strip_accents
    from rnnlab.text.pipelines import Pipeline as Pipeline
    from rnnlab.text.pipelines import load_pipeline as load_pipeline
    from rnnlab.text.pipelines import pipeline as pipeline
    from rnnlab.text.stems import lemmatize as lemmatize
    from rnnlab.text.stems import stem as stem
    from rnnlab.text.stop_word_lists import remove_stop_words as remove_stop_words
    from rnnlab.text.stop_word_lists import stop_words as stop_words
    from rnnlab.text.subwords import Subwords as Subwords
    from rnnlab.text.subwords import train_subwords as train_subwords
    from rnnlab.text.tokenization import characters as characters
    from rnnlab.text.tokenization import learn_abbreviations as learn_abbreviations
    from rnnlab.text.tokenization import sentences as sentences
    from rnnlab.text.tokenization import words as words
    from rnnlab.text.vocabulary import BOS as BOS
    from rnnlab.text.vocabulary import EOS as EOS
    from rnnlab.text.vocabulary import PAD as PAD
    from rnnlab.text.vocabulary import SPECIAL as SPECIAL
    from rnnlab.text.vocabulary import UNK as UNK
    from rnnlab.text.vocabulary import Vocabulary as Vocabulary
    from rnnlab.text.vocabulary import build_vocabulary as build_vocabulary
    from rnnlab.text.vocabulary_files import load_vocabulary as load_vocabulary

_HOME = {
    "BOS": "vocabulary",
    "BagOfWords": "counts",
    "Documents": "documents",
    "EOS": "vocabulary",
    "PAD": "vocabulary",
    "Pipeline": "pipelines",
    "SPECIAL": "vocabulary",
    "Subwords": "subwords",
    "UNK": "vocabulary",
    "Vocabulary": "vocabulary",
    "bag_of_words": "counts",
    "build_vocabulary": "vocabulary",
    "characters": "tokenization",
    "collapse_whitespace": "normalization",
    "expand_contractions": "normalization",
    "learn_abbreviations": "tokenization",
    "lemmatize": "stems",
    "load_bag_of_words": "counts",
    "load_pipeline": "pipelines",
    "load_vocabulary": "vocabulary_files",
    "lower_case": "normalization",
    "normalize_dates": "dates",
    "normalize_unicode": "normalization",
    "one_hot": "codes",
    "pipeline": "pipelines",
    "read_csv": "documents",
    "read_folder": "documents",
    "remove_punctuation": "normalization",
    "remove_stop_words": "stop_word_lists",
    "replace_dates": "dates",
    "replace_numbers": "normalization",
    "sentences": "tokenization",
    "stem": "stems",
    "stop_words": "stop_word_lists",
    "strip_accents": "normalization",
    "tf_idf": "counts",
    "train_subwords": "subwords",
    "words": "tokenization",
}

__all__ = [*_HOME]

__getattr__, __dir__ = lazily("rnnlab.text", _HOME)
