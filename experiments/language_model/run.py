"""Language models of words and of characters, against n-gram models, and what they write.

    python -m experiments.language_model.run

The text is the Wikipedia that gensim ships with its tests, of which whole articles are held out. An
LSTM on the most frequent words and one on characters, with as many parameters, are compared in one
unit, bits per character: the unknown words of the first are spelled by a model of characters. Then
the word LSTM goes on with held-out text by argmax, beam search, temperature, top-k and nucleus
sampling, and the texts are measured.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnnlab
from experiments.common import Record, experiment
from experiments.language_model import prose, scoring, writing
from experiments.language_model.figure import draw
from experiments.language_model.finding import finding
from experiments.language_model.prose import Parts
from experiments.language_model.scoring import Chosen, Codes
from rnnlab.data import streams
from rnnlab.models import LanguageModel, language_model
from rnnlab.text import UNK, Vocabulary, build_vocabulary
from rnnlab.training import Validation, cross_entropy, fit, truncated_loss
from rnnlab.typing import Array, PyTree

WORDS, CHARACTERS = "words", "characters"


class Network(NamedTuple):
    """The size and the training of an LSTM.

    Attributes:
        hidden: H.
        embedding: E; None for H, with tied weights.
        batch: B streams of text.
        length: steps of a window, after which the gradient is cut off.
        updates: of Adam.
        rate: the first learning rate, which decays to zero.
    """

    hidden: int
    embedding: int | None
    batch: int
    length: int
    updates: int
    rate: float


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        least: tokens of an article, or it is left out.
        vocabulary: V, the most frequent words of the training articles, "<unk>" among them.
        words, characters: the two networks.
        word_orders, character_orders: of the n-gram models, of which validation chooses.
        seeds: of initial weights and of the places where streams begin.
        validations: during the training, whose best parameters are kept.
        prompts: places of the test at which the text goes on.
        read: words of a prompt.
        written: words of a continuation.
        lags: steps over which the gradient is followed.
    """

    least: int = 1000
    vocabulary: int = 2000
    words: Network = Network(64, None, 16, 32, 1200, 2e-2)
    characters: Network = Network(180, 32, 16, 64, 600, 1e-2)
    word_orders: tuple[int, ...] = (2, 3, 4, 5)
    character_orders: tuple[int, ...] = (4, 5, 6, 7, 8)
    seeds: int = 3
    validations: int = 2
    prompts: int = 12
    read: int = 20
    written: int = 100
    lags: int = 128


QUICK = Plan(
    vocabulary=120,
    words=Network(8, None, 4, 8, 16, 1e-2),
    characters=Network(8, 4, 4, 8, 16, 1e-2),
    word_orders=(2,),
    character_orders=(3,),
    seeds=1,
    validations=1,
    prompts=2,
    read=4,
    written=8,
    lags=8,
)


class Trained(NamedTuple):
    """A model with its parameters before and after training, one for each seed."""

    model: LanguageModel
    before: list[PyTree]
    after: list[PyTree]


class Kind(NamedTuple):
    """The text in one unit, and the models that read it.

    Attributes:
        network: the size of the LSTM.
        codes: of each part.
        symbols: how many there are.
        orders: of the n-gram models.
        spelling: bits that the test costs beside those of its symbols.
        characters: of the targets of the test.
    """

    network: Network
    codes: Codes
    symbols: int
    orders: tuple[int, ...]
    spelling: float
    characters: int


def kinds_of(parts: Parts, vocabulary: Vocabulary, plan: Plan) -> dict[str, Kind]:
    """The text as words, of which the unknown ones are spelled, and as characters."""
    words, letters = [
        Codes(*map(encode, parts[:3])) for encode in (vocabulary.encode, prose.characters)
    ]
    spell = scoring.speller(vocabulary, parts.training, parts.validation, plan.character_orders)
    count = len(letters.test)
    # The first word and the first character are not targets.
    first = len(parts.test[0]) + 1
    return {
        WORDS: Kind(
            plan.words, words, len(vocabulary), plan.word_orders, spell(parts.test), count - first
        ),
        CHARACTERS: Kind(
            plan.characters, letters, len(prose.ALPHABET), plan.character_orders, 0.0, count - 1
        ),
    }


