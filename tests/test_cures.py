"""The study of cures: which apply, how each is trained, its sentences, and the command."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab import cli
from rnnlab.cells import BatchNormLSTM
from rnnlab.cells.registry import REGISTRY
from rnnlab.report import cures_sentences
from rnnlab.studies import cures, cures_changes, cures_network
from rnnlab.studies.cures import Unit
from rnnlab.studies.cures_registry import CURES, PLAIN
from rnnlab.studies.cures_settings import CuresSettings
from rnnlab.studies.memory_settings import MemorySettings
from rnnlab.tasks import make_task
from rnnlab.tasks.registry import TASKS, is_fixed
from tests.reference import one_sentence

SMALL = CuresSettings(
    lag=8, hidden_size=4, seeds=2, steps=4, check_every=2, batch_size=4, precision="float64"
)


@pytest.mark.parametrize("cell", REGISTRY)
def test_every_cell_has_cures(cell):
    units = cures.units(CuresSettings(cell=cell))
    assert units[0] == Unit(PLAIN)
    assert len(units) == len(set(units)) > 8
    assert {unit.cure for unit in units} <= set(CURES)
    assert Unit(cell) not in units


def test_every_cure_applies_to_a_cell():
    for cure in CURES.values():
        assert cure.applies("rnn") or cure.applies("lstm"), cure.name


def test_a_cure_is_one_record():
    """What a record names exists, and the records alone give the help."""
    for name, cure in CURES.items():
        assert cure.name == name
        assert cure.change is None or hasattr(cures_changes, cure.change), name


@pytest.mark.parametrize(
    ("task", "lag"),
    [("temporal-order", 100), ("adding", 7), ("copy-memory", 60), ("delayed-xor", 9)],
)
def test_the_task_is_the_shortest_that_reaches_the_lag(task, lag):
    found = cures.task_of(CuresSettings(task=task, lag=lag))
    assert found.lag >= lag
    # The task one step shorter has a shorter lag, or does not exist.
    assert found.lag == lag or found.lag - lag < 3


@pytest.mark.parametrize("task", [name for name in TASKS if not is_fixed(name)])
def test_the_shortest_length_is_that_of_a_search_through_all(task):
    made = {}
    for length in range(1, 80):
        with contextlib.suppress(ValueError):
            made[length] = make_task(task, length)
    for lag in (1, 2, 5, 6, 20, 54, 55):
        shortest = next((made[length] for length in made if made[length].lag >= lag), None)
        settings = CuresSettings(task=task, lag=lag)
        if shortest is None:
            one_sentence(lambda s=settings: cures.task_of(s), f"no length with a lag of {lag}")
        else:
            assert cures.task_of(settings) == shortest


def test_a_task_with_a_largest_length_reaches_the_lags_below_it():
    """Of 26 keys, so many pairs; the longest lag is from the first key to the last step."""
    for lag, pairs in [(20, 9), (21, 10), (50, 24), (54, 26)]:
        settings = CuresSettings(task="associative-recall", lag=lag)
        assert cures.task_of(settings) == make_task("associative-recall", pairs)
    beyond = CuresSettings(task="associative-recall", lag=55)
    one_sentence(lambda: cures.task_of(beyond), "associative-recall has no length with a lag of 55")


def test_the_help_names_every_task():
    listed = {word.strip(".,;") for word in (MemorySettings.__doc__ or "").split()}
    assert set(TASKS) <= listed
    listed = {word.strip(".,;") for word in (CuresSettings.__doc__ or "").split()}
    assert {name for name in TASKS if not is_fixed(name)} <= listed


def test_a_lag_that_a_task_cannot_have_is_refused():
    one_sentence(lambda: cures.units(CuresSettings(task="digits")), "digits", "one length")
    one_sentence(lambda: cures.units(CuresSettings(lag=10**6)), "no length with a lag of 1000000")
    one_sentence(lambda: cures.units(CuresSettings(task="sine")), "sine has no length with a lag")


def test_a_cure_of_another_cell_is_refused():
    settings = CuresSettings(cures=("chrono",))
    one_sentence(lambda: cures.units(settings), "chrono is not a cure for rnn", "choose from")


def test_what_the_cures_change():
    def cell(cure, name="rnn"):
        settings = CuresSettings(cell=name, lag=50, hidden_size=16)
        return cures.candidate(settings, cures.task_of(settings), cure).model.cell

    key = jax.random.key(0)
    forget = cell("forget-bias", "lstm").init(key, 3).b.reshape(4, 16)[1]
    np.testing.assert_allclose(forget, np.log(50), rtol=1e-6)
    w_h = cell("orthogonal").init(key, 3).w_h
    np.testing.assert_allclose(w_h @ w_h.T, np.eye(16), atol=1e-5)
    assert cell("identity-relu").activation == "relu"
    assert cell("leaky").alpha == 1 / 50
    assert np.std(cell("logistic").init(key, 16).w_x) == pytest.approx(3.6 / 4, rel=0.2)
    assert cell("layer-norm", "gru").layer_norm
    assert isinstance(cell("batch-norm", "lstm"), BatchNormLSTM)
    assert len(cell("residual").cells) == 2
    assert isinstance(cell("gru"), rnnlab.GRU)
    assert isinstance(cell("independent"), rnnlab.IndRNN)
    # The recurrent weights of PyTorch's networks, which are not orthogonal.
    assert np.abs(cell(PLAIN).init(key, 3).w_h).max() <= 1 / 4


@pytest.fixture(scope="module")
def trained():
    """The loss and gradient of the unchanged network, and of two cures that change the loss."""
    task = cures.task_of(SMALL)
    batch = task.sample(jax.random.key(1), 4)
    plain = cures.candidate(SMALL, task, PLAIN).model
    params = plain.init(jax.random.key(0), batch)

    def gradient(cure):
        loss = cures.candidate(SMALL, task, cure).loss or plain.loss
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, batch, None)

    return task, plain, params, batch, gradient


def test_a_truncated_gradient_is_that_of_the_last_steps(trained):
    task, model, params, batch, gradient = trained
    (value, _), found = gradient("truncation")
    (whole, _), full = gradient(PLAIN)
    np.testing.assert_allclose(value, whole, rtol=1e-12)
    cut = task.steps - SMALL.lag // 2

    def late(cell_params):
        xs = model.embedding(params.embedding, batch.xs)
        state, _ = rnnlab.unroll(model.cell, params.cell, xs[:cut])
        _, ys = rnnlab.unroll(model.cell, cell_params, xs[cut:], state)
        return model.score(model.head(params, ys, batch), batch)[0]

    expected = jax.grad(late)(params.cell)
    for one, other in zip(jax.tree.leaves(found.cell), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert not np.allclose(found.cell.w_h, full.cell.w_h, rtol=1e-3)


def test_omega_is_added_to_the_loss(trained):
    _, model, params, batch, gradient = trained
    (value, _), _ = gradient("omega")
    (plain, _), _ = gradient(PLAIN)

    def loss(ys):
        return model.score(model.head(params, ys, batch), batch)[0]

    xs = model.embedding(params.embedding, batch.xs)
    omega = rnnlab.training.pascanu_omega(model.cell, params.cell, xs, loss)
    np.testing.assert_allclose(value - plain, cures_changes.OMEGA * omega, rtol=1e-9)


@pytest.mark.long
def test_flossing_brings_the_first_exponents_near_zero():
    settings = CuresSettings(lag=20, hidden_size=8, learning_rate=1e-2)
    task = cures.task_of(settings)
    chosen = cures.candidate(settings, task, "flossing")
    batch = task.sample(jax.random.key(1), 4)
    params = chosen.model.init(jax.random.key(0), batch)
    after = jax.jit(chosen.prepare)(params, jax.random.key(2))

    def size(params):
        xs = chosen.model.embedding(params.embedding, batch.xs)
        return rnnlab.training.flossing_loss(chosen.model.cell, params.cell, xs, count=8)

    assert size(after) < size(params) / 2


@pytest.mark.long
def test_pre_training_leaves_the_readout_of_the_task_alone():
    task = make_task("adding", 10)
    settings = CuresSettings(task="adding", lag=9, hidden_size=8)
    chosen = cures.candidate(settings, task, "pre-training")
    params = chosen.model.init(jax.random.key(0), task.sample(jax.random.key(1), 4))
    after = jax.jit(chosen.prepare)(params, jax.random.key(2))
    np.testing.assert_array_equal(after.readout.w, params.readout.w)
    assert jnp.abs(after.cell.w_h - params.cell.w_h).max() > 1e-3


@pytest.fixture
def lstm_file(tmp_path):
    """The weights of a PyTorch model whose first of two layers has 4 units, and that layer."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4, 2), "head": torch.nn.Linear(4, 2)})
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    return path, model["rnn"].weight_hh_l0.detach().numpy().T


