"""The parameters of a BERT from its model.safetensors."""

import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.embeddings.bert_config import package
from rnnlab.embeddings.bert_network import Affine, BertConfig, BertParams, Layer, Norm
from rnnlab.typing import Array

FLOATS = ("F64", "F32", "F16", "BF16")
"""The types of numbers that are read, under the names of safetensors."""

_LAYER = types.MappingProxyType(
    {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "mixed": "attention.output.dense",
        "mixed_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "outer_norm": "output.LayerNorm",
    }
)
"""The names of the parts of a layer."""


def read_params(folder: Path, config: BertConfig) -> BertParams:
    """The weights in model.safetensors, as float32.

    Raises:
        ValueError: for a file that is missing or damaged, and for weights that are missing, NaN or
            of other shapes than those of ``config``.
        ImportError: where safetensors is not installed.
    """
    path = folder / "model.safetensors"
    safetensors = package("safetensors")
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; write it by transformers' BertModel.save_pretrained"
        )
    try:
        with safetensors.safe_open(path, "np") as file:
            return _params(_Weights(path, file), config)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error}); copy it again") from None


def _params(weights: "_Weights", config: BertConfig) -> BertParams:
    size = config.hidden_size
    table = "embeddings.{}_embeddings.weight"
    return BertParams(
        words=weights.array(table.format("word"), config.vocab_size, size),
        positions=weights.array(table.format("position"), config.max_position_embeddings, size),
        segments=weights.array(table.format("token_type"), config.type_vocab_size, size),
        norm=weights.norm("embeddings.LayerNorm", size),
        layers=_layers(weights, config),
        pooler=weights.affine("pooler.dense", size, size) if weights.has("pooler") else None,
    )


def _layers(weights: "_Weights", config: BertConfig) -> Layer:
    size, wide, count = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    if weights.has(f"encoder.layer.{count}"):
        raise ValueError(
            f"{weights.path} has a layer beyond num_hidden_layers = {count} of config.json; give "
            "both files of one model"
        )
    shapes = {"inner": (size, wide), "outer": (wide, size)}
    layers = []
    for index in range(count):
        parts = {}
        for part, name in _LAYER.items():
            full = f"encoder.layer.{index}.{name}"
            if part.endswith("norm"):
                parts[part] = weights.norm(full, size)
            else:
                parts[part] = weights.affine(full, *shapes.get(part, (size, size)))
        layers.append(Layer(**parts))
    return jax.tree.map(lambda *each: jnp.stack(each), *layers)


class _Weights:
    """The arrays of a file, of which those of BERT may begin with "bert."."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self.file = path, file
        self.names = frozenset(file.keys())
        # Models with heads, such as BertForMaskedLM, have a BERT as a part.
        has_prefix = any(name.startswith("bert.embeddings.") for name in self.names)
        self.prefix = "bert." if has_prefix else ""

    def has(self, part: str) -> bool:
        return any(name.startswith(f"{self.prefix}{part}.") for name in self.names)

    def array(self, name: str, *shape: int) -> Array:
        name = self.prefix + name
        if name not in self.names:
            raise ValueError(
                f"{self.path} has no {name!r}; give weights as transformers saves them"
            )
        array = self._tensor(name)
        if array.shape != shape:
            raise ValueError(
                f"{self.path}: {name!r} has shape {array.shape}, but config.json asks for {shape}; "
                "give both files of one model"
            )
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"{self.path}: {name!r} holds NaN or infinity; copy the file again")
        return jnp.asarray(array)

    def _tensor(self, name: str) -> np.ndarray:
        kind = self.file.get_slice(name).get_dtype()
        # Whole numbers are codes of quantised weights, whose scales are elsewhere.
        if kind not in FLOATS:
            raise ValueError(
                f"{self.path}: {name!r} has numbers of type {kind}; give weights of one of "
                f"{', '.join(FLOATS)}"
            )
        return self.file.get_tensor(name)

    def affine(self, name: str, inputs: int, outputs: int) -> Affine:
        # PyTorch keeps a linear map as [O, I].
        weight = self.array(name + ".weight", outputs, inputs)
        return Affine(weight.T, self.array(name + ".bias", outputs))

    def norm(self, name: str, size: int) -> Norm:
        # The first BERTs were converted with TensorFlow's names.
        is_old = f"{self.prefix}{name}.gamma" in self.names
        scale, shift = ("gamma", "beta") if is_old else ("weight", "bias")
        return Norm(self.array(f"{name}.{scale}", size), self.array(f"{name}.{shift}", size))
