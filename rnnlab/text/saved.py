"""JSON files of vocabularies and pipelines, with their kind and version."""

import json
from pathlib import Path
from typing import Any

from rnnlab._files import write_text
from rnnlab.data.text import as_path, decode_utf8, read_bytes
from rnnlab.text.tokens import is_utf8

VERSION = 1
"""The version of the files; a later rnnlab that changes their meaning raises it."""


def write_saved(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Writes ``content`` as the JSON file of a ``kind``, whole or not at all."""
    record = {"format": f"rnnlab {kind}", "version": VERSION, **content}
    text = json.dumps(record, ensure_ascii=False, indent=1)
    if not is_utf8(text):
        # JSON has an escape for a lone surrogate.
        text = json.dumps(record, indent=1)
    write_text(as_path(path), text + "\n")


def read_saved(path: str | Path, kind: str) -> dict[str, Any]:
    """The content of a file of :func:`write_saved`.

    Raises:
        ValueError: for a file that is unreadable, not UTF-8 or not JSON (with the line), of another
            kind, or of another version.
    """
    path = as_path(path)
    record = read_json(path, f"a JSON file with a {kind}")
    if not isinstance(record, dict) or record.get("format") != f"rnnlab {kind}":
        raise ValueError(f"{path} holds no {kind}; give a file that a {kind} was saved to")
    if record.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {record.get('version')!r}, but this rnnlab reads version "
            f"{VERSION}; save the {kind} again with this one"
        )
    return record


def read_json(path: Path, kind: str) -> Any:
    """The content of a JSON file; ValueError, with the line, if it is not JSON."""
    text = decode_utf8(path, read_bytes(path, kind))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        fault = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        fault = "its brackets are nested too deeply"
    except ValueError:
        fault = "a number has too many digits"
    raise ValueError(f"{path} is not JSON ({fault}); give the path of {kind}")
