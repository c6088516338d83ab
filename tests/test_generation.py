"""Generation from a language model: filters, samples and beam search against enumeration."""

import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import rnnlab
from rnnlab.data import Batch
from rnnlab.models import beam_search, filtered, language_model, sample
from tests.reference import close, one_sentence, watch

V, STEPS = 3, 4
MODEL = language_model(rnnlab.RNN(4, param_dtype=jnp.float64), V)
PROMPT = np.array([0, 2, 1])
SEQUENCES = np.array(list(itertools.product(range(V), repeat=STEPS)))
"""All of them, [81, 4]."""


def draw(seed):
    """Parameters of a model that is far from uniform."""
    key = jax.random.key(seed)
    params = MODEL.init(key, Batch(PROMPT[:, None], None))
    return jax.tree.map(lambda leaf: 3 * leaf + 0.5 * jax.random.normal(key, leaf.shape), params)


PARAMS = draw(0)
logits_of = jax.jit(MODEL.apply)


def log_probabilities(params, sequences, allowed=None):
    """[N, steps]: of each symbol given the prompt and those before it, in one call of the model."""
    sequences = np.asarray(sequences)
    prompts = np.repeat(PROMPT[None], len(sequences), 0)
    xs = np.concatenate([prompts, sequences], 1).T
    logits = logits_of(params, Batch(xs, None))[len(PROMPT) - 1 : -1]
    if allowed is not None:
        logits = jnp.where(allowed, logits, -jnp.inf)
    logs = np.asarray(jax.nn.log_softmax(logits))
    return np.take_along_axis(logs, sequences.T[..., None], -1)[..., 0].T


# Filters


def filtered_by_hand(logits, temperature, top_k, top_p):
    """The probabilities after the filters; symbol by symbol."""
    logits = logits / temperature
    kept = list(np.argsort(-logits, kind="stable"))
    if top_k is not None:
        kept = kept[:top_k]
    weights = np.exp(logits - logits.max())
    if top_p is not None:
        nucleus, total = [], 0.0
        for symbol in kept:
            if total >= top_p:
                break
            nucleus.append(symbol)
            total += weights[symbol] / weights[kept].sum()
            # Where the sum is p up to rounding, either choice is right.
            hypothesis.assume(abs(total - top_p) > 1e-9)
        kept = nucleus
    probabilities = np.zeros(len(logits))
    probabilities[kept] = weights[kept] / weights[kept].sum()
    return probabilities


@hypothesis.given(
    logits=arrays.arrays(np.float64, 5, elements=st.integers(-6, 6).map(lambda n: n / 2)),
    temperature=st.sampled_from([0.1, 0.5, 1.0, 3.0]),
    top_k=st.none() | st.integers(1, 7),
    top_p=st.none() | st.floats(0.01, 1.0),
)
@hypothesis.settings(max_examples=60)
def test_filters_are_those_of_numpy(logits, temperature, top_k, top_p):
    """With ties too: of equal symbols the first is the likelier one."""
    expected = filtered_by_hand(logits, temperature, top_k, top_p)
    narrow = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    np.testing.assert_array_equal(np.isfinite(narrow), expected > 0)
    np.testing.assert_allclose(jax.nn.softmax(narrow), expected, rtol=1e-12, atol=1e-15)


