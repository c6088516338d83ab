"""Subwords: pieces of words that are learned from text, by the package tokenizers."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnlab import _check
from rnnlab.text.packages import package
from rnnlab.text.tokens import as_text
from rnnlab.text.vocabulary import SPECIAL, UNK, Vocabulary

KINDS = ("bpe", "wordpiece", "unigram")


@dataclasses.dataclass(frozen=True)
class Subwords:
    """A trained tokeniser, see :func:`train_subwords`.

    Attributes:
        kind: "bpe", "wordpiece" or "unigram".
        model: its description in the JSON of the package tokenizers.
    """

    kind: str
    model: str

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
        """The pieces of a text."""
        return self._tokenizer.encode(as_text(text), add_special_tokens=False).tokens

    def encode(self, text: str) -> np.ndarray:
        """The codes of the pieces of a text, int32."""
        codes = self._tokenizer.encode(as_text(text), add_special_tokens=False).ids
        return np.array(codes, np.int32)

    def decode(self, codes: Any) -> str:
        """The text of ``codes [N]``, without special tokens.

        For "bpe" it is the text itself, unless that has characters which are not in the training
        texts; "wordpiece" loses white space.
        """
        self.vocabulary.decode(codes)
        return self._tokenizer.decode(np.asarray(codes).tolist())

    def to_json(self) -> dict[str, Any]:
        """The kind and the model."""
        return {"kind": self.kind, "model": json.loads(self.model)}

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str = "the subwords") -> "Subwords":
        """The tokeniser of :meth:`to_json`."""
        subwords = cls(str(content.get("kind")), json.dumps(content.get("model")))
        try:
            _ = subwords._tokenizer
        # The package raises no narrower class.
        except Exception as error:
            raise ValueError(f"{where} cannot be read: {error}") from None
        return subwords


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
        size: V at most, special tokens included.
        kind: "bpe" joins the most frequent pair of pieces again and again, starting from bytes
            (Sennrich et al. 2016), so that no text is unknown; "Ġ" stands for a space.
            "wordpiece" splits at punctuation, marks pieces inside of a word by "##" (Schuster &
            Nakajima 2012) and gives "<unk>" for unknown characters. "unigram" takes the most likely
            pieces under a model of independent ones (Kudo 2018); "▁" stands for a space.
        min_count: how often a pair must occur to be joined; not for "unigram".

    Raises:
        ValueError: for an unknown kind, no texts, and a size that the special tokens and the
            letters alone exceed.
        ImportError: where tokenizers is not installed.
    """
    _check.one_of("kind", kind, KINDS)
    _check.at_least("size", size, len(SPECIAL) + 1)
    _check.positive_int("min_count", min_count)
    if isinstance(texts, str):
        raise ValueError("texts is one string; give a list of texts")
    texts = [as_text(text) for text in texts]
    if not any(text.strip() for text in texts):
        raise ValueError("the texts are empty; give at least one word")
    tokenizer, trainer = _untrained(kind, size, min_count)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() > size:
        raise ValueError(
            f"size is {size}, but the special tokens and the letters of the texts alone are "
            f"{tokenizer.get_vocab_size()}; give at least that"
        )
    return Subwords(kind, tokenizer.to_str())


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
    tokenizer.pre_tokenizer = library.pre_tokenizers.Metaspace()
    tokenizer.decoder = library.decoders.Metaspace()
    return tokenizer, library.trainers.UnigramTrainer(unk_token=UNK, **options)
