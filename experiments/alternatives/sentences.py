"""What the numbers of the experiment say, in sentences."""

import math

import numpy as np

from experiments.alternatives.costs import growth
from experiments.common import Record


def finding(result: Record) -> str:
    """All that was found."""
    sentences = [bits_sentence, oscillator_sentence, noise_sentence, lag_sentence, cost_sentence]
    return f"{headline(result)}. " + " ".join(sentence(result) for sentence in sentences)


def bits_sentence(result: Record) -> str:
    """What N states keep, and how many units an RNN needs."""
    bits, rows = result["bits"], result["states"]
    full = bits * math.log(2)
    most = rows[-1]
    exact = max(abs(row["built"] - row["bound"]) for row in rows)
    text = (
        f"Of {bits} bits ({full:.2f} nats) hidden Markov models of N states keep ln N when built "
        f"by hand (to within {exact:.0e}); those fitted keep at most "
        f"{max(most['fitted']):.2f} at N = {most['states']}; "
    )
    enough = fewest_units(result)
    if enough is not None:
        return text + (
            f"an RNN of {enough['units']} units ({enough['parameters']} parameters) keeps at least "
            f"{min(enough['kept']):.2f} with every seed."
        )
    best = max(result["units"], key=lambda row: min(row["kept"]))
    return text + (
        f"no RNN keeps 98 % of them with every seed, that of {best['units']} units at least "
        f"{min(best['kept']):.2f}."
    )


def fewest_units(result: Record) -> Record | None:
    """The smallest RNN that keeps at least 98 % of the bits with every seed."""
    full = result["bits"] * math.log(2)
    for row in result["units"]:
        if min(row["kept"]) > 0.98 * full:
            return row
    return None


def excesses(task: Record) -> dict[str, list[float]]:
    """By how much each loss exceeds that of the exact filter on the same sequences, a share."""
    shares = {}
    for row in task["rows"]:
        pairs = zip(row["losses"], task["filter"], strict=True)
        shares[row["model"]] = [loss / best - 1 for loss, best in pairs]
    return dict(sorted(shares.items(), key=lambda entry: np.mean(entry[1])))


def oscillator_sentence(result: Record) -> str:
    """How far each model is from the Kalman filter."""
    task = result["tasks"]["oscillator"]
    listed = []
    for name, shares in excesses(task).items():
        listed.append(f"{name} {100 * np.mean(shares):.1f}")
    return (
        f"On the oscillator the optimum is {task['floor']:.3f}, and losses exceed that of the "
        f"exact Kalman filter by, in per cent: {', '.join(listed)}."
    )


def noise_sentence(result: Record) -> str:
    """How the predicted share of the variance depends on the noise."""
    exact, fitted = result["noise"]["exact"], result["noise"]["fitted"]
    shares = [row["filter"] for row in exact]
    gaps = [abs(row["filter"] - share) for row in fitted for share in row["GRU"]]
    return (
        f"With the noise of the measurement from {exact[0]['noise']:g} to {exact[-1]['noise']:g} "
        f"the predictable share of the variance falls from {shares[0]:.2f} to {shares[-1]:.2f}; "
        f"a GRU comes within {max(gaps):.3f} of it."
    )


def lag_sentence(result: Record) -> str:
    """Which models bridge the lag."""
    task = result["tasks"]["long lag"]
    bridged = {row["model"]: closed(task, row) for row in task["rows"]}
    yes = [name for name, share in bridged.items() if min(share) > 0.9]
    no = [name for name, share in bridged.items() if max(share) < 0.1]
    other = [name for name in bridged if name not in yes + no]
    text = f"A lag of up to {task['lag']} steps is bridged by {listing(yes)}"
    text += f"; by some seeds or in part by {listing(other)}" if other else ""
    return text + (f"; not by {listing(no)}." if no else ".")


def closed(task: Record, row: Record) -> list[float]:
    """The share of the gap between baseline and floor that each seed closes."""
    gap = task["baseline"] - task["floor"]
    return [(task["baseline"] - loss) / gap for loss in row["losses"]]


def listing(names: list[str]) -> str:
    """Names with commas; "no model" for no names."""
    if len(names) < 2:
        return names[0] if names else "no model"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def cost_sentence(result: Record) -> str:
    """How the memory of a gradient grows with the length."""
    rows = result["costs"]
    names = dict.fromkeys(row["model"] for row in rows)
    parts = [f"T^{growth(rows, name, 'bytes'):.1f} for the {name}" for name in names]
    lengths = sorted({row["length"] for row in rows})[-2:]
    return (
        f"Between {lengths[0]} and {lengths[1]} steps the memory of a gradient grows as "
        f"{listing(parts)}."
    )


def headline(result: Record) -> str:
    """The title of the figure."""
    enough = fewest_units(result)
    best = next(iter(excesses(result["tasks"]["oscillator"])))
    task = result["tasks"]["long lag"]
    yes = [row["model"] for row in task["rows"] if min(closed(task, row)) > 0.9]
    learned = (
        "no RNN keeps them" if enough is None else f"an RNN of {enough['units']} units keeps them"
    )
    return (
        f"{result['bits']} bits need {2 ** result['bits']} states of an HMM, and {learned}; "
        f"nearest to the Kalman filter: {best}; the long lag is bridged by {listing(yes)}"
    )
