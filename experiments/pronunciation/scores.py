"""Phoneme error rate and words that are right as a whole."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from experiments.common import Record
from experiments.pronunciation.data import LONGEST, Alphabet, Lexicon, Phonemes, alphabet
from experiments.pronunciation.rules import MOST
from rnnlab.models import edit_distance
from rnnlab.typing import Array

Said = list[Phonemes]
"""The phonemes for each word."""


def errors(said: Said, lexicon: Lexicon) -> np.ndarray:
    """The edit distance to the nearest pronunciation of each word, and its length, ``[N, 2]``."""
    pairs = []
    for place, (phonemes, variants) in enumerate(zip(said, lexicon.spoken, strict=True)):
        pairs += [(place, phonemes, variant) for variant in variants]
    places, first, second = zip(*pairs, strict=True)
    names = alphabet(Lexicon((), (first, second)))
    (codes, lengths), (others, sizes) = padded(first, names), padded(second, names)
    distances = edit_distance(codes, others, lengths=lengths, other_lengths=sizes).tolist()
    nearest = np.full((len(said), 2), np.iinfo(int).max)
    for place, distance, size in zip(places, distances, sizes.tolist(), strict=True):
        if distance < nearest[place, 0]:
            nearest[place] = distance, size
    return nearest


def padded(sequences: Sequence[Phonemes], names: Alphabet) -> tuple[Array, Array]:
    """Codes ``[20, N]``, since rules give a letter two phonemes at most, and lengths ``[N]``."""
    codes = np.zeros((MOST * LONGEST, len(sequences)), np.int32)
    for column, sequence in enumerate(sequences):
        codes[: len(sequence), column] = names.encode(sequence)
    return jnp.asarray(codes), jnp.array([len(sequence) for sequence in sequences])


def phoneme_error_rate(said: Said, lexicon: Lexicon) -> float:
    """Errors over the phonemes of the nearest pronunciations."""
    distances, sizes = errors(said, lexicon).T
    return float(distances.sum() / sizes.sum())


def scored(name: str, said: list[Said], lexicon: Lexicon) -> Record:
    """The phoneme error rate and the share of right words, of each speaker."""
    record: Record = {"name": name, "errors": [], "words": []}
    for row in said:
        record["errors"].append(round(phoneme_error_rate(row, lexicon), 4))
        record["words"].append(round(float(np.mean(errors(row, lexicon)[:, 0] == 0)), 4))
    print(f"{name:30}phoneme errors {record['errors']}  words {record['words']}", flush=True)
    return record
