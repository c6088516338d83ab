"""Beam search for the likeliest sequences of a model that writes from an input."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.data.batch import Batch
from rnnlab.models.beam import Beam
from rnnlab.models.decoder import DecoderModel
from rnnlab.models.generation import wide
from rnnlab.models.loops import settled
from rnnlab.models.start import flat_state
from rnnlab.typing import Array, PyTree


def beam_decode(
    model: DecoderModel,
    params: PyTree,
    batch: Batch,
    steps: int,
    *,
    beams: int,
    end: int | None = None,
) -> Beam:
    """The likeliest sequences for each input that a search with ``beams`` candidates finds.

    A candidate is followed by each symbol, and of all these sequences of an input the ``beams``
    with the largest Σₜ ln P(yₜ | y₁ … yₜ₋₁, x) are the candidates of the next step. After ``end``
    comes ``end`` alone, at no cost. With one beam it writes what ``model.generate`` does; with as
    many as there are sequences it finds the likeliest of all.

    >>> import jax, jax.numpy as jnp, rnnlab
    >>> from rnnlab.models import beam_decode, encoder_decoder
    >>> cell = rnnlab.GRU(8)
    >>> model = encoder_decoder(cell, cell, 5, source_vocabulary_size=10)
    >>> batch = rnnlab.data.Batch(jnp.zeros((7, 4), int), None)
    >>> params = model.init(jax.random.key(0), batch)
    >>> beam_decode(model, params, batch, 6, beams=3, end=1).codes.shape  # [K, steps, B]
    (3, 6, 4)

    Args:
        model: an :func:`encoder_decoder` or a :func:`conditioned_decoder`.
        params: its parameters.
        batch: the inputs; the targets are not read.
        steps: how many symbols are written.
        beams: K, the number of candidates.
        end: the symbol after which a sequence is over; None where all have ``steps`` symbols.

    Returns:
        The :class:`Beam` with codes ``[K, steps, B]`` and log-probabilities ``[K, B]``.

    Raises:
        ValueError: for numbers below 1, an ``end`` outside of the vocabulary, any other model, and
            inputs that do not fit.
    """
    if not isinstance(model, DecoderModel):
        raise ValueError(
            f"model is {_check.brief(model)}; give an encoder_decoder or a conditioned_decoder, or "
            "use beam_search for a language_model"
        )
    steps = _check.positive_int("steps", steps)
    beams = _check.positive_int("beams", beams)
    if end is not None and _check.natural("end", end) >= model.vocabulary_size:
        raise ValueError(
            f"end is {end}, but the vocabulary has {model.vocabulary_size} symbols; give a code in "
            f"0..{model.vocabulary_size - 1}"
        )
    return _decode(model, params, batch._replace(targets=None), steps, beams, end)


@functools.partial(jax.jit, static_argnames=("model", "steps", "beams", "end"))
def _decode(
    model: DecoderModel, params: PyTree, batch: Batch, steps: int, beams: int, end: int | None
) -> Beam:
    memory, state = model.begin(params, batch, None)
    to_logits = model.to_logits(params, memory)
    count = flat_state(state).shape[0]
    columns = jnp.arange(count)

    def advance(state: PyTree, codes: Array) -> tuple[PyTree, Array]:
        """One step of all candidates of an input, which share what the encoder gave."""
        return jax.vmap(lambda state, codes: to_logits(state, codes, None))(state, codes)

    def step(loop: Any, index: Array) -> tuple[Any, None]:
        state, last, scores, codes = loop
        state, logits = advance(state, last)
        logs = jax.nn.log_softmax(wide(logits))
        if end is not None:
            only_end = jnp.where(jnp.arange(logs.shape[-1]) == end, 0, -jnp.inf)
            is_over = (last == end) & (index > 0)
            logs = jnp.where(is_over[..., None], only_end, logs)
        # [B, K V]: every candidate of an input followed by every symbol.
        total = jnp.moveaxis(scores[..., None] + logs, 0, 1).reshape(count, -1)
        scores, best = lax.top_k(total, beams)
        parent, symbol = best.T // logs.shape[-1], (best.T % logs.shape[-1]).astype(last.dtype)
        codes = codes[parent, columns].at[..., index].set(symbol)
        state = jax.tree.map(lambda leaf: _of_parents(leaf, parent, columns), state)
        return (state, symbol, scores.T, codes), None

    state = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], beams, axis=0), state)
    last = jnp.full((beams, count), model.start, jnp.int32)
    state = settled(lambda state, x, _: advance(state, x), state, last)
    _, logits = jax.eval_shape(advance, state, last)
    # All candidates begin alike; only the first counts, or all would stay the same.
    scores = wide(jnp.full((beams, count), -jnp.inf, logits.dtype)).at[0].set(0)
    codes = jnp.zeros((beams, count, steps), jnp.int32)
    loop = state, last, scores, codes
    (_, _, scores, codes), _ = lax.scan(step, loop, jnp.arange(steps))
    return Beam(jnp.swapaxes(codes, 1, 2), scores)


def _of_parents(leaf: Array, parent: Array, columns: Array) -> Array:
    """The candidates ``parent [K, B]`` of a leaf ``[K, B, ...]``; one without examples as it is."""
    return leaf if leaf.ndim < 2 else leaf[parent, columns]
