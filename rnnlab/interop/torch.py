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

# By the number of gates.
_KINDS = {1: (RNN, RNNParams), 3: (GRU, GRUParams), 4: (LSTM, LSTMParams)}
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<name>(?:weight|bias)_(?:ih|hh|hr))(?P<tag>_l\d+(?:_reverse)?)?"
)


def from_torch(
    source: Any, *, prefix: str = "", activation: Activation | None = None
) -> tuple[Cell, PyTree]:
    """A cell and its parameters from a PyTorch RNN, LSTM or GRU.

    PyTorch writes  a = W_ih x + b_ih + W_hh h + b_hh  with W ``[gates · H, I]``; here w_x = W_ihᵀ,
    w_h = W_hhᵀ, b = b_ih and c = b_hh, with the gates in the same order (i, f, g, o and r, z, n).
    The projection of an LSTM with ``proj_size`` is w_p = W_hrᵀ.

    >>> import torch
    >>> cell, params = from_torch(torch.nn.LSTM(3, 5))
    >>> type(cell).__name__, params.w_x.shape
    ('LSTM', (3, 20))

    Kind, sizes, layers, directions and biases follow from names and shapes: one layer gives the
    bare cell, two directions :func:`rnnlab.bidirectional`, more layers :func:`rnnlab.stack`. A
    prefix common to all names ("rnn.") and the names of ``nn.LSTMCell``, ``nn.GRUCell`` and
    ``nn.RNNCell`` are understood. Where b_hh is zero (for a GRU: in its r and z rows) the cell has
    one bias, as rnnlab's cells have by default; otherwise it has ``recurrent_bias=True``.

    Initialisers and dropout are not stored with the weights: ``forget_bias``, initialisers and,
    unless a module is given, the dropout are the defaults. ``param_dtype`` is the dtype of the
    weights.

    Args:
        source: a module; its ``state_dict()``, or numpy or JAX arrays under the same names; or the
            path of a safetensors file of them (needs the package ``safetensors``).
        prefix: where the recurrent module is in a whole model, such as ``"encoder.rnn."``: names
            that do not begin with it are left out.
        activation: φ of an RNN, "tanh" or "relu" (PyTorch's ``nonlinearity``, which is not among
            the weights); by default that of the module, or "tanh" where no module is given.

    Returns:
        The cell, and its parameters.

    Raises:
        ValueError: for names or shapes that are not those of a recurrent module, mixed dtypes,
            float64 while ``jax_enable_x64`` is off, an activation that PyTorch does
            not have, or a file that cannot be read.
    """
    state_dict, module = _opened(source, prefix)
    phi: Activation = getattr(module, "nonlinearity", "tanh") if activation is None else activation
    arrays = _arrays(state_dict)
    param_dtype = one_dtype("state_dict", arrays)
    rows, outputs = _matrix(arrays, "weight_hh_l0")
    _, inputs = _matrix(arrays, "weight_ih_l0")
    size = _hidden_size(arrays)
    gates = rows // size
    if gates not in _KINDS or rows != gates * size:
        raise ValueError(
            f"weight_hh_l0 has shape {(rows, outputs)}; "
            "an RNN has [H, H], a GRU [3H, H] and an LSTM [4H, H]"
        )
    if outputs != size and gates != 4:
        raise ValueError(
            "weight_hr_l0 is a projection, which only an LSTM has; give one module's weights"
        )
    layers = 1 + max(map(_layer_index, arrays))
    directions = 2 if "weight_hh_l0_reverse" in arrays else 1
    tags = _tags(layers, directions)
    has_bias = "bias_ih_l0" in arrays
    _check_shapes(arrays, _shapes(tags, gates, inputs, size, outputs, has_bias))

    kind, _ = _KINDS[gates]
    options: dict[str, Any] = {"param_dtype": param_dtype, "bias": has_bias}
    if kind is RNN:
        options["activation"] = _torch_activation(phi)
    elif named(phi) != "tanh":
        raise ValueError(
            f"activation is for an RNN, but the weights are those of a {kind.__name__}; "
            "leave it out"
        )
    if outputs != size:
        options["proj_size"] = outputs
    cells, params = [], []
    for row in tags:
        one_way = [_cell_of(arrays, tag, gates, options) for tag in row]
        cell, layer_params = _both(*one_way)
        cells.append(cell)
        params.append(layer_params)
    if layers == 1:
        return cells[0], params[0]
    dropout = getattr(module, "dropout", 0.0)
    return stack(cells, dropout=dropout), StackParams(tuple(params))


