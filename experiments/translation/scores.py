"""How good translations are: BLEU, chrF and exact matches."""

import warnings
from collections.abc import Sequence
from typing import Any

from nltk.translate.bleu_score import corpus_bleu
from nltk.translate.chrf_score import corpus_chrf

from experiments.common import Record
from experiments.translation.catalogues import words


def exact(said: Sequence[str], truth: Sequence[str]) -> float:
    """The share of texts that are right as a whole."""
    hits = sum(one == other for one, other in zip(said, truth, strict=True))
    return round(hits / len(truth), 4)


def scored(said: Sequence[str], truth: Sequence[str]) -> Record:
    """BLEU (Papineni et al. 2002), chrF (Popović 2015), 0 to 1, and exact matches.

    BLEU is that of up to four words, over all texts together, with marks as words and without
    smoothing; chrF is that of up to six letters, the mean over texts.
    """
    references = [[words(text)] for text in truth]
    with warnings.catch_warnings():
        # Where no four words are right, BLEU is 0, which is said by a warning too.
        warnings.simplefilter("ignore")
        bleu: Any = corpus_bleu(references, [words(text) for text in said])
    return {
        "bleu": round(float(bleu), 4),
        "chrf": round(float(corpus_chrf(truth, said)), 4),
        "exact": exact(said, truth),
    }
