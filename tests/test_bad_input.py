"""Every fault is refused before compilation, in one sentence that names it and its fix."""

import contextlib
import dataclasses
import re

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

import rnnlab
from rnnlab import bidirectional, diagnostics, initializers, stack, training, unroll
from rnnlab.cells import (
    GRU,
    LSTM,
    RNN,
    JordanRNN,
    LeakyRNN,
    LSTMState,
    Readout,
    RNNParams,
    RNNState,
)
from rnnlab.engines.choose import PLANNED
from rnnlab.layers import StackParams
from tests.reference import watch
from tests.reference.cells import draw_params

INPUTS, T, B = 2, 4, 2
JARGON = re.compile(
    r"\n|Traceback|TypeError|Tracer|jaxpr|\baval|PyTreeDef|CustomNode|ShapedArray|lax\."
)


def one_sentence(message: str) -> None:
    assert message
    assert not JARGON.search(message), message


@contextlib.contextmanager
def refused(*words: str):
    """The block raises a one-sentence ValueError with all ``words`` and compiles no network."""
    with watch() as work, pytest.raises(ValueError, match=r".") as caught:
        yield
    message = str(caught.value)
    one_sentence(message)
    for word in words:
        assert re.search(word, message), f"{word!r} is not in {message!r}"
    assert "jit(run)" not in work.compiled


def test_the_meter_sees_a_network_compiled():
    """What ``refused`` looks for is what a run leaves behind."""
    cell = RNN(11)
    with watch() as work:
        unroll(cell, cell.init(jax.random.key(0), INPUTS), np.ones((T, B, INPUTS)))
    assert "jit(run)" in work.compiled


# What unroll is given

