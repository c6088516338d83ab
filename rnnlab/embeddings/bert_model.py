"""Contextual vectors by BERT: the vector of a word depends on its sentence."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab import _check
from rnnlab.data.text import as_path
from rnnlab.embeddings import bert_inputs, bert_network
from rnnlab.embeddings.bert_config import read_config
from rnnlab.embeddings.bert_inputs import Encoded, read_tokenizer
from rnnlab.embeddings.bert_network import BertConfig, BertParams
from rnnlab.embeddings.bert_weights import read_params
from rnnlab.typing import Array

STRIDE = 16
"""Texts are padded to a multiple of it, so that few programs are compiled."""


class Contextual(NamedTuple):
    """The vectors of the WordPiece tokens of B texts.

    Attributes:
        tokens: the WordPiece tokens of each text, with "[CLS]" and "[SEP]".
        vectors: ``[B, T, D]``, of the last layer; 0 for padding.
        mask: ``[B, T]``, False for padding.
    """

    tokens: tuple[tuple[str, ...], ...]
    vectors: np.ndarray
    mask: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Bert:
    """A BERT, see :func:`bert`.

    To fine-tune it, differentiate a loss of ``dataclasses.replace(model, params=params).last(...)``
    with respect to ``params``.

    Attributes:
        config: the sizes of the network.
        params: the parameters, float32.
        tokenizer: a tokeniser of the package tokenizers.
    """

    config: BertConfig
    params: BertParams
    tokenizer: Any

    def __repr__(self) -> str:
        config = self.config
        facts = {"layers": config.num_hidden_layers, "heads": config.num_attention_heads}
        return _check.summary(self, words=config.vocab_size, size=config.hidden_size, **facts)

    def encode(
        self,
        texts: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
    ) -> Encoded:
        """The codes of texts, or of pairs of texts.

        Args:
            texts: B texts.
            second: the second text of each pair; None for single texts.
            max_length: longer texts are cut to this number of tokens; None refuses texts with more
                than ``config.max_position_embeddings``.

        Raises:
            ValueError: for no texts, not one second text for each, and texts that are too long.
        """
        inputs = bert_inputs.pairs(texts, second)
        longest = self.config.max_position_embeddings
        if max_length is None:
            self.tokenizer.no_truncation()
        else:
            # "[CLS]", two "[SEP]" and a piece of each text.
            _check.at_least("max_length", max_length, 5)
            self.tokenizer.enable_truncation(min(max_length, longest))
        return bert_inputs.padded(self.tokenizer.encode_batch(inputs), longest)

    def states(self, codes: Any, mask: Any = None, segments: Any = None) -> Array:
        """The hidden states: the input of the first layer and all outputs, ``[L + 1, B, T, D]``.

        Args:
            codes: ``[B, T]``, at most ``config.max_position_embeddings`` steps.
            mask: ``[B, T]``, False for padding, which is not attended to; None for all True.
            segments: ``[B, T]``, the segment of each step; None for all 0.

        Raises:
            ValueError: for other shapes, codes and segments out of range, and an example
                without a step that is attended to.
        """
        return _states(self.config, self.params, *self._inputs(codes, mask, segments))

    def last(self, codes: Any, mask: Any = None, segments: Any = None) -> Array:
        """The output of the last layer, ``[B, T, D]``; arguments as for :meth:`states`."""
        return _last(self.config, self.params, *self._inputs(codes, mask, segments))

    def pooled(self, last: Any) -> Array:
        """The pooler's vector of each text, tanh(W h₁ + b), ``[B, D]``.

        h₁ is the first step of ``last [B, T, D]``, which :meth:`last` returns.

        Raises:
            ValueError: for a model without a pooler, and other shapes.
        """
        if self.params.pooler is None:
            raise ValueError("the model has no pooler; take last[:, 0] or a mean over the steps")
        last = _check.array("last", last)
        if last.ndim != 3 or last.shape[1] == 0 or last.shape[2] != self.config.hidden_size:
            raise ValueError(
                f"last has shape {last.shape}; it must be [B, T, {self.config.hidden_size}]"
            )
        return bert_network.pooled(self.params.pooler, last)

    def vectors_of(
        self, texts: Sequence[str], *, max_length: int | None = None, batch_size: int = 32
    ) -> Contextual:
        """The vectors of the last layer for the tokens of texts.

        Args:
            texts: any number of texts.
            max_length: see :meth:`encode`.
            batch_size: the number of texts that are computed at once.

        Raises:
            ValueError: for no texts, and texts that are too long.
        """
        _check.positive_int("batch_size", batch_size)
        encoded = self.encode(texts, max_length=max_length)
        steps = encoded.codes.shape[1]
        # Programs are compiled for each length.
        room = min(-steps % STRIDE, self.config.max_position_embeddings - steps)
        codes, mask, segments = (np.pad(array, ((0, 0), (0, room))) for array in encoded[1:])
        vectors = []
        for start in range(0, len(codes), batch_size):
            part = slice(start, start + batch_size)
            last = self.last(codes[part], mask[part], segments[part])
            vectors.append(np.asarray(last)[:, :steps])
        joined = np.concatenate(vectors) * encoded.mask[..., None]
        return Contextual(encoded.tokens, joined, encoded.mask)

    def _inputs(self, codes: Any, mask: Any, segments: Any) -> tuple[Array, Array, Array]:
        steps = self.config.max_position_embeddings
        checked = bert_inputs.checked_codes("codes", codes, self.config.vocab_size)
        if checked.ndim != 2 or not 0 < checked.shape[1] <= steps or checked.shape[0] == 0:
            raise ValueError(
                f"codes have shape {checked.shape}; they must be [B, T] with T from 1 to {steps}"
            )
        seen = bert_inputs.checked_mask(mask, checked.shape)
        if segments is None:
            segments = np.zeros(checked.shape, np.int32)
        kinds = bert_inputs.checked_codes("segments", segments, self.config.type_vocab_size)
        if kinds.shape != checked.shape:
            raise ValueError(f"segments have shape {kinds.shape}; they must be {checked.shape}")
        return checked, seen, kinds


def bert(folder: str | Path) -> Bert:
    """A BERT from a local folder (Devlin et al. 2019); nothing is downloaded.

    The folder holds config.json, model.safetensors and tokenizer.json, as
    ``BertModel.save_pretrained`` and ``BertTokenizerFast.save_pretrained`` of transformers write
    them. The weights of heads, such as those of BertForMaskedLM, are not read.

    >>> model = bert("bert-base-uncased")  # doctest: +SKIP
    >>> found = model.vectors_of(["the bank of the river", "money in the bank"])  # doctest: +SKIP
    >>> found.tokens[1], found.vectors.shape  # doctest: +SKIP
    (('[CLS]', 'money', 'in', 'the', 'bank', '[SEP]'), (2, 7, 768))

    Raises:
        ValueError: for a file that is missing or damaged, another kind of model, and weights of
            other shapes than those of config.json.
        ImportError: where safetensors or tokenizers is not installed.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder with BERT's config.json")
    config = read_config(folder)
    return Bert(config, read_params(folder, config), read_tokenizer(folder, config))


@functools.partial(jax.jit, static_argnums=0)
def _states(config: BertConfig, params: BertParams, *inputs: Array) -> Array:
    last, earlier = bert_network.encoder(config, params, *inputs)
    return jnp.concatenate([earlier, last[None]])


@functools.partial(jax.jit, static_argnums=0)
def _last(config: BertConfig, params: BertParams, *inputs: Array) -> Array:
    return bert_network.encoder(config, params, *inputs)[0]
