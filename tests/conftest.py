"""Settings of the whole test run: 64-bit floats are available, and devices are the CPU's."""

import collections
import gc
import os
import re
import signal

import hypothesis
import pytest

from rnnlab import quick_start

os.environ.setdefault("JAX_PLATFORMS", "cpu")
given = "backend_optimization_level" in os.environ.get("XLA_FLAGS", "")
quick_start()
if not given:
    # The tests compile hundreds of small programs and run each once: compile quickly rather than
    # well. What users run, the command line, is tested in processes of its own, without these
    # flags.
    # Compiling a program in several parts takes more CPU time in total, and the other cores are
    # busy with other tests.
    flags = re.sub(r"(parallel_codegen_split_count)=\d+", r"\1=1", os.environ["XLA_FLAGS"])
    flags += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ["XLA_FLAGS"] = flags
if "device_count" not in os.environ["XLA_FLAGS"]:
    # Two devices, for what divides a batch among several; everything else stays on the first.
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"

# A shell ignores Ctrl-C in what it starts in the background, and so would the commands under test.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tracing makes many objects and few cycles: collecting them less often saves a tenth of the time.
gc.set_threshold(200_000, 20, 100)

import jax  # noqa: E402 (which reads them)

jax.config.update("jax_enable_x64", True)  # a test that means float32 says so
hypothesis.settings.register_profile("rnnlab", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("rnnlab")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Drops compiled programs after each file, which would otherwise add up to gigabytes."""
    yield
    jax.clear_caches()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives all tests of a file to one process, since they share programs and finished runs.

    The experiments share none and take long, so each is given to the process that is free first.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            alone = file.endswith("test_experiments.py") and test.startswith("test_a_quick_run")
            return nodeid if alone else file

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks all but the first of a contract's combinations as long."""
    seen = set()
    for item in items:
        if not item.get_closest_marker("combinations"):
            continue
        test = item.nodeid.partition("[")[0]
        if test in seen:
            item.add_marker("long")
        seen.add(test)


def pytest_terminal_summary(terminalreporter):
    """Says in one line what was skipped, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in skipped
    )
    told = "; ".join(f"{count} since {reason}" for reason, count in reasons.items())
    terminalreporter.write_line(f"skipped: {told or 'nothing'}")
