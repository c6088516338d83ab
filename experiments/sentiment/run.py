"""The sentiment of film reviews by TF-IDF, by means of word vectors, and by a GRU on word vectors.

    python -m experiments.sentiment.run

Word vectors (word2vec) are trained on the sentences of the three other sources and on the training
part of the film reviews, without labels. A GRU starts from them, frozen or trained further, or from
random ones. Rivals without order: TF-IDF with logistic regression, and logistic regression on the
mean of the vectors of a sentence. A gradient flow then says how far back in a review the GRU looks.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from sklearn.linear_model import LogisticRegression

import rnnlab
from experiments import snippets
from experiments.common import Record, experiment, first_sentence
from experiments.sentences import Network, Size, Task, encoded, linear, network
from rnnlab import text
from rnnlab.embeddings import Embeddings, word2vec
from rnnlab.report.figures.style import drawing, grid_lines, look, title
from rnnlab.training import cross_entropy

TFIDF, MEAN = "TF-IDF, logistic regression", "mean of vectors, logistic regression"
RANDOM, FROZEN, TUNED = "GRU, random vectors", "GRU, frozen vectors", "GRU, vectors trained further"


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        reviews: film reviews at most.
        epochs: of the word vectors.
        size: that of the networks.
    """

    reviews: int = 10_000
    epochs: int = 15
    size: Size = Size(length=40, vocabulary=8000, hidden=64, embedding=100, updates=500, seeds=3)


QUICK = Plan(300, 2, Size(length=12, vocabulary=60, hidden=8, embedding=8, updates=16, seeds=2))


def film_reviews(data: snippets.Snippets, count: int) -> tuple[Task, np.ndarray]:
    """The reviews with a clear sentiment, in three parts, and their places in the data."""
    clear = np.flatnonzero((data.sources == 0) & (np.abs(data.ratings) > 0.5))
    places = np.random.default_rng(0).permutation(clear)[:count]
    first, second = int(0.6 * places.size), int(0.7 * places.size)
    parts = slice(0, first), slice(first, second), slice(second, places.size)
    texts = tuple(data.texts[place] for place in places)
    return Task(texts, (data.ratings[places] > 0).astype(int), *parts), places


def word_vectors(data: snippets.Snippets, held_out: np.ndarray, plan: Plan) -> Embeddings:
    """Vectors of the words of all sentences but those that are held out."""
    process = text.pipeline(text.lower_case, text.words)
    kept = np.setdiff1d(np.arange(len(data.texts)), held_out)
    documents = [process(data.texts[place]) for place in kept]
    size = plan.size.embedding
    return word2vec(documents, size=size, min_count=2, epochs=plan.epochs).embeddings


def means(embeddings: Embeddings, tokens: list[list[str]]) -> np.ndarray:
    """The mean of the vectors of each sentence's known words, ``[N, D]``."""
    rows = []
    for document in tokens:
        known = [token for token in document if token in embeddings]
        vectors = embeddings.vectors_of(known) if known else np.zeros((1, embeddings.size))
        rows.append(vectors.mean(axis=0))
    return np.stack(rows)


def by_means(task: Task, tokens: list[list[str]], embeddings: Embeddings) -> np.ndarray:
    """Labels of the test part by logistic regression on the mean vectors."""
    vectors = means(embeddings, tokens)
    best: tuple[float, Any] = (-1.0, None)
    for strength in (1.0, 10.0, 100.0, 1000.0):
        model = LogisticRegression(C=strength, max_iter=2000)
        model.fit(vectors[task.training], task.labels[task.training])
        score = model.score(vectors[task.validation], task.labels[task.validation])
        best = max(best, (float(score), model), key=lambda entry: entry[0])
    return best[1].predict(vectors[task.test])


def reach(trained: Network, task: Task, tokens: list[list[str]]) -> Record:
    """How far back the gradient reaches in the held-out reviews of 20 tokens and more."""
    model = trained.model
    steps = min(20, max(map(len, tokens)))
    chosen = [n for n in range(*task.test.indices(len(tokens))) if len(tokens[n]) >= steps][:64]
    xs, _ = encoded(trained.vocabulary, [tokens[n][-steps:] for n in chosen], steps)
    params = jax.tree.map(lambda leaf: leaf[0], trained.params)
    inputs = params.embedding[xs]

    def loss(ys: Any, readout: Any, labels: Any) -> Any:
        return cross_entropy(model.readout(readout, ys.max(axis=0)), labels)

    flow = rnnlab.gradient_flow(
        model.cell, params.cell, inputs, loss, params.readout, task.labels[chosen]
    )
    return {"steps": steps, "horizon": int(flow.horizon), "finding": flow.finding().splitlines()[0]}


