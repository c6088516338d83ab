"""The commands that train, resume, evaluate and generate, as their users meet them."""

import contextlib
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab import _files, cli
from rnnlab.data import streams
from rnnlab.models import beam_search, sample
from rnnlab.studies import training
from rnnlab.studies.train_settings import TrainSettings, from_mapping, parse_assignments
from rnnlab.training import read_metrics
from tests.reference import one_sentence

SETTINGS = {
    "cell": "rnn", "hidden_size": 5, "batch_size": 3, "length": 6, "steps": 4, "seed": 3,
    "validate_every": 2, "validation_batches": 1000, "checkpoint_every": 2,
}  # fmt: skip
FILES = {"run.json", "metrics.jsonl", "checkpoints"}
TEXT = "to be, or not to be:\nthat is the question. " * 30


def sets(**settings):
    """--set for each, as JSON."""
    arguments = []
    for name, value in settings.items():
        arguments += ["--set", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return arguments


def command(*arguments):
    """Runs a command: (exit code, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(map(str, arguments)))
    return code, out.getvalue(), err.getvalue()


def done(*arguments):
    code, printed, told = command(*arguments)
    assert code == 0, told
    return printed


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """A cache of programs for these tests, which equal runs share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a text and a finished run, and what the run printed."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    with contextlib.chdir(folder):
        printed = command("train", "--out", "run", *sets(data="text.txt", **SETTINGS))
    return folder, printed


@pytest.fixture
def there(home, monkeypatch):
    """Within the directory; the run in it is only read."""
    monkeypatch.chdir(home[0])
    return home[0]


@pytest.fixture
def copy(there, tmp_path):
    """A run of one's own."""
    shutil.copytree(there / "run", tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Training and resuming


def test_a_run_tells_its_losses_and_where_it_is(home):
    folder, (code, printed, told) = home
    assert code == 0, told
    first, second = printed.splitlines()
    assert first.startswith("Trained for 4 steps; the last loss is ")
    assert "the loss on held-out text is " in first
    assert second == "The run is in run; see rnnlab evaluate run."
    assert {path.name for path in (folder / "run").iterdir()} == FILES
    history = read_metrics(folder / "run" / "metrics.jsonl")
    assert history.steps("loss").tolist() == [1, 2, 3, 4]
    assert history.steps("validation_loss").tolist() == [2, 4]
    assert f"{history['loss'][-1]:.4g} nats" in first
    assert all(" of 4)" in line for line in told.splitlines())


def test_resuming_gives_what_one_run_gives(copy, tmp_path):
    """With more steps; --json prints the summary and nothing else."""
    printed = done("resume", copy, "--set", "steps=7", "--json")
    summary = json.loads(printed)
    assert printed.count("\n") == 1
    whole = tmp_path / "whole"
    options = sets(data="text.txt", **SETTINGS | {"steps": 7})
    assert json.loads(done("train", "--out", whole, "--json", *options)) == summary
    assert summary["step"] == 7
    assert set(summary) == {
        "step", "loss", "validation_loss", "best_step", "stopped_early", "params_sha256",
    }  # fmt: skip
    lines = (whole / "metrics.jsonl").read_bytes()
    assert (copy / "metrics.jsonl").read_bytes() == lines
    # There is nothing left to do.
    told = done("resume", copy).splitlines()[0]
    assert told.startswith("Nothing was left to do: the run had ended after 7 steps; the last loss")
    assert json.loads(done("resume", copy, "--json")) == summary
    assert (copy / "metrics.jsonl").read_bytes() == lines


def test_a_longer_run_tells_where_it_began_and_what_its_validation_read(there, tmp_path):
    del there
    out = tmp_path / "run"
    changes = {"steps": 1, "validation_batches": 1, "length": 2}
    done("train", "--out", out, *sets(data="text.txt", **SETTINGS | changes))
    first = done("resume", out, "--set", "steps=3").splitlines()[0]
    assert first.startswith("Trained from step 1 to step 3; the last loss is ")
    assert "; the loss on the first 1 of 2 batches of held-out text after step 2 is " in first


def test_what_is_refused_when_resuming_changes_nothing(copy):
    before = contents(copy)
    refusals = {
        "steps=3": "steps is 3, but",
        "stpes=8": "there is no setting 'stpes' (did you mean 'steps'?)",
        "hidden_size=8": "hidden_size belongs to the run and cannot be changed; only steps",
        "folder=8": "there is no setting 'folder'",
        "steps=8.0": "steps is 8.0; it must be an integer",
        "keep=0": "keep is 0; it must be an integer of at least 1",
    }
    for assignment, words in refusals.items():
        code, printed, told = command("resume", copy, "--set", assignment)
        assert (code, printed, told.count("\n")) == (2, "", 1)
        assert words in told
    assert contents(copy) == before
    assert json.loads(done("resume", copy, "--json"))["step"] == 4


def test_the_steps_of_a_cosine_schedule_cannot_change(there):
    """The learning rate of every step depends on them."""
    del there
    config = {"settings": {"schedule": "cosine"}, "texts": {}, "alphabet": []}
    run = {"config": config, "options": {"steps": 20, "patience": 3}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "read_run", lambda _: run)
        assert training.settings_of(Path("run"), {"keep": 1}).steps == 20
        with pytest.raises(ValueError, match=r"steps cannot be changed, since the cosine schedule"):
            training.settings_of(Path("run"), {"steps": 30})


def test_a_run_of_another_program_is_one_sentence(monkeypatch):
    """One of fit, also if its config has settings of its own, and one of another version."""
    of_fit = "run holds a run of rnnlab.training.fit, but this command takes those of rnnlab train"
    of_command = {"settings": {"rate": 0.1}, "texts": {}, "alphabet": []}
    cases = [
        ({}, of_fit),
        ({"settings": {"rate": 0.1}}, of_fit),
        ({"settings": 3}, of_fit),
        (of_command | {"settings": 3}, of_fit),
        (of_command, "run holds a run of rnnlab 9.0, whose setting rate this version, "),
    ]
    for config, words in cases:
        run = {"config": config, "options": {"steps": 20}, "versions": {"rnnlab": "9.0"}}
        monkeypatch.setattr(training, "read_run", lambda _, run=run: run)
        one_sentence(lambda: training.settings_of(Path("run")), words)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A run of many options on another script, in a directory with a space, that was resumed."""
    folder = tmp_path_factory.mktemp("rich")
    (folder / "文.txt").write_bytes(b"\xef\xbb\xbf" + "你好 wörld ✓\r\n".encode() * 100)
    (folder / "config.json").write_bytes(
        b"\xef\xbb\xbf" + json.dumps({**SETTINGS, "data": "文.txt", "steps": 9}).encode()
    )
    options = {"accumulate": 2, "watch_every": 2, "average": 0.9, "context": 2, "steps": 2}
    with contextlib.chdir(folder):
        told = done("train", "config.json", "--tensorboard", "--out", "a run", *sets(**options))
        done("resume", "a run", "--tensorboard", "--set", "steps=4")
    return folder, told


@pytest.mark.long
def test_a_run_of_many_options(rich):
    """Those of --set come before those of the file; a measurement sees one batch of a step."""
    folder, printed = rich
    assert printed.splitlines()[1] == "The run is in a run; see rnnlab evaluate 'a run'."
    history = read_metrics(folder / "a run" / "metrics.jsonl")
    assert history.steps("loss").tolist() == [1, 2, 3, 4]
    assert history.steps("horizon").tolist() == [0, 2, 4]
    assert history["lags"][0].tolist() == [0, 1, 2, 4]
    assert np.isfinite(history["lyapunov_1"]).all()
    assert len(list((folder / "a run" / "tensorboard").iterdir())) == 2


def test_text_of_any_script_is_continued(rich, monkeypatch):
    folder, _ = rich
    monkeypatch.chdir(folder)
    text = done("generate", "a run", "--prompt", "好\n你", "--length", 12)
    assert text.startswith("好\n你")
    assert len(text) == 3 + 12 + 1
    assert set(text) <= set("你好 wörld ✓\n")


def test_a_text_is_continued_without_the_text_of_the_training(rich, monkeypatch, tmp_path):
    folder, _ = rich
    monkeypatch.chdir(tmp_path)
    text = done("generate", str(folder / "a run"), "--prompt", "好", "--length", 3, "--greedy")
    assert len(text) == 1 + 3 + 1


# Evaluation


def test_evaluation_is_the_mean_over_all_characters(there):
    """One pass over each stream, without windows; the last window is not full."""
    del there
    record = json.loads(done("evaluate", "run", "--json"))
    trained = training.read(Path("run"))
    codes = trained.setup.texts.test.codes
    text = TEXT[-(len(TEXT) // training.HELD_OUT) :]
    assert record["characters"] == len(text) - 1 == codes.size - 1
    whole = streams(codes, min(16, codes.size - 1), codes.size)[0]
    assert whole.mask.sum() == codes.size - 1
    assert training.held_out_streams(trained.setup.texts.test, trained.setup.settings).length == 6
    value, metrics = trained.setup.model.loss(trained.params, whole)
    assert record["loss"] == pytest.approx(float(value), rel=1e-5)
    assert record["accuracy"] == pytest.approx(float(metrics["accuracy"]), rel=1e-5)
    assert record["bits_per_symbol"] == pytest.approx(record["loss"] / math.log(2), rel=1e-6)
    assert (record["step"], record["part"]) == (4, "test")
    assert record["params_sha256"] == json.loads(done("resume", "run", "--json"))["params_sha256"]


def test_the_best_parameters_have_the_validation_loss_that_was_recorded(there, rich, monkeypatch):
    """With an average it is judged, in the run and after it."""
    for folder, run in ((there, "run"), (rich[0], "a run")):
        monkeypatch.chdir(folder)
        history = read_metrics(Path(run) / "metrics.jsonl")
        losses = dict(
            zip(history.steps("validation_loss"), history["validation_loss"], strict=True)
        )
        best = json.loads(done("evaluate", run, "--part", "validation", "--best", "--json"))
        assert best["loss"] == pytest.approx(min(losses.values()), rel=1e-6)
        assert losses[best["step"]] == min(losses.values())
        last = json.loads(done("evaluate", run, "--part", "validation", "--json"))
        assert last["loss"] == pytest.approx(losses[last["step"]], rel=1e-6)


def test_an_evaluation_for_people(there):
    del there
    record = json.loads(done("evaluate", "run", "--json"))
    first, second = done("evaluate", "run").splitlines()
    assert first == (
        f"After 4 steps: {record['bits_per_symbol']:.4f} bits per character ({record['loss']:.4f} "
        f"nats) and {record['accuracy']:.1%} of the characters predicted, on the test part "
        f"({record['characters']} characters)."
    )
    assert second.endswith(record["params_sha256"])


# Generation


def test_a_text_depends_on_the_seed_alone(there):
    del there
    draw = ("generate", "run", "--prompt", "to be", "--length", 30)
    texts = [done(*draw, "--seed", seed) for seed in (0, 1, 0)]
    assert texts[0] == texts[2] != texts[1]
    assert texts[0].startswith("to be")
    assert len(texts[0]) == 5 + 30 + 1
    assert set(texts[0]) <= set(TEXT)
    record = json.loads(done(*draw, "--json"))
    assert record == {"prompt": "to be", "text": texts[0][5:-1], "step": 4}


def test_texts_are_those_of_the_library(there):
    """Greedy, by search, and filtered."""
    trained = training.read(there / "run")
    alphabet = trained.setup.alphabet
    codes = training.encode_prompt("to be", alphabet)
    allowed = jnp.array([symbol != "" for symbol in alphabet])
    model, params = trained.setup.model, trained.params
    options = {"temperature": 0.7, "top_k": 5, "top_p": 0.9}
    key = jax.random.key(2)
    expected = {
        ("--greedy",): sample(model, params, codes[:, None], 8, allowed=allowed)[:, 0],
        ("--beam", 4): beam_search(model, params, codes, 8, beams=4, allowed=allowed).codes[0],
        ("--temperature", 0.7, "--top-k", 5, "--top-p", 0.9, "--seed", 2): sample(
            model, params, codes[:, None], 8, key=key, allowed=allowed, **options
        )[:, 0],
    }
    for flags, drawn in expected.items():
        text = "".join(alphabet[code] for code in np.asarray(drawn))
        printed = done("generate", "run", "--prompt", "to be", "--length", 8, *flags)
        assert printed == f"to be{text}\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prompt", ""], "prompt is empty; give at least one"),
        (["--prompt", "Zebra"], "prompt has 'Z', which is not in the alphabet"),
        (["--prompt", "to\tbe"], r"prompt has '\t', which is not"),
        (["--prompt", "\udcff"], r"prompt has '\udcff', which is not"),
        (["--length", "0"], "--length is 0"),
        (["--temperature", "0"], "--temperature is 0.0; it must be above 0, or give --greedy"),
        (["--temperature", "nan"], "--temperature is nan"),
        (["--temperature", "inf"], "--temperature is inf"),
        (["--top-k", "0"], "--top-k is 0"),
        (["--top-p", "0"], "--top-p is 0.0"),
        (["--top-p", "1.5"], "--top-p is 1.5"),
        (["--beam", "0"], "--beam is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999"),
        (["--beam", "3", "--greedy"], "--beam searches and does not sample; leave"),
        (["--beam", "3", "--temperature", "2"], "--beam searches and does not sample; leave"),
        (["--greedy", "--top-k", "3"], "--greedy takes the most likely character; leave"),
    ],
)
def test_a_wrong_way_to_generate_is_one_sentence(there, flags, words):
    del there
    code, printed, told = command("generate", "run", *flags)
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert words in told


# Settings


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("hiden_size=3", "there is no setting 'hiden_size' (did you mean 'hidden_size'?); choose"),
        ("=5", "there is no setting ''; choose"),
        ("steps", "--set steps has no value; write --set name=value"),
        ("cell=lstmm", "cell is 'lstmm' (did you mean 'lstm'?); choose from rnn, lstm"),
        ("cell=null", "cell is null; choose"),
        ("cell=3", "cell is 3; choose"),
        ('cell=["lstm"]', 'cell is ["lstm"]'),
        ("optimiser=Adam", "optimiser is 'Adam' (did you mean 'adam'?)"),
        ("precision=float16", "precision is 'float16'"),
        ("schedule=linear", "schedule is 'linear'; choose from constant, cosine"),
        ("init=orthogonal", "init is 'orthogonal'; choose"),
        ("steps=1e3", "steps is 1000.0; it must be an integer of at least 1"),
        ("steps=0", "steps is 0; it must be"),
        ("steps=-5", "steps is -5; it must be"),
        ("steps=ten", "steps is 'ten'; it must be"),
        ("steps=true", "steps is true; it must be"),
        ("steps=[4]", "steps is [4]; it must be"),
        ("steps=" + "[" * 50_000, "steps is '[[["),
        ("steps=4000000000", "steps is 4000000000; it must be below 2**31"),
        ("hidden_size=1000000000000", "hidden_size is 1000000000000; it must be below 2**31"),
        ("seed=-1", "seed is -1; it must be"),
        ("seed=4294967296", "seed is 4294967296; it must be below 2**32"),
        ("seed=1.0", "seed is 1.0; it must be an integer"),
        ("tied=1", "tied is 1; give true or false"),
        ("tied=yes", "tied is 'yes'; give true or false"),
        ("residual=True", "residual is 'True'; give true or false"),
        ("learning_rate=0", "learning_rate is 0.0; it must be a finite number above 0"),
        ("learning_rate=fast", "learning_rate is 'fast'; it must be"),
        ("learning_rate=1e999", "learning_rate is inf; it must be"),
        ("learning_rate=1" + "0" * 400, "0...; it must be a finite number"),
        ("learning_rate=" + "9" * 5000, "9...; it must be a finite number"),
        ("clip=-1", "clip is -1.0; it must be a finite number above 0, or none"),
        ("patience=0", "patience is 0; it must be an integer of at least 1, or none"),
        ("steps=none", "steps is 'none'; it must be an integer of at least 1\n"),
        ("clip=NaN", "clip is nan; it must be"),
        ("dropout=1", "dropout is 1.0; it must be a number of at least 0 and below 1"),
        ("average=1", "average is 1.0; it must be a number above 0 and below 1"),
        ("alphabet=1", "alphabet is 1; it must be an integer of at least 2"),
        ("weight_decay=0.1", "weight_decay is for adamw, but optimiser is adam; give"),
        ("data=", 'data is empty; give "text" or the path'),
        ("data=3", 'data is 3; give "text" or the path'),
        ('data=["a"]', 'data is ["a"]; give'),
        ("data=missing.txt", "missing.txt cannot be read (No such file or directory); give"),
        ("data=.", "cannot be read (Is a directory); give"),
        ("data=empty.txt", "empty.txt is empty; give"),
        ("data=short.txt", "short.txt has 7 characters, but 3 streams"),
        ("data=latin.txt", "latin.txt is not UTF-8 (line 1, byte 2: 0xe9)"),
        ('data="a\\u0000b"', r"a\x00b cannot be read (not a path); give"),
        ("batch_size=900", "900 streams and the held-out parts need"),
        ("length=5000", "length is 5000, but each of 3 streams has"),
        ("context=5000", "context is 5000, but each of 3 streams has"),
        ("tied=true embedding_size=3", "embedding_size is 3, but"),
        ("patience=2 validate_every=null", "patience needs validations; give validate_every"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_writes_nothing(there, tmp_path, assignment, words):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("abc def")
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1") * 100)
    shutil.copy(there / "text.txt", tmp_path)
    with contextlib.chdir(tmp_path):
        before = set(tmp_path.rglob("*"))
        parts = [part for one in assignment.split(" ") for part in ("--set", one)]
        options = sets(data="text.txt", **SETTINGS)
        code, printed, told = command("train", "--out", "out", *options, *parts)
        assert (code, printed, told.count("\n")) == (2, "", 1)
        assert words in told
        assert len(told) < 700
        assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "config.json cannot be read (No such file or directory); give a JSON file"),
        (b"{steps: 3}", "config.json, line 1: "),
        (b'{"steps": 3,\n "seed": }', "config.json, line 2: "),
        (b"[1, 2]", "config.json holds no JSON object; give one"),
        (b"3", "config.json holds no JSON object; give one"),
        (b"", "config.json, line 1: "),
        (b"[" * 100_000, "config.json is not read; give a JSON object"),
        (b'{"steps": 1' + b"0" * 5000 + b"}", "config.json is not read; give a JSON object"),
        ("größe".encode("latin-1"), "config.json is not UTF-8; give a JSON file"),
        (b'{"steps": 3, "steps": 4}', "config.json names 'steps' twice; give it once"),
        (b'{"hiden_size": 3}', "did you mean 'hidden_size'?"),
        (b'{"steps": "4"}', "steps is '4'; it must be an integer"),
        (b'{"learning_rate": NaN}', "learning_rate is nan; it must be"),
    ],
)
def test_a_wrong_config_is_one_sentence(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("config.json").write_bytes(content)
    code, printed, told = command("train", "config.json", "--out", "out")
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert words in told
    assert not Path("out").exists()


def test_a_directory_is_no_config(tmp_path):
    code, _, told = command("train", tmp_path)
    assert code == 2
    assert "cannot be read (Is a directory); give a JSON file of settings" in told


def test_settings_are_printed_and_given_back(tmp_path, monkeypatch):
    """The last of repeated ones counts; what is printed is a config itself."""
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text('{"cell": "gru", "steps": 7, "clip": null}')
    flags = ["--set", "steps=8", "--set", " seed = 3 ", "--set", "steps=9", "--set", "clip=2"]
    printed = done("train", "config.json", "--settings", *flags)
    settings = json.loads(printed)
    assert set(settings) == set(TrainSettings.__dataclass_fields__)
    chosen = {name: settings[name] for name in ("cell", "steps", "seed", "clip")}
    assert chosen == {"cell": "gru", "steps": 9, "seed": 3, "clip": 2.0}
    Path("again.json").write_text(printed)
    assert done("train", "again.json", "--settings") == printed
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "again.json"}


def test_none_is_written_in_any_way():
    for text in ("none", "None", "null"):
        names = ("clip", "patience", "embedding_size", "average", "watch_every", "validate_every")
        values = parse_assignments([f"{name}={text}" for name in names])
        settings = from_mapping(values)
        assert [getattr(settings, name) for name in names] == [None] * len(names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--steps", "5"], "a setting, and no option; give it as --set steps=5"),
        (["resume", "run", "--hidden-size=5"], "give it as --set hidden_size=5"),
        (["train", "--tied", "--json"], "as --set tied=true"),
        (["train", "--data", "a text"], "as --set 'data=a text'"),
        (["train", "--cell"], "as --set cell=VALUE"),
    ],
)  # fmt: skip
def test_a_setting_that_is_given_as_an_option_is_told_how_to_give_it(arguments, words):
    code, printed, told = command(*arguments)
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert told.endswith(f"{words}\n")


def test_settings_without_a_command():
    assert parse_assignments(["a=1", "b = x", "c=null", "d=x=y", "a=2"]) == {
        "a": 2, "b": " x", "c": None, "d": "x=y",
    }  # fmt: skip
    settings = from_mapping({"clip": 2}, TrainSettings(steps=5))
    assert (settings.clip, settings.steps) == (2.0, 5)
    assert type(settings.clip) is float


# Directories


@pytest.mark.parametrize("name", ["resume", "evaluate", "generate"])
@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("", "DIR is empty; give"),
        ("missing", "missing is not a directory; give"),
        ("text.txt", "text.txt is not a directory; give"),
        (".", ". holds no training run; give"),
        ("x" * 300, "x is not a directory; give"),
    ],
)
def test_a_directory_without_a_run_is_one_sentence(there, name, folder, words):
    del there
    code, printed, told = command(name, folder)
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert words in told


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("", "--out is empty; give"),
        ("run", "run holds a run already; choose another directory, or resume the run with: rn"),
        (".", ". holds files that do not belong to a run; choose"),
        ("text.txt", "text.txt cannot be written ("),
        ("text.txt/deeper", "cannot be written ("),
        ("x" * 300, "cannot be written (File name too long)"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--tensorboard"]])
def test_a_directory_that_is_taken_is_one_sentence(there, out, words, more):
    before = contents(there)
    options = sets(data="text.txt", **SETTINGS)
    code, printed, told = command("train", "--out", out, *options, *more)
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert words in told
    assert contents(there) == before


def test_a_run_in_use_is_refused_but_may_be_read(copy):
    with _files.locked(copy):
        code, _, told = command("resume", copy)
        assert (code, told.count("\n")) == (2, 1)
        assert "another process is training in" in told
        assert json.loads(done("evaluate", copy, "--json"))["step"] == 4


def test_other_data_are_refused(copy, tmp_path, monkeypatch):
    """A text that was changed, also without a new character, and one that is not there."""
    monkeypatch.chdir(tmp_path)
    before = contents(copy)
    for name in ("resume", "evaluate"):
        code, _, told = command(name, copy)
        assert (code, told.count("\n")) == (2, 1)
        assert "text.txt, the text of" in told
        assert "is not in this directory; run the command where the run was started" in told
    for text in ("b" + TEXT[1:], "Ω" + TEXT[1:]):
        Path("text.txt").write_text(text, encoding="utf-8")
        for name in ("resume", "evaluate"):
            code, _, told = command(name, copy)
            assert (code, told.count("\n")) == (2, 1)
            assert "has changed since the training (text.txt); restore it" in told
    assert contents(copy) == before
    Path("text.txt").write_text(TEXT.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert json.loads(done("resume", copy, "--json"))["step"] == 4


def test_the_best_of_a_run_without_validation(there, tmp_path):
    del there
    options = SETTINGS | {"validate_every": None, "steps": 1, "log_every": 5}
    out = tmp_path / "run"
    told = done("train", "--out", out, *sets(data="text.txt", **options))
    assert told.splitlines()[0] == "Trained for 1 step."
    for name in ("evaluate", "generate"):
        code, printed, told = command(name, out, "--best")
        assert (code, printed, told.count("\n")) == (2, "", 1)
        assert "has no validation yet; leave --best out" in told


# Runs that fail


def test_a_run_whose_loss_explodes_is_one_sentence_and_exit_code_1(there, tmp_path):
    del there
    options = SETTINGS | {"optimiser": "sgd", "clip": None, "learning_rate": 1e38, "steps": 30}
    out = tmp_path / "run"
    code, printed, told = command(
        "train", "--out", out, "--json", *sets(data="text.txt", most_skipped=3, **options)
    )
    assert (code, printed) == (1, "")
    last = told.splitlines()[-1]
    assert "not finite, and 3 steps in a row were not applied; lower the learning rate" in last
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "fault", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_too_little_memory_is_one_sentence_and_exit_code_1(there, monkeypatch, fault):
    del there

    def fails(*_, **__):
        raise fault

    monkeypatch.setattr(training, "evaluation", fails)
    code, printed, told = command("evaluate", "run")
    assert (code, printed, told.count("\n")) == (1, "", 1)
    assert "there is not enough memory; give a smaller hidden_size" in told


def test_other_faults_of_jax_are_not_hidden(there, monkeypatch):
    del there

    def fails(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(training, "evaluation", fails)
    with pytest.raises(jax.errors.JaxRuntimeError):
        command("evaluate", "run")


# Help


@pytest.mark.parametrize(
    ("name", "columns"), [("train", 20), ("resume", 80), ("evaluate", 80), ("generate", 80)]
)
def test_help_can_be_read(capsys, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    words = set(printed.split())
    assert {"--json", "--no-cache"} <= words
    assert " recompile " in " ".join(printed.split())
    assert ("[CONFIG.json]" in words) == (name == "train")
    flags = {"train": "--settings", "evaluate": "--part", "generate": "--top-k"}
    assert flags.get(name, "--set") in words


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "--help"], 0),
        (["train", "--settings", "--set", "cell=gru"], 0),
        (["train", "--set", "cell=lstmm"], 2),
        (["evaluate", "missing", "--part", "all"], 2),
        (["generate", "missing", "--greedy", "--beam", "3"], 2),
    ],
)
def test_help_and_refusals_come_without_jax(arguments, code):
    script = """
import sys, rnnlab.cli
try:
    code = rnnlab.cli.main(sys.argv[1:])
except SystemExit as left:
    code = left.code
print(code, *{"jax", "matplotlib", "numpy"} & set(sys.modules))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == str(code)


def test_settings_are_checked_without_jax():
    script = (
        "import sys; from rnnlab.studies.train_settings import TrainSettings; TrainSettings(); "
        "print(*{'jax', 'numpy', 'matplotlib'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"