CELL = RNN(3)
GOOD = {"params": draw_params(CELL, INPUTS), "xs": np.ones((T, B, INPUTS))}
P = GOOD["params"]
INIT = r"cell\.init\(key, input_size=2\)"
START = r"cell\.initial_state\(\(2,\)\)"
FAULTS = {
    "xs without axes": ({"xs": np.float64(1.0)}, r"xs has shape \(\)", r"\[T, \.\.\., I\]"),
    "xs without features": ({"xs": np.ones(T)}, r"xs has shape \(4,\)", r"\[T, \.\.\., I\]"),
    "xs of T = 0": ({"xs": np.ones((0, B, INPUTS))}, "T = 0", "give at least one"),
    "an empty batch": (
        {"xs": np.ones((T, 0, INPUTS))},
        r"empty batch \(shape \(4, 0, 2\)\)",
        "give at least one",
    ),
    "an empty second batch axis": (
        {"xs": np.ones((T, B, 0, INPUTS))},
        "empty batch",
        "give at least one",
    ),
    "no features": ({"xs": np.ones((T, B, 0))}, "no features", "at least one"),
    "whole numbers": ({"xs": np.ones((T, B, INPUTS), int)}, "int64", "one_hot"),
    "booleans": ({"xs": np.ones((T, B, INPUTS), bool)}, "bool", "cast"),
    "complex numbers": ({"xs": np.ones((T, B, INPUTS), complex)}, "complex128", "floats"),
    "too many features": (
        {"xs": np.ones((T, B, 5))},
        "5 features",
        "made for 2",
        r"cell\.init\(key, input_size=5\)",
    ),
    "too few features": (
        {"xs": np.ones((T, B, 1))},
        "1 features",
        "made for 2",
        r"cell\.init\(key, input_size=1\)",
    ),
    "no params": ({"params": None}, "params has the structure", "RNNParams", INIT),
    "params in a dict": ({"params": P._asdict()}, "params has the structure", "RNNParams", INIT),
    "params in a tuple": ({"params": tuple(P)}, "params has the structure", "RNNParams", INIT),
    "another cell's params": (
        {"params": draw_params(LSTM(3), INPUTS)},
        "LSTMParams",
        "RNNParams",
        INIT,
    ),
    "params without a bias": ({"params": P._replace(b=None)}, "params has the structure", INIT),
    "another size's params": (
        {"params": draw_params(RNN(4), INPUTS)},
        r"params\.w_x has shape \(2, 4\)",
        r"\(2, 3\)",
        INIT,
    ),
    "a bias of two axes": (
        {"params": P._replace(b=np.ones((1, 3)))},
        r"params\.b has shape \(1, 3\)",
        r"\(3,\)",
        INIT,
    ),
    "a weight of three axes": (
        {"params": P._replace(w_x=np.ones((1, 2, 3)))},
        r"params\.w_x has shape",
        INIT,
    ),
    "whole-number params": (
        {"params": P._replace(b=np.ones(3, int))},
        r"params\.b is int64",
        "floats",
        INIT,
    ),
    "a bare state": (
        {"initial_state": np.ones((B, 3))},
        "initial_state has the structure",
        "RNNState",
        START,
    ),
    "another cell's state": (
        {"initial_state": LSTM(3).initial_state((B,))},
        "LSTMState",
        "RNNState",
        START,
    ),
    "a state without the batch": (
        {"initial_state": RNNState(np.ones(3))},
        r"initial_state\.h has shape \(3,\)",
        START,
    ),
    "a state of another batch": (
        {"initial_state": RNNState(np.ones((5, 3)))},
        r"\(5, 3\)",
        r"\(2, 3\)",
        START,
    ),
    "a whole-number state": (
        {"initial_state": RNNState(np.ones((B, 3), int))},
        r"initial_state\.h is int64",
        START,
    ),
    "a negative length": ({"lengths": [3, -1]}, "from -1 to 3", r"0\.\.4"),
    "a length beyond T": ({"lengths": [1, 5]}, "from 1 to 5", r"0\.\.4"),
    "fractional lengths": ({"lengths": [1.0, 4.0]}, "lengths are float", "must be integers"),
    "boolean lengths": ({"lengths": [True, True]}, "lengths are bool", "must be integers"),
    "one length for all": (
        {"lengths": 3},
        r"lengths has shape \(\)",
        r"\(2,\)",
        "one for each example",
    ),
    "too many lengths": (
        {"lengths": [1, 2, 3]},
        r"lengths has shape \(3,\)",
        "one for each example",
    ),
    "lengths in a column": (
        {"lengths": [[1], [2]]},
        r"lengths has shape \(2, 1\)",
        "one for each example",
    ),
    "whole-number resets": ({"resets": np.full((T, B), 2)}, "resets holds 2", "booleans"),
    "fractional resets": ({"resets": np.full((T, B), 0.5)}, "resets holds 0.5", "booleans"),
    "a mask of another shape": ({"mask": np.ones((T, B + 1))}, "mask has shape", "one flag"),
    "a mask of fractions": ({"mask": np.full((T, B), 0.5)}, "mask holds 0.5", "booleans"),
    "one reset a step": (
        {"resets": np.zeros(T, bool)},
        r"resets has shape \(4,\)",
        "each step and example",
    ),
    "batch-major resets": (
        {"resets": np.zeros((B, T), bool)},
        r"resets has shape \(2, 4\)",
        r"\(4, 2\)",
    ),
    "resets of another length": (
        {"resets": np.zeros((5, B), bool)},
        r"resets has shape \(5, 2\)",
        r"\(4, 2\)",
    ),
    "an unknown engine": ({"engine": "magic"}, "engine 'magic' is unknown", "'auto', 'scan'"),
    "no engine": ({"engine": None}, "engine None is unknown", "'auto', 'scan'"),
}


@pytest.mark.parametrize("run", [rnnlab.unroll, rnnlab.unroll_states])
@pytest.mark.parametrize(("fault", "words"), [(f, w) for f, *w in FAULTS.values()], ids=FAULTS)
def test_what_does_not_fit_is_refused(run, fault, words):
    with refused(*words):
        run(CELL, **(GOOD | fault))


