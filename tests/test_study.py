"""The study: its settings, its data, its numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnlab
from rnnlab import data, losses, study
from rnnlab.settings import CELLS, GradientSettings

SMALL = {"cells": ("rnn", "gru"), "lengths": (3, 8), "hidden_size": 6, "batch_size": 4, "seeds": 2}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 20, encoding="utf-8")
    return str(path)


def test_names_of_cells_agree():
    assert tuple(study.CELLS) == CELLS


def test_the_standard_library_is_read_the_same_twice():
    (text, about), (again, _) = data.standard_library(), data.standard_library()
    assert text == again
    assert about["characters"] == len(text) > 1_000_000
    assert len(about["sha256"]) == 64


def test_encode_gives_rare_characters_the_last_symbol():
    corpus = data.encode("aaabbc" + "dé", {}, 3)
    assert corpus.alphabet == ("a", "b", "")
    assert corpus.codes.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


@given(st.text(min_size=1), st.integers(2, 300))
def test_encode_loses_nothing_but_what_is_rare(text, size):
    corpus = data.encode(text, {}, size)
    assert len(corpus.alphabet) <= size
    back = [corpus.alphabet[code] for code in corpus.codes]
    assert all(shown in (char, "") for shown, char in zip(back, text, strict=True))
    if len(set(text)) <= size:
        assert "".join(back) == text


def test_records_are_the_plain_gradients(text):
    settings = GradientSettings(**SMALL, data=text, precision="float64")
    source = study.source(settings)
    (measured,) = study.measure(settings, source, [study.Unit("gru", "before", 8)])
    seed = 1
    inputs, labels = study.draw(settings, source, "measure", 8, 8)
    model = rnnlab.stack(
        [
            rnnlab.GRU(6, param_dtype=jnp.float64),
            rnnlab.Readout(source.size, param_dtype=jnp.float64),
        ]
    )
    params = model.init(jax.random.key(seed), source.size)
    xs = source.embed(inputs[seed])

    def loss(params):
        return losses.cross_entropy(rnnlab.unroll(model, params, xs)[1][-1], labels[seed][-1])

    gradient = jax.grad(loss)(params).layers
    found = {r["parameter"]: r["log_norm"] for r in measured.records["norms"] if r["seed"] == seed}
    by_hand = {
        "cell.w_x": gradient[0].w_x,
        "cell.w_h": gradient[0].w_h,
        "cell.b": gradient[0].b,
        "cell.c": gradient[0].c,
        "readout.w": gradient[1].w,
        "readout.b": gradient[1].b,
    }
    expected = {name: float(jnp.log(jnp.linalg.norm(g))) for name, g in by_hand.items()}
    expected["all"] = 0.5 * math.log(sum(float(jnp.sum(g**2)) for g in by_hand.values()))
    assert found == pytest.approx(expected, rel=1e-6)
    lags = [r["log_norm"] for r in measured.records["flow"] if r["seed"] == seed]
    layer, readout = params.layers
    flow = rnnlab.gradient_flow(
        model.cells[0],
        layer,
        xs,
        lambda ys: losses.cross_entropy(model.cells[1](readout, ys[-1]), labels[seed][-1]),
    )
    np.testing.assert_allclose(lags, flow.log_norm_state.mean(axis=1)[::-1], rtol=1e-6)


def test_a_longer_list_of_cells_changes_no_number(text):
    one = GradientSettings(**{**SMALL, "cells": ("gru",), "lengths": (8,)}, data=text)
    two = GradientSettings(**SMALL, data=text)
    unit = study.Unit("gru", "before", 8)
    (alone,) = study.measure(one, study.source(one), study.units(one))
    among = {m.unit: m for m in study.measure(two, study.source(two), study.units(two))}
    assert alone.records["norms"] == among[unit].records["norms"]


def test_training_learns_and_is_measured_before_and_after(text):
    settings = GradientSettings(
        cells=("gru",), lengths=(8,), hidden_size=16, batch_size=8, seeds=1, data=text, train_steps=150,
        learning_rate=1e-2, clip=1.0,
    )  # fmt: skip
    source, said = study.source(settings), []
    before, after = study.measure(settings, source, study.units(settings), said.append)
    assert (before.unit.phase, after.unit.phase) == ("before", "after")
    assert before.records["norms"] != after.records["norms"]
    assert any("training step" in words for words in said)
    model = study.model(settings, source, "gru")
    start = jax.tree.map(lambda p: p[None], model.init(jax.random.key(0), source.size))
    trained = study.train(settings, source, model, start, lambda _: None)
    inputs, labels = study.draw(settings, source, "measure", 8, 8)

    def loss(params):
        ys = rnnlab.unroll(model, jax.tree.map(lambda p: p[0], params), source.embed(inputs[0]))[1]
        return float(losses.cross_entropy(ys, labels[0]))

    assert loss(trained) < 0.7 * loss(start)


def test_noise_is_the_controlled_case():
    settings = GradientSettings(**SMALL, data="noise")
    source = study.source(settings)
    (measured,) = study.measure(settings, source, [study.Unit("rnn", "before", 8)])
    assert {r["lag"] for r in measured.records["flow"]} == set(range(8))
    assert all(
        math.isfinite(r["log_norm"]) for r in measured.records["norms"] + measured.records["flow"]
    )


def test_summary_of_exact_decays():
    flow = [
        {
            "cell": "rnn",
            "seed": seed,
            "length": 50,
            "phase": "before",
            "lag": lag,
            "log_norm": seed - 0.5 * lag,
        }
        for seed in range(3)
        for lag in range(50)
    ]
    settings = GradientSettings(cells=("rnn",), lengths=(10, 50))
    (record,) = study.summarise(settings, {"flow": flow})
    assert record["decay_per_step"] == pytest.approx(0.5, rel=1e-5)
    assert record["half_life"] == pytest.approx(2 * math.log(2), rel=1e-5)
    assert record["horizon"] == math.floor(2 * math.log(1000)) + 1
    assert record["length"] == 50


def test_a_seed_that_is_not_finite_is_left_out_and_counted():
    flow = [
        {
            "cell": "rnn",
            "seed": seed,
            "length": 9,
            "phase": "before",
            "lag": lag,
            "log_norm": None if seed else -1.0 * lag,
        }
        for seed in range(2)
        for lag in range(9)
    ]
    (record,) = study.summarise(GradientSettings(cells=("rnn",)), {"flow": flow})
    assert record["doubtful"] == 1
    assert record["decay_per_step"] == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cells": ("rnn", "nonsense")}, "'nonsense' is unknown"),
        ({"cells": ()}, "cells is empty"),
        ({"cells": ("rnn", "rnn")}, "twice"),
        ({"lengths": ()}, "lengths is empty"),
        ({"lengths": (10, 0)}, "a length is 0"),
        ({"lengths": (10, 10)}, "twice"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seeds": 0}, "seeds is 0"),
        ({"train_steps": -1}, "train_steps is -1"),
        ({"train_length": 0}, "train_length is 0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": math.nan}, "clip is nan"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"alphabet": 1}, "alphabet is 1"),
        ({"precision": "float16"}, "precision is 'float16'"),
    ],
)
def test_settings_refuse_in_one_sentence(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        GradientSettings(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"caf\xe9 au lait" * 100, "is not UTF-8"),
        (b"short", "needs 9"),
        (b"a" * 100, "only one character"),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        study.source(GradientSettings(**SMALL, data=str(path)))
    assert "\n" not in str(caught.value)


def test_a_directory_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        study.source(GradientSettings(**SMALL, data=str(tmp_path)))
