"""Subwords: pieces of words that are learned from text, by the package tokenizers."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.text.packages import package
from rnnlab.text.tokens import as_text, as_texts, is_utf8
from rnnlab.text.vocabulary import SPECIAL, UNK, Vocabulary

KINDS = ("bpe", "wordpiece", "unigram")
PIECES = 16
"""More pieces for each character than any kind learns."""


@dataclasses.dataclass(frozen=True)
class Subwords:
    """A trained tokeniser, see :func:`train_subwords`.

    Attributes:
        kind: "bpe", "wordpiece" or "unigram".
        model: its description in the JSON of the package tokenizers.

    Raises:
        ValueError: for another kind, and a model that is unreadable, of another kind, or has codes
            that are not 0 to V − 1.
    """

    kind: str
    model: str

    def __post_init__(self) -> None:
        _check.one_of("kind", self.kind, KINDS)
        try:
            codes = self._tokenizer.get_vocab().values()
        # The package raises no narrower class.
        except Exception as error:
            raise ValueError(f"the model cannot be read ({error}); train it again") from None
        model_type = json.loads(self.model)["model"]["type"].lower()
        if model_type != self.kind or sorted(codes) != list(range(len(codes))):
            largest = max(codes, default=-1)
            raise ValueError(
                f"the model is of kind {model_type!r} with {len(codes)} codes up to {largest}; "
                f"give one of kind {self.kind!r} whose codes have no gap"
            )

    def __repr__(self) -> str:
        return _check.summary(self, kind=self.kind, size=len(self.vocabulary))

    @functools.cached_property
    def _tokenizer(self) -> Any:
        tokenizer = package("tokenizers").Tokenizer.from_str(self.model)
        # "<eos>" in a user's text is text, not the end of a sequence.
        tokenizer.encode_special_tokens = True
        return tokenizer

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The pieces, in the order of their codes."""
        codes = self._tokenizer.get_vocab()
        return Vocabulary(tuple(sorted(codes, key=codes.__getitem__)))

    def __call__(self, text: str) -> list[str]:
        """The pieces of a text; ValueError for a lone surrogate, which is not a character."""
        return self._encoding(text).tokens

    def encode(self, text: str) -> np.ndarray:
        """The codes of the pieces of a text, int32."""
        return np.array(self._encoding(text).ids, np.int32)

    def _encoding(self, text: str) -> Any:
        text = _utf8("the text", text)
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        # The package raises no narrower class.
        except Exception as error:
            raise ValueError(
                f"the text cannot be split ({error}); train subwords that know its characters"
            ) from None

    def decode(self, codes: Any) -> str:
        """The text of ``codes [N]``, without special tokens.

        For "bpe" it is the text itself, unless that has characters which are not in the training
        texts; "wordpiece" loses white space.

        Raises:
            ValueError: for a code outside 0..V−1.
        """
        self.vocabulary.decode(codes)
        return self._tokenizer.decode(np.asarray(codes).tolist())

    def to_json(self) -> dict[str, Any]:
        """The kind and the model."""
        return {"kind": self.kind, "model": json.loads(self.model)}

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str = "the subwords") -> "Subwords":
        """The tokeniser of :meth:`to_json`."""
        try:
            return cls(content.get("kind", ""), json.dumps(content.get("model")))
        except ValueError as error:
            raise ValueError(f"{where} cannot be read: {error}") from None


def train_subwords(
    texts: Iterable[str], size: int = 8000, kind: str = "bpe", *, min_count: int = 2
) -> Subwords:
    """A tokeniser whose V pieces are learned from ``texts``.

    A frequent word is one piece, a rare one several, and an unknown word is made of known pieces.

    >>> subwords = train_subwords(["low lower lowest new newer newest"] * 5, size=300)
    >>> subwords("lowest newest")
    ['lo', 'west', 'Ġnewest']
    >>> subwords.decode(subwords.encode("slower"))
    'slower'

    Args:
        texts: any number of texts.
        size: the maximum of V, special tokens included.
        kind: "bpe" merges the most frequent pair of pieces again and again, starting from bytes
            (Sennrich et al. 2016), so that no text is unknown; "Ġ" stands for a space.
            "wordpiece" splits at punctuation, marks pieces inside a word with "##" (Schuster &
            Nakajima 2012) and gives "<unk>" for unknown characters. "unigram" chooses the most
            probable pieces under a unigram language model (Kudo 2018); "▁" stands for a space.
        min_count: how often a pair must occur to be merged; not for "unigram".

    Raises:
        ValueError: for an unknown kind, no texts, and a size that the special tokens and the
            letters alone exceed.
        ImportError: where tokenizers is not installed.
    """
    _check.one_of("kind", kind, KINDS)
    _check.at_least("size", size, len(SPECIAL) + 1)
    _check.positive_int("min_count", min_count)
    texts = as_texts("texts", texts)
    for index, text in enumerate(texts):
        _utf8(f"texts[{index}]", text)
    if not any(text.strip() for text in texts):
        raise ValueError("the texts are empty; give at least one word")
    # The package asks for the memory of ``size`` pieces at once, and takes no longer numbers.
    most = len(SPECIAL) + 256 + PIECES * sum(map(len, texts))
    tokenizer, trainer = _untrained(kind, min(int(size), most), min(int(min_count), most))
    # With all letters of the texts, "unigram" raises an error of its own where size is too small.
    letters = len(set().union("▁", *texts) - {" "}) if kind == "unigram" else 0
    if len(SPECIAL) + letters <= size:
        tokenizer.train_from_iterator(texts, trainer)
    needed = max(tokenizer.get_vocab_size(), len(SPECIAL) + letters)
    if needed > size:
        raise ValueError(
            f"size is {size}, but the special tokens and the letters of the texts alone are "
            f"{needed}; give at least that"
        )
    return Subwords(kind, tokenizer.to_str())


def _utf8(name: str, text: str) -> str:
    if not is_utf8(as_text(text)):
        raise ValueError(
            f"{name} has a lone surrogate, which is not a character; leave it out, for example by "
            "text.encode('utf-8', 'ignore').decode()"
        )
    return text


def _untrained(kind: str, size: int, min_count: int) -> tuple[Any, Any]:
    """The tokeniser of a kind, and what trains it."""
    library = package("tokenizers")
    options = {"vocab_size": size, "special_tokens": list(SPECIAL), "show_progress": False}
    if kind == "bpe":
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        letters = library.pre_tokenizers.ByteLevel.alphabet()
        options |= {"min_frequency": min_count, "initial_alphabet": letters}
        return tokenizer, library.trainers.BpeTrainer(**options)
    if kind == "wordpiece":
        tokenizer = library.Tokenizer(library.models.WordPiece(unk_token=UNK))
        tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = library.decoders.WordPiece()
        options["min_frequency"] = min_count
        return tokenizer, library.trainers.WordPieceTrainer(**options)
    tokenizer = library.Tokenizer(library.models.Unigram())
    # Its special tokens are likely pieces too; without their first character in one piece with the
    # others, "<eos>" in a user's text is text.
    special = library.Regex("<(?=(?:" + "|".join(name[1:-1] for name in SPECIAL) + ")>)")
    before = library.pre_tokenizers.Split(special, "isolated")
    parts = [library.pre_tokenizers.Metaspace(), before]
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(parts)
    tokenizer.decoder = library.decoders.Metaspace()
    return tokenizer, library.trainers.UnigramTrainer(unk_token=UNK, **options)
