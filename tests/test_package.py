"""The package's own surface: what it exports, what it imports and when."""

import ast
import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import rnnlab


def run(*lines: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ["flax", "jax", "jaxlib", "matplotlib", "optax", "orbax", "torch"]


def test_import_is_light():
    loaded = run(
        "import sys, rnnlab", "print(*{name.partition('.')[0] for name in sys.modules})"
    ).split()
    assert "rnnlab" in loaded
    assert not set(HEAVY) & set(loaded)


def test_cells_need_no_more_than_jax():
    """Running a network imports neither the training nor the drawing libraries."""
    code = "import sys, rnnlab; rnnlab.unroll; rnnlab.stack; rnnlab.LSTM(3)"
    loaded = run(code, "print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert not set(HEAVY) - {"jax", "jaxlib"} & set(loaded)
    assert "jax" in loaded


@pytest.mark.parametrize("name", rnnlab.__all__)
def test_every_public_name_resolves(name):
    value = getattr(rnnlab, name)
    assert getattr(rnnlab, name) is value
    if name in rnnlab._HOME:
        assert value is getattr(importlib.import_module(f"rnnlab.{rnnlab._HOME[name]}"), name)
        assert value.__doc__
    elif name in rnnlab._MODULES:
        assert value is sys.modules[f"rnnlab.{name}"]
        assert value.__file__  # a package proper, not a folder that happens to be there
        assert value.__doc__


def test_public_names_are_listed_once_and_sorted():
    assert len(set(rnnlab.__all__)) == len(rnnlab.__all__)
    assert dir(rnnlab) == sorted(rnnlab.__all__)
    assert list(rnnlab._HOME) == sorted(rnnlab._HOME)
    assert list(rnnlab._MODULES) == sorted(rnnlab._MODULES)


def test_what_type_checkers_see_is_what_is_imported():
    """The imports under TYPE_CHECKING and the lazy-import table agree; each name is re-exported."""
    body = ast.parse(Path(rnnlab.__file__).read_text(encoding="utf-8")).body
    (block,) = [
        node
        for node in body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    homes, modules = {}, set()
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        package, _, home = node.module.partition(".")
        assert package == "rnnlab"
        assert all(alias.asname == alias.name for alias in node.names)
        if home:
            homes |= {alias.name: home for alias in node.names}
        else:
            modules |= {alias.name for alias in node.names}
    assert homes == rnnlab._HOME
    assert modules == set(rnnlab._MODULES)


def test_functions_are_not_hidden_by_modules():
    """Importing every submodule leaves rnnlab.unroll, rnnlab.stack and the rest what they are."""
    run(
        "import importlib, pkgutil, types, rnnlab",
        "first = rnnlab.unroll",
        "names = [module.name for module in pkgutil.walk_packages(rnnlab.__path__, 'rnnlab.')]",
        "for name in names: name.endswith('__main__') or importlib.import_module(name)",
        "assert 'rnnlab.driver' in names and rnnlab.unroll is first",
        (
            "for name in rnnlab._HOME: "
            "assert not isinstance(getattr(rnnlab, name), types.ModuleType), name"
        ),
    )
    assert isinstance(rnnlab.unroll, types.FunctionType)
    assert not {module.name for module in pkgutil.iter_modules(rnnlab.__path__)} & set(rnnlab._HOME)


@pytest.mark.long
def test_every_package_can_be_used_after_import_rnnlab():
    """In a new process, in which nothing else has imported it."""
    packages = {module.name for module in pkgutil.iter_modules(rnnlab.__path__) if module.ispkg}
    for name in sorted(packages - {"engines", "gradients"}):
        run(f"import rnnlab; rnnlab.{name}.__name__")


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(rnnlab, "transformer")
    with pytest.raises(AttributeError, match="module 'rnnlab' has no attribute 'transformer'"):
        rnnlab.transformer  # noqa: B018
    with pytest.raises(ImportError):
        from rnnlab import transformer  # noqa: F401


def test_version():
    assert rnnlab.__version__ == importlib.metadata.version("rnnlab")
