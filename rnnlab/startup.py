"""Start-up: settings of a process before JAX starts, and a cache of compiled programs."""

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
"""Bytes that the cache may hold; a study's programs take about 2 MiB for each set of options."""

DAY = 24 * 60 * 60
"""Seconds after which the directory of a process that was killed is removed."""


def quick_start() -> None:
    """Makes JAX compile about a third faster on a CPU, for programs that run some 5 % slower.

    Call it before anything else:

    >>> import rnnlab
    >>> rnnlab.quick_start()
    >>> import jax

    It sets two environment variables, each only if it is not set already. They are read once: by
    LAPACK when ``jax`` is imported, and by XLA when it is first used, so later calls have no
    effect. The command line calls it itself.

    * ``XLA_FLAGS``: no splitting of long sums, which takes three kernels in place of one and is
      slower; LLVM's optimisation level 2 in place of 3, which compiles a sixth faster; with jaxlib
      before 0.12 also the older code generator, and two parallel parts for each core.
    * ``OPENBLAS_NUM_THREADS=1``: LAPACK's threads wait for one another in a loop. Beside another
      busy process a QR decomposition, which spectra and products of Jacobians need, takes a hundred
      times as long with two threads.
    """
    # Slow to import, and only needed here.
    from importlib.metadata import version

    flags = [
        "--xla_disable_hlo_passes=tree_reduction_rewriter",
        "--xla_backend_optimization_level=2",
    ]
    major, minor = map(int, version("jaxlib").split(".")[:2])
    if (major, minor) < (0, 12):
        # A flag that XLA does not know ends the process.
        flags.append("--xla_cpu_use_fusion_emitters=false")
        flags.append(f"--xla_cpu_parallel_codegen_split_count={2 * (os.cpu_count() or 1)}")
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Keeps the programs compiled inside the block, and reuses those of earlier processes.

    They are in ``rnnlab`` in the user's cache directory, up to ``LARGEST_CACHE`` bytes; the oldest
    are dropped. A cache that is damaged or cannot be used only costs time: there is no error, no
    warning and no other result. Where JAX's own cache is set (``JAX_COMPILATION_CACHE_DIR``), JAX
    uses that one instead.
    """
    import jax

    # JAX writes programs in place and reads them unchecked, so it would run a program that a killed
    # process left half written. It therefore gets a directory of this process alone, with links to
    # files whose digests were checked.
    options = {
        "jax_compilation_cache_dir": None,
        # Small programs too: a study compiles a hundred of them.
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        # With XLA's own caches the directory's path becomes part of a program's key. That path
        # differs between processes, so no program would ever be found again.
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: getattr(jax.config, name) for name in options}
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    work = None if before["jax_compilation_cache_dir"] else _work_folder()
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
    """The directory of kept programs, by the rules of the platform or ``XDG_CACHE_HOME``."""
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
    # JAX opens its cache once, and would keep the directory of before.
    compilation_cache.reset_cache()


def _work_folder() -> Path | None:
    """A new directory with a link to each kept program; None where the cache cannot be used."""
    try:
        store = cache_folder()
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        # On a disk that is nearly full JAX would write half of a program.
        if not _is_private(store) or shutil.disk_usage(store).free < LARGEST_CACHE:
            return None
        work = Path(tempfile.mkdtemp(prefix="process-", dir=store))
    except (OSError, RuntimeError):
        # RuntimeError: the user has no home directory.
        return None
    for path in _programs(store):
        # Another process may be removing it.
        with contextlib.suppress(OSError):
            _link_program(path, work)
    # A process that was killed leaves its directory behind.
    oldest = time.time() - DAY
    for folder in store.glob("process-*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder)
    return work


def _link_program(path: Path, work: Path) -> None:
    """Links an intact program into ``work`` under JAX's own name for it."""
    digest, _, name = path.name.partition(".")
    link = work / name
    if digest != _digest(path) or link.exists():
        # Damaged, or compiled by two processes at once.
        path.unlink()
        return
    try:
        os.link(path, link)
    except OSError:
        # The file system has no links.
        shutil.copyfile(path, link)


def _collect(work: Path) -> None:
    """Moves the new programs of ``work`` to the cache, and drops the oldest ones there."""
    store = work.parent
    for path in work.iterdir():
        # A program with a second link came from the cache.
        if path.stat().st_nlink == 1:
            # A move within a file system is atomic: no process sees half a file.
            path.replace(store / f"{_digest(path)}.{path.name}")

    def modified(path: Path) -> float:
        return path.stat().st_mtime

    size = 0
    for path in sorted(_programs(store), key=modified, reverse=True):
        size += path.stat().st_size
        if size > LARGEST_CACHE:
            path.unlink()


def _programs(store: Path) -> list[Path]:
    return list(store.glob("[0-9a-f]" * 32 + ".*"))


def _is_private(folder: Path) -> bool:
    """Whether nobody else may write in ``folder``: a program is machine code that will be run."""
    if not hasattr(os, "getuid"):
        # Windows has no such permissions.
        return True
    status = folder.stat()
    others_write = status.st_mode & 0o022
    return status.st_uid == os.getuid() and not others_write


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
