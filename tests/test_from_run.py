"""Studies on the network of a training run: --from of the command line, and its numbers."""

import contextlib
import functools
import hashlib
import io
import json
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import cli
from rnnlab.diagnostics import lyapunov_spectrum
from rnnlab.diagnostics.gradient import reach
from rnnlab.report.page.write import write_page
from rnnlab.studies import dynamics, from_run, gradients, sources, training
from rnnlab.studies.settings import DynamicsSettings, GradientSettings
from rnnlab.studies.train_settings import TrainSettings
from rnnlab.training import cross_entropy
from rnnlab.training.metrics import read_metrics

TRAINING = {
    "hidden_size": 6, "steps": 6, "length": 5, "batch_size": 4, "precision": "float64", "seed": 3,
    "validate_every": None, "checkpoint_every": 3, "learning_rate": 0.05,
}  # fmt: skip
KINDS = {
    "one": {"cell": "rnn"},
    "two": {"cell": "lstm", "layers": 2, "residual": True, "tied": True, "dropout": 0.2},
}
SHOWN = {"one": "rnn", "two": "2-layer lstm"}
SIZES = {"one": 6, "two": 24}
TWO = pytest.param("two", marks=pytest.mark.long)
GRADIENTS = ["gradients", "--lengths", "3", "8", "--batch-size", "2", "--no-cache"]
DYNAMICS = [
    "dynamics", "--batch-size", "2", "--steps", "20", "--burn-in", "5", "--warm-up", "5",
    "--starts", "4", "--grid", "2", "--longest", "6", "--no-cache",
]  # fmt: skip


def main(*arguments):
    """The exit code of the command line, and what it printed and noted."""
    out, notes = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(notes):
        code = cli.main(list(map(str, arguments)))
    return code, out.getvalue(), notes.getvalue()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A network of one layer and one of two, each trained for a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    letters = np.random.default_rng(0).choice(list("abcd "), 1600, p=[0.4, 0.2, 0.2, 0.1, 0.1])
    text = folder / "text.txt"
    text.write_text("".join(letters), encoding="utf-8")
    for name, values in KINDS.items():
        settings = TrainSettings(**TRAINING, **values, data=str(text))
        training.train(training.prepare(settings), folder / name, progress=False)
    return folder


@pytest.fixture(scope="module")
def measured(runs, tmp_path_factory):
    """A function that returns the directory of a study of a network, and runs it once."""
    folder = tmp_path_factory.mktemp("studies")

    @functools.cache
    def folder_of(name, study):
        command = {"gradients": GRADIENTS, "dynamics": DYNAMICS}[study]
        out = folder / f"{name}-{study}"
        code, _, notes = main(*command, "--from", runs / name, "--out", out)
        assert code == 0, notes
        return out

    return folder_of


def read(folder, study):
    return json.loads((folder / f"{study}.json").read_text(encoding="utf-8"))


def network(runs, name):
    """The model, and its parameters by phase, read without the studies."""
    trained = training.read(runs / name)
    before = training.initial_params(trained.setup)
    return trained.setup.model, {"untrained": before, "trained": trained.params}


def drawn(runs, name, kind, length, index):
    """The codes and labels ``[T, B]`` that a study reads."""
    settings = from_run.resolve(kind(from_run=str(runs / name), batch_size=2))
    corpus = training.read(runs / name).setup.texts.validation
    random = np.random.default_rng((0, 0, index))
    starts = random.integers(0, corpus.codes.size - length, settings.batch_size)
    rows = np.arange(length + 1)[:, None] + starts
    window = corpus.codes[rows]
    return window[:-1], window[1:]


def last_loss(model, params, codes, labels):
    """The loss at the last step, as a function of the parameters of the model."""
    _, logits = model.run(params, jnp.asarray(codes), None)
    return cross_entropy(logits[-1], jnp.asarray(labels[-1]))


