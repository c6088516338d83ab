"""The languages of each step, by their ISO 639 codes."""

import re
from collections.abc import Collection

from rnnlab.text.packages import package

SNOWBALL = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
}
"""The languages of the Snowball stemmers, with nltk's names."""

STOP_WORDS = SNOWBALL | {
    "bg": "bulgarian",
    "ca": "catalan",
    "cs": "czech",
    "el": "greek",
    "fa": "persian",
    "gu": "gujarati",
    "he": "hebrew",
    "hi": "hindi",
    "id": "indonesian",
    "ja": "japanese",
    "ko": "korean",
    "ms": "malaysian",
    "pl": "polish",
    "sk": "slovak",
    "tr": "turkish",
    "uk": "ukrainian",
    "vi": "vietnamese",
    "zh": "chinese",
}
"""The languages with stop words, with the names of the package stop-words."""


def stemmer_language(language: str) -> str:
    """The name of a language in nltk; ValueError for one without a Snowball stemmer."""
    return SNOWBALL[_checked(language, SNOWBALL, "a Snowball stemmer")]


def stop_word_language(language: str) -> str:
    """The name of a language in stop-words; ValueError for one without a list."""
    return STOP_WORDS[_checked(language, STOP_WORDS, "a list of stop words")]


def lemma_language(language: str) -> str:
    """``language``; ValueError for one that simplemma has no dictionary of."""
    factory = package("simplemma", "simplemma.strategies.dictionaries.dictionary_factory")
    return _checked(language, factory.SUPPORTED_LANGUAGES, "a dictionary of lemmas")


def sentence_language(language: str) -> str:
    """``language``; ValueError unless it has the form of a code, such as "en"."""
    if not isinstance(language, str) or not re.fullmatch("[a-z]{2,3}", language):
        raise ValueError(
            f"language is {language!r}; give its code of ISO 639 in small letters, such as 'en'"
        )
    return language


def _checked(language: str, known: Collection[str], what: str) -> str:
    if not isinstance(language, str) or language not in known:
        raise ValueError(
            f"language is {language!r}; choose from those with {what}: {', '.join(sorted(known))}"
        )
    return language