@pytest.mark.parametrize("engine", ["associative", "newton", "pallas"])
def test_an_engine_of_the_future_is_no_silent_fallback(engine):
    assert engine in PLANNED
    for cell in (CELL, bidirectional(CELL)):
        with refused(f"engine '{engine}'", "not built yet", "'scan'"):
            unroll(cell, draw_params(cell, INPUTS), GOOD["xs"], engine=engine)


@pytest.mark.parametrize(
    "what", [[None] * B, "text", [[1.0], [1.0, 2.0]]], ids=["None", "text", "ragged"]
)
@pytest.mark.parametrize("name", ["xs", "lengths", "resets"])
def test_what_is_no_array_is_refused_by_name(name, what):
    with refused(name):
        unroll(CELL, **(GOOD | {name: what}))


def test_faults_are_found_while_tracing_too():
    """Shapes are known under jit, vmap and grad, and so is what is wrong with them."""

    def run(xs):
        return jnp.sum(unroll(CELL, P, xs)[1])

    for transform in (jax.jit, jax.grad, lambda f: jax.vmap(f, in_axes=-1)):
        with refused("5 features", r"cell\.init"):
            transform(run)(jnp.ones((T, 5, 5)))


DEEP = stack([RNN(3), bidirectional(GRU(3)), Readout(2)])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"xs": np.ones((T, B, 5))}, ["5 features", "made for 2", r"input_size=5"]),
        (
            {"params": draw_params(RNN(3), INPUTS)},
            ["params has the structure RNNParams", "StackParams", INIT],
        ),
        ({"params": StackParams(())}, ["params has the structure", "StackParams", INIT]),
        (
            {"params": StackParams(draw_params(DEEP, INPUTS).layers[:2])},
            ["params has the structure", "StackParams", INIT],
        ),
        (
            {"initial_state": RNNState(np.ones((B, 3)))},
            ["initial_state has the structure RNNState", "StackState"],
        ),
        ({"lengths": [-1, 1]}, ["from -1 to 1", r"0\.\.4"]),
    ],
    ids=["features", "one layer's", "no layers", "too few layers", "state", "lengths"],
)
def test_layers_are_refused_as_cells_are(fault, words):
    with refused(*words):
        unroll(DEEP, **({"params": draw_params(DEEP, INPUTS), "xs": GOOD["xs"]} | fault))


@pytest.mark.parametrize(
    ("size", "fault"),  # sizes that no other test has run, so that nothing is in a cache
    [
        (13, {"params": RNNParams(*draw_params(RNN(3), 19))}),
        (17, {"initial_state": LSTMState(1.0, 2.0)}),
        (23, {"lengths": jnp.array([9, 9])}),
    ],
    ids=["params", "state", "lengths"],
)
def test_nothing_is_compiled_to_refuse(size, fault):
    """Not even to derive the expected parameters; only zeros of an initial state are made."""
    cell = LSTM(size)
    good = {"params": draw_params(cell, 19), "xs": jnp.ones((T, B, 19))}
    cell.initial_state((B,))
    with watch() as work, pytest.raises(ValueError, match=r"params|initial_state|lengths"):
        unroll(cell, **(good | fault))
    assert work.compiled == []


# What is not a cell


@pytest.mark.parametrize(
    "cell",
    [None, "LSTM", 3, object(), jnp.tanh, RNN, RNN(3).step],
    ids=["None", "text", "number", "object", "function", "class", "method"],
)
def test_what_is_no_cell_is_refused(cell):
    with refused("not a cell", r"rnnlab\.LSTM\(128\)", r"rnnlab\.Step"):
        unroll(cell, P, GOOD["xs"])


@pytest.mark.parametrize("make", [stack, bidirectional], ids=["stack", "bidirectional"])
@pytest.mark.parametrize("what", [3, RNN], ids=["number", "class"])
def test_what_is_no_cell_is_refused_in_layers_too(make, what):
    with refused("not a cell"):
        unroll(make([what] if make is stack else what), P, GOOD["xs"])


