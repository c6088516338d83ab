"""Parameters for exchange: safetensors with a checksum beside them, and archives of runs."""

import json
import numbers
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np

from rnnlab import _check, _files
from rnnlab.training import trees
from rnnlab.training.trees import Leaf
from rnnlab.typing import PyTree

SUFFIX = ".sha256"


def save_weights(path: str | Path, params: PyTree, about: Mapping[str, Any] | None = None) -> None:
    """Writes ``params`` as a safetensors file, and its SHA-256 beside it (``PATH.sha256``).

    Names are those of the tree, such as ``layers[0].w_h``. Needs the package ``safetensors``.

    Args:
        path: of the file; one that exists is replaced.
        params: a tree of arrays.
        about: what JSON can hold, stored in the file's metadata.

    Raises:
        ValueError: without the package, for anything but arrays, for keys, and for arrays that are
            not finite.
    """
    from_module = _safetensors()
    _check_params("params", params)
    leaves = trees.to_leaves(params)
    bad = trees.not_finite(params)
    if bad:
        raise ValueError(f"{bad[0]} is not finite; save parameters of a step that was applied")
    keys = [name for name, leaf in leaves.items() if leaf.key]
    if keys:
        raise ValueError(f"{keys[0]} is a PRNG key; save arrays alone")
    arrays = {name: np.ascontiguousarray(leaf.value) for name, leaf in leaves.items()}
    metadata = {"rnnlab": json.dumps(dict(about or {}))}
    path = Path(path)
    part = path.with_name(path.name + _files.PART)
    part.write_bytes(from_module.save(arrays, metadata=metadata))
    _files.sync(part)
    digest = _files.digest(part)
    # The digest goes first: a file without the right digest is refused, one too many is harmless.
    _files.write_text(path.with_name(path.name + SUFFIX), f"{digest}  {path.name}\n")
    part.replace(path)
    _files.sync(path.parent)


def load_weights(path: str | Path, template: PyTree) -> PyTree:
    """The parameters in a file of :func:`save_weights`, as a tree like ``template``.

    Args:
        path: of the file.
        template: parameters of the same model, such as ``model.init(key, batch)``; of them only
            names, shapes and dtypes matter.

    Raises:
        ValueError: for a file whose digest is missing or differs, a ``template`` without arrays,
            and arrays of other names, shapes or dtypes than those of ``template``; nothing is cast.
    """
    from_module = _safetensors()
    _check_params("template", template)
    path = Path(path)
    sums = path.with_name(path.name + SUFFIX)
    try:
        wanted = sums.read_text(encoding="utf-8").partition(" ")[0]
        digest = _files.digest(path)
    except (OSError, UnicodeDecodeError) as fault:
        raise ValueError(
            f"{path} or its checksum {sums.name} cannot be read ({fault}); give both files"
        ) from None
    if digest != wanted:
        raise ValueError(f"{path} is damaged: its SHA-256 differs from {sums.name}; copy it again")
    arrays = from_module.load(path.read_bytes())
    leaves = {name: Leaf(np.asarray(array)) for name, array in arrays.items()}
    fix = "give as template parameters of the model that was saved, such as model.init(key, batch)"
    return trees.from_leaves(template, leaves, source=str(path), fix=fix)


def _check_params(name: str, params: PyTree) -> None:
    """ValueError for anything but a tree of arrays, such as the model itself."""
    leaves = jax.tree.leaves(params)
    if not leaves or not all(map(_is_number, leaves)):
        raise ValueError(
            f"{name} is {_check.brief(params)}; give parameters, a tree of arrays such as "
            "model.init(key, batch)"
        )


def _is_number(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") or isinstance(leaf, numbers.Number)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ValueError(
            "weights need the package safetensors; pip install 'rnnlab[weights]'"
        ) from None
    return safetensors.numpy


def pack(folder: str | Path, archive: str | Path) -> None:
    """Writes the directory of a run as a tar archive, files alone."""
    folder = Path(folder)
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)


def unpack(archive: str | Path, folder: str | Path) -> None:
    """Unpacks an archive into a new directory.

    Raises:
        ValueError: for a directory that exists, and an archive with links, absolute paths, ".." or
            anything but files; nothing is written then.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists already; give a new directory")
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                    raise ValueError(
                        f"{archive} holds {member.name!r}, which lies outside of the directory; "
                        "do not unpack it"
                    )
                if not member.isreg():
                    raise ValueError(
                        f"{archive} holds {member.name!r}, which is a link or no file; do not "
                        "unpack it"
                    )
            tar.extractall(folder, members, filter="data")
    except (OSError, tarfile.TarError) as fault:
        raise ValueError(f"{archive} cannot be read ({fault}); give a tar archive") from None
