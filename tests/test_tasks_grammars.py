"""Strings to be predicted or searched: aⁿbⁿ, a word in letters, the embedded Reber grammar."""

import collections
import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.tasks.context_free import EOS, A, B, accepted, anbn
from rnnlab.tasks.planting import matches
from rnnlab.tasks.reber import embedded_reber, legal, passed
from rnnlab.tasks.reber_grammar import SYMBOLS
from rnnlab.tasks.word import word_detection
from tests.reference import one_sentence
from tests.reference.tasks import (
    assert_uniform,
    check_contract,
    columns,
    counted,
    draw,
    memoryless_loss,
)

pytestmark = pytest.mark.long

TASKS = [
    anbn(5),
    word_detection(),
    word_detection("ABA", 12, planted=0.3, misspelled=0.0, others="C"),
    embedded_reber(),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_the_contract_of_a_task(task):
    check_contract(task)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_the_baseline_is_that_of_a_predictor_fitted_to_many_samples(task):
    batch = draw(task, jax.random.key(0))
    assert memoryless_loss(*counted(batch)) == pytest.approx(task.baseline(), rel=0.01)


def read(codes, symbols):
    return "".join(symbols[code] for code in np.asarray(codes))


# aⁿbⁿ


def test_strings_of_a_and_b():
    batch = columns(draw(anbn(5), jax.random.key(1)), 2000)
    for column, length in enumerate(batch.lengths.tolist()):
        n = (length - 1) // 2
        string = [EOS] + [A] * n + [B] * n + [EOS]
        assert batch.xs[:length, column].tolist() == string[:-1]
        assert batch.targets[:length, column].tolist() == string[1:]
        assert batch.mask[:, column].tolist() == [True] * length + [False] * (11 - length)
    assert_uniform(np.bincount((batch.lengths - 1) // 2, minlength=6)[1:])


@pytest.mark.parametrize("max_n", [2, 3, 5, 12])
def test_the_losses_of_anbn_by_enumeration(max_n):
    """All strings are equally probable; both predictors know only what they may see."""
    strings = ["$" + "a" * n + "b" * n + "$" for n in range(1, max_n + 1)]
    after = collections.defaultdict(collections.Counter)
    for string in strings:
        for symbol, successor in itertools.pairwise(string):
            after[symbol][successor] += 1
    seen = collections.defaultdict(collections.Counter)
    for string in strings:
        for step in range(1, len(string)):
            seen[string[:step]][string[step]] += 1
    targets = sum(len(string) - 1 for string in strings)
    task = anbn(max_n)
    assert task.baseline() == pytest.approx(code_length(after) / targets, rel=1e-12)
    assert task.floor() == pytest.approx(code_length(seen) / targets, rel=1e-12)


def code_length(counts):
    """−Σ n ln p over contexts, with n the counts of a symbol and p its share."""
    total = 0.0
    for successors in counts.values():
        context = sum(successors.values())
        for count in successors.values():
            total -= count * math.log(count / context)
    return total


def counter(batch, limit=math.inf):
    """A network that counts up to a limit: it predicts the end after as many b's as a's."""
    numbers_a = jnp.minimum(jnp.cumsum(batch.xs == A, axis=0), limit)
    numbers_b = jnp.minimum(jnp.cumsum(batch.xs == B, axis=0), limit)
    is_end = (batch.xs == B) & (numbers_a == numbers_b)
    return jax.nn.one_hot(jnp.where(is_end, EOS, jnp.where(batch.xs == B, B, A)), 4)


def test_strings_are_accepted_as_far_as_a_network_counts():
    counts = [1, 2, 5, 6, 7, 40, 1000]
    batch = anbn(5).strings(counts)
    assert batch.xs.shape == (2001, 7)
    assert batch.lengths.tolist() == [2 * n + 1 for n in counts]
    assert accepted(counter(batch), batch).all()
    assert accepted(counter(batch, limit=5), batch).tolist() == [n <= 5 for n in counts]


def test_a_wrong_symbol_after_the_first_b_is_not_accepted():
    batch = anbn(5).strings([3])
    logits = counter(batch)
    for step in range(7):
        spoiled = logits.at[step].set(jnp.nan)
        is_judged = step >= 4
        assert accepted(spoiled, batch).item() != is_judged
        tied = logits.at[step].set(1.0)
        assert accepted(tied, batch).item() != is_judged


def test_anbn_is_solved_near_its_floor():
    task = anbn(5)
    assert task.floor() == pytest.approx(math.log(5) / 7, rel=1e-14)
    assert task.solved({"loss": task.floor() + 0.005, "accuracy": 0.7})
    assert not task.solved({"loss": task.floor() + 0.006, "accuracy": 0.7})


# The word


def test_targets_mark_the_ends_of_words():
    for task in TASKS[1:3]:
        batch = columns(draw(task, jax.random.key(2)), 400)
        words = 0
        for column in range(400):
            text = read(batch.xs[:, column], task.alphabet)
            ends = [text[: step + 1].endswith(task.word) for step in range(task.length)]
            assert batch.targets[:, column].tolist() == ends
            words += sum(ends)
        assert words > 400


def test_every_letter_of_the_word_matters():
    task = word_detection()
    word = np.array(task.codes)[:, None]
    assert task.detect(word)[:, 0].tolist() == [0, 0, 0, 0, 0, 0, 1]
    for place in range(7):
        spoiled = word.copy()
        spoiled[place] = (spoiled[place] + 1) % 7
        assert not task.detect(spoiled).any()
    assert task.detect(word[1:]).tolist() == [[0]] * 6


@pytest.mark.parametrize(
    "task",
    [
        word_detection("AB", 5, planted=0.3, misspelled=0.2),
        word_detection("AA", 5, planted=0.25, misspelled=0.0, others="B"),
        word_detection("ABA", 6, planted=0.4, misspelled=0.1),
        word_detection("ABC", 4, planted=1.0, misspelled=0.3),
    ],
    ids=lambda task: task.word,
)
def test_the_rates_of_a_word_by_enumeration(task):
    """Every stream and every way of planting, with its probability."""
    joint = collections.defaultdict(float)
    accidental = 0.0
    for probability, text, intact in streams(task):
        for step in range(task.length):
            is_word = text[: step + 1].endswith(task.word)
            joint[text[step], is_word] += probability / task.length
            if is_word and step not in intact:
                accidental += probability / task.length
    loss = 0.0
    for (letter, _), mass in list(joint.items()):
        if mass:
            loss -= mass * math.log(mass / (joint[letter, True] + joint[letter, False]))
    positive = sum(joint[letter, True] for letter in task.alphabet)
    assert task.positive_rate() == pytest.approx(positive, rel=1e-12)
    assert task.accidental_rate() == pytest.approx(accidental, rel=1e-10, abs=1e-15)
    assert task.baseline() == pytest.approx(loss, rel=1e-12)


def streams(task, text="", place=0, intact=frozenset(), is_intact=True):
    """``(probability, text, last steps of intact planted words)`` of all streams."""
    if len(text) == task.length:
        yield 1.0, text, intact
        return
    if place == 0:
        free = (1 - task.planted) / len(task.alphabet)
        for letter in task.alphabet:
            for rest, whole, ends in streams(task, text + letter, 0, intact) if free else ():
                yield free * rest, whole, ends
    chance = task.planted if place == 0 else 1.0
    is_intact = is_intact or place == 0
    for letter in task.alphabet:
        is_right = letter == task.word[place]
        wrong = task.misspelled / (len(task.alphabet) - 1)
        share = chance * (1 - task.misspelled if is_right else wrong)
        if not share:
            continue
        still = is_intact and is_right
        is_last = place == len(task.word) - 1
        ends = intact | {len(text)} if is_last and still else intact
        after = (place + 1) % len(task.word)
        for rest, whole, all_ends in streams(task, text + letter, after, ends, still):
            yield share * rest, whole, all_ends


def test_words_come_by_accident_as_often_as_they_should():
    task = word_detection("AB", 20, planted=0.1, misspelled=0.0, others="C")
    batch = draw(task, jax.random.key(5))
    assert batch.targets.mean() == pytest.approx(task.positive_rate(), rel=0.01)
    # Nearly without planting it is the chance of two given letters, from the second step on.
    rare = dataclasses.replace(task, planted=1e-9)
    assert rare.accidental_rate() == pytest.approx(19 / 20 / 9, rel=1e-6)


def test_the_automaton_of_a_word_is_its_definition():
    for word in itertools.product(range(3), repeat=4):
        table = matches(word, 3)
        for matched, code in itertools.product(range(5), range(3)):
            read_codes = (*word[:matched], code)
            fits = [n for n in range(5) if read_codes[len(read_codes) - n :] == word[:n]]
            assert table[matched, code] == max(fits)


def test_a_word_is_solved_by_its_loss():
    task = word_detection()
    assert task.solved({"loss": task.baseline() / 101, "accuracy": 0.9999})
    assert not task.solved({"loss": task.baseline() / 99, "accuracy": 0.9999})
    assert task.floor() == 0
    assert 0.03 < task.positive_rate() < 0.06


# The embedded Reber grammar

REBER = {
    "start": {"B": "TP"},
    "TP": {"T": "SX", "P": "TV"},
    "SX": {"S": "SX", "X": "XS"},
    "TV": {"T": "TV", "V": "PV"},
    "XS": {"X": "TV", "S": "end"},
    "PV": {"P": "XS", "V": "end"},
}


def reber_strings(max_length, text="", state="start"):
    """``(probability, string)`` of all strings of the inner grammar, its arcs being equal."""
    if state == "end":
        yield 1.0, text + "E"
        return
    # A string is completed by at least one more symbol and E.
    if len(text) + 2 > max_length:
        return
    arcs = REBER[state]
    for symbol, after in arcs.items():
        for rest, whole in reber_strings(max_length, text + symbol, after):
            yield rest / len(arcs), whole


def embedded_strings(max_length):
    """``{string: probability}`` of the embedded grammar, given that strings are short enough."""
    strings = {}
    for probability, inner in reber_strings(max_length - 4):
        for symbol in "TP":
            strings["B" + symbol + inner + symbol + "E"] = probability / 2
    total = sum(strings.values())
    return {string: probability / total for string, probability in strings.items()}


@pytest.mark.parametrize("max_length", [9, 10, 13, 18])
def test_the_losses_of_the_grammar_by_enumeration(max_length):
    strings = embedded_strings(max_length)
    assert all(9 <= len(string) <= max_length for string in strings)
    pairs = collections.defaultdict(collections.Counter)
    for string, probability in strings.items():
        for symbol, successor in itertools.pairwise(string):
            pairs[symbol][successor] += probability
    targets = sum(p * (len(string) - 1) for string, p in strings.items())
    entropy = -sum(p * math.log(p) for p in strings.values())
    task = embedded_reber(max_length)
    assert task.baseline() == pytest.approx(code_length(pairs) / targets, rel=1e-12)
    assert task.floor() == pytest.approx(entropy / targets, rel=1e-12)


def test_without_a_limit_the_losses_are_those_of_the_markov_chain():
    """Visits of the inner states from (I − Q)⁻¹, where an arc's symbol leads to the next state."""
    states = list(REBER)
    move = np.zeros((6, 6))
    for row, arcs in enumerate(REBER.values()):
        for after in arcs.values():
            if after != "end":
                move[row, states.index(after)] += 1 / len(arcs)
    visits = dict(zip(states, np.linalg.inv(np.eye(6) - move)[0], strict=True))
    pairs = collections.defaultdict(collections.Counter)
    for state, arcs in REBER.items():
        for symbol, after in arcs.items():
            flow = visits[state] / len(arcs)
            successors = "E" if after == "end" else REBER[after]
            for successor in successors:
                pairs[symbol][successor] += flow / len(successors)
    # B and T or P in front of the inner B, and T or P and E after the inner E.
    for symbol in "TP":
        pairs["B"][symbol] += 0.5
        pairs[symbol]["B"] += 0.5
        pairs["E"][symbol] += 0.5
        pairs[symbol]["E"] += 0.5
    targets = sum(visits.values()) + 1 + 3
    choices = 1 + sum(visits[state] for state in states[1:])
    task = embedded_reber(250)
    assert task.baseline() == pytest.approx(code_length(pairs) / targets, rel=1e-12)
    assert task.floor() == pytest.approx(choices * math.log(2) / targets, rel=1e-12)


def test_strings_have_the_probabilities_of_the_grammar():
    strings = embedded_strings(11)
    batch = draw(embedded_reber(11), jax.random.key(4))
    drawn = collections.Counter()
    for column, length in enumerate(batch.lengths.tolist()):
        string = read(batch.xs[:length, column], SYMBOLS)
        drawn[string + SYMBOLS[batch.targets[length - 1, column]]] += 1
    assert set(drawn) == set(strings)
    for string, probability in strings.items():
        deviation = math.sqrt(6000 * probability * (1 - probability))
        assert abs(drawn[string] - 6000 * probability) < 5 * deviation


def test_targets_are_the_next_symbols_and_the_mask_marks_them():
    batch = columns(draw(embedded_reber(), jax.random.key(4)), 200)
    xs, targets = np.asarray(batch.xs), np.asarray(batch.targets)
    for column, length in enumerate(batch.lengths.tolist()):
        string = read(xs[:length, column], SYMBOLS) + SYMBOLS[targets[length - 1, column]]
        assert is_embedded(string)
        assert read(targets[:length, column], SYMBOLS) == string[1:]
        assert batch.mask[:, column].tolist() == [step < length for step in range(39)]


def is_embedded(string):
    """Whether a string is of the grammar, symbol by symbol."""
    inner = string[2:-2]
    state = "start"
    for symbol in inner[:-1]:
        state = REBER.get(state, {}).get(symbol)
    is_inner = state == "end" and inner[-1] == "E"
    return is_inner and string[0] == "B" and string[1] in "TP" and string[-2:] == string[1] + "E"


def test_legal_symbols_are_those_that_continue_to_a_string():
    strings = embedded_strings(16)
    beginnings = collections.defaultdict(set)
    for string in strings:
        for step in range(1, len(string)):
            beginnings[string[:step]].add(string[step])
    shortest = [string for string in strings if len(string) == 9]
    for string in shortest:
        codes = jnp.array([SYMBOLS.index(symbol) for symbol in string])
        table = np.asarray(legal(codes))
        for step in range(1, 9):
            expected = [symbol in beginnings[string[:step]] for symbol in SYMBOLS]
            assert table[step - 1].tolist() == expected
        assert not table[8].any()
    # The repeated symbol is the other one: from there on nothing is legal.
    wrong = jnp.array([SYMBOLS.index(symbol) for symbol in "BTBTXSEPE"])
    assert np.asarray(legal(wrong)).any(1).tolist() == [True] * 7 + [False] * 2


def test_strings_pass_where_every_legal_symbol_comes_first():
    task = embedded_reber()
    batch = columns(draw(task, jax.random.key(6)), 256)
    logits = legal(batch.xs).astype(jnp.float32)
    assert passed(logits, batch).all()
    # A network that has forgotten the second symbol: T and P are equal after the inner string.
    last_but_one = batch.lengths - 2
    forgetful = logits.at[last_but_one, jnp.arange(256), 1:3].set(1.0)
    assert not passed(forgetful, batch).any()
    # What it says behind the end does not count.
    beyond = jnp.where(batch.mask[..., None], logits, jnp.nan)
    assert passed(beyond, batch).all()
    assert task.solved({"passed": 1.0, "loss": 9.0})
    assert not task.solved({"passed": 255 / 256, "loss": 0.0})


def test_without_the_second_symbol_the_grammar_is_not_solved():
    task = embedded_reber()
    targets = draw(task, jax.random.key(0)).lengths.mean()
    assert task.solved({"loss": task.floor() + 0.1 * math.log(2) / targets})
    assert not task.solved({"loss": task.floor() + 0.5 * math.log(2) / targets})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: anbn(0), "max_n is 0; it must be"),
        (lambda: anbn(1), "max_n is 1; it must be an integer of at least 2"),
        (lambda: anbn(5).strings([]), "counts is empty; give at least one n"),
        (lambda: anbn(5).strings([3, 0]), "a count is 0"),
        (
            lambda: accepted(jnp.zeros((3, 1, 5)), anbn(5).strings([1])),
            "logits has shape (3, 1, 5)",
        ),
        (lambda: word_detection("A"), "word is 'A'; give a string of at least two letters"),
        (lambda: word_detection("AA"), "word is 'AA', and no stream of this one letter"),
        (lambda: word_detection(others=3), "others is 3; give a string of further letters"),
        (lambda: word_detection(length=6), "length is 6, too short for 'UDACITY'; give at least 7"),
        (lambda: word_detection(planted=0.0), "planted is 0.0; it must be above 0"),
        (lambda: word_detection(misspelled=1.0), "misspelled is 1.0; it must be at least 0"),
        (lambda: embedded_reber(8), "max_length is 8; it must be an integer of at least 9"),
        (lambda: legal(jnp.zeros(3)), "codes are float"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    one_sentence(make, words)
