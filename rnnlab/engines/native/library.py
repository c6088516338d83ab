"""The compiled library of the native engine, which is found and checked on first use.

JAX is imported only to make it known to XLA: ``rnnlab --version`` names the library too.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path
from typing import NamedTuple

from rnnlab._usage import UsageError

SETS = ("avx512", "avx2", "baseline", "reference")
"""The instruction sets, from the fastest to the slowest; "reference" is plain, for tests."""
VARIABLE = "RNNLAB_NATIVE"
HOW_TO_GET_IT = "install a C++ compiler, then reinstall rnnlab from its source"


class VariableError(ValueError, UsageError):
    """``RNNLAB_NATIVE`` has a value that it cannot have; a command shows it as one sentence."""


class Library(NamedTuple):
    """The library that this process uses.

    Attributes:
        instructions: the instruction set in use, one of ``SETS``.
        handle: the functions of the library.
    """

    instructions: str
    handle: ctypes.CDLL

    def numbers_kept(self, cell: int, units: int, double: bool) -> int:
        """How many numbers the gates of one step and example take."""
        return self.handle.rnnlab_kept(ctypes.c_int64(cell), ctypes.c_int64(units), int(double))


class Absent(NamedTuple):
    """Why there is no native engine: what follows "it" in a sentence."""

    reason: str


@functools.cache
def library() -> Library | Absent:
    """The library, or why there is none.

    :class:`VariableError` where ``RNNLAB_NATIVE`` has a value that it cannot have.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "0", "1", *SETS):
        raise VariableError(
            f"{VARIABLE} is {asked!r}; set it to 0 to turn the native engine off, to an "
            f"instruction set ({', '.join(SETS)}), or leave it unset"
        )
    if asked == "0":
        return Absent(f"is turned off by {VARIABLE}=0")
    path = library_path()
    if not path.exists():
        return Absent(f"was not built ({HOW_TO_GET_IT})")
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as fault:
        return Absent(f"does not load ({fault})")
    if reason := _outdated(handle) or _too_new(handle):
        return Absent(reason)
    return _chosen(handle, asked)


def library_path() -> Path:
    """Where the library lies, beside this file."""
    return Path(__file__).with_name("librnnlab.bin")


def _chosen(handle: ctypes.CDLL, asked: str) -> Library | Absent:
    """The library with its instruction set chosen."""
    handle.rnnlab_use.restype = handle.rnnlab_set.restype = ctypes.c_char_p
    handle.rnnlab_kept.restype = ctypes.c_int64
    name = asked if asked in SETS else ""
    chosen = handle.rnnlab_use(name.encode() or None)
    if chosen is None:
        here = ", ".join(_sets_here(handle))
        raise VariableError(
            f"{VARIABLE} is {asked!r}, which this machine cannot run; it runs {here}"
        )
    return Library(chosen.decode(), handle)


@functools.cache
def register() -> None:
    """Tells XLA of the calls; once in a process, and before a program that has them runs."""
    import jax

    found = library()
    assert isinstance(found, Library)
    for function in ("rnnlab_forward", "rnnlab_backward", "rnnlab_adjoints"):
        capsule = jax.ffi.pycapsule(getattr(found.handle, function))
        jax.ffi.register_ffi_target(function, capsule, platform="cpu")


def _sets_here(handle: ctypes.CDLL) -> list[str]:
    names = []
    while name := handle.rnnlab_set(len(names)):
        names.append(name.decode())
    return names


def sets_here() -> list[str]:
    """The instruction sets that the library has and that this machine runs; none without it."""
    found = library()
    return [] if isinstance(found, Absent) else _sets_here(found.handle)


def _outdated(handle: ctypes.CDLL) -> str | None:
    """Why the library does not belong to the sources beside it; None where it does.

    An editable installation is not built again when its sources change.
    """
    folder = Path(__file__).parent
    sources = sorted([*folder.glob("*.cc"), *folder.glob("*.h")])
    if not sources:
        return None
    # As ``digest`` of build.py, which an installation without sources does not have.
    code = hashlib.sha256()
    for path in sources:
        code.update(path.read_bytes())
    stamp = getattr(handle, "rnnlab_sources", None)
    if stamp is not None:
        stamp.restype = ctypes.c_char_p
    if stamp is None or stamp().decode() != code.hexdigest()[:16]:
        return "was built from other sources than those beside it (reinstall rnnlab)"
    return None


def _too_new(handle: ctypes.CDLL) -> str | None:
    """Why this jaxlib cannot call the library; None where it can.

    The interface grows: a newer jaxlib calls what was built with an older one, but not the reverse.
    """
    built = handle.rnnlab_ffi_major(), handle.rnnlab_ffi_minor()
    here = _interface_here()
    if here is None or (built[0] == here[0] and built[1] <= here[1]):
        return None
    return (
        f"was built with a newer jaxlib than {importlib.metadata.version('jaxlib')} (upgrade "
        "jaxlib, or reinstall rnnlab from its source)"
    )


def _interface_here() -> tuple[int, int] | None:
    """The version of XLA's call interface in this jaxlib, from its headers; None without them."""
    jaxlib = importlib.util.find_spec("jaxlib")
    if jaxlib is None or jaxlib.origin is None:
        return None
    header = Path(jaxlib.origin).parent.joinpath("include", "xla", "ffi", "api", "c_api.h")
    if not header.exists():
        return None
    text = header.read_text()
    numbers = [re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    if not all(numbers):
        return None
    major, minor = (int(number[1]) for number in numbers if number)
    return major, minor
