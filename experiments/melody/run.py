"""Folk tunes, note by note: GRUs against n-grams, with and without a look at what repeats.

python -m experiments.melody.run
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from experiments.common import Record, experiment
from experiments.melody import baselines, continuation, network
from experiments.melody.baselines import Repeats
from experiments.melody.data import Codes, Parts, coded, folk_tunes, runs, split, targets
from experiments.melody.figure import draw
from experiments.melody.findings import GRU, GRU_REPEATS, NGRAM, NGRAM_REPEATS, finding
from experiments.melody.grammar import invented_tunes
from rnnlab.models import language_model, sample

TRUE = "held-out tunes"
TOP_P = 0.9
NEW, AGAIN = 4, 8
"""A passage is new where fewer than 4 tokens are as before, and returns where at least 8 are."""


class Plan(NamedTuple):
    """The size of the experiment.

    Attributes:
        invented: tunes of the grammar; 0 for those of music21.
        share: of the families, for validation, and for the test.
        tokens: V, of which one stands for all that are rare.
        orders: of the n-gram models.
        hidden: H.
        embedding: E.
        steps: T, the tokens of a window.
        batch: B.
        updates: of each network.
        rate: the first learning rate of Adam, which decays to zero.
        seeds: of the networks; the tunes are the same.
        contexts: how many tokens are left of the context.
        lags: over how many tokens the gradient is followed.
        longest: tokens of a tune that is written.
        bars: of a held-out tune that is continued.
    """

    invented: int = 0
    share: float = 0.1
    tokens: int = 231
    orders: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    hidden: int = 96
    embedding: int = 32
    steps: int = 128
    batch: int = 8
    updates: int = 2400
    rate: float = 1.5e-2
    seeds: int = 3
    contexts: tuple[int, ...] = (1, 4, 16, 64)
    lags: int = 128
    longest: int = 250
    bars: int = 4


QUICK = Plan(60, 0.1, 60, (1, 3), 8, 8, 32, 4, 32, 1e-2, 1, (4, 16), 32, 60, 4)


class Held(NamedTuple):
    """Tunes that nothing was learned from, and what is known of each target."""

    tunes: list[np.ndarray]
    targets: np.ndarray
    repeats: Repeats

    @property
    def rows(self) -> np.ndarray:
        """The place of each target, ``[N]``."""
        return np.arange(len(self.targets))


def held(tunes: list[np.ndarray]) -> Held:
    """Tunes with their targets and repeats."""
    return Held(tunes, targets(tunes), baselines.repeats(tunes))


def bits(probabilities: np.ndarray, data: Held) -> np.ndarray:
    """−log₂ P of each target, ``[N]``."""
    return -np.log2(probabilities[data.rows, data.targets])


def scores(name: str, chances: np.ndarray, data: Held, codes: Codes) -> Record:
    """Bits per note and accuracy, and what a passage costs where it is new and where it returns."""
    cost = bits(chances, data)
    notes = codes.is_note[data.targets]
    found = data.repeats
    again = (found.lengths >= AGAIN) & (found.lengths[found.earlier] < NEW)
    record = {
        "name": name,
        # Bar lines and ends are part of a tune's cost, which is divided by its notes.
        "bits_per_note": round(float(cost.sum() / notes.sum()), 4),
        "accuracy": round(float(np.mean((chances.argmax(axis=1) == data.targets)[notes])), 4),
        "bits_new": round(float(cost[found.earlier[again]].mean()), 4),
        "bits_again": round(float(cost[again].mean()), 4),
    }
    print(f"{name:22}{record['bits_per_note']:.3f} bits per note, {record['accuracy']:.1%}")
    return record


def with_repeats(validation: np.ndarray, test: np.ndarray, known: Held, data: Held) -> np.ndarray:
    """Distributions of the test with a guess from the repeated passage, weighted on validation."""
    likelihoods = validation[known.rows, known.targets]
    right = known.repeats.guesses == known.targets
    weights = baselines.fit_weights(likelihoods, right, known.repeats)
    return baselines.with_repeats(test, data.repeats, weights)


def measure_ngram(codes: Codes, known: Held, data: Held, plan: Plan) -> tuple[list[Record], Any]:
    """The scores of the n-gram model, alone and with repeats; and the model."""
    training = np.concatenate(codes.training)
    model = baselines.best_ngram(training, known.tunes, plan.orders, len(codes.tokens))
    before, after = [baselines.distributions(model, part.tunes) for part in (known, data)]
    mixed = with_repeats(before, after, known, data)
    return [scores(NGRAM, after, data, codes), scores(NGRAM_REPEATS, mixed, data, codes)], model


def measure_network(
    model: Any, params: Any, codes: Codes, known: Held, data: Held, plan: Plan
) -> list[Record]:
    """The scores of one network, alone and with repeats, and how far back it reads."""
    before, after = [network.distributions(model, params, part.tunes) for part in (known, data)]
    untrained = model.init(jax.random.key(0), rnnlab.data.Batch(data.tunes[0][:, None], None))
    record = scores(GRU, after, data, codes) | {
        "contexts": context_bits(model, params, after, data, codes, plan),
        "horizon": network.horizon(model, params, data.tunes, plan.lags),
        "horizon_untrained": network.horizon(model, untrained, data.tunes, plan.lags),
    }
    mixed = with_repeats(before, after, known, data)
    return [record, scores(GRU_REPEATS, mixed, data, codes)]


def context_bits(
    model: Any, params: Any, full: np.ndarray, data: Held, codes: Codes, plan: Plan
) -> Record:
    """Bits of a note where only the last tokens are read, at notes that have enough before them."""
    longest = max(plan.contexts)
    windows, rows = [], []
    first = 0
    for tune in data.tunes:
        # Every fourth place is enough.
        for place in range(longest, len(tune), 4):
            if codes.is_note[tune[place]]:
                windows.append(tune[place - longest : place])
                rows.append(first + place - 1)
        first += len(tune) - 1
    window, wanted = np.stack(windows, axis=1), data.targets[rows]
    costs = {"all": float(bits(full, data)[rows].mean())}
    for context in plan.contexts:
        chances = network.from_context(model, params, window[longest - context :])
        costs[str(context)] = float(-np.log2(chances[np.arange(len(rows)), wanted]).mean())
    return {name: round(cost, 4) for name, cost in costs.items()}


def written(model: Any, params: Any, ngrams: Any, codes: Codes, plan: Plan) -> list[Record]:
    """What the bars of tunes are like that the models write, beside those of the test."""
    starts = np.array([tune[0] for tune in codes.test], np.int32)
    tunes = {
        TRUE: [continuation.ended(codes, tune.tolist()) for tune in codes.test],
        NGRAM: [
            continuation.ended(codes, tune)
            for tune in continuation.ngram_tunes(ngrams, codes, starts[:100], plan.longest)
        ],
    }
    for name, options in {GRU: {}, f"GRU, nucleus {TOP_P}": {"top_p": TOP_P}}.items():
        drawn = sample(
            model, params, jnp.asarray(starts[None]), plan.longest, key=jax.random.key(0),
            allowed=jnp.asarray(continuation.allowed(codes)), **options,
        )  # fmt: skip
        joined = np.concatenate([starts[None], drawn])
        tunes[name] = [continuation.ended(codes, tune) for tune in joined.T.tolist()]
    return [{"by": name} | continuation.shares(group) for name, group in tunes.items()]


def continued(model: Any, params: Any, data: Parts, codes: Codes, plan: Plan) -> Record:
    """The first test tune with enough bars, and how a network goes on after the first of them."""
    for tune, tune_codes in zip(data.test, codes.test, strict=True):
        if len(continuation.bars(tune.tokens)) >= 4 * plan.bars and 0 not in tune_codes:
            break
    else:
        raise ValueError("no held-out tune is long enough to be continued")
    size = continuation.opening(tune.tokens, plan.bars)
    prompt = tune_codes[:size, None]
    drawn = sample(
        model, params, jnp.asarray(prompt), plan.longest, key=jax.random.key(0), top_p=TOP_P,
        allowed=jnp.asarray(continuation.allowed(codes)),
    )  # fmt: skip
    whole = np.concatenate([prompt, drawn])[:, 0].tolist()
    return {
        "title": tune.title,
        "opening": size,
        "true": continuation.ended(codes, tune_codes.tolist()),
        "continued": continuation.ended(codes, whole),
    }


def overlap(data: Parts) -> float:
    """The share of the runs of notes in the test that occur in training too."""
    seen = set().union(*[runs(tune) for tune in data.training])
    own = [runs(tune) for tune in data.test]
    return round(sum(len(part & seen) for part in own) / sum(map(len, own)), 3)


def run(quick: bool) -> Record:
    """Scores of all ways on held-out tunes, and what the networks read and write."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    data = split(invented_tunes(plan.invented) if plan.invented else folk_tunes(), plan.share)
    codes = coded(data, plan.tokens)
    known, test = held(codes.validation), held(codes.test)
    records, ngrams = measure_ngram(codes, known, test, plan)
    size = len(codes.tokens)
    model = language_model(rnnlab.GRU(plan.hidden), size, embedding_size=plan.embedding)
    with rnnlab.startup.kept_programs():
        params = network.train(
            model, codes.training, batch=plan.batch, steps=plan.steps, updates=plan.updates,
            rate=plan.rate, seeds=plan.seeds,
        )  # fmt: skip
        for seed in range(plan.seeds):
            chosen = network.one(params, seed)
            rows = measure_network(model, chosen, codes, known, test, plan)
            records += [row | {"seed": seed} for row in rows]
        first = network.one(params, 0)
        tunes = written(model, first, ngrams, codes, plan)
        example = continued(model, first, data, codes, plan)
    return {
        "finding": finding(records, tunes, plan.lags),
        "settings": plan._asdict(),
        "tunes": {name: len(part) for name, part in data._asdict().items()},
        "notes_of_the_test": int(codes.is_note[test.targets].sum()),
        "runs_shared_with_training": overlap(data),
        "ngram_order": ngrams.order,
        "records": records,
        "written": tunes,
        "_example": example,
    }


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
