"""Loaders of real data."""

from rnnlab.data.text import Corpus, encode, read_text, standard_library

__all__ = ["Corpus", "encode", "read_text", "standard_library"]
