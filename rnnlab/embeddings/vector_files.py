"""Words and vectors in NumPy's ``.npz`` files."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnlab.data.text import as_path
from rnnlab.embeddings.character_ngrams import NGramVectors


class Arrays(NamedTuple):
    """The content of a file: V words, their vectors ``[V, D]``, the policy, and the n-grams."""

    words: tuple[str, ...]
    vectors: np.ndarray
    unknown: str
    subwords: NGramVectors | None


def write_arrays(path: str | Path, content: Arrays) -> None:
    """Writes the file; ValueError for a word with a line end."""
    if any("\n" in word for word in content.words):
        raise ValueError(
            "a word holds a line end, so that the words cannot be saved as lines; leave it out"
        )
    # Not a string of NumPy, which would lose a zero byte at its end.
    words = np.frombuffer("\n".join(content.words).encode("utf-8", "surrogatepass"), np.uint8)
    arrays: dict[str, Any] = {
        "words": words,
        "vectors": content.vectors,
        "unknown": np.array(content.unknown),
    }
    if content.subwords is not None:
        arrays["ngrams"] = content.subwords.vectors
        arrays["bounds"] = np.array([content.subwords.low, content.subwords.high])
    with as_path(path).open("wb") as file:
        np.savez(file, **arrays)


def read_arrays(path: str | Path) -> Arrays:
    """The content of :func:`write_arrays`; ValueError for any other file."""
    path = as_path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            # tobytes also reads the strings that earlier versions wrote.
            words = arrays["words"].tobytes().decode("utf-8", "surrogatepass").split("\n")
            subwords = None
            if "ngrams" in arrays:
                subwords = NGramVectors(arrays["ngrams"], *map(int, arrays["bounds"]))
            return Arrays(tuple(words), arrays["vectors"], str(arrays["unknown"]), subwords)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror or error}); give a file of embeddings"
        ) from None
    # NumPy raises zipfile's and pickle's errors as they come.
    except Exception:
        raise ValueError(
            f"{path} holds no embeddings; give a file that they were saved to"
        ) from None