def model_of(network: Network, symbols: int) -> LanguageModel:
    """An LSTM on codes; without a size of its own the embedding is the readout too."""
    cell = rnnlab.LSTM(network.hidden)
    tied = network.embedding is None
    return language_model(cell, symbols, embedding_size=network.embedding, tied=tied)


def trained(network: Network, codes: Codes, symbols: int, plan: Plan) -> tuple[Trained, Record]:
    """The networks of all seeds, with states carried from window to window, and their costs."""
    model = model_of(network, symbols)
    loss = truncated_loss(model, network.length)
    carry = model.initial_state(network.batch)
    held_out = streams(codes.validation, network.batch, network.length)
    validation = Validation(held_out, every=network.updates // plan.validations, carry=carry)
    optimiser = optax.adam(optax.cosine_decay_schedule(network.rate, network.updates))
    found, costs = Trained(model, [], []), []
    for seed in range(plan.seeds):
        data = streams(codes.training, network.batch, network.length, seed=seed)
        start = model.init(jax.random.key(seed), data[0])
        started = time.process_time()
        run = fit(
            model, data, optimiser, steps=network.updates, seed=seed, params=start, loss=loss,
            carry=carry, clip=1.0, validation=validation, progress=False,
        )  # fmt: skip
        costs.append(round(time.process_time() - started, 1))
        found.before.append(start)
        found.after.append(run.best_params)
        print(f"{symbols} symbols, seed {seed}: best at {run.best_step}, {costs[-1]} s", flush=True)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(found.after[0]))
    passes = network.updates * network.batch * network.length / len(codes.training)
    return found, {"parameters": parameters, "passes": round(passes, 2), "cpu_seconds": costs}


def scores(networks: Trained, kind: Kind, baseline: Chosen) -> list[Record]:
    """Bits of the test under the network of each seed, alone and mixed with the n-gram model."""
    records = []
    for seed, params in enumerate(networks.after):
        known = scoring.target_bits(networks.model, params, kind.codes.validation)
        share = scoring.best_share(known, baseline.validation)
        alone = scoring.target_bits(networks.model, params, kind.codes.test)
        mixture = scoring.mixed(alone, baseline.test, share)
        records.append(
            {"seed": seed, "network_share": share}
            | scored(alone, kind.spelling, kind.characters)
            | scored(mixture, kind.spelling, kind.characters, "mixed_")
        )
    return records


def scored(bits: np.ndarray, spelling: float, characters: int, prefix: str = "") -> Record:
    """The perplexity of a symbol, and bits per character with the spelling."""
    return {
        f"{prefix}perplexity": round(float(2 ** bits.mean()), 3),
        f"{prefix}bits_per_character": round((float(bits.sum()) + spelling) / characters, 4),
    }


def reach(networks: Trained, codes: np.ndarray, lags: int) -> Record:
    """How far back the gradient of the last prediction of held-out passages reaches."""
    model, passages = networks.model, 16
    starts = np.linspace(0, len(codes) - lags - 1, passages).astype(int)
    spans = jnp.asarray(codes[starts + np.arange(lags + 1)[:, None]])

    @jax.jit
    def flow(params: Any) -> tuple[Array, Array]:
        def loss(ys: Array) -> Array:
            return cross_entropy(model.logits(params, ys[-1]), spans[-1])

        xs = model.embedding(params.embedding, spans[:-1])
        found = rnnlab.gradient_flow(model.cell, params.cell, xs, loss)
        return found.horizon, found.log_norm_by_lag

    before = [int(flow(params)[0]) for params in networks.before]
    after = [flow(params) for params in networks.after]
    decay = np.asarray(after[0][1])
    return {
        "horizon_before": before,
        "horizon_after": [int(horizon) for horizon, _ in after],
        "log_norm_by_lag": np.round(decay - decay[0], 3).tolist(),
    }


