"""The dynamics study: its settings, its numbers, its words and its figures."""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import rnnlab
from rnnlab.cells.registry import REGISTRY, make_cell
from rnnlab.diagnostics import kaplan_yorke, lyapunov_spectrum, recurrent_gain
from rnnlab.report import findings, sentences
from rnnlab.report.figures import dynamics as figures
from rnnlab.studies import dynamics, sources
from rnnlab.studies.settings import DynamicsSettings

SMALL = {
    "hidden_size": 4, "batch_size": 2, "seeds": 2, "data": "noise", "steps": 30, "burn_in": 5,
    "warm_up": 5, "starts": 6, "grid": 3, "longest": 12, "precision": "float64",
}  # fmt: skip


def found(settings, *parts):
    """All records of the parts of the first cell."""
    records = {kind: [] for kinds in dynamics.PARTS.values() for kind in kinds}
    data = sources.source(settings)
    for measured in dynamics.measure(
        settings, data, [dynamics.Unit(settings.cells[0], part) for part in parts]
    ):
        assert set(measured.records) == set(dynamics.PARTS[measured.unit.part])
        records |= measured.records
    return records


@pytest.mark.long
@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_an_orthogonal_network_left_alone_contracts_by_its_gain(gain):
    """The state decays: each λ is ln g; the only fixed point is 0, with time constant −1/ln g."""
    settings = DynamicsSettings(
        cells=("rnn",),
        **SMALL | {"drive": "none", "gain": gain, "burn_in": 100, "longest": 60, "seeds": 2},
    )
    records = found(settings, *dynamics.PARTS)
    np.testing.assert_allclose(
        [row["exponent"] for row in records["spectrum"]], math.log(gain), rtol=1e-6
    )
    np.testing.assert_allclose(
        [row["exponent"] for row in records["trace"]], math.log(gain), rtol=1e-6
    )
    np.testing.assert_allclose(
        [row["theory"] for row in records["spectrum"]], math.log(gain), rtol=1e-4
    )
    assert [(row["kind"], row["unstable"], row["seed"]) for row in records["fixed_points"]] == [
        ("stable", 0, 0), ("stable", 0, 1),
    ]  # fmt: skip
    np.testing.assert_allclose(
        [row["slowest"] for row in records["fixed_points"]], -1 / math.log(gain), rtol=1e-3
    )
    assert {row["kind"] for row in records["attractors"]} == {"point"}
    longest = {row["value"]: row for row in records["phase"] if row["length"] == 60}
    assert list(longest) == [0.25, 1, 4]
    np.testing.assert_allclose(
        longest[0.25]["exponent"], math.log(0.25), rtol=0.1
    )  # from the first step on
    np.testing.assert_allclose(longest[0.25]["decay_per_step"], -math.log(0.25), rtol=0.01)
    assert longest[0.25]["horizon"] == math.ceil(math.log(1000) / math.log(4))
    (record,) = dynamics.summarise(settings, records)
    assert record == {
        "cell": "rnn", "exponent": pytest.approx(math.log(gain)),
        "spread": pytest.approx(0, abs=1e-6), "kaplan_yorke": 0, "entropy_rate": 0,
        "attractor": "point", "stable": 1, "marginal": 0, "saddle": 0, "unstable": 0, "slow": 0,
    }  # fmt: skip
    (said,) = sentences.dynamics_sentences([record], records["fixed_points"], records["phase"])
    assert "nearby trajectories converge" in said


