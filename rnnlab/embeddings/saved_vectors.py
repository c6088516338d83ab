"""Embeddings from the files that they were saved to."""

from pathlib import Path

from rnnlab.embeddings.vector_files import read_arrays
from rnnlab.embeddings.vectors import Embeddings
from rnnlab.text.vocabulary import Vocabulary


def load_embeddings(path: str | Path) -> Embeddings:
    """The embeddings of :meth:`Embeddings.save`.

    Raises:
        ValueError: for a file that cannot be read or holds something else.
    """
    saved = read_arrays(path)
    try:
        vocabulary = Vocabulary(saved.words)
        return Embeddings(vocabulary, saved.vectors, saved.unknown, saved.subwords)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
