"""Stop words: frequent words that say little about the topic of a text."""

from collections.abc import Iterable, Sequence

from rnnlab.text.languages import stop_word_language
from rnnlab.text.packages import package
from rnnlab.text.tokens import as_tokens


def stop_words(
    language: str = "en", *, extra: Iterable[str] = (), keep: Iterable[str] = ()
) -> frozenset[str]:
    """The stop words of a language, in lower case.

    The English ones are the 318 of scikit-learn; other languages have those of the package
    stop-words.

    >>> "the" in stop_words(), "not" in stop_words(keep=["not", "no"])
    (True, False)

    Args:
        language: an ISO 639-1 code, such as "de".
        extra: further stop words.
        keep: words that are kept, such as negations for sentiment analysis.

    Raises:
        ValueError: for a language without a list.
        ImportError: where the package with the list is not installed.
    """
    name = stop_word_language(language)
    if language == "en":
        known = package("scikit-learn", "sklearn.feature_extraction.text").ENGLISH_STOP_WORDS
    else:
        known = package("stop-words", "stop_words").get_stop_words(name)
    lowered = {word.lower() for word in as_tokens(extra)}
    kept = {word.lower() for word in as_tokens(keep)}
    return (frozenset(known) | lowered) - kept


def remove_stop_words(
    tokens: Sequence[str],
    language: str = "en",
    *,
    extra: Iterable[str] = (),
    keep: Iterable[str] = (),
) -> list[str]:
    """``tokens`` without :func:`stop_words`, whatever their case.

    >>> remove_stop_words(["The", "cat", "is", "on", "the", "mat"])
    ['cat', 'mat']

    Args:
        tokens: any number of words.
        language, extra, keep: as for :func:`stop_words`.

    Raises:
        ValueError: for a language without a list, and tokens that are not strings.
        ImportError: where the package with the list is not installed.
    """
    unwanted = stop_words(language, extra=extra, keep=keep)
    return [token for token in as_tokens(tokens) if token.lower() not in unwanted]
