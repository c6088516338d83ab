"""Builds the library of the native engine when rnnlab is installed: a build hook of Hatchling.

The three sets of kernels are one file, compiled with different flags, so one compiler call for each
is all there is to configure. Without a C++ compiler nothing is built and the wheel is a pure one;
``RNNLAB_NATIVE=0`` asks for that, and with ``RNNLAB_NATIVE=1`` a build that fails is an error.
"""

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import (  # pyright: ignore[reportMissingImports]
    BuildHookInterface,
)

HERE = "rnnlab/engines/native"
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi"]
# Code that one set shares with another could be merged by the linker: what the standard library
# would share is left out.
KERNEL_FLAGS = ["-fno-exceptions", "-fno-rtti"]
X86_SETS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
}


class NativeHook(BuildHookInterface):
    """Adds the library to the wheel; beside its source for an editable installation."""

    _folder: Any = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        asked = os.environ.get("RNNLAB_NATIVE", "")
        if asked == "0":
            return
        source = Path(self.root, HERE)
        # Not .so or .dll: Python would take the file for a module.
        name = "librnnlab.bin"
        self._folder = tempfile.TemporaryDirectory()
        built = Path(self._folder.name, name)
        try:
            build(source, built)
        except (OSError, subprocess.CalledProcessError) as fault:
            if asked == "1":
                raise
            output = getattr(fault, "stderr", "") or ""
            self.app.display_warning(f"the native engine is left out: {fault}\n{output}")
            return
        if version == "editable":
            # Renamed into place: a process may be using the old one.
            beside = source / f"{name}.new"
            shutil.copy(built, beside)
            beside.replace(source / name)
            return
        build_data["force_include"][str(built)] = f"{HERE}/{name}"
        build_data["pure_python"] = False
        # It does not link Python, so one wheel serves every version.
        where = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{where}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def build(source: Path, to: Path) -> None:
    """Compiles the files in ``source`` into the library ``to``.

    Raises:
        OSError: without a compiler or the headers of jaxlib.
        subprocess.CalledProcessError: where the compiler fails.
    """
    command = compiler()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    flags = [*FLAGS, *shlex.split(os.environ.get("CXXFLAGS", ""))]
    parts = {"baseline": ["kernels.cc", *KERNEL_FLAGS, "-DRNNLAB_SET=baseline"]}
    for name, instructions in X86_SETS.items() if x86 else ():
        parts[name] = ["kernels.cc", *KERNEL_FLAGS, f"-DRNNLAB_SET={name}", *instructions]
    stamp = f'-DRNNLAB_SOURCES="{digest(source)}"'
    parts["calls"] = ["calls.cc", stamp, "-isystem", str(headers()), *["-DRNNLAB_X86"] * x86]
    parts["reference"] = ["reference.cc"]

    def compile_part(name: str) -> str:
        made = f"{to}.{name}.o"
        run([*command, *flags, "-c", *parts[name], "-o", made], source)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_part, parts))
    run([*command, *flags, "-shared", "-pthread", *objects, "-o", str(to)], source)


def digest(source: Path) -> str:
    """A digest of all C++ files: an editable installation may have changed since the build."""
    code = hashlib.sha256()
    for path in sorted([*source.glob("*.cc"), *source.glob("*.h")]):
        code.update(path.read_bytes())
    return code.hexdigest()[:16]


def compiler() -> list[str]:
    """The C++ compiler: ``$CXX``, or one of the usual names."""
    if given := os.environ.get("CXX"):
        return shlex.split(given)
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise FileNotFoundError("there is no C++ compiler")


def headers() -> Path:
    """The headers that come with jaxlib."""
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("there is no jaxlib, whose headers are needed")
    return Path(spec.origin).parent / "include"


def run(command: list[str], folder: Path) -> None:
    """One call of the compiler; its messages are part of the error."""
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
