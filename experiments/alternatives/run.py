"""Recurrent networks beside what does without one: which task favours which model?

    python -m experiments.alternatives.run

Networks of at most 4000 parameters, a linear autoregression, a hidden Markov model of 32 states and
a linear dynamical system of two are compared on three tasks whose best loss is known exactly: bits
to be stored, a noisy linear oscillator, and a lag beyond the window of 16 inputs.
"""

import math

import numpy as np

import rnnlab
from experiments.alternatives import fitted, noise
from experiments.alternatives.costs import costs
from experiments.alternatives.drawing import figure
from experiments.alternatives.problems import BITS, WINDOW, Oscillator, bits_task, tasks
from experiments.alternatives.sentences import finding
from experiments.alternatives.training import (
    NETWORKS,
    RATES,
    carried,
    chrono_networks,
    linear_model,
    model_of,
    sized,
    trained,
)
from experiments.common import Record, experiment
from rnnlab.tasks import CopyMemory, Task

LEVELS = (0.1, 3.0)
"""The least and the most noise of the exact lines."""
FULL: Record = {
    "seeds": 3,
    "networks": tuple(NETWORKS),
    "measured": ("RNN", "LSTM", "GRU", "Transformer"),
    "budget": 4000,
    "updates": {"bits": 800, "oscillator": 1000, "long lag": 1200},
    "hmm_iterations": 60,
    "hmm_sequences": 256,
    "em_iterations": 60,
    "em_sequences": 64,
    "ar_sequences": 2000,
    "states": (1, 2, 4, 8, 16, 32, 64),
    "units": (2, 4, 8, 16),
    "noise": (0.1, 0.3, 1.0, 3.0),
    "noise_updates": 600,
    "lengths": (32, 128, 512, 2048),
}
QUICK: Record = FULL | {
    "seeds": 1,
    "networks": (),
    "measured": ("RNN",),
    "budget": 300,
    "updates": {"bits": 3, "oscillator": 3, "long lag": 3},
    "hmm_iterations": 3,
    "hmm_sequences": 16,
    "em_iterations": 3,
    "em_sequences": 2,
    "ar_sequences": 20,
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
        rows = network_rows(name, task, size) + rows_of_fits(task, size)
        results[name] = {
            "baseline": task.baseline(),
            "floor": task.floor(),
            "steps": task.steps,
            "lag": task.lag,
            "rows": rows,
        }
        show(name, results[name])
    oscillator = Oscillator()
    results["oscillator"] |= {
        "window_floor": oscillator.window_floor(WINDOW),
        "filter": [
            fitted.filter_loss(oscillator.system(), oscillator, seed)
            for seed in range(size["seeds"])
        ],
    }
    bits = 3 if quick else BITS
    result = {
        "tasks": results,
        "bits": bits,
        "states": state_rows(bits, size),
        "units": unit_rows(bits, size),
        "noise": {
            "exact": noise.exact(tuple(np.geomspace(*LEVELS, 25).tolist())),
            "fitted": noise.fitted(size["noise"], size),
        },
        "costs": costs(size["measured"], size["lengths"]),
        "settings": size | {"window": WINDOW, "rates": RATES, "hmm_states": fitted.STATES},
        "seeds": list(range(size["seeds"])),
    }
    return {"finding": finding(result)} | result


def network_rows(name: str, task: Task, size: Record) -> list[Record]:
    """Every network that is trained on a task."""
    models = {}
    if not isinstance(task, Oscillator):
        models["AR"] = linear_model(task)
    makes = {network: NETWORKS[network] for network in size["networks"]}
    if name == "long lag" and makes:
        makes |= chrono_networks(task.lag)
    for network, make in makes.items():
        models[network] = sized(task, make, size["budget"])
    rows = []
    for network, model in models.items():
        record = trained(task, model, RATES[name], size["updates"][name], size["seeds"])
        units = getattr(model.cell, "hidden_size", None)
        row = {"model": network, "units": units, "carried": carried(model, task.steps)}
        rows.append(row | record)
    return rows


def rows_of_fits(task: Task, size: Record) -> list[Record]:
    """The models that are fitted by EM or by least squares, where they apply to the task."""
    iterations, sequences = size["hmm_iterations"], size["hmm_sequences"]
    em_size = size["em_iterations"], size["em_sequences"]
    fits: dict[str, list[Record]] = {"AR": [], "HMM": [], "LDS": []}
    for seed in range(size["seeds"]):
        if isinstance(task, Oscillator):
            fits["AR"].append(fitted.ar_on_oscillator(task, seed, size["ar_sequences"]))
            fits["HMM"].append(fitted.hmm_on_oscillator(task, seed, iterations, sequences))
            fits["LDS"].append(fitted.lds_on_oscillator(task, seed, *em_size))
        elif isinstance(task, CopyMemory):
            fits["HMM"].append(fitted.hmm_on_bits(task, seed, 5 * iterations))
        else:
            fits["HMM"].append(fitted.hmm_on_order(task, seed, iterations, sequences))
    carried_by = {"AR": WINDOW - 1, "HMM": fitted.STATES - 1, "LDS": 2}
    rows = []
    for name, records in fits.items():
        if not records:
            continue
        rows.append(
            {
                "model": name,
                "units": {"HMM": fitted.STATES, "LDS": 2}.get(name),
                "carried": carried_by[name],
                "parameters": fitted.free_parameters(records[0]["model"]),
                "losses": [record["loss"] for record in records],
                "seconds_per_fit": min(record["seconds"] for record in records),
            }
        )
    return rows


def state_rows(bits: int, size: Record) -> list[Record]:
    """The nats of a word of n bits that hidden Markov models of N states keep."""
    rows = []
    for states in size["states"]:
        row = {
            "states": states,
            "bound": math.log(states),
            "fitted": [fitted.kept_by_fitted(states, bits, seed) for seed in range(size["seeds"])],
            "built": fitted.kept_by_built(states, bits),
        }
        rows.append(row)
        print(
            f"{states:4} states: at most {row['bound']:.2f} nats, fitted {max(row['fitted']):.2f}"
        )
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


def main() -> None:
    """Runs the experiment."""
    # Compiling takes longer than training here.
    rnnlab.quick_start()
    experiment(__file__, __doc__, run, figure)


if __name__ == "__main__":
    main()