def started(cure, path, **options):
    """The parameters of the cell with a cure, at the start of the training."""
    settings = CuresSettings(
        lag=8, network=str(path), prefix="rnn.", precision="float64", **options
    )
    given = cures_network.read(settings)
    settings = cures_network.resolve(settings, given)
    task = cures.task_of(settings)
    chosen = cures.candidate(settings, task, cure, given)
    params = chosen.model.init(jax.random.key(0), task.sample(jax.random.key(1), 2))
    if chosen.prepare is not None:
        params = chosen.prepare(params, jax.random.key(2))
    return settings, params.cell


def test_the_training_starts_from_the_weights_in_a_file(lstm_file):
    path, w_h = lstm_file
    settings, plain = started(PLAIN, path)
    assert (settings.cell, settings.hidden_size) == ("lstm", 4)
    np.testing.assert_array_equal(plain.w_h, w_h)
    assert plain.w_x.shape[0] == cures.task_of(settings).vocabulary_size
    for cure in ("omega", "clipping", "momentum", "truncation"):
        _, kept = started(cure, path)
        np.testing.assert_array_equal(kept.w_h, w_h)
        np.testing.assert_array_equal(kept.b, plain.b)


def test_a_cure_changes_the_part_of_a_given_network_that_it_names(lstm_file):
    path, w_h = lstm_file
    _, forget = started("forget-bias", path)
    np.testing.assert_array_equal(forget.w_h, w_h)
    np.testing.assert_allclose((forget.b + forget.c)[4:8], np.log(8), rtol=1e-12)
    _, orthogonal = started("orthogonal", path)
    blocks = np.asarray(orthogonal.w_h).reshape(4, 4, 4)
    np.testing.assert_allclose(blocks[:, 0] @ blocks[:, 0].T, np.eye(4), atol=1e-6)
    _, chrono = started("chrono", path)
    np.testing.assert_array_equal(chrono.w_h, w_h)
    np.testing.assert_array_equal(chrono.c, 0)
    assert (chrono.b[4:8] >= 0).all()
    _, gru = started("gru", path)
    assert gru.w_h.shape == (4, 12)


