"""The HTML page of a run: what it says and refuses, and how it behaves in a browser."""

import copy
import hashlib
import itertools
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from rnnlab.report.page import dynamics as state_charts
from rnnlab.report.page import elements
from rnnlab.report.page import gradients as charts
from rnnlab.report.page.write import write_page
from tests.browser import chromium, opened

CELLS = ("rnn", "lstm", "gru")
DECAY = {"rnn": 0.5, "lstm": 0.25, "gru": 0.4}
"""Nats per step; the gradient is below 1/1000 after ln(1000)/DECAY steps: 14, 28 and 18."""
SEEDS, STEPS = 2, 40
CONFIG = {"settings": {"cells": ["rnn", "lstm"], "clip": None, "learning_rate": 1e-5},
          "machine": "x86_64", "versions": {"rnnlab": "0.1.0"},
          "command": "rnnlab gradients --cells rnn 'l stm' --out \"a & b\""}  # fmt: skip
SENTENCE = (
    "rnn: nearby trajectories diverge, λ₁ = 0.05 nats per step "
    "(±0.01, standard deviation over seeds), dimension 2.5"
)


def gradients(phases=("untrained",)):
    norms, flow, summary = [], [], []
    for cell in CELLS:
        for phase in phases:
            for seed in range(SEEDS):
                base = {"cell": cell, "seed": seed, "phase": phase}
                norms += [
                    {
                        **base,
                        "length": length,
                        "parameter": name,
                        "log_norm": 0.2 * seed - DECAY[cell] * length / 10,
                    }
                    for length in (4, STEPS)
                    for name in ("cell.w_h", "all")
                ]
                flow += [
                    {
                        **base,
                        "length": STEPS,
                        "lag": lag,
                        "log_norm": 0.1 * seed - (DECAY[cell] + 0.02 * seed) * lag,
                    }
                    for lag in range(STEPS)
                ]
            horizon = {"rnn": 14, "lstm": 28, "gru": 18}[cell]
            summary.append({
                "cell": cell, "phase": phase, "decay_per_step": DECAY[cell], "horizon": horizon,
                "vanishes": True, "horizon_low": horizon - 1, "horizon_high": horizon,
                "example_low": 3, "example_high": 40, "half_life": math.log(2) / DECAY[cell],
                "late_decay_per_step": None, "zero_share": 0.0, "lags": STEPS, "length": STEPS,
                "seeds": SEEDS, "doubtful": 0,
            })  # fmt: skip
    return {"config": CONFIG, "norms": norms, "flow": flow, "summary": summary}


def detail():
    where = [{"cell": cell, "phase": "untrained"} for cell in CELLS]
    """What a closer look adds to a gradient study."""
    return {
        "singular_values": [
            {**at, "seed": seed, "lag": lag, "index": index,
             "log_value": -DECAY[at["cell"]] * lag * index - 0.1 * seed}
            for at in where for seed in range(SEEDS)
            for lag in (1, 10, 30) for index in (1, 2, 3, 4)
        ],
        "contributions": [
            {**at, "parameter": name, "t": t, "k": k,
             "log_norm": -DECAY[at["cell"]] * (t - k) if k <= t else None}
            for at in where
            for name in (("w_x", "w_h", "p") if at["cell"] == "lstm" else ("w_x", "w_h"))
            for t in range(20) for k in range(20)
        ],
        "truncation": [
            {**at, "seed": seed, "steps": steps, "cosine": 1 - math.exp(-DECAY[at["cell"]] * steps),
             "relative_norm": 1 - 0.5 * math.exp(-DECAY[at["cell"]] * steps) + 0.01 * seed}
            for at in where for seed in range(SEEDS) for steps in (2, 5, 10, 20)
        ],
    }  # fmt: skip


