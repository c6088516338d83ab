"""Word vectors trained by rnnlab and by gensim on the same text, judged by people's ratings.

    python -m experiments.embeddings.run

The text is the Wikipedia that gensim ships with its tests: 106 articles, 450 000 words. All have
100 features, a window of 5 words, 5 negatives and the words that occur at least 5 times. Judged are
the rank correlation with people's ratings (WordSim-353, SimLex-999) and analogies. GloVe has no
rival in gensim. With so little text the correlations are low; what counts is the difference.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments.common import Record, experiment, first_sentence
from rnnlab import embeddings as words
from rnnlab.embeddings import Embeddings
from rnnlab.report.figures.style import drawing, grid_lines, look, title
from rnnlab.text import Vocabulary

SETS = ("wordsim353", "simlex999")
TEXT = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"

Documents = list[list[str]]


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        size: D.
        epochs: passes over the text; of GloVe three times as many.
        seeds: trainings of each kind.
    """

    size: int = 100
    epochs: int = 5
    seeds: int = 3


QUICK = Plan(size=8, epochs=1, seeds=1)


def wikipedia() -> Documents:
    """The articles as lower-case words; ImportError without gensim."""
    path = words.gensim_data("wordsim353").with_name(TEXT)
    from gensim.corpora.wikicorpus import WikiCorpus

    corpus = WikiCorpus(str(path), dictionary={}, processes=1)
    return [list(map(str, article)) for article in corpus.get_texts()]


def generated() -> Documents:
    """Sentences of a small grammar, for quick runs without gensim."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(200):
        animal, place = random.choice(["cat", "dog"]), random.choice(["mat", "sofa"])
        made.append(["the", animal, "sat", "on", "a", place])
    return made


def of_gensim(kind: str) -> Callable[[Documents, Plan, int], Embeddings]:
    """Training by gensim, in one thread."""

    def train(documents: Documents, plan: Plan, seed: int) -> Embeddings:
        from gensim import models

        vectors = getattr(models, kind)(
            documents,
            sg=1,
            vector_size=plan.size,
            epochs=plan.epochs,
            window=5,
            negative=5,
            min_count=5,
            sample=1e-3,
            workers=1,
            seed=seed,
        ).wv
        return Embeddings(Vocabulary(tuple(map(str, vectors.index_to_key))), vectors.vectors)

    return train


def of_rnnlab(kind: str) -> Callable[[Documents, Plan, int], Embeddings]:
    """Training by rnnlab."""

    def train(documents: Documents, plan: Plan, seed: int) -> Embeddings:
        epochs = 3 * plan.epochs if kind == "glove" else plan.epochs
        options: dict[str, Any] = {"size": plan.size, "epochs": epochs, "seed": seed}
        return getattr(words, kind)(documents, **options).embeddings

    return train


TRAINED = {
    "word2vec, gensim": of_gensim("Word2Vec"),
    "word2vec, rnnlab": of_rnnlab("word2vec"),
    "FastText, gensim": of_gensim("FastText"),
    "FastText, rnnlab": of_rnnlab("fasttext"),
    "n-grams alone, rnnlab": of_rnnlab("char_ngrams"),
    "GloVe, rnnlab": of_rnnlab("glove"),
}


def judged(embeddings: Embeddings) -> Record:
    """Correlations and the share of analogies."""
    record: Record = {"words": len(embeddings)}
    for name in SETS:
        pairs = words.read_pairs(words.gensim_data(name))
        found = words.word_similarity(embeddings, pairs)
        record[name], record[f"{name}_known"] = round(found.correlation, 4), found.known
    questions = words.read_analogies(words.gensim_data("analogies"))
    found = words.analogy_accuracy(embeddings, questions)
    record["analogies"], record["analogies_known"] = round(found.accuracy, 4), found.known
    return record


def run(quick: bool) -> Record:
    """Trains and judges all kinds."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    documents = generated() if quick else wikipedia()
    kinds = {name: train for name, train in TRAINED.items() if not quick or "rnnlab" in name}
    records = []
    for seed in range(plan.seeds):
        for name, train in kinds.items():
            started = time.process_time()
            embeddings = train(documents, plan, seed)
            record: Record = {"kind": name, "seed": seed}
            record["cpu_seconds"] = round(time.process_time() - started, 1)
            if not quick:
                record |= judged(embeddings)
            print(record)
            records.append(record)
    return {
        "finding": "A quick run." if quick else finding(records),
        "data": "generated" if quick else f"gensim, {TEXT}",
        "tokens": sum(map(len, documents)),
        "plan": plan._asdict(),
        "records": records,
    }


def mean(records: list[Record], kind: str, key: str) -> float:
    """The mean over the seeds."""
    return float(np.mean([record[key] for record in records if record["kind"] == kind]))


def finding(records: list[Record]) -> str:
    """How rnnlab's vectors compare with gensim's."""
    sentences = []
    for kind in ("word2vec", "FastText"):
        ours, theirs = f"{kind}, rnnlab", f"{kind}, gensim"
        parts = []
        for name in SETS:
            pair = [mean(records, side, name) for side in (ours, theirs)]
            parts.append(f"{pair[0]:.3f} against {pair[1]:.3f} on {name}")
        ratio = mean(records, ours, "cpu_seconds") / mean(records, theirs, "cpu_seconds")
        sentences.append(
            f"Rank correlations of rnnlab's {kind} and gensim's (means of the seeds): "
            f"{', '.join(parts)}, in {ratio:.2f} times the processor time."
        )
    glove = ", ".join(f"{mean(records, 'GloVe, rnnlab', name):.3f} on {name}" for name in SETS)
    sentences.append(f"GloVe: {glove}.")
    return " ".join(sentences)


def draw(result: Record, path: Path) -> None:
    """Writes the figure: correlations of each kind, and processor times."""
    records = result["records"]
    with drawing(path, 1, 2, (12, 3.8)) as (figure, (left, right)):
        draw_scores(left, records)
        kinds = list(dict.fromkeys(record["kind"] for record in records))
        for place, kind in enumerate(kinds):
            seconds = [row["cpu_seconds"] for row in records if row["kind"] == kind]
            right.plot(seconds, [place] * len(seconds), "o", color="black")
        right.set_yticks(range(len(kinds)), [])
        right.set_ylim(left.get_ylim())
        right.set(xlabel="processor time of a training (s)", xlim=(0, None))
        grid_lines(right)
        title(figure, first_sentence(result["finding"]), 130)


def draw_scores(axes: Axes, records: list[Record]) -> None:
    """The correlations and the share of analogies, every seed."""
    kinds = list(dict.fromkeys(record["kind"] for record in records))
    for index, name in enumerate((*SETS, "analogies")):
        rows = [record for record in records if name in record]
        places = [kinds.index(record["kind"]) + 0.15 * (index - 1) for record in rows]
        style: Record = look(index) | {"linestyle": "none"}
        axes.plot([record[name] for record in rows], places, label=name, **style)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set(xlabel="rank correlation; share of analogies")
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