def test_filters_take_any_leading_axes():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
    together = filtered(logits, temperature=0.7, top_k=3, top_p=0.8)
    for index in np.ndindex(2, 3):
        alone = filtered(logits[index], temperature=0.7, top_k=3, top_p=0.8)
        close(together[index], alone, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("top_p", [None, 0.9, 1.0])
def test_extreme_temperatures_are_the_limits(dtype, top_p):
    """Near 0 the most likely symbol is left; near ∞ all that are not ruled out are equal."""
    logits = jnp.array([1.0, 3.0, -jnp.inf, 2.9], dtype)
    for temperature in (1e-300, 1e-30):
        cold = jax.nn.softmax(filtered(logits, temperature=temperature, top_p=top_p))
        assert cold.tolist() == [0, 1, 0, 0]
    for temperature in (1e30, 1e300):
        hot = jax.nn.softmax(filtered(logits, temperature=temperature, top_p=top_p))
        np.testing.assert_allclose(hot.astype(float), [1 / 3, 1 / 3, 0, 1 / 3], rtol=4e-3)


def test_all_of_the_probability_rules_nothing_out():
    """A sum of float32 reaches 1 before the rare symbols."""
    logits = jnp.array([0.0, -20.0, -21.0], jnp.float32)
    assert np.isfinite(filtered(logits, top_p=1.0)).all()


# Samples


def test_greedy_is_the_most_likely_symbol_of_each_step():
    """For two prompts side by side."""
    prompts = np.array([[0, 1], [2, 2], [1, 0]])
    codes = sample(MODEL, PARAMS, prompts, 6)
    assert codes.shape == (6, 2)
    logits = logits_of(PARAMS, Batch(np.concatenate([prompts, codes[:-1]]), None))
    np.testing.assert_array_equal(codes, np.argmax(logits[2:], -1))
    narrow = sample(MODEL, PARAMS, prompts, 6, key=jax.random.key(0), top_k=1)
    np.testing.assert_array_equal(narrow, codes)


@pytest.mark.combinations
@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_p": 0.9, "temperature": 1.5}, [True, False, True]),
        ({}, None),
        ({"temperature": 0.5}, None),
        ({"top_k": 2}, None),
        ({"top_p": 0.7}, None),
    ],
)
def test_samples_are_as_frequent_as_they_are_probable(options, allowed):
    """All pairs that can follow, by χ²: 31.8 is exceeded once in 10⁴ with 8 degrees of freedom."""
    count = 4000
    prompts = np.repeat(PROMPT[:, None], count, 1)
    mask = None if allowed is None else np.array(allowed)
    drawn = sample(MODEL, PARAMS, prompts, 2, key=jax.random.key(5), allowed=mask, **options)
    observed = np.bincount(np.asarray(drawn[0] * V + drawn[1]), minlength=V**2)

    def distribution(xs):
        logits = logits_of(PARAMS, Batch(xs[:, None], None))[-1, 0]
        if mask is not None:
            logits = jnp.where(mask, logits, -jnp.inf)
        return np.asarray(jax.nn.softmax(filtered(logits, **options)))

    first = distribution(PROMPT)
    second = np.stack([distribution(np.append(PROMPT, code)) for code in range(V)])
    expected = count * (first[:, None] * second).reshape(-1)
    possible = expected > 0
    assert observed[~possible].sum() == 0
    chi_squared = np.sum((observed - expected)[possible] ** 2 / expected[possible])
    assert chi_squared < 31.8


def test_a_key_decides_the_text_and_a_temperature_compiles_nothing():
    prompts = np.repeat(PROMPT[:, None], 50, 1)
    keys = jax.random.split(jax.random.key(1))
    one, other = (sample(MODEL, PARAMS, prompts, 5, key=key) for key in keys)
    np.testing.assert_array_equal(sample(MODEL, PARAMS, prompts, 5, key=keys[0]), one)
    assert (one != other).any()
    with watch() as work:
        cold = sample(MODEL, PARAMS, prompts, 5, key=keys[0], temperature=1e-300)
        hot = sample(MODEL, PARAMS, prompts, 5, key=keys[0], temperature=1e300)
    assert not any("sample" in name for name in work.compiled)
    np.testing.assert_array_equal(cold, sample(MODEL, PARAMS, prompts, 5))
    assert set(np.asarray(hot).flat) == set(range(V))


