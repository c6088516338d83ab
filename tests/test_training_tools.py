"""Scheduled sampling, the range test, sweeps, weights for exchange, and archives."""

import io
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnlab
from rnnlab.data import Batch
from rnnlab.training import (
    fit,
    initial_state,
    inverse_sigmoid,
    load_weights,
    pack,
    range_test,
    save_weights,
    scheduled_sampling,
    sweep,
    train_step,
    unpack,
)
from tests.reference import close, one_sentence


def quadratic(params, batch, key):
    del key
    return jnp.mean((params - batch) ** 2), {}


@pytest.mark.long
def test_scheduled_sampling_follows_its_schedule():
    model = rnnlab.models.forecaster(rnnlab.GRU(4), horizon=3, outputs=1, feed_back=True)
    random = np.random.default_rng(0)
    batch = Batch(
        random.standard_normal((5, 2, 1), np.float32), random.standard_normal((3, 2, 1), np.float32)
    )
    run = fit(
        model,
        [batch] * 4,
        optax.sgd(0.0),
        steps=4,
        loss=scheduled_sampling(model, inverse_sigmoid(2.0)),
        carry=jnp.int32(0),
        progress=False,
    )
    expected = [1 - 2 / (2 + np.exp(step / 2)) for step in range(4)]
    close(run.metrics["sampling"], np.array(expected), 1e-6)
    loss = scheduled_sampling(model, inverse_sigmoid(2.0))
    value, (_, carry) = loss(run.params, batch, None, jnp.int32(7))
    close(value, model.loss(run.params, batch)[0])
    assert int(carry) == 7


def test_the_schedule_is_finite_for_any_step():
    schedule = inverse_sigmoid(3.0)
    values = np.array([float(schedule(jnp.int32(step))) for step in (0, 10, 10_000, 2**31 - 1)])
    assert (np.diff(values) >= 0).all()
    assert values[-1] == 1.0
    one_sentence(lambda: inverse_sigmoid(0.5), "k is 0.5")


def test_a_range_test_ends_where_the_loss_explodes():
    """Gradient descent on the mean of (θ − t)² over three numbers diverges from a rate of 3 on."""
    targets = [1.1, 0.9] * 200
    test = range_test(
        quadratic,
        jnp.zeros(3),
        [np.full(3, target) for target in targets],
        optax.sgd(1.0),
        low=1e-3,
        high=1e6,
        steps=400,
    )
    theta, expected = 0.0, []
    for rate, target in zip(test.learning_rates[:200], targets, strict=False):
        expected.append((theta - target) ** 2)
        theta -= rate * 2 / 3 * (theta - target)
    finite = np.isfinite(test.losses)
    assert not finite.all()
    assert finite[: finite.argmin()].all()
    close(test.losses[:200], np.array(expected), 1e-6)
    assert 1e-3 < test.steepest < test.largest
    assert "learning rate" in test.finding()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 0.0}, ("low is 0.0",)),
        ({"low": 2.0}, ("low is 2.0", "high is 1.0")),
        ({"steps": 5}, ("steps is 5",)),
        ({"steps": 10}, ("data holds 9 batches, but 10 are read",)),
        ({"high": float("nan")}, ("high is nan",)),
    ],
)
def test_a_range_test_refuses_wrong_ranges(options, words):
    one_sentence(
        lambda: range_test(quadratic, jnp.zeros(3), [np.ones(3)] * 9, optax.sgd(1.0), **options),
        *words,
    )


def test_a_sweep_gives_what_each_run_gives_alone():
    varied = {"seed": [0, 0, 1], "learning_rate": [0.1, 0.2, 0.1], "gain": [1.0, 1.0, 2.0]}
    data = [np.full(3, index, np.float32) for index in range(20)]

    def init(key, gain):
        return gain * jax.random.normal(key, (3,))

    def optimiser(learning_rate):
        return optax.adam(learning_rate)

    result = sweep(init, quadratic, data, optimiser, varied, steps=20)
    for run in range(3):
        seed, rate, gain = (values[run] for values in varied.values())
        k_init, k_train = jax.random.split(jax.random.key(seed))
        alone = optimiser(rate)
        state = initial_state(init(k_init, gain), alone, k_train)
        step = jax.jit(train_step(quadratic, alone))
        for index, batch in enumerate(data):
            state, metrics = step(state, batch)
            close(result.metrics["loss"][run, index], np.asarray(metrics["loss"]), 1e-5)
        close(result.params[run], state.params, 1e-5)