@pytest.mark.long
def test_records_are_the_instruments_own():
    settings = DynamicsSettings(cells=("lstm",), **SMALL | {"gain": 1.7, "exponents": 3})
    records = found(settings, "spectrum", "portrait")
    data, seed = sources.source(settings), 1
    xs = jnp.asarray(sources.draw(settings, data, "measure", 40, 0)[0][seed])
    made = rnnlab.LSTM(4, param_dtype=jnp.float64)
    network = rnnlab.stack([made, rnnlab.Readout(data.size, param_dtype=jnp.float64)])
    params = recurrent_gain(
        network.init(jax.random.key(seed), data.size).layers[0], jnp.asarray(1.7)
    )
    by_hand = lyapunov_spectrum(
        made, params, xs, key=jax.random.key(seed), count=3, burn_in=5, warm_up=5
    )
    mine = [row for row in records["spectrum"] if row["seed"] == seed]
    assert [row["index"] for row in mine] == [1, 2, 3]
    np.testing.assert_allclose([row["exponent"] for row in mine], by_hand.mean, rtol=1e-6)
    trace = [row for row in records["trace"] if row["seed"] == seed]
    assert [row["step"] for row in trace] == sorted({row["step"] for row in trace})
    assert trace[-1]["step"] == 30
    expected = np.asarray(by_hand.trace)[[row["step"] - 1 for row in trace], :, 0].mean(axis=1)
    np.testing.assert_allclose([row["exponent"] for row in trace], expected, rtol=1e-6)

    states, _ = rnnlab.unroll_states(made, params, xs)
    joint = np.concatenate(jax.tree.leaves(states), axis=-1)
    centre = joint.reshape(80, -1).mean(axis=0)
    directions = np.linalg.svd(joint.reshape(80, -1) - centre)[2][:2]
    for example in range(2):
        shown = [[row["pc1"], row["pc2"]] for row in records["trajectories"]
                 if (row["seed"], row["example"]) == (seed, example)]  # fmt: skip
        assert len(shown) == 40
        plane = (joint[:, example] - centre) @ directions.T
        np.testing.assert_allclose(np.abs(shown), np.abs(plane), atol=1e-6)
    points = [row for row in records["fixed_points"] if row["seed"] == seed]
    assert [row["number"] for row in points] == list(range(1, len(points) + 1))
    assert {row["kind"] for row in points} <= set(dynamics.KINDS)


def test_other_cells_and_parts_change_no_number():
    one, two = (DynamicsSettings(cells=cells, **SMALL) for cells in (("gru",), ("irnn", "gru")))
    alone = found(one, "spectrum")
    among = {
        m.unit: m.records
        for m in dynamics.measure(two, sources.source(two), dynamics.units(two)[3:4])
    }
    assert among == {
        dynamics.Unit("gru", "spectrum"): {kind: alone[kind] for kind in ("spectrum", "trace")}
    }


@pytest.mark.long
@pytest.mark.parametrize("drive", ["data", "none"])
def test_a_state_that_leaves_all_bounds(drive):
    """Nothing warns, and every record is a number or None."""
    changed = {"cells": ("irnn",), "hidden_size": 2, "gain": 9.0, "steps": 400, "drive": drive}
    settings = DynamicsSettings(**SMALL | changed)
    records = found(settings, *dynamics.PARTS)
    assert dynamics.finished(records) == set(dynamics.units(settings))
    values = [value for rows in records.values() for row in rows for value in row.values()]
    assert all(value is None or isinstance(value, str) or math.isfinite(value) for value in values)
    (record,) = dynamics.summarise(settings, records)
    assert record["exponent"] is record["kaplan_yorke"] is None
    (said,) = sentences.dynamics_sentences([record], records["fixed_points"], records["phase"])
    assert "the exponents are not finite" in said
    assert {row["pc1"] is None for row in records["trajectories"]} == {True, False}


def test_nothing_is_said_of_rest_after_a_single_step():
    short = {"cells": ("rnn",), "drive": "none", "steps": 1, "burn_in": 0, "warm_up": 0}
    records = found(DynamicsSettings(**SMALL | short), "spectrum")
    assert {row["theory"] for row in records["spectrum"]} == {None}


def test_a_state_of_one_number_has_one_principal_component():
    states = np.array([[1.0], [2.0], [6.0]])
    np.testing.assert_allclose(dynamics._principal(states)(states), [[-2, 0], [-1, 0], [3, 0]])


def test_driven_by_data_or_by_nothing():
    settings = DynamicsSettings(**SMALL | {"drive": "none"})
    alone = dynamics.drive(settings, sources.source(settings), 7, 0)
    assert alone.shape == (2, 7, 2, sources.NOISE_SIZE)
    assert not alone[:, 1:].any()
    assert abs(float(alone[:, 0].std()) - 1) < 0.2
    assert not np.allclose(alone[0], alone[1])
    data = DynamicsSettings(**SMALL | {"data": "text"})
    source = sources.source(data)
    read = dynamics.drive(data, source, 7, 0)
    np.testing.assert_array_equal(read.sum(axis=-1), 1)
    np.testing.assert_array_equal(
        read.argmax(axis=-1), sources.draw(data, source, "measure", 7, 0)[0]
    )


def spectrum_of(*seeds, cell="rnn"):
    return [
        {"cell": cell, "seed": seed, "index": index, "exponent": exponent, "theory": None}
        for seed, exponents in enumerate(seeds)
        for index, exponent in enumerate(exponents, 1)
    ]


