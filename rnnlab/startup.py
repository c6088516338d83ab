"""Settings of a process that are made before JAX starts, and the compiled programs that outlive it."""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

LARGEST_CACHE = 100 * 2**20
"""Bytes that the kept programs may take; the studies' own are about 2 MiB for each set of options."""

DAY = 24 * 60 * 60
"""Seconds after which the directory of a process that was killed is removed."""


def quick_start() -> None:
    """Makes JAX compile about a third faster on a CPU, for programs that run some 5 % slower; to be called first.

    It sets two environment variables where they are not set, which are read once: by LAPACK when ``jax`` is imported,
    and by XLA when it is first used. Later calls do nothing. The command line does so itself.

    * ``XLA_FLAGS``: no splitting of long sums, which takes three kernels in place of one and is slower; LLVM's
      optimisation level 2 in place of 3, which compiles a sixth faster; where jaxlib has them
      (before 0.12), older emitters of machine code, and as many parallel parts as there are cores for.
    * ``OPENBLAS_NUM_THREADS=1``: LAPACK's threads wait for one another in a loop. Beside another process a QR
      decomposition, on which spectra and products of Jacobians stand, takes a hundred times as long with two.
    """
    from importlib.metadata import version  # slow to import, and needed only here

    flags = [
        "--xla_disable_hlo_passes=tree_reduction_rewriter",
        "--xla_backend_optimization_level=2",
    ]
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 12):
        # To another one they may be unknown, which ends the process.
        flags.append("--xla_cpu_use_fusion_emitters=false")
        flags.append(f"--xla_cpu_parallel_codegen_split_count={2 * (os.cpu_count() or 1)}")
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Keeps the programs compiled inside the block, and finds those that earlier processes compiled.

    They lie in ``rnnlab`` in the user's cache directory, up to ``LARGEST_CACHE`` bytes; the oldest are dropped. A
    cache that is damaged or cannot be used costs its gain and nothing else: no error, no warning, no other result.
    Where JAX's own cache is set (``JAX_COMPILATION_CACHE_DIR``) that one is used, as JAX does it.
    """
    import jax

    # JAX writes programs in place and reads them unchecked, so it would run what a killed process left half written.
    # It is therefore given a directory of this process alone, with links to files whose digests were checked.
    options = {
        "jax_compilation_cache_dir": None,
        # Small programs too: a study compiles a hundred of them.
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        # XLA's own caches would put the path of the directory into the programs' names, and none was found again.
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: getattr(jax.config, name) for name in options}
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    work = None if before["jax_compilation_cache_dir"] else _lend()
    if work is None:
        yield
        return
    try:
        _set(options | {"jax_compilation_cache_dir": str(work)})
        yield
    finally:
        _set(before)
        with contextlib.suppress(OSError):
            _collect(work)
        shutil.rmtree(work, ignore_errors=True)


def cache_folder() -> Path:
    """The directory of kept programs, by the rules of the platform; ``XDG_CACHE_HOME`` counts on each."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        # The specification ignores relative paths.
        homes = {
            "darwin": "~/Library/Caches",
            "win32": os.environ.get("LOCALAPPDATA", "~/AppData/Local"),
        }
        home = Path(homes.get(sys.platform, "~/.cache"))
    return home.expanduser() / "rnnlab"


def _set(options: Mapping[str, object]) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    for name, value in options.items():
        jax.config.update(name, value)
    # JAX opens its cache once; this makes it look again.
    compilation_cache.reset_cache()


def _lend() -> Path | None:
    """A new directory in that of the kept programs, with a link to each; None where there can be none."""
    try:
        store = cache_folder()
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        # On a disk that is nearly full JAX would write half of a program.
        if not _ours(store) or shutil.disk_usage(store).free < LARGEST_CACHE:
            return None
        work = Path(tempfile.mkdtemp(prefix="process-", dir=store))
    except (OSError, RuntimeError):
        # RuntimeError: the user has no home directory.
        return None
    for path in _programs(store):
        # Another process may just remove it.
        with contextlib.suppress(OSError):
            _lend_program(path, work)
    for left in store.glob("process-*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - DAY:
                shutil.rmtree(left)
    return work


def _lend_program(path: Path, work: Path) -> None:
    digest, _, name = path.name.partition(".")
    if digest != _digest(path) or (work / name).exists():
        # Damaged, or compiled by two processes at once.
        path.unlink()
        return
    try:
        os.link(path, work / name)
    except OSError:
        # The file system has no links.
        shutil.copyfile(path, work / name)


def _collect(work: Path) -> None:
    """Moves what is new in ``work`` to the kept programs, under names with the digest, and drops the oldest there."""
    store = work.parent
    for path in work.iterdir():
        if path.stat().st_nlink == 1:
            path.replace(store / f"{_digest(path)}.{path.name}")
    programs = sorted(_programs(store), key=lambda path: path.stat().st_mtime, reverse=True)
    size = 0
    for path in programs:
        size += path.stat().st_size
        if size > LARGEST_CACHE:
            path.unlink()


def _programs(store: Path) -> list[Path]:
    return list(store.glob("[0-9a-f]" * 32 + ".*"))


def _ours(folder: Path) -> bool:
    """Whether nobody else may write in ``folder``: a program is machine code that will be run."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
