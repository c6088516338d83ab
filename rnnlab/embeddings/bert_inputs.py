"""Texts as the codes (token ids) that BERT reads, by its tokenizer.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.core
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.embeddings.bert_config import package
from rnnlab.embeddings.bert_network import BertConfig
from rnnlab.text.tokens import as_texts, is_utf8
from rnnlab.typing import Array


class Encoded(NamedTuple):
    """B texts as codes, padded to the longest.

    Attributes:
        tokens: the WordPiece tokens of each text, with "[CLS]" and "[SEP]".
        codes: ``[B, T]``, int32.
        mask: ``[B, T]``, True for tokens and False for padding.
        segments: ``[B, T]``, 0 for the first text of a pair and 1 for the second.
    """

    tokens: tuple[tuple[str, ...], ...]
    codes: np.ndarray
    mask: np.ndarray
    segments: np.ndarray


def read_tokenizer(folder: Path, config: BertConfig) -> Any:
    """The tokeniser in tokenizer.json, without padding and truncation.

    Raises:
        ValueError: for a file that is missing or damaged, and codes that the model does not have.
        ImportError: where tokenizers is not installed.
    """
    path = folder / "tokenizer.json"
    tokenizers = package("tokenizers")
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; write it by transformers' BertTokenizerFast.save_pretrained"
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    # The package raises no narrower class.
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}); copy it again") from None
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= config.vocab_size:
        raise ValueError(
            f"{path} has codes up to {largest}, but the model has {config.vocab_size} words; "
            "give both files of one model"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def pairs(texts: Sequence[str], second: Sequence[str] | None) -> list[Any]:
    """The texts, or pairs of texts, as the tokeniser takes them."""
    inputs = _checked("texts", texts)
    if second is None:
        return inputs
    others = _checked("second", second)
    if len(others) != len(inputs):
        raise ValueError(
            f"there are {len(inputs)} texts, but {len(others)} second ones; give a second text for "
            "each"
        )
    return list(zip(inputs, others, strict=True))


def _checked(name: str, texts: Sequence[str]) -> list[str]:
    checked = as_texts(name, texts)
    for index, text in enumerate(checked):
        if not is_utf8(text):
            raise ValueError(
                f"{name}[{index}] has a lone surrogate, which is not a character; leave it out"
            )
    if not checked:
        raise ValueError(f"{name} is empty; give at least one text")
    return checked


def padded(encodings: Sequence[Any], longest: int) -> Encoded:
    """The encodings of the tokeniser side by side; ValueError where one is too long."""
    counts = [len(encoding.ids) for encoding in encodings]
    for index, count in enumerate(counts):
        if count > longest:
            raise ValueError(
                f"text {index} has {count} pieces, but the model reads {longest}; choose "
                f"max_length={longest} to cut it, or split it"
            )
    shape = (len(counts), max(counts))
    codes, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, (encoding, count) in enumerate(zip(encodings, counts, strict=True)):
        codes[row, :count] = encoding.ids
        segments[row, :count] = encoding.type_ids
    mask = np.arange(shape[1]) < np.array(counts)[:, None]
    return Encoded(tuple(tuple(each.tokens) for each in encodings), codes, mask, segments)


def checked_codes(name: str, value: Any, count: int) -> Array:
    """``value`` as whole numbers below ``count``; traced ones are not known yet, and pass."""
    codes = _check.codes(name, value)
    if not isinstance(value, jax.core.Tracer) and codes.size:
        # Out of range, JAX would read the last row instead.
        low, high = int(np.min(value)), int(np.max(value))
        if low < 0 or high >= count:
            raise ValueError(
                f"{name} run from {low} to {high}, but the model knows 0 to {count - 1}; encode "
                "the texts by the model's own tokeniser"
            )
    return codes


def checked_mask(value: Any, shape: tuple[int, ...]) -> Array:
    """Which steps are attended to ``[B, T]``; ValueError for an example without one."""
    if value is None:
        value = jnp.ones(shape, bool)
    seen = _check.flags("mask", value, shape)
    if not isinstance(value, jax.core.Tracer):
        empty = np.flatnonzero(~np.asarray(value, bool).any(axis=1))
        if empty.size:
            raise ValueError(f"example {empty[0]} has no step that is seen; leave it out")
    return seen
