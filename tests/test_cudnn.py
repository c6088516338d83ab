"""The cudnn engine on JAX's reference implementation; the kernel itself needs a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import rnnlab
from rnnlab import unroll
from rnnlab.cells import GRU, LSTM
from rnnlab.driver import RunOptions, engine_input
from rnnlab.engines.cudnn import cudnn, refusal
from rnnlab.engines.sequence import EngineChoice
from tests.reference import close, one_sentence
from tests.reference.cells import draw_params
from tests.test_driver import INPUTS, Course, score

BIASES = {
    "one bias": LSTM(3),
    "two biases": LSTM(3, recurrent_bias=True),
    "no bias": LSTM(3, bias=False),
    "only the second": LSTM(3, bias=False, recurrent_bias=True),
}


def reference(
    x,
    h_0,
    c_0,
    weights,
    seq_lengths,
    *,
    input_size,
    hidden_size,
    num_layers,
    dropout,
    bidirectional,
):
    """``jax.experimental.rnn.lstm`` by ``lstm_ref``, with NaN as the padded outputs."""
    unpacked = rnn.unpack_lstm_weights(weights, input_size, hidden_size, num_layers, bidirectional)
    y, h, c = rnn.lstm_ref(
        x,
        h_0,
        c_0,
        *unpacked,
        seq_lengths,
        input_size,
        hidden_size,
        num_layers,
        dropout,
        bidirectional,
    )
    padding = jnp.arange(x.shape[1]) >= seq_lengths[:, None]
    return jnp.where(padding[..., None], jnp.nan, y), h, c


@pytest.fixture
def on_gpu(monkeypatch):
    """A machine that says it has a GPU, with the reference implementation in the kernel's place."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(rnn, "lstm", reference)
    yield
    jax.clear_caches()  # a program traced here must not be found where there is no such machine


def first_order(cell, course, **how):
    """Float32 outputs, final state and gradients of parameters, inputs and initial state."""
    params, xs, options = course.draw(cell)
    start = options.pop("initial_state", cell.initial_state(course.batch))

    def loss(params, xs, start):
        result = unroll(cell, params, xs, start, **options, **how)
        return score(*result), result

    inputs = jax.tree.map(jnp.float32, (params, xs, start))
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)


@pytest.mark.combinations
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("cell", BIASES.values(), ids=BIASES.keys())
def test_weights_are_handed_over(cell):
    course = Course(5, (3,), "initial")
    close(*(first_order(cell, course, engine=engine) for engine in ("cudnn", "scan")), 1e-5)


@pytest.mark.combinations
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (6, ""),
        (6, "reverse"),
        (6, "initial lengths"),
        (6, "initial lengths reverse"),
        (1, "lengths reverse"),
    ],
)
def test_lengths_and_direction(steps, options):
    course = Course(steps, (4,), options)
    close(*(first_order(LSTM(3), course, engine=engine) for engine in ("cudnn", "scan")), 1e-5)


@pytest.mark.usefixtures("on_gpu")
def test_layers():
    """The backward half of a bidirectional layer runs reversed on the same engine."""
    cell = rnnlab.stack([rnnlab.bidirectional(LSTM(3)), LSTM(2)])
    params = jax.tree.map(jnp.float32, draw_params(cell, INPUTS))
    xs = jax.random.normal(jax.random.key(0), (5, 3, INPUTS), jnp.float32)
    by_cudnn, by_scan = (
        unroll(cell, params, xs, lengths=[5, 1, 4], engine=engine) for engine in ("cudnn", "scan")
    )
    close(by_cudnn, by_scan, 1e-5)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="there is no GPU")
@pytest.mark.parametrize("options", ["", "initial lengths", "initial lengths reverse"])
def test_the_kernel_itself(options):
    with jax.default_matmul_precision("highest"):
        course = Course(6, (4,), options)
        close(*(first_order(LSTM(3), course, engine=engine) for engine in ("cudnn", "scan")), 1e-4)


# What it cannot run


def sequence(cell, shape=(4, 2, INPUTS), dtype=jnp.float32, every=False, **options):
    """``(params, sequence)``, in ``dtype``."""
    given = draw_params(cell, INPUTS), np.ones(shape), cell.initial_state(shape[1:-1])
    params, xs, state = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), given)
    reset = jnp.ones(shape[:-1], bool) if options.get("resets") else None
    given = engine_input(cell, params, xs, state, RunOptions(resets=reset, every=every))
    return params, given


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_it_needs_a_gpu():
    cell = LSTM(3)
    params, given = sequence(cell)
    one_sentence(
        lambda: unroll(cell, params, given.xs, engine="cudnn"), "'cudnn'", "a GPU", "cpu", "'auto'"
    )


@pytest.mark.combinations
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(
    ("cell", "options", "word"),
    [
        (GRU(3), {}, "GRU"),
        (type("MyLSTM", (LSTM,), {})(3), {}, "MyLSTM"),
        (LSTM(3, peephole=True), {}, "peephole"),
        (LSTM(3, layer_norm=True), {}, "layer_norm"),
        (LSTM(3, dtype=jnp.float32), {}, "dtype=None"),
        (LSTM(3), {"dtype": jnp.float64}, "float64"),
        (LSTM(3), {"dtype": jnp.bfloat16}, "bfloat16"),
        (LSTM(3), {"shape": (4, INPUTS)}, "batch axis"),
        (LSTM(3), {"shape": (4, 2, 2, INPUTS)}, "batch axis"),
        (LSTM(3), {"resets": True}, "resets"),
        (LSTM(3), {"every": True}, "every step"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_cannot_run_is_refused(cell, options, word):
    params, given = sequence(cell, **options)
    assert word in refusal(cell, params, given)
    one_sentence(
        lambda: cudnn(cell, params, given, EngineChoice("cudnn")), "'cudnn'", word, "'auto'"
    )


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("cell", BIASES.values(), ids=BIASES.keys())
def test_what_it_can_run_is_not_refused(cell):
    assert refusal(cell, *sequence(cell)) is None
