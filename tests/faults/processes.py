"""All kinds that end processes, tried by a process that does not compute itself."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import jax

from rnnlab import quick_start
from tests.faults import kills, sharing, signals, tiny
from tests.faults.children import uninterrupted
from tests.faults.table import Count


def main(short: bool) -> list[Count]:
    """The counts of all kinds."""
    counts = []
    with tiny.workplace() as place:
        os.environ["JAX_PLATFORMS"] = "cpu"
        quick_start()
        _keep_programs(place / "programs")
        truth = uninterrupted(place / "truth", keep=100)
        counts.append(kills.random_kills(_new(place, "random"), truth, short))
        counts += kills.kills_at_operations(_new(place, "operations"), truth, short)
        counts += signals.signals(_new(place, "signals"), truth, short)
        if not short:
            counts.append(signals.twice(_new(place, "twice"), truth))
        counts.append(sharing.readers(_new(place, "readers"), place / "truth", short))
        counts.append(sharing.two_writers(_new(place, "writers"), truth, short))
    return counts


def _new(place: Path, name: str) -> Path:
    folder = place / name
    folder.mkdir()
    return folder


def _keep_programs(folder: Path) -> None:
    """The children read the programs that the first one, which is not killed, compiled."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if __name__ == "__main__":
    print(json.dumps([dataclasses.asdict(count) for count in main("--short" in sys.argv)]))
