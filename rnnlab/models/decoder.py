"""The base of the models that write a sequence of symbols, one after the other."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.cells.readout import Readout
from rnnlab.data.batch import Batch
from rnnlab.models.base import Model, causal, drop, float_dtype, output_size, split, targets
from rnnlab.models.embedding import Embedding, check_sizes
from rnnlab.models.loops import Advance, feed_back, is_sampled, itself, sample_inputs, settled
from rnnlab.models.scores import Scored, counted, symbols
from rnnlab.models.sequence import embedding_for
from rnnlab.models.start import flat_state
from rnnlab.typing import Array, Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderModel(Model):
    """A cell that reads the symbol before and writes the next.

    A subclass says how it begins and what one step is; see :meth:`begin` and :meth:`advance`.

    Attributes:
        decoder: any cell that reads in one direction.
        vocabulary_size: V, the number of symbols that it writes.
        embedding_size: E; the ``hidden_size`` of the decoder by default.
        start: the code that stands before the first symbol.
    """

    decoder: Any
    vocabulary_size: int
    embedding_size: int | None = None
    start: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        output_size("decoder", self.decoder)
        causal("decoder", self.decoder, "it must not read the symbols that it writes")
        check_sizes(self.vocabulary_size, self.embedding_size)
        _check.natural("start", self.start)
        if self.start >= self.vocabulary_size:
            raise ValueError(
                f"start is {self.start}, but the vocabulary has {self.vocabulary_size} symbols; "
                f"give a code in 0..{self.vocabulary_size - 1}"
            )

    @property
    def labels(self) -> int:
        return self.vocabulary_size

    @property
    def embedding(self) -> Embedding:
        """The embedding of the symbols that are written."""
        return embedding_for(self.decoder, self.vocabulary_size, self.embedding_size)

    @property
    def readout(self) -> Readout:
        """The last layer, to the logits."""
        return Readout(self.vocabulary_size, param_dtype=float_dtype(self.decoder))

    def begin(self, params: Any, batch: Batch, key: Key | None) -> tuple[PyTree, PyTree]:
        """``(memory, state)``: what every step reads, and the state before the first."""
        raise NotImplementedError

    def advance(
        self, params: Any, memory: Any, state: PyTree, x: Array, key: Key | None
    ) -> tuple[PyTree, tuple[Array, Array | None]]:
        """One step on an embedding ``[B, E]``: the state, and the features of the readout.

        Beside the features are the weights of attention ``[B, T_in]``, where there are any.
        """
        raise NotImplementedError

    def advance_all(
        self, params: Any, memory: Any, state: PyTree, xs: Array, key: Key | None
    ) -> tuple[Array, Array | None]:
        """All steps on ``xs [T, B, E]``: features ``[T, B, F]`` and weights."""

        def advance(state: PyTree, x: Array, key: Key | None) -> Any:
            return self.advance(params, memory, state, x, key)

        def step(state: PyTree, now: tuple[Array, Key | None]) -> Any:
            return advance(state, *now)

        keys = None if key is None else jax.random.split(key, xs.shape[0])
        _, outputs = lax.scan(step, settled(advance, state, xs[0]), (xs, keys))
        return outputs

    def target_lengths(self, batch: Batch) -> Array | None:
        """The lengths of the targets, where the batch gives them."""
        raise NotImplementedError

    def apply(self, params: Any, batch: Batch, *, key: Key | None = None) -> Array:
        """The logits ``[T, B, V]`` where each step reads the target before it (teacher forcing)."""
        k_run, k_outputs = split(key, 2)
        features, _ = self._forced(params, batch, k_run)
        return self._logits(params, features, k_outputs)

    def score(self, outputs: Array, batch: Batch) -> Scored:
        """The mean cross-entropy, in nats, and "accuracy" and "bits_per_symbol"."""
        counts = counted(batch.mask, self.target_lengths(batch), outputs.shape[:-1])
        return symbols(outputs, targets(batch), counts)

    def loss(
        self,
        params: Any,
        batch: Batch,
        key: Key | None = None,
        *,
        sampling: Array | float = 0.0,
    ) -> Scored:
        """``(value, metrics)``: the mean cross-entropy of the targets that count, in nats.

        Each step reads the target before it or, with probability ``sampling``, a symbol drawn from
        the model's own distribution of the step before (scheduled sampling, Bengio et al. 2015,
        arXiv 1506.03099), through which no gradient passes. Sampling needs a key.
        """
        if not is_sampled(sampling, key):
            return super().loss(params, batch, key)
        k_begin, k_loop = split(key, 2)
        memory, state = self.begin(params, batch, k_begin)
        codes = self.previous(batch, state)

        def feed(key: Key | None, logits: Array) -> Array:
            assert key is not None
            return jax.random.categorical(key, logits).astype(codes.dtype)

        assert k_loop is not None
        advance = self.to_logits(params, memory)
        logits = sample_inputs(advance, feed, state, codes, k_loop, sampling)
        return self.score(logits, batch)

    def generate(self, params: Any, batch: Batch, steps: int) -> Array:
        """The most likely symbol at each step, ``[steps, B]``, which the next step reads (greedy).

        The targets of the batch are not read.
        """
        steps = _check.positive_int("steps", steps)
        memory, state = self.begin(params, batch, None)
        to_logits = self.to_logits(params, memory)
        first = jnp.full(flat_state(state).shape[:1], self.start, jnp.int32)

        def advance(state: PyTree, codes: Array, key: Key | None) -> tuple[PyTree, Array]:
            state, logits = to_logits(state, codes, key)
            return state, jnp.argmax(logits, -1).astype(jnp.int32)

        return feed_back(advance, itself, state, first, steps, None)

    def previous(self, batch: Batch, state: PyTree) -> Array:
        """The code that each step reads: the start, then the targets, ``[T, B]``."""
        codes = targets(batch)
        count = flat_state(state).shape[0]
        is_whole = jnp.issubdtype(codes.dtype, jnp.integer)
        if not is_whole or codes.ndim != 2 or codes.shape[1] != count or not codes.size:
            raise ValueError(
                f"targets are {codes.dtype}{list(codes.shape)}; they must be codes, whole numbers "
                f"[T, {count}] with time first and at least one step"
            )
        codes = _check.codes("targets", codes)
        counts = counted(batch.mask, self.target_lengths(batch), codes.shape)
        if counts is not None:
            # Padding may hold any number, such as −1, whose embedding would be NaN.
            is_code = (codes >= 0) & (codes < self.vocabulary_size)
            codes = jnp.where(counts | is_code, codes, self.start)
        first = jnp.full_like(codes[:1], self.start)
        return jnp.concatenate([first, codes[:-1]])

    def _forced(self, params: Any, batch: Batch, key: Key | None) -> tuple[Array, Array | None]:
        """The features and the weights of attention, with teacher forcing."""
        k_begin, k_embedding, k_run = split(key, 3)
        memory, state = self.begin(params, batch, k_begin)
        codes = self.previous(batch, state)
        xs = self._embedded(params, codes, k_embedding)
        return self.advance_all(params, memory, state, xs, k_run)

    def _embedded(self, params: Any, codes: Array, key: Key | None) -> Array:
        with jax.named_scope("embedding"):
            return drop(key, self.dropout, self.embedding(params.embedding, codes))

    def _logits(self, params: Any, features: Array, key: Key | None) -> Array:
        with jax.named_scope("readout"):
            return self.readout(params.readout, drop(key, self.dropout, features))

    def to_logits(self, params: Any, memory: PyTree) -> Advance:
        """One step from codes ``[B]`` to logits ``[B, V]``."""

        def advance(state: PyTree, codes: Array, key: Key | None) -> tuple[PyTree, Array]:
            k_embedding, k_cell, k_outputs = split(key, 3)
            x = self._embedded(params, codes, k_embedding)
            state, (features, _) = self.advance(params, memory, state, x, k_cell)
            return state, self._logits(params, features, k_outputs)

        return advance
