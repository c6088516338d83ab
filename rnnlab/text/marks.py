"""Marks and joiners: code points that belong to the character before them."""

import functools
import sys
import unicodedata

JOINER = "\N{ZERO WIDTH JOINER}"
SKIN_TONES = "\N{EMOJI MODIFIER FITZPATRICK TYPE-1-2}-\N{EMOJI MODIFIER FITZPATRICK TYPE-6}"
FLAG_LETTERS = "\N{REGIONAL INDICATOR SYMBOL LETTER A}-\N{REGIONAL INDICATOR SYMBOL LETTER Z}"


@functools.cache
def extenders() -> str:
    r"""Combining marks and joiners as ranges for a class of a regular expression.

    Python's ``\w`` has none of them, so that it ends a word at the vowel signs of Hindi, at the
    points of Hebrew and at accents that are code points of their own.
    """
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) not in ("Mn", "Mc", "Me"):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    joined = "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
    return "\N{ZERO WIDTH NON-JOINER}" + JOINER + joined
