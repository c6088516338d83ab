"""Normalisation: texts in one canonical form, each step a function from text to text."""

import functools
import re
import unicodedata
from typing import Literal, get_args

from rnnlab import _check
from rnnlab.text.marks import extenders
from rnnlab.text.tokens import as_text

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

_PLACEHOLDER = r"<\w+>"
_SYMBOLS = re.compile(rf"({_PLACEHOLDER})|[^\w\s]|_")
_NUMBERS = re.compile(
    r"(?<![\w.,])(?<![^\W\d_]-)"  # not inside a word, such as COVID-19
    r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?%?(?!\w)"
)

_IRREGULAR = {"won't": "will not", "can't": "cannot", "shan't": "shall not", "ain't": "is not"}
_ENDINGS = {"n't": " not", "'re": " are", "'ve": " have", "'ll": " will", "'m": " am"}
_SUBJECTS = "it|he|she|that|there|here|what|where|who|how|when"
_CONTRACTIONS = (
    (re.compile(r"\blet's\b", re.IGNORECASE), "let us"),
    (re.compile(rf"\b({_SUBJECTS})'s\b", re.IGNORECASE), r"\1 is"),
    (re.compile(r"\b(i|you|he|she|it|we|they|that|there|who)'d\b", re.IGNORECASE), r"\1 would"),
)
# Letters of ASCII alone: without regard to case, the long s would pass for an s.
_IRREGULAR_WORD = re.compile(rf"\b((?ai:{'|'.join(_IRREGULAR)}))\b")
_ENDING = re.compile(rf"(?<=\w)({'|'.join(_ENDINGS)})\b", re.IGNORECASE)


def normalize_unicode(text: str, form: Form = "NFKC") -> str:
    """``text`` in a Unicode normal form: one sequence of code points for each character.

    >>> normalize_unicode("ﬁne, 5 km²")
    'fine, 5 km2'

    Args:
        text: any text.
        form: "NFC" and "NFD" keep the look of the text; "NFKC" and "NFKD" also replace ligatures,
            wide letters and superscripts.

    Raises:
        ValueError: for an unknown form, and a text that is not a string.
    """
    _check.one_of("form", form, get_args(Form))
    return unicodedata.normalize(form, as_text(text))


def lower_case(text: str) -> str:
    """``text`` in lower case.

    >>> lower_case("The END")
    'the end'
    """
    return as_text(text).lower()


def strip_accents(text: str) -> str:
    """``text`` without diacritics; letters that do not decompose, such as ø, are kept.

    The points of Hebrew and some vowel signs of Hindi or Thai are removed too.

    >>> strip_accents("Ångström, naïve café")
    'Angstrom, naive cafe'
    """
    decomposed = unicodedata.normalize("NFD", as_text(text))
    if decomposed.isascii():
        return decomposed
    letters = [char for char in decomposed if unicodedata.category(char) != "Mn"]
    return unicodedata.normalize("NFC", "".join(letters))


def expand_contractions(text: str) -> str:
    """``text`` with English contractions expanded; a possessive "'s" is kept.

    "'d" becomes "would".

    >>> expand_contractions("I don't think it's Ann's; we'll see.")
    "I do not think it is Ann's; we will see."
    """
    text = as_text(text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = _IRREGULAR_WORD.sub(_irregular, text)
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    return _ENDING.sub(lambda match: _ENDINGS[match[0].lower()], text)


def _irregular(match: re.Match[str]) -> str:
    full = _IRREGULAR[match[0].lower()]
    return full.capitalize() if match[0][0].isupper() else full


def replace_numbers(text: str, token: str = "<number>") -> str:
    """``token`` in place of each number in digits, with its sign, separators and per cent sign.

    Digits inside a word are kept.

    >>> replace_numbers("1,250 units at -3.5 or 20% for COVID-19")
    '<number> units at <number> or <number> for COVID-19'
    """
    token = as_text(token)
    return _NUMBERS.sub(lambda _: token, as_text(text))


def remove_punctuation(text: str, keep: str = "") -> str:
    """``text`` with a space for each character that is not a letter, digit or white space.

    Placeholders such as "<number>" are kept, and so are marks and joiners inside a word.

    >>> remove_punctuation("Well... it's 5€, <number>!")
    'Well    it s 5   <number> '
    >>> remove_punctuation("it's", keep="'")
    "it's"

    Args:
        text: any text.
        keep: characters to keep.
    """
    keep, text = as_text(keep), as_text(text)

    def cleared(match: re.Match[str]) -> str:
        if match[1] or match[0][0] in keep:
            return match[0]
        return " " * len(match[0])

    return (_SYMBOLS if text.isascii() else _symbols()).sub(cleared, text)


@functools.cache
def _symbols() -> re.Pattern[str]:
    """As _SYMBOLS; marks and joiners belong to what they follow."""
    marks = extenders()
    return re.compile(
        rf"({_PLACEHOLDER})|(?:[^\w\s{marks}]|_)[{marks}]*|(?<![\w{marks}])[{marks}]+"
    )


def collapse_whitespace(text: str) -> str:
    """One space in place of each run of white space, and none at the ends.

    >>> collapse_whitespace("  a \\n b")
    'a b'
    """
    return " ".join(as_text(text).split())