def test_an_array_in_a_cell_is_refused():
    """It cannot be hashed, so every call would compile anew."""
    with refused("LeakyRNN cannot be hashed|alpha is"):
        unroll(LeakyRNN(3, alpha=jnp.array(0.5)), P, GOOD["xs"])


@dataclasses.dataclass
class Unhashable:
    """A cell that somebody forgot to freeze."""

    hidden_size: int = 3
    initial_state = init = step = print


def test_a_cell_that_is_not_frozen_is_refused():
    with refused("Unhashable cannot be hashed", "frozen dataclass"):
        unroll(Unhashable(), P, GOOD["xs"])


# What a foreign step returns


STATE = np.zeros(INPUTS)
STEPS = {
    "wraps": (lambda s, x: ({"h": s}, x), STATE, "keep the structure"),
    "doubles": (lambda s, x: ((s["h"], s["h"]), x), {"h": STATE}, "keep the structure"),
    "to whole": (
        lambda s, x: (s.astype(int), x),
        STATE,
        r"float64\[2, 2\] into int64\[2, 2\]",
        "shape and dtype",
    ),
    "from whole": (
        lambda s, x: (s * 0.5, x),
        STATE.astype(int),
        r"int64\[2, 2\] into float64\[2, 2\]",
        "dtype",
    ),
    "narrows": (
        lambda s, x: (s.astype("float16"), x),
        STATE,
        r"float64\[2, 2\] into float16\[2, 2\]",
        "dtype",
    ),
    "shrinks": (
        lambda s, x: (s[..., :1], x),
        STATE,
        r"float64\[2, 2\] into float64\[2, 1\]",
        "shape and dtype",
    ),
    "grows": (
        lambda s, x: (s[..., None] * x, x),
        0.0,
        r"float64\[2\] into float64\[2, 2\]",
        "shape and dtype",
    ),
    "says nothing": (lambda s, _x: s, STATE, "a pair"),
    "says too much": (lambda s, x: (s, x, x), STATE, "a pair"),
}


@pytest.mark.parametrize(
    ("fn", "start", "words"), [(fn, start, w) for fn, start, *w in STEPS.values()], ids=STEPS
)
def test_a_step_that_changes_its_state_is_refused(fn, start, words):
    with refused("the step", *words):
        unroll(rnnlab.Step(lambda _params, s, x: fn(s, x), start), None, GOOD["xs"])


@pytest.mark.parametrize(
    "options", [{"lengths": [1, 4]}, {"resets": np.ones((T, B), bool)}], ids=["lengths", "resets"]
)
def test_a_state_without_batch_axes_cannot_be_marked(options):
    """One counter for the whole batch cannot stop, or start afresh, for one example."""
    step = rnnlab.Step(lambda _p, n, x: (n + 1, x), lambda _batch: jnp.zeros((), int))
    unroll(step, None, GOOD["xs"])
    with refused("state", "batch"):
        unroll(step, None, GOOD["xs"], **options)


def test_a_step_makes_no_parameters():
    with refused("Step has no init", "make its parameters"):
        rnnlab.Step(lambda _p, s, x: (s, x), 0.0).init(jax.random.key(0), INPUTS)


# What a cell is made of

KINDS = [RNN, LSTM, GRU, LeakyRNN, JordanRNN]
NO_SIZES = [0, -1, 2.0, 2.5, float("nan"), True, None, "3", np.float32(3), np.array(3)]


@pytest.mark.parametrize("size", NO_SIZES, ids=repr)
def test_sizes_are_integers_from_one(size):
    for kind in KINDS:
        with refused("hidden_size is", "an integer of at least 1"):
            kind(size)
    with refused("output_size is", "an integer of at least 1"):
        Readout(size)
    if size is not None:  # which means H
        with refused("feedback_size is", "an integer of at least 1"):
            JordanRNN(3, feedback_size=size)
        with refused("proj_size is", "an integer of at least 1"):
            LSTM(3, proj_size=size)
    for cell in [*(kind(3) for kind in KINDS), Readout(3)]:
        with refused("input_size is", "an integer of at least 1"):
            cell.init(jax.random.key(0), size)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf"), -float("inf")])
