"""What does without a network: parsers and linear models for dates, memories for messages."""

import collections
import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dateutil import parser
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from experiments.translation.catalogues import Pairs, words
from experiments.translation.dates import Dated, tokens
from experiments.translation.network import padded
from rnnlab.models import edit_distance

Translate = Callable[[Sequence[str]], list[str]]
NULL = ""
"""The English word of German words that stand for none."""


def by_dateutil(text: str) -> str:
    """The date that the parser of dateutil finds; an empty text where it finds none."""
    with warnings.catch_warnings():
        # A word that it takes for an unknown time zone is a warning.
        warnings.simplefilter("ignore")
        try:
            found = parser.parse(text, fuzzy=True, default=datetime(1, 1, 1))
        except (ValueError, OverflowError):
            return ""
    return found.date().isoformat()


def words_and_neighbours(text: str) -> list[str]:
    """The words of a date, and the pairs of words that follow one another."""
    known = tokens(text)
    return known + [f"{first} {second}" for first, second in itertools.pairwise(known)]


def by_digit(training: Dated, strength: float) -> Translate:
    """Each digit by logistic regression on the counts of words and of pairs of neighbours."""
    # Its annotations, which are made from its defaults, leave out functions.
    analyzer: Any = words_and_neighbours
    counter = CountVectorizer(analyzer=analyzer)
    counts = counter.fit_transform(training.texts)
    models: list[Any] = []
    for symbols in zip(*training.iso, strict=True):
        is_mark = len(set(symbols)) == 1
        model = LogisticRegression(C=strength)
        models.append(symbols[0] if is_mark else model.fit(counts, symbols))

    def read(texts: Sequence[str]) -> list[str]:
        counts = counter.transform(texts)
        columns = []
        for model in models:
            is_mark = isinstance(model, str)
            columns.append([model] * len(texts) if is_mark else model.predict(counts))
        return ["".join(symbols) for symbols in zip(*columns, strict=True)]

    return read


def memory_by_edits(training: Pairs) -> Translate:
    """The translation of the message at the smallest edit distance, which is counted in words."""
    stored = [words(text.lower()) for text in training.english]
    every = sorted(set().union(*stored))
    codes = {word: place for place, word in enumerate(every)}

    def encode(text: list[str]) -> np.ndarray:
        return np.array([codes.get(word, len(codes)) for word in text], np.int32)

    others, sizes = map(jnp.asarray, padded([encode(text) for text in stored]))

    def nearest(asked: np.ndarray, length: np.ndarray) -> Any:
        repeated = jnp.repeat(asked[:, None], len(stored), axis=1)
        lengths = jnp.full(len(stored), length)
        found = edit_distance(repeated, others, lengths=lengths, other_lengths=sizes)
        return found.argmin()

    def translate(texts: Sequence[str]) -> list[str]:
        asked, lengths = padded([encode(words(text.lower())) for text in texts])
        places = jax.jit(lambda: jax.lax.map(lambda one: nearest(*one), (asked.T, lengths)))()
        return [training.german[place] for place in places.tolist()]

    return translate


def memory_by_cosine(training: Pairs) -> Translate:
    """The translation of the message with the largest cosine of TF-IDF of groups of letters."""
    weigh = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    stored = weigh.fit_transform(training.english)

    def translate(texts: Sequence[str]) -> list[str]:
        cosines = (weigh.transform(texts) @ stored.T).toarray()
        return [training.german[place] for place in cosines.argmax(axis=1).tolist()]

    return translate


def dictionary(training: Pairs, rounds: int) -> Translate:
    """Each word by its likeliest translation under model 1 of IBM (Brown et al. 1993).

    t(g | e) is fitted by expectation maximisation. A word that is not in training stays.
    """
    sentences = []
    for english, german in zip(*training, strict=True):
        sentences.append(([NULL, *words(english.lower())], words(german)))
    chances: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        counts: dict[str, dict[str, float]] = collections.defaultdict(
            functools.partial(collections.defaultdict, float)
        )
        for english, german in sentences:
            for word in german:
                # In the first round all translations are equally likely.
                weights = [chances[other][word] if chances else 1.0 for other in english]
                total = sum(weights)
                for other, weight in zip(english, weights, strict=True):
                    counts[other][word] += weight / total
        chances = {}
        for other, row in counts.items():
            total = sum(row.values())
            chances[other] = {word: n / total for word, n in row.items()}
    best = {other: max(row, key=row.__getitem__) for other, row in chances.items()}

    def translate(texts: Sequence[str]) -> list[str]:
        return [joined([best.get(word.lower(), word) for word in words(text)]) for text in texts]

    return translate


def joined(parts: Sequence[str]) -> str:
    """Words as a text, without a space before marks.

    >>> joined(["Bitte", "warten", "."])
    'Bitte warten.'
    """
    text = ""
    for part in parts:
        is_word = part[0].isalnum() or part[0] in "{(“„"
        text += f" {part}" if text and is_word else part
    return text
