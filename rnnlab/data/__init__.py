"""Loaders of real data, and batches."""

from rnnlab.data.batch import Batch
from rnnlab.data.text import Corpus, encode, read_text, standard_library

__all__ = ["Batch", "Corpus", "encode", "read_text", "standard_library"]