def test_a_given_network_is_refused_in_one_sentence(lstm_file, tmp_path):
    path, _ = lstm_file
    torch = pytest.importorskip("torch")

    def reads(path, prefix="", **options):
        settings = CuresSettings(network=str(path), prefix=prefix, **options)
        return lambda: cures_network.resolve(settings, cures_network.read(settings))

    one_sentence(reads(tmp_path / "none.pt"), "neither a training run nor a file")
    one_sentence(reads(path), "rnn.")
    one_sentence(reads(path, "rnn.", cell="gru"), "cell is gru", "is lstm", "leave cell out")
    one_sentence(reads(path, "rnn.", hidden_size=5), "hidden_size is 5", "is 4")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(path.read_bytes()[:100])
    one_sentence(reads(damaged), "damaged.pt cannot be read as weights of PyTorch")
    both = tmp_path / "both.pt"
    torch.save(torch.nn.GRU(3, 4, bidirectional=True).state_dict(), both)
    one_sentence(reads(both), "both directions")
    narrow = tmp_path / "narrow.pt"
    torch.save(torch.nn.LSTM(3, 4, proj_size=2).state_dict(), narrow)
    one_sentence(reads(narrow), "has a projection")
    one_sentence(reads(tmp_path), "holds no training run")
    one_sentence(lambda: CuresSettings(prefix="rnn."), "no file of weights is given", "--from")
    one_sentence(reads(tmp_path, "rnn."), "is a training run", "leave it out")
    diverged = tmp_path / "diverged.pt"
    state_dict = torch.nn.LSTM(3, 4).state_dict()
    torch.save(state_dict | {"bias_ih_l0": torch.full((16,), np.nan)}, diverged)
    one_sentence(reads(diverged), ".b of the network", "diverged.pt", "not finite")
    numbered = tmp_path / "numbered.pt"
    torch.save(dict(enumerate(state_dict.values())), numbered)
    one_sentence(reads(numbered), "numbered.pt cannot be used", "the key 0")


def test_a_state_dict_is_recognised_by_its_content(lstm_file, tmp_path):
    path, w_h = lstm_file
    renamed = tmp_path / "lstm.ckpt"
    renamed.write_bytes(path.read_bytes())
    given = cures_network.read(CuresSettings(network=str(renamed), prefix="rnn."))
    np.testing.assert_array_equal(given.params.w_h, w_h)


RECORD = {
    "cell": "rnn", "task": "temporal-order", "cure": "none", "seeds": 2, "updates": 600,
    "solved": 0, "solved_after": None, "time_ratio": 1.0, "length": 50, "lag": 45, "lags": 50,
    "parameters": 4000, "kept_bytes": 2**20, "skill": 0.1, "horizon_before": 21,
    "horizon_after": 50, "exponent_before": -0.3, "exponent_after": -0.01,
}  # fmt: skip