def dynamics():
    each = [{"cell": cell, "seed": seed} for cell in CELLS for seed in range(SEEDS)]
    kinds = ("stable", "saddle", "unstable", "slow")
    return {
        "config": {**CONFIG, "command": "rnnlab dynamics"},
        "spectrum": [
            {**at, "index": i, "exponent": 0.25 - 0.1 * i - 0.01 * at["seed"]}
            for at in each for i in (1, 2, 3, 4)
        ],
        "trace": [
            {**at, "step": step, "exponent": 0.1 / step} for at in each for step in range(1, 500)
        ],
        "fixed_points": [
            {**at, "number": n, "kind": kind, "unstable": None if kind == "slow" else n, "q": 1e-12,
             "slowest": None if kind == "slow" else 12.5, "pc1": n - 1.5, "pc2": 0.5 * n}
            for at in each for n, kind in enumerate(kinds)
        ],
        "trajectories": [
            {**at, "example": e, "step": step,
             "pc1": math.cos(step / 3 + e), "pc2": math.sin(step / 3 + e)}
            for at in each for e in range(2) for step in range(30)
        ],
        "phase": [
            {"cell": cell, "axis": "recurrent gain", "value": value, "length": length,
             "exponent": value - 1.05, "horizon": length if value > 1 else length // 2,
             "vanishes": value <= 1, "decay_per_step": 1 - value}
            for cell in CELLS for value in (0.5, 0.8, 1.0, 1.1, 1.4) for length in (5, 20, 80)
        ],
        "summary": [
            {"cell": cell, "exponent": 0.05, "spread": 0.01, "kaplan_yorke": 2.5,
             "entropy_rate": 0.05, "attractor": None,
             "stable": 1, "saddle": 1, "unstable": 1, "slow": 1}
            for cell in CELLS
        ],
    }  # fmt: skip