def written(
    networks: Trained, vocabulary: Vocabulary, test: Sequence[str], codes: np.ndarray, plan: Plan
) -> tuple[list[Record], Record]:
    """Measures of each way and seed, and the beginning of one continuation by each way."""
    unknown = int(vocabulary.encode([UNK])[0])
    allowed = jnp.arange(len(vocabulary)) != unknown
    places = writing.prompts(codes, plan.prompts, plan.read, plan.written)
    people = [list(test[start : start + plan.written]) for start in places.starts]
    records, shown = [], {"prompt": test[places.starts[0] - plan.read : places.starts[0]]}
    for seed, params in enumerate(networks.after):
        other = networks.after[(seed + 1) % len(networks.after)]
        perplexity = writing.judge(networks.model, other, places, unknown)
        found = writing.continuations(networks.model, params, places, allowed, seed)
        for way, continued in found.items():
            texts = [vocabulary.decode(column) for column in continued.T]
            texts = people if way == writing.HUMAN else texts
            record = {"perplexity": perplexity(continued)} | writing.variety(texts)
            rounded = {name: round(value, 4) for name, value in record.items()}
            records.append({"way": way, "seed": seed} | rounded)
            print(records[-1], flush=True)
            if seed == 0:
                shown[way] = texts[0]
    return records, {name: " ".join(words[:40]) for name, words in shown.items()}


def about(parts: Parts, kinds: dict[str, Kind]) -> Record:
    """Sizes of the parts, unknown words, and how much of the test the training text has too."""
    words, letters = [kinds[name].codes for name in (WORDS, CHARACTERS)]
    unknown = [np.count_nonzero(part == 0) for part in words]
    return {
        "articles": parts.articles,
        "tokens": [len(part) for part in parts[:3]],
        "characters": [len(part) for part in letters],
        "unknown": [
            round(count / len(part), 4) for count, part in zip(unknown, parts, strict=False)
        ],
        "seen_8grams": round(prose.seen_share(parts.training, parts.test), 5),
        "bits_of_an_unknown_word": round(kinds[WORDS].spelling / max(unknown[2], 1), 2),
    }


def measured(kind: Kind, plan: Plan) -> tuple[Trained, Record]:
    """The networks of a kind, and how they compare with n-grams."""
    baseline = scoring.best_ngram(kind.codes, kind.orders, kind.symbols)
    networks, record = trained(kind.network, kind.codes, kind.symbols, plan)
    record |= {
        "order": baseline.model.order,
        "ngram": scored(baseline.test, kind.spelling, kind.characters),
        "seeds": scores(networks, kind, baseline),
        "reach": reach(networks, kind.codes.test, plan.lags),
    }
    print(record["ngram"], record["seeds"], flush=True)
    return networks, record


def run(quick: bool) -> Record:
    """Trains, scores, measures the gradient, and writes."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    articles = prose.python_topics() if quick else prose.wikipedia(plan.least)
    parts = prose.split(articles)
    vocabulary = build_vocabulary([parts.training], max_size=plan.vocabulary, special=[UNK])
    kinds = kinds_of(parts, vocabulary, plan)
    with rnnlab.startup.kept_programs():
        networks, words = measured(kinds[WORDS], plan)
        _, characters = measured(kinds[CHARACTERS], plan)
        texts, samples = written(networks, vocabulary, parts.test, kinds[WORDS].codes.test, plan)
    models = {WORDS: words, CHARACTERS: characters}
    return {
        "finding": finding(models, texts),
        "data": "the topics of pydoc" if quick else f"gensim, {prose.TEXT}",
        "settings": plan._asdict(),
        "text": about(parts, kinds),
        "models": models,
        "written": texts,
        "samples": samples,
    }


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
