"""Text on held-out files: the parts depend on names, the alphabet on the training part alone."""

import collections

import numpy as np
import pytest

from rnnlab.data import (
    TextFile,
    corpora,
    decode,
    encode,
    encode_with,
    read_text,
    split_files,
    standard_library,
    standard_library_files,
)
from rnnlab.data.alphabet import alphabet_of

FILES = [TextFile(f"file{index}.txt", f"text {index}") for index in range(400)]


def test_the_files_of_the_standard_library_are_its_text():
    files = standard_library_files()
    text, source = standard_library()
    assert "".join(file.text for file in files) == text
    assert source["characters"] == len(text)
    names = [file.name for file in files]
    assert names == sorted(set(names))
    assert {"argparse.py", "typing.py"} <= set(names)


def test_each_file_is_in_one_part_and_the_shares_are_met():
    files = [TextFile(f"file{index}.txt", "") for index in range(5000)]
    split = split_files(files, validation=0.2, test=0.1)
    assert sorted(sum(split, ())) == sorted(files)
    # Three standard deviations of a binomial count.
    for part, share in zip(split, (0.7, 0.2, 0.1), strict=True):
        assert abs(len(part) - 5000 * share) < 3 * np.sqrt(5000 * share * (1 - share))


def test_the_part_of_a_file_depends_on_its_name_alone():
    whole = split_files(FILES)
    few = split_files([file._replace(text="other") for file in reversed(FILES[:50])])
    for part, other in zip(whole, few, strict=True):
        assert {file.name for file in other} <= {file.name for file in part}
    # A larger test part holds the smaller one.
    assert set(whole.test) <= set(split_files(FILES, test=0.3).test)


def test_the_alphabet_is_that_of_the_training_part():
    split = split_files(standard_library_files())
    parts = corpora(split, 60)
    training_text = "".join(file.text for file in split.training)
    frequent = collections.Counter(training_text).most_common(59)
    assert len(parts.training.alphabet) == 60
    assert parts.training.alphabet[-1] == ""
    assert [training_text.count(symbol) for symbol in parts.training.alphabet[:59]] == [
        count for _, count in frequent
    ]
    for part, files in zip(parts, split, strict=True):
        text = "".join(file.text for file in files)
        assert part.alphabet == parts.training.alphabet
        assert part.codes.size == len(text) == part.source["characters"]
        shown = decode(part.codes, part.alphabet)
        known = set(part.alphabet)
        expected = [symbol if symbol in known else "\N{REPLACEMENT CHARACTER}" for symbol in text]
        assert shown == "".join(expected)


def test_encoding_with_its_own_alphabet_changes_nothing():
    corpus = encode("a text with é and 𝄞", {}, 100)
    again = encode_with("a text with é and 𝄞", {}, corpus.alphabet)
    np.testing.assert_array_equal(corpus.codes, again.codes)
    assert decode(again.codes, again.alphabet) == "a text with é and 𝄞"
    assert encode("abc", {}, 1).codes.tolist() == [0, 0, 0]
    assert alphabet_of("abc", 3) == ("a", "b", "")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: encode_with("abc", {}, ("a", "b")), "the character 'c' is not in the alphabet"),
        (lambda: encode_with("", {}, ("a", "")), "the text is empty"),
        (lambda: encode_with("a", {}, ()), "the alphabet is empty"),
        (lambda: encode_with("a", {}, ("", "a")), r"alphabet\[0\] is ''; give single characters"),
        (lambda: encode_with("a", {}, ("ab", "")), r"alphabet\[0\] is 'ab'"),
        (lambda: encode_with("a", {}, ("a", "a")), "the alphabet holds a symbol twice"),
        (lambda: decode([0, 2], ("a", "b")), r"codes hold 2; each must lie in 0\.\.1"),
        (lambda: decode([[0], [1]], ("a", "b")), r"codes are int64\[2, 1\]; give whole numbers"),
        (lambda: decode([0.0], ("a", "b")), "codes are float64"),
        (lambda: encode(("text", {}), {}, 9), "give a string"),
        (lambda: encode("abc", {}, 0), "size is 0"),
        (lambda: encode_with("abc", {}, [1, 2]), r"alphabet\[0\] is 1; give single characters"),
        (lambda: decode([0], None), "the alphabet is empty"),
        (lambda: split_files([("a", "b")]), r"files hold .*; give rnnlab\.data\.TextFile"),
        (lambda: split_files(FILES, test="0.1"), "give shares of at least 0"),
        (lambda: read_text(None), "path is None"),
        (lambda: alphabet_of("abc", 0), "size is 0"),
        (lambda: split_files(FILES, test=1), "validation is 0.1 and test is 1; give shares"),
        (lambda: split_files(FILES, test=-0.1), "give shares of at least 0"),
        (lambda: split_files(FILES[:2] * 2), "two files are named 'file0.txt'"),
        (lambda: corpora(split_files(FILES, test=0), 9), "the test part has no text"),
    ],
)
def test_bad_text_is_refused(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