def _hidden_size(arrays: Mapping[str, np.ndarray]) -> int:
    """H, which W_hh does not show where the hidden state is projected."""
    name = "weight_hr_l0" if "weight_hr_l0" in arrays else "weight_hh_l0"
    _, size = _matrix(arrays, name)
    return size


def _layer_index(name: str) -> int:
    """The layer in a name such as "bias_hh_l1_reverse"."""
    return int(re.findall(r"\d+", name)[0])


def _cell_of(
    arrays: Mapping[str, np.ndarray], tag: str, gates: int, options: dict[str, Any]
) -> tuple[Cell, PyTree]:
    """The cell of one layer and direction, whose names end in ``tag``."""
    kind, named_params = _KINDS[gates]
    weight_hh = arrays[f"weight_hh{tag}"]
    size = weight_hh.shape[0] // gates
    weights = {"w_x": jnp.array(arrays[f"weight_ih{tag}"].T), "w_h": jnp.array(weight_hh.T)}
    if "proj_size" in options:
        weights["w_p"] = jnp.array(arrays[f"weight_hr{tag}"].T)
    if not options["bias"]:
        return kind(size, **options), named_params(**weights)
    c = arrays[f"bias_hh{tag}"]
    # A GRU's rows of n act inside of r ⊙ (…) and cannot be part of b: rnnlab's GRU always has them.
    # The rows before them, which are all rows of other cells, are a second bias that may be left
    # out where it is zero.
    optional = c.size - size if kind is GRU else c.size
    has_two = not blank(c[:optional])
    if not has_two:
        c = c[optional:]
    b = jnp.array(arrays[f"bias_ih{tag}"])
    params = named_params(**weights, b=b, c=jnp.array(c) if c.size else None)
    return kind(size, recurrent_bias=has_two, **options), params


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
    picked = {}
    for key, value in weights.items():
        if key.startswith(prefix):
            picked[key.removeprefix(prefix)] = value
    if not picked:
        prefixes = _recurrent_prefixes(weights)
        advice = "it holds no recurrent module"
        if prefixes:
            advice = f"use one of {', '.join(map(repr, prefixes))}"
        raise ValueError(f"no weights begin with the prefix {prefix!r}; {advice}")
    return picked, module


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
            f"{path} cannot be read as a safetensors file ({fault}); "
            "give one that safetensors wrote"
        ) from None


