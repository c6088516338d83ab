"""Sentences, tables, files and figures from records."""

import io
import json
import math

import pytest
from rich.console import Console

from rnnlab.report import figures, records, words


def summary_of(**change):
    return {"cell": "rnn", "phase": "before", "decay_per_step": math.log(2) / 1.9, "half_life": 1.9, "horizon": 19,
            "length": 100, "doubtful": 0} | change  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            "rnn: the gradient halves every 1.9 steps; nothing earlier than 19 steps back is felt.",
        ),
        (
            {"horizon": 1},
            "rnn: the gradient halves every 1.9 steps; nothing earlier than 1 step back is felt.",
        ),
        (
            {"horizon": None},
            "rnn: the gradient halves every 1.9 steps; it is still felt at the start of the sequence, 99 steps back.",
        ),
        (
            {"decay_per_step": -math.log(2), "horizon": None},
            "rnn: the gradient doubles every 1 step; it is still felt at the start of the sequence, 99 steps back.",
        ),
        (
            {"decay_per_step": 1e-9, "horizon": None},
            "rnn: the gradient keeps its size; it is still felt at the start of the sequence, 99 steps back.",
        ),
        (
            {"decay_per_step": None, "horizon": 1},
            "rnn: the gradient dies at once; nothing earlier than 1 step back is felt.",
        ),
        (
            {"decay_per_step": None, "horizon": None},
            "rnn: the gradient is not finite or too short to be judged; nothing can be said.",
        ),
        (
            {"doubtful": 2},
            (
                "rnn: the gradient halves every 1.9 steps; nothing earlier than 19 steps back is felt "
                "(without 2 seeds whose numbers are not finite)."
            ),
        ),
    ],
)
def test_sentences(change, expected):
    assert words.sentence(summary_of(**change)) == expected


def made_up(phases=("before",), decay=0.3, seeds=2, steps=40, cells=("rnn", "lstm")):
    norms, flow, summary = [], [], []
    for cell in cells:
        for phase in phases:
            for seed in range(seeds):
                base = {"cell": cell, "seed": seed, "phase": phase}
                norms += [
                    {**base, "length": n, "parameter": "all", "log_norm": 0.1 * seed - n / 50}
                    for n in (4, steps)
                ]
                flow += [
                    {**base, "length": steps, "lag": lag, "log_norm": seed - decay * lag}
                    for lag in range(steps)
                ]
            summary.append(summary_of(cell=cell, phase=phase, length=steps))
    return norms, flow, summary


def test_table_shows_every_number():
    norms, _, summary = made_up()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(words.table(summary, norms, (4, 40)))
    text = console.export_text()
    for shown in ("rnn", "lstm", "0.3648", "1.9", "19", "-0.03", "-0.75"):
        assert shown in text


@pytest.mark.parametrize("decay", [0.3, -0.5, 0.0, 40.0])
@pytest.mark.parametrize("phases", [("before",), ("before", "after")])
def test_figures_of_vanishing_exploding_and_constant_gradients(tmp_path, decay, phases):
    figures.gradient_norms(*made_up(phases, decay), tmp_path)
    assert (tmp_path / "gradient_norms.png").stat().st_size > 10_000
    svg = (tmp_path / "gradient_norms.svg").read_text()
    for shown in (
        "sequence length T (steps)",
        "lag (steps back from the last)",
        "rnn",
        "no longer felt",
    ):
        assert shown in svg


def test_figures_of_what_is_missing_and_of_one_step(tmp_path):
    norms, flow, summary = made_up(steps=1, seeds=1)
    flow[0]["log_norm"] = norms[0]["log_norm"] = None
    figures.gradient_norms(norms, flow, summary, tmp_path)
    assert (tmp_path / "gradient_norms.svg").exists()


def test_equal_records_give_equal_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        figures.gradient_norms(*made_up(), tmp_path / name)
    for file in ("gradient_norms.png", "gradient_norms.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_json_comes_back(tmp_path):
    content = {
        "config": {"a": [1, None]},
        "norms": [{"x": 0.1}, {"x": None}],
        "flow": [],
        "summary": [{"y": "ü"}],
    }
    records.write_json(tmp_path / "file.json", content)
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == content


def test_what_is_missing_is_null_in_json_and_empty_in_a_table(tmp_path):
    """NaN and infinity are no JSON: most readers refuse a file with one of them."""
    rows = [{"x": math.nan, "y": 1.5}, {"x": None, "y": -math.inf}]
    records.write_json(tmp_path / "file.json", {"config": {"a": (1, math.inf)}, "rows": rows})
    content = json.loads((tmp_path / "file.json").read_text(), parse_constant=pytest.fail)
    assert content == {
        "config": {"a": [1, None]},
        "rows": [{"x": None, "y": 1.5}, {"x": None, "y": None}],
    }
    assert records.as_json([math.nan, {"a": [2, math.inf]}]) == '[null, {"a": [2, null]}]'
    records.write_csv(tmp_path / "file.csv", ("x", "y"), {"rows": rows})
    assert (tmp_path / "file.csv").read_text() == "record,x,y\nrows,,1.5\nrows,,\n"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.json"
    records.write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="JSON"):
        records.write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        records.write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
