"""Tasks with numbers as targets: adding, multiplication, the flip-flop and the sine wave."""

import functools
import math

import jax
import numpy as np
import pytest

import rnnlab
from rnnlab.models import regressor
from rnnlab.tasks.holding import flip_flop
from rnnlab.tasks.sine import sine_wave
from rnnlab.tasks.sums import adding, multiplication
from tests.reference import one_sentence
from tests.reference.long_lag import (
    draw,
    farthest,
    held,
    number_loss,
    two_numbers,
)
from tests.reference.tasks import check_contract

pytestmark = pytest.mark.long

PAIRS = [adding(12), adding(12, "hochreiter"), adding(20, "pascanu"), multiplication(12)]
FLIP_FLOP = flip_flop(6, bits=3, probability=0.3)
WAVES = [sine_wave(8, period=8), sine_wave(8, period=(5, 9), noise=0.3)]
each_pair = pytest.mark.parametrize("task", PAIRS, ids=["sum", "hochreiter", "pascanu", "product"])


@pytest.mark.parametrize("task", [*PAIRS, FLIP_FLOP, *WAVES], ids=repr)
def test_contract(task):
    check_contract(task)


# Two marked numbers


@each_pair
def test_targets_of_two_numbers(task):
    batch = draw(task)
    np.testing.assert_allclose(batch.targets, two_numbers(task, batch.xs), rtol=1e-6)


@each_pair
def test_the_best_constant_reaches_the_baseline(task):
    seen, fresh = draw(task, 1, 200_000), draw(task, 2, 200_000)
    loss = number_loss(lambda batch: np.zeros(batch.targets.shape, int), 1, seen, fresh)
    np.testing.assert_allclose(loss, task.baseline(), rtol=0.01)


def test_baselines_of_two_numbers():
    baselines = [task.baseline() for task in PAIRS]
    np.testing.assert_allclose(baselines, [1 / 6, 1 / 24, 1 / 24, 7 / 144], rtol=1e-15)


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [
        (adding(12), range(6), range(6, 12)),
        (adding(13), range(6), range(6, 13)),
        (adding(12, "hochreiter"), range(1, 6), range(1, 6)),
        (adding(40, "hochreiter"), range(1, 10), range(1, 20)),
        (adding(40, "pascanu"), range(4), range(4, 20)),
        (multiplication(12), range(6), range(6, 12)),
    ],
)
def test_positions_of_two_numbers(task, first, second):
    """Each place of the first is as likely as any other, and so is each that is left for the
    second.
    """
    marked = draw(task, 3, 60_000).xs[..., 1] == 1
    assert (marked.sum(axis=0) == 2).all()
    expected = np.zeros((task.length, task.length))
    for i in first:
        others = [j for j in second if j != i]
        expected[i, others] = 1 / len(first) / len(others)
    # It does not show in a batch which of the two came first.
    expected = np.triu(expected + expected.T)
    early, late = marked.argmax(axis=0), len(marked) - 1 - marked[::-1].argmax(axis=0)
    observed = np.zeros_like(expected)
    np.add.at(observed, (early, late), 1 / 60_000)
    assert not observed[expected == 0].any()
    possible = expected > 0
    limits = 5 * np.sqrt(expected[possible] / 60_000)
    assert (np.abs(observed - expected)[possible] < limits).all()


def test_ranges_of_the_numbers():
    for task, low in zip(PAIRS, [0, -1, 0, 0], strict=True):
        values = draw(task, 4, 2000).xs[..., 0]
        assert low <= values.min() < low + 0.001
        assert 0.999 < values.max() < 1


def test_markers_of_hochreiter():
    markers = draw(PAIRS[1]).xs[..., 1]
    assert (markers[[0, -1]] == -1).all()
    assert set(markers[1:-1].ravel()) == {0, 1}


@each_pair
def test_lag_of_two_numbers(task):
    def change(xs, t):
        xs[t, :, 0] -= 0.5
        return xs

    xs = draw(task, 5).xs
    assert task.lag == max(farthest(two_numbers, task, xs[:, [b]], change) for b in range(64))


# The flip-flop


def test_targets_of_the_flip_flop():
    batch = draw(FLIP_FLOP)
    np.testing.assert_array_equal(batch.targets, held(FLIP_FLOP, batch.xs))
    assert batch.mask is None


