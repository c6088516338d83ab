"""Sentences, tables, files and figures from records."""

import io
import json
import math

import pytest
from rich.console import Console

from rnnlab._files import write_text
from rnnlab._json import as_json
from rnnlab.report import sentences
from rnnlab.report.figures import gradients as figures
from rnnlab.studies import records


def summary_of(**change):
    return {
        "cell": "rnn", "phase": "untrained", "decay_per_step": math.log(2) / 1.9, "half_life": 1.9,
        "horizon": 19, "vanishes": True, "horizon_low": 17, "horizon_high": 23, "example_low": 12,
        "example_high": 40, "late_decay_per_step": 0.1, "zero_share": 0.0, "lags": 100,
        "length": 100, "seeds": 5, "doubtful": 0,
    } | change  # fmt: skip


NEVER = {"horizon": 100, "vanishes": False, "horizon_low": 100, "horizon_high": 100}
FIRST = "is still above 1/1000 at the first step, 99 steps back"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {},
            (
                "rnn: the gradient halves every 1.9 steps and is below 1/1000 after 19 steps "
                "(17 to 23 over 5 seeds)."
            ),
        ),
        (
            {"horizon": 1, "horizon_low": 1, "horizon_high": 1, "decay_per_step": None},
            "rnn: the gradient is below 1/1000 after 1 step.",
        ),
        (
            {"horizon_high": 100},
            (
                "rnn: the gradient halves every 1.9 steps and is below 1/1000 after 19 steps "
                "(17 to the whole sequence over 5 seeds)."
            ),
        ),
        (
            {"decay_per_step": 0.01, "horizon_low": 19, "horizon_high": 19, "zero_share": 0.5},
            (
                "rnn: the gradient is below 1/1000 after 19 steps; "
                "beyond some lag it is exactly zero in 50 % of the examples."
            ),
        ),
        (NEVER, f"rnn: the gradient halves every 1.9 steps and {FIRST}."),
        (
            {**NEVER, "decay_per_step": -math.log(2)},
            f"rnn: the gradient doubles every 1 step and {FIRST}.",
        ),
        ({**NEVER, "decay_per_step": 1e-9}, f"rnn: the gradient keeps its norm and {FIRST}."),
        (
            {**NEVER, "zero_share": 1 / 32},
            (
                f"rnn: the gradient halves every 1.9 steps and {FIRST}; "
                "beyond some lag it is exactly zero in 3.12 % of the examples."
            ),
        ),
        (
            {"horizon": None},
            "rnn: inputs, weights or gradients are not finite, so the reach is undefined.",
        ),
        (
            {**NEVER, "doubtful": 2},
            (
                f"rnn: the gradient halves every 1.9 steps and {FIRST} "
                "(without 2 seeds whose numbers are not finite)."
            ),
        ),
        (
            {**NEVER, "loss": 2.3456, "accuracy": 0.512, "clipped_share": 0.25},
            (
                f"rnn: the gradient halves every 1.9 steps and {FIRST}. "
                "It predicts the next symbol with a loss of 2.35 nats and an accuracy of 51.2 %; "
                "the gradient was clipped in 25 % of the training steps."
            ),
        ),
    ],
)
def test_sentences(change, expected):
    assert sentences.sentence(summary_of(**change)) == expected


def test_the_finding_gives_the_range_over_the_seeds():
    summary = [
        summary_of(horizon=52, horizon_low=28, horizon_high=100),
        summary_of(cell="lstm", **NEVER),
    ]
    assert sentences.finding(summary) == (
        "Steps back until the gradient is below 1/1000 (median and range of 5 seeds): "
        "rnn 52 (28 to ≥ 100), lstm ≥ 100"
    )
    assert sentences.finding([summary_of(horizon=None, seeds=1)]).endswith(": rnn not finite")


def made_up(phases=("untrained",), decay=0.3, seeds=2, steps=40, cells=("rnn", "lstm")):
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
    console.print(sentences.table(summary, norms, (4, 40)))
    text = console.export_text()
    for shown in ("rnn", "lstm", "0.3648", "1.9", "19 (17 to 23)", "-0.03", "-0.75"):
        assert shown in text


@pytest.mark.combinations
@pytest.mark.parametrize("decay", [0.3, -0.5, 0.0, 40.0])
@pytest.mark.parametrize("phases", [("untrained",), ("untrained", "trained")])
def test_figures_of_vanishing_exploding_and_constant_gradients(tmp_path, decay, phases):
    figures.gradient_norms(*made_up(phases, decay), tmp_path)
    assert (tmp_path / "gradient_norms.png").stat().st_size > 10_000
    svg = (tmp_path / "gradient_norms.svg").read_text()
    for shown in (
        "sequence length T (steps)",
        "lag (steps back from the last)",
        "rnn",
        "1/1000",
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
    """NaN and infinity are not JSON: most readers refuse a file with one of them."""
    rows = [{"x": math.nan, "y": 1.5}, {"x": None, "y": -math.inf}]
    records.write_json(tmp_path / "file.json", {"config": {"a": (1, math.inf)}, "rows": rows})
    content = json.loads((tmp_path / "file.json").read_text(), parse_constant=pytest.fail)
    assert content == {
        "config": {"a": [1, None]},
        "rows": [{"x": None, "y": 1.5}, {"x": None, "y": None}],
    }
    assert as_json([math.nan, {"a": [2, math.inf]}]) == '[null, {"a": [2, null]}]'
    records.write_csv(tmp_path / "file.csv", ("x", "y"), {"rows": rows})
    assert (tmp_path / "file.csv").read_text() == "record,x,y\nrows,,1.5\nrows,,\n"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.json"
    records.write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="JSON"):
        records.write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
