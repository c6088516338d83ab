"""The C++ of the native engine under the compiler's checks of memory, of arithmetic, of threads."""

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.reference.native import ROOT

COMPILER = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or ""]
SOURCES = ROOT / "rnnlab" / "engines" / "native"
FLAGS = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-pthread"]
X86 = platform.machine().lower() in ("x86_64", "amd64")
SETS = {"baseline": []}
if X86:
    SETS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"]
    SETS["avx2"] = ["-mavx2", "-mfma"]
CHECKS = {
    "memory and arithmetic": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "threads": ["-fsanitize=thread"],
}


def compiled(folder: Path, checks: list[str]) -> Path:
    """The driver in ``tests/native`` with all instruction sets."""
    driver = ROOT / "tests" / "native" / "driver.cc"
    parts = {"reference": ["reference.cc"], "driver": [str(driver), *["-DRNNLAB_X86"] * X86]}
    for name, flags in SETS.items():
        parts[name] = ["kernels.cc", f"-DRNNLAB_SET={name}", *flags]
    for name, arguments in parts.items():
        command = [*COMPILER, *FLAGS, *checks, f"-I{SOURCES}", "-c", *arguments]
        subprocess.run([*command, "-o", str(folder / f"{name}.o")], cwd=SOURCES, check=True)
    objects = [str(folder / f"{name}.o") for name in parts]
    subprocess.run([*COMPILER, *FLAGS, *checks, *objects, "-o", str(folder / "run")], check=True)
    return folder / "run"


@pytest.mark.long
@pytest.mark.skipif(not COMPILER[0], reason="there is no C++ compiler")
@pytest.mark.parametrize("checks", CHECKS.values(), ids=CHECKS)
def test_random_networks_agree_and_no_check_fails(checks, tmp_path):
    try:
        driver = compiled(tmp_path, checks)
    except subprocess.CalledProcessError:
        simple = tmp_path / "simple.cc"
        simple.write_text("int main() {}")
        command = [*COMPILER, *checks, str(simple), "-o", str(tmp_path / "simple")]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip(f"the compiler has no {checks[0]}")
        raise
    ran = subprocess.run([str(driver), "1", "60"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    assert "agree with the reference on 60 networks" in ran.stdout
