"""Stop words, stems, lemmas and subwords: what each does to accuracy, speed and unknown words.

    python -m experiments.text_processing.run

Two tasks on the same sentences: what they are from (film reviews, product reviews, editorials or
tweets: classification of documents), and whether they are positive or negative (sentiment). Each is
solved by TF-IDF with logistic regression and by a GRU, after each way of processing. All settings
are fixed before, but for the strength of the regularisation, which validation chooses. The speeds
are processor times of this run.
"""

import functools
import pydoc_data.topics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

import rnnlab
from experiments import snippets
from experiments.common import Record, experiment, first_sentence
from experiments.sentences import Predict, Size, Task, linear, network
from experiments.snippets import Snippets
from rnnlab import text
from rnnlab.report.figures.style import drawing, grid_lines, look, title

NEGATIONS = ("no", "not", "nor", "never", "none", "nothing", "cannot", "without", "but", "hardly")
"""Stop words that turn a sentiment round."""

PLAIN = "words"
STOPPED = "without stop words"
KEPT = "without stop words, negations kept"
SUBWORDS = "subwords (BPE)"

Process = Callable[[str], list[str]]


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        sentences: of each task at most.
        length: tokens of a sentence that the network reads; more are cut off.
        vocabulary: V at most, of words and of subwords.
        hidden: H, the units of the GRU and the size of its embedding.
        updates: of each network.
        seeds: networks for each way and task.
        ways: the ways of processing.
    """

    sentences: int = 10_000
    length: int = 40
    vocabulary: int = 6000
    hidden: int = 48
    updates: int = 400
    seeds: int = 3
    ways: tuple[str, ...] = (PLAIN, STOPPED, KEPT, "Porter", "Lancaster", "lemmas", SUBWORDS)


QUICK = Plan(
    sentences=300,
    length=12,
    vocabulary=320,
    hidden=8,
    updates=16,
    seeds=2,
    ways=(PLAIN, STOPPED, KEPT, SUBWORDS),
)


def tasks(data: Snippets, plan: Plan) -> dict[str, Task]:
    """The two tasks: the source of a sentence, and its sentiment."""
    films = data.sources == 0
    clear = np.abs(data.ratings) > 0.5
    random = np.random.default_rng(0)
    # As many sentences of each source, so that no source is the right guess.
    least = min(np.bincount(data.sources).min(), plan.sentences // len(snippets.SOURCES))
    kinds = [np.flatnonzero(data.sources == source) for source in range(len(snippets.SOURCES))]
    balanced = [random.permutation(places)[:least] for places in kinds]
    chosen = {
        "source": (np.concatenate(balanced), data.sources),
        "sentiment": (np.flatnonzero(films & clear), data.ratings > 0),
    }
    result = {}
    for name, (places, labels) in chosen.items():
        places = random.permutation(places)[: plan.sentences]
        texts = tuple(data.texts[place] for place in places)
        first, second = int(0.6 * len(texts)), int(0.7 * len(texts))
        parts = slice(0, first), slice(first, second), slice(second, len(texts))
        result[name] = Task(texts, labels[places].astype(int), *parts)
    return result


def ways(task: Task, plan: Plan) -> dict[str, Process]:
    """The ways of processing; subwords are trained on the training part."""
    start = (text.normalize_unicode, text.lower_case)
    training = [text.lower_case(sentence) for sentence in task.texts[task.training]]
    pieces = text.train_subwords(training, max(plan.vocabulary, 300), "bpe")
    plain = text.pipeline(*start, text.words)
    stopped = functools.partial(text.remove_stop_words, keep=NEGATIONS)
    return {
        PLAIN: plain,
        STOPPED: text.pipeline(plain, text.remove_stop_words),
        KEPT: text.pipeline(plain, stopped),
        "Porter": text.pipeline(plain, text.stem),
        "Lancaster": text.pipeline(plain, functools.partial(text.stem, algorithm="lancaster")),
        "lemmas": text.pipeline(plain, text.lemmatize),
        SUBWORDS: text.pipeline(*start, pieces),
    }


def size(plan: Plan) -> Size:
    """The size of the networks."""
    return Size(plan.length, plan.vocabulary, plan.hidden, plan.hidden, plan.updates, plan.seeds)


def misspelled(sentence: str, share: float, random: np.random.Generator) -> str:
    """``sentence`` with two neighbouring letters exchanged in a share of its words."""
    words = sentence.split()
    for place, word in enumerate(words):
        if len(word) > 3 and random.random() < share:
            at = int(random.integers(1, len(word) - 2))
            words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def scored(name: str, task: Task, plan: Plan) -> list[Record]:
    """A record for each way of processing and each model."""
    records = []
    truth = task.labels[task.test]
    processes = ways(task, plan)
    for way in plan.ways:
        process = processes[way]
        tokens = [process(sentence) for sentence in task.texts]
        known = set().union(*tokens[task.training])
        held_out = [token for document in tokens[task.test] for token in document]
        unknown = np.mean([token not in known for token in held_out])
        models = {"TF-IDF": linear(task, tokens), "GRU": network(task, tokens, size(plan)).predict}
        for model, predict in models.items():
            correct = np.atleast_2d(predict(tokens[task.test])) == truth
            record = {
                "task": name,
                "way": way,
                "model": model,
                "accuracy": correct.mean(axis=1).round(4).tolist(),
                "unknown": round(float(unknown), 4),
                "tokens": round(len(held_out) / len(truth), 1),
                "_correct": correct,
            }
            if way in (PLAIN, SUBWORDS):
                record["misspelled"] = with_errors(task, process, predict)
            records.append(record)
            mean = np.mean(record["accuracy"])
            print(f"{name:10}{way:36}{model:8}{100 * mean:6.1f} %  unknown {100 * unknown:5.2f} %")
    return records


def with_errors(task: Task, process: Process, predict: Predict) -> dict[str, float]:
    """The accuracy on misspelled sentences, by the share of words with an error."""
    truth = task.labels[task.test]
    scores = {}
    for share in (0.0, 0.25, 0.5, 1.0):
        random = np.random.default_rng(1)
        sentences = [misspelled(sentence, share, random) for sentence in task.texts[task.test]]
        documents = [process(sentence) for sentence in sentences]
        scores[str(share)] = round(float(np.mean(np.atleast_2d(predict(documents)) == truth)), 4)
    return scores


def differences(records: list[Record]) -> None:
    """Adds the difference in accuracy to plain words, in points, with a 95 % interval.

    A bootstrap over the test sentences, the same ones for both ways; seeds are averaged.
    """
    random = np.random.default_rng(0)
    for record in records:
        same = [
            other
            for other in records
            if other["way"] == PLAIN
            and (other["task"], other["model"]) == (record["task"], record["model"])
        ]
        gain = 100.0 * (record["_correct"].mean(axis=0) - same[0]["_correct"].mean(axis=0))
        drawn = random.integers(gain.size, size=(2000, gain.size))
        low, high = np.quantile(gain[drawn].mean(axis=1), (0.025, 0.975))
        record["gain"] = round(float(gain.mean()), 2)
        record["gain_95"] = [round(float(low), 2), round(float(high), 2)]


def stem_errors(words: Sequence[str]) -> list[Record]:
    """How exact and how fast stems and lemmas are, on different words.

    Two words belong together where simplemma's dictionary gives them one lemma. "split" is the
    share of pairs that belong together but have different stems, "merged" the share of pairs with
    one stem that do not belong together. Both are zero for the lemmas, which define them.
    """
    text.lemmatize(["dictionaries", "are", "loaded"])
    started = time.process_time()
    lemmas = [lemma.lower() for lemma in text.lemmatize(words)]
    speed = len(words) / (time.process_time() - started)
    records: list[Record] = [{"algorithm": "lemmas", "words_per_second": round(speed)}]
    for algorithm in ("porter", "lancaster", "snowball"):
        started = time.process_time()
        stems = text.stem(words, algorithm)
        speed = len(words) / (time.process_time() - started)
        both = pairs(list(zip(lemmas, stems, strict=True)))
        record: Record = {"algorithm": algorithm, "words_per_second": round(speed)}
        record["split"] = round(1 - both / pairs(lemmas), 4)
        record["merged"] = round(1 - both / pairs(stems), 4)
        records.append(record)
    return records


def pairs(keys: Sequence[Any]) -> int:
    """The number of pairs with one key."""
    counts: dict[Any, int] = defaultdict(int)
    for key in keys:
        counts[key] += 1
    return sum(count * (count - 1) // 2 for count in counts.values())


def chosen(records: list[Record], task: str, way: str, model: str) -> Record:
    """The record of a way of processing."""
    wanted = {"task": task, "way": way, "model": model}
    return next(record for record in records if wanted.items() <= record.items())


def change(records: list[Record], task: str, way: str, model: str) -> str:
    """The difference that a way makes, in words."""
    record = chosen(records, task, way, model)
    low, high = record["gain_95"]
    return f"{record['gain']:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", "−")


def finding(records: list[Record], stems: list[Record]) -> str:
    """What the records say of each claim."""
    parts = []
    for task in ("source", "sentiment"):
        changes = [change(records, task, STOPPED, model) for model in ("TF-IDF", "GRU")]
        parts.append(f"{changes[0]} with TF-IDF and {changes[1]} with a GRU for {task}")
    kept = change(records, "sentiment", KEPT, "GRU")
    sentences = [
        "Without stop words the accuracy changes by points (95 % intervals): "
        + ", ".join(parts)
        + f"; with negations kept, sentiment by {kept}."
    ]
    by_name = {record["algorithm"]: record for record in stems}
    porter, lemma = by_name["porter"], by_name["lemmas"]
    ratio = porter["words_per_second"] / lemma["words_per_second"]
    sentences.append(
        f"Porter stems run at {ratio:.1f} times the speed of lemmas; they split "
        f"{100 * porter['split']:.0f} % of the pairs of words with one lemma, and "
        f"{100 * porter['merged']:.0f} % of the pairs that they merge have different ones."
    )
    plain = chosen(records, "sentiment", PLAIN, "GRU")
    pieces = chosen(records, "sentiment", SUBWORDS, "GRU")
    sentences.append(
        f"Of the held-out words {100 * plain['unknown']:.1f} % are unknown, of the subwords "
        f"{100 * pieces['unknown']:.2f} %; with an error in every long word the GRU's accuracy "
        f"for sentiment falls to {100 * plain['misspelled']['1.0']:.0f} % with words and "
        f"{100 * pieces['misspelled']['1.0']:.0f} % with subwords."
    )
    return " ".join(sentences)


def draw(result: Record, path: Path) -> None:
    """Writes the figure: gains by way, errors of stems, and misspelled words."""
    records = result["records"]
    with drawing(path, 1, 3, (15, 4.8)) as (figure, (left, middle, right)):
        draw_gains(left, records)
        draw_stems(middle, result["stems"])
        draw_errors(right, records)
        title(figure, first_sentence(result["finding"]), 150)


def draw_gains(axes: Axes, records: list[Record]) -> None:
    """The difference that each way makes to the accuracy."""
    names = list(dict.fromkeys(record["way"] for record in records))
    names.remove(PLAIN)
    sides = [(task, model) for task in ("source", "sentiment") for model in ("TF-IDF", "GRU")]
    for index, (task, model) in enumerate(sides):
        rows = [chosen(records, task, name, model) for name in names]
        gains = np.array([row["gain"] for row in rows])
        ends = np.abs(np.array([row["gain_95"] for row in rows]).T - gains)
        heights = np.arange(len(names)) + 0.18 * (index - 1.5)
        style: Record = look(index) | {"linestyle": "none"}
        axes.errorbar(gains, heights, xerr=ends, label=f"{task}, {model}", **style)
    axes.axvline(0, color="0.45", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="difference in accuracy to plain words (points)")
    axes.set_title("Held-out sentences; bars: 95 % intervals", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def draw_stems(axes: Axes, stems: list[Record]) -> None:
    """What each stemmer splits and merges, beside the lemmas, with its speed."""
    rows = [record for record in stems if "split" in record]
    places = np.arange(len(rows))
    for index, kind in enumerate(("split", "merged")):
        heights = [100 * record[kind] for record in rows]
        axes.bar(places + 0.4 * index, heights, 0.38, color=look(index)["color"], label=kind)
    labels = [f"{row['algorithm']}\n{row['words_per_second'] / 1000:.0f}" for row in rows]
    lemma = next(record for record in stems if record["algorithm"] == "lemmas")
    axes.set_xticks(places + 0.2, labels)
    speed = lemma["words_per_second"] / 1000
    axes.set(
        xlabel=f"thousand different words per second (lemmas: {speed:.0f})",
        ylabel="pairs of words (%)",
    )
    axes.set_title("Stems against lemmas", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def draw_errors(axes: Axes, records: list[Record]) -> None:
    """The accuracy for sentiment on misspelled sentences."""
    for index, (way, model) in enumerate(
        (way, model) for way in (PLAIN, SUBWORDS) for model in ("TF-IDF", "GRU")
    ):
        scores = chosen(records, "sentiment", way, model)["misspelled"]
        xs, ys = [100 * float(share) for share in scores], [100 * y for y in scores.values()]
        axes.plot(xs, ys, label=f"{way}, {model}", **look(index))
    axes.set(xlabel="long words with two letters exchanged (%)", ylabel="accuracy (%)")
    axes.set_title("Sentiment of misspelled sentences", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    grid_lines(axes)


def run(quick: bool) -> Record:
    """Scores all ways of processing on both tasks."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = snippets.generated(1200) if quick else snippets.snippets()
    records: list[Record] = []
    with rnnlab.startup.kept_programs():
        for name, task in tasks(data, plan).items():
            records += scored(name, task, plan)
    differences(records)
    sentences = pydoc_data.topics.topics.values() if quick else data.texts
    words = set(text.words(text.lower_case("\n".join(sentences))))
    stems = stem_errors(sorted(word for word in words if word.isalpha()))
    for record in records:
        del record["_correct"]
    return {
        "finding": finding(records, stems),
        "data": "generated" if quick else "vaderSentiment 0.5, hutto_ICWSM_2014",
        "plan": plan._asdict(),
        "network": size(plan)._asdict(),
        "records": records,
        "stems": stems,
    }


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
