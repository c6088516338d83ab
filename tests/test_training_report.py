"""The report of a training run: its numbers, sentences, figures and page."""

import dataclasses
import itertools
import json
import math
import random
import re
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab import cli
from rnnlab.models import language_model
from rnnlab.report import training_sentences as sentences
from rnnlab.report.figures import training as figures
from rnnlab.report.page import elements
from rnnlab.report.page import training as page
from rnnlab.report.page.write import write_page
from rnnlab.report.training import curve, is_wide, read_training, run_metrics
from rnnlab.studies.train_settings import TrainSettings
from rnnlab.studies.watching import EXAMPLES, measure_reach
from rnnlab.training.metrics import History
from tests.browser import chromium, opened
from tests.reference import one_sentence
from tests.test_page import UNREADABLE, pictures

STEPS, VALIDATE, WATCH, LAGS = 40, 10, 20, [0, 1, 2, 4, 8]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
RUN = {
    "model": "LanguageModel(…)",
    "seed": 0,
    "config": {
        "settings": dataclasses.asdict(
            TrainSettings(data="2001", cell="gru", length=10, context=6, clip=1.0)
        ),
        "alphabet": ["a", "b", "c"],
        "texts": {"test": "c0ffee"},
    },
    "options": {"steps": 50, "keep": 3, "log_every": 1, "most_skipped": 10},
    "versions": {"rnnlab": "0.1.0"},
}


def trained(step):
    nats = 1 + 3 * math.exp(-step / 10)
    return {"step": step, "accuracy": step / 100, "bits_per_symbol": nats / math.log(2),
            "gradient_norm": 2.0 if step <= 10 else 0.5, "loss": nats}  # fmt: skip


def validated(step):
    nats = 1.5 + (step - 30) ** 2 / 1000
    return {"step": step, "validation_loss": nats,
            "validation_bits_per_symbol": nats / math.log(2)}  # fmt: skip


def watched(step):
    record = {"step": step, "lags": LAGS, "length": 16, "lyapunov_1": -0.4 + step / 100}
    for layer in (1, 2):
        decay = layer / (1 + step / 20)
        record[f"horizon_{layer}"] = min(16, 4 * layer + step // 4)
        record[f"log_norm_by_lag_{layer}"] = [-2 - decay * lag for lag in LAGS]
    for name, norm in (("embedding", 0.1), ("cell.w_h", 0.01)):
        record[f"log_norm.{name}"] = math.log(norm)
        record[f"log_param_norm.{name}"] = math.log(norm * 50 * (1 + step))
    return record


def records():
    """A run of a language model, with validations, watches and two steps that were skipped."""
    found = [watched(0)]
    for step in range(1, STEPS + 1):
        record = trained(step)
        if step in (5, 6):
            record |= {"loss": None, "bits_per_symbol": None, "gradient_norm": None,
                       "skipped": "the gradient of cell.w_h is not finite"}  # fmt: skip
        found.append(record)
        if step % WATCH == 0:
            found.append(watched(step))
        if step % VALIDATE == 0:
            found.append(validated(step))
    return found


def written(folder, found, run=RUN, tail=""):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    lines = "".join(f"{json.dumps(record)}\n" for record in found)
    (folder / "metrics.jsonl").write_text(lines + tail, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("training") / "run", records(), tail='{"step": 41, "l')
    return write_page(folder)


# Numbers


def test_a_curve_keeps_the_ends_and_the_extremes():
    steps = np.arange(1, 100_001)
    values = np.sin(steps / 5000)
    values[54_321], values[777], values[60_000] = 9.0, -7.0, np.nan
    found = [{"step": int(s), "x": value} for s, value in zip(steps, values, strict=True)]
    drawn = curve(run_metrics(found).series["x"])
    assert len(drawn.steps) == len(drawn.middle) <= elements.POINTS
    assert (drawn.steps[0], drawn.steps[-1]) == (1, 100_000)
    assert (drawn.high.max(), drawn.low.min()) == (9.0, -7.0)
    assert (np.diff(drawn.steps) > 0).all()
    # Neither one extreme nor one missing value moves a median.
    np.testing.assert_allclose(drawn.middle[1:-1], np.sin(drawn.steps[1:-1] / 5000), atol=1e-2)


def test_a_short_curve_is_its_records_with_gaps():
    series = run_metrics([{"step": 1, "x": 1.0}, {"step": 2, "x": None}, {"step": 9, "x": 3}])
    drawn = curve(series.series["x"])
    assert not drawn.merged
    np.testing.assert_array_equal(drawn.middle, [1, np.nan, 3])
    np.testing.assert_array_equal(drawn.steps, [1, 2, 9])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4.9, 3.0, 2.0, 1.5, 1.4], False),
        ([1.0, 0.1, 0.01, 1e-3, 1e-4], True),
        ([1e-4, 1e-3, 0.01, 0.1, 0.2], False),
        ([1.5, 1.4, 1e5, 1.3, 1.2], True),
        ([1.0, 0.1, 0.01, 1e-3, -1e-4], False),
    ],
)
def test_an_axis_is_logarithmic_where_a_linear_one_hides(values, expected):
    series = run_metrics([{"step": step, "x": value} for step, value in enumerate(values)]).series
    assert is_wide(series.values()) == expected