def test_fractions_lie_between_zero_and_one(value):
    with refused("alpha is", "above 0 and at most 1"):
        LeakyRNN(3, alpha=value)
    with refused("dropout is", "at least 0 and below 1"):
        stack([RNN(3), RNN(3)], dropout=value)


def test_a_projection_is_smaller_than_the_state():
    with refused("proj_size is 3", "hidden_size is 3"):
        LSTM(3, proj_size=3)


def test_which_end_of_a_fraction_is_meant():
    with refused("alpha is 0", "above 0 and at most 1"):
        LeakyRNN(3, alpha=0)
    with refused("dropout is 1", "at least 0 and below 1"):
        stack([RNN(3)], dropout=1)
    assert LeakyRNN(3, alpha=1).alpha == 1
    assert stack([RNN(3)], dropout=0).dropout == 0


@pytest.mark.parametrize("value", [None, "half", [0.5]], ids=repr)
def test_fractions_are_numbers(value):
    with refused("alpha is", "above 0 and at most 1"):
        LeakyRNN(3, alpha=value)
    with refused("dropout is", "at least 0 and below 1"):
        stack([RNN(3)], dropout=value)


CHOICES = {
    "activation": (
        lambda: RNN(3, activation="softmax"),
        "activation is 'softmax'",
        "'tanh', 'relu', 'sigmoid', 'identity'",
    ),
    "no activation": (lambda: RNN(3, activation=None), "activation is None", "'tanh'"),
    "output activation": (
        lambda: JordanRNN(3, output_activation="exp"),
        "activation is 'exp'",
        "'identity'",
    ),
    "form": (lambda: RNN(3, form="jordan"), "form is 'jordan'", "'elman', 'output-state'"),
    "leaky form": (lambda: LeakyRNN(3, form="output-state"), "form is 'output-state'", "'elman'"),
    "reset": (lambda: GRU(3, reset="never"), "reset is 'never'", "'after', 'before'"),
    "dtype": (lambda: RNN(3, dtype=int), "dtype is int64", "floating dtype such as float32"),
    "param_dtype": (
        lambda: LSTM(3, param_dtype=complex),
        "param_dtype is complex128",
        "floating dtype",
    ),
    "readout's dtype": (lambda: Readout(3, dtype=bool), "dtype is bool", "floating dtype"),
    "misspelt dtype": (lambda: RNN(3, dtype="flaot32"), "dtype", "floating dtype"),
    "no param_dtype": (lambda: RNN(3, param_dtype=None), "param_dtype", "floating dtype"),
    "two forget biases": (
        lambda: LSTM(3, forget_bias=2.0, bias_init=initializers.chrono(9)),
        "bias_init",
        "forget_bias, not both",
    ),
    "two GRU biases": (
        lambda: GRU(3, reset="before", recurrent_bias=True),
        "recurrent_bias",
        "leave it False",
    ),
    "two Jordan biases": (
        lambda: JordanRNN(3, recurrent_bias=True),
        "one bias per layer",
        "leave recurrent_bias False",
    ),
    "empty stack": (lambda: stack([]), "at least one cell", r"stack\(\[cell, \.\.\.\]\)"),
    "residual sizes": (
        lambda: stack([RNN(3), GRU(4)], residual=True),
        "3 features to 4",
        "the same size",
    ),
    "residual both ways": (
        lambda: stack([bidirectional(RNN(3)), RNN(3)], residual=True),
        "6 features to 3",
    ),
    "short chrono": (lambda: initializers.chrono(2), "max_lag is 2", "at least 3"),
    "chrono of nothing": (
        lambda: initializers.chrono(float("nan")),
        "max_lag is nan",
        "at least 3",
    ),
    "chrono for an RNN": (
        lambda: RNN(3, bias_init=initializers.chrono(9)).init(jax.random.key(0), INPUTS),
        "LSTM .* GRU",
    ),
    "identity of inputs": (
        lambda: RNN(3, kernel_init=initializers.identity()).init(jax.random.key(0), INPUTS),
        r"identity needs a square matrix, not \(2, 3\)",
        "recurrent_init",
    ),
    "spectral radius of inputs": (
        lambda: RNN(3, kernel_init=initializers.spectral_radius()).init(jax.random.key(0), INPUTS),
        r"spectral_radius needs a square matrix, not \(2, 3\)",
        "recurrent_init",
    ),
}


