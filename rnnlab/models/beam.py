"""Beam search for the likeliest text of a language model."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab import _check
from rnnlab.models.generation import allowed_symbols, check_model, permitted, prompt_codes, wide
from rnnlab.typing import Array, PyTree


class Beam(NamedTuple):
    """The result of :func:`beam_search` and, for B inputs, of :func:`beam_decode`.

    Attributes:
        codes: ``[beams, steps]`` or ``[beams, steps, B]``, the most likely sequence first.
        log_probability: ``[beams]`` or ``[beams, B]``, of each given the prompt or the input, in
            nats. Where there are fewer possible sequences than beams, the rest have −∞, and their
            codes are meaningless.
    """

    codes: Array
    log_probability: Array


def beam_search(
    model: Any,
    params: PyTree,
    prompt: Array,
    steps: int,
    *,
    beams: int,
    allowed: Array | None = None,
) -> Beam:
    """The likeliest continuations that a search with ``beams`` candidates at each step finds.

    A candidate is followed by each symbol, and of all these sequences the ``beams`` with the
    largest Σₜ ln P(xₜ | x₁ … xₜ₋₁) are the candidates of the next step. With as many beams as there
    are sequences it finds the likeliest of all.

    Args:
        model: a :func:`rnnlab.models.language_model`.
        params: its parameters.
        prompt: codes ``[T]``, at least one step.
        steps: how many symbols follow.
        beams: K, the number of candidates.
        allowed: ``[V]``, False for symbols that must not be used.

    Returns:
        The :class:`Beam`.

    Raises:
        ValueError: for numbers below 1, a prompt that is not ``[T]``, an ``allowed`` that is not
            ``[V]`` or allows nothing, and a model that is not a language model.

    >>> import rnnlab
    >>> model = rnnlab.models.language_model(rnnlab.GRU(8), 5)
    >>> prompt = jnp.zeros(3, int)
    >>> params = model.init(jax.random.key(0), rnnlab.data.Batch(prompt[:, None], None))
    >>> beam_search(model, params, prompt, 4, beams=2).codes.shape
    (2, 4)
    """
    check_model(model)
    prompt = _check.array("prompt", prompt)
    if prompt.ndim != 1:
        raise ValueError(f"prompt has shape {prompt.shape}; it must be [T], one sequence")
    prompt = prompt_codes(prompt[:, None], model.vocabulary_size)
    steps = _check.positive_int("steps", steps)
    beams = _check.positive_int("beams", beams)
    allowed = allowed_symbols(allowed, model.vocabulary_size)
    return _beam_search(model, params, prompt, steps, beams, allowed)


@functools.partial(jax.jit, static_argnames=("model", "steps", "beams"))
def _beam_search(
    model: Any, params: PyTree, prompt: Array, steps: int, beams: int, allowed: Array | None
) -> Beam:
    symbols = model.vocabulary_size
    state, logits = model.run(params, prompt, model.initial_state(1))

    def advance(loop: Any, index: Array) -> tuple[Any, None]:
        state, logits, scores, codes = loop
        # [K, V]: every candidate followed by every symbol.
        total = scores[:, None] + jax.nn.log_softmax(permitted(logits, allowed), axis=-1)
        scores, best = lax.top_k(total.reshape(-1), beams)
        parent, symbol = best // symbols, (best % symbols).astype(prompt.dtype)
        codes = codes[parent].at[:, index].set(symbol)
        state = jax.tree.map(lambda leaf: leaf[parent], state)
        state, after = model.run(params, symbol[None], state)
        return (state, after[0], scores, codes), None

    # All candidates begin as the prompt; only the first counts, or all would stay the same.
    scores = jnp.full(beams, -jnp.inf, wide(logits).dtype).at[0].set(0)
    state = jax.tree.map(lambda leaf: jnp.repeat(leaf, beams, axis=0), state)
    logits = jnp.repeat(logits[-1], beams, axis=0)
    codes = jnp.zeros((beams, steps), prompt.dtype)
    (_, _, scores, codes), _ = lax.scan(advance, (state, logits, scores, codes), jnp.arange(steps))
    return Beam(codes, scores)