@pytest.mark.parametrize("value", [10**400, "text", [1.0], {"a": 1}, None, math.inf])
def test_what_is_no_number_is_not_drawn(value):
    metrics = run_metrics([{"step": 1, "loss": 1.0, "odd": value}])
    assert set(metrics.series) == {"loss"}


def test_names_mean_something_only_beside_lags():
    metrics = run_metrics([{"step": 1, "horizon": 24, "length": 7, "log_norm_by_lag": 3.0}])
    assert set(metrics.others) == {"horizon", "length", "log_norm_by_lag"}
    assert not metrics.horizons
    assert not metrics.looks
    metrics = run_metrics([watched(0)])
    assert set(metrics.horizons) == set(metrics.looks) == {1, 2}
    assert metrics.lags == 16
    assert not metrics.others


def test_looks_are_relative_to_lag_0_and_align_by_lag():
    found = [
        {"step": 0, "lags": [0, 1, 2], "log_norm_by_lag": [-1.0, -2.0, None]},
        {"step": 9, "lags": [0, 2, 4], "log_norm_by_lag": [-2.0, -2.5, -5.0]},
    ]
    look = run_metrics(found).looks[None]
    assert look.lags.tolist() == [0, 1, 2, 4]
    expected = [[0, -1, np.nan, np.nan], [0, np.nan, -0.5, -3]]
    np.testing.assert_allclose(look.log_norm, expected)


# Sentences


def test_the_findings_are_those_of_the_metrics():
    metrics = run_metrics(records(), RUN)
    # The last loss is 3 exp(−4) above 1.
    assert sentences.title(metrics) == (
        "The loss fell from 3.71 to 1.05 nats in 40 steps; held-out 1.6 nats (2.31 bits per "
        "character) at step 40, the lowest 1.5 at step 30"
    )
    assert sentences.findings(metrics) == [
        "The run has recorded 40 of its 50 steps.",
        (
            "2 steps were not applied; the last was step 6, since the gradient of cell.w_h is not "
            "finite."
        ),
        (
            "The norm of the gradient has a median of 0.5; the largest is 2, at step 1; 21.1 % of "
            "the steps were clipped to 1."
        ),
        "The horizon of the gradient in layer 1 rose from 4 to 14 steps between steps 0 and 40.",
        "The horizon of the gradient in layer 2 rose from 8 to ≥ 16 steps between steps 0 and 40.",
        (
            "λ₁ rose from −0.4 to 0 nats per step between steps 0 and 40: at the end nearby "
            "trajectories neither clearly converge nor diverge."
        ),
        (
            "At step 40 the norm of the gradient is largest for embedding (0.1) and smallest for "
            "cell.w_h (0.01); of the parameters embedding grew most, by a factor of 41."
        ),
    ]


