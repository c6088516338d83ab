"""English messages to German: the network and its rivals on messages not learned from."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from experiments.common import Record
from experiments.translation import catalogues, rivals
from experiments.translation.network import as_batch, attention, losses, train, write
from experiments.translation.plan import COPY, DICTIONARY, MEMORY, NETWORK, Plan
from experiments.translation.scores import scored
from rnnlab.text import train_subwords


def measure_messages(data: catalogues.Parts, plan: Plan) -> tuple[list[Record], Record]:
    """The scores on messages that were not learned from, and the attention to one of them."""
    test = data.test
    records = [
        {"way": COPY} | listed([scored(test.english, test.german)]),
        best(MEMORY, data, {"edits": rivals.memory_by_edits, "cosine": rivals.memory_by_cosine}),
        best(
            DICTIONARY, data, {f"{n} rounds": partial(rivals.dictionary, rounds=n) for n in (3, 10)}
        ),
    ]
    subwords = train_subwords([*data.training.english, *data.training.german], plan.pieces)
    vocabulary = subwords.vocabulary
    end = vocabulary.encode([], eos=True)

    def encoded(pairs: catalogues.Pairs) -> list[tuple[np.ndarray, np.ndarray]]:
        goals = [np.append(subwords.encode(text), end) for text in pairs.german]
        return list(zip(map(subwords.encode, pairs.english), goals, strict=True))

    learned = [pair for pair in encoded(data.training) if max(map(len, pair)) <= plan.longest]
    sources, goals = zip(*learned, strict=True)
    examples = as_batch(sources, goals)
    network = train(examples, len(vocabulary), vocabulary, "dot", plan.messages, plan.seeds)
    sources, goals = zip(*encoded(test), strict=True)
    found = write(network, sources, max(map(len, goals)), plan.beams)
    said = [[subwords.decode(np.array(codes, int)) for codes in of_seed] for of_seed in found]
    record = {"way": NETWORK} | listed([scored(texts, test.german) for texts in said])
    record |= {"loss": losses(network, as_batch(sources, goals))}
    record |= {"training_loss": losses(network, examples), "learned": len(learned)}
    records.append(record)
    for row in records:
        print(row, flush=True)
    place = shown(said[0], test)
    drawn = {
        "source": [readable(token) for token in vocabulary.decode(sources[place])],
        "target": [readable(token) for token in vocabulary.decode(goals[place])],
        "weights": attention(network, sources[place], goals[place]),
        "said": said[0][place],
        "english": test.english[place],
    }
    examples_of = [
        {"english": english, "german": german, "network": written}
        for english, german, written in list(zip(*test, said[0], strict=True))[::40]
    ]
    return records, {"drawn": drawn, "examples": examples_of}


def best(
    way: str,
    data: catalogues.Parts,
    makers: dict[str, Callable[[catalogues.Pairs], rivals.Translate]],
) -> Record:
    """The test scores of the rival with the best chrF on validation."""
    made = {name: make(data.training) for name, make in makers.items()}
    held_out = data.validation

    def score(name: str) -> float:
        return scored(made[name](held_out.english), held_out.german)["chrf"]

    chosen = max(made, key=score)
    scores = listed([scored(made[chosen](data.test.english), data.test.german)])
    return {"way": way, "kind": chosen} | scores


def listed(rows: list[Record]) -> Record:
    """Records of one seed each as one of lists."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def shown(said: Sequence[str], test: catalogues.Pairs) -> int:
    """The longest message of at most five words that is right; the first where none is."""
    places = [
        place
        for place, (text, goal) in enumerate(zip(said, test.german, strict=True))
        if text == goal and len(catalogues.words(goal)) <= 5
    ]
    return max(places, key=lambda place: len(test.german[place]), default=0)


def readable(token: str) -> str:
    """A subword with its bytes as letters and a mark in place of a space."""
    text = token.replace("Ġ", "_").encode("latin-1", "replace").decode("utf-8", "replace")
    return "end" if token == "<eos>" else text
