"""The parts of the experiments on terms of the gradient and on published networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnlab
from experiments.in_the_wild import networks, sounds
from experiments.three_steps import run as three_steps


def test_the_terms_of_three_steps_are_those_of_the_derivation():
    with jax.enable_x64(True):
        of_sums, of_terms = three_steps.errors(three_steps.EXAMPLE)
    assert of_sums < 1e-14
    assert of_terms < 1e-14


def test_without_a_first_state_the_recurrent_weights_add_nothing_at_step_one():
    net = three_steps.EXAMPLE._replace(s_0=np.zeros(2))
    terms = three_steps.by_hand(net)
    assert not terms.w_s[0].any()
    assert terms.w_s[1:].any(axis=(1, 2)).all()


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 1)])
def test_the_convolution_is_that_of_jax(stride, pad):
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.standard_normal(shape) for shape in ((2, 3, 9), (4, 3, 3), (4,)))
    ours = networks.convolved(x, kernel, bias, stride, pad)
    theirs = jax.lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(kernel), (stride,), [(pad, pad)]
    )
    np.testing.assert_allclose(ours, theirs + bias[:, None], atol=1e-12)


def test_a_tone_is_loudest_in_its_mel_band():
    time = np.arange(sounds.RATE) / sounds.RATE
    frames = sounds.mel_frames(0.1 * np.sin(2 * np.pi * 1000 * time))
    assert frames.shape == (101, 40)
    # 1 kHz is mel 15 of 35.2 in 8 kHz, so it lies at 15/35.2 of 41 steps between 42 edges.
    assert abs(frames[50].argmax() - (15 / (15 + 27 * np.log(8) / np.log(6.4)) * 41 - 1)) < 1


def test_the_bands_are_as_many_as_the_beat_tracker_reads():
    assert sounds.log_bands(sounds.drums(120, 1)).shape == (47, 272)
    assert not sounds.log_bands(np.zeros(4410)).any()


def test_an_untrained_network_has_the_shapes_and_the_range_of_pytorch():
    cell = rnnlab.stack([rnnlab.LSTM(16, recurrent_bias=True)] * 2)
    params = cell.init(jax.random.key(0), 5)
    drawn = networks.untrained_params(cell, params, 1)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, params)
    for leaf in jax.tree.leaves(drawn):
        assert 0.2 < jnp.abs(leaf).max() <= 0.25


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(networks, "folder_of", lambda _: None)
    assert networks.missing("g2p_en") == "g2p_en is not installed"


@pytest.mark.long
@pytest.mark.parametrize(
    ("package", "read", "says"),
    [
        # Half of the sentence is speech or more; letters at random take 8.9 bits.
        ("silero_vad", networks.voice_activity, lambda check: float(check.split()[-1]) > 0.5),
        ("textgenrnn", networks.characters, lambda check: float(check.split()[2]) < 3.5),
    ],
)
def test_the_weights_of_a_package_do_what_they_were_trained_for(package, read, says):
    reason = networks.missing(package)
    if reason is None and package == "silero_vad" and networks.folder_of("pysptk") is None:
        reason = "pysptk, which has a spoken sentence, is not installed"
    if reason is not None:
        pytest.skip(reason)
    (network,) = read()
    assert says(network.check)