def test_a_run_that_stopped_early_is_no_run_that_is_not_finished():
    """Three validations were no better than the third; before them it was in progress."""
    run = RUN | {"options": RUN["options"] | {"patience": 3}}
    losses = [3.0, 2.5, 2.0, 2.1, None, 2.0]
    found = []
    for index, loss in enumerate(losses, 1):
        found += [{"step": 5 * index, "loss": 1.0}, {"step": 5 * index, "validation_loss": loss}]
    (told,) = sentences.findings(run_metrics(found, run))
    assert told == (
        "The run stopped early, after step 30 of 50: 3 validations in a row had no lower loss than "
        "that at step 15."
    )
    for others in (found[:-1], [*found, {"step": 31, "loss": 1.0}]):
        step = others[-1]["step"]
        told = sentences.findings(run_metrics(others, run))
        assert told == [f"The run has recorded {step} of its 50 steps."]
    assert "stopped" not in sentences.findings(run_metrics(found, RUN))[0]


def test_without_bits_no_unit_is_claimed():
    found = [{"step": step, "loss": 10.0 / step, "gradient_norm": 1.0} for step in range(1, 11)]
    metrics = run_metrics(found)
    assert sentences.title(metrics) == "The loss fell from 10 to 1 in 10 steps"
    told = sentences.findings(metrics)
    assert told == ["The norm of the gradient has a median of 1; the largest is 1, at step 1."]
    penalised = [record | {"bits_per_symbol": 1.0} for record in found]
    assert set(run_metrics(penalised).others) == {"bits_per_symbol"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([{"step": 1, "loss": 4.2}], "The loss is 4.2 at step 1"),
        ([{"step": 1, "loss": None}], "The loss is finite in no record"),
        ([{"step": 0, "lyapunov_1": 1.0}], "No loss was recorded up to step 0"),
        ([{"step": 3, "validation_loss": 2.0}], "The held-out loss is 2 at step 3"),
        (
            [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": None}],
            "The loss stayed near 2 in 3 steps, and is not finite after step 2",
        ),
        (
            [{"step": s, "validation_loss": v} for s, v in ((1, 3.0), (2, 2.0), (3, 2.0))],
            "The held-out loss is 2 at step 3, the lowest so far",
        ),
    ],
)
def test_little_is_told_of_few_records(found, said):
    assert sentences.title(run_metrics(found)) == said


def test_a_horizon_that_returns_has_its_range_told():
    found = []
    for step, horizon in ((0, 16), (10, 5), (20, 16)):
        found.append({"step": step, "lags": LAGS, "length": 16, "horizon": horizon})
    metrics = run_metrics(found)
    assert sentences.reach(None, metrics.horizons[None], 16) == (
        "The horizon of the gradient is ≥ 16 steps at step 0 and at step 20, with a range of 5 to "
        "≥ 16"
    )
    assert sentences.horizons(metrics) == (
        "Horizon of the gradient from step 0 to step 20 (steps): ≥ 16 → ≥ 16"
    )


# The page


def test_the_page_of_a_run_in_progress(full):
    text = full.read_text(encoding="utf-8")
    assert "<title>The loss fell from 3.71 to 1.05 nats in 40 steps; held-out 1.6 nats" in text
    assert "<li>The run has recorded 40 of its 50 steps.</li>" in text
    # A data path that reads as a number stays a text.
    assert "rnnlab train --set &#x27;data=&quot;2001&quot;&#x27; --set cell=gru" in text
    assert "<dt>alphabet</dt><dd>3 symbols</dd>" in text
    assert "Note:" not in text
    names = {file.name for file in full.parent.iterdir()}
    assert names == {"metrics.jsonl", "report.html", "run.json", "training.png", "training.svg"}
    titles = [figure[0]["title"] for figure in pictures(full)]
    assert titles[1:] == [
        "Norm of the gradient: median 0.5; 21.1 % of the recorded steps clipped to 1",
        "Largest norm of the gradient at step 40: embedding (0.1); smallest: cell.w_h (0.01)",
        "Layer 1: gradient 0.0695 at lag 8, relative to lag 0, at step 40",
        (
            "Horizon of the gradient from step 0 to step 40 (steps): layer 1 4 → 14, "
            "layer 2 8 → ≥ 16"
        ),
        (
            "λ₁ rose from −0.4 to 0 nats per step between steps 0 and 40: at the end nearby "
            "trajectories neither clearly converge nor diverge"
        ),
        "accuracy: 0.01 → 0.4 at step 40",
    ]


