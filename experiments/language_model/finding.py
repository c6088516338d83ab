"""The findings on language models in sentences, computed from the records."""

from collections.abc import Sequence

from experiments.common import Record
from experiments.language_model.writing import HUMAN, WAYS
from rnnlab.studies.records import column, select


def spread(values: Sequence[float], digits: int) -> str:
    """The mean and the range."""
    mean, low, high = (
        f"{value:.{digits}f}" for value in (sum(values) / len(values), min(values), max(values))
    )
    return f"{mean} ({low} to {high})"


def finding(kinds: dict[str, Record], written: list[Record]) -> str:
    """Perplexity, bits per character, what the ways of writing do, and the horizons."""
    return " ".join(
        [_perplexity(kinds["words"]), _bits(kinds), _written(written), _horizons(kinds)]
    )


def _perplexity(words: Record) -> str:
    baseline = words["ngram"]["perplexity"]
    alone = column(words["seeds"], "perplexity")
    mixed = column(words["seeds"], "mixed_perplexity")
    less = [100 * (1 - value / baseline) for value in mixed]
    return (
        f"Perplexity per word of held-out articles: LSTM {spread(alone, 1)}, best n-gram model "
        f"(order {words['order']}) {baseline:.1f}, their mixture {spread(mixed, 1)}, "
        f"{spread(less, 1)} % below the n-gram model."
    )


def _bits(kinds: dict[str, Record]) -> str:
    parts = []
    for kind, record in kinds.items():
        alone = column(record["seeds"], "bits_per_character")
        mixed = column(record["seeds"], "mixed_bits_per_character")
        parts.append(
            f"{kind}: LSTM {spread(alone, 3)}, n-gram model (order {record['order']}) "
            f"{record['ngram']['bits_per_character']:.3f}, mixture {spread(mixed, 3)}"
        )
    sizes = " and ".join(f"{record['parameters']}" for record in kinds.values())
    return (
        "In bits per character, with unknown words spelled: "
        f"{'; '.join(parts)}; the LSTMs have {sizes} parameters."
    )


def _written(records: list[Record]) -> str:
    parts = []
    for way in WAYS:
        rows = select(records, way=way)
        repeated = [100 * value for value in column(rows, "repeated_4grams")]
        perplexity = column(rows, "perplexity")
        if way == HUMAN:
            parts.append(f"people {repeated[0]:.1f} % and {spread(perplexity, 1)}")
        else:
            parts.append(f"{way} {spread(repeated, 1)} % and {spread(perplexity, 1)}")
    return (
        "Share of 4-grams that a text repeats, and its perplexity under an LSTM of another seed: "
        f"{'; '.join(parts)}."
    )


def _horizons(kinds: dict[str, Record]) -> str:
    parts = []
    for kind, record in kinds.items():
        before, after = record["reach"]["horizon_before"], record["reach"]["horizon_after"]
        parts.append(f"{spread(after, 0)} {kind}, before it within {spread(before, 0)}")
    return f"After training the gradient falls below 1/1000 within {'; '.join(parts)}."
