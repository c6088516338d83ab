"""Decimal numbers from bytes of text, many at a time."""

from typing import NamedTuple

import numpy as np

MOST_DIGITS = 15
"""So many digits are a whole number below 2⁵³, which a float holds exactly."""

POWERS = 10.0 ** np.arange(MOST_DIGITS + 1)


class Cells(NamedTuple):
    """N pieces of a text.

    Attributes:
        data: the text in UTF-8; its last byte is in none of them.
        starts, ends: ``[N]``, the first byte of each, and the byte after its last.
    """

    data: bytes
    starts: np.ndarray
    ends: np.ndarray

    def text(self, place: int) -> str:
        """One of them; what is not UTF-8 becomes U+FFFD."""
        return self.data[self.starts[place] : self.ends[place]].decode(errors="replace")

    def ascii(self) -> list[str]:
        """All of them, where they hold ASCII alone."""
        text = self.data.decode("latin-1")
        return [
            text[start:end]
            for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        ]


def cells_of(texts: list[str]) -> Cells:
    """Texts as cells.

    >>> cells_of(["a", "bc"]).text(1)
    'bc'
    """
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded])
    return Cells(b"".join(encoded) + b"\n", np.concatenate([[0], ends[:-1]]), ends)


def plain_decimals(cells: Cells, point: str = ".") -> tuple[np.ndarray, np.ndarray]:
    """The numbers among N cells that are as plain as "12", "-3.5" or ".25", and which they are.

    A number with d decimals is a whole number divided by 10ᵈ. Both are exact and a division rounds
    correctly, so that the result is that of ``float`` (Clinger 1990, "How to read floating point
    numbers accurately").

    >>> plain_decimals(cells_of(["4.216", "?", "-0.5", "1e3"]))
    (array([ 4.216,    nan, -0.5  ,    nan]), array([ True, False,  True, False]))

    Args:
        cells: the text.
        point: the decimal sign.

    Returns:
        Numbers ``[N]``, NaN for other cells, and ``[N]``, True where a cell is such a number.
    """
    data = np.frombuffer(cells.data, np.uint8)
    lengths = cells.ends - cells.starts
    count = lengths.size
    is_negative = (lengths > 0) & (data[cells.starts] == ord("-"))
    # The sign, the point and all digits.
    is_plain = lengths <= MOST_DIGITS + 2
    whole = np.zeros(count, np.int64)
    digits, decimals = np.zeros((2, count), np.int8)
    after_point = np.zeros(count, bool)
    for place in range(lengths.max(where=is_plain, initial=0)):
        # Beyond the end of a cell this is its last code, or what follows it.
        code = data[np.minimum(cells.starts + place, cells.ends)]
        is_inside = place < lengths
        digit = code - np.uint8(ord("0"))  # wraps below "0"
        is_digit = (digit < 10) & is_inside
        is_point = (code == ord(point)) & is_inside
        is_legal = is_digit | (is_point & ~after_point) | ~is_inside
        is_plain &= is_legal | is_negative if place == 0 else is_legal
        whole = np.where(is_digit, 10 * whole + digit, whole)
        digits += is_digit
        decimals += is_digit & after_point
        after_point |= is_point
    is_plain &= (digits > 0) & (digits <= MOST_DIGITS)
    numbers = np.full(count, np.nan)
    numbers[is_plain] = whole[is_plain] / POWERS[decimals[is_plain]]
    return np.where(is_negative, -numbers, numbers), is_plain
