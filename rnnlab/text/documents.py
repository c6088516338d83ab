"""Documents with labels, from a folder of files or a CSV file."""

import collections
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnlab import _check
from rnnlab.data.tables import check_delimiter, other_delimiter
from rnnlab.data.text import as_path, decode_utf8, read_bytes


class Documents(NamedTuple):
    """N texts, each with a label.

    Attributes:
        texts: N strings.
        labels: ``[N]``, whole numbers in 0..C−1.
        label_names: the C names of the labels.
        sources: where each text comes from: its file, and the line in a CSV file.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    label_names: tuple[str, ...]
    sources: tuple[str, ...]

    def __repr__(self) -> str:
        counts = collections.Counter(self.label_names[label] for label in self.labels)
        return _check.summary(self, texts=len(self.texts), labels=dict(counts))


class _Labelled(NamedTuple):
    text: str
    label: str
    source: str


def read_folder(
    folder: str | Path,
    *,
    labels: Sequence[str] | None = None,
    suffix: str = ".txt",
    skip_empty: bool = False,
) -> Documents:
    """The texts of a folder with a subfolder for each label.

    The reviews of Maas et al. (2011) have this form. Texts are sorted by label and file name, so
    shuffle them before you split them.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for label, text in (("neg", "dull"), ("pos", "great")):
    ...     (folder / label).mkdir()
    ...     _ = (folder / label / "0.txt").write_text(text)
    >>> read_folder(folder)
    Documents(texts=2, labels={'neg': 1, 'pos': 1})

    Args:
        folder: its subfolders are the labels; other files, and subfolders without files to read,
            are ignored.
        labels: the subfolders to read; by default all. ``aclImdb/train`` has reviews without a
            label in a third one, ``unsup``.
        suffix: the end of the names of the files to read.
        skip_empty: True leaves out files without text.

    Raises:
        ValueError: for a folder that cannot be read or has no such files, a label without files,
            and a file that is empty or not UTF-8, with its line.
    """
    folder = as_path(folder)
    if not isinstance(suffix, str) or set(suffix) & set("*?[]/\\"):
        raise ValueError(f"suffix is {suffix!r}; give the end of the files' names, such as '.txt'")
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one that has a folder for each label")
    paths = sorted(folder.glob(f"*/*{suffix}"))
    if labels is not None:
        paths = _of_labels(folder, paths, labels)
    found = []
    for path in paths:
        text = decode_utf8(path, read_bytes(path, "a UTF-8 text file"))
        found.append(_Labelled(text, path.parent.name, str(path)))
    if not found:
        raise ValueError(
            f"{folder} has no files */*{suffix}; give a folder that has a folder for each label, "
            "or another suffix"
        )
    return _collected(found, skip_empty)


def _of_labels(folder: Path, paths: list[Path], labels: Sequence[str]) -> list[Path]:
    if isinstance(labels, str) or not labels:
        raise ValueError(f"labels is {labels!r}; give a list of folders, such as ['neg', 'pos']")
    present = {path.parent.name for path in paths}
    for label in labels:
        if label not in present:
            among = ", ".join(sorted(present)) or "no folder"
            raise ValueError(f"{folder} has no files for the label {label!r}; choose among {among}")
    return [path for path in paths if path.parent.name in labels]


def read_csv(
    path: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    delimiter: str = ",",
    skip_empty: bool = False,
) -> Documents:
    """The texts of a CSV file (RFC 4180) with a header.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text('label,text\\npos,"great, really"\\nneg,dull\\n')
    >>> documents = read_csv(path)
    >>> documents.texts, documents.label_names, documents.labels.tolist()
    (('great, really', 'dull'), ('neg', 'pos'), [1, 0])

    Args:
        path: a UTF-8 file.
        text, label: the names of the two columns.
        delimiter: the character between cells, such as "\\t".
        skip_empty: True leaves out rows without text.

    Raises:
        ValueError: for a file that is unreadable, not UTF-8 or without rows, a column that is
            missing from the header or repeated in it, and a row that is too short, too long,
            without text or without a label, with its line.
    """
    path = as_path(path)
    check_delimiter(delimiter)
    content = decode_utf8(path, read_bytes(path, "a CSV file"))
    found = list(_rows(path, content, text, label, delimiter))
    if not found:
        raise ValueError(f"{path} has no rows below its header; give at least one")
    return _collected(found, skip_empty)


def _rows(path: Path, content: str, text: str, label: str, delimiter: str) -> Iterator[_Labelled]:
    # No cell can be longer than this; the default refuses those above 131 072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if not header:
            raise ValueError(f"{path}, line 1 is empty; give a header with the names of columns")
        for column in (text, label):
            if header.count(column) != 1:
                fault = "are two columns" if column in header else "is no column"
                raise ValueError(
                    f"{path}, line 1: there {fault} {column!r} among {', '.join(header)}; "
                    f"{_header_fix(header, delimiter)}"
                )
        start = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(header):
                raise ValueError(
                    f"{path}, line {start}: {len(row)} cells, but the header has {len(header)}; "
                    "put a text with the delimiter in it in quotes"
                )
            if row:
                source = f"{path}, line {start}"
                if not row[header.index(label)].strip():
                    raise ValueError(f"{source}: the label is empty; give one, or remove the row")
                yield _Labelled(row[header.index(text)], row[header.index(label)], source)
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; close its quotes") from None


def _header_fix(header: list[str], delimiter: str) -> str:
    # A name may hold a semicolon, but hardly the name of the only column.
    if len(header) == 1 and (other := other_delimiter(header[0], delimiter)):
        return f"give delimiter={other!r}"
    return "give the names of the two columns with text= and label="


def _collected(found: list[_Labelled], skip_empty: bool) -> Documents:
    _check.flag("skip_empty", skip_empty)
    kept = []
    for document in found:
        if document.text.strip():
            kept.append(document)
        elif not skip_empty:
            raise ValueError(
                f"{document.source}: the document is empty; remove it, or give skip_empty=True"
            )
    if not kept:
        raise ValueError(f"{found[0].source}: all documents are empty; give one with text")
    names = tuple(sorted({document.label for document in kept}))
    codes = {name: code for code, name in enumerate(names)}
    labels = np.array([codes[document.label] for document in kept], np.int32)
    texts = tuple(document.text for document in kept)
    return Documents(texts, labels, names, tuple(document.source for document in kept))
