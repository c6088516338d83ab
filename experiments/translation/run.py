"""Translation by an encoder–decoder: dates in words to ISO 8601, English messages to German.

python -m experiments.translation.run    # needs the package django; --quick does not
"""

from collections.abc import Sequence

import numpy as np

import rnnlab
from experiments.common import Record, experiment, spread
from experiments.translation import catalogues, dates
from experiments.translation.figure import draw
from experiments.translation.on_dates import STRENGTH, measure_dates
from experiments.translation.on_messages import measure_messages
from experiments.translation.plan import (
    ATTENTION,
    DATEUTIL,
    DICTIONARY,
    MEMORY,
    NETWORK,
    QUICK,
    REGRESSION,
    RULE,
    VECTOR,
    Plan,
)
from rnnlab.studies.records import select


def margin(values: Sequence[float], others: Sequence[float]) -> str:
    """A gain in points, mean and range."""
    return spread(100 * (np.array(values) - np.array(others)), "+.1f")


def finding(of_dates: list[Record], of_messages: list[Record], counts: Record) -> str:
    """The margins on the baselines, and all scores."""

    def share(way: str, formats: str, together: int = 1) -> list[float]:
        (row,) = select(of_dates, way=way, formats=formats, dates=together)
        return row["exact"]

    network = share(ATTENTION, dates.SEEN)
    rows = {row["way"]: row for row in of_messages}
    more = ""
    for together in sorted({row["dates"] for row in of_dates} - {1}):
        pair = [spread(share(way, dates.SEEN, together)) for way in (ATTENTION, VECTOR)]
        more += f" Texts with {together} dates: {pair[0]} with attention, {pair[1]} without."
    ways = (ATTENTION, VECTOR, REGRESSION, DATEUTIL, RULE)
    others = [
        f"{name}: " + ", ".join(f"{way} {spread(share(way, name))}" for way in ways)
        for name in (dates.COMBINED, dates.REORDERED)
    ]
    scores = "; ".join(
        f"{way} {spread(row['bleu'])}, {spread(row['chrf'])}, {spread(row['exact'])}"
        for way, row in rows.items()
    )
    gains = " and ".join(
        f"{margin(rows[NETWORK]['bleu'], rows[way]['bleu'])} points of BLEU and "
        f"{margin(rows[NETWORK]['chrf'], rows[way]['chrf'])} of chrF on the {way}"
        for way in (MEMORY, DICTIONARY)
    )
    return (
        f"Unseen dates in words become ISO dates exactly in {spread(network)} with attention, "
        f"{margin(network, share(REGRESSION, dates.SEEN))} points on logistic regression "
        f"({spread(share(REGRESSION, dates.SEEN))}), and in {spread(share(VECTOR, dates.SEEN))} "
        f"without; English messages, of which {counts['training']} pairs are known, become German "
        f"with a BLEU of {spread(rows[NETWORK]['bleu'])} (translation memory "
        f"{spread(rows[MEMORY]['bleu'])}, dictionary {spread(rows[DICTIONARY]['bleu'])}). "
        f"On the dates dateutil is right in {spread(share(DATEUTIL, dates.SEEN))} and a rule that "
        f"knows the words in {spread(share(RULE, dates.SEEN))}.{more} In formats that were not "
        f"learned from, {'; '.join(others)}. BLEU, chrF and exact matches of messages: {scores}. "
        f"The network gains {gains}."
    )


def run(quick: bool) -> Record:
    """Dates and messages, by networks and by their rivals."""
    rnnlab.quick_start()
    plan = QUICK if quick else Plan()
    paths = {} if quick else catalogues.folders()
    data = catalogues.parts(catalogues.invented() if quick else catalogues.read(paths), plan.shares)
    with rnnlab.startup.kept_programs():
        of_dates, date = measure_dates(plan)
        of_messages, about = measure_messages(data, plan)
    names = catalogues.Parts._fields
    counts = {name: len(part.english) for name, part in zip(names, data, strict=True)}
    settings = plan._asdict()
    settings |= {"dates": plan.dates._asdict(), "messages": plan.messages._asdict()}
    return {
        "finding": finding(of_dates, of_messages, counts),
        "settings": settings | {"regression": STRENGTH},
        "catalogues": catalogues.versions(paths),
        "pairs": counts,
        "dates": of_dates,
        "messages": of_messages,
        "examples": about["examples"],
        "_date": date,
        "_message": about["drawn"],
    }


def main() -> None:
    """Runs the experiment."""
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
