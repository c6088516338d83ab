"""Dates in words to ISO 8601: the networks and their rivals on dates not learned from."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from experiments.common import Record
from experiments.translation import dates, rivals
from experiments.translation.network import Trained, as_batch, attention, train, write
from experiments.translation.plan import ATTENTION, DATEUTIL, REGRESSION, RULE, VECTOR, Plan
from experiments.translation.scores import exact
from rnnlab.text import build_vocabulary

STRENGTH = 3.0
"""C of the logistic regression."""
Readers = dict[str, Callable[[Sequence[str]], list[list[str]]]]
"""What reads texts, by name; it gives a list of texts for each seed."""


def measure_dates(plan: Plan) -> tuple[list[Record], Record]:
    """Exact matches on dates that were not learned from, and the attention to one of them."""
    formats = dates.styles()
    training, _, test = dates.days(plan.days)
    records, drawn = [], {}
    for together in plan.together:
        seen = dates.texts(training, formats[dates.SEEN], together)
        tests = {name: dates.texts(test, styles, together) for name, styles in formats.items()}
        ways = baselines_of_dates(seen) if together == 1 else {}
        source = build_vocabulary(map(dates.tokens, seen.texts))
        target = build_vocabulary(map(list, seen.iso))

        def encode(texts: Sequence[str], source=source) -> list[np.ndarray]:
            return [source.encode(dates.tokens(text)) for text in texts]

        goals = [target.encode(list(text), eos=True) for text in seen.iso]
        examples = as_batch(encode(seen.texts), goals)
        for name, kind in ((ATTENTION, "dot"), (VECTOR, None)):
            network = train(examples, len(source), target, kind, plan.dates, plan.seeds)
            ways[name] = partial(dates_by_network, network, encode, together)
            if name == ATTENTION and together == 1:
                longest = max(tests[dates.SEEN].texts, key=lambda text: len(dates.tokens(text)))
                iso = tests[dates.SEEN].iso[tests[dates.SEEN].texts.index(longest)]
                weights = attention(network, encode([longest])[0], target.encode(list(iso)))
                drawn = {"source": dates.tokens(longest), "target": list(iso), "weights": weights}
        every = [text for tested in tests.values() for text in tested.texts]
        for way, read in ways.items():
            # All formats are read together, so that a network is compiled once.
            found = np.array(read(every)).reshape(-1, len(tests), len(every) // len(tests))
            for place, (name, tested) in enumerate(tests.items()):
                right = [exact(of_seed[place].tolist(), tested.iso) for of_seed in found]
                records.append({"dates": together, "formats": name, "way": way, "exact": right})
                print(together, name, way, right, flush=True)
    return records, drawn


def baselines_of_dates(training: dates.Dated) -> Readers:
    """What reads one date without a network."""
    by_digit = rivals.by_digit(training, STRENGTH)
    return {
        REGRESSION: lambda texts: [by_digit(texts)],
        DATEUTIL: lambda texts: [[rivals.by_dateutil(text) for text in texts]],
        RULE: lambda texts: [[dates.by_rule(text) or "" for text in texts]],
    }


def dates_by_network(
    network: Trained,
    encode: Callable[[Sequence[str]], list[np.ndarray]],
    together: int,
    texts: Sequence[str],
) -> list[list[str]]:
    """What each network writes, the likeliest character at each step."""
    found = write(network, encode(texts), 11 * together, 1)
    return [["".join(network.target.decode(codes)) for codes in of_seed] for of_seed in found]