def test_pulses_of_the_flip_flop():
    xs = draw(FLIP_FLOP, 1, 20_000).xs
    assert (xs[0] != 0).all()
    assert set(xs.ravel()) == {-1, 0, 1}
    for sign in (-1, 1):
        shares = (xs == sign).mean(axis=1)
        np.testing.assert_allclose(shares[0], 0.5, atol=5 * 0.5 / math.sqrt(20_000))
        np.testing.assert_allclose(shares[1:], 0.15, atol=5 * 0.36 / math.sqrt(20_000))


@pytest.mark.parametrize("task", [FLIP_FLOP, flip_flop(4, bits=1, probability=0)])
def test_the_flip_flop_without_memory_reaches_the_baseline(task):
    def contexts(batch):
        return batch.xs.astype(int) + 1

    seen, fresh = draw(task, 1, 20_000), draw(task, 2, 20_000)
    loss = number_loss(contexts, 3, seen, fresh)
    np.testing.assert_allclose(loss, task.baseline(), rtol=0.01)
    steps = task.length
    assert task.baseline() == pytest.approx((1 - task.probability) * (steps - 1) / steps, 1e-15)


def test_lag_of_the_flip_flop():
    def change(xs, t):
        return np.where(np.arange(len(xs))[:, None, None] == t, -xs, xs)

    xs = draw(FLIP_FLOP, 5).xs
    assert FLIP_FLOP.lag == max(
        farthest(held, FLIP_FLOP, xs[:, [b]], change) for b in range(xs.shape[1])
    )


# The sine wave


@pytest.mark.parametrize("task", WAVES)
def test_targets_of_a_wave_are_its_next_values(task):
    batch = draw(task)
    np.testing.assert_array_equal(batch.targets[:-1], batch.xs[1:])
    first = np.arange(8)[:, None] < (1 if task.periods == (8, 8) else 2)
    np.testing.assert_array_equal(batch.mask, np.broadcast_to(~first, (8, 64)))


def test_a_wave_follows_from_two_values():
    batch = draw(sine_wave(100, period=7.5), 1)
    for b in range(64):
        for t in range(1, 100):
            now, before = batch.xs[t, b, 0], batch.xs[t - 1, b, 0]
            predicted = 2 * math.cos(2 * math.pi / 7.5) * now - before
            assert abs(batch.targets[t, b, 0] - predicted) < 2e-5


def test_a_wave_of_any_period_follows_from_three_values():
    batch = draw(sine_wave(50, period=(5, 30)), 1)
    before, middle, now, after = (
        batch.xs[:-2],
        batch.xs[1:-1],
        batch.xs[2:],
        batch.targets[2:],
    )
    # 2 cos ω = (before + now) / middle
    np.testing.assert_allclose(after * middle, (before + now) * now - middle**2, atol=2e-5)


def test_noise_is_white_and_has_its_size():
    """2 cos ω is 0 for a period of 4, so x + its value two steps before is noise alone."""
    xs = draw(sine_wave(20, period=4, noise=0.3), 1, 20_000).xs[..., 0]
    sums = xs[2:] + xs[:-2]
    np.testing.assert_allclose(np.mean(sums**2), 2 * 0.3**2, rtol=0.01)
    np.testing.assert_allclose(np.mean(sums[1:] * sums[:-1]), 0, atol=0.01 * 2 * 0.3**2)


def test_phase_and_period_of_a_wave_are_uniform():
    xs = draw(sine_wave(3, period=(5, 9)), 1, 100_000).xs[..., 0]
    # sin φ of a uniform φ has the arcsine distribution.
    for t in range(3):
        shares, _ = np.histogram(np.arcsin(np.clip(xs[t], -1, 1)), np.linspace(-1.57, 1.57, 9))
        np.testing.assert_allclose(shares / 100_000, 1 / 8, atol=0.006)
    is_large = np.abs(xs[1]) > 0.1
    cosines = ((xs[0] + xs[2]) / xs[1] / 2)[is_large]
    periods = 2 * math.pi / np.arccos(np.clip(cosines, -1, 1))
    shares, _ = np.histogram(periods, np.linspace(5, 9, 9))
    np.testing.assert_allclose(shares / is_large.sum(), 1 / 8, atol=0.006)


@pytest.mark.parametrize("task", [*WAVES, sine_wave(8, period=(3, 20))])
def test_a_wave_without_memory_reaches_the_baseline(task):
    """The mean of the next value in each of many narrow bins of the current one."""

    def contexts(batch):
        return np.clip((batch.xs + 2) * 100, 0, 399).astype(int)

    seen, fresh = draw(task, 1, 60_000), draw(task, 2, 60_000)
    loss = number_loss(contexts, 400, seen, fresh)
    np.testing.assert_allclose(loss, task.baseline(), rtol=0.01)