def test_the_lines_are_the_metrics(full):
    loss, gradient, parameters, by_lag, *_ = pictures(full)
    nats, bits = loss
    training, validation = nats["data"]
    assert training["x"] == list(range(1, STEPS + 1))
    assert training["y"][4] is None
    assert training["y"][0] == pytest.approx(1 + 3 * math.exp(-0.1), rel=1e-4)
    assert validation["y"] == [1.9, 1.6, 1.5, 1.6]
    np.testing.assert_allclose(
        bits["data"][1]["y"], np.divide(validation["y"], math.log(2)), rtol=1e-4
    )
    assert [shape["x0"] for shape in nats["layout"]["shapes"]] == [5, 6]
    assert gradient[0]["data"][0]["y"][-1] == pytest.approx(math.log10(0.5), rel=1e-4)
    assert [picture["key"] for picture in parameters] == [["gradient"], ["parameter"]]
    assert parameters[0]["data"][0]["y"] == [-1, -1, -1]
    # [lags, looks]: decades.
    heat = by_lag[1]["data"][0]
    np.testing.assert_allclose(heat["z"][4][0], -2 * 8 / math.log(10), rtol=1e-4)
    assert heat["text"][4][2] == f"step 40, lag 8<br>{elements.power(-16 / 3 / math.log(10))}"


@pytest.mark.parametrize("found", [records(), [watched(0)], [trained(1)]])
def test_plotly_knows_every_setting(found):
    from plotly.graph_objects import Figure

    section = page.section(run_metrics(found, RUN))
    drawn = [picture for figure in section.figures for picture in figure.pictures]
    assert drawn
    for picture in drawn:
        coloured = json.loads(re.sub(r'"--[a-z0-9]+"', '"#000000"', json.dumps(picture)))
        # ValueError for a name or value that it does not know.
        assert len(Figure(coloured["data"], coloured["layout"]).data) == len(picture["data"])


def test_what_was_not_recorded_has_no_panel(tmp_path):
    path = write_page(written(tmp_path / "run", [{"step": 1, "loss": 4.0}], run={}))
    assert len(pictures(path)) == 1
    tables = re.findall(r'<h3 id="title-\d+">(.*?)</h3>', path.read_text(encoding="utf-8"))
    assert tables == ["Metrics"]
    assert "--set" not in path.read_text(encoding="utf-8")
    [axes] = figures.training(run_metrics([{"step": 1, "loss": 4.0}])).axes
    assert axes.lines[0].get_marker() == "o"
    low, high = axes.get_xlim()
    assert low < 1 < high


def test_a_run_of_which_nothing_is_finite_has_a_page_without_figures(tmp_path):
    lost = [{"step": step, "loss": None, "skipped": "the loss is not finite"} for step in (1, 2)]
    path = write_page(written(tmp_path / "run", lost))
    text = path.read_text(encoding="utf-8")
    assert pictures(path) == []
    assert "2 steps were not applied; the last was step 2, since the loss is not finite." in text
    assert not (path.parent / "training.png").exists()
    one_sentence(lambda: rnnlab.report.plot(History(lost)), "no finite number to draw")


def odd():
    """Metrics of a user, with names that HTML, matplotlib and plotly would read as theirs."""
    values = {EVIL: 1.0, "$a_{": 2.0, "_hidden": -3.0, "日本": 4.0, "a\nb\x07": 5.0, "%{x}": 6.0,
              "x" * 200: 7.0, "log_norm." + EVIL: -1.0, "log_norm._b$": -2.0, "\ud800": 8.0,
              "validation_": 9.0}  # fmt: skip
    return [{"step": step, "loss": 1.0, **values} for step in (1, 2)]


