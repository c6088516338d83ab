"""Vocabularies: tokens and their codes, which are whole numbers."""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.text.codes import as_array
from rnnlab.text.saved import write_saved
from rnnlab.text.tokens import as_documents, as_tokens

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"
SPECIAL = (PAD, UNK, BOS, EOS)
"""Padding, unknown tokens, the beginning and the end of a sequence; their codes are 0 to 3."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """V tokens; the code of each is its place.

    >>> vocabulary = build_vocabulary([["the", "cat"], ["the", "dog"]])
    >>> vocabulary.tokens
    ('<pad>', '<unk>', '<bos>', '<eos>', 'the', 'cat', 'dog')
    >>> vocabulary.encode(["the", "bird"], eos=True)
    array([4, 1, 3], dtype=int32)
    >>> vocabulary.decode([4, 1, 3])
    ['the', '<unk>', '<eos>']

    Attributes:
        tokens: V different strings. Those of :data:`SPECIAL` have their meaning wherever they stand
            and may be left out.

    Raises:
        ValueError: for no tokens, a repeated token, and anything but strings.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(as_tokens(self.tokens)))
        if not self.tokens:
            raise ValueError("the vocabulary has no tokens; give at least one")
        if len(self._codes) < len(self.tokens):
            repeated = collections.Counter(self.tokens).most_common(1)[0][0]
            raise ValueError(f"the vocabulary has {repeated!r} twice; give each token once")

    def __repr__(self) -> str:
        return _check.summary(self, size=len(self), digest=self.digest[:8])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and token in self._codes

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        return {token: code for code, token in enumerate(self.tokens)}

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the tokens, which tells vocabularies apart."""
        lines = "\n".join(self.tokens)
        has_lines = any("\n" in token and token != "\n" for token in self.tokens)
        if has_lines or ("\n" in self._codes and "" in self._codes):
            # Other tokens have the same lines; three line ends in a row begin none of those above.
            lines = "\n\n\n" + json.dumps(self.tokens)
        return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()

    def code(self, token: str) -> int | None:
        """The code of a token; None for one that is not in the vocabulary."""
        if not isinstance(token, str):
            raise ValueError(f"the token is {_check.brief(token)}; give a string")
        return self._codes.get(token)

    def encode(self, tokens: Sequence[str], *, bos: bool = False, eos: bool = False) -> np.ndarray:
        """The codes of ``tokens``, int32; unknown ones get that of "<unk>".

        Args:
            tokens: any number of strings.
            bos, eos: whether "<bos>" is put before them, and "<eos>" after them.

        Raises:
            ValueError: for a special token that is needed but not in the vocabulary, and tokens
                that are not strings.
        """
        _check.flag("bos", bos)
        _check.flag("eos", eos)
        tokens = as_tokens(tokens)
        unknown = self._codes.get(UNK)
        codes = [self._codes.get(token, unknown) for token in tokens]
        if unknown is None and None in codes:
            token = tokens[codes.index(None)]
            raise ValueError(
                f"the token {token!r} is not in the vocabulary; add {UNK!r}, which stands for "
                "unknown tokens"
            )
        before = [self._special(BOS)] if bos else []
        behind = [self._special(EOS)] if eos else []
        return np.array(before + codes + behind, np.int32)

    def decode(self, codes: Any) -> list[str]:
        """The tokens of ``codes [N]``; ValueError for a code outside 0..V−1."""
        codes = as_array(codes)
        if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
            raise ValueError(
                f"codes are {codes.dtype}{list(codes.shape)}; give whole numbers [N], one sequence"
            )
        illegal = codes[(codes < 0) | (codes >= len(self))]
        if illegal.size:
            raise ValueError(f"codes hold {illegal[0]}; each must lie in 0..{len(self) - 1}")
        return [self.tokens[code] for code in codes.tolist()]

    def _special(self, token: str) -> int:
        if token not in self._codes:
            raise ValueError(f"{token!r} is not in the vocabulary; add it")
        return self._codes[token]

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary as JSON."""
        write_saved(path, "vocabulary", self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The tokens and their digest."""
        return {"digest": self.digest, "tokens": list(self.tokens)}

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str = "the vocabulary") -> "Vocabulary":
        """The vocabulary of :meth:`to_json`; ValueError where the digest is not that of tokens."""
        tokens = content.get("tokens")
        if not isinstance(tokens, list):
            raise ValueError(f"{where} has no list of tokens; save the vocabulary again")
        try:
            vocabulary = cls(tuple(tokens))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if content.get("digest") != vocabulary.digest:
            raise ValueError(
                f"{where} was changed after it was saved (the digest differs); restore it, or save "
                "the vocabulary again"
            )
        return vocabulary


def build_vocabulary(
    documents: Iterable[Sequence[str]],
    *,
    min_count: int = 1,
    max_size: int | None = None,
    special: Sequence[str] = SPECIAL,
) -> Vocabulary:
    """The special tokens, then those of documents, the most frequent first.

    Equally frequent tokens are in alphabetical order, so that the order of the documents does not
    matter.

    >>> build_vocabulary([["b", "a", "b"]], special=["<unk>"]).tokens
    ('<unk>', 'b', 'a')

    Args:
        documents: for each document its tokens.
        min_count: the minimum count of a token, over all documents.
        max_size: the maximum of V, special tokens included; None for no limit.
        special: tokens that come first, whether they occur or not.

    Raises:
        ValueError: for a size that leaves no room, and documents that are not lists of strings.
    """
    _check.positive_int("min_count", min_count)
    special = tuple(as_tokens(special))
    if max_size is not None:
        _check.at_least("max_size", max_size, len(special) + 1)
    counts = collections.Counter()
    for tokens in as_documents(documents):
        counts.update(tokens)
    for token in special:
        counts.pop(token, None)
    kept = [(-count, token) for token, count in counts.items() if count >= min_count]
    ranked = [token for _, token in sorted(kept)]
    room = None if max_size is None else max_size - len(special)
    return Vocabulary(special + tuple(ranked[:room]))
