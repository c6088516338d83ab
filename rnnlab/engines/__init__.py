"""Ways to run a cell over a sequence; one a file, every one bound to ``scan`` by tests."""

from rnnlab.engines.scan import scan

ENGINES = {"scan": scan}
PLANNED = ("fused", "checkpointed", "associative", "newton", "pallas", "cudnn")


def choose(engine: str) -> str:
    """The engine that serves ``engine``; ValueError for one that is unknown or not built yet, never a fallback."""
    if engine == "auto":
        return "scan"
    if engine in PLANNED:
        raise ValueError(f"engine {engine!r} is planned but not built yet; use engine='scan' or 'auto'")
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is unknown; use one of {', '.join(map(repr, ('auto', *ENGINES)))}")
    return engine


__all__ = ["ENGINES", "PLANNED", "choose", "scan"]