def run(quick: bool) -> Record:
    """Scores all models on the held-out reviews."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = snippets.generated(1200) if quick else snippets.snippets()
    task, places = film_reviews(data, plan.reviews)
    process = text.pipeline(text.lower_case, text.words)
    tokens = [process(sentence) for sentence in task.texts]
    held_out = np.concatenate([places[task.validation], places[task.test]])
    embeddings = word_vectors(data, held_out, plan)
    truth = task.labels[task.test]
    with rnnlab.startup.kept_programs():
        networks = {
            RANDOM: network(task, tokens, plan.size),
            FROZEN: network(task, tokens, plan.size, start(embeddings), is_frozen=True),
            TUNED: network(task, tokens, plan.size, start(embeddings)),
        }
    predicted = {
        TFIDF: linear(task, tokens)(tokens[task.test]),
        MEAN: by_means(task, tokens, embeddings),
    }
    for name, trained in networks.items():
        predicted[name] = trained.predict(tokens[task.test])
    majority = float(max(truth.mean(), 1 - truth.mean()))
    correct = {name: np.atleast_2d(labels) == truth for name, labels in predicted.items()}
    records = []
    for name, hits in correct.items():
        record = {"model": name, "accuracy": hits.mean(axis=1).round(4).tolist()}
        record["gain_95"] = interval(hits, correct[TFIDF])
        records.append(record)
        print(f"{name:40}{100 * hits.mean():6.1f} %")
    return {
        "finding": finding(records, majority),
        "data": "generated" if quick else "vaderSentiment 0.5, movieReviewSnippets",
        "plan": plan._asdict() | {"size": plan.size._asdict()},
        "majority": round(majority, 4),
        "records": records,
        "reach": reach(networks[TUNED], task, tokens),
        "neighbours": neighbours(embeddings),
    }


def start(embeddings: Embeddings) -> Any:
    """The matrix of a vocabulary, from trained vectors."""
    return lambda vocabulary: embeddings.select(vocabulary).matrix


def interval(hits: np.ndarray, rival: np.ndarray) -> list[float]:
    """A 95 % interval of the difference in accuracy in points, by a bootstrap over reviews."""
    gain = 100.0 * (hits.mean(axis=0) - rival.mean(axis=0))
    drawn = np.random.default_rng(0).integers(gain.size, size=(2000, gain.size))
    low, high = np.quantile(gain[drawn].mean(axis=1), (0.025, 0.975))
    return [round(float(low), 2), round(float(high), 2)]


def neighbours(embeddings: Embeddings) -> dict[str, list[str]]:
    """The nearest words of some words."""
    shown = [word for word in ("funny", "dull", "actor", "battery") if word in embeddings]
    return {word: [near.word for near in embeddings.nearest(word, 5)] for word in shown}


def finding(records: list[Record], majority: float) -> str:
    """The accuracies, and the margins over TF-IDF."""
    parts = []
    for record in records:
        low, high = (f"{value:+.1f}".replace("-", "−") for value in record["gain_95"])
        text_of = f"{record['model']} {100 * np.mean(record['accuracy']):.1f} %"
        if record["model"] != TFIDF:
            text_of += f" ({low} to {high} points against TF-IDF)"
        parts.append(text_of)
    best = max(records, key=lambda record: np.mean(record["accuracy"]))
    return (
        f"The best of five on held-out reviews is {best['model']} with "
        f"{100 * np.mean(best['accuracy']):.1f} % (majority: {100 * majority:.1f} %). "
        f"All, with 95 % intervals: {'; '.join(parts)}."
    )


def draw(result: Record, path: Path) -> None:
    """Writes the figure: the accuracy of each model, every seed."""
    with drawing(path, 1, 1, (9, 3.4)) as (figure, (axes,)):
        draw_accuracies(axes, result)
        title(figure, first_sentence(result["finding"]), 100)


def draw_accuracies(axes: Axes, result: Record) -> None:
    """The accuracy of each seed, and the majority's."""
    records = result["records"]
    for place, record in enumerate(records):
        scores = [100 * score for score in record["accuracy"]]
        style: Record = look(place) | {"linestyle": "none"}
        axes.plot(scores, [place] * len(scores), **style)
    axes.axvline(100 * result["majority"], color="0.45", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(records)), [record["model"] for record in records])
    axes.invert_yaxis()
    axes.set(xlabel="accuracy on held-out reviews (%); dotted: majority")
    grid_lines(axes)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
