"""The finding, computed from the records."""

import numpy as np

from experiments.common import Record, spread

NGRAM, NGRAM_REPEATS = "n-gram", "n-gram and repeats"
GRU, GRU_REPEATS = "GRU", "GRU and repeats"
NAMES = (NGRAM, NGRAM_REPEATS, GRU, GRU_REPEATS)


def values(records: list[Record], name: str, key: str) -> np.ndarray:
    """A score of each seed."""
    return np.array([record[key] for record in records if record["name"] == name])


def finding(records: list[Record], written: list[Record], lags: int) -> str:
    """Scores, what repeats and context are worth, the gradient, and the tunes that are written."""
    cost = {name: values(records, name, "bits_per_note") for name in NAMES}
    right = {name: 100 * values(records, name, "accuracy") for name in NAMES}
    margins = {name: cost[name][0] - cost[GRU] for name in (NGRAM, NGRAM_REPEATS)}
    joint = cost[NGRAM_REPEATS][0] - cost[GRU_REPEATS]
    networks = [record for record in records if record["name"] == GRU]
    contexts = {
        name: np.mean([record["contexts"][name] for record in networks])
        for name in networks[0]["contexts"]
    }
    saved = {
        name: values(records, name, "bits_new") - values(records, name, "bits_again")
        for name in NAMES
    }
    bars = {record["by"]: record for record in written}
    texts = [
        (
            f"On held-out tunes a GRU needs {spread(cost[GRU], '.2f')} bits per note, "
            f"{_margin(margins[NGRAM])} the {cost[NGRAM][0]:.2f} of the best n-gram model and "
            f"{_margin(margins[NGRAM_REPEATS])} the {cost[NGRAM_REPEATS][0]:.2f} of that model "
            "with a guess from the last repeat in the same tune."
        ),
        (
            f"With the same guess the GRU needs {spread(cost[GRU_REPEATS], '.2f')}, "
            f"{_margin(joint)} the n-gram model with it."
        ),
        "The next note is right in "
        + ", ".join(f"{spread(right[name], '.1f')} % ({name})" for name in NAMES)
        + ".",
        "Where a passage returns a note costs fewer bits than the first time: "
        + ", ".join(f"{spread(saved[name], '.2f')} ({name})" for name in NAMES)
        + ".",
        "The GRU's bits of a note by how many tokens it reads: "
        + ", ".join(f"{value:.2f} ({name})" for name, value in contexts.items())
        + ".",
        (
            f"Its gradient {_reach(networks, 'horizon', lags)}, before training it "
            f"{_reach(networks, 'horizon_untrained', lags)}."
        ),
        "Bars that are complete, and bars that repeat an earlier one: "
        + ", ".join(
            f"{100 * row['complete_bars']:.0f} % and {100 * row['repeated_bars']:.0f} % ({name})"
            for name, row in bars.items()
        )
        + ".",
    ]
    return " ".join(texts).replace("-0.", "−0.")


def _margin(margins: np.ndarray) -> str:
    """How far below or above a baseline a network is, over the seeds."""
    if (margins > 0).all():
        return f"{spread(margins, '.2f')} below"
    if (margins < 0).all():
        return f"{spread(-margins, '.2f')} above"
    return f"{spread(margins, '.2f')} below (negative: above)"


def _reach(networks: list[Record], key: str, lags: int) -> str:
    """The horizons of all seeds."""
    low, high = min(row[key] for row in networks), max(row[key] for row in networks)
    if low == lags:
        return f"is still above 1/1000 after {low} tokens"
    return f"is below 1/1000 after {low if low == high else f'{low} to {high}'} tokens"
