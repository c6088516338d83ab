"""The configuration of a BERT from its config.json, and the packages that read its other files."""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType

from rnnlab import _check
from rnnlab.embeddings.bert_network import ACTIVATIONS, BertConfig
from rnnlab.text.saved import read_json


def read_config(folder: Path) -> BertConfig:
    """The sizes in config.json.

    Raises:
        ValueError: for a file that is missing or not JSON, another kind of model, and values
            that no BERT has.
    """
    path = folder / "config.json"
    given = read_json(path, "the config.json of a BERT")
    kind = given.get("model_type") if isinstance(given, dict) else None
    if kind != "bert":
        raise ValueError(
            f"{path} has model_type {kind!r}; give a folder whose model_type is 'bert'"
        )
    # Each of them changes the equations.
    positions = given.get("position_embedding_type", "absolute")
    if positions != "absolute" or given.get("is_decoder") or given.get("add_cross_attention"):
        raise ValueError(
            f"{path} describes a decoder or relative positions; give an encoder with absolute ones"
        )
    fields = dataclasses.fields(BertConfig)
    values = {field.name: given[field.name] for field in fields if field.name in given}
    missing = [
        field.name
        for field in fields
        if field.name not in values and field.default is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; give BERT's own config.json")
    return _checked(path, BertConfig(**values))


def _checked(path: Path, config: BertConfig) -> BertConfig:
    where = f"{path}: "
    for field in dataclasses.fields(config):
        if field.type is int:
            _check.positive_int(where + field.name, getattr(config, field.name))
    _check.one_of(where + "hidden_act", config.hidden_act, tuple(ACTIVATIONS))
    _check.number(where + "layer_norm_eps", config.layer_norm_eps)
    if config.layer_norm_eps <= 0:
        raise ValueError(
            f"{where}layer_norm_eps is {config.layer_norm_eps}; it must be above 0, such as 1e-12"
        )
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"{path}: hidden_size is {config.hidden_size}, which {config.num_attention_heads} "
            "attention heads do not divide; correct num_attention_heads"
        )
    return config


def package(name: str) -> ModuleType:
    """A package; if it is missing, an ImportError says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ImportError(
            f"BERT's files are read by {name}, which is not installed; pip install 'rnnlab[bert]'"
        ) from None