def test_the_advice():
    gru = RECORD | {"cure": "gru", "solved": 2, "solved_after": 150, "time_ratio": 2.14}
    first, *rest = cures_sentences.sentences([gru, RECORD, RECORD | {"cure": "omega"}])
    assert first == (
        "Take gru (the gates of a GRU): 2 of 2 seeds learn temporal-order at a lag of 45 steps "
        "after 150 updates, each of which takes 2.1 times as long; the unchanged network does not "
        "learn it, and its gradient is below 1/1000 after 21 steps."
    )
    assert rest == [
        "Better than the unchanged network, the best first: gru.",
        "No better than the unchanged network: omega.",
    ]
    solved = RECORD | {"solved": 2, "solved_after": 100}
    assert cures_sentences.advice([solved, gru]) == (
        "2 of 2 seeds learn temporal-order at a lag of 45 steps after 100 updates without any "
        "cure, and no cure is faster; its gradient is below 1/1000 after 21 steps."
    )
    assert "No cure makes the network learn" in cures_sentences.advice([RECORD | {"cure": "gru"}])
    nothing_helps = cures_sentences.advice([RECORD, RECORD | {"cure": "gru"}])
    assert nothing_helps == (
        "No cure makes the network learn temporal-order at a lag of 45 steps in 600 updates, and "
        "none closes more of the gap than the unchanged network; its gradient is below 1/1000 "
        "after 21 steps."
    )
    worse = [RECORD | {"cure": "gru", "skill": -0.2}, RECORD | {"skill": -0.3}]
    assert "gru comes closest: its loss is no lower than" in cures_sentences.advice(worse)
    assert cures_sentences.finding([gru, RECORD]) == (
        "temporal-order, lag 45: rnn learns it with: gru"
    )


def test_a_cure_that_diverges_is_no_better():
    plain = RECORD | {"skill": -6.0}
    lines = cures_sentences.sentences([plain, RECORD | {"cure": "momentum", "skill": None}])
    assert lines[1:] == [
        "No better than the unchanged network: momentum.",
        "The loss of most seeds is not finite with: momentum.",
    ]


def test_batch_normalisation_needs_a_batch():
    settings = CuresSettings(cell="lstm", batch_size=1)
    assert Unit("batch-norm") not in cures.units(settings)
    with pytest.raises(ValueError, match="set batch_size to 2"):
        cures.units(CuresSettings(cell="lstm", batch_size=1, cures=("batch-norm",)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"steps": 10**10}, "steps is 10000000000; it must be at most"),
        ({"cell": "rnnn"}, "rnnn"),
        ({"task": "add"}, "add"),
        ({"cures": ("magic",)}, "magic"),
        ({"cures": ("gru", "gru")}, "twice"),
        ({"lag": 0}, "lag is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"init": "orthogonal"}, "orthogonal"),
        ({"precision": "half"}, "half"),
    ],
)
def test_settings_refuse_in_one_sentence(change, word):
    with pytest.raises(ValueError, match=word):
        CuresSettings(**change)


@pytest.mark.long
@pytest.mark.parametrize(
    ("cell", "tried"),
    [
        ("rnn", ("residual", "omega", "flossing", "truncation", "pre-training")),
        ("lstm", ("forget-bias", "chrono", "layer-norm", "batch-norm")),
    ],
)
def test_the_command_writes_a_run_and_its_page(tmp_path, capsys, cell, tried):
    """The cures that change more than an option of a cell, in a few updates."""
    arguments = [
        "cures", "--cell", cell, "--lag", "8", "--hidden-size", "4", "--seeds", "2", "--steps", "4",
        "--check-every", "2", "--batch-size", "4", "--out", str(tmp_path / "run"), "--no-cache",
        "--cures", *tried,
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "than the unchanged network" in shown
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "cures.json", "cures.csv", "cures.png", "cures.svg", "config.json", "SHA256SUMS",
    }  # fmt: skip
    content = json.loads((tmp_path / "run" / "cures.json").read_text(encoding="utf-8"))
    assert {row["cure"] for row in content["scores"]} == {PLAIN, *tried}
    assert all(row["loss"] is not None for row in content["scores"])
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "All cures, the best first" in page


@pytest.mark.long
def test_the_command_starts_from_a_training_run(tmp_path, capsys):
    sizes = ["cell=gru", "hidden_size=5", "batch_size=2", "length=8", "steps=2", "context=0"]
    run = str(tmp_path / "run")
    train = ["train", "--out", run]
    for size in sizes:
        train += ["--set", size]
    assert cli.main(train) == 0
    out = tmp_path / "cures"
    arguments = [
        "cures", "--from", run, "--lag", "8", "--seeds", "1", "--steps", "2", "--batch-size", "4",
        "--out", str(out), "--no-cache", "--cures", "clipping",
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (config["settings"]["cell"], config["settings"]["hidden_size"]) == ("gru", 5)
    assert config["network"]["network"] == run
    capsys.readouterr()
    assert cli.main([*arguments, "--cell", "lstm"]) == 2
    assert "cell is lstm, but that of the network" in capsys.readouterr().err
    assert cli.main(["cures", "--from", str(tmp_path), "--out", str(tmp_path / "new")]) == 2
    assert "holds no training run" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
