"""Weights from and to PyTorch's recurrent modules."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnnlab.cells import GRU, LSTM, RNN, GRUParams, LSTMParams, Readout, RNNParams
from rnnlab.cells.base import Activation
from rnnlab.cells.base import activation as named
from rnnlab.interop._shared import blank, one_dtype, own_params, plain
from rnnlab.layers import (
    Bidirectional,
    BidirectionalParams,
    Stack,
    StackParams,
    bidirectional,
    stack,
)
from rnnlab.typing import Cell, PyTree

_KINDS = {1: (RNN, RNNParams), 3: (GRU, GRUParams), 4: (LSTM, LSTMParams)}  # by the number of gates
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<name>(?:weight|bias)_(?:ih|hh|hr))(?P<tag>_l\d+(?:_reverse)?)?"
)


def from_torch(
    source: Any, *, prefix: str = "", activation: Activation | None = None
) -> tuple[Cell, PyTree]:
    """A cell and its parameters from a PyTorch RNN, LSTM or GRU.

    PyTorch writes  a = W_ih x + b_ih + W_hh h + b_hh  with W ``[gates · H, I]``; here w_x = W_ihᵀ, w_h = W_hhᵀ,
    b = b_ih and c = b_hh, with the gates in the same order (i, f, g, o and r, z, n).

    Kind, sizes, layers, directions and biases are read off names and shapes: one layer gives the bare cell, two
    directions :func:`rnnlab.bidirectional`, more layers :func:`rnnlab.stack`. A prefix common to all names ("rnn.") and
    the names of ``nn.LSTMCell`` and its like are understood. Where b_hh is zero throughout (for a GRU: in its r and z
    rows) the cell has one bias, as rnnlab's cells have by default; elsewhere it is made with ``recurrent_bias=True``.

    Weights do not tell how they were drawn, nor a dropout: ``forget_bias`` and the initialisers are the defaults, and
    so is the dropout, unless a module is given. ``param_dtype`` is the dtype of the weights.

    Args:
        source: a module; its ``state_dict()``, or numpy or JAX arrays under the same names; or the path of a
            safetensors file of them (needs the package ``safetensors``).
        prefix: where the recurrent module is in a whole model, such as ``"encoder.rnn."``: names that do not begin
            with it are left out.
        activation: φ of an RNN, "tanh" or "relu" (PyTorch's ``nonlinearity``, which is not among the weights); that
            of the module, else "tanh", by default.

    Returns:
        The cell, and its parameters.

    Raises:
        ValueError: for names or shapes that are no recurrent module's, ``proj_size``, mixed dtypes, float64 while
            ``jax_enable_x64`` is off, an activation that PyTorch does not have, or a file that cannot be read.
    """
    state_dict, module = _opened(source, prefix)
    phi: Activation = getattr(module, "nonlinearity", "tanh") if activation is None else activation
    arrays = _arrays(state_dict)
    param_dtype = one_dtype("state_dict", arrays)
    rows, size = _matrix(arrays, "weight_hh_l0")
    _, inputs = _matrix(arrays, "weight_ih_l0")
    gates = rows // size
    if gates not in _KINDS or rows != gates * size:
        raise ValueError(
            f"weight_hh_l0 has shape {(rows, size)}; an RNN has [H, H], a GRU [3H, H] and an LSTM [4H, H]"
        )
    kind, named_params = _KINDS[gates]
    layers = 1 + max(int(re.findall(r"\d+", name)[0]) for name in arrays)
    tags = _tags(layers, 2 if "weight_hh_l0_reverse" in arrays else 1)
    _check_shapes(arrays, _shapes(tags, gates, inputs, size, "bias_ih_l0" in arrays))

    options: dict[str, Any] = {"param_dtype": param_dtype, "bias": "bias_ih_l0" in arrays}
    if kind is RNN:
        options["activation"] = _torch_activation(phi)
    elif named(phi) != "tanh":
        raise ValueError(
            f"activation is for an RNN, but the weights are those of a {kind.__name__}; leave it out"
        )

    def part(tag: str) -> tuple[Cell, PyTree]:
        w_x, w_h = jnp.array(arrays["weight_ih" + tag].T), jnp.array(arrays["weight_hh" + tag].T)
        if not options["bias"]:
            return kind(size, **options), named_params(w_x, w_h)
        c = arrays["bias_hh" + tag]
        cut = (
            c.size - size if kind is GRU else c.size
        )  # where the bias that the default cell has too begins
        twice = not blank(c[:cut])
        c = c if twice else c[cut:]
        params = named_params(
            w_x, w_h, jnp.array(arrays["bias_ih" + tag]), jnp.array(c) if c.size else None
        )
        return kind(size, recurrent_bias=twice, **options), params

    made = [_both(*map(part, row)) for row in tags]
    if layers == 1:
        return made[0]
    dropout = getattr(module, "dropout", 0.0)
    cell = stack([cell for cell, _ in made], dropout=dropout)
    return cell, StackParams(tuple(params for _, params in made))


def _opened(source: Any, prefix: str) -> tuple[Mapping[str, Any], Any]:
    """The recurrent module's weights by name, and the module itself where one is given."""
    module = None
    if isinstance(source, str | Path):
        weights = _read_safetensors(Path(source))
    elif hasattr(source, "state_dict"):
        module = source
        for name in filter(None, prefix.split(".")):
            module = getattr(module, name, None)
        weights = source.state_dict()
    else:
        weights = source
    if not isinstance(weights, Mapping) or not prefix:
        return weights, module
    own = {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }
    if not own:
        found = _recurrent_prefixes(weights)
        advice = (
            f"use one of {', '.join(map(repr, found))}" if found else "it holds no recurrent module"
        )
        raise ValueError(f"no weights begin with the prefix {prefix!r}; {advice}")
    return own, module


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise ValueError(
            "a safetensors file is read by the package safetensors, which is not installed; "
            "run pip install safetensors"
        ) from None
    try:
        return load_file(path)
    except (OSError, SafetensorError) as fault:
        raise ValueError(
            f"{path} cannot be read as a safetensors file ({fault}); give one that safetensors wrote"
        ) from None


def _recurrent_prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of the recurrent modules among the names of a whole model."""
    matches = [_NAME.fullmatch(name) for name in names]
    return sorted({match["prefix"] for match in matches if match})


def to_torch(cell: Cell, params: PyTree) -> dict[str, Any]:
    """The ``state_dict`` of the PyTorch module that computes the same: the inverse of :func:`from_torch`, bit for bit.

    ``module.load_state_dict(to_torch(cell, params))`` fills an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` of the same sizes;
    for ``nn.LSTMCell`` and its like take "_l0" off the names. PyTorch has two biases or none: the second is zero
    where the cell has only one. A stack of one layer comes back as the bare cell. Dropout and the computation's
    ``dtype`` are no weights, and stay behind.

    Raises:
        ValueError: for what PyTorch's modules cannot express (each message says the mend): other cells, layers unlike
            one another, residual connections, readouts; for parameters that are not the cell's; without PyTorch.
    """
    arrays = to_arrays(cell, params)
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            "to_torch makes tensors, but PyTorch is not installed; run pip install torch"
        ) from None
    if next(iter(arrays.values())).dtype != jnp.bfloat16:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    # numpy has no bfloat16 that PyTorch knows; float32 holds every one of its values
    return {
        name: torch.from_numpy(array.astype(np.float32)).bfloat16()
        for name, array in arrays.items()
    }


def to_arrays(cell: Cell, params: PyTree) -> dict[str, np.ndarray]:
    """What :func:`to_torch` returns, as numpy arrays of their own; needs no PyTorch."""
    _expressible(cell)
    own_params(cell, params)
    arrays = {}
    layers = _parts(params)
    for tags, row in zip(_tags(len(layers), len(layers[0])), layers, strict=True):
        for tag, p in zip(tags, row, strict=True):
            arrays["weight_ih" + tag] = np.array(p.w_x.T, order="C")
            arrays["weight_hh" + tag] = np.array(p.w_h.T, order="C")
            if p.b is not None:
                c = p.b[:0] if p.c is None else p.c
                arrays["bias_ih" + tag] = np.array(p.b)
                arrays["bias_hh" + tag] = np.pad(c, (p.b.size - c.size, 0))
    one_dtype("params", arrays)
    return arrays


def _arrays(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Numpy arrays under the names of ``nn.LSTM``, whatever prefix they had, and also if they were a single cell's."""
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise ValueError(
            f"state_dict is {type(state_dict).__name__}, not names and arrays; give module.state_dict()"
        )
    matches = {key: _NAME.fullmatch(key) for key in state_dict}
    for key, match in matches.items():
        if match is None:
            raise ValueError(
                f"state_dict has {key!r}, which is no recurrent layer's; {_whole_model(state_dict)}"
            )
        if match["name"] == "weight_hr":
            raise ValueError(
                f"state_dict has {key!r}, a projection; give an LSTM made without proj_size"
            )
    prefixes = _recurrent_prefixes(state_dict)
    if len(prefixes) > 1:
        raise ValueError(f"state_dict holds the modules {prefixes}; {_whole_model(state_dict)}")
    return {
        match["name"] + (match["tag"] or "_l0"): _numpy(state_dict[key])
        for key, match in matches.items()
        if match
    }


def _whole_model(names: Iterable[str]) -> str:
    """What to do with the weights of a whole model."""
    found = [prefix for prefix in _recurrent_prefixes(names) if prefix]
    if not found:
        return "give the recurrent module's own"
    return f"give prefix={' or '.join(map(repr, found))}"


def _numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            return value.float().numpy().astype(jnp.bfloat16)
        return value.numpy()
    return np.asarray(value)


def _matrix(arrays: Mapping[str, np.ndarray], name: str) -> tuple[int, int]:
    shape = arrays[name].shape if name in arrays else ()
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"state_dict has no matrix {name}; give the whole state_dict() of an RNN, an LSTM or a GRU"
        )
    return shape


def _tags(layers: int, directions: int) -> list[tuple[str, ...]]:
    """How PyTorch ends the names of each layer's directions."""
    return [
        tuple(f"_l{layer}{turned}" for turned in ("", "_reverse")[:directions])
        for layer in range(layers)
    ]


def _shapes(
    tags: list[tuple[str, ...]], gates: int, inputs: int, size: int, bias: bool
) -> dict[str, tuple[int, ...]]:
    """Every name and shape of the module."""
    shapes: dict[str, tuple[int, ...]] = {}
    for row in tags:
        for tag in row:
            shapes |= {
                "weight_ih" + tag: (gates * size, inputs),
                "weight_hh" + tag: (gates * size, size),
            }
            if bias:
                shapes |= {"bias_ih" + tag: (gates * size,), "bias_hh" + tag: (gates * size,)}
        inputs = size * len(row)
    return shapes


def _check_shapes(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name in sorted(arrays.keys() ^ shapes.keys()):
        fault = "lacks" if name in shapes else "has a stray"
        raise ValueError(
            f"state_dict {fault} {name}; every layer and direction has the same names, so give them all"
        )
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name} has shape {arrays[name].shape}, but {shape} is needed; give one module's weights"
            )


def _torch_activation(value: Activation) -> Any:
    phi = named(value)
    if phi not in ("tanh", "relu"):
        raise ValueError(
            f'PyTorch has no RNN with {getattr(phi, "__name__", phi)}; give one with "tanh" or "relu"'
        )
    return phi


def _both(
    forward: tuple[Cell, PyTree], backward: tuple[Cell, PyTree] | None = None
) -> tuple[Cell, PyTree]:
    if backward is None:
        return forward
    return bidirectional(forward[0], backward[0]), BidirectionalParams(forward[1], backward[1])


def _parts(tree: Any) -> list[tuple[Any, ...]]:
    """The cells of each layer, or the parameters: one of each direction."""
    layers = (
        tree.cells
        if isinstance(tree, Stack)
        else tree.layers
        if isinstance(tree, StackParams)
        else (tree,)
    )
    pair = Bidirectional | BidirectionalParams
    return [
        (layer.forward, layer.backward) if isinstance(layer, pair) else (layer,) for layer in layers
    ]


def _expressible(cell: Cell) -> None:
    """ValueError unless one PyTorch module computes the same."""
    if isinstance(cell, Stack) and cell.residual:
        raise ValueError(
            "PyTorch's layers have no residual connections; convert each layer on its own"
        )
    parts = _parts(cell)
    for part in (part for row in parts for part in row):
        if isinstance(part, Readout):
            raise ValueError(
                "a Readout is an nn.Linear, no recurrent layer; convert the cells below it on their own"
            )
        if isinstance(part, Stack):
            raise ValueError(
                "PyTorch has no stack inside of a layer; give one stack of cells or of bidirectional cells"
            )
        part = plain(part, "PyTorch")
        if part.recurrent_bias and not part.bias:
            raise ValueError(
                "PyTorch has two biases or none; give a cell with bias=True, whose b is zero"
            )
        if isinstance(part, RNN):
            _torch_activation(part.activation)
    alike = {
        (type(p), p.hidden_size, p.bias, getattr(p, "activation", None))
        for row in parts
        for p in row
    }
    if len(alike) > 1 or len({len(row) for row in parts}) > 1:
        raise ValueError(
            "PyTorch's layers are all of one kind, size, bias and number of directions; convert each layer on its own"
        )