@pytest.mark.parametrize(
    ("make", "words"), [(make, words) for make, *words in CHOICES.values()], ids=CHOICES
)
def test_choices_that_are_none_are_refused(make, words):
    with refused(*words):
        make()


# Whatever comes


@given(
    st.one_of(
        st.integers(-2, 9),
        st.floats(),
        st.booleans(),
        st.none(),
        st.text(max_size=2),
        st.complex_numbers(),
    )
)
def test_any_size_makes_a_cell_or_is_refused(size):
    fits = type(size) is int and size >= 1
    with contextlib.nullcontext() if fits else refused("hidden_size is"):
        assert GRU(size).hidden_size == size


@given(st.one_of(st.floats(), st.integers(-2, 2)))
def test_any_fraction_makes_a_cell_or_is_refused(value):
    with contextlib.nullcontext() if 0 < value <= 1 else refused("alpha is"):
        assert LeakyRNN(3, alpha=value).alpha == value
    with contextlib.nullcontext() if 0 <= value < 1 else refused("dropout is"):
        assert stack([RNN(3)], dropout=value).dropout == value


FLOATS = [np.dtype("float16"), np.dtype("float32"), np.dtype("float64")]
OTHERS = [np.dtype("int32"), np.dtype("bool"), np.dtype("complex64"), np.dtype("uint8")]
MOSTLY = 6  # to one: how often a draw is good


@st.composite
def anything(draw):
    """Arguments for unroll, each mostly good and sometimes of another shape, dtype or value."""

    def mostly(good, bad):
        return draw(bad if draw(st.integers(0, MOSTLY)) == 0 else good)

    steps, size = draw(st.sampled_from([1, 3])), 2
    batch = draw(st.sampled_from([(), (1,), (2,), (2, 1)]))
    sizes = st.integers(0, 3)
    shape = mostly(st.just((steps, *batch, size)), st.lists(sizes, max_size=4).map(tuple))
    dtype = mostly(st.sampled_from(FLOATS), st.sampled_from(OTHERS))
    xs = draw(
        arrays(
            dtype, shape, elements={"min_value": 0, "max_value": 1} if dtype.kind in "fiu" else None
        )
    )

    given_lengths, given_resets = draw(st.booleans()), draw(st.booleans())
    shape = mostly(st.just(batch), st.lists(sizes, max_size=2).map(tuple))
    dtype = mostly(st.just(np.dtype("int32")), st.sampled_from([*FLOATS, *OTHERS]))
    low, high = mostly(st.just((1, steps)), st.just((0, steps + 1)))
    whole = draw(arrays(np.int32, shape, elements=st.integers(low, high)))
    lengths = whole.astype(dtype) if given_lengths else None

    shape = mostly(st.just((steps, *batch)), st.lists(sizes, max_size=3).map(tuple))
    dtype = mostly(st.just(np.dtype("bool")), st.sampled_from([*FLOATS, *OTHERS]))
    resets = draw(arrays(bool, shape)).astype(dtype) if given_resets else None
    engine = mostly(
        st.sampled_from(["auto", "scan", "fused", "checkpointed", "native"]),
        st.sampled_from([*PLANNED, "cudnn", "nonsense"]),
    )
    return xs, {
        "lengths": lengths,
        "resets": resets,
        "reverse": draw(st.booleans()),
        "engine": engine,
    }


