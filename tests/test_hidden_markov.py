"""Hidden Markov models by hmmlearn, against enumeration of all paths and of all sequences."""

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest

from rnnlab.theory import hidden_markov
from rnnlab.theory.hidden_markov import (
    HiddenMarkov,
    baum_welch,
    log_likelihood,
    next_symbols,
    smooth,
    viterbi,
)
from tests.reference import one_sentence

# hmmlearn sets the shape of an array in place, which NumPy 2.5 advises against.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")

N, V, T = 3, 2, 5


def drawn(seed, states=N, symbols=V):
    rng = np.random.default_rng(seed)
    return HiddenMarkov(
        rng.dirichlet(np.ones(states)),
        rng.dirichlet(np.ones(states), states),
        rng.dirichlet(np.ones(symbols), states),
    )


MODEL = drawn(0)
ALL = np.array(list(itertools.product(range(V), repeat=T))).T  # every sequence of T symbols


def joint(model, path, symbols):
    """P(s₁ … s_T, x₁ … x_T)."""
    value = model.start[path[0]] * model.emissions[path[0], symbols[0]]
    for step in range(1, len(path)):
        value *= model.transitions[path[step - 1], path[step]]
        value *= model.emissions[path[step], symbols[step]]
    return value


def paths(model, symbols):
    """Every path with its joint probability."""
    every = list(itertools.product(range(len(model.start)), repeat=len(symbols)))
    return every, np.array([joint(model, path, symbols) for path in every])


def forward(model, symbols):
    """ln P(x₁ … x_T), by the sum over the states before."""
    alpha = model.start * model.emissions[:, symbols[0]]
    for symbol in symbols[1:]:
        alpha = alpha @ model.transitions * model.emissions[:, symbol]
    return math.log(alpha.sum())


@pytest.fixture
def needs_hmmlearn():
    pytest.importorskip("hmmlearn")


@pytest.mark.usefixtures("needs_hmmlearn")
def test_the_likelihood_is_a_sum_over_all_paths():
    values = log_likelihood(MODEL, ALL)
    for symbols, value in zip(ALL.T, values, strict=True):
        assert value == pytest.approx(math.log(paths(MODEL, symbols)[1].sum()), rel=1e-10)
        assert value == pytest.approx(forward(MODEL, symbols), rel=1e-10)
    assert np.exp(values).sum() == pytest.approx(1, rel=1e-10)


@pytest.mark.usefixtures("needs_hmmlearn")
def test_the_padding_does_not_count():
    codes = ALL[:, :3].copy()
    lengths = np.array([5, 1, 3])
    expected = [forward(MODEL, codes[:length, column]) for column, length in enumerate(lengths)]
    codes[1:, 1] = codes[3:, 2] = -7
    np.testing.assert_allclose(log_likelihood(MODEL, codes, lengths), expected)
    found = viterbi(MODEL, codes, lengths)
    assert (found.states == -1).tolist() == (codes == -7).tolist()
    fit = baum_welch(codes, 2, V, lengths=lengths, iterations=3)
    apart = baum_welch(codes[:1, :1], 2, V, iterations=3)
    assert fit.model.transitions.shape == apart.model.transitions.shape == (2, 2)


@pytest.mark.usefixtures("needs_hmmlearn")
def test_the_smoother_and_viterbi_are_those_of_all_paths():
    posteriors = smooth(MODEL, ALL)
    found = viterbi(MODEL, ALL)
    for column, symbols in enumerate(ALL.T):
        every, weights = paths(MODEL, symbols)
        best = int(weights.argmax())
        assert tuple(found.states[:, column]) == every[best]
        assert found.log_probability[column] == pytest.approx(math.log(weights[best]), rel=1e-10)
        for step in range(T):
            states = np.array(every)[:, step]
            expected = [weights[states == state].sum() / weights.sum() for state in range(N)]
            np.testing.assert_allclose(posteriors[step, column], expected, rtol=1e-8)


@pytest.mark.usefixtures("needs_hmmlearn")
def test_the_filter_is_the_ratio_of_two_likelihoods():
    predictions = next_symbols(MODEL, ALL)
    for column, symbols in enumerate(ALL.T):
        for step in range(T - 1):
            longer = np.concatenate([symbols[: step + 1], [1]])
            ratio = forward(MODEL, longer) - forward(MODEL, symbols[: step + 1])
            assert predictions[step, column, 1] == pytest.approx(math.exp(ratio), rel=1e-10)
    np.testing.assert_allclose(predictions.sum(-1), 1)
    # At the last step the filter is the smoother.
    last = smooth(MODEL, ALL)[-1] @ MODEL.transitions @ MODEL.emissions
    np.testing.assert_allclose(predictions[-1], last)


def test_what_cannot_occur_leaves_no_prediction():
    switch = HiddenMarkov(np.array([1.0, 0.0]), np.eye(2)[::-1], np.eye(2))
    predictions = next_symbols(switch, np.array([[0, 1], [1, 0]]))
    assert predictions[0, 0].tolist() == [0, 1]
    assert predictions[1, 0].tolist() == [1, 0]
    assert np.isnan(predictions[:, 1]).all()


