"""The command: ``python -m tests.faults [--short]``."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.table import Count, show


def kinds() -> dict[str, Callable[[Path, bool], Count | list[Count]]]:
    """What is tried in this process, by name."""
    from tests.faults import commands, damage, disks, records, refusals, steps

    return {
        "flips": damage.flips,
        "cuts": damage.cuts,
        "foreign": damage.foreign,
        "resumed": damage.resumed,
        "settings": records.settings,
        "metrics": records.metrics,
        "others": records.others,
        "every step": steps.every_step,
        "not finite": steps.not_finite,
        "full": disks.full,
        "failing": disks.failing,
        "failed saves": disks.failed_saves,
        "refusals": refusals.refusals,
        "commands": refusals.commands,
        "killed commands": commands.kills,
    }


def tried(name: str, short: bool) -> list[Count]:
    """The counts of one kind."""
    from tests.faults import tiny

    with tiny.workplace() as place, tiny.programs(place / "programs"):
        (place / "runs").mkdir()
        counts = kinds()[name](place / "runs", short)
    return counts if isinstance(counts, list) else [counts]


def killed(short: bool) -> list[Count]:
    """The kinds that end processes, tried by a process that does not compute itself."""
    command = [sys.executable, "-m", "tests.faults.kills", *(["--short"] if short else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [Count(**fields) for fields in json.loads(done.stdout)]


def every_kind(short: bool, only: str | None) -> Iterator[Count]:
    for name in ["kills", *kinds()]:
        if only in (None, name):
            start = time.monotonic()
            yield from killed(short) if name == "kills" else tried(name, short)
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)


def main() -> int:
    """Prints the table; 1 where a fault was lost, restored wrongly or told unclearly."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few faults of each kind")
    parser.add_argument("--only", metavar="KIND", help="one kind of fault")
    options = parser.parse_args()
    if options.only not in (None, "kills", *kinds()):
        parser.error(f"there is no kind {options.only!r}; choose among kills, {', '.join(kinds())}")
    counts = list(every_kind(options.short, options.only))
    print(show(counts))
    return int(any(count.faults for count in counts))


if __name__ == "__main__":
    from rnnlab import quick_start

    quick_start()
    sys.exit(main())
