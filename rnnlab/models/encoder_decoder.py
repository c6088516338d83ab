"""The encoder–decoder: from one sequence to another, with or without attention."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab import _check
from rnnlab.cells.base import within
from rnnlab.cells.readout import ReadoutParams
from rnnlab.data.batch import Batch
from rnnlab.driver import unroll
from rnnlab.models.base import drop, float_dtype, inputs, output_size, split, unpacked
from rnnlab.models.decoder import DecoderModel
from rnnlab.models.decoder_attention import Additive, AdditiveParams, Dot, DotParams, context
from rnnlab.models.embedding import Embedding, check_sizes
from rnnlab.models.loops import step_with
from rnnlab.models.sequence import checked, embedding_for, init_keys, input_size
from rnnlab.models.start import flat_state, start_map, start_state, state_size
from rnnlab.typing import Array, Cell, Key, PyTree

SOURCE = "source_vocabulary_size"


class EncoderDecoderParams(NamedTuple):
    """Embeddings of the source ``[V_in, E_in]`` and of the target ``[V, E]``, and of each part.

    ``start`` maps the final state of the encoder to the first of the decoder. What the model does
    not have is None.
    """

    source_embedding: Array | None
    encoder: Any
    start: ReadoutParams
    embedding: Array
    attention: AdditiveParams | DotParams | None
    decoder: Any
    readout: ReadoutParams


class Memory(NamedTuple):
    """What each step of the decoder reads of the encoder.

    Attributes:
        hs: the outputs of the encoder ``[T_in, B, H]``, zero in the padding.
        keys: those of attention ``[T_in, B, A]``; None without attention.
        valid: which steps are not padding, ``[T_in, B]``; None where all are valid.
    """

    hs: Array
    keys: Any
    valid: Array | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoder(DecoderModel):
    """A sequence made of another; see :func:`encoder_decoder`.

    Attributes:
        encoder: any cell, also a bidirectional one.
        source_vocabulary_size: V_in, for inputs that are codes; None for vectors.
        source_embedding_size: E_in; the ``hidden_size`` of the encoder by default.
        attention: "additive", "dot" or None.
        attention_size: A, of additive attention; the number of the decoder's outputs by default.
    """

    encoder: Any
    source_vocabulary_size: int | None = None
    source_embedding_size: int | None = None
    attention: str | None = "additive"
    attention_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        output_size("encoder", self.encoder)
        start_map("encoder", self.encoder)
        start_map("decoder", self.decoder)
        check_sizes(self.source_vocabulary_size, self.source_embedding_size, "source_")
        if self.attention is not None:
            _check.one_of("attention", self.attention, ("additive", "dot"))
        if self.attention_size is None:
            return
        _check.positive_int("attention_size", self.attention_size)
        if self.attention != "additive":
            raise ValueError(
                f"attention_size is given, but attention={self.attention!r} has none; leave it out "
                "or use attention='additive'"
            )

    @property
    def codes(self) -> int | None:
        return self.source_vocabulary_size

    @property
    def source_embedding(self) -> Embedding | None:
        """The embedding of the source; None where it is vectors."""
        vocabulary_size = self.source_vocabulary_size
        if vocabulary_size is None:
            return None
        return embedding_for(self.encoder, vocabulary_size, self.source_embedding_size)

    @property
    def additive(self) -> Additive:
        """Additive attention, of the sizes of this model."""
        size = self.attention_size or self.decoder.output_size
        return Additive(size, float_dtype(self.decoder))

    @property
    def dot(self) -> Dot:
        """Dot-product attention, of the sizes of this model."""
        return Dot(self.decoder.output_size, float_dtype(self.decoder))

    def init(self, key: Key, batch: Batch) -> EncoderDecoderParams:
        keys = init_keys(key, 7)
        source = self.source_embedding
        width = input_size(inputs(batch), source, SOURCE)
        # Additive attention gives its context to the decoder and to the readout.
        extra = self.encoder.output_size if self.attention == "additive" else 0
        start = start_map("decoder", self.decoder)
        return EncoderDecoderParams(
            source_embedding=None if source is None else source.init(keys[0]),
            encoder=self.encoder.init(keys[1], width),
            start=start.init(keys[2], state_size(self.encoder)),
            embedding=self.embedding.init(keys[3]),
            attention=self._init_attention(keys[4]),
            decoder=self.decoder.init(keys[5], self.embedding.size + extra),
            readout=self.readout.init(keys[6], self.decoder.output_size + extra),
        )

    def _init_attention(self, key: Key) -> AdditiveParams | DotParams | None:
        features = self.encoder.output_size
        if self.attention == "additive":
            return self.additive.init(key, state_size(self.decoder), features)
        if self.attention == "dot":
            return self.dot.init(key, features)
        return None

    def begin(self, params: Any, batch: Batch, key: Key | None) -> tuple[Memory, PyTree]:
        k_embedding, k_encoder = split(key, 2)
        source = self.source_embedding
        xs = checked(self, params, unpacked(batch), source, SOURCE)
        if source is not None:
            with jax.named_scope("source_embedding"):
                xs = drop(k_embedding, self.dropout, source(params.source_embedding, xs))
        with jax.named_scope("encoder"):
            final, hs = unroll(
                self.encoder,
                params.encoder,
                xs,
                lengths=batch.lengths,
                key=k_encoder,
                engine=self.engine,
            )
        with jax.named_scope("start"):
            state = start_state(self.decoder, params.start, flat_state(final))
        valid = None
        if batch.lengths is not None:
            valid = within(_check.array("lengths", batch.lengths), hs.shape[0])
        return Memory(hs, self._keys(params, hs), valid), state

    def _keys(self, params: Any, hs: Array) -> Array | None:
        if self.attention is None:
            return None
        attention = self.additive if self.attention == "additive" else self.dot
        with jax.named_scope("attention"):
            return attention.keys(params.attention, hs)

    def advance(
        self, params: Any, memory: Memory, state: PyTree, x: Array, key: Key | None
    ) -> tuple[PyTree, tuple[Array, Array | None]]:
        if self.attention == "additive":
            return self._additive_step(params, memory, state, x, key)
        with jax.named_scope("decoder"):
            state, y = step_with(self.decoder, params.decoder, state, x, key)
        features, weights = self._look_back(params, memory, y[None])
        return state, (features[0], None if weights is None else weights[0])

    def _additive_step(
        self, params: Any, memory: Memory, state: PyTree, x: Array, key: Key | None
    ) -> tuple[PyTree, tuple[Array, Array]]:
        with jax.named_scope("attention"):
            query = flat_state(state)
            weights = self.additive.weights(params.attention, query, memory.keys, memory.valid)
            c = context(weights, memory.hs)
        with jax.named_scope("decoder"):
            both = jnp.concatenate([x, c], axis=-1)
            state, y = step_with(self.decoder, params.decoder, state, both, key)
        return state, (jnp.concatenate([y, c], axis=-1), weights)

    def advance_all(
        self, params: Any, memory: Memory, state: PyTree, xs: Array, key: Key | None
    ) -> tuple[Array, Array | None]:
        if self.attention == "additive":
            # Each step reads what the one before attended to, so the steps cannot be separated.
            return super().advance_all(params, memory, state, xs, key)
        with jax.named_scope("decoder"):
            _, ys = unroll(self.decoder, params.decoder, xs, state, key=key, engine=self.engine)
        return self._look_back(params, memory, ys)

    def _look_back(self, params: Any, memory: Memory, ys: Array) -> tuple[Array, Array | None]:
        """The features of the readout from the outputs ``[T, B, D]``, all steps at once."""
        if self.attention is None:
            return ys, None
        with jax.named_scope("attention"):
            weights = self.dot.weights(ys, memory.keys, memory.valid)
            contexts = context(weights, memory.hs)
            return self.dot.combine(params.attention, contexts, ys), weights

    def target_lengths(self, batch: Batch) -> Array | None:
        # The lengths are those of the source.
        return None

    def attend(self, params: EncoderDecoderParams, batch: Batch) -> Array:
        """The weights of attention ``[T_out, B, T_in]``, with teacher forcing.

        They sum to 1 over the source steps of each example, and are 0 in its padding.
        """
        _, weights = self._forced(params, batch, None)
        if weights is None:
            raise ValueError(
                "the model has no attention, so there are no weights; make it with "
                "attention='additive' or 'dot'"
            )
        return weights


def encoder_decoder(
    encoder: Cell,
    decoder: Cell,
    vocabulary_size: int,
    *,
    source_vocabulary_size: int | None = None,
    attention: str | None = "additive",
    attention_size: int | None = None,
    embedding_size: int | None = None,
    source_embedding_size: int | None = None,
    start: int = 0,
    dropout: float = 0.0,
    engine: str = "auto",
) -> EncoderDecoder:
    """A model that reads one sequence and writes another (Sutskever, Vinyals & Le 2014).

    The encoder's final state, all leaves side by side, is mapped to the first state of the decoder
    by a learned linear map. The decoder reads the symbol before, and attends to the outputs h of
    the encoder:

    "additive": before each step, by its state sₜ₋₁; the context cₜ = Σᵢ αₜᵢ hᵢ goes into the step
    and beside its output into the readout (Bahdanau, Cho & Bengio 2015).
    "dot": after the step, by its output, s̃ₜ = tanh(W_c [cₜ; sₜ]) (Luong, Pham & Manning 2015); all
    steps are computed at once.
    None: not at all.

    A batch has xs ``[T_in, B]`` or ``[T_in, B, I]``, the lengths ``[B]`` of these sources, targets
    ``[T_out, B]`` and a mask ``[T_out, B]``; ``apply`` returns logits ``[T_out, B, V]`` with
    teacher forcing, ``generate`` writes, and ``attend`` returns the weights of attention. The loss
    is the mean cross-entropy, in nats; its ``sampling`` is that of scheduled sampling.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import encoder_decoder
    >>> cell = rnnlab.GRU(8)
    >>> model = encoder_decoder(rnnlab.bidirectional(cell), cell, 5, source_vocabulary_size=10)
    >>> codes = jnp.zeros((7, 4), int)
    >>> batch = rnnlab.data.Batch(codes, codes[:3], lengths=jnp.array([7, 3, 5, 1]))
    >>> params = model.init(jax.random.key(0), batch)
    >>> model.apply(params, batch).shape, model.attend(params, batch).shape
    ((3, 4, 5), (3, 4, 7))
    >>> model.generate(params, batch, steps=6).shape
    (6, 4)

    Args:
        encoder: any cell or layer, also a bidirectional one.
        decoder: any cell or layer that reads in one direction.
        vocabulary_size: V, the number of symbols that are written.
        source_vocabulary_size: V_in, for a source of codes; None for vectors.
        attention: "additive", "dot" or None.
        attention_size: A, of additive attention; the number of the decoder's outputs by default.
        embedding_size: E, of the symbols that are written; ``decoder.hidden_size`` by default.
        source_embedding_size: E_in; ``encoder.hidden_size`` by default.
        start: the code that the decoder reads first.
        dropout: on embeddings and before the readout, where a ``key`` is given.
        engine: how the cells run, as in :func:`rnnlab.unroll`; a loop over steps has no choice.

    Raises:
        ValueError: for sizes below 1, an unknown attention, a bidirectional decoder, a start
            outside of the vocabulary; when used, for inputs, targets and parameters that do not
            fit, and for a batch with resets, which pack several sequences into one.
    """
    return EncoderDecoder(
        encoder=encoder,
        decoder=decoder,
        vocabulary_size=_check.positive_int("vocabulary_size", vocabulary_size),
        source_vocabulary_size=source_vocabulary_size,
        attention=attention,
        attention_size=attention_size,
        embedding_size=embedding_size,
        source_embedding_size=source_embedding_size,
        start=start,
        dropout=dropout,
        engine=engine,
    )
