"""Sentences with a rating of their sentiment: Hutto & Gilbert 2014, in an archive of a package.

The source archive of vaderSentiment 0.5 (MIT licence) holds 23 703 sentences from film reviews,
product reviews, editorials and tweets; twenty people rated each from −4 (very negative) to +4.
"""

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

SOURCES = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
NAMES = ("film reviews", "product reviews", "editorials", "tweets")
"""What the sentences of each source are."""

_ARCHIVE = "vaderSentiment-0.5.zip"
_INNER = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"


class Snippets(NamedTuple):
    """N sentences.

    Attributes:
        texts: N strings.
        ratings: ``[N]``, the mean rating of each.
        sources: ``[N]``, its place in :data:`SOURCES`.
    """

    texts: tuple[str, ...]
    ratings: np.ndarray
    sources: np.ndarray


def snippets() -> Snippets:
    """All sentences, in the order of the files.

    Raises:
        FileNotFoundError: without the archive; the message says how to get it.
    """
    path = Path(os.environ.get("RNNLAB_DATA", "data"), _ARCHIVE)
    if not path.is_file():
        raise FileNotFoundError(
            f"the sentences are in {path}, which does not exist; run python3 -m pip download "
            f"--no-deps --no-binary :all: --dest {path.parent} vaderSentiment==0.5"
        )
    texts, ratings, sources = [], [], []
    with (
        zipfile.ZipFile(path) as outer,
        tarfile.open(fileobj=io.BytesIO(outer.read(_INNER))) as tar,
    ):
        for place, source in enumerate(SOURCES):
            file = tar.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
            assert file is not None, source
            for line in file.read().decode("utf-8").splitlines():
                _, rating, text = line.split("\t", 2)
                texts.append(text)
                ratings.append(float(rating))
                sources.append(place)
    return Snippets(tuple(texts), np.array(ratings), np.array(sources))


def generated(count: int, seed: int = 0) -> Snippets:
    """Sentences in the form of the real ones, for quick runs without the archive."""
    random = np.random.default_rng(seed)
    things = (("film", "actor"), ("camera", "battery"), ("senate", "law"), ("lol", "friends"))
    good, bad = ("wonderful", "moving", "great"), ("dull", "awful", "broken")
    texts, ratings, sources = [], [], []
    for place in random.integers(len(SOURCES), size=count).tolist():
        is_good = bool(random.integers(2))
        negated = bool(random.integers(2))
        word = random.choice(good if is_good != negated else bad)
        thing = random.choice(things[place])
        texts.append(f"the {thing} is {'not ' if negated else ''}{word}, they say")
        ratings.append(2.0 if is_good else -2.0)
        sources.append(place)
    return Snippets(tuple(texts), np.array(ratings), np.array(sources))
