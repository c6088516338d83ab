"""Optional packages of text processing, imported where they are used."""

import importlib
from types import ModuleType


def package(name: str, module: str | None = None) -> ModuleType:
    """A module of the package ``name``; if it is missing, an ImportError says how to install it."""
    try:
        return importlib.import_module(module or name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != (module or name).partition(".")[0]:
            raise
        raise ImportError(
            f"this step of rnnlab.text needs the package {name}; pip install 'rnnlab[text]'"
        ) from None