@pytest.mark.usefixtures("needs_hmmlearn")
@pytest.mark.parametrize("states", [1, 2, 4])
def test_baum_welch_never_lowers_the_likelihood(states):
    codes = np.random.default_rng(1).integers(0, V, (8, 20))
    codes[1::2] = codes[::2]
    fit = baum_welch(codes, states, V, iterations=60, tolerance=0, seed=states)
    # With tolerance 0 only rounding can end it early.
    assert len(fit.log_likelihoods) > 2
    assert (np.diff(fit.log_likelihoods) > -1e-8).all()
    after = log_likelihood(fit.model, codes).sum()
    assert after >= fit.log_likelihoods[-1] - 1e-8
    if states == 1:
        # One state is the distribution of single symbols.
        np.testing.assert_allclose(fit.model.emissions[0], np.bincount(codes.ravel()) / 160)


@pytest.mark.usefixtures("needs_hmmlearn")
def test_a_pseudocount_leaves_nothing_impossible():
    codes = np.zeros((4, 2), int)
    assert baum_welch(codes, 2, V).model.emissions[:, 1].max() == 0
    assert baum_welch(codes, 2, V, pseudocount=0.1).model.emissions[:, 1].min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_past_and_future_share_at_most_ln_n(seed):
    """Their mutual information under the model, over all sequences of eight symbols."""
    model = drawn(seed, states=2, symbols=3)
    sharp = model._replace(emissions=model.emissions**4 / (model.emissions**4).sum(1)[:, None])
    for each in (model, sharp):
        past = np.array(list(itertools.product(range(3), repeat=4)))
        table = np.zeros((81, 81))
        for row, column in np.ndindex(table.shape):
            table[row, column] = math.exp(forward(each, [*past[row], *past[column]]))
        apart = table.sum(1)[:, None] * table.sum(0)
        information = (table * np.log(table / apart)).sum()
        assert 0 <= information <= math.log(2)


def test_on_any_data_the_future_costs_its_entropy_less_ln_n():
    """Three bits, then the same three bits: the loss of any N states is at least ln 8 − ln N."""
    words = np.array(list(itertools.product(range(2), repeat=3)))
    for seed in range(5):
        for states in (1, 2, 4):
            model = drawn(seed, states)
            losses = [forward(model, word) - forward(model, [*word, *word]) for word in words]
            assert np.mean(losses) >= math.log(8) - math.log(states)


@pytest.mark.usefixtures("needs_hmmlearn")
def test_a_state_for_each_word_reaches_the_bound():
    """Of 8 words, N states that hold 8/N words each leave ln 8 − ln N nats."""
    for states in (1, 2, 4, 8):
        holds = np.repeat(np.eye(states), 8 // states, axis=1) * states / 8
        model = HiddenMarkov(np.full(states, 1 / states), np.eye(states), holds)
        both = np.tile(np.arange(8), (2, 1))
        loss = log_likelihood(model, both[:1]) - log_likelihood(model, both)
        np.testing.assert_allclose(loss, math.log(8 / states), atol=1e-12)


LISTS: Any = [0.5, 0.5], [[1, 0], [0, 1]], [[1, 0], [0, 1]]
NO_MODEL: Any = (1, 2)
FAULTS = {
    "symbols": (lambda: next_symbols(MODEL, [[0], [5]]), "0..1", "5"),
    "floats": (lambda: next_symbols(MODEL, [[0.5]]), "float64", "whole"),
    "no batch": (lambda: next_symbols(MODEL, [0, 1]), "[T, B]"),
    "shapes": (lambda: next_symbols(MODEL._replace(transitions=np.eye(2)), ALL), "[N, N]"),
    "rows": (lambda: next_symbols(MODEL._replace(start=np.ones(N)), ALL), "start", "sum"),
    "lengths": (lambda: log_likelihood(MODEL, ALL, np.zeros(32, int)), "lengths", "1..5"),
    "no model": (lambda: log_likelihood(NO_MODEL, ALL), "model is (1, 2)", "HiddenMarkov("),
    "impossible": (
        lambda: smooth(HiddenMarkov(*LISTS), [[0, 1], [0, 0]]),
        "sequence 1 has probability 0",
    ),
    "states": (lambda: baum_welch(ALL, 0, V), "states"),
    "a vocabulary": (lambda: baum_welch(ALL, 2, 1), "0..0"),
    "iterations": (lambda: baum_welch(ALL, 2, V, iterations=0), "iterations is 0"),
    "tolerance": (lambda: baum_welch(ALL, 2, V, tolerance=-1e-4), "tolerance is -0.0001"),
    "infinity": (lambda: baum_welch(ALL, 2, V, tolerance=-np.inf), "tolerance is -inf", "finite"),
    "pseudocount": (lambda: baum_welch(ALL, 2, V, pseudocount=-0.5), "pseudocount is -0.5"),
    "nan": (lambda: baum_welch(ALL, 2, V, pseudocount=np.nan), "pseudocount is nan", "finite"),
}


@pytest.mark.usefixtures("needs_hmmlearn")
@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_input_gives_one_sentence(fault):
    call, *words = FAULTS[fault]
    one_sentence(call, *words)


def test_without_hmmlearn_an_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hmmlearn.hmm", None)
    with pytest.raises(ImportError, match="pip install hmmlearn"):
        hidden_markov.baum_welch(ALL, 2, V)