@pytest.mark.filterwarnings("error")
def test_names_of_metrics_stay_words(tmp_path):
    path = write_page(written(tmp_path / "run", odd()))
    text = path.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<img" not in text
    svg = (path.parent / "training.svg").read_text(encoding="utf-8")
    assert "<script" not in svg
    assert "$a_{" in svg
    labels = {line.get_label() for axes in figures.training(run_metrics(odd())).axes
              for line in axes.lines}  # fmt: skip
    assert r" _b\$" in labels


def long_run(count):
    rng = random.Random(0)
    for step in range(1, count + 1):
        extra = {f"metric {index}": rng.random() for index in range(60)} if step % 100 == 0 else {}
        if step % 200 == 0:
            norms = {f"log_norm.w{index}": rng.gauss(0, 1) for index in range(60)}
            extra |= norms | {f"log_param_{name[4:]}": value for name, value in norms.items()}
            extra |= watched(step)
        yield {**extra, "step": step, "loss": rng.random(), "gradient_norm": rng.random()}


@pytest.mark.long
def test_a_long_run_with_many_metrics_has_a_small_page(tmp_path):
    path = write_page(written(tmp_path / "run", long_run(100_000)))
    assert path.stat().st_size < 5e6


def test_many_metrics_are_drawn_in_part_and_said_to_be():
    section = page.section(run_metrics(list(long_run(400))))
    about = [figure.about for figure in section.figures]
    assert any("Drawn are the first 30 of 62 parameters." in text for text in about)
    assert about[-1].endswith("The first 50 of 60 can be chosen; the table has more.")
    assert len(section.figures[-1].pictures) == 50
    assert "metric 59" in [row[0] for row in section.tables[0].rows]


