"""Text from a language model: sampling with filters, and greedy choice."""

import functools
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab import _check
from rnnlab.cells.base import widest
from rnnlab.typing import Array, Key, PyTree


def filtered(
    logits: Array,
    *,
    temperature: Array | float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """Logits of a narrower distribution: the largest is 0, and −∞ rules a symbol out.

    They are float32 at least: a sum of many probabilities loses digits in half precision.

    Args:
        logits: ``[..., V]``.
        temperature: divides the logits; below 1 the likely symbols become likelier.
        top_k: keeps the k most likely symbols (Fan et al. 2018, arXiv 1805.04833).
        top_p: of these keeps the fewest symbols whose probability reaches p (Holtzman et al. 2020,
            arXiv 1904.09751).

    Returns:
        ``[..., V]``.

    Raises:
        ValueError: for a ``top_k`` below 1 and a ``top_p`` outside (0, 1].

    >>> filtered(jnp.log(jnp.array([0.5, 0.3, 0.2])), top_k=2).tolist()[2]
    -inf
    """
    _check_filters(top_k, top_p)
    logits = wide(_check.array("logits", logits))
    # The largest is 0 first, so that a temperature near 0 leaves it, and not ∞ in many places.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    # XLA may multiply by the inverse, which must not be 0 or ∞ either.
    least = float(jnp.finfo(logits.dtype).tiny)
    temperature = jnp.clip(_check.array("temperature", temperature), least, 1 / least)
    logits = logits / temperature.astype(logits.dtype)
    order = jnp.argsort(-logits, axis=-1, stable=True)
    ranks = jnp.argsort(order, axis=-1)
    if top_k is not None:
        logits = jnp.where(ranks < top_k, logits, -jnp.inf)
    if top_p is not None and top_p < 1:
        in_order = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
        # The share before a symbol, so that the one that reaches p is kept too.
        before = jnp.cumsum(in_order, axis=-1) - in_order
        kept = jnp.take_along_axis(before < top_p, ranks, axis=-1)
        logits = jnp.where(kept, logits, -jnp.inf)
    return logits


def sample(
    model: Any,
    params: PyTree,
    prompt: Array,
    steps: int,
    *,
    key: Key | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    allowed: Array | None = None,
) -> Array:
    """``steps`` symbols that continue each prompt, drawn one after the other.

    Args:
        model: a :func:`rnnlab.models.language_model`.
        params: its parameters.
        prompt: codes ``[T, B]``, at least one step.
        steps: how many symbols follow.
        key: the random numbers; None for the most likely symbol at each step.
        temperature: see :func:`filtered`, as ``top_k`` and ``top_p``.
        top_k: the number of symbols to choose from.
        top_p: the probability of the symbols to choose from.
        allowed: ``[V]``, False for symbols that must not be drawn.

    Returns:
        Codes ``[steps, B]``.

    Raises:
        ValueError: for numbers out of range, a prompt that is not ``[T, B]``, an ``allowed`` that
            is not ``[V]`` or allows nothing, and a model that is not a language model.

    >>> import rnnlab
    >>> model = rnnlab.models.language_model(rnnlab.GRU(8), 5)
    >>> prompt = jnp.zeros((3, 2), int)
    >>> params = model.init(jax.random.key(0), rnnlab.data.Batch(prompt, prompt))
    >>> sample(model, params, prompt, 4, key=jax.random.key(1)).shape
    (4, 2)
    """
    check_model(model)
    prompt = prompt_codes(prompt, model.vocabulary_size)
    steps = _check.positive_int("steps", steps)
    allowed = allowed_symbols(allowed, model.vocabulary_size)
    if key is not None:
        _check.key("key", key)
    _check.number("temperature", temperature)
    if temperature <= 0:
        raise ValueError(
            f"temperature is {temperature}; it must be above 0, or leave key out for the most "
            "likely symbol"
        )
    _check_filters(top_k, top_p)
    if top_k is not None:
        # Beyond V it changes nothing, and must not compile anew.
        top_k = min(top_k, model.vocabulary_size)
    # In the range of float32, or it would be 0 or ∞.
    least = float(np.finfo(np.float32).tiny)
    inside = jnp.float32(np.clip(temperature, least, 1 / least))
    return _sample(model, params, prompt, steps, key, inside, top_k, top_p, allowed)


@functools.partial(jax.jit, static_argnames=("model", "steps", "top_k", "top_p"))
def _sample(
    model: Any,
    params: PyTree,
    prompt: Array,
    steps: int,
    key: Key | None,
    temperature: Array,
    top_k: int | None,
    top_p: float | None,
    allowed: Array | None,
) -> Array:
    def choose(logits: Array, index: Array) -> Array:
        logits = permitted(logits, allowed)
        if key is None:
            return jnp.argmax(logits, axis=-1)
        narrow = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return jax.random.categorical(jax.random.fold_in(key, index), narrow)

    state, logits = model.run(params, prompt, model.initial_state(prompt.shape[1]))

    def advance(loop: tuple[PyTree, Array], index: Array) -> tuple[tuple[PyTree, Array], Array]:
        state, logits = loop
        codes = choose(logits, index).astype(prompt.dtype)
        state, after = model.run(params, codes[None], state)
        return (state, after[0]), codes

    _, codes = lax.scan(advance, (state, logits[-1]), jnp.arange(steps))
    return codes


def wide(logits: Array) -> Array:
    """``logits`` in float32 at least; random numbers and sums need it."""
    return logits.astype(widest(logits.dtype, jnp.float32))


def permitted(logits: Array, allowed: Array | None) -> Array:
    """``logits``, widened, with −∞ for symbols that are not allowed."""
    logits = wide(logits)
    return logits if allowed is None else jnp.where(allowed, logits, -jnp.inf)


def check_model(model: Any) -> None:
    """ValueError for anything that does not go on from a state, as a language model does."""
    if not hasattr(model, "run") or not hasattr(model, "vocabulary_size"):
        raise ValueError(
            f"model is {_check.brief(model)}, which does not continue a text; give a "
            "rnnlab.models.language_model"
        )


def _check_filters(top_k: int | None, top_p: float | None) -> None:
    if top_k is not None:
        _check.positive_int("top_k", top_k)
    if top_p is not None:
        _check.fraction("top_p", top_p, closed=True)


def prompt_codes(prompt: Array, symbols: int) -> Array:
    """``prompt`` as codes ``[T, B]``; ValueError for a code that is not a symbol."""
    prompt = _check.array("prompt", prompt)
    if prompt.ndim != 2 or not prompt.size or not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise ValueError(
            f"prompt is {prompt.dtype}{list(prompt.shape)}; give whole numbers [T, B], with at "
            "least one step"
        )
    if not isinstance(prompt, jax.core.Tracer):
        codes = np.asarray(prompt)
        if codes.min() < 0 or codes.max() >= symbols:
            raise ValueError(
                f"prompt holds codes from {codes.min()} to {codes.max()}; they must lie in "
                f"0..{symbols - 1}, one for each symbol"
            )
    # What follows has the same dtype, and must hold every symbol.
    return _check.codes("prompt", prompt)


def allowed_symbols(allowed: Array | None, symbols: int) -> Array | None:
    """``allowed [V]`` as booleans; ValueError where it allows nothing."""
    if allowed is None:
        return None
    allowed = _check.flags("allowed", allowed, (symbols,), "symbol")
    if not isinstance(allowed, jax.core.Tracer) and not allowed.any():
        raise ValueError("allowed rules every symbol out; leave at least one, or leave it out")
    return allowed