def written(folder, **contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def pictures(path):
    """The pictures of each figure, as they stand in the page."""
    drawn = re.findall(
        r'<script type="application/json">(.*?)</script>', path.read_text(encoding="utf-8")
    )
    return [json.loads(figure)["pictures"] for figure in drawn]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A page of everything that a run can hold."""
    folder = tmp_path_factory.mktemp("full")
    return write_page(
        written(folder, gradients=gradients() | detail(), dynamics=dynamics(), config=CONFIG)
    )


def test_the_finding_comes_first_and_all_is_told(full):
    text = full.read_text(encoding="utf-8")
    assert full.name == "report.html"
    assert (
        "<title>Steps back until the gradient is below 1/1000 (median and range of 2 seeds): "
        "rnn 14 (13 to 14), lstm 28 (27 to 28), gru 18 (17 to 18)</title>" in text
    )
    told = ["gru: the gradient halves every 1.73 steps and is below 1/1000 after 18 steps (17 to",
            SENTENCE, "<figure", "<dd>1e-05</dd>", "0.1.0",
            "rnnlab gradients --cells rnn &#x27;l stm&#x27; --out &quot;a &amp; b&quot;",
            "<code>rnnlab dynamics</code>"]  # fmt: skip
    places = [text.index(part) for part in told]
    assert places[:3] == sorted(places[:3])
    levels = [int(level) for level in re.findall(r"<h(\d)[ >]", text)]
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


def test_titles_say_what_was_found(full):
    assert [figure[0]["title"] for figure in pictures(full)] == [
        (
            "Steps back until the gradient is below 1/1000 (median and range of 2 seeds): "
            "rnn 14 (13 to 14), lstm 28 (27 to 28), gru 18 (17 to 18)"
        ),
        (
            "Change of the gradient norm from T = 4 to T = 40: "
            "rnn × 0.165, lstm × 0.407, gru × 0.237"
        ),
        "Largest singular value over 30 steps: rnn 2.9 · 10⁻⁷, lstm 5.3 · 10⁻⁴, gru 5.8 · 10⁻⁶",
        "rnn, w_x: contributions are above 1/1000 of the largest up to 13 steps back",
        "Truncation length for a cosine of 0.99 (steps): rnn 10, lstm 20, gru 20",
        "Nearby trajectories diverge: rnn (λ₁ = 0.05), lstm (λ₁ = 0.05), gru (λ₁ = 0.05)",
        (
            "Range of the λ₁ estimate in the second half of the run (nats/step): "
            "rnn 0.0002, lstm 0.0002, gru 0.0002"
        ),
        "rnn, seed 0: 1 stable fixed point, 1 saddle, 1 unstable point, 1 slow point",
        "λ₁ is positive for recurrent gains above 1.05 (rnn)",
    ]


def test_what_is_never_reached_is_said():
    unfelt = charts.contributions(
        [r for r in detail()["contributions"] if r["cell"] == "lstm"]
    ).pictures
    assert (
        unfelt[0]["title"]
        == "lstm, w_x: contributions are above 1/1000 of the largest over the whole sequence"
    )
    nothing = [r | {"log_norm": None} for r in detail()["contributions"]]
    assert (
        charts.contributions(nothing).pictures[0]["title"] == "rnn, w_x: no contribution is finite"
    )
    phase = [r | {"exponent": -0.1} for r in dynamics()["phase"]]
    first, _, decay = state_charts.phase_diagram(phase).pictures[:3]
    assert first["title"] == "λ₁ is positive at no measured recurrent gain (rnn)"
    assert decay["title"] == "rnn: decay from −0.4 to 0.5 nats/step"
    short = [r | {"cosine": 0.5} for r in detail()["truncation"]]
    assert (
        charts.truncation(short)
        .pictures[0]["title"]
        .endswith("rnn more than 20, lstm more than 20, gru more than 20")
    )
    never = {"horizon": STEPS, "vanishes": False, "horizon_low": STEPS, "horizon_high": STEPS}
    summary = [r | never for r in gradients()["summary"]]
    assert (
        charts.flow_by_lag(gradients()["flow"], summary)
        .pictures[0]["title"]
        .endswith("rnn ≥ 40, lstm ≥ 40, gru ≥ 40")
    )
    alone = [point for point in dynamics()["trajectories"] if point["seed"] == 1]
    assert (
        state_charts.portrait([], alone).pictures[0]["title"] == "rnn, seed 1: no fixed point found"
    )


def test_lines_hold_the_median_and_bands_the_range_of_the_seeds():
    content = gradients()
    [picture] = charts.flow_by_lag(content["flow"], content["summary"]).pictures
    band, line = picture["data"][:2]
    lags = np.arange(1, STEPS)
    assert line["x"] == list(lags)
    # The lower of two seeds is their median, as it is in the horizon.
    np.testing.assert_allclose(line["y"], -0.52 * lags / math.log(10), rtol=1e-4)
    np.testing.assert_allclose(band["y"][: STEPS - 1], -0.5 * lags / math.log(10), rtol=1e-4)
    np.testing.assert_allclose(
        band["y"][STEPS - 1 : -1], -0.52 * lags[::-1] / math.log(10), rtol=1e-4
    )
    assert band["legendgroup"] == line["legendgroup"] == "rnn"
    assert line["text"][9] == "0.00552 (seeds 0.00552 to 0.00674)"


def test_what_is_missing_is_a_gap_and_a_seed_without_a_start_is_left_out():
    content = gradients()
    for step in content["flow"]:
        if step["cell"] == "rnn" and (step["seed"], step["lag"]) in ((0, 5), (1, 0)):
            step["log_norm"] = None
        if step["cell"] == "lstm" and (step["seed"], step["lag"]) == (1, 7):
            step["log_norm"] = None
    alone, band, line = charts.flow_by_lag(content["flow"], content["summary"]).pictures[0]["data"][
        :3
    ]
    assert alone["mode"] == "lines+markers"  # one seed is left, and has no band
    assert [place for place, y in enumerate(alone["y"], 1) if y is None] == [5]
    assert [place for place, y in enumerate(line["y"], 1) if y is None] == [7]
    assert [place for place, y in enumerate(band["y"]) if y is None] == [
        12,
        len(band["y"]) - 1,
    ]  # 6 steps there and back


@pytest.mark.parametrize("log", [True, False])
def test_long_lines_are_thinned_between_their_ends(log):
    seeds = np.stack([np.linspace(0, 1, 5000)])
    [line] = elements.line(list(range(1, 5001)), seeds, {"name": "rnn", "number": 0}, str, log=log)
    assert len(line["x"]) == len(line["y"]) == len(line["text"]) <= 300
    assert (line["x"][0], line["x"][-1]) == (1, 5000)
    assert line["x"] == sorted(set(line["x"]))


@pytest.mark.parametrize(
    ("decades", "said"),
    [
        (0, "1"),
        (-1, "0.1"),
        (3.5, "3.16e+03"),
        (-5000.5, "3.2 · 10⁻⁵⁰⁰¹"),
        (4.99999, "1.0 · 10⁵"),
        (math.nan, "–"),
    ],
)
def test_powers_of_ten_in_words(decades, said):
    assert elements.power(decades) == said


def test_the_future_contributes_nothing_and_colours_end_at_the_floor():
    [heat] = charts.contributions(detail()["contributions"]).pictures[0]["data"]
    assert heat["z"][3][3] == 0
    assert heat["z"][3][4] is None
    assert heat["z"][19][0] == pytest.approx(-0.5 * 19 / math.log(10), rel=1e-4)
    whole = [r | {"parameter": "all"} for r in detail()["contributions"] if r["parameter"] == "w_h"]
    keys = [
        picture["key"]
        for picture in charts.contributions(detail()["contributions"] + whole).pictures
    ]
    assert keys[0] == ["rnn", "untrained", "all"]
    assert len(keys) == 10
    steep = [
        r | {"log_norm": 10 * r["log_norm"]}
        for r in detail()["contributions"]
        if r["log_norm"] is not None
    ]
    [heat] = charts.contributions(steep).pictures[0]["data"]
    assert (heat["zmin"], heat["zmax"]) == (-12, 0)


def test_a_phase_diagram_stands_at_its_values_or_at_their_logs():
    heat, zero = state_charts.phase_diagram(dynamics()["phase"]).pictures[0]["data"]
    assert heat["y"] == zero["y"] == [0.5, 0.8, 1.0, 1.1, 1.4]
    np.testing.assert_allclose(heat["x"], np.log10([5, 20, 80]), rtol=1e-4)
    assert heat["customdata"][1][2] == [80, 0.8]
    assert heat["z"][4][0] == 0.35


@pytest.mark.parametrize("phases", [("untrained",), ("untrained", "trained")])
def test_plotly_knows_every_setting(tmp_path, phases):
    from plotly.graph_objects import Figure

    more = detail()
    for name in ("singular_values", "contributions", "truncation"):
        more[name] = [record | {"phase": phase} for phase in phases for record in more[name]]
    path = write_page(
        written(tmp_path / "run", gradients=gradients(phases) | more, dynamics=dynamics())
    )
    drawn = [picture for figure in pictures(path) for picture in figure]
    assert len(drawn) == 1 + 1 + len(phases) * (1 + 7 + 1) + 1 + 1 + 6 + 9
    for picture in drawn:
        coloured = json.loads(re.sub(r'"--[a-z0-9]+"', '"#000000"', json.dumps(picture)))
        figure = Figure(
            coloured["data"], coloured["layout"]
        )  # ValueError for a name or value that it does not know
        assert len(figure.data) == len(picture["data"])
    if len(phases) > 1:
        assert {"lstm (trained)", "lstm (untrained)"} <= {
            trace["name"] for trace in drawn[0]["data"]
        }
        assert {picture["key"][0] for picture in pictures(path)[2]} == {"untrained", "trained"}


def test_the_page_needs_nothing_else_and_equal_records_give_equal_pages(full, tmp_path):
    text = full.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert "default-src 'none'" in text
    again = written(
        tmp_path / "again", gradients=gradients() | detail(), dynamics=dynamics(), config=CONFIG
    )
    assert write_page(again).read_bytes() == full.read_bytes()
    assert {file.name for file in again.iterdir()} == {
        "config.json", "dynamics.json", "gradients.json", "report.html",
    }  # fmt: skip


def test_what_is_missing_or_does_not_belong_stands_at_the_top(tmp_path):
    run = written(tmp_path / "run", gradients=gradients(), config=CONFIG)
    text = write_page(run).read_text(encoding="utf-8")
    assert 0 < text.index("Note: The run is not finished: SHA256SUMS") < text.index("<section>")
    sums = [
        f"{hashlib.sha256((run / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("config.json", "gradients.json")
    ]
    (run / "SHA256SUMS").write_text("".join(sums))
    assert "Note:" not in write_page(run).read_text(encoding="utf-8")
    (run / "SHA256SUMS").write_text("".join(sums) + "0  <b>.png\n")
    assert "Note: &lt;b&gt;.png is missing." in write_page(run).read_text(encoding="utf-8")


def test_a_run_that_is_moved_in_half_is_whole_in_the_page(tmp_path):
    run = written(tmp_path / "run", gradients=gradients(), config=CONFIG)
    unfinished = written(run / "unfinished", dynamics=dynamics())
    digest = hashlib.sha256((unfinished / "dynamics.json").read_bytes()).hexdigest()
    (unfinished / "SHA256SUMS").write_text(f"{digest}  dynamics.json\n")
    assert "State dynamics" in write_page(run).read_text(encoding="utf-8")
    assert not unfinished.exists()


def test_an_unfinished_run_has_its_own_page(tmp_path):
    part = gradients() | {
        "missing": [["gru", "untrained", [40], "flow"], ["gru", "untrained", [80], "flow"]]
    }
    (tmp_path / "run").mkdir()
    unfinished = written(tmp_path / "run" / "unfinished", gradients=part)
    with pytest.raises(
        ValueError, match=r"holds an unfinished run; finish it with --resume, or give .*unfinished"
    ):
        write_page(tmp_path / "run")
    text = write_page(unfinished).read_text(encoding="utf-8")
    assert "is missing. Measurements still missing: 2." in text


def test_a_command_with_bytes_that_are_no_text_is_shown(tmp_path):
    content = gradients() | {"config": {"command": "rnnlab gradients --out bad\udcff"}}
    page = write_page(written(tmp_path / "run", gradients=content))
    assert "--out bad?" in page.read_text(encoding="utf-8")


def test_names_from_files_stay_words(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    content = json.loads(json.dumps(gradients()).replace('"rnn"', json.dumps(evil)))
    more = json.loads(
        json.dumps(dynamics()).replace('"rnn"', json.dumps(evil)).replace("recurrent gain", evil)
    )
    content["config"] |= {"command": evil, evil: {evil: [evil]}}
    text = write_page(written(tmp_path / "run", gradients=content, dynamics=more)).read_text(
        encoding="utf-8"
    )
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<img" not in text


def test_less_is_shown_where_less_is_there(tmp_path):
    nothing = dict.fromkeys(dynamics()["summary"][0])
    bare = {"summary": [nothing | {"cell": "rnn"}]}
    path = write_page(written(tmp_path / "a", dynamics=bare, config=CONFIG))
    text = path.read_text(encoding="utf-8")
    assert pictures(path) == []
    assert "<title>Largest Lyapunov exponent, nats per step: rnn –</title>" in text
    assert "rnnlab gradients --cells" in text
    assert "How this run was made" in text
    some = without(gradients(), "config") | {"truncation": detail()["truncation"]}
    path = write_page(written(tmp_path / "b", gradients=some))
    assert len(pictures(path)) == 3
    assert "How this run was made" not in path.read_text(encoding="utf-8")
    assert "Truncated gradient" in path.read_text(encoding="utf-8")
    chaos = nothing | {"cell": "rnn", "attractor": "chaos"}
    kinds = {"summary": [chaos], "config": CONFIG}
    path = write_page(written(tmp_path / "c", dynamics=kinds))
    assert "<title>Without input the state behaves chaotically (rnn)</title>" in path.read_text(
        encoding="utf-8"
    )


def test_one_length_of_one_step_is_shown(tmp_path):
    content = gradients()
    content["norms"] = [norm | {"length": 1} for norm in content["norms"] if norm["length"] == 4]
    content["flow"] = [step | {"length": 1} for step in content["flow"] if step["lag"] == 0]
    content["summary"] = [
        r | {"length": 1, "decay_per_step": None, "horizon": None} for r in content["summary"]
    ]
    flow, norms = pictures(write_page(written(tmp_path / "run", gradients=content)))
    assert all(trace["x"] == [] for trace in flow[0]["data"])
    assert norms[0]["title"] == "Norm of the gradient at T = 1: rnn 0.905, lstm 1, gru 0.942"


def without(content, key):
    return {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "is not a directory; give the --out directory"),
        (
            {},
            "holds no run: none of gradients.json, dynamics.json, memory.json, cures.json is there",
        ),
        ({"notes.txt": "hello"}, "holds no run"),
        ({"gradients.json": '{"config": '}, "gradients.json cannot be read"),
        ({"dynamics.json": b"\xff\xfe"}, "dynamics.json cannot be read"),
        ({"gradients.json": "[1, 2]"}, "is not a file of rnnlab"),
        (
            {"gradients.json": json.dumps(without(gradients(), "flow"))},
            "gradients.json is damaged or not finished",
        ),
        (
            {"gradients.json": json.dumps({**gradients(), "summary": []})},
            "gradients.json is damaged or not finished",
        ),
        (
            {
                "gradients.json": json.dumps(gradients()).replace(
                    '"log_norm": ', '"log_norm": "x", "was": ', 1
                )
            },
            "is damaged or not finished",
        ),
        (
            {"dynamics.json": json.dumps(without(dynamics(), "summary"))},
            "dynamics.json is damaged or not finished",
        ),
        (
            {"dynamics.json": json.dumps({**dynamics(), "summary": []})},
            "dynamics.json is damaged or not finished",
        ),
        (
            {"gradients.json": json.dumps(gradients()), "config.json": "x"},
            "config.json cannot be read",
        ),
        (
            {"gradients.json": json.dumps({**gradients(), "config": [1]})},
            "is damaged or not finished",
        ),
    ],
)
def test_what_holds_no_run_is_refused_in_one_sentence(tmp_path, files, words):
    folder = tmp_path / "run"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        write_page(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_what_is_no_number_is_missing(tmp_path, number):
    content = gradients()
    content["norms"][0]["log_norm"] = content["flow"][3]["log_norm"] = "here"
    folder = written(tmp_path / "run", gradients=content)
    path = folder / "gradients.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"here"', number), encoding="utf-8")
    page = write_page(folder)
    assert pictures(page)[0][0]["data"][1]["y"][2] is None
    assert "inf" not in re.findall(r'data-value="([^"]*)"', page.read_text(encoding="utf-8"))


def test_the_page_is_made_without_jax_and_plotly_only_when_one_is_asked_for(full):
    code = """
import sys
from pathlib import Path
import rnnlab.report.page.write
print([name in sys.modules for name in ("jax", "plotly", "matplotlib")])
rnnlab.report.page.write.write_page(Path(sys.argv[1]))
print([name in sys.modules for name in ("jax", "plotly", "matplotlib")])
"""
    command = [sys.executable, "-c", code, str(full.parent)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[False, False, False]", "[False, True, False]"]


# In a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shown(browser, full):
    """The full page, for tests that leave it as they found it."""
    with opened(browser, full, permissions=["clipboard-read", "clipboard-write"]) as (page, faults):
        yield page, faults


UNREADABLE = """() => {
  const shade = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const clear = (colour) => /, 0\\)$/.test(colour);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!clear(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((node) =>\
 node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!words || !box.width || ["SCRIPT", "NOSCRIPT"].includes(element.tagName)) continue;
    const raised = element.tagName === "tspan" && element.style.fontSize === "70%";  // an exponent
    if (parseFloat(style.fontSize) < 12 && !raised)\
 found.push(["small", element.textContent, style.fontSize]);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [low, high] = [shade(ink), shade(ground(element))].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5)\
 found.push(["pale", element.textContent, ink, ground(element)]);
  }
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > room) found.push(["the page scrolls sideways"]);
  for (const element of document.querySelectorAll("main *")) {
    const inside = element.closest(".scroll, svg");
    if ((!inside || inside === element) && element.getBoundingClientRect().right > room + 0.5)
      found.push(["wide", element.outerHTML.slice(0, 80)]);
  }
  return found;
}"""


@pytest.mark.combinations
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_readable_at_both_widths_in_both_schemes(browser, full, width, scheme):
    with opened(browser, full, width, scheme) as (page, faults):
        assert faults == []
        assert page.evaluate(UNREADABLE) == []
        traces = page.evaluate(
            "[...document.querySelectorAll('.plot')]"
            ".map(p => p.querySelectorAll('.trace, .hm, .contour').length)"
        )
        drawn = pictures(full)
        assert len(traces) == len(drawn) == 9
        assert all(
            count >= len(figure[0]["data"]) for count, figure in zip(traces, drawn, strict=True)
        )
        inside = "p => p.querySelector('.main-svg').clientWidth <= p.clientWidth"
        assert page.evaluate(f"[...document.querySelectorAll('.plot')].every({inside})")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(245, 246, 248)", "dark": "rgb(17, 20, 26)"}[scheme]


def middle(page, number):
    """Puts the pointer on the middle of a figure."""
    plot = page.locator(".plot").nth(number)
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    plot.locator(".hoverlayer text").first.wait_for()
    return plot.locator(".hoverlayer").text_content()


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, ("lag", "steps", "rnn: ", "lstm: ", "gru: ", "(seeds ")),
        (3, ("t = ", "k = ", "10")),
        (4, ("cosine", "norm", "steps")),
        (5, ("exponent", "nats/step")),
        (8, ("recurrent gain = ", "T = ", "λ₁ = ", "nats/step")),
    ],
)
def test_hover_shows_values_with_units(shown, number, words):
    page, faults = shown
    said = middle(page, number)
    assert all(word in said for word in words), said
    assert re.search(r"\d", said)
    buttons = page.locator(".plot").nth(number).locator(".modebar-btn")
    titles = [button.get_attribute("data-title") for button in buttons.all()]
    assert titles == ["Download plot as a PNG", "Reset axes"]  # none that sends data away
    assert faults == []


VISIBLE = """([number, name]) => document.querySelectorAll(".plot")[number]._fullData
  .filter((trace) => trace.legendgroup === name).map((trace) => trace.visible)"""


def test_a_click_on_the_legend_hides_a_cell_and_the_next_shows_it(shown):
    page, _ = shown
    assert page.evaluate(VISIBLE, [0, "lstm"]) == [True, True]  # band and line
    for seen in ("legendonly", True):
        page.locator(".plot").nth(0).locator(".legendtoggle").nth(1).click()
        page.wait_for_function(
            f"(given) => ({VISIBLE})(given).every(v => v === {json.dumps(seen)})", arg=[0, "lstm"]
        )
        assert page.evaluate(VISIBLE, [0, "rnn"]) == [True, True]
        page.wait_for_timeout(400)  # the next click is not a double click


@pytest.mark.long
def test_a_change_of_scheme_repaints_the_figures_and_keeps_what_is_hidden(browser, full):
    ink = "getComputedStyle(document.querySelector('.legendtext')).fill"
    with opened(browser, full) as (page, faults):
        page.locator(".legendtoggle").first.click()
        page.wait_for_function(
            f"(given) => ({VISIBLE})(given).every(v => v === 'legendonly')", arg=[0, "rnn"]
        )
        light = page.evaluate(ink)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"(light) => {ink} !== light", arg=light)
        assert page.evaluate(VISIBLE, [0, "rnn"]) == ["legendonly"] * 2
        width = page.evaluate("document.querySelector('.main-svg').clientWidth")
        page.evaluate(
            "dispatchEvent(new Event('beforeprint'))"
        )  # dark ink on white paper, and narrow
        page.wait_for_function(f"(light) => {ink} === light", arg=light)
        assert page.evaluate("document.querySelector('.main-svg').clientWidth") == 660
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.wait_for_function(
            "(width) => document.querySelector('.main-svg').clientWidth === width", arg=width
        )
        assert page.evaluate(ink) != light
        page.set_viewport_size({"width": 700, "height": 900})
        page.wait_for_function("() => document.querySelector('.main-svg').clientWidth < 700")
        assert faults == []


def test_choosers_change_the_picture_and_never_lead_nowhere(shown):
    page, faults = shown
    figure = page.locator("figure").nth(3)
    cell, parameter = figure.locator("select").all()
    title, top = figure.locator("h3"), "document.querySelectorAll('.plot')[3]._fullData[0].z[19][0]"
    before = page.evaluate(top)
    cell.select_option("lstm")
    parameter.select_option("p")
    assert title.text_content().startswith("lstm, p: contributions are above")
    assert page.evaluate(top) == pytest.approx(before / 2, rel=1e-4)
    cell.select_option("gru")  # has no p
    assert title.text_content().startswith("gru, w_x:")
    assert parameter.input_value() == "w_x"
    parameter.select_option("p")  # only the LSTM has it
    assert cell.input_value() == "lstm"
    cell.select_option("rnn")
    assert title.text_content().startswith("rnn, w_x:")
    assert faults == []


def test_tables_sort_both_ways_with_numbers_as_numbers_and_the_missing_last(browser, tmp_path):
    content = copy.deepcopy(gradients())
    for record, (decay, half_life, horizon) in zip(
        content["summary"], [(0.5, 10.0, 14), (-0.25, None, None), (1e-3, 9.0, 100)], strict=True
    ):
        record |= {"decay_per_step": decay, "half_life": half_life, "horizon": horizon}
        record |= {"horizon_low": 1, "horizon_high": 100}
    path = write_page(written(tmp_path / "run", gradients=content))
    with opened(browser, path) as (page, faults):
        table = page.locator("table").first

        def column(place):
            return table.locator(f"tbody tr td:nth-child({place})").all_text_contents()

        def sort(place):
            table.locator(f"th:nth-child({place}) button").click()
            return table.locator(f"th:nth-child({place})").get_attribute("aria-sort")

        assert sort(8) == "ascending"
        assert column(8) == ["−0.25", "0.001", "0.5"]
        assert sort(8) == "descending"
        assert column(8) == ["0.5", "0.001", "−0.25"]
        assert sort(7) == "ascending"
        assert table.locator("th[aria-sort=none]").count() == table.locator("th").count() - 1
        assert column(7) == ["9", "10", "–"]
        assert sort(7) == "descending"
        assert column(7) == ["10", "9", "–"]
        sort(2)
        assert column(2) == ["14", "≥ 100", "–"]
        table.locator("th:nth-child(1) button").focus()
        page.keyboard.press("Enter")
        assert column(1) == ["gru", "lstm", "rnn"]
        page.keyboard.press("Tab")
        focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert focused == "solid"
        assert faults == []


def test_the_command_is_copied_with_one_click(shown):
    page, faults = shown
    page.locator(".copy button").first.click()
    page.locator(".copy span", has_text="copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == CONFIG["command"]
    assert faults == []


def test_a_browser_that_cannot_draw_says_so_and_shows_the_tables(browser, full):
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(full.as_uri())
    page.locator(".plot", has_text="cannot draw the figure").first.wait_for()
    assert page.locator("table").first.is_visible()
    page.close()


def test_hostile_names_do_nothing_in_the_browser(browser, tmp_path):
    evil = "<img src=x onerror=alert(2)><b>bold</b>"
    content = json.loads(json.dumps(gradients()).replace('"rnn"', json.dumps(evil)))
    path = write_page(written(tmp_path / "run", gradients=content))
    with opened(browser, path) as (page, faults):
        said = []
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        assert page.locator(".legendtext").first.text_content() == evil
        assert evil in middle(page, 0)
        assert page.locator("img").count() == 0
        assert (said, faults) == ([], [])
