"""Recurrent networks beside what does without one: which task favours which model?

    python -m experiments.alternatives.run

Seven networks and a linear autoregression of at most 4000 parameters, a hidden Markov model of 32
states and a linear dynamical system of two are compared on three tasks whose best loss is known
exactly: bits to be stored, a noisy linear oscillator, and a lag beyond the window of 16 inputs.
"""

import math
from pathlib import Path

import numpy as np

import rnnlab
from experiments.alternatives import latent
from experiments.alternatives.costs import costs, growth
from experiments.alternatives.drawing import figure
from experiments.alternatives.noise import by_noise
from experiments.alternatives.problems import BITS, WINDOW, Oscillator, bits_task, tasks
from experiments.alternatives.training import (
    NETWORKS,
    RATES,
    carried,
    linear_model,
    model_of,
    sized,
    trained,
)
from experiments.common import Record, experiment
from rnnlab.tasks import CopyMemory, Task

FULL: Record = {
    "seeds": 3,
    "networks": ("AR", *NETWORKS),
    "measured": ("RNN", "LSTM", "GRU", "Transformer"),
    "budget": 4000,
    "updates": {"bits": 800, "oscillator": 1000, "long lag": 1200},
    "hmm_iterations": 60,
    "hmm_sequences": 256,
    "em_iterations": 60,
    "em_sequences": 16,
    "states": (1, 2, 4, 8, 16, 32, 64),
    "units": (2, 4, 8, 16),
    "noise": (0.1, 0.3, 1.0, 3.0),
    "noise_updates": 600,
    "lengths": (32, 128, 512, 2048),
}
QUICK: Record = FULL | {
    "seeds": 1,
    "networks": ("RNN",),
    "measured": ("RNN",),
    "budget": 300,
    "updates": {"bits": 3, "oscillator": 3, "long lag": 3},
    "hmm_iterations": 3,
    "hmm_sequences": 16,
    "em_iterations": 3,
    "em_sequences": 2,
    "states": (1, 4),
    "units": (2,),
    "noise": (0.3,),
    "noise_updates": 2,
    "lengths": (8, 16),
}


def run(quick: bool) -> Record:
    """All models on all tasks, and what they keep and cost."""
    size = QUICK if quick else FULL
    results = {}
    for name, task in tasks(quick).items():
        rows = network_rows(name, task, size) + latent_rows(task, size)
        results[name] = {
            "baseline": task.baseline(),
            "floor": task.floor(),
            "steps": task.steps,
            "lag": task.lag,
            "rows": rows,
        }
        show(name, results[name])
    results["oscillator"]["window_floor"] = Oscillator().window_floor(WINDOW)
    bits = 3 if quick else BITS
    result = {
        "tasks": results,
        "bits": bits,
        "states": state_rows(bits, size),
        "units": unit_rows(bits, size),
        "noise": by_noise(size["noise"], size["seeds"], size["noise_updates"], size),
        "costs": costs(size["measured"], size["lengths"]),
        "settings": size | {"window": WINDOW, "rates": RATES, "hmm_states": latent.STATES},
        "seeds": list(range(size["seeds"])),
    }
    return {"finding": finding(result)} | result


def network_rows(name: str, task: Task, size: Record) -> list[Record]:
    """Every network on a task."""
    models = {}
    for network in size["networks"]:
        if network == "AR":
            models[network] = linear_model(task)
        else:
            models[network] = sized(task, NETWORKS[network], size["budget"])
    rows = []
    for network, model in models.items():
        record = trained(task, model, RATES[name], size["updates"][name], size["seeds"])
        units = getattr(model.cell, "hidden_size", None)
        rows.append({"model": network, "units": units, "carried": carried(model, task.steps)})
        rows[-1] |= record
    return rows


def latent_rows(task: Task, size: Record) -> list[Record]:
    """The models with a hidden state that are fitted by EM, where they apply to the task."""
    iterations, sequences = size["hmm_iterations"], size["hmm_sequences"]
    em_size = size["em_iterations"], size["em_sequences"]
    fits: dict[str, list[Record]] = {"HMM": [], "LDS": []}
    for seed in range(size["seeds"]):
        if isinstance(task, Oscillator):
            fits["HMM"].append(latent.hmm_on_oscillator(task, seed, iterations, sequences))
            fits["LDS"].append(latent.lds_on_oscillator(task, seed, *em_size))
        elif isinstance(task, CopyMemory):
            fits["HMM"].append(latent.hmm_on_bits(task, seed, 5 * iterations))
        else:
            fits["HMM"].append(latent.hmm_on_order(task, seed, iterations, sequences))
    rows = []
    for name, records in fits.items():
        if not records:
            continue
        rows.append(
            {
                "model": name,
                "units": latent.STATES if name == "HMM" else 2,
                "carried": latent.STATES - 1 if name == "HMM" else 2,
                "parameters": latent.free_parameters(records[0]["model"]),
                "losses": [record["loss"] for record in records],
                "seconds_per_fit": float(np.mean([record["seconds"] for record in records])),
            }
        )
    return rows


