"""Writes torch_vectors.npz, the reference data of small PyTorch modules in float64.

The data are weights, inputs, outputs and gradients.

Run it with PyTorch installed: ``python tests/reference/make_torch_vectors.py``. The tests read the
file without it, and where PyTorch is installed they call :func:`record` for many more modules.

Every array is stored as "case/group/name". Groups: ``weights`` is the state_dict, ``gradients`` has
the same names; ``inputs`` holds x ``[T, B, I]``, h_0 and for an LSTM c_0 ``[layers · directions, B,
H]``; ``input_gradients`` has the same names; ``outputs`` holds y, h_n and for an LSTM c_n. What is
differentiated is the sum of all outputs, element k of each weighted with cos k.
"""

from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).with_name("torch_vectors.npz")
INPUTS, HIDDEN = 3, 5
BOTH_WAYS = {"num_layers": 2, "bidirectional": True}
CASES = {  # module, its options, T, B
    "rnn-tanh": (torch.nn.RNN, {}, 4, 2),
    "rnn-relu-2-layers-both-ways": (torch.nn.RNN, {"nonlinearity": "relu", **BOTH_WAYS}, 4, 2),
    "lstm-both-ways-no-bias": (torch.nn.LSTM, {"bidirectional": True, "bias": False}, 4, 2),
    "lstm-3-layers": (torch.nn.LSTM, {"num_layers": 3}, 5, 3),
    "gru-2-layers-both-ways": (torch.nn.GRU, BOTH_WAYS, 4, 2),
    "gru-one-step-one-example": (torch.nn.GRU, {}, 1, 1),
}


def record(module: torch.nn.Module, steps: int, batch: int) -> dict[str, dict[str, np.ndarray]]:
    """The groups of arrays of one module, on inputs and initial states drawn by PyTorch."""
    lstm = isinstance(module, torch.nn.LSTM)
    dtype = module.weight_ih_l0.dtype
    number = module.num_layers * (1 + module.bidirectional)
    inputs = {"x": torch.randn(steps, batch, module.input_size, dtype=dtype)}
    sizes = {"h_0": module.proj_size or module.hidden_size}
    if lstm:
        sizes["c_0"] = module.hidden_size
    for name, size in sizes.items():
        inputs[name] = torch.randn(number, batch, size, dtype=dtype)
    for value in inputs.values():
        value.requires_grad_()

    y, final = module(inputs["x"], (inputs["h_0"], inputs["c_0"]) if lstm else inputs["h_0"])
    outputs = {"y": y, "h_n": final[0], "c_n": final[1]} if lstm else {"y": y, "h_n": final}
    sum(
        (out.ravel() * torch.cos(torch.arange(out.numel(), dtype=dtype))).sum()
        for out in outputs.values()
    ).backward()

    groups = {
        "weights": module.state_dict(),
        "gradients": {name: weight.grad for name, weight in module.named_parameters()},
        "inputs": inputs,
        "input_gradients": {name: value.grad for name, value in inputs.items()},
        "outputs": outputs,
    }
    return {
        group: {name: value.detach().numpy() for name, value in held.items()}
        for group, held in groups.items()
    }


def main() -> None:
    """Records every case and writes the file."""
    arrays = {}
    for seed, (case, (make, options, steps, batch)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        groups = record(make(INPUTS, HIDDEN, dtype=torch.float64, **options), steps, batch)
        arrays |= {
            f"{case}/{group}/{name}": value
            for group, held in groups.items()
            for name, value in held.items()
        }
    np.savez_compressed(FILE, **arrays)
    print(f"wrote {FILE}, {FILE.stat().st_size} bytes, with PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
