"""Ways to continue a text, and measures of what they write."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import Record
from experiments.language_model.prose import ngrams
from rnnlab.models import beam_search, sample
from rnnlab.typing import Array, PyTree

HUMAN, ARGMAX, BEAM = "people", "argmax", "beam, K = 8"
COOL, PURE = "temperature 0.7", "temperature 1"
TOP_K, NUCLEUS = "top-k, k = 20", "nucleus, p = 0.9"
SAMPLED: dict[str, Record] = {
    COOL: {"temperature": 0.7},
    TOP_K: {"top_k": 20},
    NUCLEUS: {"top_p": 0.9},
    PURE: {},
}
BEAMS = 8
WAYS = (ARGMAX, BEAM, *SAMPLED, HUMAN)


class Prompts(NamedTuple):
    """Places in a held-out text: what the models read, and how people went on.

    Attributes:
        starts: of what people wrote next, ``[P]``.
        read: ``[T, P]``.
        followed: ``[steps, P]``.
    """

    starts: np.ndarray
    read: np.ndarray
    followed: np.ndarray


def prompts(codes: np.ndarray, count: int, length: int, steps: int) -> Prompts:
    """So many places, evenly spread over a text."""
    starts = np.linspace(length, len(codes) - steps, count).astype(int)
    spans = codes[starts + np.arange(-length, steps)[:, None]]
    return Prompts(starts, spans[:length], spans[length:])


def continuations(
    model: Any, params: PyTree, places: Prompts, allowed: Array, seed: int
) -> dict[str, np.ndarray]:
    """Codes ``[steps, P]`` by way; those that are not ``allowed`` are never written."""
    steps = len(places.followed)
    read = jnp.asarray(places.read)
    written = {ARGMAX: sample(model, params, read, steps, allowed=allowed)}
    found = [
        beam_search(model, params, prompt, steps, beams=BEAMS, allowed=allowed).codes[0]
        for prompt in read.T
    ]
    written[BEAM] = jnp.stack(found, axis=1)
    for name, options in SAMPLED.items():
        key = jax.random.key(seed)
        written[name] = sample(model, params, read, steps, key=key, allowed=allowed, **options)
    return {name: np.asarray(codes) for name, codes in written.items()} | {HUMAN: places.followed}


def judge(model: Any, params: PyTree, places: Prompts, unknown: int) -> Callable[..., float]:
    """Perplexity of a continuation under a model that did not write it.

    It is that of the known words, with P(word | before, not unknown), since no way writes an
    unknown word.
    """

    @jax.jit
    def nats(params: PyTree, read: Array, codes: Array) -> Array:
        text = jnp.concatenate([read, codes])
        _, logits = model.run(params, text[:-1], model.initial_state(text.shape[1]))
        logits = logits[len(read) - 1 :].at[..., unknown].set(-jnp.inf)
        scores = jax.nn.log_softmax(logits, axis=-1)
        return -jnp.take_along_axis(scores, codes[..., None], axis=-1)[..., 0]

    def perplexity(codes: np.ndarray) -> float:
        surprise = np.asarray(nats(params, places.read, codes))
        return float(np.exp(surprise[codes != unknown].mean()))

    return perplexity


def variety(texts: Sequence[Sequence[Hashable]]) -> Record:
    """How much continuations repeat themselves.

    "repeated_4grams" is the share of the 4-grams of a continuation that it has had before (Welleck
    et al. 2019, arXiv 1908.04319), the mean of the continuations; "distinct_1" and "distinct_2" are
    different words and bigrams, divided by all, in all continuations together (Li et al. 2016,
    arXiv 1510.03055).
    """
    shares = []
    for text in texts:
        grams = ngrams(text, 4)
        shares.append(1 - len(set(grams)) / len(grams))
    record: Record = {"repeated_4grams": float(np.mean(shares))}
    for order in (1, 2):
        grams = [gram for text in texts for gram in ngrams(text, order)]
        record[f"distinct_{order}"] = len(set(grams)) / len(grams)
    return record