def phase_of(*exponents, lengths=(5, 50), cell="rnn", horizon=7):
    values = [0.25 * 2**i for i in range(len(exponents))]
    return [
        {"cell": cell, "axis": "gain", "value": value, "length": length,
         "horizon": min(horizon, length), "vanishes": horizon < length, "decay_per_step": 0.5,
         "exponent": exponent if length == lengths[-1] else 9.0}
        for value, exponent in zip(values, exponents, strict=True) for length in lengths
    ]  # fmt: skip


def test_summary_of_known_spectra():
    settings = DynamicsSettings(cells=("rnn",), hidden_size=4, seeds=2)
    first, second = [0.5, 0.1, -0.4, -2.0], [0.3, -0.1, -0.4, -1.0]
    records = {kind: [] for kinds in dynamics.PARTS.values() for kind in kinds}
    records["spectrum"] = spectrum_of(first, second)
    (record,) = dynamics.summarise(settings, records)
    assert record["exponent"] == pytest.approx(0.4)
    assert record["spread"] == pytest.approx(0.1)
    assert record["entropy_rate"] == pytest.approx((0.6 + 0.3) / 2)
    by_hand = [float(kaplan_yorke(jnp.array(line), 4)) for line in (first, second)]
    assert record["kaplan_yorke"] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert record["stable"] is record["attractor"] is None
    assert dynamics.finished(records) == {dynamics.Unit("rnn", "spectrum")}
    records["spectrum"] = spectrum_of(first[:2], second[:2])
    assert (
        dynamics.summarise(settings, records)[0]["kaplan_yorke"] is None
    )  # it takes more exponents
    records["spectrum"] = spectrum_of([None, -1.0], second[:2])
    assert dynamics.summarise(settings, records)[0]["exponent"] is None
    assert dynamics.summarise(settings, records | {"spectrum": []}) == []


def summary_of(**change):
    record = {
        "cell": "rnn",
        "exponent": -0.0594,
        "spread": 0.0041,
        "kaplan_yorke": 0.0,
        "entropy_rate": 0.0,
        "attractor": "point",
        "stable": 1.0,
        "saddle": 0.0,
        "unstable": 0.0,
        "slow": 0.0,
    }
    return record | change


CONVERGE = (
    "rnn: nearby trajectories converge, "
    "λ₁ = −0.0594 nats per step (±0.004, standard deviation over seeds)"
)
REST = "without input the state settles at a fixed point"


@pytest.mark.parametrize(
    ("change", "slowest", "phase", "expected"),
    [
        (
            {},
            [12.34],
            phase_of(-1, 1),
            (
                f"{CONVERGE}; {REST}; 1 stable fixed point (slowest time constant 12.3 steps); "
                "nearby trajectories diverge for recurrent gains above 0.354."
            ),
        ),
        (
            {"stable": 2.0, "slow": 0.5},
            [1.0, None, None],
            [],
            (
                f"{CONVERGE}; {REST}; 2 stable fixed points "
                "(slowest time constant more than 1000 steps), 0.5 slow points on average."
            ),
        ),
        (
            {"stable": 0.0, "slow": 36.0, "attractor": "chaos or unsettled"},
            [],
            phase_of(-1, -2),
            (
                f"{CONVERGE}; without input the state behaves chaotically or has not settled; "
                "no fixed point found, 36 slow points; "
                "nearby trajectories diverge at no measured recurrent gain."
            ),
        ),
        (
            {"stable": None, "saddle": None, "unstable": None, "slow": None},
            [],
            phase_of(1, 2),
            f"{CONVERGE}; nearby trajectories diverge at every measured recurrent gain.",
        ),
        (
            {"exponent": 0.2, "kaplan_yorke": 3.21, "entropy_rate": 0.512, "spread": 0.0},
            [2.0],
            phase_of(1, None),
            (
                "rnn: nearby trajectories diverge, λ₁ = 0.2 nats per step, dimension 3.21, "
                f"entropy rate at most 0.51 nats per step; {REST}; "
                "1 stable fixed point (slowest time constant 2 steps)."
            ),
        ),
        (
            {"exponent": 0.003, "saddle": 3.0},
            [2.0],
            phase_of(1, -1),
            (
                "rnn: nearby trajectories neither clearly converge nor diverge, "
                "λ₁ = 0.003 nats per step (±0.004, standard deviation over seeds); "
                f"{REST}; 1 stable fixed point (slowest time constant 2 steps), 3 saddles; "
                "nearby trajectories diverge at some measured recurrent gains."
            ),
        ),
        (
            {"exponent": None, "spread": None, "stable": 0.0, "unstable": 1.0},
            [],
            [],
            f"rnn: the exponents are not finite; {REST}; 1 unstable point.",
        ),
    ],
)
def test_sentences(change, slowest, phase, expected):
    points = [{"kind": "stable", "slowest": steps} for steps in slowest] + [
        {"kind": "slow", "slowest": None}
    ]
    assert sentences.dynamics_sentence(summary_of(**change), points, phase) == expected


