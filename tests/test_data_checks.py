"""Bad data is refused at the boundary, with its place: batches, tables and text."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.data import Batch, batches, check_batch, encode, read_table, read_text


def vectors(**changes):
    """A batch of vectors in which nothing is wrong, with changes."""
    fields = {
        "xs": np.ones((4, 3, 2)),
        "targets": np.ones((4, 3, 5)),
        "mask": np.ones((4, 3), bool),
        "lengths": np.array([4, 2, 0]),
        "resets": np.zeros((4, 3), bool),
    }
    return Batch(**(fields | changes))


def with_value(array, place, value):
    changed = np.array(array)
    changed[place] = value
    return changed


CODES = np.array([[0, 1], [2, 3], [4, 0]])
LABELS = np.array([1, 2])
GOOD = [
    (vectors(), {}),
    (vectors(mask=None, lengths=None, resets=None), {}),
    (Batch(CODES, LABELS), {"vocabulary_size": 5, "classes": 3}),
    (Batch(CODES, CODES), {"vocabulary_size": 5, "classes": 5}),
    (Batch(jnp.asarray(CODES), jnp.asarray(LABELS)), {"vocabulary_size": 5}),
    (Batch(CODES, np.array([0.5, -1.0])), {}),
    (Batch(jnp.ones((3, 2, 1), jnp.bfloat16), jnp.ones((7, 2, 1), jnp.bfloat16)), {}),
    # Padding and targets that do not count may hold anything.
    (Batch(with_value(CODES, (2, 1), -1), LABELS, lengths=np.array([3, 2])), {"classes": 3}),
    (Batch(CODES, with_value(CODES, (1, 0), -1), mask=CODES != 2), {"classes": 5}),
    (vectors(xs=with_value(np.ones((4, 3, 2)), (2, 1), np.nan)), {}),
    (Batch(CODES, LABELS, mask=np.array([0, 1])), {}),
]


@pytest.mark.parametrize(("batch", "sizes"), GOOD)
def test_good_batches_pass(batch, sizes):
    check_batch(batch, **sizes)


BAD = [
    (Batch(CODES, LABELS), {"vocabulary_size": 4}, "xs[2, 0] is 4; a code must lie in 0..3"),
    (Batch(-CODES, LABELS), {}, "xs[0, 1] is -1; a code must be at least 0"),
    (Batch(CODES / 2, LABELS), {}, "xs is float64; a code must be an integer"),
    (Batch(CODES, LABELS), {"classes": 2}, "targets[1] is 2; a label must lie in 0..1"),
    (Batch(CODES, -LABELS), {}, "targets[0] is -1; a label must be at least 0"),
    (Batch(CODES, CODES - 1), {}, "targets[0, 0] is -1; a label must be at least 0"),
    (Batch(CODES, LABELS / 2), {"classes": 2}, "targets is float64[2], but labels are integers"),
    (Batch(CODES, LABELS), {"classes": 0}, "the number of codes is 0"),
    (Batch(CODES, LABELS, lengths=[3, 4]), {}, "lengths[1] is 4; a length must lie in 0..3"),
    (Batch(CODES, LABELS, lengths=[-1, 3]), {}, "lengths[0] is -1; a length must lie in 0..3"),
    (Batch(CODES, LABELS, lengths=[1.5, 3]), {}, "lengths is float"),
    (Batch(CODES, LABELS, lengths=[3]), {}, "lengths has shape (1,); it must be (2,)"),
    (Batch(CODES, LABELS, resets=CODES), {}, "resets[1, 0] is 2; give booleans, or 0 and 1"),
    (Batch(CODES, LABELS, resets=LABELS), {}, "resets has shape (2,); it must be (3, 2)"),
    (Batch(CODES, LABELS, mask=[0, 0]), {}, "mask leaves out every target"),
    (Batch(CODES, CODES, mask=[0, 1]), {}, "mask has shape (2,); it must be (3, 2)"),
    (Batch(CODES, [1, 2, 3, 4]), {}, "targets has shape (4,); it must be [T, 2]"),
    (
        Batch(np.ones((50, 20, 3)), np.zeros(50)),
        {},
        "xs has shape (50, 20, 3), which is 20 sequences of 50 steps, since time is the first axis",
    ),
    (Batch(CODES, np.zeros((3, 7))), {}, "xs has shape (3, 2), which is 2 sequences of 3 steps"),
    (Batch(CODES[0], LABELS), {}, "xs has shape (2,); it must be codes [T, B] or vectors"),
    (Batch(np.ones((0, 2, 1)), LABELS), {}, "xs has shape (0, 2, 1)"),
    (Batch([[1, 2], [3]], LABELS), {}, "xs is not an array of numbers; give one of NumPy or JAX"),
    (Batch(np.array([["a", "b"]]), LABELS), {}, "xs is text; give numbers, such as the"),
    (Batch(np.ones((1, 2, 1), complex), LABELS), {}, "xs is complex128; give real numbers"),
    (vectors(xs=with_value(np.ones((4, 3, 2)), (1, 0, 1), np.inf)), {}, "xs[1, 0, 1] is inf"),
    (vectors(targets=with_value(np.ones((4, 3)), (3, 2), np.nan)), {}, "targets[3, 2] is nan"),
]


@pytest.mark.parametrize(("batch", "sizes", "words"), BAD)
def test_the_first_fault_of_a_batch_is_named(batch, sizes, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        check_batch(batch, **sizes)
    message = str(caught.value)
    assert message.startswith(words)
    assert "\n" not in message


def test_batches_check_their_examples():
    with pytest.raises(ValueError, match=r"xs\[0, 1, 0\] is nan"):
        batches(vectors(xs=with_value(np.ones((4, 3, 2)), (0, 1, 0), np.nan)), 2)
    with pytest.raises(ValueError, match=r"xs\[2, 0\] is 4; a code must lie in 0..3"):
        batches(Batch(CODES, LABELS), 2, vocabulary_size=4)
    with pytest.raises(ValueError, match=r"targets\[1\] is 2; a label must lie in 0..1"):
        batches(Batch(CODES, LABELS), 2, classes=2)


TABLES = [
    (b"a,b\n1,2\n3,4\n", [[1, 2], [3, 4]], ("a", "b")),
    (b"1,2\n3,4", [[1, 2], [3, 4]], None),
    (b"\xef\xbb\xbf1, 2\r\n\r\n3,4e-1\r\n", [[1, 2], [3, 0.4]], None),
    (b'"a\nb",c\n"1",2\n', [[1, 2]], ("a\nb", "c")),
]


@pytest.mark.parametrize(("content", "values", "columns"), TABLES)
def test_tables_are_read(tmp_path, content, values, columns):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    table = read_table(path)
    np.testing.assert_array_equal(table.values, values)
    assert table.columns == columns


def test_columns_are_chosen_by_name_and_index(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("year;place;rain\n1990;York;3\n1991;Bath;4\n")
    table = read_table(path, columns=["rain", 0], delimiter=";")
    assert table.values.tolist() == [[3, 1990], [4, 1991]]
    assert table.columns == ("rain", "year")


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, {}, " cannot be read (No such file or directory); give the path of a CSV file"),
        (b"", {}, " is empty; give a file with at least one row of numbers"),
        (b"a,b\n", {}, " holds only a header"),
        (b"a,b\n1,2\n3\n", {}, ":3 has 1 column, but the first row has 2"),
        (b"1,2\n\n1,2,3\n", {}, ":3 has 3 columns, but the first row has 2"),
        (b"1,2\n3,x\n", {}, ":2 has 'x' in column 1; give a finite number"),
        (b"1,x\n3,4\n", {}, ":1 has 'x' in column 1"),
        (b"1,2\n3,\n", {}, ":2 has '' in column 1"),
        (b"1,2\n3,nan\n", {}, ":2 has 'nan' in column 1"),
        (b"1,2\n3,4\n-inf,4\n", {}, ":3 has '-inf' in column 0"),
        (b"1,2\n3,1_0\n", {}, ":2 has '1_0' in column 1"),
        (b'1,2\n"3"x,4\n', {}, ":2 is not CSV ("),
        (b"1,2\n3,\xff\n", {}, " is not UTF-8 (line 2, byte 3: 0xff)"),
        (b"1,2\n", {"columns": ["a"]}, " has no header, so 'a' is unknown"),
        (b"a,b\n1,2\n", {"columns": ["c"]}, " has 0 columns named 'c'; give one of a, b"),
        (b"a,a\n1,2\n", {"columns": ["a"]}, " has 2 columns named 'a'"),
        (b"1,2\n", {"columns": [0.5]}, " has no column 0.5; give an index in 0..1"),
        (b"a,b\n1,2\n", {"columns": [2]}, " has no column 2; give an index in 0..1"),
    ],
)
def test_bad_tables_are_refused_with_file_and_line(tmp_path, content, options, words):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"table\.csv") as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}{words}")
    assert "\n" not in message


@pytest.mark.parametrize("columns", ["rain", [], 0])
def test_columns_are_a_list(tmp_path, columns):
    path = tmp_path / "table.csv"
    path.write_text("rain\n1\n")
    with pytest.raises(ValueError, match="give a list of names or indices"):
        read_table(path, columns=columns)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caf\xe9", " is not UTF-8 (line 1, byte 4: 0xe9); convert it"),
        (b"\xef\xbb\xbfab\xff", " is not UTF-8 (line 1, byte 3: 0xff)"),
        ("é\nüb\n".encode() + b"\xc3", " is not UTF-8 (line 3, byte 1: 0xc3)"),
        ("é\nüb".encode() + b"\x80\n", " is not UTF-8 (line 2, byte 4: 0x80)"),
        (b"", " is empty; give a text"),
        (b"\xef\xbb\xbf", " is empty; give a text"),
    ],
)
def test_bad_text_is_refused_with_line_and_byte(tmp_path, content, words):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.txt") as caught:
        read_text(path)
    assert str(caught.value).startswith(f"{path}{words}")


def test_text_from_windows_is_the_same(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfab\r\n\xc3\xa9\r\n")
    text, source = read_text(path)
    assert text == "ab\né\n"
    assert source["characters"] == 5


@pytest.mark.parametrize("delimiter", ["", ", ", None, '"'])
def test_a_delimiter_is_one_character(tmp_path, delimiter):
    path = tmp_path / "table.csv"
    path.write_text("1,2\n")
    with pytest.raises(ValueError, match=r"delimiter is .*; give one character"):
        read_table(path, delimiter=delimiter)


@pytest.mark.parametrize("batch", [(CODES, LABELS), None, CODES])
def test_what_is_no_batch_is_refused(batch):
    for call in (lambda: check_batch(batch), lambda: batches(batch, 2)):
        with pytest.raises(ValueError, match=r"batch is .*; give rnnlab\.data\.Batch"):
            call()


def test_an_empty_corpus_is_refused():
    with pytest.raises(ValueError, match="the text is empty; give at least one character"):
        encode("", {}, 5)
