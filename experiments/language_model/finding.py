"""The findings on language models in sentences, computed from the records."""

from experiments.common import Record, spread
from experiments.language_model.writing import HUMAN, WAYS
from rnnlab.studies.records import column, select


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
        f"Perplexity per word of held-out articles: LSTM {spread(alone, '.1f')}, best n-gram model "
        f"(order {words['order']}) {baseline:.1f}, their mixture {spread(mixed, '.1f')}, "
        f"{spread(less, '.1f')} % below the n-gram model."
    )


def _bits(kinds: dict[str, Record]) -> str:
    parts = []
    for kind, record in kinds.items():
        alone = column(record["seeds"], "bits_per_character")
        mixed = column(record["seeds"], "mixed_bits_per_character")
        parts.append(
            f"{kind}: LSTM {spread(alone, '.3f')}, n-gram model (order {record['order']}) "
            f"{record['ngram']['bits_per_character']:.3f}, mixture {spread(mixed, '.3f')}"
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
            parts.append(f"people {repeated[0]:.1f} % and {spread(perplexity, '.1f')}")
        else:
            parts.append(f"{way} {spread(repeated, '.1f')} % and {spread(perplexity, '.1f')}")
    return (
        "Share of 4-grams that a text repeats, and its perplexity under an LSTM of another seed: "
        f"{'; '.join(parts)}."
    )


def _horizons(kinds: dict[str, Record]) -> str:
    parts = []
    for kind, record in kinds.items():
        before, after = record["reach"]["horizon_before"], record["reach"]["horizon_after"]
        parts.append(f"{spread(after, '.0f')} {kind}, before it within {spread(before, '.0f')}")
    return f"After training the gradient falls below 1/1000 within {'; '.join(parts)}."