@pytest.mark.parametrize(
    ("exponents", "gain"),
    [
        ((-1, -1, 1), 0.5 * 2**0.5),
        ((-1, -3, 1), 0.5 * 2**0.75),
        ((1, -1, 1), 0.5 * 2**0.5),
        ((-1, 0, 1), 0.5),
        ((None, -1, 1, None), 0.5 * 2**0.5),
        ((1, 2), None),
        ((-1, 1, -1), None),
        ((None, None), None),
        ((), None),
    ],
)
def test_onset_is_where_the_longest_sequences_turn_for_good(exponents, gain):
    assert findings.zero_crossing(phase_of(*exponents)) == (
        None if gain is None else pytest.approx(gain)
    )


@pytest.mark.parametrize(
    ("exponents", "said"),
    [
        ((-1, 1), "λ₁ is positive for recurrent gains above 0.354 (rnn), 0.354 (gru)"),
        ((1, 2), "λ₁ is positive at every measured recurrent gain (rnn, gru)"),
        ((-1, -2), "λ₁ is positive at no measured recurrent gain (rnn, gru)"),
        ((1, -2), "λ₁ is positive at some measured recurrent gains (rnn, gru)"),
        ((1, None), "λ₁ is not finite everywhere (rnn, gru)"),
    ],
)
def test_the_title_of_a_phase_diagram(exponents, said):
    assert sentences.turning(phase_of(*exponents) + phase_of(*exponents, cell="gru")) == said


def test_table_shows_every_number():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(
        sentences.dynamics_table(
            [summary_of(kaplan_yorke=None), summary_of(cell="gru", slow=35.667)]
        )
    )
    text = console.export_text()
    for shown in ("rnn", "gru", "-0.0594", "0.0041", "–", "35.7", "point"):
        assert shown in text