@pytest.mark.parametrize(
    ("run", "lines", "words"),
    [
        ("{}", "", "holds a run without metrics yet; wait"),
        ("{}", '{"step": 1, "loss"', "holds a run without metrics yet; wait"),
        ("{}", '{"step": 1}\nnonsense\n', "metrics.jsonl, line 2 is not a record of a step"),
        ("{}", "[1]\n", "metrics.jsonl, line 1 is not a record of a step"),
        ("{}", '{"loss": 1}\n', "metrics.jsonl, line 1 is not a record of a step"),
        ("[]", '{"step": 1}\n', "run.json is damaged"),
        ("{", '{"step": 1}\n', "run.json is damaged"),
    ],
)
def test_a_damaged_run_is_refused_in_one_sentence(tmp_path, run, lines, words):
    (tmp_path / "run.json").write_text(run)
    (tmp_path / "metrics.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        write_page(tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "report.html").exists()


def test_odd_settings_do_no_harm(tmp_path):
    odd_configs = (
        {"settings": 3},
        [1],
        {"clip": "x", "settings": {"clip": -1}},
        {"settings": {"length": None, "unknown": [EVIL]}},
    )
    for index, config in enumerate(odd_configs):
        folder = written(tmp_path / str(index), [trained(1)], run={"config": config, "options": 7})
        metrics, _ = read_training(folder)
        assert (metrics.clip, metrics.lags, metrics.planned) == (None, None, None)
        assert "command" not in page.config(json.loads((folder / "run.json").read_text()))
    assert "<img" not in write_page(folder).read_text(encoding="utf-8")


def test_equal_runs_give_equal_files(full, tmp_path):
    again = write_page(written(tmp_path / "again", records()))
    for name in ("report.html", "training.png", "training.svg"):
        assert (again.parent / name).read_bytes() == (full.parent / name).read_bytes()


@pytest.mark.long
def test_the_page_is_made_without_jax(full):
    code = """
import sys
from pathlib import Path
from rnnlab.report.page.write import write_page
print("matplotlib" in sys.modules)
write_page(Path(sys.argv[1]))
print("jax" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(full.parent)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_the_command_reports_a_training_run(tmp_path, capsys):
    folder = written(tmp_path / "run", [trained(1), trained(2)])
    assert cli.main(["report", str(folder)]) == 0
    said = capsys.readouterr()
    assert said.out == f"The page is {folder / 'report.html'}.\n"
    assert said.err == ""


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("width", "scheme"), list(itertools.product([400, 1400], ["light", "dark"]))
)
def test_readable_in_a_browser(full, width, scheme):
    with chromium() as browser, opened(browser, full, width, scheme) as (shown, faults):
        assert faults == []
        assert shown.evaluate(UNREADABLE) == []
        inside = "p => p.querySelector('.main-svg').clientWidth <= p.clientWidth"
        assert shown.evaluate(f"[...document.querySelectorAll('.plot')].every({inside})")
        shown.locator("figure select").first.select_option("bits per character")
        assert shown.evaluate(
            "document.querySelector('.plot')._fullLayout.yaxis.title.text"
        ) == "loss (bits per character)"  # fmt: skip


@pytest.mark.long
def test_hostile_names_do_nothing_in_the_browser(tmp_path):
    path = write_page(written(tmp_path / "run", odd()))
    with chromium() as browser, opened(browser, path) as (shown, faults):
        assert shown.locator("img").count() == 0
        assert faults == []


# One figure


def test_plot_draws_a_history():
    figure = rnnlab.report.plot(History(records()))
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert set(panels) == {
        "Loss", "Gradient of all parameters, before clipping", "By parameter", "accuracy",
        "Lag at which the gradient is below 1/1000", "First Lyapunov exponent; dotted: 0",
        "Gradient of the state of layer 1; dotted: 1/1000",
        "Gradient of the state of layer 2; dotted: 1/1000",
    }  # fmt: skip
    assert all(axes.has_data() for axes in figure.axes)
    validation = next(l for l in panels["Loss"].lines if l.get_label() == "validation")
    np.testing.assert_allclose(validation.get_ydata(), [1.9, 1.6, 1.5, 1.6])
    assert figure.get_suptitle().startswith("The loss fell from 3.71 to 1.05 nats in 40 steps")
    one_sentence(lambda: rnnlab.report.plot(History([])), "the history is empty")


def test_plot_draws_what_fit_returns():
    def loss(params, batch, key):
        del key
        return ((params - batch) ** 2).mean(), {"distance": abs(params - batch).max()}

    run = rnnlab.training.fit(
        None, [np.ones(3)] * 20, optax.sgd(0.5), steps=20, loss=loss, params=np.zeros(3),
        progress=False,
    )  # fmt: skip
    titles = [axes.get_title() for axes in rnnlab.report.plot(run.metrics).axes]
    assert titles == ["Loss", "Gradient of all parameters, before clipping", "distance"]


# What is measured


@pytest.fixture(scope="module")
def measured():
    model = language_model(rnnlab.GRU(4), 5)
    codes = np.random.default_rng(0).integers(0, 5, 300)
    data = rnnlab.data.streams(codes, batch_size=6, length=6, context=2)
    params = model.init(jax.random.key(0), data[0])
    return model, params, data, measure_reach(model, params, data[2])


@pytest.mark.long
def test_norms_by_parameter_are_those_of_the_mean_loss(measured):
    model, params, data, metrics = measured
    few = jax.tree.map(lambda leaf: leaf[:, :EXAMPLES], data[2])
    gradient = jax.grad(lambda p: model.loss(p, few)[0])(params)
    for kind, tree in (("log_norm", gradient), ("log_param_norm", params)):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        assert len([name for name in metrics if name.startswith(f"{kind}.")]) == len(leaves)
        for path, leaf in leaves:
            name = jax.tree_util.keystr(path).removeprefix(".")
            norm = math.sqrt(float((np.asarray(leaf, float) ** 2).sum()))
            told = metrics[f"{kind}.{name}"]
            if norm == 0:
                assert told is None
            else:
                assert told == pytest.approx(math.log(norm), rel=1e-5, abs=1e-5)
    assert metrics["length"] == 8
    assert metrics["log_param_norm.readout.b"] is None