def _recurrent_prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of the recurrent modules among the names of a whole model."""
    prefixes = set()
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            prefixes.add(match["prefix"])
    return sorted(prefixes)


def to_torch(cell: Cell, params: PyTree) -> dict[str, Any]:
    """The ``state_dict`` of the PyTorch module with the same outputs.

    The exact inverse of :func:`from_torch`. ``module.load_state_dict(to_torch(cell, params))``
    fills an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` of the same sizes; for ``nn.RNNCell``,
    ``nn.LSTMCell`` or ``nn.GRUCell`` remove "_l0" from the names. PyTorch has two biases or none:
    the second is zero where the cell has only one. A stack of one layer comes back as the bare
    cell. Dropout and the ``dtype`` of the computation are not among the weights.

    >>> import jax, torch
    >>> cell = LSTM(5)
    >>> weights = to_torch(cell, cell.init(jax.random.key(0), 3))
    >>> torch.nn.LSTM(3, 5).load_state_dict(weights)
    <All keys matched successfully>

    Raises:
        ValueError: for cells that PyTorch cannot express (each message says the fix): other cells,
            layers that differ, residual connections, readouts; for parameters that are not those of
            the cell; without PyTorch.
    """
    arrays = to_arrays(cell, params)
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            "to_torch makes tensors, but PyTorch is not installed; run pip install torch"
        ) from None
    tensors = {}
    for name, array in arrays.items():
        if array.dtype == jnp.bfloat16:
            # PyTorch does not know NumPy's bfloat16; float32 holds every one of its values.
            tensors[name] = torch.from_numpy(array.astype(np.float32)).bfloat16()
        else:
            tensors[name] = torch.from_numpy(array)
    return tensors


def to_arrays(cell: Cell, params: PyTree) -> dict[str, np.ndarray]:
    """The result of :func:`to_torch` as numpy arrays, which are copies; needs no PyTorch."""
    _expressible(cell)
    own_params(cell, params)
    arrays = {}
    layers = _parts(params)
    directions = len(layers[0])
    for tags, layer in zip(_tags(len(layers), directions), layers, strict=True):
        for tag, part in zip(tags, layer, strict=True):
            arrays[f"weight_ih{tag}"] = np.array(part.w_x.T, order="C")
            arrays[f"weight_hh{tag}"] = np.array(part.w_h.T, order="C")
            if part.b is not None:
                c = part.b[:0] if part.c is None else part.c
                # PyTorch wants a second bias for every gate: those that the cell lacks are zero.
                missing = part.b.size - c.size
                arrays[f"bias_ih{tag}"] = np.array(part.b)
                arrays[f"bias_hh{tag}"] = np.pad(c, (missing, 0))
            if getattr(part, "w_p", None) is not None:
                arrays[f"weight_hr{tag}"] = np.array(part.w_p.T, order="C")
    one_dtype("params", arrays)
    return arrays


def _arrays(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Numpy arrays under the names of ``nn.LSTM``: without prefix, and with "_l0" for a cell."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"state_dict is {type(state_dict).__name__}, not names and arrays; "
            "give module.state_dict()"
        )
    if not state_dict:
        raise ValueError("state_dict is empty; give module.state_dict()")
    matches = {}
    for key in state_dict:
        if not isinstance(key, str):
            raise ValueError(
                f"state_dict has the key {key!r}, which is not a name; give module.state_dict()"
            )
        match = _NAME.fullmatch(key)
        if match is None:
            raise ValueError(
                f"state_dict has {key!r}, which does not belong to a recurrent layer; "
                f"{_whole_model(state_dict)}"
            )
        matches[key] = match
    prefixes = _recurrent_prefixes(state_dict)
    if len(prefixes) > 1:
        raise ValueError(f"state_dict holds the modules {prefixes}; {_whole_model(state_dict)}")
    arrays = {}
    for key, match in matches.items():
        tag = match["tag"] or "_l0"
        arrays[match["name"] + tag] = _numpy(state_dict[key])
    return arrays


def _whole_model(names: Iterable[str]) -> str:
    """The advice to a caller who gave the weights of a whole model."""
    prefixes = list(filter(None, _recurrent_prefixes(names)))
    if not prefixes:
        return "give the recurrent module's own"
    return f"give prefix={' or '.join(map(repr, prefixes))}"


def _numpy(value: Any) -> np.ndarray:
    # Only tensors have ``detach``; so PyTorch need not be imported to recognise one.
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        # PyTorch cannot give NumPy a bfloat16; float32 holds every one of its values.
        return tensor.float().numpy().astype(jnp.bfloat16)
    return tensor.numpy()


def _matrix(arrays: Mapping[str, np.ndarray], name: str) -> tuple[int, int]:
    shape = arrays[name].shape if name in arrays else ()
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"state_dict has no matrix {name}; "
            "give the whole state_dict() of an RNN, an LSTM or a GRU"
        )
    return shape


def _tags(layers: int, directions: int) -> list[tuple[str, ...]]:
    """The ends of PyTorch's names for each layer's directions."""
    tags = []
    for layer in range(layers):
        both = f"_l{layer}", f"_l{layer}_reverse"
        tags.append(both[:directions])
    return tags


def _shapes(
    tags: list[tuple[str, ...]], gates: int, inputs: int, size: int, outputs: int, bias: bool
) -> dict[str, tuple[int, ...]]:
    """Every name and shape of the module; fewer outputs than H are those of a projection."""
    shapes: dict[str, tuple[int, ...]] = {}
    rows = gates * size
    for layer in tags:
        for tag in layer:
            shapes[f"weight_ih{tag}"] = (rows, inputs)
            shapes[f"weight_hh{tag}"] = (rows, outputs)
            if bias:
                shapes[f"bias_ih{tag}"] = (rows,)
                shapes[f"bias_hh{tag}"] = (rows,)
            if outputs != size:
                shapes[f"weight_hr{tag}"] = (outputs, size)
        # The next layer reads the outputs of all directions, side by side.
        inputs = outputs * len(layer)
    return shapes


def _check_shapes(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name in sorted(arrays.keys() ^ shapes.keys()):
        fault = "lacks" if name in shapes else "has a stray"
        raise ValueError(
            f"state_dict {fault} {name}; "
            "every layer and direction has the same names, so give them all"
        )
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name} has shape {arrays[name].shape}, but {shape} is needed; "
                "give one module's weights"
            )


def _torch_activation(value: Activation) -> Any:
    phi = named(value)
    if phi not in ("tanh", "relu"):
        name = getattr(phi, "__name__", phi)
        raise ValueError(f'PyTorch has no RNN with {name}; give one with "tanh" or "relu"')
    return phi


def _both(
    forward: tuple[Cell, PyTree], backward: tuple[Cell, PyTree] | None = None
) -> tuple[Cell, PyTree]:
    if backward is None:
        return forward
    cell, params = forward
    backward_cell, backward_params = backward
    both = BidirectionalParams(params, backward_params)
    return bidirectional(cell, backward_cell), both


def _parts(tree: Any) -> list[tuple[Any, ...]]:
    """The cells of each layer, or their parameters: one for each direction."""
    if isinstance(tree, Stack):
        layers = tree.cells
    elif isinstance(tree, StackParams):
        layers = tree.layers
    else:
        layers = (tree,)
    parts = []
    for layer in layers:
        if isinstance(layer, Bidirectional | BidirectionalParams):
            parts.append((layer.forward, layer.backward))
        else:
            parts.append((layer,))
    return parts


def _expressible(cell: Cell) -> None:
    """ValueError unless one PyTorch module has the same outputs."""
    if isinstance(cell, Stack) and cell.residual:
        raise ValueError(
            "PyTorch's layers have no residual connections; convert each layer on its own"
        )
    kinds = set()
    directions = set()
    for layer in _parts(cell):
        directions.add(len(layer))
        for part in layer:
            part = _expressible_part(part)
            phi = getattr(part, "activation", None)
            kinds.add((type(part), part.hidden_size, part.output_size, part.bias, phi))
    if len(kinds) > 1 or len(directions) > 1:
        raise ValueError(
            "PyTorch's layers are all of one kind, size, bias and number of directions; "
            "convert each layer on its own"
        )


def _expressible_part(part: Any) -> RNN | LSTM | GRU:
    """One direction of one layer; ValueError unless PyTorch has it."""
    if isinstance(part, Readout):
        raise ValueError(
            "a Readout is an nn.Linear, not a recurrent layer; convert the cells below it on their "
            "own"
        )
    if isinstance(part, Stack):
        raise ValueError(
            "PyTorch has no stack inside of a layer; "
            "give one stack of cells or of bidirectional cells"
        )
    part = plain(part, "PyTorch", besides=("proj_size",))
    if part.recurrent_bias and not part.bias:
        raise ValueError(
            "PyTorch has two biases or none; give a cell with bias=True, whose b is zero"
        )
    if isinstance(part, RNN):
        _torch_activation(part.activation)
    return part