@pytest.mark.parametrize("period", [2.5, 4, 8, 31.4])
def test_baseline_of_a_fixed_period(period):
    omega = 2 * math.pi / period
    expected = math.sin(omega) ** 2 / 2
    assert sine_wave(8, period=period).baseline() == pytest.approx(expected, rel=1e-9)


def test_baseline_of_a_period_that_is_drawn():
    middles = 5 + 25 * (np.arange(200_000) + 0.5) / 200_000
    expected = (1 - np.mean(np.cos(2 * np.pi / middles)) ** 2) / 2
    assert sine_wave(8, period=(5, 30)).baseline() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("noise", [0.05, 0.3, 3.0])
def test_baseline_with_noise(noise):
    """The posterior mean on a fine grid of phases, for each of a fine grid of values."""
    sines = np.sin(2 * np.pi * np.arange(4000) / 4000)
    step = noise / 6
    xs = np.arange(-1 - 9 * noise, 1 + 9 * noise, step)
    likelihood = np.exp(-(((xs[:, None] - sines) / noise) ** 2) / 2)
    p = likelihood.mean(axis=1) / (noise * math.sqrt(2 * math.pi))
    means = (likelihood * sines).mean(axis=1) / likelihood.mean(axis=1)
    explained = np.sum(p * means**2) * step
    expected = 0.5 - math.cos(2 * math.pi / 9) ** 2 * explained + noise**2
    assert sine_wave(8, period=9, noise=noise).baseline() == pytest.approx(expected, rel=1e-10)


def test_the_baseline_has_no_gap_at_small_noise():
    below, above = (sine_wave(8, period=9, noise=noise) for noise in (0.9999e-4, 1.0001e-4))
    assert below.baseline() == pytest.approx(above.baseline(), rel=1e-9)
    assert sine_wave(8, period=9).baseline() < below.baseline()


def test_a_wave_with_noise_is_solved_relative_to_its_floor():
    task = sine_wave(8, period=8, noise=0.5)
    assert task.floor() == 0.25
    span = task.baseline() - 0.25
    assert task.solved({"loss": 0.25 + 0.009 * span})
    assert not task.solved({"loss": 0.25 + 0.011 * span})


# All of them


@pytest.mark.parametrize("task", [*PAIRS, FLIP_FLOP, WAVES[0]])
def test_solved_at_a_hundredth_of_the_baseline(task):
    assert task.solved({"loss": 0.0099 * task.baseline()})
    assert not task.solved({"loss": 0.0101 * task.baseline()})


def test_a_regressor_takes_the_batches():
    task = adding(12)
    batch = task.batches(4, seed=1)[2]
    key = jax.random.fold_in(jax.random.key(1), np.uint32(2))
    np.testing.assert_allclose(batch.xs, task.sample(key, 4).xs)
    model = regressor(rnnlab.RNN(3), task.outputs)
    params = model.init(jax.random.key(0), batch)
    loss, _ = jax.eval_shape(model.loss, params, batch)
    assert loss.shape == ()


BAD = {
    "length": (adding, (1,), {}, "length is 1; it must be an integer of at least 2"),
    "hochreiter": (adding, (5, "hochreiter"), {}, "at least 6"),
    "pascanu": (adding, (9, "pascanu"), {}, "at least 10"),
    "scaling": (adding, (20, "mean"), {}, "scaling is 'mean'"),
    "product": (multiplication, (1.5,), {}, "length is 1.5"),
    "flip_flop": (flip_flop, (1,), {}, "at least 2"),
    "bits": (flip_flop, (8, 0), {}, "bits is 0"),
    "probability": (flip_flop, (8, 3, 1.0), {}, "probability is 1.0"),
    "wave": (sine_wave, (2,), {}, "at least 3"),
    "fixed wave": (sine_wave, (1,), {"period": 9}, "at least 2"),
    "period": (sine_wave, (9,), {"period": 2}, "period is 2; it must be"),
    "periods": (sine_wave, (9,), {"period": (9, 5)}, r"period is (9, 5); it must be"),
    "three periods": (sine_wave, (9,), {"period": (3, 4, 5)}, "period is (3, 4, 5)"),
    "text": (sine_wave, (9,), {"period": "long"}, "period is 'long'"),
    "noise": (sine_wave, (9,), {"noise": -1}, "noise is -1"),
    "nan": (sine_wave, (9,), {"noise": math.nan}, "noise is nan"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name):
    make, arguments, options, words = BAD[name]
    one_sentence(functools.partial(make, *arguments, **options), words)
