"""Models of sentences that experiments share: TF-IDF with a linear classifier, and a GRU."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression

import rnnlab
from experiments.training import decayed_adam
from rnnlab import text
from rnnlab.data import Batch, batches
from rnnlab.models import classifier
from rnnlab.text import Vocabulary
from rnnlab.training import frozen, sweep

BATCH = 64
LEARNING_RATE = 3e-3

Predict = Callable[[Sequence[list[str]]], np.ndarray]
"""Labels ``[N]``, or ``[seeds, N]``, of the tokens of N sentences."""


class Task(NamedTuple):
    """Sentences and labels, in three parts.

    Attributes:
        texts: N sentences, in random order.
        labels: ``[N]``.
        training, validation, test: their places, 60, 10 and 30 of 100.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    training: slice
    validation: slice
    test: slice


class Size(NamedTuple):
    """The size of networks.

    Attributes:
        length: tokens of a sentence that the network reads; more are cut off.
        vocabulary: V at most.
        hidden: H, the units of the GRU.
        embedding: E, the size of the embedding.
        updates: of each network.
        seeds: their number.
    """

    length: int
    vocabulary: int
    hidden: int
    embedding: int
    updates: int
    seeds: int


class Network(NamedTuple):
    """Trained networks, one for each seed.

    Attributes:
        model: the model of all.
        params: the parameters, leaves ``[seeds, ...]``.
        vocabulary: the codes.
        predict: gives labels ``[seeds, N]``.
    """

    model: Any
    params: Any
    vocabulary: Vocabulary
    predict: Predict


def linear(task: Task, tokens: Sequence[list[str]]) -> Predict:
    """Labels by TF-IDF and logistic regression, fitted on the training part."""
    weights = text.tf_idf(tokens[task.training], min_documents=2, sublinear=True)
    vectors = weights(tokens[task.training])
    best: tuple[float, Any] = (-1.0, None)
    for strength in (0.3, 1.0, 3.0, 10.0):
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(vectors, task.labels[task.training])
        score = model.score(weights(tokens[task.validation]), task.labels[task.validation])
        best = max(best, (float(score), model), key=lambda entry: entry[0])
    return lambda documents: best[1].predict(weights(documents))


def encoded(
    vocabulary: Vocabulary, documents: Sequence[list[str]], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The codes ``[T, N]`` of sentences, padded or cut to T tokens, and their lengths."""
    codes = np.zeros((length, len(documents)), np.int32)
    lengths = np.ones(len(documents), np.int32)
    for column, document in enumerate(documents):
        kept = vocabulary.encode(document[:length])
        codes[: kept.size, column] = kept
        # A sentence without tokens is one step of padding.
        lengths[column] = max(kept.size, 1)
    return codes, lengths


def network(
    task: Task,
    tokens: Sequence[list[str]],
    size: Size,
    vectors: Callable[[Vocabulary], np.ndarray] | None = None,
    *,
    is_frozen: bool = False,
) -> Network:
    """GRUs that are trained on the training part.

    ``vectors(vocabulary)`` gives the matrix that the embedding starts from; None to draw it.
    ``is_frozen`` keeps the embedding as it is.
    """
    vocabulary = text.build_vocabulary(tokens[task.training], min_count=2, max_size=size.vocabulary)
    xs, lengths = encoded(vocabulary, tokens[task.training], size.length)
    data = batches(Batch(xs, task.labels[task.training], lengths=lengths), BATCH, seed=0)
    model = classifier(
        rnnlab.GRU(size.hidden),
        int(task.labels.max()) + 1,
        pool="max",
        # The same for all vocabularies, so that one compiled program serves all.
        vocabulary_size=size.vocabulary,
        embedding_size=size.embedding,
        dropout=0.3,
    )
    matrix = None
    if vectors is not None:
        matrix = np.zeros((size.vocabulary, size.embedding), np.float32)
        matrix[: len(vocabulary)] = vectors(vocabulary)

    def init(key: jax.Array) -> Any:
        params = model.init(key, data[0])
        return params if matrix is None else params._replace(embedding=matrix)

    def optimiser() -> optax.GradientTransformation:
        adam = decayed_adam(LEARNING_RATE, size.updates)
        return frozen(adam, ["embedding"]) if is_frozen else adam

    seeds = {"seed": range(size.seeds)}
    trained = sweep(init, model.loss, data, optimiser, seeds, steps=size.updates, average=0.98)
    apply = jax.jit(jax.vmap(model.apply, in_axes=(0, None)))

    def predict(documents: Sequence[list[str]]) -> np.ndarray:
        codes, counts = encoded(vocabulary, documents, size.length)
        logits = apply(trained.params, Batch(codes, None, lengths=counts))
        return np.argmax(np.asarray(logits), axis=-1)

    return Network(model, trained.params, vocabulary, predict)