@pytest.mark.long
@pytest.mark.parametrize("phase", ["untrained", "trained"])
@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_the_language_model(runs, measured, name, phase):
    model, params = network(runs, name)
    params = params[phase]
    codes, labels = drawn(runs, name, GradientSettings, 8, 8)
    content = read(measured(name, "gradients"), "gradients")

    gradient = jax.grad(lambda params: last_loss(model, params, codes, labels))(params)
    expected = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        parameter = jax.tree_util.keystr(path).removeprefix(".")
        expected[parameter] = float(jnp.log(jnp.linalg.norm(leaf)))
    whole = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient))
    expected["all"] = 0.5 * np.log(whole)
    rows = [r for r in content["norms"] if (r["phase"], r["length"]) == (phase, 8)]
    assert {r["parameter"]: r["log_norm"] for r in rows} == pytest.approx(expected, rel=1e-6)

    def loss(ys, params, labels):
        return cross_entropy(model.logits(params, ys[-1]), labels)

    xs = model.embedding(params.embedding, jnp.asarray(codes))
    last = jnp.asarray(labels[-1])
    flow = rnnlab.gradient_flow(model.cell, params.cell, xs, loss, params, last)
    by_lag, horizon = flow.log_norm_by_lag, flow.horizon
    if name == "two":
        # The state is that of both layers together.
        lower, upper = np.asarray(flow.log_norm_state)
        together = 0.5 * np.logaddexp(2 * lower, 2 * upper)
        examples = reach.from_steps(together, np.full(2, 7), np.ones(2, int))
        over = reach.over_examples(examples)
        by_lag, horizon = over.log_norm_by_lag, over.horizon
    rows = [r for r in content["flow"] if (r["phase"], r["length"]) == (phase, 8)]
    np.testing.assert_allclose([r["log_norm"] for r in rows], by_lag, rtol=1e-6)
    (row,) = (r for r in content["reach"] if (r["phase"], r["length"]) == (phase, 8))
    assert (row["horizon"], row["seed"]) == (horizon, 0)