def made_up(cells=("rnn", "lstm", "gru"), seeds=2, kinds=("stable", "saddle", "unstable", "slow")):
    rng = np.random.default_rng(0)
    records = {kind: [] for kinds_ in dynamics.PARTS.values() for kind in kinds_}
    for cell in cells:
        records["spectrum"] += spectrum_of(
            *(-0.1 * np.arange(5) - 0.01 * s for s in range(seeds)), cell=cell
        )
        records["phase"] += phase_of(-1.0, -0.2, 0.3, None, cell=cell) + phase_of(cell=cell)
        for seed in range(seeds):
            base = {"cell": cell, "seed": seed}
            records["trace"] += [
                {**base, "step": 2**i, "exponent": -0.1 + 0.1 / 2**i} for i in range(6)
            ]
            records["trajectories"] += [
                {
                    **base,
                    "example": example,
                    "step": step,
                    "pc1": x,
                    "pc2": None if step == 7 else y,
                }
                for example in range(2)
                for step, (x, y) in enumerate(rng.normal(size=(9, 2)).cumsum(axis=0), 1)
            ]
            records["fixed_points"] += [
                {
                    **base,
                    "number": i,
                    "kind": kind,
                    "unstable": 0,
                    "q": 1e-13,
                    "slowest": 3.0,
                    "pc1": x,
                    "pc2": y,
                }
                for kind in kinds
                for i, (x, y) in enumerate(rng.normal(size=(40, 2)), 1)
            ]
    counts = {kind: 40.0 * (kind in kinds) for kind in dynamics.KINDS}
    return records, [summary_of(cell=cell, **counts) for cell in cells]


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "titles"),
    [
        (
            {},
            (
                "Nearby trajectories converge: rnn",
                "bands: range of 2 seeds",
                "settles at a fixed point (rnn, lstm",
                "λ₁ is positive for recurrent gains above 0.66",
            ),
        ),
        (
            {"cells": ("gru",), "seeds": 1, "kinds": ()},
            ("converge: gru", "no fixed point found", "λ₁ is positive for"),
        ),
        (
            {
                "cells": ("irnn", "gru-before", "peephole-lstm", "layernorm-lstm"),
                "kinds": ("slow",),
            },
            ("layernorm-lstm", "40 slow points", "irnn: horizon"),
        ),
    ],
)
def test_figures_say_what_is_found(tmp_path, change, titles):
    figures.draw(*made_up(**change), tmp_path)
    drawn = ""
    for name in ("spectrum", "portrait", "phase"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        drawn += (tmp_path / f"{name}.svg").read_text()
    assert len(list(tmp_path.iterdir())) == 6
    axes = (
        "index i",
        "nats per step",
        "steps averaged over",
        "principal component 2",
        "gain g",
        "length T (steps)",
    )
    for shown in (*titles, *axes, "λ₁ = 0", "above 1/1000"):
        assert shown in drawn
    assert ("bands" in drawn) == (change.get("seeds") != 1)


def test_figures_of_numbers_that_are_not_finite(tmp_path):
    records, summary = made_up(("rnn", "irnn"))
    for kind in ("spectrum", "trace", "phase"):
        for row in records[kind]:
            row.update(
                {
                    key: None
                    for key in ("exponent", "horizon", "vanishes", "decay_per_step")
                    if key in row
                }
            )
    figures.draw(
        records, [record | {"exponent": None, "spread": None} for record in summary], tmp_path
    )
    assert "have no finite λ₁: rnn (not finite), irnn" in (tmp_path / "spectrum.svg").read_text()
    assert "λ₁ is not finite everywhere (rnn, irnn)" in (tmp_path / "phase.svg").read_text()


def test_equal_records_give_equal_files_and_theory_is_a_line_of_its_own(tmp_path):
    records, summary = made_up(("rnn",))
    for name in ("a", "b", "theory"):
        (tmp_path / name).mkdir()
    with_theory = [row | {"theory": math.log(1 - row["index"] / 10)} for row in records["spectrum"]]
    for name, rows in (
        ("a", records["spectrum"]),
        ("b", records["spectrum"]),
        ("theory", with_theory),
    ):
        figures.spectrum(rows, records["trace"], summary, tmp_path / name)
    svgs = {name: (tmp_path / name / "spectrum.svg").read_bytes() for name in ("a", "b", "theory")}
    assert svgs["a"] == svgs["b"]
    assert b">theory: " in svgs["theory"]
    assert b">theory: " not in svgs["a"]


@pytest.mark.parametrize("name", REGISTRY)
def test_sizes_of_states_are_those_of_the_cells(name):
    state = make_cell(name, 5).initial_state()
    settings = DynamicsSettings(cells=(name,), hidden_size=5)
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert dynamics.state_size(settings, name) == size
    assert dynamics.leading_exponents(settings, name) == min(16, size)


@pytest.mark.parametrize(("grid", "longest"), [(2, 2), (3, 4), (16, 200), (17, 30), (4, 1000)])
def test_the_grid_of_gains_and_lengths(grid, longest):
    settings = DynamicsSettings(grid=grid, longest=longest)
    np.testing.assert_allclose(settings.gains, np.geomspace(1 / 4, 4, grid), rtol=1e-5)
    assert len(settings.lengths) <= grid
    assert list(settings.lengths) == sorted(set(settings.lengths))
    assert settings.lengths[0] >= 1
    assert settings.lengths[-1] == longest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells": ("rnn", "nonsense")}, "'nonsense' is unknown"),
        ({"cells": ()}, "cells is empty"),
        ({"seeds": 0}, "seeds is 0"),
        ({"drive": "both"}, "drive is 'both'; choose data or none"),
        ({"gain": 0.0}, "gain is 0.0; it must be a positive number"),
        ({"gain": math.nan}, "gain is nan"),
        ({"exponents": 0}, "exponents is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"warm_up": 2.5}, "warm_up is 2.5"),
        ({"starts": 0}, "starts is 0"),
        ({"grid": 1}, "grid is 1; it must be an integer of at least 2"),
        ({"longest": 1}, "longest is 1"),
    ],
)
def test_settings_refuse_in_one_sentence(change, said):
    with pytest.raises(ValueError, match=said) as caught:
        DynamicsSettings(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"exponents": 65},
            "exponents is 65, but the state of rnn has 64 numbers; ask for at most that many",
        ),
        ({"exponents": 129, "cells": ("lstm",)}, "the state of lstm has 128 numbers"),
    ],
)
def test_more_exponents_than_the_state_has_numbers(change, said):
    with pytest.raises(ValueError, match=said):
        dynamics.units(DynamicsSettings(**change))
