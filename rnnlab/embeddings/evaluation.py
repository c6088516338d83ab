"""Evaluation of word vectors: human similarity ratings, and analogies."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import spearmanr

from rnnlab import _check
from rnnlab._results import result
from rnnlab.data.text import as_path, decode_utf8, read_bytes
from rnnlab.embeddings.vectors import Embeddings

GENSIM = {
    "wordsim353": "wordsim353.tsv",
    "simlex999": "simlex999.txt",
    "analogies": "questions-words.txt",
}
"""Evaluation sets that gensim ships with its tests."""


class RatedPair(NamedTuple):
    """Two words, and how similar people rated them."""

    first: str
    second: str
    rating: float


@result
class Similarity(NamedTuple):
    """The result of :func:`word_similarity`.

    Attributes:
        correlation: Spearman's rank correlation of cosines and ratings; NaN for fewer than 2 pairs
            and where all cosines or all ratings are equal.
        known: the number of pairs of which both words have vectors.
        pairs: the number of all pairs.
    """

    correlation: float
    known: int
    pairs: int


@result
class AnalogyScore(NamedTuple):
    """The result of :func:`analogy_accuracy`.

    Attributes:
        accuracy: the share of known questions that are answered correctly; NaN without any.
        by_section: the same for each section.
        known: the number of questions of which all words have vectors.
        questions: the number of all questions.
    """

    accuracy: float
    by_section: dict[str, float]
    known: int
    questions: int


def gensim_data(name: str) -> Path:
    """The path of an evaluation set that gensim ships with its tests.

    Args:
        name: "wordsim353" (Finkelstein et al. 2002), "simlex999" (Hill et al. 2015) or "analogies"
            (Mikolov et al. 2013).

    Raises:
        ImportError: where gensim is not installed.
    """
    _check.one_of("name", name, tuple(GENSIM))
    try:
        from gensim.test.utils import datapath
    except ModuleNotFoundError:
        raise ImportError(
            f"{name} is a file of gensim, which is not installed; pip install 'rnnlab[fasttext]', "
            "or give the path of a file"
        ) from None
    return Path(datapath(GENSIM[name]))


def read_pairs(path: str | Path) -> list[RatedPair]:
    """The pairs of a file with a word, a word and a rating in each line, with tabs between them.

    Lines that begin with "#" are comments; a first line whose rating is not a number is a header.

    Raises:
        ValueError: for a file that is unreadable, and a line of another form, with its number.
    """
    path = as_path(path)
    text = decode_utf8(path, read_bytes(path, "a file with rated pairs"))
    # Not splitlines, which also splits at characters that may be part of a word.
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") or not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        try:
            first, second, rating = cells[0], cells[1], float(cells[2])
        except (IndexError, ValueError):
            if not pairs and len(cells) >= 3:
                continue
            raise ValueError(
                f"{path}, line {number}: {line[:40]!r} is not two words and a rating with tabs "
                "between them; correct it"
            ) from None
        if not math.isfinite(rating) or not first or not second:
            raise ValueError(
                f"{path}, line {number}: {line[:40]!r} has an empty word or no finite rating; "
                "remove the line"
            )
        pairs.append(RatedPair(first.lower(), second.lower(), rating))
    return pairs


def read_analogies(path: str | Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """The questions of a file by section: lines ": name", then four words per line.

    Raises:
        ValueError: for a file that is unreadable, and a line of another form, with its number.
    """
    path = as_path(path)
    text = decode_utf8(path, read_bytes(path, "a file with analogies"))
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    name = ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(":"):
            name = line[1:].strip()
            continue
        words = line.lower().split()
        if not words:
            continue
        if len(words) != 4:
            raise ValueError(f"{path}, line {number}: {line[:40]!r} is not four words; correct it")
        sections.setdefault(name, []).append((words[0], words[1], words[2], words[3]))
    return sections


def word_similarity(embeddings: Embeddings, pairs: Iterable[RatedPair]) -> Similarity:
    """Spearman's rank correlation of cosine similarities with human ratings.

    Pairs with a word that is not in the vocabulary are left out; ``known`` counts the others.

    >>> import numpy as np
    >>> from rnnlab.text import Vocabulary
    >>> vectors = np.array([[1, 0], [0.9, 0.1], [0, 1]])
    >>> embeddings = Embeddings(Vocabulary(("cat", "dog", "car")), vectors)
    >>> pairs = [RatedPair("cat", "dog", 8.0), RatedPair("dog", "car", 2.0), RatedPair("a", "b", 1)]
    >>> word_similarity(embeddings, pairs).correlation
    1.0
    """
    pairs = list(pairs)
    known = [pair for pair in pairs if pair.first in embeddings and pair.second in embeddings]
    if len(known) < 2:
        return Similarity(float("nan"), len(known), len(pairs))
    cosines = [embeddings.similarity(pair.first, pair.second) for pair in known]
    ratings = [pair.rating for pair in known]
    if len(set(cosines)) == 1 or len(set(ratings)) == 1:
        return Similarity(float("nan"), len(known), len(pairs))
    found: Any = spearmanr(cosines, ratings)
    return Similarity(round(float(found.statistic), 6), len(known), len(pairs))


def analogy_accuracy(
    embeddings: Embeddings,
    sections: dict[str, list[tuple[str, str, str, str]]],
    *,
    method: str = "add",
) -> AnalogyScore:
    """The share of analogies "a is to b as c is to d" whose d is found among all words.

    Questions with a word that is not in the vocabulary are left out; ``known`` counts the others.

    Args:
        embeddings: the vectors.
        sections: the questions, see :func:`read_analogies`.
        method: see :meth:`Embeddings.analogy`.
    """
    by_section, right, known, total = {}, 0, 0, 0
    for name, questions in sections.items():
        total += len(questions)
        asked = [words for words in questions if _all_known(embeddings, words)]
        hits = 0
        for a, b, c, d in asked:
            best = embeddings.analogy(a, b, c, method=method)
            # A vocabulary of the three words alone has no answer.
            hits += bool(best) and best[0].word == d
        if asked:
            by_section[name] = hits / len(asked)
        right, known = right + hits, known + len(asked)
    accuracy = right / known if known else float("nan")
    return AnalogyScore(accuracy, by_section, known, total)


def _all_known(embeddings: Embeddings, words: Sequence[str]) -> bool:
    return all(word in embeddings for word in words)
