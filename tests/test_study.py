"""The study: its settings, its data, its numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnlab
from rnnlab import data
from rnnlab.cells.registry import REGISTRY, make_cell
from rnnlab.studies import gradients, networks, sources
from rnnlab.studies.settings import GradientSettings
from rnnlab.training import losses

SMALL = {"cells": ("rnn", "gru"), "lengths": (3, 8), "hidden_size": 6, "batch_size": 4, "seeds": 2}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog\n" * 20, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_name_makes_a_cell(name):
    cell = make_cell(name, 3, param_dtype="float64")
    assert (cell.hidden_size, cell.param_dtype) == (3, jnp.float64)
    if name == "irnn":
        params = cell.init(jax.random.key(0), 2)
        np.testing.assert_array_equal(params.w_h, np.eye(3))


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
    source = sources.source(settings)
    (measured,) = gradients.measure(settings, source, [gradients.Unit("gru", "untrained", (8,))])
    seed = 1
    inputs, labels = sources.draw(settings, source, "measure", 8, 8)
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
    np.testing.assert_allclose(lags, flow.log_norm_by_lag, rtol=1e-6)
    (found,) = (r for r in measured.records["reach"] if r["seed"] == seed)
    assert (found["horizon"], found["vanishes"]) == (flow.horizon, flow.vanishes)
    assert found["decay_per_step"] == pytest.approx(float(flow.decay_per_step), rel=1e-6)
    assert (found["horizon_low"], found["horizon_high"]) == tuple(flow.horizon_range)


@pytest.mark.long
def test_a_longer_list_of_cells_changes_no_number(text):
    one = GradientSettings(**{**SMALL, "cells": ("gru",)}, data=text)
    two = GradientSettings(**SMALL, data=text)
    unit = gradients.Unit("gru", "untrained", (3, 8))
    (alone,) = gradients.measure(one, sources.source(one), gradients.units(one))
    among = {m.unit: m for m in gradients.measure(two, sources.source(two), gradients.units(two))}
    assert alone.records == among[unit].records


@pytest.mark.long
def test_lengths_that_are_measured_together_are_each_measured_alone(text):
    """Short lengths are padded to the longest of them; padding must change nothing."""
    settings = GradientSettings(**SMALL, data=text, precision="float64")
    source = sources.source(settings)
    (together,) = gradients.measure(settings, source, [gradients.Unit("gru", "untrained", (3, 8))])
    for length in (3, 8):
        (alone,) = gradients.measure(
            settings, source, [gradients.Unit("gru", "untrained", (length,))]
        )
        for kind, rows in alone.records.items():
            mine = [row for row in together.records[kind] if row["length"] == length]
            for row, other in zip(rows, mine, strict=True):
                numbers = {name for name, value in row.items() if isinstance(value, float)}
                assert {name: row[name] for name in numbers} == pytest.approx(
                    {name: other[name] for name in numbers}, rel=1e-9
                )
                assert {**row, **dict.fromkeys(numbers)} == {**other, **dict.fromkeys(numbers)}


def test_long_sequences_have_a_program_of_their_own():
    assert gradients.together([1000, 10, 100, 300, 30]) == [(10, 30, 100), (300,), (1000,)]
    assert gradients.together([500]) == [(500,)]
    settings = GradientSettings(**SMALL, detail=True, train_steps=2)
    wanted = gradients.units(settings)
    assert len(set(wanted)) == len(wanted)
    kinds = [(unit.phase, unit.what) for unit in wanted if unit.cell == "rnn"]
    assert kinds == [
        ("untrained", "flow"),
        ("untrained", "closer"),
        ("trained", "training"),
        ("trained", "flow"),
        ("trained", "closer"),
    ]


@pytest.mark.long
def test_training_learns_and_is_reported(text):
    settings = GradientSettings(
        cells=("gru",), lengths=(8,), hidden_size=16, batch_size=8, seeds=1, data=text,
        train_steps=150, learning_rate=1e-2, clip=1.0,
    )  # fmt: skip
    source, said = sources.source(settings), []
    wanted = gradients.units(settings)
    untrained, training, trained = gradients.measure(settings, source, wanted, said.append)
    assert [m.unit for m in (untrained, training, trained)] == wanted
    assert (untrained.unit.phase, trained.unit.phase) == ("untrained", "trained")
    assert untrained.records["norms"] != trained.records["norms"]
    assert any("training step" in words for words in said)
    (record,) = training.records["training"]

    model = networks.model(settings, source, "gru")
    start = model.init(jax.random.key(0), source.size)
    inputs, labels = sources.draw(settings, source, "measure", 8, 8)
    ys = rnnlab.unroll(model, start, source.embed(inputs[0]))[1]
    loss, accuracy = losses.cross_entropy(ys, labels[0]), (ys.argmax(-1) == labels[0]).mean()
    assert record["loss_before"] == pytest.approx(float(loss), rel=1e-5)
    assert record["accuracy_before"] == pytest.approx(float(accuracy), rel=1e-5)
    assert record["loss_after"] < 0.7 * record["loss_before"]
    assert record["accuracy_after"] > record["accuracy_before"] + 0.1
    assert 0 <= record["clipped_share"] <= 1

    records = {kind: [] for kind in ("norms", "flow", "reach", "training")}
    for measured in (untrained, training, trained):
        for kind, rows in measured.records.items():
            records[kind] += rows
    first, last = gradients.summarise(settings, records)
    assert (first["loss"], last["loss"]) == (record["loss_before"], record["loss_after"])
    assert "clipped_share" not in first
    assert last["clipped_share"] == record["clipped_share"]
    assert gradients.finished(records) == set(wanted)


@pytest.mark.combinations
@pytest.mark.parametrize(("clip", "share"), [(1e-9, 1.0), (1e9, 0.0), (None, None)])
def test_the_share_of_clipped_steps(text, clip, share):
    settings = GradientSettings(**{**SMALL, "cells": ("rnn",)}, data=text, train_steps=3, clip=clip)
    unit = gradients.Unit("rnn", "trained", (8,), "training")
    (measured,) = gradients.measure(settings, sources.source(settings), [unit])
    assert [row["clipped_share"] for row in measured.records["training"]] == [share, share]


def test_noise_is_the_controlled_case():
    settings = GradientSettings(**SMALL, data="noise")
    source = sources.source(settings)
    (measured,) = gradients.measure(settings, source, [gradients.Unit("rnn", "untrained", (8,))])
    assert {r["lag"] for r in measured.records["flow"]} == set(range(8))
    assert all(
        math.isfinite(r["log_norm"]) for r in measured.records["norms"] + measured.records["flow"]
    )


def reach_record(seed=0, **change):
    return {
        "cell": "rnn", "seed": seed, "length": 50, "phase": "untrained", "horizon": 14,
        "vanishes": True, "horizon_low": 12, "horizon_high": 16, "decay_per_step": 0.5,
        "fit_last_lag": 14,
        "late_decay_per_step": 0.2, "late_first_lag": 14, "lags": 50, "zero_share": 0.0,
    } | change  # fmt: skip


def summary_of(*rows):
    settings = GradientSettings(cells=("rnn",), lengths=(10, 50))
    (record,) = gradients.summarise(settings, {"reach": list(rows)})
    return record


def test_the_summary_is_the_median_seed_with_its_range():
    shorter = reach_record(length=10, horizon=3)
    seeds = [
        reach_record(0, horizon=28, decay_per_step=0.25, horizon_low=20),
        reach_record(1, horizon=14, decay_per_step=0.5),
        reach_record(2, horizon=50, vanishes=False, decay_per_step=0.1, horizon_high=50),
    ]
    record = summary_of(shorter, *seeds)
    assert (record["horizon"], record["vanishes"], record["length"]) == (28, True, 50)
    assert (record["horizon_low"], record["horizon_high"]) == (14, 50)
    assert (record["example_low"], record["example_high"]) == (12, 50)
    assert record["half_life"] == pytest.approx(math.log(2) / 0.25)
    assert (record["seeds"], record["doubtful"]) == (3, 0)


def test_horizon_and_decay_of_two_seeds_are_those_of_one():
    slow = reach_record(1, horizon=50, vanishes=False, decay_per_step=0.1)
    record = summary_of(reach_record(0), slow)
    assert (record["horizon"], record["decay_per_step"]) == (14, 0.5)


def test_where_most_seeds_do_not_vanish_the_horizon_is_the_number_of_lags():
    never = {"horizon": 50, "vanishes": False}
    record = summary_of(reach_record(0), reach_record(1, **never), reach_record(2, **never))
    assert (record["horizon"], record["vanishes"], record["lags"]) == (50, False, 50)


def test_a_seed_that_is_not_finite_is_left_out_and_counted():
    lost = dict.fromkeys(reach_record()) | {
        name: value
        for name, value in reach_record(1).items()
        if name in ("cell", "seed", "length", "phase")
    }
    record = summary_of(reach_record(0), lost)
    assert (record["doubtful"], record["horizon"], record["decay_per_step"]) == (1, 14, 0.5)
    assert summary_of(lost)["horizon"] is None


def test_a_network_that_is_not_finite_has_no_reach(text):
    settings = GradientSettings(**{**SMALL, "seeds": 1}, data=text)
    source = sources.source(settings)
    network = networks.model(settings, source, "rnn")
    params = networks.initial_params(network, source.size, 1)
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    run = gradients._Run(settings, source, "rnn", network, lambda _: None)
    program = gradients._compile(run, (3, 8))
    measured = gradients._measure_unit(
        run, program, broken, gradients.Unit("rnn", "untrained", (3, 8))
    )
    assert all(row["horizon"] is None for row in measured.records["reach"])
    assert all(row["log_norm"] is None for row in measured.records["norms"])


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
        sources.source(GradientSettings(**SMALL, data=str(path)))
    assert "\n" not in str(caught.value)


def test_a_directory_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        sources.source(GradientSettings(**SMALL, data=str(tmp_path)))
