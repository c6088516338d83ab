"""The experiment on tokens: labels, spans and the tables of windows."""

import numpy as np

from experiments.labelling.baselines import best_windows, majority
from experiments.labelling.data import (
    KINDS,
    SPACE,
    Span,
    Windows,
    code_of,
    first_label,
    span_score,
    spans,
    token_labels,
)

TEXT = 'def f(x):  # one\n    return "a" + 12\n'


def kinds(text):
    """The tokens of a text and their kinds."""
    found = sorted(spans(token_labels(text)))
    return [(text[span.first : span.end], KINDS[span.kind]) for span in found]


def test_each_token_has_its_kind():
    assert kinds(TEXT) == [
        ("def", "keyword"),
        ("f", "name"),
        ("(", "operator"),
        ("x", "name"),
        (")", "operator"),
        (":", "operator"),
        ("# one", "comment"),
        ("return", "keyword"),
        ('"a"', "string"),
        ("+", "operator"),
        ("12", "number"),
    ]


def test_a_string_of_many_lines_is_one_token():
    text = 'x = """one\n two\n"""\n'
    assert kinds(text)[-1] == ('"""one\n two\n"""', "string")
    assert token_labels(text)[-1] == SPACE


def test_a_token_may_begin_before_the_window():
    inside = first_label(2) + 1
    labels = np.array([inside, inside, SPACE, first_label(2), inside, first_label(2)])
    assert spans(labels) == {Span(0, 2, 2), Span(3, 5, 2), Span(5, 6, 2)}


def test_a_token_counts_where_both_ends_and_the_kind_are_right():
    truth = token_labels(TEXT)[:, None]
    assert span_score(truth, truth) == 1
    wrong = truth.copy()
    wrong[0] += 1
    # Three letters of "def" are still one token that begins at the first of them.
    assert span_score(wrong, truth) == 1
    wrong[1] = first_label(1)
    assert span_score(wrong, truth) == 2 * 10 / (11 + 13)


def windows_of(*texts):
    codes = np.array([[code_of(character) for character in text] for text in texts]).T
    labels = np.stack([token_labels(text) for text in texts], axis=1)
    return Windows(codes, labels)


def test_a_wider_window_decides_where_it_was_seen():
    """A t is in a keyword more often, but in "cat" it ends a name."""
    training = windows_of("not cat\n", "not not\n")
    table, name = best_windows(training, training, 4)
    np.testing.assert_array_equal(table(training.codes), training.labels)
    assert "seen 1 times" in name
    keyword = first_label(0) + 1
    alone = majority(training)(training.codes)
    assert alone[2].tolist() == [keyword, keyword]
    assert alone[6, 0] == keyword != training.labels[6, 0]
    assert majority(training)(np.array([[code_of("?")]])).tolist() == [[SPACE]]
