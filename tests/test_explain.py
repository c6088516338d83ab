"""explain_engine says what unroll does."""

import jax
import jax.numpy as jnp
import pytest

import rnnlab
from rnnlab.engines import choose
from tests.reference import one_sentence
from tests.reference.native import NATIVE, SETS

T, B, I, H = 24, 4, 3, 8
XS = jnp.ones((T, B, I), jnp.float32)
AUTO = "native" if SETS and jax.device_count() == 1 else "fused"
"""What "auto" takes for a cell that both can run."""


def explained(cell, xs=XS, **options):
    return rnnlab.explain_engine(cell, cell.init(jax.random.key(0), xs.shape[-1]), xs, **options)


def test_bytes_are_what_the_fused_pass_keeps():
    """An LSTM keeps c, h and four arrays of gates; a GRU h and four; Elman's network h alone."""
    unit = T * B * H * 4
    for cell, gates, states in (
        (rnnlab.LSTM(H), 6, 2),
        (rnnlab.GRU(H), 5, 1),
        (rnnlab.RNN(H), 1, 1),
    ):
        kept = explained(cell).residual_bytes
        assert kept["fused"] == gates * unit
        assert kept["fused, states"] == states * unit
        assert kept["checkpointed"] < kept["fused, states"] < kept["scan"]


def test_the_engine_that_is_named_is_the_one_that_runs():
    cell = rnnlab.LSTM(H)
    params = cell.init(jax.random.key(0), I)
    assert explained(cell).engine == AUTO
    for options in (
        {},
        {"engine": "scan"},
        {"engine": "fused", "residuals": "states"},
        {"engine": "checkpointed"},
        *(NATIVE.values() if SETS else ()),
    ):
        answer = explained(cell, **options)
        name, *residuals = answer.engine.split(", ")
        named = {"engine": name} | ({"residuals": residuals[0]} if residuals else {})

        def program(options):
            return jax.jit(
                lambda p: jax.grad(lambda p: rnnlab.unroll(cell, p, XS, **options)[1].sum())(p)
            ).lower(params)

        assert program(options).as_text() == program(named).as_text()


def test_auto_keeps_less_where_memory_is_scarce(monkeypatch):
    kept = explained(rnnlab.LSTM(7)).residual_bytes
    gates, states = kept[AUTO], kept[f"{AUTO}, states"]
    for room, engine in (
        (gates, AUTO),
        (gates - 1, f"{AUTO}, states"),
        (states - 1, "checkpointed"),
    ):
        monkeypatch.setattr(choose, "device_bytes", lambda room=room: 4 * room)
        answer = explained(rnnlab.LSTM(7))
        assert answer.engine == engine
        assert engine == AUTO or "memory" in answer.why


def test_every_refusal_is_that_of_unroll():
    step = rnnlab.Step(lambda params, h, x: (params * h + x, h), jnp.zeros(I))
    answer = rnnlab.explain_engine(step, 1.0, XS)
    assert answer.engine == "scan"
    assert "Step" in answer.why
    for name in ("fused", "native", "cudnn"):
        options = {"engine": name}
        one_sentence(
            lambda options=options: rnnlab.unroll(step, 1.0, XS, **options),
            *answer.refused[name].split("; "),
        )


def test_layers_are_told_apart():
    cell = rnnlab.stack(
        [rnnlab.bidirectional(rnnlab.GRU(H)), rnnlab.RNN(5, form="output-state"), rnnlab.Readout(2)]
    )
    answer = explained(cell, lengths=jnp.full(B, 3), resets=jnp.zeros((T, B), bool), reverse=True)
    assert answer.engine == f"{AUTO}, {AUTO}, fused, at once"
    both_ways, above, readout = answer.layers
    assert len(both_ways.layers) == 2
    assert readout.engine == "at once"
    assert answer.residual_bytes["fused"] == sum(
        layer.residual_bytes["fused"] for layer in (both_ways, above, readout)
    )
    assert "resets" in answer.refused["cudnn"] or "GPU" in answer.refused["cudnn"]


def test_printed_it_is_a_table():
    lines = str(explained(rnnlab.LSTM(H))).splitlines()
    assert lines[0].startswith(f"{AUTO}: ")
    assert lines[-1].split()[0] == "cudnn"
    kept = {line[:17].strip() for line in lines[1:] if "MiB" in line}
    native = {"native", "native, states"}
    assert kept == {"scan", "fused", "fused, states", "checkpointed"} | (native if SETS else set())
    assert {line[:17].strip() for line in lines[1:]} == kept | native | {"cudnn"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "magic"}, ("unknown",)),
        ({"lengths": [1]}, ("lengths", "each example")),
        ({"residuals": "x"}, ("residuals",)),
    ],
)
def test_faults_are_those_of_unroll(options, words):
    one_sentence(lambda: explained(rnnlab.RNN(H), **options), *words)
