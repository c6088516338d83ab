"""Settings made before JAX starts, and the compiled programs that are kept."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring

from rnnlab import quick_start, startup

NAMES = ("XLA_FLAGS", "OPENBLAS_NUM_THREADS")


@pytest.fixture
def bare(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.usefixtures("bare")
def test_the_flags_are_known_to_this_jaxlib():
    """An unknown one would end the process."""
    script = (
        "import rnnlab; rnnlab.quick_start(); "
        "import jax, jax.numpy as jnp; print(jax.jit(jnp.sum)(jnp.ones(100)))"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "100.0\n"), ran.stderr


def test_later_jaxlibs_are_told_only_what_they_know(bare):
    bare.setattr("importlib.metadata.version", lambda _: "0.12.0")
    quick_start()
    flags = "--xla_disable_hlo_passes=tree_reduction_rewriter --xla_backend_optimization_level=2"
    assert os.environ["XLA_FLAGS"] == flags


def test_what_the_user_has_set_stays(bare):
    bare.setenv("XLA_FLAGS", "--xla_dump_to=somewhere")
    quick_start()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=somewhere"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "rnnlab"
    jax.clear_caches()


def compile_anew():
    """Compiles as a new process would; returns the result and the number of programs found."""
    found = []
    jax.clear_caches()
    monitoring.register_event_listener(
        lambda event, **_: found.append(event) if event.endswith("/cache_hits") else None
    )
    with warnings.catch_warnings(), startup.kept_programs():
        result = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(9.0))
    monitoring.clear_event_listeners()
    assert jax.config.jax_compilation_cache_dir is None
    return float(result), len(found)


def kept(home):
    return [path for path in home.iterdir() if path.is_file()]


def test_programs_are_found_again_with_the_same_result(home):
    first, found = compile_anew()
    assert found == 0
    programs = kept(home)
    assert programs
    assert compile_anew() == (first, len(programs))
    assert kept(home) == programs  # and the directory of each process is gone
    assert list(home.iterdir()) == programs


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        damage,
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_damaged_program_is_compiled_anew(home, harm):
    first, _ = compile_anew()
    before = kept(home)
    for path in before:
        harm(path)
    assert compile_anew() == (first, 0)
    assert len(kept(home)) == len(before)
    assert compile_anew() == (first, len(before))


def test_a_process_does_not_see_what_another_is_writing(home):
    first, _ = compile_anew()
    (home / "process-other").mkdir()
    (home / "process-other" / "jit_half-cache").write_bytes(b"half")
    (home / "half-cache").write_bytes(b"half")
    assert compile_anew() == (first, len(kept(home)) - 1)
    assert (home / "process-other" / "jit_half-cache").exists()


def test_two_processes_at_once_keep_each_program_once(home):
    with warnings.catch_warnings(), startup.kept_programs():
        jax.clear_caches()
        inner = jax.jit(lambda x: jnp.cos(x) + 1)(1.0)
        work = Path(jax.config.jax_compilation_cache_dir)
        assert work.parent == home
        other = work.with_name("process-other")
        other.mkdir()
        for path in work.iterdir():
            (other / path.name).write_bytes(path.read_bytes())
        startup._collect(other)
    programs = kept(home)
    assert inner == jnp.cos(1.0) + 1
    assert len({path.name.partition(".")[2] for path in programs}) == len(programs)


def test_what_a_killed_process_left_is_removed_after_a_day(home):
    old, new = home / "process-old", home / "process-new"
    for folder, age in ((old, 2), (new, 0.1)):
        folder.mkdir(parents=True)
        (folder / "part-cache").touch()
        then = time.time() - age * startup.DAY
        os.utime(folder, (then, then))
    compile_anew()
    assert not old.exists()
    assert new.exists()


def test_the_oldest_programs_are_dropped(home, monkeypatch):
    compile_anew()
    programs = kept(home)
    for age, path in enumerate(programs):
        then = time.time() - 1000 - age
        os.utime(path, (then, then))
    largest = sum(path.stat().st_size for path in programs[:2])
    monkeypatch.setattr(startup, "LARGEST_CACHE", largest)
    compile_anew()
    assert set(kept(home)) == set(programs[:2])


def test_a_cache_that_cannot_be_used_changes_nothing(home, monkeypatch):
    first, _ = compile_anew()
    home.chmod(0o777)  # anybody could put a program there
    assert compile_anew() == (first, 0)
    home.chmod(0o700)
    monkeypatch.setattr(os, "link", fail)  # a file system without links
    assert compile_anew() == (first, len(kept(home)))
    monkeypatch.setattr(startup.tempfile, "mkdtemp", fail)  # one that is read-only
    assert compile_anew() == (first, 0)
    (home.parent / "file").touch()
    for elsewhere in ("file", "file/deeper"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home.parent / elsewhere))
        assert compile_anew() == (first, 0)
    monkeypatch.setattr(Path, "expanduser", fail_without_home)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert compile_anew() == (first, 0)


def fail(*_, **__):
    raise OSError("refused")


def fail_without_home(_):
    raise RuntimeError("Could not determine home directory.")


def test_a_cache_of_the_users_own_is_left_to_jax(home, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    try:
        with warnings.catch_warnings(), startup.kept_programs():
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not home.exists()


@pytest.mark.parametrize(
    ("platform", "set_to", "expected"),
    [
        ("linux", "/somewhere", "/somewhere/rnnlab"),
        ("linux", "", "~/.cache/rnnlab"),
        ("linux", "relative", "~/.cache/rnnlab"),
        ("darwin", "", "~/Library/Caches/rnnlab"),
        ("darwin", "/somewhere", "/somewhere/rnnlab"),
    ],
)
def test_the_cache_lies_where_the_platform_wants_it(monkeypatch, platform, set_to, expected):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", set_to)
    assert startup.cache_folder() == Path(expected).expanduser()
