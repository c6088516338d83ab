"""How an installation gets the library of the native engine, or does without one."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.reference.native import ROOT, alone

pytestmark = pytest.mark.long

HERE = Path("rnnlab/engines/native")
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
needs_compiler = pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler")
BACKEND = """
import sys
from hatchling import build
print("made", getattr(build, "build_" + sys.argv[1])(sys.argv[2]))
"""
FAST = {"CXXFLAGS": "-O0"}
"""A library to be loaded, not to be measured."""


@pytest.fixture
def source(tmp_path):
    """A copy of what a clone has and the build needs."""
    pytest.importorskip("hatchling", reason="there is no hatchling")
    copy = tmp_path / "source"
    left_out = shutil.ignore_patterns("__pycache__", "librnnlab.*")
    shutil.copytree(ROOT / "rnnlab", copy / "rnnlab", ignore=left_out)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    return copy


def environment(**variables):
    names = ("RNNLAB_NATIVE", "CXX", "CXXFLAGS")
    return {key: value for key, value in os.environ.items() if key not in names} | variables


def made(kind, source, **variables):
    """What the build backend makes from ``source``, and what it says."""
    out = source.parent / kind
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BACKEND, kind, str(out)]
    ran = subprocess.run(
        command,
        cwd=source,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *said, last = ran.stdout.splitlines()
    return out / last.removeprefix("made "), "\n".join(said) + ran.stderr


def names_in(wheel):
    with zipfile.ZipFile(wheel) as opened:
        return {Path(name) for name in opened.namelist()}


def assert_native(wheel):
    """A wheel for this platform and any Python, with the library and without its sources."""
    python, abi, platform = wheel.stem.split("-")[-3:]
    assert (python, abi) == ("py3", "none")
    assert platform != "any"
    inside = {path for path in names_in(wheel) if path.parent == HERE}
    libraries = [path.name for path in inside if path.stem == "librnnlab"]
    assert len(libraries) == 1
    assert HERE / "engine.py" in inside
    assert not {path.suffix for path in inside} & {".cc", ".h"}
    assert HERE / "build.py" not in inside


WHICH = """
import rnnlab
from rnnlab.engines.native import library
from tests.test_native import sum_of_outputs
assert library.__file__.startswith({folder!r}), library.__file__
assert abs(sum_of_outputs(rnnlab.LSTM(3), "native") - sum_of_outputs(rnnlab.LSTM(3), "scan")) < 1e-4
print(library.library().instructions)
"""


@needs_compiler
def test_a_wheel_has_the_library_and_runs_it(source, tmp_path):
    wheel, said = made("wheel", source, **FAST)
    assert_native(wheel)
    assert said == ""
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    path = os.pathsep.join([str(tmp_path / "installed"), str(ROOT)])
    script = WHICH.format(folder=str(tmp_path / "installed"))
    assert alone(script, PYTHONPATH=path).strip() in ("avx512", "avx2", "baseline")


@needs_compiler
def test_the_sources_for_distribution_build(source, tmp_path):
    archive, _ = made("sdist", source, **FAST)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    copied = {path.name for path in (folder / HERE).iterdir()}
    assert copied == {path.name for path in (source / HERE).iterdir()}
    wheel, _ = made("wheel", folder, **FAST)
    assert_native(wheel)


@needs_compiler
def test_an_editable_installation_has_it_beside_its_source(source):
    pytest.importorskip("editables", reason="there is no editables")
    wheel, _ = made("editable", source, **FAST)
    beside = [path.name for path in (source / HERE).iterdir() if path.stem == "librnnlab"]
    assert len(beside) == 1
    assert not any(path.name in beside for path in names_in(wheel))
    path = os.pathsep.join([str(source), str(ROOT)])
    assert alone(WHICH.format(folder=str(source)), PYTHONPATH=path) != ""
    with (source / HERE / "cells.h").open("a") as edited:
        edited.write("// changed after the build")
    why = "from rnnlab.engines.native.library import library; print(library().reason)"
    assert "other sources" in alone(why, PYTHONPATH=path)


def assert_pure(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not any(path.stem == "librnnlab" for path in names_in(wheel))


def test_turned_off_it_is_left_out(source):
    wheel, said = made("wheel", source, RNNLAB_NATIVE="0")
    assert_pure(wheel)
    assert said == ""


def test_without_a_compiler_it_is_left_out(source, tmp_path):
    wheel, said = made("wheel", source, PATH=str(tmp_path))
    assert_pure(wheel)
    assert "there is no C++ compiler" in said


def test_a_build_that_was_asked_for_and_fails_is_an_error(source, tmp_path):
    with pytest.raises(AssertionError, match="there is no C\\+\\+ compiler"):
        made("wheel", source, PATH=str(tmp_path), RNNLAB_NATIVE="1")


def test_pip_says_nothing_of_a_missing_compiler(source, tmp_path):
    pytest.importorskip("pip", reason="there is no pip")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    ran = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path / "wheels"), str(source)],
        env=environment(PATH=str(tmp_path), PIP_DISABLE_PIP_VERSION_CHECK="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert_pure(wheel)
    said = (ran.stdout + ran.stderr).lower()
    assert not any(word in said for word in ("error", "warning", "compiler"))
