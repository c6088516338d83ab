"""The network that a study of cures starts from: that of a training run, or weights in a file."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.cells import GRU, LSTM, RNN
from rnnlab.interop import from_torch
from rnnlab.layers import Bidirectional, Stack
from rnnlab.studies import training
from rnnlab.studies.cures_settings import CuresSettings
from rnnlab.training.trees import fingerprint
from rnnlab.typing import Array

ZIPPED = (".pt", ".pth", ".bin")
"""Endings of the files that ``torch.save`` writes."""


class GivenNetwork(NamedTuple):
    """The recurrent network that a study starts from.

    Attributes:
        name: of its cell, as in the registry of cells.
        cell: one layer; of several, the first, which reads the inputs.
        params: its parameters.
        about: where it comes from, and the fingerprint of its parameters.
    """

    name: str
    cell: Any
    params: Any
    about: dict[str, Any]


def read(settings: CuresSettings) -> GivenNetwork | None:
    """The network that the settings name, in their precision; None where they name none.

    Raises:
        ValueError: for a path without a network, and for one that is not of one direction.
        CheckpointError: for a run without a whole checkpoint.
    """
    if settings.network is None:
        return None
    path = Path(settings.network)
    # Not Path.is_dir, which raises OSError for a name that is too long.
    if _is_folder(path):
        if settings.prefix:
            raise ValueError(
                f"prefix is {settings.prefix!r}, but {path} is a training run, which needs none; "
                "leave it out"
            )
        name, cell, params = _of_run(path, settings.precision)
    else:
        name, cell, params = _of_file(path, settings.prefix)
    if isinstance(cell, Stack):
        cell, params = cell.cells[0], params.layers[0]
    if isinstance(cell, Bidirectional):
        raise ValueError(
            f"the network in {path} reads in both directions, so that no lag is long; give one of "
            "one direction"
        )
    if getattr(cell, "proj_size", None) is not None:
        raise ValueError(
            f"the LSTM in {path} has a projection, which the cures do not; give one without"
        )
    _check_finite(path, params)
    about = {"network": str(path), "params_sha256": fingerprint(params)}

    def converted(leaf: Array) -> Array:
        return jnp.asarray(leaf, settings.precision)

    cell = dataclasses.replace(cell, param_dtype=jnp.dtype(settings.precision))
    return GivenNetwork(name or _name(cell), cell, jax.tree.map(converted, params), about)


def resolve(settings: CuresSettings, given: GivenNetwork | None) -> CuresSettings:
    """The settings with cell and size of the network.

    ValueError for a setting that is neither its default nor that of the network.
    """
    if given is None:
        return settings
    fixed = {"cell": given.name, "hidden_size": given.cell.hidden_size}
    for name, value in fixed.items():
        chosen = getattr(settings, name)
        default = CuresSettings.__dataclass_fields__[name].default
        if chosen not in (default, value):
            raise ValueError(
                f"{name} is {chosen}, but that of the network in {settings.network} is {value}; "
                f"leave {name} out"
            )
    return dataclasses.replace(settings, **fixed)


def _check_finite(path: Path, params: Any) -> None:
    for names, leaf in jax.tree.leaves_with_path(params):
        if not jnp.isfinite(leaf).all():
            raise ValueError(
                f"the parameter {jax.tree_util.keystr(names)} of the network in {path} is not "
                "finite; give a network whose training did not diverge"
            )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _of_run(folder: Path, precision: str) -> tuple[str, Any, Any]:
    """The name, the cell and the parameters of a training run."""
    if training.settings_of(folder).precision == "float64" != precision:
        raise ValueError(
            f"the network in {folder} is in float64, but precision is {precision}; set precision "
            "to float64"
        )
    trained = training.read(folder)
    return trained.setup.settings.cell, trained.setup.model.cell, trained.params.cell


def _of_file(path: Path, prefix: str) -> tuple[str | None, Any, Any]:
    """The cell and the parameters in a file of weights."""
    if not path.is_file():
        raise ValueError(
            f"{path} is neither a training run nor a file; give the --out directory of "
            "rnnlab train, or a safetensors file or a state_dict of PyTorch"
        )
    source = _state_dict(path) if _is_from_torch(path) else path
    try:
        return None, *from_torch(source, prefix=prefix)
    except ValueError as fault:
        raise ValueError(f"the weights in {path} cannot be used: {fault}") from None


def _is_from_torch(path: Path) -> bool:
    """Whether ``torch.save`` wrote a file: its archives begin as those of zip."""
    with path.open("rb") as file:
        return path.suffix in ZIPPED or file.read(2) == b"PK"


def _state_dict(path: Path) -> Any:
    """The state_dict that ``torch.save`` wrote; no other object is unpickled."""
    try:
        import torch
    except ImportError as fault:
        raise ValueError(
            f"{path} is read by the package torch, which is not installed; install it, or give a "
            "safetensors file"
        ) from fault
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # Whatever a damaged or foreign file makes of it: RuntimeError, UnpicklingError, EOFError.
    except Exception as fault:
        raise ValueError(
            f"{path} cannot be read as weights of PyTorch; save them with "
            "torch.save(module.state_dict(), path)"
        ) from fault


def _name(cell: Any) -> str:
    """The name of a cell from PyTorch."""
    if isinstance(cell, RNN):
        return "relu-rnn" if cell.activation == "relu" else "rnn"
    return {LSTM: "lstm", GRU: "gru"}[type(cell)]
