"""Streams of text: every target once an epoch, and a state that can be carried."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from rnnlab.data import streams
from tests.reference import close

V = 7
# (codes, streams, length, context): windows that fit and do not, a context longer than a window.
SHAPES = [
    (61, 3, 5, 0),
    (61, 3, 5, 2),
    (64, 4, 4, 4),
    (50, 2, 3, 7),
    (9, 8, 5, 1),
    (101, 1, 100, 3),
]


def text(size):
    return np.random.default_rng(1).integers(0, V, size)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_target_counts_exactly_once_an_epoch(shape):
    size, batch_size, length, context = shape
    # Codes that are all different tell which target is counted.
    data = streams(np.arange(size), batch_size, length, context=context, seed=2)
    for epoch in range(3):
        counted = []
        for window in range(data.batches_per_epoch):
            batch = data[epoch * data.batches_per_epoch + window]
            assert batch.xs.shape == batch.targets.shape == (context + length, batch_size)
            assert batch.mask.any()
            assert not batch.mask[:context].any()
            np.testing.assert_array_equal(batch.targets[batch.mask], batch.xs[batch.mask] + 1)
            counted.extend(batch.targets[batch.mask].tolist())
        assert sorted(counted) == list(range(1, size))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_state_can_be_carried_from_window_to_window(shape):
    """Windows with a carried state give what the unbroken text gives at every counted target."""
    size, batch_size, length, context = shape
    data = streams(np.arange(size), batch_size, length, context=context, seed=2)
    vectors = np.random.default_rng(3).normal(size=(size, 2))
    cell = rnnlab.RNN(3, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), input_size=2)
    for epoch in range(2):
        state = cell.initial_state((batch_size,))
        for window in range(data.batches_per_epoch):
            batch = data[epoch * data.batches_per_epoch + window]
            xs = vectors[batch.xs]
            states, ys = rnnlab.unroll_states(
                cell, params, xs, state, resets=batch.resets, engine="scan"
            )
            # The next window begins where the first ``length`` steps of this one end.
            state = type(state)(np.asarray(states.h)[length - 1])
            ys = np.asarray(ys)
            if window == 0:
                whole = {}
            for code, y in zip(batch.xs[batch.mask], ys[batch.mask], strict=True):
                whole[int(code)] = y
        close(whole, unbroken(params, vectors, starts(data, epoch)))


def starts(data, epoch):
    """The places at which the streams of an epoch begin, and that of the text."""
    total, count = data.targets_per_epoch, data.batch_size
    places = [(data.offset(epoch) + b * total // count) % total for b in range(count)]
    return {0, *places}


def unbroken(params, vectors, resets):
    """h at every place: two rounds through the text, step by step, so that streams may wrap."""
    w_x, w_h, b = map(np.asarray, (params.w_x, params.w_h, params.b))
    total = len(vectors) - 1
    states, h = {}, np.zeros(3)
    for place in [*range(total), *range(total)]:
        if place in resets:
            h = np.zeros(3)
        h = np.tanh(vectors[place] @ w_x + h @ w_h + b)
        states[place] = h
    return states


def test_resets_are_at_the_true_first_steps():
    data = streams(np.arange(50), 2, 3, context=7, seed=2)
    for epoch in range(3):
        first = data[epoch * data.batches_per_epoch]
        np.testing.assert_array_equal(first.resets.sum(0) >= 1, True)
        np.testing.assert_array_equal(first.resets[7], True)
        assert not first.resets[:7].any()
        for window in range(data.batches_per_epoch):
            batch = data[epoch * data.batches_per_epoch + window]
            assert set(batch.xs[batch.resets].tolist()) <= starts(data, epoch)


def test_the_windows_of_epochs_differ_and_the_offset_is_a_function_of_the_epoch():
    data = streams(text(500), 4, 10, seed=0)
    offsets = [data.offset(epoch) for epoch in range(10)]
    assert len(set(offsets)) > 5
    assert offsets == [streams(text(500), 4, 10, seed=0).offset(epoch) for epoch in range(10)]
    assert offsets != [streams(text(500), 4, 10, seed=1).offset(epoch) for epoch in range(10)]
    assert not np.array_equal(data[0].xs, data[data.batches_per_epoch].xs)


@pytest.mark.parametrize(
    ("codes", "change", "words"),
    [
        (np.zeros((3, 2), int), {}, r"codes has shape \(3, 2\); it must be \[N\]"),
        (np.zeros(9), {}, "codes is float64; a code must be an integer"),
        ([0, 1, -1, 2], {}, r"codes\[2\] is -1; a code must be at least 0"),
        ([0, 1, 5, 2], {"vocabulary_size": 5}, r"codes\[2\] is 5; a code must lie in 0..4"),
        ([], {}, "codes is float64"),
        ("hello world", {}, r"codes is text; give numbers, such as .*rnnlab\.data\.encode\("),
        (np.zeros(0, int), {}, "codes holds 0 codes, but 2 streams need at least 3"),
        ([0, 1], {}, "codes holds 2 codes, but 2 streams need at least 3"),
        ([0, 2**31, 1], {}, r"codes\[1\] is 2147483648; a code must lie in 0\.\.2147483647"),
        ([0] * 9, {"length": 0}, "length is 0"),
        ([0] * 9, {"context": -1}, "context is -1"),
        ([0] * 9, {"batch_size": True}, "batch_size is True"),
        ([0] * 9, {"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_bad_streams_are_refused(codes, change, words):
    settings = {"batch_size": 2, "length": 3} | change
    with pytest.raises(ValueError, match=words) as caught:
        streams(codes, **settings)
    assert "\n" not in str(caught.value)