@pytest.mark.parametrize(
    ("varied", "words"),
    [
        ({"seed": [0, 1], "learning_rate": [0.1]}, ("(2,)", "(1,)", "one length")),
        ({"seed": [0], "learning_rate": [0.1], "gain": [0.9]}, ("gain",)),
        ({}, ("varied",)),
        ({"learning_rate": [0.1]}, ("data holds 0 batches, but 1 ",)),
        ({"seed": 3}, ("list",)),
    ],
)
def test_a_sweep_refuses_what_does_not_fit(varied, words):
    one_sentence(
        lambda: sweep(jax.random.normal, quadratic, [], optax.sgd, varied, steps=1),
        *words,
    )


def test_weights_come_back_bit_for_bit(tmp_path):
    pytest.importorskip("safetensors")
    cell = rnnlab.stack([rnnlab.LSTM(3), rnnlab.Readout(2)])
    params = cell.init(jax.random.key(0), 4)
    path = tmp_path / "weights.safetensors"
    save_weights(path, params, {"step": 3})
    loaded = load_weights(path, params)
    close(loaded, params, 0)
    other = rnnlab.stack([rnnlab.LSTM(4), rnnlab.Readout(2)]).init(jax.random.key(0), 4)
    one_sentence(lambda: load_weights(path, other), "shape", "(4, 12)", "(4, 16)")
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    one_sentence(lambda: load_weights(path, wide), "dtype", "float32", "float64")
    for wrong in (cell, None, {}, {"w": "x"}):
        one_sentence(lambda wrong=wrong: load_weights(path, wrong), "template is", "model.init(")
        one_sentence(lambda wrong=wrong: save_weights(path, wrong), "params is", "model.init(")
    bare = rnnlab.LSTM(3).init(jax.random.key(0), 4)
    one_sentence(lambda: load_weights(path, bare), "weights.safetensors lacks w_x", "model.init(")
    raw = bytearray(path.read_bytes())
    for place in (0, len(raw) // 2, len(raw) - 1):
        raw[place] ^= 1
        path.write_bytes(raw)
        one_sentence(lambda: load_weights(path, params), "weights.safetensors", "damaged")
        raw[place] ^= 1
    (tmp_path / "weights.safetensors.sha256").unlink()
    path.write_bytes(raw)
    one_sentence(lambda: load_weights(path, params), "checksum")
    nan = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    one_sentence(lambda: save_weights(path, nan), "not finite")


def test_an_archive_comes_back_whole(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "checkpoints" / "array").write_bytes(b"\0\1")
    pack(folder, tmp_path / "run.tar.gz")
    unpack(tmp_path / "run.tar.gz", tmp_path / "copy")
    assert (tmp_path / "copy" / "checkpoints" / "array").read_bytes() == b"\0\1"
    one_sentence(lambda: unpack(tmp_path / "run.tar.gz", tmp_path / "copy"), "exists already")


@pytest.mark.parametrize("kind", ["..", "absolute", "link", "hard link", "device", "not tar"])
def test_a_malicious_archive_is_refused_and_writes_nothing(tmp_path, kind):
    archive = tmp_path / "bad.tar"
    names = {"..": "../outside", "absolute": "/tmp/rnnlab-outside"}
    kinds = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("good"), io.BytesIO())
        member = tarfile.TarInfo(names.get(kind, "member"))
        member.type = kinds.get(kind, tarfile.REGTYPE)
        member.linkname = "/etc/passwd"
        tar.addfile(member, io.BytesIO())
    if kind == "not tar":
        archive.write_bytes(b"nothing of the kind")
    one_sentence(lambda: unpack(archive, tmp_path / "out"), "bad.tar")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "outside").exists()
