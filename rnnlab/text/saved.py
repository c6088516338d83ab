"""Vocabularies and pipelines as JSON files that say what they are."""

import json
from pathlib import Path
from typing import Any

from rnnlab._files import write_text
from rnnlab.data.text import as_path, decode_utf8, read_bytes

VERSION = 1
"""The version of the files; a later rnnlab that changes their meaning raises it."""


def write_saved(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Writes ``content`` as the JSON file of a ``kind``, whole or not at all."""
    record = {"format": f"rnnlab {kind}", "version": VERSION, **content}
    write_text(as_path(path), json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def read_saved(path: str | Path, kind: str) -> dict[str, Any]:
    """The content of a file of :func:`write_saved`.

    Raises:
        ValueError: for a file that is unreadable, not UTF-8 or not JSON (with the line), of another
            kind, or of another version.
    """
    path = as_path(path)
    text = decode_utf8(path, read_bytes(path, f"a JSON file with a {kind}"))
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON (line {error.lineno}, column {error.colno}: {error.msg}); give a "
            f"file that a {kind} was saved to"
        ) from None
    if not isinstance(record, dict) or record.get("format") != f"rnnlab {kind}":
        raise ValueError(f"{path} holds no {kind}; give a file that a {kind} was saved to")
    if record.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {record.get('version')!r}, but this rnnlab reads version "
            f"{VERSION}; save the {kind} again with this one"
        )
    return record
