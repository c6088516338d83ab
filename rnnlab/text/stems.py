"""Words in their base form: stems by rules, lemmas by dictionaries."""

from collections.abc import Callable, Sequence

from rnnlab import _check
from rnnlab.text.languages import lemma_language, stemmer_language
from rnnlab.text.packages import package
from rnnlab.text.tokens import as_tokens, is_utf8

ALGORITHMS = ("porter", "lancaster", "snowball")


def stem(tokens: Sequence[str], algorithm: str = "porter", language: str = "en") -> list[str]:
    """The stem of each word, in lower case, by rules that cut off endings.

    A stem need not be a word; what matters is which words share one.

    >>> stem(["studies", "studying", "universal", "university"])
    ['studi', 'studi', 'univers', 'univers']
    >>> stem(["Häuser", "gelaufen"], "snowball", language="de")
    ['haus', 'gelauf']

    Args:
        tokens: any number of words.
        algorithm: "porter" (Porter 1980) and the more aggressive "lancaster" (Paice & Husk 1990)
            are for English; "snowball" (Porter 2001) has 15 languages. All are nltk's.
        language: an ISO 639-1 code.

    Raises:
        ValueError: for an unknown algorithm or language, and a language that the algorithm lacks.
        ImportError: where nltk is not installed.
    """
    _check.one_of("algorithm", algorithm, ALGORITHMS)
    name = stemmer_language(language)
    if algorithm != "snowball" and language != "en":
        raise ValueError(
            f"algorithm is {algorithm!r}, which is for English, but language is {language!r}; take "
            "'snowball'"
        )
    package("nltk")
    if algorithm == "porter":
        stemmer = package("nltk", "nltk.stem.porter").PorterStemmer()
    elif algorithm == "lancaster":
        stemmer = package("nltk", "nltk.stem.lancaster").LancasterStemmer()
    else:
        stemmer = package("nltk", "nltk.stem.snowball").SnowballStemmer(name)
    return _each_word_once(stemmer.stem, as_tokens(tokens))


def lemmatize(tokens: Sequence[str], language: str = "en") -> list[str]:
    """The lemma of each word, its form in a dictionary, by simplemma.

    The results are words. Only the word itself counts, not its part of speech in the sentence:
    "saw" has one lemma, as a noun and as a verb. Once its dictionary is loaded, this is about as
    fast as :func:`stem` (measured in ``experiments/text_processing``).

    >>> lemmatize(["mice", "went", "better", "studies"])
    ['mouse', 'go', 'good', 'study']

    Args:
        tokens: any number of words.
        language: a code of simplemma's, such as "de"; there are more than 50.

    Raises:
        ValueError: for a language without a dictionary.
        ImportError: where simplemma is not installed.
    """
    code = lemma_language(language)
    simplemma = package("simplemma")

    def lemma(word: str) -> str:
        # simplemma raises an error for both.
        if not word or not is_utf8(word):
            return word
        return simplemma.lemmatize(word, lang=code)

    return _each_word_once(lemma, as_tokens(tokens))


def _each_word_once(function: Callable[[str], str], tokens: list[str]) -> list[str]:
    # A text has many more words than different words.
    forms = {token: function(token) for token in set(tokens)}
    return [forms[token] for token in tokens]
