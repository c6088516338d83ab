"""Metrics on disk and in memory: lines of JSON, their history, and the way back to a checkpoint."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.training.faults import CheckpointError
from rnnlab.training.metrics import History, JsonLines, numbers, read_metrics
from tests.reference import one_sentence

ROWS = [
    {"step": 0, "horizon": 3, "lags": [0, 1, 2]},
    {"step": 1, "loss": 2.5, "told": "größer\n\u2028λ"},
    {"step": 2, "loss": None, "skipped": "the loss is not finite"},
    {"step": 3, "loss": 1.25},
]


def lines(path, rows=ROWS):
    file = JsonLines(path)
    for row in rows:
        file.write(row["step"], {name: value for name, value in row.items() if name != "step"})
    return file


def test_a_history_gives_each_metric_with_its_steps():
    history = History(ROWS)
    assert history.names() == {"horizon", "lags", "loss", "told", "skipped"}
    assert history.steps("loss").tolist() == [1, 2, 3]
    np.testing.assert_array_equal(history["loss"], [2.5, np.nan, 1.25])
    assert history["horizon"].tolist() == [3]
    assert history["lags"].shape == (1, 3)
    assert history["skipped"].tolist() == ["the loss is not finite"]


def test_a_history_is_read_like_a_dictionary():
    history = History(ROWS)
    assert list(history) == sorted(history.names())
    assert len(history) == 5
    assert "loss" in history
    assert "los" not in history
    assert repr(history) == "History(4 records, steps 0 to 3: horizon, lags, loss, skipped, told)"
    assert repr(History([])) == "History(0 records)"


def test_a_metric_that_was_not_recorded_is_named_with_those_that_were():
    with pytest.raises(KeyError, match="no metric 'los' was recorded; there are: horizon, lags, l"):
        History(ROWS)["los"]
    with pytest.raises(KeyError, match="there are: none"):
        History([])["loss"]
    assert History(ROWS).steps("los").tolist() == []


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = lines(path)
    file.close()
    assert read_metrics(path).records == ROWS == file.records
    assert len(path.read_bytes().splitlines()) == len(ROWS)
    assert "NaN" not in path.read_text()


def test_a_number_that_is_not_finite_is_null_also_within_a_list(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = JsonLines(path)
    file.write(1, {"loss": math.nan, "each": [1.0, math.inf]})
    file.close()
    assert json.loads(path.read_text()) == {"step": 1, "loss": None, "each": [1.0, None]}


@pytest.mark.parametrize("kept", range(len(ROWS) + 1))
def test_the_file_goes_back_to_any_checkpoint(tmp_path, kept):
    """By another process, which cuts off all later lines and writes its own."""
    path = tmp_path / "metrics.jsonl"
    file = lines(path, ROWS[:kept])
    position = file.position
    assert position["bytes"] == len(path.read_bytes())
    for row in ROWS[kept:]:
        file.write(row["step"], {"loss": 0.0})
    file.close()
    with path.open("ab") as cut:
        cut.write(b'{"step": 9, "lo')

    again = JsonLines(path)
    again.return_to(position)
    assert again.records == ROWS[:kept]
    assert again.position == position
    again.write(4, {"loss": 7.0})
    again.close()
    assert read_metrics(path).records == [*ROWS[:kept], {"step": 4, "loss": 7.0}]


def test_without_a_checkpoint_all_lines_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines(path).close()
    again = JsonLines(path)
    again.return_to(None)
    assert again.records == []
    assert path.read_bytes() == b""
    again.close()


@pytest.mark.parametrize("harm", ["flipped", "shortened", "emptied"])
def test_lines_that_were_changed_are_refused_and_left(tmp_path, harm):
    path = tmp_path / "metrics.jsonl"
    file = lines(path)
    position = file.position
    file.close()
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[20] ^= 1
    else:
        content = content[: -5 if harm == "shortened" else 0]
    path.write_bytes(content)
    again = JsonLines(path)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is not the file .*; restore it "):
        again.return_to(position)
    again.close()
    assert path.read_bytes() == content


def test_a_last_line_that_is_cut_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines(path).close()
    content = path.read_bytes()
    for cut in (1, 5):
        path.write_bytes(content[:-cut])
        assert read_metrics(path).records == ROWS[:-1]
    path.write_bytes(b"")
    assert read_metrics(path).records == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"{'step': 2}", ("line 2 is not JSON",)),
        (b"", ("line 2 is not JSON",)),
        (b"\xff\xfe", ("line 2 is not JSON",)),
        (b"[" * 100_000, ("line 2 is not JSON",)),
        (b"3", ("line 2 is not a record",)),
        (b'["step"]', ("line 2 is not a record",)),
        (b'{"loss": 1.0}', ("line 2 is not a record",)),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, bad, words):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 3}\n')
    one_sentence(lambda: read_metrics(path), "metrics.jsonl", *words)
    one_sentence(lambda: read_metrics(str(path)), *words)


def test_numbers_are_as_short_as_float32_distinguishes_them():
    values = {
        "third": np.float64(1) / 3,
        "low": jnp.float32(0.1),
        "half": jnp.bfloat16(0.5),
        "nan": np.float32("nan"),
        "count": jnp.int32(2**24 + 1),
        "flag": np.bool_(True),
    }
    expected = {
        "third": 0.33333334, "low": 0.1, "half": 0.5, "nan": None, "count": 2**24 + 1, "flag": 1.0,
    }  # fmt: skip
    assert numbers(values) == expected
    assert type(numbers(values)["count"]) is int