@pytest.mark.parametrize("allowed", [[True, False, True], [False, True, False]])
def test_only_allowed_symbols_are_generated(allowed):
    mask = np.array(allowed)
    prompts = PROMPT[:, None]
    texts = [
        sample(MODEL, PARAMS, prompts, 8, allowed=mask),
        sample(MODEL, PARAMS, prompts, 8, key=jax.random.key(0), temperature=1e300, allowed=mask),
        beam_search(MODEL, PARAMS, PROMPT, STEPS, beams=2, allowed=mask).codes[0],
    ]
    for codes in texts:
        assert mask[np.asarray(codes)].all()


# Beam search


@pytest.mark.parametrize(
    ("beams", "allowed"),
    [(V ** (STEPS - 1), None), (V**STEPS, None), (V**STEPS, [True, False, True])],
)
def test_enough_beams_find_the_likeliest_of_all_sequences(beams, allowed):
    mask = None if allowed is None else np.array(allowed)
    logs = log_probabilities(PARAMS, SEQUENCES, mask).sum(1)
    order = np.argsort(-logs, kind="stable")[:beams]
    beam = beam_search(MODEL, PARAMS, PROMPT, STEPS, beams=beams, allowed=mask)
    possible = np.isfinite(logs[order])
    np.testing.assert_allclose(beam.log_probability[0], logs[order][0], rtol=1e-12)
    np.testing.assert_array_equal(beam.codes[0], SEQUENCES[order[0]])
    if beams == V**STEPS:
        np.testing.assert_allclose(beam.log_probability, logs[order], rtol=1e-12)
        np.testing.assert_array_equal(beam.codes[possible], SEQUENCES[order][possible])
        assert np.exp(beam.log_probability).sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("beams", [1, 5])
def test_each_candidate_has_its_log_probability(beams):
    """They are different, sorted, and none is likelier than the likeliest; one beam is greedy."""
    for seed in range(3):
        params = draw(seed)
        beam = beam_search(MODEL, params, PROMPT, STEPS, beams=beams)
        logs = log_probabilities(params, beam.codes).sum(1)
        np.testing.assert_allclose(beam.log_probability, logs, rtol=1e-12)
        assert (np.diff(logs) <= 0).all()
        assert len({tuple(codes) for codes in np.asarray(beam.codes)}) == beams
        assert logs[0] <= log_probabilities(params, SEQUENCES).sum(1).max() + 1e-12
        if beams == 1:
            greedy = sample(MODEL, params, PROMPT[:, None], STEPS)
            np.testing.assert_array_equal(beam.codes[0], greedy[:, 0])


def test_a_beam_finds_what_greedy_misses():
    """The likely first symbol may lead to unlikely ones; with all of 27 beams none is missed."""
    gains = []
    for seed in (0, 9, 50):
        params = draw(seed)
        greedy = np.asarray(sample(MODEL, params, PROMPT[:, None], STEPS)).T
        found = beam_search(MODEL, params, PROMPT, STEPS, beams=27).log_probability[0]
        gains.append(float(found - log_probabilities(params, greedy).sum()))
    assert min(gains) >= -1e-12
    assert max(gains) > 0.01


# Refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": PROMPT}, ("prompt is", "[T, B]")),
        ({"prompt": np.zeros((0, 2), int)}, ("prompt is", "at least one step")),
        ({"prompt": np.zeros((2, 2))}, ("prompt is float64", "whole numbers")),
        ({"prompt": np.array([[0], [3]])}, ("codes from 0 to 3", "0..2")),
        ({"prompt": np.array([[-1], [2]])}, ("codes from -1 to 2",)),
        ({"steps": 0}, ("steps is 0",)),
        ({"steps": 2.0}, ("steps is 2.0",)),
        ({"temperature": 0.0}, ("temperature is 0.0", "key")),
        ({"temperature": -1.0}, ("temperature is -1.0",)),
        ({"temperature": np.nan}, ("temperature is nan",)),
        ({"temperature": "hot"}, ("temperature is 'hot'",)),
        ({"top_k": 0}, ("top_k is 0",)),
        ({"top_k": 1.5}, ("top_k is 1.5",)),
        ({"top_p": 0.0}, ("top_p is 0.0",)),
        ({"top_p": 1.1}, ("top_p is 1.1",)),
        ({"top_p": np.nan}, ("top_p is nan",)),
        ({"allowed": np.ones(4, bool)}, ("allowed", "(3,)")),
        ({"allowed": np.zeros(V, bool)}, ("allowed", "at least one")),
        ({"key": 3}, ("key is 3",)),
    ],
)
def test_wrong_samples_are_refused_in_one_sentence(options, words):
    given = {"prompt": PROMPT[:, None], "steps": 2, "key": jax.random.key(0)} | options
    one_sentence(lambda: sample(MODEL, PARAMS, **given), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": PROMPT[:, None]}, ("prompt has shape (3, 1)", "[T]")),
        ({"prompt": np.array([3])}, ("codes from 3 to 3",)),
        ({"prompt": np.array([], int)}, ("at least one step",)),
        ({"steps": 0}, ("steps is 0",)),
        ({"beams": 0}, ("beams is 0",)),
        ({"beams": True}, ("beams is True",)),
        ({"allowed": np.zeros(V, bool)}, ("allowed", "at least one")),
    ],
)
def test_wrong_searches_are_refused_in_one_sentence(options, words):
    given = {"prompt": PROMPT, "steps": 2, "beams": 2} | options
    one_sentence(lambda: beam_search(MODEL, PARAMS, **given), *words)


# Extremes


def test_a_prompt_of_bytes_may_be_followed_by_any_symbol():
    """Codes above 255 do not fit into the dtype of the prompt."""
    model = language_model(rnnlab.RNN(2), 300)
    prompt = np.array([1, 2], np.uint8)
    params = model.init(jax.random.key(0), Batch(prompt[:, None], None))
    last = np.arange(300) == 299
    drawn = sample(model, params, prompt[:, None], 2, allowed=last)
    found = beam_search(model, params, prompt, 2, beams=1, allowed=last)
    assert drawn[:, 0].tolist() == found.codes[0].tolist() == [299, 299]


def test_more_than_there_is_is_all_there_is():
    """Beams beyond the sequences have probability 0; a ``top_k`` beyond V keeps all symbols."""
    beam = beam_search(MODEL, PARAMS, PROMPT, 1, beams=5)
    assert np.isfinite(beam.log_probability).tolist() == [True] * V + [False] * 2
    assert sorted(beam.codes[:V, 0].tolist()) == list(range(V))
    logits = jnp.array([0.0, -1.0, -2.0])
    close(filtered(logits, top_k=9, top_p=1.0), logits)


def test_half_precision_loses_no_probability():
    """In bfloat16 a sum of many small shares stops growing long before 0.9."""
    logits = jnp.zeros(2000, jnp.bfloat16)
    assert 1795 <= np.isfinite(filtered(logits, top_p=0.9)).sum() <= 1801
    cell = rnnlab.RNN(4, param_dtype=jnp.bfloat16)
    model = language_model(cell, V)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    beam = beam_search(model, params, PROMPT, STEPS, beams=2)
    assert beam.log_probability.dtype == jnp.float32


def test_filters_and_models_that_cannot_be_are_refused_in_one_sentence():
    logits = jnp.zeros(3)
    one_sentence(lambda: filtered(logits, top_k=0), "top_k is 0")
    one_sentence(lambda: filtered(logits, top_p=0.0), "top_p is 0.0")
    tagger = rnnlab.models.tagger(rnnlab.RNN(4), V)
    one_sentence(lambda: sample(tagger, PARAMS, PROMPT[:, None], 2), "language_model")
    one_sentence(lambda: beam_search(tagger, PARAMS, PROMPT, 2, beams=1), "language_model")