ANY = {"cell": RNN(2), "stack": stack([GRU(2), Readout(3)]), "both ways": bidirectional(LSTM(2))}


@pytest.mark.combinations
@pytest.mark.parametrize("cell", ANY.values(), ids=ANY)
@settings(max_examples=30)
@given(arguments=anything())
def test_anything_runs_or_is_refused(cell, arguments):
    """No other exception for any shapes, dtypes and lengths; what runs keeps its promises."""
    xs, options = arguments
    try:
        final, ys = unroll(cell, draw_params(cell, 2), xs, **options)
    except ValueError as error:
        one_sentence(str(error))
        return
    assert ys.shape == (*xs.shape[:-1], cell.output_size)
    assert jnp.isfinite(ys).all()
    assert all(leaf.shape[:-1] == xs.shape[1:-1] for leaf in jax.tree.leaves(final))
    if options["lengths"] is not None:
        padding = np.arange(len(xs)).reshape(-1, *[1] * (xs.ndim - 2)) >= options["lengths"]
        assert not np.asarray(ys)[padding].any()


# A foreign step under the instruments

X, ONE = np.ones((T, B, INPUTS), np.float32), np.float32(1)
FOREIGN = {
    "complex state": (lambda w, s, _: (s * w, s), jnp.complex64, "complex64", "two arrays"),
    "whole numbers": (lambda w, s, _: (s + 1, w * s), jnp.int32, "int32", "a float"),
    "another structure": (
        lambda _, s, __: ((s, s), s),
        jnp.float32,
        "keep the structure of the state",
    ),
    "another dtype": (
        lambda _, s, __: (s.astype(jnp.float16), s),
        jnp.float32,
        "float16",
        "keep the shape and dtype of the state",
    ),
    "another shape": (
        lambda _, s, __: (s[..., :2], s),
        jnp.float32,
        "keep the shape and dtype of the state",
    ),
}
INSTRUMENTS = {
    "gradient_flow": lambda cell: diagnostics.gradient_flow(cell, ONE, X, jnp.sum),
    "bptt_contributions": lambda cell: diagnostics.bptt_contributions(cell, ONE, X, jnp.sum),
    "truncation_bias": lambda cell: diagnostics.truncation_bias(cell, ONE, X, jnp.sum, steps=[1]),
    "jacobian_products": lambda cell: diagnostics.jacobian_products(cell, ONE, X),
    "step_jacobians": lambda cell: diagnostics.step_jacobians(cell, ONE, X),
    "lyapunov_spectrum": lambda cell: diagnostics.lyapunov_spectrum(cell, ONE, X),
    "phase_diagram": lambda cell: diagnostics.phase_diagram(
        cell, ONE, X, np.ones(2), np.array([3]), vary=jnp.multiply
    ),
    "pascanu_omega": lambda cell: training.pascanu_omega(cell, ONE, X, jnp.sum),
    "fixed_points": lambda cell: diagnostics.fixed_points(
        cell, ONE, X[0, 0], cell.initial_state((5,))
    ),
    "limit_cycles": lambda cell: diagnostics.limit_cycles(
        cell, ONE, X[0, 0], cell.initial_state((5,))
    ),
    "attractor_kind": lambda cell: diagnostics.attractor_kind(
        jax.random.key(0), cell, ONE, X[0, 0], cell.initial_state((5,))
    ),
}


@pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=INSTRUMENTS)
@pytest.mark.parametrize("fault", FOREIGN.values(), ids=FOREIGN)
def test_no_instrument_takes_a_step_without_derivatives_or_with_another_state(instrument, fault):
    step, dtype, *words = fault
    with refused(*words):
        instrument(rnnlab.Step(step, jnp.zeros(3, dtype)))
