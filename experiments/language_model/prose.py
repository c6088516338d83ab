"""Prose as words: whole articles in three parts, and the same text as characters."""

import bz2
import pydoc_data.topics
import string
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.embeddings.run import TEXT
from rnnlab import embeddings, text
from rnnlab.data import encode_with

END = "\n"
"""The token at the end of a paragraph."""
NUMBER = "0"
"""The token of every number in digits."""
PUNCTUATION = tuple(".,;:?!()\"'%$&/-")
ALPHABET = (*string.ascii_lowercase, *string.digits, *PUNCTUATION, " ", END)
"""All characters of the text."""
LINE = 80
"""The least length of a paragraph: shorter lines are headings, tables and lists."""

Tokens = list[str]


class Parts(NamedTuple):
    """The tokens of each part, one article after the other, and how many articles it has."""

    training: Tokens
    validation: Tokens
    test: Tokens
    articles: tuple[int, int, int]


def wikipedia(least: int) -> list[Tokens]:
    """The articles of gensim's extract of Wikipedia that have so many tokens.

    ImportError without gensim.
    """
    path = embeddings.gensim_data("wordsim353").with_name(TEXT)
    from gensim.corpora import wikicorpus

    articles = []
    # Articles alone, not pages about Wikipedia.
    namespaces: Any = ("0",)
    with bz2.open(path, "rb") as file:
        for _, markup, _ in wikicorpus.extract_pages(file, namespaces):
            if not markup.lstrip().lower().startswith("#redirect"):
                articles.append(tokens(wikicorpus.filter_wiki(markup)))
    return [article for article in articles if len(article) >= least]


def python_topics() -> list[Tokens]:
    """Python's help on its own syntax, for quick runs without gensim."""
    articles = []
    for topic in pydoc_data.topics.topics.values():
        paragraphs = [" ".join(part.split()) for part in topic.split("\n\n")]
        articles.append(tokens("\n".join(paragraphs)))
    return [article for article in articles if article]


def tokens(document: str) -> Tokens:
    """The words and marks of the paragraphs of a document, in lower case and without accents."""
    return [token for line in document.splitlines() for token in _of_line(line.strip())]


def _of_line(line: str) -> Iterator[str]:
    if len(line) < LINE or line[0] in "*#|;:={}!<":
        return
    # In the markup of Wikipedia two quotes and more are italics and bold letters.
    line = line.replace("'''", "").replace("''", "")
    line = text.strip_accents(text.lower_case(text.normalize_unicode(line)))
    known = set(ALPHABET)
    for token in text.words(line):
        if token[0].isdigit():
            yield NUMBER
        elif known.issuperset(token):
            yield token
    yield END


def split(articles: Sequence[Tokens], seed: int = 0) -> Parts:
    """Whole articles at random: one of eight for validation, one of eight for the test."""
    order = np.random.default_rng(seed).permutation(len(articles))
    held_out = len(articles) // 8
    places = (order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out])
    training, validation, test = [_joined(articles, part) for part in places]
    return Parts(training, validation, test, (len(places[0]), held_out, held_out))


def _joined(articles: Sequence[Tokens], places: np.ndarray) -> Tokens:
    return [token for place in places for token in articles[place]]


def characters(words: Sequence[str]) -> np.ndarray:
    """The codes of the characters of a text: its tokens, each with a space behind it."""
    return encode_with("".join(f"{word} " for word in words), {}, ALPHABET).codes


def seen_share(training: Tokens, held_out: Tokens, order: int = 8) -> float:
    """The share of the n-grams of a held-out text that the training text has too."""
    known = set(ngrams(training, order))
    return float(np.mean([gram in known for gram in ngrams(held_out, order)]))


def ngrams(words: Sequence, order: int) -> list[tuple]:
    """All n-grams of a sequence, in their order."""
    return list(zip(*[words[start:] for start in range(order)], strict=False))