def state_rows(bits: int, size: Record) -> list[Record]:
    """The nats of a word of n bits that hidden Markov models of N states keep."""
    rows = []
    for states in size["states"]:
        kept = [latent.words_kept(states, bits, seed) for seed in range(size["seeds"])]
        fitted = [fit for fit, _ in kept]
        row = {"states": states, "bound": math.log(states), "fitted": fitted, "built": kept[0][1]}
        rows.append(row)
        print(f"{states:4} states: at most {row['bound']:.2f} nats, fitted {max(fitted):.2f}")
    return rows


def unit_rows(bits: int, size: Record) -> list[Record]:
    """The nats of n bits that an RNN of H units keeps."""
    task = bits_task(bits)
    rows = []
    for units in size["units"]:
        model = model_of(task, NETWORKS["RNN"](units))
        record = trained(task, model, RATES["bits"], 3 * size["updates"]["bits"], size["seeds"])
        kept = [(task.baseline() - loss) * task.steps for loss in record["losses"]]
        rows.append({"units": units, "kept": kept, **record})
        print(f"{units:4} units: {min(kept):.2f} to {max(kept):.2f} nats")
    return rows


def show(name: str, result: Record) -> None:
    """Prints the results on one task."""
    print(f"{name}: baseline {result['baseline']:.4f}, floor {result['floor']:.4f}")
    for row in result["rows"]:
        losses = " ".join(f"{loss:8.4f}" for loss in row["losses"])
        cost = row.get("seconds_per_update", row.get("seconds_per_fit"))
        print(f"{row['model']:12}{row['parameters']:7} parameters, {cost:8.2g} s  {losses}")


def finding(result: Record) -> str:
    """What the numbers say."""
    return " ".join([bits_sentence(result), oscillator_sentence(result), lag_sentence(result)])


def bits_sentence(result: Record) -> str:
    """What N states keep, and how many units an RNN needs."""
    bits, rows = result["bits"], result["states"]
    full = bits * math.log(2)
    most = rows[-1]
    exact = max(abs(row["built"] - row["bound"]) for row in rows)
    is_bound = all(max(row["fitted"]) <= row["bound"] + 1e-9 for row in rows)
    text = (
        f"Of {bits} bits ({full:.2f} nats) HMMs of N states keep at most ln N when built by hand "
        f"(to within {exact:.0e}) and {'never more' if is_bound else 'more'} when fitted, "
        f"{max(most['fitted']):.2f} at N = {most['states']}; "
    )
    enough = [row for row in result["units"] if min(row["kept"]) > 0.98 * full]
    if enough:
        return text + (
            f"an RNN of {enough[0]['units']} units ({enough[0]['parameters']} parameters) keeps "
            f"{min(enough[0]['kept']):.2f}."
        )
    best = max(result["units"], key=lambda row: min(row["kept"]))
    return text + f"the best RNN, of {best['units']} units, keeps {min(best['kept']):.2f}."


def oscillator_sentence(result: Record) -> str:
    """How far each model is from the Kalman filter."""
    task = result["tasks"]["oscillator"]
    excess = {row["model"]: np.mean(row["losses"]) / task["floor"] - 1 for row in task["rows"]}
    order = sorted(excess, key=lambda name: excess[name])
    listed = ", ".join(f"{name} {100 * excess[name]:.1f} %" for name in order)
    return (
        f"On the oscillator the losses exceed the exact optimum {task['floor']:.3f} by: {listed}."
    )


def lag_sentence(result: Record) -> str:
    """Which models bridge the lag, and how the cost of attention grows."""
    task = result["tasks"]["long lag"]
    bridged = {row["model"]: shares(task, row) for row in task["rows"]}
    yes = [name for name, share in bridged.items() if min(share) > 0.9]
    no = [name for name, share in bridged.items() if max(share) < 0.1]
    other = [name for name in bridged if name not in yes + no]
    text = f"A lag of up to {task['lag']} steps is bridged by {listing(yes)}"
    text += f", in part or by some seeds by {listing(other)}" if other else ""
    text += f", and not by {listing(no)}" if no else ""
    rows = result["costs"]
    if len(result["settings"]["measured"]) < 4:
        return text + "."
    longest = rows[-1]["length"]
    attention = growth(rows, "Transformer", "bytes")
    recurrence = growth(rows, "LSTM", "bytes")
    return text + (
        f"; at {longest} steps the memory of a gradient grows as T^{attention:.1f} for the "
        f"Transformer and as T^{recurrence:.1f} for the LSTM."
    )


def shares(task: Record, row: Record) -> list[float]:
    """The share of the gap between baseline and floor that each seed closes."""
    gap = task["baseline"] - task["floor"]
    return [(task["baseline"] - loss) / gap for loss in row["losses"]]


def listing(names: list[str]) -> str:
    """Names with commas; "none" for no names."""
    return ", ".join(names) if names else "none"


def draw(result: Record, path: Path) -> None:
    """Losses on the three tasks, what is kept, predictability by noise, and costs by length."""
    figure(result, path)


def main() -> None:
    """Runs the experiment."""
    # Compiling takes longer than training here.
    rnnlab.quick_start()
    experiment(__file__, __doc__, run, draw)


if __name__ == "__main__":
    main()