@pytest.mark.parametrize("name", KINDS)
def test_exponents_are_those_of_the_language_model(runs, name):
    model, params = network(runs, name)
    codes, _ = drawn(runs, name, DynamicsSettings, 14, 0)
    settings = DynamicsSettings(
        from_run=str(runs / name), batch_size=2, steps=10, burn_in=2, warm_up=2, longest=6
    )
    settings = from_run.resolve(settings)
    data = sources.source(settings)
    count = min(16, SIZES[name])
    for phase in ("untrained", "trained"):
        unit = dynamics.Unit(f"{phase} {SHOWN[name]}", "spectrum")
        assert unit in dynamics.units(settings)
        (of_unit,) = dynamics.measure(settings, data, [unit])
        rows = of_unit.records["spectrum"]
        assert {r["cell"] for r in rows} == {unit.cell}
        assert [r["index"] for r in rows] == list(range(1, count + 1))
        xs = model.embedding(params[phase].embedding, jnp.asarray(codes))
        spectrum = lyapunov_spectrum(
            model.cell, params[phase].cell, xs, key=jax.random.key(0), count=count, burn_in=2,
            warm_up=2,
        )  # fmt: skip
        np.testing.assert_allclose([r["exponent"] for r in rows], spectrum.mean, rtol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_of_both_phases_are_shown(measured, name):
    content = read(measured(name, "gradients"), "gradients")
    before, after = content["summary"]
    shown = SHOWN[name]
    assert [(r["cell"], r["phase"]) for r in (before, after)] == [
        (shown, "untrained"), (shown, "trained"),
    ]  # fmt: skip
    assert before["decay_per_step"] != after["decay_per_step"]
    assert after["loss"] < before["loss"]
    assert after["clipped_share"] is None
    page = write_page(measured(name, "gradients")).read_text(encoding="utf-8")
    assert f"<li>{shown} (trained): " in page


@pytest.mark.long
@pytest.mark.parametrize("name", ["one", TWO])
def test_dynamics_of_both_phases_are_shown(measured, name):
    content = read(measured(name, "dynamics"), "dynamics")
    before, after = content["summary"]
    titles = [f"{phase} {SHOWN[name]}" for phase in ("untrained", "trained")]
    assert [r["cell"] for r in (before, after)] == titles
    assert before["exponent"] != after["exponent"]
    for kind in ("spectrum", "trace", "trajectories", "attractors", "phase"):
        assert {r["cell"] for r in content[kind]} == set(titles)
    page = write_page(measured(name, "dynamics")).read_text(encoding="utf-8")
    assert f"<li>{titles[1]}: " in page


def test_the_untrained_network_is_that_of_the_first_step(runs):
    trained = training.read(runs / "one")
    setup = trained.setup
    before = training.initial_params(setup)
    loss, _ = setup.model.loss(before, setup.data[0])
    losses = read_metrics(runs / "one" / "metrics.jsonl")["loss"]
    assert losses[0] == pytest.approx(float(loss), rel=1e-6)


def test_the_text_is_the_validation_part_in_the_alphabet_of_the_run(runs, measured):
    text = (runs / "text.txt").read_text(encoding="utf-8")
    held_out = text[-160:-80]
    about = read(measured("one", "gradients"), "gradients")["config"]["data"]
    assert about == {
        "name": "text.txt, validation part",
        "sha256": hashlib.sha256(held_out.encode()).hexdigest(),
        "characters": 80,
        "alphabet": 6,
    }


def test_the_configuration_names_the_network(runs, measured):
    trained = training.read(runs / "one")
    for study in ("gradients", "dynamics"):
        folder = measured("one", study)
        config = json.loads((folder / "config.json").read_text())
        assert config["network"] == {
            "run": str(runs / "one"),
            "step": 6,
            "params_sha256": training.evaluation(trained, "test")["params_sha256"],
        }
        settings = config["settings"]
        assert (settings["cells"], settings["layers"], settings["seeds"]) == (["rnn"], 1, 1)
        assert (settings["hidden_size"], settings["precision"]) == (6, "float64")
        subprocess.run(
            ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True, timeout=60
        )


def test_a_finished_study_is_printed_again(runs, measured):
    out = measured("one", "gradients")
    arguments = [*GRADIENTS, "--from", runs / "one", "--out", out, "--resume"]
    files = {path: path.read_bytes() for path in out.iterdir() if path.suffix != ".html"}
    code, printed, notes = main(*arguments, "--json")
    assert (code, notes) == (0, "")
    assert json.loads(printed) == read(out, "gradients")["summary"]
    assert {path: path.read_bytes() for path in files} == files
    code, printed, _ = main(*arguments)
    assert "rnn (untrained): the gradient" in printed
    assert "rnn (trained): the gradient" in printed


def test_a_study_of_the_network_before_more_training_is_not_resumed(runs, measured, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(runs / "one", run)
    shutil.rmtree(run / "checkpoints/step_00000006")
    shutil.copytree(measured("one", "gradients"), out)
    # As if the study had been of this run.
    for file in (out / "config.json", out / "gradients.json"):
        content = file.read_text().replace(str(runs / "one"), str(run))
        file.write_text(content)
    code, _, notes = main(*GRADIENTS, "--from", run, "--out", out, "--resume")
    assert code == 2
    assert notes.endswith(
        f"{out} holds a run on the network after other training (6 steps, now 3 steps); choose "
        "another --out\n"
    )


def empty(run: Path) -> None:
    (run / "run.json").unlink()


def without_checkpoint(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def damaged(run: Path) -> None:
    for file in run.glob("checkpoints/*/checkpoint.json"):
        file.write_text("{}")


def damaged_settings(run: Path) -> None:
    (run / "run.json").write_text("{")


@pytest.mark.parametrize("command", [GRADIENTS, DYNAMICS], ids=["gradients", "dynamics"])
@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (shutil.rmtree, 2, "is not a directory; give the --out directory of a training run"),
        (empty, 2, "holds no training run"),
        (damaged_settings, 2, "is damaged"),
        (without_checkpoint, 1, "has no checkpoint yet"),
        (damaged, 1, "is whole"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_sentence(runs, tmp_path, command, spoil, code, words):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(runs / "one", run)
    spoil(run)
    found, printed, notes = main(*command, "--from", run, "--out", out)
    assert (found, printed) == (code, "")
    assert words in notes
    assert notes.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        (GRADIENTS, ["--from", ""], "--from is empty"),
        (GRADIENTS, ["--cells", "gru"], "cells is gru, but that of the network in"),
        (GRADIENTS, ["--hidden-size", "7"], "is 6; leave hidden_size out"),
        (GRADIENTS, ["--data", "noise"], "data is noise, but"),
        (GRADIENTS, ["--train-steps", "5"], "train it further with: rnnlab resume"),
        (GRADIENTS, ["--lengths", "80"], "the validation part of"),
        (DYNAMICS, ["--seeds", "2"], "seeds is 2, but that of the network in"),
        (DYNAMICS, ["--exponents", "7"], "the state of untrained rnn has 6 numbers"),
    ],
)
def test_settings_that_do_not_fit_the_run_are_refused(runs, tmp_path, command, more, words):
    out = tmp_path / "out"
    code, _, notes = main(*command, "--from", runs / "one", *more, "--out", out)
    assert code == 2
    assert words in notes
    assert notes.count("\n") == 1
    assert not out.exists()


def test_the_values_of_the_run_may_be_repeated(runs):
    settings = GradientSettings(from_run=str(runs / "one"), cells=("rnn",), hidden_size=6)
    resolved = from_run.resolve(settings)
    assert (resolved.cells, resolved.hidden_size, resolved.seeds) == (("rnn",), 6, 1)
    assert resolved.alphabet == 128
    assert from_run.resolve(resolved) == resolved
    assert from_run.resolve(GradientSettings()) == GradientSettings()
    with pytest.raises(ValueError, match=r"complete them with rnnlab\.studies\.from_run\.resolve"):
        sources.source(settings)


def test_parameters_of_bfloat16_are_measured_in_float32():
    assert from_run.fixed_by(TrainSettings(precision="bfloat16"))["precision"] == "float32"


def test_an_earlier_checkpoint_serves_where_the_last_is_damaged(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "one", run)
    (run / "checkpoints/step_00000006/checkpoint.json").write_text("{}")
    settings = GradientSettings(from_run=str(run), lengths=(3,))
    with pytest.warns(UserWarning, match="step 3 is used instead"):
        data = sources.source(from_run.resolve(settings))
    assert data.trained is not None
    assert data.trained.about["step"] == 3


def test_progress_tells_of_no_training_that_was_before():
    unit = gradients.Unit("gru", "trained", (8,), "training")
    assert gradients._described(unit, is_given=True) == "gru, trained, loss before and after"
    assert gradients._described(unit, is_given=False) == "gru, trained, training"


def test_the_state_is_that_of_all_layers():
    settings = DynamicsSettings(cells=("lstm",), hidden_size=5, layers=3)
    assert dynamics.state_size(settings, "3-layer lstm") == 30


@pytest.mark.long
def test_fresh_networks_can_have_layers_too(runs):
    settings = GradientSettings(
        cells=("rnn",), layers=2, hidden_size=4, batch_size=2, seeds=1, lengths=(5,),
        data=str(runs / "text.txt"), precision="float64",
    )  # fmt: skip
    data = sources.source(settings)
    (unit,) = gradients.units(settings)
    (one,) = gradients.measure(settings, data, [unit])
    assert unit.cell == "2-layer rnn"
    inputs, labels = sources.draw(settings, data, "measure", 5, 5)
    cell = rnnlab.RNN(4, param_dtype=jnp.float64)
    readout = rnnlab.Readout(data.size, param_dtype=jnp.float64)
    model = rnnlab.stack([rnnlab.stack([cell, cell]), readout])
    params = model.init(jax.random.key(0), data.size)

    def loss(params):
        _, logits = rnnlab.unroll(model, params, data.embed(inputs[0]))
        return cross_entropy(logits[-1], labels[0][-1])

    below = jax.grad(loss)(params).layers[0].layers[0]
    found = {r["parameter"]: r["log_norm"] for r in one.records["norms"]}
    norm = float(jnp.log(jnp.linalg.norm(below.w_h)))
    assert found["cell.layers[0].w_h"] == pytest.approx(norm, rel=1e-6)


@pytest.mark.long
def test_the_results_go_into_the_directory_of_the_run(runs):
    command = ["gradients", "--lengths", "3", "--batch-size", "2", "--no-cache"]
    code, shown, _ = main(*command, "--from", runs / "one")
    assert code == 0
    assert (runs / "one" / "gradients" / "gradients.json").exists()
    assert str(runs / "one" / "gradients") in shown
    # The run can be read as before.
    assert main("evaluate", runs / "one")[0] == 0
