"""Tokenisation by word, sentence and character."""

import functools
import re
from collections.abc import Iterable

from rnnlab import _check
from rnnlab.text.languages import sentence_language
from rnnlab.text.marks import FLAG_LETTERS, JOINER, SKIN_TONES, extenders
from rnnlab.text.packages import package
from rnnlab.text.tokens import as_text, as_tokens

APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_WORD = re.compile(
    r"<\w+>"  # a placeholder, such as <number>
    r"|\d+(?:[.,:]\d+)+"
    rf"|\w+(?:['{APOSTROPHE}-]\w+)*"
    r"|[^\w\s]"
)

ABBREVIATIONS = {
    "de": "bzw ca d.h dr etc evtl ggf hr inkl max min mio mrd nr prof s sog st str tel usw vgl z.b",
    "en": "a.m dr e.g etc fig gen gov i.e inc jr lt ltd mr mrs ms no p.m prof rep rev sen sgt sr "
    "st u.k u.s vs",
}
"""Abbreviations after which a period does not end a sentence, by language."""

STYLES = ("simple", "treebank", "tweet")


def words(text: str, style: str = "simple") -> list[str]:
    """The words of a text; each mark of punctuation, and each emoji, is a token too.

    >>> words("Don't pay $3.50, Mr. O'Neil!")
    ["Don't", 'pay', '$', '3.50', ',', 'Mr', '.', "O'Neil", '!']
    >>> words("Don't pay.", style="treebank")
    ['Do', "n't", 'pay', '.']
    >>> words("so happy :-) #nlp", style="tweet")
    ['so', 'happy', ':-)', '#nlp']

    Args:
        text: any text.
        style: "simple" works for every language that puts spaces between words: runs of letters
            and digits, with apostrophes and hyphens inside. "treebank" is the Penn Treebank's for
            English, sentence by sentence, and "tweet" keeps emoticons, hashtags and addresses
            together; both are nltk's.

    Raises:
        ValueError: for an unknown style, and for "tweet" a text that takes nltk too long.
        ImportError: where a style needs nltk and it is not installed.
    """
    _check.one_of("style", style, STYLES)
    text = as_text(text)
    if style == "simple":
        return (_WORD if text.isascii() else _marked_word()).findall(text)
    if style == "tweet":
        return _tweet(text)
    tokenizer = package("nltk", "nltk.tokenize.destructive").NLTKWordTokenizer()
    found = []
    for sentence in sentences(text):
        found += tokenizer.tokenize(sentence)
    return found


@functools.cache
def _marked_word() -> re.Pattern[str]:
    """As _WORD; marks and joiners belong to what they follow, and an emoji is one token."""
    marks = extenders()
    word = rf"\w[\w{marks}]*"
    return re.compile(
        r"<\w+>|\d+(?:[.,:]\d+)+"
        rf"|{word}(?:['{APOSTROPHE}-]{word})*"
        rf"|[{FLAG_LETTERS}]{{2}}"
        rf"|[^\w\s](?:[{marks}{SKIN_TONES}]+(?:(?<={JOINER})[^\w\s])?)*"
    )


def _tweet(text: str) -> list[str]:
    tokenizer = package("nltk", "nltk.tokenize.casual").TweetTokenizer()
    try:
        return tokenizer.tokenize(text)
    except TimeoutError:
        raise ValueError(
            "nltk gave up on the text, such as one with a long row of digits; choose another "
            "style, or split the text"
        ) from None


def sentences(text: str, language: str = "en", *, abbreviations: Iterable[str] = ()) -> list[str]:
    """The sentences of a text, by the Punkt algorithm (Kiss & Strunk 2006) of nltk.

    A period ends a sentence unless it belongs to an abbreviation, a number or an ellipsis.

    >>> sentences("Dr. Smith paid $3.50. Was it fair?! Yes.")
    ['Dr. Smith paid $3.50.', 'Was it fair?!', 'Yes.']

    Args:
        text: any text.
        language: an ISO 639 code, which chooses from :data:`ABBREVIATIONS`; other languages start
            without any.
        abbreviations: more of them, such as those that :func:`learn_abbreviations` finds.

    Raises:
        ValueError: for a language that is not a code, such as "English".
        ImportError: where nltk is not installed.
    """
    language = sentence_language(language)
    punkt = package("nltk", "nltk.tokenize.punkt")
    params = punkt.PunktParameters()
    known = [name.lower().removesuffix(".") for name in as_tokens(abbreviations)]
    params.abbrev_types.update(ABBREVIATIONS.get(language, "").split(), known)
    return punkt.PunktSentenceTokenizer(params).tokenize(as_text(text))


def learn_abbreviations(text: str) -> tuple[str, ...]:
    """The abbreviations of a text, found without labels by the Punkt algorithm.

    A short word that is nearly always followed by a period counts as one.

    >>> walls = "Dr. Lee met Dr. Fox by the wall. Dr. Kim met Dr. Roy in the hall. "
    >>> learn_abbreviations(walls * 3)
    ('dr',)

    Raises:
        ImportError: where nltk is not installed.
    """
    trainer = package("nltk", "nltk.tokenize.punkt").PunktTrainer()
    trainer.INCLUDE_ALL_COLLOCS = False
    trainer.train(as_text(text))
    return tuple(sorted(trainer.get_params().abbrev_types))


def characters(text: str) -> list[str]:
    """The grapheme clusters of a text: a letter and its accents are one character.

    >>> text = "e\\N{COMBINING ACUTE ACCENT}t"
    >>> len(text), len(characters(text))
    (3, 2)

    Raises:
        ImportError: where the package regex, which nltk needs too, is not installed.
    """
    text = as_text(text)
    if text.isascii() and "\r" not in text:
        # No character of ASCII combines with another; only the line end \r\n does.
        return list(text)
    return package("nltk", "regex").findall(r"\X", text)
